//! One binary for all tests of the crate.
#![allow(clippy::unwrap_used)]

mod aggregate;
mod attacks;
mod barrier;
mod differential;
mod literals;
mod naive;
mod opposition;
mod oracle;
mod pseudonyms;
mod rules;
mod selections;
mod world;
