//! One `DoExchange` stream to one worker: batches out, answers back by their number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow_flight::{FlightData, FlightDescriptor};
use hubflight_protocol::wire::{BatchWriter, is_batch, read_batch, read_schema};
use hubflight_protocol::{BatchTag, BatchUsage, answer_schema};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::WorkError;
use crate::pool::{Worker, reason};

/// Messages of a stream that wait for the transport.
const OUTBOX_MESSAGES_MAX: usize = 4;

/// Why a stream ended before its answers came.
#[derive(Clone, Debug)]
pub(crate) enum Broken {
    /// The worker went away or could not be reached: another may do the work.
    Gone(String),
    /// The worker says that the deadline has passed.
    Deadline,
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
    pub(crate) usage: BatchUsage,
}

/// The parts of an answer as they came, read by whoever waits for it.
struct Parts {
    schema: SchemaRef,
    messages: Vec<FlightData>,
    usage: BatchUsage,
}

#[derive(Default)]
struct Pending {
    waiting: HashMap<u64, oneshot::Sender<Result<Parts, Broken>>>,
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
    /// The worker has taken the stream.
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
        io: &tokio::runtime::Handle,
        sealed: &str,
        schema: &SchemaRef,
    ) -> Self {
        let writer = BatchWriter::default();
        let descriptor = FlightDescriptor::new_cmd(sealed.as_bytes().to_vec());
        let first = writer.schema(schema, Some(descriptor));
        let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGES_MAX);
        let shared = Arc::new(Shared::default());
        let reader = io.spawn(read(Arc::clone(&worker), first, inbox, Arc::clone(&shared)));
        Self {
            worker,
            outbox,
            writer: Mutex::new(writer),
            shared,
            seq: AtomicU64::new(0),
            reader,
        }
    }

    /// True once the worker has taken the stream.
    pub(crate) fn is_accepted(&self) -> bool {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// Sends `batch` and waits for its answer.
    pub(crate) async fn call(&self, batch: &RecordBatch) -> Result<Answer, Broken> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let refused = |error: arrow::error::ArrowError| Broken::Refused(error.to_string());
        let message = self.writer.lock().batch(batch, &BatchTag { seq });
        let message = message.map_err(refused)?;
        let answer = self.shared.expect(seq)?;
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
            usage: parts.usage,
        })
    }
}

impl Shared {
    /// Prepares to receive the answer `seq`.
    fn expect(&self, seq: u64) -> Result<oneshot::Receiver<Result<Parts, Broken>>, Broken> {
        let (sender, receiver) = oneshot::channel();
        let mut pending = self.pending.lock();
        if let Some(broken) = &pending.broken {
            return Err(broken.clone());
        }
        pending.waiting.insert(seq, sender);
        Ok(receiver)
    }

    fn why_broken(&self) -> Broken {
        let broken = self.pending.lock().broken.clone();
        broken.unwrap_or_else(|| Broken::Gone("the stream to the worker ended".into()))
    }

    /// Ends the stream for all who wait, and for all who come later.
    fn end(&self, broken: Broken) {
        let mut pending = self.pending.lock();
        for (_, waiting) in pending.waiting.drain() {
            // Whoever no longer waits has been cancelled.
            let _ = waiting.send(Err(broken.clone()));
        }
        pending.broken = Some(broken);
    }

    fn answer(&self, parts: Parts) -> Result<(), Broken> {
        let waiting = self.pending.lock().waiting.remove(&parts.usage.seq);
        let waiting = waiting.ok_or_else(|| garbled("it answers a batch that it was not sent"))?;
        let _ = waiting.send(Ok(parts));
        Ok(())
    }
}

fn garbled(what: &str) -> Broken {
    Broken::Refused(format!("a worker breaks the protocol: {what}"))
}

/// Reads answers until the stream ends, for whatever reason.
async fn read(
    worker: Arc<Worker>,
    first: FlightData,
    inbox: mpsc::Receiver<FlightData>,
    shared: Arc<Shared>,
) {
    let broken = match answers(&worker, first, inbox, &shared).await {
        Ok(()) => Broken::Gone("the worker ended the stream".into()),
        Err(broken) => broken,
    };
    shared.end(broken);
}

async fn answers(
    worker: &Worker,
    first: FlightData,
    inbox: mpsc::Receiver<FlightData>,
    shared: &Shared,
) -> Result<(), Broken> {
    let requests =
        futures::StreamExt::chain(futures::stream::iter([first]), ReceiverStream::new(inbox));
    let broken = |status: Status| Broken::from(&status);
    let response = worker
        .client()
        .do_exchange(requests)
        .await
        .map_err(broken)?;
    shared.accepted.store(true, Ordering::Release);
    worker.succeeded();
    let mut stream = response.into_inner();
    let mut schema: Option<SchemaRef> = None;
    let mut parted: HashMap<u64, Vec<FlightData>> = HashMap::new();
    while let Some(message) = stream.message().await.map_err(broken)? {
        if !is_batch(&message) {
            continue;
        }
        let Some(schema) = &schema else {
            let found = read_schema(&message).map_err(|e| garbled(&e.to_string()))?;
            schema = Some(found);
            continue;
        };
        let usage: BatchUsage = serde_json::from_slice(&message.app_metadata)
            .map_err(|e| garbled(&format!("its usage is not understood: {e}")))?;
        let seq = usage.seq;
        if !usage.last {
            parted.entry(seq).or_default().push(message);
            continue;
        }
        let mut messages = parted.remove(&seq).unwrap_or_default();
        messages.push(message);
        shared.answer(Parts {
            schema: Arc::clone(schema),
            messages,
            usage,
        })?;
    }
    Ok(())
}

/// Checks that `answer` is what `sent` asked for.
pub(crate) fn check_answer(
    answer: &Answer,
    sent: usize,
    value: &arrow::datatypes::DataType,
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
