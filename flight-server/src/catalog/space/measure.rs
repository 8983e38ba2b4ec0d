//! Logical sizes of columns: what reading a table of the space is charged by.
//!
//! They are counted while the rows are written, and do not depend on how these are cut into
//! batches and files, nor on how the files are encoded.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use crate::error::{Error, Result};

/// Logical bytes of the columns of a file, in the order of its schema.
#[derive(Clone, Debug, Default)]
pub struct ColumnBytes(Vec<u64>);

impl ColumnBytes {
    pub fn add(&mut self, batch: &RecordBatch) {
        self.0.resize(batch.num_columns(), 0);
        for (sum, column) in self.0.iter_mut().zip(batch.columns()) {
            *sum = sum.saturating_add(logical_bytes(column));
        }
    }

    /// As the manifest keeps them: a JSON map by name.
    pub fn text(&self, schema: &Schema) -> Result<String> {
        let names = schema.fields().iter().map(|field| field.name());
        let sizes: BTreeMap<&String, u64> = names.zip(self.0.iter().copied()).collect();
        serde_json::to_string(&sizes)
            .map_err(|error| Error::internal("sizes of a space cannot be written", &error))
    }
}

/// The bytes of some columns in a file of the manifest; a file of an older hub has none.
pub fn bytes_of(text: &str, columns: &BTreeSet<String>) -> u64 {
    match serde_json::from_str::<BTreeMap<String, u64>>(text) {
        Ok(sizes) => columns.iter().filter_map(|name| sizes.get(name)).sum(),
        Err(error) => {
            // What cannot be measured is not charged.
            tracing::error!(%error, "sizes of a space cannot be read");
            0
        }
    }
}

/// Bytes of the values alone, as `catalog/visible.rs` counts those of datasets: the lengths
/// of texts and binaries, the width of fixed types, and the same of what lists and structs hold.
fn logical_bytes(array: &ArrayRef) -> u64 {
    match array.data_type() {
        DataType::Utf8 => sum(array.as_string::<i32>().iter().flatten().map(str::len)),
        DataType::LargeUtf8 => sum(array.as_string::<i64>().iter().flatten().map(str::len)),
        DataType::Utf8View => sum(array.as_string_view().iter().flatten().map(str::len)),
        DataType::Binary => sum(array.as_binary::<i32>().iter().flatten().map(<[u8]>::len)),
        DataType::LargeBinary => sum(array.as_binary::<i64>().iter().flatten().map(<[u8]>::len)),
        DataType::BinaryView => sum(array.as_binary_view().iter().flatten().map(<[u8]>::len)),
        DataType::List(_) => within(array.as_list::<i32>().iter()),
        DataType::LargeList(_) => within(array.as_list::<i64>().iter()),
        DataType::FixedSizeList(..) => within(array.as_fixed_size_list().iter()),
        DataType::Map(..) => array
            .as_map()
            .iter()
            .flatten()
            .map(|entries| entries.columns().iter().map(logical_bytes).sum::<u64>())
            .sum(),
        DataType::Struct(_) => array.as_struct().columns().iter().map(logical_bytes).sum(),
        DataType::Boolean => array.len() as u64,
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(0) * array.len() as u64,
        // What a file can hold besides these has a width.
        other => (other.primitive_width().unwrap_or(0) * array.len()) as u64,
    }
}

fn sum(lengths: impl Iterator<Item = usize>) -> u64 {
    lengths.map(|length| length as u64).sum()
}

fn within(lists: impl Iterator<Item = Option<ArrayRef>>) -> u64 {
    lists.flatten().map(|values| logical_bytes(&values)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, FixedSizeBinaryArray, Int32Array, ListArray, MapBuilder, StringArray,
        StringBuilder, StringViewArray, StructArray,
    };
    use arrow::datatypes::{Field, Int32Type};
    use std::sync::Arc;

    fn check(array: impl Array + 'static, expected: u64) {
        let array: ArrayRef = Arc::new(array);
        assert_eq!(logical_bytes(&array), expected, "{}", array.data_type());
        // However the rows are cut, the parts make the whole.
        let cut = array.len() / 2;
        let parts = [array.slice(0, cut), array.slice(cut, array.len() - cut)];
        let total: u64 = parts.iter().map(logical_bytes).sum();
        assert_eq!(total, expected, "{} in parts", array.data_type());
    }

    #[test]
    fn sizes_are_those_of_the_values() {
        check(StringArray::from(vec![Some("ab"), None, Some("é")]), 4);
        check(
            StringViewArray::from(vec!["a text longer than twelve", ""]),
            25,
        );
        check(Int32Array::from(vec![Some(1), None, Some(3)]), 12);
        check(BooleanArray::from(vec![Some(true), None]), 2);
        let lists = vec![
            Some(vec![Some(1), Some(2)]),
            None,
            Some(vec![]),
            Some(vec![Some(3)]),
        ];
        check(ListArray::from_iter_primitive::<Int32Type, _, _>(lists), 12);
        let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8; 5], [2; 5], [3; 5]].iter());
        check(fixed.expect("valid"), 15);
        let fields: Vec<(Arc<Field>, ArrayRef)> = vec![(
            Arc::new(Field::new("x", DataType::Int32, true)),
            Arc::new(Int32Array::from(vec![1, 2])),
        )];
        check(StructArray::from(fields), 8);
        let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for rows in 0..3 {
            for row in 0..rows {
                maps.keys().append_value(format!("k{row}"));
                maps.values().append_value("four");
            }
            maps.append(true).expect("appends");
        }
        check(maps.finish(), 18);
    }

    #[test]
    fn sizes_travel_as_text() {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("b\"", Arc::new(StringArray::from(vec!["abc", "d"]))),
            ("a", Arc::new(Int32Array::from(vec![1, 2]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("valid");
        let mut bytes = ColumnBytes::default();
        bytes.add(&batch);
        bytes.add(&batch.slice(0, 1));
        let text = bytes.text(&batch.schema()).expect("writes");
        let of = |names: &[&str]| {
            let names = names.iter().map(ToString::to_string).collect();
            bytes_of(&text, &names)
        };
        assert_eq!(of(&["b\""]), 7);
        assert_eq!(of(&["a"]), 12);
        assert_eq!(of(&["a", "b\"", "missing"]), 19);
        assert_eq!(of(&[]), 0);
        let all = BTreeSet::from(["a".to_owned()]);
        assert_eq!(bytes_of("{}", &all), 0, "a file of an older hub");
        assert_eq!(bytes_of("not JSON", &all), 0);
    }
}
