//! Many small files of a table become one, so that row by row INSERTs do not slow its reads.
//!
//! It runs beside the statements: one that has committed is answered at once, and what goes
//! wrong here is not its error.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::Utc;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use hubflight_store::{SpaceChange, SpaceFile, SpaceRoom};
use hubflight_udfs::StatementWork;
use tokio::sync::Semaphore;

use super::change::{Change, Commit, Failure, Job};
use super::table::SpaceTable;
use super::{Object, Space, bytes_of};
use crate::auth::session::SessionOptions;
use crate::catalog::project::ProjectView;
use crate::error::Result;
use crate::exec::commits::Commits;
use crate::exec::meter::Meter;
use crate::hub::Hub;
use crate::plan::Planning;

/// A file below this size is small.
const SMALL_FILE_BYTES: i64 = 8 << 20;
/// With this many small files a table is compacted.
const SMALL_FILES_MAX: usize = 32;
/// How often a merge begins anew because a statement was in its way; then the table's next INSERT
/// begins one.
const TRIES_MAX: u32 = 6;
/// The pause before that, doubled each time.
const PAUSE_MS: u64 = 500;

/// One at a time is enough.
static COMPACTING: Semaphore = Semaphore::const_new(1);

impl Change<'_> {
    /// Compacts a table in the background, if this change leaves it with many small files.
    pub(super) fn compact_later(&self, object: &Object, added: &[SpaceFile]) {
        if self.commits.staging().is_some() {
            return;
        }
        if small(&object.files).count() + small(added).count() < SMALL_FILES_MAX {
            return;
        }
        let account = (self.work, self.meter);
        begin(self.planning, account, object.name.clone());
    }

    /// False where a statement was in its way and nothing was done.
    async fn merge(&self, object: &Object, small: Vec<SpaceFile>) -> Result<bool, Failure> {
        let project = &self.planning.view.project;
        let turn = self.planning.hub.space_turns.of(project);
        // Nothing is written that could not be committed.
        if turn.merge().is_none() {
            return Ok(false);
        }
        let table = SpaceTable::of_files(self.planning.hub, project, object, &small)?;
        let source = provider_as_source(Arc::new(table));
        let plan = LogicalPlanBuilder::scan("small", source, None)?.build()?;
        let job = Job {
            query: self.query(plan, &self.planning.state())?,
            flagged: false,
        };
        let target = self.target(&object.name, &object.schema, &small).await?;
        let (written, _) = self.write(target, vec![job]).await?;
        let changes = vec![SpaceChange::MergeFiles {
            object: object.name.clone(),
            old: small.into_iter().map(|file| file.file).collect(),
            new: written.files.clone(),
        }];
        let commit = Commit {
            changes,
            written,
            again: false,
        };
        // What was written is removed again where somebody came between.
        let Some(merging) = turn.merge() else {
            return Ok(false);
        };
        merging.done(self.commit(commit).await?);
        Ok(true)
    }
}

/// Compacts in the background those of the tables that a transaction has changed which have many
/// small files now.
pub fn compact_after(
    hub: &Arc<Hub>,
    view: &Arc<ProjectView>,
    account: (&Arc<StatementWork>, &Arc<Meter>),
    names: Vec<String>,
) {
    let planning = Planning {
        hub,
        view,
        options: &SessionOptions::default(),
        now: Utc::now(),
    };
    for name in names {
        begin(&planning, account, name);
    }
}

/// Looks at a table beside the statements, and merges its small files where they are many.
fn begin(planning: &Planning<'_>, account: (&Arc<StatementWork>, &Arc<Meter>), name: String) {
    let (hub, view) = (Arc::clone(planning.hub), Arc::clone(planning.view));
    let (work, meter) = (Arc::clone(account.0), Arc::clone(account.1));
    let now = planning.now;
    let turn = hub.space_turns.of(&view.project);
    let Some(alone) = turn.compact(&name) else {
        return;
    };
    tokio::spawn(async move {
        let _alone = alone;
        let planning = Planning {
            hub: &hub,
            view: &view,
            options: &SessionOptions::default(),
            now,
        };
        if let Err(error) = compact(&planning, &name, (&work, &meter)).await {
            // A table with many files is slow, not wrong.
            tracing::warn!(%error, "a table of a space could not be compacted");
        }
    });
}

/// Merges the small files of a table, when no statement that changes the project's tables is
/// under way.
async fn compact(
    planning: &Planning<'_>,
    name: &str,
    account: (&Arc<StatementWork>, &Arc<Meter>),
) -> Result<()> {
    for tried in 0..TRIES_MAX {
        if tried > 0 {
            tokio::time::sleep(Duration::from_millis(PAUSE_MS << (tried - 1))).await;
        }
        if let Ok(_turn) = COMPACTING.acquire().await
            && compacted(planning, name, account).await?
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Merges the small files of a table as it is now, whose rows stay the same. False where a
/// statement changes something meanwhile: then nothing happens.
async fn compacted(
    planning: &Planning<'_>,
    name: &str,
    (work, meter): (&Arc<StatementWork>, &Arc<Meter>),
) -> Result<bool> {
    let project = &planning.view.project;
    let space = Space::load(planning.hub, project, (None, None), planning.now, &[]).await?;
    let space = Arc::new(space);
    let Some(object) = space.object(name) else {
        return Ok(true);
    };
    let small: Vec<SpaceFile> = small(&object.files).cloned().collect();
    let room = planning.hub.store.space_room(project).await?;
    if small.len() < SMALL_FILES_MAX || !leaves_room(room, bytes_of(&small)) {
        return Ok(true);
    }
    let charged = AtomicBool::new(true);
    let commits = Commits::default();
    let change = Change {
        planning,
        space: &space,
        parameters: &[],
        work,
        meter,
        commits: &commits,
        charged: &charged,
    };
    match change.merge(object, small).await {
        Ok(merged) => Ok(merged),
        Err(Failure::Conflict { .. }) => Ok(false),
        Err(Failure::Failed(error)) => Err(error),
    }
}

fn small(files: &[SpaceFile]) -> impl Iterator<Item = &SpaceFile> {
    files.iter().filter(|file| file.bytes < SMALL_FILE_BYTES)
}

/// Files that were merged stay on disk for a while. Of the room for such files at most half is
/// for what the hub does on its own account: the rest is the statements'.
fn leaves_room(room: SpaceRoom, merged: u64) -> bool {
    let reserve = room.held_max().saturating_sub(room.quota) / 2;
    let held = room
        .held
        .saturating_add(i64::try_from(merged).unwrap_or(i64::MAX));
    held <= room.held_max().saturating_sub(reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_keep_half_of_the_room_for_replaced_files() {
        let room = |held| SpaceRoom {
            used: 0,
            held,
            quota: 100,
            files: 1,
        };
        assert!(leaves_room(room(140), 10));
        assert!(!leaves_room(room(140), 11));
        assert!(!leaves_room(room(0), u64::MAX));
    }
}
