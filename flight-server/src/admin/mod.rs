//! `flight-server admin …`: persons, tokens, projects and habilitations of a store, as text.
//!
//! The commands work on the store itself, so they need its files or its database, not a
//! running server; a running one sees the change at its next call.

mod audit;
mod lists;

use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Days, Utc};
use clap::{Args, Subcommand};
use hubflight_store::{IssuedToken, Member, NewToken, Person, PersonProfile, Store};

use crate::auth::ADMIN_CATALOG;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::hub::open_store;
use crate::provision::check_person_id;

/// How long the token of the first administrator is valid.
const FIRST_TOKEN_DAYS: u64 = 90;
/// No personal access token is valid for longer.
const TOKEN_DAYS_MAX: u64 = 366;
/// Role of members of the administrators' catalog.
const ADMIN_ROLE: &str = "administrator";

/// Which hub is meant.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Place {
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
    #[command(subcommand)]
    Person(PersonCommand),
    /// Projects.
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Habilitations.
    #[command(subcommand)]
    Habilitation(HabilitationCommand),
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token for one project, and shows it once.
    Create {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        person: String,
        /// The project that the token is good for [default: the person's only one].
        #[arg(long)]
        project: Option<String>,
        /// How long it is valid.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..=TOKEN_DAYS_MAX))]
        days: u64,
        /// What the token is for.
        #[arg(long, default_value = "")]
        name: String,
    },
    /// Lists tokens, without their secrets.
    List {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        person: Option<String>,
    },
    /// Revokes a token at once.
    Revoke {
        #[command(flatten)]
        place: Place,
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum PersonCommand {
    /// Adds a person, who is in no project yet.
    Add {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        id: String,
        #[arg(long)]
        name: String,
        /// Make them an administrator.
        #[arg(long)]
        admin: bool,
    },
    /// Lists persons.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Ends a person's access, tokens and sessions, at once.
    Disable {
        #[command(flatten)]
        place: Place,
        id: String,
    },
    /// Gives a disabled person access again; sessions that ended stay ended.
    Enable {
        #[command(flatten)]
        place: Place,
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// Lists projects and their members.
    List {
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Subcommand)]
pub enum HabilitationCommand {
    /// Lists every version of every habilitation.
    List {
        #[command(flatten)]
        place: Place,
    },
}

impl HubCommand {
    fn place(&self) -> &Place {
        match self {
            Self::Init { place, .. }
            | Self::Token(
                TokenCommand::Create { place, .. }
                | TokenCommand::List { place, .. }
                | TokenCommand::Revoke { place, .. },
            )
            | Self::Person(
                PersonCommand::Add { place, .. }
                | PersonCommand::List { place }
                | PersonCommand::Disable { place, .. }
                | PersonCommand::Enable { place, .. },
            )
            | Self::Project(ProjectCommand::List { place })
            | Self::Habilitation(HabilitationCommand::List { place }) => place,
        }
    }
}

/// Runs one command and prints what it has to say.
pub async fn run(command: AdminCommand) -> anyhow::Result<()> {
    let command = match command {
        AdminCommand::Hub(command) => command,
        AdminCommand::Audit(command) => return audit::run(command).await,
    };
    let config = command.place().config()?;
    let (store, _secrets) = open_store(&config).await?;
    let text = execute(&store, command, Utc::now()).await?;
    store.close().await;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

impl Place {
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
    if !config.server.state.is_dir() {
        return Err(Error::invalid(format!(
            "`{}` is no folder of a demo; start one there with `flight-server demo --dir`",
            folder.display()
        )));
    }
    Ok(config)
}

async fn execute(store: &Store, command: HubCommand, now: DateTime<Utc>) -> Result<String> {
    match command {
        HubCommand::Init { id, name, .. } => init(store, &id, &name, now).await,
        HubCommand::Token(command) => token(store, command, now).await,
        HubCommand::Person(command) => person(store, command).await,
        HubCommand::Project(ProjectCommand::List { .. }) => lists::projects(store).await,
        HubCommand::Habilitation(HabilitationCommand::List { .. }) => {
            lists::habilitations(store, now).await
        }
    }
}

async fn init(store: &Store, id: &str, name: &str, now: DateTime<Utc>) -> Result<String> {
    let persons = store.persons().await?;
    if let Some(admin) = persons.iter().find(|person| person.is_admin) {
        return Err(Error::invalid(format!(
            "`{}` is an administrator already; add others with `admin person add --admin`",
            admin.id
        )));
    }
    // A person whom the configuration lists may become the administrator.
    put_admin(store, id, name).await?;
    let issued = issue(
        store,
        id,
        ADMIN_CATALOG,
        "first token",
        FIRST_TOKEN_DAYS,
        now,
    )
    .await?;
    Ok(format!(
        "`{id}` is the administrator of this hub.\n{}",
        shown_once(&issued, ADMIN_CATALOG, FIRST_TOKEN_DAYS)
    ))
}

async fn put_admin(store: &Store, id: &str, name: &str) -> Result<()> {
    put_person(store, id, name, true).await?;
    let member = Member {
        project: ADMIN_CATALOG.into(),
        person: id.into(),
        role: ADMIN_ROLE.into(),
    };
    store.put_member(&member).await?;
    Ok(())
}

async fn put_person(store: &Store, id: &str, name: &str, is_admin: bool) -> Result<()> {
    check_person_id(id)?;
    let profile = PersonProfile {
        id: id.into(),
        name: name.into(),
        active: true,
        is_admin,
    };
    store.put_person(&profile).await?;
    Ok(())
}

async fn token(store: &Store, command: TokenCommand, now: DateTime<Utc>) -> Result<String> {
    match command {
        TokenCommand::Create {
            person,
            project,
            days,
            name,
            ..
        } => {
            let project = match project {
                Some(project) => project,
                None => only_project(store, &person).await?,
            };
            let issued = issue(store, &person, &project, &name, days, now).await?;
            Ok(shown_once(&issued, &project, days))
        }
        TokenCommand::List { person, .. } => lists::tokens(store, person.as_deref(), now).await,
        TokenCommand::Revoke { id, .. } => {
            let tokens = store.tokens(None).await?;
            let token = tokens
                .iter()
                .find(|token| token.id == id && token.revoked_at.is_none())
                .ok_or_else(|| {
                    Error::not_found(format!(
                        "no token `{id}` is in force; `admin token list` shows which are"
                    ))
                })?;
            store.revoke_token(&id, &token.person).await?;
            Ok(format!("token `{id}` of `{}` is revoked\n", token.person))
        }
    }
}

async fn only_project(store: &Store, person: &str) -> Result<String> {
    existing(store, person).await?;
    let projects = store.projects_of(person).await?;
    let names: Vec<&str> = projects.iter().map(|project| project.id.as_str()).collect();
    match names.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(Error::invalid(format!(
            "`{person}` is a member of no project"
        ))),
        several => Err(Error::invalid(format!(
            "`{person}` has several projects; choose with `--project` one of `{}`",
            several.join("`, `")
        ))),
    }
}

async fn issue(
    store: &Store,
    person: &str,
    project: &str,
    name: &str,
    days: u64,
    now: DateTime<Utc>,
) -> Result<IssuedToken> {
    let holder = existing(store, person).await?;
    if !holder.active {
        return Err(Error::invalid(format!(
            "`{person}` is disabled; enable them first with `admin person enable`"
        )));
    }
    let expires_at = now.checked_add_days(Days::new(days)).ok_or_else(|| {
        Error::invalid("the token would outlive the calendar; ask for fewer days")
    })?;
    let members = store.members(Some(project)).await?;
    if !members.iter().any(|member| member.person == person) {
        return Err(Error::not_found(format!(
            "`{person}` is no member of project `{project}`; `admin project list` shows who is"
        )));
    }
    let token = NewToken {
        person: person.into(),
        project: project.into(),
        name: name.into(),
        expires_at,
    };
    Ok(store.issue_token(&token).await?)
}

fn shown_once(issued: &IssuedToken, project: &str, days: u64) -> String {
    format!(
        "Personal access token for catalog `{project}`, valid for {days} days. It is shown only \
         now; use it as the password or as the bearer token.\n{}\n",
        issued.text.as_str()
    )
}

async fn existing(store: &Store, id: &str) -> Result<Person> {
    store.person(id).await?.ok_or_else(|| {
        Error::not_found(format!(
            "person `{id}` does not exist; `admin person list` shows who does"
        ))
    })
}

async fn person(store: &Store, command: PersonCommand) -> Result<String> {
    match command {
        PersonCommand::Add {
            id, name, admin, ..
        } => {
            if store.person(&id).await?.is_some() {
                return Err(Error::invalid(format!(
                    "person `{id}` exists already; choose another identifier"
                )));
            }
            if admin {
                put_admin(store, &id, &name).await?;
            } else {
                put_person(store, &id, &name, false).await?;
            }
            Ok(format!("person `{id}` is added\n"))
        }
        PersonCommand::List { .. } => lists::persons(store).await,
        PersonCommand::Disable { id, .. } => {
            let person = existing(store, &id).await?;
            let admins = store.persons().await?;
            let others = admins
                .iter()
                .any(|other| other.is_admin && other.active && other.id != id);
            if person.is_admin && !others {
                return Err(Error::invalid(format!(
                    "`{id}` is the last active administrator; add another first"
                )));
            }
            set_active(store, person, false).await?;
            store.raise_token_epoch(&id).await?;
            Ok(format!("person `{id}` is disabled\n"))
        }
        PersonCommand::Enable { id, .. } => {
            set_active(store, existing(store, &id).await?, true).await?;
            Ok(format!("person `{id}` is enabled\n"))
        }
    }
}

async fn set_active(store: &Store, person: Person, active: bool) -> Result<()> {
    let profile = PersonProfile {
        id: person.id,
        name: person.name,
        active,
        is_admin: person.is_admin,
    };
    store.put_person(&profile).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: HubCommand,
    }

    struct Bench {
        folder: tempfile::TempDir,
        store: Store,
    }

    impl Bench {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let mut config = Config::default();
            config.server.state = folder.path().join("state");
            let (store, _) = open_store(&config).await.expect("opens");
            Self { folder, store }
        }

        async fn run(&self, line: &str) -> Result<String> {
            let words = ["admin"].into_iter().chain(line.split_whitespace());
            let place = ["--dir", self.folder.path().to_str().expect("a path")];
            let command = Line::try_parse_from(words.chain(place))
                .expect("a command")
                .command;
            execute(&self.store, command, Utc::now()).await
        }

        async fn holder(&self, text: &str) -> Option<(String, String)> {
            let token = text.lines().last().expect("a line");
            let holder = self
                .store
                .verify_token(token, Utc::now())
                .await
                .expect("checked");
            holder.map(|holder| (holder.person, holder.project))
        }
    }

    #[tokio::test]
    async fn the_first_administrator_is_made_once() {
        let bench = Bench::new().await;
        let said = bench.run("init --id root --name Root").await.expect("made");
        let holder = bench.holder(&said).await;
        assert_eq!(holder, Some(("root".into(), ADMIN_CATALOG.into())));
        let again = bench
            .run("init --id other --name Other")
            .await
            .expect_err("refused");
        assert!(again.to_string().contains("`root`"), "{again}");
        assert!(bench.store.person("other").await.expect("read").is_none());
        let listed = bench.run("person list").await.expect("listed");
        assert!(
            listed
                .lines()
                .any(|line| line.starts_with("root  Root  active  yes")),
            "{listed}"
        );
        bench
            .run("person disable root")
            .await
            .expect_err("the last administrator");
    }

    #[tokio::test]
    async fn tokens_are_made_listed_and_revoked() {
        let bench = Bench::new().await;
        bench.run("init --id root --name Root").await.expect("made");
        bench
            .run("person add --id ada --name Ada")
            .await
            .expect("added");
        bench
            .run("person add --id ada --name Ada")
            .await
            .expect_err("exists");
        bench
            .run("person add --id a:a --name Ada")
            .await
            .expect_err("no valid name");
        for (wrong, named) in [
            ("token create --person ada --days 5", "no project"),
            (
                "token create --person ada --project admin --days 5",
                "no member",
            ),
            ("token create --person eve --days 5", "`eve`"),
        ] {
            let error = bench.run(wrong).await.expect_err(wrong).to_string();
            assert!(error.contains(named), "{error}");
        }
        let made = bench
            .run("token create --person root --days 5 --name ci")
            .await
            .expect("made");
        assert!(bench.holder(&made).await.is_some());
        let listed = bench.run("token list --person root").await.expect("listed");
        let line = listed
            .lines()
            .find(|line| line.contains(" ci "))
            .expect("listed");
        assert!(line.ends_with("valid"), "{line}");
        let (secret, id) = (
            made.lines().last().expect("a line"),
            line.split(' ').next().expect("an id"),
        );
        assert!(!listed.contains(secret));
        bench
            .run(&format!("token revoke {id}"))
            .await
            .expect("revoked");
        bench
            .run(&format!("token revoke {id}"))
            .await
            .expect_err("revoked already");
        assert!(bench.holder(&made).await.is_none());
    }

    #[tokio::test]
    async fn a_disabled_person_has_no_access() {
        let bench = Bench::new().await;
        bench.run("init --id root --name Root").await.expect("made");
        bench
            .run("person add --admin --id two --name Two")
            .await
            .expect("added");
        let made = bench
            .run("token create --person two --days 5")
            .await
            .expect("made");
        let epoch = |person: Option<Person>| person.expect("there").token_epoch;
        let before = epoch(bench.store.person("two").await.expect("read"));
        bench.run("person disable two").await.expect("disabled");
        assert!(bench.holder(&made).await.is_none());
        assert!(epoch(bench.store.person("two").await.expect("read")) > before);
        bench
            .run("token create --person two --days 5")
            .await
            .expect_err("disabled");
        bench.run("person enable two").await.expect("enabled");
        assert!(bench.holder(&made).await.is_some());
    }

    #[test]
    fn a_place_is_needed_and_only_one() {
        let parse = |line: &str| Line::try_parse_from(line.split(' ')).map(|_| ());
        parse("admin person list --dir d").expect("fine");
        parse("admin person list").expect_err("no place");
        parse("admin person list --dir d --config c").expect_err("two places");
        parse("admin token create --person p --days 0 --dir d").expect_err("no days");
        parse("admin token create --person p --days 9999 --dir d").expect_err("too many days");
        let folder = tempfile::tempdir().expect("a folder");
        demo_config(folder.path()).expect_err("no demo there");
    }
}
