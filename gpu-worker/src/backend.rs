//! What executes batches. This is the whole contract between the worker and a device.

use arrow::array::{Array, ArrayRef};
use hubflight_compute::{ComputeError, Output};

/// Executes functions on one device. Synchronous: one thread owns a backend and gives it one
/// batch at a time.
pub trait Backend: Send {
    /// `cpu` or `cuda:N`.
    fn device(&self) -> &str;

    /// Executes `function` on `rows` rows. The arguments are as in the function table, one array
    /// of `rows` values per parameter, NULL where an optional one is omitted.
    fn execute(
        &mut self,
        function: &str,
        args: &[ArrayRef],
        rows: usize,
    ) -> Result<Output, ComputeError>;

    /// Microseconds of the accelerator that the last batch took; zero on a CPU.
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
    ) -> Result<Output, ComputeError> {
        match (function, args) {
            // The round trip itself, for health checks and benchmarks.
            ("echo", [value]) => Ok(Output {
                values: value.clone(),
                errors: Vec::new(),
                units: (value.len() - value.logical_null_count()) as u64,
            }),
            _ => hubflight_compute::execute(function, args, rows),
        }
    }
}
