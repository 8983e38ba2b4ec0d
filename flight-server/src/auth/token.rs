//! Bearer tokens of the handshake: sealed, so that they live through a restart and that
//! nobody else can make one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use hubflight_store::{Identity, Person};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::Login;
use crate::error::{Error, Result};
use crate::sealed::Sealer;

#[derive(Debug, Serialize, Deserialize)]
pub struct SessionToken {
    pub person: String,
    /// The person's epoch when the token was made: raising it ends all their tokens.
    pub epoch: i64,
    pub session: String,
    /// With the session's own end.
    pub origin: Origin,
}

/// What a session begins from, and what it therefore cannot outlive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The only project that the session is good for.
    pub bound_to: Option<String>,
    /// Id of the personal access token that began the session, which ends with it.
    pub access_token: Option<String>,
    /// The provider's name for the person, or the certificate, that began the session.
    #[serde(with = "identity")]
    pub identity: Option<Identity>,
    /// When what was shown at the handshake ends: a session is not prolonged by another.
    pub expires_max: Option<DateTime<Utc>>,
    pub login: Login,
}

/// An identity in a token: the issuer and the subject.
mod identity {
    use super::*;

    pub fn serialize<S: Serializer>(
        one: &Option<Identity>,
        to: S,
    ) -> std::result::Result<S::Ok, S::Error> {
        let pair = one.as_ref().map(|one| (&one.issuer, &one.subject));
        pair.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> std::result::Result<Option<Identity>, D::Error> {
        let pair: Option<(String, String)> = Option::deserialize(from)?;
        Ok(pair.map(|(issuer, subject)| Identity { issuer, subject }))
    }
}

#[derive(Debug)]
pub struct Tokens {
    sealer: Sealer,
    life: TimeDelta,
}

impl Tokens {
    pub fn new(key: &[u8; 32], seconds_max: u64) -> Self {
        let seconds = i64::try_from(seconds_max).unwrap_or(i64::MAX / 1000);
        Self {
            sealer: Sealer::new(key, b"hubflight session token 3"),
            life: TimeDelta::seconds(seconds),
        }
    }

    pub fn issue(&self, person: &Person, origin: Origin, now: DateTime<Utc>) -> Result<String> {
        let expires = now + self.life;
        let token = SessionToken {
            person: person.id.clone(),
            epoch: person.token_epoch,
            session: Uuid::now_v7().to_string(),
            origin: Origin {
                expires_max: Some(
                    origin
                        .expires_max
                        .map_or(expires, |latest| latest.min(expires)),
                ),
                ..origin
            },
        };
        let plain = serde_json::to_vec(&token)
            .map_err(|error| Error::internal("a token cannot be written", &error))?;
        Ok(URL_SAFE_NO_PAD.encode(self.sealer.seal(&plain)?))
    }

    pub fn open(&self, text: &str, now: DateTime<Utc>) -> Option<SessionToken> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let token: SessionToken = serde_json::from_slice(&self.sealer.open(&sealed)?).ok()?;
        let expires = token.origin.expires_max?;
        (now < expires).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_until_it_expires_and_not_when_altered() {
        let tokens = Tokens::new(&[3; 32], 60);
        let person = Person {
            id: "alice".into(),
            name: "Alice".into(),
            active: true,
            is_admin: false,
            has_password: false,
            token_epoch: 4,
            created_at: Utc::now(),
        };
        let now = Utc::now();
        let origin = Origin::default();
        let text = tokens.issue(&person, origin, now).expect("issues");
        assert_eq!(tokens.open(&text, now).expect("opens").epoch, 4);
        assert!(tokens.open(&text, now + TimeDelta::seconds(61)).is_none());
        assert!(tokens.open(&text[1..], now).is_none());
        assert!(tokens.open("", now).is_none());

        let origin = Origin {
            expires_max: Some(now + TimeDelta::seconds(5)),
            ..Origin::default()
        };
        let text = tokens.issue(&person, origin, now).expect("issues");
        assert!(tokens.open(&text, now + TimeDelta::seconds(4)).is_some());
        assert!(tokens.open(&text, now + TimeDelta::seconds(5)).is_none());
    }
}
