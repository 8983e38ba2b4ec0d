//! Transactions on the project's space, from their begin to their commit or the end without one.
//!
//! ```text
//!  begun ──first change──▶ writing ──EndTransaction(commit)──▶ committed, or a conflict: rolled back
//!    │                        └── rollback, time over, session closed, hub stopped ──▶ rolled back
//!    └── the same ──▶ gone; it costs nothing, and waits for as long as its session may
//! ```
//!
//! They are this server's, in memory: nothing of one is in the store before its commit, and a
//! server that starts anew knows none. Its statements are admitted, decided on, charged and
//! recorded as any other; what they change is staged (`catalog/space/staging.rs`), and rests at the
//! commit on all that they rested on. Changes of one transaction run one after another.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hubflight_store::{SpaceChange, SpaceFile};
use hubflight_tickets::random;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant as Deadline;
use uuid::Uuid;

use super::revocation::Grounds;
use super::run;
use crate::auth::session::SessionId;
use crate::catalog::space::{Changing, Overlay, Space, Staging, Written};
use crate::config::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;

/// Transactions that one person may have begun at once: as many as sessions.
const PER_PERSON_MAX: usize = 200;
/// Those of them that may have written something: their files wait on disk.
const WRITING_PER_PERSON_MAX: usize = 8;
/// One without a change that nobody used for this long is forgotten when room is needed.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Versions of what a transaction has written that tickets may still name.
const VERSIONS_MAX: usize = 16;
const ENDED_MEANWHILE: &str = "it ended while the statement ran";
/// How often it is looked for those whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A transaction that is open, or was.
#[derive(Debug)]
pub struct Transaction {
    pub id: Uuid,
    pub project: String,
    session: SessionId,
    /// What it has written, and who writes now.
    work: Arc<tokio::sync::Mutex<Work>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    used: Instant,
    /// When it first wrote something.
    written: Option<Instant>,
    versions: VecDeque<Arc<Overlay>>,
    has_ended: bool,
}

#[derive(Debug, Default)]
struct Work {
    staging: Staging,
    /// What its changes rested on; nothing before the first.
    grounds: Option<Grounds>,
    /// Merges of files wait, which would be conflicts.
    changing: Option<Changing>,
}

impl Transaction {
    fn new(id: Uuid, project: &str, session: SessionId) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            used: now,
            written: None,
            versions: VecDeque::new(),
            has_ended: false,
        };
        Arc::new(Self {
            id,
            project: project.to_owned(),
            session,
            work: Arc::default(),
            state: Mutex::new(state),
        })
    }

    /// What it has written so far; nothing where it has not.
    pub fn overlay(&self) -> Option<Arc<Overlay>> {
        self.state.lock().versions.back().cloned()
    }

    /// What it had written when a ticket was made.
    ///
    /// # Errors
    /// `Aborted` where it has written too much since.
    pub fn version(&self, version: u64) -> Result<Arc<Overlay>> {
        let state = self.state.lock();
        let mut versions = state.versions.iter();
        let found = versions.find(|overlay| overlay.version == version);
        found.cloned().ok_or_else(|| {
            Error::new(
                ErrorKind::Aborted,
                "the transaction has changed much since this result was asked for; run the \
                 statement again",
            )
        })
    }

    /// Waits until no other statement of it changes anything.
    ///
    /// # Errors
    /// `NotFound` where it has ended, `DeadlineExceeded`.
    pub async fn turn(self: &Arc<Self>, hub: &Hub, deadline: Deadline) -> Result<Turn> {
        let work = Arc::clone(&self.work).lock_owned();
        let mut work = tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| run::too_late())?;
        if self.state.lock().has_ended {
            return Err(ended(&hub.config.limits));
        }
        if work.changing.is_none() {
            // Before the statement looks at the space: what it then finds is merged by nobody.
            work.changing = Some(hub.space_turns.of(&self.project).change().await);
        }
        Ok(Turn::new(Arc::clone(self), work))
    }

    fn is_writing(&self) -> bool {
        self.state.lock().written.is_some()
    }

    /// Whether its time is over: one that has written holds files on disk.
    fn is_over(&self, limits: &Limits) -> bool {
        let in_use = self.work.try_lock().is_err();
        let state = self.state.lock();
        let Some(written) = state.written else {
            return state.used.elapsed() >= Duration::from_secs(limits.token_seconds_max);
        };
        let is_read = state
            .versions
            .iter()
            .any(|seen| Arc::strong_count(seen) > 1);
        let idle = Duration::from_secs(limits.transaction_idle_seconds_max);
        written.elapsed() >= Duration::from_secs(limits.transaction_seconds_max)
            || !in_use && !is_read && state.used.elapsed() >= idle
    }

    /// Nothing of it is staged or committed any more; its files go with what reads them.
    fn end(&self) {
        let mut state = self.state.lock();
        state.has_ended = true;
        state.versions.clear();
        drop(state);
        // A statement that changes something now ends when it stages that.
        if let Ok(mut work) = self.work.try_lock() {
            *work = Work::default();
        }
    }
}

/// The right to change something in a transaction, for one statement: all of it, or nothing where
/// it is dropped before that is shown.
#[derive(Debug)]
pub struct Turn {
    transaction: Arc<Transaction>,
    work: Mutex<OwnedMutexGuard<Work>>,
    /// What was staged before, unless this statement is done.
    before: Mutex<Option<Staging>>,
}

impl Turn {
    fn new(transaction: Arc<Transaction>, work: OwnedMutexGuard<Work>) -> Self {
        Self {
            transaction,
            before: Mutex::new(Some(work.staging.clone())),
            work: Mutex::new(work),
        }
    }

    /// Of the rows of parameters of one statement, which are changed together or not at all. It is
    /// no transaction that anybody has begun.
    ///
    /// # Errors
    /// None but the hub's own failures.
    pub fn of_rows(project: &str) -> Result<Self> {
        let nobody = SessionId {
            person: String::new(),
            name: String::new(),
        };
        let transaction = Transaction::new(Uuid::nil(), project, nobody);
        let work = Arc::clone(&transaction.work).try_lock_owned();
        let work = work.map_err(|error| Error::internal("rows are changed twice", &error))?;
        Ok(Self::new(transaction, work))
    }

    /// What was written so far, by this statement too.
    pub fn overlay(&self) -> Option<Arc<Overlay>> {
        let work = self.work.lock();
        (!work.staging.is_empty()).then(|| Arc::new(work.staging.overlay()))
    }

    pub fn staging(&self) -> Staging {
        self.work.lock().staging.clone()
    }

    /// What its changes rested on; nothing where there was none.
    pub fn grounds(&self) -> Option<Grounds> {
        self.work.lock().grounds.clone()
    }

    /// See [`Staging::freed`].
    pub fn freed(&self, replaced: &[SpaceFile]) -> u64 {
        self.work.lock().staging.freed(replaced)
    }

    /// Takes in what a statement changed, and what it rested on.
    ///
    /// # Errors
    /// `NotFound` where the transaction has ended meanwhile; as [`Staging::stage`].
    pub fn stage(
        &self,
        space: &Space,
        changed: (Vec<SpaceChange>, Written),
        grounds: Option<&Grounds>,
        again: bool,
    ) -> Result<()> {
        self.check()?;
        let mut work = self.work.lock();
        work.staging.stage(space, changed, again)?;
        if let Some(grounds) = grounds {
            match &mut work.grounds {
                Some(all) => all.add(grounds),
                none => *none = Some(grounds.clone()),
            }
        }
        Ok(())
    }

    /// The statement is done: the transaction's others see what it changed.
    ///
    /// # Errors
    /// `NotFound` where the transaction has ended meanwhile.
    pub fn show(&self) -> Result<()> {
        let work = self.work.lock();
        let mut state = self.transaction.state.lock();
        if state.has_ended {
            return Err(gone(ENDED_MEANWHILE));
        }
        *self.before.lock() = None;
        let is_seen = state.versions.back().map_or(0, |seen| seen.version);
        if !work.staging.is_empty() && work.staging.version() != is_seen {
            state.written.get_or_insert_with(Instant::now);
            if state.versions.len() >= VERSIONS_MAX {
                state.versions.pop_front();
            }
            let overlay = work.staging.overlay();
            state.versions.push_back(Arc::new(overlay));
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        match self.transaction.state.lock().has_ended {
            true => Err(gone(ENDED_MEANWHILE)),
            false => Ok(()),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let work = self.work.get_mut();
        if let Some(before) = self.before.get_mut().take() {
            work.staging = before;
        }
        let mut state = self.transaction.state.lock();
        state.used = Instant::now();
        if state.has_ended {
            **work = Work::default();
        } else if work.staging.is_empty() {
            work.changing = None;
        }
    }
}

/// The transactions that are open on this server.
#[derive(Debug, Default)]
pub struct Transactions {
    open: Mutex<HashMap<Uuid, Arc<Transaction>>>,
}

impl Transactions {
    /// Begins one, and gives its name: 128 random bits.
    ///
    /// # Errors
    /// `ResourceExhausted` where the person has begun too many.
    pub fn begin(&self, project: &str, session: &SessionId) -> Result<Uuid> {
        let id = Uuid::from_bytes(random::<16>()?);
        let mut open = self.open.lock();
        let own = |open: &HashMap<Uuid, Arc<Transaction>>| {
            let own = open
                .values()
                .filter(|own| own.session.person == session.person);
            own.count()
        };
        if own(&open) >= PER_PERSON_MAX {
            let is_used = |own: &Transaction| {
                let state = own.state.lock();
                state.written.is_some() || state.used.elapsed() < IDLE_MAX
            };
            open.retain(|_, own| is_used(own));
        }
        if own(&open) >= PER_PERSON_MAX {
            return Err(Error::exhausted(format!(
                "{PER_PERSON_MAX} of your transactions are open; commit some or roll them back"
            )));
        }
        open.insert(id, Transaction::new(id, project, session.clone()));
        Ok(id)
    }

    /// An open transaction of a person; somebody else's reads as unknown.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find(&self, id: Uuid, person: &str, limits: &Limits) -> Result<Arc<Transaction>> {
        let open = self.open.lock();
        let own = open.get(&id).filter(|own| own.session.person == person);
        let own = own.ok_or_else(|| ended(limits))?;
        own.state.lock().used = Instant::now();
        Ok(Arc::clone(own))
    }

    /// The transaction that a statement runs in which was prepared in another: that one, or where
    /// it has ended the only one that its session has begun. Drivers keep a prepared statement
    /// beyond the transaction, and name none when they run it again.
    pub fn of_prepared(&self, id: Uuid, session: &SessionId) -> Uuid {
        let open = self.open.lock();
        if open.contains_key(&id) {
            return id;
        }
        let mut next = open.values().filter(|own| own.session == *session);
        match (next.next(), next.next()) {
            (Some(only), None) => only.id,
            _ => id,
        }
    }

    /// # Errors
    /// `ResourceExhausted` where others of the person have written and wait for their commit.
    pub fn check_writing(&self, transaction: &Transaction) -> Result<()> {
        if transaction.is_writing() {
            return Ok(());
        }
        let person = &transaction.session.person;
        let open = self.open.lock();
        let writing = open.values().filter(|own| own.session.person == *person);
        match writing.filter(|own| own.is_writing()).count() >= WRITING_PER_PERSON_MAX {
            true => Err(Error::exhausted(format!(
                "{WRITING_PER_PERSON_MAX} of your transactions have changed something and wait; \
                 commit them or roll them back"
            ))),
            false => Ok(()),
        }
    }

    /// Nobody finds it any more. What it staged goes, unless a commit has taken it.
    pub fn end(&self, id: Uuid) {
        if let Some(ended) = self.open.lock().remove(&id) {
            ended.end();
        }
    }

    pub fn close_session(&self, session: &SessionId) {
        self.end_those(|own| own.session == *session);
    }

    /// Ends all, when the hub stops.
    pub fn end_all(&self) {
        self.end_those(|_| true);
    }

    fn end_those(&self, which: impl Fn(&Transaction) -> bool) {
        let mut open = self.open.lock();
        let ended = open.extract_if(|_, own| which(own)).collect::<Vec<_>>();
        drop(open);
        ended.iter().for_each(|(_, own)| own.end());
    }
}

/// Ends those whose time is over, until it is aborted.
pub async fn watch(hub: Arc<Hub>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let limits = &hub.config.limits;
        hub.transactions.end_those(|own| own.is_over(limits));
    }
}

fn ended(limits: &Limits) -> Error {
    gone(&format!(
        "it was committed, rolled back, or not used for {} seconds, or the hub was started anew",
        limits.transaction_idle_seconds_max
    ))
}

fn gone(why: &str) -> Error {
    Error::not_found(format!(
        "there is no such transaction: {why}; what it had changed is not kept unless it was \
         committed. Roll it back, and begin another"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(person: &str, name: &str) -> SessionId {
        SessionId {
            person: person.into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_transaction_is_its_persons_and_ends_once() {
        let (open, limits) = (Transactions::default(), Limits::default());
        let id = open.begin("p", &session("ada", "1")).expect("begins");
        let found = open.find(id, "ada", &limits).expect("hers");
        assert_eq!((found.id, found.project.as_str()), (id, "p"));
        let foreign = open.find(id, "eve", &limits).expect_err("hers alone");
        let unknown = open.find(Uuid::nil(), "eve", &limits).expect_err("unknown");
        assert_eq!(foreign.to_string(), unknown.to_string());
        open.close_session(&session("ada", "2"));
        assert!(open.find(id, "ada", &limits).is_ok(), "of another session");
        open.close_session(&session("ada", "1"));
        assert!(open.find(id, "ada", &limits).is_err());
        assert!(found.overlay().is_none());
    }

    #[test]
    fn what_was_prepared_runs_in_the_only_transaction_that_is_open() {
        let open = Transactions::default();
        let (own, other) = (session("ada", "1"), session("ada", "2"));
        let first = open.begin("p", &own).expect("begins");
        assert_eq!(open.of_prepared(first, &own), first);
        open.end(first);
        assert_eq!(open.of_prepared(first, &own), first, "there is none");
        open.begin("p", &other).expect("begins");
        let next = open.begin("p", &own).expect("begins");
        assert_eq!(open.of_prepared(first, &own), next);
        open.begin("p", &own).expect("begins");
        assert_eq!(open.of_prepared(first, &own), first, "it could be either");
    }

    #[test]
    fn a_person_uses_up_their_own_share_only() {
        let open = Transactions::default();
        let mallory = session("mallory", "1");
        for _ in 0..PER_PERSON_MAX {
            open.begin("p", &mallory).expect("room");
        }
        let error = open.begin("p", &mallory).expect_err("is full");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        open.begin("p", &session("ada", "1")).expect("room");
    }

    #[tokio::test]
    async fn one_that_ended_takes_no_change_and_shows_none() {
        let open = Transactions::default();
        let id = open.begin("p", &session("ada", "1")).expect("begins");
        let found = open.find(id, "ada", &Limits::default()).expect("hers");
        let work = Arc::clone(&found.work).lock_owned().await;
        let turn = Turn::new(Arc::clone(&found), work);
        turn.show().expect("it is open");
        open.end(id);
        assert_eq!(turn.show().expect_err("ended").kind, ErrorKind::NotFound);
        assert_eq!(found.version(1).expect_err("gone").kind, ErrorKind::Aborted);
    }
}
