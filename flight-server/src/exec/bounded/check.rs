//! What an optimised plan may not ask, because operators would copy or keep more than they count.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};
use hubflight_udfs::is_worker_function;

use crate::error::Error;

/// Constants among the arguments of an aggregate or window, which are copied into every row of a
/// batch, all together.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;
/// Expressions that one step of a plan computes of a batch at a time.
const COMPUTED_MAX: usize = 2_048;

/// Refuses a step of a plan.
pub(super) fn check(node: &LogicalPlan) -> Result<()> {
    let mut computed = 0;
    node.apply_expressions(|expr| {
        let inner = match expr {
            Expr::Alias(alias) => alias.expr.as_ref(),
            other => other,
        };
        computed += usize::from(!matches!(inner, Expr::Column(_) | Expr::Literal(..)));
        expr.apply(|part| {
            check_pattern(part)?;
            check_constants(part)?;
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
    Ok(())
}

/// A regular expression is compiled for each value, which may take megabytes each time, and kept
/// for as long as the batch is read.
fn check_pattern(expr: &Expr) -> Result<()> {
    let pattern = match expr {
        Expr::BinaryExpr(BinaryExpr {
            op:
                Operator::RegexMatch
                | Operator::RegexIMatch
                | Operator::RegexNotMatch
                | Operator::RegexNotIMatch,
            right,
            ..
        }) => Some(right.as_ref()),
        Expr::SimilarTo(like) => Some(like.pattern.as_ref()),
        Expr::ScalarFunction(call) if call.name().starts_with("regexp_") => call.args.get(1),
        _ => None,
    };
    match pattern {
        Some(pattern) if varies(pattern)? => Err(Error::invalid(
            "a regular expression must be the same for all rows; write it as a constant, or compare \
             with LIKE or starts_with where it comes from a column",
        )
        .into()),
        _ => Ok(()),
    }
}

fn varies(expr: &Expr) -> Result<bool> {
    expr.exists(|part| {
        Ok(matches!(
            part,
            Expr::Column(_) | Expr::OuterReferenceColumn(..)
        ))
    })
}

fn check_constants(expr: &Expr) -> Result<()> {
    let (name, args) = match expr {
        Expr::AggregateFunction(call) => (call.func.name(), &call.params.args),
        Expr::WindowFunction(call) => (call.fun.name(), &call.params.args),
        _ => return Ok(()),
    };
    let mut bytes = 0;
    for arg in args {
        if let Expr::Literal(value, _) = arg {
            bytes += value.size();
        }
        if is_uncomputed(arg)? {
            return Err(Error::exhausted(format!(
                "an argument of `{name}` is the same for all rows, and too large to be computed \
                 once; make it smaller",
            ))
            .into());
        }
    }
    if bytes > ARGUMENTS_BYTES_MAX {
        return Err(Error::exhausted(format!(
            "the constants among the arguments of `{name}` have {bytes} bytes and at most \
             {ARGUMENTS_BYTES_MAX} are allowed"
        ))
        .into());
    }
    Ok(())
}

/// A constant of variable size that the planner left, as it does with what is too large.
fn is_uncomputed(arg: &Expr) -> Result<bool> {
    let Expr::ScalarFunction(call) = arg else {
        return Ok(false);
    };
    // One of a subquery is bounded with that.
    let is_of_subquery = arg.exists(|part| Ok(matches!(part, Expr::ScalarSubquery(_))))?;
    Ok(arg.column_refs().is_empty()
        && !is_of_subquery
        && !arg.is_volatile()
        && !is_worker_function(&call.func)
        && arg
            .get_type(&DFSchema::empty())?
            .primitive_width()
            .is_none())
}
