//! The casts that succeed on every value (arrow-cast 59).

use arrow::datatypes::{DataType, TimeUnit};

/// True where no value of `from` fails to become a `to`.
pub fn never_fails(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Decimal128, Dictionary, Float32, Float64, Null, Timestamp};
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _) => true,
        (Dictionary(_, values), to) => never_fails(values, to),
        (from, to) if is_text(to) => is_text(from) || is_plain_number(from) || *from == Boolean,
        (Boolean, to) => is_machine_number(to),
        (Float32, Float64) => true,
        (Decimal128(..), Float64) => true,
        (Decimal128(from, of), Decimal128(to, scale)) => {
            of <= scale && i16::from(*from) - i16::from(*of) <= i16::from(*to) - i16::from(*scale)
        }
        // Dates outside the years of finer units are out of their range; coarser ones hold all.
        (Timestamp(from, zone), Timestamp(to, other)) => {
            zone == other && per_second(to) <= per_second(from)
        }
        (from, to) if from.is_integer() => integer_fits(from, to),
        _ => false,
    }
}

/// True where `TRY_CAST` gives NULL for every value that it cannot represent. Some casts fail
/// although they are asked not to, as those of dates to text do.
pub fn try_never_fails(from: &DataType, to: &DataType) -> bool {
    let from_simple = is_text(from) || is_plain_number(from) || *from == DataType::Boolean;
    never_fails(from, to)
        || from_simple && is_machine_number(to)
        || *to == DataType::Boolean && (is_text(from) || is_machine_number(from))
        || *to == DataType::Date32 && is_text(from)
}

fn integer_fits(from: &DataType, to: &DataType) -> bool {
    let (signed, bits) = (from.is_signed_integer(), integer_bits(from));
    match to {
        DataType::Float32 | DataType::Float64 => true,
        DataType::Decimal128(precision, scale) => {
            let digits = match bits {
                8 => 3,
                16 => 5,
                32 => 10,
                _ => 20,
            };
            i16::from(*precision) - i16::from(*scale) >= digits
        }
        to if to.is_integer() => match (signed, to.is_signed_integer()) {
            (true, true) | (false, false) => integer_bits(to) >= bits,
            (false, true) => integer_bits(to) > bits,
            (true, false) => false,
        },
        _ => false,
    }
}

fn integer_bits(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(0) * 8
}

fn per_second(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Integers and binary floating point numbers: their arithmetic wraps or rounds, and never
/// fails as that of decimals does.
pub fn is_machine_number(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Float32 | DataType::Float64)
}

fn is_plain_number(data_type: &DataType) -> bool {
    is_machine_number(data_type) || matches!(data_type, DataType::Decimal128(..))
}

pub fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

/// Types whose values can be compared, grouped and counted without failing.
pub fn is_plain(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_plain(values),
        DataType::Null
        | DataType::Boolean
        | DataType::Date32
        | DataType::Timestamp(..)
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => true,
        other => is_text(other) || is_plain_number(other),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array,
        Int32Array, Int64Array, StringArray, TimestampNanosecondArray, TimestampSecondArray,
        UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    };
    use arrow::compute::{CastOptions, cast_with_options};

    use super::*;

    /// The extremes of each type, and values that no other type holds.
    fn extremes() -> Vec<ArrayRef> {
        let decimal = |value: i128, precision, scale| {
            let decimals = Decimal128Array::from(vec![value, -value]);
            Arc::new(
                decimals
                    .with_precision_and_scale(precision, scale)
                    .expect("valid"),
            ) as ArrayRef
        };
        vec![
            Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX])),
            Arc::new(Int16Array::from(vec![i16::MIN, i16::MAX])),
            Arc::new(Int32Array::from(vec![i32::MIN, i32::MAX])),
            Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX])),
            Arc::new(UInt8Array::from(vec![0, u8::MAX])),
            Arc::new(UInt16Array::from(vec![0, u16::MAX])),
            Arc::new(UInt32Array::from(vec![0, u32::MAX])),
            Arc::new(UInt64Array::from(vec![0, u64::MAX])),
            Arc::new(Float32Array::from(vec![f32::MAX, f32::NAN, f32::INFINITY])),
            Arc::new(Float64Array::from(vec![f64::MAX, f64::NAN, f64::INFINITY])),
            decimal(999, 3, 0),
            decimal(99_999, 5, 2),
            decimal(10_i128.pow(38) - 1, 38, 0),
            decimal(10_i128.pow(38) - 1, 38, 10),
            Arc::new(StringArray::from(vec!["", "x", "1e999", "2020-13-40", "é"])),
            Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX])),
            Arc::new(TimestampSecondArray::from(vec![i64::MIN, i64::MAX])),
            Arc::new(TimestampNanosecondArray::from(vec![i64::MIN, i64::MAX])),
        ]
    }

    fn types() -> Vec<DataType> {
        let mut types: Vec<DataType> = extremes().iter().map(|a| a.data_type().clone()).collect();
        types.extend([
            DataType::Utf8View,
            DataType::Boolean,
            DataType::Decimal128(20, 0),
            DataType::Decimal128(12, 2),
        ]);
        types
    }

    #[test]
    fn no_extreme_value_fails_a_cast_that_is_let_through() {
        let mut allowed = 0;
        for values in extremes() {
            for to in types() {
                let from = values.data_type();
                for (safe, is_allowed) in [
                    (false, never_fails(from, &to)),
                    (true, try_never_fails(from, &to)),
                ] {
                    if !is_allowed {
                        continue;
                    }
                    allowed += 1;
                    let options = CastOptions {
                        safe,
                        ..Default::default()
                    };
                    let cast = cast_with_options(&values, &to, &options);
                    assert!(cast.is_ok(), "{from} to {to}, safe {safe}: {cast:?}");
                }
            }
        }
        assert!(allowed > 150, "{allowed}");
    }

    #[test]
    fn what_fails_on_extreme_values_is_not_let_through() {
        use DataType::{Date32, Float64, Int32, Int64, UInt64, Utf8};
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (from, to) in [
            (Utf8, Int64),
            (Utf8, Date32),
            (Int64, Int32),
            (UInt64, Int64),
            (Float64, Int64),
            (Date32, nanoseconds),
            (Date32, Utf8),
            (Int64, DataType::Decimal128(18, 0)),
        ] {
            assert!(!never_fails(&from, &to), "{from} to {to}");
        }
        assert!(!try_never_fails(&Date32, &Utf8));
        assert!(!try_never_fails(&Int32, &Date32));
    }
}
