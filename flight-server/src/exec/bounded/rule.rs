//! Puts the bounded function in the place of each that has no bound: of the operator `||`, and
//! of what DataFusion's planner makes of `{…}`, `[…]` and the like, which asks no session.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions::core as core_functions;
use datafusion::functions_nested as nested_functions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawDictionaryExpr};
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator, ScalarUDF};
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};
use hubflight_udfs::is_worker_function;

use super::check::check;
use super::join::Join;
use super::pass::{SINGLE, Single};
use super::spread::Constants;
use super::{Bounded, bounded, bounded_scratch};
use crate::error::Error;
use crate::exec::functions;

/// Width of a type that a cast may name, in bytes: rows without a value have it too.
const WIDTH_MAX: u64 = 32 << 10;

static JOINED: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| bounded(Arc::new(ScalarUDF::new_from_impl(Join::new()))));
static SINGLED: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::new_from_impl(Single::new())));

/// First among the analysers' results, and last among the optimiser's.
#[derive(Debug)]
pub struct BoundExpressions;

impl AnalyzerRule for BoundExpressions {
    fn name(&self) -> &str {
        "bound_expressions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut steps = 0;
        let bound = plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            let is_projection = matches!(node, LogicalPlan::Projection(_));
            steps += 1;
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let made = expr.transform_up(bound)?;
                let made = made.update_data(|expr| name.restore(expr));
                Ok(match is_projection {
                    true => made.update_data(|expr| told_apart(expr, steps)),
                    false => made,
                })
            })
        })?;
        Ok(bound.data)
    }
}

impl OptimizerRule for BoundExpressions {
    fn name(&self) -> &str {
        "bound_expressions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let constants = Constants::of(&plan)?;
        check(&plan, constants)?;
        let names = NamePreserver::new(&plan);
        // These compute a column of each expression, others values of a condition.
        let computes_columns = matches!(
            plan,
            LogicalPlan::Projection(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Window(_)
                | LogicalPlan::Sort(_)
        );
        let schema = match plan.inputs().as_slice() {
            [input] => Arc::clone(input.schema()),
            _ => Arc::new(DFSchema::empty()),
        };
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let made = expr.transform_up(bound)?;
            let inside = |expr: Expr| expr.transform_up(|part| constants.spread_inside(part));
            let made = made.transform_data(inside)?;
            let counted = |expr: Expr| expr.transform_up(|part| counted(part, constants));
            let made = made.transform_data(counted)?;
            let made = match computes_columns {
                true => made.transform_data(|expr| constants.spread_column(expr, &schema))?,
                false => made,
            };
            Ok(made.update_data(|expr| name.restore(expr)))
        })
    }
}

/// DataFusion 55 takes a projection for the one beneath it where their expressions are equal, and
/// drops it (`optimize_projections`): `a + 1 AS a` of `a + 1 AS a` would add once. A name inside,
/// which no other has and nobody sees, keeps an expression that is called as what it reads.
fn told_apart(expr: Expr, step: usize) -> Expr {
    let Expr::Alias(mut alias) = expr else {
        return expr;
    };
    let is_plain = matches!(*alias.expr, Expr::Column(_) | Expr::Alias(_));
    let reads = alias.expr.column_refs();
    if !is_plain && reads.iter().any(|read| read.name == alias.name) {
        alias.expr = Box::new(alias.expr.alias(format!("step {step}")));
    }
    Expr::Alias(alias)
}

/// An expression with its bound, whose parts have theirs.
fn bound(expr: Expr) -> Result<Transformed<Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::StringConcat,
            right,
        }) => Ok(Transformed::yes(JOINED.call(vec![*left, *right]))),
        Expr::ScalarFunction(ScalarFunction { func, args }) => {
            // Functions of ours that no query can call are left as their operators know them.
            let made = match functions::is_listed(func.name()) {
                true => bounded(Arc::clone(&func)),
                false => Arc::clone(&func),
            };
            let changed = !Arc::ptr_eq(&made, &func);
            let call = Expr::ScalarFunction(ScalarFunction { func: made, args });
            Ok(match changed {
                true => Transformed::yes(call),
                false => Transformed::no(call),
            })
        }
        Expr::Cast(cast) => {
            check_width(cast.field.data_type())?;
            Ok(Transformed::no(Expr::Cast(cast)))
        }
        Expr::TryCast(cast) => {
            check_width(cast.field.data_type())?;
            Ok(Transformed::no(Expr::TryCast(cast)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Calls that copy constants meanwhile, and subqueries that are constants.
fn counted(expr: Expr, constants: Constants) -> Result<Transformed<Expr>> {
    match expr {
        Expr::ScalarSubquery(ref subquery) if !is_narrow(&subquery.subquery) => {
            Ok(Transformed::yes(SINGLED.call(vec![expr])))
        }
        Expr::ScalarFunction(mut call) => {
            let counts = call.func.inner().is::<Bounded>() || call.name() == SINGLE;
            let scratch = match !counts
                && functions::is_listed(call.name())
                && !is_worker_function(&call.func)
                && copies(&call.args, constants)?
            {
                true => bounded_scratch(&call.func),
                false => None,
            };
            let has_bare = (counts || scratch.is_some()) && call.args.iter().any(is_single);
            let changed = has_bare || scratch.is_some();
            if has_bare {
                call.args = call.args.into_iter().map(bare).collect();
            }
            call.func = scratch.unwrap_or(call.func);
            let call = Expr::ScalarFunction(call);
            Ok(Transformed::new_transformed(call, changed))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// True where a subquery's value is a number or the like.
fn is_narrow(plan: &LogicalPlan) -> bool {
    let mut fields = plan.schema().fields().iter();
    fields.all(|field| field.data_type().primitive_width().is_some())
}

/// A subquery whose value is counted where it is used.
pub(super) fn bare(expr: Expr) -> Expr {
    match expr {
        Expr::ScalarFunction(call) if call.name() == SINGLE => {
            match <[Expr; 1]>::try_from(call.args) {
                Ok([subquery]) => subquery,
                Err(args) => SINGLED.call(args),
            }
        }
        other => other,
    }
}

fn is_single(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if call.name() == SINGLE)
}

fn copies(args: &[Expr], constants: Constants) -> Result<bool> {
    let mut copies = false;
    for arg in args {
        copies |= is_single(arg) || constants.is_copied(arg)?;
    }
    Ok(copies)
}

fn check_width(data_type: &DataType) -> Result<()> {
    match width(data_type) {
        wide if wide > WIDTH_MAX => Err(Error::exhausted(format!(
            "a cast names a type of {wide} bytes a value, and at most {WIDTH_MAX} are allowed"
        ))
        .into()),
        _ => Ok(()),
    }
}

/// Bytes that a value of a type has, whatever it is.
fn width(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(width) => u64::from(width.unsigned_abs()),
        DataType::FixedSizeList(item, length) => {
            u64::from(length.unsigned_abs()).saturating_mul(width(item.data_type()).max(1))
        }
        DataType::Struct(fields) => fields
            .iter()
            .fold(0, |sum, field| sum.saturating_add(width(field.data_type()))),
        other => other.primitive_width().unwrap_or(0) as u64,
    }
}

/// Plans literals of structs with the functions that are bounded: DataFusion's planner computes
/// their types, which double, before any rule sees them.
#[derive(Debug)]
pub struct BoundLiterals;

impl ExprPlanner for BoundLiterals {
    fn plan_dictionary_literal(
        &self,
        expr: RawDictionaryExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawDictionaryExpr>> {
        let pairs = expr.keys.into_iter().zip(expr.values);
        let args = pairs.flat_map(|(key, value)| [key, value]).collect();
        let made = bounded(core_functions::named_struct());
        Ok(PlannerResult::Planned(made.call(args)))
    }

    fn plan_struct_literal(
        &self,
        args: Vec<Expr>,
        is_named_struct: bool,
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let function = match is_named_struct {
            true => core_functions::named_struct(),
            false => core_functions::r#struct(),
        };
        Ok(PlannerResult::Planned(bounded(function).call(args)))
    }

    /// Keys and values come in turn; where one is missing, DataFusion's planner says so.
    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        if !args.len().is_multiple_of(2) {
            return Ok(PlannerResult::Original(args));
        }
        let pairs = args.into_iter().enumerate();
        let (keys, values): (Vec<_>, Vec<_>) = pairs.partition(|(at, _)| at.is_multiple_of(2));
        let list = |of: Vec<(usize, Expr)>| {
            let items = of.into_iter().map(|(_, item)| item).collect();
            nested_functions::make_array::make_array(items)
        };
        let map = bounded(nested_functions::map::map_udf());
        Ok(PlannerResult::Planned(
            map.call(vec![list(keys), list(values)]),
        ))
    }
}
