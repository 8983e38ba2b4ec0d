//! A function that does nothing, through the worker: what the way there and back costs.

use std::time::Instant;

use anyhow::Result;
use hubflight_rights::habilitation::Tables;

use crate::report::Report;
use crate::server::{Case, login, start};
use crate::{Options, files};

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join(format!("tpch-{}", options.scale));
    files::tpch(&folder, options.scale)?;
    let case = Case {
        dataset: "tpch",
        folder: &folder,
        tables: Vec::new(),
        grants: Tables::All,
    };
    let server = start(&options.data.join("state-echo"), case).await?;
    let mut client = login(&server).await?;
    let mut report = Report::new(
        "echo",
        "millions of rows a second of sum(f(l_orderkey)), best of the runs",
        vec!["f", "rows", "seconds", "M rows/s"],
    );
    let mut best = [f64::MAX; 2];
    let sqls = [
        ("none", "SELECT count(*), sum(l_orderkey) FROM lineitem"),
        (
            "echo",
            "SELECT count(*), sum(echo(l_orderkey)) FROM lineitem",
        ),
    ];
    let mut rows = 0_i64;
    for _ in 0..=options.runs {
        for ((_, sql), best) in sqls.iter().zip(&mut best) {
            let started = Instant::now();
            let batches = client.query(sql).await?;
            *best = best.min(started.elapsed().as_secs_f64());
            use arrow::array::AsArray;
            let counts = batches[0]
                .column(0)
                .as_primitive::<arrow::datatypes::Int64Type>();
            rows = counts.value(0);
        }
    }
    server.stop().await?;
    for ((name, _), seconds) in sqls.iter().zip(best) {
        report.row([
            (*name).to_owned(),
            rows.to_string(),
            format!("{seconds:.3}"),
            format!("{:.2}", rows as f64 / seconds / 1e6),
        ]);
    }
    report.summary = format!("echo reaches {:.2} M rows/s", rows as f64 / best[1] / 1e6);
    Ok(report)
}
