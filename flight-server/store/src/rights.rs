//! The revision of rights: one number that every change of rights raises.

use crate::columns::get;
use crate::{Store, StoreError, WriteTransaction};

impl Store {
    /// Grows with every change of a person's access, a project's period, a membership, a
    /// token, a habilitation or an opposition, in the same transaction, whichever process
    /// writes. Who reads it *before* the rights themselves misses no later change.
    pub async fn rights_revision(&self) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT revision FROM rights")
            .fetch_one(self.pool())
            .await?;
        get(&row, "revision")
    }
    /// Begins a transaction that changes rights. Others of its kind wait for it, so that what
    /// it reads of rights stays true until it ends, also where the database would let both
    /// write.
    pub async fn change_rights(&self) -> Result<WriteTransaction, StoreError> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE rights SET revision = revision + 1")
            .execute(write.connection())
            .await?;
        Ok(write)
    }
}
