//! Prepared statements: text and bound parameters, kept for their owner, bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hubflight_tickets::random;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::auth::Principal;
use crate::auth::session::SessionId;
use crate::error::{Error, Result};
use crate::statement::Text;

/// A statement that nobody used for this long is forgotten when room is needed.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3600);

/// Statements that one person may have prepared at once.
pub const STATEMENTS_PER_PERSON_MAX: usize = 200;
/// Bytes of texts and bound parameters that one person's prepared statements may hold together:
/// room for one binding of the largest size that a message has, and as much for the others.
pub const BYTES_PER_PERSON_MAX: usize = 128 << 20;

/// The prepared statements of all sessions. What one person's take up is bounded, so that
/// nobody can use up everybody's.
#[derive(Debug)]
pub struct PreparedStatements {
    entries: Mutex<HashMap<Bytes, Entry>>,
    statements_max: usize,
}

#[derive(Debug)]
struct Entry {
    person: String,
    /// With which it is forgotten when that is closed.
    session: SessionId,
    text: Text,
    /// Its transaction was ended by its client, who begins another.
    waits: bool,
    used: Instant,
}

fn bytes_of(text: &Text) -> usize {
    text.sql.len() + text.parameters.len()
}

/// What the statements of one person take up.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    statements: usize,
    bytes: usize,
}

impl PreparedStatements {
    pub fn new(statements_max: usize) -> Self {
        Self {
            entries: Mutex::default(),
            statements_max,
        }
    }

    /// Keeps a statement and gives its handle: 128 random bits.
    pub fn put(&self, text: Text, owner: &Principal) -> Result<Bytes> {
        let handle = Bytes::copy_from_slice(&random::<16>()?);
        let person = &owner.person.id;
        let mut entries = self.entries.lock();
        if self.check_room(&entries, person, &text).is_err() {
            entries.retain(|_, entry| entry.used.elapsed() < IDLE_MAX);
            self.check_room(&entries, person, &text)?;
        }
        let entry = Entry {
            person: person.clone(),
            session: owner.session.clone(),
            text,
            waits: false,
            used: Instant::now(),
        };
        entries.insert(handle.clone(), entry);
        Ok(handle)
    }

    fn check_room(&self, entries: &HashMap<Bytes, Entry>, person: &str, text: &Text) -> Result<()> {
        let held = held_by(entries, person);
        if held.statements >= STATEMENTS_PER_PERSON_MAX {
            return Err(Error::exhausted(format!(
                "{STATEMENTS_PER_PERSON_MAX} of your prepared statements are open; close some \
                 and try again"
            )));
        }
        check_bytes(held.bytes + bytes_of(text))?;
        if entries.len() >= self.statements_max {
            return Err(Error::exhausted(
                "too many prepared statements are open on this hub; try again later",
            ));
        }
        Ok(())
    }

    /// The statement of a handle; somebody else's handle reads as unknown.
    pub fn get(&self, handle: &[u8], caller: &Principal) -> Result<Text> {
        let mut entries = self.entries.lock();
        Ok(owned(&mut entries, handle, caller)?.text.clone())
    }

    /// Binds rows of parameters for the executions that follow, in place of those before.
    pub fn bind(&self, handle: &[u8], caller: &Principal, parameters: Vec<u8>) -> Result<()> {
        let mut entries = self.entries.lock();
        let freed = owned(&mut entries, handle, caller)?.text.parameters.len();
        let held = held_by(&entries, &caller.person.id);
        check_bytes(held.bytes - freed + parameters.len())?;
        owned(&mut entries, handle, caller)?.text.parameters = parameters;
        Ok(())
    }

    /// Forgets what a person bound to statements of such texts.
    pub fn forget_bound(&self, person: &str, texts: impl Fn(&str) -> bool) {
        let mut entries = self.entries.lock();
        let own = entries.values_mut().filter(|entry| entry.person == person);
        for entry in own.filter(|entry| texts(&entry.text.sql)) {
            entry.text.parameters = Vec::new();
        }
    }

    /// What was prepared in a transaction that its client ends waits for the next of the session:
    /// drivers keep a prepared statement, and name no transaction when they run it again.
    pub fn leave(&self, transaction: Uuid, session: &SessionId) {
        let mut entries = self.entries.lock();
        let own = entries.values_mut().filter(|own| own.session == *session);
        for entry in own.filter(|own| own.text.transaction == Some(transaction)) {
            entry.waits = true;
        }
    }

    /// What waits runs in the transaction that the session begins.
    pub fn join(&self, transaction: Uuid, session: &SessionId) {
        let mut entries = self.entries.lock();
        let own = entries.values_mut().filter(|own| own.session == *session);
        for entry in own.filter(|own| own.waits) {
            entry.text.transaction = Some(transaction);
            entry.waits = false;
        }
    }

    /// Forgets what a session prepared.
    pub fn close_session(&self, session: &SessionId) {
        self.entries
            .lock()
            .retain(|_, entry| entry.session != *session);
    }

    /// Forgets a statement; an unknown handle is forgotten already.
    pub fn close(&self, handle: &[u8], caller: &Principal) {
        let mut entries = self.entries.lock();
        let is_owned = |entry: &Entry| entry.person == caller.person.id;
        if entries.get(handle).is_some_and(is_owned) {
            entries.remove(handle);
        }
    }
}

fn owned<'a>(
    entries: &'a mut HashMap<Bytes, Entry>,
    handle: &[u8],
    caller: &Principal,
) -> Result<&'a mut Entry> {
    let entry = entries
        .get_mut(handle)
        .filter(|entry| entry.person == caller.person.id)
        .ok_or_else(|| {
            Error::not_found("no such prepared statement; prepare the statement again")
        })?;
    entry.used = Instant::now();
    Ok(entry)
}

fn held_by(entries: &HashMap<Bytes, Entry>, person: &str) -> Held {
    let own = entries.values().filter(|entry| entry.person == person);
    own.fold(Held::default(), |held, entry| Held {
        statements: held.statements + 1,
        bytes: held.bytes + bytes_of(&entry.text),
    })
}

fn check_bytes(bytes: usize) -> Result<()> {
    if bytes <= BYTES_PER_PERSON_MAX {
        return Ok(());
    }
    Err(Error::exhausted(format!(
        "your prepared statements and their parameters would hold {bytes} bytes and at most \
         {BYTES_PER_PERSON_MAX} are kept; close some and try again"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn text(bytes: usize) -> Text {
        Text::new("x".repeat(bytes))
    }

    #[test]
    fn a_person_uses_up_their_own_share_only() {
        let prepared = PreparedStatements::new(10_000);
        let (mallory, ada) = (Principal::stranger("mallory"), Principal::stranger("ada"));
        let handles: Vec<Bytes> = (0..STATEMENTS_PER_PERSON_MAX)
            .map(|_| prepared.put(text(1), &mallory).expect("their share"))
            .collect();
        let error = prepared.put(text(1), &mallory).expect_err("is full");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        prepared
            .put(text(1), &ada)
            .expect("others are not hindered");
        prepared.close(&handles[0], &ada);
        assert!(prepared.put(text(1), &mallory).is_err());
        prepared.close(&handles[0], &mallory);
        prepared.put(text(1), &mallory).expect("room again");
    }

    #[test]
    fn what_was_prepared_in_a_transaction_follows_its_session_into_the_next() {
        let prepared = PreparedStatements::new(10);
        let ada = Principal::stranger("ada");
        let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
        let handle = prepared
            .put(text(1).within(Some(first)), &ada)
            .expect("room");
        let runs_in = || prepared.get(&handle, &ada).expect("hers").transaction;
        prepared.join(second, &ada.session);
        assert_eq!(runs_in(), Some(first), "nobody has ended the first");
        prepared.leave(first, &ada.session);
        assert_eq!(runs_in(), Some(first), "there is no other yet");
        prepared.join(second, &ada.session);
        prepared.join(third, &ada.session);
        assert_eq!(runs_in(), Some(second));
        prepared.leave(first, &ada.session);
        prepared.join(third, &ada.session);
        assert_eq!(runs_in(), Some(second));
    }

    #[test]
    fn bound_parameters_count_against_their_person() {
        let prepared = PreparedStatements::new(10_000);
        let (mallory, ada) = (Principal::stranger("mallory"), Principal::stranger("ada"));
        let half = BYTES_PER_PERSON_MAX / 2;
        let first = prepared.put(text(0), &mallory).expect("room");
        let second = prepared.put(text(1), &mallory).expect("room");
        let bind = |handle, bytes| prepared.bind(handle, &mallory, vec![0; bytes]);
        bind(&first, half).expect("half");
        let error = bind(&second, half).expect_err("one byte too many");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        bind(&first, half - 1).expect("replaces what was bound");
        bind(&second, half).expect("the other half");
        assert!(prepared.put(text(1), &mallory).is_err());
        let others = prepared.put(text(1), &ada).expect("room");
        assert!(prepared.bind(&others, &mallory, Vec::new()).is_err());
        prepared
            .bind(&others, &ada, vec![0; half])
            .expect("her own");
    }
}
