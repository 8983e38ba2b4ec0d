//! Public keys that the texts of statements are sealed to. The private ones are never here.

use chrono::{DateTime, Utc};

use crate::columns::{get, micros};
use crate::{Store, StoreError};

/// Whose key it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextHolder {
    Project(String),
    Auditors,
}

const AUDITORS: &str = "auditors";

impl TextHolder {
    /// As it is stored.
    pub fn label(&self) -> String {
        match self {
            TextHolder::Project(id) => format!("project:{id}"),
            TextHolder::Auditors => AUDITORS.to_owned(),
        }
    }
}

impl Store {
    /// Puts a holder's new key in force; texts that were sealed before keep the old one.
    pub async fn put_text_key(
        &self,
        holder: &TextHolder,
        public_key: &[u8; 32],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        sqlx::query("INSERT INTO text_keys (holder, public_key, created_at) VALUES ($1, $2, $3)")
            .bind(holder.label())
            .bind(public_key.to_vec())
            .bind(micros(now))
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    /// The keys in force of a project and of the auditors: none, one or two.
    pub async fn text_keys(&self, project: Option<&str>) -> Result<Vec<[u8; 32]>, StoreError> {
        let project = project.map(|id| TextHolder::Project(id.to_owned()).label());
        let rows = sqlx::query(
            "SELECT public_key FROM text_keys WHERE seq IN (SELECT MAX(seq) FROM text_keys \
             WHERE holder = $1 OR holder = $2 GROUP BY holder) ORDER BY seq",
        )
        .bind(AUDITORS)
        .bind(project)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let key: Vec<u8> = get(row, "public_key")?;
                let corrupt = StoreError::Corrupt { what: "text key" };
                key.try_into().map_err(|_| corrupt)
            })
            .collect()
    }

    /// The sealed text of a statement; empty where none is kept.
    pub async fn sealed_text(&self, statement_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let text = sqlx::query_scalar("SELECT sql_sealed FROM statements WHERE statement_id = $1")
            .bind(statement_id.to_owned())
            .fetch_optional(self.pool())
            .await?;
        Ok(text)
    }
}
