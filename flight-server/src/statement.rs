//! A statement from its text to a ticket, a count or a refusal, each recorded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use chrono::{DateTime, Utc};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use hubflight_ledger::{ExecutionStarted, Fault, Outcome, Refusal, StatementKind, StatementOpened};
use hubflight_udfs::StatementWork;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth::ADMIN_CATALOG;
use crate::catalog::project::ProjectView;
use crate::catalog::space::{self, Labels};
use crate::error::{Error, Result};
use crate::exec::meter::Meter;
use crate::exec::registry::Stop;
use crate::exec::revocation::Grounds;
use crate::exec::run;
use crate::flight::BoxStream;
use crate::flight::call::Caller;
use crate::hub::Hub;
use crate::plan::parse::{Parsed, parse};
use crate::plan::{Planning, parameters};
use crate::ticket::Ticket;

/// After which a call that did not begin counts as never run.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// SQL with the rows of parameters that were bound, as [`parameters::encode`] writes them.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub sql: String,
    pub parameters: Vec<u8>,
}

impl Text {
    pub fn new(sql: String) -> Self {
        Self {
            sql,
            parameters: Vec::new(),
        }
    }
}

/// What opening a statement gives.
#[derive(Debug)]
pub enum Opened {
    /// A query: its schema, and the sealed ticket that runs it.
    Query { schema: SchemaRef, handle: Vec<u8> },
    /// A change, which has run once.
    Changed { rows: u64 },
}

/// What a prepared statement tells its client.
#[derive(Debug)]
pub struct Described {
    /// Empty for a change: that is how clients tell the two apart.
    pub schema: SchemaRef,
    pub parameters: arrow::datatypes::Schema,
}

impl Opened {
    /// Plans a query and answers a ticket, or runs a change. Either leaves a record.
    pub async fn open(hub: &Arc<Hub>, caller: &Caller, text: Text) -> Result<Self> {
        let statement_id = Uuid::now_v7();
        let opening = Opening::new(hub, caller, &text, statement_id);
        match opening.open().await {
            Ok(opened) => Ok(opened),
            Err(Failure::Settled(error)) => Err(error),
            Err(Failure::Unsettled(error)) => Err(opening.refuse(error).await),
        }
    }
}

/// The schema of a query's result. A refusal is recorded as that of a statement is.
pub async fn describe(hub: &Arc<Hub>, caller: &Caller, text: &Text) -> Result<Described> {
    let described = planned(
        hub,
        caller,
        description(hub.clone(), caller.clone(), text.clone()),
    );
    match described.await {
        Ok(described) => Ok(described),
        Err(error) => {
            let opening = Opening::new(hub, caller, text, Uuid::now_v7());
            Err(opening.refuse(error).await)
        }
    }
}

/// Plans on the CPU runtime, in the time that the statement has.
async fn planned<T: Send + 'static>(
    hub: &Arc<Hub>,
    caller: &Caller,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let time = run::statement_time(hub, caller, caller.principal.options.statement_seconds);
    let deadline = tokio::time::Instant::now() + time;
    hub.engine.compute(deadline, work).await
}

async fn description(hub: Arc<Hub>, caller: Caller, text: Text) -> Result<Described> {
    let parsed = parse(&text.sql, hub.config.limits.sql_bytes_max)?;
    if !parsed.is_query() {
        let fields = (0..parsed.placeholders)
            .map(|_| arrow::datatypes::Field::new("", arrow::datatypes::DataType::Null, true));
        return Ok(Described {
            schema: parameters::none(),
            parameters: arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()),
        });
    }
    let project = caller.principal.project()?;
    let view = Arc::new(caller.view(&hub, project, None).await?);
    let planning = Planning {
        hub: &hub,
        view: &view,
        options: &caller.principal.options,
        now: caller.now,
    };
    let authorised = planning.query(parsed).await?;
    Ok(Described {
        schema: Arc::clone(&authorised.schema),
        parameters: authorised.parameters()?,
    })
}

/// Redeems a ticket; a refusal is recorded.
pub async fn redeem(
    hub: &Arc<Hub>,
    caller: &Caller,
    ticket: Ticket,
) -> Result<BoxStream<FlightData>> {
    let statement_id = ticket.statement_id;
    match run::redeem(hub, caller, ticket).await {
        Ok(stream) => Ok(stream.boxed()),
        Err(error) => {
            hub.metrics.refused(error.kind);
            let refusal = Refusal {
                statement_id,
                reason: error.kind.label(),
                habilitations: Vec::new(),
                at: caller.now,
            };
            hub.metrics.ledger(hub.ledger.refuse(refusal).await)?;
            Err(error)
        }
    }
}

/// An error, and whether the ledger has the statement's outcome already.
enum Failure {
    Settled(Error),
    Unsettled(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Unsettled(error.into())
    }
}

/// A statement that is being opened.
struct Opening<'a> {
    hub: &'a Arc<Hub>,
    caller: &'a Caller,
    text: &'a Text,
    statement_id: Uuid,
    /// The ledger has the statement.
    is_recorded: AtomicBool,
}

impl<'a> Opening<'a> {
    fn new(hub: &'a Arc<Hub>, caller: &'a Caller, text: &'a Text, statement_id: Uuid) -> Self {
        Self {
            hub,
            caller,
            text,
            statement_id,
            is_recorded: AtomicBool::new(false),
        }
    }

    async fn open(&self) -> Result<Opened, Failure> {
        let parsed = parse(&self.text.sql, self.hub.config.limits.sql_bytes_max)?;
        let project = self.caller.principal.project()?;
        let view = self.caller.view(self.hub, project, None).await?;
        let view = Arc::new(view);
        if let Some(cancelled) = parsed.cancels() {
            self.cancel(&view, cancelled).await
        } else if parsed.is_query() {
            Ok(self.query(&view, parsed).await?)
        } else {
            self.change(&view, parsed).await
        }
    }

    async fn query(&self, view: &Arc<ProjectView>, parsed: Parsed) -> Result<Opened> {
        let rows = parameters::decode(&self.text.parameters)?;
        parameters::check_arity(&rows, parsed.placeholders)?;
        if rows.is_empty() && parsed.placeholders > 0 {
            return Err(unbound(parsed.placeholders));
        }
        let first = rows.into_iter().next();
        let work = authorised(
            self.hub.clone(),
            self.caller.clone(),
            view.clone(),
            parsed,
            first,
        );
        let (schema, kind) = planned(self.hub, self.caller, work).await?;
        let ticket = self.ticket(view);
        let handle = ticket.seal(&self.hub.tickets)?;
        self.record(kind, ticket.expires).await?;
        Ok(Opened::Query { schema, handle })
    }

    /// Runs a change for each row of parameters, as one execution.
    async fn change(&self, view: &Arc<ProjectView>, parsed: Parsed) -> Result<Opened, Failure> {
        let rows = parameters::decode(&self.text.parameters)?;
        parameters::check_arity(&rows, parsed.placeholders)?;
        if rows.is_empty() && parsed.placeholders > 0 {
            return Err(unbound(parsed.placeholders).into());
        }
        let options = &self.caller.principal.options;
        let time = run::statement_time(self.hub, self.caller, options.statement_seconds);
        let person = &self.caller.principal.person.id;
        let _permit = self.hub.engine.admit(person).await?;
        let kind = if parsed.is_ddl() {
            StatementKind::Ddl
        } else {
            StatementKind::Dml
        };
        self.record(kind, self.caller.now + time).await?;
        let metrics = &self.hub.metrics;
        let execution = metrics.ledger(self.hub.ledger.begin(self.started(view)).await)?;
        let begun = Instant::now();
        let meter = Meter::new(self.hub, Arc::clone(execution.quantities()));
        let stop = Arc::new(Stop::default());
        let grounds = self.grounds(view)?;
        let running = &self.hub.running;
        let _place = running.enter(self.statement_id, Arc::clone(&stop), grounds);
        let changes = self.run_changes(view, parsed, rows, &meter, time);
        let changed = tokio::select! {
            // What is done is done, and is told so.
            biased;
            changed = changes => changed,
            () = tokio::time::sleep(time) => Err(run::too_late()),
            error = stop.ended() => Err(error),
        };
        let outcome = match &changed {
            Ok(_) => Outcome::Ok,
            Err(error) => outcome_of(error),
        };
        let label = changed
            .as_ref()
            .err()
            .map_or("ok", |error| error.kind.label());
        metrics.finished("change", label, begun.elapsed());
        metrics.ledger(execution.settle(outcome).await)?;
        let rows = changed.map_err(Failure::Settled)?;
        Ok(Opened::Changed { rows })
    }

    fn started(&self, view: &ProjectView) -> ExecutionStarted {
        let habilitations = view.habilitations();
        ExecutionStarted {
            statement_id: self.statement_id,
            habilitations: habilitations
                .map(|(_, habilitation)| (habilitation.id.clone(), habilitation.version))
                .collect(),
            datasets: view.versions(),
            columns: serde_json::Value::Null,
            started_at: Utc::now(),
        }
    }

    /// Stops a statement of the caller's own, and is recorded as any other. It needs no place
    /// to run: who has taken all of theirs can still free one. A statement of somebody else
    /// reads as one that does not run.
    async fn cancel(&self, view: &ProjectView, statement: Uuid) -> Result<Opened, Failure> {
        let expires_at = self.caller.now + CALL_TIME_MAX;
        self.record(StatementKind::Dml, expires_at).await?;
        let metrics = &self.hub.metrics;
        let execution = metrics.ledger(self.hub.ledger.begin(self.started(view)).await)?;
        let person = &self.caller.principal.person.id;
        let done = match self.hub.running.cancel(statement, person) {
            true => Ok(Opened::Changed { rows: 1 }),
            false => Err(Error::not_found(format!(
                "no statement `{statement}` of yours runs; `hub.queries` lists what ran"
            ))),
        };
        let outcome = match &done {
            Ok(_) => Outcome::Ok,
            Err(error) => outcome_of(error),
        };
        metrics.ledger(execution.settle(outcome).await)?;
        done.map_err(Failure::Settled)
    }

    /// What a change runs on. Which tables it reads is known only inside, so that it depends on
    /// all that are open.
    fn grounds(&self, view: &ProjectView) -> Result<Grounds> {
        Ok(Grounds {
            standing: self.caller.principal.standing.clone(),
            project: view.project.clone(),
            zone: view.viewer.zone.clone(),
            roles: view.roles(),
            labels: Labels::of_all(view)?,
            era: Some(self.hub.datasets.opposition().era),
        })
    }

    async fn run_changes(
        &self,
        view: &Arc<ProjectView>,
        parsed: Parsed,
        rows: Vec<Vec<ScalarValue>>,
        meter: &Arc<Meter>,
        time: Duration,
    ) -> Result<u64> {
        let work = Arc::new(StatementWork {
            statement_id: self.statement_id.to_string(),
            tenant: view.project.clone(),
            deadline: run::unix_ms(tokio::time::Instant::now() + time),
            priority: run::PRIORITY_INTERACTIVE,
            trace: None,
            pool: Arc::clone(&self.hub.workers),
            meter: Arc::clone(meter) as _,
        });
        space::change_rows(&self.planning(view), parsed, rows, &work, meter).await
    }

    fn planning<'b>(&'b self, view: &'b Arc<ProjectView>) -> Planning<'b> {
        Planning {
            hub: self.hub,
            view,
            options: &self.caller.principal.options,
            now: self.caller.now,
        }
    }

    fn ticket(&self, view: &ProjectView) -> Ticket {
        let options = &self.caller.principal.options;
        let life = Duration::from_secs(self.hub.config.limits.ticket_seconds_max);
        Ticket {
            statement_id: self.statement_id,
            person: self.caller.principal.person.id.clone(),
            project: view.project.clone(),
            sql: self.text.sql.clone(),
            parameters: self.text.parameters.clone(),
            versions: view.versions(),
            space_snapshot: view.space_snapshot(),
            now: self.caller.now,
            expires: self.caller.now + life,
            schema: options.schema.clone(),
            time_zone: options.time_zone.clone(),
            tags: options.tags.clone(),
            wire_views: options.wire_views,
            compression: options.compression,
            statement_seconds: options.statement_seconds,
        }
    }

    async fn record(&self, kind: StatementKind, expires_at: DateTime<Utc>) -> Result<()> {
        let principal = &self.caller.principal;
        let project = principal.project().ok().filter(|id| *id != ADMIN_CATALOG);
        let tags = principal.options.tags.clone();
        let sealing = self
            .hub
            .sealed_text(project, self.statement_id, &self.text.sql);
        let sql_sealed = sealing.await?;
        let opened = StatementOpened {
            statement_id: self.statement_id,
            person: principal.person.id.clone(),
            project: project.map(str::to_owned),
            kind,
            client: principal.client.clone(),
            sql_sha256: Sha256::digest(self.text.sql.as_bytes()).into(),
            sql_sealed,
            tags: tags
                .map(|tags| ("tags".to_owned(), tags))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            opened_at: self.caller.now,
            expires_at,
        };
        let recorded = self.hub.ledger.statement(opened).await;
        self.hub.metrics.ledger(recorded)?;
        self.is_recorded.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Records a refusal, and gives what the user is told: why they were refused, or, where
    /// that cannot be recorded, only that. A door that leaves no trace is no door.
    async fn refuse(&self, error: Error) -> Error {
        self.hub.metrics.refused(error.kind);
        let refusal = Refusal {
            statement_id: self.statement_id,
            reason: error.kind.label(),
            habilitations: Vec::new(),
            at: self.caller.now,
        };
        if !self.is_recorded.load(Ordering::Relaxed)
            && let Err(unrecorded) = self.record(StatementKind::Query, self.caller.now).await
        {
            return unrecorded;
        }
        let recorded = self.hub.ledger.refuse(refusal).await;
        match self.hub.metrics.ledger(recorded) {
            Ok(_) => error,
            Err(unrecorded) => unrecorded.into(),
        }
    }
}

/// The schema of a query, with the first of the rows that are bound to it, and whether it
/// reads data or only what there is: metadata is free.
async fn authorised(
    hub: Arc<Hub>,
    caller: Caller,
    view: Arc<ProjectView>,
    parsed: Parsed,
    first: Option<Vec<ScalarValue>>,
) -> Result<(SchemaRef, StatementKind)> {
    let planning = Planning {
        hub: &hub,
        view: &view,
        options: &caller.principal.options,
        now: caller.now,
    };
    let is_listing = parsed.is_show() || parsed.is_explain();
    let authorised = planning.query(parsed).await?;
    let kind = if is_listing || authorised.reads_metadata_only()? {
        StatementKind::Metadata
    } else {
        StatementKind::Query
    };
    Ok((authorised.bind(first.unwrap_or_default())?.schema, kind))
}

fn unbound(placeholders: usize) -> Error {
    Error::invalid(format!(
        "the statement has {placeholders} parameters; bind a value for each"
    ))
}

/// How an error settles.
pub fn outcome_of(error: &Error) -> Outcome {
    let fault = if error.kind.is_hubs_fault() {
        Fault::Hub
    } else {
        Fault::User
    };
    Outcome::Error {
        kind: error.kind.label(),
        fault,
    }
}
