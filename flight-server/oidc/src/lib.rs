//! Tokens of an OIDC provider: read, judged by its keys and by the hub's rules, without IO.
//!
//! What is accepted is narrow on purpose (RFC 8725, RFC 9068): a signed JWT in compact form whose
//! key is one of the provider's published ones, by its identifier; signed by RS256, PS256, ES256
//! or EdDSA, whichever belongs to that key; of exactly one issuer, for one of the hub's audiences,
//! of a type that is listed, now, for a bounded time, with proof of a second factor. Keys or
//! addresses of keys in a token are never followed.
//!
//! This crate knows nothing of persons, sessions, HTTP or clocks: the time is passed in.

mod crypto;
mod json;
mod keys;
mod token;

pub use keys::{KeyCache, KeyLimits, KeySet, Look};
pub use token::{ALGORITHMS, Rules, TOKEN_BYTES_MAX, Unverified, Verified, Wrong};
