//! The records of what ended: usage and its lines, and what the audit is told.

use std::collections::HashSet;

use hubflight_store::micros;
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::LedgerError;
use crate::audit::{Audit, usage_digest};
use crate::bulk::Bulk;
use crate::execution::Settlement;
use crate::write::{executions_of, json};

/// Writes usage and lines of the executions that are still open, and adds what the audit is to
/// say; answers which those are. The mark decides: whoever sets it writes the records, in the
/// same transaction.
pub(crate) async fn write_settlements(
    connection: &mut AnyConnection,
    settlements: &[&Settlement],
    audits: &mut Vec<Audit>,
) -> Result<HashSet<(Uuid, u32)>, LedgerError> {
    const MARK: Bulk = Bulk {
        head: "UPDATE executions SET settled = 1 FROM (VALUES ",
        row: "(?, ?)",
        tail: ") AS v WHERE statement_id = v.column1 AND attempt = v.column2 AND settled = 0 \
               RETURNING statement_id, attempt",
    };
    let rows = MARK
        .run(connection, settlements, |settlement, row| {
            row.add(settlement.begun.statement_id.to_string())
                .add(i64::from(settlement.begun.attempt));
        })
        .await?;
    let settled = executions_of(&rows)?;
    let mut written = HashSet::with_capacity(settled.len());
    let won: Vec<&Settlement> = settlements
        .iter()
        .copied()
        .filter(|settlement| {
            let key = settlement.key();
            settled.contains(&key) && written.insert(key)
        })
        .collect();
    write_records(connection, &won, audits).await?;
    Ok(settled)
}

pub(crate) async fn write_records(
    connection: &mut AnyConnection,
    settlements: &[&Settlement],
    audits: &mut Vec<Audit>,
) -> Result<(), LedgerError> {
    const USAGE: Bulk = Bulk {
        head: "INSERT INTO usage (usage_id, statement_id, attempt, person, project, \
               organisation, started_at, ended_at, kind, outcome, error_kind, rows_returned, \
               bytes_returned, bytes_scanned, units, failed_rows, row_errors, cost, currency, \
               tariff_version) VALUES ",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "",
    };
    const LINES: Bulk = Bulk {
        head: "INSERT INTO usage_lines (usage_id, line, unit, function, quantity, unit_price, \
               amount) VALUES ",
        row: "(?, ?, ?, ?, ?, ?, ?)",
        tail: "",
    };
    let texts: Vec<(String, String)> = settlements
        .iter()
        .map(|settlement| {
            let record = &settlement.record;
            Ok((json(&record.units)?, json(&record.row_errors)?))
        })
        .collect::<Result<_, LedgerError>>()?;
    let rows: Vec<_> = settlements.iter().zip(texts).collect();
    USAGE
        .run(connection, &rows, |(settlement, (units, errors)), row| {
            let record = &settlement.record;
            row.add(record.usage_id.clone())
                .add(record.statement_id.to_string())
                .add(i64::from(record.attempt))
                .add(record.person.clone())
                .add(record.project.clone())
                .add(record.organisation.clone())
                .add(micros(record.started_at))
                .add(micros(record.ended_at))
                .add(record.kind.clone())
                .add(record.outcome.clone())
                .add(record.error_kind.clone())
                .add(count(record.rows_returned))
                .add(count(record.bytes_returned))
                .add(count(record.bytes_scanned))
                .add(units.clone())
                .add(count(record.failed_rows))
                .add(errors.clone())
                .add(record.cost.to_string())
                .add(record.currency.clone())
                .add(record.tariff_version.clone());
        })
        .await?;
    let lines: Vec<_> = settlements
        .iter()
        .flat_map(|settlement| {
            (1_i64..)
                .zip(&settlement.record.lines)
                .map(move |line| (settlement, line))
        })
        .collect();
    LINES
        .run(connection, &lines, |(settlement, (number, line)), row| {
            row.add(settlement.record.usage_id.clone())
                .add(*number)
                .add(line.unit.as_str().to_owned())
                .add(line.function.clone())
                .add(line.quantity.to_string())
                .add(line.unit_price.to_string())
                .add(line.amount.to_string());
        })
        .await?;
    audits.extend(rows.iter().map(|(settlement, (units, errors))| {
        let digest = usage_digest(&settlement.record, units, errors);
        Audit::of_settlement(settlement, Some(&digest))
    }));
    Ok(())
}

/// A count as the database's signed integer. Above 2⁶³ − 1 it saturates: the exact count
/// stands in the lines, as text.
pub(crate) fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
