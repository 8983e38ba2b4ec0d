//! The queue, the threads that empty it, and what becomes of a batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::DataType;
use hubflight_compute::{ComputeError, Output, RowError};
use hubflight_protocol::FunctionSpec;
use hubflight_protocol::envelope::unix_ms;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use crate::Backend;
use crate::metrics::Metrics;
use crate::queue::{Load, Queue, QueueLimits, Waiting};

/// A batch to execute, and where its answer goes.
pub(crate) struct Job {
    pub(crate) seq: u64,
    pub(crate) spec: &'static FunctionSpec,
    /// One array per parameter, as they travel.
    pub(crate) args: Vec<ArrayRef>,
    pub(crate) rows: usize,
    /// Type of the result.
    pub(crate) value: DataType,
    pub(crate) arrived: Instant,
    pub(crate) reply: mpsc::Sender<Outcome>,
    /// The batch's place among those of its stream, held until the answer is written.
    pub(crate) place: OwnedSemaphorePermit,
}

/// What became of a batch.
pub(crate) enum Outcome {
    Done(Box<Done>),
    /// The batch's deadline passed while it waited.
    Expired,
    /// The arguments do not fit the function, or the stream is broken: it ends.
    Refused(tonic::Status),
}

/// A batch that was executed.
pub(crate) struct Done {
    pub(crate) seq: u64,
    pub(crate) spec: &'static FunctionSpec,
    pub(crate) rows: usize,
    pub(crate) output: Output,
    pub(crate) queue_us: u64,
    pub(crate) host_us: u64,
    pub(crate) device_us: u64,
    pub(crate) place: OwnedSemaphorePermit,
}

/// Shared by the streams and the threads.
pub(crate) struct Engine {
    queue: Mutex<Queue<Job>>,
    /// A batch was pushed, or the worker stops.
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

    /// Lets the threads end once the queue is empty.
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
        while let Some(waiting) = self.next() {
            if waiting.work.reply.is_closed() {
                self.count(waiting.work.spec, "cancelled");
                continue;
            }
            self.execute(backend, waiting.work);
        }
    }

    fn next(&self) -> Option<Waiting<Job>> {
        let mut queue = self.queue.lock();
        loop {
            let popped = queue.pop(unix_ms());
            self.gauge(queue.load());
            if popped.next.is_some() || !popped.expired.is_empty() {
                self.left.notify_waiters();
            }
            for expired in popped.expired {
                self.count(expired.work.spec, "expired");
                // The place of each batch leaves room for its answer; a closed channel is a
                // stream that went away.
                let _ = expired.work.reply.try_send(Outcome::Expired);
            }
            if popped.next.is_some() {
                return popped.next;
            }
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            self.pushed.wait(&mut queue);
        }
    }

    fn execute(&self, backend: &mut dyn Backend, job: Job) {
        let started = Instant::now();
        let queued = started.duration_since(job.arrived);
        let run = AssertUnwindSafe(|| backend.execute(job.spec.name, &job.args, job.rows));
        let result = catch_unwind(run);
        let took = started.elapsed();
        self.metrics.queue_seconds.observe(queued.as_secs_f64());
        self.metrics.execute_seconds.observe(took.as_secs_f64());

        let output = match result {
            Ok(Ok(output)) if fits(&output, &job) => output,
            Ok(Err(error)) => {
                self.count(job.spec, "refused");
                let _ = job.reply.try_send(Outcome::Refused(refusal(&error)));
                return;
            }
            Ok(Ok(_)) => {
                tracing::error!(
                    function = job.spec.name,
                    "a result does not fit its function"
                );
                all_failed(&job)
            }
            Err(_) => {
                tracing::error!(function = job.spec.name, "a backend panicked on a batch");
                all_failed(&job)
            }
        };
        self.measure(&job, &output);
        let micros =
            |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let done = Done {
            seq: job.seq,
            spec: job.spec,
            rows: job.rows,
            output,
            queue_us: micros(queued),
            host_us: micros(took),
            device_us: backend.device_us(),
            place: job.place,
        };
        let _ = job.reply.try_send(Outcome::Done(Box::new(done)));
    }

    fn measure(&self, job: &Job, output: &Output) {
        let failed = output.errors.len();
        let outcome = match failed {
            failed if failed == job.rows && job.rows > 0 => "failed",
            _ => "done",
        };
        self.count(job.spec, outcome);
        let label = [job.spec.name];
        let add = |counter: &prometheus::IntCounterVec, value: u64| {
            counter.with_label_values(&label).inc_by(value);
        };
        add(&self.metrics.rows, job.rows as u64);
        add(&self.metrics.rows_failed, failed as u64);
        add(&self.metrics.units, output.units);
    }
}

fn fits(output: &Output, job: &Job) -> bool {
    output.values.len() == job.rows
        && output.values.data_type() == &job.value
        && output.errors.iter().all(|error| error.row < job.rows)
}

fn refusal(error: &ComputeError) -> tonic::Status {
    tonic::Status::invalid_argument(error.to_string())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use hubflight_protocol::function;
    use tokio::sync::Semaphore;

    /// Does to a batch what its first value says.
    struct Moody;

    impl Backend for Moody {
        fn device(&self) -> &str {
            "moody"
        }

        fn execute(
            &mut self,
            _function: &str,
            args: &[ArrayRef],
            _rows: usize,
        ) -> Result<Output, ComputeError> {
            use arrow::array::AsArray;
            let values = args[0].as_primitive::<arrow::datatypes::Int64Type>();
            match values.value(0) {
                0 => panic!("a defect in a codec"),
                1 => Ok(Output {
                    values: Arc::new(Int64Array::from(vec![1])),
                    errors: Vec::new(),
                    units: 1,
                }),
                _ => Ok(Output {
                    values: Arc::clone(&args[0]),
                    errors: Vec::new(),
                    units: 2,
                }),
            }
        }
    }

    fn run(batches: &[&[i64]], deadline: u64) -> anyhow::Result<Vec<Outcome>> {
        let engine = Engine::new(QueueLimits::default())?;
        let (reply, mut outcomes) = mpsc::channel(batches.len());
        let places = Arc::new(Semaphore::new(batches.len()));
        for (seq, batch) in batches.iter().enumerate() {
            let job = Job {
                seq: seq as u64,
                spec: function("echo").ok_or_else(|| anyhow::anyhow!("no echo"))?,
                args: vec![Arc::new(Int64Array::from(batch.to_vec()))],
                rows: batch.len(),
                value: DataType::Int64,
                arrived: Instant::now(),
                reply: reply.clone(),
                place: Arc::clone(&places).try_acquire_owned()?,
            };
            let waiting = Waiting {
                stream: 1,
                tenant: "t".into(),
                priority: 0,
                deadline,
                rows: batch.len(),
                bytes: 8 * batch.len(),
                work: job,
            };
            assert!(engine.try_push(&mut Some(waiting)));
        }
        drop(reply);
        engine.stop();
        engine.work(&mut Moody);
        assert_eq!(engine.load(), Load::default());
        Ok(std::iter::from_fn(|| outcomes.try_recv().ok()).collect())
    }

    /// A panic and a wrong result cost their own batch, every row of it, and nothing else.
    #[test]
    fn a_defect_costs_its_own_batch() -> anyhow::Result<()> {
        let outcomes = run(&[&[5, 6], &[0, 7, 8], &[1, 2], &[9]], u64::MAX)?;
        let told: Vec<(u64, usize, usize, u64)> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Done(done) => (
                    done.seq,
                    done.output.errors.len(),
                    done.output.values.null_count(),
                    done.output.units,
                ),
                _ => (u64::MAX, 0, 0, 0),
            })
            .collect();
        assert_eq!(
            told,
            [(0, 0, 0, 2), (1, 3, 3, 0), (2, 2, 2, 0), (3, 0, 0, 2)]
        );
        Ok(())
    }

    #[test]
    fn what_expired_is_told_so() -> anyhow::Result<()> {
        let outcomes = run(&[&[5], &[6]], unix_ms())?;
        assert_eq!(outcomes.len(), 2);
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Outcome::Expired))
        );
        Ok(())
    }
}
