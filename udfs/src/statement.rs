//! For whom work is done, until when, and who counts it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hubflight_protocol::{BatchUsage, Envelope, WorkUnit};

use crate::WorkerPool;

/// Counts the work of one execution. Called once for each batch that a worker answered, when
/// its rows are handed on: what was computed ahead of a `LIMIT` costs nothing.
pub trait WorkMeter: Send + Sync {
    /// A batch of `function` was executed and its rows are handed on.
    fn work(&self, function: &str, unit: WorkUnit, usage: &BatchUsage);

    /// A row failed; `reason` names what was wrong without the row's values.
    fn row_error(&self, function: &str, reason: &str);
}

/// What the operator needs to know of the statement that it works for.
///
/// Put it into the session's configuration:
/// `config.with_extension(Arc::new(StatementWork { … }))`.
pub struct StatementWork {
    pub statement_id: String,
    /// Project on whose behalf the work is done.
    pub tenant: String,
    /// Milliseconds since 1970 (see [`hubflight_protocol::envelope::unix_ms`]).
    pub deadline: u64,
    /// Higher is served first by the workers.
    pub priority: u8,
    /// Identifier that links the workers' logs to the server's.
    pub trace: Option<String>,
    pub pool: Arc<WorkerPool>,
    pub meter: Arc<dyn WorkMeter>,
    /// Set when the statement has ended: joins look, and fail.
    pub ended: Arc<AtomicBool>,
}

impl StatementWork {
    /// The envelope of a stream of calls of `function`.
    pub(crate) fn envelope(&self, function: &str) -> Envelope {
        Envelope {
            priority: self.priority,
            trace: self.trace.clone(),
            ..Envelope::new(function, &self.tenant, &self.statement_id, self.deadline)
        }
    }
}

impl fmt::Debug for StatementWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatementWork")
            .field("statement_id", &self.statement_id)
            .field("tenant", &self.tenant)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
