//! Who may do what with which dataset: what producers and habilitations declare, its validation,
//! and the decision, by policies in Cedar. Pure: no clock, no IO.
//!
//! What this crate does not know: rows, SQL, sessions, storage, prices. How a habilitation shapes
//! a scan is the business of `hubflight-policy`.

pub mod asker;
pub mod dataset;
pub mod decision;
pub mod habilitation;
pub mod rules;
pub mod zone;

mod error;
mod validate;

pub use asker::{Asker, Login, Method};
pub use decision::{Action, Decision, Denial, Granted, Register, Request, decide};
pub use error::RightsError;
pub use rules::{Rules, RulesFile};
pub use zone::Zone;
