//! A table of Parquet files of which only selected rows are read.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use super::numbered::file_scan;
use super::selection::Selection;

/// The source, less the rows that are not selected. What the source says of itself (statistics,
/// constraints) counts hidden rows too, so only the barrier may plan with it.
#[derive(Debug)]
pub struct Selected {
    source: Arc<dyn TableProvider>,
    selection: Arc<Selection>,
}

impl Selected {
    pub fn new(source: Arc<dyn TableProvider>, selection: Arc<Selection>) -> Self {
        Self { source, selection }
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
        let config = file_scan(plan.as_ref(), true).ok_or_else(|| {
            DataFusionError::Execution("the source is no longer one of Parquet files".to_owned())
        })?;
        let restrict = |file: &PartitionedFile| self.selection.restrict(file.clone());
        let groups = config.file_groups.iter().map(|group| {
            let files: Result<Vec<PartitionedFile>> = group.iter().map(restrict).collect();
            Ok(FileGroup::new(files?))
        });
        let config = FileScanConfigBuilder::from(config.clone())
            .with_file_groups(groups.collect::<Result<Vec<FileGroup>>>()?)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        self.source.supports_filters_pushdown(filters)
    }
}
