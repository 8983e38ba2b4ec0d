//! Why work on the pool failed.

use std::error::Error;

use datafusion::error::DataFusionError;

/// Why a call to a worker failed. It travels inside `DataFusionError::External`; see
/// [`WorkError::find`]. The texts may be shown to the user who wrote the statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// No worker took the work until the statement's deadline.
    #[error(
        "no compute worker was available until the statement's deadline ({reason}): try again later"
    )]
    Unavailable { reason: String },
    /// Workers were there, but the statement's deadline passed first.
    #[error(
        "the statement's deadline passed while its functions ran on the workers: ask for fewer rows or for a longer time limit"
    )]
    DeadlineExceeded,
    /// A row failed under `on_error => 'fail'`.
    #[error(
        "`{function}` failed on a row: {reason}; use on_error => 'null' to go on without such rows, or on_error => 'report' to see why each failed"
    )]
    RowFailed { function: String, reason: String },
    /// The call is wrong, whatever the rows.
    #[error("{0}")]
    InvalidArgument(String),
    /// Server and worker disagree, or a worker breaks the protocol: a bug or a wrong set-up.
    #[error("{0}")]
    Internal(String),
}

impl WorkError {
    /// The work error that caused `error`, if one did.
    pub fn find(error: &DataFusionError) -> Option<&WorkError> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(found) = error.downcast_ref::<WorkError>() {
                return Some(found);
            }
            cause = error.source();
        }
        None
    }
}

impl From<WorkError> for DataFusionError {
    fn from(error: WorkError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
