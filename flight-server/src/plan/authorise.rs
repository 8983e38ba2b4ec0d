//! The second decision, on the plan itself: nodes by allow-list, and what it reads.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, WindowFunctionDefinition};
use hubflight_policy::{aggregate, table_of};

use crate::catalog::{project, space};
use crate::error::{Error, Result};
use crate::exec::functions;

/// A table of a dataset that a query reads, and the columns of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableAccess {
    pub dataset: String,
    pub table: String,
    pub columns: BTreeSet<String>,
    /// What shapes the visible rows and values: for caches of sizes.
    pub digest: [u8; 32],
}

/// Refuses a plan with any node that is not a plain read, any function that is not permitted,
/// and any table that is listed but closed.
pub fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            space::check_scan(scan)?;
            project::check_scan(scan)?;
        }
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                check_function(part)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        let plain = matches!(
            node,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::Window(_)
                | LogicalPlan::Aggregate(_)
                | LogicalPlan::Sort(_)
                | LogicalPlan::Join(_)
                | LogicalPlan::Repartition(_)
                | LogicalPlan::Union(_)
                | LogicalPlan::TableScan(_)
                | LogicalPlan::EmptyRelation(_)
                | LogicalPlan::Subquery(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::Limit(_)
                | LogicalPlan::Values(_)
                | LogicalPlan::DescribeTable(_)
                | LogicalPlan::Distinct(_)
                | LogicalPlan::Unnest(_)
                | LogicalPlan::RecursiveQuery(_)
        );
        if plain {
            Ok(TreeNodeRecursion::Continue)
        } else {
            refused = Some(node.display().to_string());
            Ok(TreeNodeRecursion::Stop)
        }
    })?;
    match refused {
        None => Ok(()),
        Some(node) => {
            let verb = node.split([':', ' ']).next().unwrap_or_default();
            Err(Error::invalid(format!(
                "`{verb}` is not available in a query"
            )))
        }
    }
}

/// The session offers permitted functions only; a plan that came another way is refused here.
fn check_function(expression: &Expr) -> Result<()> {
    let (name, is_permitted) = match expression {
        Expr::ScalarFunction(call) => (call.name(), functions::is_scalar(&call.func)),
        Expr::HigherOrderFunction(call) => (call.func.name(), false),
        Expr::AggregateFunction(call) => {
            let name = call.func.name();
            (name, functions::is_aggregate(name))
        }
        Expr::WindowFunction(call) => {
            let name = match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => function.name(),
                WindowFunctionDefinition::WindowUDF(function) => function.name(),
            };
            if functions::collects(name) {
                return Err(Error::invalid(format!(
                    "`{name}` over a window would repeat its rows in each of them; use it with \
                     GROUP BY, and join its result where each row needs it"
                )));
            }
            (name, functions::is_window(name))
        }
        _ => return Ok(()),
    };
    if is_permitted {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "function `{name}` is not available in a query"
    )))
}

/// The dataset tables that an optimised plan reads, with the columns that it touches.
pub fn tables_read(plan: &LogicalPlan) -> Result<Vec<TableAccess>> {
    let mut found: BTreeMap<_, TableAccess> = BTreeMap::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(access) = access(scan)?
        {
            // A table that is read twice is one table, with the columns of both.
            let key = (access.dataset.clone(), access.table.clone(), access.digest);
            match found.entry(key) {
                Entry::Occupied(mut known) => known.get_mut().columns.extend(access.columns),
                Entry::Vacant(new) => {
                    new.insert(access);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.into_values().collect())
}

/// The tables that a plan scans.
pub fn providers(plan: &LogicalPlan) -> Result<Vec<Arc<dyn TableProvider>>> {
    let mut found = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found.push(source_as_provider(&scan.source)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Logical bytes of the columns of the space's tables that an optimised plan reads.
pub fn space_bytes_read(plan: &LogicalPlan) -> Result<u64> {
    let found = space_read(plan)?;
    let read = found.values();
    let sizes = read.filter_map(|(provider, columns)| {
        space_table(provider).map(|table| table.logical_bytes(columns))
    });
    Ok(sizes.sum())
}

/// The space's tables that a plan reads, with their columns.
pub fn space_columns_read(plan: &LogicalPlan) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let found = space_read(plan)?.into_iter();
    Ok(found.map(|(name, (_, columns))| (name, columns)).collect())
}

type SpaceRead = BTreeMap<String, (Arc<dyn TableProvider>, BTreeSet<String>)>;

fn space_read(plan: &LogicalPlan) -> Result<SpaceRead> {
    let mut found = SpaceRead::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let provider = source_as_provider(&scan.source)?;
            if let Some(table) = space_table(&provider) {
                let name = table.name().to_owned();
                let read = found
                    .entry(name)
                    .or_insert_with(|| (Arc::clone(&provider), BTreeSet::new()));
                read.1.extend(columns_of(scan));
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn space_table(provider: &Arc<dyn TableProvider>) -> Option<&space::SpaceTable> {
    (provider.as_ref() as &dyn std::any::Any).downcast_ref()
}

/// The columns that a scan gives, and those that its filters look at.
fn columns_of(scan: &TableScan) -> BTreeSet<String> {
    let given = scan.projected_schema.fields().iter();
    let filtered = scan.filters.iter().flat_map(|filter| filter.column_refs());
    given
        .map(|field| field.name().clone())
        .chain(filtered.map(|column| column.name.clone()))
        .collect()
}

fn access(scan: &TableScan) -> datafusion::error::Result<Option<TableAccess>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = table_of(provider.as_ref()) else {
        return Ok(None);
    };
    let mut columns = columns_of(scan);
    columns.remove(aggregate::PERSON);
    Ok(Some(TableAccess {
        dataset: table.dataset().to_owned(),
        table: table.table().to_owned(),
        columns,
        digest: table.digest(),
    }))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::error::ErrorKind;

    /// A session of DataFusion's own has every function; a plan of it is still checked.
    #[tokio::test]
    async fn functions_are_permitted_by_name() {
        let context = SessionContext::new();
        for (sql, refused) in [
            ("SELECT input_file_name()", Some("input_file_name")),
            (
                "SELECT 1 WHERE EXISTS (SELECT coalesce(upper(input_file_name()), '') = 'x')",
                Some("input_file_name"),
            ),
            ("SELECT file_row_index()", Some("file_row_index")),
            ("SELECT version(), upper('a') || lower('B')", None),
            (
                "SELECT sum(x) OVER (), rank() OVER () FROM (VALUES (1)) t(x)",
                None,
            ),
            ("SELECT avg(x), count(*) FROM (VALUES (1)) t(x)", None),
            ("SELECT [1, 2][1], make_array(3)", None),
            (
                "SELECT {'a': 1}['a'], extract(year FROM now()), substring('a', 1)",
                None,
            ),
        ] {
            let plan = match context.state().create_logical_plan(sql).await {
                Ok(plan) => plan,
                Err(error) => panic!("{sql}: {error}"),
            };
            match (check_plan(&plan), refused) {
                (Ok(()), None) => {}
                (Err(error), Some(name)) => {
                    assert_eq!(error.kind, ErrorKind::InvalidArgument);
                    assert!(error.to_string().contains(name), "{sql}: {error}");
                }
                (checked, _) => panic!("{sql}: {checked:?}"),
            }
        }
    }
}
