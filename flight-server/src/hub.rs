//! Everything that a request needs, opened once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeZone, Utc};
use hubflight_audit::{Signer, TextPublicKey, seal_text};
use hubflight_ledger::{AuditSettings, Ledger, LedgerLimits, Syslog, SyslogAddress, Witness};
use hubflight_policy::LinkageKeys;
use hubflight_policy::Sources;
use hubflight_rights::Rules;
use hubflight_store::{
    KeyError, LinkageGeneration, Organisation, Project, Rights, Secrets, Store, StoreError,
};
use hubflight_tickets::{Sealer, Tokens};
use hubflight_udfs::WorkerPool;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::at_rest::SealedStore;
use crate::auth::ADMIN_CATALOG;
use crate::auth::Authenticator;
use crate::auth::certificates::Judge;
use crate::auth::oidc::Providers;
use crate::auth::passwords::Passwords;
use crate::auth::session::Sessions;
use crate::catalog::datasets::Datasets;
use crate::catalog::{bucket, space};
use crate::change::Change;
use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::exec::Engine;
use crate::exec::dealt::Dealt;
use crate::exec::registry::Registry;
use crate::exec::transactions::Transactions;
use crate::exec::withdrawn::Withdrawn;
use crate::flight::{Begun, Handshakes, PreparedStatements};
use crate::linkage;
use crate::metrics::Metrics;
use crate::opposition;
use crate::rules;
use crate::tls;
use crate::versions::ReadVersions;

/// The open hub: state, engine and pool. Shared by all requests.
#[derive(Debug)]
pub struct Hub {
    pub config: Config,
    pub store: Store,
    pub ledger: Ledger,
    pub auth: Authenticator,
    pub datasets: Arc<Datasets>,
    /// The policies in force.
    pub rules: Arc<Rules>,
    /// Habilitations, read.
    pub versions: ReadVersions,
    pub engine: Engine,
    pub workers: Arc<WorkerPool>,
    pub metrics: Metrics,
    pub prepared: PreparedStatements,
    /// Those that wait for who they are.
    pub handshakes: Handshakes,
    /// Messages that known callers send.
    pub begun: Arc<Begun>,
    /// Executions that run now.
    pub running: Registry,
    /// Tickets that were cancelled before they were fetched.
    pub withdrawn: Withdrawn,
    /// Results that are read from several endpoints.
    pub dealt: Dealt,
    /// Transactions that are open here.
    pub transactions: Transactions,
    /// The files of all spaces, which are sealed.
    pub space_files: Arc<SealedStore>,
    /// What statements are writing into spaces now.
    pub space_writes: Arc<space::Writes>,
    /// Statements go before what the hub merges.
    pub space_turns: space::Turns,
    /// Seals tickets.
    pub tickets: Sealer,
    /// The revision of rights at which the list of persons who oppose was last read.
    pub oppositions_applied: tokio::sync::Mutex<Option<i64>>,
    /// Statements of administration go one after another: those that wait for the lock of rights
    /// would have connections that others write with.
    pub administering: Arc<tokio::sync::Mutex<()>>,
    /// Logical bytes of visible columns, by the digest of the view and the column.
    pub visible_sizes: Mutex<HashMap<([u8; 32], String), u64>>,
    secrets: Secrets,
}

/// What differs between the demo and a served hub.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// A password alone logs in (the demo only).
    pub passwords: bool,
}

/// The store of a configuration and the secrets beside it.
///
/// # Errors
/// `InvalidArgument` where the folder cannot be made private, the store cannot be opened, or
/// the secret is not the one that the store was made with.
pub async fn open_store(config: &Config) -> Result<(Store, Secrets)> {
    let state = &config.server.state;
    make_private(state)?;
    let url = match &config.server.database {
        Some(url) => url.0.clone(),
        None => format!("sqlite://{}", state.join("hub.sqlite").display()),
    };
    let wrong = |error: StoreError| Error::invalid(error.to_string());
    let store = Store::open(&url).await.map_err(wrong)?;
    let secrets = open_secrets(config, &store).await.map_err(wrong)?;
    ensure_admin_catalog(&store).await?;
    Ok((store, secrets))
}

/// Where the master secret is, in a state folder.
pub const SECRET_FILE: &str = "master.key";

async fn open_secrets(config: &Config, store: &Store) -> std::result::Result<Secrets, StoreError> {
    let file = config.server.state.join(SECRET_FILE);
    let Some(socket) = &config.server.key_process else {
        return store.secrets(&file).await;
    };
    if file.exists() {
        let reason = "`server.key_process` says that the secret is elsewhere; move this file \
                      there, or remove the line";
        return Err(StoreError::Keys(KeyError::File {
            path: file,
            reason: reason.to_owned(),
        }));
    }
    let secrets = Secrets::of_process(socket);
    store.check_secrets(&secrets).await?;
    Ok(secrets)
}

/// Signs the hub's audit log.
pub fn audit_signer(secrets: &Secrets) -> Result<Signer> {
    Signer::of_hub(&*secrets.derive("audit log")?)
        .map_err(|error| Error::internal("the audit log cannot be signed", &error))
}

/// Makes a folder that only its owner opens, or closes one that others could: the store names
/// persons who oppose.
fn make_private(folder: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(folder)
        .map_err(|error| Error::invalid(format!("cannot make `{}`: {error}", folder.display())))?;
    #[cfg(unix)]
    close_to_others(folder)?;
    Ok(())
}

#[cfg(unix)]
fn close_to_others(folder: &Path) -> Result<()> {
    use std::fs::{Permissions, metadata, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let refused = |reason: &dyn std::fmt::Display| {
        Error::invalid(format!(
            "the state folder `{}` {reason}; run `chmod 700` on it as its owner, or name a folder \
             of the hub's own as `server.state`",
            folder.display()
        ))
    };
    let unreadable = |error: std::io::Error| refused(&format!("cannot be looked at: {error}"));
    let mode = metadata(folder).map_err(unreadable)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    // A folder like /tmp is everybody's on purpose: closing it would break other programs.
    if mode & 0o1000 != 0 {
        return Err(refused(&"is shared with others"));
    }
    set_permissions(folder, Permissions::from_mode(0o700))
        .map_err(|error| refused(&format!("is open to others and cannot be closed: {error}")))?;
    tracing::warn!(
        folder = %folder.display(),
        mode = format!("{:o}", mode & 0o7777),
        "the state folder was open to others; it is its owner's alone now"
    );
    Ok(())
}

/// The catalog of administrators is a project that only they may enter, so that tokens can be
/// bound to it.
async fn ensure_admin_catalog(store: &Store) -> Result<()> {
    if store.project(ADMIN_CATALOG).await?.is_some() {
        return Ok(());
    }
    let organisation = Organisation {
        id: "hub".into(),
        name: "The hub itself".into(),
    };
    store.put_organisation(&organisation).await?;
    let epoch = Utc.timestamp_nanos(0);
    let project = Project {
        id: ADMIN_CATALOG.into(),
        title: "Administration".into(),
        purpose: "operation of the hub".into(),
        organisation: organisation.id,
        valid_from: epoch,
        valid_to: epoch + Duration::from_secs(200 * 365 * 86_400),
        space_quota_bytes: 0,
        budget: None,
    };
    store.put_project(&project).await?;
    Ok(())
}

/// Where the configuration keeps the audit's checkpoints besides the database.
///
/// # Errors
/// `InvalidArgument` where it names something else than a folder or a bucket.
pub fn witness(audit: &config::Audit) -> Result<Option<Witness>> {
    let Some(place) = &audit.witness else {
        if audit.storage.is_empty() {
            return Ok(None);
        }
        return Err(Error::invalid(
            "`audit.storage` is of a bucket; name it with `audit.witness`",
        ));
    };
    let shown = format!("`audit.witness` `{place}`");
    match bucket::reach(&shown, place, &audit.storage)? {
        Some(reached) => Ok(Some(Witness::bucket(
            reached.store,
            reached.folder,
            place.clone(),
        ))),
        None if audit.storage.is_empty() => Ok(Some(Witness::folder(place.into()))),
        None => Err(Error::invalid(format!(
            "{shown} is a folder, which has no `storage`"
        ))),
    }
}

/// The collector of syslog that the configuration tells the audit's checkpoints.
///
/// # Errors
/// `InvalidArgument` where its address or authority cannot be used.
pub fn syslog(audit: &config::Audit) -> Result<Option<Syslog>> {
    let Some(text) = &audit.syslog else {
        return match &audit.syslog_ca {
            None => Ok(None),
            Some(_) => Err(Error::invalid(
                "`audit.syslog_ca` is of a collector; name it with `audit.syslog`",
            )),
        };
    };
    let wrong = |reason: &dyn std::fmt::Display| {
        Error::invalid(format!("`audit.syslog` is `{text}`: {reason}"))
    };
    let address: SyslogAddress = text.parse().map_err(|reason| wrong(&reason))?;
    let authority = match &audit.syslog_ca {
        Some(file) => Some(tls::read(file)?),
        None => None,
    };
    Syslog::new(address, authority.as_deref())
        .map(Some)
        .map_err(|error| wrong(&error))
}

/// Seals the secrets of second factors.
pub fn factors(secrets: &Secrets) -> Result<Sealer> {
    let key = secrets.derive("second factors")?;
    Ok(Sealer::new(&key, b"hubflight totp 1"))
}

impl Hub {
    /// Opens the ledger and the datasets; what a dead server left open is settled on the way.
    pub async fn open(
        config: Config,
        mode: Mode,
        store: Store,
        secrets: Secrets,
        workers: Arc<WorkerPool>,
    ) -> Result<Arc<Self>> {
        let rules = rules::load(&config.policies)?;
        let engine = Engine::new(&config)?;
        let datasets = Datasets::open(&config.datasets, engine.template()).await?;
        let state = &config.server.state;
        let space_files = space::open_files(state, &store, &secrets, engine.template())?;
        let limits = &config.limits;
        let ledger_limits = LedgerLimits {
            checkpoint_ms: config.audit.checkpoint_seconds.saturating_mul(1_000),
            ..LedgerLimits::default()
        };
        let audit = AuditSettings {
            signer: audit_signer(&secrets)?,
            witness: witness(&config.audit)?,
            syslog: syslog(&config.audit)?,
        };
        let ledger = Ledger::open(&store, config.tariff()?, ledger_limits, audit)
            .await
            .map_err(|error| Error::invalid(error.to_string()))?;
        let auth = Authenticator {
            store: store.clone(),
            ledger: ledger.clone(),
            tokens: Tokens::new(
                &*secrets.derive("session tokens")?,
                limits.token_seconds_max,
            ),
            passwords: Passwords::new(mode.passwords, limits.attempts(), factors(&secrets)?)?,
            sessions: Sessions::new(
                limits.sessions_max,
                Duration::from_secs(limits.session_idle_seconds_max),
            ),
            providers: Providers::new(&config.oidc)?,
            certificates: match &config.server.tls {
                Some(files) => Judge::new(files)?,
                None => None,
            },
        };
        let hub = Arc::new(Self {
            auth,
            ledger,
            datasets: Arc::new(datasets),
            rules: Arc::new(rules),
            versions: ReadVersions::default(),
            engine,
            workers,
            metrics: Metrics::new()
                .map_err(|error| Error::internal("metrics cannot be registered", &error))?,
            prepared: PreparedStatements::new(limits.prepared_statements_max),
            handshakes: Handshakes::default(),
            begun: Arc::new(Begun::new(limits)),
            running: Registry::default(),
            withdrawn: Withdrawn::default(),
            dealt: Dealt::default(),
            transactions: Transactions::default(),
            space_files,
            space_writes: Arc::default(),
            space_turns: space::Turns::default(),
            tickets: Sealer::new(&*secrets.derive("tickets")?, b"hubflight ticket 1"),
            oppositions_applied: tokio::sync::Mutex::default(),
            administering: Arc::default(),
            visible_sizes: Mutex::default(),
            secrets,
            store,
            config,
        });
        let revision = hub.store.rights_revision().await?;
        opposition::apply(&hub, revision).await?;
        Ok(hub)
    }

    /// Begins a change that is recorded with what is done.
    pub async fn change(&self, client: &'static str, at: DateTime<Utc>) -> Result<Change<'_>> {
        Change::begin(&self.store, &self.secrets, client, at).await
    }

    /// For what administrators do, which is the same in SQL and by command.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The keys of a project's linkage group, in its present generation.
    pub async fn linkage_keys(
        &self,
        rights: &Rights<'_>,
        project: &str,
        linkage_group: &str,
    ) -> Result<Arc<LinkageKeys>> {
        let rotated = rights.linkage_generations(project).await?;
        let generation = LinkageGeneration::of(&rotated, linkage_group);
        linkage::keys(&self.secrets, project, linkage_group, generation)
    }

    /// A statement's text, sealed to its project and to the auditors, as far as they have keys:
    /// the hub cannot read it back. Empty where nobody has one.
    pub async fn sealed_text(
        &self,
        project: Option<&str>,
        statement_id: Uuid,
        text: &str,
    ) -> Result<Vec<u8>> {
        let keys = self.store.own_text_keys(&self.secrets, project).await?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let readers: Vec<TextPublicKey> = keys.into_iter().map(TextPublicKey::from_bytes).collect();
        seal_text(text.as_bytes(), statement_id, &readers)
            .map_err(|error| Error::internal("a statement's text cannot be sealed", &error))
    }

    /// Takes answers of aggregate mode from those that a project has today.
    ///
    /// # Errors
    /// `ResourceExhausted` where that would be more.
    pub async fn take_answers(&self, project: &str, answers: u32) -> Result<()> {
        let max = self.config.limits.aggregate_answers_per_day_max;
        if answers == 0
            || self
                .store
                .take_answers(project, Utc::now(), answers, max)
                .await?
        {
            return Ok(());
        }
        Err(Error::exhausted(format!(
            "project `{project}` may be answered {max} aggregates a day and this statement asks \
             for {answers} more; go on tomorrow, or ask an administrator"
        )))
    }

    /// True when the hub can answer queries: its store answers, and its ledger is written.
    pub async fn is_ready(&self) -> bool {
        self.ledger.is_writing() && self.store.project(ADMIN_CATALOG).await.is_ok()
    }

    /// Version of a dataset as it is served now.
    pub fn dataset_version(&self, name: &str) -> Option<u32> {
        Some(self.datasets.dataset(name)?.version)
    }
}

#[cfg(all(test, unix))]
mod tests;
