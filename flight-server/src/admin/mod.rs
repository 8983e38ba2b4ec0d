//! `flight-server admin …`: persons, tokens, projects, habilitations and oppositions of a
//! store, as text; and most of that as statements of catalog `admin` ([`call`]).
//!
//! The commands work on the store itself, so they need its files or its database, not a
//! running server; a running one sees the change at its next call, and ends what runs on a
//! right that is gone.

mod audit;
pub mod call;
mod condition;
mod door;
mod due;
mod effect;
mod export;
mod habilitation;
mod lists;
mod opposition;
mod person;
mod project;
mod review;
mod space;
mod stored;
#[cfg(test)]
mod tests;
mod token;
mod who;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use clap::{Args, Subcommand};
use hubflight_store::{AdminRole, Secrets, Store};

use crate::auth::ADMIN_CATALOG;
use crate::catalog::datasets::Datasets;
use crate::change::Change;
use crate::config::Config;
use crate::demo;
use crate::error::{Error, Result};
use crate::hub::open_store;
use door::{Door, Session};

pub use due::{Due, due};

pub use export::ExportCommand;
pub use habilitation::HabilitationCommand;
pub use opposition::OppositionCommand;
pub use person::PersonCommand;
pub use project::ProjectCommand;
pub use space::SpaceCommand;
pub use token::TokenCommand;
pub(crate) use token::{TOKEN_DAYS_MAX, Wanted, issue};
pub use who::{Judge, Seen};

/// How long the token of the first administrator is valid.
const FIRST_TOKEN_DAYS: u64 = 90;
/// Role of members of the administrators' catalog.
const ADMIN_ROLE: &str = "administrator";

/// Which hub is meant, and whether in earnest.
#[derive(Clone, Debug, Args)]
pub struct Place {
    #[command(flatten)]
    which: Which,
    /// Shows what would change for whom, and changes nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Which hub is meant.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Configuration of the hub.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of a demo.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    #[command(flatten)]
    Hub(HubCommand),
    /// The audit log: its proofs, its keys and its purge.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Makes the first administrator, and shows their access token once.
    Init {
        #[command(flatten)]
        place: Place,
        /// What the administrator logs in as.
        #[arg(long)]
        id: String,
        /// Their name.
        #[arg(long)]
        name: String,
    },
    /// Personal access tokens.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Persons.
    #[command(subcommand, alias = "people")]
    Person(PersonCommand),
    /// Projects.
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Habilitations.
    #[command(subcommand)]
    Habilitation(HabilitationCommand),
    /// Packages that are to leave the hub.
    #[command(subcommand)]
    Export(ExportCommand),
    /// Persons who oppose the use of their data.
    #[command(subcommand)]
    Opposition(OppositionCommand),
    /// The keys that projects' spaces are encrypted with.
    #[command(subcommand)]
    Space(SpaceCommand),
    /// What is looked through every month: unusual volumes, refusals, changes of rights.
    Review {
        #[command(flatten)]
        place: Place,
        /// The month, as 2026-11.
        #[arg(long, value_parser = review::month)]
        month: NaiveDate,
    },
    /// Who can see a column, how, and by which decision.
    Who {
        #[command(flatten)]
        place: Place,
        /// The column, as dataset.table.column.
        column: who::ColumnName,
    },
    /// What waits for somebody, and what ends soon.
    Due {
        #[command(flatten)]
        place: Place,
    },
}

impl HubCommand {
    fn place(&self) -> &Place {
        match self {
            Self::Init { place, .. }
            | Self::Review { place, .. }
            | Self::Who { place, .. }
            | Self::Due { place } => place,
            Self::Project(command) => command.place(),
            Self::Token(command) => command.place(),
            Self::Person(command) => command.place(),
            Self::Habilitation(command) => command.place(),
            Self::Export(command) => command.place(),
            Self::Opposition(command) => command.place(),
            Self::Space(command) => command.place(),
        }
    }
}

/// What a command or a statement works with.
struct Desk {
    config: Config,
    store: Store,
    secrets: Secrets,
    now: DateTime<Utc>,
    /// Changes are shown and not made.
    dry_run: bool,
    door: Door,
}

impl Desk {
    /// That of a session of a running hub.
    fn of_session(session: Session, dry_run: bool) -> Self {
        let hub = &session.hub;
        Self {
            config: hub.config.clone(),
            store: hub.store.clone(),
            secrets: hub.secrets().clone(),
            now: Utc::now(),
            dry_run,
            door: Door::Session(Box::new(session)),
        }
    }

    /// Begins a change that is recorded with what is done. Who makes it may do so until it ends.
    async fn change(&self) -> Result<Change<'_>> {
        let (store, secrets) = (&self.store, &self.secrets);
        let change = Change::begin(store, secrets, self.door.client(), self.now).await?;
        let change = change.in_turn(self.door.turn());
        self.door.confirm().await?;
        Ok(change)
    }

    /// Refuses what nobody does for themselves, as far as it is known who they are.
    fn refuse_oneself(&self, person: &str, what: &str) -> Result<()> {
        match self.door.person() {
            Some(own) if own == person => Err(Error::denied(format!(
                "nobody {what}; let another administrator do it"
            ))),
            _ => Ok(()),
        }
    }

    /// The datasets as they are served; `None` for a demo's, which its configuration does not name.
    async fn datasets(&self) -> Result<Option<Arc<Datasets>>> {
        if let Door::Session(session) = &self.door {
            return Ok(Some(Arc::clone(&session.hub.datasets)));
        }
        if self.config.datasets.is_empty() {
            return Ok(None);
        }
        let state = datafusion::prelude::SessionContext::new().state();
        let datasets = Datasets::open(&self.config.datasets, &state).await?;
        Ok(Some(Arc::new(datasets)))
    }

    /// Makes a change durable and says `said`; in a dry run drops it and says what it would
    /// have done.
    async fn finish(&self, change: Change<'_>, said: String) -> Result<String> {
        if self.dry_run {
            return effect::of(self, change).await;
        }
        change.commit().await?;
        Ok(said)
    }
}

/// Runs one command and prints what it has to say.
pub async fn run(command: AdminCommand) -> anyhow::Result<()> {
    let command = match command {
        AdminCommand::Hub(command) => command,
        AdminCommand::Audit(command) => return audit::run(command).await,
    };
    let Place { which, dry_run } = command.place();
    let (config, dry_run) = (which.config()?, *dry_run);
    let (store, secrets) = open_store(&config).await?;
    let now = Utc::now();
    let desk = Desk {
        config,
        store,
        secrets,
        now,
        dry_run,
        door: Door::command(),
    };
    let text = execute(&desk, command).await?;
    desk.store.close().await;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

impl Which {
    fn config(&self) -> Result<Config> {
        match (&self.config, &self.dir) {
            (Some(file), _) => Config::read(file),
            (None, Some(folder)) => demo_config(folder),
            (None, None) => Err(Error::invalid("name the hub with `--config` or `--dir`")),
        }
    }
}

/// The configuration of a demo as far as its store goes. A folder without one is refused, so
/// that a mistyped name does not make an empty hub.
fn demo_config(folder: &Path) -> Result<Config> {
    let mut config = Config::default();
    config.server.state = folder.join("state");
    config.server.zone = Some(demo::inside()?);
    if !config.server.state.is_dir() {
        return Err(Error::invalid(format!(
            "`{}` is no folder of a demo; start one there with `flight-server demo --dir`",
            folder.display()
        )));
    }
    Ok(config)
}

async fn execute(desk: &Desk, command: HubCommand) -> Result<String> {
    match command {
        HubCommand::Init { id, name, .. } => init(desk, &id, &name).await,
        HubCommand::Token(command) => token::run(desk, command).await,
        HubCommand::Person(command) => person::run(desk, command).await,
        HubCommand::Project(command) => project::run(desk, command).await,
        HubCommand::Habilitation(command) => habilitation::run(desk, command).await,
        HubCommand::Export(command) => export::run(desk, command).await,
        HubCommand::Opposition(command) => opposition::run(desk, command).await,
        HubCommand::Space(command) => space::run(desk, command).await,
        HubCommand::Review { month, .. } => review::of_month(desk, month).await,
        HubCommand::Who { column, .. } => who::who(desk, &column).await,
        HubCommand::Due { .. } => due::listed(desk).await,
    }
}

async fn init(desk: &Desk, id: &str, name: &str) -> Result<String> {
    let mut change = desk.change().await?;
    if let Some(admin) = change.write.administrators().await?.first() {
        return Err(Error::invalid(format!(
            "`{}` is an administrator already; add others with `admin person add --admin`",
            admin.id
        )));
    }
    // A person whom the configuration lists may become the administrator.
    person::put(&mut change, id, name).await?;
    change.write.set_active(id, true).await?;
    person::make_admin(&mut change, id, &AdminRole::ALL.into()).await?;
    let wanted = token::Wanted {
        person: id,
        project: ADMIN_CATALOG,
        name: "first token",
        days: FIRST_TOKEN_DAYS,
    };
    let issued = token::issue(&mut change, &wanted, desk.now).await?;
    let said = format!(
        "`{id}` is the administrator of this hub.\n{}",
        token::shown_once(&issued, &wanted)
    );
    desk.finish(change, said).await
}
