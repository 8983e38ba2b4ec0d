//! The real server as processes of its own, so that its memory is not the client's.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Until a started server must answer; making the data counts.
const START_MAX: Duration = Duration::from_secs(300);

/// A running `flight-server`; it is killed when this is dropped.
pub struct Process {
    child: Child,
    pub flight: SocketAddr,
    /// What it printed so far.
    pub said: String,
}

impl Process {
    /// Starts `flight-server` with `arguments` and waits until it says where it listens.
    pub fn start(arguments: &[&str], log: &Path) -> Result<Self> {
        let output = std::fs::File::create(log)?;
        let mut child = Command::new(binary()?)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start flight-server")?;
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            let said = std::fs::read_to_string(log)?;
            if let Some(flight) = between(&said, "Flight SQL on ", ",") {
                let flight = flight.parse()?;
                return Ok(Self {
                    child,
                    flight,
                    said,
                });
            }
            if let Some(status) = child.try_wait()? {
                bail!("flight-server ended with {status}: {said}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        bail!("flight-server did not start in {START_MAX:?}");
    }

    /// Process identifiers of the server and of what it started.
    pub fn family(&self) -> Result<Vec<u32>> {
        let mut family = vec![self.child.id()];
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // The parent is the second number behind the name, which may hold blanks.
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
            if parent == Some(self.child.id()) {
                family.push(pid);
            }
        }
        Ok(family)
    }

    /// Seconds of processor time that the server itself took so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// A line of `/proc/PID/status` of the server itself, in MB (10^6 bytes).
    pub fn memory_mb(&self, line: &str) -> Result<f64> {
        memory_mb(self.child.id(), line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Gone already, or killed now; the worker ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `VmRSS`, `VmHWM` (the peak) and others of a process, in MB (10^6 bytes).
fn memory_mb(pid: u32, line: &str) -> Result<f64> {
    kib_line(&format!("/proc/{pid}/status"), line)
}

/// Proportional set size of a process, in MB: a page that two processes share counts half.
pub fn proportional_mb(pid: u32) -> Result<f64> {
    kib_line(&format!("/proc/{pid}/smaps_rollup"), "Pss")
}

/// `Name:  1234 kB` of a file of `/proc`, in MB.
fn kib_line(path: &str, name: &str) -> Result<f64> {
    let mut text = String::new();
    std::fs::File::open(path)?.read_to_string(&mut text)?;
    let kib = text
        .lines()
        .find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')?
                .split_whitespace()
                .next()
        })
        .with_context(|| format!("{path} has no {name}"))?;
    Ok(kib.parse::<f64>()? * 1024.0 / 1e6)
}

/// Ticks a second in which Linux tells processor time, on all machines that it runs on.
const TICKS: f64 = 100.0;

/// Seconds of processor time that a process took so far, its own and the kernel's for it.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold blanks: `utime` and `stime` are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(')').context("a process without a name")?;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// `flight-server serve` on one dataset `tpch` (lines of its configuration) with some limits; and a
/// token of its only person.
pub fn serve(state: &Path, dataset: &str, limits: &str) -> Result<(Process, String)> {
    if state.exists() {
        std::fs::remove_dir_all(state)?;
    }
    std::fs::create_dir_all(state)?;
    let config = state.join("hub.toml");
    let text = format!(
        "[server]\nzone = 'inside'\nflight = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\nstate = 'state'\n\
         [workers]\nlisten = '127.0.0.1:0'\n\
         [limits]\n{limits}\n\
         [[dataset]]\nname = 'tpch'\nproducer = 'TPC'\npersons = 'none'\n{dataset}\n\
         [[person]]\nid = 'bench'\n\
         [[project]]\nid = 'bench'\nmembers = ['bench']\n\
         valid_from = '2000-01-01'\nvalid_to = '2100-01-01'\n\
         [[habilitation]]\nproject = 'bench'\ndataset = 'tpch'\ndecision = 'benchmark'\n\
         valid_from = '2000-01-01'\nvalid_to = '2100-01-01'\n"
    );
    std::fs::write(&config, text)?;
    let config = config.to_string_lossy().into_owned();
    let server = Process::start(&["serve", "--config", &config], &state.join("log"))?;
    let told = run(&[
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

/// Runs `flight-server` to its end and gives what it printed.
pub fn run(arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary()?).args(arguments).output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The text between two others.
pub fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    Some(rest.split_once(after)?.0)
}

/// The server that was built beside this program.
fn binary() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = here.with_file_name("flight-server");
    if !beside.exists() {
        bail!(
            "`{}` is not built: cargo build --release --workspace",
            beside.display()
        );
    }
    Ok(beside)
}
