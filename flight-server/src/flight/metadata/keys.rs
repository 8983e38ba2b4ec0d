//! Primary and foreign keys, as producers declare them and as far as the caller sees them.
//!
//! A key shows only where all of its columns do, on both sides, with the values that make it a
//! key: a masked column joins nothing and tells rows apart no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array};
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, UpdateDeleteRules,
};
use hubflight_policy::{Sources, describe_table, granted_tables};
use hubflight_rights::dataset::{Dataset, ForeignKey, Table};
use hubflight_rights::habilitation::Habilitation;

use super::super::call::Caller;
use super::browse::views;
use super::columns::masked;
use super::strings;
use crate::error::Result;
use crate::hub::Hub;

/// A table that a request names; an absent catalog or schema does not narrow.
#[derive(Clone, Copy, Debug)]
struct Side<'a> {
    catalog: Option<&'a str>,
    schema: Option<&'a str>,
    table: &'a str,
}

impl Side<'_> {
    fn fits(&self, catalog: &str, schema: &str, table: &str) -> bool {
        self.catalog.is_none_or(|wanted| wanted == catalog)
            && self.schema.is_none_or(|wanted| wanted == schema)
            && self.table == table
    }
}

pub(super) async fn primary(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: &CommandGetPrimaryKeys,
) -> Result<RecordBatch> {
    let side = Side {
        catalog: request.catalog.as_deref(),
        schema: request.db_schema.as_deref(),
        table: &request.table,
    };
    let shown = all_shown(hub, caller, side.catalog).await?;
    primary_batch(
        shown
            .iter()
            .flat_map(|shown| shown.primary(&side))
            .collect(),
    )
}

/// The foreign keys that a table has.
pub(super) async fn imported(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: &CommandGetImportedKeys,
) -> Result<RecordBatch> {
    let child = Side {
        catalog: request.catalog.as_deref(),
        schema: request.db_schema.as_deref(),
        table: &request.table,
    };
    foreign(hub, caller, None, Some(child), Order::ByParent).await
}

/// The foreign keys that lead to a table.
pub(super) async fn exported(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: &CommandGetExportedKeys,
) -> Result<RecordBatch> {
    let parent = Side {
        catalog: request.catalog.as_deref(),
        schema: request.db_schema.as_deref(),
        table: &request.table,
    };
    foreign(hub, caller, Some(parent), None, Order::ByChild).await
}

/// The foreign keys from one table to another.
pub(super) async fn cross(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: &CommandGetCrossReference,
) -> Result<RecordBatch> {
    let parent = Side {
        catalog: request.pk_catalog.as_deref(),
        schema: request.pk_db_schema.as_deref(),
        table: &request.pk_table,
    };
    let child = Side {
        catalog: request.fk_catalog.as_deref(),
        schema: request.fk_db_schema.as_deref(),
        table: &request.fk_table,
    };
    foreign(hub, caller, Some(parent), Some(child), Order::ByParent).await
}

async fn foreign(
    hub: &Arc<Hub>,
    caller: &Caller,
    parent: Option<Side<'_>>,
    child: Option<Side<'_>>,
    order: Order,
) -> Result<RecordBatch> {
    let catalog = child.or(parent).and_then(|side| side.catalog);
    let shown = all_shown(hub, caller, catalog).await?;
    let rows = shown.iter().flat_map(|shown| shown.foreign(parent, child));
    foreign_batch(rows.collect(), order)
}

/// Every dataset of the caller's projects, or of the one that is asked for.
async fn all_shown(hub: &Arc<Hub>, caller: &Caller, catalog: Option<&str>) -> Result<Vec<Shown>> {
    let mut all = Vec::new();
    for view in views(hub, caller, catalog).await? {
        for (dataset, habilitation) in view.listed() {
            let sources = hub.datasets.as_ref();
            all.push(Shown::new(sources, &view.project, dataset, habilitation));
        }
    }
    Ok(all)
}

/// What a project sees of a dataset, as far as keys need it.
struct Shown {
    catalog: String,
    dataset: Arc<Dataset>,
    /// By visible table: the columns that are visible and not masked.
    columns: BTreeMap<String, BTreeSet<String>>,
}

impl Shown {
    fn new(
        sources: &dyn Sources,
        catalog: &str,
        dataset: &Arc<Dataset>,
        habilitation: &Habilitation,
    ) -> Self {
        let mut columns = BTreeMap::new();
        for table in granted_tables(dataset, habilitation) {
            let masked = masked(habilitation, &table);
            let schema = match describe_table(sources, habilitation, &table) {
                Ok(Some(schema)) => schema,
                Ok(None) => continue,
                Err(error) => {
                    tracing::info!(%error, table, "a table is left out of the keys");
                    continue;
                }
            };
            let names = schema.fields().iter().map(|field| field.name().clone());
            let unmasked = names.filter(|name| !masked.contains(name.as_str()));
            columns.insert(table, unmasked.collect());
        }
        Self {
            catalog: catalog.to_owned(),
            dataset: Arc::clone(dataset),
            columns,
        }
    }

    /// True when the table and all of some of its columns show their values.
    fn shows(&self, table: &str, columns: &[String]) -> bool {
        let shown = self.columns.get(table);
        shown.is_some_and(|shown| columns.iter().all(|column| shown.contains(column)))
    }

    /// The table with its primary key, if it has one that shows.
    fn keyed<'a>(&'a self, table: &'a Table) -> Option<String> {
        let key = &table.primary_key;
        (!key.is_empty() && self.shows(&table.name, key)).then(|| format!("{}_pkey", table.name))
    }

    fn primary(&self, side: &Side<'_>) -> Vec<Primary> {
        let named = |table: &&Table| side.fits(&self.catalog, &self.dataset.name, &table.name);
        let mut rows = Vec::new();
        for table in self.dataset.tables.iter().filter(named) {
            let Some(name) = self.keyed(table) else {
                continue;
            };
            for (sequence, column) in (1..).zip(&table.primary_key) {
                rows.push(Primary {
                    catalog: self.catalog.clone(),
                    schema: self.dataset.name.clone(),
                    table: table.name.clone(),
                    name: name.clone(),
                    sequence,
                    column: column.clone(),
                });
            }
        }
        rows
    }

    fn foreign(&self, parent: Option<Side<'_>>, child: Option<Side<'_>>) -> Vec<Foreign> {
        let named = |side: Option<Side<'_>>, table: &str| {
            side.is_none_or(|side| side.fits(&self.catalog, &self.dataset.name, table))
        };
        let mut rows = Vec::new();
        for table in &self.dataset.tables {
            for key in &table.foreign_keys {
                if named(child, &table.name) && named(parent, &key.parent) {
                    rows.extend(self.foreign_key(table, key));
                }
            }
        }
        rows
    }

    fn foreign_key(&self, table: &Table, key: &ForeignKey) -> Vec<Foreign> {
        let Some(parent) = self.dataset.table(&key.parent) else {
            return Vec::new();
        };
        let pairs = || key.columns.iter().zip(&key.parent_columns);
        // Columns of two domains are re-keyed apart, so that they join no more.
        let joins = pairs().all(|(own, theirs)| {
            self.dataset.identifier(table, own) == self.dataset.identifier(parent, theirs)
        });
        let shows = self.shows(&table.name, &key.columns)
            && self.shows(&parent.name, &key.parent_columns)
            && key.columns.len() == key.parent_columns.len();
        if !joins || !shows {
            return Vec::new();
        }
        let parent_key = (parent.primary_key == key.parent_columns)
            .then(|| self.keyed(parent))
            .flatten();
        let row = |(sequence, (own, theirs)): (i32, (&String, &String))| Foreign {
            catalog: self.catalog.clone(),
            schema: self.dataset.name.clone(),
            parent: parent.name.clone(),
            parent_column: theirs.clone(),
            parent_key: parent_key.clone(),
            table: table.name.clone(),
            column: own.clone(),
            name: format!("{}_{}_fkey", table.name, key.columns.join("_")),
            sequence,
        };
        (1..).zip(pairs()).map(row).collect()
    }
}

/// A column of a primary key, compared in the order that the protocol asks for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Primary {
    catalog: String,
    schema: String,
    table: String,
    name: String,
    /// From 1.
    sequence: i32,
    column: String,
}

/// A column of a foreign key; both tables are of one dataset in one project.
#[derive(Debug, PartialEq, Eq)]
struct Foreign {
    catalog: String,
    schema: String,
    parent: String,
    parent_column: String,
    /// Name of the parent's primary key, where the columns are that key.
    parent_key: Option<String>,
    table: String,
    column: String,
    name: String,
    /// From 1.
    sequence: i32,
}

/// Which table's names the rows follow first.
#[derive(Clone, Copy, Debug)]
enum Order {
    ByParent,
    ByChild,
}

fn primary_batch(mut rows: Vec<Primary>) -> Result<RecordBatch> {
    rows.sort_unstable();
    let sequences = Int32Array::from_iter_values(rows.iter().map(|row| row.sequence));
    let columns: Vec<ArrayRef> = vec![
        strings(&rows, |row| &row.catalog),
        strings(&rows, |row| &row.schema),
        strings(&rows, |row| &row.table),
        strings(&rows, |row| &row.column),
        Arc::new(sequences),
        strings(&rows, |row| &row.name),
    ];
    Ok(RecordBatch::try_new(super::primary_keys_layout(), columns)?)
}

fn foreign_batch(mut rows: Vec<Foreign>, order: Order) -> Result<RecordBatch> {
    // The protocol's order, then what makes equal rows always come in the same one.
    rows.sort_by(|a, b| {
        let place = |row: &Foreign| (row.catalog.clone(), row.schema.clone());
        let by_parent = |row: &Foreign| (row.parent.clone(), row.parent_key.clone(), row.sequence);
        let by_child = |row: &Foreign| (row.table.clone(), row.name.clone(), row.sequence);
        let (parents, children) = (
            by_parent(a).cmp(&by_parent(b)),
            by_child(a).cmp(&by_child(b)),
        );
        place(a).cmp(&place(b)).then(match order {
            Order::ByParent => parents.then(children),
            Order::ByChild => children.then(parents),
        })
    });
    let sequences = Int32Array::from_iter_values(rows.iter().map(|row| row.sequence));
    let parent_keys: StringArray = rows.iter().map(|row| row.parent_key.as_deref()).collect();
    // Datasets never change, so nothing follows from a change of a parent.
    let rules: ArrayRef = Arc::new(UInt8Array::from(vec![
        UpdateDeleteRules::NoAction as u8;
        rows.len()
    ]));
    let columns = vec![
        strings(&rows, |row| &row.catalog),
        strings(&rows, |row| &row.schema),
        strings(&rows, |row| &row.parent),
        strings(&rows, |row| &row.parent_column),
        strings(&rows, |row| &row.catalog),
        strings(&rows, |row| &row.schema),
        strings(&rows, |row| &row.table),
        strings(&rows, |row| &row.column),
        Arc::new(sequences),
        strings(&rows, |row| &row.name),
        Arc::new(parent_keys),
        Arc::clone(&rules),
        rules,
    ];
    Ok(RecordBatch::try_new(super::foreign_keys_layout(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{OneDataset, hospital, only};
    use super::*;
    use hubflight_rights::habilitation::{Mask, Tables};

    fn everything() -> Habilitation {
        Habilitation {
            tables: Tables::All,
            ..only(&[])
        }
    }

    fn shown(habilitation: &Habilitation) -> Shown {
        let sources = hospital();
        Shown::new(&sources, "p", &sources.0, habilitation)
    }

    fn side(table: &str) -> Side<'_> {
        Side {
            catalog: None,
            schema: None,
            table,
        }
    }

    /// `table.column -> parent.column` of each row, in the order of the answer.
    fn arrows(rows: Vec<Foreign>, order: Order) -> Vec<String> {
        let batch = foreign_batch(rows, order).expect("a batch");
        assert_eq!(batch.schema(), super::super::foreign_keys_layout());
        let text = |column: usize, row| {
            arrow::util::display::array_value_to_string(batch.column(column), row).expect("text")
        };
        let line = |row| {
            format!(
                "{}.{} -> {}.{}",
                text(6, row),
                text(7, row),
                text(2, row),
                text(3, row)
            )
        };
        (0..batch.num_rows()).map(line).collect()
    }

    fn primary_columns(habilitation: &Habilitation, table: &str) -> Vec<String> {
        let rows = shown(habilitation).primary(&side(table));
        let batch = primary_batch(rows).expect("a batch");
        assert_eq!(batch.schema(), super::super::primary_keys_layout());
        let text =
            |row| arrow::util::display::array_value_to_string(batch.column(3), row).expect("text");
        (0..batch.num_rows()).map(text).collect()
    }

    #[test]
    fn primary_keys_show_whole_or_not_at_all() {
        assert_eq!(primary_columns(&everything(), "stay"), ["stay_id", "place"]);
        let whole = only(&[("stay", &["stay_id", "place"])]);
        assert_eq!(primary_columns(&whole, "stay"), ["stay_id", "place"]);
        let half = only(&[("stay", &["stay_id", "began"])]);
        let none: [String; 0] = [];
        assert_eq!(primary_columns(&half, "stay"), none);
        let mut masked = whole.clone();
        if let Tables::Only(grants) = &mut masked.tables {
            grants[0].masks.push(("place".into(), Mask::Prefix(2)));
        }
        assert_eq!(primary_columns(&masked, "stay"), none);
        // A hidden table answers as one that does not exist.
        assert_eq!(primary_columns(&whole, "person"), none);
        assert_eq!(primary_columns(&whole, "nothing"), none);
        assert_eq!(primary_columns(&everything(), "diagnosis"), none);
    }

    #[test]
    fn requests_narrow_by_catalog_and_schema() {
        let shown = shown(&everything());
        let count = |catalog, schema| {
            let side = Side {
                catalog,
                schema,
                table: "person",
            };
            shown.primary(&side).len()
        };
        assert_eq!(count(Some("p"), Some("stays")), 1);
        assert_eq!(count(None, None), 1);
        assert_eq!(count(Some("other"), None), 0);
        assert_eq!(count(Some(""), None), 0);
        assert_eq!(count(None, Some("")), 0);
    }

    #[test]
    fn foreign_keys_lead_both_ways() {
        let shown = shown(&everything());
        let imported = shown.foreign(None, Some(side("diagnosis")));
        assert_eq!(
            arrows(imported, Order::ByParent),
            [
                "diagnosis.person -> person.person",
                "diagnosis.stay_id -> stay.stay_id",
                "diagnosis.place -> stay.place"
            ]
        );
        let exported = shown.foreign(Some(side("person")), None);
        assert_eq!(
            arrows(exported, Order::ByChild),
            [
                "diagnosis.person -> person.person",
                "stay.person -> person.person"
            ]
        );
        let cross = shown.foreign(Some(side("stay")), Some(side("diagnosis")));
        let names: Vec<_> = cross
            .iter()
            .map(|row| (row.name.as_str(), row.sequence))
            .collect();
        assert_eq!(
            names,
            [
                ("diagnosis_stay_id_place_fkey", 1),
                ("diagnosis_stay_id_place_fkey", 2)
            ]
        );
        assert_eq!(cross[0].parent_key.as_deref(), Some("stay_pkey"));
        assert!(
            shown
                .foreign(Some(side("diagnosis")), Some(side("stay")))
                .is_empty()
        );
    }

    #[test]
    fn a_foreign_key_hides_with_either_side() {
        let check = |habilitation: &Habilitation, expected: usize| {
            let rows = shown(habilitation).foreign(None, Some(side("diagnosis")));
            assert_eq!(rows.len(), expected, "{habilitation:?}");
        };
        let diagnosis: (&str, &[&str]) = ("diagnosis", &["stay_id", "place", "person"]);
        check(&only(&[diagnosis]), 0);
        check(&only(&[diagnosis, ("person", &["person"])]), 1);
        check(&only(&[diagnosis, ("person", &["sex"])]), 0);
        check(&only(&[diagnosis, ("stay", &["stay_id", "place"])]), 2);
        check(&only(&[diagnosis, ("stay", &["stay_id"])]), 0);
        check(
            &only(&[("diagnosis", &["place"]), ("stay", &["stay_id", "place"])]),
            0,
        );
        check(&everything(), 3);
    }

    #[test]
    fn columns_that_are_re_keyed_apart_are_no_key() {
        let mut dataset = Dataset::clone(&hospital().0);
        dataset.tables[2].columns[0].identifier = Some("another".into());
        let sources = OneDataset(Arc::new(dataset));
        let shown = Shown::new(&sources, "p", &sources.0, &everything());
        assert_eq!(shown.foreign(Some(side("stay")), None).len(), 0);
        assert_eq!(shown.foreign(Some(side("person")), None).len(), 2);
    }
}
