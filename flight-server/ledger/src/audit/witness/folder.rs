//! A folder, best on another machine, which may stop answering: it is asked on threads that
//! neither the runtime nor the end of the process waits for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use tokio::sync::oneshot;

use super::{NOTE_BYTES_MAX, failure};
use crate::LedgerError;

#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
    shown: String,
}

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        let shown = path.display().to_string();
        Folder { path, shown }
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    pub async fn keep(&self, notes: Vec<(String, String)>) -> Result<(), LedgerError> {
        let keep = move |folder: &Folder| {
            let mut notes = notes.iter();
            notes.try_for_each(|(name, note)| folder.write(name, note))
        };
        self.ask(keep).await
    }

    /// The names of its files, in no order.
    pub async fn names(&self) -> Result<Vec<String>, LedgerError> {
        self.ask(Folder::files).await
    }

    pub async fn read(&self, names: Vec<String>) -> Result<Vec<Option<String>>, LedgerError> {
        let read = move |folder: &Folder| Ok(names.iter().map(|name| folder.note(name)).collect());
        self.ask(read).await
    }

    /// Asks on a thread of its own.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let own = self.clone();
        std::thread::Builder::new()
            .name("audit witness".to_owned())
            // An answer that nobody waits for any more is dropped.
            .spawn(move || drop(reply.send(work(&own))))
            .map_err(|error| failure(&self.shown, error))?;
        let answer = answer.await.map_err(|_| LedgerError::Closed)?;
        answer.map_err(|error| failure(&self.shown, error))
    }

    /// Writes a file, unless it is there. It appears under its name only when it is whole and on
    /// disk, and replaces none.
    fn write(&self, name: &str, note: &str) -> std::io::Result<()> {
        let path = self.path.join(name);
        if path.exists() {
            return Ok(());
        }
        let temporary = self.path.join(format!(".{name}.{}", std::process::id()));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        // A link fails where the name exists; a rename would replace it.
        let linked = std::fs::hard_link(&temporary, &path);
        std::fs::remove_file(&temporary)?;
        match linked {
            // Another server that shares the log has written the same file.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => linked?,
        }
        File::open(&self.path)?.sync_all()
    }

    fn files(&self) -> std::io::Result<Vec<String>> {
        if !self.path.is_dir() {
            return Err(std::io::Error::other(
                "it is no folder; make it, or mount it",
            ));
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn note(&self, name: &str) -> Option<String> {
        let path = self.path.join(name);
        let length = std::fs::metadata(&path).ok()?.len();
        if length > NOTE_BYTES_MAX {
            return None;
        }
        std::fs::read_to_string(path).ok()
    }
}
