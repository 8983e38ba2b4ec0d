//! One binary for all tests of the crate.
#![allow(clippy::unwrap_used)]

mod decisions;
mod hospital;
mod model;
mod policies;
mod validation;
