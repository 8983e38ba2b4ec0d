//! Which generation of its key a project's linkage group takes for pseudonyms.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::columns::{get, micros};
use crate::{Store, StoreError, WriteTransaction};

/// The generation of every group that was never rotated.
pub const FIRST_GENERATION: u32 = 1;

/// A group that was rotated at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkageGeneration {
    pub linkage_group: String,
    pub generation: u32,
}

impl LinkageGeneration {
    /// The generation of a group, from those that [`Store::linkage_generations`] gives.
    pub fn of(rotated: &[Self], linkage_group: &str) -> u32 {
        let mut rotated = rotated.iter();
        let found = rotated.find(|one| one.linkage_group == linkage_group);
        found.map_or(FIRST_GENERATION, |one| one.generation)
    }
}

impl Store {
    /// The groups of a project that were rotated.
    pub async fn linkage_generations(
        &self,
        project: &str,
    ) -> Result<Arc<[LinkageGeneration]>, StoreError> {
        let rows = sqlx::query(
            "SELECT linkage_group, generation FROM linkage_keys WHERE project = $1 \
             ORDER BY linkage_group",
        )
        .bind(project)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(LinkageGeneration {
                    linkage_group: get(row, "linkage_group")?,
                    generation: read(get(row, "generation")?)?,
                })
            })
            .collect()
    }
}

impl WriteTransaction {
    /// Gives a project's linkage group its next key, and answers the key's generation. The
    /// revision of rights grows.
    pub async fn rotate_linkage_key(
        &mut self,
        project: &str,
        linkage_group: &str,
        at: DateTime<Utc>,
    ) -> Result<u32, StoreError> {
        let row = sqlx::query(
            "INSERT INTO linkage_keys (project, linkage_group, generation, rotated_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (project, linkage_group) DO UPDATE \
             SET generation = linkage_keys.generation + 1, rotated_at = excluded.rotated_at \
             RETURNING generation",
        )
        .bind(project)
        .bind(linkage_group)
        .bind(i64::from(FIRST_GENERATION) + 1)
        .bind(micros(at))
        .fetch_one(self.connection())
        .await?;
        read(get(&row, "generation")?)
    }
}

fn read(generation: i64) -> Result<u32, StoreError> {
    let corrupt = |_| StoreError::Corrupt {
        what: "generation of a linkage key",
    };
    u32::try_from(generation).map_err(corrupt)
}
