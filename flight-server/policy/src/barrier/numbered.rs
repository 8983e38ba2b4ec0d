//! A table of Parquet files with the number of each row, to find out which rows a view shows.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

/// Name of the column of numbers: a control character, so that no file has it.
pub const POSITION: &str = "\u{1}position";

/// The scan of files inside a source's plan, of Parquet files if asked.
pub fn file_scan(plan: &dyn ExecutionPlan, parquet: bool) -> Option<&FileScanConfig> {
    let scan = plan.downcast_ref::<DataSourceExec>()?;
    if parquet {
        return Some(scan.downcast_to_file_source::<ParquetSource>()?.0);
    }
    scan.data_source().downcast_ref::<FileScanConfig>()
}

/// A file and the rows of each of its row groups.
#[derive(Debug)]
pub struct StoredFile {
    pub file: PartitionedFile,
    pub groups: Vec<usize>,
}

/// The files of a table, in the order in which their rows are numbered from 0.
#[derive(Debug)]
pub struct Stored {
    files: Vec<StoredFile>,
    rows: usize,
}

impl Stored {
    /// Reads the files' footers.
    pub async fn read(
        state: &dyn Session,
        source: &Arc<dyn TableProvider>,
        listed: Vec<PartitionedFile>,
    ) -> Result<Self> {
        let plan = source.scan(state, Some(&Vec::new()), &[], None).await?;
        let config = file_scan(plan.as_ref(), true).ok_or_else(no_files)?;
        let environment = state.runtime_env();
        let store = environment.object_store(&config.object_store_url)?;
        let cache = environment.cache_manager.get_file_metadata_cache();
        let mut files = Vec::with_capacity(listed.len());
        let mut rows = 0_usize;
        for file in listed {
            let footer = DFParquetMetadata::new(store.as_ref(), &file.object_meta)
                .with_file_metadata_cache(Some(Arc::clone(&cache)))
                .fetch_metadata()
                .await?;
            let count = |rows: i64| usize::try_from(rows).map_err(|_| no_files());
            let groups = footer.row_groups().iter();
            let groups = groups.map(|group| count(group.num_rows()));
            let groups = groups.collect::<Result<Vec<usize>>>()?;
            rows += groups.iter().sum::<usize>();
            files.push(StoredFile { file, groups });
        }
        Ok(Self { files, rows })
    }

    pub fn files(&self) -> &[StoredFile] {
        &self.files
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The files in parts of whole row groups, about `target` a file, with the numbers of each
    /// part's rows.
    fn parts(&self, target: usize) -> Vec<(PartitionedFile, Range<u64>)> {
        let mut parts = Vec::new();
        let mut first = 0_u64;
        for StoredFile { file, groups } in &self.files {
            let step = groups.len().div_ceil(target.max(1)).max(1);
            for begin in (0..groups.len()).step_by(step) {
                let part = begin..(begin + step).min(groups.len());
                let rows: usize = groups.iter().take(part.end).skip(begin).sum();
                let end = first + rows as u64;
                parts.push((only(file, &part, groups.len()), first..end));
                first = end;
            }
        }
        parts
    }
}

/// The file, of which only these row groups are read.
fn only(file: &PartitionedFile, part: &Range<usize>, groups: usize) -> PartitionedFile {
    let mut access = ParquetAccessPlan::new_none(groups);
    part.clone().for_each(|group| access.scan(group));
    with_access(file, access)
}

/// The file, of which only this is read.
pub fn with_access(file: &PartitionedFile, access: ParquetAccessPlan) -> PartitionedFile {
    let mut file = file.clone();
    // With them, a dynamic filter may end the reading of the file within a row group, when it
    // excludes all of its rows, hidden ones included. Row groups have their own in the footer.
    file.statistics = None;
    file.with_extension(access)
}

fn no_files() -> DataFusionError {
    DataFusionError::Execution("the source is no longer one of Parquet files".to_owned())
}

/// The table of a source with its rows' numbers in a last column [`POSITION`].
#[derive(Debug)]
pub struct Numbered {
    source: Arc<dyn TableProvider>,
    stored: Arc<Stored>,
    schema: SchemaRef,
}

impl Numbered {
    pub fn new(source: Arc<dyn TableProvider>, stored: Arc<Stored>) -> Self {
        let mut fields = source.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(POSITION, DataType::UInt64, false)));
        Self {
            source,
            stored,
            schema: Arc::new(Schema::new(fields)),
        }
    }
}

#[async_trait]
impl TableProvider for Numbered {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let position = self.schema.fields().len() - 1;
        let whole = (0..=position).collect();
        let projection = projection.unwrap_or(&whole);
        let stored: Vec<usize> = projection
            .iter()
            .copied()
            .filter(|index| *index != position)
            .collect();
        let plan = self.source.scan(state, Some(&stored), &[], None).await?;
        let config = file_scan(plan.as_ref(), true).ok_or_else(no_files)?;
        // A plan of its own for each part: partitions of one plan take files from one another,
        // and then nobody knows which rows are which.
        let part = |(file, rows): (PartitionedFile, Range<u64>)| {
            let config = FileScanConfigBuilder::from(config.clone())
                .with_file_groups(vec![FileGroup::new(vec![file])])
                .build();
            let plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
            (plan, rows)
        };
        let parts = self.stored.parts(state.config().target_partitions());
        let schema = Arc::new(self.schema.project(projection)?);
        let at = projection.iter().position(|index| *index == position);
        Ok(Arc::new(NumberedExec::new(
            parts.into_iter().map(part).collect(),
            schema,
            at,
        )))
    }
}

/// Appends the numbers. A leaf: a filter pushed into its files would shift the numbers.
#[derive(Debug)]
struct NumberedExec {
    parts: Vec<(Arc<dyn ExecutionPlan>, Range<u64>)>,
    schema: SchemaRef,
    /// Where the numbers stand in the output, if they are asked for.
    at: Option<usize>,
    properties: Arc<PlanProperties>,
}

impl NumberedExec {
    fn new(
        parts: Vec<(Arc<dyn ExecutionPlan>, Range<u64>)>,
        schema: SchemaRef,
        at: Option<usize>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            parts,
            schema,
            at,
            properties: Arc::new(properties),
        }
    }
}

impl DisplayAs for NumberedExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "NumberedExec")
    }
}

impl ExecutionPlan for NumberedExec {
    fn name(&self) -> &str {
        "NumberedExec"
    }

    super::leaf_plan!();

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
        let (plan, rows) = self.parts.get(partition).ok_or_else(no_files)?;
        let (schema, at) = (Arc::clone(&self.schema), self.at);
        let read = Arc::new(AtomicU64::new(rows.start));
        let (next, end) = (Arc::clone(&read), rows.end);
        let numbered = plan.execute(0, context)?.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows() as u64;
            let first = next.fetch_add(rows, Ordering::Relaxed);
            let mut columns = batch.columns().to_vec();
            if let Some(at) = at {
                let numbers: ArrayRef =
                    Arc::new(UInt64Array::from_iter_values(first..first + rows));
                columns.insert(at.min(columns.len()), numbers);
            }
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let schema = Arc::clone(&schema);
            Ok(RecordBatch::try_new_with_options(
                schema, columns, &options,
            )?)
        });
        // Had the reader left a row out, every number after it would be another row's.
        let all = futures::stream::once(async move {
            (read.load(Ordering::Relaxed) != end).then(|| Err(no_files()))
        });
        let numbered = numbered.chain(all.filter_map(std::future::ready));
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, numbered)))
    }
}
