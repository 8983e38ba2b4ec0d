//! Everything that can go wrong in the ledger.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use hubflight_audit::AuditError;
use hubflight_store::StoreError;
use uuid::Uuid;

#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// The record is not durable: refuse what it stands for.
    #[error("usage cannot be recorded now, so nothing is served; try again later")]
    Unwritable(#[source] Arc<StoreError>),

    #[error("usage could not be recorded within {wait_ms} ms; try again later")]
    Busy { wait_ms: u64 },

    #[error("the ledger is closed; the server is stopping, connect again later")]
    Closed,

    #[error("another server writes the ledger of `{store}`; stop it first")]
    Owned { store: String },

    #[error("statement `{0}` is not known; prepare it again")]
    UnknownStatement(Uuid),

    #[error("statement `{0}` exists already; use a new identifier")]
    DuplicateStatement(Uuid),

    #[error(
        "execution {attempt} of statement `{statement_id}` is settled already; its record stands"
    )]
    AlreadySettled { statement_id: Uuid, attempt: u32 },

    #[error("tariff: {0}")]
    Tariff(String),

    #[error("tariff `{version}` was used with other prices; give the new prices a new version")]
    TariffChanged { version: String },

    #[error("the ledger holds an unreadable {what}; restore it from a backup")]
    Corrupt { what: &'static str },

    #[error(
        "the head of the audit log was not signed by this hub, or is older than one that was, so \
         nothing is served; find what was changed with `flight-server admin audit verify`"
    )]
    AuditForged,

    #[error("the audit log: {0}")]
    Audit(#[from] AuditError),

    #[error("the audit log has no entry {0}")]
    NoEntry(i64),

    #[error(
        "entry {0} of the audit log is not what was signed; find what was changed with \
         `flight-server admin audit verify`"
    )]
    Unproven(i64),

    #[error(
        "the leaves of the audit log are not those that were signed; find what was changed with \
         `flight-server admin audit verify`"
    )]
    LeavesAltered,

    #[error("records are kept for 12 months; `{before}` is later than `{latest}`")]
    TooYoung {
        before: DateTime<Utc>,
        latest: DateTime<Utc>,
    },

    #[error("the audit's second place `{place}` cannot be used: {reason}")]
    Witness { place: String, reason: String },

    #[error("`{path}` cannot be written: {reason}")]
    Tile { path: String, reason: String },

    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl From<StoreError> for LedgerError {
    fn from(error: StoreError) -> Self {
        if error.is_unavailable() {
            LedgerError::Unwritable(Arc::new(error))
        } else {
            LedgerError::Store(Arc::new(error))
        }
    }
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::from(error).into()
    }
}
