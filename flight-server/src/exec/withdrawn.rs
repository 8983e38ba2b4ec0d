//! Tickets that were cancelled before they were fetched: nobody fetches them any more.
//!
//! Kept in memory, by this server alone: another, and this one started anew, redeem them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// Tickets that one person may have withdrawn at once.
pub const TICKETS_PER_PERSON_MAX: usize = 1_000;

/// Statements and until when a ticket of theirs may live, by person.
#[derive(Debug, Default)]
pub struct Withdrawn {
    by_person: Mutex<HashMap<String, HashMap<Uuid, DateTime<Utc>>>>,
}

impl Withdrawn {
    /// Withdraws the tickets of a statement, which live until then at most.
    ///
    /// # Errors
    /// `ResourceExhausted` where the person has withdrawn too many that still live.
    pub fn add(
        &self,
        person: &str,
        statement: Uuid,
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let mut by_person = self.by_person.lock();
        let own = by_person.entry(person.to_owned()).or_default();
        own.retain(|_, until| *until >= now);
        if own.len() >= TICKETS_PER_PERSON_MAX && !own.contains_key(&statement) {
            return Err(Error::exhausted(format!(
                "{TICKETS_PER_PERSON_MAX} of your tickets are cancelled and not expired; leave \
                 this one to expire"
            )));
        }
        own.insert(statement, until);
        Ok(())
    }

    /// # Errors
    /// `Cancelled` where the statement's tickets are withdrawn.
    pub fn check(&self, person: &str, statement: Uuid) -> Result<()> {
        let by_person = self.by_person.lock();
        let own = by_person.get(person);
        if own.is_some_and(|own| own.contains_key(&statement)) {
            let text = "the statement was cancelled before it was fetched; run it again";
            return Err(Error::new(ErrorKind::Cancelled, text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_is_withdrawn_is_ones_own_and_bounded() {
        let withdrawn = Withdrawn::default();
        let now = Utc::now();
        let (soon, later) = (now + TimeDelta::minutes(1), now + TimeDelta::minutes(10));
        let id = Uuid::now_v7();
        withdrawn.add("ada", id, later, now).expect("room");
        let holds = |person, id| withdrawn.check(person, id).is_err();
        assert!(holds("ada", id) && !holds("eve", id));
        for _ in 1..TICKETS_PER_PERSON_MAX {
            let add = withdrawn.add("ada", Uuid::now_v7(), soon, now);
            add.expect("room");
        }
        let more = Uuid::now_v7();
        withdrawn.add("ada", more, later, now).expect_err("is full");
        withdrawn.add("ada", id, later, now).expect("is there");
        withdrawn.add("eve", more, later, now).expect("her own");
        let then = soon + TimeDelta::seconds(1);
        withdrawn.add("ada", more, later, then).expect("room again");
        assert!(holds("ada", id) && holds("ada", more));
    }
}
