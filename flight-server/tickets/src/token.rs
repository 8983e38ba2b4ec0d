//! Bearer tokens of the handshake: sealed, so that they live through a restart and that
//! nobody else can make one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use hubflight_rights::Login;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Sealer, TicketError, after};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The provider's name for the person, or the certificate, that began the session: the
    /// issuer and the subject of an identity in the store.
    pub identity: Option<(String, String)>,
    /// When what was shown at the handshake ends: a session is not prolonged by another.
    pub expires_max: Option<DateTime<Utc>>,
    pub login: Login,
}

/// Makes and opens the tokens of one hub.
#[derive(Debug)]
pub struct Tokens {
    sealer: Sealer,
    seconds_max: u64,
}

impl Tokens {
    /// What their key is used for, with the version of their form.
    pub const PURPOSE: &[u8] = b"hubflight session token 3";

    pub fn new(key: &[u8; 32], seconds_max: u64) -> Self {
        Self {
            sealer: Sealer::new(key, Self::PURPOSE),
            seconds_max,
        }
    }

    /// A token of a new session of `person`, whose epoch it is good in.
    ///
    /// # Errors
    /// [`TicketError`] of the hub's own failures.
    pub fn issue(
        &self,
        person: &str,
        epoch: i64,
        origin: Origin,
        now: DateTime<Utc>,
    ) -> Result<String, TicketError> {
        let expires = after(now, self.seconds_max);
        let latest = origin.expires_max.unwrap_or(expires);
        let token = SessionToken {
            person: person.to_owned(),
            epoch,
            session: Uuid::now_v7().to_string(),
            origin: Origin {
                expires_max: Some(latest.min(expires)),
                ..origin
            },
        };
        let plain = serde_json::to_vec(&token).map_err(TicketError::Token)?;
        Ok(URL_SAFE_NO_PAD.encode(self.sealer.seal(&plain)?))
    }

    /// `None` for what this hub did not issue, and for what has ended.
    pub fn open(&self, text: &str, now: DateTime<Utc>) -> Option<SessionToken> {
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let token: SessionToken = serde_json::from_slice(&self.sealer.open(&sealed)?).ok()?;
        let expires = token.origin.expires_max?;
        (now < expires).then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn a_token_opens_until_it_expires_and_not_when_altered() {
        let tokens = Tokens::new(&[3; 32], 60);
        let now = Utc::now();
        let origin = Origin::default();
        let text = tokens.issue("alice", 4, origin, now).expect("issues");
        assert_eq!(tokens.open(&text, now).expect("opens").epoch, 4);
        assert!(tokens.open(&text, now + TimeDelta::seconds(61)).is_none());
        assert!(tokens.open(&text[1..], now).is_none());
        assert!(tokens.open("", now).is_none());

        let origin = Origin {
            expires_max: Some(now + TimeDelta::seconds(5)),
            ..Origin::default()
        };
        let text = tokens.issue("alice", 4, origin, now).expect("issues");
        assert!(tokens.open(&text, now + TimeDelta::seconds(4)).is_some());
        assert!(tokens.open(&text, now + TimeDelta::seconds(5)).is_none());
    }

    #[test]
    fn a_token_that_may_live_for_ever_is_issued_and_opens() {
        let tokens = Tokens::new(&[3; 32], u64::MAX);
        let now = Utc::now();
        let text = tokens
            .issue("alice", 4, Origin::default(), now)
            .expect("issues");
        let token = tokens.open(&text, now).expect("opens");
        assert_eq!(token.origin.expires_max, Some(DateTime::<Utc>::MAX_UTC));
    }
}
