//! The Flight SQL server of a health data hub.
//!
//! The life of a query, by file: `flight/get_info.rs` decodes the command, `auth/` turns
//! headers into a principal with one project, `catalog/project.rs` holds what that project
//! may see, `plan/` plans and checks, `flight/get_data.rs` redeems the ticket, `exec/` runs
//! and streams, and the ledger settles.

pub mod access;
pub mod admin;
pub mod airlock;
pub mod asked;
pub mod at_rest;
pub mod auth;
pub mod catalog;
pub mod change;
pub mod config;
pub mod demo;
pub mod error;
pub mod exec;
pub mod flight;
pub mod http;
pub mod hub;
pub mod linkage;
pub mod metrics;
pub mod open_files;
pub mod opposition;
pub mod own;
pub mod plan;
pub mod provision;
#[cfg(test)]
mod rig;
pub mod rules;
pub mod server;
pub mod statement;
pub mod supervise;
pub mod tls;
pub mod versions;

/// Stack of every thread that plans or runs statements. Expressions are copied and dropped by
/// recursion, about a kilobyte a level; how deep they may be is bounded in `plan/shape.rs`.
pub const THREAD_STACK_BYTES: usize = 32 << 20;
