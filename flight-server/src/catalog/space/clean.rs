//! Files that nobody can read any more.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use hubflight_store::Backend;
use tokio::sync::Semaphore;

use super::files;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::hub::Hub;

/// A file that no manifest names is removed when it is older than this: a statement, perhaps
/// of another server on the same folder, may still be writing it.
const ORPHAN_AGE_MIN: Duration = Duration::from_secs(24 * 3600);
/// Between two looks at every project.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// What planning, commits and clocks may add to the times that have a limit.
const MARGIN: Duration = Duration::from_secs(60);

/// One clean-up at a time is enough.
static CLEANING: Semaphore = Semaphore::const_new(1);

/// Removes, for every project, what dropped snapshots and dead statements left: now, before
/// any statement runs, and every hour until the hub is dropped. A file that cannot be removed
/// is logged and tried again next time.
pub async fn clean_up(hub: &Arc<Hub>) -> Result<()> {
    let now = SystemTime::now();
    let abandoned_before = match hub.store.backend() {
        // There is no other server, so that whatever is there was left by a dead one.
        Backend::Sqlite => Some(now),
        Backend::Postgres => before(now, orphan_age(&hub.config.limits)),
    };
    clean(hub, abandoned_before).await?;
    tokio::spawn(every_hour(Arc::downgrade(hub)));
    Ok(())
}

async fn every_hour(hub: Weak<Hub>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(hub) = hub.upgrade() else {
            return;
        };
        let age = orphan_age(&hub.config.limits);
        if let Err(error) = clean(&hub, before(SystemTime::now(), age)).await {
            tracing::warn!(%error, "the spaces could not be cleaned; it is tried again");
        }
    }
}

/// Cleans every project; a file that no manifest names goes if it was last written before
/// `abandoned_before`.
pub(super) async fn clean(hub: &Hub, abandoned_before: Option<SystemTime>) -> Result<()> {
    for project in hub.store.projects().await? {
        superseded(hub, &project.id).await?;
        if let Some(abandoned_before) = abandoned_before {
            orphans(hub, &project.id, abandoned_before).await?;
        }
    }
    Ok(())
}

/// Cleans one project's space in the background, after a change of it.
pub fn after_change(hub: &Arc<Hub>, project: &str) {
    let (hub, project) = (Arc::clone(hub), project.to_owned());
    tokio::spawn(async move {
        let Ok(_turn) = CLEANING.try_acquire() else {
            return;
        };
        if let Err(error) = superseded(&hub, &project).await {
            tracing::warn!(%error, %project, "a space could not be cleaned");
        }
    });
}

/// The longest time from a statement's start to its last read of a file.
fn statement_time(limits: &Limits) -> Duration {
    // A statement's own time begins when it has waited for a place.
    Duration::from_secs(limits.statement_seconds_max)
        .saturating_add(Duration::from_millis(limits.queue_wait_ms_max))
        .saturating_add(MARGIN)
}

/// How long a snapshot can be read after it was replaced: a ticket, renewed, names it to its last
/// moment, and so does a transaction what it has changed of it, and then its statement runs.
fn readable_time(limits: &Limits) -> Duration {
    let named = limits.ticket_life_seconds_max();
    let named = named.max(limits.transaction_seconds_max);
    Duration::from_secs(named).saturating_add(statement_time(limits))
}

/// A statement, and more so a transaction, has files that are complete long before it commits.
fn orphan_age(limits: &Limits) -> Duration {
    let lasts = Duration::from_secs(limits.transaction_seconds_max);
    ORPHAN_AGE_MIN.max(lasts.saturating_add(statement_time(limits)))
}

fn before(now: SystemTime, age: Duration) -> Option<SystemTime> {
    now.checked_sub(age)
}

/// Removes the files of snapshots that no ticket can name any more.
async fn superseded(hub: &Hub, project: &str) -> Result<()> {
    let readable = TimeDelta::from_std(readable_time(&hub.config.limits)).ok();
    // A limit beyond the calendar keeps files for ever.
    match readable.and_then(|readable| Utc::now().checked_sub_signed(readable)) {
        Some(older_than) => replaced_before(hub, project, older_than).await,
        None => Ok(()),
    }
}

/// Removes the files that a table lost before a moment.
pub(super) async fn replaced_before(
    hub: &Hub,
    project: &str,
    older_than: DateTime<Utc>,
) -> Result<()> {
    let files = hub.store.unreferenced_files(project, older_than).await?;
    if files.is_empty() {
        return Ok(());
    }
    let folder = files::folder(hub, project)?;
    let mut gone = Vec::with_capacity(files.len());
    for file in files {
        if remove(&folder.join(&file)) {
            gone.push(file);
        }
    }
    Ok(hub.store.forget_files(project, &gone).await?)
}

/// Removes files that no manifest names and that were last written before a moment.
async fn orphans(hub: &Hub, project: &str, written_before: SystemTime) -> Result<()> {
    let folder = files::folder(hub, project)?;
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::internal("a space cannot be listed", &error)),
    };
    let known: HashSet<String> = hub
        .store
        .space_file_names(project)
        .await?
        .into_iter()
        .collect();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified < written_before);
        if old && files::is_ours(&name) && !known.contains(&name) {
            remove(&entry.path());
        }
    }
    Ok(())
}

/// True when the file is gone.
fn remove(path: &Path) -> bool {
    match std::fs::remove_file(path) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "a file of a space cannot be removed");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_as_long_as_a_statement_may_read_them() {
        let limits = Limits {
            ticket_seconds_max: 600,
            queue_wait_ms_max: 30_000,
            statement_seconds_max: 3600,
            ..Limits::default()
        };
        let readable = Duration::from_secs(3 * 600 + 30 + 3600 + 60);
        assert_eq!(readable_time(&limits), readable);
        assert_eq!(orphan_age(&limits), ORPHAN_AGE_MIN);
        let endless = Limits {
            statement_seconds_max: u64::MAX,
            ..limits
        };
        assert_eq!(before(SystemTime::now(), orphan_age(&endless)), None);
    }
}
