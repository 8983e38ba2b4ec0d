//! A table of the space as a scan reads it: exactly the files of its snapshot.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::empty::EmptyTable;
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableScan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hubflight_rights::Zone;
use hubflight_rights::zone::OUTSIDE;
use hubflight_store::{ObjectKind, SpaceFile};

use super::labels::Labels;
use super::{FILES_URL, Object, Space, files::folder_name, measure};
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;

/// A table that may be read, or an object that is there but may not be, and why.
#[derive(Debug)]
pub struct SpaceTable {
    name: String,
    schema: SchemaRef,
    files: Vec<SpaceFile>,
    labels: Labels,
    table_type: TableType,
    definition: Option<String>,
    source: Arc<dyn TableProvider>,
    closed: Option<(ErrorKind, String)>,
}

impl SpaceTable {
    /// All files of a table; a locked one shows its columns and no row, and so does every one
    /// to callers who are outside: nobody has looked at what it holds, and what its labels say
    /// of it ends where a value was written by hand.
    pub(super) fn open(space: &Space, object: &Object, zone: &Zone) -> Result<Self> {
        match &object.ended {
            Some(dataset) => Ok(Self::closed(object, locked(&object.name, dataset))),
            None if zone.is_outside() => Ok(Self::closed(object, inside_only(&object.name))),
            None => Self::of_files(&space.hub, &space.project, object, &object.files),
        }
    }

    /// Some files of a table.
    pub(super) fn of_files(
        hub: &Hub,
        project: &str,
        object: &Object,
        files: &[SpaceFile],
    ) -> Result<Self> {
        let schema = Arc::clone(&object.schema);
        let source: Arc<dyn TableProvider> = if files.is_empty() {
            Arc::new(EmptyTable::new(Arc::clone(&schema)))
        } else {
            Arc::new(listing(hub, project, &schema, files)?)
        };
        Ok(Self {
            name: object.name.clone(),
            schema,
            files: files.to_vec(),
            labels: object.labels.clone(),
            table_type: TableType::Base,
            definition: None,
            source,
            closed: None,
        })
    }

    /// An object whose columns may be listed but which cannot be read, because of `error`.
    pub(super) fn closed(object: &Object, error: Error) -> Self {
        Self {
            name: object.name.clone(),
            schema: Arc::clone(&object.schema),
            files: Vec::new(),
            labels: object.labels.clone(),
            table_type: match object.kind {
                ObjectKind::Table => TableType::Base,
                ObjectKind::View => TableType::View,
            },
            definition: object.view_sql.clone(),
            source: Arc::new(EmptyTable::new(Arc::clone(&object.schema))),
            closed: Some((error.kind, error.to_string())),
        }
    }

    /// Its name within schema `space`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Logical bytes of some columns, which were counted when its files were written: what
    /// reading them is charged by.
    pub fn logical_bytes(&self, columns: &BTreeSet<String>) -> u64 {
        let sizes = self.files.iter();
        sizes
            .map(|file| measure::bytes_of(&file.column_bytes, columns))
            .sum()
    }

    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    fn check(&self) -> Result<()> {
        match &self.closed {
            Some((kind, text)) => Err(Error::new(*kind, text.clone())),
            None => Ok(()),
        }
    }
}

/// Why a locked object cannot be read.
pub(super) fn locked(name: &str, dataset: &str) -> Error {
    Error::denied(format!(
        "`space.{name}` holds data of dataset `{dataset}`, and the right that they were read \
         under has ended or changed; make the table anew, or drop it"
    ))
}

fn inside_only(name: &str) -> Error {
    Error::denied(format!(
        "`space.{name}` is not read from zone `{OUTSIDE}`; ask inside for an export of it, with \
         `CALL hub.request_export('SELECT …', 'name', 'purpose')`"
    ))
}

/// Refuses a plan's scan of an object that is listed but cannot be read.
pub fn check_scan(scan: &TableScan) -> Result<()> {
    let provider = source_as_provider(&scan.source)?;
    match (provider.as_ref() as &dyn std::any::Any).downcast_ref::<SpaceTable>() {
        Some(table) => table.check(),
        None => Ok(()),
    }
}

fn listing(
    hub: &Hub,
    project: &str,
    schema: &SchemaRef,
    files: &[SpaceFile],
) -> Result<ListingTable> {
    let state = hub.engine.template();
    let format = ParquetFormat::default().with_options(state.table_options().parquet.clone());
    let urls = files
        .iter()
        .map(|file| ListingTableUrl::parse(url(project, &file.file)))
        .collect::<DataFusionResult<Vec<_>>>()?;
    let config = ListingTableConfig::new_with_multi_paths(urls)
        .with_listing_options(ListingOptions::new(Arc::new(format)))
        .with_schema(Arc::clone(schema));
    let cache = state.runtime_env().cache_manager.get_file_statistic_cache();
    Ok(ListingTable::try_new(config)?.with_cache(cache))
}

/// The URL of a file, out of names that are of the hub's making: it is never a pattern.
fn url(project: &str, file: &str) -> String {
    format!("{FILES_URL}/{}/{file}", folder_name(project))
}

#[async_trait]
impl TableProvider for SpaceTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.table_type
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.check()?;
        self.source.scan(state, projection, filters, limit).await
    }

    async fn scan_with_args<'a>(
        &self,
        state: &dyn Session,
        args: ScanArgs<'a>,
    ) -> DataFusionResult<ScanResult> {
        self.check()?;
        self.source.scan_with_args(state, args).await
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        self.source.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.source.statistics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_never_patterns_or_paths() {
        for project in [
            "study", "é ü", "*", "a?b", "[a]", "..", "a/b", "100%", "x#y", "",
        ] {
            let file = "0193.parquet";
            let url = ListingTableUrl::parse(url(project, file)).expect(project);
            assert!(url.get_glob().is_none(), "{project}");
            let mut parts = url.prefix().parts();
            let folder = parts.next().expect("a folder");
            let found = super::super::files::project_of(folder.as_ref());
            assert_eq!(found.as_deref(), Some(project));
            assert_eq!(parts.next().expect("a file").as_ref(), file);
            assert!(parts.next().is_none(), "{project}");
        }
    }
}
