//! Sizes of what a view of a dataset shows, which are slow to measure and are charged for.

use std::collections::HashMap;

use sqlx::any::AnyRow;

use crate::columns::get;
use crate::{Store, StoreError};

/// Names one column of one view of one dataset version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisibleSize<'a> {
    pub dataset: &'a str,
    pub version: u32,
    /// Digest of the filters that the view applies; equal digests show equal rows.
    pub view_digest: &'a str,
    pub table: &'a str,
    pub column: &'a str,
}

/// Bytes of the columns that were measured of a dataset version, by table, digest of the view and
/// column.
pub type VisibleSizes = HashMap<String, HashMap<String, HashMap<String, u64>>>;

impl Store {
    /// Bytes of the column in that view, if they were measured before.
    pub async fn visible_size(&self, of: VisibleSize<'_>) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query(
            "SELECT bytes FROM visible_sizes WHERE dataset = $1 AND version = $2 \
             AND view_digest = $3 AND table_name = $4 AND column_name = $5",
        )
        .bind(of.dataset)
        .bind(i64::from(of.version))
        .bind(of.view_digest)
        .bind(of.table)
        .bind(of.column)
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| bytes_of(&row)).transpose()
    }

    /// All that was measured before of a dataset version.
    pub async fn visible_sizes(
        &self,
        dataset: &str,
        version: u32,
    ) -> Result<VisibleSizes, StoreError> {
        let rows = sqlx::query(
            "SELECT view_digest, table_name, column_name, bytes FROM visible_sizes \
             WHERE dataset = $1 AND version = $2",
        )
        .bind(dataset)
        .bind(i64::from(version))
        .fetch_all(self.pool())
        .await?;
        let mut sizes = VisibleSizes::new();
        for row in &rows {
            let views = sizes.entry(get::<String>(row, "table_name")?).or_default();
            let columns = views.entry(get::<String>(row, "view_digest")?).or_default();
            columns.insert(get::<String>(row, "column_name")?, bytes_of(row)?);
        }
        Ok(sizes)
    }

    /// Remembers measured sizes, in one transaction; a size that is known already stays.
    pub async fn put_visible_sizes(
        &self,
        sizes: &[(VisibleSize<'_>, u64)],
    ) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        for (of, bytes) in sizes {
            sqlx::query(
                "INSERT INTO visible_sizes \
                 (dataset, version, view_digest, table_name, column_name, bytes) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(of.dataset)
            .bind(i64::from(of.version))
            .bind(of.view_digest)
            .bind(of.table)
            .bind(of.column)
            .bind(i64::try_from(*bytes).unwrap_or(i64::MAX))
            .execute(write.connection())
            .await?;
        }
        write.commit().await
    }
}

fn bytes_of(row: &AnyRow) -> Result<u64, StoreError> {
    u64::try_from(get::<i64>(row, "bytes")?).map_err(|_| StoreError::Corrupt {
        what: "visible size",
    })
}
