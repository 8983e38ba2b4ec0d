//! Schema `hub`: what the caller may see of the hub itself; in catalog `admin` what the
//! administrator's roles open, of all projects.

mod administration;
mod exports;
mod ledger;
mod listing;
mod people;

use std::collections::BTreeSet;
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
use hubflight_rights::{Asker, Zone};
use hubflight_store::AdminRole;

use crate::error::Result;
use crate::hub::Hub;

pub use exports::state as export_state;

/// Whose rows are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// What one person sees in a project.
    Project {
        project: String,
        who: Asker,
        zone: Zone,
    },
    /// What an administrator of these roles sees of all projects, and of no data.
    Hub {
        roles: BTreeSet<AdminRole>,
        zone: Zone,
    },
}

impl Scope {
    /// The project that rows must be of; `None` for all.
    fn project(&self) -> Option<&str> {
        match self {
            Self::Project { project, .. } => Some(project),
            Self::Hub { .. } => None,
        }
    }

    /// Where it is looked at from.
    fn zone(&self) -> &Zone {
        match self {
            Self::Project { zone, .. } | Self::Hub { zone, .. } => zone,
        }
    }

    /// The person that rows of persons must be of; `None` for all.
    fn person(&self) -> Option<&str> {
        match self {
            Self::Project { who, .. } => Some(&who.person),
            Self::Hub { .. } => None,
        }
    }

    /// The tables that exist in this scope: a table that is not here is missing.
    fn tables(&self) -> Vec<&'static str> {
        let shown = |(name, to): &(&'static str, To)| {
            let is_shown = match self {
                Self::Project { .. } => to.projects,
                Self::Hub { roles, .. } => to.roles.iter().any(|role| roles.contains(role)),
            };
            is_shown.then_some(*name)
        };
        TABLES.iter().filter_map(shown).collect()
    }
}

/// Whom a table is for: the members of projects, and administrators of any of these roles.
struct To {
    projects: bool,
    roles: &'static [AdminRole],
}

const fn all(roles: &'static [AdminRole]) -> To {
    To {
        projects: true,
        roles,
    }
}

const fn administrators(roles: &'static [AdminRole]) -> To {
    To {
        projects: false,
        roles,
    }
}

/// The tables, by name. No role reads data: none of these is a table of a dataset.
const TABLES: [(&str, To); 16] = {
    use AdminRole::{Audit, Billing, People, Policy};
    [
        ("access", administrators(&[Policy, Audit])),
        ("audit", all(&[Audit])),
        ("columns", all(&[Policy])),
        ("datasets", all(&[Policy, Billing])),
        ("exports", all(&[Audit])),
        ("functions", all(&AdminRole::ALL)),
        ("habilitations", all(&[Policy, Audit])),
        ("members", administrators(&[People, Policy, Audit])),
        ("persons", administrators(&[People, Audit])),
        ("projects", administrators(&AdminRole::ALL)),
        ("queries", all(&[Audit])),
        ("review_due", administrators(&[Policy, Audit])),
        ("tables", all(&[Policy])),
        ("tokens", all(&[People, Audit])),
        ("usage", all(&[Billing])),
        ("workers", all(&AdminRole::ALL)),
    ]
};

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
        if !self.scope.tables().contains(&name) {
            return None;
        }
        let (hub, scope) = (Arc::clone(&self.hub), self.scope.clone());
        Some(match name {
            "access" => administration::access(hub),
            "audit" => ledger::audit(hub, scope),
            "columns" => listing::columns(hub, scope),
            "datasets" => listing::datasets(hub, scope),
            "exports" => exports::exports(hub, scope),
            "functions" => listing::functions(hub),
            "habilitations" => listing::habilitations(hub, scope),
            "members" => people::members(hub),
            "persons" => people::persons(hub),
            "projects" => administration::projects(hub),
            "queries" => ledger::queries(hub, scope),
            "review_due" => administration::review_due(hub),
            "tables" => listing::tables(hub, scope),
            "tokens" => people::tokens(hub, scope),
            "usage" => ledger::usage(hub, scope),
            "workers" => listing::workers(hub, scope),
            _ => return None,
        })
    }
}

#[async_trait]
impl SchemaProvider for HubSchema {
    fn table_names(&self) -> Vec<String> {
        self.scope.tables().into_iter().map(str::to_owned).collect()
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
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.scope.tables().contains(&name)
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
