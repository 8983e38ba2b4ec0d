//! Failed logins with a password, by person and by peer address. The clock is passed in.
//!
//! A name is locked after so many failures, whether or not there is such a person: the answer
//! tells nothing of who exists. An address is locked after more of them, whatever the names.
//! Access tokens are not counted: nobody guesses 256 bits, and so a stranger who locks
//! somebody's password keeps them from nothing that runs with a token or in a session.
//!
//! Counts lie in this process; an administrator's unlocking comes through the store.

use std::collections::HashMap;
use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};

/// Names and addresses whose failures are remembered.
const COUNTS_MAX: usize = 100_000;
/// Longer names than any person has count as what they begin with.
const NAME_CHARS_MAX: usize = 64;

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

/// The failures of a person and an address since the first that counts.
#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    first: DateTime<Utc>,
    /// When the lock began, if there is one.
    locked: Option<DateTime<Utc>>,
}

#[derive(Debug)]
pub struct Attempts {
    limits: AttemptLimits,
    life: TimeDelta,
    counts: Mutex<HashMap<Subject, Count>>,
}

impl Attempts {
    pub fn new(limits: AttemptLimits) -> Self {
        Self {
            limits,
            life: TimeDelta::seconds(i64::from(limits.login_lock_seconds)),
            counts: Mutex::default(),
        }
    }

    /// Refuses a name or an address that is locked. `unlocked` is when an administrator last
    /// unlocked that person.
    pub fn check(
        &self,
        name: &str,
        peer: Option<IpAddr>,
        unlocked: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let mut counts = self.counts.lock();
        for subject in subjects(name, peer) {
            let Some(count) = counts.get(&subject).copied() else {
                continue;
            };
            let pardoned = matches!(subject, Subject::Person(_))
                && unlocked.is_some_and(|unlocked| unlocked >= count.locked.unwrap_or(count.first));
            if pardoned || self.is_over(&count, now) {
                counts.remove(&subject);
            } else if count.locked.is_some() {
                return Err(locked(self.limits.login_lock_seconds));
            }
        }
        Ok(())
    }

    /// Counts a failure, and gives who is locked by it.
    pub fn failed(&self, name: &str, peer: Option<IpAddr>, now: DateTime<Utc>) -> Vec<Subject> {
        let mut counts = self.counts.lock();
        if counts.len() + 2 > COUNTS_MAX {
            counts.retain(|_, count| !self.is_over(count, now));
        }
        let mut news = Vec::new();
        for subject in subjects(name, peer) {
            let full = counts.len() >= COUNTS_MAX && !counts.contains_key(&subject);
            if full {
                tracing::warn!("failed logins of more names than are remembered");
                continue;
            }
            let fresh = Count {
                failures: 0,
                first: now,
                locked: None,
            };
            let count = counts.entry(subject.clone()).or_insert(fresh);
            if self.is_over(count, now) {
                *count = fresh;
            }
            count.failures = count.failures.saturating_add(1);
            if count.locked.is_none() && count.failures >= self.most(&subject) {
                count.locked = Some(now);
                news.push(subject);
            }
        }
        news
    }

    /// Forgets a person's failures. Those of the address stay: who guesses many names may know
    /// one password.
    pub fn succeeded(&self, name: &str) {
        self.counts.lock().remove(&person(name));
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

fn person(name: &str) -> Subject {
    Subject::Person(name.chars().take(NAME_CHARS_MAX).collect())
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
mod tests {
    use super::*;

    const LIMITS: AttemptLimits = AttemptLimits {
        login_failures_per_person_max: 3,
        login_failures_per_peer_max: 5,
        login_lock_seconds: 900,
    };

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_name_is_locked_for_a_time_whether_or_not_it_is_a_persons() {
        let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
        for name in ["ada", "nobody"] {
            for _ in 0..2 {
                assert!(attempts.failed(name, None, now).is_empty());
                attempts.check(name, None, None, now).expect("not yet");
            }
            assert_eq!(attempts.failed(name, None, now), [person(name)]);
            let error = attempts.check(name, None, None, now).expect_err("locked");
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
            assert!(!error.to_string().contains(name));
            // It is told once, and lasts from then on, not from the last attempt.
            assert!(attempts.failed(name, None, now).is_empty());
            let end = now + TimeDelta::seconds(900);
            let before = end - TimeDelta::milliseconds(1);
            attempts
                .check(name, None, None, before)
                .expect_err("locked");
            attempts.check(name, None, None, end).expect("over");
        }
        attempts.check("eve", None, None, now).expect("another");
    }

    #[test]
    fn success_and_an_administrator_end_the_count() {
        let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
        for _ in 0..2 {
            attempts.failed("ada", None, now);
            attempts.failed("ada", None, now);
            attempts.succeeded("ada");
        }
        for _ in 0..3 {
            attempts.failed("ada", None, now);
        }
        let earlier = Some(now - TimeDelta::seconds(1));
        attempts
            .check("ada", None, earlier, now)
            .expect_err("locked since");
        let later = now + TimeDelta::seconds(1);
        attempts
            .check("ada", None, Some(later), later)
            .expect("unlocked");
        attempts.check("ada", None, None, later).expect("for good");
    }

    #[test]
    fn failures_long_ago_do_not_count() {
        let (attempts, mut now) = (Attempts::new(LIMITS), Utc::now());
        for _ in 0..20 {
            assert!(attempts.failed("ada", None, now).is_empty());
            attempts.check("ada", None, None, now).expect("slow enough");
            now += TimeDelta::seconds(451);
        }
    }

    #[test]
    fn an_address_is_locked_whatever_the_names_and_a_network_counts_as_one() {
        for (addresses, other) in [
            (["10.0.0.1", "::ffff:10.0.0.1"], "10.0.0.2"),
            (["2001:db8::1", "2001:db8::2:3"], "2001:db8:0:1::1"),
        ] {
            let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
            let mut news = Vec::new();
            for i in 0..5 {
                news.extend(attempts.failed(&format!("p{i}"), address(addresses[i % 2]), now));
            }
            assert!(matches!(news.as_slice(), [Subject::Peer(_)]), "{news:?}");
            // An administrator unlocks persons, not addresses; success does not either.
            attempts.succeeded("p9");
            attempts
                .check("p9", address(addresses[0]), Some(now), now)
                .expect_err("locked");
            attempts
                .check("p9", address(other), None, now)
                .expect("another");
        }
    }

    #[test]
    fn names_without_end_take_bounded_memory() {
        let (attempts, now) = (Attempts::new(LIMITS), Utc::now());
        for i in 0..COUNTS_MAX + 10 {
            attempts.failed(&format!("{i}"), None, now);
        }
        assert!(attempts.counts.lock().len() <= COUNTS_MAX);
        attempts.failed(&"x".repeat(1 << 20), None, now + TimeDelta::seconds(900));
        let counts = attempts.counts.lock();
        let longest = counts.keys().map(|subject| match subject {
            Subject::Person(name) => name.len(),
            Subject::Peer(_) => 0,
        });
        assert_eq!((counts.len(), longest.max()), (1, Some(NAME_CHARS_MAX)));
    }
}
