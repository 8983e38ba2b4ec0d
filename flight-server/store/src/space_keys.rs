//! What the keys of projects' spaces are derived from, beside the master secret.
//!
//! The salt is no secret by itself, and the master secret gives no key without it: dropping a
//! project's salts makes whatever its space held unreadable, wherever copies of the files are.
//! Copies of the store that are older than the drop still have them. In the store itself SQLite
//! overwrites what is dropped, and [`Store::empty_log`] ends what its log still says; PostgreSQL
//! keeps the old row until it is vacuumed, and its log, its archive and its replicas as long as
//! they are set up to.

use chrono::{DateTime, Utc};
use rand::TryRng;
use rand::rngs::SysRng;
use sqlx::AnyConnection;

use crate::columns::{get, micros};
use crate::{Store, StoreError, WriteTransaction};

const SALT_BYTES: usize = 32;
const NEWEST: &str = "SELECT key_id, salt FROM space_keys WHERE project = $1 AND salt IS NOT NULL \
                      ORDER BY key_id DESC LIMIT 1";

/// One key of a project's space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceKey {
    /// From 1, per project; never given twice.
    pub id: u32,
    /// None once the key was dropped.
    pub salt: Option<[u8; SALT_BYTES]>,
}

impl Store {
    /// The key that a project's new files take: its newest that was not dropped, made where
    /// there is none.
    pub async fn newest_space_key(&self, project: &str) -> Result<SpaceKey, StoreError> {
        let mut connection = self.pool().acquire().await?;
        if let Some(key) = newest_kept(&mut connection, project).await? {
            return Ok(key);
        }
        drop(connection);
        let mut write = self.write().await?;
        write.insert_space_key(project, Utc::now(), true).await?;
        // Another server may have made one at the same time: the same for both.
        let made = newest_kept(write.connection(), project).await?;
        write.commit().await?;
        made.ok_or(StoreError::Corrupt { what: "space key" })
    }

    /// A project's key of that number, if there ever was one.
    pub async fn space_key(&self, project: &str, id: u32) -> Result<Option<SpaceKey>, StoreError> {
        let row = sqlx::query("SELECT salt FROM space_keys WHERE project = $1 AND key_id = $2")
            .bind(project)
            .bind(i64::from(id))
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| key_of(i64::from(id), get(&row, "salt")?))
            .transpose()
    }
}

impl WriteTransaction {
    /// Makes a new key for a project, which its new files take from now on. Where another
    /// transaction makes one at the same time, that one stays and no second is made.
    pub async fn add_space_key(
        &mut self,
        project: &str,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.insert_space_key(project, at, false).await
    }

    /// `only` where the project has none: one statement tells and inserts, since another server
    /// may make one between two.
    async fn insert_space_key(
        &mut self,
        project: &str,
        at: DateTime<Utc>,
        only: bool,
    ) -> Result<(), StoreError> {
        let mut salt = [0; SALT_BYTES];
        SysRng
            .try_fill_bytes(&mut salt)
            .map_err(|_| StoreError::Random)?;
        sqlx::query(
            "INSERT INTO space_keys (project, key_id, salt, created_at) \
             SELECT $1, COALESCE(MAX(key_id), 0) + 1, $2, $3 FROM space_keys WHERE project = $1 \
             HAVING COUNT(salt) = 0 OR $4 = 0 ON CONFLICT (project, key_id) DO NOTHING",
        )
        .bind(project)
        .bind(salt.to_vec())
        .bind(micros(at))
        .bind(i64::from(only))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// True where a project's key of that number was not dropped.
    pub async fn keeps_space_key(&mut self, project: &str, id: u32) -> Result<bool, StoreError> {
        is_kept(self.connection(), project, id).await
    }

    /// Drops every key of a project, for good, and answers how many there were. What is not
    /// committed by then with one of them is refused.
    pub async fn drop_space_keys(
        &mut self,
        project: &str,
        at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        // Commits of the project wait for its row, and see what was dropped.
        sqlx::query("UPDATE projects SET space_snapshot = space_snapshot WHERE id = $1")
            .bind(project)
            .execute(self.connection())
            .await?;
        let dropped = sqlx::query(
            "UPDATE space_keys SET salt = NULL, dropped_at = $2 \
             WHERE project = $1 AND salt IS NOT NULL",
        )
        .bind(project)
        .bind(micros(at))
        .execute(self.connection())
        .await?
        .rows_affected();
        Ok(dropped)
    }
}

pub(crate) async fn is_kept(
    connection: &mut AnyConnection,
    project: &str,
    id: u32,
) -> Result<bool, StoreError> {
    let kept = sqlx::query(
        "SELECT key_id FROM space_keys WHERE project = $1 AND key_id = $2 AND salt IS NOT NULL",
    )
    .bind(project)
    .bind(i64::from(id))
    .fetch_optional(connection)
    .await?;
    Ok(kept.is_some())
}

async fn newest_kept(
    connection: &mut AnyConnection,
    project: &str,
) -> Result<Option<SpaceKey>, StoreError> {
    let row = sqlx::query(NEWEST)
        .bind(project)
        .fetch_optional(connection)
        .await?;
    row.map(|row| key_of(get(&row, "key_id")?, get(&row, "salt")?))
        .transpose()
}

fn key_of(id: i64, salt: Option<Vec<u8>>) -> Result<SpaceKey, StoreError> {
    let corrupt = || StoreError::Corrupt { what: "space key" };
    let salt = salt
        .map(<[u8; SALT_BYTES]>::try_from)
        .transpose()
        .map_err(|_| corrupt())?;
    let id = u32::try_from(id).map_err(|_| corrupt())?;
    Ok(SpaceKey { id, salt })
}
