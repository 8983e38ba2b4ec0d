//! Files that nobody can read any more.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::Utc;
use tokio::sync::Semaphore;

use super::files;
use crate::error::{Error, Result};
use crate::hub::Hub;

/// A file that no manifest names is removed when it is older than this: a statement of
/// another server on the same folder may still be writing it.
const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3600);

/// One clean-up at a time is enough.
static CLEANING: Semaphore = Semaphore::const_new(1);

/// Removes, for every project, what dropped snapshots and dead statements left. Called at
/// start; a file that cannot be removed is logged and tried again next time.
pub async fn clean_up(hub: &Arc<Hub>) -> Result<()> {
    for project in hub.store.projects().await? {
        superseded(hub, &project.id).await?;
        orphans(hub, &project.id).await?;
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

/// Removes the files of snapshots that no ticket can name any more.
async fn superseded(hub: &Hub, project: &str) -> Result<()> {
    let limits = &hub.config.limits;
    let readable = limits.ticket_seconds_max + limits.statement_seconds_max;
    let older_than = Utc::now() - Duration::from_secs(readable);
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

/// Removes old files that no manifest names.
async fn orphans(hub: &Hub, project: &str) -> Result<()> {
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
    let now = SystemTime::now();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| {
                now.duration_since(modified)
                    .is_ok_and(|age| age > ORPHAN_AGE)
            });
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
