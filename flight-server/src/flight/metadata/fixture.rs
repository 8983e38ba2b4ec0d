//! A small dataset, for the tests of what its projects see.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use chrono::DateTime;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use hubflight_policy::{Opposed, Sources};
use hubflight_rights::dataset::{Column, Dataset, ForeignKey, Format, PersonPath, Table};
use hubflight_rights::habilitation::{Columns, ExportRule, Habilitation, Mode, TableGrant, Tables};

/// One dataset without rows.
pub struct OneDataset(pub Arc<Dataset>);

impl Sources for OneDataset {
    fn dataset(&self, name: &str) -> Option<Arc<Dataset>> {
        (self.0.name == name).then(|| Arc::clone(&self.0))
    }

    fn source(&self, dataset: &str, table: &str) -> Option<Arc<dyn TableProvider>> {
        let dataset = self.dataset(dataset)?;
        let columns = &dataset.table(table)?.columns;
        let field = |column: &Column| {
            let data_type = match column.name.as_str() {
                "began" => DataType::Date32,
                "person" | "stay_id" => DataType::Int64,
                _ => DataType::Utf8,
            };
            Field::new(&column.name, data_type, true)
        };
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        Some(Arc::new(EmptyTable::new(Arc::new(schema))))
    }

    fn opposed(&self, _domain: &str) -> Option<Arc<Opposed>> {
        None
    }
}

fn column(name: &str) -> Column {
    let identifier = ["person", "stay_id"]
        .contains(&name)
        .then(|| name.to_owned());
    Column {
        name: name.to_owned(),
        remarks: String::new(),
        unit: None,
        not_null: name == "began",
        identifier,
    }
}

fn table(name: &str, columns: &[&str], key: &[&str], foreign: &[(&[&str], &str)]) -> Table {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let reference = |(columns, parent): &(&[&str], &str)| ForeignKey {
        columns: owned(columns),
        parent: (*parent).to_owned(),
        parent_columns: owned(columns),
    };
    Table {
        name: name.to_owned(),
        remarks: String::new(),
        location: String::new(),
        format: Format::Parquet,
        person: PersonPath::Column("person".into()),
        primary_key: owned(key),
        foreign_keys: foreign.iter().map(reference).collect(),
        columns: columns.iter().map(|name| column(name)).collect(),
    }
}

/// Persons, their stays at a place, and the stays' diagnoses.
pub fn hospital() -> OneDataset {
    let stay = ["stay_id", "place"];
    OneDataset(Arc::new(Dataset {
        name: "stays".into(),
        title: String::new(),
        producer: String::new(),
        version: 1,
        synthetic: true,
        persons_min: hubflight_rights::dataset::PERSONS_MIN_DEFAULT,
        tables: vec![
            table("person", &["person", "sex"], &["person"], &[]),
            table(
                "stay",
                &["stay_id", "began", "place", "person"],
                &stay,
                &[(&["person"], "person")],
            ),
            table(
                "diagnosis",
                &["stay_id", "place", "person", "code"],
                &[],
                &[(&stay, "stay"), (&["person"], "person")],
            ),
        ],
    }))
}

/// A habilitation to some columns of some tables.
pub fn only(tables: &[(&str, &[&str])]) -> Habilitation {
    let grant = |(table, columns): &(&str, &[&str])| TableGrant {
        table: (*table).to_owned(),
        columns: Columns::Only(columns.iter().map(|name| (*name).to_owned()).collect()),
        rows: None,
        masks: Vec::new(),
    };
    Habilitation {
        id: "h".into(),
        version: 1,
        project: "p".into(),
        dataset: "stays".into(),
        mode: Mode::Row,
        tables: Tables::Only(tables.iter().map(grant).collect()),
        persons: None,
        linkage_group: "h".into(),
        zones: None,
        export: ExportRule::Rules,
        valid_from: DateTime::UNIX_EPOCH,
        valid_to: DateTime::UNIX_EPOCH,
        decision: String::new(),
    }
}
