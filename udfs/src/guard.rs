//! A call in a place that only some rows reach works on those rows only, and on each once.
//!
//! Calls are computed beneath the expression that holds them, for every row. So that rows which
//! do not reach a call cost nothing and cannot fail, the call's arguments become NULL there:
//! `CASE WHEN c THEN f(x) END` → `CASE WHEN c THEN f(CASE WHEN c THEN x END) END`. Places that
//! not every row reaches are the branches of CASE but for its first condition, and the right
//! sides of AND and OR; `coalesce` and the like have become CASE when this runs.
//!
//! Where a call is written in several places, what an earlier place computed is used in the
//! later ones, which compute the rows that are left.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result, ScalarValue, internal_err};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, lit};

use crate::function::WorkerFunction;

/// Most conditions that guard one call. What lies behind more of them is guarded by the first
/// ones only, so that the size of a plan stays in proportion to that of its statement.
const GUARD_STEPS_MAX: usize = 64;

/// Most earlier places of a call whose rows a later place leaves out, for the same reason.
const OVERLAPS_MAX: usize = 8;

/// Where calls are computed: gives each the column that will hold its result.
pub(crate) trait Calls {
    /// The column that holds the result of `call` already.
    fn known(&self, call: &Expr) -> Option<Column>;

    /// The column of `call`, whose arguments hold no calls. `None` where the arguments cannot
    /// be had in one place.
    fn column(&mut self, call: ScalarFunction) -> Result<Option<Column>>;
}

/// True where `expr` is a call of a worker function.
pub(crate) fn is_call(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if is_worker(function))
}

/// True where `expr` holds a call of a worker function, at any depth.
pub(crate) fn has_call(expr: &Expr) -> bool {
    expr.exists(|part| Ok(is_call(part))).unwrap_or(false)
}

fn is_worker(function: &ScalarFunction) -> bool {
    WorkerFunction::of(&function.func).is_some()
}

fn is_logic(binary: &BinaryExpr) -> bool {
    matches!(binary.op, Operator::And | Operator::Or)
}

/// `exprs`, which are evaluated on the same rows, with each call replaced by its column.
///
/// Calls that every row reaches come first, so that the others can use them.
pub(crate) fn replace_calls(exprs: Vec<Expr>, calls: &mut dyn Calls) -> Result<Vec<Expr>> {
    let mut replaced = Vec::with_capacity(exprs.len());
    for expr in exprs {
        replaced.push(replace_eager(expr, calls)?);
    }
    let mut guards = Guards {
        calls,
        seen: Vec::new(),
    };
    let exprs = replaced.into_iter();
    exprs
        .map(|expr| guards.rewrite(expr, &Path::default()))
        .collect()
}

/// Replaces the calls that every row reaches, unless their arguments wait for others.
fn replace_eager(expr: Expr, calls: &mut dyn Calls) -> Result<Expr> {
    if !has_call(&expr) {
        return Ok(expr);
    }
    // A loop, not a recursion: a chain of ORs may be long.
    let mut first = expr;
    let mut later = Vec::new();
    loop {
        match first {
            Expr::BinaryExpr(binary) if is_logic(&binary) => {
                later.push((binary.op, binary.right));
                first = *binary.left;
            }
            _ => break,
        }
    }
    let mut chain = match first {
        Expr::Case(mut case) => {
            let first = case.when_then_expr.first_mut().map(|(tested, _)| tested);
            for always in case.expr.iter_mut().chain(first) {
                **always = replace_eager(std::mem::take(always), calls)?;
            }
            Expr::Case(case)
        }
        other => {
            let replaced =
                other.map_children(|child| replace_eager(child, calls).map(Transformed::yes))?;
            eager_call(replaced.data, calls)?
        }
    };
    for (op, operand) in later.into_iter().rev() {
        chain = Expr::BinaryExpr(BinaryExpr::new(Box::new(chain), op, operand));
    }
    Ok(chain)
}

fn eager_call(expr: Expr, calls: &mut dyn Calls) -> Result<Expr> {
    match expr {
        Expr::ScalarFunction(call) if is_worker(&call) && !call.args.iter().any(has_call) => {
            let column = calls.column(call.clone())?;
            Ok(column.map_or(Expr::ScalarFunction(call), Expr::Column))
        }
        other => Ok(other),
    }
}

/// Which rows reach a place: those on which each step, in turn, is true.
#[derive(Clone, Default)]
struct Path {
    steps: Vec<Expr>,
    /// A condition was left out, and then so are all that follow: they may rely on it.
    cut: bool,
}

impl Path {
    fn and(&self, step: Expr) -> Self {
        let mut path = self.clone();
        // A second evaluation of a volatile condition would choose other rows.
        path.cut |= step.is_volatile() || path.steps.len() >= GUARD_STEPS_MAX;
        if !path.cut {
            path.steps.push(step);
        }
        path
    }

    /// True where all rows of this path are on `other` too, as far as one can see.
    fn is_within(&self, other: &Self) -> bool {
        self.steps.starts_with(&other.steps)
    }

    /// True where no row is on both, as far as one can see: different branches of one CASE.
    fn is_apart(&self, other: &Self) -> bool {
        let mut steps = self.steps.iter().zip(&other.steps);
        let Some((one, another)) = steps.find(|(one, another)| one != another) else {
            return false;
        };
        let denies =
            |expr: &Expr, step: &Expr| matches!(expr, Expr::IsNotTrue(inner) if **inner == *step);
        denies(one, another) || denies(another, one)
    }

    /// A number on the path's rows, NULL elsewhere.
    fn mark(&self) -> Expr {
        mark(&self.steps)
    }
}

/// A number where each of `steps` is true, NULL elsewhere. One CASE, because that evaluates a
/// condition on no other rows than those that reach it, and because DataFusion takes twice the
/// time for each CASE within another; of numbers, because it rewrites one of booleans to AND
/// and OR.
fn mark(steps: &[Expr]) -> Expr {
    if steps.is_empty() {
        return lit(1_i32);
    }
    let denied = steps.iter().map(|step| {
        let nothing = Expr::Literal(ScalarValue::Int32(None), None);
        (Box::new(step.clone().is_not_true()), Box::new(nothing))
    });
    Expr::Case(Case::new(
        None,
        denied.collect(),
        Some(Box::new(lit(1_i32))),
    ))
}

/// `value` where each of `steps` is true, NULL elsewhere.
fn guarded(steps: &[Expr], value: Expr) -> Expr {
    let condition = match steps {
        [] => return value,
        [step] => step.clone(),
        steps => mark(steps).is_not_null(),
    };
    let branch = (Box::new(condition), Box::new(value));
    Expr::Case(Case::new(None, vec![branch], None))
}

/// A place where a call was written.
struct Seen {
    /// The call as written.
    call: Expr,
    path: Path,
    /// Its result, on the rows of the path that no earlier place had computed.
    column: Column,
    /// Its result on all rows of the path.
    value: Expr,
}

struct Guards<'a> {
    calls: &'a mut dyn Calls,
    seen: Vec<Seen>,
}

impl Guards<'_> {
    fn rewrite(&mut self, expr: Expr, path: &Path) -> Result<Expr> {
        if !has_call(&expr) {
            return Ok(expr);
        }
        match expr {
            Expr::Case(case) => self.case(case, path),
            Expr::BinaryExpr(binary) if is_logic(&binary) => self.logic(binary, path),
            Expr::ScalarFunction(call) if is_worker(&call) => self.call(call, path),
            other => {
                let rewritten =
                    other.map_children(|child| self.rewrite(child, path).map(Transformed::yes))?;
                Ok(rewritten.data)
            }
        }
    }

    fn case(&mut self, case: Case, path: &Path) -> Result<Expr> {
        let operand = match case.expr {
            Some(operand) => Some(Box::new(self.rewrite(*operand, path)?)),
            None => None,
        };
        let mut path = path.clone();
        let mut branches = Vec::with_capacity(case.when_then_expr.len());
        for (tested, then) in case.when_then_expr {
            let tested = self.rewrite(*tested, &path)?;
            let this = match &operand {
                None => tested.clone(),
                Some(operand) => operand.as_ref().clone().eq(tested.clone()),
            };
            let then = self.rewrite(*then, &path.and(this.clone()))?;
            path = path.and(this.is_not_true());
            branches.push((Box::new(tested), Box::new(then)));
        }
        let otherwise = match case.else_expr {
            Some(otherwise) => Some(Box::new(self.rewrite(*otherwise, &path)?)),
            None => None,
        };
        Ok(Expr::Case(Case::new(operand, branches, otherwise)))
    }

    /// Each operand of a chain of ANDs is reached where none before it is false; of ORs, where
    /// none is true.
    fn logic(&mut self, binary: BinaryExpr, path: &Path) -> Result<Expr> {
        let op = binary.op;
        let mut first = *binary.left;
        let mut later = vec![*binary.right];
        loop {
            match first {
                Expr::BinaryExpr(binary) if binary.op == op => {
                    later.push(*binary.right);
                    first = *binary.left;
                }
                _ => break,
            }
        }
        let reached = |operand: &Expr| match op {
            Operator::And => operand.clone().is_not_false(),
            _ => operand.clone().is_not_true(),
        };
        let mut chain = self.rewrite(first, path)?;
        let mut path = path.and(reached(&chain));
        for operand in later.into_iter().rev() {
            let operand = self.rewrite(operand, &path)?;
            path = path.and(reached(&operand));
            chain = Expr::BinaryExpr(BinaryExpr::new(Box::new(chain), op, Box::new(operand)));
        }
        Ok(chain)
    }

    fn call(&mut self, written: ScalarFunction, path: &Path) -> Result<Expr> {
        let written = Expr::ScalarFunction(written);
        let Expr::ScalarFunction(mut call) = written.clone() else {
            return internal_err!("a call is a function");
        };
        for argument in &mut call.args {
            *argument = self.rewrite(std::mem::take(argument), path)?;
        }
        if let Some(known) = self.calls.known(&Expr::ScalarFunction(call.clone())) {
            return Ok(Expr::Column(known));
        }
        let seen = || self.seen.iter().filter(|seen| seen.call == written);
        if let Some(seen) = seen().find(|seen| path.is_within(&seen.path)) {
            return Ok(seen.value.clone());
        }
        let overlaps: Vec<(Expr, Expr)> = seen()
            .filter(|seen| !path.is_apart(&seen.path))
            .take(OVERLAPS_MAX)
            .map(|seen| (seen.path.mark(), Expr::Column(seen.column.clone())))
            .collect();
        let done = overlaps.iter().map(|(mark, _)| mark.clone().is_null());
        let steps: Vec<Expr> = done.chain(path.steps.iter().cloned()).collect();
        let Some(column) = self.calls.column(guarded_call(&call, &steps))? else {
            // The conditions are of other rows (a join's other side): all rows are computed.
            return match self.calls.column(call)? {
                Some(column) => Ok(Expr::Column(column)),
                None => internal_err!("the arguments of a call are of different inputs"),
            };
        };
        let new = Expr::Column(column.clone());
        let value = match overlaps.is_empty() {
            true => new,
            false => {
                let done = overlaps
                    .into_iter()
                    .map(|(mark, column)| (Box::new(mark.is_not_null()), Box::new(column)));
                Expr::Case(Case::new(None, done.collect(), Some(Box::new(new))))
            }
        };
        self.seen.push(Seen {
            call: written,
            path: path.clone(),
            column,
            value: value.clone(),
        });
        Ok(value)
    }
}

/// `call` with the main argument, which decides which rows are sent, and every other argument
/// whose evaluation could fail, NULL but where `steps` are true.
fn guarded_call(call: &ScalarFunction, steps: &[Expr]) -> ScalarFunction {
    let parameters = WorkerFunction::of(&call.func).map_or(0, |f| f.spec.parameters.len());
    let mut call = call.clone();
    for (index, argument) in call.args.iter_mut().take(parameters).enumerate() {
        if index == 0 || !is_literal(argument) {
            *argument = guarded(steps, std::mem::take(argument));
        }
    }
    call
}

fn is_literal(mut expr: &Expr) -> bool {
    while let Expr::Cast(cast) = expr {
        expr = &cast.expr;
    }
    matches!(expr, Expr::Literal(..))
}
