//! The SQL functions that run on compute workers, and the operator that dispatches to them.
//!
//! The life of a call, by file:
//!
//! 1. [`normalise_calls`] (`calls.rs`) rewrites the parsed statement: named arguments, defaults
//!    and `on_error` become plain positional arguments.
//! 2. [`functions`] (`function.rs`) declare names, types and units to the planner, from the
//!    table of `hubflight-protocol`.
//! 3. The optimiser rule (`extract.rs`, `extraction.rs`) moves every call out of its expression
//!    into a [`Dispatch`] node (`node.rs`) beneath, after plain predicates and limits have been
//!    applied; a call that only some rows reach works on those (`guard.rs`).
//! 4. [`DispatchExec`] (`exec.rs`, `physical.rs`) cuts its input into bounded slices
//!    (`slice.rs`), keeps several in flight (`stream.rs`, `partition.rs`) to the workers
//!    (`caller.rs`, `exchange.rs`) of a [`WorkerPool`] (`pool.rs`), in order.
//!
//! This crate knows nothing of users, rights or prices. For whom the work is done, until when
//! and who counts it come with the session: [`StatementWork`], an extension of its
//! configuration.

mod caller;
mod calls;
mod error;
mod exchange;
mod exec;
mod extract;
mod extraction;
mod function;
mod guard;
mod node;
mod partition;
mod physical;
mod planner;
mod pool;
mod slice;
mod statement;
mod stream;

pub use calls::{CallError, CallProblem, normalise_calls, normalise_statement};
pub use error::WorkError;
pub use exec::DispatchExec;
pub use function::{OnError, Options, functions, is_worker_function};
pub use hubflight_protocol::{BatchUsage, FunctionSpec, Health, Key, WorkUnit};
pub use node::Dispatch;
pub use planner::{extension_planner, optimizer_rule, register};
pub use pool::{PoolConfig, WorkerPool, WorkerStatus};
pub use statement::{StatementWork, WorkMeter};
