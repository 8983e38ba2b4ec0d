//! A server of the benchmarks' own, on free ports, with one account and one project a case.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use chrono::NaiveDate;
use flight_server::config::{
    Config, DatasetConfig, HabilitationConfig, PersonConfig, PersonsDefault, ProjectConfig,
};
use flight_server::hub::Mode;
use flight_server::server::Server;
use hubflight_rights::Zone;
use hubflight_rights::dataset::{Format, Table};
use hubflight_rights::habilitation::{ExportRule, Mode as Access, Tables};

use crate::client::Client;

pub const ACCOUNT: &str = "bench";
const PASSWORD: &str = "bench-only";

/// A dataset and what its project may do with it.
pub struct Case<'a> {
    pub dataset: &'a str,
    pub folder: &'a Path,
    pub tables: Vec<Table>,
    pub grants: Tables,
}

/// Starts a server whose only project sees the case's dataset. Its state is new.
pub async fn start(state: &Path, case: Case<'_>) -> Result<Server> {
    if state.exists() {
        std::fs::remove_dir_all(state)?;
    }
    same_secret(state)?;
    let mut config = Config::default();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    config.server.flight = any;
    let zone = Zone::try_from("inside".to_owned());
    config.server.zone = Some(zone.map_err(anyhow::Error::msg)?);
    config.server.http = any;
    config.server.state = state.to_owned();
    config.workers.listen = any;
    config.workers.echo = true;
    // All its clients are on this machine.
    config.limits.connections_per_address_max = Some(config.limits.connections_max);
    config.datasets.push(DatasetConfig {
        name: case.dataset.into(),
        title: "TPC-H".into(),
        producer: "TPC".into(),
        version: 1,
        synthetic: true,
        persons_min: hubflight_rights::dataset::PERSONS_MIN_DEFAULT,
        folder: case.folder.to_string_lossy().into_owned(),
        format: Format::Parquet,
        persons: case.tables.is_empty().then_some(PersonsDefault::None),
        tables: case.tables,
        storage: Default::default(),
    });
    let (from, to) = (day(2000)?, day(2100)?);
    config.persons.push(PersonConfig {
        id: ACCOUNT.into(),
        ..PersonConfig::default()
    });
    config.projects.push(ProjectConfig {
        id: "bench".into(),
        title: String::new(),
        purpose: String::new(),
        organisation: "bench".into(),
        members: vec![ACCOUNT.into()],
        valid_from: from,
        valid_to: to,
        space_quota_mb: 100,
    });
    config.habilitations.push(HabilitationConfig {
        project: "bench".into(),
        dataset: case.dataset.into(),
        mode: Access::Row,
        tables: case.grants,
        persons: None,
        linkage_group: None,
        zones: None,
        export: ExportRule::Rules,
        decision: "benchmark".into(),
        valid_from: from,
        valid_to: to,
    });
    let server = Server::start(config, Mode { passwords: true }).await?;
    server.hub.store.set_password(ACCOUNT, PASSWORD).await?;
    Ok(server)
}

/// The same secret for every case, so that their pseudonyms can be compared.
fn same_secret(state: &Path) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true).mode(0o700).create(state)?;
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create_new(true).mode(0o600);
    let mut file = file.open(state.join("master.key"))?;
    Ok(file.write_all("5".repeat(64).as_bytes())?)
}

pub async fn login(server: &Server) -> Result<Client> {
    Client::login(server.flight, ACCOUNT, PASSWORD).await
}

fn day(year: i32) -> Result<NaiveDate> {
    NaiveDate::from_ymd_opt(year, 1, 1).context("no such year")
}
