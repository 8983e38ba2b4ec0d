//! Who goes first: statements that change a project's tables, before the merges that the hub makes
//! of small files on its own account.
//!
//! A merge replaces files, so that a statement which read them would conflict with it; what a user
//! asked for must not fail for the sake of tidiness. This is one server's view: a merge of another
//! server on the same database is a conflict as any, after which a statement runs again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Of each project that changed something since the start.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<String, Arc<Turn>>>);

/// One project's.
#[derive(Debug, Default)]
pub struct Turn {
    changes: Arc<RwLock<()>>,
    /// The newest snapshot that a merge made.
    merged: AtomicI64,
    /// The tables of which files are merged, or wait to be.
    compacting: Mutex<HashSet<String>>,
}

/// A table whose files are merged by nobody else while it is held.
pub(super) struct Compacting {
    turn: Arc<Turn>,
    table: String,
}

impl Drop for Compacting {
    fn drop(&mut self) {
        self.turn.compacting.lock().remove(&self.table);
    }
}

/// No merge commits while it is held.
#[derive(Debug)]
pub struct Changing {
    _guard: OwnedRwLockReadGuard<()>,
    merged: i64,
}

impl Changing {
    /// True where a merge replaced files after that snapshot.
    pub(super) fn is_behind(&self, snapshot: i64) -> bool {
        self.merged > snapshot
    }
}

/// No statement that a merge could disturb runs while it is held.
pub(super) struct Merging {
    turn: Arc<Turn>,
    _guard: OwnedRwLockWriteGuard<()>,
}

impl Merging {
    pub(super) fn done(self, snapshot: i64) {
        self.turn.merged.fetch_max(snapshot, Ordering::SeqCst);
    }
}

impl Turns {
    pub fn of(&self, project: &str) -> Arc<Turn> {
        Arc::clone(self.0.lock().entry(project.to_owned()).or_default())
    }
}

impl Turn {
    /// Waits for a merge that commits, which is one transaction.
    pub async fn change(&self) -> Changing {
        let guard = Arc::clone(&self.changes).read_owned().await;
        Changing {
            _guard: guard,
            merged: self.merged.load(Ordering::SeqCst),
        }
    }

    /// None where the table's files are merged already.
    pub(super) fn compact(self: &Arc<Self>, table: &str) -> Option<Compacting> {
        let is_new = self.compacting.lock().insert(table.to_owned());
        is_new.then(|| Compacting {
            turn: Arc::clone(self),
            table: table.to_owned(),
        })
    }

    /// A turn to commit a merge, where no statement is in its way.
    pub(super) fn merge(self: &Arc<Self>) -> Option<Merging> {
        let guard = Arc::clone(&self.changes).try_write_owned().ok()?;
        Some(Merging {
            turn: Arc::clone(self),
            _guard: guard,
        })
    }
}
