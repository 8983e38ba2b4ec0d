//! What DataFusion lists of itself in `information_schema`: its settings are no table here.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use crate::error::Result;

/// The plan, in which `information_schema.tables` has only tables that can be read.
pub fn without_settings(plan: LogicalPlan) -> Result<LogicalPlan> {
    let hidden = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::TableScan(scan) = &node else {
            return Ok(Transformed::no(node));
        };
        if !lists_tables(&scan.table_name) {
            return Ok(Transformed::no(node));
        }
        let name = Column::new(Some(scan.table_name.clone()), "table_name");
        let others =
            LogicalPlanBuilder::from(node).filter(Expr::Column(name).not_eq(lit("df_settings")))?;
        Ok(Transformed::yes(others.build()?))
    })?;
    Ok(hidden.data)
}

fn lists_tables(name: &TableReference) -> bool {
    name.schema() == Some("information_schema") && name.table() == "tables"
}
