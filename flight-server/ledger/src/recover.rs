//! Settling what nobody runs: what a dead process left open, with its last interim, and what
//! this one began without learning of it.

use std::collections::HashMap;
use std::sync::Arc;

use hubflight_store::instant;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};
use uuid::Uuid;

use crate::audit::sealed_sha256;
use crate::execution::{Begun, Settlement};
use crate::records::Ending;
use crate::settle::write_settlements;
use crate::write::{executions_of, uuid_of};
use crate::writer::Writer;
use crate::{Fault, LedgerError, Measured, Outcome, Tariff};

const OPEN: &str = "SELECT e.statement_id, e.attempt, e.tariff_version, e.habilitations, \
    e.datasets, e.columns, e.started_at, s.person, s.project, s.organisation, s.kind, \
    s.client, s.sql_sha256, s.sql_sealed, i.quantities, i.at AS interim_at \
    FROM executions e \
    JOIN statements s ON s.statement_id = e.statement_id \
    LEFT JOIN interims i ON i.statement_id = e.statement_id AND i.attempt = e.attempt \
      AND i.seq = (SELECT MAX(l.seq) FROM interims l \
                   WHERE l.statement_id = e.statement_id AND l.attempt = e.attempt) \
    WHERE e.settled = 0 AND e.owner = $1";

/// How an execution ends whose begin was answered with an error, though it was written.
const UNANSWERED: Ending = Ending::Settled(Outcome::Error {
    kind: "unavailable",
    fault: Fault::Hub,
});

type Tariffs = HashMap<String, Arc<Tariff>>;

impl Writer {
    /// Settles the open executions of dead owners as interrupted; answers how many.
    pub async fn recover(&mut self) -> Result<usize, LedgerError> {
        let mut tariffs = Tariffs::new();
        let mut recovered = 0;
        for owner in self.owner.dead_owners(&self.store).await? {
            loop {
                let settled = self.recover_some(owner, &mut tariffs).await?;
                if settled == 0 {
                    break;
                }
                recovered += settled;
            }
        }
        Ok(recovered)
    }

    async fn recover_some(
        &mut self,
        owner: i64,
        tariffs: &mut Tariffs,
    ) -> Result<usize, LedgerError> {
        let max = i64::try_from(self.limits.batch_requests_max.max(1)).unwrap_or(i64::MAX);
        let mut write = self.store.write().await?;
        let rows = sqlx::query(AssertSqlSafe(format!("{OPEN} LIMIT $2")))
            .bind(owner)
            .bind(max)
            .fetch_all(write.connection())
            .await?;
        let mut settlements = Vec::with_capacity(rows.len());
        for row in &rows {
            let tariff = tariff_of(write.connection(), row, tariffs).await?;
            settlements.push(left_open(row, Ending::Interrupted, &tariff)?);
        }
        let references: Vec<&Settlement> = settlements.iter().collect();
        let mut audits = Vec::with_capacity(settlements.len());
        let settled = write_settlements(write.connection(), &references, &mut audits).await?;
        let entries = self.log.append(write.connection(), &audits).await?;
        write.commit().await?;
        self.log.committed(entries);
        Ok(settled.len())
    }

    /// Settles the executions of this process that nobody was given: the answer to the commit
    /// of their begin was lost, so that nothing of them was served.
    pub async fn settle_unanswered(&mut self) -> Result<(), LedgerError> {
        let rows = sqlx::query(
            "SELECT statement_id, attempt FROM executions WHERE settled = 0 AND owner = $1",
        )
        .bind(self.owner.id())
        .fetch_all(self.store.pool())
        .await?;
        let open = executions_of(&rows)?;
        let unanswered: Vec<_> = open.difference(&self.running).copied().collect();
        for (statement_id, attempt) in unanswered {
            self.settle_one_unanswered(statement_id, attempt).await?;
        }
        Ok(())
    }

    async fn settle_one_unanswered(
        &mut self,
        statement_id: Uuid,
        attempt: u32,
    ) -> Result<(), LedgerError> {
        let mut write = self.store.write().await?;
        let sql = format!("{OPEN} AND e.statement_id = $2 AND e.attempt = $3");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(self.owner.id())
            .bind(statement_id.to_string())
            .bind(i64::from(attempt))
            .fetch_optional(write.connection())
            .await?;
        let Some(row) = row else {
            return Ok(());
        };
        let tariff = tariff_of(write.connection(), &row, &mut Tariffs::new()).await?;
        let settlement = left_open(&row, UNANSWERED, &tariff)?;
        let mut audits = Vec::new();
        write_settlements(write.connection(), &[&settlement], &mut audits).await?;
        let entries = self.log.append(write.connection(), &audits).await?;
        write.commit().await?;
        self.log.committed(entries);
        tracing::warn!(%statement_id, attempt, "settled an execution that nobody was given");
        Ok(())
    }
}

/// The tariff that the execution began under.
async fn tariff_of(
    connection: &mut AnyConnection,
    row: &AnyRow,
    known: &mut Tariffs,
) -> Result<Arc<Tariff>, LedgerError> {
    let version: String = row.try_get("tariff_version")?;
    if let Some(tariff) = known.get(&version) {
        return Ok(Arc::clone(tariff));
    }
    let row = sqlx::query("SELECT body FROM tariffs WHERE version = $1")
        .bind(version.clone())
        .fetch_one(connection)
        .await?;
    let body: String = row.try_get("body")?;
    let tariff: Tariff =
        serde_json::from_str(&body).map_err(|_| LedgerError::Corrupt { what: "tariff" })?;
    let tariff = Arc::new(tariff);
    known.insert(version, Arc::clone(&tariff));
    Ok(tariff)
}

/// It ended, as far as anyone can tell, at its last interim.
fn left_open(row: &AnyRow, ending: Ending, tariff: &Tariff) -> Result<Settlement, LedgerError> {
    let attempt: i64 = row.try_get("attempt")?;
    let begun = Begun {
        statement_id: uuid_of(row, "statement_id")?,
        attempt: u32::try_from(attempt).map_err(|_| LedgerError::Corrupt { what: "attempt" })?,
        person: row.try_get("person")?,
        project: row.try_get("project")?,
        organisation: row.try_get("organisation")?,
        kind: row.try_get("kind")?,
        client: row.try_get("client")?,
        sql_sha256: row.try_get("sql_sha256")?,
        sealed_sha256: sealed_sha256(row.try_get("sql_sealed")?),
        habilitations: row.try_get("habilitations")?,
        datasets: row.try_get("datasets")?,
        columns: row.try_get("columns")?,
        started_at: instant(row.try_get("started_at")?)?,
    };
    let quantities: Option<String> = row.try_get("quantities")?;
    let measured: Measured = match quantities {
        Some(text) => {
            serde_json::from_str(&text).map_err(|_| LedgerError::Corrupt { what: "interim" })?
        }
        None => Measured::default(),
    };
    let interim_at: Option<i64> = row.try_get("interim_at")?;
    let ended_at = match interim_at {
        Some(at) => instant(at)?,
        None => begun.started_at,
    };
    Ok(Settlement::new(
        Arc::new(begun),
        ending,
        measured,
        tariff,
        ended_at,
    ))
}
