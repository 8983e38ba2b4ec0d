//! The scalar expressions that may be evaluated on rows that are only counted: those that
//! cannot fail on any value and that show no identifier. A condition that failed on the rows
//! of one person would tell, by its error, that there is such a person.
//!
//! Plans come here coerced: casts that the planner adds between types are seen as such.

use std::collections::BTreeSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::Like;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema};

use super::casts::{is_machine_number, is_plain, never_fails, try_never_fails};
use super::rows::Rows;
use super::{functions, refused};

/// Of a pattern or another text that rows are compared with.
const TEXT_BYTES_MAX: usize = 1_000;

/// What an expression depends on.
pub enum Value {
    /// On the rows.
    OfRows,
    /// On parameters that are not bound yet. Such a plan is looked at again before it runs.
    Unbound,
    Constant(ScalarValue),
}

/// Refuses an expression over `rows` that could fail on a value, or that holds an identifier.
pub fn check(expr: &Expr, rows: &Rows) -> Result<()> {
    check_over(expr, &rows.identifiers, rows.plan.schema())
}

/// Refuses labels with an expression that could fail: the side of a join that comes second is
/// not read where the first has no rows.
pub fn check_labels(labels: &LogicalPlan) -> Result<()> {
    labels.apply(|node| {
        let mut schema = DFSchema::empty();
        for input in node.inputs() {
            schema.merge(input.schema());
        }
        for expr in node.expressions() {
            check_over(&expr, &BTreeSet::new(), &schema)?;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_over(expr: &Expr, identifiers: &BTreeSet<Column>, schema: &DFSchema) -> Result<()> {
    expr.apply(|part| match value_of(part)? {
        Value::Constant(_) | Value::Unbound => Ok(TreeNodeRecursion::Jump),
        Value::OfRows => check_part(part, identifiers, schema),
    })?;
    Ok(())
}

fn check_part(
    part: &Expr,
    identifiers: &BTreeSet<Column>,
    schema: &DFSchema,
) -> Result<TreeNodeRecursion> {
    match part {
        Expr::Column(column) => check_column(column, identifiers, schema)?,
        Expr::Alias(_)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_) => {}
        Expr::Negative(inner) => check_numbers(part, &[inner], schema)?,
        Expr::Like(Like { pattern, .. }) => match value_of(pattern)? {
            Value::OfRows => return refused("LIKE below an aggregate takes a constant pattern"),
            Value::Constant(pattern) => check_text(&pattern)?,
            Value::Unbound => {}
        },
        Expr::BinaryExpr(binary) => check_operator(part, binary, schema)?,
        Expr::Cast(cast) => {
            let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type());
            if !never_fails(&from, to) {
                return refused(format!(
                    "`{part}` fails on some values; write `TRY_CAST`, which gives NULL, or \
                     compare {from} with {from}"
                ));
            }
        }
        Expr::TryCast(cast) => {
            let (from, to) = (cast.expr.get_type(schema)?, cast.field.data_type());
            if !try_never_fails(&from, to) {
                return refused(format!(
                    "`{part}` is not available below an aggregate; texts become numbers and \
                     dates, and numbers become numbers and texts"
                ));
            }
        }
        Expr::ScalarFunction(call) => {
            for argument in functions::check(call, schema)? {
                check_over(argument, identifiers, schema)?;
            }
            return Ok(TreeNodeRecursion::Jump);
        }
        Expr::InSubquery(_) | Expr::Exists(_) | Expr::ScalarSubquery(_) => {
            return refused(
                "a subquery below an aggregate is `identifier IN (SELECT identifier …)`, alone or \
                 joined to other conditions by AND",
            );
        }
        other => return refused(format!("`{other}` is not available below an aggregate")),
    }
    Ok(TreeNodeRecursion::Continue)
}

fn check_column(column: &Column, identifiers: &BTreeSet<Column>, schema: &DFSchema) -> Result<()> {
    if identifiers.contains(column) {
        return refused(format!(
            "`{}` is an identifier: aggregates may join on it, count it with `count(DISTINCT …)` \
             or test it with `IN (SELECT …)`, and nothing else",
            column.name
        ));
    }
    let data_type = schema.data_type(column)?;
    if is_plain(data_type) {
        return Ok(());
    }
    refused(format!(
        "`{}` is {data_type}, which is not available below an aggregate",
        column.name
    ))
}

/// A long pattern fails when it meets the first text, as it becomes a regular expression of
/// bounded size.
pub fn check_text(constant: &ScalarValue) -> Result<()> {
    let text = constant.try_as_str().flatten().unwrap_or_default();
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(());
    }
    refused(format!(
        "a text of {} bytes is too long below an aggregate; at most {TEXT_BYTES_MAX} are allowed",
        text.len()
    ))
}

fn check_numbers(whole: &Expr, parts: &[&Expr], schema: &DFSchema) -> Result<()> {
    for part in parts {
        let data_type = part.get_type(schema)?;
        if !is_machine_number(&data_type) {
            return refused(format!(
                "`{whole}` calculates with {data_type}, which fails on some values; write \
                 `CAST(… AS DOUBLE)`"
            ));
        }
    }
    Ok(())
}

fn check_operator(whole: &Expr, binary: &BinaryExpr, schema: &DFSchema) -> Result<()> {
    let (left, right) = (binary.left.as_ref(), binary.right.as_ref());
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
        | Operator::IsNotDistinctFrom => Ok(()),
        Operator::Minus if is_date(left, schema)? && is_date(right, schema)? => Ok(()),
        Operator::Plus | Operator::Minus | Operator::Multiply => {
            check_numbers(whole, &[left, right], schema)
        }
        Operator::Divide | Operator::Modulo => {
            check_numbers(whole, &[left, right], schema)?;
            if right.get_type(schema)?.is_floating() || is_safe_divisor(right)? {
                return Ok(());
            }
            refused(
                "a division of integers below an aggregate needs a constant other than 0 and -1 \
                 on its right; write `CAST(… AS DOUBLE)`",
            )
        }
        other => refused(format!(
            "operator `{other}` is not available below an aggregate"
        )),
    }
}

fn is_date(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    Ok(expr.get_type(schema)? == DataType::Date32)
}

/// A division by 0 fails, and that of the least integer by -1.
fn is_safe_divisor(expr: &Expr) -> Result<bool> {
    Ok(match value_of(expr)? {
        Value::OfRows => false,
        Value::Unbound => true,
        Value::Constant(value) => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(divisor))) => divisor != 0 && divisor != -1,
            _ => false,
        },
    })
}

/// What `expr` depends on, with its value where that is known.
///
/// # Errors
/// Where it is a constant that cannot be evaluated: said now, and not by the first row that
/// reaches it.
pub fn value_of(expr: &Expr) -> Result<Value> {
    let (mut of_rows, mut unbound) = (false, false);
    expr.apply(|part| {
        match part {
            Expr::Placeholder(_) => unbound = true,
            Expr::Literal(..)
            | Expr::Alias(_)
            | Expr::Negative(_)
            | Expr::Not(_)
            | Expr::BinaryExpr(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::Case(_)
            | Expr::Between(_)
            | Expr::InList(_)
            | Expr::Like(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_) => {}
            Expr::ScalarFunction(call) if functions::is_known(call.name()) => {}
            _ => of_rows = true,
        }
        Ok(if of_rows {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    if of_rows {
        return Ok(Value::OfRows);
    }
    if unbound {
        return Ok(Value::Unbound);
    }
    evaluated(expr).map(Value::Constant)
}

fn evaluated(expr: &Expr) -> Result<ScalarValue> {
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let expr = &simplifier.simplify(expr.clone())?;
    if let Expr::Literal(value, _) = expr {
        return Ok(value.clone());
    }
    let schema = Schema::empty();
    let physical = create_physical_expr(
        expr,
        &DFSchema::try_from(schema.clone())?,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let row = RecordBatch::try_new_with_options(schema.into(), vec![], &options)?;
    let values = physical.evaluate(&row)?.into_array(1)?;
    ScalarValue::try_from_array(&values, 0)
}

/// The column behind an expression that only names it.
pub fn named(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => named(&alias.expr),
        _ => None,
    }
}
