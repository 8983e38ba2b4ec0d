//! The ledger: one usage record and one audit outcome per execution, whatever dies when.
//!
//! ```text
//!  statement()          begin()              settle() or drop
//! ┌───────────┐       ┌─────────┐  interim() ┌─────────────────────┐
//! │ statement │──────▶│ running │───────────▶│ ok, error, cancelled│
//! └───────────┘       └─────────┘            └─────────────────────┘
//!    │      │              │ the process dies, or another server believes so
//!    │      │ refuse()     └────────────────▶ interrupted, with its last interim
//!    │      └───────────▶ refused
//!    └ ticket expires ──▶ unredeemed
//! ```
//!
//! One task writes everything, in groups: while one transaction is being made durable, the
//! next requests queue up for the following one. Nothing is served unmetered: [`Ledger::begin`]
//! fails with [`LedgerError::Unwritable`] when its record is not durable.
//!
//! The audit is a Merkle log (`audit/`): each transaction that adds entries signs the tree's new
//! head, checkpoints of it are kept in the store and by a witness, and [`verify`] finds what
//! was altered.
//!
//! The ledger knows nothing of SQL, of results or of policies: it keeps names, quantities,
//! prices and outcomes, never values of data nor texts of errors.

mod audit;
mod bill;
mod bulk;
mod error;
mod execution;
mod ledger;
mod owner;
mod quantities;
mod read;
mod records;
mod recover;
mod review;
mod settle;
mod tariff;
mod write;
mod writer;

pub use audit::{
    AuditSettings, Finding, Flaw, InclusionProof, KEPT_MONTHS, Place, Purged, RecordedText, Report,
    SecondPlace, Syslog, SyslogAddress, VerifyOptions, Witness, newest_checkpoint, overdue,
    policies_changed, policies_told, prove_inclusion, purge_before, record_act, record_event,
    recorded_text, text_key_created, tiles, verify,
};
pub use bill::{BillLine, BillScope, ProjectTotal};
pub use error::LedgerError;
pub use execution::Execution;
pub use ledger::{Ledger, LedgerLimits};
pub use quantities::{Measured, Quantities, Work, WorkUnit};
pub use read::{AuditRecord, Filter, Page, QueryRecord};
pub use records::{
    AuditEvent, ExecutionStarted, Fault, Outcome, Refusal, StatementKind, StatementOpened,
    UsageRecord,
};
pub use review::{Act, Refused, Review, Volume, review};
pub use tariff::{Line, Prices, Tariff, TariffParts, Unit};
