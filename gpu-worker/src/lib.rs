//! The compute worker: a process that executes functions on batches of Arrow arrays.
//!
//! It knows functions, tenants, deadlines and its own time; nothing of SQL, users or prices.
//! What travels is described in `hubflight-protocol`. The life of a batch, by file:
//!
//! 1. `service.rs` opens the stream: seal, function, types.
//! 2. `stream.rs` reads batches, a bounded number at a time, and writes answers (`answer.rs`)
//!    as they come.
//! 3. `queue.rs` keeps what waits: bounded, fair between tenants, urgent first, without what
//!    has expired or been cancelled. `engine.rs` owns the threads that empty it, a part of a
//!    batch at a time.
//! 4. `backend.rs` executes: one [`Backend`] per thread.

mod answer;
mod backend;
mod cli;
mod engine;
mod metrics;
mod queue;
mod server;
mod service;
mod stream;

pub use backend::{Backend, CpuBackend};
pub use cli::main_from_args;
pub use server::{Device, Tls, WorkerConfig, run};
