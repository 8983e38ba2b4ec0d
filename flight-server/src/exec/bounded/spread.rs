//! Constants that operators copy into every row of a batch: they become columns by a function that
//! is bounded, so that the copies are counted.

use std::sync::{Arc, LazyLock};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, ScalarUDF};
use hubflight_udfs::is_worker_function;

use super::join::{SPREAD, Spread};
use super::rule::bare;
use super::{Bounded, bounded};

/// Literals of one step above this, together, are reckoned with before they are copied.
const LITERAL_BYTES_MAX: usize = 32 << 10;

static SPREADING: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| bounded(Arc::new(ScalarUDF::new_from_impl(Spread::new()))));

/// The constants of one step of a plan.
#[derive(Clone, Copy)]
pub(super) struct Constants {
    /// Its literals are much together, so that each is counted.
    pub(super) are_large: bool,
}

impl Constants {
    pub(super) fn of(node: &LogicalPlan) -> Result<Self> {
        let mut bytes = 0_usize;
        node.apply_expressions(|expr| {
            bytes = bytes.saturating_add(copied_bytes(expr)?);
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Self {
            are_large: bytes > LITERAL_BYTES_MAX,
        })
    }

    /// A constant that may be large: a literal where they are, or a call that was too large to be
    /// computed once.
    pub(super) fn is_copied(self, expr: &Expr) -> Result<bool> {
        match expr {
            Expr::Literal(value, _) => Ok(self.are_large && heap_bytes(value) > 0),
            other => is_computed(other),
        }
    }

    /// Constants that CASE copies into rows.
    pub(super) fn spread_inside(self, expr: Expr) -> Result<Transformed<Expr>> {
        let Expr::Case(mut case) = expr else {
            return Ok(Transformed::no(expr));
        };
        let mut changed = false;
        let mut spread = |inner: Box<Expr>| match self.is_copied(&inner)? {
            true => {
                changed = true;
                Ok(Box::new(SPREADING.call(vec![*inner])))
            }
            false => Ok::<_, DataFusionError>(inner),
        };
        let branches = case.when_then_expr.into_iter();
        case.when_then_expr = branches
            .map(|(when, then)| Ok((when, spread(then)?)))
            .collect::<Result<_>>()?;
        case.else_expr = case.else_expr.map(spread).transpose()?;
        Ok(Transformed::new_transformed(Expr::Case(case), changed))
    }

    /// A column that a projection gives, or that rows are grouped or sorted by. What CASE makes of
    /// constants is counted as well as they are: it has as much once more.
    pub(super) fn spread_column(self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Alias(mut alias) => {
                let made = self.spread_column(*alias.expr, schema)?;
                alias.expr = Box::new(made.data);
                let alias = Expr::Alias(alias);
                Ok(Transformed::new_transformed(alias, made.transformed))
            }
            Expr::GroupingSet(_) => expr.map_children(|part| self.spread_column(part, schema)),
            // Some arguments must be literals, and all are few (`check.rs`).
            Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
                expr.map_children(|part| match part {
                    Expr::Literal(..) => Ok(Transformed::no(part)),
                    part => self.spread_column(part, schema),
                })
            }
            expr => {
                let is_copied = self.is_copied(&expr)? || is_made_of_spread(&expr)?;
                let is_wide = is_copied && expr.get_type(schema)?.primitive_width().is_none();
                Ok(match is_wide {
                    true => Transformed::yes(SPREADING.call(vec![bare(expr)])),
                    false => Transformed::no(expr),
                })
            }
        }
    }
}

pub(super) fn is_spread(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.name() == SPREAD)
}

/// True where constants are spread inside, and nobody counts what is made of them.
fn is_made_of_spread(expr: &Expr) -> Result<bool> {
    match expr {
        Expr::ScalarFunction(call) if call.func.inner().is::<Bounded>() => Ok(false),
        expr => expr.exists(|part| Ok(is_spread(part))),
    }
}

/// Bytes of a value beside what a number has.
pub(super) fn heap_bytes(value: &ScalarValue) -> usize {
    value.size().saturating_sub(size_of_val(value))
}

/// Bytes of the literals that one row may have a copy of each of.
fn copied_bytes(expr: &Expr) -> Result<usize> {
    let mut bytes = 0_isize;
    let add = |to: &mut isize, of: usize| *to = to.saturating_add_unsigned(of);
    expr.apply(|part| {
        match part {
            Expr::Literal(value, _) => add(&mut bytes, heap_bytes(value)),
            // What is compared with stays one value.
            Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
                for side in [left, right] {
                    bytes = bytes.saturating_sub_unsigned(literal_bytes(side));
                }
            }
            Expr::InList(list) => {
                add(&mut bytes, copied_bytes(&list.expr)?);
                return Ok(TreeNodeRecursion::Jump);
            }
            Expr::Case(case) => {
                add(&mut bytes, bytes_of_case(case)?);
                return Ok(TreeNodeRecursion::Jump);
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(bytes.unsigned_abs())
}

/// A row has one of the branches.
fn bytes_of_case(case: &Case) -> Result<usize> {
    let (mut conditions, mut largest) = (0_usize, 0);
    for (when, then) in &case.when_then_expr {
        let when = copied_bytes(when)?.saturating_sub(literal_bytes(when));
        conditions = conditions.saturating_add(when);
        largest = largest.max(copied_bytes(then)?);
    }
    if let Some(otherwise) = &case.else_expr {
        largest = largest.max(copied_bytes(otherwise)?);
    }
    if let Some(of) = &case.expr {
        conditions = conditions.saturating_add(copied_bytes(of)?);
    }
    Ok(conditions.saturating_add(largest))
}

fn literal_bytes(expr: &Expr) -> usize {
    match expr {
        Expr::Literal(value, _) => heap_bytes(value),
        _ => 0,
    }
}

/// True where a function is called of constants alone, and nothing that is no expression of one row.
fn is_computed(expr: &Expr) -> Result<bool> {
    if is_spread(expr) || !expr.column_refs().is_empty() {
        return Ok(false);
    }
    let (mut calls, mut other) = (false, false);
    expr.apply(|part| {
        match part {
            Expr::ScalarFunction(call) if is_worker_function(&call.func) => other = true,
            Expr::ScalarFunction(_) | Expr::ScalarSubquery(_) => calls = true,
            Expr::OuterReferenceColumn(..) | Expr::Unnest(_) => other = true,
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(calls && !other)
}
