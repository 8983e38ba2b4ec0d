//! A running execution, from its start to its settlement.
//!
//! ```text
//!  started ──▶ streaming ──▶ settled: ok | error | cancelled
//!     │            │
//!     └────────────┴── dropped (client gone) ──▶ settled: cancelled
//! ```
//!
//! Two parties share it. The *producer* computes and encodes on the CPU runtime, and writes an
//! interim record now and then. The *stream* is what the transport polls: it counts each frame
//! as it is taken. The execution lies in a slot that both reach, and whoever empties it settles.
//! A *guard* empties it at once when the execution is ended from outside or its deadline comes,
//! so that nothing more is handed over, not even what was encoded before, whether or not the
//! producer has done its part and anybody reads. Until then it keeps a place of its person: a
//! result that nobody fetches is theirs, and cannot be had without end.

use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::physical_plan::{SendableRecordBatchStream, execute_stream};
use futures::{Stream, StreamExt};
use hubflight_ledger::{Execution, Measured, Outcome};
use hubflight_udfs::StatementWork;
use hubflight_wire::Message;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Instrument;

use super::admission::{CallPlace, Computing, OwnPlace, Permit};
use super::frames::{Frame, FrameWriter};
use super::memory::QueryPool;
use super::meter::Meter;
use super::registry::{Registered, Stop};
use super::run::too_late;
use super::steps::Steps;
use crate::catalog::space::Overlay;
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;
use crate::plan::{Authorised, Optimised};
use crate::statement::outcome_of;

/// Frames that wait, encoded, for the transport.
const FRAMES_AHEAD_MAX: usize = 3;
/// How long rows wait for others to fill a frame with. Where that is not enough, a frame tells how
/// many rows came in the time, as any answer tells how long it takes.
const ROWS_WAIT: Duration = Duration::from_secs(1);
/// How long the end of an execution waits for a client that reads before it settles without.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What a stream is started with.
pub(super) struct Start {
    pub hub: Arc<Hub>,
    pub execution: Execution,
    pub meter: Arc<Meter>,
    pub source: Source,
    pub writer: FrameWriter,
    /// What it reads of a transaction, which keeps the files.
    pub overlay: Option<Arc<Overlay>>,
    /// When its frames may leave, where that is not as soon as they are made.
    pub steps: Option<Steps>,
    pub permit: Permit,
    /// Kept until the transport lets go of the stream.
    pub call: CallPlace,
    pub deadline: Deadline,
    pub stop: Arc<Stop>,
    pub place: Registered,
}

/// Where the rows come from.
pub(super) struct Source {
    pub authorised: Authorised,
    pub rows: Vec<Vec<ScalarValue>>,
    /// The query of the first row, which was planned to know what it reads.
    pub first: Option<Optimised>,
    pub work: Arc<StatementWork>,
}

/// Starts the producer, and gives the stream of its frames.
pub(super) fn start(start: Start) -> impl Stream<Item = Result<Message, Status>> + Send {
    let stop = start.stop;
    let Permit { computing, own } = start.permit;
    let account = Arc::new(Account {
        slot: Mutex::new(Some(start.execution)),
        failed: OnceLock::new(),
        hub: Arc::clone(&start.hub),
        started: Instant::now(),
        settled: CancellationToken::new(),
        place: parking_lot::Mutex::new(Some(start.place)),
    });
    let (sender, receiver) = mpsc::channel(FRAMES_AHEAD_MAX);
    let frames = Frames(Arc::new(parking_lot::Mutex::new(Some(receiver))));
    let guard = Guard {
        account: Arc::downgrade(&account),
        settled: account.settled.clone(),
        stop: Arc::clone(&stop),
        frames: frames.clone(),
        _own: own,
    };
    tokio::spawn(guard.watch(start.deadline).in_current_span());
    let producer = Producer {
        account: Arc::clone(&account),
        source: Some(start.source),
        writer: start.writer,
        steps: start.steps,
        sender,
        _overlay: start.overlay,
        _computing: computing,
    };
    let task = start
        .hub
        .engine
        .cpu()
        .spawn(producer.run(Arc::clone(&stop)).in_current_span());
    let running = Running {
        frames,
        account,
        meter: start.meter,
        stop,
        task,
        unrecorded: 0,
        interim_bytes: start.hub.config.limits.interim_bytes,
        _call: start.call,
    };
    futures::stream::unfold(running, |mut running| async move {
        let item = running.next().await?;
        Some((item, running))
    })
}

/// Frames that are encoded and not handed over. They can be thrown away by others than the
/// stream, which nobody polls while the client does not read.
#[derive(Clone)]
struct Frames(Arc<parking_lot::Mutex<Option<mpsc::Receiver<Result<Frame>>>>>);

impl Frames {
    async fn next(&self) -> Option<Result<Frame>> {
        std::future::poll_fn(|context| match self.0.lock().as_mut() {
            Some(frames) => frames.poll_recv(context),
            None => Poll::Ready(None),
        })
        .await
    }

    /// Throws away what waits; none follows.
    fn discard(&self) {
        drop(self.0.lock().take());
    }
}

/// The execution until somebody settles it.
struct Account {
    slot: Mutex<Option<Execution>>,
    /// Why it ended early.
    failed: OnceLock<Error>,
    hub: Arc<Hub>,
    started: Instant,
    /// Cancelled when the slot has been emptied and what was counted is durable.
    settled: CancellationToken,
    /// Until then the execution can be ended from outside.
    place: parking_lot::Mutex<Option<Registered>>,
}

impl Account {
    /// Writes an interim record; false where the execution has settled.
    async fn interim(&self) -> Result<bool> {
        match self.slot.lock().await.as_ref() {
            None => Ok(false),
            Some(execution) => {
                self.hub.metrics.ledger(execution.interim().await)?;
                Ok(true)
            }
        }
    }

    /// What was counted so far; nothing once it has settled.
    async fn measured(&self) -> Option<Measured> {
        let slot = self.slot.lock().await;
        Some(slot.as_ref()?.quantities().measured())
    }

    /// Settles, unless somebody has. The ledger keeps a settlement that it cannot write now, so
    /// that nobody is told of that: what was delivered was delivered.
    async fn settle(&self, outcome: Outcome, label: &'static str) {
        let Some(execution) = self.slot.lock().await.take() else {
            return;
        };
        let metrics = &self.hub.metrics;
        metrics.finished("query", label, self.started.elapsed());
        let settled = execution.settle(outcome).await;
        drop(self.place.lock().take());
        self.settled.cancel();
        if let Err(error) = metrics.ledger(settled) {
            tracing::error!(%error, "an execution is settled later");
        }
    }

    /// Settles with an error.
    async fn fail(&self, error: &Error) {
        self.failed.get_or_init(|| error.clone());
        self.settle(outcome_of(error), error.kind.label()).await;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settled.cancel();
        // An execution that is only dropped settles itself as cancelled.
        if self.slot.get_mut().is_some() {
            let elapsed = self.started.elapsed();
            self.hub.metrics.finished("query", "cancelled", elapsed);
        }
    }
}

/// Settles an execution that is ended from outside or whose deadline has come, whether or not it
/// computes, or its client reads. It does not keep the account alive: a client that goes away
/// settles as ever.
struct Guard {
    account: Weak<Account>,
    settled: CancellationToken,
    stop: Arc<Stop>,
    frames: Frames,
    _own: OwnPlace,
}

impl Guard {
    async fn watch(self, deadline: Deadline) {
        let error = tokio::select! {
            () = self.settled.cancelled() => return self.frames.discard(),
            error = self.stop.ended() => error,
            () = tokio::time::sleep_until(deadline) => {
                self.stop.end(too_late());
                self.stop.ended().await
            }
        };
        if let Some(account) = self.account.upgrade() {
            account.fail(&error).await;
        }
        self.frames.discard();
    }
}

/// What runs on the CPU runtime.
struct Producer {
    account: Arc<Account>,
    source: Option<Source>,
    writer: FrameWriter,
    steps: Option<Steps>,
    sender: mpsc::Sender<Result<Frame>>,
    /// Given back when nothing computes any more, whether or not the client reads.
    _overlay: Option<Arc<Overlay>>,
    _computing: Computing,
}

impl Producer {
    /// True where it has sent everything.
    async fn run(mut self, stop: Arc<Stop>) -> bool {
        let (account, sender) = (Arc::clone(&self.account), self.sender.clone());
        let outcome = tokio::select! {
            outcome = self.produce_in_steps() => outcome,
            error = record(&account) => Err(error),
            // The guard settles, also at the deadline.
            _ = stop.ended() => return false,
        };
        // Its memory, its files and its place to compute.
        drop(self);
        let error = match outcome {
            Ok(is_all) => return is_all,
            Err(error) => stop.reason(error),
        };
        let told = error.clone();
        let heard = tokio::time::timeout(LAST_WORD, sender.send(Err(told))).await;
        if !matches!(heard, Ok(Ok(()))) {
            account.fail(&error).await;
        }
        false
    }

    /// As [`Self::produce`]; the end of the rows, and an error, wait as rows do.
    async fn produce_in_steps(&mut self) -> Result<bool> {
        let outcome = self.produce().await;
        self.step().await;
        outcome
    }

    async fn step(&mut self) {
        if let Some(steps) = &mut self.steps {
            steps.next().await;
        }
    }

    /// False where nobody listens any more.
    async fn produce(&mut self) -> Result<bool> {
        if !self.send(self.writer.schema()).await {
            return Ok(false);
        }
        let Some(mut source) = self.source.take() else {
            return Ok(true);
        };
        let hub = Arc::clone(&self.account.hub);
        let (environment, pool) = hub.engine.query_environment();
        for row in source.rows {
            let query = match source.first.take() {
                Some(first) => first,
                None => source.authorised.clone().bind(row)?.optimise()?,
            };
            let environment = Arc::clone(&environment);
            let work = Arc::clone(&source.work);
            let (plan, context) = query.physical_in(environment, work).await?;
            let mut batches = execute_stream(plan, context)?;
            while let Some(full) = self.full(&mut batches, &pool).await? {
                for rows in full {
                    if !self.send_rows(&rows, &pool).await? {
                        return Ok(false);
                    }
                }
            }
        }
        match self.writer.rest() {
            Some(rest) => self.send_rows(&rest, &pool).await,
            None => Ok(true),
        }
    }

    /// The rows of the frames that the next batch fills, or those that have waited long enough;
    /// none where no batch follows.
    async fn full(
        &mut self,
        batches: &mut SendableRecordBatchStream,
        pool: &Arc<QueryPool>,
    ) -> Result<Option<Vec<Vec<RecordBatch>>>> {
        let next = match self.writer.waiting_since() {
            None => batches.next().await,
            Some(since) => {
                let Ok(next) = tokio::time::timeout_at(since + ROWS_WAIT, batches.next()).await
                else {
                    return Ok(Some(self.writer.rest().into_iter().collect()));
                };
                next
            }
        };
        let Some(batch) = next else { return Ok(None) };
        let batch = batch.map_err(|error| crowded_out(error.into(), pool))?;
        let room = Arc::clone(pool) as Arc<dyn MemoryPool>;
        let full = self.writer.take(&batch, &room);
        Ok(Some(full.map_err(|error| crowded_out(error, pool))?))
    }

    async fn send_rows(&mut self, rows: &[RecordBatch], pool: &QueryPool) -> Result<bool> {
        let frame = self.writer.frame(rows);
        let frame = frame.map_err(|error| crowded_out(error, pool))?;
        self.step().await;
        Ok(self.send(frame).await)
    }

    /// False when nobody listens any more.
    async fn send(&self, frame: Frame) -> bool {
        self.sender.send(Ok(frame)).await.is_ok()
    }
}

/// Memory that other queries hold is not the user's fault.
fn crowded_out(error: Error, pool: &QueryPool) -> Error {
    if error.kind == ErrorKind::ResourceExhausted && pool.was_crowded_out() {
        let text = "the hub's memory is taken by other queries; try again in a moment";
        return Error::new(ErrorKind::Unavailable, text);
    }
    error
}

/// Writes an interim record whenever something was counted since the last; ends only when one
/// cannot be written, because nothing is served unrecorded.
async fn record(account: &Account) -> Error {
    let every = Duration::from_millis(account.hub.config.limits.interim_ms);
    let mut last = Measured::default();
    loop {
        tokio::time::sleep(every).await;
        let Some(measured) = account.measured().await else {
            return std::future::pending().await;
        };
        if measured == last {
            continue;
        }
        if let Err(error) = account.interim().await {
            return error;
        }
        last = measured;
    }
}

/// What the transport polls. Dropping it stops the work and settles as cancelled.
struct Running {
    frames: Frames,
    account: Arc<Account>,
    meter: Arc<Meter>,
    stop: Arc<Stop>,
    /// Whether every row was encoded and taken.
    task: JoinHandle<bool>,
    /// Bytes that were handed over since the last interim record for bytes.
    unrecorded: u64,
    interim_bytes: u64,
    _call: CallPlace,
}

impl Running {
    async fn next(&mut self) -> Option<Result<Message, Status>> {
        let frame = tokio::select! {
            biased;
            error = self.stop.ended() => return Some(Err(self.fail(error).await)),
            frame = self.frames.next() => frame,
        };
        match frame {
            Some(Ok(frame)) => match self.hand_over(&frame).await {
                Ok(true) => Some(Ok(frame.message)),
                Ok(false) => self.end().await,
                Err(error) => Some(Err(self.fail(error).await)),
            },
            Some(Err(error)) => Some(Err(self.fail(error).await)),
            None => self.end().await,
        }
    }

    /// Counts a frame, after recording what was counted before where that is much. False
    /// where the execution has settled already: then nothing more is handed over.
    async fn hand_over(&mut self, frame: &Frame) -> Result<bool> {
        if self.unrecorded >= self.interim_bytes {
            self.unrecorded = 0;
            if !self.account.interim().await? {
                return Ok(false);
            }
        }
        let slot = self.account.slot.lock().await;
        if slot.is_none() {
            return Ok(false);
        }
        self.unrecorded += frame.bytes();
        self.meter.handed(frame.rows, frame.bytes());
        Ok(true)
    }

    async fn fail(&mut self, error: Error) -> Status {
        self.frames.discard();
        self.account.fail(&error).await;
        error.into()
    }

    /// No frame follows: the end, unless the producer panicked, was ended, or settled while nobody
    /// read. Rows that are missing always show as an error: the producer may see the end of an
    /// execution, and close the frames, between two looks of this stream.
    async fn end(&mut self) -> Option<Result<Message, Status>> {
        if let Some(error) = self.account.failed.get() {
            return Some(Err(error.clone().into()));
        }
        let error = match (&mut self.task).await {
            Ok(true) => {
                self.account.settle(Outcome::Ok, "ok").await;
                return None;
            }
            Ok(false) => self.missing(),
            Err(lost) => Error::internal("an execution was lost", &lost),
        };
        Some(Err(self.fail(error).await))
    }

    /// Why not all rows came.
    fn missing(&self) -> Error {
        let failed = self.account.failed.get().cloned();
        failed.or_else(|| self.stop.why()).unwrap_or_else(|| {
            Error::internal("an execution ended without its rows", &"nobody ended it")
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // For what computes and never comes to where it could be aborted.
        self.stop.cancel();
        self.task.abort();
    }
}
