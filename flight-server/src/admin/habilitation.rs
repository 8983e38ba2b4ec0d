//! `admin habilitation …`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hubflight_rights::habilitation::Habilitation;
use hubflight_store::{AdminRole, NewHabilitation};

use super::door::{Door, check_role};
use super::{Desk, Place, lists};
use crate::auth::ADMIN_CATALOG;
use crate::change::Act;
use crate::config::{HabilitationConfig, Redacted};
use crate::error::{Error, Result};
use crate::provision;

#[derive(Debug, Subcommand)]
pub enum HabilitationCommand {
    /// Lists every version of every habilitation.
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Enters a habilitation, which is in force when a second person has confirmed it.
    Enter {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        actor: Actor,
        /// File with the keys of one `[[habilitation]]` of a configuration.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// Confirms what another person entered; no member of its project can, and a confirmation
    /// does not count while who gave it is one.
    Confirm {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        actor: Actor,
        id: String,
        #[arg(long)]
        version: u32,
    },
    /// Ends a habilitation at once, also under statements that run; one of the configuration
    /// comes back with the next start unless it is taken out there.
    Revoke {
        #[command(flatten)]
        place: Place,
        id: String,
    },
}

/// Who acts: an administrator with the role that it takes.
#[derive(Debug, Args)]
pub struct Actor {
    /// Their access token for catalog `admin`.
    #[arg(long, env = "HUBFLIGHT_TOKEN", hide_env_values = true)]
    token: Redacted,
}

impl HabilitationCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::List { place }
            | Self::Enter { place, .. }
            | Self::Confirm { place, .. }
            | Self::Revoke { place, .. } => place,
        }
    }
}

pub(super) async fn run(desk: &Desk, command: HabilitationCommand) -> Result<String> {
    match command {
        HabilitationCommand::List { .. } => lists::habilitations(&desk.store, desk.now).await,
        HabilitationCommand::Enter { actor, file, .. } => {
            let name = file.display().to_string();
            let text = std::fs::read_to_string(&file).map_err(|error| wrong(&name, &error))?;
            enter(desk, Some(&actor), &name, &text).await
        }
        HabilitationCommand::Confirm {
            actor, id, version, ..
        } => confirm(desk, Some(&actor), &id, version).await,
        HabilitationCommand::Revoke { id, .. } => revoke(desk, &id).await,
    }
}

pub(super) async fn revoke(desk: &Desk, id: &str) -> Result<String> {
    let mut change = desk.change().await?;
    let mut rows = change.write.habilitations().await?.into_iter();
    let row = rows
        .rfind(|row| row.id == id && row.revoked_at.is_none())
        .ok_or_else(|| {
            Error::not_found(format!(
                "no habilitation `{id}` is in force; `admin habilitation list` shows which are"
            ))
        })?;
    change.write.revoke_habilitation(id).await?;
    change.record(Act {
        event: "habilitation_revoked",
        project: Some(row.project),
        detail: format!("habilitation {id}"),
        ..Act::default()
    });
    let said = format!("habilitation `{id}` is revoked\n");
    desk.finish(change, said).await
}

/// The administrator of a session, or whose token it is: who acts is shown, not claimed.
pub(super) async fn acting(desk: &Desk, actor: Option<&Actor>, role: AdminRole) -> Result<String> {
    if let Door::Session(session) = &desk.door {
        check_role(&BTreeSet::from([session.role]), role)?;
        return Ok(session.standing.person.clone());
    }
    let rights = desk.store.rights().await?;
    let holder = match actor {
        Some(actor) => rights.verify_token(&actor.token.0, desk.now).await?,
        None => None,
    };
    let holder = holder
        .filter(|holder| holder.project == ADMIN_CATALOG)
        .ok_or_else(|| {
            Error::unauthenticated(
                "give your own access token for catalog `admin`, as HUBFLIGHT_TOKEN",
            )
        })?;
    let roles = desk.store.admin_roles(&holder.person).await?;
    if !roles.contains(&role) {
        return Err(Error::denied(format!(
            "`{}` does not have the role `{}`",
            holder.person,
            role.as_str()
        )));
    }
    Ok(holder.person)
}

fn wrong(name: &str, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("habilitation `{name}`: {error}"))
}

/// Enters what `text` says, the keys of one `[[habilitation]]` of a configuration; `name` is what
/// errors call it.
pub(super) async fn enter(
    desk: &Desk,
    actor: Option<&Actor>,
    name: &str,
    text: &str,
) -> Result<String> {
    let entry: HabilitationConfig = toml::from_str(text).map_err(|error| wrong(name, &error))?;
    let mut habilitation = provision::habilitation(&entry);
    check(desk, &entry, &habilitation).await?;
    // Nobody's role changes between here and the end.
    let mut change = desk.change().await?;
    let person = &acting(desk, actor, AdminRole::Policy).await?;
    let rows = change.write.habilitations().await?;
    let newest = rows.iter().filter(|row| row.id == habilitation.id);
    let newest = newest.map(|row| row.version).max().unwrap_or(0);
    habilitation.version = newest
        .checked_add(1)
        .ok_or_else(|| Error::invalid("the habilitation has no version number left"))?;
    let new = NewHabilitation {
        id: habilitation.id.clone(),
        version: habilitation.version,
        project: habilitation.project.clone(),
        dataset: habilitation.dataset.clone(),
        body: serde_json::to_string(&habilitation)
            .map_err(|error| Error::internal("a habilitation cannot be written", &error))?,
    };
    change.write.enter_habilitation(&new, person).await?;
    let (id, version) = (&new.id, new.version);
    change.record(Act {
        event: "habilitation_entered",
        person: Some(person.to_owned()),
        project: Some(new.project.clone()),
        detail: format!("habilitation {id} version {version}"),
    });
    let said = format!(
        "habilitation `{id}` version {version} waits for a second person: `admin habilitation \
         confirm {id} --version {version}`\n"
    );
    desk.finish(change, said).await
}

/// What the configuration decides is not decided here, and what does not fit the files is not
/// entered.
async fn check(desk: &Desk, entry: &HabilitationConfig, wanted: &Habilitation) -> Result<()> {
    let datasets = desk.datasets().await?.ok_or_else(|| {
        Error::invalid(
            "habilitations are checked against the datasets: name the hub with `--config`; a \
             demo's are part of the demo, which takes `CALL hub.habilitation_enter('…')`",
        )
    })?;
    if desk.store.project(&entry.project).await?.is_none() {
        return Err(Error::not_found(format!(
            "project `{}` does not exist; `admin project list` shows which do",
            entry.project
        )));
    }
    let mut listed = desk.config.habilitations.iter();
    if listed.any(|own| own.project == entry.project && own.dataset == entry.dataset) {
        return Err(Error::invalid(format!(
            "the configuration has a habilitation of `{}` for `{}`; change it there",
            entry.project, entry.dataset
        )));
    }
    provision::check_habilitation(wanted, &datasets)
}

pub(super) async fn confirm(
    desk: &Desk,
    actor: Option<&Actor>,
    id: &str,
    version: u32,
) -> Result<String> {
    // Nobody's role or membership changes between here and the end.
    let mut change = desk.change().await?;
    let person = acting(desk, actor, AdminRole::Policy).await?;
    let rows = change.write.habilitations().await?.into_iter();
    let row = rows
        .filter(|row| row.is_pending() || row.confirmer_is_member)
        .find(|row| row.id == id && row.version == version && row.revoked_at.is_none())
        .ok_or_else(|| {
            Error::not_found(format!(
                "no version {version} of habilitation `{id}` waits for confirmation; `admin \
                 habilitation list` shows what does"
            ))
        })?;
    if !change
        .write
        .confirm_habilitation(id, version, &person)
        .await?
    {
        return Err(Error::denied(format!(
            "`{person}` cannot confirm it: neither who entered it nor a member of project `{}` \
             can; a confirmation does not count while who gave it is a member",
            row.project
        )));
    }
    change.record(Act {
        event: "habilitation_confirmed",
        person: Some(person),
        project: Some(row.project),
        detail: format!("habilitation {id} version {version}"),
    });
    let said = format!("habilitation `{id}` version {version} is confirmed\n");
    desk.finish(change, said).await
}
