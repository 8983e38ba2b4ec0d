//! The executions that run now: to cancel them, and to end those whose rights have ended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::revocation::Grounds;
use crate::auth::session::SessionId;
use crate::error::{Error, ErrorKind};
use crate::flight::call::Caller;

/// Ends one execution from outside, once, with a reason that its client is told.
#[derive(Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    /// For what computes and waits for nothing.
    ended: Arc<AtomicBool>,
    why: OnceLock<Error>,
    /// The session with which it ends, and when its call came.
    call: Option<(SessionId, Instant)>,
}

impl Stop {
    pub fn of_call(caller: &Caller) -> Self {
        Self {
            call: Some((caller.principal.session.clone(), caller.place.since)),
            ..Self::default()
        }
    }

    /// The first reason counts.
    pub fn end(&self, why: Error) {
        self.why.get_or_init(|| why);
        self.ended.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub fn cancel(&self) {
        self.end(cancelled());
    }

    /// Why it was ended, where an error says no more than that it was.
    pub fn reason(&self, error: Error) -> Error {
        match error.kind {
            ErrorKind::Cancelled => self.why().unwrap_or(error),
            _ => error,
        }
    }

    /// Set when it is ended.
    pub fn ended_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    /// Why it was ended, if it was.
    pub fn why(&self) -> Option<Error> {
        self.why.get().cloned()
    }

    /// Waits until somebody ends the execution, and tells why.
    pub async fn ended(&self) -> Error {
        self.token.cancelled().await;
        self.why.get().cloned().unwrap_or_else(cancelled)
    }
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the statement was cancelled")
}

/// An execution that runs, and what it runs on.
#[derive(Debug)]
pub struct Entry {
    pub stop: Arc<Stop>,
    pub grounds: Grounds,
    /// What was last decided; nothing before the first time.
    held: Mutex<Option<Held>>,
    /// Since when it could not be decided.
    doubted: Mutex<Option<Instant>>,
}

/// Until when a decision stands, unless rights change before.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// The revision of rights that it was made at.
    pub revision: i64,
    /// When the first of its grounds ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// When it must be asked again, although nothing is known to end then.
    pub again: Option<DateTime<Utc>>,
}

impl Entry {
    pub fn hold(&self, held: Held) {
        *self.held.lock() = Some(held);
        *self.doubted.lock() = None;
    }

    /// It cannot be decided now; gives for how long that has been so.
    pub fn doubt(&self) -> Duration {
        self.doubted
            .lock()
            .get_or_insert_with(Instant::now)
            .elapsed()
    }

    /// The time that the last decision was good for has come.
    pub fn is_over(&self, now: DateTime<Utc>) -> bool {
        let held = *self.held.lock();
        held.and_then(|held| held.until)
            .is_some_and(|until| until <= now)
    }

    fn is_due(&self, revision: i64, now: DateTime<Utc>) -> bool {
        let held = *self.held.lock();
        let is_stale =
            |held: Held| held.revision != revision || held.again.is_some_and(|again| again <= now);
        // What ends a certificate is no change of rights in the store: it is judged every time.
        held.is_none_or(is_stale)
            || self.is_over(now)
            || self.grounds.standing.certificate.is_some()
    }
}

type Executions = HashMap<Uuid, HashMap<u64, Arc<Entry>>>;

/// Running executions by statement.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    running: Arc<Mutex<Executions>>,
    /// Sessions, and when they were last closed: a call from before may be waiting for its place.
    closed: Arc<Mutex<HashMap<SessionId, Instant>>>,
}

/// Closed sessions that are remembered. Beyond it those are forgotten that no call is so old for,
/// and if that is not enough, all: their calls then run to their end.
const CLOSED_MAX: usize = 10_000;
/// Longer than a call waits for its place.
const CLOSED_TIME: Duration = Duration::from_secs(3600);

/// An execution's place in the registry; it leaves when dropped.
#[derive(Debug)]
pub struct Registered {
    registry: Registry,
    statement_id: Uuid,
    key: u64,
}

impl Registry {
    /// Takes an execution in. Where its session was closed after its call came, it is stopped.
    pub fn enter(&self, statement_id: Uuid, stop: Arc<Stop>, grounds: Grounds) -> Registered {
        let place = self.insert(statement_id, Arc::clone(&stop), grounds);
        // Only now: a session that is closed after this finds it among those that run.
        if let Some((session, since)) = &stop.call
            && self
                .closed
                .lock()
                .get(session)
                .is_some_and(|at| at >= since)
        {
            stop.cancel();
        }
        place
    }

    fn insert(&self, statement_id: Uuid, stop: Arc<Stop>, grounds: Grounds) -> Registered {
        let mut running = self.running.lock();
        let executions = running.entry(statement_id).or_default();
        let key = (0..).find(|key| !executions.contains_key(key)).unwrap_or(0);
        let entry = Entry {
            stop,
            grounds,
            held: Mutex::default(),
            doubted: Mutex::default(),
        };
        executions.insert(key, Arc::new(entry));
        Registered {
            registry: self.clone(),
            statement_id,
            key,
        }
    }

    /// Stops the executions of a statement that `person` runs; false when none runs.
    pub fn cancel(&self, statement_id: Uuid, person: &str) -> bool {
        let running = self.running.lock();
        let executions = running.get(&statement_id).into_iter();
        let mut cancelled = false;
        for entry in executions.flat_map(HashMap::values) {
            if entry.grounds.standing.person == person {
                entry.stop.cancel();
                cancelled = true;
            }
        }
        cancelled
    }

    /// Stops the executions of a session that is closed, and those of its calls that wait.
    pub fn close_session(&self, session: &SessionId) {
        let mut closed = self.closed.lock();
        if closed.len() >= CLOSED_MAX {
            closed.retain(|_, at| at.elapsed() < CLOSED_TIME);
        }
        if closed.len() >= CLOSED_MAX {
            closed.clear();
        }
        closed.insert(session.clone(), Instant::now());
        drop(closed);
        let own = |stop: &Stop| stop.call.as_ref().is_some_and(|(own, _)| own == session);
        let entries = self.all().into_iter();
        let entries = entries.filter(|entry| own(&entry.stop));
        entries.for_each(|entry| entry.stop.cancel());
    }

    /// Stops every execution.
    pub fn cancel_all(&self) {
        self.all().iter().for_each(|entry| entry.stop.cancel());
    }

    pub fn is_empty(&self) -> bool {
        self.running.lock().is_empty()
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        let running = self.running.lock();
        running
            .values()
            .flat_map(HashMap::values)
            .map(Arc::clone)
            .collect()
    }

    /// The executions whose rights must be decided on at this revision and time.
    pub fn due(&self, revision: i64, now: DateTime<Utc>) -> Vec<Arc<Entry>> {
        let mut entries = self.all();
        entries.retain(|entry| entry.is_due(revision, now));
        entries
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut running = self.registry.running.lock();
        if let Some(executions) = running.get_mut(&self.statement_id) {
            executions.remove(&self.key);
            if executions.is_empty() {
                running.remove(&self.statement_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[tokio::test]
    async fn the_first_reason_ends_an_execution() {
        let registry = Registry::default();
        let stop = Arc::new(Stop::default());
        let id = Uuid::now_v7();
        let place = registry.enter(id, Arc::clone(&stop), Grounds::of_nobody("ada"));
        stop.end(Error::denied("revoked"));
        assert!(!registry.cancel(id, "eve"), "another person's");
        assert!(registry.cancel(id, "ada"));
        assert_eq!(stop.ended().await.kind, ErrorKind::PermissionDenied);
        drop(place);
        assert!(registry.is_empty() && !registry.cancel(id, "ada"));
    }

    #[test]
    fn an_execution_is_decided_on_at_first_then_on_change_and_at_its_time() {
        let registry = Registry::default();
        let stop = Arc::new(Stop::default());
        let _place = registry.enter(Uuid::now_v7(), stop, Grounds::of_nobody("ada"));
        let now = Utc::now();
        let due = registry.due(7, now);
        assert_eq!(due.len(), 1, "rights may have changed before it began");
        let until = Some(now + TimeDelta::seconds(5));
        let held = Held {
            revision: 7,
            until,
            again: None,
        };
        due[0].hold(held);
        assert!(registry.due(7, now).is_empty());
        assert_eq!(registry.due(8, now).len(), 1);
        assert_eq!(registry.due(7, now + TimeDelta::seconds(5)).len(), 1);
        // Asked again before, which is no end of its grounds.
        let again = Some(now + TimeDelta::seconds(1));
        due[0].hold(Held { again, ..held });
        assert!(registry.due(7, now).is_empty());
        assert_eq!(registry.due(7, now + TimeDelta::seconds(1)).len(), 1);
        assert!(!due[0].is_over(now + TimeDelta::seconds(1)));
    }
}
