//! Tokens and keys of a provider, good and forged.

mod attacks;
mod keys;
mod naive;
mod support;
