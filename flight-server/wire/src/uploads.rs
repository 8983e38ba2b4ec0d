//! What the rows that a client sends are worth as values.
//!
//! A message of a few bytes can stand for any number of values: each row of a dictionary names the
//! same megabyte, lists have lengths and their items no bytes. Bound rows become single values, so
//! that they are measured as such before.

use std::collections::HashSet;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Schema};
use tonic::Status;

/// Values that are looked at to count what a union's rows take: of each row, one of each type inside
/// its value's.
const CHOICES_MAX: u64 = 4_000_000;
/// Bytes of them past which counting ends: each may be the same long list. No message is so large.
const CHOSEN_BYTES_MAX: u64 = 1 << 28;

/// Refuses the types whose values cannot be measured without building them; `what` names the rows.
pub fn check_types(what: &str, schema: &Schema) -> Result<(), Status> {
    check(what, schema, is_bound)
}

/// The same for rows that become single values, each of its own type where a column is a union.
pub fn check_value_types(what: &str, schema: &Schema) -> Result<(), Status> {
    check(what, schema, |data_type| {
        is_bound(data_type) || is_union(data_type)
    })
}

fn check(what: &str, schema: &Schema, is_taken: impl Fn(&DataType) -> bool) -> Result<(), Status> {
    let mut fields = (1..).zip(schema.fields());
    match fields.find(|(_, field)| !is_taken(field.data_type())) {
        Some((number, field)) => Err(Status::invalid_argument(format!(
            "column {number} of {what} has type {}, which is not taken; send plain values",
            field.data_type()
        ))),
        None => Ok(()),
    }
}

fn is_bound(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => !values.is_nested() && is_plain(values),
        other => is_plain(other),
    }
}

/// A union of plain values.
fn is_union(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Union(fields, _)
        if fields.iter().all(|(_, field)| is_plain(field.data_type())))
}

/// Lists and structs of plain values; nothing that has the same value in several places.
fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(..) => false,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => is_plain(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_plain(field.data_type())),
        _ => true,
    }
}

/// Bytes of the rows' values, each counted where it comes; what has none counts as one. The types
/// must have been checked.
pub fn value_bytes(batch: &RecordBatch) -> u64 {
    let columns = batch.columns().iter().map(bytes_of);
    columns.fold(0, u64::saturating_add)
}

/// Bytes of memory that a batch holds. The columns of a message share the body that they came in,
/// which counts once: `RecordBatch::get_array_memory_size` counts it for each of their buffers.
pub fn held_bytes(batch: &RecordBatch) -> u64 {
    let mut seen = HashSet::new();
    let columns = batch.columns().iter();
    let held = columns.map(|column| held_by(&column.to_data(), &mut seen));
    held.fold(0, u64::saturating_add)
}

/// What `data` holds beside the allocations that were seen.
fn held_by(data: &ArrayData, seen: &mut HashSet<usize>) -> u64 {
    let nulls = data.nulls().map(NullBuffer::buffer);
    let mut held = 0_u64;
    for buffer in data.buffers().iter().chain(nulls) {
        if seen.insert(buffer.data_ptr().addr().get()) {
            held = held.saturating_add(buffer.capacity() as u64);
        }
    }
    for child in data.child_data() {
        held = held.saturating_add(held_by(child, seen));
    }
    held
}

fn bytes_of(array: &ArrayRef) -> u64 {
    let rows = array.len() as u64;
    let bytes = match array.data_type() {
        DataType::Utf8 => between(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => between(array.as_string::<i64>().value_offsets()),
        DataType::Binary => between(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => between(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => sum(array.as_string_view().iter().flatten().map(str::len)),
        DataType::BinaryView => sum(array.as_binary_view().iter().flatten().map(<[u8]>::len)),
        DataType::Dictionary(..) => named(array),
        DataType::Union(..) => chosen(array),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            within(list.values(), list.value_offsets())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            within(list.values(), list.value_offsets())
        }
        DataType::FixedSizeList(..) => bytes_of(array.as_fixed_size_list().values()),
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = map.entries().columns().iter();
            let entries = entries.map(|column| within(column, map.value_offsets()));
            entries.fold(0, u64::saturating_add)
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter().map(bytes_of);
            columns.fold(0, u64::saturating_add)
        }
        DataType::FixedSizeBinary(width) => rows.saturating_mul(u64::try_from(*width).unwrap_or(0)),
        other => rows.saturating_mul(other.primitive_width().unwrap_or(1) as u64),
    };
    bytes.max(rows)
}

/// The values that the rows of a dictionary name, each as often as it is named.
fn named(array: &ArrayRef) -> u64 {
    let Some(dictionary) = array.as_any_dictionary_opt() else {
        return 0;
    };
    let values = dictionary.values();
    if values.is_empty() {
        return 0;
    }
    let keys = dictionary.normalized_keys().into_iter();
    let sizes = keys.map(|key| bytes_of(&values.slice(key, 1)));
    sizes.fold(0, u64::saturating_add)
}

/// The values that the rows of a union take, of which several may take the same; as much as can be
/// where that takes long to tell. Its decoder has seen that each is there.
fn chosen(array: &ArrayRef) -> u64 {
    let (Some(union), DataType::Union(fields, _)) = (array.as_union_opt(), array.data_type())
    else {
        return 0;
    };
    let types = fields.iter().map(|(_, field)| types_in(field.data_type()));
    let choices = types.max().unwrap_or(0).saturating_mul(union.len() as u64);
    if choices > CHOICES_MAX {
        return u64::MAX;
    }
    let mut sizes = (0..union.len()).map(|row| bytes_of(&union.value(row)));
    let all = sizes.try_fold(0_u64, |sum, size| {
        let sum = sum.saturating_add(size);
        (sum <= CHOSEN_BYTES_MAX).then_some(sum)
    });
    all.unwrap_or(u64::MAX)
}

/// A type and all types inside it.
fn types_in(data_type: &DataType) -> u64 {
    let inside = match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => types_in(item.data_type()),
        DataType::Struct(fields) => {
            let types = fields.iter().map(|field| types_in(field.data_type()));
            types.fold(0, u64::saturating_add)
        }
        // Nothing else is inside a union.
        _ => 0,
    };
    inside.saturating_add(1)
}

/// The items of lists, which lie one after another.
fn within<O: TryInto<usize> + Copy>(items: &ArrayRef, offsets: &[O]) -> u64 {
    let at = |offset: Option<&O>| -> Option<usize> { (*offset?).try_into().ok() };
    match (at(offsets.first()), at(offsets.last())) {
        (Some(first), Some(last)) if first <= last && last <= items.len() => {
            bytes_of(&items.slice(first, last - first))
        }
        // Offsets that are none: as much as can be.
        _ => u64::MAX,
    }
}

fn between<O: Into<i64> + Copy>(offsets: &[O]) -> u64 {
    let at = |offset: Option<&O>| offset.map_or(0, |offset| (*offset).into());
    let bytes = at(offsets.last()).saturating_sub(at(offsets.first()));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn sum(lengths: impl Iterator<Item = usize>) -> u64 {
    lengths.fold(0, |sum, length| sum.saturating_add(length as u64))
}

#[cfg(test)]
mod tests;
