//! Habilitations, pure decisions and the barrier (`PolicyScanExec`) between users and data.
//!
//! What this crate does not know: persons, sessions, SQL text, storage, prices. It is given
//! typed habilitations and raw table providers, and answers with a decision and with tables
//! that show only what the habilitation opens.

pub mod aggregate;
pub mod barrier;
pub mod dataset;
pub mod decision;
pub mod habilitation;
pub mod opposition;
pub mod pseudonym;
pub mod zone;

mod error;
mod validate;

pub use barrier::{
    PersonRows, PolicyScanExec, PolicyTable, REMARKS_KEY, Selections, Sources, UNIT_KEY,
    describe_table, granted_tables, open_table, table_of,
};
pub use decision::{Action, Decision, Denial, Granted, Register, Request, decide};
pub use error::PolicyError;
pub use opposition::Opposed;
pub use pseudonym::{Cipher, LinkageKeys};
pub use zone::Zone;
