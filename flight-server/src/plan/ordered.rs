//! What is computed of rows that are sorted by many columns. DataFusion 55 keeps, for each column by
//! which its input is sorted and each expression that follows its order (a cast of it), every sequence
//! of one or the other (`EquivalenceProperties::substitute_oeq_class`), and for an expression of many
//! of them every permutation: minutes and gigabytes for twenty, within one step of planning.

use std::collections::HashSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::{Error, Result};

/// Columns of a sort that the items of one SELECT above it are computed from: two sequences for each.
const KEYS_MAX: usize = 11;
/// The same of one item, which is permuted.
const KEYS_PER_ITEM_MAX: usize = 8;

/// Refuses an optimised plan in which too much is computed of what a subquery or a window sorts by.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Projection(projection) => {
                check_items(projection.expr.iter(), &keys_of(&projection.input))?;
            }
            LogicalPlan::Aggregate(aggregate) => {
                check_items(aggregate.group_expr.iter(), &keys_of(&aggregate.input))?;
            }
            // What they compare is computed beneath them.
            LogicalPlan::Join(join) => {
                check_items(join.on.iter().map(|(left, _)| left), &keys_of(&join.left))?;
                check_items(
                    join.on.iter().map(|(_, right)| right),
                    &keys_of(&join.right),
                )?;
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_items<'a>(
    items: impl Iterator<Item = &'a Expr>,
    keys: &HashSet<String>,
) -> datafusion::error::Result<()> {
    if keys.len() <= KEYS_PER_ITEM_MAX {
        return Ok(());
    }
    let mut all: HashSet<&str> = HashSet::new();
    for item in items {
        let computed = unaliased(item);
        if matches!(computed, Expr::Column(_)) {
            continue;
        }
        let columns = computed.column_refs();
        let of_keys = columns.iter().map(|column| column.name.as_str());
        let of_keys: HashSet<&str> = of_keys
            .filter_map(|name| keys.get(name))
            .map(String::as_str)
            .collect();
        if of_keys.len() > KEYS_PER_ITEM_MAX {
            return Err(refused(KEYS_PER_ITEM_MAX, "one expression").into());
        }
        all.extend(of_keys);
    }
    match all.len() > KEYS_MAX {
        true => Err(refused(KEYS_MAX, "the expressions of one SELECT").into()),
        false => Ok(()),
    }
}

fn refused(most: usize, of: &str) -> Error {
    Error::invalid(format!(
        "more than {most} columns by which a subquery or a window sorts or partitions its rows are in \
         {of} around it; compute them within the subquery, or sort by fewer"
    ))
}

fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        expr => expr,
    }
}

/// Columns of a plan that its rows are sorted by, or may be once it is a physical one.
fn keys_of(plan: &LogicalPlan) -> HashSet<String> {
    let mut keys: HashSet<String> = plan.inputs().into_iter().flat_map(keys_of).collect();
    let mut sorted_by = |expr: &Expr| {
        keys.extend(
            expr.column_refs()
                .into_iter()
                .map(|column| column.name.clone()),
        );
    };
    match plan {
        LogicalPlan::Sort(sort) => sort.expr.iter().for_each(|key| sorted_by(&key.expr)),
        LogicalPlan::Window(window) => {
            for expr in &window.window_expr {
                if let Expr::WindowFunction(call) = unaliased(expr) {
                    call.params.partition_by.iter().for_each(&mut sorted_by);
                    call.params
                        .order_by
                        .iter()
                        .for_each(|key| sorted_by(&key.expr));
                }
            }
        }
        LogicalPlan::Projection(projection) => {
            // An item follows the order of what it is computed of.
            let fields = projection.schema.fields().iter();
            let items = fields.zip(&projection.expr).filter(|(_, item)| {
                let columns = item.column_refs();
                columns.iter().any(|column| keys.contains(&column.name))
            });
            return items.map(|(field, _)| field.name().clone()).collect();
        }
        _ => {}
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::datasource::MemTable;
    use datafusion::prelude::SessionContext;

    use super::*;

    const COLUMNS: usize = 14;

    async fn is_refused(sql: &str) -> bool {
        let context = SessionContext::new();
        let names = (0..COLUMNS).map(|at| format!("a{at}"));
        let fields: Vec<Field> = names
            .map(|name| Field::new(name, DataType::Int32, true))
            .collect();
        let table = MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]]);
        context
            .register_table("t", Arc::new(table.expect("a table")))
            .expect("registers");
        let state = context.state();
        let plan = state.create_logical_plan(sql).await.expect(sql);
        check(&state.optimize(&plan).expect(sql)).is_err()
    }

    fn listed(count: usize, item: &str) -> String {
        let items: Vec<String> = (0..count)
            .map(|at| item.replace("{}", &format!("a{at}")))
            .collect();
        items.join(", ")
    }

    #[tokio::test]
    async fn what_is_computed_of_many_sorted_columns_is_refused() {
        let casts = |count| listed(count, "{}::BIGINT AS c{}");
        let keys = |count| listed(count, "{}");
        let sum = |count| listed(count, "{} > 1").replace(", ", " AND ");
        for (few, many, sql) in [
            (
                10,
                14,
                "SELECT {casts} FROM (SELECT * FROM t ORDER BY {keys} LIMIT 5) q",
            ),
            (
                8,
                9,
                "SELECT {sum} FROM (SELECT * FROM t ORDER BY {keys} LIMIT 5) q",
            ),
            (
                10,
                14,
                "SELECT count(*) FROM (SELECT * FROM t ORDER BY {keys} LIMIT 5) q GROUP BY {bare}",
            ),
            (
                10,
                14,
                "SELECT count(*) FROM (SELECT * FROM t ORDER BY {keys} LIMIT 5) q JOIN t u ON {equal}",
            ),
            (
                10,
                14,
                "SELECT {casts}, row_number() OVER (PARTITION BY {keys}) AS n FROM t",
            ),
            (
                10,
                14,
                "SELECT {casts}, n FROM (SELECT *, rank() OVER (ORDER BY {keys}) AS n FROM t) q",
            ),
        ] {
            let of = |count| {
                let sql = sql
                    .replace("{casts}", &casts(count))
                    .replace("{keys}", &keys(count));
                let equal = listed(count, "q.{}::BIGINT = u.{}::BIGINT").replace(", ", " AND ");
                sql.replace("{sum}", &sum(count))
                    .replace("{bare}", &listed(count, "{}::BIGINT"))
                    .replace("{equal}", &equal)
            };
            assert!(!is_refused(&of(few)).await, "{}", of(few));
            assert!(is_refused(&of(many)).await, "{}", of(many));
        }
        for plain in [
            "SELECT {casts} FROM t ORDER BY {keys} LIMIT 5",
            "SELECT {casts} FROM t",
            "SELECT {keys} FROM (SELECT * FROM t ORDER BY {keys} LIMIT 5) q",
            "SELECT {keys}, row_number() OVER (PARTITION BY {keys}) AS n FROM t",
            "SELECT {casts} FROM (SELECT {keys} FROM t GROUP BY {keys}) q",
        ] {
            let sql = plain
                .replace("{casts}", &casts(COLUMNS))
                .replace("{keys}", &keys(COLUMNS));
            assert!(!is_refused(&sql).await, "{sql}");
        }
    }
}
