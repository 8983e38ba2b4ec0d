//! Cutting a batch of arguments into slices that fit one message, and putting answers back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::compute::{filter, is_not_null, take};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use hubflight_protocol::wire::array_bytes;
use hubflight_protocol::{BATCH_ROWS_MAX, ROW_BYTES_MAX};

/// Most rows of one message.
pub(crate) const SLICE_ROWS_MAX: usize = 8_192;
const _: () = assert!(SLICE_ROWS_MAX <= BATCH_ROWS_MAX);

/// Bytes of arguments beyond which a message takes no further row.
pub(crate) const SLICE_BYTES_TARGET: usize = 4 << 20;

/// Bytes that `arrays` take in a message.
pub(crate) fn bytes(arrays: &[ArrayRef]) -> usize {
    arrays.iter().map(|array| array_bytes(array.as_ref())).sum()
}

/// How many of `rows` go into one message: at least one, and otherwise no more than take
/// [`SLICE_BYTES_TARGET`], where the first `n` rows take `size(n)` bytes.
pub(crate) fn rows_that_fit(rows: usize, size: impl Fn(usize) -> usize) -> usize {
    let mut fitting = rows;
    while fitting > 1 && size(fitting) > SLICE_BYTES_TARGET {
        fitting /= 2;
    }
    fitting
}

/// Bytes of text or binary values, whatever their layout: what a copy of them would take.
/// Nothing for other types, whose size shows once they are copied.
pub(crate) fn content_bytes(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::Utf8 | DataType::Binary => array_bytes(array),
        DataType::LargeUtf8 => extent(array.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => extent(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => view_bytes(array.as_string_view().views()),
        DataType::BinaryView => view_bytes(array.as_binary_view().views()),
        _ => 0,
    }
}

fn extent(offsets: &[i64]) -> usize {
    let (first, last) = (offsets.first(), offsets.last());
    let bytes = last.zip(first).map_or(0, |(last, first)| last - first);
    usize::try_from(bytes).unwrap_or(0)
}

/// The lengths are the views' lowest 32 bits.
fn view_bytes(views: &[u128]) -> usize {
    views.iter().map(|view| *view as u32 as usize).sum()
}

/// True where the single row of `arguments` cannot travel.
pub(crate) fn is_too_large(arguments: &[ArrayRef]) -> bool {
    bytes(arguments) > ROW_BYTES_MAX
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
