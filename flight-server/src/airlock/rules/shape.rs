//! The shape of a package: types that hold anything, and rows that single somebody out.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};

use super::{Column, Content, Finding, Verdict};
use crate::airlock::lineage::Origin;

const RULE: &str = "shape";
/// Rows of a package that nobody looks at.
const ROWS_MAX: usize = 10_000;
/// Columns of such a package.
const COLUMNS_MAX: usize = 100;
/// Characters of the name of a column, which is content as well.
const NAME_CHARS_MAX: usize = 63;
/// From so many rows on, a column in which no value is twice tells rows apart.
const DISTINCT_ROWS_MIN: usize = 100;

/// Asks about packages that are large, hold anything, or tell rows apart.
pub fn find(content: &Content<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let rows = content.rows();
    if rows > ROWS_MAX {
        let text = format!("{rows} rows are more than the {ROWS_MAX} that pass unseen");
        found.push(Finding::new(RULE, Verdict::Asks, text));
    }
    let fields = content.schema.fields().len();
    if fields > COLUMNS_MAX {
        let text = format!("{fields} columns are more than the {COLUMNS_MAX} that pass unseen");
        found.push(Finding::new(RULE, Verdict::Asks, text));
    }
    for column in content.columns() {
        let text = if column.name().chars().count() > NAME_CHARS_MAX {
            "its name is long; give it a short one with AS"
        } else if !is_flat(column.data_type()) {
            "its type can hold anything: files, pixels, signals, lists; compute a value of it"
        } else if tells_apart(&column, rows) {
            "no value is twice, so that it may single rows out; group them"
        } else {
            continue;
        };
        let name: String = column.name().chars().take(NAME_CHARS_MAX).collect();
        found.push(Finding::new(RULE, Verdict::Asks, text).of_column(&name));
    }
    found
}

/// One number, text, date or truth a row.
fn is_flat(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || data_type.is_temporal()
        || matches!(
            data_type,
            DataType::Null | DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8
        )
}

/// Keys of cells and their measures differ from row to row by nature.
fn tells_apart(column: &Column<'_>, rows: usize) -> bool {
    rows >= DISTINCT_ROWS_MIN
        && matches!(column.origin, Origin::Plain)
        && are_distinct(column.arrays(), column.data_type()).unwrap_or(true)
}

/// Whether no value is twice; `None` where values of the type cannot be compared.
fn are_distinct<'a>(
    arrays: impl Iterator<Item = &'a ArrayRef>,
    data_type: &DataType,
) -> Option<bool> {
    let converter = RowConverter::new(vec![SortField::new(data_type.clone())]).ok()?;
    let mut seen: HashSet<Box<[u8]>> = HashSet::new();
    for array in arrays {
        let rows = converter
            .convert_columns(std::slice::from_ref(array))
            .ok()?;
        for (index, row) in rows.iter().enumerate() {
            if array.is_valid(index) && !seen.insert(row.as_ref().into()) {
                return Some(false);
            }
        }
    }
    Some(!seen.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, ListArray};
    use arrow::datatypes::Int32Type;

    use super::super::tests::{Case, integers};
    use super::*;

    #[test]
    fn types_that_hold_anything_ask() {
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"GIF89a"[..]]));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([Some([
                Some(1),
            ])]));
        for values in [bytes, lists] {
            let case = Case::new([("x", Origin::Plain, values)]);
            assert_eq!(case.found(find).len(), 1);
        }
        assert!(Case::new([("x", Origin::Plain, integers([1]))]).is_clean(find));
    }

    #[test]
    fn rows_that_are_told_apart_ask() {
        let case = |origin, values: Vec<i64>| Case::new([("x", origin, integers(values))]);
        assert!(!case(Origin::Plain, (0..100).collect()).is_clean(find));
        assert!(case(Origin::Plain, (0..99).collect()).is_clean(find), "few");
        assert!(case(Origin::Key, (0..100).collect()).is_clean(find));
        // The only pair stands in two batches.
        let pair = (0..100).chain([0]).collect();
        assert!(case(Origin::Plain, pair).is_clean(find));
    }

    #[test]
    fn large_packages_ask() {
        let rows = |n: i64| Case::new([("x", Origin::Key, integers((0..n).map(|i| i % 7)))]);
        assert!(rows(10_000).is_clean(find));
        assert!(!rows(10_001).is_clean(find));
        let name = "x".repeat(64);
        let found = Case::new([(name.as_str(), Origin::Key, integers([1]))]).found(find);
        assert!(found.len() == 1 && found[0].column.as_deref() == Some(&name[..63]));
    }
}
