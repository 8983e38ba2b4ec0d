//! The command line, and the environment: read here and nowhere else.

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use hubflight_protocol::{Key, user_key_file};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::{Device, Tls, WorkerConfig, run};

/// Threads that do the IO; the functions have threads of their own.
const IO_THREADS: usize = 2;

/// Environment variable that holds the key shared with the servers.
const KEY_VARIABLE: &str = "HUBFLIGHT_WORKER_KEY";

/// Executes Hubflight's functions on images, signals and texts.
#[derive(Parser)]
#[command(name = "gpu-worker", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C, then finish what is open.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// Address to listen on, such as 127.0.0.1:31338.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// cpu or cuda:N.
    #[arg(long, default_value_t)]
    device: Device,
    /// Folder of models.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// File that holds the key shared with the servers, as 64 hexadecimal digits; otherwise it
    /// is in the environment, in HUBFLIGHT_WORKER_KEY; on loopback, neither is needed: servers
    /// of the same user find the key that this one makes in the user's data folder.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Threads that execute functions [default: one per core].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Certificate chain in PEM; without it, only loopback is served.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Stop when standard input closes: when the process that started this one is gone.
    #[arg(long)]
    stop_with_stdin: bool,
}

/// Runs the worker's command line. The first argument is the program's name. A program that
/// contains the worker, as the server does, hands its remaining arguments to this function.
pub fn main_from_args<I>(args: I) -> ExitCode
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Prints to standard output or error as fits; a closed pipe is no reason to fail.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HUBFLIGHT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for who looks, and get in the way of who searches a file.
        .with_ansi(std::io::stderr().is_terminal())
        // A log that cannot be written, on a full disk, must not panic whoever logs.
        .log_internal_errors(false);
    // A program that contains the worker may have a log already.
    let _ = log.try_init();
    let Command::Serve(serve) = cli.command;
    match serve.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Serve {
    fn run(self) -> anyhow::Result<()> {
        let config = self.config()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .thread_name("gpu-worker-io")
            .enable_all()
            .build()
            .context("the runtime could not be started")?;
        runtime.block_on(async {
            let listener = TcpListener::bind(self.listen)
                .await
                .with_context(|| format!("cannot listen on {}", self.listen))?;
            run(config, listener, told_to_stop(self.stop_with_stdin)).await
        })
    }

    fn config(&self) -> anyhow::Result<WorkerConfig> {
        let key = match (&self.key_file, std::env::var(KEY_VARIABLE)) {
            (Some(file), _) => {
                let text = String::from_utf8(read(file)?).context("the key file is not text")?;
                Key::from_hex(&text)?
            }
            (None, Ok(key)) => Key::from_hex(&key)?,
            (None, Err(_)) if self.listen.ip().is_loopback() => key_of_this_user()?,
            (None, Err(_)) => bail!(
                "the key shared with the servers is missing: set {KEY_VARIABLE} or give --key-file"
            ),
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Tls {
                certificate: read(certificate)?,
                key: read(key)?,
            }),
            _ => None,
        };
        Ok(WorkerConfig {
            device: self.device,
            models: self.models.clone(),
            key,
            threads: self.threads,
            tls,
        })
    }
}

fn key_of_this_user() -> anyhow::Result<Key> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from);
    let path = user_key_file(folder("XDG_DATA_HOME"), folder("HOME"))
        .with_context(|| format!("there is no home folder: set {KEY_VARIABLE}"))?;
    Key::read_or_make(&path).with_context(|| format!("cannot use the key in `{}`", path.display()))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read `{}`", file.display()))
}

/// Resolves on SIGTERM, on Ctrl-C and, if asked for, when standard input closes.
async fn told_to_stop(with_stdin: bool) {
    let stdin_closes = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        let (closed, closes) = oneshot::channel();
        // A thread of its own: a read of standard input cannot be cancelled.
        std::thread::spawn(move || {
            let mut ignored = [0_u8; 256];
            while matches!(std::io::stdin().read(&mut ignored), Ok(read) if read > 0) {}
            // Nobody listens any more if the worker was told to stop otherwise.
            let _ = closed.send(());
        });
        // Sent or dropped, it has closed.
        let _ = closes.await;
    };
    tokio::select! {
        () = terminated() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = stdin_closes => {}
    }
}

#[cfg(unix)]
async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be awaited");
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
async fn terminated() {
    std::future::pending().await
}
