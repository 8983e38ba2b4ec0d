//! The one writer of DoGet's frames: batches cast to the declared schema, cut and encoded.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, SchemaAsIpc};

use crate::auth::session::Compression;
use crate::error::{Error, Result};
use crate::plan::wire::conform;

/// One frame, and the rows that it carries.
#[derive(Debug)]
pub struct Frame {
    pub rows: u64,
    pub data: FlightData,
}

impl Frame {
    /// Bytes of Arrow that the client receives: what is charged as returned.
    pub fn bytes(&self) -> u64 {
        (self.data.data_header.len() + self.data.data_body.len()) as u64
    }
}

/// Cuts batches into frames of about `frame_bytes_max`.
pub struct FrameWriter {
    schema: SchemaRef,
    options: IpcWriteOptions,
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    compression: IpcWriteContext,
    frame_bytes_max: usize,
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
        Ok(Self {
            schema,
            options: IpcWriteOptions::default().try_with_compression(codec)?,
            generator: IpcDataGenerator {},
            tracker: DictionaryTracker::new(false),
            compression: IpcWriteContext::default(),
            frame_bytes_max,
        })
    }

    /// The first frame: the schema.
    pub fn schema(&self) -> Frame {
        Frame {
            rows: 0,
            data: SchemaAsIpc::new(&self.schema, &self.options).into(),
        }
    }

    /// The batch in slices of whole rows, each for one frame. They share its memory.
    pub fn slices(&self, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
        slices(batch, self.frame_bytes_max)
    }

    /// The frame of a slice, which is converted now: the conversion of a whole batch of images
    /// would not fit its types.
    pub fn frame(&mut self, slice: &RecordBatch) -> Result<Frame> {
        let plain = conform(slice, &self.schema)?;
        let (dictionaries, body) = self.generator.encode(
            &plain,
            &mut self.tracker,
            &self.options,
            &mut self.compression,
        )?;
        if !dictionaries.is_empty() {
            return Err(Error::internal(
                "a dictionary was left in a result",
                &"frames",
            ));
        }
        Ok(Frame {
            rows: slice.num_rows() as u64,
            data: FlightData::from(body),
        })
    }
}

/// Slices of whole rows near the target size; a row larger than it is a slice of its own.
fn slices(batch: &RecordBatch, frame_bytes_max: usize) -> Result<Vec<RecordBatch>> {
    let mut bytes = 0;
    for column in batch.columns() {
        bytes += size(column)?;
    }
    let rows = batch.num_rows();
    let parts = bytes.div_ceil(frame_bytes_max.max(1)).clamp(1, rows.max(1));
    let rows_a_part = rows.div_ceil(parts).max(1);
    let mut slices = Vec::with_capacity(parts);
    let mut offset = 0;
    while offset < rows || slices.is_empty() {
        let length = rows_a_part.min(rows - offset);
        slices.push(batch.slice(offset, length));
        offset += length.max(1);
    }
    Ok(slices)
}

/// Bytes of a column's own values; a view's buffers may hold those of other rows too.
fn size(column: &ArrayRef) -> Result<usize> {
    let values = match column.data_type() {
        DataType::Utf8View => column.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => column.as_binary_view().total_buffer_bytes_used(),
        _ => 0,
    };
    Ok(values + column.to_data().get_slice_memory_size()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{
        BinaryArray, BooleanArray, Int64Array, RecordBatchOptions, StringViewArray,
    };
    use arrow::compute::filter_record_batch;
    use arrow::datatypes::{Field, Schema};

    use crate::plan::wire::plain_schema;

    #[test]
    fn slices_cover_all_rows_once() {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        for rows in [0, 1, 2, 1000, 1023] {
            let column = Int64Array::from_iter_values(0..rows);
            let batch =
                RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(column)]).expect("valid");
            for target in [1, 100, 1 << 20] {
                let parts = slices(&batch, target).expect("slices");
                let total: usize = parts.iter().map(RecordBatch::num_rows).sum();
                assert_eq!(total, rows as usize);
                assert!(parts.iter().all(|part| part.num_rows() > 0) || rows == 0);
            }
        }
    }

    #[test]
    fn rows_without_columns_and_large_rows_pass() {
        let options = RecordBatchOptions::new().with_row_count(Some(3));
        let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options)
            .expect("valid");
        assert_eq!(slices(&empty, 10).expect("slices").len(), 1);
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Binary, true)]));
        let large = BinaryArray::from_vec(vec![&[0; 5000], &[1; 5000]]);
        let batch = RecordBatch::try_new(schema, vec![Arc::new(large)]).expect("valid");
        assert_eq!(slices(&batch, 100).expect("slices").len(), 2);
    }

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
            let frame = writer.frame(&kept).expect("a frame");
            let body = String::from_utf8_lossy(&frame.data.data_body).into_owned();
            assert!(body.contains(shown) && !body.contains(hidden));
        }
    }
}
