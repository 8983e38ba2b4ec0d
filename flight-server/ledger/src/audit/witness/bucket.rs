//! A bucket of an object store. An object is put only where there is none: whoever may write to
//! the bucket with the hub's credentials could replace one, which does not fit its name then, or
//! remove it, which the database's own checkpoints tell. A bucket that locks its objects allows
//! neither.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use super::{NOTE_BYTES_MAX, failure, size_of};
use crate::LedgerError;

/// Objects that are read at once.
const AT_ONCE: usize = 16;

#[derive(Clone, Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    shown: String,
}

impl Bucket {
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, shown: String) -> Self {
        Bucket {
            store,
            prefix,
            shown,
        }
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub async fn keep(&self, notes: Vec<(String, String)>) -> Result<(), LedgerError> {
        for (name, note) in notes {
            self.put(&name, note)
                .await
                .map_err(|error| failure(&self.shown, error))?;
        }
        Ok(())
    }

    async fn put(&self, name: &str, note: String) -> object_store::Result<()> {
        let path = self.prefix.clone().join(name);
        let created = self
            .store
            .put_opts(&path, note.clone().into(), PutMode::Create.into())
            .await;
        match created {
            // It was written before, perhaps by another server that shares the log.
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            // The store has no conditional put. Who comes between writes the same: the name is
            // that of this note.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                match self.store.head(&path).await {
                    Err(Error::NotFound { .. }) => {
                        self.store.put(&path, note.into()).await.map(drop)
                    }
                    found => found.map(drop),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// The first names after that one, in their order.
    pub async fn names(&self, after: &str, most: usize) -> Result<Vec<String>, LedgerError> {
        let offset = self.prefix.clone().join(after);
        let listed = self.store.list_with_offset(Some(&self.prefix), &offset);
        let names = listed
            .try_filter_map(async |object| Ok(self.name(&object.location)))
            .take(most)
            .try_collect();
        names.await.map_err(|error| failure(&self.shown, error))
    }

    /// The name of a checkpoint that lies directly under the prefix.
    fn name(&self, path: &Path) -> Option<String> {
        let mut parts = path.prefix_match(&self.prefix)?;
        let name = parts.next()?.as_ref().to_owned();
        (parts.next().is_none() && size_of(&name).is_some()).then_some(name)
    }

    pub async fn read(&self, names: Vec<String>) -> Result<Vec<Option<String>>, LedgerError> {
        let notes = futures::stream::iter(names)
            .map(|name| async move { self.note(&name).await })
            .buffered(AT_ONCE)
            .try_collect();
        notes.await.map_err(|error| failure(&self.shown, error))
    }

    async fn note(&self, name: &str) -> object_store::Result<Option<String>> {
        let path = self.prefix.clone().join(name);
        let found = match self.store.get(&path).await {
            Err(Error::NotFound { .. }) => return Ok(None),
            found => found?,
        };
        if found.meta.size > NOTE_BYTES_MAX {
            return Ok(None);
        }
        Ok(String::from_utf8(found.bytes().await?.into()).ok())
    }
}
