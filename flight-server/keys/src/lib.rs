//! Where the keys of the hub come from: 32 bytes for each use, named by a label.
//!
//! Every key (tickets, sessions, pseudonyms, spaces, the audit's signature …) follows from a master
//! secret by HKDF-SHA-256 (RFC 5869) with the label as info. The secret is in a file that only its
//! owner reads ([`file`]), or with a process apart that hands out single keys and traces each
//! ([`process`]). This crate knows no use of a key.

mod file;
#[cfg(unix)]
pub mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

/// A key for one use. Cleared from memory when dropped.
pub type Key = Zeroizing<[u8; KEY_BYTES]>;

pub const KEY_BYTES: usize = 32;
/// Length of a label.
pub const LABEL_BYTES_MAX: usize = 1024;

/// Gives the same key for the same label for ever, and unrelated ones for others.
pub trait KeyProvider: std::fmt::Debug + Send + Sync {
    /// # Errors
    /// [`KeyError::Process`] where the keys cannot be had now.
    fn derive(&self, label: &str) -> Result<Key, KeyError>;
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("secret file `{}`: {reason}", path.display())]
    File { path: PathBuf, reason: String },

    #[error("key process at `{}`: {reason}", socket.display())]
    Process { socket: PathBuf, reason: String },
}

/// The hub's keys. Never printed.
#[derive(Clone, Debug)]
pub struct Secrets(Arc<dyn KeyProvider>);

impl Secrets {
    /// Keys that follow from a master secret in memory.
    pub fn new(master: [u8; KEY_BYTES]) -> Self {
        Self(Arc::new(file::Master::new(master)))
    }

    /// Keys of a process apart, which listens on that socket.
    #[cfg(unix)]
    pub fn of_process(socket: &Path) -> Self {
        Self(Arc::new(process::KeyProcess::new(socket)))
    }

    /// Reads the secret file, or makes it (mode 0600) with a new random secret.
    ///
    /// # Errors
    /// [`KeyError::File`] when the file is malformed, cannot be made, or can be read by others.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        Ok(Self(Arc::new(file::load_or_create(path)?)))
    }

    /// Reads the secret file, if there is one.
    ///
    /// # Errors
    /// As for [`Self::load_or_create`].
    pub fn load(path: &Path) -> Result<Option<Self>, KeyError> {
        Ok(file::load(path)?.map(|master| Self(Arc::new(master))))
    }

    /// A key for one use, named by `label`.
    ///
    /// # Errors
    /// As for [`KeyProvider::derive`].
    pub fn derive(&self, label: &str) -> Result<Key, KeyError> {
        self.0.derive(label)
    }
}
