//! `admin person …`.

use std::collections::BTreeSet;

use clap::Subcommand;
use data_encoding::BASE32_NOPAD;
use hubflight_store::{AdminRole, Member, Person, PersonProfile, Store};
use zeroize::Zeroizing;

use super::{ADMIN_ROLE, Desk, Place, lists};
use crate::auth::ADMIN_CATALOG;
use crate::auth::totp::Secret;
use crate::error::{Error, Result};
use crate::hub::factors;
use crate::provision::check_person_id;
use crate::sealed::random;

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
        /// Make them an administrator of all roles.
        #[arg(long)]
        admin: bool,
        /// Make them an administrator of this role (people, policy, billing or audit); may be
        /// repeated.
        #[arg(long = "role", value_parser = role, conflicts_with = "admin")]
        roles: Vec<AdminRole>,
    },
    /// Sets an administrator's roles; without any they are none. No role reads data.
    Roles {
        #[command(flatten)]
        place: Place,
        id: String,
        /// people, policy, billing or audit; may be repeated.
        #[arg(long = "role", value_parser = role)]
        roles: Vec<AdminRole>,
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
    /// Makes a new password, shows it once, and ends the person's sessions.
    Password {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        person: String,
    },
    /// Enrols a second factor, shows it once, and ends the person's sessions; a former one is
    /// not good any more. Its code follows the password: `password 123456`.
    Totp {
        #[command(flatten)]
        place: Place,
        #[arg(long)]
        person: String,
        /// Take the second factor away.
        #[arg(long)]
        remove: bool,
    },
    /// Ends the lock-out of a person whose logins failed too often.
    Unlock {
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
            | Self::Roles { place, .. }
            | Self::Unlock { place, .. }
            | Self::Password { place, .. }
            | Self::Totp { place, .. }
            | Self::Enable { place, .. } => place,
        }
    }
}

pub(super) async fn put_admin(
    desk: &Desk,
    id: &str,
    name: &str,
    roles: &BTreeSet<AdminRole>,
) -> Result<()> {
    put_person(&desk.store, id, name, true).await?;
    let member = Member {
        project: ADMIN_CATALOG.into(),
        person: id.into(),
        role: ADMIN_ROLE.into(),
    };
    desk.store.put_member(&member).await?;
    set_roles(desk, id, roles).await
}

async fn set_roles(desk: &Desk, id: &str, roles: &BTreeSet<AdminRole>) -> Result<()> {
    let mut write = desk.store.write().await?;
    write.set_admin_roles(id, roles).await?;
    let detail = format!("roles {}", names(roles));
    desk.audit(&mut write, "admin_roles_set", Some(id), &detail)
        .await?;
    write.commit().await?;
    Ok(())
}

fn names(roles: &BTreeSet<AdminRole>) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    match names.as_slice() {
        [] => "none".into(),
        names => names.join(", "),
    }
}

/// Changes the roles of a person; who gets the first becomes an administrator.
async fn roles(desk: &Desk, id: &str, roles: &BTreeSet<AdminRole>) -> Result<String> {
    let person = existing(&desk.store, id).await?;
    if roles.is_empty() {
        refuse_last(&desk.store, &person).await?;
        set_roles(desk, id, roles).await?;
    } else {
        let member = Member {
            project: ADMIN_CATALOG.into(),
            person: id.into(),
            role: ADMIN_ROLE.into(),
        };
        desk.store.put_member(&member).await?;
        set_roles(desk, id, roles).await?;
    }
    Ok(format!("roles of `{id}`: {}\n", names(roles)))
}

/// A hub keeps an administrator.
async fn refuse_last(store: &Store, person: &Person) -> Result<()> {
    let persons = store.persons().await?;
    let others = persons
        .iter()
        .any(|other| other.is_admin && other.active && other.id != person.id);
    if person.is_admin && !others {
        return Err(Error::invalid(format!(
            "`{}` is the last active administrator; add another first",
            person.id
        )));
    }
    Ok(())
}

fn role(text: &str) -> std::result::Result<AdminRole, String> {
    AdminRole::parse(text).ok_or_else(|| {
        let names = AdminRole::ALL.map(AdminRole::as_str).join(", ");
        format!("there are {names}")
    })
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

pub(super) async fn run(desk: &Desk, command: PersonCommand) -> Result<String> {
    let store = &desk.store;
    match command {
        PersonCommand::Add {
            id,
            name,
            admin,
            roles,
            ..
        } => {
            if store.person(&id).await?.is_some() {
                return Err(Error::invalid(format!(
                    "person `{id}` exists already; choose another identifier"
                )));
            }
            let roles: BTreeSet<AdminRole> = match admin {
                true => AdminRole::ALL.into(),
                false => roles.into_iter().collect(),
            };
            if roles.is_empty() {
                put_person(store, &id, &name, false).await?;
            } else {
                put_admin(desk, &id, &name, &roles).await?;
            }
            Ok(format!("person `{id}` is added\n"))
        }
        PersonCommand::Roles {
            id, roles: wanted, ..
        } => roles(desk, &id, &wanted.into_iter().collect()).await,
        PersonCommand::List { .. } => lists::persons(store).await,
        PersonCommand::Disable { id, .. } => {
            let person = existing(store, &id).await?;
            refuse_last(store, &person).await?;
            set_active(store, person, false).await?;
            store.raise_token_epoch(&id).await?;
            Ok(format!("person `{id}` is disabled\n"))
        }
        PersonCommand::Password { person, .. } => new_password(desk, &person).await,
        PersonCommand::Totp { person, remove, .. } => second_factor(desk, &person, remove).await,
        PersonCommand::Unlock { id, .. } => {
            existing(store, &id).await?;
            let mut write = store.write().await?;
            write.unlock(&id, desk.now).await?;
            desk.audit(&mut write, "login_unlocked", Some(&id), "")
                .await?;
            write.commit().await?;
            Ok(format!("person `{id}` is unlocked\n"))
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

/// Random bytes of a password: 128 bits, which nobody guesses.
const PASSWORD_BYTES: usize = 16;

async fn new_password(desk: &Desk, id: &str) -> Result<String> {
    existing(&desk.store, id).await?;
    let bytes = Zeroizing::new(random::<PASSWORD_BYTES>()?);
    let password = Zeroizing::new(BASE32_NOPAD.encode(&bytes[..]).to_lowercase());
    desk.store.set_password(id, &password).await?;
    let mut write = desk.store.write().await?;
    desk.audit(&mut write, "password_set", Some(id), "").await?;
    write.commit().await?;
    Ok(format!(
        "The password of `{id}`. It is shown only now.\n{}\n",
        password.as_str()
    ))
}

async fn second_factor(desk: &Desk, id: &str, remove: bool) -> Result<String> {
    existing(&desk.store, id).await?;
    let secret = Secret::new()?;
    let sealed = secret.seal(&factors(&desk.secrets), id)?;
    let (event, said) = if remove {
        let said = format!("`{id}` has no second factor any more\n");
        ("totp_removed", said)
    } else {
        let said = format!(
            "The second factor of `{id}`, for an authenticator. It is shown only now; its code \
             follows the password: `password 123456`.\n{}\n",
            secret.uri(id).as_str()
        );
        ("totp_enrolled", said)
    };
    let mut write = desk.store.write().await?;
    let sealed = (!remove).then_some(sealed.as_slice());
    write.set_totp(id, sealed).await?;
    desk.audit(&mut write, event, Some(id), "").await?;
    write.commit().await?;
    Ok(said)
}
