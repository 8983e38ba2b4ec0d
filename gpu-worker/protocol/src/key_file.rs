//! The key that processes of one user on one machine share without being told: what `gpu-worker
//! serve` and `flight-server --workers` use on loopback when neither names a key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rand::TryRng;
use rand::rngs::SysRng;

use crate::Key;

/// Where the key of the user with these folders lies: below `data_home` (`XDG_DATA_HOME`), else
/// below `.local/share` of `home` (XDG base directory specification).
pub fn user_key_file(data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let base = data_home.or_else(|| Some(home?.join(".local/share")))?;
    Some(base.join("hubflight/worker.key"))
}

impl Key {
    /// Reads the key in `path`; where there is none, makes a random one. Processes that start
    /// together end with the same key.
    ///
    /// # Errors
    ///
    /// Those of the file system, `InvalidData` for anything but 64 hexadecimal digits, and
    /// `PermissionDenied` for a file that others than its owner may read.
    pub fn read_or_make(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            let mut fresh = [0; 32];
            SysRng
                .try_fill_bytes(&mut fresh)
                .map_err(io::Error::other)?;
            keep(path, &Self::new(fresh))?;
        }
        let mode = fs::metadata(path)?.mode();
        if mode & 0o077 != 0 {
            let told = format!("others may read it (mode {:o}); chmod 600 it", mode & 0o777);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, told));
        }
        Self::from_hex(&fs::read_to_string(path)?)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// Puts the key in place in one step, unless another process was first.
fn keep(path: &Path, key: &Key) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let partial = folder.join(format!("worker.key.{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| {
            file.write_all(key.to_hex().as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&partial, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    // What was written has its name now, or is of no use.
    let _ = fs::remove_file(&partial);
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_key_stays_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/b/worker.key");
        let first = Key::read_or_make(&path).expect("made");
        assert_ne!(first, Key::new([0; 32]));
        assert_eq!(Key::read_or_make(&path).expect("read"), first);
        assert_eq!(
            fs::metadata(&path).expect("there").permissions().mode() & 0o777,
            0o600
        );
        let files = fs::read_dir(path.parent().expect("a folder")).expect("listed");
        assert_eq!(files.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("worker.key");
        Key::read_or_make(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changed");
        let error = Key::read_or_make(&path).expect_err("must fail");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        fs::write(&path, "short").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        let error = Key::read_or_make(&path).expect_err("must fail");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
