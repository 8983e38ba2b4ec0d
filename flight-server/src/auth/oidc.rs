//! Providers whose tokens let persons in: where their keys are, and whom a token names.
//!
//! Keys are fetched when a token first asks for them, again when they are old or one is unknown,
//! at most so often, and by one call at a time. A provider that cannot be reached leaves its last
//! keys, for a limited time; after that its tokens are judged by nobody and the answer is that the
//! hub cannot tell, never that it accepts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use hubflight_oidc::{KeyCache, KeySet, Look, Rules, Unverified, Verified, Wrong};
use hubflight_store::Identity;
use parking_lot::Mutex;
use reqwest::{Certificate, Client, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config::Oidc;
use crate::config::identities::is_safe;
use crate::error::{Error, ErrorKind, Result};

/// How long a discovery and its keys may take.
const FETCH_SECONDS_MAX: u64 = 5;
/// Longer documents of a provider are not read.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// Calls that wait for the keys of a provider; more are told to try again.
const WAITING_MAX: usize = 64;
/// How JSON objects begin in base64: nobody's password, and every JWT.
const JWT_BEGIN: &str = "eyJ";

/// The providers of the configuration.
#[derive(Debug, Default)]
pub struct Providers(Vec<Arc<Provider>>);

#[derive(Debug)]
struct Provider {
    rules: Rules,
    client: Client,
    keys: Mutex<KeyCache>,
    /// Held by whoever fetches.
    fetching: tokio::sync::Mutex<()>,
    waiting: Arc<Semaphore>,
}

/// Whom a token names, and until when.
#[derive(Debug)]
pub struct Named {
    pub identity: Identity,
    pub expires: DateTime<Utc>,
}

/// Why a token is not believed.
#[derive(Debug)]
pub enum Refusal {
    Wrong(Wrong),
    /// The keys that would tell cannot be had.
    Unknown,
}

impl From<Wrong> for Refusal {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

/// True for what is shown as a token of a provider, good or not. The hub's own tokens have no
/// points in them.
pub fn is_token(text: &str) -> bool {
    text.starts_with(JWT_BEGIN) && text.contains('.')
}

/// What is told where the keys cannot be had.
pub fn unknown() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the login provider cannot be reached, and its tokens are judged by its keys only; try \
         again later, or use an access token of the hub",
    )
}

impl Providers {
    /// # Errors
    /// `InvalidArgument` naming a provider whose authority cannot be read.
    pub fn new(configured: &[Oidc]) -> Result<Self> {
        let providers = configured
            .iter()
            .map(|one| Provider::new(one).map(Arc::new));
        Ok(Self(providers.collect::<Result<_>>()?))
    }

    /// Whom the token names at `now`.
    pub async fn verify(&self, text: &str, now: DateTime<Utc>) -> Result<Named, Refusal> {
        let token = Unverified::read(text)?;
        let mut providers = self.0.iter();
        let provider = providers
            .find(|provider| provider.rules.issuer == token.issuer())
            .ok_or(Wrong::Issuer)?;
        let keys = provider.keys(token.key_id()?).await?;
        let Verified { subject, expires } =
            token.verify(&provider.rules, &keys, now.timestamp())?;
        Ok(Named {
            identity: Identity {
                issuer: provider.rules.issuer.clone(),
                subject,
            },
            expires: DateTime::from_timestamp(expires, 0).ok_or(Wrong::Life)?,
        })
    }
}

/// What discovery tells (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Provider {
    fn new(configured: &Oidc) -> Result<Self> {
        let unusable = |error: &dyn std::fmt::Display| configured.wrong(&error.to_string());
        crate::tls::install();
        let mut client = Client::builder()
            .use_rustls_tls()
            .https_only(configured.issuer.starts_with("https:"))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(Duration::from_secs(FETCH_SECONDS_MAX));
        if let Some(path) = &configured.ca {
            let pem = crate::tls::read(path)?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            if roots.is_empty() {
                return Err(configured.wrong(&format!(
                    "`{}` holds no certificate; it needs `-----BEGIN CERTIFICATE-----`",
                    path.display()
                )));
            }
            client = client.tls_built_in_root_certs(false);
            client = roots
                .into_iter()
                .fold(client, |client, root| client.add_root_certificate(root));
        }
        Ok(Self {
            rules: configured.rules()?,
            client: client.build().map_err(|error| unusable(&error))?,
            keys: Mutex::new(KeyCache::new(configured.key_limits())),
            fetching: tokio::sync::Mutex::new(()),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        })
    }

    /// The keys to judge a token with that was signed by this one of them.
    async fn keys(self: &Arc<Self>, key_id: &str) -> Result<Arc<KeySet>, Refusal> {
        let kept = match self.look(key_id) {
            Look::Use(keys) => return Ok(keys),
            Look::Nothing => return Err(Refusal::Unknown),
            Look::Fetch(kept) => kept,
        };
        // Where somebody fetches, who can go on does; a key that is unknown waits for them.
        let is_fetching = self.fetching.try_lock().is_err();
        if let Some(kept) = kept.filter(|kept| is_fetching && kept.has(key_id)) {
            return Ok(kept);
        }
        let place = Arc::clone(&self.waiting).try_acquire_owned();
        let place = place.map_err(|_| Refusal::Unknown)?;
        let (provider, wanted) = (Arc::clone(self), key_id.to_owned());
        // On its own, so that whoever asks and goes away has still asked, and no sooner again.
        let refreshed = tokio::spawn(async move {
            let _place = place;
            provider.refresh(&wanted).await;
        });
        refreshed.await.map_err(|_| Refusal::Unknown)?;
        match self.look(key_id) {
            Look::Use(keys) | Look::Fetch(Some(keys)) => Ok(keys),
            Look::Fetch(None) | Look::Nothing => Err(Refusal::Unknown),
        }
    }

    /// Fetches the keys, unless somebody else just did.
    async fn refresh(&self, key_id: &str) {
        let _fetching = self.fetching.lock().await;
        if let Look::Fetch(_) = self.look(key_id) {
            let fetched = self.fetch().await;
            if let Err(reason) = &fetched {
                tracing::warn!(issuer = %self.rules.issuer, %reason, "no keys of the provider");
            }
            self.keys.lock().asked(fetched.ok(), Instant::now());
        }
    }

    fn look(&self, key_id: &str) -> Look {
        self.keys.lock().look(key_id, Instant::now())
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let both = async {
            let base = self.rules.issuer.trim_end_matches('/');
            let document = self
                .get(&format!("{base}/.well-known/openid-configuration"))
                .await?;
            let discovered: Discovered = serde_json::from_slice(&document)
                .map_err(|_| "its discovery document names no keys".to_owned())?;
            // Who answers for another issuer gives another one's keys (section 4.3).
            if discovered.issuer != self.rules.issuer {
                return Err("its discovery document is another issuer's".into());
            }
            let is_plain = discovered.jwks_uri.starts_with("http:");
            if !is_safe(&discovered.jwks_uri) || is_plain && self.rules.issuer.starts_with("https:")
            {
                return Err("its keys are at an address that is not safe".into());
            }
            KeySet::read(&self.get(&discovered.jwks_uri).await?).map_err(str::to_owned)
        };
        let limit = Duration::from_secs(FETCH_SECONDS_MAX);
        let fetched = tokio::time::timeout(limit, both).await;
        fetched.unwrap_or_else(|_| Err(format!("it took longer than {FETCH_SECONDS_MAX} s")))
    }

    async fn get(&self, address: &str) -> Result<Vec<u8>, String> {
        let unreachable = |error: reqwest::Error| format!("{:?}", error.without_url());
        let asked = self.client.get(address).send().await.map_err(unreachable)?;
        let mut answer = asked.error_for_status().map_err(unreachable)?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        let mut document = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unreachable)? {
            if document.len() + part.len() > DOCUMENT_BYTES_MAX {
                return Err(format!("it sent more than {DOCUMENT_BYTES_MAX} bytes"));
            }
            document.extend_from_slice(&part);
        }
        // An answer that is no JSON at all is told as such.
        match serde_json::from_slice::<Value>(&document) {
            Ok(_) => Ok(document),
            Err(_) => Err("it sent no JSON".into()),
        }
    }
}

#[cfg(test)]
mod tests;
