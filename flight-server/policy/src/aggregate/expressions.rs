//! The scalar expressions that may be evaluated on rows that are only counted: those that
//! cannot fail on any value, so that no error tells of a row, and that show no identifier.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator};

use super::refused;
use super::rows::Rows;

/// Functions that are defined for every value of their arguments, sorted.
#[rustfmt::skip]
const FUNCTIONS: &[&str] = &[
    "btrim", "ceil", "character_length", "coalesce", "contains", "date_part", "date_trunc",
    "ends_with", "floor", "greatest", "initcap", "least", "left", "lower", "ltrim", "nullif",
    "nvl", "octet_length", "right", "round", "rtrim", "signum", "starts_with", "strpos",
    "substr", "trunc", "upper",
];

/// Refuses an expression over `rows` that could fail on a value, or that holds an identifier.
pub fn check(expr: &Expr, rows: &Rows) -> Result<()> {
    let schema = rows.plan.schema();
    expr.apply(|part| {
        check_part(part, rows, schema)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_part(part: &Expr, rows: &Rows, schema: &DFSchema) -> Result<()> {
    match part {
        Expr::Column(column) if rows.is_identifier(column) => refused(format!(
            "`{}` is an identifier: aggregates may join on it, count it with `count(DISTINCT …)` \
             or test it with `IN (SELECT …)`, and nothing else",
            column.name
        )),
        Expr::Column(_)
        | Expr::Literal(_, _)
        | Expr::Placeholder(_)
        | Expr::Alias(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Like(_)
        | Expr::Case(_)
        | Expr::TryCast(_)
        | Expr::InList(_) => Ok(()),
        Expr::BinaryExpr(binary) => check_operator(binary),
        Expr::Cast(cast) => {
            let from = cast.expr.get_type(schema)?;
            let to = cast.field.data_type();
            let literal = matches!(cast.expr.as_ref(), Expr::Literal(_, _));
            let widens = to.is_floating() && from.is_numeric()
                || from.is_integer() && matches!(to, arrow::datatypes::DataType::Int64)
                || from == *to
                || is_text(to);
            if literal || widens {
                return Ok(());
            }
            refused(format!(
                "a cast from {from} to {to} fails on some values; write `TRY_CAST`, which gives NULL"
            ))
        }
        Expr::ScalarFunction(call) => {
            let name = call.name();
            if FUNCTIONS.binary_search(&name).is_ok() {
                return Ok(());
            }
            refused(format!(
                "function `{name}` is not available below an aggregate; there are {}",
                FUNCTIONS.join(", ")
            ))
        }
        Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) => refused(
            "a subquery below an aggregate is `identifier IN (SELECT identifier …)`, alone or \
             joined to other conditions by AND",
        ),
        other => refused(format!("`{other}` is not available below an aggregate")),
    }
}

fn is_text(data_type: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType;
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn check_operator(binary: &BinaryExpr) -> Result<()> {
    match binary.op {
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::And
        | Operator::Or
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom
        | Operator::Plus
        | Operator::Minus
        | Operator::Multiply
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch => Ok(()),
        Operator::Divide | Operator::Modulo if is_constant_not_zero(&binary.right) => Ok(()),
        Operator::Divide | Operator::Modulo => {
            refused("a division below an aggregate needs a number other than 0 on its right")
        }
        other => refused(format!(
            "operator `{other}` is not available below an aggregate"
        )),
    }
}

fn is_constant_not_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => {
            let zero = datafusion::common::ScalarValue::new_zero(&value.data_type());
            !value.is_null() && zero.is_ok_and(|zero| zero != *value)
        }
        _ => false,
    }
}

/// The column behind an expression that only names it.
pub fn named(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => named(&alias.expr),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::FUNCTIONS;

    #[test]
    fn functions_are_sorted() {
        assert!(FUNCTIONS.is_sorted());
    }
}
