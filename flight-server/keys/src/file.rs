//! The master secret in a file: 64 hexadecimal digits and a line end.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use data_encoding::HEXLOWER_PERMISSIVE;
use hkdf::Hkdf;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KEY_BYTES, Key, KeyError, KeyProvider};

/// More is not read.
const FILE_BYTES_MAX: u64 = 128;

/// The master secret. Cleared from memory when dropped, never printed.
pub(crate) struct Master(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for Master {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Master(***)")
    }
}

impl Master {
    pub fn new(master: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(master))
    }
}

impl KeyProvider for Master {
    fn derive(&self, label: &str) -> Result<Key, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        Hkdf::<Sha256>::new(None, &self.0[..])
            .expand(label.as_bytes(), &mut key[..])
            .expect("32 bytes are one of the 255 blocks that HKDF can give");
        Ok(key)
    }
}

pub(crate) fn load_or_create(path: &Path) -> Result<Master, KeyError> {
    if let Some(master) = load(path)? {
        return Ok(master);
    }
    match create(path) {
        // Another process made it in between.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let file = File::open(path).map_err(|e| refusal(path, e))?;
            read(path, file)
        }
        created => created.map_err(|e| refusal(path, e)),
    }
}

pub(crate) fn load(path: &Path) -> Result<Option<Master>, KeyError> {
    match File::open(path) {
        Ok(file) => read(path, file).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refusal(path, error)),
    }
}

fn read(path: &Path, file: File) -> Result<Master, KeyError> {
    check_private(path, &file)?;
    let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|e| refusal(path, e))?;
    let bytes = HEXLOWER_PERMISSIVE
        .decode(text.trim_ascii())
        .map(Zeroizing::new)
        .ok()
        .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok());
    bytes.map(Master::new).ok_or_else(|| {
        refusal(
            path,
            "it must hold 64 hexadecimal digits; restore it from a backup",
        )
    })
}

/// The file appears under its name only when it is whole and on disk.
fn create(path: &Path) -> std::io::Result<Master> {
    let mut master = Zeroizing::new([0; KEY_BYTES]);
    SysRng
        .try_fill_bytes(&mut master[..])
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let text = Zeroizing::new(format!("{}\n", HEXLOWER_PERMISSIVE.encode(&master[..])));
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = Path::new(&name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(temporary)?;
    let linked = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        // A link fails where the name exists; a rename would replace it.
        .and_then(|()| std::fs::hard_link(temporary, path));
    std::fs::remove_file(temporary)?;
    linked?;
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        File::open(folder)?.sync_all()?;
    }
    Ok(Master(master))
}

#[cfg(unix)]
fn check_private(path: &Path, file: &File) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file
        .metadata()
        .map_err(|e| refusal(path, e))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(refusal(path, "others may read it; run `chmod 600` on it"))
}

#[cfg(not(unix))]
fn check_private(_: &Path, _: &File) -> Result<(), KeyError> {
    Ok(())
}

fn refusal(path: &Path, reason: impl std::fmt::Display) -> KeyError {
    KeyError::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
