//! A call in a branch of CASE works only on the rows that take the branch.
//!
//! Calls are computed beneath the expression that holds them, for every row. So that rows
//! which do not take the branch cost nothing and cannot fail, the call's main argument becomes
//! NULL there: `CASE WHEN c THEN f(x) END` → `CASE WHEN c THEN f(CASE WHEN c THEN x END) END`.

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, and, when};

use crate::function::WorkerFunction;

/// True where `expr` is a call of a worker function.
pub(crate) fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if WorkerFunction::of(&function.func).is_some())
}

/// True where `expr` holds a call of a worker function, at any depth.
pub(crate) fn has_call(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_call(part))).unwrap_or(false)
}

/// Guards the calls in every branch of every CASE of `expr`.
pub(crate) fn guard_branches(expr: Expr) -> Result<Expr> {
    if !has_call(&expr) {
        return Ok(expr);
    }
    let guarded = expr.transform_up(|part| match part {
        Expr::Case(case) => guard_case(case).map(Transformed::yes),
        part => Ok(Transformed::no(part)),
    })?;
    Ok(guarded.data)
}

fn guard_case(case: Case) -> Result<Expr> {
    let Case {
        expr: operand,
        when_then_expr,
        else_expr,
    } = case;
    let condition = |tested: &Expr| match &operand {
        None => tested.clone(),
        Some(operand) => operand.as_ref().clone().eq(tested.clone()),
    };
    let mut taken_before: Vec<Expr> = Vec::new();
    let mut branches = Vec::with_capacity(when_then_expr.len());
    for (tested, then) in when_then_expr {
        let this = condition(&tested);
        let tested = guard_calls(*tested, &taken_before, None)?;
        let then = guard_calls(*then, &taken_before, Some(&this))?;
        taken_before.push(this);
        branches.push((Box::new(tested), Box::new(then)));
    }
    let otherwise = match else_expr {
        Some(expr) => Some(Box::new(guard_calls(*expr, &taken_before, None)?)),
        None => None,
    };
    Ok(Expr::Case(Case {
        expr: operand,
        when_then_expr: branches,
        else_expr: otherwise,
    }))
}

/// Makes calls in `expr` work only where none of `before` is true and `this`, if any, is.
fn guard_calls(expr: Expr, before: &[Expr], this: Option<&Expr>) -> Result<Expr> {
    let before = before.iter().map(|tested| tested.clone().is_not_true());
    let guard = before.chain(this.cloned()).reduce(and);
    let Some(guard) = guard.filter(|guard| has_call(&expr) && repeatable(guard)) else {
        return Ok(expr);
    };
    let guarded = expr.transform_up(|part| match part {
        Expr::ScalarFunction(mut function) if WorkerFunction::of(&function.func).is_some() => {
            if let Some(main) = function.args.first_mut()
                && !has_call(main)
            {
                let value = std::mem::take(main);
                *main = when(guard.clone(), value).end()?;
                return Ok(Transformed::yes(Expr::ScalarFunction(function)));
            }
            Ok(Transformed::no(Expr::ScalarFunction(function)))
        }
        part => Ok(Transformed::no(part)),
    })?;
    Ok(guarded.data)
}

/// True where a second evaluation of `guard` gives the same: ours are declared volatile, but
/// are not.
fn repeatable(guard: &Expr) -> bool {
    let volatile = guard.exists(|part| Ok(part.is_volatile_node() && !is_call(part)));
    !volatile.unwrap_or(true)
}
