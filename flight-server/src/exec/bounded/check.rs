//! What an optimised plan may not ask, because operators would copy or keep more than they count.

use std::collections::HashSet;

use datafusion::common::Column;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{
    BinaryExpr, Expr, LogicalPlan, Operator, Projection, ScalarUDF, Volatility,
};

use super::join::SPREAD;
use super::spread::{Constants, heap_bytes};
use crate::error::Error;

/// Literals among the arguments of the aggregates or windows of one step, which are copied into
/// every row of a batch, all together.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;
/// Expressions that one step of a plan computes of a batch at a time.
const COMPUTED_MAX: usize = 2_048;

/// Refuses a step of a plan.
pub(super) fn check(node: &LogicalPlan, constants: Constants) -> Result<()> {
    let (mut computed, mut arguments) = (0, 0);
    node.apply_expressions(|expr| {
        let inner = match expr {
            Expr::Alias(alias) => alias.expr.as_ref(),
            other => other,
        };
        computed += usize::from(match inner {
            Expr::Column(_) => false,
            // Those that are counted are computed too.
            Expr::Literal(..) => constants.are_large,
            _ => true,
        });
        expr.apply(|part| {
            check_pattern(part, node)?;
            arguments += bytes_of_arguments(part)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    // A scan has the conditions that it passes on, and computes them one after another; VALUES have
    // one row for each few.
    let is_exempt = matches!(node, LogicalPlan::TableScan(_) | LogicalPlan::Values(_));
    if computed > COMPUTED_MAX && !is_exempt {
        return Err(Error::invalid(format!(
            "one step of the statement computes {computed} expressions and at most {COMPUTED_MAX} \
             are allowed; ask for fewer columns at once"
        ))
        .into());
    }
    if arguments > ARGUMENTS_BYTES_MAX {
        return Err(Error::exhausted(format!(
            "the constants that aggregates or windows have together are {arguments} bytes, and at \
             most {ARGUMENTS_BYTES_MAX} are allowed; make them smaller"
        ))
        .into());
    }
    Ok(())
}

/// A regular expression is compiled for each value that it has, with flags or without, which may
/// take megabytes each time, and kept for as long as the batch is read.
fn check_pattern(expr: &Expr, node: &LogicalPlan) -> Result<()> {
    let (pattern, flags) = match expr {
        Expr::BinaryExpr(BinaryExpr {
            op:
                Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch,
            right,
            ..
        }) => (Some(right.as_ref()), None),
        Expr::SimilarTo(like) => (Some(like.pattern.as_ref()), None),
        Expr::ScalarFunction(call) if call.name().starts_with("regexp_") => {
            (call.args.get(1), call.args.get(flags_of(&call.func)))
        }
        _ => return Ok(()),
    };
    for part in [pattern, flags].into_iter().flatten() {
        if varies(part, node)? {
            return Err(Error::invalid(
                "a regular expression and its flags must be the same for all rows; write them as \
                 constants, or compare with LIKE or starts_with where they come from a column",
            )
            .into());
        }
    }
    Ok(())
}

/// The argument that has the flags, after a replacement, a start or a number.
fn flags_of(function: &ScalarUDF) -> usize {
    match function.name() {
        "regexp_replace" | "regexp_count" => 3,
        "regexp_instr" => 4,
        _ => 2,
    }
}

/// True where an expression of a step is not the same in all rows. A column is where it is computed
/// of constants beneath, as subqueries are that are written twice.
fn varies(expr: &Expr, node: &LogicalPlan) -> Result<bool> {
    let (mut exprs, mut node) = (vec![expr], node);
    loop {
        let mut columns = HashSet::new();
        for expr in exprs {
            if varies_itself(expr)? {
                return Ok(true);
            }
            columns.extend(expr.column_refs());
        }
        if columns.is_empty() {
            return Ok(false);
        }
        let Some((projection, beneath)) = computed_beneath(node, &columns) else {
            return Ok(true);
        };
        (exprs, node) = (beneath, projection);
    }
}

fn varies_itself(expr: &Expr) -> Result<bool> {
    expr.exists(|part| {
        Ok(match part {
            Expr::OuterReferenceColumn(..) => true,
            // A constant in every row is volatile for the planner alone.
            Expr::ScalarFunction(call) => {
                let is_volatile = call.func.signature().volatility == Volatility::Volatile;
                is_volatile && call.name() != SPREAD
            }
            _ => false,
        })
    })
}

/// What the projection beneath a step computes the columns of; none where another step does.
fn computed_beneath<'a>(
    node: &'a LogicalPlan,
    columns: &HashSet<&Column>,
) -> Option<(&'a LogicalPlan, Vec<&'a Expr>)> {
    let [mut input] = *node.inputs().as_slice() else {
        return None;
    };
    let schema = input.schema();
    let places = columns
        .iter()
        .map(|column| schema.maybe_index_of_column(column));
    let places = places.collect::<Option<Vec<usize>>>()?;
    loop {
        // These have the columns of their input, in its order.
        input = match input {
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            LogicalPlan::Limit(limit) => &limit.input,
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Projection(Projection { expr, .. }) => {
                let exprs = places.into_iter().map(|place| expr.get(place));
                return Some((input, exprs.collect::<Option<_>>()?));
            }
            _ => return None,
        };
    }
}

/// Bytes of the literals among the arguments of an aggregate or window.
fn bytes_of_arguments(expr: &Expr) -> Result<usize> {
    let mut bytes = 0;
    if matches!(expr, Expr::AggregateFunction(_) | Expr::WindowFunction(_)) {
        expr.apply_children(|part| {
            if let Expr::Literal(value, _) = part {
                bytes += heap_bytes(value);
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(bytes)
}
