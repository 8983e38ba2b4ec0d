//! The queue, the threads that empty it, and what becomes of a batch.
//!
//! A thread does one part of a batch at a time: some results, or some time. The rest goes back
//! into the queue, and everything that holds between batches holds between parts: other tenants
//! have their turn, what expired or was cancelled is dropped, and a stream whose answers nobody
//! reads waits there without holding a thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use hubflight_compute::{Limits, Output, RowError};
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::{ANSWER_BYTES_MAX, BatchUsage, FunctionSpec};
use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use crate::Backend;
use crate::metrics::Metrics;
use crate::queue::{Load, Queue, QueueLimits, Waiting};

/// Bytes of results after which a part of a batch ends. Twice what batches usually have, and
/// small enough that a stream's unread parts (`STREAM_PARTS_MAX`) stay within 128 MiB, unless
/// single rows are larger.
const PART_BYTES_MAX: usize = 8 << 20;

/// Largest result of one row: with the part that it ends, it fits a message.
const RESULT_BYTES_MAX: usize = ANSWER_BYTES_MAX - PART_BYTES_MAX;

/// Work after which a part of a batch ends. With the row in hand, it is how long a batch goes
/// on after its stream has gone or its deadline has passed.
const PART_MS_MAX: u64 = 250;

/// A batch to execute, and where its answer goes.
pub(crate) struct Job {
    pub(crate) spec: &'static FunctionSpec,
    /// One array per parameter, as they travel, of the rows that are left.
    pub(crate) args: Vec<ArrayRef>,
    /// How many are left.
    pub(crate) rows: usize,
    /// Type of the result.
    pub(crate) value: DataType,
    pub(crate) arrived: Instant,
    /// Holds the stream's parts that are being made or wait to be read. A part is begun once
    /// it has a slot here: a thread that waited for one would stand still for everybody, while
    /// this way whoever does not read stops its own batches only.
    pub(crate) reply: mpsc::Sender<Outcome>,
    /// The batch's place among those of its stream, shared with the parts of its answer.
    pub(crate) place: Arc<OwnedSemaphorePermit>,
    /// What has been done so far; `items` are the rows.
    pub(crate) usage: BatchUsage,
}

impl Job {
    pub(crate) fn usage(seq: u64, spec: &FunctionSpec) -> BatchUsage {
        BatchUsage {
            seq,
            unit: spec.unit,
            ..BatchUsage::default()
        }
    }
}

/// What became of a batch.
pub(crate) enum Outcome {
    Done(Box<Done>),
    /// The batch's deadline passed while it waited.
    Expired,
    /// The arguments do not fit the function, or the stream is broken: it ends.
    Refused(tonic::Status),
}

/// A part of a batch that was executed.
pub(crate) struct Done {
    pub(crate) output: Output,
    pub(crate) usage: BatchUsage,
    /// Never read, but held: the batch gives its place up when the last part of its answer has
    /// been written.
    pub(crate) _place: Arc<OwnedSemaphorePermit>,
}

/// A batch to go on with, and the slot of its next part in the stream's channel; `None` where
/// the stream has gone.
type Next = (Waiting<Job>, Option<mpsc::OwnedPermit<Outcome>>);

/// Shared by the streams and the threads.
pub(crate) struct Engine {
    queue: Mutex<Queue<Job>>,
    /// A batch was pushed or became ready, or the worker stops.
    pushed: Condvar,
    /// A batch left the queue.
    left: Notify,
    stopping: AtomicBool,
    streams: AtomicU64,
    pub(crate) metrics: Metrics,
}

impl Engine {
    pub(crate) fn new(limits: QueueLimits) -> anyhow::Result<Self> {
        Ok(Self {
            queue: Mutex::new(Queue::new(limits)),
            pushed: Condvar::new(),
            left: Notify::new(),
            stopping: AtomicBool::new(false),
            streams: AtomicU64::new(0),
            metrics: Metrics::new()?,
        })
    }

    /// A number for a new stream.
    pub(crate) fn next_stream(&self) -> u64 {
        self.streams.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn load(&self) -> Load {
        self.queue.lock().load()
    }

    /// Queues a batch, after waiting for room.
    pub(crate) async fn submit(&self, waiting: Waiting<Job>) {
        let mut waiting = Some(waiting);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.try_push(&mut waiting) {
                return;
            }
            left.await;
        }
    }

    fn try_push(&self, waiting: &mut Option<Waiting<Job>>) -> bool {
        let mut queue = self.queue.lock();
        let fits = |w: &Waiting<Job>| queue.has_room(&w.tenant, w.rows, w.bytes);
        if !waiting.as_ref().is_none_or(fits) {
            return false;
        }
        if let Some(waiting) = waiting.take() {
            queue.push(waiting);
            self.gauge(queue.load());
            self.pushed.notify_one();
        }
        true
    }

    fn push_rest(&self, waiting: Waiting<Job>) {
        let mut queue = self.queue.lock();
        queue.push_rest(waiting);
        self.gauge(queue.load());
        self.pushed.notify_one();
    }

    /// Tells that a stream has read an answer: its next part has a slot now.
    pub(crate) fn answer_was_read(&self) {
        // Under the lock, so that no thread is between having looked and waiting.
        let queue = self.queue.lock();
        if queue.load().batches > 0 {
            self.pushed.notify_one();
        }
    }

    /// Drops what a stream that ended still has in the queue.
    pub(crate) fn cancel_stream(&self, stream: u64) {
        let removed = {
            let mut queue = self.queue.lock();
            let removed = queue.remove_stream(stream);
            self.gauge(queue.load());
            removed
        };
        for waiting in &removed {
            self.count(waiting.work.spec, "cancelled");
        }
        if !removed.is_empty() {
            self.left.notify_waiters();
        }
    }

    /// Lets the threads end once nothing is left that can be done.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let _queue = self.queue.lock();
        self.pushed.notify_all();
    }

    fn gauge(&self, load: Load) {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.queue_batches.set(number(load.batches));
        self.metrics.queue_bytes.set(number(load.bytes));
    }

    fn count(&self, spec: &FunctionSpec, outcome: &str) {
        let labels = [spec.name, outcome];
        self.metrics.batches.with_label_values(&labels).inc();
    }

    /// Executes batches until the worker stops: the body of a backend's thread.
    pub(crate) fn work(&self, backend: &mut dyn Backend) {
        while let Some((waiting, slot)) = self.next() {
            match slot {
                Some(slot) => self.execute(backend, waiting, slot),
                None => self.count(waiting.work.spec, "cancelled"),
            }
        }
    }

    fn next(&self) -> Option<Next> {
        let mut queue = self.queue.lock();
        loop {
            let mut slot = None;
            let popped = queue.pop(unix_ms(), |job: &Job| {
                match job.reply.clone().try_reserve_owned() {
                    Ok(reserved) => slot = Some(reserved),
                    Err(TrySendError::Closed(_)) => {}
                    Err(TrySendError::Full(_)) => return false,
                }
                true
            });
            self.gauge(queue.load());
            if popped.next.is_some() || !popped.expired.is_empty() {
                self.left.notify_waiters();
            }
            for expired in popped.expired {
                self.count(expired.work.spec, "expired");
                // Where the channel is full, the stream's reader, which has the same deadline,
                // waits to tell it; where it is closed, nobody listens.
                let _ = expired.work.reply.try_send(Outcome::Expired);
            }
            if let Some(next) = popped.next {
                return Some((next, slot));
            }
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            self.pushed.wait(&mut queue);
        }
    }

    /// Executes a part of a batch, sends it into its `slot`, and queues the rest.
    fn execute(
        &self,
        backend: &mut dyn Backend,
        mut waiting: Waiting<Job>,
        slot: mpsc::OwnedPermit<Outcome>,
    ) {
        let job = &mut waiting.work;
        let started = Instant::now();
        if job.usage.items == 0 {
            let queued = started.duration_since(job.arrived);
            job.usage.queue_us = micros(queued);
            self.metrics.queue_seconds.observe(queued.as_secs_f64());
        }
        let output = match run(backend, job, started) {
            Ok(output) => output,
            Err(refusal) => {
                self.count(job.spec, "refused");
                slot.send(Outcome::Refused(refusal));
                return;
            }
        };
        job.usage.host_us += micros(started.elapsed());
        job.usage.device_us += backend.device_us();
        let usage = self.account(job, &output);
        let done = Done {
            output,
            usage,
            _place: Arc::clone(&job.place),
        };
        slot.send(Outcome::Done(Box::new(done)));
        if job.rows > 0 {
            waiting.rows = job.rows;
            self.push_rest(waiting);
        }
    }

    /// Adds a part to what its batch has done, and says what its message tells: of all parts
    /// only the last tells how much work it was.
    fn account(&self, job: &mut Job, output: &Output) -> BatchUsage {
        let (done, failed) = (output.values.len(), output.errors.len());
        let label = [job.spec.name];
        let add = |counter: &prometheus::IntCounterVec, value: u64| {
            counter.with_label_values(&label).inc_by(value);
        };
        add(&self.metrics.rows, done as u64);
        add(&self.metrics.rows_failed, failed as u64);
        add(&self.metrics.units, output.units);

        let row = job.usage.items;
        job.rows -= done;
        for arg in &mut job.args {
            *arg = arg.slice(done, job.rows);
        }
        job.usage.items += done as u64;
        job.usage.failed += failed as u64;
        job.usage.units += output.units;
        if job.rows > 0 {
            return BatchUsage {
                seq: job.usage.seq,
                row,
                ..BatchUsage::default()
            };
        }
        let all_failed = job.usage.items > 0 && job.usage.failed == job.usage.items;
        self.count(job.spec, if all_failed { "failed" } else { "done" });
        let seconds = Duration::from_micros(job.usage.host_us).as_secs_f64();
        self.metrics.execute_seconds.observe(seconds);
        BatchUsage {
            row,
            last: true,
            ..job.usage.clone()
        }
    }
}

/// The next part of a batch; all that is left of it, failed, where the backend has a defect.
fn run(backend: &mut dyn Backend, job: &Job, started: Instant) -> Result<Output, tonic::Status> {
    let limits = Limits {
        part_bytes_max: PART_BYTES_MAX,
        row_bytes_max: RESULT_BYTES_MAX,
        until: started + Duration::from_millis(PART_MS_MAX),
    };
    let call = AssertUnwindSafe(|| backend.execute(job.spec.name, &job.args, job.rows, &limits));
    let function = job.spec.name;
    match catch_unwind(call) {
        Ok(Ok(output)) if fits(&output, job) => return Ok(output),
        Ok(Err(error)) => return Err(tonic::Status::invalid_argument(error.to_string())),
        Ok(Ok(_)) => tracing::error!(function, "a result does not fit its function"),
        Err(_) => tracing::error!(function, "a backend panicked on a batch"),
    }
    Ok(all_failed(job))
}

fn fits(output: &Output, job: &Job) -> bool {
    let done = output.values.len();
    done <= job.rows
        && (done > 0 || job.rows == 0)
        && output.values.data_type() == &job.value
        && output.errors.iter().all(|error| error.row < done)
}

fn all_failed(job: &Job) -> Output {
    let failed = |row| RowError {
        row,
        reason: "the function failed on this batch".into(),
    };
    Output {
        values: new_null_array(&job.value, job.rows),
        errors: (0..job.rows).map(failed).collect(),
        units: 0,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
