//! Settling what a dead process left open, with its last interim.

use std::collections::HashMap;
use std::sync::Arc;

use hubflight_store::instant;
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::audit::sealed_sha256;
use crate::execution::{Begun, Settlement};
use crate::records::Ending;
use crate::settle::write_settlements;
use crate::write::uuid_of;
use crate::writer::Writer;
use crate::{LedgerError, Measured, Tariff};

const OPEN: &str = "SELECT e.statement_id, e.attempt, e.tariff_version, e.habilitations, \
    e.datasets, e.columns, e.started_at, s.person, s.project, s.organisation, s.kind, \
    s.client, s.sql_sha256, s.sql_sealed, i.quantities, i.at AS interim_at \
    FROM executions e \
    JOIN statements s ON s.statement_id = e.statement_id \
    LEFT JOIN interims i ON i.statement_id = e.statement_id AND i.attempt = e.attempt \
      AND i.seq = (SELECT MAX(l.seq) FROM interims l \
                   WHERE l.statement_id = e.statement_id AND l.attempt = e.attempt) \
    WHERE e.settled = 0 AND e.owner = $1 LIMIT $2";

impl Writer {
    /// Settles the open executions of dead owners as interrupted; answers how many.
    pub async fn recover(&mut self) -> Result<usize, LedgerError> {
        let mut tariffs = HashMap::new();
        let mut recovered = 0;
        for owner in self.owner.dead_owners(&self.store).await? {
            loop {
                let found = self.recover_some(owner, &mut tariffs).await?;
                if found == 0 {
                    break;
                }
                recovered += found;
            }
        }
        Ok(recovered)
    }

    async fn recover_some(
        &mut self,
        owner: i64,
        tariffs: &mut HashMap<String, Arc<Tariff>>,
    ) -> Result<usize, LedgerError> {
        let max = i64::try_from(self.limits.batch_requests_max.max(1)).unwrap_or(i64::MAX);
        let mut write = self.store.write().await?;
        let rows = sqlx::query(OPEN)
            .bind(owner)
            .bind(max)
            .fetch_all(write.connection())
            .await?;
        let mut settlements = Vec::with_capacity(rows.len());
        for row in &rows {
            let version: String = row.try_get("tariff_version")?;
            let tariff = match tariffs.get(&version) {
                Some(tariff) => Arc::clone(tariff),
                None => {
                    let tariff = Arc::new(read_tariff(write.connection(), &version).await?);
                    tariffs.insert(version, tariff.clone());
                    tariff
                }
            };
            settlements.push(interrupted(row, &tariff)?);
        }
        let references: Vec<&Settlement> = settlements.iter().collect();
        let mut audits = Vec::with_capacity(settlements.len());
        write_settlements(write.connection(), &references, &mut audits).await?;
        self.log.append(write.connection(), &audits).await?;
        write.commit().await?;
        Ok(rows.len())
    }
}

/// The tariff that the execution began under.
async fn read_tariff(
    connection: &mut sqlx::AnyConnection,
    version: &str,
) -> Result<Tariff, LedgerError> {
    let row = sqlx::query("SELECT body FROM tariffs WHERE version = $1")
        .bind(version)
        .fetch_one(connection)
        .await?;
    let body: String = row.try_get("body")?;
    serde_json::from_str(&body).map_err(|_| LedgerError::Corrupt { what: "tariff" })
}

/// It ended, as far as anyone can tell, at its last interim.
fn interrupted(row: &AnyRow, tariff: &Tariff) -> Result<Settlement, LedgerError> {
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
        Ending::Interrupted,
        measured,
        tariff,
        ended_at,
    ))
}
