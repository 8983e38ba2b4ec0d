//! Cutting a batch of arguments into slices that fit one message, and putting answers back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{filter, is_not_null, take};
use arrow::error::ArrowError;
use hubflight_protocol::wire::array_bytes;
use hubflight_protocol::{BATCH_ROWS_MAX, ROW_BYTES_MAX};

/// Most rows of one message.
pub(crate) const SLICE_ROWS_MAX: usize = 8_192;
const _: () = assert!(SLICE_ROWS_MAX <= BATCH_ROWS_MAX);

/// Bytes of arguments beyond which a message takes no further row.
pub(crate) const SLICE_BYTES_TARGET: usize = 4 << 20;

/// Bytes that rows `start .. start + length` of `arrays` take in a message.
pub(crate) fn bytes(arrays: &[ArrayRef], start: usize, length: usize) -> usize {
    let slices = arrays.iter().map(|array| array.slice(start, length));
    slices.map(|slice| array_bytes(slice.as_ref())).sum()
}

/// How many rows from `start` on go into one message: at most `rows_max`, at least one, and
/// otherwise no more than [`SLICE_BYTES_TARGET`] of any call's arguments.
pub(crate) fn rows_that_fit(
    calls: &[Vec<ArrayRef>],
    start: usize,
    rows: usize,
    rows_max: usize,
) -> usize {
    let mut length = rows.saturating_sub(start).min(rows_max);
    let fits = |length: usize| {
        let mut calls = calls.iter();
        calls.all(|arguments| bytes(arguments, start, length) <= SLICE_BYTES_TARGET)
    };
    while length > 1 && !fits(length) {
        length /= 2;
    }
    length
}

/// True where the single row of `arguments` cannot travel.
pub(crate) fn is_too_large(arguments: &[ArrayRef]) -> bool {
    bytes(arguments, 0, 1) > ROW_BYTES_MAX
}

/// The rows of a slice that a worker has to see: those whose main argument is not NULL.
pub(crate) enum Sent {
    None,
    All,
    Some(BooleanArray),
}

impl Sent {
    pub(crate) fn of(main: &ArrayRef) -> Self {
        match main.logical_null_count() {
            0 => Self::All,
            nulls if nulls == main.len() => Self::None,
            _ => match is_not_null(main) {
                Ok(mask) => Self::Some(mask),
                Err(_) => Self::All,
            },
        }
    }

    /// The rows to send.
    pub(crate) fn select(&self, arguments: &[ArrayRef]) -> Result<Vec<ArrayRef>, ArrowError> {
        match self {
            Self::Some(mask) => arguments.iter().map(|array| filter(array, mask)).collect(),
            Self::None | Self::All => Ok(arguments.to_vec()),
        }
    }

    /// A column of the answer at the places of the rows sent, NULL elsewhere.
    pub(crate) fn scatter(&self, answer: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let Self::Some(mask) = self else {
            return Ok(Arc::clone(answer));
        };
        let mut next = 0_u32;
        let places: UInt32Array = mask
            .values()
            .iter()
            .map(|sent| {
                sent.then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        take(answer, &places, None)
    }
}
