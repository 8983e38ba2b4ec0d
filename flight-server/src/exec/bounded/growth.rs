//! How large a function's result can be, reckoned from its arguments before it is made.

use std::ops::Range;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::SMALL_BYTES;
use super::join::{JOIN, SPREAD};
use super::sizes::{ELEMENT_BYTES, sizes};
use crate::error::Error;

/// A character in UTF-8.
const CHARACTER_BYTES_MAX: u64 = 4;
/// A number as text.
const NUMBER_CHARACTERS_MAX: u64 = 32;

/// How a result's size follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// `repeat(text, count)`
    Repeated,
    /// `array_repeat(element, count)`
    Elements,
    /// `lpad(text, characters, …)`
    Padded,
    /// `range(start, stop, step)`
    Series,
    /// `array_resize(list, count, element)`
    Resized,
    /// `concat(text, …)`
    Concatenated,
    /// `concat_ws(separator, text, …)`
    Separated,
    /// `array_to_string(list, separator, null)`
    Listed,
    /// `replace(text, from, to)`
    Replaced,
    /// `regexp_replace(text, pattern, to, flags)`
    Matched,
    /// `regexp_match(text, pattern)`
    Groups,
    /// `array_replace(list, from, to)`
    Substituted,
    /// `left || right`: what both have.
    Joined,
    /// A constant in every row.
    Spread,
    /// At most so many times what the arguments have together.
    Sum(u64),
    /// Nothing, but constants are copied into every row meanwhile.
    Scratch,
}

/// Functions whose values are of fixed width or few bytes, or are an argument's as it is: one of
/// them, a cast or a part of it, that is chosen by no constant's row. Sorted.
#[rustfmt::skip]
const NO_GROWTH: &[&str] = &[
    "abs", "acos", "acosh", "age", "array_avg", "array_dims", "array_distance", "array_has",
    "array_has_all", "array_has_any", "array_length", "array_ndims", "array_position",
    "array_product", "array_sum", "arrow_cast", "arrow_field", "arrow_metadata",
    "arrow_try_cast", "arrow_typeof", "ascii", "asin", "asinh", "atan", "atan2", "atanh",
    "bit_length", "cardinality", "cast_to_type", "cbrt", "ceil", "character_length", "chr",
    "coalesce", "contains", "cos", "cosh", "cosine_distance", "cot", "current_date",
    "current_time", "date_bin", "date_diff", "date_part", "date_trunc", "degrees", "digest", "empty",
    "ends_with", "exp", "factorial", "find_in_set", "floor", "from_unixtime", "gcd",
    "get_field", "inner_product", "isnan", "iszero", "last_day", "lcm", "levenshtein", "ln", "log", "log10",
    "log2", "make_date", "make_time", "md5", "nanvl", "now", "nvl", "nvl2", "octet_length",
    "pi", "power", "radians", "random", "regexp_count", "regexp_instr", "regexp_like", "round",
    "sha224", "sha256", "sha384", "sha512", "signum", "sin", "sinh", "sqrt", "starts_with",
    "strpos", "tan", "tanh", "to_date", "to_hex", "to_local_time", "to_time", "to_timestamp",
    "to_timestamp_micros", "to_timestamp_millis", "to_timestamp_nanos",
    "to_timestamp_seconds", "to_unixtime", "trunc", "try_cast_to_type", "union_extract",
    "union_tag", "uuid", "version",
];
/// A character of a text as a text of its own, or of a format as what it stands for.
const LARGE_FACTOR: u64 = 16;
/// What else functions make of their arguments: bytes in hexadecimal, letters in capitals.
const USUAL_FACTOR: u64 = 4;

impl Growth {
    /// None for a function that makes nothing of variable size. What nobody decided upon grows.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "repeat" => Self::Repeated,
            "array_repeat" => Self::Elements,
            "lpad" | "rpad" => Self::Padded,
            "range" | "generate_series" => Self::Series,
            "array_resize" => Self::Resized,
            "concat" => Self::Concatenated,
            "concat_ws" => Self::Separated,
            "array_to_string" => Self::Listed,
            "replace" => Self::Replaced,
            "regexp_replace" => Self::Matched,
            "regexp_match" => Self::Groups,
            "array_replace" | "array_replace_all" | "array_replace_n" => Self::Substituted,
            JOIN => Self::Joined,
            "arrays_zip" | "array_positions" | "string_to_array" | "to_char" => {
                Self::Sum(LARGE_FACTOR)
            }
            SPREAD => Self::Spread,
            "make_array" | "map" | "named_struct" | "struct" => Self::Sum(1),
            name if NO_GROWTH.contains(&name) => return None,
            _ => Self::Sum(USUAL_FACTOR),
        })
    }

    /// False where the reckoned size is a bound that values seldom come near: then more is
    /// allowed beforehand, and the values are measured afterwards.
    pub(super) fn is_close(self) -> bool {
        !matches!(
            self,
            Self::Listed
                | Self::Replaced
                | Self::Matched
                | Self::Groups
                | Self::Substituted
                | Self::Spread
                | Self::Scratch
                | Self::Sum(_)
        )
    }

    /// True where the result is small whatever the values are.
    pub(super) fn is_small(self, args: &ScalarFunctionArgs) -> bool {
        if args.return_type().primitive_width().is_some() && self != Self::Scratch {
            return true;
        }
        let factor = match self {
            Self::Sum(factor) => factor,
            Self::Joined | Self::Concatenated | Self::Spread | Self::Scratch => 1,
            _ => return false,
        };
        let bytes = |value: &ColumnarValue| match value {
            ColumnarValue::Array(array) => array.get_array_memory_size(),
            ColumnarValue::Scalar(scalar) => scalar.size().saturating_mul(args.number_rows),
        };
        let bytes = args.args.iter().map(bytes).fold(0, usize::saturating_add) as u64;
        bytes.saturating_mul(factor) <= SMALL_BYTES
    }
}

/// The arguments of one call, read row by row.
pub(super) struct Arguments<'a> {
    pub(super) values: &'a [ColumnarValue],
    pub(super) rows: usize,
}

impl Arguments<'_> {
    /// For each row, bytes that its result does not exceed.
    pub(super) fn bounds(&self, growth: Growth) -> Result<Vec<u64>> {
        match growth {
            Growth::Repeated => self.repeated(0),
            Growth::Elements => self.repeated(ELEMENT_BYTES),
            Growth::Padded => {
                let characters = self.counts(1)?;
                let bytes = |count: &u64| count.saturating_mul(CHARACTER_BYTES_MAX);
                Ok(characters.iter().map(bytes).collect())
            }
            Growth::Series => self.series(),
            Growth::Resized => self.resized(),
            Growth::Concatenated => self.sum(0..self.values.len()),
            Growth::Separated => {
                let separators = self.values.len().saturating_sub(2) as u64;
                let joined = self.sum(1..self.values.len())?;
                let bytes =
                    |(all, one): (u64, u64)| all.saturating_add(separators.saturating_mul(one));
                Ok(joined.into_iter().zip(self.bytes(0)?).map(bytes).collect())
            }
            Growth::Listed => self.listed(),
            Growth::Replaced => self.replaced(),
            Growth::Matched => self.matched(),
            Growth::Groups => self.groups(),
            Growth::Substituted => self.substituted(),
            Growth::Joined | Growth::Spread => self.sum(0..self.values.len()),
            Growth::Scratch => self.constants(),
            Growth::Sum(factor) => {
                let own = ELEMENT_BYTES.saturating_mul(self.values.len() as u64);
                let sums = self.sum(0..self.values.len())?.into_iter();
                let bytes = |sum: u64| sum.saturating_mul(factor).saturating_add(own);
                Ok(sums.map(bytes).collect())
            }
        }
    }

    /// Bytes of the largest value of all arguments.
    pub(super) fn largest(&self) -> Result<u64> {
        let mut largest = 0;
        for index in 0..self.values.len() {
            largest = self.bytes(index)?.into_iter().fold(largest, u64::max);
        }
        Ok(largest)
    }

    /// A group begins with a parenthesis and is at most the text.
    fn groups(&self) -> Result<Vec<u64>> {
        let texts = self.bytes(0)?.into_iter();
        let bytes =
            |(text, pattern): (u64, u64)| (text + ELEMENT_BYTES).saturating_mul(pattern / 2 + 1);
        Ok(texts.zip(self.bytes(1)?).map(bytes).collect())
    }

    /// As if every element were replaced.
    fn substituted(&self) -> Result<Vec<u64>> {
        let lists = self.bytes(0)?.into_iter();
        let bytes = |(list, to): (u64, u64)| {
            list.saturating_add((list / ELEMENT_BYTES).saturating_mul(to + ELEMENT_BYTES))
        };
        Ok(lists.zip(self.bytes(2)?).map(bytes).collect())
    }

    /// Count times size, of which each copy takes `more` beside its own bytes.
    fn repeated(&self, more: u64) -> Result<Vec<u64>> {
        let sizes = self.bytes(0)?.into_iter();
        let bytes = |(size, count): (u64, u64)| size.saturating_add(more).saturating_mul(count);
        Ok(sizes.zip(self.counts(1)?).map(bytes).collect())
    }

    fn resized(&self) -> Result<Vec<u64>> {
        let fill = match self.values.len() {
            0..=2 => vec![ELEMENT_BYTES; self.rows],
            _ => self.bytes(2)?,
        };
        let added = fill.into_iter().zip(self.counts(1)?);
        let added =
            added.map(|(fill, count)| fill.saturating_add(ELEMENT_BYTES).saturating_mul(count));
        let sums = added.zip(self.bytes(0)?);
        Ok(sums
            .map(|(added, list)| added.saturating_add(list))
            .collect())
    }

    fn sum(&self, indices: Range<usize>) -> Result<Vec<u64>> {
        let mut sums = vec![0_u64; self.rows];
        for index in indices {
            for (sum, bytes) in sums.iter_mut().zip(self.bytes(index)?) {
                *sum = sum.saturating_add(bytes);
            }
        }
        Ok(sums)
    }

    /// Bytes of constants that a call goes through, once for each row.
    pub(super) fn bytes_read(&self) -> u64 {
        let constants = self.values.iter().map(|value| match value {
            ColumnarValue::Scalar(scalar) => scalar.size() as u64,
            ColumnarValue::Array(_) => 0,
        });
        let each = constants.fold(0, u64::saturating_add);
        each.saturating_mul(self.rows as u64)
    }

    /// Pairs of bytes of the first two arguments, of all rows together.
    pub(super) fn pairs(&self) -> Result<u64> {
        let pairs = self.bytes(0)?.into_iter().zip(self.bytes(1)?);
        let pairs = pairs.map(|(one, other)| one.saturating_mul(other));
        Ok(pairs.fold(0, u64::saturating_add))
    }

    /// What the constants have together.
    fn constants(&self) -> Result<Vec<u64>> {
        let mut sum = 0_u64;
        for value in self.values {
            if let ColumnarValue::Scalar(scalar) = value {
                sum = sum.saturating_add(scalar.size() as u64);
            }
        }
        Ok(vec![sum; self.rows])
    }

    /// Every element is as long as a number, or as its own text, and a separator or the text
    /// for NULL follows.
    fn listed(&self) -> Result<Vec<u64>> {
        let rows = self.bytes(0)?.into_iter();
        let words = self.bytes(1)?.into_iter().zip(self.bytes(2)?);
        let bytes = |(list, (separator, null)): (u64, (u64, u64))| {
            let each = NUMBER_CHARACTERS_MAX + separator + null;
            list.saturating_add((list / ELEMENT_BYTES).saturating_mul(each))
        };
        Ok(rows.zip(words).map(bytes).collect())
    }

    /// As if the whole text were what is replaced; an empty one is found between all characters.
    fn replaced(&self) -> Result<Vec<u64>> {
        let texts = self.bytes(0)?.into_iter();
        let words = self.bytes(1)?.into_iter().zip(self.bytes(2)?);
        let bytes = |(text, (from, to)): (u64, (u64, u64))| {
            let found = text / from.max(1) + 1;
            text.saturating_add(found.saturating_mul(to))
        };
        Ok(texts.zip(words).map(bytes).collect())
    }

    /// As if a match began at every character. A reference to a group takes two characters of
    /// the replacement and brings at most its match, and the matches are together the text.
    fn matched(&self) -> Result<Vec<u64>> {
        let texts = self.bytes(0)?.into_iter();
        let bytes = |(text, to): (u64, u64)| {
            let made = (text + 1).saturating_mul(to).saturating_mul(2);
            text.saturating_add(made)
        };
        Ok(texts.zip(self.bytes(2)?).map(bytes).collect())
    }

    fn series(&self) -> Result<Vec<u64>> {
        let first = self.values.first().map(ColumnarValue::data_type);
        let elements = match first.as_ref().and_then(nanoseconds) {
            Some(unit) => self.instants(unit)?,
            None => self.numbers()?,
        };
        let bytes = |count: u128| u64::try_from(count.saturating_mul(8)).unwrap_or(u64::MAX);
        Ok(elements.into_iter().map(bytes).collect())
    }

    /// Elements of `range(stop)`, `range(start, stop)` and `range(start, stop, step)`.
    fn numbers(&self) -> Result<Vec<u128>> {
        let zeros = || vec![Some(0); self.rows];
        let ones = || vec![Some(1); self.rows];
        let (starts, stops, steps) = match self.values.len() {
            0 => return Ok(vec![0; self.rows]),
            1 => (zeros(), self.integers(0)?, ones()),
            2 => (self.integers(0)?, self.integers(1)?, ones()),
            _ => (self.integers(0)?, self.integers(1)?, self.integers(2)?),
        };
        let rows = starts.into_iter().zip(stops).zip(steps);
        let count = |((start, stop), step): ((Option<i64>, Option<i64>), Option<i64>)| {
            let (Some(start), Some(stop), Some(step)) = (start, stop, step) else {
                return 0;
            };
            // A step of zero or away from the end makes nothing, or the function's own error.
            let towards = i128::from(stop) - i128::from(start);
            if step == 0 || (towards != 0 && (towards > 0) != (step > 0)) {
                return 0;
            }
            towards.unsigned_abs() / u128::from(step.unsigned_abs()) + 1
        };
        Ok(rows.map(count).collect())
    }

    /// Elements between two dates or times, of which `unit` nanoseconds are one.
    fn instants(&self, unit: i128) -> Result<Vec<u128>> {
        let (starts, stops) = (self.integers(0)?, self.integers(1)?);
        let steps = self.steps(2)?;
        let rows = starts.into_iter().zip(stops).zip(steps);
        let count = |((start, stop), step): ((Option<i64>, Option<i64>), u128)| match (start, stop)
        {
            (Some(start), Some(stop)) if step > 0 => {
                let between = (i128::from(stop) - i128::from(start)) * unit;
                between.unsigned_abs() / step + 2
            }
            _ => 0,
        };
        Ok(rows.map(count).collect())
    }

    /// The shortest time, in nanoseconds, that each row's interval can be; 0 for NULL.
    fn steps(&self, index: usize) -> Result<Vec<u128>> {
        let Some(value) = self.values.get(index) else {
            return Ok(vec![0; self.rows]);
        };
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let steps = cast(&value.to_array(self.rows)?, &interval)?;
        let steps = steps.as_primitive::<IntervalMonthDayNanoType>();
        steps
            .iter()
            .map(|step| step.map_or(Ok(0), shortest))
            .collect()
    }

    /// Counts; NULL and what is negative make nothing.
    fn counts(&self, index: usize) -> Result<Vec<u64>> {
        let counts = self.integers(index)?.into_iter();
        let count = |count: Option<i64>| u64::try_from(count.unwrap_or(0)).unwrap_or(0);
        Ok(counts.map(count).collect())
    }

    fn integers(&self, index: usize) -> Result<Vec<Option<i64>>> {
        let Some(value) = self.values.get(index) else {
            return Ok(vec![None; self.rows]);
        };
        let array = value.to_array(self.rows)?;
        let integers = cast(&array, &DataType::Int64)?;
        let integers = integers.as_primitive::<Int64Type>();
        let integer = |row: usize| match (array.is_null(row), integers.is_null(row)) {
            (true, _) => None,
            // What is too large for the cast is too large for anything.
            (false, true) => Some(i64::MAX),
            (false, false) => Some(integers.value(row)),
        };
        Ok((0..array.len()).map(integer).collect())
    }

    fn bytes(&self, index: usize) -> Result<Vec<u64>> {
        match self.values.get(index) {
            None => Ok(vec![0; self.rows]),
            Some(ColumnarValue::Array(array)) => sizes(array),
            Some(ColumnarValue::Scalar(scalar)) => {
                let bytes = match scalar.try_as_str() {
                    Some(text) => text.map_or(0, |text| text.len() as u64),
                    None => sizes(&scalar.to_array()?)?.into_iter().max().unwrap_or(0),
                };
                Ok(vec![bytes; self.rows])
            }
        }
    }
}

/// The shortest that an interval can be. One whose parts point both ways may stand still, and
/// a series of such steps would not end.
fn shortest(step: IntervalMonthDayNano) -> Result<u128> {
    const HOUR: u128 = 3_600_000_000_000;
    // Where clocks are put forward a day has 23 hours, and February has 28 days.
    const DAY: u128 = 23 * HOUR;
    const MONTH: u128 = 27 * 24 * HOUR;
    let signs = [
        i64::from(step.months.signum()),
        i64::from(step.days.signum()),
        step.nanoseconds.signum(),
    ];
    if signs.contains(&1) && signs.contains(&-1) {
        return Err(Error::invalid(
            "the step of a series has parts of both signs; write it with one sign",
        )
        .into());
    }
    Ok(u128::from(step.months.unsigned_abs()) * MONTH
        + u128::from(step.days.unsigned_abs()) * DAY
        + u128::from(step.nanoseconds.unsigned_abs()))
}

/// Nanoseconds of one unit of a date or time.
fn nanoseconds(data_type: &DataType) -> Option<i128> {
    Some(match data_type {
        DataType::Date32 => 86_400_000_000_000,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 1_000_000,
        DataType::Timestamp(TimeUnit::Second, _) => 1_000_000_000,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 1_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 1,
        _ => return None,
    })
}
