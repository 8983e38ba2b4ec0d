//! The small JSON texts beside the batches, and the schema of answers.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::WorkUnit;

/// Action that describes a worker; answers [`Health`] as JSON.
pub const ACTION_HEALTH: &str = "health";
/// Action that returns a worker's counters in the Prometheus text format.
pub const ACTION_METRICS: &str = "metrics";

/// Column of an answer that holds the function's result.
pub const VALUE_COLUMN: &str = "value";
/// Column of an answer that holds a client-safe reason where the row failed.
pub const ERROR_COLUMN: &str = "error";

/// `app_metadata` of a batch of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchTag {
    /// Chosen by the sender, unique in the stream; the answer repeats it.
    pub seq: u64,
}

/// `app_metadata` of an answer: what was done, measured by the worker.
///
/// An answer in several parts carries the measures on its last part only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchUsage {
    pub seq: u64,
    /// First row of the batch that this part answers.
    #[serde(default)]
    pub row: u64,
    /// True on the last, usually the only, part of an answer.
    #[serde(default)]
    pub last: bool,
    /// Microseconds between arrival and start.
    pub queue_us: u64,
    /// Microseconds of execution as the host saw it.
    pub host_us: u64,
    /// Microseconds of the accelerator; zero on a CPU.
    pub device_us: u64,
    /// Rows executed.
    pub items: u64,
    pub unit: WorkUnit,
    /// Work in `unit`: the same for the same rows, however fast and on whatever device.
    pub units: u64,
    /// Rows that failed.
    pub failed: u64,
}

/// What a worker says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ready` or `draining`.
    pub status: String,
    /// Version of the worker's program.
    pub version: String,
    /// [`crate::PROTOCOL_VERSION`] of the worker.
    pub protocol: u16,
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// Threads that execute batches.
    pub threads: u64,
    pub functions: Vec<String>,
    /// Batches that wait for a thread.
    pub queue_batches: u64,
    pub queue_rows: u64,
    /// Open `DoExchange` streams.
    pub streams: u64,
}

/// Schema of the answers of a function that returns `value`.
pub fn answer_schema(value: DataType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(VALUE_COLUMN, value, true),
        Field::new(ERROR_COLUMN, DataType::Utf8, true),
    ]))
}
