//! What a monthly review looks at: unusual volumes, refusals, changes of rights.

use chrono::{DateTime, Utc};
use hubflight_store::{Store, instant, micros};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::LedgerError;

/// Acts that one review lists.
const ACTS_MAX: i64 = 10_000;

/// What a project took in a period, and on average in equal periods before.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    pub project: String,
    pub statements: u64,
    pub rows_returned: u64,
    pub bytes_returned: u64,
    /// Of the periods before in which there was any; none where this is the first.
    pub bytes_before: Option<f64>,
}

impl Volume {
    /// This many times what was usual.
    pub fn growth(&self) -> Option<f64> {
        let before = self.bytes_before.filter(|before| *before > 0.0)?;
        Some(self.bytes_returned as f64 / before)
    }
}

/// What one person was refused, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// None where nobody was logged in.
    pub person: Option<String>,
    pub event: String,
    pub kind: String,
    pub times: u64,
}

/// An act that is no statement: a change of rights, a key, a purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    pub at: DateTime<Utc>,
    pub event: String,
    pub person: Option<String>,
    pub project: Option<String>,
    pub outcome: String,
    pub client: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Review {
    /// By project.
    pub volumes: Vec<Volume>,
    /// Most often first.
    pub refused: Vec<Refused>,
    /// In the order of the log.
    pub acts: Vec<Act>,
}

/// Reviews the time from `from` until before `to`, with `before` periods of the same length
/// ahead of it as what is usual.
///
/// # Errors
/// [`LedgerError`] where the store cannot be read.
pub async fn review(
    store: &Store,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    before: u32,
) -> Result<Review, LedgerError> {
    Ok(Review {
        volumes: volumes(store, from, to, before).await?,
        refused: refused(store, from, to).await?,
        acts: acts(store, from, to).await?,
    })
}

async fn volumes(
    store: &Store,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    before: u32,
) -> Result<Vec<Volume>, LedgerError> {
    let mut volumes = Vec::new();
    for row in taken(store, from, to).await? {
        volumes.push(Volume {
            project: text(&row, "project")?,
            statements: number(&row, "statements")?,
            rows_returned: number(&row, "row_count")?,
            bytes_returned: number(&row, "byte_count")?,
            bytes_before: None,
        });
    }
    let mut sums = std::collections::BTreeMap::<String, (f64, u32)>::new();
    for period in 1..=i32::try_from(before).unwrap_or(i32::MAX) {
        let shift = (to - from) * period;
        for row in taken(store, from - shift, to - shift).await? {
            let (sum, periods) = sums.entry(text(&row, "project")?).or_default();
            *sum += number(&row, "byte_count")? as f64;
            *periods += 1;
        }
    }
    for volume in &mut volumes {
        let usual = sums.get(&volume.project);
        volume.bytes_before = usual.map(|(sum, periods)| sum / f64::from(*periods));
    }
    Ok(volumes)
}

async fn taken(
    store: &Store,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<AnyRow>, LedgerError> {
    let rows = sqlx::query(
        "SELECT project, COUNT(*) AS statements, \
         CAST(SUM(rows_returned) AS BIGINT) AS row_count, \
         CAST(SUM(bytes_returned) AS BIGINT) AS byte_count FROM usage \
         WHERE project IS NOT NULL AND ended_at >= $1 AND ended_at < $2 \
         GROUP BY project ORDER BY project",
    )
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(store.pool())
    .await?;
    Ok(rows)
}

async fn refused(
    store: &Store,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Refused>, LedgerError> {
    let rows = sqlx::query(
        "SELECT person, event, COALESCE(error_kind, outcome) AS kind, COUNT(*) AS times \
         FROM audit WHERE at >= $1 AND at < $2 AND outcome NOT IN ('ok', 'begun', 'unredeemed') \
         GROUP BY person, event, COALESCE(error_kind, outcome) \
         ORDER BY times DESC, person, event, kind",
    )
    .bind(micros(from))
    .bind(micros(to))
    .fetch_all(store.pool())
    .await?;
    let of = |row: &AnyRow| {
        Ok(Refused {
            person: row.try_get("person")?,
            event: text(row, "event")?,
            kind: text(row, "kind")?,
            times: number(row, "times")?,
        })
    };
    rows.iter().map(of).collect()
}

async fn acts(
    store: &Store,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Act>, LedgerError> {
    let rows = sqlx::query(
        "SELECT at, event, person, project, outcome, client FROM audit \
         WHERE at >= $1 AND at < $2 AND statement_id IS NULL ORDER BY seq LIMIT $3",
    )
    .bind(micros(from))
    .bind(micros(to))
    .bind(ACTS_MAX)
    .fetch_all(store.pool())
    .await?;
    let of = |row: &AnyRow| {
        Ok(Act {
            at: instant(row.try_get("at")?)?,
            event: text(row, "event")?,
            person: row.try_get("person")?,
            project: row.try_get("project")?,
            outcome: text(row, "outcome")?,
            client: text(row, "client")?,
        })
    };
    rows.iter().map(of).collect()
}

fn text(row: &AnyRow, column: &str) -> Result<String, LedgerError> {
    Ok(row.try_get(column)?)
}

fn number(row: &AnyRow, column: &str) -> Result<u64, LedgerError> {
    let number: i64 = row.try_get(column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}
