//! The second decision, on the plan itself: nodes by allow-list, and what it reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use hubflight_policy::PolicyTable;

use crate::catalog::space;
use crate::error::{Error, Result};

/// A table of a dataset that a query reads, and the columns of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableAccess {
    pub dataset: String,
    pub table: String,
    pub columns: BTreeSet<String>,
    /// What shapes the visible rows and values: for caches of sizes.
    pub digest: [u8; 32],
}

/// Refuses a plan with any node that is not a plain read.
pub fn check_plan(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            space::check_scan(scan)?;
        }
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

/// The dataset tables that an optimised plan reads, with the columns that it touches.
pub fn tables_read(plan: &LogicalPlan) -> Result<Vec<TableAccess>> {
    let mut found = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            found.extend(access(scan)?);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.into_iter().collect())
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

fn access(scan: &TableScan) -> datafusion::error::Result<Option<TableAccess>> {
    let provider = source_as_provider(&scan.source)?;
    let Some(table) = (provider.as_ref() as &dyn std::any::Any).downcast_ref::<PolicyTable>()
    else {
        return Ok(None);
    };
    let mut columns: BTreeSet<String> = scan
        .projected_schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect();
    for filter in &scan.filters {
        columns.extend(
            filter
                .column_refs()
                .into_iter()
                .map(|column| column.name.clone()),
        );
    }
    Ok(Some(TableAccess {
        dataset: table.dataset().to_owned(),
        table: table.table().to_owned(),
        columns,
        digest: table.digest(),
    }))
}
