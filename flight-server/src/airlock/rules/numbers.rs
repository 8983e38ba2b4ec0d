//! Numbers with more digits than a result needs: weights of a model, or data in their digits.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::{Column, Content, Finding, Verdict};
use crate::airlock::lineage::Origin;

const RULE: &str = "precision";
/// Significant digits of a number with a fraction: what a table in an article shows, and some.
const FRACTION_DIGITS_MAX: usize = 7;
/// Significant digits of an integer or decimal: amounts of a country.
const DIGITS_MAX: usize = 12;

/// Asks where a column of numbers has values with many digits. Published aggregates keep
/// theirs: noise makes them, and anybody may ask for them without an export.
pub fn find(content: &Content<'_>) -> Vec<Finding> {
    let columns = content.columns();
    let columns = columns.filter(|column| column.origin != Origin::Published);
    columns
        .filter_map(|column| {
            let max = match column.data_type() {
                DataType::Float16 | DataType::Float32 | DataType::Float64 => FRACTION_DIGITS_MAX,
                DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..) => DIGITS_MAX,
                integer if integer.is_integer() => DIGITS_MAX,
                _ => return None,
            };
            let rows = with_more_digits(&column, max);
            (rows > 0).then(|| {
                let text =
                    format!("{rows} values have more than {max} significant digits; round them");
                Finding::new(RULE, Verdict::Asks, text).of_column(column.name())
            })
        })
        .collect()
}

fn with_more_digits(column: &Column<'_>, max: usize) -> usize {
    let longer = |text: &str| digits(text) > max;
    let rows = |array: &arrow::array::ArrayRef| match array.data_type() {
        // The shortest text that reads as the same number. A half or a single is what it is as a
        // double: written as that it may look longer, so that it is written as itself.
        DataType::Float64 => array.as_primitive_opt::<Float64Type>().map(|values| {
            let values = values.iter().flatten();
            values.filter(|value| longer(&format!("{value:e}"))).count()
        }),
        DataType::Float32 => array
            .as_primitive_opt::<arrow::datatypes::Float32Type>()
            .map(|values| {
                let values = values.iter().flatten();
                values.filter(|value| longer(&format!("{value:e}"))).count()
            }),
        _ => cast(array, &DataType::Utf8).ok().and_then(|texts| {
            let texts = texts.as_string_opt::<i32>()?;
            Some(texts.iter().flatten().filter(|text| longer(text)).count())
        }),
    };
    // What cannot be written as text cannot be judged.
    let judged = column
        .arrays()
        .map(|array| rows(array).unwrap_or(array.len()));
    judged.sum()
}

/// Significant digits of a number that is written in decimals, with or without an exponent.
fn digits(text: &str) -> usize {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').len()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Decimal128Array, Float32Array, Float64Array};

    use super::super::tests::{Case, integers};
    use super::*;

    #[test]
    fn digits_are_the_significant_ones() {
        for (text, expected) in [
            ("0", 0),
            ("1e0", 1),
            ("-1.25e-7", 3),
            ("1200", 2),
            ("0.0015", 2),
            ("123456.78", 8),
        ] {
            assert_eq!(digits(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_with_many_digits_ask() {
        let doubles = |values: Vec<f64>| {
            Case::new([(
                "x",
                Origin::Measure,
                Arc::new(Float64Array::from(values)) as _,
            )])
        };
        let rounded = doubles(vec![12.5, 0.031, 1_234_567.0, f64::NAN, 0.0, -1e300]);
        assert!(rounded.is_clean(find));
        assert!(!doubles(vec![12.5, 1.0 / 3.0]).is_clean(find));
        let published = Case::new([(
            "x",
            Origin::Published,
            Arc::new(Float64Array::from(vec![1.0 / 3.0, 2.0])) as _,
        )]);
        assert!(published.is_clean(find));
        let singles = |values: Vec<f32>| {
            Case::new([(
                "x",
                Origin::Plain,
                Arc::new(Float32Array::from(values)) as _,
            )])
        };
        assert!(
            singles(vec![0.1, 2.5]).is_clean(find),
            "a tenth is one digit"
        );
        assert!(!singles(vec![0.1, 0.123_456_79]).is_clean(find));
        let count = |value| Case::new([("x", Origin::Plain, integers([1, value]))]);
        assert!(count(999_999_999_999).is_clean(find));
        assert!(!count(1_234_567_890_123).is_clean(find));
        let decimals = Decimal128Array::from(vec![1, 12_345_678_901_234])
            .with_precision_and_scale(18, 2)
            .expect("fits");
        let case = Case::new([("x", Origin::Plain, Arc::new(decimals) as _)]);
        assert!(!case.is_clean(find));
    }
}
