//! A project as a SQL catalog: only what its habilitations open now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{CatalogProvider, SchemaProvider, Session, TableProvider};
use datafusion::datasource::source_as_provider;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, TableScan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use hubflight_policy::{LinkageKeys, PolicyError, describe_table, open_table};
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::Habilitation;
use hubflight_rights::{Asker, Denial, Zone};
use hubflight_store::AdminRole;

use super::datasets::{Datasets, without_metadata};
use super::hub_schema::{HubSchema, Scope};
use super::space::{Overlay, Space, SpaceSchema};
use crate::access::{Access, Asking};
use crate::airlock::{EXPORTS_SCHEMA, Exports};
use crate::auth::{ADMIN_CATALOG, Principal};
use crate::error::{Error, Result};
use crate::hub::Hub;

pub const SPACE_SCHEMA: &str = "space";
pub const HUB_SCHEMA: &str = "hub";

/// Who looks: what is their own, and what of the hub an administrator may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    pub who: Asker,
    /// Where the caller is.
    pub zone: Zone,
    pub roles: BTreeSet<AdminRole>,
}

impl Viewer {
    pub fn of(principal: &Principal, zone: &Zone) -> Self {
        Self {
            who: principal.asker(),
            zone: zone.clone(),
            roles: principal.roles.clone(),
        }
    }
}

/// What is to be seen of a project, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    pub project: &'a str,
    pub viewer: &'a Viewer,
    /// The space's; the newest where there is none.
    pub snapshot: Option<i64>,
    /// What a transaction has written over it.
    pub overlay: Option<&'a Arc<Overlay>>,
    pub now: DateTime<Utc>,
}

/// A project at one moment: what is in force, and the snapshot of its space.
#[derive(Clone)]
pub struct ProjectView {
    pub project: String,
    pub viewer: Viewer,
    datasets: BTreeMap<String, Arc<DatasetSchema>>,
    /// Why datasets are closed that the project may use from elsewhere, at other times or by
    /// others: its members know of them.
    closed: BTreeMap<String, Denial>,
    pub space: Option<Arc<Space>>,
    exports: Arc<Exports>,
    hub_schema: Arc<HubSchema>,
}

impl ProjectView {
    /// Reads the habilitations in force, and the space at its snapshot.
    pub async fn load(hub: &Arc<Hub>, look: Look<'_>) -> Result<Self> {
        let Look {
            project,
            viewer,
            snapshot,
            overlay,
            now,
        } = look;
        if project == ADMIN_CATALOG {
            let scope = Scope::Hub {
                roles: viewer.roles.clone(),
                zone: viewer.zone.clone(),
            };
            return Ok(Self {
                project: project.to_owned(),
                viewer: viewer.clone(),
                datasets: BTreeMap::new(),
                closed: BTreeMap::new(),
                space: None,
                exports: Arc::default(),
                hub_schema: Arc::new(HubSchema::new(hub, scope)),
            });
        }
        let mut datasets = BTreeMap::new();
        let (mut open, mut closed) = (Vec::new(), BTreeMap::new());
        let asking = Asking {
            who: &viewer.who,
            project,
            zone: &viewer.zone,
            at: now,
        };
        let rights = hub.store.rights().await?;
        for (dataset, access) in hub.access(&rights, asking).await?.0 {
            open.extend(access.open().cloned());
            let (habilitation, refused) = match access {
                Access::Open(habilitation) => (habilitation, None),
                Access::Listed(habilitation, denial) => (habilitation, Some(denial)),
                Access::Closed(denial) => {
                    if is_told(&denial) {
                        closed.insert(dataset.name.clone(), denial);
                    }
                    continue;
                }
            };
            let group = &habilitation.linkage_group;
            let schema = DatasetSchema {
                keys: hub.linkage_keys(&rights, project, group).await?,
                dataset,
                habilitation,
                refused,
                sources: Arc::clone(&hub.datasets),
            };
            datasets.insert(schema.dataset.name.clone(), Arc::new(schema));
        }
        let state = (snapshot, overlay.cloned());
        let space = Space::load(hub, project, state, now, &open).await?;
        let exports = Exports::load(hub, &rights, project, viewer, now).await?;
        let scope = Scope::Project {
            project: project.to_owned(),
            who: viewer.who.clone(),
            zone: viewer.zone.clone(),
        };
        Ok(Self {
            project: project.to_owned(),
            viewer: viewer.clone(),
            datasets,
            closed,
            space: Some(Arc::new(space)),
            exports: Arc::new(exports),
            hub_schema: Arc::new(HubSchema::new(hub, scope)),
        })
    }

    /// The same project as the same person sees it by now, with what a transaction has written.
    pub async fn newest(
        &self,
        hub: &Arc<Hub>,
        overlay: Option<&Arc<Overlay>>,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let look = Look {
            project: &self.project,
            viewer: &self.viewer,
            snapshot: None,
            overlay,
            now,
        };
        Self::load(hub, look).await
    }

    /// The same project with another view of its space.
    pub fn with_space(&self, space: Space) -> Self {
        Self {
            space: Some(Arc::new(space)),
            ..self.clone()
        }
    }

    /// Whether it is what a view of the space reads, and not a statement.
    pub fn is_of_a_view(&self) -> bool {
        self.space
            .as_ref()
            .is_some_and(|space| space.is_of_a_view())
    }

    /// (dataset, version) of what is open.
    pub fn versions(&self) -> Vec<(String, u32)> {
        self.habilitations()
            .map(|(dataset, _)| (dataset.name.clone(), dataset.version))
            .collect()
    }

    /// The datasets that are open, with the habilitation that opens each.
    pub fn habilitations(&self) -> impl Iterator<Item = (&Arc<Dataset>, &Arc<Habilitation>)> {
        let schemas = self.datasets.values();
        schemas
            .filter(|schema| schema.refused.is_none())
            .map(|schema| (&schema.dataset, &schema.habilitation))
    }

    /// The datasets that are listed, open or not.
    pub fn listed(&self) -> impl Iterator<Item = (&Arc<Dataset>, &Arc<Habilitation>)> {
        let schemas = self.datasets.values();
        schemas.map(|schema| (&schema.dataset, &schema.habilitation))
    }

    /// The roles that this view of the hub rests on; none in a project.
    pub fn roles(&self) -> BTreeSet<AdminRole> {
        match self.project == ADMIN_CATALOG {
            true => self.viewer.roles.clone(),
            false => BTreeSet::new(),
        }
    }

    /// The released packages that may be read now.
    pub fn open_exports(&self) -> BTreeSet<String> {
        self.exports.ids().map(str::to_owned).collect()
    }

    /// What a transaction has written of the space.
    pub fn overlay(&self) -> Option<&Arc<Overlay>> {
        self.space.as_ref()?.overlay()
    }

    pub fn space_snapshot(&self) -> i64 {
        self.space.as_ref().map_or(0, |space| space.snapshot)
    }

    /// A table that exists and is visible, else `None`; why not, where it is listed but closed.
    pub async fn table(&self, schema: &str, table: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(schema) = self.schema(schema) else {
            return Ok(None);
        };
        let table = schema.table(table).await?;
        table.as_ref().map_or(Ok(()), check_open)?;
        Ok(table)
    }

    /// Refuses a dataset that the project has, but not here, now or for this person: its members
    /// know of it. Which tables it has is not said.
    pub fn check_closed(&self, schema: &str) -> Result<()> {
        let denial = self.closed.get(schema);
        denial.map_or(Ok(()), |denial| Err(refusal(schema, denial)))
    }

    /// The declared description of a dataset's table, for metadata.
    pub fn described(&self, schema: &str) -> Option<&Dataset> {
        Some(self.datasets.get(schema)?.dataset.as_ref())
    }
}

/// Whether a closed dataset is told from a missing one: where its habilitation is in force, and
/// only the caller, the place or the moment is wrong.
fn is_told(denial: &Denial) -> bool {
    matches!(
        denial,
        Denial::OtherZone { .. } | Denial::Rule { .. } | Denial::Undecided { .. }
    )
}

/// What a caller is told of a dataset that is closed to what they want.
pub fn refusal(dataset: &str, denial: &Denial) -> Error {
    Error::denied(format!("dataset `{dataset}`: {denial}"))
}

impl std::fmt::Debug for ProjectView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProjectView")
            .field("project", &self.project)
            .field("datasets", &self.datasets.keys())
            .finish_non_exhaustive()
    }
}

impl CatalogProvider for ProjectView {
    fn schema_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.datasets.keys().cloned().collect();
        names.extend(self.space.is_some().then(|| SPACE_SCHEMA.to_owned()));
        names.extend((!self.exports.is_empty()).then(|| EXPORTS_SCHEMA.to_owned()));
        names.push(HUB_SCHEMA.to_owned());
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            HUB_SCHEMA => Some(Arc::clone(&self.hub_schema) as _),
            SPACE_SCHEMA => {
                let space = Arc::clone(self.space.as_ref()?);
                Some(Arc::new(SpaceSchema::new(space, Arc::new(self.clone()))) as _)
            }
            EXPORTS_SCHEMA if !self.exports.is_empty() => Some(Arc::clone(&self.exports) as _),
            _ => Some(Arc::clone(self.datasets.get(name)?) as _),
        }
    }
}

/// One dataset of a project, each table behind the barrier.
struct DatasetSchema {
    dataset: Arc<Dataset>,
    habilitation: Arc<Habilitation>,
    /// Why it is listed only.
    refused: Option<Denial>,
    keys: Arc<LinkageKeys>,
    sources: Arc<Datasets>,
}

impl std::fmt::Debug for DatasetSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatasetSchema")
            .field("dataset", &self.dataset.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SchemaProvider for DatasetSchema {
    fn table_names(&self) -> Vec<String> {
        hubflight_policy::granted_tables(&self.dataset, &self.habilitation)
    }

    async fn table(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        if let Some(denial) = &self.refused {
            let shut = || self.closed(name, Shut::Refused(refusal(&self.dataset.name, denial)));
            return Ok(self.table_exist(name).then(|| Arc::new(shut()) as _));
        }
        let sources = self.sources.as_ref();
        let opened = open_table(sources, &self.habilitation, name, &self.keys);
        Ok(match opened {
            Ok(table) => table.map(|table| table as Arc<dyn TableProvider>),
            Err(error) => Some(Arc::new(self.closed(name, Shut::Broken(error)))),
        })
    }

    async fn table_type(
        &self,
        name: &str,
    ) -> std::result::Result<Option<TableType>, DataFusionError> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.table_names().iter().any(|table| table == name)
    }
}

impl DatasetSchema {
    /// The table with the columns that the habilitation would show, or with none where even
    /// these cannot be told.
    fn closed(&self, name: &str, shut: Shut) -> ClosedTable {
        let described = describe_table(self.sources.as_ref(), &self.habilitation, name);
        let schema = match described {
            // Plans must agree on a schema exactly, so that it has no metadata, as a view's.
            Ok(Some(schema)) => without_metadata(&schema),
            Ok(None) | Err(_) => Arc::new(Schema::empty()),
        };
        tracing::debug!(?shut, table = name, "a table is listed but closed");
        ClosedTable { schema, shut }
    }
}

/// A table that may be listed but not read. Were opening it an error, one such table would take
/// every listing of its project with it.
#[derive(Debug)]
struct ClosedTable {
    schema: SchemaRef,
    shut: Shut,
}

/// Why a table that is listed cannot be read.
#[derive(Clone, Debug)]
enum Shut {
    /// Its files or its habilitation are wrong.
    Broken(PolicyError),
    Refused(Error),
}

impl From<Shut> for Error {
    fn from(shut: Shut) -> Self {
        match shut {
            Shut::Broken(error) => error.into(),
            Shut::Refused(error) => error,
        }
    }
}

/// Refuses a plan's scan of a table that is listed but cannot be read.
pub fn check_scan(scan: &TableScan) -> Result<()> {
    check_open(&source_as_provider(&scan.source)?)
}

fn check_open(provider: &Arc<dyn TableProvider>) -> Result<()> {
    match (provider.as_ref() as &dyn std::any::Any).downcast_ref::<ClosedTable>() {
        Some(table) => Err(table.shut.clone().into()),
        None => Ok(()),
    }
}

#[async_trait]
impl TableProvider for ClosedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> std::result::Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Err(Error::from(self.shut.clone()).into())
    }
}
