//! Signals: detection of R peaks in an electrocardiogram.

mod filter;
mod rpeaks;

pub use rpeaks::rpeaks;

/// Sampling rates that the filters are made for.
pub const FS_MIN: i32 = 50;
pub const FS_MAX: i32 = 2000;

/// Why a signal could not be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    #[error(
        "sampling rate `{fs}` is not allowed; give a rate from {FS_MIN} to {FS_MAX} samples per second"
    )]
    SamplingRate { fs: i32 },
    #[error("more than half of the samples are missing; give a signal with more values than gaps")]
    Missing,
    #[error("the signal has more samples than fit an index; cut it into parts")]
    TooLong,
}
