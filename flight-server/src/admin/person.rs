//! `admin person …`.

use clap::Subcommand;
use hubflight_store::{Member, Person, PersonProfile, Store};

use super::{ADMIN_ROLE, Place, lists};
use crate::auth::ADMIN_CATALOG;
use crate::error::{Error, Result};
use crate::provision::check_person_id;

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

impl PersonCommand {
    pub(super) fn place(&self) -> &Place {
        match self {
            Self::Add { place, .. }
            | Self::List { place }
            | Self::Disable { place, .. }
            | Self::Enable { place, .. } => place,
        }
    }
}

pub(super) async fn put_admin(store: &Store, id: &str, name: &str) -> Result<()> {
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

pub(super) async fn existing(store: &Store, id: &str) -> Result<Person> {
    store.person(id).await?.ok_or_else(|| {
        Error::not_found(format!(
            "person `{id}` does not exist; `admin person list` shows who does"
        ))
    })
}

pub(super) async fn run(store: &Store, command: PersonCommand) -> Result<String> {
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
