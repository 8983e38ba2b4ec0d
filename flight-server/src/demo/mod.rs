//! `flight-server demo`: synthetic data, accounts, a server on loopback, and a showcase that a
//! real Flight SQL client runs.

mod accounts;
mod showcase;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use hubflight_rights::Zone;
use hubflight_synth::{Facts, Request};

use crate::config::Config;
use crate::error::Error;
use crate::hub::Mode;
use crate::server::Server;
use crate::tls;

/// The demo is the same for everybody.
const SEED: u64 = 20_260_101;

#[derive(Clone, Debug, Args)]
pub struct DemoArguments {
    /// Folder of the demo's data and state.
    #[arg(long, default_value = "hubflight-demo", value_name = "DIR")]
    pub dir: PathBuf,
    /// Size of the data: 1 is 10,000 persons and about a million claims.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    pub scale: f64,
    /// Ends after the showcase.
    #[arg(long)]
    pub once: bool,
    #[arg(long, default_value = "127.0.0.1:31337", value_name = "ADDRESS")]
    pub flight_addr: SocketAddr,
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub http_addr: SocketAddr,
    /// Address of the worker that the demo starts.
    #[arg(long, default_value = "127.0.0.1:31338", value_name = "ADDRESS")]
    pub worker_addr: SocketAddr,
    /// Running workers on this machine instead of one of the demo's own.
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS,…")]
    pub workers: Vec<String>,
    /// Their key, unless it is the one that `gpu-worker` keeps in the user's data folder.
    #[arg(long, value_name = "FILE", requires = "workers")]
    pub worker_key_file: Option<PathBuf>,
    /// TLS with an authority of the demo's own, in DIR/tls/ca.pem.
    #[arg(long)]
    pub tls: bool,
}

pub async fn run(arguments: DemoArguments) -> anyhow::Result<()> {
    ensure!(
        arguments.scale.is_finite() && (0.01..=1000.0).contains(&arguments.scale),
        "`--scale {}` is out of range; write a number from 0.01 to 1000",
        arguments.scale
    );
    let facts = data(&arguments).await?;
    let started = Instant::now();
    let config = configuration(&arguments, &facts)?;
    let server = start(config).await?;
    println!(
        "Flight SQL on {}, pages on http://{}/ (ready in {:.1} s)\n",
        server.flight,
        server.http,
        started.elapsed().as_secs_f64()
    );
    let shown = showcase::run(&server, &arguments, &facts).await;
    if arguments.once {
        server.stop().await?;
        return shown;
    }
    if let Err(error) = &shown {
        eprintln!("error: the showcase failed: {error:#}");
    }
    println!("Serving until Ctrl-C. Each account's password is its name and `-demo`.");
    Ok(server.run(interrupted()).await?)
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// A demo server with its accounts.
pub async fn start(config: Config) -> anyhow::Result<Server> {
    let server = Server::start(config, Mode { passwords: true }).await?;
    accounts::set_passwords(&server.hub.store).await?;
    Ok(server)
}

/// Makes the data unless they are there already, in this version and size. A child does it: it
/// takes hundreds of megabytes, which an allocator does not soon give back.
async fn data(arguments: &DemoArguments) -> anyhow::Result<Facts> {
    let dir = data_dir(&arguments.dir);
    if let Some(facts) = Facts::current(&request(&dir, arguments.scale)) {
        return Ok(facts);
    }
    let made = tokio::process::Command::new(std::env::current_exe()?)
        .arg("make-demo-data")
        .arg("--dir")
        .arg(&dir)
        .arg("--scale")
        .arg(arguments.scale.to_string())
        .kill_on_drop(true)
        .status()
        .await
        .context("the generator cannot be started")?;
    ensure!(made.success(), "the generator failed ({made})");
    Facts::read(&dir)
}

/// Makes the data in `dir`, and says how much and how fast.
pub fn make_data(dir: &Path, scale: f64) -> anyhow::Result<()> {
    let started = Instant::now();
    let summary = hubflight_synth::generate(&request(dir, scale))?;
    println!(
        "Made synthetic data in {:.1} s: {} persons, {} claims, {} stays, {} ECG, {} images, \
         {} documents",
        started.elapsed().as_secs_f64(),
        summary.persons,
        summary.claims,
        summary.stays,
        summary.recordings,
        summary.images,
        summary.documents
    );
    Ok(())
}

fn request(dir: &Path, scale: f64) -> Request<'_> {
    Request {
        dir,
        scale,
        seed: SEED,
        progress: true,
    }
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

/// The demo's listener is on loopback, for those who sit at the machine.
pub fn inside() -> Result<Zone, Error> {
    Zone::try_from("inside".to_owned()).map_err(Error::invalid)
}

/// The configuration of the demo: what `hub.toml` would say.
pub fn configuration(arguments: &DemoArguments, facts: &Facts) -> Result<Config, Error> {
    let mut config = Config::default();
    config.server.flight = arguments.flight_addr;
    config.server.http = arguments.http_addr;
    config.server.state = arguments.dir.join("state");
    config.server.zone = Some(inside()?);
    config.workers.listen = arguments.worker_addr;
    config.workers.addresses = arguments.workers.clone();
    config.workers.key_file = arguments.worker_key_file.clone();
    config.tariff = Some(accounts::tariff()?);
    if arguments.tls {
        let made = tls::demo_authority(&arguments.dir.join("tls"))?;
        config.server.tls = Some(made.server);
    }
    accounts::describe(
        &mut config,
        &data_dir(&arguments.dir).join("datasets"),
        facts,
    )?;
    Ok(config)
}
