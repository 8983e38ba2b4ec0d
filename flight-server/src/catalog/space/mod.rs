//! The project's space: schema `space`, its own tables and views.
//!
//! A table is a list of immutable Parquet files in a manifest of the store, so that a change
//! is one commit and a snapshot stays readable while others change. A view is a text, planned
//! when it is used, as whoever uses it. Nothing here knows of persons or filters: what a
//! table holds was read through the barrier, and its labels say under which rights.

mod batch;
mod change;
mod clean;
mod compact;
mod ddl;
mod dml;
mod files;
mod labels;
mod measure;
pub mod names;
mod rows;
mod staging;
mod table;
#[cfg(test)]
mod tests;
mod touched;
mod turns;
mod upload;
mod view;
mod writes;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::object_store::ObjectStoreUrl;
use hubflight_rights::habilitation::Habilitation;
use hubflight_store::{ObjectKind, Secrets, SpaceFile, SpaceObject, Store};
use object_store::local::LocalFileSystem;
use parking_lot::Mutex;

use super::project::ProjectView;
use crate::at_rest::{SealedStore, SpaceKeys};
use crate::error::{Error, Result};
use crate::hub::Hub;

pub use change::{Run, change_rows, commit_transaction, declared_schema, upload};
pub use clean::clean_up;
pub use compact::compact_after;
pub use dml::plan_calls_worker;
pub use files::{Written, check_storable};
pub use labels::{Labels, Rights, Source};
pub use staging::{Overlay, Staging};
pub use table::{SpaceTable, check_scan};
pub use touched::Touched;
pub use turns::{Changing, Turns};
pub use upload::{Existing, Missing, Sent, Upload};
pub use writes::Writes;

/// Where scans find the files of spaces, plain.
const FILES_URL: &str = "hubspace://files";

/// Views that one reference may go through.
const VIEW_DEPTH_MAX: usize = 16;

/// One project's space at one snapshot, with the rights that are in force.
pub struct Space {
    pub snapshot: i64,
    hub: Arc<Hub>,
    project: String,
    now: DateTime<Utc>,
    objects: Arc<BTreeMap<String, Arc<Object>>>,
    /// What a transaction has put in the place of what the store has.
    overlay: Option<Arc<Overlay>>,
    /// Tables and views that were opened before, so that a view that is used twice is planned
    /// once.
    opened: Arc<Mutex<HashMap<String, Arc<dyn TableProvider>>>>,
    /// The views that are being planned, outermost first.
    within: Vec<String>,
}

/// A table or view as the manifest has it, or as a transaction has made it.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    name: String,
    kind: ObjectKind,
    schema: SchemaRef,
    view_sql: Option<String>,
    labels: Labels,
    files: Vec<SpaceFile>,
    /// The dataset whose right has ended, if one has.
    ended: Option<String>,
}

impl Space {
    /// The space at `snapshot`, or the newest, with what a transaction has written over it;
    /// objects whose sources are not among `rights` are locked.
    pub async fn load(
        hub: &Arc<Hub>,
        project: &str,
        (snapshot, overlay): (Option<i64>, Option<Arc<Overlay>>),
        now: DateTime<Utc>,
        rights: &[Arc<Habilitation>],
    ) -> Result<Self> {
        let snapshot = match snapshot {
            Some(snapshot) => snapshot,
            None => hub.store.current_snapshot(project).await?,
        };
        let stored = hub.store.space_at(project, snapshot).await?;
        let rights = Rights::new(rights);
        let mut objects = BTreeMap::new();
        for object in stored.objects {
            let object = Object::new(object, &rights)?;
            objects.insert(object.name.clone(), Arc::new(object));
        }
        if let Some(overlay) = &overlay {
            overlay.lay(&mut objects, &rights);
        }
        Ok(Self {
            snapshot,
            hub: Arc::clone(hub),
            project: project.to_owned(),
            now,
            objects: Arc::new(objects),
            overlay,
            opened: Arc::default(),
            within: Vec::new(),
        })
    }

    /// What a transaction has written, as this space shows it.
    pub fn overlay(&self) -> Option<&Arc<Overlay>> {
        self.overlay.as_ref()
    }

    fn object(&self, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(name)
    }

    fn folder(&self) -> Result<PathBuf> {
        files::folder(&self.hub, &self.project)
    }

    /// The same space, seen from inside a view that is yet to be made: what reads that name
    /// reads itself.
    fn inside_new(&self, view: &str) -> Self {
        Self {
            opened: Arc::default(),
            ..self.inside(view)
        }
    }

    /// Whether it is seen from inside a view.
    pub fn is_of_a_view(&self) -> bool {
        !self.within.is_empty()
    }

    /// The same space, seen from inside a view.
    fn inside(&self, view: &str) -> Self {
        let mut within = self.within.clone();
        within.push(view.to_owned());
        Self {
            snapshot: self.snapshot,
            hub: Arc::clone(&self.hub),
            project: self.project.clone(),
            now: self.now,
            objects: Arc::clone(&self.objects),
            overlay: self.overlay.clone(),
            opened: Arc::clone(&self.opened),
            within,
        }
    }

    async fn open(
        &self,
        name: &str,
        view: &Arc<ProjectView>,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let Some(object) = self.object(name) else {
            return Ok(None);
        };
        if object.kind == ObjectKind::View || self.within.iter().any(|outer| outer == name) {
            self.check_nesting(name)?;
        }
        if let Some(opened) = self.opened.lock().get(name) {
            return Ok(Some(Arc::clone(opened)));
        }
        let opened: Arc<dyn TableProvider> = match object.kind {
            ObjectKind::Table => Arc::new(SpaceTable::open(self, object, &view.viewer.zone)?),
            ObjectKind::View => view::open(self, object, view).await,
        };
        self.opened
            .lock()
            .insert(name.to_owned(), Arc::clone(&opened));
        Ok(Some(opened))
    }

    fn check_nesting(&self, name: &str) -> Result<()> {
        if self.within.iter().any(|outer| outer == name) {
            return Err(Error::invalid(format!(
                "view `space.{name}` reads itself; create one of its views anew"
            )));
        }
        if self.within.len() >= VIEW_DEPTH_MAX {
            return Err(Error::invalid(format!(
                "views are nested deeper than {VIEW_DEPTH_MAX}; read tables more directly"
            )));
        }
        Ok(())
    }
}

/// Opens the folder of all spaces, whose files scans read through `state`.
pub fn open_files(
    folder: &Path,
    store: &Store,
    secrets: &Secrets,
    state: &SessionState,
) -> Result<Arc<SealedStore>> {
    let root = files::root(folder)?;
    let refused = |error: &dyn std::fmt::Display| {
        Error::invalid(format!(
            "cannot keep spaces in `{}`: {error}",
            root.display()
        ))
    };
    std::fs::create_dir_all(&root).map_err(|error| refused(&error))?;
    let opened = LocalFileSystem::new_with_prefix(&root).map_err(|error| refused(&error))?;
    let keys = SpaceKeys::new(store.clone(), secrets.clone());
    let sealed = Arc::new(SealedStore::new(Arc::new(opened), keys, files::project_of));
    let url = ObjectStoreUrl::parse(FILES_URL)?;
    let registered = Arc::clone(&sealed) as Arc<dyn object_store::ObjectStore>;
    state
        .runtime_env()
        .register_object_store(url.as_ref(), registered);
    Ok(sealed)
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space")
            .field("project", &self.project)
            .field("snapshot", &self.snapshot)
            .finish_non_exhaustive()
    }
}

impl Object {
    fn new(stored: SpaceObject, rights: &Rights) -> Result<Self> {
        let schema = schema_from_ipc(&stored.schema_ipc)?;
        let labels = Labels::parse(&stored.labels)?;
        Ok(Self {
            name: stored.name,
            kind: stored.kind,
            schema,
            view_sql: stored.view_sql,
            ended: rights.ended(&labels),
            labels,
            files: stored.files,
        })
    }

    /// The same object under other rights.
    fn under(&self, rights: &Rights) -> Self {
        Self {
            ended: rights.ended(&self.labels),
            ..self.clone()
        }
    }
}

/// Bytes of files on disk.
fn bytes_of<'a>(files: impl IntoIterator<Item = &'a SpaceFile>) -> u64 {
    let bytes = files.into_iter().map(|file| u64::try_from(file.bytes));
    bytes.map(|bytes| bytes.unwrap_or(0)).sum()
}

fn rows_of(file: &SpaceFile) -> u64 {
    u64::try_from(file.rows).unwrap_or(0)
}

pub fn schema_to_ipc(schema: &Schema) -> Result<Vec<u8>> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes.to_vec())
}

pub fn schema_from_ipc(bytes: &[u8]) -> Result<SchemaRef> {
    match Schema::try_from(IpcMessage(bytes.to_vec().into())) {
        Ok(schema) => Ok(Arc::new(schema)),
        Err(error) => Err(Error::internal(
            "a schema of a space cannot be read",
            &error,
        )),
    }
}

/// Schema `space` as DataFusion's planner sees it.
pub struct SpaceSchema {
    space: Arc<Space>,
    /// What views are planned in.
    view: Arc<ProjectView>,
}

impl SpaceSchema {
    pub fn new(space: Arc<Space>, view: Arc<ProjectView>) -> Self {
        Self { space, view }
    }
}

impl std::fmt::Debug for SpaceSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.space.fmt(f)
    }
}

#[async_trait]
impl SchemaProvider for SpaceSchema {
    fn table_names(&self) -> Vec<String> {
        self.space.objects.keys().cloned().collect()
    }

    async fn table(
        &self,
        name: &str,
    ) -> std::result::Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        Ok(self.space.open(name, &self.view).await?)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.space.objects.contains_key(name)
    }
}
