//! Public keys that the texts of statements are sealed to. The private ones are never here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;

use crate::columns::{get, micros};
use crate::{Key, Secrets, Store, StoreError, WriteTransaction};

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

impl WriteTransaction {
    /// Puts a holder's new key in force; texts that were sealed before keep the old one. The
    /// audit must tell of it in this transaction.
    pub async fn put_text_key(
        &mut self,
        secrets: &Secrets,
        holder: &TextHolder,
        public_key: &[u8; 32],
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let holder = holder.label();
        let tag = tag(secrets, &holder, public_key)?;
        sqlx::query(
            "INSERT INTO text_keys (holder, public_key, created_at, tag) VALUES ($1, $2, $3, $4)",
        )
        .bind(holder)
        .bind(public_key.to_vec())
        .bind(micros(now))
        .bind(tag.to_vec())
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

/// What only who has the secret can compute of a key and its holder.
fn tag(secrets: &Secrets, holder: &str, public_key: &[u8; 32]) -> Result<Key, StoreError> {
    let key = HEXLOWER.encode(public_key);
    Ok(secrets.derive(&format!("text key {key} of {holder}"))?)
}

impl Store {
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

    /// As [`Store::text_keys`], without the keys that this hub did not put in force: whoever
    /// writes to the database cannot make themselves a reader.
    pub async fn own_text_keys(
        &self,
        secrets: &Secrets,
        project: Option<&str>,
    ) -> Result<Vec<[u8; 32]>, StoreError> {
        let project = project.map(|id| TextHolder::Project(id.to_owned()).label());
        let rows = sqlx::query(
            "SELECT holder, public_key, tag FROM text_keys WHERE holder = $1 OR holder = $2 \
             ORDER BY seq",
        )
        .bind(AUDITORS)
        .bind(project)
        .fetch_all(self.pool())
        .await?;
        let mut newest = BTreeMap::new();
        for row in &rows {
            let (holder, key): (String, Vec<u8>) = (get(row, "holder")?, get(row, "public_key")?);
            let kept: Option<Vec<u8>> = get(row, "tag")?;
            let Ok(key) = <[u8; 32]>::try_from(key) else {
                continue;
            };
            let own = tag(secrets, &holder, &key)?;
            if kept.is_some_and(|kept| bool::from(own[..].ct_eq(&kept))) {
                newest.insert(holder, key);
            }
        }
        Ok(newest.into_values().collect())
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
