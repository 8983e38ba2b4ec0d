//! Several slices in flight, answers in order, and no more work than is asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::future::{BoxFuture, try_join_all};
use futures::stream::FuturesOrdered;
use futures::{FutureExt, Stream, StreamExt};

use crate::partition::{Called, PartitionCall};
use crate::slice::{SLICE_ROWS_MAX, bytes, rows_that_fit};

/// Slices of one partition that workers hold at once, when the stream is up to speed. Each
/// slice that is handed on adds a place, up to this many.
const SLICES_IN_FLIGHT_MAX: usize = 8;

/// Rows of the first slice. Each slice may have twice the rows of the one before, so that a
/// query which needs few rows (`LIMIT` above a filter) makes the workers do little more.
const FIRST_SLICE_ROWS: usize = 32;

/// See the module.
///
/// A statement is charged for the slices that were handed on, and slices are cut by their
/// index and the rows' sizes alone: the same rows cost the same, however fast the workers are.
/// (Under a `LIMIT` that takes rows from several partitions, which partition is asked how often
/// is still a race.)
pub(crate) struct DispatchStream {
    input: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    calls: Arc<Vec<PartitionCall>>,
    current: Option<Cut>,
    /// The next slice, where it waits for memory.
    prepared: Option<Slice>,
    in_flight: FuturesOrdered<BoxFuture<'static, Result<Done>>>,
    window: usize,
    /// Rows that the next slice may have: by its index …
    slice_rows: usize,
    /// … and by the sizes of the rows so far.
    rows_that_fitted: usize,
    memory: MemoryReservation,
    metrics: BaselineMetrics,
}

/// A batch of the input that is being cut into slices.
struct Cut {
    batch: RecordBatch,
    next: usize,
}

/// A slice that workers have answered.
struct Done {
    /// The rows with a column per call.
    batch: RecordBatch,
    called: Vec<Called>,
    /// Memory of the arguments.
    _held: MemoryReservation,
}

impl DispatchStream {
    pub(crate) fn new(
        input: SendableRecordBatchStream,
        schema: SchemaRef,
        calls: Vec<PartitionCall>,
        memory: MemoryReservation,
        metrics: BaselineMetrics,
    ) -> Self {
        Self {
            input: Some(input),
            schema,
            calls: Arc::new(calls),
            current: None,
            prepared: None,
            in_flight: FuturesOrdered::new(),
            window: 1,
            slice_rows: FIRST_SLICE_ROWS,
            rows_that_fitted: SLICE_ROWS_MAX,
            memory,
            metrics,
        }
    }

    /// Makes `current` a batch that has rows left. Ready(false) where the input has ended.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        loop {
            if self.current.is_some() {
                return Poll::Ready(Ok(true));
            }
            let Some(input) = &mut self.input else {
                return Poll::Ready(Ok(false));
            };
            match std::task::ready!(input.poll_next_unpin(cx)) {
                None => self.input = None,
                Some(batch) => {
                    let batch = batch?;
                    self.current = (batch.num_rows() > 0).then_some(Cut { batch, next: 0 });
                }
            }
        }
    }

    /// Takes the next slice from `current` and evaluates its arguments: of no more rows than
    /// are likely to fit, because a whole batch of images would not fit into memory.
    fn prepare(&mut self) -> Result<Option<Slice>> {
        let Some(cut) = &mut self.current else {
            return Ok(None);
        };
        let timer = self.metrics.elapsed_compute().clone();
        let _timer = timer.timer();
        let left = cut.batch.num_rows() - cut.next;
        let wanted = left.min(self.slice_rows).min(self.rows_that_fitted);
        let mut rows = rows_that_fit(wanted, |rows| {
            let batch = cut.batch.slice(cut.next, rows);
            let sizes = self.calls.iter().map(|call| call.call.input_bytes(&batch));
            sizes.max().unwrap_or(0)
        });
        let (batch, arguments) = loop {
            let batch = cut.batch.slice(cut.next, rows);
            let calls = self.calls.iter();
            let arguments = calls.map(|call| call.call.evaluate(&batch));
            let arguments = arguments.collect::<Result<Vec<_>>>()?;
            let fitting = arguments_that_fit(&arguments, rows);
            if fitting == rows {
                break (batch, arguments);
            }
            // Evaluated again, because a part of the arrays would hold the memory of all.
            rows = fitting;
            self.rows_that_fitted = fitting;
        };
        if rows == wanted {
            self.rows_that_fitted = (self.rows_that_fitted * 2).min(SLICE_ROWS_MAX);
        }
        self.slice_rows = (self.slice_rows * 2).min(SLICE_ROWS_MAX);
        cut.next += rows;
        if cut.next >= cut.batch.num_rows() {
            self.current = None;
        }
        Ok(Some(Slice {
            calls: Arc::clone(&self.calls),
            schema: Arc::clone(&self.schema),
            batch,
            arguments,
            memory: self.memory.new_empty(),
        }))
    }

    /// Puts the next slice in flight. False where there is none, or no memory for it now.
    fn submit(&mut self) -> Result<bool> {
        let slice = match self.prepared.take() {
            Some(slice) => Some(slice),
            None => self.prepare()?,
        };
        let Some(slice) = slice else {
            return Ok(false);
        };
        let held: usize = slice.arguments.iter().map(|arrays| bytes(arrays)).sum();
        if let Err(error) = slice.memory.try_grow(held) {
            self.prepared = Some(slice);
            return match self.in_flight.is_empty() {
                true => Err(error),
                false => Ok(false),
            };
        }
        self.in_flight.push_back(slice.run().boxed());
        Ok(true)
    }

    /// Fills the window as far as input and memory allow without waiting.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<()> {
        while self.in_flight.len() < self.window {
            if self.prepared.is_none() {
                match self.poll_input(cx) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false)) | Poll::Pending => break,
                    Poll::Ready(Err(error)) => return Err(error),
                }
            }
            if !self.submit()? {
                break;
            }
        }
        Ok(())
    }

    /// Hands a slice on: only now does it count.
    fn hand_on(&mut self, done: Done) -> Result<RecordBatch> {
        self.window = (self.window + 1).min(SLICES_IN_FLIGHT_MAX);
        let mut counted = Ok(());
        for (call, called) in self.calls.iter().zip(&done.called) {
            // What the other calls did counts too where one fails.
            counted = counted.and(call.count(called));
        }
        counted.map(|()| done.batch)
    }

    /// Ends the stream, and with it all work that is still in flight.
    fn close(&mut self) {
        self.input = None;
        self.current = None;
        self.prepared = None;
        self.in_flight = FuturesOrdered::new();
    }
}

impl Stream for DispatchStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = match this.fill(cx) {
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(()) => match this.in_flight.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(done))) => Poll::Ready(Some(this.hand_on(done))),
                Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                Poll::Ready(None) if this.input.is_none() => Poll::Ready(None),
                // Nothing is in flight: the input has our waker.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        };
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            this.close();
        }
        this.metrics.record_poll(polled)
    }
}

impl RecordBatchStream for DispatchStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

/// How many of `rows` fit into one message of each call.
fn arguments_that_fit(calls: &[Vec<ArrayRef>], rows: usize) -> usize {
    rows_that_fit(rows, |rows| {
        let sizes = calls.iter().map(|arguments| {
            let part: Vec<ArrayRef> = arguments.iter().map(|a| a.slice(0, rows)).collect();
            bytes(&part)
        });
        sizes.max().unwrap_or(0)
    })
}

/// Some rows of the input with the arguments of every call.
struct Slice {
    calls: Arc<Vec<PartitionCall>>,
    schema: SchemaRef,
    batch: RecordBatch,
    arguments: Vec<Vec<ArrayRef>>,
    memory: MemoryReservation,
}

impl Slice {
    async fn run(self) -> Result<Done> {
        let calls = self.calls.iter().zip(&self.arguments);
        let called = calls.map(|(call, arguments)| call.run(arguments, &self.memory));
        let called = try_join_all(called).await?;
        let mut columns = self.batch.columns().to_vec();
        columns.extend(called.iter().map(|called| Arc::clone(&called.column)));
        Ok(Done {
            batch: RecordBatch::try_new(self.schema, columns)?,
            called,
            _held: self.memory,
        })
    }
}
