//! Results larger than the memory that queries may hold: streamed, and sorted on disk.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::transport::sent_bytes;
use crate::client::Client;
use crate::process::{Process, run as flight_server};
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
    for (name, sql) in QUERIES {
        let state = options.data.join(format!("state-memory-{name}"));
        let (server, token) = serve(&state, &folder)?;
        let mut client = Client::login(server.flight, "bench", &token).await?;
        // Opens files and caches, so that what follows is the query's own.
        client.query("SELECT count(*) FROM tpch.nation").await?;
        let before = server.memory_mb("VmRSS")?;
        let (mut rows, mut bytes) = (0, 0);
        let begun = Instant::now();
        let take = |batch: arrow::array::RecordBatch| {
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

/// `flight-server serve` on the TPC-H files, with little memory; and a token of its person.
fn serve(state: &Path, tpch: &Path) -> Result<(Process, String)> {
    if state.exists() {
        std::fs::remove_dir_all(state)?;
    }
    std::fs::create_dir_all(state)?;
    let config = state.join("hub.toml");
    let tpch = std::path::absolute(tpch)?;
    let text = format!(
        "[server]\nzone = 'inside'\nflight = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nstate = 'state'\n\
         [workers]\nlisten = '127.0.0.1:0'\n\
         [limits]\nmemory_mb_max = {LIMIT_MB}\nquery_memory_mb_max = {LIMIT_MB}\n\
         [[dataset]]\nname = 'tpch'\nproducer = 'TPC'\nfolder = '{}'\npersons = 'none'\n\
         [[person]]\nid = 'bench'\n\
         [[project]]\nid = 'bench'\nmembers = ['bench']\n\
         valid_from = '2000-01-01'\nvalid_to = '2100-01-01'\n\
         [[habilitation]]\nproject = 'bench'\ndataset = 'tpch'\ndecision = 'benchmark'\n\
         valid_from = '2000-01-01'\nvalid_to = '2100-01-01'\n",
        tpch.display()
    );
    std::fs::write(&config, text)?;
    let config = config.to_string_lossy().into_owned();
    let server = Process::start(&["serve", "--config", &config], &state.join("log"))?;
    let told = flight_server(&[
        "admin",
        "token",
        "create",
        "--config",
        &config,
        "--person",
        "bench",
        "--project",
        "bench",
        "--days",
        "1",
    ])?;
    let token = told
        .split_whitespace()
        .find(|word| word.starts_with("hubpat_"))
        .context("no token was printed")?;
    Ok((server, token.to_owned()))
}
