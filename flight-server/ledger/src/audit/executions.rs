//! Whether the log and the ledger's tables tell of the same executions.
//!
//! Each execution has its intent, and when it is settled its outcome, which tells the digest of
//! its usage record. What is missing on one side is found from the other. An intent without an
//! outcome is right while its execution is open: it runs, or its server died and the next start
//! settles it.

use futures::TryStreamExt;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::append::{INTENT, OUTCOME};
use super::finding::Finding;
use super::verify::Findings;
use crate::LedgerError;

/// Compares both sides; answers how many executions are open.
pub(super) async fn compare(
    connection: &mut AnyConnection,
    findings: &mut Findings,
) -> Result<u64, LedgerError> {
    let open = find_vanished(connection, findings).await?;
    find_unannounced(connection, findings).await?;
    find_unlogged(connection, findings).await?;
    Ok(open)
}

/// Intents without an outcome whose execution is not open.
async fn find_vanished(
    connection: &mut AnyConnection,
    findings: &mut Findings,
) -> Result<u64, LedgerError> {
    let sql = format!(
        "SELECT i.seq, e.settled FROM audit i LEFT JOIN audit o \
         ON o.statement_id = i.statement_id AND o.attempt = i.attempt AND o.event = '{OUTCOME}' \
         LEFT JOIN executions e ON e.statement_id = i.statement_id AND e.attempt = i.attempt \
         WHERE i.event = '{INTENT}' AND o.seq IS NULL ORDER BY i.seq"
    );
    let mut open = 0;
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let settled: Option<i64> = row.try_get("settled")?;
        if settled == Some(0) {
            open += 1;
        } else {
            let seq = row.try_get("seq")?;
            findings.add(Finding::Vanished { seq });
        }
    }
    Ok(open)
}

/// Outcomes of executions that no intent announced with the same rights, data and person. What
/// was refused or never redeemed did not begin; outcomes from before there were intents have no
/// digest.
async fn find_unannounced(
    connection: &mut AnyConnection,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    let sql = format!(
        "SELECT o.seq FROM audit o LEFT JOIN audit i \
         ON i.statement_id = o.statement_id AND i.attempt = o.attempt AND i.event = '{INTENT}' \
         WHERE o.event = '{OUTCOME}' AND o.attempt > 0 AND o.detail IS NOT NULL \
         AND (i.seq IS NULL OR i.seq > o.seq OR i.habilitations <> o.habilitations \
              OR i.datasets <> o.datasets OR i.columns <> o.columns \
              OR COALESCE(i.project, '') <> COALESCE(o.project, '') \
              OR i.person <> o.person OR i.sql_sha256 <> o.sql_sha256) ORDER BY o.seq"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let seq = row.try_get("seq")?;
        findings.add(Finding::Unannounced { seq });
    }
    Ok(())
}

/// Settled executions and usage records that no outcome tells of.
async fn find_unlogged(
    connection: &mut AnyConnection,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    let sql = format!(
        "SELECT x.statement_id, x.attempt FROM (\
           SELECT statement_id, attempt FROM executions WHERE settled <> 0 \
           UNION SELECT statement_id, attempt FROM usage) x \
         LEFT JOIN audit o ON o.statement_id = x.statement_id AND o.attempt = x.attempt \
           AND o.event = '{OUTCOME}' \
         WHERE o.seq IS NULL"
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        findings.add(Finding::Unlogged {
            statement_id: row.try_get("statement_id")?,
            attempt: row.try_get("attempt")?,
        });
    }
    Ok(())
}
