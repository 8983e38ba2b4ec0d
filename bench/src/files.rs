//! TPC-H as Parquet, from the `tpchgen` crate: one folder a table, made once.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatchReader;
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
