//! The plan that publishes an aggregate.
//!
//! ```text
//! rows ─▶ by group and person ─▶ by group: published values (`cell`)
//!                                  ─▶ small cells fall into one row of NULLs ─▶ as named
//! ```

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::logical_expr::{
    Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, Projection, lit, try_cast, when,
};

use super::cell::published;
use super::expressions::check;
use super::measures::{Measures, Output, column};
use super::refused;
use super::rows::Rows;

const PERSONS: &str = "hub:persons";
const IS_LARGE: &str = "hub:is_large";

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

    let cells = cells(&rows, aggregate, &measures)?;
    let mut shown = shown(cells, aggregate, &outputs)?;
    if !aggregate.group_expr.is_empty() {
        shown = with_a_small_one(shown)?;
    }
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
    let person = column(super::PERSON);
    let mut of_cells = measures.of_cells(&person, rows.persons_min);
    of_cells.push(published(person, lit(1.0), rows.persons_min, true).alias(PERSONS));
    let cells = Aggregate::try_new(persons, by.collect(), of_cells)?;
    Ok(LogicalPlan::Aggregate(cells))
}

/// Keys and published values of large cells, NULL in all columns of small ones.
fn shown(cells: LogicalPlan, aggregate: &Aggregate, outputs: &[Output]) -> Result<LogicalPlan> {
    let is_large = column(PERSONS).is_not_null();
    let shown = |value: Expr| when(is_large.clone(), value).end();
    let mut columns = vec![is_large.clone().alias(IS_LARGE)];
    for index in 0..aggregate.group_expr.len() {
        columns.push(shown(column(group_name(index)))?.alias(group_name(index)));
    }
    for (index, output) in outputs.iter().enumerate() {
        columns.push(shown(output.value())?.alias(output_name(index)));
    }
    let plan = Projection::try_new(columns, Arc::new(cells))?;
    Ok(LogicalPlan::Projection(plan))
}

/// The same with one small cell more: without it, the row of small cells would tell by being
/// there that somebody is in one.
fn with_a_small_one(shown: LogicalPlan) -> Result<LogicalPlan> {
    let columns = shown.schema().fields().iter().map(|field| {
        let value = if field.name() == IS_LARGE {
            Ok(ScalarValue::from(false))
        } else {
            ScalarValue::try_from(field.data_type())
        };
        Ok(lit(value?).alias(field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let small = LogicalPlanBuilder::empty(true).project(columns)?.build()?;
    LogicalPlanBuilder::from(shown).union(small)?.build()
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

/// Whether a column comes out of a published aggregate; a user who gives such a name marks a column
/// of their own.
pub fn is_own_name(name: &str) -> bool {
    let number = name.strip_prefix("hub:g").or(name.strip_prefix("hub:o"));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

fn group_name(index: usize) -> String {
    format!("hub:g{index}")
}

fn output_name(index: usize) -> String {
    format!("hub:o{index}")
}
