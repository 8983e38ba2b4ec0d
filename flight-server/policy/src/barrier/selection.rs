//! Which stored rows a view shows, found once and kept: one bit a row.
//!
//! The habilitation's predicate, the semi-joins along the path to the person and the cohort
//! depend on no query. [`Selections`] runs them once per view and files, and from then on a
//! scan keeps the rows whose bits are set, so that a child table is read without its parents and
//! the number of visible rows is known. The filters of users then meet visible rows alone, and no
//! time is spent on hidden ones that depends on their values.
//!
//! The bits say which rows are hidden, so they are used in the barrier alone. What is left is
//! cut by the number of visible rows (`cut.rs`). They are kept under the
//! view's digest and every file that they were computed from, and a file that has changed since
//! has other bits. Only rows of Parquet files have a number; other sources are filtered
//! and joined at each scan.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::AsArray;
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::UInt64Type;
use arrow::util::bit_util;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetRowSelection};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableScan};
use datafusion::object_store::ObjectMeta;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::extremes::Extremes;
use super::numbered::{Numbered, POSITION, Stored};
use super::rows::TABLE;
use super::selected::Group;

/// Views whose rows are kept at once.
pub const SELECTIONS_MAX: usize = 1_024;

/// The rows that views show, for all who share a hub. Bounded in bytes, and what it holds is
/// reserved in the memory pool: the least recently used goes first.
pub struct Selections {
    bytes_max: usize,
    pool: Arc<dyn MemoryPool>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_key: HashMap<Key, Entry>,
    clock: u64,
}

/// The view and the files that the rows were computed from.
type Key = [u8; 32];
/// Filled by the first who asks while others wait; empty again if that one gave up.
type Slot = Arc<futures::lock::Mutex<Option<Arc<Selection>>>>;

struct Entry {
    slot: Slot,
    /// The view; another version of it replaces this one.
    view: ViewName,
    bytes: usize,
    used: u64,
}

/// Project, dataset, table and habilitation: what stays when a version changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ViewName(pub [String; 4]);

/// A view, as far as its rows are concerned.
pub(super) struct View<'a> {
    pub name: ViewName,
    pub digest: [u8; 32],
    /// The visible rows with all stored columns.
    pub rows: &'a LogicalPlan,
}

/// The visible rows of one table's files.
pub(super) struct Selection {
    files: HashMap<String, FileRows>,
    visible: usize,
    memory: Arc<MemoryReservation>,
}

struct FileRows {
    object: ObjectMeta,
    /// By row group.
    groups: Vec<(BooleanBuffer, Arc<Extremes>)>,
}

impl Selection {
    /// The number of visible rows.
    pub fn visible(&self) -> usize {
        self.visible
    }

    /// The row groups of a file that have visible rows.
    ///
    /// # Errors
    /// When the rows were not computed from this very file.
    pub fn groups(&self, file: &PartitionedFile) -> Result<Vec<Group>> {
        let known = self.files.get(file.object_meta.location.as_ref());
        let known = known
            .filter(|known| known.object == file.object_meta && is_whole(file))
            .ok_or_else(|| {
                let problem = "a file changed between planning and reading";
                DataFusionError::Execution(problem.to_owned())
            })?;
        let file = Arc::new(file.clone());
        let groups = known.groups.iter().enumerate();
        let groups = groups.map(|(index, (bits, extremes))| {
            let place = [index, known.groups.len()];
            Group::new(&file, place, bits.clone(), extremes, &self.memory)
        });
        Ok(groups.filter(|group| group.selected() > 0).collect())
    }
}

impl Selections {
    /// Keeps at most `bytes_max`, reserved in `pool`.
    pub fn new(bytes_max: usize, pool: &Arc<dyn MemoryPool>) -> Self {
        Self {
            bytes_max,
            pool: Arc::clone(pool),
            held: Mutex::default(),
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes()
    }

    /// Views held now.
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// True when no view is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The visible rows of a view, or None where they cannot be kept: files of another format,
    /// a source that is no file, too many rows.
    pub(super) async fn of(
        &self,
        state: &dyn Session,
        view: &View<'_>,
    ) -> Result<Option<Arc<Selection>>> {
        let Some((key, stored)) = sources(state, view).await? else {
            return Ok(None);
        };
        let slot = self.slot(key, &view.name);
        let mut filled = slot.lock().await;
        if let Some(selection) = filled.as_ref() {
            return Ok(Some(Arc::clone(selection)));
        }
        let selection = match self.select(state, view, stored).await {
            Ok(Some(selection)) => Arc::new(selection),
            other => {
                self.lock().by_key.remove(&key);
                return other.map(|_| None);
            }
        };
        *filled = Some(Arc::clone(&selection));
        self.lock()
            .keep(key, selection.memory.size(), self.bytes_max);
        Ok(Some(selection))
    }

    fn slot(&self, key: Key, view: &ViewName) -> Slot {
        let mut held = self.lock();
        held.clock += 1;
        let used = held.clock;
        let entry = held.by_key.entry(key).or_insert_with(|| Entry {
            slot: Slot::default(),
            view: view.clone(),
            bytes: 0,
            used,
        });
        entry.used = used;
        Arc::clone(&entry.slot)
    }

    /// Runs the view's restriction over numbered rows.
    async fn select(
        &self,
        state: &dyn Session,
        view: &View<'_>,
        stored: Vec<PartitionedFile>,
    ) -> Result<Option<Selection>> {
        let Some(source) = source_of(view.rows)? else {
            return Ok(None);
        };
        let stored = Stored::read(state, &source, stored).await?;
        let bytes = bit_util::ceil(stored.rows(), 8);
        let memory = MemoryConsumer::new("visible rows").register(&self.pool);
        if bytes > self.bytes_max || memory.try_grow(bytes).is_err() {
            return Ok(None);
        }
        let stored = Arc::new(stored);
        let plan = numbered(
            view.rows,
            Arc::new(Numbered::new(source, Arc::clone(&stored))),
        )?;
        let physical = state.create_physical_plan(&plan).await?;
        let mut positions = execute_stream(physical, state.task_ctx())?;
        let mut bits = vec![0_u8; bytes];
        while let Some(batch) = positions.next().await {
            let batch = batch?;
            for position in batch.column(0).as_primitive::<UInt64Type>().values() {
                let position = usize::try_from(*position).unwrap_or(usize::MAX);
                if position >= stored.rows() {
                    return Err(DataFusionError::Execution(
                        "a row beyond the files".to_owned(),
                    ));
                }
                bit_util::set_bit(&mut bits, position);
            }
        }
        let bits = BooleanBuffer::new(bits.into(), 0, stored.rows());
        Ok(Some(Selection {
            visible: bits.count_set_bits(),
            files: by_file(&stored, &bits, &memory),
            memory: Arc::new(memory),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Selections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Selections")
            .field("views", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Selection(redacted)")
    }
}

impl Held {
    fn bytes(&self) -> usize {
        self.by_key.values().map(|entry| entry.bytes).sum()
    }

    /// Counts what has been computed, and drops what it replaces and what does not fit.
    fn keep(&mut self, key: Key, bytes: usize, bytes_max: usize) {
        let Some(entry) = self.by_key.get_mut(&key) else {
            return;
        };
        entry.bytes = bytes;
        let view = entry.view.clone();
        self.by_key
            .retain(|other, entry| *other == key || entry.view != view);
        while self.bytes() > bytes_max || self.by_key.len() > SELECTIONS_MAX {
            let others = self.by_key.iter().filter(|(other, _)| **other != key);
            let Some(oldest) = others.min_by_key(|(_, entry)| entry.used) else {
                return;
            };
            let oldest = *oldest.0;
            self.by_key.remove(&oldest);
        }
    }
}

/// What identifies the rows, and the files of the table itself; None unless every table of the
/// plan is read from files and the view's own from whole Parquet files.
async fn sources(
    state: &dyn Session,
    view: &View<'_>,
) -> Result<Option<(Key, Vec<PartitionedFile>)>> {
    let mut scans = Vec::new();
    view.rows.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            scans.push(scan.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let mut hash = Sha256::new();
    hash.update(view.digest);
    hash.update(view.rows.display_indent_schema().to_string());
    let mut own = None;
    for scan in scans {
        let Some(files) = files(state, &scan).await? else {
            return Ok(None);
        };
        for file in &files {
            hash.update(format!("{:?}{:?}\0", file.object_meta, file.range));
        }
        if is_own(&scan) {
            own = Some(files);
        }
    }
    Ok(own
        .filter(|files| files.iter().all(is_whole))
        .map(|files| (hash.finalize().into(), files)))
}

fn is_own(scan: &TableScan) -> bool {
    scan.table_name.table() == TABLE
}

fn is_whole(file: &PartitionedFile) -> bool {
    file.range.is_none()
        && file.extension::<ParquetAccessPlan>().is_none()
        && file.extension::<ParquetRowSelection>().is_none()
}

/// The files that a scan reads, or None where it reads none.
async fn files(state: &dyn Session, scan: &TableScan) -> Result<Option<Vec<PartitionedFile>>> {
    let provider = source_as_provider(&scan.source)?;
    let plan = provider.scan(state, Some(&Vec::new()), &[], None).await?;
    let config = super::numbered::file_scan(plan.as_ref(), is_own(scan));
    let groups = config.map(|config| config.file_groups.iter());
    let files: Option<Vec<PartitionedFile>> =
        groups.map(|groups| groups.flat_map(|group| group.iter().cloned()).collect());
    Ok(files.filter(|files| !files.is_empty()))
}

/// The provider of the table itself.
fn source_of(rows: &LogicalPlan) -> Result<Option<Arc<dyn datafusion::catalog::TableProvider>>> {
    let mut source = None;
    rows.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && is_own(scan)
        {
            source = Some(source_as_provider(&scan.source)?);
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(source)
}

/// The same restriction over the numbered rows of the table, reduced to the numbers.
fn numbered(rows: &LogicalPlan, table: Arc<Numbered>) -> Result<LogicalPlan> {
    let source = provider_as_source(table);
    let rows = rows.clone().transform_up(|node| match &node {
        LogicalPlan::TableScan(scan) if is_own(scan) => {
            let scan = LogicalPlanBuilder::scan(TABLE, Arc::clone(&source), None)?;
            Ok(Transformed::yes(scan.build()?))
        }
        _ => Ok(Transformed::yes(node.recompute_schema()?)),
    })?;
    let position = Expr::Column(datafusion::common::Column::new(Some(TABLE), POSITION));
    LogicalPlanBuilder::from(rows.data)
        .project(vec![position])?
        .build()
}

/// The bits of each file, by row group.
fn by_file(
    stored: &Stored,
    bits: &BooleanBuffer,
    memory: &MemoryReservation,
) -> HashMap<String, FileRows> {
    let mut first = 0;
    let mut files = HashMap::new();
    for file in stored.files() {
        let mut groups = Vec::with_capacity(file.groups.len());
        for rows in &file.groups {
            let extremes = Arc::new(Extremes::new(memory.new_empty()));
            groups.push((bits.slice(first, *rows), extremes));
            first += rows;
        }
        let object = file.file.object_meta.clone();
        files.insert(object.location.to_string(), FileRows { object, groups });
    }
    files
}
