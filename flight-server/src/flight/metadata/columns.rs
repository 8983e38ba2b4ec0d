//! What Flight SQL says of a column: its SQL type, size, remarks, and whether it may be NULL.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use hubflight_policy::{REMARKS_KEY, Sources, UNIT_KEY, describe_table};
use hubflight_rights::dataset::Dataset;
use hubflight_rights::habilitation::{Habilitation, Tables};

use crate::catalog::project::ProjectView;
use crate::error::Result;
use crate::plan::wire::plain_schema;

/// Where a table is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub catalog: &'a str,
    pub schema: &'a str,
    pub table: &'a str,
    /// True where the project may change its rows.
    pub writable: bool,
}

/// The schema of a dataset's table as its project sees it; the outer `None` for other schemas.
pub fn of_dataset(
    sources: &dyn Sources,
    view: &ProjectView,
    place: &Place<'_>,
) -> Option<Result<Option<SchemaRef>>> {
    let (dataset, habilitation) = view
        .listed()
        .find(|(dataset, _)| dataset.name == place.schema)?;
    Some(describe(sources, dataset, habilitation, place.table))
}

/// The visible columns with their remarks, NOT NULL where the producer declares it and no
/// mask stands before the values.
fn describe(
    sources: &dyn Sources,
    dataset: &Dataset,
    habilitation: &Habilitation,
    table: &str,
) -> Result<Option<SchemaRef>> {
    let Some(described) = describe_table(sources, habilitation, table)? else {
        return Ok(None);
    };
    let declared = dataset.table(table);
    let masked = masked(habilitation, table);
    let fields = described.fields().iter().map(|field| {
        let name = field.name();
        let never_null = declared.is_some_and(|table| {
            table.primary_key.contains(name) || table.column(name).is_some_and(|it| it.not_null)
        });
        let nullable = field.is_nullable() && (masked.contains(name.as_str()) || !never_null);
        field.as_ref().clone().with_nullable(nullable)
    });
    Ok(Some(Arc::new(Schema::new(fields.collect::<Vec<_>>()))))
}

/// The columns of a table that show something else than their values.
pub fn masked<'a>(habilitation: &'a Habilitation, table: &str) -> BTreeSet<&'a str> {
    let grants = match &habilitation.tables {
        Tables::All => &[],
        Tables::Only(grants) => grants.as_slice(),
    };
    let of_table = grants.iter().filter(|grant| grant.table == table);
    let masks = of_table.flat_map(|grant| &grant.masks);
    masks.map(|(column, _)| column.as_str()).collect()
}

/// `schema` as clients get it, each column with the metadata of Flight SQL. Nullability is
/// what the table declares, although results are sent as nullable.
pub fn annotate(schema: &Schema, place: &Place<'_>, views: bool) -> Schema {
    let plain = plain_schema(schema, views);
    let fields = plain.fields().iter().zip(schema.fields());
    let fields = fields.map(|(plain, declared)| {
        let mut metadata = declared.metadata().clone();
        metadata.extend(column_metadata(plain, Some(place)));
        // Most tools show remarks, and none of them knows of units.
        if let Some(unit) = declared.metadata().get(UNIT_KEY) {
            let remarks = metadata.entry(REMARKS_KEY.to_owned()).or_default();
            *remarks = format!("{remarks} ({unit})").trim_start().to_owned();
        }
        plain
            .as_ref()
            .clone()
            .with_nullable(declared.is_nullable())
            .with_metadata(metadata)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// What Flight SQL says of a column; `place` is that of its table, if it is one's.
pub fn column_metadata(field: &Field, place: Option<&Place<'_>>) -> HashMap<String, String> {
    let flag = |set: bool| if set { "1" } else { "0" }.to_owned();
    let data_type = field.data_type();
    let is_text = matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let size = size(data_type);
    let mut known = vec![
        ("TYPE_NAME", type_name(data_type)),
        ("IS_AUTO_INCREMENT", flag(false)),
        ("IS_CASE_SENSITIVE", flag(is_text)),
        (
            "IS_READ_ONLY",
            flag(!place.is_some_and(|place| place.writable)),
        ),
        ("IS_SEARCHABLE", flag(place.is_some())),
    ];
    if let Some(place) = place {
        known.extend([
            ("CATALOG_NAME", place.catalog.to_owned()),
            ("DB_SCHEMA_NAME", place.schema.to_owned()),
            // The name of the specification's older text, which some clients still read.
            ("SCHEMA_NAME", place.schema.to_owned()),
            ("TABLE_NAME", place.table.to_owned()),
        ]);
    }
    known.extend(
        size.precision
            .map(|precision| ("PRECISION", precision.to_string())),
    );
    known.extend(size.scale.map(|scale| ("SCALE", scale.to_string())));
    let key = |(name, value)| (format!("ARROW:FLIGHT:SQL:{name}"), value);
    known.into_iter().map(key).collect()
}

/// The SQL name of an Arrow type, as GetXdbcTypeInfo lists it and as `CAST` accepts it.
pub fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "NULL".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INTEGER".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INTEGER UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float16 | DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => "DECIMAL".into(),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "VARCHAR".into(),
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "BYTEA".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(_, None) => "TIMESTAMP".into(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP WITH TIME ZONE".into(),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::List(item)
        | DataType::ListView(item)
        | DataType::LargeList(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => format!("{}[]", type_name(item.data_type())),
        DataType::Struct(_) => "STRUCT".into(),
        DataType::Map(..) => "MAP".into(),
        DataType::Union(..) => "UNION".into(),
        DataType::Dictionary(_, value) => type_name(value),
        DataType::RunEndEncoded(_, values) => type_name(values.data_type()),
    }
}

/// What JDBC calls the column's size and its decimal digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    /// Decimal digits of a number, characters of a date or time; none where there is no bound.
    precision: Option<usize>,
    /// Digits after the point.
    scale: Option<i32>,
}

fn size(data_type: &DataType) -> Size {
    let digits = |precision| Size {
        precision: Some(precision),
        scale: Some(0),
    };
    match data_type {
        DataType::Boolean => digits(1),
        DataType::Int8 | DataType::UInt8 => digits(3),
        DataType::Int16 | DataType::UInt16 => digits(5),
        DataType::Int32 | DataType::UInt32 => digits(10),
        DataType::Int64 => digits(19),
        DataType::UInt64 => digits(20),
        DataType::Float16 => approximate(3),
        DataType::Float32 => approximate(7),
        DataType::Float64 => approximate(15),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Size {
            precision: Some(usize::from(*precision)),
            scale: Some(i32::from(*scale)),
        },
        DataType::Date32 | DataType::Date64 => digits("2026-01-31".len()),
        DataType::Time32(unit) | DataType::Time64(unit) => instant("23:59:59".len(), *unit),
        DataType::Timestamp(unit, None) => instant("2026-01-31 23:59:59".len(), *unit),
        DataType::Timestamp(unit, Some(_)) => instant("2026-01-31 23:59:59+00:00".len(), *unit),
        DataType::FixedSizeBinary(bytes) => Size {
            precision: usize::try_from(*bytes).ok(),
            scale: None,
        },
        _ => Size::default(),
    }
}

/// A float: so many significant digits, anywhere around the point.
fn approximate(precision: usize) -> Size {
    Size {
        precision: Some(precision),
        scale: None,
    }
}

/// A time of `characters` without its fraction, which takes a point more.
fn instant(characters: usize, unit: TimeUnit) -> Size {
    let (fraction, scale) = match unit {
        TimeUnit::Second => (0, 0),
        TimeUnit::Millisecond => (4, 3),
        TimeUnit::Microsecond => (7, 6),
        TimeUnit::Nanosecond => (10, 9),
    };
    Size {
        precision: Some(characters + fraction),
        scale: Some(scale),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{hospital, only};
    use super::*;
    use hubflight_rights::habilitation::Mask;

    const PLACE: Place<'_> = Place {
        catalog: "p",
        schema: "stays",
        table: "stay",
        writable: false,
    };

    fn get<'a>(field: &'a Field, name: &str) -> Option<&'a str> {
        let value = field.metadata().get(&format!("ARROW:FLIGHT:SQL:{name}"));
        value.map(String::as_str)
    }

    #[test]
    fn columns_say_what_they_are() {
        let remarks = HashMap::from([
            (REMARKS_KEY.to_owned(), "amount paid".to_owned()),
            (UNIT_KEY.to_owned(), "EUR".to_owned()),
        ]);
        let schema = Schema::new(vec![
            Field::new("paid", DataType::Decimal128(12, 2), false).with_metadata(remarks),
            Field::new("name", DataType::Utf8View, true),
        ]);
        let schema = annotate(&schema, &PLACE, false);
        let paid = schema.field(0);
        assert!(!paid.is_nullable());
        let expected = [
            ("CATALOG_NAME", "p"),
            ("DB_SCHEMA_NAME", "stays"),
            ("TABLE_NAME", "stay"),
            ("TYPE_NAME", "DECIMAL"),
            ("PRECISION", "12"),
            ("SCALE", "2"),
            ("IS_AUTO_INCREMENT", "0"),
            ("IS_CASE_SENSITIVE", "0"),
            ("IS_READ_ONLY", "1"),
            ("IS_SEARCHABLE", "1"),
            ("REMARKS", "amount paid (EUR)"),
        ];
        for (name, value) in expected {
            assert_eq!(get(paid, name), Some(value), "{name}");
        }
        let name = schema.field(1);
        assert!(name.is_nullable());
        assert_eq!(name.data_type(), &DataType::Utf8);
        assert_eq!(get(name, "IS_CASE_SENSITIVE"), Some("1"));
        assert_eq!(get(name, "PRECISION"), None);
        let views = annotate(
            &Schema::new(vec![name.clone().with_data_type(DataType::Utf8View)]),
            &PLACE,
            true,
        );
        assert_eq!(views.field(0).data_type(), &DataType::Utf8View);
    }

    #[test]
    fn not_null_is_what_the_producer_declares_and_no_mask_undoes() {
        let sources = hospital();
        let dataset = sources.dataset("stays").expect("declared");
        let check = |habilitation: &Habilitation, expected: &[(&str, bool)]| {
            let schema = describe(&sources, &dataset, habilitation, "stay")
                .expect("described")
                .expect("granted");
            let nullable: Vec<_> = schema
                .fields()
                .iter()
                .map(|field| (field.name().as_str(), field.is_nullable()))
                .collect();
            assert_eq!(nullable, expected);
        };
        let open = only(&[("stay", &["stay_id", "began", "person"])]);
        check(
            &open,
            &[("stay_id", false), ("began", false), ("person", true)],
        );
        let mut masked = open;
        if let Tables::Only(grants) = &mut masked.tables {
            grants[0].masks.push(("began".into(), Mask::Year));
        }
        check(
            &masked,
            &[("stay_id", false), ("began", true), ("person", true)],
        );
        assert!(
            describe(&sources, &dataset, &masked, "diagnosis")
                .expect("no error")
                .is_none()
        );
        assert!(
            describe(&sources, &dataset, &masked, "nothing")
                .expect("no error")
                .is_none()
        );
    }

    #[test]
    fn sizes_are_those_of_the_written_value() {
        let check = |data_type: DataType, precision, scale| {
            assert_eq!(size(&data_type), Size { precision, scale }, "{data_type}");
        };
        check(DataType::Int32, Some(i32::MAX.to_string().len()), Some(0));
        check(DataType::Int64, Some(i64::MAX.to_string().len()), Some(0));
        check(DataType::UInt64, Some(u64::MAX.to_string().len()), Some(0));
        check(DataType::Date32, Some(10), Some(0));
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        check(
            nanoseconds,
            Some("2026-01-31 23:59:59.123456789".len()),
            Some(9),
        );
        check(
            DataType::Time32(TimeUnit::Millisecond),
            Some("23:59:59.123".len()),
            Some(3),
        );
        check(DataType::Utf8, None, None);
        check(DataType::Decimal128(38, -2), Some(38), Some(-2));
    }

    #[test]
    fn nested_types_are_named_by_what_they_hold() {
        let floats = DataType::new_list(DataType::Float32, true);
        assert_eq!(type_name(&floats), "REAL[]");
        assert_eq!(type_name(&DataType::new_list(floats, true)), "REAL[][]");
    }
}
