//! Which columns a view shows, and how.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::GrantedTable;
use crate::error::PolicyError;
use crate::pseudonym::Cipher;
use hubflight_rights::dataset::Table;
use hubflight_rights::habilitation::{Columns, Mask};

/// Key of a column's remarks in its field's metadata (Flight SQL).
pub const REMARKS_KEY: &str = "ARROW:FLIGHT:SQL:REMARKS";
/// Key of a column's unit of measure in its field's metadata.
pub const UNIT_KEY: &str = "unit";

/// One column of a view.
#[derive(Clone, Debug)]
pub struct Visible {
    /// Position in the source.
    pub index: usize,
    /// As shown: type and nullability of the view, no metadata of the files.
    pub field: Arc<Field>,
    pub how: How,
}

/// What a column shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    Plain,
    /// The identifier's domain.
    Pseudonym(String),
    Masked(Mask),
}

/// The columns that the grant opens, in the order of the dataset, else of the files.
pub fn visible(granted: &GrantedTable) -> Result<Vec<Visible>, PolicyError> {
    let source = granted.source.schema();
    let listed: Vec<String> = if granted.table.columns.is_empty() {
        source
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect()
    } else {
        granted
            .table
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect()
    };
    check_grant(granted, &listed)?;
    let mut columns = Vec::new();
    for name in listed.iter().filter(|name| is_granted(granted, name)) {
        let index = source.index_of(name).map_err(|_| {
            granted.error(Some(name), "is declared but not in the files; check both")
        })?;
        columns.push(show(granted, source.field(index), index)?);
    }
    if columns.is_empty() {
        return Err(granted.error(None, "has no column that the habilitation opens"));
    }
    Ok(columns)
}

/// A name in the grant that does not exist means that something else was meant: refuse.
fn check_grant(granted: &GrantedTable, listed: &[String]) -> Result<(), PolicyError> {
    let Some(grant) = &granted.grant else {
        return Ok(());
    };
    let named: &[String] = match &grant.columns {
        Columns::All => &[],
        Columns::Only(names) | Columns::Except(names) => names,
    };
    let masked = grant.masks.iter().map(|(column, _)| column);
    for name in named.iter().chain(masked) {
        if !listed.contains(name) {
            return Err(granted.error(Some(name), "is in the habilitation but does not exist"));
        }
    }
    Ok(())
}

fn is_granted(granted: &GrantedTable, name: &String) -> bool {
    match granted.grant.as_ref().map(|grant| &grant.columns) {
        None | Some(Columns::All) => true,
        Some(Columns::Only(names)) => names.contains(name),
        Some(Columns::Except(names)) => !names.contains(name),
    }
}

fn show(granted: &GrantedTable, field: &Field, index: usize) -> Result<Visible, PolicyError> {
    let name = field.name();
    let mut masks = granted
        .grant
        .iter()
        .flat_map(|grant| &grant.masks)
        .filter(|(column, _)| column == name)
        .map(|(_, mask)| *mask);
    let identifier = granted.dataset.identifier(&granted.table, name);
    let mask = masks.next();
    if masks.next().is_some() {
        return Err(granted.error(Some(name), "has two masks; keep one"));
    }
    let (data_type, nullable, how) = match (mask, identifier) {
        (Some(_), Some(_)) => {
            return Err(granted.error(
                Some(name),
                "is an identifier, which is re-keyed; remove its mask or the column",
            ));
        }
        (None, None) => (field.data_type().clone(), field.is_nullable(), How::Plain),
        (None, Some(domain)) => {
            if !Cipher::accepts(field.data_type()) {
                return Err(granted.error(
                    Some(name),
                    "is an identifier but neither integer, text nor bytes; store it as one",
                ));
            }
            (
                DataType::Utf8View,
                field.is_nullable(),
                How::Pseudonym(domain.to_owned()),
            )
        }
        (Some(mask), None) => {
            if !accepts(mask, field.data_type()) {
                return Err(granted.error(
                    Some(name),
                    format!(
                        "has type {}, which its mask does not fit",
                        field.data_type()
                    ),
                ));
            }
            let shown = match mask {
                Mask::HashPerProject => DataType::Utf8View,
                _ => field.data_type().clone(),
            };
            (shown, true, How::Masked(mask))
        }
    };
    Ok(Visible {
        index,
        field: Arc::new(Field::new(name, data_type, nullable)),
        how,
    })
}

/// The view's schema, without metadata: plans must agree on it exactly.
pub fn schema(columns: &[Visible]) -> SchemaRef {
    let fields: Vec<_> = columns
        .iter()
        .map(|column| Arc::clone(&column.field))
        .collect();
    Arc::new(Schema::new(fields))
}

/// The view's schema with what a catalogue shows of each column.
pub fn described_schema(table: &Table, columns: &[Visible]) -> SchemaRef {
    let describe = |visible: &Visible| {
        let mut metadata = HashMap::new();
        if let Some(column) = table.column(visible.field.name()) {
            if !column.remarks.is_empty() {
                metadata.insert(REMARKS_KEY.to_owned(), column.remarks.clone());
            }
            if let Some(unit) = &column.unit {
                metadata.insert(UNIT_KEY.to_owned(), unit.clone());
            }
        }
        visible.field.as_ref().clone().with_metadata(metadata)
    };
    Arc::new(Schema::new(
        columns.iter().map(describe).collect::<Vec<_>>(),
    ))
}

/// Whether values of this type can be masked so.
fn accepts(mask: Mask, data_type: &DataType) -> bool {
    let is_text = matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    match mask {
        Mask::Null => true,
        Mask::Department | Mask::Prefix(_) => is_text,
        Mask::Year => matches!(data_type, DataType::Date32 | DataType::Date64),
        Mask::AgeBand(_) => data_type.is_integer(),
        Mask::Round(_) => match data_type {
            DataType::Decimal128(_, scale) => *scale >= 0,
            other => other.is_integer(),
        },
        Mask::HashPerProject => data_type.is_integer() || is_text,
    }
}
