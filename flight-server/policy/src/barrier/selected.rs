//! A table of Parquet files of which only selected rows are read.
//!
//! The reader could be told the rows itself, but it is many times slower at rows here and there
//! than at whole row groups followed by one filter. So a row group is read whole (or in a few parts,
//! [`super::cut`]) or, where the user's filters rule it out by what is known of its selected rows,
//! not at all; what is read meets its bits. What is known of the selected rows is told to the
//! planner, so that joins are ordered as over a table of these rows alone. The file's own statistics
//! and Bloom filters are never asked: they count hidden rows, whose values the time of an answer would
//! then tell, and leave NaN out, so that an answer would tell whether a row group hides any.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::source::{DataSource, DataSourceExec};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, apply_expression_roots,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};

use super::cut::{Windows, deal};
use super::dynamic::passing;
use super::extremes::Extremes;
use super::numbered::{file_scan, with_access};
use super::selection::Selection;

/// Of more row groups the extremes are not compared, which takes longer than to plan without.
const GROUPS_COMPARED_MAX: usize = 1_024;

/// The source, less the rows that are not selected. What the source says of itself (statistics,
/// constraints) counts hidden rows too and is not passed on.
#[derive(Debug)]
pub struct Selected {
    source: Arc<dyn TableProvider>,
    selection: Arc<Selection>,
    /// Columns that are shown as they are stored. Of others, a plan would tell the user how what
    /// they ask for compares with what is stored.
    plain: HashSet<String>,
}

impl Selected {
    pub fn new(
        source: Arc<dyn TableProvider>,
        selection: Arc<Selection>,
        plain: HashSet<String>,
    ) -> Self {
        Self {
            source,
            selection,
            plain,
        }
    }

    /// How many selected rows there are, and the extremes of plain columns where each row group has
    /// told its own.
    fn statistics_of(&self, groups: &[&Group], schema: &SchemaRef) -> Statistics {
        let mut statistics = Statistics::new_unknown(schema);
        statistics.num_rows = Precision::Exact(groups.iter().map(|group| group.selected()).sum());
        if groups.len() > GROUPS_COMPARED_MAX {
            return statistics;
        }
        let columns = statistics.column_statistics.iter_mut();
        let columns = columns.zip(schema.fields());
        for (column, field) in columns.filter(|(_, field)| self.plain.contains(field.name())) {
            if let Some((min, max)) = range(groups, field) {
                column.min_value = Precision::Inexact(min);
                column.max_value = Precision::Inexact(max);
            }
        }
        statistics
    }
}

#[async_trait]
impl TableProvider for Selected {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A limit would be met by counting hidden rows: it stays above.
    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.source.scan(state, projection, filters, None).await?;
        if plan.is::<EmptyExec>() {
            return Ok(plan);
        }
        let config = file_scan(plan.as_ref(), true).ok_or_else(no_files)?;
        let mut groups = Vec::new();
        for file in config.file_groups.iter().flat_map(FileGroup::iter) {
            groups.extend(self.selection.groups(file)?);
        }
        let parquet = config.file_source().downcast_ref::<ParquetSource>();
        // A filter or an index of pages inside the reader would leave rows of a group out, and
        // then nobody knows which bit is whose.
        let parquet = parquet
            .ok_or_else(no_files)?
            .clone()
            .with_enable_page_index(false)
            .with_pushdown_filters(false);
        let config = FileScanConfigBuilder::from(config.clone())
            .with_source(Arc::new(parquet))
            .with_file_groups(Vec::new())
            .build();
        let partitions = state.config().target_partitions();
        let groups = deal(groups, partitions, state.config().batch_size());
        let known: Vec<&Group> = groups.iter().flatten().collect();
        let statistics = self.statistics_of(&known, &plan.schema());
        Ok(Arc::new(SelectedExec::new(
            config,
            groups,
            statistics,
            plan.schema(),
        )))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

fn no_files() -> DataFusionError {
    DataFusionError::Execution("the source is no longer one of Parquet files".to_owned())
}

/// The extremes of all; none where a row group has not told its own.
fn range(groups: &[&Group], field: &Field) -> Option<(ScalarValue, ScalarValue)> {
    let mut ranges = groups.iter().map(|group| group.range(field.name()));
    let (mut min, mut max) = ranges.next()??;
    for range in ranges {
        let (low, high) = range?;
        if low.partial_cmp(&min)?.is_lt() {
            min = low;
        }
        if high.partial_cmp(&max)?.is_gt() {
            max = high;
        }
    }
    let is_typed = [&min, &max].map(|end| end.data_type() == *field.data_type());
    (is_typed == [true; 2]).then_some((min, max))
}

/// Rows of a row group that stand together: one bit for each of them, and what is known of those
/// that are selected.
#[derive(Clone)]
pub struct Group {
    file: Arc<PartitionedFile>,
    /// Which of the file's row groups, and how many it has.
    index: usize,
    groups: usize,
    bits: BooleanBuffer,
    /// For the bits.
    _memory: Arc<MemoryReservation>,
    selected: usize,
    /// Of the whole row group.
    extremes: Arc<Extremes>,
    /// Rows of the row group before and after them.
    around: [usize; 2],
}

impl Group {
    /// All rows of a row group.
    pub fn new(
        file: &Arc<PartitionedFile>,
        [index, groups]: [usize; 2],
        bits: BooleanBuffer,
        extremes: &Arc<Extremes>,
        memory: &Arc<MemoryReservation>,
    ) -> Self {
        Self {
            file: Arc::clone(file),
            index,
            groups,
            selected: bits.count_set_bits(),
            bits,
            _memory: Arc::clone(memory),
            extremes: Arc::clone(extremes),
            around: [0; 2],
        }
    }

    /// The number of selected rows.
    pub fn selected(&self) -> usize {
        self.selected
    }

    fn is_whole(&self) -> bool {
        self.around == [0; 2]
    }

    /// What ends with the selected row of this number, and what follows; none where no selected
    /// row does.
    pub fn split_after(&self, selected: usize) -> Option<(Self, Self)> {
        let rest = self
            .selected
            .checked_sub(selected)
            .filter(|rest| *rest > 0)?;
        let end = self.bits.find_nth_set_bit_position(0, selected);
        let first = self.part(0..end, selected);
        Some((first, self.part(end..self.bits.len(), rest)))
    }

    fn part(&self, rows: Range<usize>, selected: usize) -> Self {
        let [before, after] = self.around;
        let around = [before + rows.start, after + self.bits.len() - rows.end];
        Self {
            bits: self.bits.slice(rows.start, rows.len()),
            selected,
            around,
            ..self.clone()
        }
    }

    /// What is known of these rows alone.
    fn own_extremes(&self) -> Arc<Extremes> {
        if self.is_whole() {
            return Arc::clone(&self.extremes);
        }
        let first = self.around[0];
        self.extremes.of_part(first..first + self.bits.len())
    }

    /// The smallest and the largest value in a column, or those of the whole row group.
    fn range(&self, column: &str) -> Option<(ScalarValue, ScalarValue)> {
        let own = self.own_extremes().range(column);
        own.or_else(|| self.extremes.range(column))
    }

    /// True where none of the selected rows can pass a filter.
    fn is_excluded(&self, filter: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> bool {
        self.extremes.exclude(filter, schema)
            || (!self.is_whole() && self.own_extremes().exclude(filter, schema))
    }

    /// The file, told to read these rows and no others.
    fn file(&self) -> PartitionedFile {
        let mut access = ParquetAccessPlan::new_none(self.groups);
        access.scan(self.index);
        if !self.is_whole() {
            let rows = RowSelection::from(vec![
                RowSelector::skip(self.around[0]),
                RowSelector::select(self.bits.len()),
                RowSelector::skip(self.around[1]),
            ]);
            access.scan_selection(self.index, rows);
        }
        with_access(&self.file, access)
    }
}

/// Reads row groups and keeps the selected rows. A leaf: only [`SelectedExec::config`] takes
/// filters, to rule row groups out.
#[derive(Clone)]
struct SelectedExec {
    config: FileScanConfig,
    /// Filters that are found while the query runs. They only prune elsewhere; here they drop rows.
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// By partition.
    groups: Vec<Vec<Group>>,
    statistics: Arc<Statistics>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
}

impl SelectedExec {
    fn new(
        config: FileScanConfig,
        groups: Vec<Vec<Group>>,
        statistics: Statistics,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(groups.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            config,
            dynamic: Vec::new(),
            groups,
            statistics: Arc::new(statistics),
            schema,
            properties: Arc::new(properties),
        }
    }
}

/// What comes of a row group.
enum Read {
    Rows(RecordBatch),
    /// So many selected rows were left unread.
    Passed(usize),
}

/// The selected rows of a group. All of its rows come, or none.
fn selected(
    config: &FileScanConfig,
    group: Group,
    context: &Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<Read>>> {
    let source = config.file_source();
    let whole = source.table_schema().table_schema();
    if source
        .filter()
        .is_some_and(|filter| group.is_excluded(&filter, whole))
    {
        let passed = Read::Passed(group.selected());
        return Ok(futures::stream::iter([Ok(passed)]).boxed());
    }
    let config = FileScanConfigBuilder::from(config.clone())
        .with_file_groups(vec![FileGroup::new(vec![group.file()])])
        // What the file says of a row group counts hidden rows, and no NaN at all.
        .with_source(unfiltered(config)?)
        .build();
    let batches = DataSourceExec::from_data_source(config).execute(0, Arc::clone(context))?;
    let lesson = group.own_extremes().learn(&batches.schema());
    let state = (batches, group, 0_usize, lesson);
    let kept = futures::stream::try_unfold(state, |state| async move {
        let (mut batches, group, first, mut lesson) = state;
        let bits = &group.bits;
        let Some(batch) = batches.try_next().await? else {
            if first < bits.len() {
                return Err(no_files());
            }
            lesson.end()?;
            return Ok(None);
        };
        let next = first + batch.num_rows();
        if next > bits.len() {
            return Err(no_files());
        }
        let keep = BooleanArray::new(bits.slice(first, batch.num_rows()), None);
        let kept = filter_record_batch(&batch, &keep)?;
        lesson.see(&kept)?;
        Ok(Some((Read::Rows(kept), (batches, group, next, lesson))))
    });
    Ok(kept.boxed())
}

/// The source without the user's filters.
fn unfiltered(config: &FileScanConfig) -> Result<Arc<dyn FileSource>> {
    let parquet = config.file_source().downcast_ref::<ParquetSource>();
    let parquet = parquet.ok_or_else(no_files)?.clone();
    let everything = Arc::new(Literal::new(ScalarValue::from(true)));
    Ok(Arc::new(parquet.with_predicate(everything)))
}

impl fmt::Debug for SelectedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SelectedExec(redacted)")
    }
}

impl DisplayAs for SelectedExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SelectedExec")
    }
}

impl ExecutionPlan for SelectedExec {
    fn name(&self) -> &str {
        "SelectedExec"
    }

    super::leaf_plan!();

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let filters: Vec<_> = self.config.file_source().filter().into_iter().collect();
        apply_expression_roots(&filters, f)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let groups = self.groups.get(partition).ok_or_else(no_files)?.clone();
        let config = self.config.clone();
        let windows = Windows::new(
            Arc::clone(&self.schema),
            context.session_config().batch_size(),
        );
        let reads = futures::stream::iter(groups)
            .map(move |group| selected(&config, group, &context))
            .try_flatten()
            .boxed();
        let dynamic = self.dynamic.clone();
        let state = (Some(reads), windows, dynamic);
        let rows = futures::stream::try_unfold(state, |state| async move {
            let (mut reads, mut windows, dynamic) = state;
            loop {
                if let Some(batch) = windows.next() {
                    let batch = passing(batch, &dynamic)?;
                    // Of a window that was passed by nothing comes either.
                    if batch.num_rows() == 0 {
                        continue;
                    }
                    return Ok(Some((batch, (reads, windows, dynamic))));
                }
                let Some(reading) = &mut reads else {
                    return Ok(None);
                };
                match reading.try_next().await? {
                    Some(Read::Rows(batch)) => windows.push(batch)?,
                    Some(Read::Passed(rows)) => windows.pass(rows)?,
                    None => {
                        windows.end()?;
                        reads = None;
                    }
                }
            }
        });
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(match args.partition() {
            None => Arc::clone(&self.statistics),
            Some(_) => Arc::new(Statistics::new_unknown(&self.schema)),
        })
    }

    /// Lets filters rule row groups out, and leaves them to the parent as before.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        from_above: ChildPushdownResult,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let filters = from_above.parent_filters.into_iter();
        let filters: Vec<_> = filters.map(|result| result.filter).collect();
        let refused = vec![PushedDown::No; filters.len()];
        let refused = FilterPushdownPropagation::with_parent_pushdown_result(refused);
        let mut whole_groups = config.clone();
        whole_groups.execution.parquet.pushdown_filters = false;
        let mut dynamic = self.dynamic.clone();
        if phase == FilterPushdownPhase::Post {
            dynamic.extend(filters.iter().cloned());
        }
        let pushed = self.config.try_pushdown_filters(filters, &whole_groups)?;
        let updated = pushed.updated_node;
        let updated = updated.as_ref().and_then(|node| node.downcast_ref());
        Ok(match updated {
            Some(config) => refused.with_updated_node(Arc::new(Self {
                config: FileScanConfig::clone(config),
                dynamic,
                ..self.clone()
            })),
            None => refused,
        })
    }
}
