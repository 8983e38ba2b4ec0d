//! An executed batch as messages: one, or several where it is too large for one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringBuilder, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_flight::FlightData;
use hubflight_compute::RowError;
use hubflight_protocol::BatchUsage;
use hubflight_protocol::wire::{BatchWriter, array_bytes};

use crate::engine::Done;

/// The messages of an answer, the first one last. No message holds more than `bytes_max` of
/// values; a row that alone has more fails.
pub(crate) fn messages(
    writer: &mut BatchWriter,
    schema: &SchemaRef,
    done: Done,
    bytes_max: usize,
) -> Result<Vec<FlightData>, ArrowError> {
    let output = &done.output;
    let mut parts = Vec::new();
    split(&output.values, 0, done.rows, bytes_max, &mut parts);
    let mut errors = output.errors.as_slice();
    let too_large = parts.iter().filter(|part| part.too_large).count();
    let mut messages = Vec::with_capacity(parts.len());
    let mut left = parts.len();
    for part in parts {
        left -= 1;
        let (own, rest) = errors.split_at(errors.partition_point(|e| e.row < part.end()));
        errors = rest;
        let (values, reasons) = part.columns(&output.values, own, bytes_max);
        let batch = RecordBatch::try_new(Arc::clone(schema), vec![values, Arc::new(reasons)])?;
        let mut usage = BatchUsage {
            seq: done.seq,
            row: part.start as u64,
            ..BatchUsage::default()
        };
        if left == 0 {
            usage = BatchUsage {
                last: true,
                queue_us: done.queue_us,
                host_us: done.host_us,
                device_us: done.device_us,
                items: done.rows as u64,
                unit: done.spec.unit,
                units: output.units,
                failed: (output.errors.len() + too_large) as u64,
                ..usage
            };
        }
        messages.push(writer.batch(&batch, &usage)?);
    }
    messages.reverse();
    Ok(messages)
}

/// Rows of an answer that go into one message.
struct Part {
    start: usize,
    length: usize,
    /// A single row that no message can hold.
    too_large: bool,
}

impl Part {
    fn end(&self) -> usize {
        self.start + self.length
    }

    /// The columns `value` and `error`, `errors` being those of these rows, ascending.
    fn columns(
        &self,
        values: &ArrayRef,
        errors: &[RowError],
        bytes_max: usize,
    ) -> (ArrayRef, StringArray) {
        if self.too_large {
            let reason = format!("the result is larger than {bytes_max} bytes");
            let value = new_null_array(values.data_type(), 1);
            return (value, StringArray::from(vec![reason]));
        }
        let values = values.slice(self.start, self.length);
        if errors.is_empty() {
            return (values, StringArray::new_null(self.length));
        }
        let mut errors = errors.iter().peekable();
        let mut reasons = StringBuilder::new();
        for row in self.start..self.end() {
            let error = errors.next_if(|error| error.row == row);
            reasons.append_option(error.map(|error| &error.reason));
        }
        (values, reasons.finish())
    }
}

fn split(values: &ArrayRef, start: usize, length: usize, bytes_max: usize, parts: &mut Vec<Part>) {
    let too_large = array_bytes(values.slice(start, length).as_ref()) > bytes_max;
    if too_large && length > 1 {
        let half = length / 2;
        split(values, start, half, bytes_max, parts);
        split(values, start + half, length - half, bytes_max, parts);
        return;
    }
    parts.push(Part {
        start,
        length,
        // A row that failed has no value to speak of.
        too_large: too_large && values.is_valid(start),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use hubflight_compute::Output;
    use hubflight_protocol::wire::read_batch;
    use hubflight_protocol::{WorkUnit, answer_schema, function};
    use tokio::sync::Semaphore;

    fn done(values: Vec<Option<&str>>, failed: &[usize]) -> anyhow::Result<Done> {
        let errors = failed.iter().map(|row| RowError {
            row: *row,
            reason: format!("row {row}"),
        });
        Ok(Done {
            seq: 9,
            spec: function("text_deidentify").ok_or_else(|| anyhow::anyhow!("no function"))?,
            rows: values.len(),
            output: Output {
                values: Arc::new(StringArray::from(values)),
                errors: errors.collect(),
                units: 123,
            },
            queue_us: 1,
            host_us: 2,
            device_us: 3,
            place: Arc::new(Semaphore::new(1)).try_acquire_owned()?,
        })
    }

    /// Value and error of each row, and the usage of each message, in the order of sending.
    fn answer(
        done: Done,
        bytes_max: usize,
    ) -> anyhow::Result<(Vec<[Option<String>; 2]>, Vec<BatchUsage>)> {
        let schema = answer_schema(done.output.values.data_type().clone());
        let mut rows = Vec::new();
        let mut usages = Vec::new();
        let messages = messages(&mut BatchWriter::default(), &schema, done, bytes_max)?;
        for message in messages.into_iter().rev() {
            let usage: BatchUsage = serde_json::from_slice(&message.app_metadata)?;
            assert_eq!(usage.row, rows.len() as u64);
            usages.push(usage);
            let batch = read_batch(&message, Arc::clone(&schema))?;
            let text = |column: usize| batch.column(column).as_string::<i32>().clone();
            for row in text(0).iter().zip(text(1).iter()) {
                rows.push([row.0.map(str::to_owned), row.1.map(str::to_owned)]);
            }
        }
        Ok((rows, usages))
    }

    #[test]
    fn an_answer_is_one_message() -> anyhow::Result<()> {
        let (rows, usages) = answer(done(vec![Some("a"), None, Some("c"), None], &[1, 3])?, 1000)?;
        let errors: Vec<_> = rows.iter().map(|[_, error]| error.as_deref()).collect();
        assert_eq!(errors, [None, Some("row 1"), None, Some("row 3")]);
        let expected = BatchUsage {
            seq: 9,
            row: 0,
            last: true,
            queue_us: 1,
            host_us: 2,
            device_us: 3,
            items: 4,
            unit: WorkUnit::Tokens,
            units: 123,
            failed: 2,
        };
        assert_eq!(usages, [expected]);
        let (rows, usages) = answer(done(vec![], &[])?, 1000)?;
        assert_eq!((rows.len(), usages.len(), usages[0].last), (0, 1, true));
        Ok(())
    }

    #[test]
    fn a_large_answer_comes_in_parts() -> anyhow::Result<()> {
        let long = "x".repeat(60);
        let values = vec![
            Some("a"),
            Some(&long),
            None,
            Some(&long),
            Some("b"),
            Some(&long),
        ];
        let expected: Vec<_> = values.iter().map(|v| v.map(str::to_owned)).collect();
        let (rows, usages) = answer(done(values, &[2])?, 100)?;
        let values: Vec<_> = rows.iter().map(|[value, _]| value.clone()).collect();
        assert_eq!(values, expected);
        assert!(usages.len() > 1);
        let last: Vec<bool> = usages.iter().map(|usage| usage.last).collect();
        assert_eq!(last.iter().position(|last| *last), Some(usages.len() - 1));
        assert_eq!(usages.iter().map(|usage| usage.units).sum::<u64>(), 123);
        assert_eq!(rows[2], [None, Some("row 2".into())]);
        assert_eq!(usages.last().map(|usage| usage.failed), Some(1));
        Ok(())
    }

    #[test]
    fn a_row_that_no_message_holds_fails_alone() -> anyhow::Result<()> {
        let huge = "x".repeat(200);
        let (rows, usages) = answer(done(vec![Some("a"), Some(&huge), Some("c")], &[])?, 100)?;
        assert_eq!(rows[0], [Some("a".into()), None]);
        assert_eq!(
            rows[1],
            [None, Some("the result is larger than 100 bytes".into())]
        );
        assert_eq!(rows[2], [Some("c".into()), None]);
        assert_eq!(
            usages.last().map(|usage| (usage.failed, usage.items)),
            Some((1, 3))
        );
        Ok(())
    }
}
