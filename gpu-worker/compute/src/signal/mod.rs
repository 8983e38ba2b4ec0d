//! Signals: detection of R peaks in an electrocardiogram.

mod filter;
mod place;
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
    SamplingRate { fs: i64 },
    #[error("more than half of the samples are missing; give a signal with more values than gaps")]
    Missing,
    #[error("the signal has more samples than fit an index; cut it into parts")]
    TooLong,
}

/// Seconds as a number of samples, at least one.
fn samples(seconds: f64, fs: f64) -> usize {
    ((seconds * fs).round() as usize).max(1)
}

/// The middle value (the higher of two), 0 for none.
fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    let (_, value, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    *value
}
