//! The crate's errors. Every text is for administrators: it names only what they wrote.

use thiserror::Error;

/// What is wrong in what an administrator declares.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum RightsError {
    /// A producer's description of a dataset.
    #[error("dataset `{dataset}`{}: {problem}", place(.table, .column))]
    Dataset {
        dataset: String,
        table: Option<String>,
        column: Option<String>,
        problem: String,
    },
    #[error("habilitation `{id}` version {version}{}: {problem}", place(.table, .column))]
    Habilitation {
        id: String,
        version: u32,
        table: Option<String>,
        column: Option<String>,
        problem: String,
    },
    #[error("policies `{file}`, line {line}{}: {problem}", named(.policy))]
    Policy {
        file: String,
        line: usize,
        policy: Option<String>,
        problem: String,
    },
}

impl RightsError {
    /// What the hub brings itself is wrong, which no operator can mend.
    pub(crate) fn of_the_hub(problem: String) -> Self {
        Self::Policy {
            file: "hub.cedarschema".to_owned(),
            line: 1,
            policy: None,
            problem,
        }
    }
}

fn named(policy: &Option<String>) -> String {
    let policy = policy.as_ref();
    policy.map_or_else(String::new, |name| format!(", policy `{name}`"))
}

fn place(table: &Option<String>, column: &Option<String>) -> String {
    let mut place = String::new();
    for (kind, name) in [("table", table), ("column", column)] {
        if let Some(name) = name {
            place.push_str(&format!(", {kind} `{name}`"));
        }
    }
    place
}
