//! Whether the keys are those that the store was first used with: others would change every
//! pseudonym and open nothing that was sealed.

use std::path::Path;

use chrono::Utc;
use hubflight_keys::{KeyError, Secrets};
use subtle::ConstantTimeEq;

use crate::columns::{get, micros};
use crate::{Store, StoreError};

const CHECK_LABEL: &str = "hubflight master secret check";
const KEPT_CHECK: &str = "SELECT value FROM keys WHERE name = 'master check'";

impl Store {
    /// The secret of this store, from its file. Only a store that never had one gets a new
    /// file: another secret would change every pseudonym and open nothing that was sealed.
    ///
    /// # Errors
    /// [`StoreError::Keys`] as for [`Secrets::load_or_create`], and where the file is gone or
    /// belongs to another store.
    pub async fn secrets(&self, path: &Path) -> Result<Secrets, StoreError> {
        let secrets = match Secrets::load(path)? {
            Some(secrets) => secrets,
            None if self.secret_check().await?.is_none() => Secrets::load_or_create(path)?,
            None => {
                let reason =
                    "it is missing, and this store was made with it; put it back from a backup";
                return Err(refusal(path, reason));
            }
        };
        match self.check_secrets(&secrets).await {
            Err(error @ StoreError::WrongSecret) => Err(refusal(path, &error.to_string())),
            checked => checked.map(|()| secrets),
        }
    }

    /// Refuses a master secret other than the one that the store was first used with.
    ///
    /// # Errors
    /// [`StoreError::WrongSecret`].
    pub async fn check_secrets(&self, secrets: &Secrets) -> Result<(), StoreError> {
        let check = secrets.derive(CHECK_LABEL)?;
        let kept = match self.secret_check().await? {
            Some(kept) => kept,
            None => self.keep_secret_check(&check[..]).await?,
        };
        if bool::from(check[..].ct_eq(&kept)) {
            Ok(())
        } else {
            Err(StoreError::WrongSecret)
        }
    }

    async fn secret_check(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query(KEPT_CHECK).fetch_optional(self.pool()).await?;
        row.map(|row| get(&row, "value")).transpose()
    }

    /// Keeps the check of the first secret, and answers the one that is kept.
    async fn keep_secret_check(&self, check: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO keys (name, value, created_at) VALUES ('master check', $1, $2) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(check.to_vec())
        .bind(micros(Utc::now()))
        .execute(write.connection())
        .await?;
        let row = sqlx::query(KEPT_CHECK)
            .fetch_one(write.connection())
            .await?;
        write.commit().await?;
        get(&row, "value")
    }
}

fn refusal(path: &Path, reason: &str) -> StoreError {
    StoreError::Keys(KeyError::File {
        path: path.to_owned(),
        reason: reason.to_owned(),
    })
}
