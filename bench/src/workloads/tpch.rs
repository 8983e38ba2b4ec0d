//! TPC-H through the server against DataFusion alone, same files, same process.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hubflight_rights::habilitation::Tables;

use crate::report::{Report, geometric_mean};
use crate::server::{Case, login, start};
use crate::{Options, files};

const QUERIES: &str = include_str!("../../queries/tpch.sql");
const TABLES: [&str; 8] = [
    "customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier",
];

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join(format!("tpch-{}", options.scale));
    files::tpch(&folder, options.scale)?;
    let alone = alone(&folder).await?;
    let case = Case {
        dataset: "tpch",
        folder: &folder,
        tables: Vec::new(),
        grants: Tables::All,
    };
    let server = start(&options.data.join("state-tpch"), case).await?;
    let mut client = login(&server).await?;
    let mut report = Report::new(
        "tpch",
        "seconds of each query, best of the runs; ratio = ours over Flight SQL / DataFusion alone",
        vec!["query", "alone", "ours", "ratio"],
    );
    let mut ratios = Vec::new();
    for (name, sql) in queries() {
        let (mut best_alone, mut best_ours) = (f64::MAX, f64::MAX);
        // One run of each that does not count, then they take turns.
        for run in 0..=options.runs {
            let started = Instant::now();
            let expected = alone.sql(sql).await?.collect().await?;
            let seconds_alone = started.elapsed().as_secs_f64();
            let started = Instant::now();
            let found = client.query(sql).await.with_context(|| name.to_owned())?;
            let seconds_ours = started.elapsed().as_secs_f64();
            ensure!(
                rows(&expected) == rows(&found),
                "{name}: the numbers of rows differ"
            );
            if run > 0 {
                best_alone = best_alone.min(seconds_alone);
                best_ours = best_ours.min(seconds_ours);
            }
        }
        let ratio = best_ours / best_alone;
        ratios.push(ratio);
        report.row([
            name.to_owned(),
            format!("{best_alone:.3}"),
            format!("{best_ours:.3}"),
            format!("{ratio:.3}"),
        ]);
    }
    server.stop().await?;
    report.summary = format!(
        "geometric mean {:.3} at scale {} (asked: at most 1.05)",
        geometric_mean(&ratios),
        options.scale
    );
    Ok(report)
}

fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

async fn alone(folder: &Path) -> Result<SessionContext> {
    let context = SessionContext::new();
    for table in TABLES {
        let path = folder.join(table).to_string_lossy().into_owned() + "/";
        context
            .register_parquet(table, path, ParquetReadOptions::default())
            .await?;
    }
    Ok(context)
}

/// (name, text) of each query of the file.
pub fn queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    QUERIES.split("-- q").skip(1).filter_map(|part| {
        let (number, text) = part.split_once('\n')?;
        Some((number.trim(), text.trim().trim_end_matches(';')))
    })
}
