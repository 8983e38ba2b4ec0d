//! `admin person …`.

use std::collections::BTreeSet;

use clap::Subcommand;
use data_encoding::BASE32_NOPAD;
use hubflight_store::{AdminRole, Member, Person, PersonProfile, Put, Store};
use hubflight_tickets::random;
use zeroize::Zeroizing;

use super::{ADMIN_ROLE, Desk, Place, lists};
use crate::auth::ADMIN_CATALOG;
use crate::auth::totp::Secret;
use crate::change::{Act, Change};
use crate::error::{Error, Result};
use crate::hub::factors;
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
    /// Renames a person.
    Rename {
        #[command(flatten)]
        place: Place,
        id: String,
        #[arg(long)]
        name: String,
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
            | Self::Rename { place, .. }
            | Self::Unlock { place, .. }
            | Self::Password { place, .. }
            | Self::Totp { place, .. }
            | Self::Enable { place, .. } => place,
        }
    }
}

/// Gives a person these roles, of which there is at least one, and a place in the
/// administrators' catalog.
pub(super) async fn make_admin(
    change: &mut Change<'_>,
    id: &str,
    roles: &BTreeSet<AdminRole>,
) -> Result<()> {
    let member = Member {
        project: ADMIN_CATALOG.into(),
        person: id.into(),
        role: ADMIN_ROLE.into(),
    };
    change.write.put_member(&member).await?;
    set_roles(change, id, roles).await
}

async fn set_roles(change: &mut Change<'_>, id: &str, roles: &BTreeSet<AdminRole>) -> Result<()> {
    change.write.set_admin_roles(id, roles).await?;
    change.record(Act {
        detail: format!("roles {}", names(roles)),
        ..act("admin_roles_set", id)
    });
    Ok(())
}

fn act(event: &'static str, person: &str) -> Act {
    Act {
        event,
        person: Some(person.to_owned()),
        ..Act::default()
    }
}

fn names(roles: &BTreeSet<AdminRole>) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    match names.as_slice() {
        [] => "none".into(),
        names => names.join(", "),
    }
}

/// Changes the roles of a person; who gets the first becomes an administrator.
pub(super) async fn roles(desk: &Desk, id: &str, roles: &BTreeSet<AdminRole>) -> Result<String> {
    desk.refuse_oneself(id, "changes their own roles")?;
    existing(&desk.store, id).await?;
    let mut change = desk.change().await?;
    refuse_last(&mut change, id, roles).await?;
    if roles.is_empty() {
        set_roles(&mut change, id, roles).await?;
    } else {
        make_admin(&mut change, id, roles).await?;
    }
    let said = format!("roles of `{id}`: {}\n", names(roles));
    desk.finish(change, said).await
}

/// A hub keeps an active administrator of each role that it has one of. It is asked in the change
/// itself, so that two who leave at once do not both find the other.
async fn refuse_last(change: &mut Change<'_>, id: &str, kept: &BTreeSet<AdminRole>) -> Result<()> {
    let admins = change.write.administrators().await?;
    let active = admins.into_iter().filter(|admin| admin.active);
    let active: BTreeSet<String> = active.map(|admin| admin.id).collect();
    let mut given = change.write.all_admin_roles().await?;
    given.retain(|(person, role)| active.contains(person) && !kept.contains(role));
    let (own, others): (Vec<_>, Vec<_>) = given.into_iter().partition(|(person, _)| person == id);
    let is_held = |role: AdminRole| others.iter().any(|(_, held)| *held == role);
    match own.into_iter().find(|(_, role)| !is_held(*role)) {
        Some((_, role)) => Err(Error::invalid(format!(
            "`{id}` is the last active administrator with the role `{}`; give it to another first",
            role.as_str()
        ))),
        None => Ok(()),
    }
}

pub(super) fn role(text: &str) -> std::result::Result<AdminRole, String> {
    AdminRole::parse(text).ok_or_else(|| {
        let names = AdminRole::ALL.map(AdminRole::as_str).join(", ");
        format!("there are {names}")
    })
}

/// Adds a person, or renames who is there.
pub(super) async fn put(change: &mut Change<'_>, id: &str, name: &str) -> Result<Put> {
    check_person_id(id)?;
    let profile = PersonProfile {
        id: id.into(),
        name: name.into(),
        active: true,
        is_admin: false,
    };
    let put = change.write.put_person(&profile).await?;
    if put == Put::Created {
        change.record(act("person_added", id));
    }
    Ok(put)
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
            let roles: BTreeSet<AdminRole> = match admin {
                true => AdminRole::ALL.into(),
                false => roles.into_iter().collect(),
            };
            add(desk, &id, &name, &roles).await
        }
        PersonCommand::Roles {
            id, roles: wanted, ..
        } => roles(desk, &id, &wanted.into_iter().collect()).await,
        PersonCommand::List { .. } => lists::persons(store).await,
        PersonCommand::Disable { id, .. } => disable(desk, &id).await,
        PersonCommand::Password { person, .. } => new_password(desk, &person).await,
        PersonCommand::Totp { person, remove, .. } => second_factor(desk, &person, remove).await,
        PersonCommand::Rename { id, name, .. } => rename(desk, &id, &name).await,
        PersonCommand::Unlock { id, .. } => unlock(desk, &id).await,
        PersonCommand::Enable { id, .. } => enable(desk, &id).await,
    }
}

pub(super) async fn unlock(desk: &Desk, id: &str) -> Result<String> {
    existing(&desk.store, id).await?;
    let mut change = desk.change().await?;
    change.write.unlock(id, desk.now).await?;
    change.record(act("login_unlocked", id));
    let said = format!("person `{id}` is unlocked\n");
    desk.finish(change, said).await
}

pub(super) async fn enable(desk: &Desk, id: &str) -> Result<String> {
    existing(&desk.store, id).await?;
    let mut change = desk.change().await?;
    change.write.set_active(id, true).await?;
    change.record(act("person_enabled", id));
    let said = format!("person `{id}` is enabled\n");
    desk.finish(change, said).await
}

pub(super) async fn rename(desk: &Desk, id: &str, name: &str) -> Result<String> {
    existing(&desk.store, id).await?;
    let mut listed = desk.config.persons.iter();
    if listed.any(|own| own.id == id && !own.name.is_empty()) {
        return Err(Error::invalid(format!(
            "the name of `{id}` is of the configuration; change it there"
        )));
    }
    let mut change = desk.change().await?;
    put(&mut change, id, name).await?;
    change.record(act("person_renamed", id));
    let said = format!("person `{id}` has another name\n");
    desk.finish(change, said).await
}

pub(super) async fn add(
    desk: &Desk,
    id: &str,
    name: &str,
    roles: &BTreeSet<AdminRole>,
) -> Result<String> {
    let mut change = desk.change().await?;
    if put(&mut change, id, name).await? == Put::Updated {
        return Err(Error::invalid(format!(
            "person `{id}` exists already; choose another identifier"
        )));
    }
    if !roles.is_empty() {
        make_admin(&mut change, id, roles).await?;
    }
    let said = format!("person `{id}` is added\n");
    desk.finish(change, said).await
}

pub(super) async fn disable(desk: &Desk, id: &str) -> Result<String> {
    existing(&desk.store, id).await?;
    let mut change = desk.change().await?;
    refuse_last(&mut change, id, &BTreeSet::new()).await?;
    change.write.set_active(id, false).await?;
    change.write.raise_token_epoch(id).await?;
    change.record(act("person_disabled", id));
    let said = format!("person `{id}` is disabled\n");
    desk.finish(change, said).await
}

/// Random bytes of a password: 128 bits, which nobody guesses.
const PASSWORD_BYTES: usize = 16;

async fn new_password(desk: &Desk, id: &str) -> Result<String> {
    existing(&desk.store, id).await?;
    let bytes = Zeroizing::new(random::<PASSWORD_BYTES>()?);
    let password = Zeroizing::new(BASE32_NOPAD.encode(&bytes[..]).to_lowercase());
    let hashed = desk.store.hash_password(&password).await?;
    let mut change = desk.change().await?;
    change.write.set_password(id, &hashed).await?;
    change.record(act("password_set", id));
    let said = format!(
        "The password of `{id}`. It is shown only now.\n{}\n",
        password.as_str()
    );
    desk.finish(change, said).await
}

async fn second_factor(desk: &Desk, id: &str, remove: bool) -> Result<String> {
    existing(&desk.store, id).await?;
    let secret = Secret::new()?;
    let sealed = secret.seal(&factors(&desk.secrets)?, id)?;
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
    let mut change = desk.change().await?;
    let sealed = (!remove).then_some(sealed.as_slice());
    change.write.set_totp(id, sealed).await?;
    change.record(act(event, id));
    desk.finish(change, said).await
}
