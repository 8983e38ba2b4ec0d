//! Erasing what identifies somebody from old entries, with the tree as it is.
//!
//! What goes is the payload of entries and the texts, persons, clients and tags of statements.
//! Usage records stay, since a bill must be explained for longer. The triggers of the database
//! allow it for a period that `audit_purges` names, which that table's check allows 365 days
//! after its end. Whether the clock was right is told by the checkpoints that follow the purge's
//! entry: a verification takes the earliest of their times for that of the purge.

use std::collections::BTreeSet;

use chrono::{DateTime, Months, Utc};
use hubflight_audit::{Checkpoint, Signer};
use hubflight_store::{Backend, Store, instant, micros};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::append::{Audit, AuditLog};
use super::finding::Finding;
use super::row::AuditRow;
use super::verify::Findings;
use crate::{AuditEvent, LedgerError};

const EVENT: &str = "audit_purged";
const BEFORE: &str = "before_at";
/// How long everything is kept at least, in months, and what identifies somebody at most.
pub const KEPT_MONTHS: std::ops::RangeInclusive<u32> = 12..=36;
/// Rows that one transaction looks at, so that the log is not held up for long.
const ROWS_AT_ONCE: i64 = 2_000;

/// What a purge erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub entries: u64,
    pub statements: u64,
    /// SQLite could not empty its write-ahead log, which may still hold what was erased: somebody
    /// reads. The same purge empties it later.
    pub log_is_busy: bool,
}

/// Erases the payload of entries and the texts of statements before `before`, and records who
/// asked for it. The record comes first; an erasure that is cut short goes on when it is asked
/// for again.
///
/// # Errors
/// [`LedgerError::TooYoung`] when `before` is less than `kept_months` ago, or 12.
pub async fn purge_before(
    store: &Store,
    signer: Signer,
    kept_months: u32,
    before: DateTime<Utc>,
    act: &AuditEvent,
) -> Result<Purged, LedgerError> {
    let now = Utc::now();
    let latest = kept_from(now, kept_months.max(*KEPT_MONTHS.start()))?;
    if before > latest {
        return Err(LedgerError::TooYoung { before, latest });
    }
    permit(store, AuditLog::new(signer), before, now, act).await?;
    let entries = erase(
        store,
        before,
        "audit",
        "UPDATE audit SET person = NULL, client = '', sql_sha256 = NULL, sealed_sha256 = NULL, \
         salt = NULL WHERE seq > $1 AND seq <= $2 AND at < $3 AND salt IS NOT NULL",
    )
    .await?;
    let empty = match store.backend() {
        Backend::Sqlite => "x''",
        Backend::Postgres => "''",
    };
    // A text stays as long as an entry tells its hash: a younger one of its statement does.
    let statements = format!(
        "UPDATE statements SET person = '', client = '', sql_sha256 = '', sql_sealed = {empty}, \
         tags = '{{}}' WHERE seq > $1 AND seq <= $2 AND opened_at < $3 AND sql_sha256 <> '' \
         AND NOT EXISTS (SELECT 1 FROM audit a \
                         WHERE a.statement_id = statements.statement_id AND a.salt IS NOT NULL)"
    );
    let statements = erase(store, before, "statements", &statements).await?;
    Ok(Purged {
        entries,
        statements,
        log_is_busy: !empty_log(store).await?,
    })
}

/// The time of the oldest entry that still says who did something, where it is older than
/// `kept_months` at `now`.
///
/// # Errors
/// As the store gives them.
pub async fn overdue(
    store: &Store,
    kept_months: u32,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, LedgerError> {
    let row = sqlx::query("SELECT at FROM audit WHERE salt IS NOT NULL ORDER BY seq LIMIT 1")
        .fetch_optional(store.pool())
        .await?;
    let oldest = row.map(|row| instant(row.try_get("at")?)).transpose()?;
    let latest = kept_from(now, kept_months)?;
    Ok(oldest.filter(|at| *at < latest))
}

fn kept_from(now: DateTime<Utc>, months: u32) -> Result<DateTime<Utc>, LedgerError> {
    now.checked_sub_months(Months::new(months))
        .ok_or(LedgerError::Corrupt { what: "time" })
}

/// What was erased is still in SQLite's write-ahead log; answers whether that is empty now.
async fn empty_log(store: &Store) -> Result<bool, LedgerError> {
    if store.backend() != Backend::Sqlite {
        return Ok(true);
    }
    let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(store.pool())
        .await?;
    // Not by name: the first of three columns is 1 when somebody was in the way.
    let busy: i64 = row.try_get(0)?;
    Ok(busy == 0)
}

/// Lets the triggers erase that period, and records it.
async fn permit(
    store: &Store,
    log: AuditLog,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    act: &AuditEvent,
) -> Result<(), LedgerError> {
    let mut write = store.write().await?;
    sqlx::query(
        "INSERT INTO audit_purges (before_at, purged_at) VALUES ($1, $2) \
         ON CONFLICT (before_at) DO NOTHING",
    )
    .bind(micros(before))
    .bind(micros(now))
    .execute(write.connection())
    .await?;
    let event = AuditEvent {
        event: EVENT,
        at: now,
        ..act.clone()
    };
    let detail = serde_json::json!({ BEFORE: micros(before) });
    log.append(write.connection(), &[Audit::of_act(&event, &detail)])
        .await?;
    write.commit().await?;
    Ok(())
}

/// Runs an update over all rows of a table, in ranges of their numbers.
async fn erase(
    store: &Store,
    before: DateTime<Utc>,
    table: &str,
    update: &str,
) -> Result<u64, LedgerError> {
    // Only texts of this file are in it.
    let newest = format!("SELECT COALESCE(MAX(seq), 0) FROM {table}");
    let newest: i64 = sqlx::query_scalar(AssertSqlSafe(newest))
        .fetch_one(store.pool())
        .await?;
    let (mut after, mut erased) = (0, 0);
    while after < newest {
        let mut write = store.write().await?;
        overwrite_freed(store, write.connection()).await?;
        let done = sqlx::query(AssertSqlSafe(update.to_owned()))
            .bind(after)
            .bind(after + ROWS_AT_ONCE)
            .bind(micros(before))
            .execute(write.connection())
            .await?;
        erased += done.rows_affected();
        write.commit().await?;
        after += ROWS_AT_ONCE;
    }
    Ok(erased)
}

/// SQLite keeps what was erased in pages that it has not used again, unless it is told so.
/// PostgreSQL keeps it until VACUUM.
async fn overwrite_freed(store: &Store, connection: &mut AnyConnection) -> Result<(), LedgerError> {
    if store.backend() == Backend::Sqlite {
        sqlx::query("PRAGMA secure_delete = ON")
            .fetch_all(connection)
            .await?;
    }
    Ok(())
}

/// The purges that the database lets happen, and those that the log records.
pub(super) struct Purges {
    /// Ends of the periods that may be erased.
    permitted: BTreeSet<i64>,
    recorded: Vec<Recorded>,
}

struct Recorded {
    seq: i64,
    leaf: u64,
    before: i64,
    /// When it happened at the latest, by the clocks of whoever signed after it.
    latest: i64,
}

impl Purges {
    pub async fn permitted(connection: &mut AnyConnection) -> Result<Self, LedgerError> {
        let rows = sqlx::query("SELECT before_at FROM audit_purges")
            .fetch_all(connection)
            .await?;
        let ends = rows.iter().map(|row| row.try_get("before_at"));
        Ok(Purges {
            permitted: ends.collect::<Result<_, _>>()?,
            recorded: Vec::new(),
        })
    }

    /// Whether the payload of an entry of that time may be erased.
    pub fn allow(&self, at: i64) -> bool {
        self.permitted.last().is_some_and(|before| at < *before)
    }

    /// Notes the purge that an entry records, if it records one.
    pub fn read(&mut self, row: &AuditRow, leaf: u64) {
        if !row.is(EVENT) {
            return;
        }
        let before = row.in_detail(BEFORE);
        if let Some(before) = before.and_then(|before| before.as_i64()) {
            self.recorded.push(Recorded {
                seq: row.seq,
                leaf,
                before,
                latest: row.at,
            });
        }
    }

    /// What was signed after a purge tells when it happened at the latest.
    pub fn date(&mut self, signed: &Checkpoint) {
        let at = micros(signed.at);
        let covered = self.recorded.iter_mut().filter(|p| p.leaf < signed.size);
        covered.for_each(|purge| purge.latest = purge.latest.min(at));
    }

    /// Finds those that are not recorded, and those that were not due.
    pub fn compare(mut self, findings: &mut Findings) {
        for purge in &self.recorded {
            self.permitted.remove(&purge.before);
            let latest = instant(purge.latest).ok();
            let due = latest
                .and_then(|latest| latest.checked_sub_months(Months::new(*KEPT_MONTHS.start())));
            if due.is_none_or(|due| purge.before > micros(due)) {
                findings.add(Finding::PurgeTooYoung {
                    seq: purge.seq,
                    before: shown(purge.before),
                });
            }
        }
        for before in self.permitted {
            let before = shown(before);
            findings.add(Finding::PurgeUnrecorded { before });
        }
    }
}

fn shown(at: i64) -> String {
    instant(at).map_or_else(|_| at.to_string(), |at| at.to_rfc3339())
}
