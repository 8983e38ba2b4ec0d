//! Rows cut into chunks for frames, by the rows alone.
//!
//! Batches come as files, row groups and threads had them, and behind the barrier as what hidden
//! rows left of them: their lengths would tell where those lie, and so would the number of bytes
//! that a result is charged for. A chunk ends where so many rows or bytes of values are together,
//! whatever batches they came in.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::DataType;

/// What a value counts for whose size is that of what it refers to.
const REFERENCE_BYTES: usize = 8;

/// Rows on their way into frames. The parts of a chunk share the memory of their batches.
#[derive(Debug)]
pub struct Chunks {
    rows_max: usize,
    bytes_max: usize,
    waiting: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Chunks {
    /// A chunk has at most so many rows, and so many bytes unless one row alone has more.
    pub fn new(rows_max: usize, bytes_max: usize) -> Self {
        Self {
            rows_max: rows_max.max(1),
            bytes_max,
            waiting: Vec::new(),
            rows: 0,
            bytes: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Takes rows of so many bytes each, and gives the chunks that are full.
    pub fn take(&mut self, batch: &RecordBatch, bytes: &[usize]) -> Vec<Vec<RecordBatch>> {
        let mut full = Vec::new();
        let mut start = 0;
        for (row, bytes) in bytes.iter().copied().enumerate() {
            let is_full = self.rows == self.rows_max || self.bytes + bytes > self.bytes_max;
            if is_full && self.rows > 0 {
                self.wait(batch, start, row);
                start = row;
                full.push(self.rest());
            }
            self.rows += 1;
            self.bytes += bytes;
        }
        self.wait(batch, start, batch.num_rows());
        full
    }

    fn wait(&mut self, batch: &RecordBatch, start: usize, end: usize) {
        if start < end {
            self.waiting.push(batch.slice(start, end - start));
        }
    }

    /// The rows that wait since the last batch, to be kept as something smaller.
    pub fn last_mut(&mut self) -> Option<&mut RecordBatch> {
        self.waiting.last_mut()
    }

    /// The rows that wait for more.
    pub fn rest(&mut self) -> Vec<RecordBatch> {
        (self.rows, self.bytes) = (0, 0);
        std::mem::take(&mut self.waiting)
    }
}

/// The bytes of each value, however they lie in memory.
pub fn bytes_of(values: &ArrayRef) -> Vec<usize> {
    let mut bytes = vec![0; values.len()];
    add(values, &mut bytes);
    bytes
}

/// The bytes of the values of each row, however they lie in memory.
pub fn bytes_of_rows(batch: &RecordBatch) -> Vec<usize> {
    // What all rows have of the columns whose values are of one size, at once.
    let fixed = batch
        .columns()
        .iter()
        .map(|column| width(column.data_type()));
    let mut bytes = vec![fixed.flatten().sum(); batch.num_rows()];
    for column in batch.columns() {
        if width(column.data_type()).is_none() {
            add(column, &mut bytes);
        }
    }
    bytes
}

fn add(values: &ArrayRef, bytes: &mut [usize]) {
    if let Some(width) = width(values.data_type()) {
        return bytes.iter_mut().for_each(|bytes| *bytes += width);
    }
    match values.data_type() {
        DataType::Utf8 => lengths(values, values.as_string::<i32>().value_offsets(), bytes),
        DataType::LargeUtf8 => lengths(values, values.as_string::<i64>().value_offsets(), bytes),
        DataType::Binary => lengths(values, values.as_binary::<i32>().value_offsets(), bytes),
        DataType::LargeBinary => lengths(values, values.as_binary::<i64>().value_offsets(), bytes),
        DataType::Utf8View => of_views(values, values.as_string_view().views(), bytes),
        DataType::BinaryView => of_views(values, values.as_binary_view().views(), bytes),
        DataType::List(_) => {
            let list = values.as_list::<i32>();
            of_items(values, list.value_offsets(), list.values(), bytes);
        }
        DataType::LargeList(_) => {
            let list = values.as_list::<i64>();
            of_items(values, list.value_offsets(), list.values(), bytes);
        }
        DataType::Map(..) => {
            let map = values.as_map();
            let entries: ArrayRef = std::sync::Arc::new(map.entries().clone());
            of_items(values, map.value_offsets(), &entries, bytes);
        }
        DataType::FixedSizeList(_, length) => {
            let length = usize::try_from(*length).unwrap_or(0).max(1);
            let each = bytes_of(values.as_fixed_size_list().values());
            let items = each.chunks(length).map(|items| items.iter().sum::<usize>());
            bytes.iter_mut().zip(items).for_each(|(to, of)| *to += of);
        }
        DataType::Struct(_) => {
            let columns = values.as_struct().columns();
            columns.iter().for_each(|column| add(column, bytes));
        }
        DataType::Dictionary(..) => of_keys(values, bytes),
        _ => bytes.iter_mut().for_each(|bytes| *bytes += REFERENCE_BYTES),
    }
}

/// Bytes of a value where all have the same.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Null => Some(0),
        DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        DataType::FixedSizeList(item, length) => {
            let length = usize::try_from(*length).ok()?;
            Some(width(item.data_type())? * length)
        }
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
        other => other.primitive_width(),
    }
}

/// Each value's own length and offset. What lies behind a NULL is not its value.
fn lengths<O: OffsetSizeTrait>(values: &ArrayRef, offsets: &[O], bytes: &mut [usize]) {
    let lengths = offsets
        .windows(2)
        .map(|ends| ends[1].as_usize() - ends[0].as_usize());
    add_valid(values, size_of::<O>(), lengths, bytes);
}

fn of_views(values: &ArrayRef, views: &[u128], bytes: &mut [usize]) {
    // The length is in the low 32 bits (Arrow columnar format, "Variable-size Binary View Layout").
    let lengths = views.iter().map(|view| (*view as u32) as usize);
    add_valid(values, size_of::<u128>(), lengths, bytes);
}

/// What each value has for itself, and its length where it is one.
fn add_valid(
    values: &ArrayRef,
    each: usize,
    lengths: impl Iterator<Item = usize>,
    bytes: &mut [usize],
) {
    let rows = bytes.iter_mut().zip(lengths);
    match values.nulls() {
        None => rows.for_each(|(bytes, length)| *bytes += each + length),
        Some(nulls) => rows.zip(nulls).for_each(|((bytes, length), is_valid)| {
            *bytes += each + if is_valid { length } else { 0 };
        }),
    }
}

/// What the keys stand for: a client is sent the values themselves.
fn of_keys(values: &ArrayRef, bytes: &mut [usize]) {
    let dictionary = values.as_any_dictionary();
    let each = bytes_of(dictionary.values());
    if each.is_empty() {
        return;
    }
    let keys = dictionary.normalized_keys().into_iter();
    for (row, (bytes, key)) in bytes.iter_mut().zip(keys).enumerate() {
        if values.is_valid(row) {
            *bytes += each[key];
        }
    }
}

/// The items of lists, each with what it has itself.
fn of_items<O: OffsetSizeTrait>(
    lists: &ArrayRef,
    offsets: &[O],
    items: &ArrayRef,
    bytes: &mut [usize],
) {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return;
    };
    let first = first.as_usize();
    let width = width(items.data_type());
    let each = match width {
        Some(_) => Vec::new(),
        // Of these lists only: the items of a slice are those of the whole.
        None => bytes_of(&items.slice(first, last.as_usize() - first)),
    };
    for (row, (bytes, ends)) in bytes.iter_mut().zip(offsets.windows(2)).enumerate() {
        *bytes += size_of::<O>();
        if lists.is_null(row) {
            continue;
        }
        let (start, end) = (ends[0].as_usize(), ends[1].as_usize());
        *bytes += match width {
            Some(width) => width * (end - start),
            None => each[start - first..end - first].iter().sum(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, DictionaryArray, FixedSizeListArray, Int64Array, ListArray, MapBuilder,
        RecordBatchOptions, StringArray, StringBuilder, StringViewArray, StructArray,
    };
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let texts: Vec<Option<String>> = (0..rows)
            .map(|row| (row % 5 != 0).then(|| "é".repeat(row * 7 % 40)))
            .collect();
        let numbers = Int64Array::from_iter((0..rows as i64).map(|n| (n % 3 != 0).then_some(n)));
        let lists = (0..rows).map(|row| {
            let items = (0..row % 9).map(|item| Some(item as i32));
            (row % 4 != 0).then(|| items.collect::<Vec<_>>())
        });
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(lists);
        let views = StringViewArray::from_iter(texts.iter().map(Option::as_deref));
        let texts: ArrayRef = Arc::new(StringArray::from_iter(texts.iter().map(Option::as_deref)));
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in 0..rows {
            for _ in 0..row % 3 {
                maps.keys().append_value("k");
                maps.values().append_value("v".repeat(row % 11));
            }
            maps.append(row % 6 != 0).expect("valid");
        }
        let inner = Arc::new(Field::new("t", DataType::Utf8, true));
        let structs = StructArray::from(vec![(Arc::clone(&inner), Arc::clone(&texts))]);
        let codes: Vec<Option<String>> = (0..rows)
            .map(|row| (row % 7 != 0).then(|| "code ".repeat(row % 4)))
            .collect();
        let codes: DictionaryArray<Int32Type> = codes.iter().map(Option::as_deref).collect();
        let pairs: Vec<String> = (0..2 * rows).map(|item| "p".repeat(item % 13)).collect();
        let pairs: ArrayRef = Arc::new(StringArray::from(pairs));
        let pairs = FixedSizeListArray::new(inner, 2, pairs, None);
        let columns: [(&str, ArrayRef); 8] = [
            ("number", Arc::new(numbers)),
            ("text", texts),
            ("view", Arc::new(views)),
            ("list", Arc::new(lists)),
            ("map", Arc::new(maps.finish())),
            ("struct", Arc::new(structs)),
            ("code", Arc::new(codes)),
            ("pair", Arc::new(pairs)),
        ];
        RecordBatch::try_from_iter(columns).expect("valid")
    }

    /// The rows of each chunk, when they come in batches that end at these rows.
    fn chunks(whole: &RecordBatch, ends: &[usize], (rows, bytes): (usize, usize)) -> Vec<usize> {
        let mut chunks = Chunks::new(rows, bytes);
        let (mut start, mut found) = (0, Vec::new());
        for end in ends.iter().copied().chain([whole.num_rows()]) {
            // Compacted, as a filter or a join would: nothing of other rows lies behind it.
            let indices = Int64Array::from_iter_values(start as i64..end as i64);
            let part = match whole.num_columns() {
                0 => whole.slice(start, end - start),
                _ => take_record_batch(whole, &indices).expect("taken"),
            };
            found.extend(chunks.take(&part, &bytes_of_rows(&part)));
            start = end;
        }
        assert_eq!(chunks.is_empty(), chunks.rows == 0);
        let rest = chunks.rest();
        if !rest.is_empty() {
            found.push(rest);
        }
        let all: Vec<RecordBatch> = found.iter().flatten().cloned().collect();
        assert_eq!(
            &concat_batches(&whole.schema(), &all).expect("whole"),
            whole
        );
        let rows = found
            .iter()
            .map(|parts| parts.iter().map(RecordBatch::num_rows).sum());
        rows.collect()
    }

    #[test]
    fn what_is_in_a_chunk_does_not_depend_on_the_batches() {
        let whole = batch(1_000);
        for limits in [
            (100, 1 << 20),
            (1_000, 900),
            (7, 300),
            (1, 1),
            (5_000, 1 << 30),
        ] {
            let expected = chunks(&whole, &[], limits);
            for ends in [
                vec![1],
                vec![999],
                vec![500, 500, 501],
                (0..1_000).collect(),
                (0..1_000).step_by(37).collect(),
            ] {
                assert_eq!(
                    chunks(&whole, &ends, limits),
                    expected,
                    "{limits:?} {ends:?}"
                );
            }
            assert!(expected.iter().all(|rows| *rows <= limits.0));
        }
        assert_eq!(chunks(&whole, &[], (100, 1 << 20)), [100; 10]);
        assert_eq!(chunks(&whole, &[3], (1, 1)), [1; 1_000]);
    }

    #[test]
    fn a_value_counts_what_a_client_is_sent_of_it() {
        let long = "x".repeat(1_000);
        let codes: DictionaryArray<Int32Type> = [Some(long.as_str()), None].into_iter().collect();
        let part: ArrayRef = Arc::new(codes);
        assert_eq!(bytes_of(&part), [1_004, 0]);
        // A slice counts its own items, and what lies behind a NULL counts nothing.
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1); 100]),
            None,
            Some(vec![Some(2); 3]),
        ]);
        let slice: ArrayRef = Arc::new(lists.slice(1, 2));
        assert_eq!(bytes_of(&slice), [4, 16]);
        let whole = batch(100);
        let slice = whole.slice(40, 20);
        assert_eq!(bytes_of_rows(&slice), bytes_of_rows(&whole)[40..60]);
    }

    #[test]
    fn rows_without_columns_and_large_rows_pass() {
        let options = RecordBatchOptions::new().with_row_count(Some(250));
        let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options);
        assert_eq!(
            chunks(&empty.expect("valid"), &[], (100, 10)),
            [100, 100, 50]
        );
        let large = StringArray::from(vec!["x".repeat(5_000), "y".repeat(5_000)]);
        let large = RecordBatch::try_from_iter([("a", Arc::new(large) as ArrayRef)]);
        assert_eq!(chunks(&large.expect("valid"), &[], (100, 100)), [1, 1]);
        assert!(chunks(&batch(0), &[], (100, 100)).is_empty());
    }
}
