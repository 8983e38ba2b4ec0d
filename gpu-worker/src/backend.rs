//! What executes batches. This is the whole contract between the worker and a device.

use arrow::array::{Array, ArrayRef};
use hubflight_compute::{ComputeError, Limits, Output};
use hubflight_protocol::wire::array_bytes;

/// Executes functions on one device. Synchronous: one thread owns a backend and gives it one
/// part of a batch at a time.
pub trait Backend: Send {
    /// `cpu` or `cuda:N`.
    fn device(&self) -> &str;

    /// Executes `function` on the first of `rows` rows: as many as `limits` allow, at least one
    /// where there is one. The values of the result tell how many. The arguments are as in the
    /// function table, one array of `rows` values per parameter, NULL where an optional one is
    /// omitted.
    fn execute(
        &mut self,
        function: &str,
        args: &[ArrayRef],
        rows: usize,
        limits: &Limits,
    ) -> Result<Output, ComputeError>;

    /// Microseconds of the accelerator that the last call took; zero on a CPU.
    fn device_us(&self) -> u64 {
        0
    }
}

/// The functions of `hubflight-compute`, on the thread that calls.
#[derive(Debug, Default)]
pub struct CpuBackend;

impl Backend for CpuBackend {
    fn device(&self) -> &str {
        "cpu"
    }

    fn execute(
        &mut self,
        function: &str,
        args: &[ArrayRef],
        rows: usize,
        limits: &Limits,
    ) -> Result<Output, ComputeError> {
        match (function, args) {
            ("echo", [value]) => Ok(echo(value, limits)),
            _ => hubflight_compute::execute(function, args, rows, limits),
        }
    }
}

/// The round trip itself, for health checks and benchmarks. A row that a message could carry
/// here, a message can carry back.
fn echo(value: &ArrayRef, limits: &Limits) -> Output {
    let mut values = value.clone();
    while values.len() > 1 && array_bytes(values.as_ref()) > limits.part_bytes_max {
        values = values.slice(0, values.len() / 2);
    }
    Output {
        errors: Vec::new(),
        units: (values.len() - values.logical_null_count()) as u64,
        values,
    }
}
