//! TPC-H as Parquet, from the `tpchgen` crate: one folder a table, made once. lineitem as Arrow too.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::ipc::writer::FileWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow,
    SupplierArrow,
};

/// Rows of a row group: a few dozen groups at scale 1, so that scans run in parallel.
const GROUP_ROWS: usize = 256 * 1024;

/// Writes the tables that are not there yet; a table is complete when its file has its name.
pub fn tpch(folder: &Path, scale: f64) -> Result<()> {
    ensure!(
        scale.is_finite() && (0.001..=1000.0).contains(&scale),
        "scale `{scale}` is out of range; write a number from 0.001 to 1000"
    );
    write(
        folder,
        "nation",
        NationArrow::new(NationGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "region",
        RegionArrow::new(RegionGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "supplier",
        SupplierArrow::new(SupplierGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "customer",
        CustomerArrow::new(CustomerGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "part",
        PartArrow::new(PartGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "partsupp",
        PartSuppArrow::new(PartSuppGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "orders",
        OrderArrow::new(OrderGenerator::new(scale, 1, 1)),
    )?;
    write(
        folder,
        "lineitem",
        LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)),
    )
}

/// Rows of a batch of Arrow files: whoever reads them is given batches as they lie there.
const BATCH_ROWS: usize = 8192;
/// Batches of an Arrow file: a table has many files, so that scans run in parallel.
const FILE_BATCHES: usize = 8;

/// Writes lineitem as Arrow files with plain texts, unless it is there.
pub fn arrow_lineitem(folder: &Path, scale: f64) -> Result<()> {
    let (done, partial) = (folder.join("lineitem"), folder.join("partial"));
    if done.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&partial)
        .with_context(|| format!("cannot make `{}`", partial.display()))?;
    let rows = LineItemArrow::new(LineItemGenerator::new(scale, 1, 1)).with_batch_size(BATCH_ROWS);
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Utf8View => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    let schema = Arc::new(Schema::new(
        rows.schema().fields().iter().map(plain).collect::<Fields>(),
    ));
    let mut batches = rows.peekable();
    for number in 0.. {
        if batches.peek().is_none() {
            break;
        }
        let file = File::create(partial.join(format!("part-{number:05}.arrow")))?;
        let mut writer = FileWriter::try_new(file, &schema)?;
        for batch in batches.by_ref().take(FILE_BATCHES) {
            let columns = batch?
                .columns()
                .iter()
                .zip(schema.fields())
                .map(|(column, field)| arrow::compute::cast(column, field.data_type()))
                .collect::<Result<Vec<_>, _>>()?;
            writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
        }
        writer.finish()?;
    }
    Ok(std::fs::rename(&partial, &done)?)
}

fn write(folder: &Path, table: &str, batches: impl RecordBatchReader) -> Result<()> {
    let folder = folder.join(table);
    let path = folder.join("part-0.parquet");
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make `{}`", folder.display()))?;
    let partial = folder.join("part-0.partial");
    let file =
        File::create(&partial).with_context(|| format!("cannot write `{}`", partial.display()))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(file, batches.schema(), Some(properties))?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.close()?;
    std::fs::rename(&partial, &path)?;
    Ok(())
}
