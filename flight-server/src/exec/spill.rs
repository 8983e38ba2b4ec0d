//! A folder of this process's own for what queries spill: sealed with keys that end with the
//! process, so that nobody can use what outlives it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Locked while the process that owns the folder lives.
const LOCK: &str = "lock";
/// Locked while a process looks for what others left, and makes a folder of its own.
const TURN: &str = "turn";

/// Removed when dropped; after a crash, by the next process that starts on the same state.
#[derive(Debug)]
pub struct SpillFolder {
    path: PathBuf,
    _lock: File,
}

impl SpillFolder {
    /// A new folder in `base`, and none there that a dead process left.
    pub fn open(base: &Path) -> io::Result<Self> {
        fs::create_dir_all(base)?;
        // One process after another: none takes a folder that is being made for one that was left.
        let turn = File::create(base.join(TURN))?;
        turn.lock()?;
        for entry in fs::read_dir(base)? {
            let path = entry?.path();
            let is_left = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
            if is_left {
                fs::remove_dir_all(&path)?;
            }
        }
        let path = base.join(Uuid::now_v7().to_string());
        fs::create_dir(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    /// Where spilled files go.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "spilled files are left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_lives_stays() {
        let base = tempfile::tempdir().expect("a folder");
        let dead = base.path().join("dead");
        fs::create_dir(&dead).expect("made");
        fs::write(dead.join(LOCK), "").expect("written");
        fs::write(dead.join("values"), "of patients").expect("written");
        let first = SpillFolder::open(base.path()).expect("opens");
        assert!(!dead.exists());
        let second = SpillFolder::open(base.path()).expect("opens");
        assert!(first.path().exists() && second.path().exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().exists());
    }
}
