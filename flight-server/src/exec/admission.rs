//! Places: what a person, and all together, may have going on at once.
//!
//! ```text
//!  call ──door──▶ one of the person's calls ──▶ planning: own places, then all's
//!                        │                └───▶ running:  own places, then all's
//!                        └── kept until it is answered, and its stream was read or dropped
//! ```
//!
//! Whatever waits holds a place among its person's calls, so that every queue is bounded before
//! anything waits in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls of one person that are under way at once, streams that they have not read included;
/// more are refused.
pub const CALLS_PER_PERSON_MAX: usize = 128;
/// Statements that are planned at once; others wait.
pub(super) const PLANNING_MAX: usize = 32;
/// Statements of one person that are planned at once; their others wait.
pub(super) const PLANNING_PER_PERSON_MAX: usize = 8;

/// A place among the calls of a person; given back when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct CallPlace {
    _permit: Arc<OwnedSemaphorePermit>,
    /// When the call came.
    pub since: Instant,
}

impl CallPlace {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _permit: Arc::new(permit),
            since: Instant::now(),
        }
    }
}

/// A place to run; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    /// For as long as it computes.
    pub computing: Computing,
    /// For as long as it has not settled.
    pub own: OwnPlace,
}

/// A place among those of all.
#[derive(Debug)]
pub struct Computing {
    _running: OwnedSemaphorePermit,
    _admitted: OwnedSemaphorePermit,
}

/// A place among those of its person.
#[derive(Debug)]
pub struct OwnPlace {
    _permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct GateLimits {
    /// Places of all persons.
    pub running_max: usize,
    /// Places of one person.
    pub per_person_max: usize,
    /// Those who have a place of their person and wait for one of all; more are refused.
    pub waiting_max: usize,
    /// Longest wait for either place.
    pub wait_ms_max: u64,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The person's own places.
    Own,
    /// The queue before the places of all.
    Queue,
    /// The places of all.
    All,
}

/// Lets in a bounded number at once: first among the person's own, so that nobody takes all
/// places.
pub(super) struct Gate {
    pub limits: GateLimits,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    persons: Persons,
}

impl Gate {
    pub fn new(limits: GateLimits) -> Self {
        Self {
            limits,
            running: Arc::new(Semaphore::new(limits.running_max)),
            admitted: Arc::new(Semaphore::new(limits.running_max + limits.waiting_max)),
            persons: Persons::default(),
        }
    }

    /// Waits for a place, a bounded time.
    pub async fn enter(&self, person: &str) -> Result<Permit, Full> {
        let wait = Duration::from_millis(self.limits.wait_ms_max);
        let own = self.persons.places(person, self.limits.per_person_max);
        let Ok(Ok(own)) = tokio::time::timeout(wait, own.acquire_owned()).await else {
            return Err(Full::Own);
        };
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(Full::Queue);
        };
        let running = Arc::clone(&self.running).acquire_owned();
        let Ok(Ok(running)) = tokio::time::timeout(wait, running).await else {
            return Err(Full::All);
        };
        Ok(Permit {
            computing: Computing {
                _running: running,
                _admitted: admitted,
            },
            own: OwnPlace { _permit: own },
        })
    }

    pub fn running(&self) -> usize {
        self.limits
            .running_max
            .saturating_sub(self.running.available_permits())
    }

    /// Those who have a place of their person and wait for one of all.
    pub fn waiting(&self) -> usize {
        let places = self.limits.running_max + self.limits.waiting_max;
        let admitted = places.saturating_sub(self.admitted.available_permits());
        admitted.saturating_sub(self.running())
    }
}

/// Places of each person who has or waits for one.
#[derive(Default)]
pub(super) struct Persons(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Persons {
    pub fn places(&self, person: &str, most: usize) -> Arc<Semaphore> {
        let mut persons = self.0.lock();
        // Whoever holds or waits for a place has the semaphore too.
        persons.retain(|_, places| Arc::strong_count(places) > 1);
        let places = persons
            .entry(person.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(most)));
        Arc::clone(places)
    }
}

/// How many persons are remembered before those are forgotten who called nothing for a while.
const RATES_KEPT: usize = 1_024;
const MINUTE: Duration = Duration::from_secs(60);

/// How often each person calls: as many times at once as a minute has, and then evenly (the
/// generic cell rate algorithm of ITU-T I.371).
pub(super) struct Rates {
    every: Duration,
    /// When all calls of a person would have come, had they come evenly.
    due: Mutex<HashMap<String, Instant>>,
}

impl Rates {
    pub fn new(per_minute_max: u32) -> Self {
        Self {
            every: MINUTE / per_minute_max.max(1),
            due: Mutex::default(),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// How long to wait, where it comes too early; it is not counted then.
    pub fn take(&self, person: &str, now: Instant) -> Result<(), Duration> {
        let mut persons = self.due.lock();
        if persons.len() >= RATES_KEPT {
            persons.retain(|_, due| *due > now);
        }
        let due = persons.entry(person.to_owned()).or_insert(now);
        let next = (*due).max(now) + self.every;
        match next.checked_duration_since(now + MINUTE) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *due = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_too_often_waits_and_nobody_else() {
        let rates = Rates::new(60);
        let begun = Instant::now();
        for _ in 0..60 {
            rates.take("ada", begun).expect("at once");
        }
        let wait = rates.take("ada", begun).expect_err("too many");
        assert_eq!(wait, Duration::from_secs(1));
        rates.take("eve", begun).expect("hers");
        let later = begun + Duration::from_secs(1);
        rates.take("ada", later).expect("one is due");
        rates.take("ada", later).expect_err("and no more");
        for n in 0..2 * RATES_KEPT {
            rates.take(&n.to_string(), begun).expect("theirs");
        }
        let long_after = begun + 3 * MINUTE;
        rates.take("zoe", long_after).expect("hers");
        assert_eq!(rates.due.lock().len(), 1, "who rests is forgotten");
    }

    const LIMITS: GateLimits = GateLimits {
        running_max: 2,
        per_person_max: 1,
        waiting_max: 1,
        wait_ms_max: 20,
    };

    #[tokio::test]
    async fn a_person_has_their_own_places_and_all_have_theirs() {
        let gate = Gate::new(LIMITS);
        let ada = gate.enter("ada").await.expect("room");
        assert_eq!(gate.enter("ada").await.expect_err("hers"), Full::Own);
        let eve = gate.enter("eve").await.expect("room");
        assert_eq!((gate.running(), gate.waiting()), (2, 0));
        let (bob, zoe) = tokio::join!(gate.enter("bob"), gate.enter("zoe"));
        assert_eq!(bob.expect_err("waited"), Full::All);
        assert_eq!(zoe.expect_err("none may wait"), Full::Queue);
        // Who computes no more leaves a place to others, but none to themselves.
        let Permit { computing, own } = ada;
        drop(computing);
        let bob = gate.enter("bob").await.expect("ada computes no more");
        assert_eq!(gate.enter("ada").await.expect_err("unsettled"), Full::Own);
        drop((own, eve));
        gate.enter("ada").await.expect("settled");
        drop(bob);
        assert_eq!((gate.running(), gate.waiting()), (0, 0));
        gate.persons.places("nobody", 1);
        assert_eq!(gate.persons.0.lock().len(), 1, "who left is forgotten");
    }
}
