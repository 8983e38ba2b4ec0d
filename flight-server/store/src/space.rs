//! Reading a project's space: which tables, views and files it has at a snapshot.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
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

    /// Bytes of the live files, and the quota.
    pub async fn space_usage(&self, project: &str) -> Result<(i64, i64), StoreError> {
        let row = sqlx::query(
            "SELECT p.space_quota_bytes, CAST(COALESCE((SELECT SUM(f.bytes) FROM space_files f \
             WHERE f.project = p.id AND f.removed_snapshot IS NULL), 0) AS BIGINT) AS used \
             FROM projects p WHERE p.id = $1",
        )
        .bind(project)
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| not_a_project(project))?;
        Ok((get(&row, "used")?, get(&row, "space_quota_bytes")?))
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
            "SELECT object, file, rows, bytes FROM space_files \
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
        },
    ))
}
