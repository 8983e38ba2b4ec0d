//! Writing the rows of a table to immutable Parquet files, sealed with the project's key.
//!
//! A file has a temporary name until it is complete and on disk, and belongs to nobody until
//! a commit names it: [`Written`] removes what was not committed, whatever happened.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, IntervalUnit, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::StreamExt;
use hubflight_store::SpaceFile;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::measure::ColumnBytes;
use super::writes::Share;
use crate::at_rest::{ProjectKey, SealedWriter};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::wire::conform;

/// A file is closed at this size, so that a change of some rows copies few others.
const FILE_BYTES_TARGET: usize = 128 << 20;
/// A row group is written at this many rows or bytes, so that memory stays bounded and a scan
/// can skip.
const GROUP_ROWS_MAX: usize = 128 * 1024;
const GROUP_BYTES_MAX: usize = 32 << 20;
/// How often the limit of bytes is looked at inside a large batch.
const SLICE_ROWS: usize = 8192;

const EXTENSION: &str = ".parquet";
const TEMPORARY: &str = ".tmp";

/// What the names of folders begin with that are no project's identifier as it is.
const ENCODED: &str = "x.";

/// The folder of all projects' files.
pub fn root(state: &Path) -> Result<PathBuf> {
    std::path::absolute(state.join("spaces"))
        .map_err(|error| Error::internal("the folder of spaces has no path", &error))
}

/// The folder of a project's files.
pub fn folder(hub: &Hub, project: &str) -> Result<PathBuf> {
    Ok(root(&hub.config.server.state)?.join(folder_name(project)))
}

/// A project's identifier as one component of a path: as it is where that is safe.
pub fn folder_name(project: &str) -> String {
    if is_safe(project) {
        project.to_owned()
    } else {
        format!(
            "{ENCODED}{}",
            data_encoding::HEXLOWER.encode(project.as_bytes())
        )
    }
}

fn is_safe(project: &str) -> bool {
    let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    !project.is_empty() && project.chars().all(safe)
}

/// The project whose folder has that name.
pub fn project_of(folder: &str) -> Option<String> {
    let project = match folder.strip_prefix(ENCODED) {
        Some(encoded) => {
            let bytes = data_encoding::HEXLOWER.decode(encoded.as_bytes()).ok()?;
            String::from_utf8(bytes).ok()?
        }
        None => folder.to_owned(),
    };
    (folder_name(&project) == folder).then_some(project)
}

/// Whether a file in a project's folder has a name that this module gives.
pub fn is_ours(name: &str) -> bool {
    name.strip_suffix(TEMPORARY)
        .unwrap_or(name)
        .strip_suffix(EXTENSION)
        .is_some_and(|stem| Uuid::try_parse(stem).is_ok())
}

/// Whether a table with these columns can be stored.
pub fn check_storable(schema: &Schema) -> Result<()> {
    for field in schema.fields() {
        let alone = Schema::new(vec![Arc::clone(field)]);
        if !is_storable(field.data_type()) || ArrowSchemaConverter::new().convert(&alone).is_err() {
            return Err(Error::invalid(format!(
                "column `{}` has type {}, which a table cannot hold; cast it to another type",
                field.name(),
                field.data_type()
            )));
        }
    }
    Ok(())
}

/// Parquet's schema has a place for these, but its writer does not.
fn is_storable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Interval(IntervalUnit::MonthDayNano) | DataType::Union(..) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => is_storable(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_storable(field.data_type())),
        _ => true,
    }
}

/// Files that are complete but not committed: removed when dropped, unless kept.
#[derive(Debug, Default)]
pub struct Written {
    folder: PathBuf,
    pub files: Vec<SpaceFile>,
    /// The number of the key that they are sealed with.
    key: Option<u32>,
    fate: Fate,
    share: Option<Arc<Share>>,
}

/// What becomes of files when nobody holds them any more.
#[derive(Debug, Default)]
enum Fate {
    #[default]
    Removed,
    Kept,
    /// Those of these names are kept.
    KeptOf(HashSet<String>),
}

impl Written {
    /// The key without which nobody reads the files, where there are any.
    pub fn key(&self) -> Option<u32> {
        self.key.filter(|_| !self.files.is_empty())
    }

    /// The manifest may name the files from now on: they stay.
    pub fn keep(&mut self) {
        self.fate = Fate::Kept;
    }

    /// The manifest may name those of these names from now on.
    pub fn keep_of(&mut self, names: &HashSet<String>) {
        let names = self.files.iter().filter(|file| names.contains(&file.file));
        self.fate = Fate::KeptOf(names.map(|file| file.file.clone()).collect());
    }

    /// The manifest does not name them, for certain.
    pub fn release(&mut self) {
        self.fate = Fate::Removed;
    }

    fn is_kept(&self, file: &SpaceFile) -> bool {
        match &self.fate {
            Fate::Removed => false,
            Fate::Kept => true,
            Fate::KeptOf(names) => names.contains(&file.file),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let (kept, removed): (Vec<_>, Vec<_>) =
            self.files.iter().partition(|file| self.is_kept(file));
        if let (Some(share), false) = (&self.share, kept.is_empty()) {
            share.committed();
        }
        for file in removed {
            discard(&self.folder.join(&file.file));
        }
    }
}

fn discard(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "an unused file stays until it is swept");
    }
}

/// Where and within which bounds a statement writes.
#[derive(Clone, Debug)]
pub struct Target {
    pub folder: PathBuf,
    /// For errors.
    pub table: String,
    pub schema: SchemaRef,
    /// What the quota leaves.
    pub bytes_max: u64,
    /// What this statement takes of that, beside the others of its project.
    pub share: Arc<Share>,
    pub key: ProjectKey,
}

/// Rows of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: u64,
    /// Rows whose flag is true, where the stream has a flag.
    pub flagged: u64,
}

/// Writes batches to files, one after the other.
pub struct SpaceWriter {
    target: Target,
    memory: MemoryReservation,
    open: Option<OpenFile>,
    written: Written,
    bytes: u64,
}

/// A file that is being written; removed when dropped.
struct OpenFile {
    writer: Option<ArrowWriter<SealedWriter<File>>>,
    path: PathBuf,
    name: String,
    rows: u64,
    column_bytes: ColumnBytes,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            discard(&self.path);
        }
    }
}

impl SpaceWriter {
    pub fn new(target: Target, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        std::fs::create_dir_all(&target.folder).map_err(|error| Error::of_disk(&error))?;
        let written = Written {
            key: Some(target.key.id()),
            folder: target.folder.clone(),
            files: Vec::new(),
            fate: Fate::Removed,
            share: Some(Arc::clone(&target.share)),
        };
        Ok(Self {
            memory: MemoryConsumer::new("space files").register(pool),
            target,
            open: None,
            written,
            bytes: 0,
        })
    }

    /// Writes a stream. If `flagged`, its last column is no data but says of each row whether
    /// it counts.
    pub async fn write(
        &mut self,
        mut batches: SendableRecordBatchStream,
        flagged: bool,
    ) -> Result<Counts> {
        let mut counts = Counts::default();
        while let Some(batch) = batches.next().await {
            let mut batch = batch?;
            if flagged {
                let (data, flags) = split_flag(&batch)?;
                counts.flagged += flags.true_count() as u64;
                batch = data;
            }
            counts.rows += batch.num_rows() as u64;
            self.append_all(&batch)?;
        }
        Ok(counts)
    }

    /// Writes rows, however many they are.
    pub fn append_all(&mut self, batch: &RecordBatch) -> Result<()> {
        for offset in (0..batch.num_rows()).step_by(SLICE_ROWS) {
            let length = SLICE_ROWS.min(batch.num_rows() - offset);
            self.append(&batch.slice(offset, length))?;
        }
        Ok(())
    }

    fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        check_nulls(batch, &self.target)?;
        let batch = conform(batch, &self.target.schema)?;
        if self.open.is_none() {
            self.open = Some(OpenFile::create(&self.target)?);
        }
        let open = self.open.as_mut().ok_or_else(closed)?;
        let writer = open.writer.as_mut().ok_or_else(closed)?;
        writer.write(&batch).map_err(unwritten)?;
        open.rows += batch.num_rows() as u64;
        open.column_bytes.add(&batch);
        self.memory.try_resize(writer.memory_size())?;
        let bytes = writer.bytes_written() + writer.in_progress_size();
        self.check_quota(bytes as u64)?;
        if bytes >= FILE_BYTES_TARGET {
            self.close()?;
        }
        Ok(())
    }

    /// Stops a statement that cannot be committed before it fills the disk.
    fn check_quota(&self, open: u64) -> Result<()> {
        let target = &self.target;
        let held = target.share.hold(self.bytes + open, target.bytes_max);
        held.map_err(|left| {
            Error::exhausted(format!(
                "`space.{}` does not fit: the project's quota leaves {left} bytes for it, beside \
                 what other statements write now; store fewer rows or columns, drop tables, wait \
                 until files that were replaced lately are removed, or ask an administrator for a \
                 larger quota",
                target.table
            ))
        })
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let file = open.finish(&self.target)?;
        self.bytes += u64::try_from(file.bytes).unwrap_or(0);
        self.written.files.push(file);
        self.memory.free();
        self.check_quota(0)
    }

    /// Completes the files; they are on disk when this returns.
    pub fn finish(mut self) -> Result<Written> {
        self.close()?;
        if !self.written.files.is_empty() {
            File::open(&self.target.folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| Error::of_disk(&error))?;
        }
        Ok(std::mem::take(&mut self.written))
    }
}

impl OpenFile {
    fn create(target: &Target) -> Result<Self> {
        let name = format!("{}{EXTENSION}", Uuid::now_v7());
        let path = target.folder.join(format!("{name}{TEMPORARY}"));
        let file = File::create_new(&path).map_err(|error| Error::of_disk(&error))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS_MAX))
            .set_max_row_group_bytes(Some(GROUP_BYTES_MAX))
            .build();
        let schema = Arc::clone(&target.schema);
        let mut open = Self {
            writer: None,
            path,
            name,
            rows: 0,
            column_bytes: ColumnBytes::default(),
        };
        let writer = target.key.begin(&open.name, file).and_then(|sealed| {
            ArrowWriter::try_new(sealed, schema, Some(properties)).map_err(unwritten)
        });
        match writer {
            Ok(writer) => open.writer = Some(writer),
            Err(error) => {
                discard(&open.path);
                return Err(error);
            }
        }
        Ok(open)
    }

    fn finish(mut self, target: &Target) -> Result<SpaceFile> {
        let column_bytes = self.column_bytes.text(&target.schema)?;
        let folder = &target.folder;
        let writer = self.writer.take().ok_or_else(closed)?;
        let completed = writer.into_inner().map_err(unwritten).and_then(|sealed| {
            let file = sealed.finish();
            file.and_then(|file| {
                file.sync_all()?;
                std::fs::rename(&self.path, folder.join(&self.name))?;
                file.metadata()
            })
            .map_err(|error| Error::of_disk(&error))
        });
        match completed {
            Ok(metadata) => Ok(SpaceFile {
                file: self.name.clone(),
                rows: i64::try_from(self.rows).unwrap_or(i64::MAX),
                bytes: i64::try_from(metadata.len()).unwrap_or(i64::MAX),
                column_bytes: column_bytes.into(),
            }),
            Err(error) => {
                discard(&self.path);
                discard(&folder.join(&self.name));
                Err(error)
            }
        }
    }
}

fn closed() -> Error {
    Error::internal("a file of a space is closed already", &"writer")
}

fn unwritten(error: ParquetError) -> Error {
    if let ParquetError::External(cause) = &error
        && let Some(cause) = cause.downcast_ref()
    {
        return Error::of_disk(cause);
    }
    Error::internal("a file of a space cannot be written", &error)
}

/// The columns but the last, and the last as flags; a NULL flag is false.
fn split_flag(batch: &RecordBatch) -> Result<(RecordBatch, BooleanArray)> {
    let columns = batch.num_columns().saturating_sub(1);
    let flags = batch
        .columns()
        .get(columns)
        .and_then(|column| column.as_boolean_opt())
        .ok_or_else(|| Error::internal("a rewritten table has no flag", &"rewrite"))?
        .clone();
    let indices: Vec<usize> = (0..columns).collect();
    Ok((batch.project(&indices)?, flags))
}

fn check_nulls(batch: &RecordBatch, target: &Target) -> Result<()> {
    let broken = batch
        .columns()
        .iter()
        .zip(target.schema.fields())
        .find(|(column, field)| !field.is_nullable() && column.logical_null_count() > 0);
    match broken {
        Some((_, field)) => Err(Error::invalid(format!(
            "column `{}` of `space.{}` is NOT NULL and would hold NULL; give a value, or leave \
             those rows out",
            field.name(),
            target.table
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::writes::Writes;
    use super::*;
    use crate::error::ErrorKind;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::Field;
    use datafusion::execution::memory_pool::UnboundedMemoryPool;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("a", DataType::Int64, false),
            Field::new("b", DataType::Utf8, true),
        ]))
    }

    fn stream(columns: Vec<ArrayRef>) -> SendableRecordBatchStream {
        let names = ["a", "b", "flag"];
        let batch = RecordBatch::try_from_iter_with_nullable(
            names
                .into_iter()
                .zip(columns)
                .map(|(name, column)| (name, column, true)),
        )
        .expect("valid");
        let schema = batch.schema();
        Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::iter([Ok(batch)]),
        ))
    }

    fn writer(folder: &Path, bytes_max: u64) -> SpaceWriter {
        let target = Target {
            folder: folder.to_owned(),
            table: "t".into(),
            schema: schema(),
            bytes_max,
            share: Arc::new(Arc::new(Writes::default()).share("p")),
            key: ProjectKey::of_tests(),
        };
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        SpaceWriter::new(target, &pool).expect("makes the folder")
    }

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder)
            .expect("lists")
            .map(|entry| {
                entry
                    .expect("entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    fn rows(n: i64) -> Vec<ArrayRef> {
        vec![
            Arc::new(Int64Array::from_iter_values(0..n)),
            Arc::new(StringArray::from_iter_values(
                (0..n).map(|i| format!("{:x}", i * 7919)),
            )),
        ]
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_removed_unless_kept() {
        let folder = tempfile::tempdir().expect("folder");
        let mut writer = writer(folder.path(), u64::MAX);
        let counts = writer
            .write(stream(rows(20_000)), false)
            .await
            .expect("writes");
        assert_eq!(
            counts,
            Counts {
                rows: 20_000,
                flagged: 0
            }
        );
        let mut flagged = rows(3);
        flagged.push(Arc::new(BooleanArray::from(vec![
            Some(true),
            None,
            Some(false),
        ])));
        let counts = writer.write(stream(flagged), true).await.expect("writes");
        assert_eq!(
            counts,
            Counts {
                rows: 3,
                flagged: 1
            }
        );
        let written = writer.finish().expect("finishes");
        assert_eq!(written.files.len(), 1);
        let file = &written.files[0];
        assert_eq!(file.rows, 20_003);
        let size = |column: &str| {
            let columns = std::collections::BTreeSet::from([column.to_owned()]);
            super::super::measure::bytes_of(&file.column_bytes, &columns)
        };
        assert_eq!(size("a"), 20_003 * 8);
        let digits = (0..20_000_i64)
            .chain(0..3)
            .map(|i| format!("{:x}", i * 7919).len() as u64);
        assert_eq!(size("b"), digits.sum::<u64>());
        assert!(is_ours(&file.file) && names(folder.path()) == [file.file.clone()]);
        let opened = File::open(folder.path().join(&file.file)).expect("opens");
        assert_eq!(opened.metadata().expect("size").len(), file.bytes as u64);
        assert!(
            ParquetRecordBatchReaderBuilder::try_new(opened).is_err(),
            "sealed"
        );
        drop(written);
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_failed_or_dropped_statement_leaves_nothing() {
        let folder = tempfile::tempdir().expect("folder");
        let mut full = writer(folder.path(), 10_000);
        let error = full
            .write(stream(rows(200_000)), false)
            .await
            .expect_err("too large");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        drop(full);
        let mut nulls = writer(folder.path(), u64::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(1), None])),
            Arc::new(StringArray::from(vec![None::<&str>, None])),
        ];
        let error = nulls.write(stream(columns), false).await.expect_err("NULL");
        assert!(error.to_string().contains("`a` of `space.t`"), "{error}");
        drop(nulls);
        let mut dropped = writer(folder.path(), u64::MAX);
        dropped
            .write(stream(rows(10)), false)
            .await
            .expect("writes");
        assert_eq!(names(folder.path()).len(), 1);
        drop(dropped);
        assert!(names(folder.path()).is_empty());
    }

    #[tokio::test]
    async fn a_value_that_does_not_fit_is_an_error() {
        let folder = tempfile::tempdir().expect("folder");
        let mut writer = writer(folder.path(), u64::MAX);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["1", "x"])),
            Arc::new(StringArray::from(vec!["a", "b"])),
        ];
        let error = writer
            .write(stream(columns), false)
            .await
            .expect_err("no number");
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }

    #[test]
    fn a_full_disk_is_the_hubs_fault() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = unwritten(ParquetError::External(Box::new(full())));
        assert!(error.kind.is_hubs_fault(), "{error}");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert_eq!(Error::of_disk(&full()).kind, ErrorKind::Unavailable);
    }

    #[test]
    fn folders_stay_inside() {
        assert_eq!(folder_name("ecg_ai"), "ecg_ai");
        for wild in ["..", ".", "", "a/b", "../x", "É", "A", "x.61"] {
            let name = folder_name(wild);
            assert!(name.starts_with("x.") && !name.contains('/'), "{name}");
            assert_eq!(project_of(&name).as_deref(), Some(wild));
        }
        assert_eq!(project_of("ecg_ai").as_deref(), Some("ecg_ai"));
        // One project has one folder.
        for folder in [
            "x.6563675f6169",
            "x.zz",
            "x.C3",
            "x.ff",
            "..",
            "",
            "A",
            "a.b",
        ] {
            assert_eq!(project_of(folder), None, "{folder}");
        }
        assert!(is_ours(&format!("{}.parquet.tmp", Uuid::now_v7())));
        assert!(!is_ours("notes.parquet") && !is_ours("x.tmp"));
    }

    #[test]
    fn types_that_no_file_holds_are_refused() {
        check_storable(&schema()).expect("plain types");
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let wild = Schema::new(vec![Field::new("i", interval, true)]);
        let error = check_storable(&wild).expect_err("no interval");
        assert!(error.to_string().contains("`i`"), "{error}");
    }
}
