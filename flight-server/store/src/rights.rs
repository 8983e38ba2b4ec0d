//! The revision of rights: one number that every change of rights raises.

use crate::columns::get;
use crate::{Store, StoreError};

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
}
