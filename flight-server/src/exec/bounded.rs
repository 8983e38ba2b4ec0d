//! Functions whose result can be far larger than what they are given. A count or a replacement
//! of a few characters asks for gigabytes, and constants are computed while a statement is
//! planned, in no memory pool: so the size is reckoned before anything is made.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::compute::{cast, concat};
use arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    TimeUnit,
};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use crate::error::Error;

/// Size of one value that a function may make.
pub const VALUE_BYTES_MAX: u64 = 16 << 20;
/// What one call may make at most at a time. A batch that could be larger is made in parts.
const PART_BYTES_MAX: u64 = 256 << 20;
/// What all parts of a batch may be together.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// What an element takes in a list beside its own bytes.
const ELEMENT_BYTES: u64 = 8;
/// A character in UTF-8.
const CHARACTER_BYTES_MAX: u64 = 4;
/// A number as text.
const NUMBER_CHARACTERS_MAX: u64 = 32;

/// How a result's size follows from the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Growth {
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
}

impl Growth {
    fn of(name: &str) -> Option<Self> {
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
            _ => return None,
        })
    }

    /// False where the reckoned size is a bound that values seldom come near: then more is
    /// allowed beforehand, and the values are measured afterwards.
    fn is_close(self) -> bool {
        !matches!(self, Self::Listed | Self::Replaced | Self::Matched)
    }
}

/// The function, or one that refuses to make more than it may.
pub fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match Growth::of(function.name()) {
        None => function,
        Some(growth) => Arc::new(ScalarUDF::new_from_impl(Bounded {
            inner: function,
            growth,
        })),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
}

/// What is not here has the trait's default on purpose: a simplification by the inner function
/// would put that one, which has no bound, in this one's place.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_array = |value: &ColumnarValue| matches!(value, ColumnarValue::Array(_));
        let rows = match args.args.iter().any(is_array) {
            true => args.number_rows,
            false => 1,
        };
        let arguments = Arguments {
            values: &args.args,
            rows,
        };
        let bounds = arguments.bounds(self.growth)?;
        let largest = bounds.iter().copied().max().unwrap_or(0);
        let allowed = match self.growth.is_close() {
            true => VALUE_BYTES_MAX,
            false => PART_BYTES_MAX,
        };
        if largest > allowed {
            return Err(self.too_large(largest));
        }
        let parts = parts(&bounds);
        let made = match parts.len() {
            0 | 1 => self.inner.invoke_with_args(args)?,
            _ => self.invoke_in_parts(&args, &parts)?,
        };
        if largest > VALUE_BYTES_MAX {
            let made = made.to_array(rows)?;
            let largest = sizes(&made)?.into_iter().max().unwrap_or(0);
            if largest > VALUE_BYTES_MAX {
                return Err(self.too_large(largest));
            }
        }
        Ok(made)
    }
}

impl Bounded {
    fn too_large(&self, bytes: u64) -> datafusion::error::DataFusionError {
        Error::exhausted(format!(
            "`{}` could make a value of {bytes} bytes and at most {VALUE_BYTES_MAX} are made; \
             ask for less",
            self.name()
        ))
        .into()
    }

    fn invoke_in_parts(
        &self,
        args: &ScalarFunctionArgs,
        parts: &[Range<usize>],
    ) -> Result<ColumnarValue> {
        let mut made: Vec<ArrayRef> = Vec::with_capacity(parts.len());
        let mut bytes = 0_u64;
        for part in parts {
            let slice = |value: &ColumnarValue| match value {
                ColumnarValue::Array(array) => {
                    ColumnarValue::Array(array.slice(part.start, part.len()))
                }
                scalar => scalar.clone(),
            };
            let part_args = ScalarFunctionArgs {
                args: args.args.iter().map(slice).collect(),
                number_rows: part.len(),
                ..args.clone()
            };
            let array = self
                .inner
                .invoke_with_args(part_args)?
                .into_array(part.len())?;
            bytes = sizes(&array)?.into_iter().fold(bytes, u64::saturating_add);
            if bytes > BATCH_BYTES_MAX {
                return Err(Error::exhausted(format!(
                    "`{}` would make more than {BATCH_BYTES_MAX} bytes of {} rows; ask for less",
                    self.name(),
                    args.number_rows
                ))
                .into());
            }
            made.push(array);
        }
        let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&made)?))
    }
}

/// Cuts rows so that each part stays below [`PART_BYTES_MAX`], if each row does.
fn parts(bounds: &[u64]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0_u64);
    for (row, bound) in bounds.iter().enumerate() {
        let sum = bytes.saturating_add(*bound);
        if sum > PART_BYTES_MAX && row > start {
            parts.push(start..row);
            (start, bytes) = (row, *bound);
        } else {
            bytes = sum;
        }
    }
    if start < bounds.len() {
        parts.push(start..bounds.len());
    }
    parts
}

/// The arguments of one call, read row by row.
struct Arguments<'a> {
    values: &'a [ColumnarValue],
    rows: usize,
}

impl Arguments<'_> {
    /// For each row, bytes that its result does not exceed.
    fn bounds(&self, growth: Growth) -> Result<Vec<u64>> {
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
        }
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

/// Bytes of each value: of texts their length, of lists what their elements take, and of what
/// is not told apart here the whole array's, which is no less.
fn sizes(array: &ArrayRef) -> Result<Vec<u64>> {
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
        DataType::Struct(_) => {
            let mut sums = vec![0_u64; rows];
            for column in array.as_struct().columns() {
                for (sum, bytes) in sums.iter_mut().zip(sizes(column)?) {
                    *sum = sum.saturating_add(bytes);
                }
            }
            sums
        }
        DataType::Dictionary(_, values) => sizes(&cast(array, values)?)?,
        other => {
            let width = other.primitive_width();
            vec![width.unwrap_or_else(|| array.get_array_memory_size()) as u64; rows]
        }
    })
}

fn lengths(lengths: impl Iterator<Item = u64>) -> Vec<u64> {
    lengths.collect()
}

fn list_sizes<O: OffsetSizeTrait>(list: &arrow::array::GenericListArray<O>) -> Result<Vec<u64>> {
    let offsets = list
        .offsets()
        .windows(2)
        .map(|ends| (ends[0].as_usize(), ends[1].as_usize()));
    if let Some(width) = list.values().data_type().primitive_width() {
        // Millions of samples are no reason to make millions of sums.
        let each = width as u64 + ELEMENT_BYTES;
        return Ok(offsets
            .map(|(from, to)| (to - from) as u64 * each)
            .collect());
    }
    let mut sums = vec![0_u64];
    let mut sum = 0_u64;
    for bytes in sizes(list.values())? {
        sum = sum.saturating_add(bytes).saturating_add(ELEMENT_BYTES);
        sums.push(sum);
    }
    Ok(offsets
        .map(|(from, to)| sums[to].saturating_sub(sums[from]))
        .collect())
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::error::ErrorKind;
    use crate::exec::functions::with_permitted_functions;

    fn session() -> SessionContext {
        let builder = with_permitted_functions(SessionStateBuilder::new());
        SessionContext::new_with_state(builder.build())
    }

    async fn one(sql: &str) -> crate::error::Result<String> {
        let context = session();
        let batches = context.sql(sql).await?.collect().await?;
        let column = batches[0].column(0);
        let shown = arrow::util::display::array_value_to_string(column, 0)?;
        Ok(shown)
    }

    #[tokio::test]
    async fn what_would_be_too_large_is_refused_before_it_is_made() {
        for sql in [
            "SELECT octet_length(repeat('x', 2000000000))",
            "SELECT octet_length(repeat(v, 100000000)) FROM (VALUES ('ab'), ('c')) t(v)",
            "SELECT octet_length(lpad('x', 2147483647, 'y'))",
            "SELECT octet_length(rpad('x', 2147483647))",
            "SELECT cardinality(range(0, 2000000000))",
            "SELECT cardinality(range(2000000000))",
            "SELECT cardinality(generate_series(9223372036854775807, 0, -3))",
            "SELECT cardinality(range(TIMESTAMP '2020-01-01', TIMESTAMP '2021-01-01', INTERVAL '1 millisecond'))",
            "SELECT cardinality(generate_series(DATE '0001-01-01', DATE '9999-01-01', INTERVAL '1 day')) + cardinality(range(10000000))",
            "SELECT cardinality(array_repeat(1, 2000000000))",
            "SELECT cardinality(array_repeat('', 2000000000))",
            "SELECT cardinality(list_repeat(array_repeat(1, 100000), 100000))",
            "SELECT cardinality(array_resize([1], 2000000000, 7))",
            "SELECT octet_length(replace(repeat('x', 1000000), 'x', repeat('y', 1000000)))",
            "SELECT octet_length(regexp_replace(repeat('x', 1000000), 'x', repeat('y', 1000000), 'g'))",
            "SELECT octet_length(regexp_replace(repeat('x', 4000000), '.', 'yyyyyyyy', 'g'))",
            "SELECT octet_length(concat(v, v, v)) FROM (SELECT repeat('x', 10000000) AS v)",
            "SELECT octet_length(concat_ws(v, '', '', '')) FROM (SELECT repeat('x', 10000000) AS v)",
            "SELECT octet_length(array_to_string(range(1000000), repeat('x', 1000000)))",
        ] {
            let error = one(sql).await.expect_err(sql);
            assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{sql}: {error}");
        }
        let both_ways =
            "SELECT range(DATE '2020-01-01', DATE '2020-02-01', INTERVAL '1 month -31 days')";
        let error = one(both_ways).await.expect_err(both_ways);
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }

    #[tokio::test]
    async fn what_is_of_usual_size_is_made() {
        for (sql, expected) in [
            ("SELECT repeat('ab', 3)", "ababab"),
            ("SELECT octet_length(repeat('x', 16777216))", "16777216"),
            ("SELECT repeat('x', -1)", ""),
            ("SELECT repeat(NULL, 3) IS NULL", "true"),
            ("SELECT lpad('7', 3, '0')", "007"),
            ("SELECT rpad('é', 3, 'à')", "éàà"),
            ("SELECT range(3)", "[0, 1, 2]"),
            ("SELECT range(3, 0)", "[]"),
            ("SELECT generate_series(5, 1, -2)", "[5, 3, 1]"),
            (
                "SELECT cardinality(range(DATE '2020-01-01', DATE '2021-01-01', INTERVAL '1 month'))",
                "12",
            ),
            (
                "SELECT cardinality(generate_series(DATE '1900-01-01', DATE '2100-01-01', INTERVAL '1 day'))",
                "73050",
            ),
            ("SELECT array_repeat('x', 2)", "[x, x]"),
            ("SELECT array_resize([1], 2, 7)", "[1, 7]"),
            ("SELECT replace('aXbX', 'X', '--')", "a--b--"),
            (
                "SELECT regexp_replace('a1b2', '([0-9])', '<\\1>', 'g')",
                "a<1>b<2>",
            ),
            ("SELECT concat('a', NULL, 'b')", "ab"),
            ("SELECT concat_ws('-', 'a', NULL, 'b')", "a-b"),
            ("SELECT array_to_string([1, NULL, 3], ',', '?')", "1,?,3"),
            (
                "SELECT sum(octet_length(regexp_replace(repeat('x', 50000), 'y', 'zz', 'g') || v)) FROM (SELECT CAST(value AS TEXT) AS v FROM range(5000))",
                "250018890",
            ),
        ] {
            assert_eq!(one(sql).await.expect(sql), expected, "{sql}");
        }
    }

    #[test]
    fn rows_are_cut_where_they_could_be_too_much() {
        assert!(parts(&[]).is_empty());
        let whole = 0_usize..3;
        assert_eq!(parts(&[1, 2, 3]), [whole]);
        let half = PART_BYTES_MAX / 2 + 1;
        assert_eq!(parts(&[half, half, 1, half]), [0_usize..1, 1..3, 3..4]);
    }

    #[tokio::test]
    async fn a_batch_that_is_made_in_parts_is_the_same() {
        let sql = "SELECT sum(octet_length(regexp_replace(t, '^a', '0123456789', 'g'))) FROM \
                   (SELECT repeat('a', 10000) || value AS t FROM range(10000))";
        // 10 000 texts of 10 000 letters and a number, of which one letter became ten.
        assert_eq!(one(sql).await.expect(sql), "100128890");
    }
}
