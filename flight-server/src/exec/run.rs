//! From a redeemed ticket to a running stream: a place, a plan, a durable intent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use chrono::Utc;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use futures::Stream;
use hubflight_ledger::ExecutionStarted;
use hubflight_tickets::{Priority, Ticket};
use hubflight_udfs::StatementWork;
use hubflight_wire::Message;
use tokio::time::Instant as Deadline;
use tonic::Status;

use super::frames::FrameWriter;
use super::meter::Meter;
use super::registry::Stop;
use super::revocation::{self, Grounds};
use super::steps::Steps;
use super::stream::{Source, Start, start};
use crate::airlock;
use crate::auth::session::SessionOptions;
use crate::catalog::project::ProjectView;
use crate::catalog::space::{Labels, Overlay};
use crate::catalog::visible;
use crate::error::{Error, ErrorKind, Result};
use crate::flight::call::{At, Caller};
use crate::hub::Hub;
use crate::plan::authorise::TableAccess;
use crate::plan::{Authorised, Optimised, Planning, parameters, parse};
use crate::statement::TRANSACTION;

/// The number of a priority in the workers' queue.
pub fn priority(priority: Priority) -> u8 {
    match priority {
        Priority::Interactive => 100,
        Priority::Batch => 50,
    }
}

/// A statement that may run: authorised now.
struct Planned {
    view: Arc<ProjectView>,
    authorised: Authorised,
    /// Rows of parameters; one without values where there are none.
    rows: Vec<Vec<ScalarValue>>,
    /// The query of the first row.
    first: Option<Optimised>,
    schema: SchemaRef,
    tables: BTreeSet<TableAccess>,
    /// The datasets that it reads, also through the space, and under which rights.
    labels: Labels,
    /// The released packages that it reads.
    exports: BTreeSet<String>,
    /// Bytes of the visible columns that it reads, for all rows of parameters.
    scanned: u64,
    /// Aggregates over rows that may only be counted, for all rows of parameters.
    answers: u32,
}

/// Redeems a ticket: admits, authorises again, records the intent, and streams.
pub async fn redeem(
    hub: &Arc<Hub>,
    caller: &Caller,
    ticket: Ticket,
) -> Result<impl Stream<Item = Result<Message, Status>> + Send + use<>> {
    let steps = Steps::begin();
    hub.withdrawn.check(&ticket.person, ticket.statement_id)?;
    let permit = hub.engine.admit(&caller.principal.person.id).await?;
    // It may have waited for long: the rights of this moment count.
    let caller = caller.at(Utc::now());
    let deadline = Deadline::now() + statement_time(hub, &caller, ticket.statement_seconds);
    // Before the plan: who opposes while it is made is found after it.
    let era = hub.datasets.opposition().era;
    let planning = plan(Arc::clone(hub), caller.clone(), ticket.clone());
    let (permit, planned) = hub.engine.compute(deadline, permit, planning).await?;
    let describes_persons = |access: &TableAccess| {
        let (dataset, table) = (&access.dataset, &access.table);
        hub.datasets.describes_persons(dataset, table)
    };
    let grounds = Grounds {
        era: planned.tables.iter().any(describes_persons).then_some(era),
        standing: caller.principal.standing.clone(),
        project: ticket.project.clone(),
        zone: caller.zone.clone(),
        roles: planned.view.roles(),
        labels: planned.labels.clone(),
        exports: planned.exports.clone(),
    };
    let stop = Arc::new(Stop::of_call(&caller));
    let running = &hub.running;
    let place = running.enter(ticket.statement_id, Arc::clone(&stop), grounds.clone());
    // Whoever cancels withdraws first, and then stops what is there: one of the two is seen.
    hub.withdrawn.check(&ticket.person, ticket.statement_id)?;
    revocation::confirm(hub, &grounds).await?;
    let started = started(&ticket, &planned);
    let begun = hub.ledger.begin_scanning(started, planned.scanned).await;
    let execution = hub.metrics.ledger(begun)?;
    hub.metrics.scanned(planned.scanned);
    let meter = Meter::new(hub, Arc::clone(execution.quantities()));
    let work = Arc::new(StatementWork {
        statement_id: ticket.statement_id.to_string(),
        tenant: ticket.project.clone(),
        deadline: unix_ms(deadline),
        priority: priority(ticket.priority),
        trace: None,
        pool: Arc::clone(&hub.workers),
        meter: Arc::clone(&meter) as _,
        ended: stop.ended_flag(),
    });
    let frame_bytes_max = hub.config.limits.frame_bytes_max;
    let writer = FrameWriter::new(planned.schema, ticket.compression, frame_bytes_max)?;
    let source = Source {
        authorised: planned.authorised,
        rows: planned.rows,
        first: planned.first,
        work,
    };
    Ok(start(Start {
        hub: Arc::clone(hub),
        execution,
        meter,
        source,
        writer,
        overlay: planned.view.overlay().cloned(),
        steps: (planned.answers > 0).then_some(steps),
        permit,
        call: caller.place,
        deadline,
        stop,
        place,
    }))
}

/// The project as it may be seen now, with the data that the ticket was planned with.
async fn reopen(hub: &Arc<Hub>, caller: &Caller, ticket: &Ticket) -> Result<Arc<ProjectView>> {
    if !caller
        .principal
        .catalogs()
        .contains(&ticket.project.as_str())
    {
        return Err(Error::denied(format!(
            "project `{}` is not open to you any more",
            ticket.project
        )));
    }
    let space = At {
        snapshot: Some(ticket.space_snapshot),
        overlay: overlay_of(hub, ticket)?,
    };
    let view = caller.view_at(hub, &ticket.project, space).await?;
    let changed = ticket
        .versions
        .iter()
        .find(|(dataset, version)| hub.dataset_version(dataset) != Some(*version));
    if let Some((dataset, version)) = changed {
        return Err(Error::invalid(format!(
            "version {version} of dataset `{dataset}` is not served any more; run the \
             statement again"
        )));
    }
    Ok(Arc::new(view))
}

/// What the ticket's transaction had written when it was made.
fn overlay_of(hub: &Hub, ticket: &Ticket) -> Result<Option<Arc<Overlay>>> {
    let Some(within) = ticket.transaction else {
        return Ok(None);
    };
    let limits = &hub.config.limits;
    let found = hub.transactions.find(within.id, &ticket.person, limits)?;
    found.version(within.version).map(Some)
}

async fn plan(hub: Arc<Hub>, caller: Caller, ticket: Ticket) -> Result<Planned> {
    let view = reopen(&hub, &caller, &ticket).await?;
    let options = SessionOptions {
        schema: ticket.schema.clone(),
        time_zone: ticket.time_zone.clone(),
        wire_views: ticket.wire_views,
        ..SessionOptions::default()
    };
    let planning = Planning {
        hub: &hub,
        view: &view,
        options: &options,
        now: ticket.now,
    };
    let parsed = parse::parse(&ticket.sql, hub.config.limits.sql_bytes_max)?;
    let mut rows = parameters::decode(&ticket.parameters)?;
    parameters::check_arity(&rows, parsed.placeholders)?;
    // No rows were bound on purpose: none are the answer.
    let is_of_no_rows = rows.is_empty() && !ticket.parameters.is_empty();
    let authorised = match parsed.admin()? {
        // A ticket never changes anything: it can be redeemed twice.
        Some(call) if parsed.is_explain() => {
            call.check_door(&caller, &ticket.project)?;
            let asked = call.bind(std::mem::take(&mut rows))?;
            planning.told(&asked.dry_run(&hub, &caller).await?)?
        }
        _ => planning.query(parsed).await?,
    };
    let authorised = match is_of_no_rows {
        true => planning.nothing(authorised.schema)?,
        false => authorised,
    };
    if rows.is_empty() {
        rows.push(Vec::new());
    }
    let mut planned = Planned {
        schema: Arc::clone(&authorised.schema),
        view,
        authorised,
        rows: Vec::new(),
        first: None,
        tables: BTreeSet::new(),
        labels: Labels::default(),
        exports: BTreeSet::new(),
        scanned: 0,
        answers: 0,
    };
    // The plans of rows after the first are made again when they run: thousands at once would
    // fill the memory.
    for (index, row) in rows.iter().enumerate() {
        let query = planned.authorised.clone().bind(row.clone())?;
        if index == 0 {
            planned.schema = Arc::clone(&query.schema);
        } else {
            check_same_types(&planned.schema, &query.schema)?;
        }
        let query = query.optimise()?;
        let scanned = visible::bytes(&hub, &planned.view, std::slice::from_ref(&query)).await?;
        planned.scanned = planned.scanned.saturating_add(scanned);
        planned.answers = planned.answers.saturating_add(query.answers);
        planned.tables.extend(query.tables.iter().cloned());
        let providers = query.providers()?;
        planned.exports.extend(airlock::read_by(&providers));
        // A released package does not rest on the rights that it was made under.
        let (_, others) = providers.into_iter().partition::<Vec<_>, _>(is_export);
        let labels = Labels::of(&others, &planned.view)?;
        planned.labels.add(labels.sources);
        planned.first.get_or_insert(query);
        tokio::task::yield_now().await;
    }
    hub.take_answers(&ticket.project, planned.answers).await?;
    planned.rows = rows;
    Ok(planned)
}

/// Refuses rows of parameters whose results do not go together: one schema is told for all of them.
fn check_same_types(first: &SchemaRef, other: &SchemaRef) -> Result<()> {
    let mut pairs = first.fields().iter().zip(other.fields());
    match pairs.find(|(first, other)| first.data_type() != other.data_type()) {
        None => Ok(()),
        Some((first, other)) => Err(Error::invalid(format!(
            "column `{}` has type {} with the first row of parameters and {} with another; bind \
             values of one type, or cast the parameter",
            first.name(),
            first.data_type(),
            other.data_type()
        ))),
    }
}

fn is_export(provider: &Arc<dyn TableProvider>) -> bool {
    airlock::ExportTable::of(provider.as_ref()).is_some()
}

/// The shortest of the hub's limit, the session's option and the call's own timeout.
pub fn statement_time(hub: &Hub, caller: &Caller, option: Option<u64>) -> Duration {
    let limit = hub.config.limits.statement_seconds_max;
    let own = Duration::from_secs(option.unwrap_or(limit).min(limit));
    caller.time_left().map_or(own, |left| left.min(own))
}

/// What a statement is told that ran into its deadline.
pub fn too_late() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "the statement took longer than it may; select less, or raise `statement_seconds`",
    )
}

/// A deadline as milliseconds since 1970, for the workers.
pub fn unix_ms(deadline: Deadline) -> u64 {
    let left = deadline.saturating_duration_since(Deadline::now());
    let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0);
    now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

fn started(ticket: &Ticket, planned: &Planned) -> ExecutionStarted {
    let mut columns: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut datasets: BTreeSet<&str> = BTreeSet::new();
    for table in &planned.tables {
        datasets.insert(&table.dataset);
        let name = format!("{}.{}", table.dataset, table.table);
        let names = table.columns.iter().map(String::as_str);
        columns.entry(name).or_default().extend(names);
    }
    if !planned.exports.is_empty() {
        let ids = planned.exports.iter().map(String::as_str);
        columns.entry("exports".to_owned()).or_default().extend(ids);
    }
    let transaction = ticket.transaction.map(|within| within.id.to_string());
    if let Some(id) = &transaction {
        let ids = columns.entry(TRANSACTION.to_owned()).or_default();
        ids.insert(id);
    }
    let read = || {
        let habilitations = planned.view.habilitations();
        habilitations.filter(|(dataset, _)| datasets.contains(dataset.name.as_str()))
    };
    ExecutionStarted {
        statement_id: ticket.statement_id,
        habilitations: read()
            .map(|(_, habilitation)| (habilitation.id.clone(), habilitation.version))
            .collect(),
        datasets: read()
            .map(|(dataset, _)| (dataset.name.clone(), dataset.version))
            .collect(),
        columns: serde_json::json!(columns),
        started_at: Utc::now(),
    }
}
