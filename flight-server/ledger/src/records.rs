//! What goes into the ledger and what comes out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::tariff::Line;

/// What a statement is, for the bill and the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    Query,
    /// INSERT, UPDATE, DELETE.
    Dml,
    /// CREATE, DROP.
    Ddl,
    /// Bulk ingest.
    Ingest,
    /// A training or another job.
    Job,
    /// Catalogues and the hub's own tables: free.
    Metadata,
}

impl StatementKind {
    pub fn as_str(self) -> &'static str {
        match self {
            StatementKind::Query => "query",
            StatementKind::Dml => "dml",
            StatementKind::Ddl => "ddl",
            StatementKind::Ingest => "ingest",
            StatementKind::Job => "job",
            StatementKind::Metadata => "metadata",
        }
    }
}

/// A statement that was planned and authorised, or is about to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementOpened {
    pub statement_id: Uuid,
    pub person: String,
    /// None for a person without a project, and in the catalog `admin`.
    pub project: Option<String>,
    pub kind: StatementKind,
    /// The client's name and version, as it says.
    pub client: String,
    pub sql_sha256: [u8; 32],
    /// The statement's text, sealed by the caller to those who may read it; empty where nobody
    /// has a key.
    pub sql_sealed: Vec<u8>,
    pub tags: BTreeMap<String, String>,
    pub opened_at: DateTime<Utc>,
    /// When its ticket expires: then it settles at zero if nobody redeemed it.
    pub expires_at: DateTime<Utc>,
}

/// A redemption that is about to run.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionStarted {
    pub statement_id: Uuid,
    /// Identifiers and versions of the habilitations that allow it.
    pub habilitations: Vec<(String, u32)>,
    /// Names and versions of the datasets that it reads.
    pub datasets: Vec<(String, u32)>,
    /// What it touches of them, as JSON; names only.
    pub columns: serde_json::Value,
    pub started_at: DateTime<Utc>,
}

/// A statement, or one redemption of it, that was not allowed to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub statement_id: Uuid,
    /// Label of a closed set, never a text.
    pub reason: &'static str,
    pub habilitations: Vec<(String, u32)>,
    pub at: DateTime<Utc>,
}

/// Something to audit that is not an execution: a connection, a token, an administrator's act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Label of a closed set (`login`, `token_issued`, …).
    pub event: &'static str,
    /// `ok`, or the label of the refusal's reason.
    pub outcome: &'static str,
    pub person: Option<String>,
    pub project: Option<String>,
    pub client: String,
    pub at: DateTime<Utc>,
}

/// Who pays for an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What was done is charged.
    User,
    /// Free.
    Hub,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Error {
        /// Label of a closed set, never a text.
        kind: &'static str,
        fault: Fault,
    },
    Cancelled,
}

/// An outcome, those included that the ledger itself finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Settled(Outcome),
    /// Its process died; its last interim is charged.
    Interrupted,
    Refused(&'static str),
    Unredeemed,
}

impl Ending {
    pub(crate) fn outcome(self) -> &'static str {
        match self {
            Ending::Settled(Outcome::Ok) => "ok",
            Ending::Settled(Outcome::Error { .. }) => "error",
            Ending::Settled(Outcome::Cancelled) => "cancelled",
            Ending::Interrupted => "interrupted",
            Ending::Refused(_) => "refused",
            Ending::Unredeemed => "unredeemed",
        }
    }

    pub(crate) fn error_kind(self) -> Option<&'static str> {
        match self {
            Ending::Settled(Outcome::Error { kind, .. }) | Ending::Refused(kind) => Some(kind),
            _ => None,
        }
    }

    pub(crate) fn is_charged(self) -> bool {
        match self {
            Ending::Settled(Outcome::Error { fault, .. }) => fault == Fault::User,
            Ending::Settled(Outcome::Ok | Outcome::Cancelled) | Ending::Interrupted => true,
            Ending::Refused(_) | Ending::Unredeemed => false,
        }
    }
}

/// What an execution used and costs. Immutable; attempt 0 stands for a statement that was
/// refused or never redeemed.
#[derive(Clone, Debug, PartialEq)]
pub struct UsageRecord {
    /// Order in the ledger; 0 until it is read back.
    pub seq: i64,
    /// `<statement_id>.<attempt>`: writing it twice is impossible.
    pub usage_id: String,
    pub statement_id: Uuid,
    pub attempt: u32,
    pub person: String,
    pub project: Option<String>,
    pub organisation: Option<String>,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
    pub kind: String,
    /// `ok`, `error`, `cancelled`, `interrupted`, `refused` or `unredeemed`.
    pub outcome: String,
    pub error_kind: Option<String>,
    pub rows_returned: u64,
    pub bytes_returned: u64,
    pub bytes_scanned: u64,
    /// Work by unit (`pixels`, `tokens`, …), summed over functions.
    pub units: BTreeMap<String, u64>,
    pub failed_rows: u64,
    /// The first errors of rows, as the functions word them.
    pub row_errors: Vec<String>,
    /// Sum of the lines.
    pub cost: Decimal,
    pub currency: String,
    pub tariff_version: String,
    /// Empty when read in a list; see the bill.
    pub lines: Vec<Line>,
}
