//! Answers of workers are handed on as they come, not gathered.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::execution_plan::EmissionType;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

use crate::DispatchExec;

/// Rows that a filter on answers gathers before it hands them on. DataFusion's 8192 would be
/// that many more rows to compute where the query above needs few, and that many images held.
const FILTER_ROWS: usize = 256;

/// Removes the repartitioning that DataFusion puts above a [`DispatchExec`] to spread its rows
/// over the cores: it reads ahead, gathers 8192 rows an output, and so hides from the operator
/// that a `LIMIT` above has enough. The cost is in the workers, not in what follows.
#[derive(Debug)]
pub(crate) struct HandOnAnswers;

impl PhysicalOptimizerRule for HandOnAnswers {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let optimized = plan.transform_up(|node| {
            if let Some(spread) = node.downcast_ref::<RepartitionExec>()
                && matches!(spread.partitioning(), Partitioning::RoundRobinBatch(_))
                && hands_on_answers(spread.input())
            {
                return Ok(Transformed::yes(Arc::clone(spread.input())));
            }
            if let Some(filter) = node.downcast_ref::<FilterExec>()
                && hands_on_answers(filter.input())
            {
                let rows = filter.batch_size().min(FILTER_ROWS);
                return Ok(Transformed::yes(Arc::new(filter.with_batch_size(rows)?)));
            }
            Ok(Transformed::no(node))
        })?;
        Ok(optimized.data)
    }

    fn name(&self) -> &str {
        "hand_on_worker_answers"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// True where the rows of `plan` are a [`DispatchExec`]'s, batch by batch.
fn hands_on_answers(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut plan = plan;
    loop {
        if plan.is::<DispatchExec>() {
            return true;
        }
        let gathers = plan.is::<RepartitionExec>()
            || !matches!(plan.pipeline_behavior(), EmissionType::Incremental);
        match plan.children().as_slice() {
            [input] if !gathers => plan = input,
            _ => return false,
        }
    }
}
