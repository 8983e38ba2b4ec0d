//! Failed logins with a password, by person and by peer address. The clock is passed in.
//!
//! ```text
//!  check ──▶ wait to be hashed ──▶ begin (counted) ──▶ hash ──▶ succeeded: forgiven
//!                                                       └─────▶ failed, or the client left
//! ```
//!
//! A name is locked after so many failures, whether or not there is such a person: the answer
//! tells nothing of who exists. An address is locked after more of them, whatever the names; but
//! a hospital's clients may all come from one. So whoever logs in is forgiven there what they
//! mistyped before, their later failures from there count against their name alone, and a lock
//! of the address does not shut them out. Access tokens are not counted: nobody guesses 256 bits,
//! and so a stranger who locks somebody's password keeps them from nothing that runs with a token
//! or in a session.
//!
//! Counts lie in this process; an administrator's unlocking comes through the store.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// Names and addresses whose failures are remembered; of names at addresses as many, and as many
/// that logged in.
const COUNTS_MAX: usize = 100_000;
/// Longer names than any person has count as what they begin with.
const NAME_CHARS_MAX: usize = 64;
/// How long a login makes a name known at its address.
const KNOWN_DAYS: i64 = 30;

/// How many failures lock, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimits {
    pub login_failures_per_person_max: u32,
    pub login_failures_per_peer_max: u32,
    /// Failures count for this long after the first of them, and lock for as long.
    pub login_lock_seconds: u32,
}

/// Who a lock-out is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Person(String),
    Peer(IpAddr),
}

/// A name at an address.
type Pair = (String, IpAddr);

/// The failures of a person and an address since the first that counts. An attempt is one from
/// its begin, until it succeeds.
#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    first: DateTime<Utc>,
    /// When the lock began, if there is one.
    locked: Option<DateTime<Utc>>,
    /// Whether somebody was told of the lock, to record it.
    told: bool,
}

impl Count {
    fn new(now: DateTime<Utc>) -> Self {
        Self {
            failures: 0,
            first: now,
            locked: None,
            told: false,
        }
    }

    /// True the first time that it is asked of a lock.
    fn tell(&mut self) -> bool {
        let is_new = self.locked.is_some() && !self.told;
        self.told |= is_new;
        is_new
    }
}

/// Who asks to be let in, and when.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub name: &'a str,
    pub peer: Option<IpAddr>,
    /// When an administrator last unlocked that person.
    pub unlocked: Option<DateTime<Utc>>,
    pub now: DateTime<Utc>,
}

/// An attempt that is refused unlooked at, and the locks that nobody was told of yet.
#[derive(Debug)]
pub struct Locked {
    pub error: Error,
    pub news: Vec<Subject>,
}

#[derive(Debug)]
pub struct Attempts {
    limits: AttemptLimits,
    life: TimeDelta,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: HashMap<Subject, Count>,
    /// How much of an address's count each name has.
    pairs: HashMap<Pair, Count>,
    /// When a name last logged in from an address.
    known: HashMap<Pair, DateTime<Utc>>,
}

impl Attempts {
    pub fn new(limits: AttemptLimits) -> Self {
        Self {
            limits,
            life: TimeDelta::seconds(i64::from(limits.login_lock_seconds)),
            state: Mutex::default(),
        }
    }

    /// Refuses a name that is locked, and one that is not known at an address that is.
    pub fn check(&self, attempt: Attempt<'_>) -> Result<(), Locked> {
        self.look(&mut self.state.lock(), attempt)
    }

    /// Checks again and counts a failure, before the password is looked at: whoever goes away
    /// meanwhile has tried, and those who try at once are counted one by one.
    pub fn begin(&self, attempt: Attempt<'_>) -> Result<(), Locked> {
        let state = &mut *self.state.lock();
        self.look(state, attempt)?;
        let pair = pair(attempt.name, attempt.peer).filter(|pair| !state.knows(pair, attempt.now));
        let address = pair.as_ref().map(|(_, address)| Subject::Peer(*address));
        for subject in [Some(person(attempt.name)), address].into_iter().flatten() {
            let most = self.most(&subject);
            let count = self.counted(&mut state.counts, subject, attempt.now);
            let count = count.ok_or_else(|| self.refusal(Vec::new()))?;
            if count.failures >= most && count.locked.is_none() {
                count.locked = Some(attempt.now);
            }
        }
        if let Some(pair) = pair {
            // One that finds no room is not forgiven, which is all.
            self.counted(&mut state.pairs, pair, attempt.now);
        }
        Ok(())
    }

    /// The attempt was wrong: gives whom it locked.
    pub fn failed(&self, attempt: Attempt<'_>) -> Vec<Subject> {
        let state = &mut *self.state.lock();
        let subjects = subjects(attempt.name, attempt.peer);
        subjects
            .filter(|subject| state.counts.get_mut(subject).is_some_and(Count::tell))
            .collect()
    }

    /// Forgets what this person failed, in all and at this address, and knows them there.
    pub fn succeeded(&self, attempt: Attempt<'_>) {
        let state = &mut *self.state.lock();
        state.counts.remove(&person(attempt.name));
        let Some(pair) = pair(attempt.name, attempt.peer) else {
            return;
        };
        let address = Subject::Peer(pair.1);
        if let Some(own) = state.pairs.remove(&pair)
            && let Some(count) = state.counts.get_mut(&address)
            && count.first <= own.first
        {
            count.failures = count.failures.saturating_sub(own.failures);
            if !count.told && count.failures < self.most(&address) {
                count.locked = None;
            }
        }
        state.know(pair, attempt.now);
    }

    /// Counts a forged token of a login provider against the address alone: it names nobody who
    /// could be locked, and who shows a good one is let in from there as before. Gives the lock
    /// that it made.
    pub fn forged(&self, peer: Option<IpAddr>, now: DateTime<Utc>) -> Option<Subject> {
        let subject = Subject::Peer(network(peer?));
        let state = &mut *self.state.lock();
        let most = self.most(&subject);
        let count = self.counted(&mut state.counts, subject.clone(), now)?;
        if count.failures >= most && count.locked.is_none() {
            count.locked = Some(now);
        }
        count.tell().then_some(subject)
    }

    /// Whether an address is locked, for those whom it does not know.
    pub fn is_locked(&self, peer: Option<IpAddr>, now: DateTime<Utc>) -> bool {
        let state = self.state.lock();
        let count = peer.and_then(|peer| state.counts.get(&Subject::Peer(network(peer))));
        count.is_some_and(|count| count.locked.is_some() && !self.is_over(count, now))
    }

    /// What everybody is told who is locked out.
    pub fn refusal(&self, news: Vec<Subject>) -> Locked {
        Locked {
            error: locked(self.limits.login_lock_seconds),
            news,
        }
    }

    fn look(&self, state: &mut State, attempt: Attempt<'_>) -> Result<(), Locked> {
        let Attempt { unlocked, now, .. } = attempt;
        let pair = pair(attempt.name, attempt.peer);
        let is_known = pair.is_some_and(|pair| state.knows(&pair, now));
        for subject in subjects(attempt.name, attempt.peer) {
            let Some(count) = state.counts.get_mut(&subject) else {
                continue;
            };
            let is_person = matches!(subject, Subject::Person(_));
            let pardoned = is_person
                && unlocked.is_some_and(|unlocked| unlocked >= count.locked.unwrap_or(count.first));
            if pardoned || self.is_over(count, now) {
                state.counts.remove(&subject);
            } else if count.locked.is_some() && (is_person || !is_known) {
                let news = count.tell().then_some(subject);
                return Err(self.refusal(news.into_iter().collect()));
            }
        }
        Ok(())
    }

    /// Counts one more; none where there is no room.
    fn counted<'a, K: Clone + Eq + Hash>(
        &self,
        counts: &'a mut HashMap<K, Count>,
        key: K,
        now: DateTime<Utc>,
    ) -> Option<&'a mut Count> {
        if counts.len() >= COUNTS_MAX && !counts.contains_key(&key) {
            self.make_room(counts, now);
            if counts.len() >= COUNTS_MAX {
                return None;
            }
        }
        let count = counts.entry(key).or_insert_with(|| Count::new(now));
        if self.is_over(count, now) {
            *count = Count::new(now);
        }
        count.failures = count.failures.saturating_add(1);
        Some(count)
    }

    /// Forgets what is over, or else whoever is furthest from being locked: a lock is never
    /// forgotten for a new name.
    fn make_room<K: Clone + Eq + Hash>(&self, counts: &mut HashMap<K, Count>, now: DateTime<Utc>) {
        counts.retain(|_, count| !self.is_over(count, now));
        if counts.len() < COUNTS_MAX {
            return;
        }
        let open = counts.iter().filter(|(_, count)| count.locked.is_none());
        let least = open.min_by_key(|(_, count)| (count.failures, count.first));
        if let Some(least) = least.map(|(key, _)| key.clone()) {
            counts.remove(&least);
        }
    }

    fn most(&self, subject: &Subject) -> u32 {
        match subject {
            Subject::Person(_) => self.limits.login_failures_per_person_max,
            Subject::Peer(_) => self.limits.login_failures_per_peer_max,
        }
    }

    fn is_over(&self, count: &Count, now: DateTime<Utc>) -> bool {
        now - count.locked.unwrap_or(count.first) >= self.life
    }
}

impl State {
    fn knows(&self, pair: &Pair, now: DateTime<Utc>) -> bool {
        let since = self.known.get(pair);
        since.is_some_and(|since| now - *since < TimeDelta::days(KNOWN_DAYS))
    }

    fn know(&mut self, pair: Pair, now: DateTime<Utc>) {
        if self.known.len() >= COUNTS_MAX && !self.known.contains_key(&pair) {
            let oldest = self.known.iter().min_by_key(|(_, since)| **since);
            if let Some(oldest) = oldest.map(|(pair, _)| pair.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(pair, now);
    }
}

fn short(name: &str) -> String {
    name.chars().take(NAME_CHARS_MAX).collect()
}

fn person(name: &str) -> Subject {
    Subject::Person(short(name))
}

fn pair(name: &str, peer: Option<IpAddr>) -> Option<Pair> {
    peer.map(|peer| (short(name), network(peer)))
}

/// Whoever has an address of IPv6 has all of its network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            IpAddr::from((u128::from(address) & !u128::from(u64::MAX)).to_be_bytes())
        }
        other => other.to_canonical(),
    }
}

fn subjects(name: &str, peer: Option<IpAddr>) -> impl Iterator<Item = Subject> {
    [Some(person(name)), peer.map(network).map(Subject::Peer)]
        .into_iter()
        .flatten()
}

fn locked(seconds: u32) -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        format!(
            "too many logins failed; wait {} minutes, use an access token, or ask an \
             administrator to unlock you",
            seconds.div_ceil(60)
        ),
    )
}

#[cfg(test)]
mod tests;
