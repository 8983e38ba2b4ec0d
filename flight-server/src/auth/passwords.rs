//! Passwords: argon2 is slow on purpose, so what was verified is remembered for a moment.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use hubflight_store::{Person, Store};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};
use crate::sealed::random;

/// Logins that are hashed at once: each takes tens of megabytes and milliseconds.
const HASHES_RUNNING_MAX: usize = 2;
const REMEMBERED_MAX: usize = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Passwords {
    /// Where a password alone is enough (the demo).
    allowed: bool,
    /// Key of this process, so that a memory dump shows no reusable digest.
    key: [u8; 32],
    hashing: Semaphore,
    /// When a password was verified.
    remembered: Mutex<HashMap<Verified, Instant>>,
}

/// Person, epoch, and digest of the password.
type Verified = (String, i64, [u8; 32]);

impl Passwords {
    pub fn new(allowed: bool) -> Result<Self> {
        Ok(Self {
            allowed,
            key: random()?,
            hashing: Semaphore::new(HASHES_RUNNING_MAX),
            remembered: Mutex::new(HashMap::new()),
        })
    }

    pub async fn verify(&self, store: &Store, user: &str, password: String) -> Result<Person> {
        if !self.allowed {
            return Err(Error::unauthenticated(
                "a password alone is not enough here: use a personal access token as the \
                 password, or as the bearer token",
            ));
        }
        let digest = self.digest(&password)?;
        let person = store.person(user).await?.filter(|person| person.active);
        if let Some(person) = &person {
            let entry = (person.id.clone(), person.token_epoch, digest);
            let fresh = self
                .remembered
                .lock()
                .get(&entry)
                .is_some_and(|at| at.elapsed() < REMEMBERED_FOR);
            if fresh {
                return Ok(person.clone());
            }
        }
        let permit = self.hashing.acquire().await;
        // The store hashes for an unknown person too, so that time does not tell them apart.
        let verified = store.verify_password(user, &password).await?;
        drop(permit);
        let person = verified
            .filter(|person| person.active)
            .ok_or_else(super::refused)?;
        self.remember((person.id.clone(), person.token_epoch, digest));
        Ok(person)
    }

    fn remember(&self, entry: (String, i64, [u8; 32])) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.retain(|_, at| at.elapsed() < REMEMBERED_FOR);
        }
        if remembered.len() < REMEMBERED_MAX {
            remembered.insert(entry, Instant::now());
        }
    }

    fn digest(&self, password: &str) -> Result<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key)
            .map_err(|error| Error::internal("a key has the wrong length", &error))?;
        mac.update(password.as_bytes());
        Ok(mac.finalize().into_bytes().into())
    }
}
