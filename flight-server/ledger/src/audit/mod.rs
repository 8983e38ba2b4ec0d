//! The audit as a Merkle log.
//!
//! ```text
//!  one transaction                         the notary
//! ┌──────────────────────────────┐       ┌────────────────────────────┐
//! │ entries with their leaf hash │ head  │ copies the signed head into │
//! │ the tree's head, signed      │──────▶│ audit_checkpoints, to the   │
//! └──────────────────────────────┘       │ witness and to syslog       │
//!                                        └────────────────────────────┘
//! ```
//!
//! The row `audit_head` is locked from the first entry to the commit, so that servers that share
//! a database append one after another. Its frontier (the roots of the perfect subtrees) is all
//! that an append needs of the tree. Its signature is checked whenever somebody else wrote it:
//! who may write to the database but does not hold the key can neither add an entry nor take
//! the last ones away, unless they put the whole log back to an earlier state. A server that runs
//! refuses that, since it knows how long the log was; after a start the witness finds it.
//!
//! An execution has two entries: its intent, in the transaction of its record and before its
//! first row, and its outcome, which holds the digest of its usage record (`usage.rs`).

mod append;
mod checkpoints;
mod executions;
mod finding;
mod keys;
mod notary;
mod policies;
mod proof;
mod purge;
mod row;
mod second;
mod syslog;
mod usage;
mod verify;
mod witness;

use hubflight_audit::Signer;

pub(crate) use append::{Audit, AuditLog};
pub use append::{record_act, record_event};
pub use finding::{Finding, Flaw, Place};
pub use keys::text_key_created;
pub use notary::newest_checkpoint;
pub(crate) use notary::{Notary, NotaryHandle};
pub use policies::{policies_changed, policies_told};
pub use proof::{InclusionProof, RecordedText, prove_inclusion, recorded_text, tiles};
pub use purge::{KEPT_MONTHS, Purged, overdue, purge_before};
pub(crate) use row::sealed_sha256;
pub use second::SecondPlace;
pub(crate) use second::SecondPlaces;
pub use syslog::{Syslog, SyslogAddress};
pub(crate) use usage::usage_digest;
pub use verify::{Report, VerifyOptions, verify};
pub use witness::Witness;

/// How the audit log is signed and who keeps its checkpoints.
#[derive(Debug)]
pub struct AuditSettings {
    pub signer: Signer,
    /// Where each checkpoint is kept, and read back.
    pub witness: Option<Witness>,
    /// Where each checkpoint is told, and never read back.
    pub syslog: Option<Syslog>,
}
