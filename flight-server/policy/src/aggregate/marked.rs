//! Which columns of a result are published, so that whoever reads it can tell a row that was
//! suppressed from values that are not there.

use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};

use super::publish::is_own_name;

/// For each column of a plan that was protected, whether it is one of a published aggregate, as it
/// came out or cast: in the row of the cells that are too small all of these are NULL. What was
/// computed from one is not: SQL says what a NULL becomes there.
pub fn published(plan: &LogicalPlan) -> Vec<bool> {
    let none = || vec![false; plan.schema().fields().len()];
    match plan {
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::Filter(_)
        | LogicalPlan::Sort(_)
        | LogicalPlan::Limit(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(_) => plan.inputs().first().map_or_else(none, |input| {
            // DISTINCT ON chooses columns of its own.
            let marks = published(input);
            match marks.len() == plan.schema().fields().len() {
                true => marks,
                false => none(),
            }
        }),
        LogicalPlan::Join(join) => {
            let marks = [published(&join.left), published(&join.right)].concat();
            match marks.len() == plan.schema().fields().len() {
                true => marks,
                false => none(),
            }
        }
        _ => none(),
    }
}

fn of_projection(projection: &Projection) -> Vec<bool> {
    let below = published(&projection.input);
    let schema = projection.input.schema();
    let is_published = |column: &Column| {
        is_own_name(&column.name)
            || schema
                .maybe_index_of_column(column)
                .and_then(|index| below.get(index).copied())
                .unwrap_or(false)
    };
    let marks = projection
        .expr
        .iter()
        .map(|expr| source(expr).is_some_and(is_published));
    marks.collect()
}

/// The column that an expression passes on.
fn source(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => source(&alias.expr),
        Expr::Cast(cast) => source(&cast.expr),
        Expr::TryCast(cast) => source(&cast.expr),
        _ => None,
    }
}
