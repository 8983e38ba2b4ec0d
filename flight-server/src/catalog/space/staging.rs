//! What the statements of a transaction have made of a space, until its commit tells the store.
//!
//! ```text
//!  statement ──stage──▶ objects of its own, one version more ──commit──▶ one snapshot, or conflict
//!                             └── rollback, time over ──▶ files removed
//! ```
//!
//! A transaction reads what it has not written as it is now, and what it has written as it made it
//! (READ COMMITTED). At its commit each object that it wrote must be as it was when it was first
//! written, but for rows that others added where it only added some: the first who commits wins.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use hubflight_store::{NewObject, SpaceChange, SpaceFile, SpaceObject};
use parking_lot::Mutex;

use super::files::Written;
use super::labels::{Labels, Rights};
use super::{Object, Space, schema_to_ipc};
use crate::error::{Error, Result};

/// Files that a transaction may have written and not rewritten: the commit names each, while no other
/// is made.
const FILES_STAGED_MAX: usize = 1_000;
/// Tables and views that it may have written, and bytes of their texts, columns and files' sizes:
/// they are kept in memory.
const OBJECTS_STAGED_MAX: usize = 1_000;
const TEXT_BYTES_STAGED_MAX: usize = 16 << 20;

/// Files that are nobody's until the commit, removed when nothing reads them any more.
#[derive(Debug)]
struct Pending {
    names: Vec<String>,
    key: Option<u32>,
    /// Of what is said about their sizes.
    bytes: usize,
    written: Mutex<Written>,
}

impl Pending {
    fn new(written: Written) -> Self {
        Self {
            names: written.files.iter().map(|file| file.file.clone()).collect(),
            key: written.key(),
            bytes: written
                .files
                .iter()
                .map(|file| file.column_bytes.len())
                .sum(),
            written: Mutex::new(written),
        }
    }
}

/// The objects that a transaction has written, as its statements find them at one moment.
#[derive(Debug)]
pub struct Overlay {
    /// How many changes were staged.
    pub version: u64,
    /// Nothing where the transaction dropped one.
    objects: BTreeMap<String, Option<Arc<Object>>>,
    /// What reads these objects keeps their files.
    _pending: Vec<Arc<Pending>>,
}

impl Overlay {
    /// Puts its objects in the place of those of the store, under the rights that are in force.
    pub(super) fn lay(&self, objects: &mut BTreeMap<String, Arc<Object>>, rights: &Rights) {
        for (name, own) in &self.objects {
            match own {
                Some(object) => objects.insert(name.clone(), Arc::new(object.under(rights))),
                None => objects.remove(name),
            };
        }
    }
}

/// An object that a transaction has written.
#[derive(Clone, Debug)]
struct Own {
    /// The snapshot at which it was first written, and what it was there.
    base: i64,
    before: Option<Arc<Object>>,
    now: Option<Arc<Object>>,
    /// What is there now is not what was there, but something of that name.
    is_new: bool,
}

/// All that a transaction has staged.
#[derive(Clone, Debug, Default)]
pub struct Staging {
    version: u64,
    own: BTreeMap<String, Own>,
    pending: Vec<Arc<Pending>>,
    /// One of the statements costs the user something when it runs again.
    is_costly: bool,
}

/// What a commit of a staging asks of the store.
#[derive(Debug)]
pub(super) struct Staged {
    pub changes: Vec<SpaceChange>,
    /// The snapshot at which each object was first written.
    pub bases: BTreeMap<String, i64>,
    pub keys: BTreeSet<u32>,
    /// Whether all statements may simply run again where it conflicts.
    pub again: bool,
}

impl Staging {
    pub fn is_empty(&self) -> bool {
        self.version == 0
    }

    /// How many changes were staged.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The tables and views that were written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.own.keys().map(String::as_str)
    }

    pub fn overlay(&self) -> Overlay {
        let own = self.own.iter();
        Overlay {
            version: self.version,
            objects: own
                .map(|(name, own)| (name.clone(), own.now.clone()))
                .collect(),
            _pending: self.pending.clone(),
        }
    }

    /// Takes in what a statement changed, all of it or nothing. `space` is what it was planned on.
    ///
    /// # Errors
    /// `ResourceExhausted` where a transaction has too many files.
    pub fn stage(
        &mut self,
        space: &Space,
        (changes, written): (Vec<SpaceChange>, Written),
        again: bool,
    ) -> Result<()> {
        let mut own = self.own.clone();
        for change in changes {
            let name = change.object().to_owned();
            let object = own.entry(name).or_insert_with_key(|name| {
                let before = space.object(name).cloned();
                Own {
                    base: space.snapshot,
                    now: before.clone(),
                    before,
                    is_new: false,
                }
            });
            object.apply(change)?;
        }
        // What was made and dropped again leaves no trace.
        own.retain(|_, own| own.before.is_some() || own.now.is_some());
        let mut pending = self.pending.clone();
        if !written.files.is_empty() {
            pending.push(Arc::new(Pending::new(written)));
        }
        // Files that were rewritten go with the last that reads them.
        let live: HashSet<&str> = live_files(&own).map(|file| file.file.as_str()).collect();
        pending.retain(|pending| {
            pending
                .names
                .iter()
                .any(|name| live.contains(name.as_str()))
        });
        check_size(&own, &pending)?;
        self.pending = pending;
        self.own = own;
        self.version += 1;
        self.is_costly |= !again;
        Ok(())
    }

    /// Bytes of committed files that the transaction has done away with, once `replaced` are gone
    /// too: its own stay on disk until it ends.
    pub fn freed(&self, replaced: &[SpaceFile]) -> u64 {
        let own: HashSet<&str> = self
            .pending
            .iter()
            .flat_map(|pending| pending.names.iter().map(String::as_str))
            .collect();
        let earlier = self.own.values().flat_map(Own::removed);
        let now = replaced
            .iter()
            .filter(|file| !own.contains(file.file.as_str()));
        super::bytes_of(earlier.chain(now))
    }

    /// What the rows of everything that was written rest on.
    pub fn labels(&self) -> Labels {
        let mut labels = Labels::default();
        for own in self.own.values().filter_map(|own| own.now.as_ref()) {
            labels.add(own.labels.sources.iter().cloned());
        }
        labels
    }

    /// The tables with rows that were added: they may have many files by now.
    pub fn grown(&self) -> Vec<String> {
        let own = self.own.iter();
        let has_files = |own: &Own| own.now.as_ref().is_some_and(|now| now.files.len() > 1);
        own.filter(|(_, own)| has_files(own))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What is to be committed.
    pub(super) fn staged(&self) -> Result<Staged> {
        let mut changes = Vec::new();
        for (name, own) in &self.own {
            own.changes(name, &mut changes)?;
        }
        let bases = self.own.iter();
        Ok(Staged {
            changes,
            bases: bases.map(|(name, own)| (name.clone(), own.base)).collect(),
            keys: self
                .pending
                .iter()
                .filter_map(|pending| pending.key)
                .collect(),
            again: !self.is_costly,
        })
    }

    /// The manifest may name the files of what is there now: they stay. The others were rewritten
    /// since.
    pub(super) fn keep(&self) {
        let live = live_files(&self.own);
        let names: HashSet<String> = live.map(|file| file.file.clone()).collect();
        for pending in &self.pending {
            pending.written.lock().keep_of(&names);
        }
    }

    /// The manifest names none of the files, for certain.
    pub(super) fn release(&self) {
        for pending in &self.pending {
            pending.written.lock().release();
        }
    }
}

fn live_files(own: &BTreeMap<String, Own>) -> impl Iterator<Item = &SpaceFile> {
    let now = own.values().filter_map(|own| own.now.as_ref());
    now.flat_map(|object| &object.files)
}

fn check_size(own: &BTreeMap<String, Own>, pending: &[Arc<Pending>]) -> Result<()> {
    let files: usize = pending.iter().map(|pending| pending.names.len()).sum();
    if files > FILES_STAGED_MAX {
        return Err(Error::exhausted(format!(
            "more than {FILES_STAGED_MAX} files would wait for one commit; commit before, or bind \
             many rows to one INSERT … VALUES"
        )));
    }
    let bytes_of = |object: &Arc<Object>| {
        let columns = object.schema.fields().size();
        columns + object.view_sql.as_ref().map_or(0, String::len)
    };
    let now = own.values().filter_map(|own| own.now.as_ref());
    let sizes = pending.iter().map(|pending| pending.bytes);
    let bytes = now.map(bytes_of).chain(sizes).sum::<usize>();
    if own.len() <= OBJECTS_STAGED_MAX && bytes <= TEXT_BYTES_STAGED_MAX {
        return Ok(());
    }
    Err(Error::exhausted(format!(
        "one commit would change {} tables and views with {bytes} bytes of texts and columns, and \
         may change {OBJECTS_STAGED_MAX} with {TEXT_BYTES_STAGED_MAX}; commit before",
        own.len()
    )))
}

impl Own {
    fn apply(&mut self, change: SpaceChange) -> Result<()> {
        if let SpaceChange::Create(object) = change {
            self.is_new = true;
            self.now = Some(Arc::new(made(object)?));
            return Ok(());
        }
        if matches!(change, SpaceChange::Drop { .. }) {
            self.now = None;
            return Ok(());
        }
        let now = self.now.as_ref();
        let now =
            now.ok_or_else(|| Error::internal("an object was changed that is not there", &""))?;
        let mut now = Object::clone(now);
        match change {
            SpaceChange::AddFiles { files, .. } => now.files.extend(files),
            SpaceChange::RemoveFiles { files, .. } => {
                let gone: HashSet<String> = files.into_iter().collect();
                now.files.retain(|file| !gone.contains(&file.file));
            }
            SpaceChange::SetLabels { labels, .. } => now.labels = Labels::parse(&labels)?,
            SpaceChange::Create(_) | SpaceChange::Drop { .. } | SpaceChange::MergeFiles { .. } => {
                return Err(Error::internal("such a change is never staged", &""));
            }
        }
        // As the store lists them.
        now.files.sort_by(|a, b| a.file.cmp(&b.file));
        self.now = Some(Arc::new(now));
        Ok(())
    }

    /// Committed files that are not there any more.
    fn removed(&self) -> impl Iterator<Item = &SpaceFile> {
        let now = self.now.iter().flat_map(|object| &object.files);
        let now: HashSet<&str> = now.map(|file| file.file.as_str()).collect();
        let before = self.before.iter().flat_map(|object| &object.files);
        before.filter(move |file| !now.contains(file.file.as_str()))
    }

    /// The way from what was there to what is.
    fn changes(&self, name: &str, changes: &mut Vec<SpaceChange>) -> Result<()> {
        let name = || name.to_owned();
        if self.before.is_some() && (self.is_new || self.now.is_none()) {
            changes.push(SpaceChange::Drop { name: name() });
        }
        let Some(now) = &self.now else {
            return Ok(());
        };
        let before = self.before.as_ref().filter(|_| !self.is_new);
        if before.is_none() {
            changes.push(SpaceChange::Create(NewObject {
                name: name(),
                kind: now.kind,
                schema_ipc: schema_to_ipc(&now.schema)?,
                view_sql: now.view_sql.clone(),
                labels: now.labels.text()?,
            }));
        }
        if before.is_some() {
            let files: Vec<String> = self.removed().map(|file| file.file.clone()).collect();
            if !files.is_empty() {
                let object = name();
                changes.push(SpaceChange::RemoveFiles { object, files });
            }
        }
        let old = before.iter().flat_map(|object| &object.files);
        let old: HashSet<&str> = old.map(|file| file.file.as_str()).collect();
        let files = now
            .files
            .iter()
            .filter(|file| !old.contains(file.file.as_str()));
        let files: Vec<SpaceFile> = files.cloned().collect();
        if !files.is_empty() {
            let object = name();
            changes.push(SpaceChange::AddFiles { object, files });
        }
        if before.is_some_and(|before| before.labels != now.labels) {
            let (object, labels) = (name(), now.labels.text()?);
            changes.push(SpaceChange::SetLabels { object, labels });
        }
        Ok(())
    }
}

fn made(object: NewObject) -> Result<Object> {
    let NewObject {
        name,
        kind,
        schema_ipc,
        view_sql,
        labels,
    } = object;
    let files = Vec::new();
    // Whether its rights have ended is looked at whenever it is laid over a space.
    Object::new(
        SpaceObject {
            name,
            kind,
            schema_ipc,
            view_sql,
            labels,
            files,
        },
        &Rights::new(&[]),
    )
}
