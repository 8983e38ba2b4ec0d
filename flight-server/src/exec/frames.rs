//! The one writer of DoGet's frames: batches cast to the declared schema, cut and encoded.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use hubflight_tickets::Compression;
use hubflight_wire::{Chunks, Encoder, Message, bytes_of_rows};
use tokio::time::Instant;

use crate::error::Result;
use crate::plan::wire::{check_sent, conform};

/// One frame, and the rows that it carries.
#[derive(Debug)]
pub struct Frame {
    pub rows: u64,
    pub message: Message,
    /// Memory of a row that is larger than a frame, as it is encoded, until it is handed over.
    _held: Option<MemoryReservation>,
}

impl Frame {
    /// Bytes of Arrow that the client receives: what is charged as returned.
    pub fn bytes(&self) -> u64 {
        self.message.bytes() as u64
    }
}

/// Copies of a row while it is made a frame: as it came, converted, and encoded.
const FRAME_COPIES: usize = 3;
/// Rows of a frame, as clients like them.
const ROWS_MAX: usize = 8192;

/// Puts rows into frames of about `frame_bytes_max`.
pub struct FrameWriter {
    schema: SchemaRef,
    options: IpcWriteOptions,
    encoder: Encoder,
    chunks: Chunks,
    bytes_max: usize,
    /// Where room is had for rows that are larger than a frame: their columns may share one value, so
    /// that they are nowhere as large as in a frame.
    pool: Option<Arc<dyn MemoryPool>>,
    /// Of the row that waits, converted.
    waiting: Option<MemoryReservation>,
    /// Of the row that waited, for its frame.
    waited: Option<MemoryReservation>,
    /// When the first of the rows that wait came.
    since: Instant,
}

impl FrameWriter {
    pub fn new(
        schema: SchemaRef,
        compression: Compression,
        frame_bytes_max: usize,
    ) -> Result<Self> {
        let codec = match compression {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        };
        check_sent(&schema)?;
        let options = IpcWriteOptions::default().try_with_compression(codec)?;
        Ok(Self {
            encoder: Encoder::new(&schema, options.clone())?,
            schema,
            options,
            chunks: Chunks::new(ROWS_MAX, frame_bytes_max),
            bytes_max: frame_bytes_max,
            pool: None,
            waiting: None,
            waited: None,
            since: Instant::now(),
        })
    }

    /// The first frame: the schema.
    pub fn schema(&self) -> Frame {
        Frame {
            rows: 0,
            message: Message::schema(&self.schema, &self.options),
            _held: None,
        }
    }

    /// Takes rows, and gives those that fill a frame each.
    ///
    /// # Errors
    /// Resources are exhausted where the pool has no room for a row that is larger than a frame.
    pub fn take(
        &mut self,
        batch: &RecordBatch,
        pool: &Arc<dyn MemoryPool>,
    ) -> Result<Vec<Vec<RecordBatch>>> {
        let was_empty = self.chunks.is_empty();
        let bytes = bytes_of_rows(batch);
        // It is converted while it waits, and then is as large as in its frame.
        let last = bytes
            .last()
            .copied()
            .filter(|bytes| *bytes > self.bytes_max);
        let waiting = last.map(|bytes| self.room(bytes, pool)).transpose()?;
        let full = self.chunks.take(batch, &bytes);
        self.pool = Some(Arc::clone(pool));
        // What waited is in the first of them.
        if !full.is_empty() {
            self.waited = self.waiting.take();
        }
        if was_empty || !full.is_empty() {
            self.since = Instant::now();
        }
        // Converted, so that what waits does not keep the batch that it came in: a few rows of many
        // batches would keep them all.
        if let Some(last) = self.chunks.last_mut() {
            *last = conform(last, &self.schema)?;
        }
        if let (Some(room), Some(bytes)) = (&waiting, last) {
            room.try_resize(bytes)?;
            self.waiting = waiting;
        }
        Ok(full)
    }

    /// Since when rows wait for others to fill a frame with.
    pub fn waiting_since(&self) -> Option<Instant> {
        (!self.chunks.is_empty()).then_some(self.since)
    }

    /// The rows that wait, for a frame of their own; none where none do.
    pub fn rest(&mut self) -> Option<Vec<RecordBatch>> {
        self.waited = self.waiting.take();
        (!self.chunks.is_empty()).then(|| self.chunks.rest())
    }

    /// Room for the copies of a row of so many bytes.
    fn room(&self, bytes: usize, pool: &Arc<dyn MemoryPool>) -> Result<MemoryReservation> {
        let room = MemoryConsumer::new("a frame").register(pool);
        room.try_grow(bytes.saturating_mul(FRAME_COPIES))?;
        Ok(room)
    }

    /// Room for a row that is larger than a frame; only a row alone is.
    fn held(&mut self, parts: &[RecordBatch]) -> Result<Option<MemoryReservation>> {
        let waited = self.waited.take();
        let ([row], Some(pool)) = (parts, &self.pool) else {
            return Ok(None);
        };
        if row.num_rows() != 1 {
            return Ok(None);
        }
        let bytes = bytes_of_rows(row).into_iter().sum::<usize>();
        match waited {
            _ if bytes <= self.bytes_max => Ok(None),
            Some(room) => {
                room.try_resize(bytes.saturating_mul(FRAME_COPIES))?;
                Ok(Some(room))
            }
            None => self.room(bytes, pool).map(Some),
        }
    }

    /// The frame of rows that are together, which are converted now: the conversion of a whole
    /// batch of images would not fit its types.
    pub fn frame(&mut self, parts: &[RecordBatch]) -> Result<Frame> {
        let held = self.held(parts)?;
        let parts = parts.iter().map(|part| conform(part, &self.schema));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        let plain = match parts.as_slice() {
            [one] => one.clone(),
            many => concat_batches(&self.schema, many)?,
        };
        let message = self.encoder.encode(&plain)?;
        if let Some(held) = &held {
            held.try_resize(message.body_bytes())?;
        }
        Ok(Frame {
            rows: plain.num_rows() as u64,
            message,
            _held: held,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::array::{ArrayRef, BooleanArray, StringViewArray};
    use arrow::compute::filter_record_batch;
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow_flight::FlightData;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, UnboundedMemoryPool};

    use crate::plan::wire::plain_schema;

    /// What a filter removed is still in the buffers that views point into.
    #[test]
    fn no_value_of_a_removed_row_leaves_with_views() {
        let hidden = "a hidden text, longer than a view holds itself";
        let shown = "a shown text, longer than a view holds itself!";
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![shown, hidden, shown]));
        let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8View, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![texts]).expect("valid");
        let kept = filter_record_batch(&batch, &BooleanArray::from(vec![true, false, true]))
            .expect("filtered");
        for views in [false, true] {
            let schema = plain_schema(&schema, views);
            let mut writer =
                FrameWriter::new(schema, Compression::None, 1 << 20).expect("a writer");
            let frame = writer.frame(std::slice::from_ref(&kept)).expect("a frame");
            let sent = FlightData::from(frame.message);
            let body = String::from_utf8_lossy(&sent.data_body).into_owned();
            assert!(body.contains(shown) && !body.contains(hidden));
        }
    }

    /// A row of each of many batches, as the barrier leaves them of files that are mostly hidden.
    #[test]
    fn rows_that_wait_keep_no_batch() {
        let schema = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8View, true)]));
        for views in [false, true] {
            let schema = plain_schema(&schema, views);
            let mut writer =
                FrameWriter::new(schema, Compression::None, 1 << 20).expect("a writer");
            let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
            for _ in 0..100 {
                let texts = vec!["a text, longer than a view holds itself".repeat(10); 1_000];
                let texts: ArrayRef = Arc::new(StringViewArray::from(texts));
                let batch = RecordBatch::try_from_iter([("t", texts)]).expect("valid");
                let mut keep = vec![false; 1_000];
                keep[7] = true;
                let kept = filter_record_batch(&batch, &BooleanArray::from(keep));
                let full = writer.take(&kept.expect("filtered"), &pool).expect("taken");
                assert!(full.is_empty());
            }
            let rest = writer.rest().expect("rows");
            assert_eq!(rest.len(), 100);
            let held: usize = rest.iter().map(RecordBatch::get_array_memory_size).sum();
            assert!(held < 100 * 4_096, "{views}: {held}");
        }
    }

    /// Columns that share a value are in a frame once each; rows that are waited for are not held
    /// for more than what they are.
    #[test]
    fn a_row_that_is_larger_than_a_frame_needs_room() {
        let text: ArrayRef = Arc::new(StringViewArray::from(vec!["x".repeat(1 << 20)]));
        let columns = (0..40).map(|column| (format!("c{column}"), Arc::clone(&text)));
        let row = RecordBatch::try_from_iter(columns).expect("valid");
        let schema = plain_schema(&row.schema(), false);
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100 << 20));
        let new = || FrameWriter::new(Arc::clone(&schema), Compression::None, 2 << 20);
        let error = new()
            .expect("a writer")
            .take(&row, &pool)
            .expect_err("120 MiB");
        assert_eq!(error.kind, crate::error::ErrorKind::ResourceExhausted);
        assert_eq!(pool.reserved(), 0);
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(200 << 20));
        let mut writer = new().expect("a writer");
        assert!(writer.take(&row, &pool).expect("fits").is_empty());
        // Once while it waits, and once as a frame that nobody has taken yet.
        let once = |reserved: usize| (40 << 20..42 << 20).contains(&reserved);
        assert!(once(pool.reserved()), "{}", pool.reserved());
        let full = writer.take(&row, &pool).expect("fits");
        let frame = writer.frame(&full[0]).expect("a frame");
        assert!(once(pool.reserved() / 2), "{}", pool.reserved());
        let rest = writer.rest().expect("a row");
        let last = writer.frame(&rest).expect("a frame");
        assert!(once(pool.reserved() / 2), "{}", pool.reserved());
        drop((writer, rest, full));
        drop(frame);
        assert!(once(pool.reserved()), "{}", pool.reserved());
        drop(last);
        assert_eq!(pool.reserved(), 0);
    }
}
