//! The ticket of a query: encrypted, authenticated, stateless, expiring.
//!
//! It carries everything that the execution needs to be the statement that was planned:
//! text, parameters, project, dataset versions, the snapshot of the space and `now()`.
//! Rights are not in it: each redemption is authorised again.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Sealer, TicketError, after};

/// How the frames of a result are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    #[default]
    None,
    Lz4,
    Zstd,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub statement_id: Uuid,
    pub person: String,
    pub project: String,
    pub sql: String,
    /// Rows of parameters, as an Arrow IPC stream.
    #[serde(with = "base64_bytes", default)]
    pub parameters: Vec<u8>,
    /// (dataset, version) pairs that were planned with.
    pub versions: Vec<(String, u32)>,
    /// Snapshot of the project's space that was planned with.
    pub space_snapshot: i64,
    pub now: DateTime<Utc>,
    pub expires: DateTime<Utc>,
    pub schema: Option<String>,
    pub time_zone: Option<String>,
    pub tags: Option<String>,
    pub wire_views: bool,
    pub compression: Compression,
    pub statement_seconds: Option<u64>,
    #[serde(default)]
    pub priority: Priority,
    /// Whether it may live longer than it did at first.
    #[serde(default)]
    pub renewable: bool,
    /// The transaction that it reads in, where that had written something.
    #[serde(default)]
    pub transaction: Option<InTransaction>,
    /// Which part of the result it gives, where that is read from several endpoints.
    #[serde(default)]
    pub part: Option<Part>,
}

/// One of the endpoints of a result, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub index: u16,
    pub of: u16,
}

/// What a statement of a transaction sees of what that has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InTransaction {
    pub id: Uuid,
    pub version: u64,
}

/// Who goes first where work waits for a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// It goes after what somebody waits for.
    Batch,
}

impl Ticket {
    /// # Errors
    /// [`TicketError`] of the hub's own failures.
    pub fn seal(&self, sealer: &Sealer) -> Result<Vec<u8>, TicketError> {
        sealer.seal(&serde_json::to_vec(self).map_err(TicketError::Ticket)?)
    }

    /// Opens a ticket of `person`; anybody else's reads as invalid.
    ///
    /// # Errors
    /// [`TicketError::Invalid`], [`TicketError::Expired`].
    pub fn open(
        sealed: &[u8],
        sealer: &Sealer,
        person: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, TicketError> {
        let ticket = Self::open_expired(sealed, sealer, person)?;
        // A clock that went backwards by more than the life of a ticket is not trusted.
        let too_early = ticket.now - now > TimeDelta::minutes(5);
        if now > ticket.expires || too_early {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }

    /// Opens a ticket whenever: what it names may still be stopped, and nothing else.
    ///
    /// # Errors
    /// [`TicketError::Invalid`] if it was not sealed here, or for another person.
    pub fn open_expired(sealed: &[u8], sealer: &Sealer, person: &str) -> Result<Self, TicketError> {
        sealer
            .open(sealed)
            .and_then(|plain| serde_json::from_slice(&plain).ok())
            .filter(|ticket: &Self| ticket.person == person)
            .ok_or(TicketError::Invalid)
    }

    /// The same ticket, good for `seconds` from `now`, and for `seconds_max` at most since it was
    /// planned. A life that it has is not taken from it.
    pub fn renewed(self, now: DateTime<Utc>, seconds: u64, seconds_max: u64) -> Self {
        let longest = after(self.now, seconds_max);
        let expires = after(now, seconds).min(longest).max(self.expires);
        Self { expires, ..self }
    }
}

/// Bytes as text inside JSON.
mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD
            .decode(text)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(now: DateTime<Utc>) -> Ticket {
        Ticket {
            statement_id: Uuid::now_v7(),
            person: "alice".into(),
            project: "p".into(),
            sql: "SELECT 1".into(),
            parameters: vec![0, 1, 2, 255],
            versions: vec![("snds".into(), 1)],
            space_snapshot: 0,
            now,
            expires: now + TimeDelta::minutes(10),
            schema: None,
            time_zone: None,
            tags: None,
            wire_views: false,
            compression: Compression::None,
            statement_seconds: None,
            priority: Priority::Batch,
            renewable: true,
            transaction: None,
            part: None,
        }
    }

    #[test]
    fn a_ticket_is_renewed_up_to_its_longest_life() {
        let start = Utc::now();
        let minutes = |count: i64| start + TimeDelta::minutes(count);
        let renewed = |at| ticket(start).renewed(at, 600, 3600).expires;
        assert_eq!(renewed(start), minutes(10));
        assert_eq!(renewed(minutes(5)), minutes(15));
        assert_eq!(renewed(minutes(55)), minutes(60));
        assert_eq!(ticket(start).renewed(start, 1, 1).expires, minutes(10));
    }

    #[test]
    fn a_ticket_opens_for_its_person_until_it_expires() {
        let sealer = Sealer::new(&[7; 32], b"ticket");
        let now = Utc::now();
        let whole = ticket(now);
        let sealed = whole.seal(&sealer).expect("seals");
        assert_eq!(
            Ticket::open(&sealed, &sealer, "alice", now).expect("hers"),
            whole
        );
        assert!(Ticket::open(&sealed, &sealer, "bob", now).is_err());
        let late = now + TimeDelta::minutes(11);
        assert!(Ticket::open(&sealed, &sealer, "alice", late).is_err());
        let early = now - TimeDelta::minutes(11);
        assert!(Ticket::open(&sealed, &sealer, "alice", early).is_err());
        assert!(!sealed.windows(6).any(|bytes| bytes == b"SELECT"));
    }
}
