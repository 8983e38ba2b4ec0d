//! The records of what ended: usage, its lines, and the audit.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use hubflight_store::{WriteTransaction, micros};
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::bulk::Bulk;
use crate::execution::Settlement;
use crate::write::{EMPTY_LIST, executions_of, json};
use crate::{AuditEvent, LedgerError};

/// Writes usage, lines and audit of the executions that are still open; answers which. The
/// mark decides: whoever sets it writes the records, in the same transaction.
pub(crate) async fn write_settlements(
    connection: &mut AnyConnection,
    settlements: &[&Settlement],
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
            let key = (settlement.begun.statement_id, settlement.begun.attempt);
            settled.contains(&key) && written.insert(key)
        })
        .collect();
    write_records(connection, &won).await?;
    Ok(settled)
}

pub(crate) async fn write_records(
    connection: &mut AnyConnection,
    settlements: &[&Settlement],
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
    let audits: Vec<Audit> = settlements
        .iter()
        .map(|s| Audit::of_settlement(s))
        .collect();
    write_audits(connection, &audits).await
}

/// One row of the audit.
pub(crate) struct Audit {
    at: DateTime<Utc>,
    event: &'static str,
    person: Option<String>,
    project: Option<String>,
    execution: Option<(Uuid, u32)>,
    habilitations: String,
    datasets: String,
    columns: String,
    sql_sha256: Option<String>,
    outcome: String,
    error_kind: Option<String>,
    rows_returned: u64,
    bytes_returned: u64,
    client: String,
}

impl Audit {
    pub fn of_settlement(settlement: &Settlement) -> Self {
        let (record, begun) = (&settlement.record, &settlement.begun);
        Audit {
            at: record.ended_at,
            event: "statement",
            person: Some(record.person.clone()),
            project: record.project.clone(),
            execution: Some((record.statement_id, record.attempt)),
            habilitations: begun.habilitations.clone(),
            datasets: begun.datasets.clone(),
            columns: begun.columns.clone(),
            sql_sha256: Some(begun.sql_sha256.clone()),
            outcome: record.outcome.clone(),
            error_kind: record.error_kind.clone(),
            rows_returned: record.rows_returned,
            bytes_returned: record.bytes_returned,
            client: begun.client.clone(),
        }
    }

    fn of_event(event: &AuditEvent) -> Self {
        Audit {
            at: event.at,
            event: event.event,
            person: event.person.clone(),
            project: event.project.clone(),
            execution: None,
            habilitations: EMPTY_LIST.to_owned(),
            datasets: EMPTY_LIST.to_owned(),
            columns: EMPTY_LIST.to_owned(),
            sql_sha256: None,
            outcome: event.outcome.to_owned(),
            error_kind: None,
            rows_returned: 0,
            bytes_returned: 0,
            client: event.client.clone(),
        }
    }
}

pub(crate) async fn write_audits(
    connection: &mut AnyConnection,
    audits: &[Audit],
) -> Result<(), LedgerError> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO audit (at, event, person, project, statement_id, attempt, \
               habilitations, datasets, columns, sql_sha256, outcome, error_kind, \
               rows_returned, bytes_returned, client) VALUES ",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "",
    };
    INSERT
        .run(connection, audits, |audit, row| {
            row.add(micros(audit.at))
                .add(audit.event.to_owned())
                .add(audit.person.clone())
                .add(audit.project.clone())
                .add(audit.execution.map(|(id, _)| id.to_string()))
                .add(audit.execution.map(|(_, attempt)| i64::from(attempt)))
                .add(audit.habilitations.clone())
                .add(audit.datasets.clone())
                .add(audit.columns.clone())
                .add(audit.sql_sha256.clone())
                .add(audit.outcome.clone())
                .add(audit.error_kind.clone())
                .add(count(audit.rows_returned))
                .add(count(audit.bytes_returned))
                .add(audit.client.clone());
        })
        .await?;
    Ok(())
}

pub(crate) async fn write_events(
    connection: &mut AnyConnection,
    events: &[&AuditEvent],
) -> Result<(), LedgerError> {
    let audits: Vec<Audit> = events.iter().map(|event| Audit::of_event(event)).collect();
    write_audits(connection, &audits).await
}

/// Records an event in the transaction of the change that it tells of, where no ledger is open:
/// the administrator's commands.
///
/// # Errors
/// When it cannot be written; the transaction must then not be committed.
pub async fn record_event(
    write: &mut WriteTransaction,
    event: &AuditEvent,
) -> Result<(), LedgerError> {
    write_events(write.connection(), &[event]).await
}

/// A count as the database's signed integer. Above 2⁶³ − 1 it saturates: the exact count
/// stands in the lines, as text.
fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
