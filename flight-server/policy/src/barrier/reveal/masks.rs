//! The masks, array by array. None of them fails on a value: what has no masked form is NULL.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericStringArray, OffsetSizeTrait, StringViewArray,
};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use hubflight_rights::habilitation::Mask;

/// Masks a column; as long as the input, of the same type, NULL where it is NULL.
pub fn apply(mask: Mask, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match (mask, array.data_type()) {
        (Mask::Null, data_type) => Ok(arrow::array::new_null_array(data_type, array.len())),
        (Mask::Year, DataType::Date32) => {
            let days = array.as_primitive::<Date32Type>();
            Ok(Arc::new(days.unary_opt::<_, Date32Type>(|days| {
                i32::try_from(first_of_year(i64::from(days))).ok()
            })))
        }
        (Mask::Year, DataType::Date64) => {
            let millis = array.as_primitive::<Date64Type>();
            Ok(Arc::new(millis.unary_opt::<_, Date64Type>(|millis| {
                first_of_year(millis.div_euclid(MILLIS_PER_DAY)).checked_mul(MILLIS_PER_DAY)
            })))
        }
        (Mask::Department | Mask::Prefix(_), DataType::Utf8) => Ok(prefixes::<i32>(mask, array)),
        (Mask::Department | Mask::Prefix(_), DataType::LargeUtf8) => {
            Ok(prefixes::<i64>(mask, array))
        }
        (Mask::Department | Mask::Prefix(_), DataType::Utf8View) => {
            let texts = array.as_string_view().iter();
            let shown = texts.map(|text| text.map(|text| kept(mask, text)));
            Ok(Arc::new(shown.collect::<StringViewArray>()))
        }
        (Mask::AgeBand(years), _) => integers(array, u64::from(years), band),
        (Mask::Round(unit), DataType::Decimal128(_, scale)) => Ok(decimals(array, unit, *scale)),
        (Mask::Round(unit), _) => integers(array, unit, towards_zero),
        (_, data_type) => Err(unfit(data_type)),
    }
}

fn unfit(data_type: &DataType) -> ArrowError {
    ArrowError::InvalidArgumentError(format!("a column of type {data_type} cannot be masked so"))
}

const MILLIS_PER_DAY: i64 = 86_400_000;
/// Days from 1 March of year 0 to 1 January 1970.
const DAYS_TO_EPOCH: i64 = 719_468;
/// Days of 400 years.
const DAYS_OF_ERA: i64 = 146_097;

/// The first of January before a day, both in days from 1970, in the Gregorian calendar extended
/// both ways (Hinnant, "chrono-compatible low-level date algorithms"). Arithmetic only, because
/// it runs on every row.
pub fn first_of_year(days: i64) -> i64 {
    let since = days + DAYS_TO_EPOCH;
    let era = since.div_euclid(DAYS_OF_ERA);
    let of_era = since.rem_euclid(DAYS_OF_ERA);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years of this count begin in March; January and February belong to the next one.
    let year = era * 400 + year_of_era + i64::from(of_year >= 306);
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

/// Applies a step of `unit` to every value; a value that leaves its type is NULL.
fn integers(
    array: &ArrayRef,
    unit: u64,
    step: fn(i64, i64) -> Option<i64>,
) -> Result<ArrayRef, ArrowError> {
    let unit = unit.max(1);
    // A unit beyond every signed value leaves zero.
    let step = |value: i64| match i64::try_from(unit) {
        Ok(unit) => step(value, unit),
        Err(_) => Some(0),
    };
    macro_rules! stepped {
        ($type:ty, $native:ty) => {
            Arc::new(
                array
                    .as_primitive::<$type>()
                    .unary_opt::<_, $type>(|value| {
                        <$native>::try_from(step(i64::from(value))?).ok()
                    }),
            )
        };
    }
    Ok(match array.data_type() {
        DataType::Int8 => stepped!(Int8Type, i8),
        DataType::Int16 => stepped!(Int16Type, i16),
        DataType::Int32 => stepped!(Int32Type, i32),
        DataType::Int64 => stepped!(Int64Type, i64),
        DataType::UInt8 => stepped!(UInt8Type, u8),
        DataType::UInt16 => stepped!(UInt16Type, u16),
        DataType::UInt32 => stepped!(UInt32Type, u32),
        // Without a sign both steps are the same.
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            Arc::new(values.unary::<_, UInt64Type>(|value| value - value % unit))
        }
        other => return Err(unfit(other)),
    })
}

/// The lower bound of the band of `years` that a year lies in.
fn band(year: i64, years: i64) -> Option<i64> {
    year.checked_sub(year.rem_euclid(years))
}

fn towards_zero(value: i64, unit: i64) -> Option<i64> {
    Some(value - value % unit)
}

fn decimals(array: &ArrayRef, unit: u64, scale: i8) -> ArrayRef {
    let ones = u32::try_from(scale).ok();
    let unit = ones
        .and_then(|scale| 10_i128.checked_pow(scale))
        .and_then(|one| one.checked_mul(i128::from(unit.max(1))));
    let values = array.as_primitive::<Decimal128Type>();
    // A unit beyond every decimal leaves zero.
    let shown = values.unary::<_, Decimal128Type>(|value| match unit {
        Some(unit) => value - remainder(value, unit),
        None => 0,
    });
    Arc::new(shown.with_data_type(array.data_type().clone()))
}

/// As `%`: amounts fit 64 bits, whose division is much faster.
fn remainder(value: i128, unit: i128) -> i128 {
    match (i64::try_from(value), i64::try_from(unit)) {
        (Ok(value), Ok(unit)) => i128::from(value % unit),
        _ => value % unit,
    }
}

fn prefixes<O: OffsetSizeTrait>(mask: Mask, array: &ArrayRef) -> ArrayRef {
    let texts = array.as_string::<O>().iter();
    let shown = texts.map(|text| text.map(|text| kept(mask, text)));
    Arc::new(shown.collect::<GenericStringArray<O>>())
}

/// The part of a text that a mask leaves.
fn kept(mask: Mask, text: &str) -> &str {
    let characters = match mask {
        // Overseas departments (971…) and territories (98…) have three characters.
        Mask::Department if matches!(text.as_bytes(), [b'9', b'7'..=b'9', ..]) => 3,
        Mask::Department => 2,
        Mask::Prefix(characters) => usize::from(characters),
        _ => 0,
    };
    let end = text
        .char_indices()
        .nth(characters)
        .map_or(text.len(), |(index, _)| index);
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Date64Array, Decimal128Array, Int8Array, Int32Array, Int64Array, UInt64Array,
    };
    use chrono::{Datelike, NaiveDate, TimeDelta};

    use super::*;

    fn masked(mask: Mask, array: impl Array + 'static) -> ArrayRef {
        let array: ArrayRef = Arc::new(array);
        apply(mask, &array).expect("the mask fits")
    }

    #[test]
    fn years_are_those_of_the_calendar() {
        let days: Vec<i32> = (-800_000..800_000)
            .step_by(37)
            .chain([-1, 0, 58, 59, 60])
            .collect();
        let shown = masked(Mask::Year, Date32Array::from(days.clone()));
        for (day, shown) in days.iter().zip(shown.as_primitive::<Date32Type>().values()) {
            let date = NaiveDate::default() + TimeDelta::days(i64::from(*day));
            let first = NaiveDate::from_ymd_opt(date.year(), 1, 1).expect("a date");
            let expected = (first - NaiveDate::default()).num_days();
            assert_eq!(i64::from(*shown), expected, "{date}");
        }
        let ends = masked(Mask::Year, Date32Array::from(vec![i32::MIN, i32::MAX]));
        assert!(ends.is_null(0), "its year began before there are days");
        assert!(ends.is_valid(1));
        let millis = vec![-1, 0, MILLIS_PER_DAY * 400 + 5, i64::MIN, i64::MAX];
        let shown = masked(Mask::Year, Date64Array::from(millis));
        let shown: Vec<_> = shown.as_primitive::<Date64Type>().iter().collect();
        let year = 365 * MILLIS_PER_DAY;
        assert_eq!(shown[..3], [Some(-year), Some(0), Some(year)]);
        assert_eq!(shown[3], None);
    }

    #[test]
    fn bands_and_multiples() {
        let years = Int32Array::from(vec![Some(1987), Some(1985), None, Some(-3), Some(i32::MIN)]);
        let shown = masked(Mask::AgeBand(5), years.clone());
        let expected = vec![Some(1985), Some(1985), None, Some(-5), None];
        assert_eq!(
            shown.as_primitive::<Int32Type>(),
            &Int32Array::from(expected)
        );
        let shown = masked(Mask::AgeBand(1), years.clone());
        assert_eq!(shown.as_primitive::<Int32Type>(), &years);

        let shown = masked(
            Mask::Round(100),
            Int64Array::from(vec![1_234, -199, 99, i64::MIN]),
        );
        let expected = vec![1_200, -100, 0, i64::MIN + 8];
        assert_eq!(
            shown.as_primitive::<Int64Type>(),
            &Int64Array::from(expected)
        );
        let shown = masked(Mask::Round(1_000), Int8Array::from(vec![127, -128]));
        assert_eq!(
            shown.as_primitive::<Int8Type>(),
            &Int8Array::from(vec![0, 0])
        );
        let shown = masked(
            Mask::Round(u64::MAX),
            Int64Array::from(vec![i64::MAX, i64::MIN]),
        );
        assert_eq!(
            shown.as_primitive::<Int64Type>(),
            &Int64Array::from(vec![0, 0])
        );
        let shown = masked(Mask::Round(u64::MAX), UInt64Array::from(vec![u64::MAX, 7]));
        assert_eq!(
            shown.as_primitive::<UInt64Type>(),
            &UInt64Array::from(vec![u64::MAX, 0])
        );
    }

    #[test]
    fn decimals_keep_their_type() {
        let amounts = Decimal128Array::from(vec![Some(123_456), Some(-9_999), None])
            .with_precision_and_scale(12, 2)
            .expect("a decimal");
        let shown = masked(Mask::Round(100), amounts.clone());
        assert_eq!(shown.data_type(), amounts.data_type());
        let shown: Vec<_> = shown.as_primitive::<Decimal128Type>().iter().collect();
        assert_eq!(shown, [Some(120_000), Some(0), None]);
        let wide = Decimal128Array::from(vec![10_i128.pow(37) + 5])
            .with_precision_and_scale(38, 0)
            .expect("a decimal");
        let shown = masked(Mask::Round(10), wide);
        assert_eq!(
            shown.as_primitive::<Decimal128Type>().value(0),
            10_i128.pow(37)
        );
        let fine = Decimal128Array::from(vec![5])
            .with_precision_and_scale(38, 38)
            .expect("a decimal");
        let shown = masked(Mask::Round(u64::MAX), fine);
        assert_eq!(shown.as_primitive::<Decimal128Type>().value(0), 0);
    }
}
