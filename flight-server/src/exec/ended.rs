//! Joins that end with their statement, and let others compute.
//!
//! A join with a condition on pairs of rows judges whole batches of pairs before one row comes out, or
//! none; it asks nobody meanwhile, so that neither a deadline nor a cancel ends it. Its condition
//! looks, for each batch of pairs, whether the statement has ended. And what makes rows out of rows
//! that it holds waits for nothing, so that whoever sums them up never lets go of its thread: it
//! takes part in tokio's budget.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder,
};
use datafusion::physical_plan::unnest::UnnestExec;

use crate::error::{Error, ErrorKind};

/// The plan, whose joins end when that is set.
pub fn ending(
    plan: Arc<dyn ExecutionPlan>,
    ended: &Arc<AtomicBool>,
) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(plan.transform_up(|node| end(node, ended))?.data)
}

fn end(
    node: Arc<dyn ExecutionPlan>,
    ended: &Arc<AtomicBool>,
) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
    let node: Arc<dyn ExecutionPlan> = if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
    {
        let filter = join.filter().map(|filter| judged(filter, ended));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter);
        Arc::new(join.build()?)
    } else if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        match join.filter() {
            Some(filter) => join
                .builder()
                .with_filter(Some(judged(filter, ended)))
                .build_exec()?,
            None => node,
        }
    } else if node.is::<CrossJoinExec>() || node.is::<UnnestExec>() {
        node
    } else {
        return Ok(Transformed::no(node));
    };
    Ok(Transformed::yes(Arc::new(CooperativeExec::new(node))))
}

fn judged(filter: &JoinFilter, ended: &Arc<AtomicBool>) -> JoinFilter {
    let condition = UntilEnded {
        condition: Arc::clone(filter.expression()),
        ended: Arc::clone(ended),
    };
    let columns = filter.column_indices().to_vec();
    JoinFilter::new(Arc::new(condition), columns, Arc::clone(filter.schema()))
}

/// A condition that fails once its statement has ended.
#[derive(Debug)]
struct UntilEnded {
    condition: Arc<dyn PhysicalExpr>,
    ended: Arc<AtomicBool>,
}

impl PartialEq for UntilEnded {
    fn eq(&self, other: &Self) -> bool {
        self.condition.eq(&other.condition)
    }
}

impl Eq for UntilEnded {}

impl Hash for UntilEnded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.condition.hash(state);
    }
}

impl fmt::Display for UntilEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt(f)
    }
}

impl PhysicalExpr for UntilEnded {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.ended.load(Ordering::Acquire) {
            let error = Error::new(ErrorKind::Cancelled, "the statement has ended");
            return Err(DataFusionError::External(Box::new(error)));
        }
        self.condition.evaluate(batch)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.condition.return_field(schema)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.condition]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let condition = children.pop();
        Ok(Arc::new(Self {
            condition: condition.unwrap_or_else(|| Arc::clone(&self.condition)),
            ended: Arc::clone(&self.ended),
        }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.condition.fmt_sql(f)
    }
}
