//! How many bytes values take, each by itself.

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use datafusion::error::Result;

/// What an element takes in a list beside its own bytes.
pub(super) const ELEMENT_BYTES: u64 = 8;
/// What a value has in an array beside its own bytes, at most.
const VIEW_BYTES: u64 = 24;

/// Bytes of each value: of texts their length, of lists what their elements take, and of what
/// is not told apart here the whole array's, which is no less.
pub(super) fn sizes(array: &ArrayRef) -> Result<Vec<u64>> {
    let rows = array.len();
    let of = |length: Option<usize>| length.map_or(0, |length| length as u64);
    Ok(match array.data_type() {
        DataType::Null => vec![0; rows],
        DataType::Boolean => vec![1; rows],
        DataType::Utf8 => lengths(array.as_string::<i32>().iter().map(|v| of(v.map(str::len)))),
        DataType::LargeUtf8 => {
            lengths(array.as_string::<i64>().iter().map(|v| of(v.map(str::len))))
        }
        DataType::Utf8View => lengths(array.as_string_view().iter().map(|v| of(v.map(str::len)))),
        DataType::Binary => lengths(
            array
                .as_binary::<i32>()
                .iter()
                .map(|v| of(v.map(<[u8]>::len))),
        ),
        DataType::LargeBinary => lengths(
            array
                .as_binary::<i64>()
                .iter()
                .map(|v| of(v.map(<[u8]>::len))),
        ),
        DataType::BinaryView => lengths(
            array
                .as_binary_view()
                .iter()
                .map(|v| of(v.map(<[u8]>::len))),
        ),
        DataType::FixedSizeBinary(width) => vec![u64::from(width.unsigned_abs()); rows],
        DataType::List(_) => list_sizes(array.as_list::<i32>())?,
        DataType::LargeList(_) => list_sizes(array.as_list::<i64>())?,
        DataType::Map(..) => {
            let map = array.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            of_offsets(map.offsets(), &entries)?
        }
        DataType::FixedSizeList(_, length) => {
            let length = length.unsigned_abs() as usize;
            let list = array.as_fixed_size_list();
            match list.values().data_type().primitive_width() {
                Some(width) => vec![(width * length) as u64; rows],
                None if length == 0 => vec![0; rows],
                None => {
                    let each = sizes(list.values())?;
                    let sum = |items: &[u64]| items.iter().copied().fold(0, u64::saturating_add);
                    each.chunks(length).map(sum).collect()
                }
            }
        }
        DataType::Struct(_) => {
            let mut sums = vec![0_u64; rows];
            for column in array.as_struct().columns() {
                for (sum, bytes) in sums.iter_mut().zip(sizes(column)?) {
                    *sum = sum.saturating_add(bytes);
                }
            }
            sums
        }
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let each = sizes(dictionary.values())?;
            if each.is_empty() {
                return Ok(vec![0; rows]);
            }
            let keys = dictionary.normalized_keys().into_iter().enumerate();
            let of_key = |(row, key)| match array.is_null(row) {
                true => 0,
                false => each.get(key).copied().unwrap_or(0),
            };
            keys.map(of_key).collect()
        }
        other => {
            let width = other.primitive_width();
            vec![width.unwrap_or_else(|| array.get_array_memory_size()) as u64; rows]
        }
    })
}

fn lengths(lengths: impl Iterator<Item = u64>) -> Vec<u64> {
    lengths.collect()
}

fn list_sizes<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> Result<Vec<u64>> {
    of_offsets(list.offsets(), list.values())
}

fn of_offsets<O: OffsetSizeTrait>(
    offsets: &OffsetBuffer<O>,
    values: &ArrayRef,
) -> Result<Vec<u64>> {
    let offsets = offsets
        .windows(2)
        .map(|ends| (ends[0].as_usize(), ends[1].as_usize()));
    if let Some(width) = values.data_type().primitive_width() {
        // Millions of samples are no reason to make millions of sums.
        let each = width as u64 + ELEMENT_BYTES;
        return Ok(offsets
            .map(|(from, to)| (to - from) as u64 * each)
            .collect());
    }
    let mut sums = vec![0_u64];
    let mut sum = 0_u64;
    for bytes in sizes(values)? {
        sum = sum.saturating_add(bytes).saturating_add(ELEMENT_BYTES);
        sums.push(sum);
    }
    Ok(offsets
        .map(|(from, to)| sums[to].saturating_sub(sums[from]))
        .collect())
}

/// What an array takes in memory, in bytes, without what it only shares with others.
pub(super) fn memory(array: &ArrayRef) -> Result<u64> {
    let whole = array.get_array_memory_size() as u64;
    let each = VIEW_BYTES.saturating_mul(array.len() as u64);
    let own = sizes(array)?.into_iter().fold(each, u64::saturating_add);
    Ok(own.min(whole))
}
