//! The crate's errors. Every text may be shown to a client: it names only what the caller's
//! project may know of, or what an administrator wrote, and never a value of the data.

use thiserror::Error;

/// What goes wrong in policies.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PolicyError {
    /// The files do not fit the dataset's description or the habilitation. The text is for
    /// administrators; [`PolicyError::user_text`] is for everybody else.
    #[error("table `{dataset}.{table}`{}: {problem}", place(.column))]
    Source {
        dataset: String,
        table: String,
        column: Option<String>,
        problem: String,
    },
    /// The project may see aggregates only, and rows were asked for.
    #[error(
        "the project may see only aggregates of dataset `{dataset}`: ask for count(*), \
         count(DISTINCT identifier), sum or avg, with or without GROUP BY"
    )]
    AggregateOnly { dataset: String },
    /// The keys given belong to another project or linkage group than the habilitation: a bug of
    /// the caller.
    #[error("linkage keys of another scope were offered for project `{project}`")]
    KeysOfOtherScope { project: String },
    /// Reading the table failed inside the barrier; the cause is in the server's log only.
    #[error("table `{dataset}.{table}` could not be read; try again, then tell the hub's operator")]
    Unreadable { dataset: String, table: String },
    /// Memory ran out inside the barrier; how much was held there depends on hidden rows.
    #[error(
        "not enough memory to read table `{dataset}.{table}`; select fewer columns or rows, or \
         ask for a larger limit"
    )]
    OutOfMemory { dataset: String, table: String },
}

impl PolicyError {
    /// True when the caller is refused; false when the hub is at fault or out of memory.
    pub fn is_denial(&self) -> bool {
        matches!(self, Self::AggregateOnly { .. })
    }

    /// The text for a client who is no administrator: as displayed, except where the cause is
    /// in the hub's own configuration.
    pub fn user_text(&self) -> String {
        match self {
            Self::Source { dataset, table, .. } => format!(
                "table `{dataset}.{table}` is not configured correctly; tell the hub's operator"
            ),
            Self::KeysOfOtherScope { .. } => {
                "the project's keys could not be used; tell the hub's operator".to_owned()
            }
            Self::AggregateOnly { .. } | Self::Unreadable { .. } | Self::OutOfMemory { .. } => {
                self.to_string()
            }
        }
    }
}

fn place(column: &Option<String>) -> String {
    let name = column.as_ref();
    name.map_or_else(String::new, |name| format!(", column `{name}`"))
}
