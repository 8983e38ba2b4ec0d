//! Schema `exports`: released packages as tables, the one door by which rows leave the hub.
//!
//! A table is there while its package is released, for members of its project, from any zone. Its
//! rows are opened when a query that may run is planned to run, and each opening is in the audit
//! before a row is handed on.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{SchemaProvider, Session, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use hubflight_ledger::AuditEvent;
use hubflight_store::{Export, NewExport, Rights};

use super::package;
use crate::catalog::project::Viewer;
use crate::catalog::space::{Labels, schema_from_ipc};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::authorise::providers;

/// The released packages of a project at one moment, as somebody sees them.
#[derive(Clone, Debug, Default)]
pub struct Exports(BTreeMap<String, Arc<ExportTable>>);

impl Exports {
    pub async fn load(
        hub: &Arc<Hub>,
        rights: &Rights<'_>,
        project: &str,
        viewer: &Viewer,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let mut tables = BTreeMap::new();
        for export in rights.open_exports(project, now).await? {
            // One that the store holds in part must not take the project's other tables with it.
            let Ok(table) = ExportTable::new(hub, export, viewer) else {
                continue;
            };
            tables.insert(table.package.name.clone(), Arc::new(table));
        }
        Ok(Self(tables))
    }

    /// The identifiers of the packages.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|table| table.package.id.as_str())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[async_trait]
impl SchemaProvider for Exports {
    fn table_names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    async fn table(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let table = self.0.get(name);
        Ok(table.map(|table| Arc::clone(table) as Arc<dyn TableProvider>))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// A released package.
pub struct ExportTable {
    hub: Arc<Hub>,
    package: NewExport,
    schema: SchemaRef,
    labels: Labels,
    viewer: Viewer,
}

impl std::fmt::Debug for ExportTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExportTable({})", self.package.id)
    }
}

impl ExportTable {
    fn new(hub: &Arc<Hub>, export: Export, viewer: &Viewer) -> Result<Self> {
        let package = export.package;
        Ok(Self {
            hub: Arc::clone(hub),
            schema: schema_from_ipc(&package.schema_ipc)?,
            labels: Labels::parse(&package.labels)?,
            viewer: viewer.clone(),
            package,
        })
    }

    pub fn id(&self) -> &str {
        &self.package.id
    }

    /// The sources of its rows: a copy in the space is governed as what it was made from.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The table of a provider, if it is one.
    pub fn of(provider: &dyn TableProvider) -> Option<&Self> {
        (provider as &dyn std::any::Any).downcast_ref()
    }

    /// Opens the package, which is in the audit before anything of it is handed on, as is that it
    /// did not open.
    async fn open(&self) -> Result<Vec<RecordBatch>> {
        let opened = package::open(&self.hub, &self.package).await;
        let event = AuditEvent {
            event: "export_downloaded",
            outcome: match &opened {
                Ok(_) => "ok",
                Err(error) => error.kind.label(),
            },
            person: Some(self.viewer.who.person.clone()),
            project: Some(self.package.project.clone()),
            client: format!(
                "flight-server, export {} from zone {}",
                self.package.id, self.viewer.zone
            ),
            at: Utc::now(),
        };
        self.hub
            .metrics
            .ledger(self.hub.ledger.event(event).await)?;
        opened
    }
}

#[async_trait]
impl TableProvider for ExportTable {
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
        limit: Option<usize>,
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let memory = MemoryConsumer::new("export").register(&state.runtime_env().memory_pool);
        // Before it is opened: as it lies there, and what it is sealed in.
        memory.try_grow(
            usize::try_from(self.package.bytes.saturating_mul(2)).unwrap_or(usize::MAX),
        )?;
        let batches = self.open().await?;
        let bytes = batches.iter().map(RecordBatch::get_array_memory_size);
        memory.try_resize(bytes.sum())?;
        let rows = Opened {
            schema: Arc::clone(&self.schema),
            batches,
            _memory: memory,
        };
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(rows)];
        let schema = Arc::clone(&self.schema);
        let plan = StreamingTableExec::try_new(schema, partitions, projection, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// The rows of a package while they are read.
struct Opened {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

impl PartitionStream for Opened {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = self.batches.clone().into_iter().map(Ok);
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            futures::stream::iter(batches),
        ))
    }
}

/// Refuses a plan that reads a package together with anything else, outside: what leaves there is
/// what was released, and nothing is computed with it on the way.
pub fn check_alone(plan: &LogicalPlan, viewer: &Viewer) -> Result<()> {
    if !viewer.zone.is_outside() {
        return Ok(());
    }
    let providers = providers(plan)?;
    let exports = providers.iter().map(|one| ExportTable::of(one.as_ref()));
    let ids: Vec<Option<&str>> = exports.map(|one| one.map(ExportTable::id)).collect();
    let first = ids.iter().flatten().next();
    if first.is_some_and(|first| ids.iter().any(|id| id.as_ref() != Some(first))) {
        return Err(Error::denied(format!(
            "from zone `{}` an export is read alone; read it, and join it at home",
            viewer.zone
        )));
    }
    Ok(())
}

/// The identifiers of the packages that a plan reads.
pub fn read_by(providers: &[Arc<dyn TableProvider>]) -> impl Iterator<Item = String> + '_ {
    let tables = providers
        .iter()
        .filter_map(|one| ExportTable::of(one.as_ref()));
    tables.map(|table| table.id().to_owned())
}
