//! The functions as a session uses them, with workers of its own.

mod failures;
mod guards;
mod proxy;
mod queries;
mod support;
mod workers;
