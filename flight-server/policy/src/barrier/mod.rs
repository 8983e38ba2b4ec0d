//! The barrier between what a project asks and what is stored.
//!
//! A [`PolicyTable`] shows the columns and rows that a habilitation opens and nothing else.
//! Where nothing is hidden it steps aside, so that pruning, statistics and dynamic filters
//! work as without it. Otherwise its scan is a [`PolicyScanExec`]: a leaf for the optimiser
//! and for EXPLAIN, which keeps a plan of its own inside (stored rows → predicate of the
//! habilitation → semi-joins along the path to the person → without persons who oppose →
//! harmless filters of the user → masks and pseudonyms). Which rows pass the first four depends
//! on no query: it is found once ([`Selections`]) and told to the reader of the files.

/// What every plan without inputs answers: whatever it reads, it reads inside.
macro_rules! leaf_plan {
    () => {
        fn properties(&self) -> &Arc<datafusion::physical_plan::PlanProperties> {
            &self.properties
        }

        fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
            Vec::new()
        }

        fn replace_children(
            self: Arc<Self>,
            _children: Vec<Arc<dyn ExecutionPlan>>,
            _options: datafusion::physical_plan::ReplaceChildrenOptions,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            Ok(self)
        }

        fn with_new_children(
            self: Arc<Self>,
            _children: Vec<Arc<dyn ExecutionPlan>>,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            Ok(self)
        }
    };
}
use leaf_plan;

mod bounds;
mod clean;
mod columns;
mod cut;
mod dynamic;
mod exec;
mod extremes;
mod filters;
mod numbered;
mod persons;
mod reveal;
mod rows;
mod selected;
mod selection;
mod table;
mod years;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;

use crate::error::PolicyError;
use crate::opposition::Opposed;
use crate::pseudonym::LinkageKeys;
use hubflight_rights::dataset::{Dataset, Table};
use hubflight_rights::habilitation::{Habilitation, TableGrant, Tables};

pub use clean::clean;
pub use columns::{REMARKS_KEY, UNIT_KEY};
pub use exec::PolicyScanExec;
pub use persons::{PersonRows, table_of};
pub use selection::Selections;
pub use table::PolicyTable;

/// Where raw tables come from: implemented by the server.
pub trait Sources: Send + Sync {
    fn dataset(&self, name: &str) -> Option<Arc<Dataset>>;
    /// The stored rows and columns of a table. Its type names become those of the view.
    fn source(&self, dataset: &str, table: &str) -> Option<Arc<dyn TableProvider>>;
    /// The persons whose rows nobody sees, by the domain of their identifiers; none where
    /// nobody opposes.
    fn opposed(&self, domain: &str) -> Option<Arc<Opposed>>;

    /// Where the rows that views show are kept; without it they are found at each scan.
    fn selections(&self) -> Option<Arc<Selections>> {
        None
    }
}

/// The names of the tables that a habilitation opens, in the dataset's order.
pub fn granted_tables(dataset: &Dataset, habilitation: &Habilitation) -> Vec<String> {
    if dataset.name != habilitation.dataset {
        return Vec::new();
    }
    dataset
        .tables
        .iter()
        .filter(|table| grant(habilitation, &table.name).is_some())
        .map(|table| table.name.clone())
        .collect()
}

/// The table as the habilitation shows it, or None when it is not granted or does not exist:
/// the two must not be told apart.
///
/// In aggregate mode the table can be planned but not scanned: [`crate::aggregate::protect`]
/// makes of such a plan one that publishes aggregates.
///
/// # Errors
/// [`PolicyError::Source`] when the files do
/// not fit the dataset or the habilitation; [`PolicyError::KeysOfOtherScope`].
pub fn open_table(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    table: &str,
    keys: &LinkageKeys,
) -> Result<Option<Arc<PolicyTable>>, PolicyError> {
    let Some(granted) = find(sources, habilitation, table)? else {
        return Ok(None);
    };
    if keys.scope() != (&habilitation.project, &habilitation.linkage_group) {
        return Err(PolicyError::KeysOfOtherScope {
            project: habilitation.project.clone(),
        });
    }
    PolicyTable::open(sources, habilitation, &granted, keys).map(|table| Some(Arc::new(table)))
}

/// The schema of the table as the habilitation shows it, with remarks ([`REMARKS_KEY`]) and
/// units ([`UNIT_KEY`]) in the fields' metadata; in both modes. None as for [`open_table`].
pub fn describe_table(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    table: &str,
) -> Result<Option<SchemaRef>, PolicyError> {
    let Some(granted) = find(sources, habilitation, table)? else {
        return Ok(None);
    };
    let columns = columns::visible(&granted)?;
    Ok(Some(columns::described_schema(&granted.table, &columns)))
}

/// A granted table with everything that its view is made of.
struct GrantedTable {
    dataset: Arc<Dataset>,
    table: Table,
    /// None when the habilitation opens the whole dataset.
    grant: Option<TableGrant>,
    source: Arc<dyn TableProvider>,
}

impl GrantedTable {
    fn error(&self, column: Option<&str>, problem: impl Into<String>) -> PolicyError {
        source_error(&self.dataset.name, &self.table.name, column, problem)
    }
}

fn find(
    sources: &dyn Sources,
    habilitation: &Habilitation,
    name: &str,
) -> Result<Option<GrantedTable>, PolicyError> {
    let Some(grant) = grant(habilitation, name) else {
        return Ok(None);
    };
    let Some(dataset) = sources.dataset(&habilitation.dataset) else {
        return Ok(None);
    };
    let Some(table) = dataset.table(name).cloned() else {
        return Ok(None);
    };
    let source = source_of(sources, &dataset.name, name)?;
    Ok(Some(GrantedTable {
        dataset,
        table,
        grant: grant.cloned(),
        source,
    }))
}

fn source_of(
    sources: &dyn Sources,
    dataset: &str,
    table: &str,
) -> Result<Arc<dyn TableProvider>, PolicyError> {
    sources
        .source(dataset, table)
        .ok_or_else(|| source_error(dataset, table, None, "has no files; check its location"))
}

fn source_error(
    dataset: &str,
    table: &str,
    column: Option<&str>,
    problem: impl Into<String>,
) -> PolicyError {
    PolicyError::Source {
        dataset: dataset.to_owned(),
        table: table.to_owned(),
        column: column.map(str::to_owned),
        problem: problem.into(),
    }
}

/// `None`: not granted. `Some(None)`: granted as a whole.
fn grant<'a>(habilitation: &'a Habilitation, table: &str) -> Option<Option<&'a TableGrant>> {
    match &habilitation.tables {
        Tables::All => Some(None),
        Tables::Only(grants) => grants.iter().find(|grant| grant.table == table).map(Some),
    }
}
