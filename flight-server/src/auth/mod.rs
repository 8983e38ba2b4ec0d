//! Who calls: from the headers of a call to a `Principal` with at most one project.
//!
//! Accepted, on any call: `Basic` with a password (where the hub allows passwords alone), with
//! a password, a blank or colon, and the code of the second factor (good once, so for the
//! handshake), or with a personal access token in place of the password; `Bearer` with a token
//! of the handshake or a personal access token. Rights are read anew from the store at each call, so
//! that what is withdrawn is withdrawn at once.

mod attempts;
pub mod passwords;
pub mod session;
pub mod standing;
pub mod token;
pub mod totp;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Utc};
use hubflight_ledger::{AuditEvent, Ledger};
use hubflight_rights::{Asker, Login};
use hubflight_store::{AdminRole, Person, Project, Store};
use tonic::metadata::MetadataMap;

use crate::error::{Error, Result};
pub use attempts::AttemptLimits;
use attempts::Subject;
use passwords::{Asked, Passwords};
use session::{SessionId, SessionOptions, Sessions};
use standing::Standing;
use token::{Origin, SessionToken, Tokens};

/// The catalog of administrators, which is no project of the store.
pub const ADMIN_CATALOG: &str = "admin";

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
    /// How they logged in.
    pub login: Login,
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
        standing::asker(&self.person, &self.roles, &self.projects, self.login)
    }

    /// The organisation that pays for a project.
    pub fn organisation(&self, project: &str) -> &str {
        self.projects
            .iter()
            .find(|candidate| candidate.id == project)
            .map_or("", |candidate| candidate.organisation.as_str())
    }
}

fn offer(catalogs: &[&str]) -> String {
    if catalogs.is_empty() {
        "you are a member of no project that is open".into()
    } else {
        format!("yours: `{}`", catalogs.join("`, `"))
    }
}

/// Go's Flight client writes `Basic` without padding, the others with it.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How personal access tokens begin.
const TOKEN_PREFIX: &str = "hubpat_";

/// Everything that deciding who calls needs.
#[derive(Debug)]
pub struct Authenticator {
    pub store: Store,
    /// Where lock-outs are recorded.
    pub ledger: Ledger,
    pub tokens: Tokens,
    pub passwords: Passwords,
    pub sessions: Sessions,
}

/// What a client showed, before it is believed.
enum Credential {
    Basic { user: String, secret: String },
    Bearer(String),
}

/// What remains of a credential once it is believed.
struct Proof {
    person: Person,
    session: SessionId,
    origin: Origin,
    /// The epoch of a session; none where an access token stands for itself.
    epoch: Option<i64>,
}

impl Proof {
    fn standing(&self) -> Standing {
        Standing {
            person: self.person.id.clone(),
            epoch: self.epoch,
            access_token: self.origin.access_token.clone(),
            bound_to: self.origin.bound_to.clone(),
            expires: self.origin.expires_max,
        }
    }
}

impl Proof {
    fn new(person: Person, session: String, origin: Origin) -> Self {
        let session = SessionId {
            person: person.id.clone(),
            name: session,
        };
        Self {
            epoch: Some(person.token_epoch),
            person,
            session,
            origin,
        }
    }
}

impl Authenticator {
    /// The caller of one request. `connection` tells sessions apart where the credential
    /// itself does not (`Basic` on each call).
    pub async fn authenticate(
        &self,
        metadata: &MetadataMap,
        connection: &str,
        now: DateTime<Utc>,
    ) -> Result<Principal> {
        let proof = match credential(metadata)? {
            Credential::Basic { user, secret } => self.basic(user, secret, connection, now).await?,
            Credential::Bearer(text) => self.bearer(&text, connection, now).await?,
        };
        let options = self.sessions.options(&proof.session);
        let standing = proof.standing();
        let login = self.login(&standing);
        let bound_to = proof.origin.bound_to;
        let admitted = self.open_to(proof.person, bound_to.as_deref(), now).await?;
        let header = text(metadata, "catalog").filter(|value| !value.is_empty());
        let wanted = options.catalog.clone().or(header).or(bound_to);
        Ok(Principal {
            person: admitted.person,
            roles: admitted.roles,
            projects: admitted.projects,
            session: proof.session,
            login,
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
        connection: &str,
        now: DateTime<Utc>,
    ) -> Result<String> {
        let proof = match credential(metadata)? {
            Credential::Basic { user, secret } => self.basic(user, secret, connection, now).await?,
            Credential::Bearer(text) => self.bearer(&text, connection, now).await?,
        };
        self.tokens.issue(&proof.person, proof.origin, now)
    }

    async fn basic(
        &self,
        user: String,
        secret: String,
        connection: &str,
        now: DateTime<Utc>,
    ) -> Result<Proof> {
        if secret.starts_with(TOKEN_PREFIX) {
            let proof = self.access_token(&secret, connection, now).await?;
            if proof.person.id == user {
                return Ok(proof);
            }
            return Err(refused());
        }
        let asked = Asked {
            peer: connection.parse::<SocketAddr>().ok().map(|peer| peer.ip()),
            now,
        };
        match self
            .passwords
            .verify(&self.store, &user, secret, asked)
            .await
        {
            Ok(person) => Ok(Proof::new(person, connection.to_owned(), Origin::default())),
            Err(refusal) => {
                for subject in refusal.locked {
                    self.record_lock(subject, now).await?;
                }
                Err(refusal.error)
            }
        }
    }

    /// Records a lock-out: of a person, if there is one of that name, or of an address. What
    /// else was typed as a name may be a password, and is not recorded.
    async fn record_lock(&self, subject: Subject, now: DateTime<Utc>) -> Result<()> {
        let (person, client) = match subject {
            Subject::Person(name) => {
                let person = self.store.person(&name).await?;
                (person.map(|person| person.id), String::new())
            }
            Subject::Peer(address) => (None, format!("address {address}")),
        };
        tracing::warn!(?person, %client, "failed logins lock");
        let event = AuditEvent {
            event: "login_locked",
            outcome: "locked",
            person,
            project: None,
            client,
            at: now,
        };
        Ok(self.ledger.event(event).await?)
    }

    async fn bearer(&self, text: &str, connection: &str, now: DateTime<Utc>) -> Result<Proof> {
        if text.starts_with(TOKEN_PREFIX) {
            return self.access_token(text, connection, now).await;
        }
        let SessionToken {
            person,
            epoch,
            session,
            bound_to,
            access_token,
            expires,
        } = self.tokens.open(text, now).ok_or_else(refused)?;
        let standing = Standing {
            person,
            epoch: Some(epoch),
            access_token: access_token.clone(),
            bound_to: bound_to.clone(),
            expires: Some(expires),
        };
        let person = self.identify(&standing, now).await?;
        let origin = Origin {
            bound_to,
            access_token,
            expires_max: Some(expires),
        };
        Ok(Proof::new(person, session, origin))
    }

    async fn access_token(
        &self,
        secret: &str,
        connection: &str,
        now: DateTime<Utc>,
    ) -> Result<Proof> {
        // PostgreSQL has no such texts, and no token has it.
        if secret.contains('\0') {
            return Err(refused());
        }
        let token = self
            .store
            .verify_token(secret, now)
            .await?
            .ok_or_else(refused)?;
        let person = self
            .store
            .person(&token.person)
            .await?
            .filter(|person| person.active)
            .ok_or_else(refused)?;
        let session = format!("{connection}/{}", token.token);
        let origin = Origin {
            bound_to: Some(token.project),
            access_token: Some(token.token),
            expires_max: Some(token.expires_at),
        };
        let mut proof = Proof::new(person, session, origin);
        // A new password ends sessions, not tokens.
        proof.epoch = None;
        Ok(proof)
    }
}

/// One text for every failed login: it does not tell which part was wrong.
fn refused() -> Error {
    Error::unauthenticated("the user, password or token is not valid, or no longer; log in again")
}

fn credential(metadata: &MetadataMap) -> Result<Credential> {
    let missing = || {
        Error::unauthenticated(
            "log in first: a handshake with user and password, or the header `authorization` \
             with `Basic` or `Bearer`",
        )
    };
    let header = text(metadata, "authorization").ok_or_else(missing)?;
    let (scheme, value) = header.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Credential::Bearer(value.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing());
    }
    let decoded = BASIC.decode(value.trim()).map_err(|_| missing())?;
    let decoded = String::from_utf8(decoded).map_err(|_| missing())?;
    let (user, secret) = decoded.split_once(':').ok_or_else(missing)?;
    Ok(Credential::Basic {
        user: user.to_owned(),
        secret: secret.to_owned(),
    })
}

fn text(metadata: &MetadataMap, name: &str) -> Option<String> {
    metadata.get(name)?.to_str().ok().map(str::to_owned)
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
            login: Login {
                method: hubflight_rights::Method::Password,
                second_factor: false,
            },
            standing: Standing {
                person: person.into(),
                epoch: Some(0),
                access_token: None,
                bound_to: None,
                expires: None,
            },
            wanted: None,
        }
    }
}

#[cfg(test)]
mod tests;
