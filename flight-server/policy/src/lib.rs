//! The barrier (`PolicyScanExec`) between users and data, aggregate mode and pseudonyms.
//!
//! What this crate does not know: persons, sessions, SQL text, storage, prices, and why a
//! habilitation is in force. It is given typed habilitations and raw table providers, and
//! answers with tables that show only what the habilitation opens.

pub mod aggregate;
pub mod barrier;
pub mod opposition;
pub mod pseudonym;

mod error;

pub use barrier::{
    PersonRows, PolicyScanExec, PolicyTable, REMARKS_KEY, Selections, Sources, UNIT_KEY, clean,
    describe_table, granted_tables, open_table, table_of,
};
pub use error::PolicyError;
pub use opposition::Opposed;
pub use pseudonym::{Cipher, LinkageKeys, Secret};
