//! Large results: how much of a scan's speed reaches a client.

use std::time::Instant;

use anyhow::Result;
use arrow::array::{Array, RecordBatch};
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use futures::TryStreamExt;
use hubflight_rights::habilitation::Tables;

use crate::report::Report;
use crate::server::{Case, login, start};
use crate::{Options, files};

const SQL: &str = "SELECT l_orderkey, l_partkey, l_quantity, l_extendedprice, l_shipdate, l_comment \
                   FROM lineitem";

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join(format!("tpch-{}", options.scale));
    files::tpch(&folder, options.scale)?;
    let context = SessionContext::new();
    let path = folder.join("lineitem").to_string_lossy().into_owned() + "/";
    context
        .register_parquet("lineitem", path, ParquetReadOptions::default())
        .await?;
    let case = Case {
        dataset: "tpch",
        folder: &folder,
        tables: Vec::new(),
        grants: Tables::All,
    };
    let server = start(&options.data.join("state-transport"), case).await?;
    let mut client = login(&server).await?;
    let mut report = Report::new(
        "transport",
        "megabytes of Arrow a second, best of the runs; the client and the server share the cores",
        vec!["path", "rows", "MB", "seconds", "MB/s"],
    );
    let (mut inside, mut over) = (f64::MAX, f64::MAX);
    let (mut rows, mut bytes) = (0, 0);
    for _ in 0..=options.runs {
        let started = Instant::now();
        let mut stream = context.sql(SQL).await?.execute_stream().await?;
        while let Some(batch) = stream.try_next().await? {
            std::hint::black_box(&batch);
        }
        inside = inside.min(started.elapsed().as_secs_f64());
        let started = Instant::now();
        (rows, bytes) = (0, 0);
        client
            .each(SQL, |batch| {
                rows += batch.num_rows();
                bytes += sent_bytes(&batch);
            })
            .await?;
        over = over.min(started.elapsed().as_secs_f64());
    }
    server.stop().await?;
    let megabytes = bytes as f64 / 1e6;
    for (path, seconds) in [("in the process", inside), ("Flight SQL", over)] {
        report.row([
            path.to_owned(),
            rows.to_string(),
            format!("{megabytes:.0}"),
            format!("{seconds:.3}"),
            format!("{:.0}", megabytes / seconds),
        ]);
    }
    report.summary = format!("Flight SQL takes {:.2} x the scan alone", over / inside);
    Ok(report)
}

/// Bytes of the values themselves: the columns of a received batch share one buffer, which
/// `get_array_memory_size` counts once for each.
pub fn sent_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum()
}
