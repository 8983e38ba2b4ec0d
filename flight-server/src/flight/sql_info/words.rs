//! The words that a statement can use, from the planner's own registries.

use std::collections::{BTreeMap, BTreeSet};

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use arrow_flight::sql::SqlSupportsConvert;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::keywords::{
    Keyword, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER, RESERVED_FOR_TABLE_ALIAS,
    RESERVED_FOR_TABLE_FACTOR,
};

/// Words that begin or name the statements offered, or that a name must not be without quotes.
pub fn keywords() -> Vec<String> {
    const STATEMENTS: [Keyword; 14] = [
        Keyword::CREATE,
        Keyword::DELETE,
        Keyword::DESCRIBE,
        Keyword::DROP,
        Keyword::EXPLAIN,
        Keyword::INSERT,
        Keyword::INTO,
        Keyword::REPLACE,
        Keyword::SELECT,
        Keyword::SHOW,
        Keyword::TABLE,
        Keyword::UPDATE,
        Keyword::VALUES,
        Keyword::VIEW,
    ];
    let words: BTreeSet<String> = STATEMENTS
        .iter()
        .chain(RESERVED_FOR_TABLE_ALIAS)
        .chain(RESERVED_FOR_COLUMN_ALIAS)
        .chain(RESERVED_FOR_TABLE_FACTOR)
        .chain(RESERVED_FOR_IDENTIFIER)
        .map(Keyword::to_string)
        .collect();
    words.into_iter().collect()
}

/// The kinds of functions that the protocol lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Numeric,
    Text,
    Time,
    /// All others: conditions, lists, hashes, aggregates, windows, tables, and the hub's own.
    Other,
}

/// The names, aliases included, of the functions of one kind that a statement can call.
pub fn functions(state: &SessionState, kind: Kind) -> Vec<String> {
    let scalars = state.scalar_functions().iter();
    let mut names: BTreeSet<String> = scalars
        .filter(|(_, function)| {
            let documented = function.documentation();
            kind == kind_of(documented.map_or("", |found| found.doc_section.label))
        })
        .map(|(name, _)| name.clone())
        .collect();
    if kind == Kind::Other {
        names.extend(state.aggregate_functions().keys().cloned());
        names.extend(state.window_functions().keys().cloned());
        names.extend(state.table_functions().keys().cloned());
    }
    names.into_iter().collect()
}

fn kind_of(section: &str) -> Kind {
    match section {
        "Math Functions" => Kind::Numeric,
        "String Functions" | "Binary String Functions" | "Regular Expression Functions" => {
            Kind::Text
        }
        "Time and Date Functions" => Kind::Time,
        _ => Kind::Other,
    }
}

/// From each type to the types that `CAST` turns it into.
pub fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as C;
    let types = [
        (C::SqlConvertBigint, DataType::Int64),
        (C::SqlConvertBinary, DataType::Binary),
        (C::SqlConvertBit, DataType::Boolean),
        (C::SqlConvertChar, DataType::Utf8),
        (C::SqlConvertDate, DataType::Date32),
        (C::SqlConvertDecimal, DataType::Decimal128(38, 10)),
        (C::SqlConvertFloat, DataType::Float32),
        (C::SqlConvertInteger, DataType::Int32),
        (
            C::SqlConvertIntervalDayTime,
            DataType::Interval(IntervalUnit::MonthDayNano),
        ),
        (
            C::SqlConvertIntervalYearMonth,
            DataType::Interval(IntervalUnit::MonthDayNano),
        ),
        (C::SqlConvertLongvarbinary, DataType::Binary),
        (C::SqlConvertLongvarchar, DataType::Utf8),
        (C::SqlConvertNumeric, DataType::Decimal128(38, 10)),
        (C::SqlConvertReal, DataType::Float32),
        (C::SqlConvertSmallint, DataType::Int16),
        (C::SqlConvertTime, DataType::Time64(TimeUnit::Nanosecond)),
        (
            C::SqlConvertTimestamp,
            DataType::Timestamp(TimeUnit::Nanosecond, None),
        ),
        (C::SqlConvertTinyint, DataType::Int8),
        (C::SqlConvertVarbinary, DataType::Binary),
        (C::SqlConvertVarchar, DataType::Utf8),
    ];
    let targets = |from: &DataType| {
        let fitting = types.iter().filter(|(_, to)| can_cast_types(from, to));
        fitting.map(|(code, _)| *code as i32).collect()
    };
    let each = types
        .iter()
        .map(|(code, from)| (*code as i32, targets(from)));
    each.collect()
}
