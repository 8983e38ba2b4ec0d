//! Hides some casts from DataFusion's statistics.
//!
//! DataFusion 55 takes the least and the greatest value of `CAST(x AS …)` for the casts of the
//! least and the greatest `x`. That is wrong where the cast changes the order: as texts, `10014`
//! comes before `95`. Answers of `min` and `max`, and of filters on such a column, were wrong or
//! an internal error. As a function of ours the cast is opaque to statistics.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule; it belongs behind all others, which know casts better than functions.
#[derive(Debug)]
pub struct HideCasts;

impl OptimizerRule for HideCasts {
    fn name(&self) -> &str {
        "hide_casts_that_change_the_order"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let LogicalPlan::Projection(projection) = plan else {
            return Ok(Transformed::no(plan));
        };
        let schema = projection.input.schema();
        let hide = |expr: Expr| {
            let name = expr.schema_name().to_string();
            let hidden = expr.transform_up(|part| match part {
                Expr::Cast(cast) => {
                    let to = cast.field.data_type();
                    if keeps_order(&cast.expr.get_type(schema)?, to) {
                        return Ok(Transformed::no(Expr::Cast(cast)));
                    }
                    let to = to.clone();
                    Ok(Transformed::yes(hidden(*cast.expr, to)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            // Another expression must not change the column's name.
            Ok(hidden.update_data(|expr| {
                if expr.schema_name().to_string() == name {
                    expr
                } else {
                    expr.alias(name)
                }
            }))
        };
        let exprs: Vec<Transformed<Expr>> = projection
            .expr
            .iter()
            .cloned()
            .map(hide)
            .collect::<Result<_>>()?;
        if !exprs.iter().any(|expr| expr.transformed) {
            return Ok(Transformed::no(LogicalPlan::Projection(projection)));
        }
        let exprs = exprs.into_iter().map(|expr| expr.data).collect();
        let changed = Projection::try_new_with_schema(exprs, projection.input, projection.schema)?;
        Ok(Transformed::yes(LogicalPlan::Projection(changed)))
    }
}

/// Texts are ordered otherwise than what they spell, and of numbers only the sign of zero or not
/// is left in a boolean.
fn keeps_order(from: &DataType, to: &DataType) -> bool {
    let text = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    let boolean = |data_type: &DataType| *data_type == DataType::Boolean;
    text(from) == text(to) && boolean(from) == boolean(to)
}

fn hidden(expr: Expr, to: DataType) -> Expr {
    ScalarUDF::new_from_impl(Convert {
        to,
        signature: Signature::any(1, Volatility::Immutable),
    })
    .call(vec![expr])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Convert {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Convert {
    fn name(&self) -> &str {
        "convert"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(
        &self,
        args: datafusion::logical_expr::ReturnFieldArgs,
    ) -> Result<arrow::datatypes::FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(std::sync::Arc::new(arrow::datatypes::Field::new(
            self.name(),
            self.to.clone(),
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else {
            return datafusion::common::exec_err!("`convert` takes one argument");
        };
        value.cast_to(&self.to, None)
    }
}
