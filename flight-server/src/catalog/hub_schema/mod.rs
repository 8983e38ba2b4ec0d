//! Schema `hub`: what the caller may see of the hub itself; all of it in catalog `admin`.

mod ledger;
mod listing;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::TableType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::hub::Hub;

/// Whose rows are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Project(String),
    Everything,
}

impl Scope {
    /// The project that rows must be of; `None` for all.
    fn project(&self) -> Option<&str> {
        match self {
            Self::Project(project) => Some(project),
            Self::Everything => None,
        }
    }
}

/// The tables, by name, with what makes their rows.
const TABLES: [&str; 9] = [
    "audit",
    "columns",
    "datasets",
    "functions",
    "habilitations",
    "queries",
    "tables",
    "usage",
    "workers",
];

/// The system tables of one scope.
pub struct HubSchema {
    hub: Arc<Hub>,
    scope: Scope,
}

impl std::fmt::Debug for HubSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSchema")
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl HubSchema {
    pub fn new(hub: &Arc<Hub>, scope: Scope) -> Self {
        Self {
            hub: Arc::clone(hub),
            scope,
        }
    }

    fn open(&self, name: &str) -> Option<SystemTable> {
        let (hub, scope) = (Arc::clone(&self.hub), self.scope.clone());
        Some(match name {
            "audit" => ledger::audit(hub, scope),
            "columns" => listing::columns(hub, scope),
            "datasets" => listing::datasets(hub, scope),
            "functions" => listing::functions(hub),
            "habilitations" => listing::habilitations(hub, scope),
            "queries" => ledger::queries(hub, scope),
            "tables" => listing::tables(hub, scope),
            "usage" => ledger::usage(hub, scope),
            "workers" => listing::workers(hub, scope),
            _ => return None,
        })
    }
}

#[async_trait]
impl SchemaProvider for HubSchema {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_owned).into()
    }

    async fn table(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(table) = self.open(name) else {
            return Ok(None);
        };
        let schema = Arc::clone(&table.schema);
        let table = StreamingTable::try_new(schema, vec![Arc::new(table)])?;
        Ok(Some(Arc::new(table)))
    }

    async fn table_type(
        &self,
        name: &str,
    ) -> std::result::Result<Option<TableType>, DataFusionError> {
        Ok(TABLES.contains(&name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// A table whose rows are made when it is read.
struct SystemTable {
    schema: SchemaRef,
    rows: Box<dyn Fn() -> Batches + Send + Sync>,
}

impl SystemTable {
    fn new(
        fields: Vec<Field>,
        rows: impl Fn(SchemaRef) -> Batches + Send + Sync + 'static,
    ) -> Self {
        let schema = Arc::new(Schema::new(fields));
        let declared = Arc::clone(&schema);
        Self {
            schema,
            rows: Box::new(move || rows(Arc::clone(&declared))),
        }
    }
}

impl std::fmt::Debug for SystemTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemTable")
    }
}

impl PartitionStream for SystemTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        use futures::TryStreamExt;
        let rows = (self.rows)().map_err(DataFusionError::from);
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            rows,
        ))
    }
}

fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true)
}

fn integer(name: &str) -> Field {
    Field::new(name, DataType::Int64, true)
}

fn boolean(name: &str) -> Field {
    Field::new(name, DataType::Boolean, true)
}

fn instant(name: &str) -> Field {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Field::new(name, micros, true)
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new(schema, columns)?)
}
