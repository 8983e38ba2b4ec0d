//! Changing a project's space: a statement, or the statements of a transaction, are one new
//! snapshot.
//!
//! Statements prepare their files against a base snapshot and commit optimistically. A
//! commit conflicts when another one, made since the base, touched the same object; two
//! statements that only append to the same table do not conflict, nor does merging files of
//! a table with appending to it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;
use sqlx::AnyConnection;

use crate::columns::{get, micros};
use crate::people::found;
use crate::space::{not_a_project, objects_of, room_of};
use crate::space_keys::is_kept;
use crate::{Backend, ObjectKind, SpaceFile, Store, StoreError};

/// What one statement, or all those of one transaction, do to a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceCommit {
    pub project: String,
    /// Snapshot that the statement read.
    pub base_snapshot: i64,
    /// Another snapshot for the objects that were read at another one.
    pub bases: BTreeMap<String, i64>,
    pub statement_id: String,
    /// Applied in order.
    pub changes: Vec<SpaceChange>,
    /// The numbers of the keys that the new files are sealed with.
    pub keys: BTreeSet<u32>,
    pub limits: SpaceLimits,
    /// The revision of rights at which somebody was last found to have those that it rests on;
    /// none for what the hub does itself.
    pub rights: Option<i64>,
}

/// How many things a space may have, besides its quota of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Tables and views.
    pub objects_max: i64,
    /// Files on disk, those too that were replaced lately.
    pub files_max: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpaceChange {
    Create(NewObject),
    /// Drops a table with its files, or a view.
    Drop {
        name: String,
    },
    AddFiles {
        object: String,
        files: Vec<SpaceFile>,
    },
    RemoveFiles {
        object: String,
        files: Vec<String>,
    },
    /// Replaces files by others with the same rows.
    MergeFiles {
        object: String,
        old: Vec<String>,
        new: Vec<SpaceFile>,
    },
    SetLabels {
        object: String,
        labels: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    pub name: String,
    pub kind: ObjectKind,
    /// Arrow schema as an IPC message.
    pub schema_ipc: Vec<u8>,
    /// Text of a view, none for a table.
    pub view_sql: Option<String>,
    /// JSON text.
    pub labels: String,
}

impl SpaceChange {
    /// The name of what is changed.
    pub fn object(&self) -> &str {
        match self {
            SpaceChange::Create(object) => &object.name,
            SpaceChange::Drop { name } => name,
            SpaceChange::AddFiles { object, .. }
            | SpaceChange::RemoveFiles { object, .. }
            | SpaceChange::MergeFiles { object, .. }
            | SpaceChange::SetLabels { object, .. } => object,
        }
    }

    fn depends(&self) -> Depends {
        match self {
            SpaceChange::AddFiles { .. } => Depends::Object,
            SpaceChange::MergeFiles { .. } => Depends::Removals,
            SpaceChange::Create(_)
            | SpaceChange::Drop { .. }
            | SpaceChange::RemoveFiles { .. }
            | SpaceChange::SetLabels { .. } => Depends::Files,
        }
    }

    fn adds_files(&self) -> bool {
        matches!(
            self,
            SpaceChange::AddFiles { .. } | SpaceChange::MergeFiles { .. }
        )
    }
}

/// What of an object must be as it was at the base, each with what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Depends {
    Object,
    Removals,
    Files,
}

/// The project and the snapshot that a commit makes.
#[derive(Clone, Copy)]
struct Target<'a> {
    project: &'a str,
    snapshot: i64,
}

impl Store {
    /// Applies the changes together and answers the new snapshot.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another commit touched the same objects since the base,
    /// [`StoreError::KeyDropped`] when nobody could read the new files,
    /// [`StoreError::RightsChanged`] when rights are not as they were found,
    /// [`StoreError::QuotaExceeded`], [`StoreError::HeldExceeded`], [`StoreError::TooMany`],
    /// [`StoreError::Exists`] and [`StoreError::NotFound`] for objects and files,
    /// [`StoreError::Invalid`]: these are refusals, and nothing is changed. After any other
    /// error it may be.
    pub async fn commit_space(&self, commit: &SpaceCommit) -> Result<i64, StoreError> {
        let mut write = self.write().await?;
        let connection = write.connection();
        check_rights(connection, commit, self.backend()).await?;
        // This also locks the project's row, so that commits of one project queue up.
        let row = sqlx::query(
            "UPDATE projects SET space_snapshot = space_snapshot + 1 WHERE id = $1 \
             RETURNING space_snapshot",
        )
        .bind(&commit.project)
        .fetch_all(&mut *connection)
        .await?
        .pop()
        .ok_or_else(|| not_a_project(&commit.project))?;
        let snapshot: i64 = get(&row, "space_snapshot")?;
        let target = Target {
            project: &commit.project,
            snapshot,
        };
        check_key(connection, commit).await?;
        check_conflicts(connection, commit, snapshot - 1).await?;
        for change in &commit.changes {
            apply(connection, target, change).await?;
        }
        check_room(connection, commit).await?;
        sqlx::query(
            "INSERT INTO space_snapshots (project, snapshot, statement_id, created_at) \
             VALUES ($1, $2, $3, $4)",
        )
        .bind(&commit.project)
        .bind(snapshot)
        .bind(&commit.statement_id)
        .bind(micros(Utc::now()))
        .execute(&mut *connection)
        .await?;
        write.commit().await?;
        Ok(snapshot)
    }
}

/// Rights must be what they were when they were decided on, so that nothing is committed after
/// they end. Whoever changes them locks their row first, and waits for this commit; SQLite has one
/// writer at a time.
async fn check_rights(
    connection: &mut AnyConnection,
    commit: &SpaceCommit,
    backend: Backend,
) -> Result<(), StoreError> {
    let Some(decided) = commit.rights else {
        return Ok(());
    };
    let sql = match backend {
        Backend::Sqlite => "SELECT revision FROM rights",
        Backend::Postgres => "SELECT revision FROM rights FOR SHARE",
    };
    let row = sqlx::query(sql).fetch_one(connection).await?;
    match get::<i64>(&row, "revision")? == decided {
        true => Ok(()),
        false => Err(StoreError::RightsChanged),
    }
}

/// What the changes add must fit. Commits of one project come one after another, so that two
/// that fit alone do not overrun together.
async fn check_room(
    connection: &mut AnyConnection,
    commit: &SpaceCommit,
) -> Result<(), StoreError> {
    let (project, limits) = (&commit.project, commit.limits);
    let at_most = |what, now: i64, max: i64| match now > max {
        true => Err(StoreError::TooMany { what, max }),
        false => Ok(()),
    };
    let creates = |change: &SpaceChange| matches!(change, SpaceChange::Create(_));
    if commit.changes.iter().any(creates) {
        let objects = objects_of(connection, project).await?;
        at_most("tables and views", objects, limits.objects_max)?;
    }
    if commit.changes.iter().any(SpaceChange::adds_files) {
        let room = room_of(connection, project).await?;
        room.check()?;
        at_most("files", room.files, limits.files_max)?;
    }
    Ok(())
}

/// Files whose key was dropped while they were written would be rows that nobody can read. The
/// project's row is locked, and who drops keys locks it too.
async fn check_key(connection: &mut AnyConnection, commit: &SpaceCommit) -> Result<(), StoreError> {
    let project = &commit.project;
    for key in &commit.keys {
        if !is_kept(connection, project, *key).await? {
            let project = project.clone();
            return Err(StoreError::KeyDropped { project });
        }
    }
    Ok(())
}

async fn check_conflicts(
    connection: &mut AnyConnection,
    commit: &SpaceCommit,
    current: i64,
) -> Result<(), StoreError> {
    let conflict = |base: i64| StoreError::Conflict {
        project: commit.project.clone(),
        base,
        current,
    };
    const ANY: &str = "(added_snapshot > $3 OR removed_snapshot > $3)";
    let mut touched: BTreeMap<&str, Depends> = BTreeMap::new();
    for change in &commit.changes {
        let depends = touched.entry(change.object()).or_insert(Depends::Object);
        *depends = change.depends().max(*depends);
    }
    for (object, depends) in touched {
        let base = *commit.bases.get(object).unwrap_or(&commit.base_snapshot);
        if base < 0 || base > current {
            return Err(conflict(base));
        }
        if base == current {
            continue;
        }
        let changed = |table: &str, name: &str, how: &str| {
            format!(
                "SELECT added_snapshot FROM {table} WHERE project = $1 AND {name} = $2 \
                 AND {how} LIMIT 1"
            )
        };
        let mut statements = vec![changed("space_objects", "name", ANY)];
        match depends {
            Depends::Object => {}
            Depends::Removals => {
                statements.push(changed("space_files", "object", "removed_snapshot > $3"));
            }
            Depends::Files => statements.push(changed("space_files", "object", ANY)),
        }
        for sql in statements {
            // Only names of our own columns are in this text.
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(&commit.project)
                .bind(object)
                .bind(base)
                .fetch_all(&mut *connection)
                .await?;
            if !rows.is_empty() {
                return Err(conflict(base));
            }
        }
    }
    Ok(())
}

async fn apply(
    connection: &mut AnyConnection,
    target: Target<'_>,
    change: &SpaceChange,
) -> Result<(), StoreError> {
    match change {
        SpaceChange::Create(object) => create(connection, target, object).await,
        SpaceChange::Drop { name } => drop_object(connection, target, name).await,
        SpaceChange::AddFiles { object, files } => {
            match live_object(connection, target.project, object).await? {
                Some(ObjectKind::Table) => add_files(connection, target, object, files).await,
                _ => found(0, "table", object),
            }
        }
        SpaceChange::RemoveFiles { object, files } => {
            remove_files(connection, target, object, files).await
        }
        SpaceChange::MergeFiles { object, old, new } => {
            remove_files(connection, target, object, old).await?;
            add_files(connection, target, object, new).await
        }
        SpaceChange::SetLabels { object, labels } => {
            set_labels(connection, target, object, labels).await
        }
    }
}

async fn create(
    connection: &mut AnyConnection,
    target: Target<'_>,
    object: &NewObject,
) -> Result<(), StoreError> {
    if let Some(kind) = live_object(connection, target.project, &object.name).await? {
        return Err(StoreError::Exists {
            what: kind.as_str(),
            name: object.name.clone(),
        });
    }
    sqlx::query(
        "INSERT INTO space_objects \
         (project, name, kind, schema_ipc, view_sql, labels, added_snapshot) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(target.project)
    .bind(&object.name)
    .bind(object.kind.as_str())
    .bind(object.schema_ipc.as_slice())
    .bind(object.view_sql.as_deref())
    .bind(&object.labels)
    .bind(target.snapshot)
    .execute(connection)
    .await?;
    Ok(())
}

async fn drop_object(
    connection: &mut AnyConnection,
    target: Target<'_>,
    name: &str,
) -> Result<(), StoreError> {
    // An object that this very commit made leaves no trace, so that it may be made again.
    let unmade = sqlx::query(
        "DELETE FROM space_objects WHERE project = $1 AND name = $2 AND added_snapshot = $3",
    )
    .bind(target.project)
    .bind(name)
    .bind(target.snapshot)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let removed = sqlx::query(
        "UPDATE space_objects SET removed_snapshot = $3 \
         WHERE project = $1 AND name = $2 AND removed_snapshot IS NULL",
    )
    .bind(target.project)
    .bind(name)
    .bind(target.snapshot)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    found(unmade + removed, "table or view", name)?;
    sqlx::query(
        "UPDATE space_files SET removed_snapshot = $3 \
         WHERE project = $1 AND object = $2 AND removed_snapshot IS NULL",
    )
    .bind(target.project)
    .bind(name)
    .bind(target.snapshot)
    .execute(connection)
    .await?;
    Ok(())
}

async fn add_files(
    connection: &mut AnyConnection,
    target: Target<'_>,
    object: &str,
    files: &[SpaceFile],
) -> Result<(), StoreError> {
    for file in files {
        if file.rows < 0 || file.bytes < 0 {
            return Err(StoreError::Invalid {
                what: "file size",
                value: file.file.clone(),
                expected: "rows and bytes must not be negative",
            });
        }
        let added = sqlx::query(
            "INSERT INTO space_files \
             (project, object, file, rows, bytes, added_snapshot, column_bytes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (project, file) DO NOTHING",
        )
        .bind(target.project)
        .bind(object)
        .bind(&file.file)
        .bind(file.rows)
        .bind(file.bytes)
        .bind(target.snapshot)
        .bind(file.column_bytes.as_ref())
        .execute(&mut *connection)
        .await?
        .rows_affected();
        if added == 0 {
            return Err(StoreError::Exists {
                what: "file",
                name: file.file.clone(),
            });
        }
    }
    Ok(())
}

async fn remove_files(
    connection: &mut AnyConnection,
    target: Target<'_>,
    object: &str,
    files: &[String],
) -> Result<(), StoreError> {
    for file in files {
        let removed = sqlx::query(
            "UPDATE space_files SET removed_snapshot = $4 WHERE project = $1 \
             AND object = $2 AND file = $3 AND removed_snapshot IS NULL",
        )
        .bind(target.project)
        .bind(object)
        .bind(file)
        .bind(target.snapshot)
        .execute(&mut *connection)
        .await?
        .rows_affected();
        found(removed, "file", file)?;
    }
    Ok(())
}

async fn set_labels(
    connection: &mut AnyConnection,
    target: Target<'_>,
    object: &str,
    labels: &str,
) -> Result<(), StoreError> {
    let relabelled = sqlx::query(
        "UPDATE space_objects SET labels = $4 \
         WHERE project = $1 AND name = $2 AND added_snapshot = $3",
    )
    .bind(target.project)
    .bind(object)
    .bind(target.snapshot)
    .bind(labels)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if relabelled > 0 {
        return Ok(());
    }
    let copied = sqlx::query(
        "INSERT INTO space_objects \
         (project, name, kind, schema_ipc, view_sql, labels, added_snapshot) \
         SELECT project, name, kind, schema_ipc, view_sql, $4, $3 FROM space_objects \
         WHERE project = $1 AND name = $2 AND removed_snapshot IS NULL",
    )
    .bind(target.project)
    .bind(object)
    .bind(target.snapshot)
    .bind(labels)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    found(copied, "table or view", object)?;
    sqlx::query(
        "UPDATE space_objects SET removed_snapshot = $3 WHERE project = $1 AND name = $2 \
         AND removed_snapshot IS NULL AND added_snapshot < $3",
    )
    .bind(target.project)
    .bind(object)
    .bind(target.snapshot)
    .execute(connection)
    .await?;
    Ok(())
}

async fn live_object(
    connection: &mut AnyConnection,
    project: &str,
    name: &str,
) -> Result<Option<ObjectKind>, StoreError> {
    let rows = sqlx::query(
        "SELECT kind FROM space_objects \
         WHERE project = $1 AND name = $2 AND removed_snapshot IS NULL",
    )
    .bind(project)
    .bind(name)
    .fetch_all(connection)
    .await?;
    rows.first()
        .map(|row| ObjectKind::parse(&get::<String>(row, "kind")?))
        .transpose()
}
