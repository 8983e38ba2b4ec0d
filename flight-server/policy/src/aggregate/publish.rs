//! The plan that publishes an aggregate.
//!
//! ```text
//! rows ─▶ by group and person ─▶ by group: persons, totals, keys, largest parts
//!                                  ─▶ noise; small cells fall into one row of NULLs ─▶ as named
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{count, min};
use datafusion::logical_expr::{
    Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Projection, lit, try_cast, when,
};

use super::expressions::check;
use super::measures::{Measures, Output, column};
use super::refused;
use super::rows::Rows;

const PERSONS: &str = "hub:persons";
const IS_LARGE: &str = "hub:is_large";
const SELECTED: &str = "hub:selected";
const ALL: &str = "hub:all";

/// The aggregate, published: same columns, fewer rows, all values with noise.
pub fn publish(rows: Rows, aggregate: &Aggregate) -> Result<LogicalPlan> {
    let rows = rows.linked()?;
    for expr in &aggregate.group_expr {
        if matches!(expr, Expr::GroupingSet(_)) {
            return refused(
                "GROUPING SETS, ROLLUP and CUBE: ask for each grouping in its own query",
            );
        }
        check(expr, &rows)?;
    }
    let mut measures = Measures::default();
    let outputs = aggregate
        .aggr_expr
        .iter()
        .map(|expr| measures.add(expr, &rows));
    let outputs: Vec<_> = outputs.collect::<Result<_>>()?;
    if outputs.is_empty() {
        return refused("a list of the values that occur shows single rows; add count(*)");
    }

    let mut cells = cells(&rows, aggregate, &measures)?;
    if let Some(population) = population(&rows)? {
        cells = LogicalPlanBuilder::from(cells)
            .cross_join(population)?
            .build()?;
    }
    let shown = shown(cells, &rows, aggregate, &measures, &outputs)?;
    merge_small(shown, aggregate, outputs.len())
}

/// Of each group: its persons, and the parts of the measures.
fn cells(rows: &Rows, aggregate: &Aggregate, measures: &Measures) -> Result<LogicalPlan> {
    let person = Expr::Column(rows.person.clone());
    let groups = aggregate.group_expr.iter().enumerate();
    let mut by: Vec<Expr> = groups
        .map(|(index, expr)| expr.clone().unalias().alias(group_name(index)))
        .collect();
    by.push(person.alias(super::PERSON));
    let parts = measures.of_persons();
    let persons = Aggregate::try_new(Arc::new(rows.plan.clone()), by, parts)?;
    let persons = Arc::new(LogicalPlan::Aggregate(persons));
    let by = (0..aggregate.group_expr.len()).map(|index| column(group_name(index)));
    let mut of_cells = measures.of_cells(&column(super::PERSON))?;
    of_cells.push(count(lit(1)).alias(PERSONS));
    let cells = Aggregate::try_new(persons, by.collect(), of_cells)?;
    Ok(LogicalPlan::Aggregate(cells))
}

/// True for cells with enough persons, of a selection that is itself large enough and leaves
/// nobody or enough behind.
fn is_large(rows: &Rows) -> Expr {
    let least = || lit(i64::from(rows.persons_min));
    let large = column(PERSONS).gt_eq(least());
    if !selects(&rows.plan) {
        return large;
    }
    let left = || column(ALL) - column(SELECTED);
    large
        .and(column(SELECTED).gt_eq(least()))
        .and(left().eq(lit(0_i64)).or(left().gt_eq(least())))
}

fn selects(plan: &LogicalPlan) -> bool {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Filter(_))))
        .unwrap_or(true)
}

/// Persons that the user's conditions select, and persons without these conditions; None where
/// there is no condition.
fn population(rows: &Rows) -> Result<Option<LogicalPlan>> {
    if !selects(&rows.plan) {
        return Ok(None);
    }
    let all = rows.plan.clone().transform_up(|node| match node {
        LogicalPlan::Filter(filter) => Ok(Transformed::yes(Arc::unwrap_or_clone(filter.input))),
        other => Ok(Transformed::no(other)),
    })?;
    let persons = |plan: LogicalPlan, name: &str| {
        let person = Expr::Column(rows.person.clone());
        let persons = LogicalPlanBuilder::from(plan)
            .aggregate([person.alias(super::PERSON)], Vec::<Expr>::new())?;
        persons.aggregate(Vec::<Expr>::new(), [count(lit(1)).alias(name)])
    };
    let all = persons(all.data, ALL)?.build()?;
    let selected = persons(rows.plan.clone(), SELECTED)?;
    Ok(Some(selected.cross_join(all)?.build()?))
}

/// Keys and published values of large cells, NULL in all columns of small ones.
fn shown(
    cells: LogicalPlan,
    rows: &Rows,
    aggregate: &Aggregate,
    measures: &Measures,
    outputs: &[Output],
) -> Result<LogicalPlan> {
    let is_large = is_large(rows);
    let shown = |value: Expr| when(is_large.clone(), value).end();
    let mut columns = vec![is_large.clone().alias(IS_LARGE)];
    for index in 0..aggregate.group_expr.len() {
        columns.push(shown(column(group_name(index)))?.alias(group_name(index)));
    }
    for (index, output) in outputs.iter().enumerate() {
        let value = measures.output(output, &cells, rows.persons_min)?;
        columns.push(shown(value)?.alias(output_name(index)));
    }
    let plan = Projection::try_new(columns, Arc::new(cells))?;
    Ok(LogicalPlan::Projection(plan))
}

/// Small cells become one row of NULLs, so that their keys and number stay unknown; the columns
/// get the names and types of the aggregate.
fn merge_small(shown: LogicalPlan, aggregate: &Aggregate, outputs: usize) -> Result<LogicalPlan> {
    let groups = aggregate.group_expr.len();
    let mut by: Vec<Expr> = (0..groups).map(|index| column(group_name(index))).collect();
    let merged = if groups == 0 {
        shown
    } else {
        by.push(column(IS_LARGE));
        // Of one row each but for the small ones, where all are NULL.
        let values = (0..outputs).map(|index| {
            let name = output_name(index);
            min(column(name.clone())).alias(name)
        });
        let merged = Aggregate::try_new(Arc::new(shown), by, values.collect())?;
        LogicalPlan::Aggregate(merged)
    };
    let names = (0..groups)
        .map(group_name)
        .chain((0..outputs).map(output_name));
    let columns = names
        .zip(aggregate.schema.iter())
        .map(|(name, (qualifier, field))| {
            let typed = try_cast(column(name), field.data_type().clone());
            typed.alias_qualified(qualifier.cloned(), field.name())
        });
    let plan = Projection::try_new(columns.collect(), Arc::new(merged))?;
    Ok(LogicalPlan::Projection(plan))
}

fn group_name(index: usize) -> String {
    format!("hub:g{index}")
}

fn output_name(index: usize) -> String {
    format!("hub:o{index}")
}
