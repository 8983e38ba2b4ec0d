//! A call on the slices of one partition: which rows are sent, and what their results are.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StructArray, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use hubflight_protocol::{BatchUsage, ROW_BYTES_MAX};

use crate::caller::Caller;
use crate::exec::ExecCall;
use crate::function::OnError;
use crate::slice::{Sent, is_too_large};
use crate::{WorkError, WorkMeter};

/// A call on one partition.
pub(crate) struct PartitionCall {
    pub(crate) call: ExecCall,
    pub(crate) caller: Caller,
    pub(crate) meter: Arc<dyn WorkMeter>,
}

/// What a call gave for a slice.
pub(crate) struct Called {
    /// The results, in the call's SQL type.
    pub(crate) column: ArrayRef,
    /// Why rows failed; NULL where they did not.
    errors: ArrayRef,
    /// What the workers did for it.
    usages: Vec<BatchUsage>,
    /// Memory of the answers.
    held: Vec<MemoryReservation>,
}

impl PartitionCall {
    /// The results for one slice's `arguments`; answers are held in reservations like `memory`.
    pub(crate) async fn run(
        &self,
        arguments: &[ArrayRef],
        memory: &MemoryReservation,
    ) -> Result<Called> {
        let Some(main) = arguments.first() else {
            return Err(WorkError::Internal("a function without arguments".into()).into());
        };
        let (rows, value) = (main.len(), &self.call.value);
        let sent = Sent::of(main);
        if matches!(sent, Sent::None) {
            let no_errors = new_null_array(&DataType::Utf8, rows);
            return self.without_work(new_null_array(value, rows), no_errors);
        }
        if rows == 1 && is_too_large(arguments) {
            let reason = format!("the arguments are larger than {ROW_BYTES_MAX} bytes");
            let errors = Arc::new(StringArray::from(vec![reason]));
            return self.without_work(new_null_array(value, rows), errors);
        }
        let schema = Arc::clone(self.caller.schema());
        let batch = RecordBatch::try_new(schema, sent.select(arguments)?)?;
        let answers = self.caller.call(batch, memory).await?;
        let mut called = Called {
            column: sent.scatter(&joined(answers.iter().map(|answer| answer.rows.column(0)))?)?,
            errors: sent.scatter(&joined(answers.iter().map(|answer| answer.rows.column(1)))?)?,
            usages: Vec::new(),
            held: Vec::new(),
        };
        called.column = self.in_sql(called.column, &called.errors)?;
        for answer in answers {
            called.usages.extend(answer.usage);
            called.held.push(answer.memory);
        }
        Ok(called)
    }

    fn without_work(&self, values: ArrayRef, errors: ArrayRef) -> Result<Called> {
        Ok(Called {
            column: self.in_sql(values, &errors)?,
            errors,
            usages: Vec::new(),
            held: Vec::new(),
        })
    }

    /// What the SQL function returns where the worker's returned `values` and `errors`.
    fn in_sql(&self, values: ArrayRef, errors: &ArrayRef) -> Result<ArrayRef> {
        if self.call.on_error != OnError::Report {
            return Ok(values);
        }
        let DataType::Struct(fields) = self.call.on_error.returns(self.call.value.clone()) else {
            return Ok(values);
        };
        let columns = vec![values, Arc::clone(errors)];
        Ok(Arc::new(StructArray::try_new(fields, columns, None)?))
    }

    /// Counts what `called` cost, now that its rows are handed on, and stops the query at a
    /// failed row where `on_error` says so.
    pub(crate) fn count(&self, called: &Called) -> Result<()> {
        let spec = self.call.spec;
        for usage in &called.usages {
            self.meter.work(spec.name, spec.unit, usage);
        }
        if called.errors.null_count() == called.errors.len() {
            return Ok(());
        }
        for reason in called.errors.as_string::<i32>().iter().flatten() {
            self.meter.row_error(spec.name, reason);
            if self.call.on_error == OnError::Fail {
                return Err(WorkError::RowFailed {
                    function: spec.name.to_owned(),
                    reason: reason.to_owned(),
                }
                .into());
            }
        }
        Ok(())
    }
}

/// The parts of a column as one; usually there is one part.
fn joined<'a>(parts: impl Iterator<Item = &'a ArrayRef>) -> Result<ArrayRef> {
    let parts: Vec<&ArrayRef> = parts.collect();
    if let [only] = parts.as_slice() {
        return Ok(Arc::clone(only));
    }
    let parts: Vec<&dyn Array> = parts.into_iter().map(|part| part.as_ref()).collect();
    Ok(concat(&parts)?)
}
