//! Prepared statements: text and bound parameters, kept for their owner, bounded.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::sealed::random;
use crate::statement::Text;

/// A statement that nobody used for this long is forgotten when room is needed.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(3600);

/// The prepared statements of all sessions.
#[derive(Debug)]
pub struct PreparedStatements {
    entries: Mutex<HashMap<Bytes, Entry>>,
    statements_max: usize,
}

#[derive(Debug)]
struct Entry {
    person: String,
    text: Text,
    used: Instant,
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
        let mut entries = self.entries.lock();
        if entries.len() >= self.statements_max {
            entries.retain(|_, entry| entry.used.elapsed() < IDLE_MAX);
        }
        if entries.len() >= self.statements_max {
            return Err(Error::exhausted(
                "too many prepared statements are open; close some and try again",
            ));
        }
        let entry = Entry {
            person: owner.person.id.clone(),
            text,
            used: Instant::now(),
        };
        entries.insert(handle.clone(), entry);
        Ok(handle)
    }

    /// The statement of a handle; somebody else's handle reads as unknown.
    pub fn get(&self, handle: &[u8], caller: &Principal) -> Result<Text> {
        self.with(handle, caller, |entry| entry.text.clone())
    }

    /// Binds rows of parameters for the executions that follow.
    pub fn bind(&self, handle: &[u8], caller: &Principal, parameters: Vec<u8>) -> Result<()> {
        self.with(handle, caller, |entry| entry.text.parameters = parameters)
    }

    /// Forgets a statement; an unknown handle is forgotten already.
    pub fn close(&self, handle: &[u8], caller: &Principal) {
        let mut entries = self.entries.lock();
        let is_owned = |entry: &Entry| entry.person == caller.person.id;
        if entries.get(handle).is_some_and(is_owned) {
            entries.remove(handle);
        }
    }

    fn with<T>(
        &self,
        handle: &[u8],
        caller: &Principal,
        action: impl FnOnce(&mut Entry) -> T,
    ) -> Result<T> {
        let mut entries = self.entries.lock();
        let entry = entries
            .get_mut(handle)
            .filter(|entry| entry.person == caller.person.id)
            .ok_or_else(|| {
                Error::not_found("no such prepared statement; prepare the statement again")
            })?;
        entry.used = Instant::now();
        Ok(action(entry))
    }
}
