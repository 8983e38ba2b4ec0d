//! From column declarations to Parquet files and `dataset.json`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use hubflight_rights::dataset::{Column, Dataset, ForeignKey, Format, PersonPath, Table};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

pub const PRODUCER: &str = "Hubflight (données synthétiques)";

/// A column as declared: its type in the files and its documentation.
#[derive(Clone)]
pub struct Col {
    pub name: &'static str,
    pub kind: DataType,
    pub remarks: &'static str,
    pub unit: Option<&'static str>,
    pub identifier: Option<&'static str>,
    pub nullable: bool,
}

impl Col {
    pub fn new(name: &'static str, kind: DataType, remarks: &'static str) -> Self {
        Self {
            name,
            kind,
            remarks,
            unit: None,
            identifier: None,
            nullable: false,
        }
    }

    /// An identifier: a dense number in the files, a pseudonym outside.
    pub fn id(name: &'static str, domain: &'static str, remarks: &'static str) -> Self {
        Self {
            identifier: Some(domain),
            ..Self::new(name, DataType::Int64, remarks)
        }
    }

    pub fn text(name: &'static str, remarks: &'static str) -> Self {
        Self::new(name, DataType::Utf8, remarks)
    }

    pub fn int(name: &'static str, remarks: &'static str) -> Self {
        Self::new(name, DataType::Int32, remarks)
    }

    pub fn date(name: &'static str, remarks: &'static str) -> Self {
        Self::new(name, DataType::Date32, remarks)
    }

    pub fn euros(name: &'static str, remarks: &'static str) -> Self {
        Self::new(name, DataType::Decimal128(12, 2), remarks).unit("EUR")
    }

    pub fn unit(self, unit: &'static str) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    pub fn nullable(self) -> Self {
        Self {
            nullable: true,
            ..self
        }
    }
}

/// A table as declared.
#[derive(Clone)]
pub struct Declaration {
    pub name: &'static str,
    pub remarks: &'static str,
    pub person: PersonPath,
    pub primary_key: &'static [&'static str],
    /// Own columns, parent table, parent's columns.
    pub foreign_keys: &'static [(
        &'static [&'static str],
        &'static str,
        &'static [&'static str],
    )],
    pub columns: Vec<Col>,
    /// Columns that order the rows of a file.
    pub sorted_by: &'static [&'static str],
    /// Rows of a row group at most.
    pub group_rows: usize,
}

impl Declaration {
    pub fn schema(&self) -> SchemaRef {
        let fields = self
            .columns
            .iter()
            .map(|column| Field::new(column.name, column.kind.clone(), column.nullable));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn table(&self) -> Table {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Table {
            name: self.name.to_owned(),
            remarks: self.remarks.to_owned(),
            location: self.name.to_owned(),
            format: Format::Parquet,
            person: self.person.clone(),
            primary_key: owned(self.primary_key),
            foreign_keys: self
                .foreign_keys
                .iter()
                .map(|(columns, parent, parent_columns)| ForeignKey {
                    columns: owned(columns),
                    parent: (*parent).to_owned(),
                    parent_columns: owned(parent_columns),
                })
                .collect(),
            columns: self.columns.iter().map(described).collect(),
        }
    }
}

fn described(column: &Col) -> Column {
    Column {
        name: column.name.to_owned(),
        remarks: column.remarks.to_owned(),
        unit: column.unit.map(str::to_owned),
        not_null: !column.nullable,
        identifier: column.identifier.map(str::to_owned),
    }
}

/// The person's column, as nearly every table declares it.
pub fn by_person() -> PersonPath {
    PersonPath::Column("ben_idt".to_owned())
}

/// Writes `dataset.json`.
pub fn describe(dir: &Path, name: &str, title: &str, tables: &[Declaration]) -> Result<()> {
    let dataset = Dataset {
        name: name.to_owned(),
        title: title.to_owned(),
        producer: PRODUCER.to_owned(),
        version: crate::DATA_VERSION,
        synthetic: true,
        persons_min: hubflight_rights::dataset::PERSONS_MIN_DEFAULT,
        tables: tables.iter().map(Declaration::table).collect(),
    };
    let path = dir.join("dataset.json");
    let text = serde_json::to_vec_pretty(&dataset).context("describing a dataset")?;
    std::fs::write(&path, text).with_context(|| unwritable(&path))
}

/// Writes one part of a table, `dir/<table>/part-<number>.parquet`; returns its size in bytes.
pub fn write_part(
    dir: &Path,
    table: &Declaration,
    part: usize,
    batches: impl IntoIterator<Item = Result<RecordBatch>>,
) -> Result<u64> {
    let folder = dir.join(table.name);
    std::fs::create_dir_all(&folder).with_context(|| unwritable(&folder))?;
    let path = folder.join(format!("part-{part}.parquet"));
    write_file(&path, table, batches)
}

/// Writes one Parquet file; returns its size in bytes.
pub fn write_file(
    path: &Path,
    table: &Declaration,
    batches: impl IntoIterator<Item = Result<RecordBatch>>,
) -> Result<u64> {
    let file = File::create(path).with_context(|| unwritable(path))?;
    let properties = properties(table)?;
    let mut writer = ArrowWriter::try_new(file, table.schema(), Some(properties))
        .with_context(|| unwritable(path))?;
    for batch in batches {
        writer.write(&batch?).with_context(|| unwritable(path))?;
    }
    writer.finish().with_context(|| unwritable(path))?;
    Ok(writer.bytes_written() as u64)
}

/// One batch of a declared table.
pub fn batch(table: &Declaration, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(table.schema(), columns).with_context(|| format!("table `{}`", table.name))
}

pub fn unwritable(path: &Path) -> String {
    format!(
        "cannot write `{}`: check that the disk has room and that the folder may be written",
        path.display()
    )
}

/// Rows of a page at most: the unit that the page index lets a query skip.
const PAGE_ROWS: usize = 8192;

fn properties(table: &Declaration) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(1).context("compression level")?;
    let sorting = table
        .sorted_by
        .iter()
        .filter_map(|name| table.columns.iter().position(|column| column.name == *name))
        .map(|column| SortingColumn {
            column_idx: column as i32,
            descending: false,
            nulls_first: false,
        })
        .collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(table.group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS.min(table.group_rows))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting));
    for column in &table.columns {
        let path = ColumnPath::from(column.name);
        // Identifiers and large values do not repeat: a dictionary would only cost time, and
        // their bounds would help no query.
        properties = match &column.kind {
            DataType::Binary => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_statistics_enabled(path, EnabledStatistics::None),
            DataType::Int64 => properties.set_column_dictionary_enabled(path, false),
            _ => properties,
        };
    }
    if table.columns.iter().any(|column| column.name == "signal") {
        // Floats compress better with their bytes of like weight side by side.
        let samples = ColumnPath::from(vec![
            "signal".to_owned(),
            "list".to_owned(),
            "item".to_owned(),
            "list".to_owned(),
            "item".to_owned(),
        ]);
        properties = properties
            .set_column_dictionary_enabled(samples.clone(), false)
            .set_column_statistics_enabled(samples.clone(), EnabledStatistics::None)
            .set_column_encoding(samples, Encoding::BYTE_STREAM_SPLIT);
    }
    if table.columns.iter().any(|column| column.name == "text") {
        let text = ColumnPath::from("text");
        properties = properties
            .set_column_dictionary_enabled(text.clone(), false)
            .set_column_statistics_enabled(text, EnabledStatistics::None);
    }
    Ok(properties.build())
}
