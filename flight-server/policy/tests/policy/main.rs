//! One binary for all tests of the crate.
#![allow(clippy::unwrap_used)]

mod aggregate;
mod attacks;
mod barrier;
mod controls;
mod differential;
mod literals;
mod marks;
mod naive;
mod opposition;
mod oracle;
mod pseudonyms;
mod rules;
mod selections;
mod world;
