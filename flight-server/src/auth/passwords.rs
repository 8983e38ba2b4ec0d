//! Passwords: argon2 is slow on purpose, so what was verified is remembered for a moment; with
//! a second factor it is not, since its codes are good once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use hubflight_store::{HashedPassword, Login, Person, Store};
use hubflight_tickets::{Sealer, random};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::attempts::{Attempt, AttemptLimits, Attempts, Locked, Subject};
use super::totp;
use crate::error::{Error, ErrorKind, Result};

/// Logins that are hashed at once: each takes tens of megabytes and milliseconds.
const HASHES_RUNNING_MAX: usize = 2;
/// Logins that wait to be hashed; more are refused.
const HASHES_WAITING_MAX: usize = 64;
/// When a login that is refused at a locked address is answered, after it was asked for: longer
/// than a hash takes.
const LOCKED_ANSWER: Duration = Duration::from_millis(500);
const REMEMBERED_MAX: usize = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Passwords {
    /// Where a password alone is enough (the demo).
    allowed: bool,
    /// Key of this process, so that a memory dump shows no reusable digest.
    key: [u8; 32],
    hashing: Semaphore,
    waiting: Semaphore,
    attempts: Attempts,
    /// Opens the secrets of second factors.
    factors: Sealer,
    /// When a password was verified.
    remembered: Mutex<HashMap<Verified, Instant>>,
}

/// Person, epoch, and digest of the password.
type Verified = (String, i64, [u8; 32]);

/// From where a login is asked for, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub peer: Option<IpAddr>,
    pub now: DateTime<Utc>,
}

/// Why a login is refused, and whom it has locked out.
#[derive(Debug)]
pub struct Refusal {
    pub error: Error,
    pub locked: Vec<Subject>,
}

/// Who logged in, and whether by more than a password.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    pub person: Person,
    pub second_factor: bool,
}

impl Refusal {
    fn of(error: Error) -> Self {
        Self {
            error,
            locked: Vec::new(),
        }
    }
}

impl From<Locked> for Refusal {
    fn from(locked: Locked) -> Self {
        Self {
            error: locked.error,
            locked: locked.news,
        }
    }
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::of(error.into())
    }
}

impl Passwords {
    pub fn new(allowed: bool, limits: AttemptLimits, factors: Sealer) -> Result<Self> {
        Ok(Self {
            allowed,
            key: random()?,
            hashing: Semaphore::new(HASHES_RUNNING_MAX),
            waiting: Semaphore::new(HASHES_RUNNING_MAX + HASHES_WAITING_MAX),
            attempts: Attempts::new(limits),
            factors,
            remembered: Mutex::new(HashMap::new()),
        })
    }

    /// The person whose password this is, with the code of their second factor after it where
    /// they have one. What is wrong counts against the name and the peer.
    pub async fn verify(
        &self,
        store: &Store,
        user: &str,
        secret: String,
        asked: Asked,
    ) -> Result<LoggedIn, Refusal> {
        let began = tokio::time::Instant::now();
        let verified = self.verify_now(store, user, secret, asked).await;
        let Err(refusal) = verified else {
            return verified;
        };
        if !self.attempts.is_locked(asked.peer, asked.now) {
            return Err(refusal);
        }
        // Who is known at a locked address is looked at and others are not: neither the time nor
        // the text tells which.
        tokio::time::sleep_until(began + LOCKED_ANSWER).await;
        Err(match refusal.error.kind {
            ErrorKind::Unauthenticated => self.attempts.refusal(refusal.locked).into(),
            _ => refusal,
        })
    }

    /// A token of a login provider was forged: gives whom that locked.
    pub fn forged(&self, asked: Asked) -> Option<Subject> {
        self.attempts.forged(asked.peer, asked.now)
    }

    /// The person of a session, if this is their password: of one who has a second factor, its
    /// code was asked for when the session began. What is wrong counts against the name.
    pub async fn confirm(
        &self,
        store: &Store,
        user: &str,
        password: &str,
        asked: Asked,
    ) -> Result<Person, Refusal> {
        let login = store.login(user).await?;
        let attempt = Attempt {
            name: user,
            peer: asked.peer,
            unlocked: login.unlocked_at,
            now: asked.now,
        };
        self.attempts.check(attempt)?;
        if let Some(person) = self.matching(store, attempt, password, false).await? {
            self.attempts.succeeded(attempt);
            return Ok(person);
        }
        Err(Refusal {
            error: Error::denied("the old password is not yours; nothing was changed"),
            locked: self.attempts.failed(attempt),
        })
    }

    /// Hashes a new password, a bounded number at once.
    pub async fn hash(&self, store: &Store, password: &str) -> Result<HashedPassword> {
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(too_many());
        };
        let _permit = self.hashing.acquire().await;
        Ok(store.hash_password(password).await?)
    }

    async fn verify_now(
        &self,
        store: &Store,
        user: &str,
        secret: String,
        asked: Asked,
    ) -> Result<LoggedIn, Refusal> {
        // PostgreSQL has no such texts: nobody's name, and hashed as any other's.
        let user = if user.contains('\0') { "" } else { user };
        let login = store.login(user).await?;
        let attempt = Attempt {
            name: user,
            peer: asked.peer,
            unlocked: login.unlocked_at,
            now: asked.now,
        };
        self.attempts.check(attempt)?;
        let factors = totp::split(&secret);
        if !self.allowed && factors.is_none() {
            return Err(Refusal::of(Error::unauthenticated(
                "a password alone is not enough here: write the code of your authenticator \
                 after it (`password 123456`), or use a personal access token as the password, \
                 or as the bearer token",
            )));
        }
        // A demo's password may look like one with a code, where no code is asked for.
        let asks_for_code = !self.allowed || login.totp_sealed.is_some();
        let (password, code) = match factors {
            Some((password, code)) if asks_for_code => (password, Some(code)),
            _ => (secret.as_str(), None),
        };
        let alone = !asks_for_code;
        let found = self.matching(store, attempt, password, alone).await?;
        if let Some(person) = found
            && (alone
                || self
                    .code_is_theirs(store, &person, &login, code, asked.now)
                    .await?)
        {
            self.attempts.succeeded(attempt);
            return Ok(LoggedIn {
                person,
                second_factor: !alone,
            });
        }
        Err(Refusal {
            error: super::refused(),
            locked: self.attempts.failed(attempt),
        })
    }

    /// True for a code of the person's own that nobody has used yet.
    async fn code_is_theirs(
        &self,
        store: &Store,
        person: &Person,
        login: &Login,
        code: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let (Some(sealed), Some(code)) = (&login.totp_sealed, code) else {
            return Ok(false);
        };
        let secret = totp::Secret::open(sealed, &self.factors, &person.id)?;
        match secret.step_of(code, now)? {
            // Only while that secret is still theirs: hashing has taken its time.
            Some(step) => Ok(store.take_totp_step(&person.id, step, sealed).await?),
            None => Ok(false),
        }
    }

    /// The person, if the password is theirs. One that is enough `alone` is remembered.
    async fn matching(
        &self,
        store: &Store,
        attempt: Attempt<'_>,
        password: &str,
        alone: bool,
    ) -> Result<Option<Person>, Refusal> {
        let user = attempt.name;
        let digest = self.digest(password)?;
        let person = store.person(user).await?.filter(|person| person.active);
        if let Some(person) = &person
            && alone
        {
            let entry = (person.id.clone(), person.token_epoch, digest);
            let fresh = self
                .remembered
                .lock()
                .get(&entry)
                .is_some_and(|at| at.elapsed() < REMEMBERED_FOR);
            if fresh {
                return Ok(Some(person.clone()));
            }
        }
        let Ok(_place) = self.waiting.try_acquire() else {
            return Err(Refusal::of(too_many()));
        };
        let permit = self.hashing.acquire().await;
        self.attempts.begin(attempt)?;
        // The store hashes for an unknown person too, so that time does not tell them apart.
        let verified = store.verify_password(user, password).await?;
        drop(permit);
        let person = verified.filter(|person| person.active);
        if let Some(person) = &person
            && alone
        {
            self.remember((person.id.clone(), person.token_epoch, digest));
        }
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

fn too_many() -> Error {
    Error::exhausted("too many logins wait; try again in a moment, or use an access token")
}
