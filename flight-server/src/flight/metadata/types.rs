//! The SQL types of the hub, for GetXdbcTypeInfo.
//!
//! Lists and structs have no entry: JDBC and ODBC know no parameterless name for them.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};

use crate::error::{Error, Result};

/// Digits of the widest decimal (Arrow's Decimal256).
const DECIMAL_DIGITS_MAX: i32 = 76;

/// The types with the SQL data type `data_type`, or all.
pub fn answer(data_type: Option<i32>) -> Result<RecordBatch> {
    data()
        .and_then(|data| data.record_batch(data_type))
        .map_err(unlisted)
}

pub fn layout() -> Result<SchemaRef> {
    Ok(data().map_err(unlisted)?.schema())
}

fn unlisted(error: FlightError) -> Error {
    Error::internal("the list of types cannot be built", &error)
}

fn data() -> Result<XdbcTypeInfoData, FlightError> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    let all = exact().chain(approximate()).chain(texts()).chain(times());
    for info in all {
        builder.append(info);
    }
    builder.build()
}

fn plain(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type,
        sql_data_type: data_type,
        local_type_name: Some(name.into()),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    }
}

/// Integers and decimals: sizes in decimal digits.
fn exact() -> impl Iterator<Item = XdbcTypeInfo> {
    use XdbcDataType::{
        XdbcBigint, XdbcDecimal, XdbcInteger, XdbcNumeric, XdbcSmallint, XdbcTinyint,
    };
    let integers = [
        ("TINYINT", XdbcTinyint, 3),
        ("TINYINT UNSIGNED", XdbcTinyint, 3),
        ("SMALLINT", XdbcSmallint, 5),
        ("SMALLINT UNSIGNED", XdbcSmallint, 5),
        ("INTEGER", XdbcInteger, 10),
        ("INTEGER UNSIGNED", XdbcInteger, 10),
        ("BIGINT", XdbcBigint, 19),
        ("BIGINT UNSIGNED", XdbcBigint, 20),
    ];
    let integers = integers.map(|(name, data_type, digits)| XdbcTypeInfo {
        unsigned_attribute: Some(name.ends_with("UNSIGNED")),
        maximum_scale: Some(0),
        ..number(name, data_type, digits, 10)
    });
    let decimals = [("DECIMAL", XdbcDecimal), ("NUMERIC", XdbcNumeric)];
    let decimals = decimals.map(|(name, data_type)| XdbcTypeInfo {
        create_params: Some(vec!["precision".into(), "scale".into()]),
        maximum_scale: Some(DECIMAL_DIGITS_MAX),
        ..number(name, data_type, DECIMAL_DIGITS_MAX, 10)
    });
    integers.into_iter().chain(decimals)
}

/// Floats: sizes in bits of the significand.
fn approximate() -> impl Iterator<Item = XdbcTypeInfo> {
    use XdbcDataType::{XdbcDouble, XdbcReal};
    let floats = [
        ("REAL", XdbcReal, 24),
        ("FLOAT", XdbcReal, 24),
        ("DOUBLE", XdbcDouble, 53),
    ];
    let floats = floats.map(|(name, data_type, bits)| XdbcTypeInfo {
        minimum_scale: None,
        ..number(name, data_type, bits, 2)
    });
    let boolean = XdbcTypeInfo {
        column_size: Some(1),
        ..plain("BOOLEAN", XdbcDataType::XdbcBit)
    };
    floats.into_iter().chain([boolean])
}

fn number(name: &str, data_type: XdbcDataType, size: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(size),
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        minimum_scale: Some(0),
        num_prec_radix: Some(radix),
        ..plain(name, data_type)
    }
}

fn texts() -> impl Iterator<Item = XdbcTypeInfo> {
    use XdbcDataType::{XdbcChar, XdbcLongvarchar, XdbcVarbinary, XdbcVarchar};
    let texts = [
        ("CHAR", XdbcChar),
        ("VARCHAR", XdbcVarchar),
        ("STRING", XdbcVarchar),
        ("TEXT", XdbcLongvarchar),
    ];
    let texts = texts.map(|(name, data_type)| XdbcTypeInfo {
        // Lengths are not enforced, so a text is bounded by what Arrow can address.
        column_size: Some(i32::MAX),
        case_sensitive: true,
        ..quoted(name, data_type, "'")
    });
    let bytes = XdbcTypeInfo {
        column_size: Some(i32::MAX),
        ..quoted("BYTEA", XdbcVarbinary, "X'")
    };
    texts.into_iter().chain([bytes])
}

fn times() -> impl Iterator<Item = XdbcTypeInfo> {
    use XdbcDataType::{XdbcDate, XdbcDatetime, XdbcInterval, XdbcTime, XdbcTimestamp};
    use XdbcDatetimeSubcode::{
        XdbcSubcodeTime, XdbcSubcodeTimestamp, XdbcSubcodeTimestampWithTimezone,
        XdbcSubcodeUnknown, XdbcSubcodeYear,
    };
    const NANOSECONDS: i32 = 9;
    // ODBC's code 1 is the date; the protocol calls it both date and year.
    let date = XdbcTypeInfo {
        column_size: Some(10),
        sql_data_type: XdbcDatetime,
        datetime_subcode: Some(XdbcSubcodeYear),
        ..quoted("DATE", XdbcDate, "DATE '")
    };
    let instants = [
        ("TIME", XdbcTime, 18, "TIME '", XdbcSubcodeTime),
        (
            "TIMESTAMP",
            XdbcTimestamp,
            29,
            "TIMESTAMP '",
            XdbcSubcodeTimestamp,
        ),
        (
            "TIMESTAMP WITH TIME ZONE",
            XdbcTimestamp,
            35,
            "TIMESTAMP WITH TIME ZONE '",
            XdbcSubcodeTimestampWithTimezone,
        ),
    ];
    let instants = instants.map(
        |(name, data_type, characters, prefix, subcode)| XdbcTypeInfo {
            column_size: Some(characters),
            sql_data_type: XdbcDatetime,
            datetime_subcode: Some(subcode),
            minimum_scale: Some(0),
            maximum_scale: Some(NANOSECONDS),
            ..quoted(name, data_type, prefix)
        },
    );
    // Months, days and nanoseconds in one, which no subcode of ODBC names.
    let interval = XdbcTypeInfo {
        datetime_subcode: Some(XdbcSubcodeUnknown),
        ..quoted("INTERVAL", XdbcInterval, "INTERVAL '")
    };
    instants.into_iter().chain([date, interval])
}

fn quoted(name: &str, data_type: XdbcDataType, prefix: &str) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.into()),
        literal_suffix: Some("'".into()),
        ..plain(name, data_type)
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::type_name;
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int32Type};
    use datafusion::prelude::SessionContext;

    fn names(data_type: Option<i32>) -> Vec<String> {
        let batch = answer(data_type).expect("a batch");
        assert_eq!(batch.schema(), layout().expect("a layout"));
        let names = batch.column(0).as_string::<i32>();
        names.iter().flatten().map(str::to_owned).collect()
    }

    #[test]
    fn types_are_sorted_and_filtered() {
        let batch = answer(None).expect("a batch");
        assert_eq!(batch.num_columns(), 19);
        let codes = batch
            .column(1)
            .as_primitive::<Int32Type>()
            .values()
            .to_vec();
        let rows: Vec<_> = codes.into_iter().zip(names(None)).collect();
        assert!(rows.is_sorted(), "{rows:?}");
        assert_eq!(
            names(Some(XdbcDataType::XdbcVarchar as i32)),
            ["STRING", "VARCHAR"]
        );
        assert_eq!(names(Some(12345)), Vec::<String>::new());
    }

    /// Each name is a type of the planner, and the one that columns of that type show, but for
    /// other names of a type.
    #[tokio::test]
    async fn every_type_can_be_cast_to() {
        let context = SessionContext::new();
        for name in names(None) {
            let sql = format!("SELECT CAST(NULL AS {name}) AS x");
            let frame = context.sql(&sql).await.expect(&sql);
            let shown = type_name(frame.schema().field(0).data_type());
            let same = match name.as_str() {
                "NUMERIC" => "DECIMAL",
                "FLOAT" => "REAL",
                "CHAR" | "STRING" | "TEXT" => "VARCHAR",
                // The zone is the session's, which has none here.
                "TIMESTAMP WITH TIME ZONE" => "TIMESTAMP",
                other => other,
            };
            assert_eq!(shown, same, "{name}");
        }
    }

    #[tokio::test]
    async fn literals_are_written_as_listed() {
        let context = SessionContext::new();
        for (literal, expected) in [
            ("DATE '2026-01-31'", "DATE"),
            ("TIME '23:59:59'", "TIME"),
            ("TIMESTAMP '2026-01-31 23:59:59'", "TIMESTAMP"),
            (
                "TIMESTAMP WITH TIME ZONE '2026-01-31 23:59:59+00:00'",
                "TIMESTAMP",
            ),
            ("X'00ff'", "BYTEA"),
            ("INTERVAL '1 day'", "INTERVAL"),
            ("'text'", "VARCHAR"),
        ] {
            let frame = context
                .sql(&format!("SELECT {literal} AS x"))
                .await
                .expect(literal);
            assert_eq!(
                type_name(frame.schema().field(0).data_type()),
                expected,
                "{literal}"
            );
        }
    }

    #[test]
    fn columns_name_only_types_that_are_listed() {
        let listed = names(None);
        for data_type in [
            DataType::Boolean,
            DataType::Int8,
            DataType::UInt64,
            DataType::Float16,
            DataType::Float64,
            DataType::Decimal128(12, 2),
            DataType::Utf8View,
            DataType::Binary,
            DataType::Date32,
            DataType::Timestamp(arrow::datatypes::TimeUnit::Second, Some("UTC".into())),
        ] {
            assert!(listed.contains(&type_name(&data_type)), "{data_type}");
        }
    }
}
