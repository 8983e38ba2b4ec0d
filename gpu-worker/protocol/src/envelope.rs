//! The signed envelope of a stream: who asks for which function, until when.
//!
//! It is sealed as a compact JWS (RFC 7515) with HS256 (HMAC-SHA256, RFC 7518 §3.2) under a
//! 32-byte key shared by server and workers: `base64url(header).base64url(claims).base64url(mac)`
//! without padding, header exactly `{"alg":"HS256","typ":"JWT"}` in meaning. The claims are the
//! fields of [`Envelope`] plus `aud` = `gpu-worker` and `exp`, seconds since 1970 (RFC 7519).
//! In Python, with its standard library alone:
//!
//! ```python
//! import base64, hashlib, hmac, json, os, time
//! def b64(data): return base64.urlsafe_b64encode(data).rstrip(b"=")
//! def seal(key: bytes, function: str, tenant: str, seconds: float = 60) -> bytes:
//!     end = time.time() + seconds
//!     claims = {"aud": "gpu-worker", "exp": int(end) + 60, "version": 1, "function": function,
//!               "tenant": tenant, "statement_id": "example", "deadline": int(end * 1000),
//!               "nonce": b64(os.urandom(16)).decode()}
//!     body = b64(b'{"alg":"HS256","typ":"JWT"}') + b"." + b64(json.dumps(claims).encode())
//!     return body + b"." + b64(hmac.new(key, body, hashlib.sha256).digest())
//! def proof(key: bytes, sealed: bytes) -> bytes:
//!     return hmac.new(key, b"hubflight worker proof v1\0" + sealed, hashlib.sha256).digest()
//! ```
//!
//! A seal can be replayed by whoever sees it until it expires: it travels over TLS or loopback.
//! The worker answers it with a proof that it holds the key too, so that whoever took a stopped
//! worker's port gets an envelope and no rows: send rows once the proof has been verified.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{ENVELOPE_BYTES_MAX, PROTOCOL_VERSION};

/// Audience of every envelope.
pub const AUDIENCE: &str = "gpu-worker";

/// How long after its deadline an envelope is still read, so that clocks may differ a little.
pub const EXPIRY_GRACE_SECONDS: u64 = 60;

/// What a worker's proof begins with. No JWS does, so neither can stand for the other.
const PROOF_CONTEXT: &[u8] = b"hubflight worker proof v1\0";

/// What a stream of batches asks for, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`PROTOCOL_VERSION`] of the side that sealed it.
    pub version: u16,
    /// Name of the function, as in the table of [`crate::functions`].
    pub function: String,
    /// Project on whose behalf the work is done; tenants share a worker fairly.
    pub tenant: String,
    pub statement_id: String,
    /// Milliseconds since 1970 after which the answer is of no use.
    pub deadline: u64,
    /// Higher is served first. Equal priorities share by tenant.
    #[serde(default)]
    pub priority: u8,
    /// Identifier that links the worker's log to the server's.
    #[serde(default)]
    pub trace: Option<String>,
    /// 16 random bytes in base64url, so that no two seals, and therefore no two proofs, are
    /// equal. A reader needs none; [`Envelope::seal`] refuses an empty one.
    #[serde(default)]
    pub nonce: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
    /// Extensions that must be understood (RFC 7515 §4.1.11); we understand none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: String,
    exp: u64,
    #[serde(flatten)]
    envelope: Envelope,
}

/// Why an envelope was refused. The texts tell an operator what to do and reveal no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the key must be 64 hexadecimal digits (32 bytes)")]
    Key,
    #[error("the envelope is longer than {ENVELOPE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the envelope is not a compact JWS of JSON claims")]
    Malformed,
    #[error("the envelope is not signed with HS256, the only accepted algorithm")]
    Algorithm,
    #[error("the envelope's signature does not match: use the same key on both sides")]
    Signature,
    #[error("the envelope is for another audience than `{AUDIENCE}`")]
    Audience,
    #[error("the envelope has expired: check the clocks of both sides")]
    Expired,
    #[error("the envelope is of another protocol version than {PROTOCOL_VERSION}")]
    Version,
    #[error("the envelope has no nonce: the operating system gave no random bytes")]
    Nonce,
}

/// The 32-byte key that the server and its workers share.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(redacted)")
    }
}

impl Key {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits; white space around them is ignored.
    pub fn from_hex(text: &str) -> Result<Self, SealError> {
        let text = text.trim().as_bytes();
        if text.len() != 64 {
            return Err(SealError::Key);
        }
        let mut key = [0_u8; 32];
        for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
            let mut value = 0;
            for digit in pair {
                let digit = char::from(*digit).to_digit(16).ok_or(SealError::Key)?;
                value = value * 16 + digit;
            }
            *byte = u8::try_from(value).map_err(|_| SealError::Key)?;
        }
        Ok(Self(key))
    }

    /// The key as 64 hexadecimal digits, to hand to a worker process of our own.
    pub fn to_hex(&self) -> String {
        use fmt::Write as _;
        self.0
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }

    /// What a worker answers to a sealed envelope to show that it holds the key: HMAC-SHA256
    /// over the context and the envelope.
    pub fn prove(&self, sealed: &str) -> Vec<u8> {
        // HMAC takes keys of any length; if it did not, an empty proof would convince nobody.
        self.proof_mac(sealed)
            .map(|mac| mac.finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }

    /// True where whoever received `sealed` and gave `proof` holds the key; in constant time.
    pub fn verify_proof(&self, sealed: &str, proof: &[u8]) -> bool {
        self.proof_mac(sealed)
            .is_ok_and(|mac| mac.verify_slice(proof).is_ok())
    }

    fn proof_mac(&self, sealed: &str) -> Result<Hmac<Sha256>, SealError> {
        let mut mac = self.mac()?;
        mac.update(PROOF_CONTEXT);
        mac.update(sealed.as_bytes());
        Ok(mac)
    }

    fn mac(&self) -> Result<Hmac<Sha256>, SealError> {
        Hmac::<Sha256>::new_from_slice(&self.0).map_err(|_| SealError::Key)
    }
}

impl Envelope {
    /// An envelope of this protocol version with a fresh nonce, without a trace.
    pub fn new(function: &str, tenant: &str, statement_id: &str, deadline: u64) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            function: function.to_owned(),
            tenant: tenant.to_owned(),
            statement_id: statement_id.to_owned(),
            deadline,
            priority: 0,
            trace: None,
            nonce: nonce().unwrap_or_default(),
        }
    }

    /// Signs the envelope.
    pub fn seal(&self, key: &Key) -> Result<String, SealError> {
        if self.nonce.is_empty() {
            return Err(SealError::Nonce);
        }
        let header = Header {
            alg: "HS256".into(),
            typ: Some("JWT".into()),
            crit: None,
        };
        let claims = Claims {
            aud: AUDIENCE.into(),
            exp: (self.deadline / 1000).saturating_add(1 + EXPIRY_GRACE_SECONDS),
            envelope: self.clone(),
        };
        let header = serde_json::to_vec(&header).map_err(|_| SealError::Malformed)?;
        let claims = serde_json::to_vec(&claims).map_err(|_| SealError::Malformed)?;
        let mut text = URL_SAFE_NO_PAD.encode(header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        let mut mac = key.mac()?;
        mac.update(text.as_bytes());
        let signature = mac.finalize().into_bytes();
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        if text.len() > ENVELOPE_BYTES_MAX {
            return Err(SealError::TooLong);
        }
        Ok(text)
    }

    /// Checks the signature first, in constant time, and only then reads the rest.
    ///
    /// `now` is in milliseconds since 1970.
    pub fn open(sealed: &[u8], key: &Key, now: u64) -> Result<Self, SealError> {
        if sealed.len() > ENVELOPE_BYTES_MAX {
            return Err(SealError::TooLong);
        }
        let text = std::str::from_utf8(sealed).map_err(|_| SealError::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(SealError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(SealError::Malformed)?;
        let decode = |part: &str| {
            URL_SAFE_NO_PAD
                .decode(part)
                .map_err(|_| SealError::Malformed)
        };

        let mut mac = key.mac()?;
        mac.update(signed.as_bytes());
        mac.verify_slice(&decode(signature)?)
            .map_err(|_| SealError::Signature)?;

        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| SealError::Malformed)?;
        if header.alg != "HS256" || header.crit.is_some() {
            return Err(SealError::Algorithm);
        }
        let claims: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| SealError::Malformed)?;
        if claims.aud != AUDIENCE {
            return Err(SealError::Audience);
        }
        if now / 1000 >= claims.exp {
            return Err(SealError::Expired);
        }
        if claims.envelope.version != PROTOCOL_VERSION {
            return Err(SealError::Version);
        }
        Ok(claims.envelope)
    }
}

/// `None` where the operating system has no random bytes.
fn nonce() -> Option<String> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// The wall clock in milliseconds since 1970, the unit of deadlines.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
