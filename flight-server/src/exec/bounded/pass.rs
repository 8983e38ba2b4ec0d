//! A function that gives its argument as it is, after a look at how much would be made of it.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::join::schema_name;
use crate::error::Error;

pub(super) const SINGLE: &str = "one for all rows";

/// What a subquery's value may take in all rows of a batch, into which who counts no memory may
/// copy it.
const BATCH_BYTES_MAX: usize = 512 << 20;

/// The value of a subquery, which operators copy into every row of a batch.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Single {
    signature: Signature,
}

impl Single {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Single {
    fn name(&self) -> &str {
        SINGLE
    }

    /// As the subquery is called, so that no column gets another name.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        schema_name(args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        first(types).cloned()
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        first(args.arg_fields).cloned()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = first(&args.args)?.clone();
        match &value {
            ColumnarValue::Scalar(scalar) => {
                let bytes = scalar.size().saturating_mul(args.number_rows);
                match bytes > BATCH_BYTES_MAX {
                    true => Err(Error::exhausted(format!(
                        "a subquery gives one value of {} bytes for each of {} rows at once, and \
                         at most {BATCH_BYTES_MAX} bytes are allowed together; join it instead",
                        scalar.size(),
                        args.number_rows
                    ))
                    .into()),
                    false => Ok(value),
                }
            }
            ColumnarValue::Array(_) => Ok(value),
        }
    }
}

fn first<T>(of: &[T]) -> Result<&T> {
    of.first().ok_or_else(none)
}

fn none() -> DataFusionError {
    DataFusionError::Internal("an argument is missing".to_owned())
}
