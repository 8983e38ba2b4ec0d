//! `admin token …`.

use chrono::{DateTime, Days, Utc};
use clap::Subcommand;
use hubflight_store::{IssuedToken, NewToken, Store};

use super::person::existing;
use super::{Place, lists};
use crate::error::{Error, Result};

/// No personal access token is valid for longer.
const TOKEN_DAYS_MAX: u64 = 366;

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

impl TokenCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::Create { place, .. } | Self::List { place, .. } | Self::Revoke { place, .. } => {
                place
            }
        }
    }
}

pub(super) async fn run(
    store: &Store,
    command: TokenCommand,
    now: DateTime<Utc>,
) -> Result<String> {
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

pub(super) async fn issue(
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

pub(super) fn shown_once(issued: &IssuedToken, project: &str, days: u64) -> String {
    format!(
        "Personal access token for catalog `{project}`, valid for {days} days. It is shown only \
         now; use it as the password or as the bearer token.\n{}\n",
        issued.text.as_str()
    )
}
