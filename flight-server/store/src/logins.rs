//! What a person's login needs beside their password.

use chrono::{DateTime, Utc};

use crate::columns::{get, instant_or_null, micros};
use crate::people::found;
use crate::{Store, StoreError, WriteTransaction};

/// The same for a person who has nothing of it, and for nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// When an administrator last unlocked the person.
    pub unlocked_at: Option<DateTime<Utc>>,
    /// The secret of the second factor, sealed by whoever enrolled it.
    pub totp_sealed: Option<Vec<u8>>,
}

impl Store {
    pub async fn login(&self, person: &str) -> Result<Login, StoreError> {
        let row = sqlx::query("SELECT unlocked_at, totp_sealed FROM logins WHERE person = $1")
            .bind(person)
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else {
            return Ok(Login::default());
        };
        Ok(Login {
            unlocked_at: instant_or_null(get(&row, "unlocked_at")?)?,
            totp_sealed: get(&row, "totp_sealed")?,
        })
    }

    /// Takes the code of a step, once: false for one that was taken before, or is older than
    /// one that was, and where `sealed` is not the person's second factor any more.
    pub async fn take_totp_step(
        &self,
        person: &str,
        step: i64,
        sealed: &[u8],
    ) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let taken = sqlx::query(
            "UPDATE logins SET totp_step = $2 WHERE person = $1 AND totp_sealed = $3 \
             AND (totp_step IS NULL OR totp_step < $2)",
        )
        .bind(person)
        .bind(step)
        .bind(sealed.to_vec())
        .execute(write.connection())
        .await?
        .rows_affected();
        write.commit().await?;
        Ok(taken > 0)
    }
}

impl WriteTransaction {
    /// Ends the lock-out of a person at `now`.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn unlock(&mut self, person: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.ensure_login(person).await?;
        let changed = sqlx::query("UPDATE logins SET unlocked_at = $2 WHERE person = $1")
            .bind(person)
            .bind(micros(now))
            .execute(self.connection())
            .await?
            .rows_affected();
        found(changed, "person", person)
    }

    /// Sets the second factor or takes it away, and ends the person's sessions. The step of the
    /// last code stays: a new secret's first code is newer.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_totp(
        &mut self,
        person: &str,
        sealed: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        self.ensure_login(person).await?;
        let changed = sqlx::query("UPDATE logins SET totp_sealed = $2 WHERE person = $1")
            .bind(person)
            .bind(sealed.map(<[u8]>::to_vec))
            .execute(self.connection())
            .await?
            .rows_affected();
        sqlx::query("UPDATE persons SET token_epoch = token_epoch + 1 WHERE id = $1")
            .bind(person)
            .execute(self.connection())
            .await?;
        found(changed, "person", person)
    }

    /// A row for a person who exists.
    async fn ensure_login(&mut self, person: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO logins (person) SELECT id FROM persons WHERE id = $1 \
             ON CONFLICT (person) DO NOTHING",
        )
        .bind(person)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
