//! A folder of DICOM files as a table: one row a file, content read as rows are asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{BinaryBuilder, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::StreamExt;

/// A batch closes at this many bytes of content, so that a folder of large files streams.
const BATCH_BYTES_TARGET: u64 = 8 << 20;
const BATCH_ROWS_MAX: usize = 256;
/// A larger file is a row whose content is NULL.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Clone, Debug)]
struct File {
    path: PathBuf,
    name: String,
    bytes: u64,
}

/// The files of a folder and its subfolders as they are now, in order of their names:
/// `file` (relative path), `bytes`, `content`.
pub fn open(folder: &Path) -> Result<StreamingTable> {
    let mut files = Vec::new();
    list(folder, folder, &mut files).map_err(|error| {
        DataFusionError::Execution(format!(
            "cannot read the folder `{}`: {error}",
            folder.display()
        ))
    })?;
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let schema = Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("bytes", DataType::Int64, false),
        Field::new("content", DataType::Binary, true),
    ]));
    let partition = Files {
        schema: Arc::clone(&schema),
        files: files.into(),
    };
    StreamingTable::try_new(schema, vec![Arc::new(partition)])
}

/// Files under `folder`; links are not followed, so that a folder cannot reach outside.
fn list(root: &Path, folder: &Path, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let path = entry.path();
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if kind.is_file() {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            files.push(File {
                name: relative.to_string_lossy().into_owned(),
                bytes: entry.metadata()?.len(),
                path,
            });
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Files {
    schema: SchemaRef,
    files: Arc<[File]>,
}

impl PartitionStream for Files {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let files = Arc::clone(&self.files);
        let schema = Arc::clone(&self.schema);
        let batch_schema = Arc::clone(&schema);
        let stream = futures::stream::iter(slices(&files)).then(move |range| {
            let files = Arc::clone(&files);
            let schema = Arc::clone(&batch_schema);
            async move {
                tokio::task::spawn_blocking(move || read(&files[range], schema))
                    .await
                    .map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, stream))
    }
}

/// Cuts the files into batches of bounded rows and bytes.
fn slices(files: &[File]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, file) in files.iter().enumerate() {
        let full = bytes + file.bytes > BATCH_BYTES_TARGET || index - start >= BATCH_ROWS_MAX;
        if full && index > start {
            ranges.push(start..index);
            (start, bytes) = (index, 0);
        }
        bytes += file.bytes;
    }
    if start < files.len() {
        ranges.push(start..files.len());
    }
    ranges
}

/// A file that is gone, unreadable or too large has a NULL content, and its row stays.
fn read(files: &[File], schema: SchemaRef) -> Result<RecordBatch> {
    let mut names = StringBuilder::new();
    let mut sizes = Int64Builder::new();
    let mut contents = BinaryBuilder::new();
    for file in files {
        names.append_value(&file.name);
        sizes.append_value(i64::try_from(file.bytes).unwrap_or(i64::MAX));
        let content = (file.bytes <= FILE_BYTES_MAX).then(|| std::fs::read(&file.path));
        match content {
            Some(Ok(bytes)) => contents.append_value(bytes),
            _ => contents.append_null(),
        }
    }
    Ok(RecordBatch::try_new(
        schema,
        vec![
            Arc::new(names.finish()),
            Arc::new(sizes.finish()),
            Arc::new(contents.finish()),
        ],
    )?)
}
