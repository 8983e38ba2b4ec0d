//! The operator `||` on texts and bytes, and constants that become a column, as functions: so
//! that they are bounded as any other.

use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};

pub(super) const JOIN: &str = "||";
pub(super) const SPREAD: &str = "in every row";

/// `left || right`, computed by DataFusion's operator: NULL where either is.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Join {
    signature: Signature,
}

impl Join {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(2, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Join {
    fn name(&self) -> &str {
        JOIN
    }

    /// As the operator is called, so that no column gets another name.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<_> = args
            .iter()
            .map(|arg| arg.schema_name().to_string())
            .collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = types else {
            return Err(two_arguments());
        };
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types = args
            .arg_fields
            .iter()
            .map(|field| field.data_type().clone());
        let made = self.return_type(&types.collect::<Vec<_>>())?;
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(JOIN, made, nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        let mut sides: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for (value, field) in args.args.into_iter().zip(&args.arg_fields) {
            match value {
                ColumnarValue::Scalar(scalar) => sides.push(Arc::new(Literal::new(scalar))),
                ColumnarValue::Array(array) => {
                    sides.push(Arc::new(Column::new("", columns.len())));
                    fields.push(Field::new("", field.data_type().clone(), true));
                    columns.push(array);
                }
            }
        }
        let [left, right] = <[_; 2]>::try_from(sides).map_err(|_| two_arguments())?;
        // Two constants make one, not one for each row.
        let rows = match columns.is_empty() {
            true => 1,
            false => args.number_rows,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        BinaryExpr::new(left, Operator::StringConcat, right).evaluate(&batch)
    }
}

fn two_arguments() -> DataFusionError {
    DataFusionError::Internal("`||` has another number of arguments".to_owned())
}

/// How a call is called that gives its only argument.
pub(super) fn schema_name(args: &[Expr]) -> Result<String> {
    let names = args.iter().map(|arg| arg.schema_name().to_string());
    Ok(names.collect())
}

/// A value that is the same in every row, as a column: it is copied as often as there are rows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    signature: Signature,
}

impl Spread {
    /// Volatile, although it is not, so that the planner does not make one value of it again.
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::any(1, Volatility::Volatile),
        }
    }
}

impl ScalarUDFImpl for Spread {
    fn name(&self) -> &str {
        SPREAD
    }

    /// As the value is called, so that no column gets another name.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        schema_name(args)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(types.first().cloned().unwrap_or(DataType::Null))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let field = args.arg_fields.first().cloned();
        field.ok_or_else(|| DataFusionError::Internal("a constant is missing".to_owned()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args
            .args
            .into_iter()
            .next()
            .ok_or_else(|| DataFusionError::Internal("a constant is missing".to_owned()))?;
        Ok(ColumnarValue::Array(value.into_array(args.number_rows)?))
    }
}
