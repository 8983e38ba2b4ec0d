//! What an execution's outcome says of the usage record that is written with it.
//!
//! The outcome's `detail` holds a digest of the record and its lines, and so does its leaf, for
//! ever. Who used it is not in the digest: what a purge erases must not be found again by trying
//! every person. As long as it is not erased, the entry itself names them.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use hubflight_store::micros;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::bulk::Bulk;
use crate::settle::count;
use crate::{LedgerError, UsageRecord};

/// Where an outcome's `detail` has the digest.
pub(super) const FIELD: &str = "usage";

/// SHA-256 of the JSON list of the record's columns, as they are stored, and of its lines.
pub(crate) fn usage_digest(record: &UsageRecord, units: &str, row_errors: &str) -> String {
    let columns = json!([
        record.usage_id,
        record.statement_id.to_string(),
        record.attempt,
        record.project,
        record.organisation,
        micros(record.started_at),
        micros(record.ended_at),
        record.kind,
        record.outcome,
        record.error_kind,
        count(record.rows_returned),
        count(record.bytes_returned),
        count(record.bytes_scanned),
        units,
        count(record.failed_rows),
        row_errors,
        record.cost.to_string(),
        record.currency,
        record.tariff_version,
    ]);
    let line = |line: &crate::Line| {
        json!([
            line.unit.as_str(),
            line.function,
            line.quantity.to_string(),
            line.unit_price.to_string(),
            line.amount.to_string(),
        ])
    };
    digest(&columns, &record.lines.iter().map(line).collect::<Vec<_>>())
}

fn digest(columns: &Value, lines: &[Value]) -> String {
    HEXLOWER.encode(&Sha256::digest(json!([columns, lines]).to_string()))
}

/// The `detail` of an outcome whose record has this digest.
pub(super) fn detail(digest: &str) -> String {
    json!({ FIELD: digest }).to_string()
}

/// A usage record as it is stored now.
pub(super) struct Stored {
    pub person: String,
    pub digest: String,
}

/// The records of those identifiers that there are.
pub(super) async fn stored(
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<HashMap<String, Stored>, LedgerError> {
    const RECORDS: Bulk = Bulk {
        head: "SELECT * FROM usage WHERE usage_id IN (",
        row: "?",
        tail: ")",
    };
    const LINES: Bulk = Bulk {
        head: "SELECT * FROM usage_lines WHERE usage_id IN (",
        row: "?",
        tail: ") ORDER BY usage_id, line",
    };
    let mut lines: HashMap<String, Vec<Value>> = HashMap::new();
    for row in LINES
        .run(connection, ids, |id, row| {
            row.add(id.clone());
        })
        .await?
    {
        lines
            .entry(row.try_get("usage_id")?)
            .or_default()
            .push(line_of(&row)?);
    }
    let records = RECORDS
        .run(connection, ids, |id, row| {
            row.add(id.clone());
        })
        .await?;
    let stored = records.iter().map(|row| {
        let id: String = row.try_get("usage_id")?;
        let lines = lines.remove(&id).unwrap_or_default();
        let digest = digest(&columns_of(row)?, &lines);
        let person = row.try_get("person")?;
        Ok((id, Stored { person, digest }))
    });
    stored.collect()
}

fn line_of(row: &AnyRow) -> Result<Value, LedgerError> {
    Ok(json!([
        text(row, "unit")?,
        text(row, "function")?,
        text(row, "quantity")?,
        text(row, "unit_price")?,
        text(row, "amount")?,
    ]))
}

fn columns_of(row: &AnyRow) -> Result<Value, LedgerError> {
    Ok(json!([
        text(row, "usage_id")?,
        text(row, "statement_id")?,
        number(row, "attempt")?,
        text(row, "project")?,
        text(row, "organisation")?,
        number(row, "started_at")?,
        number(row, "ended_at")?,
        text(row, "kind")?,
        text(row, "outcome")?,
        text(row, "error_kind")?,
        number(row, "rows_returned")?,
        number(row, "bytes_returned")?,
        number(row, "bytes_scanned")?,
        text(row, "units")?,
        number(row, "failed_rows")?,
        text(row, "row_errors")?,
        text(row, "cost")?,
        text(row, "currency")?,
        text(row, "tariff_version")?,
    ]))
}

fn text(row: &AnyRow, column: &str) -> Result<Option<String>, LedgerError> {
    Ok(row.try_get(column)?)
}

fn number(row: &AnyRow, column: &str) -> Result<i64, LedgerError> {
    Ok(row.try_get(column)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form is for ever: the digests of records that were written before hold it.
    #[test]
    fn the_form_of_the_digest() {
        let lines = [json!(["pixels", null, "7", "0.1", "0.700000"])];
        let (columns, lines) = (json!(["a\"é", 1, null]), &lines[..]);
        let form = r#"[["a\"é",1,null],[["pixels",null,"7","0.1","0.700000"]]]"#;
        assert_eq!(
            digest(&columns, lines),
            HEXLOWER.encode(&Sha256::digest(form))
        );
        assert_eq!(detail("ab"), r#"{"usage":"ab"}"#);
    }
}
