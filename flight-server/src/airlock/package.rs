//! A package at rest: Parquet, sealed under a key of its own, in a file apart from the project's
//! space.
//!
//! The key is derived from a key of the project's space and the package's identifier, so that one
//! package cannot be put in another's place, nobody reads it who has the files alone, and what
//! ends the space ends its packages too, wherever they were copied. The store knows the digest of
//! what was sealed.
//!
//! ```text
//!  "hubpack1" │ key id │ sealed package
//!       8         4
//! ```

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use hubflight_store::NewExport;
use hubflight_tickets::Sealer;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::at_rest::ProjectKey;
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;

const PURPOSE: &[u8] = b"hubflight airlock 2";
const MAGIC: &[u8; 8] = b"hubpack1";
const FILE: &str = "package";
/// A file that no package of the store owns may be one that is written just now.
const UNKNOWN_SECONDS_MAX: u64 = 3600;

/// The folder of all packages.
pub fn folder(state: &Path) -> PathBuf {
    state.join("airlock")
}

/// The folder of one. Identifiers are UUIDs of ours, never a name that somebody chose.
fn folder_of(hub: &Hub, id: Uuid) -> PathBuf {
    folder(&hub.config.server.state).join(id.to_string())
}

fn sealer(key: &ProjectKey, id: Uuid) -> Sealer {
    Sealer::new(&key.key_of(&format!("hubflight airlock 2 {id}")), PURPOSE)
}

/// The rows as Parquet; their types are storable.
pub fn encode(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>> {
    let unwritten = |error: ParquetError| Error::internal("a package cannot be written", &error);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, Arc::clone(schema), Some(properties))
        .map_err(unwritten)?;
    for batch in batches {
        writer.write(batch).map_err(unwritten)?;
    }
    writer.close().map_err(unwritten)?;
    Ok(bytes)
}

pub fn digest(package: &[u8]) -> [u8; 32] {
    Sha256::digest(package).into()
}

/// A package on disk that no row of the store owns yet: removed when dropped, unless kept.
#[derive(Debug)]
pub struct Placed {
    folder: PathBuf,
    kept: bool,
}

impl Placed {
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if !self.kept {
            remove(&self.folder);
        }
    }
}

/// Seals a package into its file; it is on disk when this returns.
///
/// # Errors
/// `Unavailable` where it cannot be written.
pub fn place(hub: &Hub, key: &ProjectKey, id: Uuid, package: &[u8]) -> Result<Placed> {
    let sealed = sealer(key, id).seal(package)?;
    let sealed = [&MAGIC[..], &key.id().to_le_bytes(), &sealed].concat();
    let placed = Placed {
        folder: folder_of(hub, id),
        kept: false,
    };
    write(&placed.folder, &sealed).map_err(|error| {
        tracing::error!(%error, "a package cannot be written");
        Error::new(
            ErrorKind::Unavailable,
            "the package cannot be kept at present, which is not charged; try again later, or \
             tell an administrator",
        )
    })?;
    Ok(placed)
}

fn write(folder: &Path, sealed: &[u8]) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(folder.join(FILE))?;
    file.write_all(sealed)?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    match folder.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The rows of a package, if they are what was sealed for it.
///
/// # Errors
/// `Unavailable` where the file is gone, or another; `PermissionDenied` where the project's keys
/// were dropped.
pub async fn open(hub: &Hub, export: &NewExport) -> Result<Vec<RecordBatch>> {
    let damaged = |why: &str| damaged(export, why);
    let id = Uuid::parse_str(&export.id).map_err(|_| damaged("its identifier is none"))?;
    let sealed = tokio::fs::read(folder_of(hub, id).join(FILE)).await;
    let sealed = Bytes::from(sealed.map_err(|error| damaged(&error.to_string()))?);
    let key_id = sealed
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.first_chunk());
    let key_id = key_id.ok_or_else(|| damaged("it is no package"))?;
    let keys = hub.space_files.keys();
    let key = keys
        .key(&export.project, u32::from_le_bytes(*key_id))
        .await?;
    let key = key.ok_or_else(|| damaged("its project never had its key"))?;
    let sealed = sealed.slice(MAGIC.len() + key_id.len()..);
    let export = export.clone();
    let opened = tokio::task::spawn_blocking(move || unsealed(&key, id, &export, &sealed)).await;
    opened.map_err(|lost| Error::internal("a package was lost", &lost))?
}

fn unsealed(
    key: &ProjectKey,
    id: Uuid,
    export: &NewExport,
    sealed: &[u8],
) -> Result<Vec<RecordBatch>> {
    let damaged = |why: &str| damaged(export, why);
    let package = sealer(key, id).open(sealed);
    let package = package.ok_or_else(|| damaged("it does not open"))?;
    if !bool::from(digest(&package)[..].ct_eq(&export.digest[..])) {
        return Err(damaged("its digest is another"));
    }
    let unreadable = |error: &dyn std::fmt::Display| damaged(&error.to_string());
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(package))
        .and_then(|builder| builder.build())
        .map_err(|error| unreadable(&error))?;
    reader
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| unreadable(&error))
}

fn damaged(export: &NewExport, why: &str) -> Error {
    tracing::error!(export = %export.id, why, "a package is not what was sealed");
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "the package of `exports.{}` is damaged and is not handed out; ask for it again, and \
             tell an administrator",
            export.name
        ),
    )
}

/// A folder where a package is, or was written.
pub struct Found {
    pub id: Uuid,
    path: PathBuf,
    modified: SystemTime,
}

/// The folders of packages that are on disk.
pub fn found(state: &Path) -> std::io::Result<Vec<Found>> {
    let entries = match std::fs::read_dir(folder(state)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(id) = Uuid::parse_str(&entry.file_name().to_string_lossy()) else {
            continue;
        };
        found.push(Found {
            id,
            modified: entry.metadata()?.modified()?,
            path: entry.path(),
        });
    }
    Ok(found)
}

impl Found {
    /// Too old to be one that is written just now.
    pub fn is_old(&self) -> bool {
        let age = SystemTime::now().duration_since(self.modified);
        age.is_ok_and(|age| age > Duration::from_secs(UNKNOWN_SECONDS_MAX))
    }

    pub fn remove(&self) {
        remove(&self.path);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %folder.display(), "a package stays until it is swept");
    }
}
