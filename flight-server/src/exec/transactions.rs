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
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hubflight_store::{SpaceChange, SpaceFile};
use hubflight_tickets::random;
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant as Deadline;
use uuid::Uuid;

use super::registry::Stop;
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
/// Versions of what a transaction has written that tickets may still name: each keeps its files.
const VERSIONS_MAX: usize = 4;
/// Commits that are remembered, so that nobody is told that they were rolled back.
const COMMITS_MAX: usize = 10_000;
const ENDED_MEANWHILE: &str = "it ended while the statement ran";
/// How often it is looked for those whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A transaction that is open, or was.
#[derive(Debug)]
pub struct Transaction {
    pub id: Uuid,
    session: SessionId,
    /// That of its first statement.
    project: OnceLock<String>,
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
    /// A statement changes something, and may be the first that does.
    is_claimed: bool,
    /// Ends the statement that changes something now.
    changes: Option<Arc<Stop>>,
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
    fn new(id: Uuid, session: SessionId) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            used: now,
            written: None,
            versions: VecDeque::new(),
            has_ended: false,
            is_claimed: false,
            changes: None,
        };
        Arc::new(Self {
            id,
            project: OnceLock::new(),
            session,
            work: Arc::default(),
            state: Mutex::new(state),
        })
    }

    /// Binds it to the project of its first statement.
    ///
    /// # Errors
    /// `InvalidArgument` for a statement in another.
    pub fn enter(&self, project: &str) -> Result<()> {
        let own = self.project.get_or_init(|| project.to_owned());
        match own == project {
            true => Ok(()),
            false => Err(Error::invalid(format!(
                "the transaction is one of project `{own}`, and this statement of `{project}`; end \
                 the transaction before you set another `catalog`"
            ))),
        }
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
        hub.transactions.claim(self)?;
        if let (None, Some(project)) = (&work.changing, self.project.get()) {
            // Before the statement looks at the space: what it then finds is merged by nobody.
            work.changing = Some(hub.space_turns.of(project).change().await);
        }
        Ok(Turn::new(Arc::clone(self), work))
    }

    fn is_writing(&self) -> bool {
        let state = self.state.lock();
        state.is_claimed || state.written.is_some()
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
        let versions = std::mem::take(&mut state.versions);
        if let Some(stop) = state.changes.take() {
            stop.end(gone(ENDED_MEANWHILE));
        }
        drop(state);
        // The turn of a statement that still changes something forgets the rest.
        let work = self
            .work
            .try_lock()
            .map(|mut work| std::mem::take(&mut *work));
        apart(move || drop((versions, work)));
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
    pub fn of_rows() -> Result<Self> {
        let nobody = SessionId {
            person: String::new(),
            name: String::new(),
        };
        let transaction = Transaction::new(Uuid::nil(), nobody);
        let work = Arc::clone(&transaction.work).try_lock_owned();
        let work = work.map_err(|error| Error::internal("rows are changed twice", &error))?;
        Ok(Self::new(transaction, work))
    }

    /// What ends the statement when the transaction ends.
    pub fn ends(&self, stop: &Arc<Stop>) {
        self.transaction.state.lock().changes = Some(Arc::clone(stop));
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
        state.changes = None;
        if state.has_ended {
            let work = std::mem::take(&mut **work);
            apart(move || drop(work));
        } else if work.staging.is_empty() {
            work.changing = None;
            state.is_claimed = false;
        }
    }
}

/// Removes files apart from who waits for nothing.
fn apart(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// The transactions that are open on this server.
#[derive(Debug, Default)]
pub struct Transactions {
    open: Mutex<HashMap<Uuid, Arc<Transaction>>>,
    /// The last that were committed, or are being.
    committed: Mutex<VecDeque<Uuid>>,
}

impl Transactions {
    /// Begins one, and gives its name: 128 random bits.
    ///
    /// # Errors
    /// `ResourceExhausted` where the person has begun too many.
    pub fn begin(&self, session: &SessionId) -> Result<Uuid> {
        let id = Uuid::from_bytes(random::<16>()?);
        let mut open = self.open.lock();
        let own = |open: &HashMap<Uuid, Arc<Transaction>>| {
            let own = open
                .values()
                .filter(|own| own.session.person == session.person);
            own.count()
        };
        if own(&open) >= PER_PERSON_MAX {
            let is_idle = |own: &Transaction| {
                !own.is_writing() && own.state.lock().used.elapsed() >= IDLE_MAX
            };
            let foreign = |own: &Transaction| own.session.person != session.person;
            open.retain(|_, own| foreign(own) || !is_idle(own));
        }
        if own(&open) >= PER_PERSON_MAX {
            return Err(Error::exhausted(format!(
                "{PER_PERSON_MAX} of your transactions are open; commit some or roll them back"
            )));
        }
        open.insert(id, Transaction::new(id, session.clone()));
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

    /// Lets a transaction change something, for the first time perhaps.
    ///
    /// # Errors
    /// `ResourceExhausted` where others of the person have written and wait for their commit.
    fn claim(&self, transaction: &Transaction) -> Result<()> {
        let open = self.open.lock();
        if !transaction.is_writing() {
            let person = &transaction.session.person;
            let own = open.values().filter(|own| own.session.person == *person);
            if own.filter(|own| own.is_writing()).count() >= WRITING_PER_PERSON_MAX {
                return Err(Error::exhausted(format!(
                    "{WRITING_PER_PERSON_MAX} of your transactions have changed something and wait; \
                     commit them or roll them back"
                )));
            }
        }
        transaction.state.lock().is_claimed = true;
        Ok(())
    }

    /// Nobody finds it any more. What it staged goes.
    pub fn roll_back(&self, id: Uuid) {
        self.end(id);
    }

    /// The same, for the commit that has its turn. It is remembered.
    ///
    /// # Errors
    /// `NotFound` where it has ended by now.
    pub fn take(&self, id: Uuid, limits: &Limits) -> Result<()> {
        let mut committed = self.committed.lock();
        if committed.len() >= COMMITS_MAX {
            committed.pop_front();
        }
        if !self.end(id) {
            return Err(ended(limits));
        }
        committed.push_back(id);
        Ok(())
    }

    /// Whether it was committed lately, or is being.
    pub fn was_committed(&self, id: Uuid) -> bool {
        self.committed.lock().contains(&id)
    }

    fn end(&self, id: Uuid) -> bool {
        let ended = self.open.lock().remove(&id);
        ended.is_some_and(|ended| {
            ended.end();
            true
        })
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
        let id = open.begin(&session("ada", "1")).expect("begins");
        let found = open.find(id, "ada", &limits).expect("hers");
        found.enter("p").expect("its first");
        assert!(found.enter("q").is_err());
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
    fn a_person_uses_up_their_own_share_only() {
        let open = Transactions::default();
        let mallory = session("mallory", "1");
        for _ in 0..PER_PERSON_MAX {
            open.begin(&mallory).expect("room");
        }
        let error = open.begin(&mallory).expect_err("is full");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        open.begin(&session("ada", "1")).expect("room");
    }

    #[tokio::test]
    async fn one_that_ended_takes_no_change_and_shows_none() {
        let open = Transactions::default();
        let id = open.begin(&session("ada", "1")).expect("begins");
        let found = open.find(id, "ada", &Limits::default()).expect("hers");
        let work = Arc::clone(&found.work).lock_owned().await;
        let turn = Turn::new(Arc::clone(&found), work);
        turn.show().expect("it is open");
        open.take(id, &Limits::default()).expect("open");
        assert!(open.was_committed(id) && open.take(id, &Limits::default()).is_err());
        assert_eq!(turn.show().expect_err("ended").kind, ErrorKind::NotFound);
        assert_eq!(found.version(1).expect_err("gone").kind, ErrorKind::Aborted);
    }
}
