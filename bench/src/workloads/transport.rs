//! Large results: our server against Arrow's own, with one client that reads both.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use datafusion::execution::options::ArrowReadOptions;
use datafusion::prelude::SessionContext;
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::process::{Process, cpu_seconds, serve};
use crate::report::{Report, percentile};
use crate::{Options, files};

const SQL: &str = "SELECT * FROM tpch.lineitem";
/// Both Python halves, and the Python that has Arrow.
const PEER: &str = "bench/peers/flight.py";
const PYTHON: &str = "tests/.venv/bin/python";
/// What is asked of our server, in parts of the peer's: at least the rate, at most the CPU time.
const RATE_MIN: f64 = 1.0;
const CPU_MAX: f64 = 0.6;

const QUESTION: &str = "lineitem over Flight: Arrow's own server (C++), which has the rows in memory \
    in batches of 65 536, is 1; ours reads them from Arrow files in the page cache with `SELECT *`, \
    and beside that from Parquet. One pyarrow client reads both in turns, DoGet alone is timed, all \
    sums are the same; medians of the runs. CPU seconds are the server's own, by /proc; `reading the \
    files` is DataFusion alone in the bench. Client and servers share the cores";

pub async fn run(options: &Options) -> Result<Report> {
    let arrow = options.data.join(format!("arrow-{}", options.scale));
    let parquet = options.data.join(format!("tpch-{}", options.scale));
    files::arrow_lineitem(&arrow, options.scale)?;
    files::tpch(&parquet, options.scale)?;
    let mut client = Talker::start(&["read"])?;
    let mut sides = vec![
        Side::peer(&arrow)?,
        Side::ours("hubflight, Arrow files", &options.data, &arrow, "arrow")?,
        Side::ours(
            "hubflight, Parquet files",
            &options.data,
            &parquet,
            "parquet",
        )?,
    ];
    let bytes = check(&mut client, &sides)?;
    let mut scans = Took::default();
    for round in 0..options.runs.max(1) {
        // Another goes first each time.
        for index in 0..sides.len() {
            let index = (index + round) % sides.len();
            sides[index].measure(&mut client)?;
        }
        scan(&arrow, &mut scans).await?;
    }
    Ok(report(&sides, &scans, bytes))
}

/// What a side took, once a run.
#[derive(Default)]
struct Took {
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    client: Vec<f64>,
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// A server, and how it is asked.
struct Side {
    name: &'static str,
    address: String,
    token: Option<String>,
    server: Server,
    rows: u64,
    took: Took,
}

enum Server {
    Peer(Talker),
    Ours(Process),
}

impl Side {
    fn new(name: &'static str, address: String, token: Option<String>, server: Server) -> Self {
        Self {
            name,
            address,
            token,
            server,
            rows: 0,
            took: Took::default(),
        }
    }

    fn peer(folder: &Path) -> Result<Self> {
        let rows = folder.join("lineitem").to_string_lossy().into_owned();
        let mut peer = Talker::start(&["serve", &rows])?;
        let address = format!("127.0.0.1:{}", peer.line()?.trim());
        Ok(Self::new(
            "pyarrow (C++)",
            address,
            None,
            Server::Peer(peer),
        ))
    }

    fn ours(name: &'static str, data: &Path, folder: &Path, format: &str) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        let dataset = format!("folder = '{}'\nformat = '{format}'", folder.display());
        let state = data.join(format!("state-transport-{format}"));
        let (server, token) = serve(&state, &dataset, "")?;
        let address = server.flight.to_string();
        Ok(Self::new(name, address, Some(token), Server::Ours(server)))
    }

    fn cpu_seconds(&self) -> Result<f64> {
        match &self.server {
            Server::Peer(peer) => cpu_seconds(peer.child.id()),
            Server::Ours(server) => server.cpu_seconds(),
        }
    }

    fn ask(&self, client: &mut Talker, check: bool) -> Result<Value> {
        let (address, token) = (&self.address, &self.token);
        client.ask(&json!({"address": address, "token": token, "sql": SQL, "check": check}))
    }

    fn measure(&mut self, client: &mut Talker) -> Result<()> {
        let before = (self.cpu_seconds()?, cpu_seconds(client.child.id())?);
        let answer = self.ask(client, false)?;
        let after = (self.cpu_seconds()?, cpu_seconds(client.child.id())?);
        let rows = answer["rows"].as_u64();
        ensure!(
            rows == Some(self.rows),
            "{}: {answer} is not all",
            self.name
        );
        let seconds = answer["seconds"].as_f64().context("no time was told")?;
        self.took.seconds.push(seconds);
        self.took.cpu.push(after.0 - before.0);
        self.took.client.push(after.1 - before.1);
        Ok(())
    }
}

/// Reads each side once: all have the same rows. Their bytes.
fn check(client: &mut Talker, sides: &[Side]) -> Result<f64> {
    let mut first = None;
    for side in sides {
        let told = side.ask(client, true)?;
        let sums = (told["rows"].clone(), told["sums"].clone());
        match &first {
            None => first = Some((sums, told["bytes"].as_f64().context("no bytes")?)),
            Some((expected, _)) => ensure!(*expected == sums, "{} differs: {told}", side.name),
        }
    }
    Ok(first.context("no side")?.1)
}

/// What the files take without a server: every batch read and dropped.
async fn scan(folder: &Path, took: &mut Took) -> Result<()> {
    let context = SessionContext::new();
    let path = folder.join("lineitem").to_string_lossy().into_owned() + "/";
    let options = ArrowReadOptions::default();
    context.register_arrow("lineitem", &path, options).await?;
    let me = std::process::id();
    let (before, begun) = (cpu_seconds(me)?, Instant::now());
    let rows = context.sql("SELECT * FROM lineitem").await?;
    let mut stream = rows.execute_stream().await?;
    while let Some(batch) = stream.try_next().await? {
        std::hint::black_box(&batch);
    }
    took.seconds.push(begun.elapsed().as_secs_f64());
    took.cpu.push(cpu_seconds(me)? - before);
    Ok(())
}

fn report(sides: &[Side], scans: &Took, bytes: f64) -> Report {
    let mut report = Report::new(
        "transport",
        QUESTION,
        vec![
            "server",
            "GB/s",
            "best",
            "CPU s/GB",
            "client CPU s/GB",
            "rate",
            "CPU",
        ],
    );
    let gigabytes = bytes / 1e9;
    let rate = |took: &Took| gigabytes / median(&took.seconds);
    let cpu = |took: &Took| median(&took.cpu) / gigabytes;
    let peer = &sides[0].took;
    let mut add = |name: &str, took: &Took| {
        let best = took.seconds.iter().copied().fold(f64::MAX, f64::min);
        let client = match took.client.is_empty() {
            true => String::new(),
            false => format!("{:.3}", median(&took.client) / gigabytes),
        };
        report.row([
            name.to_owned(),
            format!("{:.3}", rate(took)),
            format!("{:.3}", gigabytes / best),
            format!("{:.3}", cpu(took)),
            client,
            format!("{:.2} x", rate(took) / rate(peer)),
            format!("{:.2} x", cpu(took) / cpu(peer)),
        ]);
    };
    sides.iter().for_each(|side| add(side.name, &side.took));
    add("reading the files", scans);
    let ours = &sides[1].took;
    let (rate, cpu) = (rate(ours) / rate(peer), cpu(ours) / cpu(peer));
    let met = |is_met: bool| if is_met { "met" } else { "missed" };
    report.summary = format!(
        "{gigabytes:.3} GB: rate {rate:.2} x of at least {RATE_MIN:.1} ({}), CPU {cpu:.2} x of at \
         most {CPU_MAX:.1} ({}), the reading of the files included",
        met(rate >= RATE_MIN),
        met(cpu <= CPU_MAX),
    );
    report
}

/// A Python half that is told lines and answers lines; it ends with its input.
struct Talker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Talker {
    fn start(arguments: &[&str]) -> Result<Self> {
        let python = PathBuf::from(PYTHON);
        if !python.exists() {
            bail!("`{PYTHON}` is missing: run from the repository's root, after tests/run made it");
        }
        let mut child = Command::new(python)
            .arg(PEER)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{PEER}`"))?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self {
            child,
            input,
            output,
        })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let bytes = self.output.read_line(&mut line)?;
        ensure!(bytes > 0, "`{PEER}` ended");
        Ok(line)
    }

    fn ask(&mut self, what: &Value) -> Result<Value> {
        writeln!(self.input, "{what}")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Gone already, or killed now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
