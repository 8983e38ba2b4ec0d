//! `admin token …`.

use chrono::{DateTime, Days, Utc};
use clap::Subcommand;
use hubflight_store::{IssuedToken, NewToken, Store};

use super::person::existing;
use super::{Desk, Place, lists};
use crate::auth::project_of;
use crate::change::{Act, Change};
use crate::error::{Error, Result};

/// No personal access token is valid for longer.
pub const TOKEN_DAYS_MAX: u64 = 366;

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

pub(super) async fn run(desk: &Desk, command: TokenCommand) -> Result<String> {
    let store = &desk.store;
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
            let wanted = Wanted {
                person: &person,
                project: &project,
                name: &name,
                days,
            };
            create(desk, &wanted).await
        }
        TokenCommand::List { person, .. } => {
            lists::tokens(store, person.as_deref(), desk.now).await
        }
        TokenCommand::Revoke { id, .. } => revoke(desk, &id).await,
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

/// A token that somebody asks for.
pub struct Wanted<'a> {
    pub person: &'a str,
    pub project: &'a str,
    pub name: &'a str,
    pub days: u64,
}

async fn create(desk: &Desk, wanted: &Wanted<'_>) -> Result<String> {
    let (person, project) = (wanted.person, wanted.project);
    if !existing(&desk.store, person).await?.active {
        return Err(Error::invalid(format!(
            "`{person}` is disabled; enable them first with `admin person enable`"
        )));
    }
    let mut change = desk.change().await?;
    let members = change.write.members(Some(project)).await?;
    if !members.iter().any(|member| member.person == person) {
        return Err(Error::not_found(format!(
            "`{person}` is no member of project `{project}`; `admin project list` shows who is"
        )));
    }
    let issued = issue(&mut change, wanted, desk.now).await?;
    desk.finish(change, shown_once(&issued, wanted)).await
}

/// Makes the token, and records by whose name and for what: whoever makes a token for somebody
/// else could act as them.
pub async fn issue(
    change: &mut Change<'_>,
    wanted: &Wanted<'_>,
    now: DateTime<Utc>,
) -> Result<IssuedToken> {
    let expires_at = now
        .checked_add_days(Days::new(wanted.days))
        .ok_or_else(|| {
            Error::invalid("the token would outlive the calendar; ask for fewer days")
        })?;
    let token = NewToken {
        person: wanted.person.into(),
        project: wanted.project.into(),
        name: wanted.name.into(),
        expires_at,
    };
    let issued = change.write.issue_token(&token).await?;
    change.record(Act {
        event: "token_created",
        person: Some(token.person),
        project: project_of(wanted.project),
        detail: format!(
            "token {} for catalog {}, {} days",
            issued.id, wanted.project, wanted.days
        ),
    });
    Ok(issued)
}

pub(super) async fn revoke(desk: &Desk, id: &str) -> Result<String> {
    let tokens = desk.store.tokens(None).await?;
    let token = tokens
        .into_iter()
        .find(|token| token.id == id && token.revoked_at.is_none())
        .ok_or_else(|| {
            Error::not_found(format!(
                "no token `{id}` is in force; `admin token list` shows which are"
            ))
        })?;
    let mut change = desk.change().await?;
    change.write.revoke_token(id, &token.person).await?;
    change.record(Act {
        event: "token_revoked",
        person: Some(token.person.clone()),
        project: project_of(&token.project),
        detail: format!("token {id} for catalog {}", token.project),
    });
    let said = format!("token `{id}` of `{}` is revoked\n", token.person);
    desk.finish(change, said).await
}

pub(super) fn shown_once(issued: &IssuedToken, wanted: &Wanted<'_>) -> String {
    format!(
        "Personal access token for catalog `{}`, valid for {} days. It is shown only now; use it \
         as the password or as the bearer token.\n{}\n",
        wanted.project,
        wanted.days,
        issued.text.as_str()
    )
}
