//! The published keys of a provider (RFC 7517), and for how long they are believed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::token::KEY_ID_BYTES_MAX;

/// More keys than any provider has are not looked at.
const KEYS_MAX: usize = 64;

/// The keys of a provider that tokens may be signed with.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: String,
    /// What it may have signed with: its type's algorithms, or the one that it is published for.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWK set. Keys of other types and uses, and keys without an identifier, are left
    /// out; shared secrets (`oct`) are among them.
    ///
    /// # Errors
    /// A text for the operator, where no key can be used.
    pub fn read(text: &[u8]) -> Result<Self, &'static str> {
        let Ok(Document { keys }) = serde_json::from_slice(text) else {
            return Err("the keys are no JWK set");
        };
        if keys.len() > KEYS_MAX {
            return Err("the keys are too many");
        }
        let keys: Vec<Key> = keys.into_iter().filter_map(key).collect();
        match keys.is_empty() {
            true => Err("none of the keys can verify RS256, PS256, ES256 or EdDSA by its `kid`"),
            false => Ok(Self(keys)),
        }
    }

    pub fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// The key of this identifier, if it is one for the algorithm.
    pub(crate) fn find(&self, id: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut keys = self.0.iter();
        let key = keys.find(|key| key.id == id && key.algorithms.contains(&algorithm))?;
        Some(&key.key)
    }
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    let id = common.key_id.clone()?;
    if id.is_empty() || id.len() > KEY_ID_BYTES_MAX {
        return None;
    }
    let of_signatures = common
        .public_key_use
        .as_ref()
        .is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = common
        .key_operations
        .as_ref()
        .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !of_signatures || !verifies {
        return None;
    }
    let of_type: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &[Algorithm::RS256, Algorithm::PS256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            &[Algorithm::ES256]
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            &[Algorithm::EdDSA]
        }
        _ => return None,
    };
    let algorithms = match common.key_algorithm {
        None => of_type.to_vec(),
        Some(only) => {
            let only = Algorithm::try_from(only).ok()?;
            vec![*of_type.iter().find(|algorithm| **algorithm == only)?]
        }
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key {
        id,
        algorithms,
        key,
    })
}

/// For how long keys are believed, and how often they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct KeyLimits {
    /// Keys are fetched again after this, so that what the provider removed stops counting.
    pub refresh: Duration,
    /// Keys of a provider that cannot be reached stop counting after this.
    pub life: Duration,
    /// Between two fetches, whatever tokens come.
    pub pause: Duration,
}

/// The keys as last fetched. The clock is passed in.
///
/// ```text
///  nothing ──fetch──▶ fresh ──refresh──▶ stale ──life──▶ nothing
///                       ▲ └─unknown key, pause over─┐│
///                       └──────────fetch────────────┴┘
/// ```
#[derive(Debug)]
pub struct KeyCache {
    limits: KeyLimits,
    keys: Option<(Arc<KeySet>, Instant)>,
    asked: Option<Instant>,
}

/// What to do for a token of a key.
#[derive(Clone, Debug)]
pub enum Look {
    /// Judge it with these.
    Use(Arc<KeySet>),
    /// Fetch the keys first; those that still count may be used where somebody else does.
    Fetch(Option<Arc<KeySet>>),
    /// There are no keys to judge with, and it is too early to ask again.
    Nothing,
}

impl KeyCache {
    pub fn new(limits: KeyLimits) -> Self {
        Self {
            limits,
            keys: None,
            asked: None,
        }
    }

    pub fn look(&self, key_id: &str, now: Instant) -> Look {
        let age = |at: Instant| now.saturating_duration_since(at);
        let kept = self.keys.as_ref().filter(|(_, at)| {
            // Fetched again before, while the provider answers.
            age(*at) < self.limits.life
        });
        let may_ask = self.asked.is_none_or(|at| age(at) >= self.limits.pause);
        let is_fresh = kept.is_some_and(|(_, at)| age(*at) < self.limits.refresh);
        let has = kept.is_some_and(|(keys, _)| keys.has(key_id));
        let kept = kept.map(|(keys, _)| Arc::clone(keys));
        match kept {
            kept if may_ask && !(is_fresh && has) => Look::Fetch(kept),
            Some(keys) => Look::Use(keys),
            None => Look::Nothing,
        }
    }

    /// The provider was asked: it gave these keys, or none.
    pub fn asked(&mut self, keys: Option<KeySet>, now: Instant) {
        self.asked = Some(now);
        if let Some(keys) = keys {
            self.keys = Some((Arc::new(keys), now));
        }
    }
}
