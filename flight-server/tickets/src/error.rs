//! Why a ticket or token cannot be made or is not taken.

use chacha20poly1305::aead;
use rand::rngs::SysError;

/// The texts of the first two are written for clients; the causes of the others are for the
/// hub's log only.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    #[error("this is no valid ticket of yours; ask for the flight info again")]
    Invalid,

    #[error("the ticket has expired; ask for the flight info again")]
    Expired,

    #[error("a ticket cannot be written: {0}")]
    Ticket(#[source] serde_json::Error),

    #[error("a token cannot be written: {0}")]
    Token(#[source] serde_json::Error),

    #[error("sealing failed: {0}")]
    Seal(aead::Error),

    #[error("the system gave no random bytes: {0}")]
    Random(#[source] SysError),
}
