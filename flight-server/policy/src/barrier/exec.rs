//! The barrier in a physical plan.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ColumnStatistics, Statistics, stats::Precision};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::{Column, DynamicFilterPhysicalExpr};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::execution_plan::{apply_expression_roots, reset_plan_states};
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase,
    FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::StreamExt;

use super::clean::clean;
use crate::error::PolicyError;

/// What may be known of a scan from outside.
#[derive(Clone, Debug)]
pub(super) struct About {
    pub dataset: String,
    pub table: String,
    /// The user's own filters that are evaluated inside, as the user's plan writes them.
    pub filters: Vec<String>,
    /// Every stored row is visible.
    pub all_rows: bool,
    /// How many rows are visible before the user's filters, where it is known.
    pub visible_rows: Option<usize>,
    /// By output column: shows the stored value.
    pub plain: Vec<bool>,
    /// By output column: comparing its stored values cannot fail.
    pub comparable: Vec<bool>,
}

/// The only door to stored rows that are not all visible as they are.
///
/// A leaf: it reports no children, so that no optimiser rule, EXPLAIN or statistics walk
/// reaches the plan inside, which was optimised on its own. From above it takes
///
/// - a limit, which it applies to its own output;
/// - dynamic filters on plain columns (bounds and keys of a join, the threshold of a TopK),
///   which it offers to the plan inside for pruning; never another predicate.
///
/// It claims statistics only where every row is visible, and then none of altered columns; else the
/// number of visible rows, where that is known.
/// Errors from inside are logged and replaced: their texts quote paths and values.
#[derive(Clone, Debug)]
pub struct PolicyScanExec {
    inner: Arc<dyn ExecutionPlan>,
    /// `inner` before dynamic filters came in.
    bare: Arc<dyn ExecutionPlan>,
    about: Arc<About>,
    schema: SchemaRef,
    fetch: Option<usize>,
    /// Dynamic filters that the plan inside uses.
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl PolicyScanExec {
    /// # Errors
    /// When the plan inside does not produce the columns of `schema`.
    pub(super) fn try_new(
        inner: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        about: About,
    ) -> Result<Self> {
        let produced = inner.schema();
        let agrees = produced.fields().len() == schema.fields().len()
            && produced
                .fields()
                .iter()
                .zip(schema.fields())
                .all(|(produced, shown)| {
                    produced.name() == shown.name()
                        && produced.data_type() == shown.data_type()
                        && (shown.is_nullable() || !produced.is_nullable())
                });
        if !agrees {
            tracing::error!(?produced, shown = ?schema, "the policy's plan has another schema");
            return Err(unreadable(&about.dataset, &about.table));
        }
        Ok(Self {
            properties: Arc::new(properties(inner.as_ref(), &schema)),
            bare: Arc::clone(&inner),
            inner,
            about: Arc::new(about),
            schema,
            fetch: None,
            dynamic: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    pub(super) fn limited(self, fetch: Option<usize>) -> Self {
        Self { fetch, ..self }
    }

    /// The dataset's and the table's name.
    pub fn table(&self) -> (&str, &str) {
        (&self.about.dataset, &self.about.table)
    }

    /// The number of rows that the user sees, as far as it is known, and about which values the plain
    /// columns have in them: of these rows alone, and exactly only where nothing else drops rows.
    fn visible_statistics(&self, args: &StatisticsArgs) -> Statistics {
        let mut statistics = Statistics::new_unknown(&self.schema);
        let Some(visible) = self
            .about
            .visible_rows
            .filter(|_| args.partition().is_none())
        else {
            return statistics;
        };
        let mut left = visible;
        // The plan inside of no row reads what is stored; any other reads visible rows.
        if visible > 0
            && let Ok(inside) = StatisticsContext::new().compute(self.inner.as_ref(), args)
        {
            left = visible.min(*inside.num_rows.get_value().unwrap_or(&visible));
            let columns = statistics.column_statistics.iter_mut();
            let columns = columns
                .zip(&inside.column_statistics)
                .zip(&self.about.plain);
            for ((column, inside), _) in columns.filter(|(_, plain)| **plain) {
                column.min_value = inside.min_value.clone().to_inexact();
                column.max_value = inside.max_value.clone().to_inexact();
            }
        }
        let rows = self.fetch.map_or(left, |fetch| left.min(fetch));
        let is_exact = self.about.filters.is_empty() && self.dynamic.is_empty();
        statistics.num_rows = match is_exact {
            true => Precision::Exact(rows),
            false => Precision::Inexact(rows),
        };
        statistics
    }

    /// A filter whose values come from rows that the user sees, over plain columns only. An
    /// expression of the user (`ON CAST(a.x AS INT) = b.y`) is among its children and refused.
    fn is_harmless(&self, filter: &Arc<dyn PhysicalExpr>) -> bool {
        let about = &self.about;
        filter.downcast_ref::<DynamicFilterPhysicalExpr>().is_some()
            && filter.children().iter().all(|child| {
                child.downcast_ref::<Column>().is_some_and(|column| {
                    let at = |flags: &[bool]| flags.get(column.index()).copied().unwrap_or(false);
                    at(&about.plain) && at(&about.comparable)
                })
            })
    }
}

/// What outside plans may rely on: the order of rows and the number of partitions.
fn properties(inner: &dyn ExecutionPlan, schema: &SchemaRef) -> PlanProperties {
    let inside = inner.properties();
    let orderings = inside.output_ordering().cloned();
    let known = EquivalenceProperties::new_with_orderings(Arc::clone(schema), orderings);
    let partitions = inside.output_partitioning().partition_count();
    PlanProperties::new(
        known,
        Partitioning::UnknownPartitioning(partitions),
        inside.emission_type,
        inside.boundedness,
    )
    .with_scheduling_type(inside.scheduling_type)
    .with_evaluation_type(inside.evaluation_type)
}

impl DisplayAs for PolicyScanExec {
    fn fmt_as(&self, kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let columns: Vec<&str> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let About {
            dataset,
            table,
            filters,
            ..
        } = self.about.as_ref();
        match kind {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "PolicyScanExec: table={dataset}.{table}")?;
                write!(f, ", columns=[{}]", columns.join(", "))?;
                if !filters.is_empty() {
                    write!(f, ", filters=[{}]", filters.join(", "))?;
                }
                match self.fetch {
                    Some(fetch) => write!(f, ", fetch={fetch}"),
                    None => Ok(()),
                }
            }
            DisplayFormatType::TreeRender => writeln!(f, "table={dataset}.{table}"),
        }
    }
}

impl ExecutionPlan for PolicyScanExec {
    fn name(&self) -> &str {
        "PolicyScanExec"
    }

    super::leaf_plan!();

    /// Lets the producers of dynamic filters see that somebody uses them.
    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.dynamic, f)
    }

    /// A run of a recursive query starts without the dynamic filters of the run before, whose
    /// bounds may no longer hold.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        let bare = reset_plan_states(Arc::clone(&self.bare))?;
        Ok(Arc::new(Self {
            inner: Arc::clone(&bare),
            bare,
            dynamic: Vec::new(),
            metrics: ExecutionPlanMetricsSet::new(),
            ..self.as_ref().clone()
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let about = Arc::clone(&self.about);
        let inner = self
            .inner
            .execute(partition, context)
            .map_err(|error| conceal(&error, &about.dataset, &about.table))?;
        let schema = Arc::clone(&self.schema);
        let shown = inner.map(move |batch| {
            let batch = batch.map_err(|error| conceal(&error, &about.dataset, &about.table))?;
            // The files' own metadata may speak of hidden columns: the view's schema does not.
            let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch
                .columns()
                .iter()
                .map(clean)
                .collect::<Result<_, _>>()?;
            Ok(RecordBatch::try_new_with_options(
                Arc::clone(&schema),
                columns,
                &rows,
            )?)
        });
        let shown = RecordBatchStreamAdapter::new(Arc::clone(&self.schema), shown);
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        Ok(Box::pin(LimitStream::new(
            Box::pin(shown),
            0,
            self.fetch,
            metrics,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        if !self.about.all_rows {
            return Ok(Arc::new(self.visible_statistics(args)));
        }
        let inside = StatisticsContext::new()
            .compute(self.inner.as_ref(), args)
            .map_err(|error| conceal(&error, &self.about.dataset, &self.about.table))?;
        let mut statistics = inside.as_ref().clone();
        statistics.total_byte_size = Precision::Absent;
        for (column, plain) in statistics
            .column_statistics
            .iter_mut()
            .zip(&self.about.plain)
        {
            if !plain {
                *column = ColumnStatistics::new_unknown();
            }
        }
        let partitions = self.properties.partitioning.partition_count();
        let statistics = match self.fetch {
            Some(fetch) => statistics.with_fetch(Some(fetch), 0, partitions)?,
            None => statistics,
        };
        Ok(Arc::new(statistics))
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.clone().limited(fetch)))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    /// Offers harmless dynamic filters to the plan inside and tells every parent that it still
    /// has to apply its own predicate: what is inside uses them for pruning only.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        from_above: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let refused = vec![PushedDown::No; from_above.parent_filters.len()];
        let refused = FilterPushdownPropagation::with_parent_pushdown_result(refused);
        // Under a limit, dropping rows early would let others through.
        if phase != FilterPushdownPhase::Post || self.fetch.is_some() {
            return Ok(refused);
        }
        let offered: Vec<Arc<dyn PhysicalExpr>> = from_above
            .parent_filters
            .into_iter()
            .map(|result| result.filter)
            .filter(|filter| self.is_harmless(filter))
            .collect();
        if offered.is_empty() {
            return Ok(refused);
        }
        let inner = Offer::push(&self.inner, offered.clone(), config)?;
        let mut dynamic = self.dynamic.clone();
        for filter in offered {
            if uses(&inner, &filter)? {
                dynamic.push(filter);
            }
        }
        let updated = Self {
            inner,
            dynamic,
            ..self.clone()
        };
        Ok(refused.with_updated_node(Arc::new(updated)))
    }
}

/// Whether a plan contains a dynamic filter, at whatever remapping of its columns.
fn uses(plan: &Arc<dyn ExecutionPlan>, filter: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    let Some(id) = filter.expression_id() else {
        return Ok(false);
    };
    let mut found = false;
    plan.apply(|node| {
        node.apply_expressions(&mut |root| {
            root.apply(|expr| {
                found |= expr.expression_id() == Some(id);
                Ok(TreeNodeRecursion::Continue)
            })
        })?;
        Ok(if found {
            TreeNodeRecursion::Stop
        } else {
            TreeNodeRecursion::Continue
        })
    })?;
    Ok(found)
}

/// Stands above a plan for the time of one optimiser pass, to push dynamic filters into it.
#[derive(Debug)]
struct Offer {
    plan: Arc<dyn ExecutionPlan>,
    filters: Vec<Arc<dyn PhysicalExpr>>,
}

impl Offer {
    fn push(
        plan: &Arc<dyn ExecutionPlan>,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let offer = Arc::new(Self {
            plan: Arc::clone(plan),
            filters,
        });
        let pushed = FilterPushdown::new_post_optimization().optimize(offer, config)?;
        match pushed.children().as_slice() {
            [plan] if pushed.is::<Self>() => Ok(Arc::clone(plan)),
            _ => Ok(Arc::clone(plan)),
        }
    }
}

impl DisplayAs for Offer {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Offer")
    }
}

impl ExecutionPlan for Offer {
    fn name(&self) -> &str {
        "Offer"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.plan]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match children.as_slice() {
            [plan] => Ok(Arc::new(Self {
                plan: Arc::clone(plan),
                filters: self.filters.clone(),
            })),
            _ => Err(DataFusionError::Plan("an offer has one child".to_owned())),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        use datafusion::physical_plan::ChildrenPropertiesMode::Recompute;
        self.replace_children(children, ReplaceChildrenOptions::new(Recompute))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(&self.filters, f)
    }

    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        let child = ChildFilterDescription::all_unsupported(&parent_filters)
            .with_self_filters(self.filters.clone());
        Ok(FilterDescription::new().with_child(child))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.plan.execute(partition, context)
    }
}

/// Logs an error from inside the barrier and gives the one that may be seen instead, of the
/// same class.
pub(super) fn conceal(error: &DataFusionError, dataset: &str, table: &str) -> DataFusionError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => {
            tracing::info!(%error, dataset, table, "memory ran out behind the barrier");
            let (dataset, table) = (dataset.to_owned(), table.to_owned());
            let shown = PolicyError::OutOfMemory { dataset, table };
            DataFusionError::ResourcesExhausted(shown.to_string())
        }
        _ => {
            tracing::error!(%error, dataset, table, "reading behind the barrier failed");
            unreadable(dataset, table)
        }
    }
}

fn unreadable(dataset: &str, table: &str) -> DataFusionError {
    DataFusionError::External(Box::new(PolicyError::Unreadable {
        dataset: dataset.to_owned(),
        table: table.to_owned(),
    }))
}
