//! Calls of one function on one partition: which worker, and again when a worker dies.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use hubflight_protocol::FunctionSpec;
use hubflight_protocol::envelope::unix_ms;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::exchange::{Answer, Broken, Exchange, check_answer};
use crate::pool::Worker;
use crate::{StatementWork, WorkError};

/// How many workers may die over one batch before it is given up. Functions are pure, so a
/// batch can be sent again; a batch that kills workers must not kill them all.
const BATCH_ATTEMPTS_MAX: u32 = 4;

/// Longest deadline that is waited for, beyond any that a server would set.
const DEADLINE_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Sends batches of one function's arguments to the least loaded worker, over one stream per
/// worker, until the statement's deadline.
pub(crate) struct Caller {
    work: Arc<StatementWork>,
    spec: &'static FunctionSpec,
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
            spec,
            value,
            schema,
            sealed,
            streams: Mutex::default(),
        })
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The answer to `batch`, metered.
    pub(crate) async fn call(&self, batch: &RecordBatch) -> Result<Answer, WorkError> {
        let mut attempts = 0;
        let mut last = String::from("no worker is configured");
        loop {
            let worker = self.pick(&last).await?;
            let stream = self.stream(&worker);
            let answer = match timeout_at(self.deadline, stream.call(batch)).await {
                Ok(answer) => answer,
                Err(_) if stream.is_accepted() => return Err(WorkError::DeadlineExceeded),
                Err(_) => return Err(WorkError::Unavailable { reason: last }),
            };
            let reason = match answer {
                Ok(answer) => {
                    check_answer(&answer, batch.num_rows(), &self.value)?;
                    let (name, unit) = (self.spec.name, self.spec.unit);
                    self.work.meter.work(name, unit, &answer.usage);
                    return Ok(answer);
                }
                Err(Broken::Deadline) => return Err(WorkError::DeadlineExceeded),
                Err(Broken::Refused(reason)) => return Err(WorkError::Internal(reason)),
                Err(Broken::Gone(reason)) => reason,
            };
            attempts += u32::from(stream.is_accepted());
            self.forget(&stream, &reason);
            if attempts >= BATCH_ATTEMPTS_MAX {
                let reason =
                    format!("{attempts} workers failed on one batch, the last because: {reason}");
                return Err(WorkError::Unavailable { reason });
            }
            last = reason;
        }
    }

    /// A worker that is not resting; waits for one until the deadline.
    async fn pick(&self, last: &str) -> Result<Arc<Worker>, WorkError> {
        let unavailable = || WorkError::Unavailable {
            reason: last.to_owned(),
        };
        loop {
            let now = Instant::now();
            let rest = match self.work.pool.pick() {
                _ if now >= self.deadline => return Err(unavailable()),
                None => return Err(unavailable()),
                Some(Ok(worker)) => return Ok(worker),
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
        let stream = Exchange::open(Arc::clone(worker), &pool.io, &self.sealed, &self.schema);
        let stream = Arc::new(stream);
        streams.insert(worker.address.clone(), Arc::clone(&stream));
        stream
    }

    /// Drops a broken stream. The first of its batches to notice tells the pool.
    fn forget(&self, broken: &Arc<Exchange>, reason: &str) {
        let mut streams = self.streams.lock();
        let address = &broken.worker.address;
        if streams
            .get(address)
            .is_some_and(|stream| Arc::ptr_eq(stream, broken))
        {
            streams.remove(address);
            broken.worker.failed(reason);
        }
    }
}
