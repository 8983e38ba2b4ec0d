//! Calls of one function on one partition: which worker, and again when a worker dies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use hubflight_protocol::FunctionSpec;
use hubflight_protocol::envelope::unix_ms;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::exchange::{Answer, Broken, Exchange, check_answer};
use crate::pool::Worker;
use crate::{StatementWork, WorkError};

/// How many workers may die over a batch before it is split in halves. Functions are pure, so a
/// batch can be sent again; but a row that ends workers must not end them all, nor take the
/// rows beside it along. A batch of another statement that merely was there survives this.
const BATCH_DEATHS_MAX: u32 = 2;

/// How many workers may die over a single row before it fails.
const ROW_DEATHS_MAX: u32 = 4;

/// Why such a row fails.
const ROW_DEATHS_REASON: &str = "the function ended its worker on this row";

/// What a worker means that ends a stream for its deadline before that has come.
const CLOCK_REASON: &str =
    "the worker says that the deadline has passed: compare its clock with the server's";

/// Longest deadline that is waited for, beyond any that a server would set.
const DEADLINE_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Sends batches of one function's arguments to the least loaded worker, over one stream per
/// worker, until the statement's deadline.
pub(crate) struct Caller {
    work: Arc<StatementWork>,
    value: DataType,
    schema: SchemaRef,
    sealed: String,
    deadline: Instant,
    streams: Mutex<HashMap<String, Arc<Exchange>>>,
}

impl Caller {
    /// `schema` is that of the arguments, `value` the type of the result.
    pub(crate) fn new(
        work: Arc<StatementWork>,
        spec: &'static FunctionSpec,
        schema: SchemaRef,
        value: DataType,
    ) -> Result<Self, WorkError> {
        let sealed = work
            .envelope(spec.name)
            .seal(&work.pool.key)
            .map_err(|error| WorkError::Internal(error.to_string()))?;
        let left = work.deadline.saturating_sub(unix_ms()).min(DEADLINE_MS_MAX);
        Ok(Self {
            deadline: Instant::now() + Duration::from_millis(left),
            work,
            value,
            schema,
            sealed,
            streams: Mutex::default(),
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The answers to `batch`, in order: one, or several where it had to be split. They are
    /// held in reservations like `memory`.
    pub(crate) async fn call(
        &self,
        batch: RecordBatch,
        memory: &MemoryReservation,
    ) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(1);
        // The next piece last. One after the other, so that a half which ends workers does not
        // count against the other.
        let mut pieces = vec![batch];
        while let Some(piece) = pieces.pop() {
            let rows = piece.num_rows();
            if let Some(answer) = self.call_whole(&piece, memory).await? {
                answers.push(answer);
            } else if rows == 1 {
                let (value, memory) = (&self.value, memory.new_empty());
                answers.push(Answer::failed(value, ROW_DEATHS_REASON, memory)?);
            } else {
                let half = rows / 2;
                pieces.push(piece.slice(half, rows - half));
                pieces.push(piece.slice(0, half));
            }
        }
        Ok(answers)
    }

    /// The answer to `batch`, or `None` where too many workers died over it.
    async fn call_whole(
        &self,
        batch: &RecordBatch,
        memory: &MemoryReservation,
    ) -> Result<Option<Answer>> {
        let deaths_max = match batch.num_rows() {
            1 => ROW_DEATHS_MAX,
            _ => BATCH_DEATHS_MAX,
        };
        let mut deaths = 0;
        let mut taken = false;
        let mut last = String::from("no worker has taken the work yet");
        while deaths < deaths_max {
            let Some(worker) = self.pick().await? else {
                return Err(late(taken, last).into());
            };
            let stream = self.stream(&worker);
            let called = stream.call(batch, memory.new_empty());
            let answer = timeout_at(self.deadline, called).await;
            taken |= stream.is_accepted();
            let reason = match answer {
                Err(_) => return Err(late(taken, last).into()),
                Ok(Ok(answer)) => {
                    check_answer(&answer, batch.num_rows(), &self.value)?;
                    return Ok(Some(answer));
                }
                Ok(Err(Broken::Refused(reason))) => return Err(WorkError::Internal(reason).into()),
                Ok(Err(Broken::Memory(text))) => {
                    return Err(DataFusionError::ResourcesExhausted(text));
                }
                Ok(Err(Broken::Deadline)) if Instant::now() >= self.deadline => {
                    return Err(late(taken, last).into());
                }
                Ok(Err(Broken::Deadline)) => {
                    worker.failed(CLOCK_REASON);
                    CLOCK_REASON.to_owned()
                }
                Ok(Err(Broken::Gone(reason))) => {
                    deaths += u32::from(stream.is_accepted());
                    reason
                }
            };
            self.forget(&stream);
            last = reason;
        }
        Ok(None)
    }

    /// A worker that is not resting; waits for one, but not past the deadline (`None`).
    async fn pick(&self) -> Result<Option<Arc<Worker>>, WorkError> {
        loop {
            let now = Instant::now();
            let rest = match self.work.pool.pick() {
                None => {
                    let reason = "no worker is configured".into();
                    return Err(WorkError::Unavailable { reason });
                }
                _ if now >= self.deadline => return Ok(None),
                Some(Ok(worker)) => return Ok(Some(worker)),
                Some(Err(rest)) => rest,
            };
            sleep_until(self.deadline.min(now + rest.max(Duration::from_millis(1)))).await;
        }
    }

    /// The open stream to `worker`, or a new one.
    fn stream(&self, worker: &Arc<Worker>) -> Arc<Exchange> {
        let mut streams = self.streams.lock();
        if let Some(stream) = streams.get(&worker.address) {
            return Arc::clone(stream);
        }
        let pool = &self.work.pool;
        let stream = Exchange::open(Arc::clone(worker), pool, &self.sealed, &self.schema);
        let stream = Arc::new(stream);
        streams.insert(worker.address.clone(), Arc::clone(&stream));
        stream
    }

    /// Drops a broken stream, unless another of its batches has done so.
    fn forget(&self, broken: &Arc<Exchange>) {
        let mut streams = self.streams.lock();
        let address = &broken.worker.address;
        if streams
            .get(address)
            .is_some_and(|stream| Arc::ptr_eq(stream, broken))
        {
            streams.remove(address);
        }
    }
}

/// What to say at the deadline, where a worker had `taken` the work or none had.
fn late(taken: bool, reason: String) -> WorkError {
    match taken {
        true => WorkError::DeadlineExceeded,
        false => WorkError::Unavailable { reason },
    }
}
