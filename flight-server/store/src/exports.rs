//! Packages that are to leave the hub, from the request to their end.
//!
//! ```text
//!  request ──▶ refused                            the rules refuse
//!     │
//!     ├──▶ waiting ──second person──▶ released ──▶ expired | withdrawn
//!     │       └──▶ refused | expired | withdrawn
//!     └──▶ released                               the rules find nothing
//! ```
//!
//! A package's content is not here: the store keeps its digest. Findings, labels and schema are
//! opaque.

use chrono::{DateTime, Utc};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::columns::{get, instant, instant_or_null, micros};
use crate::{Store, StoreError, WriteTransaction};

/// Bytes of the SHA-256 of a package.
const DIGEST_BYTES: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportState {
    /// For a second person.
    Waiting,
    Released,
    Refused,
    Withdrawn,
    Expired,
}

impl ExportState {
    const ALL: [Self; 5] = [
        Self::Waiting,
        Self::Released,
        Self::Refused,
        Self::Withdrawn,
        Self::Expired,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Released => "released",
            Self::Refused => "refused",
            Self::Withdrawn => "withdrawn",
            Self::Expired => "expired",
        }
    }
}

/// A package, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewExport {
    pub id: String,
    pub project: String,
    pub name: String,
    pub purpose: String,
    pub statement_id: String,
    pub requested_by: String,
    pub requested_at: DateTime<Utc>,
    pub rows: u64,
    /// Of the package, before it is sealed.
    pub bytes: u64,
    /// SHA-256 of the package, before it is sealed.
    pub digest: [u8; DIGEST_BYTES],
    /// Arrow schema as an IPC message.
    pub schema_ipc: Vec<u8>,
    /// JSON text.
    pub findings: String,
    /// JSON text.
    pub labels: String,
    pub state: ExportState,
    /// When it stops waiting, or can no longer be read.
    pub expires_at: DateTime<Utc>,
}

/// A package, and who decided on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    pub package: NewExport,
    /// The second person, where one decided.
    pub decided_by: Option<String>,
    pub decided_at: Option<DateTime<Utc>>,
    /// That person is a member of the project by now, so that the release does not count.
    pub decider_is_member: bool,
}

impl Export {
    /// Where it stands; a package whose time has come is expired whether or not that was written.
    pub fn state(&self, now: DateTime<Utc>) -> ExportState {
        match self.package.state {
            ExportState::Waiting | ExportState::Released if self.package.expires_at <= now => {
                ExportState::Expired
            }
            state => state,
        }
    }

    /// True where members of its project may read it.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.state(now) == ExportState::Released && !self.decider_is_member
    }
}

/// How a second person decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportDecision {
    Release { until: DateTime<Utc> },
    Refuse,
}

/// What a project has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportCounts {
    /// Packages that wait or are released.
    pub open: u64,
    /// Packages that were asked for since a moment, whatever became of them.
    pub requested: u64,
    /// Packages that the rules released alone since a moment.
    pub released_alone: u64,
}

const ROW: &str = "SELECT e.*, CASE WHEN EXISTS (SELECT 1 FROM members m \
                   WHERE m.project = e.project AND m.person = e.decided_by) \
                   THEN 1 ELSE 0 END AS decider_is_member FROM exports e";

impl Store {
    /// Every package, of one project or of all, oldest first.
    pub async fn exports(&self, project: Option<&str>) -> Result<Vec<Export>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "{ROW} WHERE $1 IS NULL OR e.project = $1 ORDER BY e.requested_at, e.id"
        ));
        let rows = sqlx::query(sql)
            .bind(project)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(export_of).collect()
    }

    /// The packages that wait for a second person, oldest first; some may be over by now.
    pub async fn waiting_exports(&self) -> Result<Vec<Export>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "{ROW} WHERE e.state = 'waiting' ORDER BY e.requested_at, e.id"
        ));
        let rows = sqlx::query(sql).fetch_all(self.pool()).await?;
        rows.iter().map(export_of).collect()
    }

    /// A package by its identifier.
    pub async fn export(&self, id: &str) -> Result<Option<Export>, StoreError> {
        by_id(&mut *self.pool().acquire().await?, id).await
    }

    /// The package of a project that has this name, while it waits or is released.
    pub async fn export_under_way(
        &self,
        project: &str,
        name: &str,
    ) -> Result<Option<Export>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "{ROW} WHERE e.project = $1 AND e.name = $2 AND e.state IN ('waiting', 'released')"
        ));
        let row = sqlx::query(sql)
            .bind(project)
            .bind(name)
            .fetch_optional(self.pool())
            .await?;
        row.as_ref().map(export_of).transpose()
    }

    /// True where [`WriteTransaction::expire_exports`] would end a package.
    pub async fn exports_are_due(&self, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let due = due(&mut *self.pool().acquire().await?, now).await?;
        Ok(!due.is_empty())
    }

    /// The packages of a project that were released, whether or not they can be read now.
    pub(crate) async fn released_exports(&self, project: &str) -> Result<Vec<Export>, StoreError> {
        let sql = AssertSqlSafe(format!(
            "{ROW} WHERE e.project = $1 AND e.state = 'released' ORDER BY e.name"
        ));
        let rows = sqlx::query(sql)
            .bind(project)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(export_of).collect()
    }
}

impl WriteTransaction {
    /// Enters a package.
    ///
    /// # Errors
    /// [`StoreError::Exists`] where another package of the project has the name and waits or is
    /// released.
    pub async fn put_export(&mut self, new: &NewExport) -> Result<(), StoreError> {
        let decided_at = match new.state {
            ExportState::Waiting => None,
            _ => Some(micros(new.requested_at)),
        };
        let inserted = sqlx::query(
            "INSERT INTO exports (id, project, name, purpose, statement_id, requested_by, \
             requested_at, row_count, byte_count, digest, schema_ipc, findings, labels, state, \
             decided_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        )
        .bind(&new.id)
        .bind(&new.project)
        .bind(&new.name)
        .bind(&new.purpose)
        .bind(&new.statement_id)
        .bind(&new.requested_by)
        .bind(micros(new.requested_at))
        .bind(i64::try_from(new.rows).unwrap_or(i64::MAX))
        .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
        .bind(new.digest.to_vec())
        .bind(new.schema_ipc.clone())
        .bind(&new.findings)
        .bind(&new.labels)
        .bind(new.state.as_str())
        .bind(decided_at)
        .bind(micros(new.expires_at))
        .execute(self.connection())
        .await
        .map_err(StoreError::from);
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if error.is_duplicate() => Err(StoreError::Exists {
                what: "export",
                name: new.name.clone(),
            }),
            Err(error) => Err(error),
        }
    }

    /// A package by its identifier.
    pub async fn export(&mut self, id: &str) -> Result<Option<Export>, StoreError> {
        by_id(self.connection(), id).await
    }

    /// What a project has under way, and what was asked for and released alone since `since`.
    pub async fn export_counts(
        &mut self,
        project: &str,
        since: DateTime<Utc>,
    ) -> Result<ExportCounts, StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(CASE WHEN state IN ('waiting', 'released') THEN 1 END) AS open_now, \
             COUNT(CASE WHEN requested_at > $2 THEN 1 END) AS requested, \
             COUNT(CASE WHEN decided_by IS NULL AND decided_at IS NOT NULL \
             AND state <> 'refused' AND requested_at > $2 THEN 1 END) AS released_alone \
             FROM exports WHERE project = $1",
        )
        .bind(project)
        .bind(micros(since))
        .fetch_one(self.connection())
        .await?;
        let count = |column| {
            let count: i64 = get(&row, column)?;
            u64::try_from(count).map_err(|_| StoreError::Corrupt { what: "count" })
        };
        Ok(ExportCounts {
            open: count("open_now")?,
            requested: count("requested")?,
            released_alone: count("released_alone")?,
        })
    }

    /// Decides on a package that waits. False where `person` may not: who asked for it, and the
    /// members of its project.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where no such package waits at `now`.
    pub async fn decide_export(
        &mut self,
        id: &str,
        decision: ExportDecision,
        person: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let waits = self.export(id).await?;
        let waits = waits.filter(|export| export.state(now) == ExportState::Waiting);
        let export = waits.ok_or_else(|| StoreError::NotFound {
            what: "export",
            name: id.to_owned(),
        })?;
        let (state, until) = match decision {
            ExportDecision::Release { until } => (ExportState::Released, until),
            ExportDecision::Refuse => (ExportState::Refused, export.package.expires_at),
        };
        let decided = sqlx::query(
            "UPDATE exports SET state = $2, decided_by = $3, decided_at = $4, expires_at = $5 \
             WHERE id = $1 AND state = 'waiting' AND requested_by <> $3 AND NOT EXISTS \
             (SELECT 1 FROM members m WHERE m.project = exports.project AND m.person = $3)",
        )
        .bind(id)
        .bind(state.as_str())
        .bind(person)
        .bind(micros(now))
        .bind(micros(until))
        .execute(self.connection())
        .await?
        .rows_affected();
        Ok(decided > 0)
    }

    /// Takes back a package that waits or is released; false where none does.
    pub async fn withdraw_export(&mut self, id: &str) -> Result<bool, StoreError> {
        let withdrawn = sqlx::query(
            "UPDATE exports SET state = 'withdrawn' \
             WHERE id = $1 AND state IN ('waiting', 'released')",
        )
        .bind(id)
        .execute(self.connection())
        .await?
        .rows_affected();
        Ok(withdrawn > 0)
    }

    /// Takes back every package of a project that waits or is released, and tells which they are.
    pub async fn withdraw_exports(&mut self, project: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "UPDATE exports SET state = 'withdrawn' \
             WHERE project = $1 AND state IN ('waiting', 'released') RETURNING id",
        )
        .bind(project)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(|row| get(row, "id")).collect()
    }

    /// Ends the packages whose time has come, and tells which they are.
    pub async fn expire_exports(&mut self, now: DateTime<Utc>) -> Result<Vec<Export>, StoreError> {
        let due = due(self.connection(), now).await?;
        if !due.is_empty() {
            sqlx::query(
                "UPDATE exports SET state = 'expired' \
                 WHERE state IN ('waiting', 'released') AND expires_at <= $1",
            )
            .bind(micros(now))
            .execute(self.connection())
            .await?;
        }
        Ok(due)
    }

    /// True where a person has opposed after `since`.
    pub async fn opposed_since(&mut self, since: DateTime<Utc>) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS opposed FROM oppositions WHERE entered_at > $1")
            .bind(micros(since))
            .fetch_one(self.connection())
            .await?;
        Ok(get::<i64>(&row, "opposed")? > 0)
    }
}

async fn by_id(connection: &mut AnyConnection, id: &str) -> Result<Option<Export>, StoreError> {
    let sql = AssertSqlSafe(format!("{ROW} WHERE e.id = $1"));
    let row = sqlx::query(sql).bind(id).fetch_optional(connection).await?;
    row.as_ref().map(export_of).transpose()
}

async fn due(
    connection: &mut AnyConnection,
    now: DateTime<Utc>,
) -> Result<Vec<Export>, StoreError> {
    let sql = AssertSqlSafe(format!(
        "{ROW} WHERE e.state IN ('waiting', 'released') AND e.expires_at <= $1 ORDER BY e.id"
    ));
    let rows = sqlx::query(sql)
        .bind(micros(now))
        .fetch_all(connection)
        .await?;
    rows.iter().map(export_of).collect()
}

fn export_of(row: &AnyRow) -> Result<Export, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "export" };
    let text: String = get(row, "state")?;
    let known = ExportState::ALL.into_iter();
    let state = known.into_iter().find(|state| state.as_str() == text);
    let state = state.ok_or_else(corrupt)?;
    let digest: Vec<u8> = get(row, "digest")?;
    let count = |column| u64::try_from(get::<i64>(row, column)?).map_err(|_| corrupt());
    Ok(Export {
        package: NewExport {
            id: get(row, "id")?,
            project: get(row, "project")?,
            name: get(row, "name")?,
            purpose: get(row, "purpose")?,
            statement_id: get(row, "statement_id")?,
            requested_by: get(row, "requested_by")?,
            requested_at: instant(get(row, "requested_at")?)?,
            rows: count("row_count")?,
            bytes: count("byte_count")?,
            digest: digest.try_into().map_err(|_| corrupt())?,
            schema_ipc: get(row, "schema_ipc")?,
            findings: get(row, "findings")?,
            labels: get(row, "labels")?,
            state,
            expires_at: instant(get(row, "expires_at")?)?,
        },
        decided_by: get(row, "decided_by")?,
        decided_at: instant_or_null(get(row, "decided_at")?)?,
        decider_is_member: get::<i64>(row, "decider_is_member")? != 0,
    })
}
