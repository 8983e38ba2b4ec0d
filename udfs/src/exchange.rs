//! One `DoExchange` stream to one worker: batches out, answers back by their number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::{RecordBatch, StringArray, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow_flight::{FlightData, FlightDescriptor};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use futures::{FutureExt, StreamExt, stream};
use hubflight_protocol::wire::{BatchWriter, is_batch, read_batch, read_schema};
use hubflight_protocol::{BatchTag, BatchUsage, Key, answer_schema};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::WorkError;
use crate::pool::{Worker, WorkerPool, reason};

/// Messages of a stream that wait for the transport.
const OUTBOX_MESSAGES_MAX: usize = 4;

/// Why a stream ended before its answers came.
#[derive(Clone, Debug)]
pub(crate) enum Broken {
    /// The worker went away or could not be reached: another may do the work.
    Gone(String),
    /// The worker says that the deadline has passed, by its clock.
    Deadline,
    /// There is no memory for an answer.
    Memory(String),
    /// The worker refuses what was sent: no other will take it.
    Refused(String),
}

impl From<&Status> for Broken {
    fn from(status: &Status) -> Self {
        match status.code() {
            Code::DeadlineExceeded => Self::Deadline,
            Code::InvalidArgument | Code::NotFound | Code::Unimplemented | Code::OutOfRange => {
                Self::Refused(status.message().to_owned())
            }
            _ => Self::Gone(reason(status)),
        }
    }
}

/// The answer to one batch: as many rows as were sent.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Columns `value` and `error`.
    pub(crate) rows: RecordBatch,
    /// What a worker did for it.
    pub(crate) usage: Option<BatchUsage>,
    /// The memory that it takes.
    pub(crate) memory: MemoryReservation,
}

impl Answer {
    /// The answer for a row that no worker can answer.
    pub(crate) fn failed(
        value: &DataType,
        reason: &str,
        memory: MemoryReservation,
    ) -> Result<Self, ArrowError> {
        let columns = vec![
            new_null_array(value, 1),
            Arc::new(StringArray::from(vec![reason])) as _,
        ];
        Ok(Self {
            rows: RecordBatch::try_new(answer_schema(value.clone()), columns)?,
            usage: None,
            memory,
        })
    }
}

/// A whole answer as it came, read by whoever waits for it.
struct Parts {
    schema: SchemaRef,
    messages: Vec<FlightData>,
    usage: BatchUsage,
    memory: MemoryReservation,
}

/// Somebody who waits for an answer, of which some parts may have come.
struct Waiting {
    /// None once the answer has failed; what else comes of it is dropped.
    sender: Option<oneshot::Sender<Result<Parts, Broken>>>,
    messages: Vec<FlightData>,
    memory: MemoryReservation,
}

#[derive(Default)]
struct Pending {
    waiting: HashMap<u64, Waiting>,
    broken: Option<Broken>,
}

/// A stream of calls of one function to one worker. Dropping it cancels what it still holds,
/// here and, through the transport, in the worker.
pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    outbox: mpsc::Sender<FlightData>,
    writer: Mutex<BatchWriter>,
    shared: Arc<Shared>,
    seq: AtomicU64,
    reader: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// The worker has taken the stream, and has proved that it is one.
    accepted: AtomicBool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Exchange {
    /// Opens a stream whose batches will have `schema`. Failure shows in the first call.
    pub(crate) fn open(
        worker: Arc<Worker>,
        pool: &WorkerPool,
        sealed: &str,
        schema: &SchemaRef,
    ) -> Self {
        let writer = BatchWriter::default();
        let descriptor = FlightDescriptor::new_cmd(sealed.as_bytes().to_vec());
        let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGES_MAX);
        let shared = Arc::new(Shared::default());
        let opening = Opening {
            first: writer.schema(schema, Some(descriptor)),
            inbox,
            sealed: sealed.to_owned(),
            key: pool.key.clone(),
        };
        let reader = read(Arc::clone(&worker), opening, Arc::clone(&shared));
        Self {
            worker,
            outbox,
            writer: Mutex::new(writer),
            shared,
            seq: AtomicU64::new(0),
            reader: pool.io.spawn(reader),
        }
    }

    /// True once the worker has taken the stream.
    pub(crate) fn is_accepted(&self) -> bool {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Sends `batch` and waits for its answer, which is held in `memory`.
    pub(crate) async fn call(
        &self,
        batch: &RecordBatch,
        memory: MemoryReservation,
    ) -> Result<Answer, Broken> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let refused = |error: ArrowError| Broken::Refused(error.to_string());
        let message = self.writer.lock().batch(batch, &BatchTag { seq });
        let message = message.map_err(refused)?;
        let answer = self.shared.expect(seq, memory)?;
        let _in_flight = self.worker.take_batch();
        if self.outbox.send(message).await.is_err() {
            return Err(self.shared.why_broken());
        }
        let parts = answer.await.map_err(|_| self.shared.why_broken())??;
        let batches = parts
            .messages
            .iter()
            .map(|message| read_batch(message, Arc::clone(&parts.schema)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        let rows = match <[RecordBatch; 1]>::try_from(batches) {
            Ok([only]) => only,
            Err(parted) => concat_batches(&parts.schema, &parted).map_err(refused)?,
        };
        Ok(Answer {
            rows,
            usage: Some(parts.usage),
            memory: parts.memory,
        })
    }
}

impl Shared {
    /// Prepares to receive the answer `seq`.
    fn expect(
        &self,
        seq: u64,
        memory: MemoryReservation,
    ) -> Result<oneshot::Receiver<Result<Parts, Broken>>, Broken> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending.lock();
        if let Some(broken) = &pending.broken {
            return Err(broken.clone());
        }
        let waiting = Waiting {
            sender: Some(sender),
            messages: Vec::new(),
            memory,
        };
        pending.waiting.insert(seq, waiting);
        Ok(receiver)
    }

    fn why_broken(&self) -> Broken {
        let broken = self.pending.lock().broken.clone();
        broken.unwrap_or_else(|| Broken::Gone("the stream to the worker ended".into()))
    }

    /// Ends the stream for all who wait, and for all who come later.
    fn end(&self, broken: Broken) {
        let mut pending = self.pending.lock();
        for (_, mut waiting) in pending.waiting.drain() {
            waiting.tell(Err(broken.clone()));
        }
        pending.broken = Some(broken);
    }

    /// Takes in an answer or a part of one.
    fn arrived(
        &self,
        message: FlightData,
        usage: BatchUsage,
        schema: &SchemaRef,
    ) -> Result<(), Broken> {
        let mut pending = self.pending.lock();
        let Some(waiting) = pending.waiting.get_mut(&usage.seq) else {
            return Err(garbled("it answers a batch that it was not sent"));
        };
        if let Err(error) = waiting.memory.try_grow(message.data_body.len()) {
            waiting.tell(Err(Broken::Memory(no_memory(&error))));
        }
        match waiting.sender {
            Some(_) => waiting.messages.push(message),
            None => waiting.messages.clear(),
        }
        if usage.last
            && let Some(mut waiting) = pending.waiting.remove(&usage.seq)
        {
            let parts = Parts {
                schema: Arc::clone(schema),
                messages: std::mem::take(&mut waiting.messages),
                usage,
                memory: waiting.memory.take(),
            };
            waiting.tell(Ok(parts));
        }
        Ok(())
    }
}

impl Waiting {
    fn tell(&mut self, answer: Result<Parts, Broken>) {
        if let Some(sender) = self.sender.take() {
            // Whoever no longer waits has been cancelled.
            let _ = sender.send(answer);
        }
    }
}

fn no_memory(error: &DataFusionError) -> String {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(text) => text.clone(),
        other => other.to_string(),
    }
}

fn garbled(what: &str) -> Broken {
    Broken::Refused(format!("a worker breaks the protocol: {what}"))
}

/// What a stream begins with.
struct Opening {
    first: FlightData,
    /// Batches to send, once the worker has proved itself.
    inbox: mpsc::Receiver<FlightData>,
    sealed: String,
    key: Key,
}

/// Reads answers until the stream ends, for whatever reason.
async fn read(worker: Arc<Worker>, opening: Opening, shared: Arc<Shared>) {
    let broken = match answers(&worker, opening, &shared).await {
        Ok(()) => Broken::Gone("the worker ended the stream".into()),
        Err(broken) => broken,
    };
    // At once, and not when a statement next looks: by then the worker may be well again.
    if let Broken::Gone(reason) = &broken {
        worker.failed(reason);
    }
    shared.end(broken);
}

async fn answers(worker: &Worker, opening: Opening, shared: &Shared) -> Result<(), Broken> {
    let Opening {
        first,
        inbox,
        sealed,
        key,
    } = opening;
    let (prove, proved) = oneshot::channel::<()>();
    // Arguments are patients' data: none leaves before the other side has shown the key.
    let batches =
        proved.map(|proved| stream::iter(proved.ok().map(|()| ReceiverStream::new(inbox))));
    let requests = stream::iter([first]).chain(batches.flatten_stream().flatten());
    let response = worker.client().do_exchange(requests).await;
    let mut answers = response
        .map_err(|status| Broken::from(&status))?
        .into_inner();
    let Some(schema) = next(&mut answers).await? else {
        return Ok(());
    };
    if !key.verify_proof(&sealed, &schema.app_metadata) {
        return Err(Broken::Refused(format!(
            "the process at {} does not hold the workers' key",
            worker.address
        )));
    }
    let schema = read_schema(&schema).map_err(|e| garbled(&e.to_string()))?;
    shared.accepted.store(true, Ordering::Release);
    // It fails only where nobody sends any more.
    let _ = prove.send(());
    let mut answered = false;
    while let Some(message) = next(&mut answers).await? {
        let usage: BatchUsage = serde_json::from_slice(&message.app_metadata)
            .map_err(|e| garbled(&format!("its usage is not understood: {e}")))?;
        shared.arrived(message, usage, &schema)?;
        if !std::mem::replace(&mut answered, true) {
            worker.succeeded();
        }
    }
    Ok(())
}

/// The next message that is more than metadata.
async fn next(answers: &mut Streaming<FlightData>) -> Result<Option<FlightData>, Broken> {
    loop {
        let message = answers.message().await;
        match message.map_err(|status| Broken::from(&status))? {
            Some(message) if !is_batch(&message) => {}
            message => return Ok(message),
        }
    }
}

/// Checks that `answer` is what `sent` asked for.
pub(crate) fn check_answer(
    answer: &Answer,
    sent: usize,
    value: &DataType,
) -> Result<(), WorkError> {
    let expected = answer_schema(value.clone());
    let schema = answer.rows.schema();
    let same = schema.fields().len() == expected.fields().len()
        && schema
            .fields()
            .iter()
            .zip(expected.fields())
            .all(|(found, wanted)| {
                found.name() == wanted.name() && found.data_type() == wanted.data_type()
            });
    if same && answer.rows.num_rows() == sent {
        return Ok(());
    }
    Err(WorkError::Internal(
        "a worker's answer does not fit the call: run the same version on servers and workers"
            .into(),
    ))
}
