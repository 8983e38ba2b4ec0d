//! Functions that PostgreSQL and DuckDB have and DataFusion has not: differences of dates, the last
//! day of a month, texts without accents. None fails on a value, and none makes more than it is given.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Int64Array, IntervalMonthDayNanoArray, StringArray,
};
use arrow::datatypes::{
    DataType, Date32Type, IntervalMonthDayNano, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use arrow::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::scalar_doc_sections::{DOC_SECTION_DATETIME, DOC_SECTION_STRING};
use datafusion::logical_expr::{
    ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use crate::error::Error;

/// Names of these functions, sorted.
pub const NAMES: &[&str] = &["age", "date_diff", "last_day", "strip_accents"];

const MOMENT: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The functions, which no bound needs: their results are of fixed width, or no longer than a text.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    [
        Added::Age,
        Added::DateDiff,
        Added::LastDay,
        Added::StripAccents,
    ]
    .map(|kind| Arc::new(ScalarUDF::new_from_impl(Function::new(kind))))
    .into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Added {
    /// `age(end, start)`: years, months, days and time between two moments, as PostgreSQL counts.
    Age,
    /// `date_diff(part, start, end)`: boundaries of that part between two moments, as DuckDB counts.
    DateDiff,
    /// `last_day(date)`: the last day of its month.
    LastDay,
    /// `strip_accents(text)`: Latin letters without their marks.
    StripAccents,
}

impl Added {
    fn documentation(self) -> Documentation {
        let (section, what, syntax): (DocSection, _, _) = match self {
            Self::Age => (
                DOC_SECTION_DATETIME,
                "Years, months, days and time from `start` to `end`, as an interval.",
                "age(end, start)",
            ),
            Self::DateDiff => (
                DOC_SECTION_DATETIME,
                "How many boundaries of a part ('year', 'month', 'day' …) lie between two moments.",
                "date_diff(part, start, end)",
            ),
            Self::LastDay => (
                DOC_SECTION_DATETIME,
                "The last day of the month of a date.",
                "last_day(date)",
            ),
            Self::StripAccents => (
                DOC_SECTION_STRING,
                "The text with Latin letters without their accents.",
                "strip_accents(text)",
            ),
        };
        Documentation::builder(section, what, syntax).build()
    }
}

static DOCUMENTED: LazyLock<[Documentation; 4]> = LazyLock::new(|| {
    [
        Added::Age,
        Added::DateDiff,
        Added::LastDay,
        Added::StripAccents,
    ]
    .map(Added::documentation)
});

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    kind: Added,
    signature: Signature,
}

impl Function {
    fn new(kind: Added) -> Self {
        Self {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        NAMES[self.kind as usize]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let wanted: &[DataType] = match self.kind {
            Added::Age => &[MOMENT, MOMENT],
            Added::DateDiff => &[DataType::Utf8, MOMENT, MOMENT],
            Added::LastDay => &[DataType::Date32],
            Added::StripAccents => &[DataType::Utf8],
        };
        let fits = |(given, wanted): (&DataType, &DataType)| match given {
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
            DataType::Dictionary(_, values) => values.is_string() && wanted.is_string(),
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => !wanted.is_string(),
            _ => false,
        };
        if given.len() != wanted.len() || !given.iter().zip(wanted).all(fits) {
            let documented = &DOCUMENTED[self.kind as usize];
            let types: Vec<String> = given.iter().map(DataType::to_string).collect();
            return Err(Error::invalid(format!(
                "`{}` does not take ({}); write it as `{}`",
                self.name(),
                types.join(", "),
                documented.syntax_example
            ))
            .into());
        }
        Ok(wanted.to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Added::Age => DataType::Interval(IntervalUnit::MonthDayNano),
            Added::DateDiff => DataType::Int64,
            Added::LastDay => DataType::Date32,
            Added::StripAccents => DataType::Utf8,
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&DOCUMENTED[self.kind as usize])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let part = match (self.kind, args.args.first()) {
            (Added::DateDiff, Some(ColumnarValue::Scalar(part))) => match part.try_as_str() {
                Some(Some(part)) => Some(Part::of(part)?),
                _ => {
                    return Ok(ColumnarValue::Scalar(
                        datafusion::common::ScalarValue::Int64(None),
                    ));
                }
            },
            (Added::DateDiff, _) => {
                return exec_err!("the part of `date_diff` must be the same for all rows");
            }
            _ => None,
        };
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let made = self.made(&arrays, part);
        Ok(match is_constant {
            true => {
                ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&made, 0)?)
            }
            false => {
                debug_assert_eq!(made.len(), rows);
                ColumnarValue::Array(made)
            }
        })
    }
}

impl Function {
    fn made(&self, arrays: &[ArrayRef], part: Option<Part>) -> ArrayRef {
        let moments = |at: usize| arrays[at].as_primitive::<TimestampMicrosecondType>();
        match (self.kind, part) {
            (Added::Age, _) => {
                let pairs = moments(0).iter().zip(moments(1));
                let ages = pairs.map(|(end, start)| age(end?, start?));
                Arc::new(ages.collect::<IntervalMonthDayNanoArray>())
            }
            (Added::DateDiff, Some(part)) => {
                let pairs = moments(1).iter().zip(moments(2));
                let counts = pairs.map(|(start, end)| part.between(start?, end?));
                Arc::new(counts.collect::<Int64Array>())
            }
            (Added::DateDiff, None) => Arc::new(Int64Array::new_null(arrays[1].len())),
            (Added::LastDay, _) => {
                let days = arrays[0].as_primitive::<Date32Type>().iter();
                Arc::new(days.map(|day| last_day(day?)).collect::<Date32Array>())
            }
            (Added::StripAccents, _) => {
                let texts = arrays[0].as_string::<i32>().iter();
                Arc::new(
                    texts
                        .map(|text| text.map(stripped))
                        .collect::<StringArray>(),
                )
            }
        }
    }
}

/// A part of a moment that differences are counted in.
#[derive(Clone, Copy)]
enum Part {
    Microseconds(i64),
    Weeks,
    Months(i64),
}

impl Part {
    fn of(name: &str) -> Result<Self> {
        const SECOND: i64 = 1_000_000;
        let name = name.to_lowercase();
        Ok(match name.strip_suffix('s').unwrap_or(&name) {
            "microsecond" | "u" => Self::Microseconds(1),
            "millisecond" | "m" if name != "m" => Self::Microseconds(1_000),
            "second" => Self::Microseconds(SECOND),
            "minute" => Self::Microseconds(60 * SECOND),
            "hour" => Self::Microseconds(3_600 * SECOND),
            "day" => Self::Microseconds(86_400 * SECOND),
            "week" => Self::Weeks,
            "month" => Self::Months(1),
            "quarter" => Self::Months(3),
            "year" => Self::Months(12),
            "decade" => Self::Months(120),
            _ => {
                return Err(Error::invalid(format!(
                    "`{name}` is no part that `date_diff` counts; there are year, quarter, month, \
                     week, day, hour, minute, second, millisecond, microsecond and decade"
                ))
                .into());
            }
        })
    }

    /// Boundaries of the part from `start` to `end`; of weeks, as DuckDB has it, whole ones.
    fn between(self, start: i64, end: i64) -> Option<i64> {
        let between = self.number(end)?.checked_sub(self.number(start)?)?;
        Some(match self {
            Self::Weeks => between / 7,
            Self::Microseconds(_) | Self::Months(_) => between,
        })
    }

    /// The number of the part that a moment is in; of weeks, that of the day.
    fn number(self, moment: i64) -> Option<i64> {
        const DAY: i64 = 86_400_000_000;
        Some(match self {
            Self::Microseconds(unit) => moment.div_euclid(unit),
            Self::Weeks => moment.div_euclid(DAY),
            Self::Months(count) => {
                let date = timestamp_us_to_datetime(moment)?.date();
                (i64::from(date.year()) * 12 + i64::from(date.month0())).div_euclid(count)
            }
        })
    }
}

/// From `start` to `end`, field by field: a day is borrowed from the month of the earlier one.
fn age(end: i64, start: i64) -> Option<IntervalMonthDayNano> {
    let (late, early, sign) = match end >= start {
        true => (end, start, 1),
        false => (start, end, -1),
    };
    let (late, early) = (
        timestamp_us_to_datetime(late)?,
        timestamp_us_to_datetime(early)?,
    );
    let time = |moment: NaiveDateTime| moment.time().signed_duration_since(chrono::NaiveTime::MIN);
    let mut nanoseconds = (time(late) - time(early)).num_nanoseconds()?;
    let mut days = i64::from(late.day()) - i64::from(early.day());
    let months = |moment: NaiveDateTime| i64::from(moment.year()) * 12 + i64::from(moment.month0());
    let mut between = months(late) - months(early);
    if nanoseconds < 0 {
        nanoseconds += 86_400_000_000_000;
        days -= 1;
    }
    if days < 0 {
        days += i64::from(last_of(early.date())?.day());
        between -= 1;
    }
    let small = |number: i64| i32::try_from(number * sign).ok();
    Some(IntervalMonthDayNano::new(
        small(between)?,
        small(days)?,
        nanoseconds * sign,
    ))
}

fn last_of(date: NaiveDate) -> Option<NaiveDate> {
    let first = date.with_day(1)?;
    first
        .checked_add_months(Months::new(1))?
        .checked_sub_days(Days::new(1))
}

fn last_day(day: i32) -> Option<i32> {
    let date = date32_to_datetime(day)?.date();
    let days = last_of(date)?.signed_duration_since(date).num_days();
    day.checked_add(i32::try_from(days).ok()?)
}

/// Letters of Latin scripts (Latin-1 and Extended-A) by the letter that they are without marks, and
/// the marks that are characters of their own. Letters that are two, as `œ`, stay.
fn stripped(text: &str) -> String {
    const MARKED: [(char, &str); 32] = [
        ('A', "ÀÁÂÃÄÅĀĂĄ"),
        ('C', "ÇĆĈĊČ"),
        ('D', "Ď"),
        ('E', "ÈÉÊËĒĔĖĘĚ"),
        ('G', "ĜĞĠĢ"),
        ('H', "Ĥ"),
        ('I', "ÌÍÎÏĨĪĬĮİ"),
        ('J', "Ĵ"),
        ('K', "Ķ"),
        ('L', "ĹĻĽ"),
        ('N', "ÑŃŅŇ"),
        ('O', "ÒÓÔÕÖŌŎŐ"),
        ('R', "ŔŖŘ"),
        ('S', "ŚŜŞŠ"),
        ('T', "ŢŤ"),
        ('U', "ÙÚÛÜŨŪŬŮŰŲ"),
        ('a', "àáâãäåāăą"),
        ('c', "çćĉċč"),
        ('d', "ď"),
        ('e', "èéêëēĕėęě"),
        ('g', "ĝğġģ"),
        ('h', "ĥ"),
        ('i', "ìíîïĩīĭį"),
        ('j', "ĵ"),
        ('k', "ķ"),
        ('l', "ĺļľ"),
        ('n', "ñńņň"),
        ('o', "òóôõöōŏő"),
        ('r', "ŕŗř"),
        ('s', "śŝşš"),
        ('t', "ţť"),
        ('u', "ùúûüũūŭůűų"),
    ];
    const OTHERS: [(char, &str); 6] = [
        ('W', "Ŵ"),
        ('Y', "ÝŶŸ"),
        ('Z', "ŹŻŽ"),
        ('w', "ŵ"),
        ('y', "ýÿŷ"),
        ('z', "źżž"),
    ];
    if text.is_ascii() {
        return text.to_owned();
    }
    let plain = |character: char| {
        if character.is_ascii() {
            return character;
        }
        let mut known = MARKED.iter().chain(&OTHERS);
        let found = known.find(|(_, marked)| marked.contains(character));
        found.map_or(character, |(plain, _)| *plain)
    };
    let is_mark = |character: &char| ('\u{300}'..='\u{36f}').contains(character);
    text.chars()
        .filter(|character| !is_mark(character))
        .map(plain)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> i64 {
        let moment = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M");
        moment.expect(text).and_utc().timestamp_micros()
    }

    #[test]
    fn names_are_those_of_the_kinds() {
        assert!(NAMES.is_sorted());
        let names: Vec<_> = functions().iter().map(|it| it.name().to_owned()).collect();
        assert_eq!(names, NAMES);
    }

    /// PostgreSQL 16's answers.
    #[test]
    fn ages_are_those_of_postgresql() {
        for (end, start, months, days, hours) in [
            ("2024-06-01 00:00", "1950-01-31 00:00", 892, 1, 0),
            ("2024-06-01 00:00", "2023-01-15 00:00", 16, 17, 0),
            ("2024-03-01 00:00", "2024-02-29 12:00", 0, 0, 12),
            ("2024-03-30 00:00", "2024-02-29 00:00", 1, 1, 0),
            ("2023-01-15 00:00", "2024-06-01 00:00", -16, -17, 0),
            ("2024-01-01 00:00", "2024-01-01 00:00", 0, 0, 0),
        ] {
            let found = age(moment(end), moment(start)).expect("in range");
            let expected = IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000);
            assert_eq!(found, expected, "{end} {start}");
        }
        assert_eq!(age(i64::MAX, i64::MIN), None);
    }

    #[test]
    fn differences_count_boundaries() {
        let count = |part: &str, start: &str, end: &str| {
            let part = Part::of(part).expect(part);
            part.between(moment(start), moment(end)).expect("in range")
        };
        let (start, end) = ("2023-12-31 23:59", "2024-01-01 00:00");
        for part in ["year", "quarters", "month", "day", "Hour", "minute"] {
            let expected = i64::from(part != "decade");
            assert_eq!(count(part, start, end), expected, "{part}");
        }
        assert_eq!(
            (count("decade", start, end), count("week", start, end)),
            (0, 0)
        );
        assert_eq!(count("week", "2024-06-03 00:00", "1980-12-31 00:00"), -2265);
        assert_eq!(count("second", start, end), 60);
        assert_eq!(count("month", "2024-03-01 00:00", "2023-01-31 00:00"), -14);
        assert!(Part::of("fortnight").is_err() && Part::of("").is_err() && Part::of("s").is_err());
        assert_eq!(Part::Months(1).number(i64::MAX), None);
    }

    #[test]
    fn accents_go_and_letters_stay() {
        assert_eq!(
            stripped("Éloïse Noël, œdème à ÇŸ"),
            "Eloise Noel, œdeme a CY"
        );
        assert_eq!(stripped("e\u{301}te\u{301}"), "ete");
        assert_eq!(stripped("plain 12"), "plain 12");
        let day = NaiveDate::from_ymd_opt(2024, 2, 3).expect("a day");
        assert_eq!(last_of(day), NaiveDate::from_ymd_opt(2024, 2, 29));
        assert_eq!((last_day(0), last_day(i32::MAX)), (Some(30), None));
    }
}
