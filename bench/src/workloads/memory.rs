//! Results larger than the memory that queries may hold: streamed, and sorted on disk.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, RecordBatch};

use crate::client::Client;
use crate::process::serve;
use crate::report::Report;
use crate::{Options, files};

const LIMIT_MB: usize = 256;
/// At scale 1 the first gives more than 2 GB of values.
const QUERIES: [(&str, &str); 2] = [
    (
        "stream",
        "SELECT * FROM tpch.lineitem UNION ALL SELECT * FROM tpch.lineitem",
    ),
    // All columns of it are refused, as DataFusion's merge of what it spilled needs more.
    (
        "sort",
        "SELECT l_orderkey, l_comment FROM tpch.lineitem ORDER BY l_comment",
    ),
];

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join(format!("tpch-{}", options.scale));
    files::tpch(&folder, options.scale)?;
    let mut report = Report::new(
        "memory",
        "a server process whose queries may hold 256 MB: MB of values received, and the peak of \
         its resident memory",
        vec!["query", "rows", "MB", "seconds", "resident before", "peak"],
    );
    let mut peaks = Vec::new();
    let dataset = format!("folder = '{}'", std::path::absolute(&folder)?.display());
    let limits = format!("memory_mb_max = {LIMIT_MB}\nquery_memory_mb_max = {LIMIT_MB}");
    for (name, sql) in QUERIES {
        let state = options.data.join(format!("state-memory-{name}"));
        let (server, token) = serve(&state, &dataset, &limits)?;
        let mut client = Client::login(server.flight, "bench", &token).await?;
        // Opens files and caches, so that what follows is the query's own.
        client.query("SELECT count(*) FROM tpch.nation").await?;
        let before = server.memory_mb("VmRSS")?;
        let (mut rows, mut bytes) = (0, 0);
        let begun = Instant::now();
        let take = |batch: RecordBatch| {
            rows += batch.num_rows();
            bytes += sent_bytes(&batch);
        };
        client.each(sql, take).await.context(name)?;
        let seconds = begun.elapsed().as_secs_f64();
        let peak = server.memory_mb("VmHWM")?;
        ensure!(rows > 0, "{name} gave no row");
        peaks.push(format!(
            "{name} of {:.0} MB peaks at {peak:.0} MB",
            bytes as f64 / 1e6
        ));
        report.row([
            name.to_owned(),
            rows.to_string(),
            format!("{:.0}", bytes as f64 / 1e6),
            format!("{seconds:.1}"),
            format!("{before:.0}"),
            format!("{peak:.0}"),
        ]);
    }
    report.summary = peaks.join("; ");
    Ok(report)
}

/// Bytes of the values themselves: the columns of a received batch share one buffer, which
/// `get_array_memory_size` counts once for each.
fn sent_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter();
    columns
        .map(|column| column.to_data().get_slice_memory_size().unwrap_or(0))
        .sum()
}
