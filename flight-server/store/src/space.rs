//! Reading a project's space: which tables, views and files it has at a snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::columns::{get, micros};
use crate::people::found;
use crate::{Store, StoreError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Table,
    View,
}

impl ObjectKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ObjectKind::Table => "table",
            ObjectKind::View => "view",
        }
    }

    pub(crate) fn parse(text: &str) -> Result<Self, StoreError> {
        match text {
            "table" => Ok(ObjectKind::Table),
            "view" => Ok(ObjectKind::View),
            _ => Err(StoreError::Corrupt {
                what: "object kind",
            }),
        }
    }
}

/// One immutable file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceFile {
    /// Name within the project's space; never reused.
    pub file: String,
    pub rows: i64,
    pub bytes: i64,
    /// JSON text: logical bytes by column; opaque to the store.
    pub column_bytes: Arc<str>,
}

/// Bytes of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceRoom {
    /// Of the live files.
    pub used: i64,
    /// Of all files that are on disk for it: those too that were removed from their tables and
    /// stay as long as a ticket may read them.
    pub held: i64,
    pub quota: i64,
    /// How many files those that are on disk are.
    pub files: i64,
}

impl SpaceRoom {
    /// How many quotas the files on disk may fill: statements that rewrite a table again and
    /// again would else fill the disk before anything is removed.
    const HELD_QUOTAS_MAX: i64 = 2;

    /// Most bytes that may be on disk.
    pub fn held_max(&self) -> i64 {
        self.quota.saturating_mul(Self::HELD_QUOTAS_MAX)
    }

    /// Bytes that a statement may add, if it removes `replaced` of the live ones.
    pub fn left(&self, replaced: u64) -> u64 {
        let left = |max: i64, now: i64| u64::try_from(max.saturating_sub(now)).unwrap_or(0);
        left(self.quota, self.used)
            .saturating_add(replaced)
            .min(left(self.held_max(), self.held))
    }

    /// Whether it holds no more than it may.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let (used, quota) = (self.used, self.quota);
        if used > quota {
            return Err(StoreError::QuotaExceeded { used, quota });
        }
        let (held, max) = (self.held, self.held_max());
        if held > max {
            return Err(StoreError::HeldExceeded { held, max });
        }
        Ok(())
    }
}

/// A table or view of the space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceObject {
    pub name: String,
    pub kind: ObjectKind,
    /// Arrow schema as an IPC message.
    pub schema_ipc: Vec<u8>,
    /// Text of a view.
    pub view_sql: Option<String>,
    /// JSON text: sources, habilitations, mode; opaque to the store.
    pub labels: String,
    /// Files of a table, by name.
    pub files: Vec<SpaceFile>,
}

/// A consistent picture of a space. A snapshot never changes, so this may be cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceView {
    pub snapshot: i64,
    /// By name.
    pub objects: Vec<SpaceObject>,
}

impl Store {
    /// Number of the newest snapshot; 0 for a space that was never written.
    pub async fn current_snapshot(&self, project: &str) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT space_snapshot FROM projects WHERE id = $1")
            .bind(project)
            .fetch_optional(self.pool())
            .await?;
        match row {
            Some(row) => get(&row, "space_snapshot"),
            None => Err(not_a_project(project)),
        }
    }

    /// The space as of a snapshot.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for a snapshot that is yet to come.
    pub async fn space_at(&self, project: &str, snapshot: i64) -> Result<SpaceView, StoreError> {
        if snapshot < 0 || snapshot > self.current_snapshot(project).await? {
            found(0, "snapshot", &snapshot.to_string())?;
        }
        let rows = sqlx::query(
            "SELECT name, kind, schema_ipc, view_sql, labels FROM space_objects \
             WHERE project = $1 AND added_snapshot <= $2 \
             AND (removed_snapshot IS NULL OR removed_snapshot > $2) ORDER BY name",
        )
        .bind(project)
        .bind(snapshot)
        .fetch_all(self.pool())
        .await?;
        if rows.is_empty() {
            let objects = Vec::new();
            return Ok(SpaceView { snapshot, objects });
        }
        let mut files = self.files_at(project, snapshot).await?;
        let objects = rows
            .iter()
            .map(|row| {
                let name: String = get(row, "name")?;
                let kind: String = get(row, "kind")?;
                Ok(SpaceObject {
                    kind: ObjectKind::parse(&kind)?,
                    schema_ipc: get(row, "schema_ipc")?,
                    view_sql: get(row, "view_sql")?,
                    labels: get(row, "labels")?,
                    files: files.remove(&name).unwrap_or_default(),
                    name,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(SpaceView { snapshot, objects })
    }

    /// Bytes that the space holds and may hold.
    pub async fn space_room(&self, project: &str) -> Result<SpaceRoom, StoreError> {
        let mut connection = self.pool().acquire().await?;
        room_of(&mut connection, project).await
    }

    /// Every file that any snapshot of the space names. A file on disk that is not among
    /// them was written by a statement that never committed.
    pub async fn space_file_names(&self, project: &str) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query("SELECT file FROM space_files WHERE project = $1 ORDER BY file")
            .bind(project)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(|row| get(row, "file")).collect()
    }

    /// Files that no snapshot made since `older_than` shows: they may be deleted, then
    /// forgotten with [`Store::forget_files`].
    pub async fn unreferenced_files(
        &self,
        project: &str,
        older_than: DateTime<Utc>,
    ) -> Result<Vec<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT f.file FROM space_files f JOIN space_snapshots s \
             ON s.project = f.project AND s.snapshot = f.removed_snapshot \
             WHERE f.project = $1 AND s.created_at < $2 ORDER BY f.file",
        )
        .bind(project)
        .bind(micros(older_than))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| get(row, "file")).collect()
    }

    /// Removes files from the manifest once they are deleted; a live file stays.
    pub async fn forget_files(&self, project: &str, files: &[String]) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for file in files {
            sqlx::query(
                "DELETE FROM space_files WHERE project = $1 AND file = $2 \
                 AND removed_snapshot IS NOT NULL",
            )
            .bind(project)
            .bind(file)
            .execute(write.connection())
            .await?;
        }
        write.commit().await
    }

    async fn files_at(
        &self,
        project: &str,
        snapshot: i64,
    ) -> Result<HashMap<String, Vec<SpaceFile>>, StoreError> {
        let rows = sqlx::query(
            "SELECT object, file, rows, bytes, column_bytes FROM space_files \
             WHERE project = $1 AND added_snapshot <= $2 \
             AND (removed_snapshot IS NULL OR removed_snapshot > $2) ORDER BY file",
        )
        .bind(project)
        .bind(snapshot)
        .fetch_all(self.pool())
        .await?;
        let mut files: HashMap<String, Vec<SpaceFile>> = HashMap::new();
        for row in &rows {
            let (object, file) = file_of(row)?;
            files.entry(object).or_default().push(file);
        }
        Ok(files)
    }
}

pub(crate) async fn room_of(
    connection: &mut AnyConnection,
    project: &str,
) -> Result<SpaceRoom, StoreError> {
    let row = sqlx::query(
        "SELECT p.space_quota_bytes, COUNT(f.file) AS files, \
         CAST(COALESCE(SUM(f.bytes), 0) AS BIGINT) AS held, \
         CAST(COALESCE(SUM(CASE WHEN f.removed_snapshot IS NULL THEN f.bytes ELSE 0 END), 0) \
         AS BIGINT) AS used FROM projects p LEFT JOIN space_files f ON f.project = p.id \
         WHERE p.id = $1 GROUP BY p.id, p.space_quota_bytes",
    )
    .bind(project)
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| not_a_project(project))?;
    Ok(SpaceRoom {
        used: get(&row, "used")?,
        held: get(&row, "held")?,
        quota: get(&row, "space_quota_bytes")?,
        files: get(&row, "files")?,
    })
}

/// Tables and views that a project has now.
pub(crate) async fn objects_of(
    connection: &mut AnyConnection,
    project: &str,
) -> Result<i64, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS objects FROM space_objects \
         WHERE project = $1 AND removed_snapshot IS NULL",
    )
    .bind(project)
    .fetch_one(connection)
    .await?;
    get(&row, "objects")
}

pub(crate) fn not_a_project(project: &str) -> StoreError {
    StoreError::NotFound {
        what: "project",
        name: project.to_owned(),
    }
}

fn file_of(row: &AnyRow) -> Result<(String, SpaceFile), StoreError> {
    Ok((
        get(row, "object")?,
        SpaceFile {
            file: get(row, "file")?,
            rows: get(row, "rows")?,
            bytes: get(row, "bytes")?,
            column_bytes: get::<String>(row, "column_bytes")?.into(),
        },
    ))
}
