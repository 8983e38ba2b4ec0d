//! A part of an executed batch as a message.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use hubflight_compute::RowError;
use hubflight_protocol::wire::BatchWriter;

use crate::engine::Done;

/// The message of a part. That it fits one is seen to where parts are made.
pub(crate) fn message(
    writer: &mut BatchWriter,
    schema: &SchemaRef,
    done: &Done,
) -> Result<FlightData, ArrowError> {
    let values = Arc::clone(&done.output.values);
    let reasons = reasons(&done.output.errors, values.len());
    let batch = RecordBatch::try_new(Arc::clone(schema), vec![values, Arc::new(reasons)])?;
    writer.batch(&batch, &done.usage)
}

/// The column `error` of `rows` rows, from those that failed, ascending.
fn reasons(errors: &[RowError], rows: usize) -> StringArray {
    if errors.is_empty() {
        return StringArray::new_null(rows);
    }
    let mut errors = errors.iter().peekable();
    let mut reasons = StringBuilder::new();
    for row in 0..rows {
        let error = errors.next_if(|error| error.row == row);
        reasons.append_option(error.map(|error| &error.reason));
    }
    reasons.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use hubflight_compute::Output;
    use hubflight_protocol::wire::read_batch;
    use hubflight_protocol::{BatchUsage, answer_schema};
    use tokio::sync::Semaphore;

    /// Value and error of each row, as they come out of the message.
    fn answer(
        values: Vec<Option<&str>>,
        failed: &[usize],
    ) -> anyhow::Result<Vec<[Option<String>; 2]>> {
        let errors = failed.iter().map(|row| RowError {
            row: *row,
            reason: format!("row {row}"),
        });
        let done = Done {
            output: Output {
                values: Arc::new(StringArray::from(values)),
                errors: errors.collect(),
                units: 123,
            },
            usage: BatchUsage {
                seq: 9,
                row: 70,
                ..BatchUsage::default()
            },
            _place: Arc::new(Arc::new(Semaphore::new(1)).try_acquire_owned()?),
        };
        let schema = answer_schema(done.output.values.data_type().clone());
        let message = message(&mut BatchWriter::default(), &schema, &done)?;
        let usage: BatchUsage = serde_json::from_slice(&message.app_metadata)?;
        assert_eq!(usage, done.usage);
        let batch = read_batch(&message, schema)?;
        let text = |column: usize| batch.column(column).as_string::<i32>();
        let rows = text(0).iter().zip(text(1).iter());
        Ok(rows
            .map(|(value, error)| [value, error].map(|text| text.map(str::to_owned)))
            .collect())
    }

    #[test]
    fn values_and_errors_stand_side_by_side() -> anyhow::Result<()> {
        let text = |text: &str| Some(text.to_owned());
        let rows = answer(vec![Some("a"), None, Some("c"), None, None], &[1, 3])?;
        let expected = [
            [text("a"), None],
            [None, text("row 1")],
            [text("c"), None],
            [None, text("row 3")],
            [None, None],
        ];
        assert_eq!(rows, expected);
        let rows = answer(vec![Some("a"), None], &[])?;
        assert_eq!(rows, [[text("a"), None], [None, None]]);
        assert!(answer(vec![], &[])?.is_empty());
        Ok(())
    }
}
