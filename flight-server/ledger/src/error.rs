//! Everything that can go wrong in the ledger.

use std::sync::Arc;

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
