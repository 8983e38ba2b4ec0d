//! Arrow batches as Flight messages, without the copies that the general helpers make.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::read_record_batch;
use arrow::ipc::root_as_message;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, FlightDescriptor, SchemaAsIpc};
use bytes::Bytes;
use serde::Serialize;

/// Writes batches of one schema. Its columns must not be dictionaries.
#[derive(Default)]
pub struct BatchWriter {
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl BatchWriter {
    /// The message that opens a stream.
    pub fn schema(&self, schema: &Schema, descriptor: Option<FlightDescriptor>) -> FlightData {
        FlightData {
            flight_descriptor: descriptor,
            ..FlightData::from(SchemaAsIpc::new(schema, &self.options))
        }
    }

    /// A batch with `metadata` as JSON beside it.
    pub fn batch(
        &mut self,
        batch: &RecordBatch,
        metadata: &impl Serialize,
    ) -> Result<FlightData, ArrowError> {
        let metadata =
            serde_json::to_vec(metadata).map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
        let mut dictionaries = DictionaryTracker::new(false);
        let (replaced, encoded) = IpcDataGenerator::default().encode(
            batch,
            &mut dictionaries,
            &self.options,
            &mut self.context,
        )?;
        if !replaced.is_empty() {
            let text = "a batch on the wire must not hold dictionaries".to_owned();
            return Err(ArrowError::InvalidArgumentError(text));
        }
        Ok(FlightData {
            app_metadata: Bytes::from(metadata),
            ..FlightData::from(encoded)
        })
    }
}

/// The schema that opens a stream.
pub fn read_schema(data: &FlightData) -> Result<SchemaRef, ArrowError> {
    contained(|| {
        let message = root_as_message(&data.data_header).map_err(malformed)?;
        match message.header_as_schema() {
            Some(schema) => Ok(Arc::new(fb_to_schema(schema))),
            None => Err(malformed("the stream does not begin with a schema")),
        }
    })
}

/// True for a message that holds a batch; others (metadata alone) are skipped.
pub fn is_batch(data: &FlightData) -> bool {
    !data.data_header.is_empty()
}

/// The batch in a message, validated; buffers share the message's memory where aligned.
///
/// A compressed batch is refused: its size would be known only after it was inflated.
pub fn read_batch(data: &FlightData, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
    contained(|| {
        let message = root_as_message(&data.data_header).map_err(malformed)?;
        let header = message
            .header_as_record_batch()
            .ok_or_else(|| malformed("the message holds no batch"))?;
        if header.compression().is_some() {
            return Err(malformed("batches must not be compressed"));
        }
        let body = Buffer::from(data.data_body.clone());
        let version = message.version();
        read_record_batch(&body, header, schema, &HashMap::new(), None, &version)
    })
}

/// Bytes that an array takes in a message, but for padding and NULL bitmaps; of a slice, its
/// own part. (`get_slice_memory_size` counts all items of a sliced list.)
pub fn array_bytes(array: &dyn Array) -> usize {
    let length = array.len();
    match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => length.div_ceil(8),
        DataType::Utf8 => text_bytes(array.as_string::<i32>().value_offsets()),
        DataType::Binary => text_bytes(array.as_binary::<i32>().value_offsets()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = ends(list.value_offsets());
            4 * length + array_bytes(list.values().slice(first, last - first).as_ref())
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            columns.map(|column| array_bytes(column.as_ref())).sum()
        }
        other => match other.primitive_width() {
            Some(width) => width * length,
            None => array.get_array_memory_size(),
        },
    }
}

fn text_bytes(offsets: &[i32]) -> usize {
    let (first, last) = ends(offsets);
    last - first + 4 * offsets.len()
}

fn ends(offsets: &[i32]) -> (usize, usize) {
    let at = |offset: Option<&i32>| offset.map_or(0, |at| usize::try_from(*at).unwrap_or(0));
    (at(offsets.first()), at(offsets.last()))
}

fn malformed(reason: impl ToString) -> ArrowError {
    ArrowError::ParseError(reason.to_string())
}

/// Arrow's reader panics on some malformed messages; they are errors like others.
fn contained<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(malformed("the message is malformed")))
}
