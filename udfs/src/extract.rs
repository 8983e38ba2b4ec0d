//! The optimiser rule that moves calls of worker functions into [`Dispatch`] nodes.
//!
//! It runs after DataFusion's own rules, so plain predicates and limits are already as deep as
//! they can be. Every node that calls worker functions gets the calls as columns from a
//! `Dispatch` beneath it; a projection above restores the node's schema where it would have
//! grown. The same call is computed once: within a node, and through filters, sorts and limits.

use std::sync::Arc;

use datafusion::common::alias::AliasGenerator;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, Join, JoinType, LogicalPlan, Projection, Sort, SortExpr, Window,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::Dispatch;
use crate::extraction::{Extraction, Sides, is_restoring};
use crate::function::WorkerFunction;
use crate::guard::{has_call, is_call, replace_calls};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ExtractCalls;

impl OptimizerRule for ExtractCalls {
    fn name(&self) -> &str {
        "extract_worker_calls"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if Dispatch::of(&plan).is_some() {
            return Ok(Transformed::no(plan));
        }
        if !calls_workers(&plan)? {
            return hoist_restoring(plan);
        }
        let names = config.alias_generator().as_ref();
        let original = Arc::clone(plan.schema());
        let rewritten = match plan {
            LogicalPlan::Projection(projection) => rewrite_projection(projection, names)?,
            LogicalPlan::Filter(filter) => rewrite_filter(filter, names)?,
            LogicalPlan::Sort(sort) => rewrite_sort(sort, names)?,
            LogicalPlan::Aggregate(aggregate) => rewrite_aggregate(aggregate, names)?,
            LogicalPlan::Window(window) => rewrite_window(window, names)?,
            LogicalPlan::Join(join) => rewrite_join(join, names)?,
            other => return refuse(&other),
        };
        if rewritten.schema().fields().len() == original.fields().len() {
            return Ok(Transformed::yes(rewritten));
        }
        let columns = original.columns().into_iter().map(Expr::Column).collect();
        let restored = Projection::try_new(columns, Arc::new(rewritten))?;
        Ok(Transformed::yes(LogicalPlan::Projection(restored)))
    }
}

/// True where the node's own expressions call a worker function.
fn calls_workers(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= has_call(expr);
        Ok(if found {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    Ok(found)
}

fn refuse<T>(plan: &LogicalPlan) -> Result<T> {
    let mut name = None;
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            if let Expr::ScalarFunction(function) = part
                && WorkerFunction::of(&function.func).is_some()
            {
                name.get_or_insert_with(|| function.func.name().to_owned());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    plan_err!(
        "`{}` cannot be called in this place: compute it in a subquery's select list and use the column",
        name.unwrap_or_default()
    )
}

fn rewrite_projection(projection: Projection, names: &AliasGenerator) -> Result<LogicalPlan> {
    let (exprs, plan) = named(projection.expr, projection.input, names)?;
    Projection::try_new(exprs, plan).map(LogicalPlan::Projection)
}

/// Extracts from expressions whose names are part of their node's schema.
fn named(
    exprs: Vec<Expr>,
    input: Arc<LogicalPlan>,
    names: &AliasGenerator,
) -> Result<(Vec<Expr>, Arc<LogicalPlan>)> {
    let preserver = NamePreserver::new_for_projection();
    let saved: Vec<_> = exprs.iter().map(|expr| preserver.save(expr)).collect();
    let mut extraction = Extraction::over(input, names);
    let exprs = extraction.extract(exprs)?;
    let exprs = exprs.into_iter().zip(saved);
    let exprs = exprs.map(|(expr, saved)| saved.restore(expr)).collect();
    Ok((exprs, Arc::new(extraction.plan)))
}

/// Conjuncts that call no worker first; then each of the others in the order written, on the
/// rows that passed those before.
fn rewrite_filter(filter: Filter, names: &AliasGenerator) -> Result<LogicalPlan> {
    let conjuncts = split_conjunction_owned(filter.predicate);
    let (calling, plain): (Vec<_>, Vec<_>) = conjuncts.into_iter().partition(has_call);
    let mut extraction = Extraction::over(filter.input, names);
    if let Some(plain) = conjunction(plain) {
        extraction.filter(plain)?;
    }
    for conjunct in calling {
        let conjunct = extraction.extract_one(conjunct)?;
        extraction.filter(conjunct)?;
    }
    Ok(extraction.plan)
}

fn rewrite_sort(sort: Sort, names: &AliasGenerator) -> Result<LogicalPlan> {
    let mut extraction = Extraction::over(sort.input, names);
    let keys: Vec<Expr> = sort.expr.iter().map(|key| key.expr.clone()).collect();
    let keys = extraction.extract(keys)?.into_iter().zip(sort.expr);
    Ok(LogicalPlan::Sort(Sort {
        expr: keys.map(|(expr, key)| SortExpr { expr, ..key }).collect(),
        input: Arc::new(extraction.plan),
        fetch: sort.fetch,
    }))
}

fn rewrite_aggregate(aggregate: Aggregate, names: &AliasGenerator) -> Result<LogicalPlan> {
    let sets = |expr: &Expr| matches!(expr, Expr::GroupingSet(_)) && has_call(expr);
    if aggregate.group_expr.iter().any(sets) {
        return refuse(&LogicalPlan::Aggregate(aggregate));
    }
    let groups = aggregate.group_expr.len();
    let mut exprs = aggregate.group_expr;
    exprs.extend(aggregate.aggr_expr);
    let (mut exprs, plan) = named(exprs, aggregate.input, names)?;
    let aggregates = exprs.split_off(groups);
    Aggregate::try_new(plan, exprs, aggregates).map(LogicalPlan::Aggregate)
}

fn rewrite_window(window: Window, names: &AliasGenerator) -> Result<LogicalPlan> {
    let (exprs, plan) = named(window.window_expr, window.input, names)?;
    Window::try_new(exprs, plan).map(LogicalPlan::Window)
}

/// Calls in a join's condition are computed on the side whose columns they use. A condition of
/// an inner join that calls on columns of both sides becomes a filter above it.
fn rewrite_join(join: Join, names: &AliasGenerator) -> Result<LogicalPlan> {
    let (left_schema, right_schema) = (
        Arc::clone(join.left.schema()),
        Arc::clone(join.right.schema()),
    );
    let of_left = |expr: &Expr| expr.column_refs().iter().all(|c| left_schema.has_column(c));
    let of_right = |expr: &Expr| {
        expr.column_refs()
            .iter()
            .all(|c| right_schema.has_column(c))
    };
    let whole = LogicalPlan::Join(join.clone());
    let mut left = Extraction::over(join.left, names);
    let mut right = Extraction::over(join.right, names);

    let mut on = Vec::with_capacity(join.on.len());
    for (left_key, right_key) in join.on {
        on.push((left.extract_one(left_key)?, right.extract_one(right_key)?));
    }
    let mut condition = Vec::new();
    let mut above = Vec::new();
    for conjunct in join.filter.map(split_conjunction_owned).unwrap_or_default() {
        let mut calls = Vec::new();
        conjunct.apply(|part| {
            Ok(if is_call(part) {
                calls.push(part.clone());
                TreeNodeRecursion::Jump
            } else {
                TreeNodeRecursion::Continue
            })
        })?;
        if calls.iter().all(|call| of_left(call) || of_right(call)) {
            condition.push(conjunct);
        } else if join.join_type == JoinType::Inner {
            above.push(conjunct);
        } else {
            return refuse(&whole);
        }
    }
    let mut sides = Sides {
        left: &mut left,
        right: &mut right,
    };
    let condition = replace_calls(condition, &mut sides)?;
    left.dispatch()?;
    right.dispatch()?;
    let joined = LogicalPlan::Join(Join::try_new(
        Arc::new(left.plan),
        Arc::new(right.plan),
        on,
        conjunction(condition),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?);
    match conjunction(above) {
        Some(predicate) => rewrite_filter(Filter::try_new(predicate, Arc::new(joined))?, names),
        None => Ok(joined),
    }
}

/// Moves a projection that only restores a schema above a filter, sort or limit, so that the
/// nodes above can use the results that it hides; and sorts that keep few rows beneath calls
/// that they do not depend on.
fn hoist_restoring(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let input = match &plan {
        LogicalPlan::Filter(filter) => &filter.input,
        LogicalPlan::Sort(sort) => &sort.input,
        LogicalPlan::Limit(limit) => &limit.input,
        _ => return Ok(Transformed::no(plan)),
    };
    let LogicalPlan::Projection(projection) = input.as_ref() else {
        return Ok(Transformed::no(plan));
    };
    let projection = projection.clone();
    if is_restoring(&projection) {
        let beneath = match plan {
            LogicalPlan::Filter(filter) => {
                LogicalPlan::Filter(Filter::try_new(filter.predicate, projection.input)?)
            }
            LogicalPlan::Sort(sort) => LogicalPlan::Sort(Sort {
                input: projection.input,
                ..sort
            }),
            LogicalPlan::Limit(mut limit) => {
                limit.input = projection.input;
                LogicalPlan::Limit(limit)
            }
            other => other,
        };
        let beneath = match beneath {
            LogicalPlan::Sort(sort) => sink_sort(sort)?.data,
            other => other,
        };
        let hoisted = Projection::try_new(projection.expr, Arc::new(beneath))?;
        return Ok(Transformed::yes(LogicalPlan::Projection(hoisted)));
    }
    match plan {
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => {
            sink_sort_through_projection(sort, projection)
        }
        other => Ok(Transformed::no(other)),
    }
}

/// `SELECT f(x) … ORDER BY y LIMIT 5` calls `f` for five rows: the sort goes beneath.
fn sink_sort_through_projection(
    sort: Sort,
    projection: Projection,
) -> Result<Transformed<LogicalPlan>> {
    let substitute = |key: &SortExpr| -> Result<SortExpr> {
        let expr = key.expr.clone().transform_up(|part| {
            let Expr::Column(column) = &part else {
                return Ok(Transformed::no(part));
            };
            let index = projection.schema.index_of_column(column)?;
            Ok(match projection.expr.get(index) {
                Some(expr) => Transformed::yes(expr.clone().unalias()),
                None => Transformed::no(part),
            })
        })?;
        Ok(SortExpr {
            expr: expr.data,
            ..key.clone()
        })
    };
    let keys = sort
        .expr
        .iter()
        .map(substitute)
        .collect::<Result<Vec<_>>>()?;
    if keys.iter().any(|key| key.expr.is_volatile()) {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let sunk = sink_sort(Sort {
        expr: keys,
        input: Arc::clone(&projection.input),
        fetch: sort.fetch,
    })?;
    if !sunk.transformed {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let above = Projection::try_new(projection.expr, Arc::new(sunk.data))?;
    Ok(Transformed::yes(LogicalPlan::Projection(above)))
}

/// Moves a sort that keeps few rows beneath the [`Dispatch`] nodes that it does not depend on.
fn sink_sort(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    let Some(dispatch) = Dispatch::of(&sort.input).filter(|_| sort.fetch.is_some()) else {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    };
    let schema = dispatch.input.schema();
    let columns = sort.expr.iter().flat_map(|key| key.expr.column_refs());
    if !columns.into_iter().all(|column| schema.has_column(column)) {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let calls = dispatch.calls.clone();
    let beneath = sink_sort(Sort {
        input: Arc::new(dispatch.input.clone()),
        expr: sort.expr,
        fetch: sort.fetch,
    })?;
    let above = Dispatch::try_new(beneath.data, calls)?;
    Ok(Transformed::yes(above.into_plan()))
}
