//! Latency of a query of one row: planning twice, a durable intent and a settlement included.

use std::time::Instant;

use anyhow::Result;
use hubflight_rights::habilitation::Tables;

use crate::report::{Report, percentile};
use crate::server::{Case, login, start};
use crate::{Options, files};

const QUERIES_A_CLIENT: usize = 60;
const SQL: &str = "SELECT n_name FROM nation WHERE n_nationkey = 7";

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join(format!("tpch-{}", options.scale));
    files::tpch(&folder, options.scale)?;
    let case = Case {
        dataset: "tpch",
        folder: &folder,
        tables: Vec::new(),
        grants: Tables::All,
    };
    let server = start(&options.data.join("state-point"), case).await?;
    let mut report = Report::new(
        "point",
        "milliseconds of a one-row query, and queries a second",
        vec!["clients", "p50 ms", "p99 ms", "queries/s"],
    );
    for clients in [1, 16, 64] {
        let mut sessions = Vec::new();
        for _ in 0..clients {
            sessions.push(login(&server).await?);
        }
        let started = Instant::now();
        let tasks = sessions.into_iter().map(|mut client| {
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(QUERIES_A_CLIENT);
                for _ in 0..QUERIES_A_CLIENT {
                    let started = Instant::now();
                    client.query(SQL).await?;
                    latencies.push(started.elapsed().as_secs_f64() * 1e3);
                }
                anyhow::Ok(latencies)
            })
        });
        let mut latencies = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            latencies.extend(task.await??);
        }
        let seconds = started.elapsed().as_secs_f64();
        latencies.sort_by(f64::total_cmp);
        report.row([
            clients.to_string(),
            format!("{:.1}", percentile(&latencies, 0.50)),
            format!("{:.1}", percentile(&latencies, 0.99)),
            format!("{:.0}", latencies.len() as f64 / seconds),
        ]);
    }
    server.stop().await?;
    let p50 = report
        .rows
        .first()
        .and_then(|row| row.get(1))
        .cloned()
        .unwrap_or_default();
    report.summary = format!("p50 of one client {p50} ms");
    Ok(report)
}
