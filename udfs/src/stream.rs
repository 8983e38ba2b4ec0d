//! Several slices in flight, answers in order, and no more work than is asked for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use datafusion::physical_plan::metrics::BaselineMetrics;
use futures::future::{BoxFuture, try_join_all};
use futures::stream::FuturesOrdered;
use futures::{FutureExt, Stream, StreamExt};
use hubflight_protocol::ROW_BYTES_MAX;

use crate::caller::Caller;
use crate::exec::ExecCall;
use crate::function::OnError;
use crate::slice::{SLICE_ROWS_MAX, Sent, bytes, is_too_large, rows_that_fit};
use crate::{WorkError, WorkMeter};

/// Slices of one partition that workers hold at once, when the stream is up to speed.
const SLICES_IN_FLIGHT_MAX: usize = 8;

/// Rows of the first slice. Each answer doubles the slices and lengthens the queue by one, so
/// that a query which needs few rows (`LIMIT` above a filter) makes the workers do little more.
const FIRST_SLICE_ROWS: usize = 32;

/// A call on one partition.
pub(crate) struct PartitionCall {
    pub(crate) call: ExecCall,
    pub(crate) caller: Caller,
    pub(crate) meter: Arc<dyn WorkMeter>,
}

/// What a slice gives: its rows with the results, and the memory to give back.
type Done = Result<(RecordBatch, usize)>;

/// See the module.
pub(crate) struct DispatchStream {
    input: Option<SendableRecordBatchStream>,
    schema: SchemaRef,
    calls: Arc<Vec<PartitionCall>>,
    current: Option<Cut>,
    in_flight: FuturesOrdered<BoxFuture<'static, Done>>,
    window: usize,
    slice_rows: usize,
    /// Rows of the partition that were cut so far.
    row: u64,
    memory: MemoryReservation,
    metrics: BaselineMetrics,
}

/// A batch of the input that is being cut into slices.
struct Cut {
    batch: RecordBatch,
    /// The arguments of each call, for all rows of the batch.
    arguments: Vec<Vec<ArrayRef>>,
    next: usize,
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
            in_flight: FuturesOrdered::new(),
            window: 1,
            slice_rows: FIRST_SLICE_ROWS,
            row: 0,
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
            let batch = match std::task::ready!(input.poll_next_unpin(cx)) {
                Some(batch) => batch?,
                None => {
                    self.input = None;
                    continue;
                }
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let timer = self.metrics.elapsed_compute().clone();
            let _timer = timer.timer();
            let calls = self.calls.iter();
            let arguments = calls.map(|call| call.call.evaluate(&batch));
            self.current = Some(Cut {
                arguments: arguments.collect::<Result<_>>()?,
                batch,
                next: 0,
            });
        }
    }

    /// Puts the next slice of `current` in flight. False where memory allows no more now.
    fn submit(&mut self) -> Result<bool> {
        let Some(cut) = &mut self.current else {
            return Ok(true);
        };
        let rows = cut.batch.num_rows();
        let length = rows_that_fit(&cut.arguments, cut.next, rows, self.slice_rows);
        let calls = cut.arguments.iter();
        let held: usize = calls
            .map(|arguments| bytes(arguments, cut.next, length))
            .sum();
        if let Err(error) = self.memory.try_grow(held) {
            return match self.in_flight.is_empty() {
                true => Err(error),
                false => Ok(false),
            };
        }
        let slice = Slice {
            calls: Arc::clone(&self.calls),
            schema: Arc::clone(&self.schema),
            batch: cut.batch.slice(cut.next, length),
            arguments: cut
                .arguments
                .iter()
                .map(|arrays| arrays.iter().map(|a| a.slice(cut.next, length)).collect())
                .collect(),
            first_row: self.row,
        };
        self.row += length as u64;
        cut.next += length;
        if cut.next >= rows {
            self.current = None;
        }
        let done = async move { Ok((slice.run().await?, held)) };
        self.in_flight.push_back(done.boxed());
        Ok(true)
    }

    /// Fills the window as far as input and memory allow without waiting.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<()> {
        while self.in_flight.len() < self.window {
            match self.poll_input(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) | Poll::Pending => break,
                Poll::Ready(Err(error)) => return Err(error),
            }
            if !self.submit()? {
                break;
            }
        }
        Ok(())
    }

    /// Ends the stream, and with it all work that is still in flight.
    fn close(&mut self) {
        self.input = None;
        self.current = None;
        self.in_flight = FuturesOrdered::new();
        self.memory.free();
    }
}

impl Stream for DispatchStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let polled = match this.fill(cx) {
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(()) => match this.in_flight.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok((batch, held)))) => {
                    this.memory.shrink(held);
                    this.window = (this.window + 1).min(SLICES_IN_FLIGHT_MAX);
                    this.slice_rows = (this.slice_rows * 2).min(SLICE_ROWS_MAX);
                    Poll::Ready(Some(Ok(batch)))
                }
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

/// Some rows of the input with the arguments of every call.
struct Slice {
    calls: Arc<Vec<PartitionCall>>,
    schema: SchemaRef,
    batch: RecordBatch,
    arguments: Vec<Vec<ArrayRef>>,
    first_row: u64,
}

impl Slice {
    /// The rows with a column per call.
    async fn run(self) -> Result<RecordBatch> {
        let calls = self.calls.iter().zip(&self.arguments);
        let results = calls.map(|(call, arguments)| call.run(arguments, self.first_row));
        let results = try_join_all(results).await?;
        let mut columns = self.batch.columns().to_vec();
        columns.extend(results);
        RecordBatch::try_new(self.schema, columns).map_err(DataFusionError::from)
    }
}

impl PartitionCall {
    /// The results for one slice's `arguments`, in the call's SQL type.
    async fn run(&self, arguments: &[ArrayRef], first_row: u64) -> Result<ArrayRef> {
        let Some(main) = arguments.first() else {
            return Err(WorkError::Internal("a function without arguments".into()).into());
        };
        let (rows, value) = (main.len(), &self.call.value);
        let sent = Sent::of(main);
        if matches!(sent, Sent::None) {
            return self.result(new_null_array(value, rows), no_errors(rows), first_row);
        }
        if rows == 1 && is_too_large(arguments) {
            let reason = format!("the arguments are larger than {ROW_BYTES_MAX} bytes");
            let errors = Arc::new(StringArray::from(vec![reason]));
            return self.result(new_null_array(value, rows), errors, first_row);
        }
        let schema = Arc::clone(self.caller.schema());
        let batch = RecordBatch::try_new(schema, sent.select(arguments)?)?;
        let answer = self.caller.call(&batch).await?;
        let values = sent.scatter(answer.rows.column(0))?;
        let errors = sent.scatter(answer.rows.column(1))?;
        self.result(values, errors, first_row)
    }

    /// Counts the failed rows, and does what `on_error` says.
    fn result(&self, values: ArrayRef, errors: ArrayRef, first_row: u64) -> Result<ArrayRef> {
        let name = self.call.spec.name;
        if errors.null_count() < errors.len() {
            let reasons = errors.as_string::<i32>().iter().enumerate();
            for (row, reason) in reasons.filter_map(|(row, reason)| Some((row, reason?))) {
                self.meter.row_error(name, reason);
                if self.call.on_error == OnError::Fail {
                    return Err(WorkError::RowFailed {
                        function: name.to_owned(),
                        row: first_row + row as u64,
                        reason: reason.to_owned(),
                    }
                    .into());
                }
            }
        }
        let DataType::Struct(fields) = self.call.on_error.returns(self.call.value.clone()) else {
            return Ok(values);
        };
        if self.call.on_error != OnError::Report {
            return Ok(values);
        }
        let report = StructArray::try_new(fields, vec![values, errors], None)?;
        Ok(Arc::new(report))
    }
}

fn no_errors(rows: usize) -> ArrayRef {
    new_null_array(&DataType::Utf8, rows)
}
