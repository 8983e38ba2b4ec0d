//! `bench list`, `bench run NAME`: named workloads, each against a peer or limit in one run.

mod client;
mod files;
mod process;
mod report;
mod server;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    about = "Workloads of Hubflight and their results"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the workloads.
    List,
    /// Runs one workload, prints its table and writes it under bench/results.
    Run {
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Writes the TPC-H tables as Parquet files, one folder a table.
    Tpch {
        folder: PathBuf,
        #[arg(long, default_value_t = 1.0)]
        scale: f64,
    },
}

/// What every workload takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Scale of TPC-H, or of the demo.
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Runs of each measurement; the best counts.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Folder of generated files and state.
    #[arg(long, default_value = "bench/data")]
    pub data: PathBuf,
    /// Folder of results; nothing is written when it is empty.
    #[arg(long, default_value = "bench/results")]
    pub results: PathBuf,
}

fn main() -> ExitCode {
    // The benchmarked server supervises this program as its worker.
    let mut words = std::env::args_os().skip(1).peekable();
    if words.peek().is_some_and(|word| word == "gpu-worker") {
        return gpu_worker::main_from_args(words);
    }
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List => {
            for workload in workloads::ALL {
                println!("{:10} {}", workload.name, workload.about);
            }
            Ok(())
        }
        Command::Tpch { folder, scale } => files::tpch(&folder, scale),
        Command::Run { name, options } => {
            let workload = workloads::find(&name)?;
            let runtime = tokio::runtime::Runtime::new()?;
            let report = runtime.block_on(workload.run(&options))?;
            report.print();
            report.write(&options)
        }
    }
}
