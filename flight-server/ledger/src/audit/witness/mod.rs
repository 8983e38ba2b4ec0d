//! The witness: a second place that gets one object a checkpoint, and never loses one.
//!
//! An object is named by its checkpoint's size and the hash of its note, so that the same
//! checkpoint makes the same object whoever writes it, two that contradict one another make two,
//! and one that was altered does not fit its name.

mod bucket;
mod folder;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use hubflight_audit::{Checkpoint, VerifierKey};
use hubflight_store::Store;
use object_store::ObjectStore;
use sha2::{Digest, Sha256};
use sqlx::Row;

use super::append::Head;
use crate::LedgerError;
use bucket::Bucket;
use folder::Folder;

const SUFFIX: &str = ".checkpoint";
/// Digits of the largest size.
const SIZE_DIGITS: usize = 20;
/// A note has a few hundred bytes; a longer one is none.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
/// The newest checkpoints that are compared at start.
const COMPARED: usize = 64;

/// How long a server waits for a second place at a time.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Where checkpoints are kept besides the database.
#[derive(Clone, Debug)]
pub struct Witness(Place);

#[derive(Clone, Debug)]
enum Place {
    Folder(Folder),
    Bucket(Bucket),
}

impl Witness {
    /// A folder, best on another machine. It must exist: it may be a place that was not mounted.
    pub fn folder(path: PathBuf) -> Self {
        Witness(Place::Folder(Folder::new(path)))
    }

    /// What begins with `prefix` in an object store, which errors call `shown`.
    pub fn bucket(
        store: Arc<dyn ObjectStore>,
        prefix: object_store::path::Path,
        shown: String,
    ) -> Self {
        Witness(Place::Bucket(Bucket::new(store, prefix, shown)))
    }

    /// What metrics call it.
    pub(super) fn kind(&self) -> &'static str {
        match &self.0 {
            Place::Folder(_) => "folder",
            Place::Bucket(_) => "bucket",
        }
    }

    pub(super) fn shown(&self) -> &str {
        match &self.0 {
            Place::Folder(folder) => folder.shown(),
            Place::Bucket(bucket) => bucket.shown(),
        }
    }

    /// Refuses a place that is not there, and an empty log whose witness has checkpoints.
    ///
    /// # Errors
    /// [`LedgerError::Witness`].
    pub(crate) async fn open(&self, entries: u64) -> Result<(), LedgerError> {
        let known = self.in_time(self.from(0, 1)).await?;
        if known.is_empty() || entries > 0 {
            return Ok(());
        }
        Err(self.failure(
            "it has checkpoints and the audit log has no entry; restore the store, or name an \
             empty place for a new log",
        ))
    }

    /// Keeps checkpoints, each unless it is there.
    pub(super) async fn keep(&self, checkpoints: Vec<(u64, String)>) -> Result<(), LedgerError> {
        let named = checkpoints.into_iter();
        let named: Vec<_> = named
            .map(|(size, note)| (file_name(size, &note), note))
            .collect();
        match &self.0 {
            Place::Folder(folder) => folder.keep(named).await,
            Place::Bucket(bucket) => bucket.keep(named).await,
        }
    }

    /// The sizes and names of all its checkpoints, in order of their size.
    pub(super) async fn list(&self) -> Result<Vec<(u64, String)>, LedgerError> {
        self.from(0, usize::MAX).await
    }

    /// The first checkpoints of at least that size.
    async fn from(&self, size: u64, most: usize) -> Result<Vec<(u64, String)>, LedgerError> {
        let names = match &self.0 {
            Place::Folder(folder) => folder.names().await?,
            Place::Bucket(bucket) => bucket.names(&sized(size), most).await?,
        };
        let sized = names.into_iter().filter_map(|name| {
            let covers = size_of(&name).filter(|covers| *covers >= size)?;
            Some((covers, name))
        });
        let mut sized: Vec<_> = sized.collect();
        sized.sort_unstable();
        sized.truncate(most);
        Ok(sized)
    }

    /// The notes of those names; none where there is no text of a note's length.
    ///
    /// # Errors
    /// [`LedgerError::Witness`] where it cannot be asked.
    pub(super) async fn read(
        &self,
        names: Vec<String>,
    ) -> Result<Vec<Option<String>>, LedgerError> {
        match &self.0 {
            Place::Folder(folder) => folder.read(names).await,
            Place::Bucket(bucket) => bucket.read(names).await,
        }
    }

    /// What its newest checkpoints say against the log, if anything: the store was put back to an
    /// earlier state, by a restored backup or by somebody who hides something.
    ///
    /// # Errors
    /// Those of reading either.
    pub(super) async fn contradicts(
        &self,
        store: &Store,
        key: &VerifierKey,
    ) -> Result<Option<String>, LedgerError> {
        let most = i64::try_from(COMPARED).unwrap_or(i64::MAX);
        let since: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(size) FROM \
             (SELECT size FROM audit_checkpoints ORDER BY id DESC LIMIT $1) newest",
        )
        .bind(most)
        .fetch_one(store.pool())
        .await?;
        let since = since.unwrap_or_default();
        // The witness is asked first, so that it is not ahead of a log that is in use.
        let from = u64::try_from(since).unwrap_or_default();
        let theirs = self.in_time(self.from(from, COMPARED * 4)).await?;
        let newest = theirs.iter().rev().take(COMPARED);
        let names: Vec<String> = newest.map(|(_, name)| name.clone()).collect();
        let notes = self.in_time(self.read(names.clone())).await?;
        let ours = kept_names(store, since).await?;
        let entries = Head::peek(&mut *store.pool().acquire().await?).await?;
        let entries = entries.frontier.size();
        if let Some((size, _)) = theirs.last().filter(|(size, _)| *size > entries) {
            return Ok(Some(format!(
                "it knows of {size} entries or more and the log has {entries}: the store was put back"
            )));
        }
        if let Some((_, name)) = theirs.iter().find(|(_, name)| !ours.contains(name)) {
            return Ok(Some(format!(
                "the log never made its checkpoint `{name}`: one of both has another history"
            )));
        }
        let is_altered = |(name, note): &(String, Option<String>)| {
            let signed = note.as_ref().and_then(|note| {
                let signed = Checkpoint::open(note, key).ok()?;
                Some(file_name(signed.size, note))
            });
            signed.as_ref() != Some(name)
        };
        let altered = names.into_iter().zip(notes).find(is_altered);
        Ok(altered.map(|(name, _)| format!("its checkpoint `{name}` was altered")))
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, LedgerError>>,
    ) -> Result<T, LedgerError> {
        let answered = tokio::time::timeout(WAIT, answer).await;
        answered.unwrap_or_else(|_| Err(self.failure("it does not answer")))
    }

    fn failure(&self, reason: &str) -> LedgerError {
        failure(self.shown(), reason)
    }
}

fn failure(place: &str, reason: impl ToString) -> LedgerError {
    LedgerError::Witness {
        place: place.to_owned(),
        reason: reason.to_string(),
    }
}

/// The names of the log's own checkpoints of at least that size.
async fn kept_names(store: &Store, size: i64) -> Result<BTreeSet<String>, LedgerError> {
    let rows = sqlx::query("SELECT size, note FROM audit_checkpoints WHERE size >= $1")
        .bind(size)
        .fetch_all(store.pool())
        .await?;
    let names = rows.iter().map(|row| {
        let (size, note): (i64, String) = (row.try_get("size")?, row.try_get("note")?);
        Ok(file_name(u64::try_from(size).unwrap_or_default(), &note))
    });
    names.collect()
}

/// The name of a checkpoint's object.
pub(super) fn file_name(size: u64, note: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(note.as_bytes()).into();
    let digest = HEXLOWER.encode(&digest[..8]);
    format!("{}-{digest}{SUFFIX}", sized(size))
}

/// What the names of a size begin with: they are in order of their size.
fn sized(size: u64) -> String {
    format!("{size:0width$}", width = SIZE_DIGITS)
}

/// The size in the name of a checkpoint's object; none for another.
fn size_of(name: &str) -> Option<u64> {
    let (size, _) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    (size.len() == SIZE_DIGITS).then(|| size.parse().ok())?
}
