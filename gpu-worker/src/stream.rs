//! One open stream: batches in, a bounded number at a time; answers out as they come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, NullArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow_flight::FlightData;
use futures::Stream;
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::wire::{BatchWriter, is_batch, read_batch};
use hubflight_protocol::{BATCH_ROWS_MAX, BatchTag, Envelope, FunctionSpec, answer_schema};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};

use crate::answer::message;
use crate::engine::{Engine, Job, Outcome};
use crate::queue::Waiting;

/// Batches of one stream that the worker holds at once, answers that wait to be written
/// included. A stream that sends more is read no further.
const STREAM_BATCHES_MAX: usize = 16;

/// Parts of answers of one stream that are being made or wait to be written. A stream that is
/// not read is worked for no further.
const STREAM_PARTS_MAX: usize = 16;

/// What a stream asks for, checked.
pub(crate) struct Request {
    pub(crate) spec: &'static FunctionSpec,
    pub(crate) envelope: Envelope,
    pub(crate) schema: SchemaRef,
    /// Types in which the arguments are executed, one a parameter.
    types: Vec<DataType>,
    /// Type of the result.
    value: DataType,
}

impl Request {
    /// Checks the types of the arguments. Optional ones at the end may be left out.
    pub(crate) fn new(
        spec: &'static FunctionSpec,
        envelope: Envelope,
        schema: SchemaRef,
    ) -> Result<Self, Status> {
        let given = schema.fields().len();
        if given < spec.required() || given > spec.parameters.len() {
            let signature = spec.signature();
            let text = format!(
                "`{}` got {given} columns of arguments: send `{signature}`",
                spec.name
            );
            return Err(Status::invalid_argument(text));
        }
        let mut types = Vec::with_capacity(spec.parameters.len());
        let mut declared = Vec::with_capacity(spec.parameters.len());
        for (index, parameter) in spec.parameters.iter().enumerate() {
            let given = schema.fields().get(index).map(|field| field.data_type());
            let given = given.unwrap_or(&DataType::Null);
            let wire = parameter.kind.wire(given).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "`{}` of `{}` must be {}, not {given}",
                    parameter.name,
                    spec.name,
                    parameter.kind.in_words(),
                ))
            })?;
            // An optional NULL needs no bytes; the main argument decides the result's type.
            let omitted = index > 0 && given.is_null();
            types.push(if omitted {
                DataType::Null
            } else {
                wire.clone()
            });
            declared.push(wire);
        }
        Ok(Self {
            value: (spec.returns)(&declared),
            spec,
            envelope,
            schema,
            types,
        })
    }

    /// The arguments of a batch, in the types in which they are executed. A value that does not
    /// fit is an error: as a NULL it would be taken for an argument that was omitted.
    fn arguments(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, Status> {
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let rows = batch.num_rows();
        let mut arguments = Vec::with_capacity(self.types.len());
        for (index, wanted) in self.types.iter().enumerate() {
            arguments.push(match batch.columns().get(index) {
                Some(column) if column.data_type() == wanted => Arc::clone(column),
                Some(column) if !wanted.is_null() => cast_with_options(column, wanted, &strict)
                    .map_err(|error| Status::invalid_argument(error.to_string()))?,
                _ => Arc::new(NullArray::new(rows)),
            });
        }
        Ok(arguments)
    }
}

/// The answers of a stream. Dropping it, as the transport does when the client goes away or
/// the connection breaks, drops what the stream still has in the queue.
pub(crate) struct Answers {
    engine: Arc<Engine>,
    stream: u64,
    outcomes: mpsc::Receiver<Outcome>,
    reader: JoinHandle<()>,
    writer: BatchWriter,
    schema: SchemaRef,
    /// The message that opens the answers.
    first: Option<FlightData>,
    ended: bool,
}

impl Answers {
    /// Starts to read `batches`. The answers begin with `proof` at once, before any batch: the
    /// client sends none until it has seen it.
    pub(crate) fn start(
        engine: Arc<Engine>,
        request: Request,
        batches: Streaming<FlightData>,
        proof: Vec<u8>,
    ) -> Self {
        let (reply, outcomes) = mpsc::channel(STREAM_PARTS_MAX);
        let stream = engine.next_stream();
        let writer = BatchWriter::default();
        let schema = answer_schema(request.value.clone());
        let first = FlightData {
            app_metadata: proof.into(),
            ..writer.schema(&schema, None)
        };
        engine.metrics.streams.inc();
        let reader = tokio::spawn(read(Arc::clone(&engine), stream, request, batches, reply));
        Self {
            engine,
            stream,
            outcomes,
            reader,
            writer,
            schema,
            first: Some(first),
            ended: false,
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.reader.abort();
        self.outcomes.close();
        self.engine.cancel_stream(self.stream);
        self.engine.metrics.streams.dec();
    }
}

impl Stream for Answers {
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let answer = match ready!(this.outcomes.poll_recv(cx)) {
            None => {
                this.ended = true;
                return Poll::Ready(None);
            }
            Some(Outcome::Done(done)) => message(&mut this.writer, &this.schema, &done)
                .map_err(|error| Status::internal(format!("an answer cannot be written: {error}"))),
            Some(Outcome::Expired) => Err(deadline_passed()),
            Some(Outcome::Refused(status)) => Err(status),
        };
        this.engine.answer_was_read();
        this.ended = answer.is_err();
        Poll::Ready(Some(answer))
    }
}

pub(crate) fn deadline_passed() -> Status {
    Status::deadline_exceeded("the statement's deadline has passed")
}

/// Reads batches until the client has sent all, goes away, or the deadline passes.
async fn read(
    engine: Arc<Engine>,
    stream: u64,
    request: Request,
    mut batches: Streaming<FlightData>,
    reply: mpsc::Sender<Outcome>,
) {
    let left = request.envelope.deadline.saturating_sub(unix_ms());
    let reading = read_batches(&engine, stream, &request, &mut batches, &reply);
    let end = match tokio::time::timeout(Duration::from_millis(left), reading).await {
        Ok(Ok(())) => return,
        Ok(Err(status)) => status,
        Err(_) => deadline_passed(),
    };
    // Waits for a slot, as answers do; whoever no longer reads them needs no reason either.
    let _ = reply.send(Outcome::Refused(end)).await;
}

async fn read_batches(
    engine: &Engine,
    stream: u64,
    request: &Request,
    batches: &mut Streaming<FlightData>,
    reply: &mpsc::Sender<Outcome>,
) -> Result<(), Status> {
    let places = Arc::new(Semaphore::new(STREAM_BATCHES_MAX));
    let tenant: Arc<str> = request.envelope.tenant.as_str().into();
    loop {
        let closed = |_| Status::internal("the stream's places are closed");
        let place = Arc::clone(&places).acquire_owned().await.map_err(closed)?;
        let Some(message) = batches.message().await? else {
            // The answers to what is still in the queue keep the channel open; wait for them,
            // so that the deadline goes on to hold.
            let all = u32::try_from(STREAM_BATCHES_MAX - 1).unwrap_or(u32::MAX);
            let _rest = places.acquire_many(all).await.map_err(closed)?;
            return Ok(());
        };
        if !is_batch(&message) {
            continue;
        }
        let arrived = Instant::now();
        let wrong = |error: String| Status::invalid_argument(error);
        let tag: BatchTag = serde_json::from_slice(&message.app_metadata).map_err(|e| {
            wrong(format!(
                "a batch needs app_metadata such as {{\"seq\": 0}}: {e}"
            ))
        })?;
        let batch = read_batch(&message, Arc::clone(&request.schema))
            .map_err(|e| wrong(format!("a batch is not readable: {e}")))?;
        let rows = batch.num_rows();
        if rows > BATCH_ROWS_MAX {
            return Err(wrong(format!(
                "a batch has {rows} rows: send at most {BATCH_ROWS_MAX}"
            )));
        }
        let job = Job {
            spec: request.spec,
            args: request.arguments(&batch)?,
            rows,
            value: request.value.clone(),
            arrived,
            reply: reply.clone(),
            place: Arc::new(place),
            usage: Job::usage(tag.seq, request.spec),
        };
        let waiting = Waiting {
            stream,
            tenant: Arc::clone(&tenant),
            priority: request.envelope.priority,
            deadline: request.envelope.deadline,
            rows,
            bytes: message.data_body.len(),
            work: job,
        };
        engine.submit(waiting).await;
    }
}
