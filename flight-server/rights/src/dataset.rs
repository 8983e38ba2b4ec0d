//! What a producer publishes: datasets, their tables, and each table's path to the person.
//!
//! These are plain data, read from `dataset.json` (demo and producers) or from the hub's
//! configuration. A table without a declared path to the person is refused, because row
//! filters, exclusions and thresholds follow that path.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// One immutable version of a producer's tables; a schema in SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// SQL schema name, lowercase.
    pub name: String,
    /// Sentence shown in catalogues.
    pub title: String,
    /// Organisation that produces the data and is remunerated for it.
    pub producer: String,
    /// Version of the data; a change of any value is a new version.
    pub version: u32,
    /// True for generated data: shown wherever the dataset is.
    #[serde(default)]
    pub synthetic: bool,
    /// Distinct persons that a published aggregate needs.
    #[serde(default = "persons_min_default")]
    pub persons_min: u32,
    pub tables: Vec<Table>,
}

/// Distinct persons that a published aggregate needs where a dataset says nothing else.
pub const PERSONS_MIN_DEFAULT: u32 = 11;
/// The least that a dataset may ask for: above the largest noise of a published count, so that no
/// cell turns negative.
pub const PERSONS_MIN_LEAST: u32 = 6;

fn persons_min_default() -> u32 {
    PERSONS_MIN_DEFAULT
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// SQL table name, lowercase.
    pub name: String,
    /// Sentence shown in catalogues.
    #[serde(default)]
    pub remarks: String,
    /// Folder or file, relative to the folder of `dataset.json`, or a URL (`s3://…`).
    pub location: String,
    #[serde(default)]
    pub format: Format,
    /// How rows lead to a person.
    pub person: PersonPath,
    #[serde(default)]
    pub primary_key: Vec<String>,
    #[serde(default)]
    pub foreign_keys: Vec<ForeignKey>,
    /// Documentation and roles of columns, in the order of the files. A column of the files
    /// that is not listed here is not exposed, unless the list is empty: then all are.
    #[serde(default)]
    pub columns: Vec<Column>,
}

/// File format of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Parquet,
    Csv,
    Json,
    Arrow,
    /// A folder of DICOM files, one row a file.
    Dicom,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(default)]
    pub remarks: String,
    /// Unit of measure (`mV`, `Hz`, `EUR`, …), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// True when the producer declares that the column has no NULL.
    #[serde(default)]
    pub not_null: bool,
    /// Domain of the identifier that the column holds (`person`, `stay`, `document`, …).
    /// Such a column never leaves the hub as stored: it is re-keyed per project and linkage
    /// group, and the same domain under the same key gives the same pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
}

/// How the rows of a table lead to a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PersonPath {
    /// The table describes no person (labels, TPC-H).
    None,
    /// The column that identifies the person.
    Column(String),
    /// Through a parent table of the same dataset, on (own column, parent's column) pairs.
    Parent {
        table: String,
        on: Vec<(String, String)>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForeignKey {
    pub columns: Vec<String>,
    pub parent: String,
    pub parent_columns: Vec<String>,
}

impl Dataset {
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Domain of the identifier that a column of one of these tables holds, if it holds one: as
    /// its own table says ([`Table::identifier`]), else that of the column that it leads to, on
    /// the path to the person or by a foreign key. A key says nothing new in the child, so it is re-keyed there as in the
    /// parent, whether or not anybody remembered to declare it twice.
    pub fn identifier<'a>(&'a self, table: &'a Table, column: &str) -> Option<&'a str> {
        self.inherited(table, column, &mut HashSet::new())
    }

    fn inherited<'a>(
        &'a self,
        table: &'a Table,
        column: &str,
        visited: &mut HashSet<(&'a str, String)>,
    ) -> Option<&'a str> {
        if let Some(domain) = table.identifier(column) {
            return Some(domain);
        }
        // A path in a circle is refused elsewhere; here it must only end.
        if !visited.insert((table.name.as_str(), column.to_owned())) {
            return None;
        }
        let mut leads = table.leads(column);
        leads.find_map(|(parent, theirs)| self.inherited(self.table(parent)?, theirs, visited))
    }
}

/// Domain of the persons' identifiers.
pub const PERSON_DOMAIN: &str = "person";

impl Table {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The tables and columns that a column leads to.
    fn leads<'a>(&'a self, column: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let path = match &self.person {
            PersonPath::Parent { table, on } => Some((table, on)),
            _ => None,
        };
        let path = path
            .into_iter()
            .flat_map(|(table, on)| on.iter().map(move |(own, theirs)| (own, table, theirs)));
        let keys = self.foreign_keys.iter().flat_map(|key| {
            let pairs = key.columns.iter().zip(&key.parent_columns);
            pairs.map(move |(own, theirs)| (own, &key.parent, theirs))
        });
        path.chain(keys)
            .filter(move |(own, ..)| *own == column)
            .map(|(_, table, theirs)| (table.as_str(), theirs.as_str()))
    }

    /// Domain of the identifier that a column holds as this table alone tells: as declared, and
    /// the column that identifies the person always does. What a column shows follows
    /// [`Dataset::identifier`], which knows the parents too.
    pub fn identifier(&self, column: &str) -> Option<&str> {
        let declared = self
            .column(column)
            .and_then(|column| column.identifier.as_deref());
        match &self.person {
            PersonPath::Column(person) if person == column => declared.or(Some(PERSON_DOMAIN)),
            _ => declared,
        }
    }
}
