//! The statements that write, each over many rows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_store::micros;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};
use uuid::Uuid;

use crate::audit::{Audit, AuditLog, sealed_sha256};
use crate::bulk::Bulk;
use crate::execution::{Begun, Interim, Settlement};
use crate::records::Ending;
use crate::settle::{write_records, write_settlements};
use crate::{
    AuditEvent, ExecutionStarted, LedgerError, Measured, Refusal, StatementOpened, Tariff,
};

/// An execution that is to begin, with what it is charged from its first moment.
#[derive(Clone, Debug)]
pub(crate) struct Begin {
    pub started: ExecutionStarted,
    /// Visible bytes of the stored data that it reads.
    pub scanned: u64,
}

pub(crate) const EMPTY_LIST: &str = "[]";

/// What every execution is written with.
#[derive(Clone, Copy)]
pub(crate) struct Stamp<'a> {
    /// Identifier of the process that answers for it.
    pub owner: i64,
    /// Prices that it begins under.
    pub tariff: &'a Tariff,
    /// Where its audit outcome goes.
    pub log: &'a AuditLog,
}

/// What one transaction writes.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    pub statements: Vec<&'a StatementOpened>,
    pub begins: Vec<&'a Begin>,
    pub interims: Vec<&'a Interim>,
    pub settlements: Vec<&'a Settlement>,
    pub refusals: Vec<&'a Refusal>,
    pub events: Vec<&'a AuditEvent>,
}

impl Batch<'_> {
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
            && self.begins.is_empty()
            && self.interims.is_empty()
            && self.settlements.is_empty()
            && self.refusals.is_empty()
            && self.events.is_empty()
    }
}

/// What it found.
#[derive(Default)]
pub(crate) struct Wrote {
    /// By begin, in order; none where the statement is unknown.
    pub begun: Vec<Option<Begun>>,
    /// Executions of the interims that were written: those that were open.
    pub measured: HashSet<(Uuid, u32)>,
    /// Executions that were open and now are settled.
    pub settled: HashSet<(Uuid, u32)>,
    /// By refusal, in order: whether the statement is known.
    pub refused: Vec<bool>,
    /// As [`AuditLog::append`] answers.
    pub entries: u64,
}

pub(crate) async fn write_batch(
    connection: &mut AnyConnection,
    stamp: Stamp<'_>,
    batch: &Batch<'_>,
) -> Result<Wrote, LedgerError> {
    // A begin may be in the same batch as its statement, an interim with its settlement.
    write_statements(connection, &batch.statements).await?;
    let begun = write_begins(connection, stamp, &batch.begins).await?;
    let measured = write_interims(connection, &batch.interims).await?;
    let mut audits = Vec::with_capacity(batch.begins.len() + batch.settlements.len());
    // Before the first row is served, the log says who begins to read what.
    audits.extend(begun.iter().flatten().map(Audit::of_begin));
    let settled = write_settlements(connection, &batch.settlements, &mut audits).await?;
    let mut refused = Vec::with_capacity(batch.refusals.len());
    for refusal in &batch.refusals {
        let closing = Closing {
            statement_id: refusal.statement_id,
            ending: Ending::Refused(refusal.reason),
            habilitations: versions(&refusal.habilitations),
            at: refusal.at,
        };
        refused.push(close_statement(connection, stamp, closing, &mut audits).await?);
    }
    audits.extend(batch.events.iter().map(|event| Audit::of_event(event)));
    // Last, since the log's lock is held from here to the commit.
    let entries = stamp.log.append(connection, &audits).await?;
    Ok(Wrote {
        begun,
        measured,
        settled,
        refused,
        entries,
    })
}

async fn write_statements(
    connection: &mut AnyConnection,
    statements: &[&StatementOpened],
) -> Result<(), LedgerError> {
    // The organisation that pays is frozen with the statement.
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO statements (statement_id, person, project, organisation, kind, \
               client, sql_sha256, sql_sealed, tags, opened_at, expires_at) VALUES ",
        row: "(?, ?, ?, (SELECT organisation FROM projects WHERE id = ?), ?, ?, ?, ?, ?, ?, ?)",
        tail: "",
    };
    let tags: Vec<String> = statements
        .iter()
        .map(|statement| json(&statement.tags))
        .collect::<Result<_, _>>()?;
    let rows: Vec<_> = statements.iter().zip(tags).collect();
    INSERT
        .run(connection, &rows, |(statement, tags), row| {
            row.add(statement.statement_id.to_string())
                .add(statement.person.clone())
                .add(statement.project.clone())
                .add(statement.project.clone())
                .add(statement.kind.as_str().to_owned())
                .add(statement.client.clone())
                .add(hex(&statement.sql_sha256))
                .add(statement.sql_sealed.clone())
                .add(tags.clone())
                .add(micros(statement.opened_at))
                .add(micros(statement.expires_at));
        })
        .await?;
    Ok(())
}

/// Numbers the attempts: the counter in the statement's row gives each redemption its own,
/// whichever server writes it.
async fn write_begins(
    connection: &mut AnyConnection,
    stamp: Stamp<'_>,
    begins: &[&Begin],
) -> Result<Vec<Option<Begun>>, LedgerError> {
    const NUMBER: Bulk = Bulk {
        head: "UPDATE statements SET attempts = attempts + 1, touched = 1 WHERE statement_id IN (",
        row: "?",
        tail: ") RETURNING statement_id, attempts, person, project, organisation, kind, client, \
               sql_sha256, sql_sealed",
    };
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO executions (statement_id, attempt, owner, tariff_version, \
               habilitations, datasets, columns, started_at) VALUES ",
        row: "(?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "",
    };
    let mut begun: Vec<Option<Begun>> = begins.iter().map(|_| None).collect();
    let mut waiting: Vec<usize> = (0..begins.len()).collect();
    // One round, but for several redemptions of one statement in one batch.
    while !waiting.is_empty() {
        let mut round: HashMap<Uuid, usize> = HashMap::new();
        waiting.retain(|index| {
            begins.get(*index).is_some_and(|begin| {
                let id = begin.started.statement_id;
                let taken = round.contains_key(&id);
                round.entry(id).or_insert(*index);
                taken
            })
        });
        let mut ids: Vec<Uuid> = round.keys().copied().collect();
        // Servers that share a database take row locks in the same order.
        ids.sort_unstable();
        let rows = NUMBER
            .run(connection, &ids, |id, row| {
                row.add(id.to_string());
            })
            .await?;
        for row in &rows {
            let id = uuid_of(row, "statement_id")?;
            let Some(&index) = round.get(&id) else {
                continue;
            };
            if let (Some(slot), Some(begin)) = (begun.get_mut(index), begins.get(index)) {
                *slot = Some(begun_of(row, id, &begin.started)?);
            }
        }
    }
    let known: Vec<&Begun> = begun.iter().flatten().collect();
    INSERT
        .run(connection, &known, |begun, row| {
            row.add(begun.statement_id.to_string())
                .add(i64::from(begun.attempt))
                .add(stamp.owner)
                .add(stamp.tariff.version().to_owned())
                .add(begun.habilitations.clone())
                .add(begun.datasets.clone())
                .add(begun.columns.clone())
                .add(micros(begun.started_at));
        })
        .await?;
    let first: Vec<Interim> = begun
        .iter()
        .zip(begins)
        .filter_map(|(begun, begin)| first_interim(begun.as_ref()?, begin.scanned))
        .collect();
    write_interims(connection, &first.iter().collect::<Vec<_>>()).await?;
    Ok(begun)
}

/// What an execution is charged if its process dies before it measures anything else.
fn first_interim(begun: &Begun, scanned: u64) -> Option<Interim> {
    (scanned > 0).then(|| Interim {
        statement_id: begun.statement_id,
        attempt: begun.attempt,
        seq: 0,
        at: begun.started_at,
        measured: Measured {
            bytes_scanned: scanned,
            ..Measured::default()
        },
    })
}

fn begun_of(row: &AnyRow, id: Uuid, started: &ExecutionStarted) -> Result<Begun, LedgerError> {
    let attempts: i64 = row.try_get("attempts")?;
    Ok(Begun {
        statement_id: id,
        attempt: u32::try_from(attempts).map_err(|_| LedgerError::Corrupt { what: "attempt" })?,
        person: row.try_get("person")?,
        project: row.try_get("project")?,
        organisation: row.try_get("organisation")?,
        kind: row.try_get("kind")?,
        client: row.try_get("client")?,
        sql_sha256: row.try_get("sql_sha256")?,
        sealed_sha256: sealed_sha256(row.try_get("sql_sealed")?),
        habilitations: versions(&started.habilitations),
        datasets: versions(&started.datasets),
        columns: started.columns.to_string(),
        started_at: started.started_at,
    })
}

/// Writes the interims of executions that are open, and answers which those are. One that
/// another server took for dead is settled: what it used further would not be charged, so it
/// must learn of that and stop.
async fn write_interims(
    connection: &mut AnyConnection,
    interims: &[&Interim],
) -> Result<HashSet<(Uuid, u32)>, LedgerError> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO interims (statement_id, attempt, seq, at, quantities) \
               SELECT v.column1, v.column2, v.column3, v.column4, v.column5 FROM (VALUES ",
        row: "(?, ?, ?, ?, ?)",
        tail: ") AS v JOIN executions e \
               ON e.statement_id = v.column1 AND e.attempt = v.column2 \
               WHERE e.settled = 0 RETURNING statement_id, attempt",
    };
    let quantities: Vec<String> = interims
        .iter()
        .map(|interim| json(&interim.measured))
        .collect::<Result<_, _>>()?;
    let rows: Vec<_> = interims.iter().zip(quantities).collect();
    let written = INSERT
        .run(connection, &rows, |(interim, quantities), row| {
            row.add(interim.statement_id.to_string())
                .add(i64::from(interim.attempt))
                .add(interim.seq)
                .add(micros(interim.at))
                .add(quantities.clone());
        })
        .await?;
    executions_of(&written)
}

/// How a statement ends that does not run.
struct Closing {
    statement_id: Uuid,
    ending: Ending,
    habilitations: String,
    at: DateTime<Utc>,
}

/// Settles statements whose tickets expired unredeemed, at most `max`; answers how many, and
/// what [`AuditLog::append`] answers.
pub(crate) async fn expire_statements(
    connection: &mut AnyConnection,
    stamp: Stamp<'_>,
    now: DateTime<Utc>,
    max: usize,
) -> Result<(usize, u64), LedgerError> {
    let rows = sqlx::query(
        "UPDATE statements SET touched = 1 WHERE touched = 0 AND seq IN (SELECT seq \
         FROM statements WHERE touched = 0 AND expires_at < $1 ORDER BY expires_at LIMIT $2) \
         RETURNING statement_id",
    )
    .bind(micros(now))
    .bind(i64::try_from(max).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await?;
    let mut audits = Vec::with_capacity(rows.len());
    for row in &rows {
        let closing = Closing {
            statement_id: uuid_of(row, "statement_id")?,
            ending: Ending::Unredeemed,
            habilitations: EMPTY_LIST.to_owned(),
            at: now,
        };
        close_statement(connection, stamp, closing, &mut audits).await?;
    }
    let entries = stamp.log.append(connection, &audits).await?;
    Ok((rows.len(), entries))
}

/// Ends a statement, or one redemption of it, that does not run: attempt 0 with a usage record
/// of nothing if it is the first, and an audit outcome in any case. Answers whether the
/// statement is known.
async fn close_statement(
    connection: &mut AnyConnection,
    stamp: Stamp<'_>,
    closing: Closing,
    audits: &mut Vec<Audit>,
) -> Result<bool, LedgerError> {
    let id = closing.statement_id.to_string();
    let rows = sqlx::query(
        "UPDATE statements SET touched = 1 WHERE statement_id = $1 RETURNING attempts, person, \
         project, organisation, kind, client, sql_sha256, sql_sealed, opened_at",
    )
    .bind(&id)
    .fetch_all(&mut *connection)
    .await?;
    let Some(row) = rows.first() else {
        return Ok(false);
    };
    let begun = Arc::new(Begun {
        statement_id: closing.statement_id,
        attempt: 0,
        person: row.try_get("person")?,
        project: row.try_get("project")?,
        organisation: row.try_get("organisation")?,
        kind: row.try_get("kind")?,
        client: row.try_get("client")?,
        sql_sha256: row.try_get("sql_sha256")?,
        sealed_sha256: sealed_sha256(row.try_get("sql_sealed")?),
        habilitations: closing.habilitations,
        datasets: EMPTY_LIST.to_owned(),
        columns: EMPTY_LIST.to_owned(),
        started_at: hubflight_store::instant(row.try_get("opened_at")?)?,
    });
    let nothing = Measured::default();
    let settlement = Settlement::new(
        begun.clone(),
        closing.ending,
        nothing,
        stamp.tariff,
        closing.at,
    );
    let is_first = row.try_get::<i64, _>("attempts")? == 0;
    if is_first {
        let inserted = sqlx::query(
            "INSERT INTO executions (statement_id, attempt, owner, tariff_version, \
             habilitations, datasets, columns, started_at, settled) \
             VALUES ($1, 0, $2, $3, $4, '[]', '[]', $5, 1) ON CONFLICT DO NOTHING",
        )
        .bind(&id)
        .bind(stamp.owner)
        .bind(stamp.tariff.version())
        .bind(&begun.habilitations)
        .bind(micros(begun.started_at))
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if inserted > 0 {
            write_records(connection, &[&settlement], audits).await?;
            return Ok(true);
        }
    }
    audits.push(Audit::of_settlement(&settlement, None));
    Ok(true)
}

/// A JSON list of `name@version`.
fn versions(pairs: &[(String, u32)]) -> String {
    let names: Vec<String> = pairs
        .iter()
        .map(|(name, version)| format!("{name}@{version}"))
        .collect();
    serde_json::Value::from(names).to_string()
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(value).map_err(|_| LedgerError::Corrupt { what: "record" })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The executions that rows name.
pub(crate) fn executions_of(rows: &[AnyRow]) -> Result<HashSet<(Uuid, u32)>, LedgerError> {
    rows.iter()
        .map(|row| {
            let attempt: i64 = row.try_get("attempt")?;
            let attempt =
                u32::try_from(attempt).map_err(|_| LedgerError::Corrupt { what: "attempt" })?;
            Ok((uuid_of(row, "statement_id")?, attempt))
        })
        .collect()
}

pub(crate) fn uuid_of(row: &AnyRow, column: &str) -> Result<Uuid, LedgerError> {
    let text: String = row.try_get(column)?;
    text.parse().map_err(|_| LedgerError::Corrupt {
        what: "statement identifier",
    })
}
