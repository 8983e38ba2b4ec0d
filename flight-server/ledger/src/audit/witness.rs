//! The witness: a folder that gets one file a checkpoint, and never loses one.
//!
//! A file is named by its checkpoint's size and the hash of its note, so that the same checkpoint
//! makes the same file whoever writes it, and two that contradict one another make two.
//!
//! The folder is best on another machine, which may stop answering. A server therefore asks it
//! on threads that neither the runtime nor the end of the process waits for.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::LedgerError;

const SUFFIX: &str = ".checkpoint";
/// Digits of the largest size.
const SIZE_DIGITS: usize = 20;
/// A note has a few hundred bytes; a larger file is none.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// How long a server waits for the witness at a time.
pub(super) const WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(crate) struct Witness {
    folder: PathBuf,
}

/// Something that the witness was asked and has not answered yet.
#[derive(Debug)]
pub(super) struct Asked<T> {
    pub folder: PathBuf,
    pub answer: oneshot::Receiver<Result<T, LedgerError>>,
}

impl<T: Send + 'static> Asked<T> {
    /// Asks on a thread of its own.
    pub fn of(
        witness: &Witness,
        work: impl FnOnce(&Witness) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<Self, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let own = witness.clone();
        std::thread::Builder::new()
            .name("audit witness".to_owned())
            // An answer that nobody waits for any more is dropped.
            .spawn(move || drop(reply.send(work(&own))))
            .map_err(|error| witness.failure(&error))?;
        let folder = witness.folder.clone();
        Ok(Asked { folder, answer })
    }

    /// The answer; none if it did not come in time, and may come later.
    pub async fn wait(&mut self, wait: Duration) -> Option<Result<T, LedgerError>> {
        let answer = tokio::time::timeout(wait, &mut self.answer).await.ok()?;
        Some(answer.unwrap_or(Err(LedgerError::Closed)))
    }

    pub fn silent(&self) -> LedgerError {
        LedgerError::Witness {
            folder: self.folder.display().to_string(),
            reason: "it does not answer".to_owned(),
        }
    }
}

impl Witness {
    /// As [`Witness::new`], for a server.
    pub async fn open(folder: PathBuf) -> Result<Self, LedgerError> {
        let witness = Witness { folder };
        let new = |witness: &Witness| Self::new(witness.folder.clone());
        witness.ask(new).await
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Witness) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let mut asked = Asked::of(self, work)?;
        let answer = asked.wait(WAIT).await;
        answer.unwrap_or_else(|| Err(asked.silent()))
    }

    /// Refuses an empty log whose witness has checkpoints.
    ///
    /// # Errors
    /// [`LedgerError::Witness`].
    pub async fn expect_empty(&self) -> Result<(), LedgerError> {
        let files = self.ask(Witness::list).await?;
        let Some((size, _)) = files.last() else {
            return Ok(());
        };
        Err(LedgerError::Witness {
            folder: self.folder.display().to_string(),
            reason: format!(
                "it knows of {size} entries and the audit log has none; restore the store, or name \
                 an empty folder for a new log"
            ),
        })
    }

    /// # Errors
    /// [`LedgerError::Witness`] where there is no such folder. It is not made: it may be a
    /// place that was not mounted.
    pub fn new(folder: PathBuf) -> Result<Self, LedgerError> {
        if folder.is_dir() {
            return Ok(Witness { folder });
        }
        Err(LedgerError::Witness {
            folder: folder.display().to_string(),
            reason: "it is no folder; make it, or mount it".to_owned(),
        })
    }

    /// Writes a checkpoint's file, unless it is there. The file appears under its name only when
    /// it is whole and on disk, and replaces none.
    pub fn keep(&self, size: u64, note: &str) -> Result<(), LedgerError> {
        self.write(size, note).map_err(|error| self.failure(&error))
    }

    fn write(&self, size: u64, note: &str) -> std::io::Result<()> {
        let name = file_name(size, note);
        let path = self.folder.join(&name);
        if path.exists() {
            return Ok(());
        }
        let temporary = self.folder.join(format!(".{name}.{}", std::process::id()));
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
        File::open(&self.folder)?.sync_all()
    }

    /// The sizes and names of its files, in order of their size.
    pub fn list(&self) -> Result<Vec<(u64, String)>, LedgerError> {
        let mut files = Vec::new();
        let entries = std::fs::read_dir(&self.folder).map_err(|error| self.failure(&error))?;
        for entry in entries {
            let entry = entry.map_err(|error| self.failure(&error))?;
            if let Ok(name) = entry.file_name().into_string()
                && let Some(size) = size_of(&name)
            {
                files.push((size, name));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The note in a file; none where it is no text of a note's length.
    pub fn read(&self, name: &str) -> Option<String> {
        let path = self.folder.join(name);
        let length = std::fs::metadata(&path).ok()?.len();
        if length > NOTE_BYTES_MAX {
            return None;
        }
        std::fs::read_to_string(path).ok()
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn failure(&self, error: &std::io::Error) -> LedgerError {
        LedgerError::Witness {
            folder: self.folder.display().to_string(),
            reason: error.to_string(),
        }
    }
}

/// The name of a checkpoint's file.
pub(super) fn file_name(size: u64, note: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(note.as_bytes()).into();
    let digest = HEXLOWER.encode(&digest[..8]);
    format!("{size:0width$}-{digest}{SUFFIX}", width = SIZE_DIGITS)
}

/// The size in the name of a checkpoint's file; none for another file.
fn size_of(name: &str) -> Option<u64> {
    let (size, _) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    (size.len() == SIZE_DIGITS).then(|| size.parse().ok())?
}
