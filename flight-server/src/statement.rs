//! A statement from its text to a ticket, a count or a refusal, each recorded.

mod calls;
mod ends;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, Utc};
use datafusion::common::ScalarValue;
use futures::StreamExt;
use hubflight_ledger::{ExecutionStarted, Fault, Outcome, Refusal, StatementKind, StatementOpened};
use hubflight_tickets::{InTransaction, Part, Ticket, after};
use hubflight_wire::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::asked;
use crate::auth::ADMIN_CATALOG;
use crate::catalog::project::ProjectView;
use crate::catalog::space::{Labels, Touched, Upload};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::admission::Permit;
use crate::exec::change::{Asked, Change};
use crate::exec::registry::Stop;
use crate::exec::revocation::{self, Grounds};
use crate::exec::transactions::{Transaction, Turn};
use crate::exec::{dealt, run};
use crate::flight::BoxStream;
use crate::flight::call::{At, Caller};
use crate::hub::Hub;
use crate::own;
use crate::plan::parse::{Parsed, parse};
use crate::plan::{Planning, parameters, wire};

pub use ends::commit;

/// What the audit calls the transaction of a statement.
pub const TRANSACTION: &str = "transaction";

/// SQL with the rows of parameters that were bound, as [`parameters::encode`] writes them.
#[derive(Clone, Debug, Default)]
pub struct Text {
    pub sql: String,
    pub parameters: Vec<u8>,
    /// The transaction that it is one of.
    pub transaction: Option<Uuid>,
}

impl Text {
    pub fn new(sql: String) -> Self {
        Self {
            sql,
            ..Self::default()
        }
    }

    /// As a statement of a transaction, where there is one.
    pub fn within(self, transaction: Option<Uuid>) -> Self {
        Self {
            transaction,
            ..self
        }
    }
}

/// What opening a statement gives.
#[derive(Debug)]
pub enum Opened {
    /// A query: its schema, the sealed ticket that runs it, and until when it does.
    Query {
        schema: SchemaRef,
        handle: Vec<u8>,
        /// Those of the other endpoints, where the result has several.
        others: Vec<Vec<u8>>,
        expires: DateTime<Utc>,
        /// Its rows come in an order that it asks for.
        ordered: bool,
        /// What it is called in `hub.queries`.
        statement: Uuid,
    },
    /// A change, which has run once.
    Changed { rows: u64 },
}

/// What a prepared statement tells its client.
#[derive(Debug)]
pub struct Described {
    /// Empty for a change: that is how clients tell the two apart.
    pub schema: SchemaRef,
    pub parameters: arrow::datatypes::Schema,
    /// Whether it changes something when it is executed, as an update.
    pub changes: bool,
}

impl Opened {
    /// Plans a query and answers a ticket, or runs a change. Either leaves a record.
    pub async fn open(hub: &Arc<Hub>, caller: &Caller, text: Text) -> Result<Self> {
        let opening = Opening::new(hub, caller, &text, Uuid::now_v7());
        opening.told(opening.open().await).await
    }

    /// The same for a caller who takes no rows.
    pub async fn change(hub: &Arc<Hub>, caller: &Caller, text: Text) -> Result<Self> {
        let opening = Opening {
            gives_rows: false,
            ..Opening::new(hub, caller, &text, Uuid::now_v7())
        };
        opening.told(opening.open().await).await
    }
}

/// Stores rows that a client sends for a table, recorded as any change is; their number.
pub async fn upload(
    hub: &Arc<Hub>,
    caller: &Caller,
    upload: Upload,
    transaction: Option<Uuid>,
) -> Result<u64> {
    let text = Text::new(upload.to_string()).within(transaction);
    let opening = Opening::new(hub, caller, &text, Uuid::now_v7());
    let stored = opening.run(Asked::Upload(upload), StatementKind::Dml);
    opening.told(stored.await).await
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

/// Plans on the CPU runtime, in the time that the statement has, a bounded number at once.
async fn planned<T: Send + 'static>(
    hub: &Arc<Hub>,
    caller: &Caller,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let time = run::statement_time(hub, caller, caller.principal.options.statement_seconds);
    let deadline = tokio::time::Instant::now() + time;
    let place = hub.engine.plan(&caller.principal.person.id).await?;
    let (_place, made) = hub.engine.compute(deadline, place, work).await?;
    Ok(made)
}

async fn description(hub: Arc<Hub>, caller: Caller, text: Text) -> Result<Described> {
    let transaction = transaction(&hub, &caller, &text)?;
    let parsed = parse(&text.sql, hub.config.limits.sql_bytes_max)?;
    if let Some(call) = parsed.own()? {
        call.check_prepared()?;
        if matches!(call, own::Call::CreateToken(_)) {
            return Ok(Described {
                schema: Arc::new(own::WantedToken::schema()),
                parameters: arrow::datatypes::Schema::empty(),
                changes: false,
            });
        }
    }
    let administers = parsed.admin()?;
    if let Some(call) = &administers {
        call.check_door(&caller, caller.principal.project()?)?;
    }
    let placeholders = || {
        let fields = (0..parsed.placeholders)
            .map(|_| arrow::datatypes::Field::new("", arrow::datatypes::DataType::Null, true));
        arrow::datatypes::Schema::new(fields.collect::<Vec<_>>())
    };
    if !parsed.is_query() && (parsed.placeholders == 0 || !parsed.is_dml()) {
        return Ok(Described {
            schema: parameters::none(),
            parameters: placeholders(),
            changes: true,
        });
    }
    let project = caller.principal.project()?;
    let space = At {
        snapshot: None,
        overlay: transaction.and_then(|own| own.overlay()),
    };
    let view = Arc::new(caller.view_at(&hub, project, space).await?);
    let planning = Planning {
        hub: &hub,
        view: &view,
        options: &caller.principal.options,
        now: caller.now,
    };
    if !parsed.is_query() {
        // What is wrong with it is told when it runs, and recorded then.
        let known = planning.placeholders_of(&parsed).await.ok();
        let known = known.filter(|known| known.fields().len() == parsed.placeholders);
        let known = known.unwrap_or_else(placeholders);
        return Ok(Described {
            schema: parameters::none(),
            parameters: wire::plain_schema(&known, false).as_ref().clone(),
            changes: true,
        });
    }
    if administers.is_some() {
        return Ok(Described {
            schema: planning.told(&[])?.schema,
            parameters: placeholders(),
            changes: false,
        });
    }
    let authorised = planning.query(parsed).await?;
    Ok(Described {
        schema: Arc::clone(&authorised.schema),
        // Those beside a text column are views, which clients do not read.
        parameters: wire::plain_schema(&authorised.parameters()?, false)
            .as_ref()
            .clone(),
        changes: false,
    })
}

/// The transaction that a statement is one of.
///
/// # Errors
/// `NotFound` where it is none of the caller's that is open, `InvalidArgument` where it is in
/// another project.
fn transaction(hub: &Hub, caller: &Caller, text: &Text) -> Result<Option<Arc<Transaction>>> {
    let Some(id) = text.transaction else {
        return Ok(None);
    };
    let person = &caller.principal.person.id;
    let found = hub.transactions.find(id, person, &hub.config.limits)?;
    found.enter(caller.principal.project()?)?;
    Ok(Some(found))
}

/// Redeems a ticket; a refusal is recorded.
pub async fn redeem(hub: &Arc<Hub>, caller: &Caller, ticket: Ticket) -> Result<BoxStream<Message>> {
    let statement_id = ticket.statement_id;
    let redeemed = match ticket.part {
        None => run::redeem(hub, caller, ticket).await.map(StreamExt::boxed),
        Some(part) => dealt::fetch(hub, caller, ticket, part)
            .await
            .map(StreamExt::boxed),
    };
    match redeemed {
        Ok(stream) => Ok(stream),
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
    /// Its caller takes rows, and not only a count.
    gives_rows: bool,
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
            gives_rows: true,
            is_recorded: AtomicBool::new(false),
        }
    }

    /// What its caller is told; a failure that has no outcome yet is recorded.
    async fn told<T>(&self, done: Result<T, Failure>) -> Result<T> {
        match done {
            Ok(done) => Ok(done),
            Err(Failure::Settled(error)) => Err(error),
            Err(Failure::Unsettled(error)) => Err(self.refuse(error).await),
        }
    }

    async fn open(&self) -> Result<Opened, Failure> {
        let parsed = parse(&self.text.sql, self.hub.config.limits.sql_bytes_max)?;
        if let Some(call) = parsed.own()? {
            match call {
                own::Call::CreateToken(wanted) if self.gives_rows => {
                    Ok(self.create_token(wanted).await?)
                }
                call => self.own(call, parsed.placeholders).await,
            }
        } else if let Some(call) = parsed.admin()? {
            call.check_door(self.caller, self.caller.principal.project()?)?;
            let rows = self.rows(parsed.placeholders)?;
            if is_for_none(&rows, &parsed) && !parsed.is_explain() {
                return self.for_none(None).await;
            }
            let asked = call.bind(rows)?;
            match parsed.is_explain() {
                true => Ok(self.explain().await?),
                false => self.administer(asked).await,
            }
        } else if let Some(cancelled) = parsed.cancels() {
            self.cancel(&self.view(self.caller).await?, cancelled).await
        } else if parsed.is_query() {
            let view = Arc::new(self.view(self.caller).await?);
            Ok(self.query(&view, parsed).await?)
        } else {
            self.change(parsed).await
        }
    }

    /// The project of the session, as `caller` sees it, in the statement's transaction.
    async fn view(&self, caller: &Caller) -> Result<ProjectView> {
        let transaction = transaction(self.hub, caller, self.text)?;
        let space = At {
            snapshot: None,
            overlay: transaction.and_then(|own| own.overlay()),
        };
        let project = caller.principal.project()?;
        caller.view_at(self.hub, project, space).await
    }

    /// The rows of parameters that were bound, of which a statement with placeholders has one, or
    /// none where none were bound on purpose.
    fn rows(&self, placeholders: usize) -> Result<Vec<Vec<ScalarValue>>> {
        let rows = parameters::decode(&self.text.parameters)?;
        parameters::check_arity(&rows, placeholders)?;
        match rows.is_empty() && placeholders > 0 && self.text.parameters.is_empty() {
            true => Err(unbound(placeholders)),
            false => Ok(rows),
        }
    }

    /// The statement as it was asked, for the audit.
    fn asked(&self) -> Cow<'_, str> {
        asked::encode(&self.text.sql, &self.text.parameters)
    }

    fn person(&self) -> &str {
        &self.caller.principal.person.id
    }

    async fn query(&self, view: &Arc<ProjectView>, parsed: Parsed) -> Result<Opened> {
        let rows = self.rows(parsed.placeholders)?;
        let first = rows.into_iter().next();
        let work = authorised(
            self.hub.clone(),
            self.caller.clone(),
            view.clone(),
            parsed,
            first,
        );
        let Asking {
            schema,
            kind,
            splits,
            ordered,
        } = planned(self.hub, self.caller, work).await?;
        let ticket = Ticket {
            // What an unqualified name means stays, whatever becomes of the datasets.
            schema: Some(self.planning(self.caller, view).default_schema()),
            ..self.ticket(view)
        };
        let expires = ticket.expires;
        let mut parts = self.parts(ticket, splits && kind == StatementKind::Query);
        let others = parts.split_off(1);
        let seal = |ticket: Ticket| ticket.seal(&self.hub.tickets);
        let handle = parts.pop().map(seal).transpose()?.unwrap_or_default();
        let others = others.into_iter().map(seal).collect::<Result<_, _>>()?;
        self.record(kind, self.begins_until(), &self.asked())
            .await?;
        Ok(Opened::Query {
            schema,
            handle,
            others,
            expires,
            ordered,
            statement: self.statement_id,
        })
    }

    /// The tickets of the result's endpoints: as many as the session wants where it can be read in
    /// parts, or one.
    fn parts(&self, ticket: Ticket, splits: bool) -> Vec<Ticket> {
        let of = self.caller.principal.options.wire_endpoints.0;
        let life = self.hub.config.limits.ticket_life_seconds_max();
        let time = (self.caller.now, after(self.caller.now, life));
        let is_split = splits
            && of > 1
            && self
                .hub
                .dealt
                .expect(self.statement_id, self.person(), of, time);
        if !is_split {
            return vec![ticket];
        }
        let part = |index| Ticket {
            part: Some(Part { index, of }),
            ..ticket.clone()
        };
        (0..of).map(part).collect()
    }

    /// Runs a change for each row of parameters, as one execution.
    async fn change(&self, parsed: Parsed) -> Result<Opened, Failure> {
        let rows = self.rows(parsed.placeholders)?;
        if is_for_none(&rows, &parsed) {
            return self.for_none(Some(&self.view(self.caller).await?)).await;
        }
        let kind = match parsed.is_ddl() {
            true => StatementKind::Ddl,
            false => StatementKind::Dml,
        };
        let rows = self.run(Asked::Statement { parsed, rows }, kind).await?;
        Ok(Opened::Changed { rows })
    }

    /// Runs a change as one execution: the rows that it changed.
    async fn run(&self, mut asked: Asked, kind: StatementKind) -> Result<u64, Failure> {
        let options = &self.caller.principal.options;
        let time = run::statement_time(self.hub, self.caller, options.statement_seconds);
        // Before the place to run: what waits for its turn keeps nobody else from running.
        let turn = match asked.is_of_the_space()? {
            true => self.turn(time).await?,
            false => None,
        };
        let permit = self.hub.engine.admit(self.person()).await?;
        // Only now, since it may have waited for long: the rights of this moment count.
        let caller = self.caller.at(Utc::now());
        let view = Arc::new(self.view(&caller).await?);
        let grounds = self.grounds(&view)?;
        let stop = Arc::new(Stop::of_call(self.caller));
        if let Some(turn) = &turn {
            turn.ends(&stop);
        }
        let running = &self.hub.running;
        let place = running.enter(self.statement_id, Arc::clone(&stop), grounds.clone());
        revocation::confirm(self.hub, &grounds).await?;
        let (permit, touched) = match &mut asked {
            Asked::Statement { parsed, .. } => {
                let touched = self.touched(&caller, &view, parsed, time, permit);
                let (permit, (spelled, touched)) = touched.await?;
                *parsed = spelled;
                (permit, touched)
            }
            Asked::Upload(upload) => {
                let touched = Touched::of_upload(&self.planning(&caller, &view), upload);
                (permit, touched)
            }
        };
        self.record(kind, caller.now + time, &self.asked()).await?;
        let begun = self
            .hub
            .ledger
            .begin(self.started(Some(&*view), &touched))
            .await;
        let execution = self.hub.metrics.ledger(begun)?;
        let change = Change {
            hub: Arc::clone(self.hub),
            caller,
            view,
            asked,
            touched,
            execution,
            permit,
            stop,
            grounds,
            place,
            time,
            turn,
        };
        change.run().await.map_err(Failure::Settled)
    }

    /// The turn to change something in the statement's transaction.
    async fn turn(&self, time: Duration) -> Result<Option<Turn>> {
        let Some(own) = transaction(self.hub, self.caller, self.text)? else {
            return Ok(None);
        };
        let deadline = tokio::time::Instant::now() + time;
        own.turn(self.hub, deadline).await.map(Some)
    }

    fn planning<'b>(&'b self, caller: &'b Caller, view: &'b Arc<ProjectView>) -> Planning<'b> {
        Planning {
            hub: self.hub,
            view,
            options: &caller.principal.options,
            now: caller.now,
        }
    }

    /// The change as it names what there is, and what it will read and write, planned on the CPU
    /// runtime.
    async fn touched(
        &self,
        caller: &Caller,
        view: &Arc<ProjectView>,
        parsed: &Parsed,
        time: Duration,
        permit: Permit,
    ) -> Result<(Permit, (Parsed, Touched))> {
        let (hub, view) = (Arc::clone(self.hub), Arc::clone(view));
        let (caller, parsed) = (caller.clone(), parsed.clone());
        let planned = async move {
            let planning = Planning {
                hub: &hub,
                view: &view,
                options: &caller.principal.options,
                now: caller.now,
            };
            let parsed = planning.spelled_change(parsed).await;
            let touched = Touched::of(&planning, &parsed).await;
            Ok((parsed, touched))
        };
        let deadline = tokio::time::Instant::now() + time;
        self.hub.engine.compute(deadline, permit, planned).await
    }

    fn started(&self, view: Option<&ProjectView>, touched: &Touched) -> ExecutionStarted {
        let is_read = |dataset: &str| touched.tables.iter().any(|t| t.dataset == dataset);
        let read = || {
            let habilitations = view.into_iter().flat_map(ProjectView::habilitations);
            habilitations.filter(|(dataset, _)| is_read(&dataset.name))
        };
        ExecutionStarted {
            statement_id: self.statement_id,
            habilitations: read()
                .map(|(_, habilitation)| (habilitation.id.clone(), habilitation.version))
                .collect(),
            datasets: read()
                .map(|(dataset, _)| (dataset.name.clone(), dataset.version))
                .collect(),
            columns: self.columns(touched),
            started_at: Utc::now(),
        }
    }

    /// What it touches, for the audit, and the transaction that it does so in: what has no commit of
    /// its transaction was not kept.
    fn columns(&self, touched: &Touched) -> serde_json::Value {
        let mut columns = touched.columns();
        if let (Some(id), Some(columns)) = (self.text.transaction, columns.as_object_mut()) {
            let id = serde_json::json!([id.to_string()]);
            columns.insert(TRANSACTION.to_owned(), id);
        }
        columns
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
            exports: view.open_exports(),
            era: Some(self.hub.datasets.opposition().era),
        })
    }

    /// The last moment at which an execution can begin: the ticket, renewed, is redeemed at its end,
    /// waits for its places and is planned.
    fn begins_until(&self) -> DateTime<Utc> {
        let limits = &self.hub.config.limits;
        let waits = limits.queue_wait_ms_max.div_ceil(1000).saturating_mul(2);
        let seconds = limits
            .ticket_life_seconds_max()
            .saturating_add(waits)
            .saturating_add(limits.statement_seconds_max);
        after(self.caller.now, seconds)
    }

    fn ticket(&self, view: &ProjectView) -> Ticket {
        let options = &self.caller.principal.options;
        let life = self.hub.config.limits.ticket_seconds_max;
        Ticket {
            statement_id: self.statement_id,
            person: self.caller.principal.person.id.clone(),
            project: view.project.clone(),
            sql: self.text.sql.clone(),
            parameters: self.text.parameters.clone(),
            versions: view.versions(),
            space_snapshot: view.space_snapshot(),
            now: self.caller.now,
            expires: after(self.caller.now, life),
            schema: options.schema.clone(),
            time_zone: options.time_zone.clone(),
            tags: options.tags.clone(),
            wire_views: options.wire_views,
            compression: options.compression,
            statement_seconds: options.statement_seconds,
            priority: options.priority,
            renewable: true,
            part: None,
            transaction: self.text.transaction.and_then(|id| {
                let version = view.overlay()?.version;
                Some(InTransaction { id, version })
            }),
        }
    }

    /// `asked` is what is kept of the statement.
    async fn record(
        &self,
        kind: StatementKind,
        expires_at: DateTime<Utc>,
        asked: &str,
    ) -> Result<()> {
        let principal = &self.caller.principal;
        let project = principal.project().ok().filter(|id| *id != ADMIN_CATALOG);
        let tags = principal.options.tags.clone();
        let sealing = self.hub.sealed_text(project, self.statement_id, asked);
        let sql_sealed = sealing.await?;
        let opened = StatementOpened {
            statement_id: self.statement_id,
            person: principal.person.id.clone(),
            project: project.map(str::to_owned),
            kind,
            client: principal.client.clone(),
            sql_sha256: Sha256::digest(asked.as_bytes()).into(),
            sql_sealed,
            tags: tags
                .map(|tags| ("tags".to_owned(), tags))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
            opened_at: self.caller.now,
            expires_at,
        };
        let ledger = &self.hub.ledger;
        // What it starts, or its refusal, is not durable before it; but another server may start it.
        let recorded = match self.hub.store.is_shared() {
            true => ledger.statement(opened).await,
            false => ledger.statement_soon(opened).await,
        };
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
        let bytes_max = self.hub.config.limits.sql_bytes_max;
        if !self.is_recorded.load(Ordering::Relaxed) {
            let (kind, kept) = (
                StatementKind::Query,
                own::kept_of_refused(self.text, bytes_max),
            );
            if let Err(unrecorded) = self.record(kind, self.caller.now, &kept).await {
                return unrecorded;
            }
        }
        let recorded = self.hub.ledger.refuse(refusal).await;
        match self.hub.metrics.ledger(recorded) {
            Ok(_) => own::told(&self.text.sql, bytes_max, error),
            Err(unrecorded) => unrecorded.into(),
        }
    }
}

/// What is known of a query before it runs.
struct Asking {
    /// With the first of the rows that are bound to it.
    schema: SchemaRef,
    /// Whether it reads data or only what there is: metadata is free.
    kind: StatementKind,
    /// Whether it can be read in parts.
    splits: bool,
    /// Whether its rows come in an order that it asks for.
    ordered: bool,
}

async fn authorised(
    hub: Arc<Hub>,
    caller: Caller,
    view: Arc<ProjectView>,
    parsed: Parsed,
    first: Option<Vec<ScalarValue>>,
) -> Result<Asking> {
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
    // Of no rows of parameters, it is the schema that is known without them.
    let ordered = authorised.is_ordered() && !is_listing;
    let splits = !ordered && authorised.splits()?;
    let bound = authorised.bind(first.unwrap_or_default())?;
    Ok(Asking {
        schema: bound.schema,
        kind,
        splits,
        ordered,
    })
}

/// Whether no rows were bound to the parameters of a statement.
fn is_for_none(rows: &[Vec<ScalarValue>], parsed: &Parsed) -> bool {
    rows.is_empty() && parsed.placeholders > 0
}

fn unbound(placeholders: usize) -> Error {
    Error::invalid(format!(
        "the statement has {placeholders} parameters; bind a value for each"
    ))
}

/// How an error settles.
pub fn outcome_of(error: &Error) -> Outcome {
    if error.kind == ErrorKind::Cancelled {
        return Outcome::Cancelled;
    }
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
