//! Erasing what identifies somebody from old entries, with the tree as it is.
//!
//! What goes is the payload of entries and the texts, persons, clients and tags of statements.
//! Usage records stay, since a bill must be explained for longer. The triggers of the database
//! allow it for a period that `audit_purges` names, which that table's check allows 365 days
//! after its end.

use chrono::{DateTime, Months, Utc};
use hubflight_audit::Signer;
use hubflight_store::{Backend, Store, micros};
use sqlx::{AnyConnection, AssertSqlSafe};

use super::append::{Audit, AuditLog};
use crate::{AuditEvent, LedgerError};

pub(super) const EVENT: &str = "audit_purged";
/// How long everything is kept.
const KEPT: Months = Months::new(12);
/// Rows that one transaction looks at, so that the log is not held up for long.
const ROWS_AT_ONCE: i64 = 2_000;

/// What a purge erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub entries: u64,
    pub statements: u64,
}

/// Erases the payload of entries and the texts of statements before `before`, and records who
/// asked for it. The record comes first; an erasure that is cut short goes on when it is asked
/// for again.
///
/// # Errors
/// [`LedgerError::TooYoung`] when `before` is less than 12 months ago.
pub async fn purge_before(
    store: &Store,
    signer: Signer,
    before: DateTime<Utc>,
    act: &AuditEvent,
) -> Result<Purged, LedgerError> {
    let now = Utc::now();
    let latest = now
        .checked_sub_months(KEPT)
        .ok_or(LedgerError::Corrupt { what: "time" })?;
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
    let statements = format!(
        "UPDATE statements SET person = '', client = '', sql_sha256 = '', sql_sealed = {empty}, \
         tags = '{{}}' WHERE seq > $1 AND seq <= $2 AND opened_at < $3 AND sql_sha256 <> ''"
    );
    let statements = erase(store, before, "statements", &statements).await?;
    if store.backend() == Backend::Sqlite {
        // What was erased is still in the write-ahead log.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_all(store.pool())
            .await?;
    }
    Ok(Purged {
        entries,
        statements,
    })
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
        ..act.clone()
    };
    let detail = serde_json::json!({ "before_at": micros(before) });
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
