//! The hub's master secret: 32 random bytes in a file that only its owner reads.
//!
//! Every key of the hub (tickets, bearers, pseudonyms) is derived from it with HKDF-SHA256
//! (RFC 5869), one label per use. Losing it changes every pseudonym, so the store keeps a
//! check value and refuses another secret.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use chrono::Utc;
use data_encoding::HEXLOWER_PERMISSIVE;
use hkdf::Hkdf;
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::columns::{get, micros};
use crate::{Store, StoreError};

const SECRET_BYTES: usize = 32;
/// A secret file holds 64 hexadecimal digits and a line end; more is not read.
const FILE_BYTES_MAX: u64 = 128;
const CHECK_LABEL: &str = "hubflight master secret check";
const KEPT_CHECK: &str = "SELECT value FROM keys WHERE name = 'master check'";

/// The master secret. Cleared from memory when dropped, never printed.
#[derive(Clone)]
pub struct Secrets {
    master: Zeroizing<[u8; SECRET_BYTES]>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(***)")
    }
}

impl Secrets {
    pub fn new(master: [u8; SECRET_BYTES]) -> Self {
        Secrets {
            master: Zeroizing::new(master),
        }
    }

    /// Reads the secret file, or makes it (mode 0600) with a new random secret.
    ///
    /// # Errors
    /// [`StoreError::SecretFile`] when the file is malformed, cannot be made, or can be read
    /// by others.
    pub fn load_or_create(path: &Path) -> Result<Self, StoreError> {
        if let Some(secrets) = Self::load(path)? {
            return Ok(secrets);
        }
        match Self::create(path) {
            // Another process made it in between.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let file = File::open(path).map_err(|e| refusal(path, e))?;
                Self::read(path, file)
            }
            created => created.map_err(|e| refusal(path, e)),
        }
    }

    /// Reads the secret file, if there is one.
    fn load(path: &Path) -> Result<Option<Self>, StoreError> {
        match File::open(path) {
            Ok(file) => Self::read(path, file).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(refusal(path, error)),
        }
    }

    /// A key for one use, named by `label` (HKDF-SHA256 with the label as info).
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(None, &self.master[..])
            .expand(label.as_bytes(), &mut key)
            .expect("32 bytes are one of the 255 blocks that HKDF can give");
        key
    }

    fn read(path: &Path, file: File) -> Result<Self, StoreError> {
        check_private(path, &file)?;
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize));
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|e| refusal(path, e))?;
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.trim_ascii())
            .map(Zeroizing::new)
            .ok()
            .and_then(|bytes| <[u8; SECRET_BYTES]>::try_from(bytes.as_slice()).ok());
        bytes.map(Self::new).ok_or_else(|| {
            refusal(
                path,
                "it must hold 64 hexadecimal digits; restore it from a backup",
            )
        })
    }

    /// The file appears under its name only when it is whole and on disk.
    fn create(path: &Path) -> std::io::Result<Self> {
        let mut master = Zeroizing::new([0; SECRET_BYTES]);
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
        Ok(Secrets { master })
    }
}

impl Store {
    /// The secret of this store, from its file. Only a store that never had one gets a new
    /// file: another secret would change every pseudonym and open nothing that was sealed.
    ///
    /// # Errors
    /// [`StoreError::SecretFile`] as for [`Secrets::load_or_create`], and where the file is
    /// gone or belongs to another store.
    pub async fn secrets(&self, path: &Path) -> Result<Secrets, StoreError> {
        let secrets = match Secrets::load(path)? {
            Some(secrets) => secrets,
            None if self.secret_check().await?.is_none() => Secrets::load_or_create(path)?,
            None => {
                return Err(refusal(
                    path,
                    "it is missing, and this store was made with it; put it back from a backup",
                ));
            }
        };
        match self.check_secrets(&secrets).await {
            Err(error @ StoreError::WrongSecret) => Err(refusal(path, error)),
            checked => checked.map(|()| secrets),
        }
    }

    /// Refuses a master secret other than the one that the store was first used with.
    ///
    /// # Errors
    /// [`StoreError::WrongSecret`].
    pub async fn check_secrets(&self, secrets: &Secrets) -> Result<(), StoreError> {
        let check = secrets.derive(CHECK_LABEL);
        let kept = match self.secret_check().await? {
            Some(kept) => kept,
            None => self.keep_secret_check(&check).await?,
        };
        if bool::from(check[..].ct_eq(&kept)) {
            Ok(())
        } else {
            Err(StoreError::WrongSecret)
        }
    }

    async fn secret_check(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query(KEPT_CHECK).fetch_optional(self.pool()).await?;
        row.map(|row| get(&row, "value")).transpose()
    }

    /// Keeps the check of the first secret, and answers the one that is kept.
    async fn keep_secret_check(&self, check: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO keys (name, value, created_at) VALUES ('master check', $1, $2) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(check.to_vec())
        .bind(micros(Utc::now()))
        .execute(write.connection())
        .await?;
        let row = sqlx::query(KEPT_CHECK)
            .fetch_one(write.connection())
            .await?;
        write.commit().await?;
        get(&row, "value")
    }
}

#[cfg(unix)]
fn check_private(path: &Path, file: &File) -> Result<(), StoreError> {
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
fn check_private(_: &Path, _: &File) -> Result<(), StoreError> {
    Ok(())
}

fn refusal(path: &Path, reason: impl std::fmt::Display) -> StoreError {
    StoreError::SecretFile {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}
