//! One execution, from the redeemed ticket to its settlement.
//!
//! ```text
//!  open ──▶ streaming ──▶ settled: ok | error
//!    │          │
//!    └──────────┴── dropped (client gone, cancel) ──▶ settled: cancelled
//! ```
//!
//! Computing and encoding run on the CPU runtime; the stream that the transport polls only
//! counts frames as they are taken, writes interim records, and settles at the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use chrono::Utc;
use datafusion::physical_plan::execute_stream;
use futures::{Stream, StreamExt};
use hubflight_ledger::{Execution, ExecutionStarted, Outcome};
use hubflight_udfs::StatementWork;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant as Deadline;
use tonic::Status;

use super::Permit;
use super::frames::{Frame, FrameWriter};
use super::meter::Meter;
use super::registry::Registered;
use crate::auth::session::SessionOptions;
use crate::catalog::project::ProjectView;
use crate::catalog::visible;
use crate::error::{Error, ErrorKind, Result};
use crate::flight::call::Caller;
use crate::hub::Hub;
use crate::plan::{Optimised, Planning, parameters, parse};
use crate::statement::outcome_of;
use crate::ticket::Ticket;

/// Batches that wait, encoded, for the transport.
const BATCHES_AHEAD_MAX: usize = 2;
/// Priority of interactive statements in the workers' queue.
pub const PRIORITY_INTERACTIVE: u8 = 100;

/// A statement that may run: authorised now, with its place among the running ones.
struct Admitted {
    queries: Vec<Optimised>,
    schema: SchemaRef,
    permit: Permit,
    deadline: Deadline,
}

/// Redeems a ticket: authorises again, admits, records the intent, and streams.
pub async fn redeem(
    hub: &Arc<Hub>,
    caller: &Caller,
    ticket: Ticket,
) -> Result<impl Stream<Item = Result<FlightData, Status>> + Send + use<>> {
    let view = reopen(hub, caller, &ticket).await?;
    let admitted = admit(hub, caller, &ticket, &view).await?;
    let scanned = visible::bytes(hub, &view, &admitted.queries).await?;
    let begun = hub.ledger.begin(started(&ticket, &view, &admitted)).await;
    let execution = hub.metrics.ledger(begun)?;
    let meter = Meter::new(hub, Arc::clone(execution.quantities()));
    meter.scanned(scanned);
    let work = Arc::new(StatementWork {
        statement_id: ticket.statement_id.to_string(),
        tenant: ticket.project.clone(),
        deadline: unix_ms(admitted.deadline),
        priority: PRIORITY_INTERACTIVE,
        trace: None,
        pool: Arc::clone(&hub.workers),
        meter: Arc::clone(&meter) as _,
    });
    let writer = FrameWriter::new(
        Arc::clone(&admitted.schema),
        ticket.compression,
        hub.config.limits.frame_bytes_max,
    )?;
    let (sender, frames) = mpsc::channel(BATCHES_AHEAD_MAX);
    let production = Production {
        hub: Arc::clone(hub),
        queries: admitted.queries,
        work,
        writer,
        sender,
    };
    let task = hub.engine.cpu().spawn(production.run(admitted.deadline));
    let running = Running {
        frames,
        ready: VecDeque::new(),
        execution: Some(execution),
        meter,
        _registered: hub.running.enter(ticket.statement_id, task.abort_handle()),
        task,
        interim: Interim::new(hub),
        hub: Arc::clone(hub),
        started: Instant::now(),
        _permit: admitted.permit,
    };
    Ok(futures::stream::unfold(running, |mut running| async move {
        let item = running.next().await?;
        Some((item, running))
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
    let snapshot = Some(ticket.space_snapshot);
    let view = ProjectView::load(hub, &ticket.project, snapshot, caller.now).await?;
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

async fn admit(
    hub: &Arc<Hub>,
    caller: &Caller,
    ticket: &Ticket,
    view: &Arc<ProjectView>,
) -> Result<Admitted> {
    let options = SessionOptions {
        schema: ticket.schema.clone(),
        time_zone: ticket.time_zone.clone(),
        wire_views: ticket.wire_views,
        ..SessionOptions::default()
    };
    let planning = Planning {
        hub,
        view,
        options: &options,
        now: ticket.now,
    };
    let parsed = parse::parse(&ticket.sql, hub.config.limits.sql_bytes_max)?;
    let placeholders = parsed.placeholders;
    let authorised = planning.query(parsed).await?;
    let schema = Arc::clone(&authorised.schema);
    let rows = parameters::decode(&ticket.parameters)?;
    parameters::check_arity(&rows, placeholders)?;
    let queries = if rows.is_empty() {
        vec![authorised.optimise()?]
    } else {
        rows.into_iter()
            .map(|row| authorised.clone().bind(row)?.optimise())
            .collect::<Result<_>>()?
    };
    let permit = hub.engine.admit().await?;
    Ok(Admitted {
        queries,
        schema,
        permit,
        deadline: Deadline::now() + statement_time(hub, caller, ticket.statement_seconds),
    })
}

/// The shortest of the hub's limit, the session's option and the call's own timeout.
pub fn statement_time(hub: &Hub, caller: &Caller, option: Option<u64>) -> Duration {
    let limit = hub.config.limits.statement_seconds_max;
    let own = Duration::from_secs(option.unwrap_or(limit).min(limit));
    caller.timeout.map_or(own, |timeout| timeout.min(own))
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

fn started(ticket: &Ticket, view: &ProjectView, admitted: &Admitted) -> ExecutionStarted {
    let mut columns: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut datasets: BTreeSet<&str> = BTreeSet::new();
    for table in admitted.queries.iter().flat_map(|query| &query.tables) {
        datasets.insert(&table.dataset);
        let name = format!("{}.{}", table.dataset, table.table);
        let names = table.columns.iter().map(String::as_str);
        columns.entry(name).or_default().extend(names);
    }
    let read = || {
        view.habilitations()
            .filter(|(dataset, _)| datasets.contains(dataset.name.as_str()))
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

/// What runs on the CPU runtime.
struct Production {
    hub: Arc<Hub>,
    queries: Vec<Optimised>,
    work: Arc<StatementWork>,
    writer: FrameWriter,
    sender: mpsc::Sender<Result<Vec<Frame>>>,
}

impl Production {
    async fn run(mut self, deadline: Deadline) {
        let sender = self.sender.clone();
        let outcome = tokio::time::timeout_at(deadline, self.produce()).await;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => too_late(),
        };
        // A receiver that is gone has settled already.
        let _ = sender.send(Err(error)).await;
    }

    async fn produce(&mut self) -> Result<()> {
        if !self.send(vec![self.writer.schema()]).await {
            return Ok(());
        }
        for query in std::mem::take(&mut self.queries) {
            let (plan, context) = query
                .physical(&self.hub.engine, Arc::clone(&self.work))
                .await?;
            let mut batches = execute_stream(plan, context)?;
            while let Some(batch) = batches.next().await {
                let frames = self.writer.frames(&batch?)?;
                if !self.send(frames).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// False when nobody listens any more.
    async fn send(&self, frames: Vec<Frame>) -> bool {
        self.sender.send(Ok(frames)).await.is_ok()
    }
}

/// What the transport polls. Dropping it stops the work and settles as cancelled.
struct Running {
    frames: mpsc::Receiver<Result<Vec<Frame>>>,
    ready: VecDeque<Frame>,
    execution: Option<Execution>,
    meter: Arc<Meter>,
    task: JoinHandle<()>,
    interim: Interim,
    hub: Arc<Hub>,
    started: Instant,
    _registered: Registered,
    _permit: Permit,
}

impl Running {
    async fn next(&mut self) -> Option<Result<FlightData, Status>> {
        let execution = self.execution.as_ref()?;
        if self.interim.is_due()
            && let Err(error) = self.hub.metrics.ledger(execution.interim().await)
        {
            return Some(Err(self.settle(Error::from(error)).await));
        }
        if self.ready.is_empty() {
            match self.frames.recv().await {
                Some(Ok(frames)) => self.ready.extend(frames),
                Some(Err(error)) => return Some(Err(self.settle(error).await)),
                None => {}
            }
        }
        let Some(frame) = self.ready.pop_front() else {
            return self.end().await;
        };
        self.meter.handed(frame.rows, frame.bytes());
        self.interim.handed(frame.bytes());
        Some(Ok(frame.data))
    }

    /// The channel closed without an error: the end, unless the task panicked.
    async fn end(&mut self) -> Option<Result<FlightData, Status>> {
        match (&mut self.task).await {
            Ok(()) => {}
            Err(stopped) if stopped.is_cancelled() => return Some(Err(self.cancelled().await)),
            Err(lost) => {
                let error = Error::internal("an execution was lost", &lost);
                return Some(Err(self.settle(error).await));
            }
        }
        let execution = self.execution.take()?;
        self.hub
            .metrics
            .finished("query", "ok", self.started.elapsed());
        match self.hub.metrics.ledger(execution.settle(Outcome::Ok).await) {
            Ok(_) => None,
            Err(error) => Some(Err(Error::from(error).into())),
        }
    }

    /// Settles what somebody asked to stop.
    async fn cancelled(&mut self) -> Status {
        let told = Error::new(ErrorKind::Cancelled, "the statement was cancelled");
        self.settle_as(Outcome::Cancelled, "cancelled").await;
        told.into()
    }

    /// Settles with an error and gives what the client is told.
    async fn settle(&mut self, error: Error) -> Status {
        self.settle_as(outcome_of(&error), error.kind.label()).await;
        error.into()
    }

    async fn settle_as(&mut self, outcome: Outcome, label: &'static str) {
        let Some(execution) = self.execution.take() else {
            return;
        };
        let elapsed = self.started.elapsed();
        self.hub.metrics.finished("query", label, elapsed);
        if let Err(unsettled) = self.hub.metrics.ledger(execution.settle(outcome).await) {
            tracing::error!(error = %unsettled, "an execution could not be settled");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        if self.execution.is_some() {
            self.hub
                .metrics
                .finished("query", "cancelled", self.started.elapsed());
        }
    }
}

/// When the next interim record is due.
struct Interim {
    every: Duration,
    bytes: u64,
    last: Instant,
    since: u64,
}

impl Interim {
    fn new(hub: &Hub) -> Self {
        Self {
            every: Duration::from_millis(hub.config.limits.interim_ms),
            bytes: hub.config.limits.interim_bytes,
            last: Instant::now(),
            since: 0,
        }
    }

    fn handed(&mut self, bytes: u64) {
        self.since += bytes;
    }

    /// True when something was handed over since the last record and the interval is over.
    fn is_due(&mut self) -> bool {
        let due = self.since >= self.bytes || (self.since > 0 && self.last.elapsed() >= self.every);
        if due {
            self.last = Instant::now();
            self.since = 0;
        }
        due
    }
}
