//! A function that gives its argument as it is, after a look at how much would be made of it.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::error::Error;

pub(super) const SINGLE: &str = "one for all rows";

/// Size of a subquery's value that is copied into every row by who counts no memory.
const SINGLE_BYTES_MAX: usize = 64 << 10;

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
            ColumnarValue::Scalar(scalar) if scalar.size() > SINGLE_BYTES_MAX => {
                Err(Error::exhausted(format!(
                    "a subquery gives one value of {} bytes for all rows, and at most \
                     {SINGLE_BYTES_MAX} are allowed; join it instead",
                    scalar.size()
                ))
                .into())
            }
            _ => Ok(value),
        }
    }
}

fn first<T>(of: &[T]) -> Result<&T> {
    of.first().ok_or_else(none)
}

fn none() -> DataFusionError {
    DataFusionError::Internal("an argument is missing".to_owned())
}
