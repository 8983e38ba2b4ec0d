//! `flight-server`: `demo`, `serve`, `admin`, and the compute worker that it supervises.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use flight_server::admin::AdminCommand;
use flight_server::config::Config;
use flight_server::demo::{self, DemoArguments};
use flight_server::hub::Mode;
use flight_server::server::Server;
use hubflight_keys::Secrets;
use hubflight_keys::process::Keeper;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Flight SQL for a health data hub.
#[derive(Debug, Parser)]
#[command(name = "flight-server", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes synthetic data, serves it on this machine, and shows what the hub does.
    Demo(DemoArguments),
    /// Makes the demo's data: a process of its own, whose memory ends with it.
    #[command(hide = true)]
    MakeDemoData {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        scale: f64,
    },
    /// Serves what a configuration describes.
    Serve {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Keeps the master secret as a process apart, which hands out single keys over a Unix socket
    /// and writes a line to its standard output for each: `server.key_process` names the socket.
    Keys {
        /// The secret: `master.key` of a state folder, moved to where the hub cannot read it.
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
        /// Where it listens.
        #[arg(long, value_name = "FILE")]
        socket: PathBuf,
        /// The user (its number) that the hub runs as, where it is another.
        #[arg(long, value_name = "UID")]
        user: Option<u32>,
        /// Makes a new secret, for a hub that has none yet.
        #[arg(long)]
        create: bool,
    },
    /// Manages persons, tokens and projects.
    #[command(subcommand)]
    Admin(AdminCommand),
}

fn main() -> ExitCode {
    // The supervised worker is this program too, as another process.
    let mut words = std::env::args_os().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "gpu-worker") {
        return gpu_worker::main_from_args(words);
    }
    let arguments = Arguments::parse();
    log_to_stderr();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(flight_server::THREAD_STACK_BYTES)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(run(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::MakeDemoData { dir, scale } => demo::make_data(&dir, scale),
        Command::Serve { config } => {
            let config = Config::read(&config)?;
            let server = Server::start(config, Mode { passwords: false }).await?;
            eprintln!(
                "Flight SQL on {}, pages on http://{}/",
                server.flight, server.http
            );
            Ok(server.run(stop_signal()).await?)
        }
        Command::Keys {
            secret,
            socket,
            user,
            create,
        } => keep_keys(&secret, &socket, user, create).await,
        Command::Admin(command) => flight_server::admin::run(command).await,
    }
}

async fn keep_keys(
    secret: &Path,
    socket: &Path,
    user: Option<u32>,
    create: bool,
) -> anyhow::Result<()> {
    let secrets = match Secrets::load(secret)? {
        Some(secrets) => secrets,
        None if create => Secrets::load_or_create(secret)?,
        None => anyhow::bail!(
            "there is no `{}`; put it there, or say `--create` for a hub that has no secret yet",
            secret.display()
        ),
    };
    let keeper = Keeper::bind(secrets, socket, user)?;
    eprintln!("keys on {}", socket.display());
    let trace = |line: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush())
    };
    tokio::select! {
        () = keeper.serve(trace) => {}
        () = stop_signal() => {}
    }
    std::fs::remove_file(socket)?;
    Ok(())
}

/// Ends on Ctrl-C or SIGTERM.
async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HUBFLIGHT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Colours are for who looks, and get in the way of who searches a file.
        .with_ansi(std::io::stderr().is_terminal())
        // A log that cannot be written, on a full disk, must not panic whoever logs.
        .log_internal_errors(false)
        .init();
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
