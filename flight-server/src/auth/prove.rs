//! From what a client shows to whom it proves.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::{DateTime, Utc};
use hubflight_ledger::AuditEvent;
use hubflight_oidc::Wrong;
use hubflight_store::{Identity, Person, Rights};
use hubflight_tickets::{Origin, SessionToken};
use tonic::metadata::MetadataMap;

use super::attempts::Subject;
use super::certificates::Shown;
use super::oidc::{self, Named, Refusal};
use super::passwords::{self, Asked, LoggedIn};
use super::session::SessionId;
use super::standing::Standing;
use super::{Authenticator, Login, Method, Peer, TOKEN_HEADER, refused};
use crate::error::{Error, Result};

/// Go's Flight client writes `Basic` without padding, the others with it.
pub(super) const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How personal access tokens begin.
const TOKEN_PREFIX: &str = "hubpat_";

/// What a client showed, before it is believed.
enum Credential {
    Basic { user: String, secret: String },
    Bearer(String),
}

/// What remains of a credential once it is believed.
pub(super) struct Proof {
    pub person: Person,
    pub session: SessionId,
    pub origin: Origin,
    /// The epoch of a session; none where an access token stands for itself.
    epoch: Option<i64>,
    /// Of the connection, and this person's.
    certificate: Option<Shown>,
}

impl Proof {
    pub fn standing(&self) -> Standing {
        Standing {
            person: self.person.id.clone(),
            epoch: self.epoch,
            access_token: self.origin.access_token.clone(),
            identity: self.origin.identity.clone().map(Identity::from),
            certificate: self.certificate.clone(),
            bound_to: self.origin.bound_to.clone(),
            expires: self.origin.expires_max,
            login: self.login(),
        }
    }

    /// The certificate of a connection is a factor of whatever comes over it.
    pub fn login(&self) -> Login {
        let Login {
            method,
            second_factor,
        } = self.origin.login;
        Login {
            method,
            second_factor: second_factor || self.certificate.is_some(),
        }
    }

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
            certificate: None,
        }
    }
}

impl Authenticator {
    /// Who calls, by what the call carries and by the certificate of its connection: both are
    /// the same person's, or nobody is let in.
    pub(super) async fn prove(
        &self,
        rights: &Rights<'_>,
        metadata: &MetadataMap,
        peer: &Peer,
        now: DateTime<Utc>,
    ) -> Result<Proof> {
        let certificate = self.certificate(rights, peer, now).await?;
        let proof = match (credential(metadata)?, &certificate) {
            (Some(Credential::Basic { user, secret }), _) => {
                self.basic(rights, user, secret, peer, now).await?
            }
            (Some(Credential::Bearer(text)), shown) => {
                let shown = shown.as_ref().map(|(_, shown)| shown);
                self.bearer(rights, &text, peer, shown, now).await?
            }
            (None, Some((person, shown))) => by_certificate(person.clone(), shown, peer),
            (None, None) => return Err(missing()),
        };
        match certificate {
            Some((person, _)) if person.id != proof.person.id => {
                tracing::debug!(person = %proof.person.id, "a certificate of somebody else");
                Err(refused())
            }
            certificate => Ok(Proof {
                certificate: certificate.map(|(_, shown)| shown),
                ..proof
            }),
        }
    }

    /// The certificate of the connection, and whose it is. One that is not good, or nobody's, is
    /// not passed over: whoever shows it is refused.
    async fn certificate(
        &self,
        rights: &Rights<'_>,
        peer: &Peer,
        now: DateTime<Utc>,
    ) -> Result<Option<(Person, Shown)>> {
        let (Some(judge), Some(chain)) = (&self.certificates, &peer.certificates) else {
            return Ok(None);
        };
        let Some(shown) = Shown::new(chain) else {
            return Ok(None);
        };
        if let Err(reason) = judge.judge(&shown, now) {
            tracing::debug!(certificate = %shown.identity.subject, %reason, "refused");
            return Err(refused());
        }
        let person = person_of(rights, &shown.identity).await?;
        Ok(Some((person, shown)))
    }

    async fn basic(
        &self,
        rights: &Rights<'_>,
        user: String,
        secret: String,
        peer: &Peer,
        now: DateTime<Utc>,
    ) -> Result<Proof> {
        // A driver that knows only user and password sends a token as the password.
        let is_access_token = secret.starts_with(TOKEN_PREFIX);
        if is_access_token || oidc::is_token(&secret) {
            let proof = match is_access_token {
                true => access_token(rights, &secret, peer, now).await?,
                false => self.provider_token(rights, &secret, peer, now).await?,
            };
            if proof.person.id == user {
                return Ok(proof);
            }
            return Err(refused());
        }
        let asked = Asked {
            peer: peer.address(),
            now,
        };
        match self
            .passwords
            .verify(&self.store, &user, secret, asked)
            .await
        {
            Ok(LoggedIn {
                person,
                second_factor,
            }) => {
                let origin = Origin {
                    login: Login {
                        method: Method::Password,
                        second_factor,
                    },
                    ..Origin::default()
                };
                Ok(Proof::new(person, peer.connection.clone(), origin))
            }
            Err(refusal) => Err(self.locking(refusal, now).await?),
        }
    }

    /// The person of a session, if this is their password; wrong ones lock as failed logins do.
    pub async fn confirm_password(
        &self,
        person: &str,
        password: &str,
        now: DateTime<Utc>,
    ) -> Result<Person> {
        let asked = Asked { peer: None, now };
        let confirmed = self.passwords.confirm(&self.store, person, password, asked);
        match confirmed.await {
            Ok(person) => Ok(person),
            Err(refusal) => Err(self.locking(refusal, now).await?),
        }
    }

    /// Records whom a refused password locked out, and gives what is told.
    async fn locking(&self, refusal: passwords::Refusal, now: DateTime<Utc>) -> Result<Error> {
        for subject in refusal.locked {
            self.record_lock(subject, now).await?;
        }
        Ok(refusal.error)
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

    /// `shown` is the certificate of the connection.
    async fn bearer(
        &self,
        rights: &Rights<'_>,
        text: &str,
        peer: &Peer,
        shown: Option<&Shown>,
        now: DateTime<Utc>,
    ) -> Result<Proof> {
        if text.starts_with(TOKEN_PREFIX) {
            return access_token(rights, text, peer, now).await;
        }
        if oidc::is_token(text) {
            return self.provider_token(rights, text, peer, now).await;
        }
        let token = self.tokens.open(text, now).ok_or_else(refused)?;
        let SessionToken {
            person,
            epoch,
            session,
            origin,
        } = token;
        // A session that a certificate began is of no use to whoever has not its key (RFC 8705).
        let identity = origin.identity.clone().map(Identity::from);
        let certificate = identity
            .as_ref()
            .filter(|one| one.issuer == Identity::CERTIFICATE);
        if let Some(certificate) = certificate
            && shown.is_none_or(|shown| shown.identity != *certificate)
        {
            return Err(refused());
        }
        let standing = Standing {
            person,
            epoch: Some(epoch),
            access_token: origin.access_token.clone(),
            identity,
            // That of the connection is judged already.
            certificate: None,
            bound_to: origin.bound_to.clone(),
            expires: origin.expires_max,
            login: origin.login,
        };
        let person = self.identify(rights, &standing, now).await?;
        Ok(Proof::new(person, session, origin))
    }

    /// A token of a login provider: who is not known here, or not any more, is told what a wrong
    /// token is told.
    async fn provider_token(
        &self,
        rights: &Rights<'_>,
        text: &str,
        peer: &Peer,
        now: DateTime<Utc>,
    ) -> Result<Proof> {
        let Named { identity, expires } = match self.providers.verify(text, now).await {
            Ok(named) => named,
            Err(Refusal::Unknown) => return Err(oidc::unknown()),
            Err(Refusal::Wrong(wrong)) => {
                tracing::debug!(%wrong, "a token of a login provider is refused");
                // An old token, or one for another hub, is an honest client's mistake; a
                // signature that its key did not make is not.
                let asked = Asked {
                    peer: peer.address(),
                    now,
                };
                if wrong == Wrong::Signature
                    && let Some(subject) = self.passwords.forged(asked)
                {
                    self.record_lock(subject, now).await?;
                }
                return Err(refused());
            }
        };
        let person = person_of(rights, &identity).await?;
        let origin = Origin {
            identity: Some(identity.into()),
            expires_max: Some(expires),
            login: Login {
                method: Method::Oidc,
                second_factor: true,
            },
            ..Origin::default()
        };
        Ok(Proof::new(person, peer.connection.clone(), origin))
    }
}

/// Whom an identity stands for, who is let in.
pub(super) async fn person_of(rights: &Rights<'_>, identity: &Identity) -> Result<Person> {
    rights
        .person_of_identity(identity)
        .await?
        .filter(|person| person.active)
        .ok_or_else(refused)
}

async fn access_token(
    rights: &Rights<'_>,
    secret: &str,
    peer: &Peer,
    now: DateTime<Utc>,
) -> Result<Proof> {
    // PostgreSQL has no such texts, and no token has it.
    if secret.contains('\0') {
        return Err(refused());
    }
    let token = rights
        .verify_token(secret, now)
        .await?
        .ok_or_else(refused)?;
    let person = rights
        .person(&token.person)
        .await?
        .filter(|person| person.active)
        .ok_or_else(refused)?;
    let session = format!("{}/{}", peer.connection, token.token);
    let origin = Origin {
        bound_to: Some(token.project),
        access_token: Some(token.token),
        expires_max: Some(token.expires_at),
        login: Login {
            method: Method::AccessToken,
            second_factor: false,
        },
        identity: None,
    };
    let mut proof = Proof::new(person, session, origin);
    // A new password ends sessions, not tokens.
    proof.epoch = None;
    Ok(proof)
}

/// Who has the key of a certificate that stands for them.
fn by_certificate(person: Person, shown: &Shown, peer: &Peer) -> Proof {
    let origin = Origin {
        identity: Some(shown.identity.clone().into()),
        login: Login {
            method: Method::Certificate,
            second_factor: true,
        },
        ..Origin::default()
    };
    Proof::new(person, peer.connection.clone(), origin)
}

fn missing() -> Error {
    Error::unauthenticated(
        "log in first: a handshake with user and password, or the header `authorization` with \
         `Basic` or `Bearer`",
    )
}

/// None where the call carries none; one that is not understood is an error.
fn credential(metadata: &MetadataMap) -> Result<Option<Credential>> {
    let Some(header) = metadata.get("authorization") else {
        return handed_back(metadata);
    };
    let header = header.to_str().map_err(|_| missing())?;
    let (scheme, value) = header.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Credential::Bearer(value.trim().to_owned())));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(missing());
    }
    let decoded = BASIC.decode(value.trim()).map_err(|_| missing())?;
    let decoded = String::from_utf8(decoded).map_err(|_| missing())?;
    let (user, secret) = decoded.split_once(':').ok_or_else(missing)?;
    Ok(Some(Credential::Basic {
        user: user.to_owned(),
        secret: secret.to_owned(),
    }))
}

/// The answer of a handshake, as some clients send it back.
fn handed_back(metadata: &MetadataMap) -> Result<Option<Credential>> {
    let Some(value) = metadata.get_bin(TOKEN_HEADER) else {
        return Ok(None);
    };
    let token = value.to_bytes().map_err(|_| missing())?;
    let token = String::from_utf8(token.to_vec()).map_err(|_| missing())?;
    Ok((!token.is_empty()).then_some(Credential::Bearer(token)))
}
