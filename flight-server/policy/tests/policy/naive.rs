//! The policy as one would write it first: a filter in the table's own scan and masks above it.
//!
//! Each attack is tried on this too. Where it does not succeed here, its failure behind the
//! barrier would prove nothing.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::{TableType, provider_as_source};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::functions::unicode::expr_fn::left;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use datafusion::prelude::{SessionConfig, SessionContext, col, lit};
use hubflight_policy::Sources;

use crate::world::{World, days, first_visible_day};

/// Stays, diagnoses and labels as `researcher` should see them, without the barrier.
pub fn session(world: &World, config: SessionConfig) -> SessionContext {
    let ctx = SessionContext::new_with_config(config);
    for table in ["stays", "diagnoses", "labels"] {
        let source = world.source("hospital", table).unwrap();
        let naive = Arc::new(Naive { source });
        // Only stays have a filter of their own; what belongs to them is joined in a view.
        match table {
            "stays" => ctx.register_table(table, naive).unwrap(),
            "labels" => ctx.register_table(table, naive.source.clone()).unwrap(),
            _ => ctx
                .register_table(format!("raw_{table}"), naive.source.clone())
                .unwrap(),
        };
    }
    ctx
}

/// The view of diagnoses: those of stays that are visible.
pub const DIAGNOSES: &str = "CREATE VIEW diagnoses AS SELECT d.* FROM raw_diagnoses d \
                             LEFT SEMI JOIN stays s ON d.stay = s.stay";

#[derive(Debug)]
struct Naive {
    source: Arc<dyn TableProvider>,
}

#[async_trait]
impl TableProvider for Naive {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Takes every filter, to be fast.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Exact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let since = lit(datafusion::common::ScalarValue::Date32(Some(days(
            first_visible_day(),
        ))));
        let source = provider_as_source(Arc::clone(&self.source));
        let schema = self.schema();
        let all: Vec<usize> = (0..schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let shown = projection
            .iter()
            .map(|index| match schema.field(*index).name().as_str() {
                "commune" => left(col("commune"), lit(2_i64)).alias("commune"),
                name => col(name),
            });
        let mut plan = LogicalPlanBuilder::scan("t", source, None)?;
        for filter in filters {
            let own = datafusion::logical_expr::expr_rewriter::unnormalize_col(filter.clone());
            plan = plan.filter(own)?;
        }
        let plan = plan
            .filter(col("begun").gt_eq(since))?
            .project(shown)?
            .build()?;
        let plan = state.create_physical_plan(&plan).await?;
        let raw = self.source.scan(state, Some(projection), &[], None).await?;
        let schema = Arc::new(schema.as_ref().project(projection)?);
        Ok(Arc::new(NaiveExec { plan, raw, schema }))
    }
}

/// Shows the filtered rows and passes on what the files say of themselves.
#[derive(Debug)]
struct NaiveExec {
    plan: Arc<dyn ExecutionPlan>,
    raw: Arc<dyn ExecutionPlan>,
    schema: Arc<Schema>,
}

impl DisplayAs for NaiveExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NaiveExec: {:?}", self.schema.fields().len())
    }
}

impl ExecutionPlan for NaiveExec {
    fn name(&self) -> &str {
        "NaiveExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.plan]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            plan: children.remove(0),
            raw: Arc::clone(&self.raw),
            schema: Arc::clone(&self.schema),
        }))
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self {
            plan: children.remove(0),
            raw: Arc::clone(&self.raw),
            schema: Arc::clone(&self.schema),
        }))
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.plan.execute(partition, context)
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        StatisticsContext::new().compute(self.raw.as_ref(), args)
    }
}
