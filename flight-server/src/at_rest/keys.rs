//! The keys of projects' spaces.

use hkdf::Hkdf;
use hubflight_store::{Secrets, SpaceKey, Store};
use hubflight_tickets::random;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::cipher::ChunkCipher;
use super::layout::{Header, SALT_BYTES};
use super::writer::SealedWriter;
use crate::error::{Error, Result};

/// Where the keys come from: the hub's master secret and the store.
#[derive(Clone, Debug)]
pub struct SpaceKeys {
    store: Store,
    secrets: Secrets,
}

/// A key of one project's space. Never printed.
#[derive(Clone)]
pub struct ProjectKey {
    id: u32,
    key: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for ProjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProjectKey({}, [redacted])", self.id)
    }
}

impl SpaceKeys {
    pub fn new(store: Store, secrets: Secrets) -> Self {
        Self { store, secrets }
    }

    /// The key that a project's new files take.
    pub async fn newest(&self, project: &str) -> Result<ProjectKey> {
        let key = self.store.newest_space_key(project).await?;
        self.derived(project, &key)?
            .ok_or_else(|| Error::internal("a new key of a space has no salt", &project))
    }

    /// A project's key of that number; `None` where it never had one.
    ///
    /// # Errors
    /// `PermissionDenied` where the key was dropped.
    pub async fn key(&self, project: &str, id: u32) -> Result<Option<ProjectKey>> {
        let Some(key) = self.store.space_key(project, id).await? else {
            return Ok(None);
        };
        let derived = self.derived(project, &key)?.ok_or_else(|| {
            Error::denied(format!(
                "the key that this table of project `{project}` was encrypted with was dropped, \
                 so that nobody can read its rows again; drop the table"
            ))
        });
        derived.map(Some)
    }

    /// `None` where the key was dropped.
    fn derived(&self, project: &str, key: &SpaceKey) -> Result<Option<ProjectKey>> {
        let (id, Some(salt)) = (key.id, &key.salt) else {
            return Ok(None);
        };
        let master = self
            .secrets
            .derive(&format!("space key {id} of {project}"))?;
        let key = derive(salt, &master, "hubflight space key 1");
        Ok(Some(ProjectKey { id, key }))
    }
}

impl ProjectKey {
    #[cfg(test)]
    pub fn of_tests() -> Self {
        Self {
            id: 1,
            key: Zeroizing::new([7; 32]),
        }
    }

    /// Its number, from 1 in each project.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A key for something else of the project, which ends with this one.
    pub fn key_of(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        derive(&[0; SALT_BYTES], &self.key, purpose)
    }

    /// Begins a file of the space that will have that name.
    pub fn begin<W: std::io::Write>(&self, name: &str, file: W) -> Result<SealedWriter<W>> {
        let header = Header {
            key_id: self.id,
            salt: random()?,
        };
        let cipher = self.cipher(name, &header);
        SealedWriter::begin(file, &header.bytes(), cipher).map_err(|error| Error::of_disk(&error))
    }

    /// What opens a file of that name and header.
    pub(super) fn cipher(&self, name: &str, header: &Header) -> ChunkCipher {
        let key = derive(
            &header.salt,
            &self.key,
            &format!("hubflight space file 1 {name}"),
        );
        ChunkCipher::new(&key, &header.bytes())
    }
}

/// HKDF-SHA256 (RFC 5869).
fn derive(salt: &[u8; SALT_BYTES], from: &[u8; 32], info: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), from)
        .expand(info.as_bytes(), &mut key[..])
        .expect("32 bytes are one of the 255 blocks that HKDF can give");
    key
}
