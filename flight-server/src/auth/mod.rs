//! Who calls: from the headers of a call to a `Principal` with at most one project.
//!
//! Accepted, on any call: `Basic` with a password (where the hub allows passwords alone), with
//! a password, a blank or colon, and the code of the second factor (good once, so for the
//! handshake), or with a token in place of the password; `Bearer` with a token of the handshake, a
//! personal access token, or a token of a login provider; nothing but a client certificate, which
//! otherwise must be the same person's. Rights are read anew from the store at each call, so that
//! what is withdrawn is withdrawn at once.

mod attempts;
pub mod certificates;
pub mod oidc;
pub mod passwords;
mod prove;
pub mod session;
pub mod standing;
pub mod totp;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_ledger::Ledger;
use hubflight_rights::Asker;
pub use hubflight_rights::{Login, Method};
use hubflight_store::{AdminRole, Person, Project, Store};
use hubflight_tickets::Tokens;
use rustls::pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

use crate::error::{Error, Result};
pub use attempts::AttemptLimits;
use certificates::Judge;
use oidc::Providers;
use passwords::Passwords;
use session::{SessionId, SessionOptions, Sessions};
use standing::Standing;

/// The catalog of administrators, which is no project of the store.
pub const ADMIN_CATALOG: &str = "admin";

/// The project of a catalog, which sees in its audit what concerns it.
pub fn project_of(catalog: &str) -> Option<String> {
    (catalog != ADMIN_CATALOG).then(|| catalog.to_owned())
}

/// A person in a session, and the projects that they may choose from.
#[derive(Clone, Debug)]
pub struct Principal {
    pub person: Person,
    /// What they may see of the hub as an administrator.
    pub roles: BTreeSet<AdminRole>,
    /// Projects that are open now, by id.
    pub projects: Vec<Project>,
    /// Identifies the session for its options.
    pub session: SessionId,
    pub options: SessionOptions,
    /// What the client says of itself, for the audit.
    pub client: String,
    /// What lets them in, to be asked again while their statements run.
    pub standing: Standing,
    /// The project that was asked for by session option or header.
    wanted: Option<String>,
}

impl Principal {
    /// The one project of the session, or what to do to have one.
    pub fn project(&self) -> Result<&str> {
        let catalogs = self.catalogs();
        match (&self.wanted, catalogs.as_slice()) {
            (Some(wanted), _) => catalogs
                .iter()
                .find(|catalog| *catalog == wanted)
                .copied()
                .ok_or_else(|| {
                    Error::not_found(format!(
                        "catalog `{wanted}` does not exist or is not yours; {}",
                        offer(&catalogs)
                    ))
                }),
            (None, [only]) => Ok(only),
            (None, _) => Err(Error::invalid(format!(
                "choose a project with the session option or header `catalog`; {}",
                offer(&catalogs)
            ))),
        }
    }

    /// The catalogs that this person may choose, sorted.
    pub fn catalogs(&self) -> Vec<&str> {
        standing::catalogs(&self.person, &self.projects)
    }

    /// Who calls, to the policies.
    pub fn asker(&self) -> Asker {
        standing::asker(
            &self.person,
            &self.roles,
            &self.projects,
            self.standing.login,
        )
    }

    /// The organisation that pays for a project.
    pub fn organisation(&self, project: &str) -> &str {
        self.projects
            .iter()
            .find(|candidate| candidate.id == project)
            .map_or("", |candidate| candidate.organisation.as_str())
    }
}

/// The connection that a call comes from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Tells sessions apart where the credential itself does not (`Basic` on each call).
    pub connection: String,
    /// What the client showed in the handshake of TLS, its own first.
    pub certificates: Option<Arc<Vec<CertificateDer<'static>>>>,
}

impl From<&str> for Peer {
    fn from(connection: &str) -> Self {
        Self {
            connection: connection.to_owned(),
            certificates: None,
        }
    }
}

impl Peer {
    /// None where it is not told, as inside this process.
    pub fn address(&self) -> Option<IpAddr> {
        let address = self.connection.parse::<SocketAddr>().ok()?;
        Some(address.ip())
    }
}

fn offer(catalogs: &[&str]) -> String {
    if catalogs.is_empty() {
        "you are a member of no project that is open".into()
    } else {
        format!("yours: `{}`", catalogs.join("`, `"))
    }
}

/// Where clients that log in by the first message of a handshake send what it answers.
pub const TOKEN_HEADER: &str = "auth-token-bin";

/// Everything that deciding who calls needs.
#[derive(Debug)]
pub struct Authenticator {
    pub store: Store,
    /// Where lock-outs are recorded.
    pub ledger: Ledger,
    pub tokens: Tokens,
    pub passwords: Passwords,
    pub sessions: Sessions,
    pub providers: Providers,
    /// None where no client certificates are asked for.
    pub certificates: Option<Judge>,
}

impl Authenticator {
    /// The caller of one request.
    pub async fn authenticate(
        &self,
        metadata: &MetadataMap,
        peer: impl Into<Peer>,
        now: DateTime<Utc>,
    ) -> Result<Principal> {
        let rights = self.store.rights().await?;
        let proof = self.prove(&rights, metadata, &peer.into(), now).await?;
        let options = self.sessions.options(&proof.session);
        let standing = proof.standing();
        let bound_to = proof.origin.bound_to;
        let admitted = Self::open_to(&rights, proof.person, bound_to.as_deref(), now).await?;
        let wanted = options.catalog.clone().or(catalog(metadata)?).or(bound_to);
        Ok(Principal {
            person: admitted.person,
            roles: admitted.roles,
            projects: admitted.projects,
            session: proof.session,
            standing,
            client: client(metadata),
            options,
            wanted,
        })
    }

    /// Exchanges the credential of a handshake for a bearer token, which lives no longer than
    /// what it was exchanged for.
    pub async fn handshake(
        &self,
        metadata: &MetadataMap,
        peer: impl Into<Peer>,
        now: DateTime<Utc>,
    ) -> Result<String> {
        let rights = self.store.rights().await?;
        let proof = self.prove(&rights, metadata, &peer.into(), now).await?;
        let person = &proof.person;
        let token = self
            .tokens
            .issue(&person.id, person.token_epoch, proof.origin, now)?;
        Ok(token)
    }
}

/// One text for every failed login: it does not tell which part was wrong.
fn refused() -> Error {
    Error::unauthenticated("the user, password or token is not valid, or no longer; log in again")
}

fn text(metadata: &MetadataMap, name: &str) -> Option<String> {
    metadata.get(name)?.to_str().ok().map(str::to_owned)
}

/// The project that a header asks for.
///
/// # Errors
/// `InvalidArgument` for one that cannot be read: whoever asks for a project is not given another.
fn catalog(metadata: &MetadataMap) -> Result<Option<String>> {
    let Some(value) = metadata.get("catalog") else {
        return Ok(None);
    };
    let name = std::str::from_utf8(value.as_encoded_bytes())
        .map_err(|_| Error::invalid("the header `catalog` is no text; write a project's name"))?;
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

const CLIENT_CHARACTERS_MAX: usize = 120;

/// The user agent, cut and freed of anything but printable ASCII.
fn client(metadata: &MetadataMap) -> String {
    text(metadata, "user-agent")
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(CLIENT_CHARACTERS_MAX)
        .collect()
}

#[cfg(test)]
impl Principal {
    /// Somebody in no project, for tests that only ask whose something is.
    pub(crate) fn stranger(person: &str) -> Self {
        Self {
            person: Person {
                id: person.into(),
                name: person.into(),
                active: true,
                is_admin: false,
                has_password: false,
                token_epoch: 0,
                created_at: Utc::now(),
            },
            roles: BTreeSet::new(),
            projects: Vec::new(),
            session: SessionId {
                person: person.into(),
                name: "test".into(),
            },
            options: SessionOptions::default(),
            client: String::new(),
            standing: Standing {
                person: person.into(),
                epoch: Some(0),
                access_token: None,
                identity: None,
                certificate: None,
                bound_to: None,
                expires: None,
                login: Login::default(),
            },
            wanted: None,
        }
    }
}

#[cfg(test)]
mod tests;
