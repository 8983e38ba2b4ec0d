//! Many small files of a table become one, so that row by row INSERTs do not slow its reads.

use std::sync::Arc;

use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::LogicalPlanBuilder;
use hubflight_store::{SpaceChange, SpaceFile};

use super::change::{Change, Commit, Failure, Job};
use super::table::SpaceTable;
use super::{Object, Space};
use crate::error::Result;

/// A file below this size is small.
const SMALL_FILE_BYTES: i64 = 8 << 20;
/// With this many small files a table is compacted.
const SMALL_FILES_MAX: usize = 32;

impl Change<'_> {
    /// Compacts a table that has many small files at `snapshot`. The rows stay the same, and
    /// if another statement changes the table meanwhile nothing happens: the next one tries.
    pub(super) async fn compact(&self, name: &str, snapshot: i64) -> Result<()> {
        let view = self.planning.view;
        let now = self.planning.now;
        let space = Space::load(self.planning.hub, &view.project, Some(snapshot), now, &[]).await?;
        let space = Arc::new(space);
        let Some(object) = space.object(name).map(Arc::clone) else {
            return Ok(());
        };
        let small: Vec<SpaceFile> = object
            .files
            .iter()
            .filter(|file| file.bytes < SMALL_FILE_BYTES)
            .cloned()
            .collect();
        if small.len() < SMALL_FILES_MAX {
            return Ok(());
        }
        let later = Change {
            space: &space,
            ..*self
        };
        match later.merge(&object, small).await {
            Ok(()) => Ok(()),
            Err(Failure::Conflict { .. }) => Ok(()),
            Err(Failure::Failed(error)) => Err(error),
        }
    }

    async fn merge(&self, object: &Object, small: Vec<SpaceFile>) -> Result<(), Failure> {
        let folder = self.space.folder()?;
        let table = SpaceTable::of_files(self.planning.hub, &folder, object, &small)?;
        let source = provider_as_source(Arc::new(table));
        let plan = LogicalPlanBuilder::scan("small", source, None)?.build()?;
        let job = Job {
            query: self.query(plan, &self.planning.state())?,
            flagged: false,
        };
        let replaced = small
            .iter()
            .map(|file| u64::try_from(file.bytes).unwrap_or(0))
            .sum();
        let target = self.target(&object.name, &object.schema, replaced).await?;
        let (written, _) = self.write(target, vec![job]).await?;
        let changes = vec![
            SpaceChange::RemoveFiles {
                object: object.name.clone(),
                files: small.into_iter().map(|file| file.file).collect(),
            },
            SpaceChange::AddFiles {
                object: object.name.clone(),
                files: written.files.clone(),
            },
        ];
        let commit = Commit {
            changes,
            written,
            again: false,
        };
        self.commit(commit).await?;
        Ok(())
    }
}
