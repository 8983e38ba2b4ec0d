//! The compute worker as a child process: started, started again when it ends, stopped with
//! the server, and never left behind.
//!
//! The child's standard input is a pipe that only the server holds open. It closes when the
//! server stops the child, and also when the server dies without a word (`kill -9`): the worker
//! takes either as the order to finish and exit.

use std::ffi::OsString;
use std::io::ErrorKind as IoError;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hubflight_protocol::Key;
use hubflight_udfs::WorkerPool;
use prometheus::IntCounter;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;

/// Name of the variable that carries the key to the worker; command lines are public.
const KEY_VARIABLE: &str = "HUBFLIGHT_WORKER_KEY";

/// What a child gets of the server's environment: no credentials of stores or databases.
const VARIABLES_PASSED: [&str; 10] = [
    "CUDA_VISIBLE_DEVICES",
    "HOME",
    "HUBFLIGHT_LOG",
    "LANG",
    "LD_LIBRARY_PATH",
    "NVIDIA_VISIBLE_DEVICES",
    "PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
    "TZ",
];

/// How long an address may still be held by the worker of a server that has just died.
const ADDRESS_WAIT_MS_MAX: u64 = 5_000;
const ADDRESS_POLL_MS: u64 = 50;
/// How long a worker may take to answer after its start.
const READY_WAIT_MS_MAX: u64 = 15_000;

/// How patient supervision is.
#[derive(Clone, Copy, Debug)]
pub struct SuperviseLimits {
    /// First wait before a new start; each further one doubles it …
    pub restart_wait_ms_min: u64,
    /// … up to this.
    pub restart_wait_ms_max: u64,
    /// A child that ran this long has earned the first wait again.
    pub steady_ms_min: u64,
    /// Time to finish after standard input has closed; then the child is killed.
    pub stop_wait_ms_max: u64,
}

impl Default for SuperviseLimits {
    fn default() -> Self {
        Self {
            restart_wait_ms_min: 100,
            restart_wait_ms_max: 10_000,
            steady_ms_min: 60_000,
            stop_wait_ms_max: 5_000,
        }
    }
}

/// A program to keep running.
#[derive(Clone)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    /// Variables beside those passed on; they may hold secrets and never print.
    pub variables: Vec<(String, String)>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("path", &self.path)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// Keeps one child running. Dropped without [`KeptProcess::stop`], it kills the child.
#[derive(Debug)]
pub struct KeptProcess {
    stop: CancellationToken,
    task: JoinHandle<()>,
    life: watch::Receiver<Life>,
    restarts: Arc<OnceLock<IntCounter>>,
}

/// What is known of the child.
#[derive(Clone, Debug, Default)]
struct Life {
    /// Process identifier, while it runs.
    process: Option<u32>,
    /// How it ended the last time.
    ended: Option<String>,
}

/// A supervised compute worker and its address.
#[derive(Debug)]
pub struct Supervisor {
    process: KeptProcess,
    address: SocketAddr,
}

impl Supervisor {
    /// Starts this executable again as a worker on `listen`, which must be free and loopback;
    /// port 0 takes any free port.
    ///
    /// # Errors
    /// `InvalidArgument` when the address cannot be used, and what to write instead.
    pub async fn start(listen: SocketAddr, key: &Key) -> Result<Self> {
        let address = free_address(listen).await?;
        let path = std::env::current_exe()
            .map_err(|error| Error::internal("the server does not know its own file", &error))?;
        let arguments = ["gpu-worker", "serve", "--stop-with-stdin", "--listen"];
        let mut arguments: Vec<OsString> = arguments.map(OsString::from).to_vec();
        arguments.push(address.to_string().into());
        let program = Program {
            path,
            arguments,
            variables: vec![(KEY_VARIABLE.into(), key.to_hex())],
        };
        Ok(Self {
            process: KeptProcess::start(program, SuperviseLimits::default()),
            address,
        })
    }

    /// Where the worker listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the worker answers through `pool`.
    ///
    /// # Errors
    /// `Unavailable` when it ended or stays silent; its own words are in the log.
    pub async fn ready(&self, pool: &WorkerPool) -> Result<()> {
        let address = self.address;
        let limit = Duration::from_millis(READY_WAIT_MS_MAX);
        tokio::select! {
            biased;
            ended = self.process.first_end() => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the compute worker on `{address}` ended as it started ({ended}); its log says why"),
            )),
            answer = pool.wait_ready(limit) => answer.map_err(|error| Error::new(
                ErrorKind::Unavailable,
                format!("the compute worker on `{address}` does not answer: {error}"),
            )),
        }
    }

    /// Counts restarts in the server's metrics from now on.
    pub fn report_to(&self, metrics: &Metrics) {
        self.process.report_to(metrics.worker_restarts.clone());
    }

    /// Lets the worker finish, a bounded time, and waits until it is gone.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}

impl KeptProcess {
    /// Starts `program` and keeps it running; a failure to start is met like an early end.
    pub fn start(program: Program, limits: SuperviseLimits) -> Self {
        let (told, life) = watch::channel(Life::default());
        let stop = CancellationToken::new();
        let restarts = Arc::new(OnceLock::new());
        let keeper = Keeper {
            program,
            limits,
            stop: stop.clone(),
            life: told,
            restarts: Arc::clone(&restarts),
        };
        Self {
            stop,
            task: tokio::spawn(keeper.keep()),
            life,
            restarts,
        }
    }

    /// Counts restarts from now on.
    pub fn report_to(&self, restarts: IntCounter) {
        // The first counter is kept: there is one server in a process.
        let _ = self.restarts.set(restarts);
    }

    /// Process identifier of the child, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.life.borrow().process
    }

    /// Resolves when the child has ended for the first time, with how.
    async fn first_end(&self) -> String {
        let mut life = self.life.clone();
        match life.wait_for(|life| life.ended.is_some()).await {
            Ok(life) => life.ended.clone().unwrap_or_default(),
            Err(_) => "it was stopped".into(),
        }
    }

    /// Closes the child's standard input, waits a bounded time, then kills it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "the supervision of a process was lost");
        }
    }
}

impl Drop for KeptProcess {
    fn drop(&mut self) {
        // The task owns the child, which is killed when dropped.
        self.task.abort();
    }
}

/// The task of a kept process.
struct Keeper {
    program: Program,
    limits: SuperviseLimits,
    stop: CancellationToken,
    life: watch::Sender<Life>,
    restarts: Arc<OnceLock<IntCounter>>,
}

impl Keeper {
    async fn keep(self) {
        let first = Duration::from_millis(self.limits.restart_wait_ms_min);
        let longest = Duration::from_millis(self.limits.restart_wait_ms_max);
        let steady = Duration::from_millis(self.limits.steady_ms_min);
        let mut wait = first;
        loop {
            let started = Instant::now();
            let Some(ended) = self.run_once().await else {
                return;
            };
            if started.elapsed() >= steady {
                wait = first;
            }
            let path = self.program.path.display();
            tracing::warn!(%path, %ended, wait_ms = wait.as_millis(), "a worker ended and is started again");
            self.life.send_replace(Life {
                process: None,
                ended: Some(ended),
            });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
            wait = (wait * 2).min(longest);
            if let Some(restarts) = self.restarts.get() {
                restarts.inc();
            }
        }
    }

    /// Runs the child to its end, and tells how it ended; none when it was told to stop.
    async fn run_once(&self) -> Option<String> {
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return Some(format!("it cannot be started: {error}")),
        };
        let input = child.stdin.take();
        self.life.send_modify(|life| life.process = child.id());
        tokio::select! {
            status = child.wait() => Some(match status {
                Ok(status) => status.to_string(),
                Err(error) => format!("it cannot be waited for: {error}"),
            }),
            () = self.stop.cancelled() => {
                drop(input);
                self.end(child).await;
                None
            }
        }
    }

    async fn end(&self, mut child: Child) {
        let wait = Duration::from_millis(self.limits.stop_wait_ms_max);
        if tokio::time::timeout(wait, child.wait()).await.is_ok() {
            return;
        }
        let path = self.program.path.display();
        tracing::warn!(%path, "a worker did not stop in time and is killed");
        if let Err(error) = child.kill().await {
            tracing::error!(%path, %error, "a worker cannot be killed");
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let passed = VARIABLES_PASSED
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.arguments)
            .env_clear()
            .envs(passed)
            .envs(
                self.program
                    .variables
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        // Ctrl-C in a terminal reaches a whole group; the server stops the worker itself, after
        // the queries that need it.
        #[cfg(unix)]
        command.process_group(0);
        command.spawn()
    }
}

/// The address itself, or any free one for port 0, once nobody listens there.
async fn free_address(listen: SocketAddr) -> Result<SocketAddr> {
    if !listen.ip().is_loopback() {
        return Err(Error::invalid(format!(
            "`workers.listen` is `{listen}`: the server's own worker speaks plaintext and is for \
             loopback only; start workers elsewhere with TLS and name them in \
             `workers.addresses`"
        )));
    }
    let end = Instant::now() + Duration::from_millis(ADDRESS_WAIT_MS_MAX);
    loop {
        match TcpListener::bind(listen).and_then(|free| free.local_addr()) {
            Ok(address) => return Ok(address),
            Err(error) if error.kind() == IoError::AddrInUse && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(ADDRESS_POLL_MS)).await;
            }
            Err(error) => {
                return Err(Error::invalid(format!(
                    "the compute worker cannot listen on `{listen}`: {error}; set another \
                     address with `workers.listen`, or use workers that run already with \
                     `--workers` or `workers.addresses`"
                )));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: SuperviseLimits = SuperviseLimits {
        restart_wait_ms_min: 10,
        restart_wait_ms_max: 40,
        steady_ms_min: 60_000,
        stop_wait_ms_max: 300,
    };

    fn shell(script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            variables: vec![("GIVEN".into(), "secret".into())],
        }
    }

    async fn process(kept: &KeptProcess, other_than: Option<u32>) -> u32 {
        let mut life = kept.life.clone();
        let running = life.wait_for(|life| life.process.is_some() && life.process != other_than);
        let life = tokio::time::timeout(Duration::from_secs(10), running).await;
        life.expect("in time")
            .expect("supervised")
            .process
            .expect("runs")
    }

    fn is_alive(process: u32) -> bool {
        // A process that ended and is not waited for yet is a zombie (`Z`), which is not alive.
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| {
            stat.rsplit(')')
                .next()
                .is_some_and(|rest| !rest.starts_with(" Z"))
        })
    }

    async fn gone(process: u32) -> bool {
        for _ in 0..500 {
            if !is_alive(process) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    #[tokio::test]
    async fn a_child_that_is_killed_is_started_again() {
        let kept = KeptProcess::start(shell("exec cat"), QUICK);
        let restarts = IntCounter::new("restarts", "restarts").expect("valid");
        kept.report_to(restarts.clone());
        let first = process(&kept, None).await;
        assert!(is_alive(first));
        let killed = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("kill -9 {first}")])
            .status();
        assert!(killed.expect("runs").success());
        let second = process(&kept, Some(first)).await;
        assert_eq!(restarts.get(), 1);
        assert!(kept.first_end().await.contains("signal: 9"));

        let begun = Instant::now();
        kept.stop().await;
        assert!(!is_alive(second), "stopped");
        assert!(
            begun.elapsed() < Duration::from_millis(250),
            "it ended by itself"
        );
    }

    #[tokio::test]
    async fn restarts_are_spaced_out() {
        let kept = KeptProcess::start(shell("exit 3"), QUICK);
        let restarts = IntCounter::new("restarts", "restarts").expect("valid");
        kept.report_to(restarts.clone());
        tokio::time::sleep(Duration::from_millis(400)).await;
        kept.stop().await;
        // Waits of 10, 20, 40, 40 … ms; without them it would be hundreds.
        assert!((2..=12).contains(&restarts.get()), "{}", restarts.get());
    }

    #[tokio::test]
    async fn a_child_that_does_not_listen_is_killed() {
        let stubborn = KeptProcess::start(shell("trap '' TERM; exec sleep 60"), QUICK);
        let child = process(&stubborn, None).await;
        let begun = Instant::now();
        stubborn.stop().await;
        assert!(!is_alive(child));
        assert!(
            begun.elapsed() >= Duration::from_millis(300),
            "it was given its time"
        );

        let dropped = KeptProcess::start(shell("exec sleep 60"), QUICK);
        let child = process(&dropped, None).await;
        drop(dropped);
        assert!(gone(child).await, "not left behind");
    }

    #[tokio::test]
    async fn a_child_is_given_no_credentials_but_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("environment");
        let script = format!(
            "env > '{0}.new' && mv '{0}.new' '{0}'; exec cat",
            file.display()
        );
        let kept = KeptProcess::start(shell(&script), QUICK);
        for _ in 0..500 {
            if file.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let environment = std::fs::read_to_string(&file).expect("written");
        // Cargo gives its tests dozens of variables of its own.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!environment.contains("CARGO_MANIFEST_DIR"), "{environment}");
        assert!(environment.contains("GIVEN=secret"));
        kept.stop().await;
        assert!(!format!("{:?}", shell("true")).contains("secret"));
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_told() {
        let program = Program {
            path: "/nowhere/worker".into(),
            ..shell("")
        };
        let kept = KeptProcess::start(program, QUICK);
        assert!(kept.first_end().await.contains("cannot be started"));
        kept.stop().await;
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("free");
        let address = taken.local_addr().expect("known");
        // A worker that is just going away is waited for.
        let freed = tokio::spawn(free_address(address));
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(taken);
        assert_eq!(freed.await.expect("ran").expect("free now"), address);

        let _taken = TcpListener::bind(address).expect("free");
        let error = free_address(address).await.expect_err("taken").to_string();
        for part in [address.to_string().as_str(), "--workers", "workers.listen"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(free_address(([10, 0, 0, 1], 0).into()).await.is_err());
    }
}
