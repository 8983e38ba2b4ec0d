//! What a project may do with a dataset: typed data, versioned, immutable once used.
//!
//! Nothing here is SQL text. A habilitation names one dataset; what it does not grant is
//! refused, and a table or column that is not granted reads as missing.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use crate::zone::Zone;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Habilitation {
    /// Stable name, unique in the hub.
    pub id: String,
    pub version: u32,
    pub project: String,
    pub dataset: String,
    pub mode: Mode,
    pub tables: Tables,
    /// Restricts every table that leads to a person to the persons of a cohort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persons: Option<Cohort>,
    /// Datasets of one project whose habilitations share a linkage group share pseudonyms.
    pub linkage_group: String,
    /// Where callers must be to use it; anywhere it may be used at all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zones: Option<Vec<Zone>>,
    /// What may be taken out of the hub of what is read under it.
    #[serde(default, skip_serializing_if = "ExportRule::is_default")]
    pub export: ExportRule,
    pub valid_from: DateTime<Utc>,
    pub valid_to: DateTime<Utc>,
    /// Reference of the decision that granted it (CNIL, ethics committee, …).
    pub decision: String,
}

/// What leaves the barrier: rows, or protected aggregates only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Row,
    Aggregate,
}

impl Mode {
    /// What policies and lists call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Aggregate => "aggregate",
        }
    }
}

/// How results leave the hub as exports; not written where it is the default, so that what was
/// written before reads the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportRule {
    /// Not at all; and nothing is read from outside.
    None,
    /// Each after a second person has decided on it, whatever the rules find; and nothing is read
    /// from outside.
    Review,
    /// As the rules decide: alone where they find nothing, after a second person where they ask.
    #[default]
    Rules,
}

impl ExportRule {
    /// What policies and lists call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Review => "review",
            Self::Rules => "rules",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tables {
    /// Every table and column of the dataset, without restriction.
    All,
    Only(Vec<TableGrant>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableGrant {
    pub table: String,
    #[serde(default)]
    pub columns: Columns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Predicate>,
    /// Masks, by column.
    #[serde(default)]
    pub masks: Vec<(String, Mask)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Columns {
    #[default]
    All,
    Only(Vec<String>),
    Except(Vec<String>),
}

/// Persons found in a table, which the project need not see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    pub dataset: String,
    pub table: String,
    pub column: String,
    pub rows: Predicate,
}

/// A typed predicate over the stored columns of one table.
///
/// NULL follows SQL: a row passes only where the predicate is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predicate {
    Compare {
        column: String,
        op: Comparison,
        value: Value,
    },
    In {
        column: String,
        values: Vec<Value>,
    },
    /// From `low` to `high`, both included.
    Between {
        column: String,
        low: Value,
        high: Value,
    },
    IsNull {
        column: String,
    },
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Date(NaiveDate),
}

/// What a column shows instead of its value. NULL stays NULL. A column that must not be shown at
/// all is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// Always NULL.
    Null,
    /// A French commune's INSEE code to its department: two characters, three from 97 on
    /// (`75056` → `75`, `2A004` → `2A`, `97411` → `974`).
    Department,
    /// A date to the first of January of its year.
    Year,
    /// The first `n` characters.
    Prefix(u8),
    /// A year of birth (an integer) to the first year of its band of `n` years, bands beginning
    /// at year 0 (`AgeBand(5)`: `1987` → `1985`).
    AgeBand(u8),
    /// An integer or decimal to the multiple of `n` next to it towards zero (`Round(100)`:
    /// `1234.56` → `1200.00`, `-99` → `0`).
    Round(u64),
    /// A text of fixed length in place of an integer or a text: equal values have equal texts
    /// within a project and linkage group, and nowhere else. Who sees a column so can still
    /// count how often a value occurs.
    HashPerProject,
}
