//! One configuration, read once. Unknown keys are errors; secrets never print.

pub mod identities;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use hubflight_ledger::{KEPT_MONTHS, Tariff, TariffParts};
use hubflight_protocol::{Key, user_key_file};
use hubflight_rights::Zone;
use hubflight_rights::dataset::{Format, PersonPath, Table};
use hubflight_rights::habilitation::{Cohort, ExportRule, Mode, Tables};
use hubflight_store::SpaceLimits;
use serde::Deserialize;

use crate::auth::AttemptLimits;
use crate::error::{Error, Result};
pub use identities::Oidc;

/// `hub.toml`. Every part has a default but what names the user's own data and people.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub server: Server,
    /// More addresses of Flight SQL, each with a zone of its own.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    pub limits: Limits,
    pub workers: Workers,
    pub audit: Audit,
    pub policies: Policies,
    /// Prices; without them use is recorded and costs nothing.
    pub tariff: Option<Tariff>,
    /// Providers whose tokens let persons in.
    pub oidc: Vec<Oidc>,
    #[serde(rename = "dataset")]
    pub datasets: Vec<DatasetConfig>,
    #[serde(rename = "person")]
    pub persons: Vec<PersonConfig>,
    #[serde(rename = "project")]
    pub projects: Vec<ProjectConfig>,
    #[serde(rename = "habilitation")]
    pub habilitations: Vec<HabilitationConfig>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address of Flight SQL; anything but loopback needs `tls`.
    pub flight: SocketAddr,
    /// Address of the HTTP pages and metrics, on loopback: a proxy ends TLS for them.
    pub http: SocketAddr,
    /// Folder of the store, its keys, spaces and spill files.
    pub state: PathBuf,
    /// `postgres://…`; SQLite in `state` when absent.
    pub database: Option<Redacted>,
    pub tls: Option<Tls>,
    /// Where the callers of `flight` are. Rows of datasets are not read from `outside`, which
    /// they are unless said otherwise.
    pub zone: Option<Zone>,
    /// The socket of a process apart that has the master secret; without, it is a file of `state`.
    pub key_process: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            flight: SocketAddr::from(([127, 0, 0, 1], 31337)),
            http: SocketAddr::from(([127, 0, 0, 1], 8080)),
            state: PathBuf::from("hubflight-state"),
            database: None,
            tls: None,
            zone: None,
            key_process: None,
        }
    }
}

/// An address of Flight SQL besides `server.flight`, with the same certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub flight: SocketAddr,
    pub zone: Zone,
    /// In place of what `server.tls` says.
    #[serde(default)]
    pub client_certificates: Option<ClientCertificates>,
}

/// PEM files of the server's certificate chain and key, and of what judges its clients'.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Authorities whose client certificates are looked at; without, none is asked for.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Their lists of revoked certificates, one of each authority in a chain. It is read again
    /// when it changes; nobody is let in by a certificate once a list is past its next update.
    #[serde(default)]
    pub client_crl: Option<PathBuf>,
    #[serde(default)]
    pub client_certificates: ClientCertificates,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    #[default]
    Optional,
    Required,
}

/// A text that is used but never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Redacted(pub String);

impl std::str::FromStr for Redacted {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The named limits of the server.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory that all queries may hold together.
    pub memory_mb_max: usize,
    /// Memory that one query may hold before it spills or is refused.
    pub query_memory_mb_max: usize,
    /// Disk that spilling may use.
    pub spill_mb_max: u64,
    /// Connections that each address of Flight SQL serves at once; others wait. Fewer where the
    /// process may not open as many files.
    pub connections_max: usize,
    /// Those of one client's address (of IPv6, the first 64 bits of it); more are refused. Behind a
    /// proxy or gateway all clients have one. Three quarters of all where it is not said.
    pub connections_per_address_max: Option<usize>,
    /// Calls of one person a minute; more are refused. A query is two to four.
    pub calls_per_minute_max: u32,
    /// Queries that run at once; others wait.
    pub queries_running_max: usize,
    /// Queries of one person that run at once; their others wait.
    pub queries_per_person_max: usize,
    /// Queries that wait at once; more are refused.
    pub queries_waiting_max: usize,
    pub queue_wait_ms_max: u64,
    pub statement_seconds_max: u64,
    /// How long a ticket can be redeemed before it must be renewed.
    pub ticket_seconds_max: u64,
    /// How long a transaction may last since it first changed something.
    pub transaction_seconds_max: u64,
    /// How long such a transaction waits for its next statement.
    pub transaction_idle_seconds_max: u64,
    /// How long a bearer token of a handshake lives.
    pub token_seconds_max: u64,
    /// Tables and views of one project's space.
    pub space_objects_max: usize,
    /// Files of one project's space, those too that were replaced lately.
    pub space_files_max: usize,
    /// Failed logins with a password after which a name is locked.
    pub login_failures_per_person_max: u32,
    /// The same for a client's address, whatever the names.
    pub login_failures_per_peer_max: u32,
    /// How long failures count, and lock.
    pub login_lock_seconds: u32,
    pub sessions_max: usize,
    pub session_idle_seconds_max: u64,
    pub prepared_statements_max: usize,
    pub sql_bytes_max: usize,
    /// Rows of parameters bound to one prepared statement.
    pub parameter_rows_max: usize,
    /// Values in those rows together.
    pub parameter_values_max: usize,
    /// Decoded size of one gRPC message from a client.
    pub message_bytes_max: usize,
    /// Bytes of messages that one person has begun to send and not ended, in all calls together, and
    /// of those that calls keep while they wait for more; twice `message_bytes_max` where it is not
    /// said, and never less than one message.
    pub begun_bytes_per_person_max: Option<usize>,
    /// Largest message sent; Arrow clients accept 16 MiB and more.
    pub frame_bytes_max: usize,
    /// How long a result may say nothing before a batch of no rows is sent.
    pub keep_alive_seconds: u64,
    /// Aggregates that a project is answered a day where it may see nothing else. Each tells a
    /// little of who is in it, and noise is averaged by many.
    pub aggregate_answers_per_day_max: u32,
    /// Rows of an export.
    pub export_rows_max: usize,
    /// Bytes of an export in memory.
    pub export_bytes_max: usize,
    /// Exports of a project that wait or are released at once.
    pub exports_open_max: u64,
    /// Exports that a project may ask for a day, whatever becomes of them: each is kept on record.
    pub export_requests_per_day_max: u64,
    /// Exports of a project that are released without a second person a day; more wait for one.
    pub exports_per_day_max: u64,
    /// How long a released export can be read.
    pub export_seconds_max: u64,
    /// How long an export waits for a second person.
    pub export_wait_seconds_max: u64,
    pub interim_ms: u64,
    pub interim_bytes: u64,
}

/// How often a ticket can live again, so that readers of many endpoints come to the last of them.
const TICKET_LIVES_MAX: u64 = 3;

impl Limits {
    /// How long a ticket can be redeemed, however often it is renewed.
    pub fn ticket_life_seconds_max(&self) -> u64 {
        self.ticket_seconds_max.saturating_mul(TICKET_LIVES_MAX)
    }

    /// Connections of one client's address, of so many that are served. One address alone leaves
    /// some of them to others, unless the operator says that it may have all.
    pub fn connections_per_address_max(&self, connections: usize) -> usize {
        let most = connections.saturating_mul(3) / 4;
        self.connections_per_address_max.unwrap_or(most).max(1)
    }

    /// Bytes of messages that one person has begun to send and not ended.
    pub fn begun_bytes_per_person_max(&self) -> usize {
        let of_messages = self.message_bytes_max.saturating_mul(2);
        let said = self.begun_bytes_per_person_max.unwrap_or(of_messages);
        said.max(self.message_bytes_max)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mb_max: 4096,
            query_memory_mb_max: 2048,
            spill_mb_max: 64 * 1024,
            connections_max: 1_024,
            connections_per_address_max: None,
            calls_per_minute_max: 60_000,
            queries_running_max: 16,
            queries_per_person_max: 8,
            queries_waiting_max: 256,
            queue_wait_ms_max: 30_000,
            statement_seconds_max: 3600,
            ticket_seconds_max: 600,
            transaction_seconds_max: 1800,
            transaction_idle_seconds_max: 900,
            token_seconds_max: 12 * 3600,
            space_objects_max: 10_000,
            space_files_max: 100_000,
            login_failures_per_person_max: 10,
            login_failures_per_peer_max: 200,
            login_lock_seconds: 900,
            sessions_max: 10_000,
            session_idle_seconds_max: 3600,
            prepared_statements_max: 10_000,
            sql_bytes_max: 1 << 20,
            parameter_rows_max: 10_000,
            parameter_values_max: 200_000,
            message_bytes_max: 64 << 20,
            begun_bytes_per_person_max: None,
            frame_bytes_max: 2 << 20,
            keep_alive_seconds: 25,
            aggregate_answers_per_day_max: 2_000,
            export_rows_max: 100_000,
            export_bytes_max: 64 << 20,
            exports_open_max: 50,
            export_requests_per_day_max: 200,
            exports_per_day_max: 20,
            export_seconds_max: 7 * 86_400,
            export_wait_seconds_max: 30 * 86_400,
            interim_ms: 1_000,
            interim_bytes: 16 << 20,
        }
    }
}

impl Limits {
    /// What the store checks of a space when a statement commits.
    pub fn space(&self) -> SpaceLimits {
        let count = |max: usize| i64::try_from(max).unwrap_or(i64::MAX);
        SpaceLimits {
            objects_max: count(self.space_objects_max),
            files_max: count(self.space_files_max),
        }
    }

    pub fn attempts(&self) -> AttemptLimits {
        AttemptLimits {
            login_failures_per_person_max: self.login_failures_per_person_max.max(1),
            login_failures_per_peer_max: self.login_failures_per_peer_max.max(1),
            login_lock_seconds: self.login_lock_seconds,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Folder, or `s3://bucket/folder`, that gets one file for each checkpoint of the audit log,
    /// best on another machine where nothing is overwritten. It must exist.
    pub witness: Option<String>,
    /// Options of that bucket's store, as those of a dataset.
    pub storage: BTreeMap<String, String>,
    /// Collector that is told each checkpoint: `unix:/dev/log`, `udp://host:514`,
    /// `tcp://host:601` or `tls://host:6514`.
    pub syslog: Option<String>,
    /// PEM file of the authority that signed the collector's certificate.
    pub syslog_ca: Option<PathBuf>,
    /// Between two checkpoints, while entries come.
    pub checkpoint_seconds: u64,
    /// Months for which the audit says who did what, 12 to 36: a purge before is refused, and one
    /// that is due after is listed by `admin due`.
    pub kept_months: u32,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            witness: None,
            storage: BTreeMap::new(),
            syslog: None,
            syslog_ca: None,
            checkpoint_seconds: 60,
            kept_months: *KEPT_MONTHS.start(),
        }
    }
}

/// What is forbidden beyond what habilitations leave out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// Files of policies in Cedar that forbid, checked at start against the hub's schema
    /// (`rights/src/rules/hub.cedarschema`).
    pub files: Vec<PathBuf>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workers {
    /// Addresses of running workers; when empty the server starts and supervises one of its
    /// own on `listen`.
    pub addresses: Vec<String>,
    pub listen: SocketAddr,
    /// File with the key that signs jobs, in hexadecimal, shared with the workers; made up at
    /// start when the server supervises its own worker. Workers on loopback may do without:
    /// then it is the one that `gpu-worker` keeps in the user's data folder.
    pub key_file: Option<PathBuf>,
    /// PEM file of the authority that signed the certificates of workers elsewhere.
    pub authority: Option<PathBuf>,
    /// Offers `echo(value)`, for measurements only.
    pub echo: bool,
}

impl Default for Workers {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 31338)),
            key_file: None,
            authority: None,
            echo: false,
        }
    }
}

/// A folder of files, or one `dataset.json`, that becomes a schema.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    pub name: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub producer: String,
    #[serde(default = "one")]
    pub version: u32,
    #[serde(default)]
    pub synthetic: bool,
    /// Distinct persons that a published aggregate needs (aggregate mode).
    #[serde(default = "persons_min")]
    pub persons_min: u32,
    /// Folder or URL in which each file or folder is a table.
    pub folder: String,
    #[serde(default)]
    pub format: Format,
    /// Path to the person of every table that `table` does not list: only `none` can be said
    /// of all at once. Without it, tables that are not listed are not exposed.
    #[serde(default)]
    pub persons: Option<PersonsDefault>,
    /// Tables with a path to the person, documentation, keys or identifiers of their own.
    #[serde(default, rename = "table")]
    pub tables: Vec<Table>,
    /// Options of an S3-like store (`endpoint`, `region`, `allow_http`); credentials come from
    /// the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`).
    #[serde(default)]
    pub storage: BTreeMap<String, String>,
}

fn one() -> u32 {
    1
}

fn persons_min() -> u32 {
    hubflight_rights::dataset::PERSONS_MIN_DEFAULT
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonsDefault {
    None,
}

impl From<PersonsDefault> for PersonPath {
    fn from(PersonsDefault::None: PersonsDefault) -> Self {
        PersonPath::None
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonConfig {
    pub id: String,
    #[serde(default)]
    pub name: String,
    /// The provider's name for them: the value of its `claim`.
    #[serde(default)]
    pub subject: Option<String>,
    /// Which `[[oidc]]` the subject is of, where there are several.
    #[serde(default)]
    pub issuer: Option<String>,
    /// Client certificates that stand for them: `sha256:` and the fingerprint.
    #[serde(default)]
    pub certificates: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectConfig {
    pub id: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub purpose: String,
    /// The organisation that pays.
    #[serde(default = "own_organisation")]
    pub organisation: String,
    pub members: Vec<String>,
    pub valid_from: NaiveDate,
    pub valid_to: NaiveDate,
    #[serde(default = "default_quota_mb")]
    pub space_quota_mb: u64,
}

pub(crate) fn own_organisation() -> String {
    "default".into()
}

pub(crate) fn default_quota_mb() -> u64 {
    10 * 1024
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HabilitationConfig {
    pub project: String,
    pub dataset: String,
    #[serde(default = "row_mode")]
    pub mode: Mode,
    #[serde(default = "all_tables")]
    pub tables: Tables,
    #[serde(default)]
    pub persons: Option<Cohort>,
    #[serde(default)]
    pub linkage_group: Option<String>,
    /// Zones from which it may be used; from `outside` only in aggregate mode with `export` as the
    /// rules decide.
    #[serde(default)]
    pub zones: Option<Vec<Zone>>,
    /// How what is made of it leaves the hub: `none`, `review` (a second person) or `rules`.
    #[serde(default)]
    pub export: ExportRule,
    pub decision: String,
    pub valid_from: NaiveDate,
    pub valid_to: NaiveDate,
}

fn row_mode() -> Mode {
    Mode::Row
}

fn all_tables() -> Tables {
    Tables::All
}

impl Config {
    /// Every address of Flight SQL with its zone, `server.flight` first.
    pub fn listeners(&self) -> Vec<Listener> {
        let first = Listener {
            flight: self.server.flight,
            zone: self.server.zone.clone().unwrap_or_default(),
            client_certificates: None,
        };
        std::iter::once(first)
            .chain(self.listeners.iter().cloned())
            .collect()
    }

    /// Reads a file; relative paths in it are relative to its folder.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::invalid(format!(
                "cannot read the configuration `{}`: {error}",
                path.display()
            ))
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            Error::invalid(format!("configuration `{}`: {error}", path.display()))
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        config.resolve(base);
        config.validate()?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        self.server.state = base.join(&self.server.state);
        if let Some(socket) = &mut self.server.key_process {
            *socket = base.join(&*socket);
        }
        for dataset in &mut self.datasets {
            if !dataset.folder.contains("://") {
                dataset.folder = base.join(&dataset.folder).to_string_lossy().into_owned();
            }
        }
        if let Some(tls) = &mut self.server.tls {
            tls.certificate = base.join(&tls.certificate);
            tls.key = base.join(&tls.key);
            for file in [&mut tls.client_ca, &mut tls.client_crl]
                .into_iter()
                .flatten()
            {
                *file = base.join(&*file);
            }
        }
        for provider in &mut self.oidc {
            provider.ca = provider.ca.as_ref().map(|file| base.join(file));
        }
        let audit = &mut self.audit;
        if let Some(witness) = audit.witness.as_mut().filter(|w| !w.contains("://")) {
            *witness = base.join(&*witness).to_string_lossy().into_owned();
        }
        audit.syslog_ca = audit.syslog_ca.as_ref().map(|file| base.join(file));
        for file in &mut self.policies.files {
            *file = base.join(&*file);
        }
        let workers = &mut self.workers;
        for file in [&mut workers.key_file, &mut workers.authority]
            .into_iter()
            .flatten()
        {
            *file = base.join(&*file);
        }
    }

    /// The prices, or a tariff that says that there are none.
    pub fn tariff(&self) -> Result<Tariff> {
        if let Some(tariff) = &self.tariff {
            return Ok(tariff.clone());
        }
        let parts = TariffParts {
            version: "unpriced".into(),
            currency: "EUR".into(),
            prices: Default::default(),
            functions: Default::default(),
        };
        Tariff::new(parts).map_err(|error| Error::invalid(error.to_string()))
    }

    /// Rules that types cannot hold.
    pub fn validate(&self) -> Result<()> {
        if !KEPT_MONTHS.contains(&self.audit.kept_months) {
            return Err(Error::invalid(format!(
                "`audit.kept_months` is {}; it can be {} to {}",
                self.audit.kept_months,
                KEPT_MONTHS.start(),
                KEPT_MONTHS.end()
            )));
        }
        let open = |address: &SocketAddr| !address.ip().is_loopback();
        if self.server.tls.is_none() && open(&self.server.flight) {
            return Err(Error::invalid(format!(
                "`server.flight` is `{}`: plaintext is for loopback only; set `server.tls` or \
                 an address of 127.0.0.0/8",
                self.server.flight
            )));
        }
        if let Some(listener) = self.listeners.iter().find(|other| open(&other.flight))
            && self.server.tls.is_none()
        {
            return Err(Error::invalid(format!(
                "`listener.flight` is `{}`: plaintext is for loopback only; set `server.tls` or \
                 an address of 127.0.0.0/8",
                listener.flight
            )));
        }
        if open(&self.server.flight) && self.server.zone.is_none() {
            return Err(Error::invalid(format!(
                "`server.flight` is `{}`: say where its callers are with `server.zone`, \
                 `outside` or a name such as `inside`",
                self.server.flight
            )));
        }
        if open(&self.server.http) {
            return Err(Error::invalid(format!(
                "`server.http` is `{}`: the HTTP pages are plaintext and for loopback only; \
                 put them behind a proxy that ends TLS",
                self.server.http
            )));
        }
        self.validate_client_certificates()?;
        self.validate_providers()?;
        self.identities()?;
        if self.limits.query_memory_mb_max > self.limits.memory_mb_max {
            return Err(Error::invalid(
                "`limits.query_memory_mb_max` is larger than `limits.memory_mb_max`",
            ));
        }
        let elsewhere = |address: &&String| {
            !address
                .trim_start_matches("http://")
                .parse::<SocketAddr>()
                .is_ok_and(|address| address.ip().is_loopback())
        };
        if let Some(address) = self.workers.addresses.iter().find(elsewhere)
            && self.workers.key_file.is_none()
        {
            return Err(Error::invalid(format!(
                "worker `{address}` is not a loopback address: set `workers.key_file`, the key \
                 that signs jobs, shared with the workers"
            )));
        }
        Ok(())
    }

    /// The key shared with the workers of `addresses`.
    pub fn worker_key(&self) -> Result<Key> {
        let folder = |name| std::env::var_os(name).map(PathBuf::from);
        let (path, read) = match &self.workers.key_file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let key = text.and_then(|text| Key::from_hex(&text).map_err(std::io::Error::other));
                (path.clone(), key)
            }
            None => {
                let path = user_key_file(folder("XDG_DATA_HOME"), folder("HOME"));
                let path = path.ok_or_else(|| Error::invalid("set `workers.key_file`"))?;
                let key = Key::read_or_make(&path);
                (path, key)
            }
        };
        read.map_err(|error| {
            let path = path.display();
            Error::invalid(format!("cannot use the workers' key in `{path}`: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("[server]\nflihgt = '127.0.0.1:1'").expect_err("must fail");
        assert!(error.contains("flihgt"), "{error}");
    }

    #[test]
    fn plaintext_off_loopback_is_refused() {
        let error = parse("[server]\nflight = '0.0.0.0:31337'").expect_err("must fail");
        assert!(error.contains("loopback"), "{error}");
        parse("[server]\nflight = '127.0.0.2:31337'").expect("loopback is fine");
    }

    #[test]
    fn callers_from_elsewhere_are_in_a_zone() {
        let tls = "tls = { certificate = 'c', key = 'k' }";
        let error = parse(&format!("[server]\nflight = '0.0.0.0:1'\n{tls}")).expect_err("no zone");
        assert!(error.contains("server.zone"), "{error}");
        let text = format!("[server]\nflight = '0.0.0.0:1'\nzone = 'inside'\n{tls}");
        let config = parse(&text).expect("a zone");
        assert_eq!(config.listeners()[0].zone.name(), "inside");
        let undeclared = parse("").expect("loopback").listeners();
        assert_eq!(undeclared[0].zone.name(), "outside");
        parse("[server]\nzone = 'In Side'").expect_err("no name");
        let error =
            parse("[[listener]]\nflight = '0.0.0.0:1'\nzone = 'outside'").expect_err("plain");
        assert!(error.contains("listener.flight"), "{error}");
    }

    #[test]
    fn workers_elsewhere_need_a_key() {
        parse("[workers]\naddresses = ['127.0.0.1:1', 'http://[::1]:1']").expect("loopback");
        for address in [
            "10.0.0.1:1",
            "pool:1",
            "127.0.0.1.example.org:1",
            "https://pool:1",
        ] {
            let text = format!("[workers]\naddresses = ['{address}']");
            let error = parse(&text).expect_err("must fail");
            assert!(error.contains(address), "{error}");
            parse(&format!("{text}\nkey_file = 'k'")).expect("with a key");
        }
    }

    #[test]
    fn places_of_the_audit_are_checked() {
        let places = |text: &str| {
            let audit = parse(&format!("[audit]\n{text}")).expect(text).audit;
            let witness = crate::hub::witness(&audit).map_err(|error| error.to_string())?;
            let syslog = crate::hub::syslog(&audit).map_err(|error| error.to_string())?;
            Ok::<_, String>((witness.is_some(), syslog.is_some()))
        };
        let region = "storage = { region = 'us-east-1' }";
        for (text, found) in [
            ("", (false, false)),
            ("witness = '/mnt/audit'", (true, false)),
            (
                format!("witness = 's3://hub/audit'\n{region}").as_str(),
                (true, false),
            ),
            ("syslog = 'unix:/dev/log'", (false, true)),
            ("witness = 'audit'\nsyslog = 'tcp://logs:601'", (true, true)),
        ] {
            assert_eq!(places(text), Ok(found), "{text}");
        }
        for (text, said) in [
            ("witness = 'gs://hub/audit'", "s3://"),
            (
                format!("witness = '/mnt/audit'\n{region}").as_str(),
                "storage",
            ),
            (region, "audit.witness"),
            ("witness = 's3://hub/a'\nstorage = { wrong = '1' }", "wrong"),
            ("syslog = '/dev/log'", "unix:/dev/log"),
            ("syslog = 'udp://logs'", "port"),
            ("syslog = 'tls://logs:6514'", "authority"),
            (
                "syslog = 'tls://logs:6514'\nsyslog_ca = '/nowhere.pem'",
                "/nowhere.pem",
            ),
            (
                "syslog = 'tcp://logs:601'\nsyslog_ca = 'Cargo.toml'",
                "only tls://",
            ),
            ("syslog_ca = 'ca.pem'", "audit.syslog"),
        ] {
            let wrong = places(text).expect_err(text);
            assert!(wrong.contains(said), "{text}: {wrong}");
        }
        parse("[audit]\nwitnes = 'x'").expect_err("unknown");
    }

    #[test]
    fn one_address_leaves_connections_to_others() {
        let limits = Limits::default();
        assert_eq!(limits.connections_max, 1_024);
        for (connections, expected) in [(1_024, 768), (512, 384), (2, 1), (1, 1)] {
            let most = limits.connections_per_address_max(connections);
            assert_eq!(most, expected, "of {connections}");
        }
        for (said, expected) in [(40, 40), (1_024, 1_024), (0, 1)] {
            let text = format!("[limits]\nconnections_per_address_max = {said}");
            let limits = parse(&text).expect("valid").limits;
            assert_eq!(limits.connections_per_address_max(1_024), expected);
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let config = parse("[server]\ndatabase = 'postgres://u:hunter2@h/d'").expect("valid");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
