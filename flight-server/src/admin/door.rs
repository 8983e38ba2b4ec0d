//! By which door a change of administration comes, and so who makes it.

use std::sync::Arc;

use chrono::Utc;
use hubflight_store::AdminRole;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::auth::standing::Standing;
use crate::error::{Error, Result};
use crate::hub::Hub;

/// What the audit calls statements of administration.
const SQL_CLIENT: &str = "flight-server SQL";
/// What it calls commands.
const COMMAND_CLIENT: &str = "flight-server admin";

/// Who makes a change.
pub(super) enum Door {
    /// Whoever opens the files of the hub, as the audit is told.
    Command(String),
    /// An administrator in a session.
    Session(Box<Session>),
}

/// An administrator who is asked, as long as they change something, whether they still may.
pub(super) struct Session {
    pub hub: Arc<Hub>,
    pub standing: Standing,
    /// What the statement takes.
    pub role: AdminRole,
    /// Until its change has it.
    pub turn: Mutex<Option<OwnedMutexGuard<()>>>,
}

impl Session {
    /// Waits for its turn.
    pub(super) async fn new(hub: &Arc<Hub>, standing: &Standing, role: AdminRole) -> Self {
        let turn = Arc::clone(&hub.administering).lock_owned().await;
        Self {
            hub: Arc::clone(hub),
            standing: standing.clone(),
            role,
            turn: Mutex::new(Some(turn)),
        }
    }
}

impl Door {
    /// A command of this process's user: nothing else is known of who runs it.
    pub(super) fn command() -> Self {
        Self::Command(command_client())
    }

    /// What the audit calls it.
    pub(super) fn client(&self) -> String {
        match self {
            Self::Command(client) => client.clone(),
            Self::Session(session) => format!("{SQL_CLIENT} by {}", session.standing.person),
        }
    }

    /// The person, where they showed who they are.
    pub(super) fn person(&self) -> Option<&str> {
        match self {
            Self::Command(_) => None,
            Self::Session(session) => Some(&session.standing.person),
        }
    }

    /// The turn of a statement, which ends with its change; commands take none.
    pub(super) fn turn(&self) -> Option<OwnedMutexGuard<()>> {
        match self {
            Self::Command(_) => None,
            Self::Session(session) => session.turn.lock().take(),
        }
    }

    /// Refuses whoever has lost the role or the session. In a change nobody's role changes from
    /// here to its end.
    pub(super) async fn confirm(&self) -> Result<()> {
        let Self::Session(session) = self else {
            return Ok(());
        };
        let hub = &session.hub;
        let rights = hub.store.rights().await?;
        let admitted = hub.auth.admit(&rights, &session.standing, Utc::now());
        check_role(&admitted.await?.roles, session.role)
    }
}

/// # Errors
/// `PermissionDenied` naming the role that is missing.
pub(super) fn check_role(
    roles: &std::collections::BTreeSet<AdminRole>,
    role: AdminRole,
) -> Result<()> {
    if roles.contains(&role) {
        return Ok(());
    }
    Err(Error::denied(format!(
        "this is for administrators with the role `{}`, which you do not have",
        role.as_str()
    )))
}

/// What the audit calls the commands of this process: with the user of the system, which is all
/// that is known where nobody shows a token.
pub(super) fn command_client() -> String {
    match user() {
        Some(uid) => format!("{COMMAND_CLIENT} by uid {uid}"),
        None => COMMAND_CLIENT.to_owned(),
    }
}

/// The user whom the system says that this process is of. A socket's peer is told so, here its own.
fn user() -> Option<u32> {
    let (own, _other) = tokio::net::UnixStream::pair().ok()?;
    Some(own.peer_cred().ok()?.uid())
}
