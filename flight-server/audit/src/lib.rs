//! What makes the audit provable, without any IO: the Merkle tree over its entries (RFC 6962,
//! RFC 9162), the canonical form of an entry, checkpoints as signed notes (C2SP), and texts
//! that are sealed to the keys of those who may read them.
//!
//! It knows no database, no person and no SQL. The ledger writes the log and verifies it.

mod checkpoint;
mod entry;
mod line;
mod merkle;
mod note;
mod text;
mod tiles;

pub use checkpoint::Checkpoint;
pub use entry::{Entry, Payload, Salt};
pub use line::{checkpoint_line, checkpoint_notes};
pub use merkle::{
    Collector, EMPTY_ROOT, Frontier, Hash, consistency_ranges, inclusion_ranges, leaf_hash,
    node_hash, verify_consistency, verify_inclusion,
};
pub use note::{Signer, VerifierKey};
pub use text::{TextKey, TextPublicKey, open_text, seal_text};
pub use tiles::{Tile, Tiles};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    #[error("the system gave no random bytes; try again")]
    Random,

    #[error("the key cannot be used: {0}")]
    Key(&'static str),

    #[error("the note is malformed: {0}")]
    Note(&'static str),

    #[error("the note is not signed by `{0}`")]
    Signature(String),

    #[error("the frontier does not fit its size")]
    Frontier,

    #[error("the sealed text is malformed")]
    SealedText,

    #[error("the text is not sealed to this key; its readers are {0}")]
    NotAReader(String),
}

/// Random bytes of the operating system.
fn random<const N: usize>() -> Result<[u8; N], AuditError> {
    use rand::TryRng;
    let mut bytes = [0; N];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| AuditError::Random)?;
    Ok(bytes)
}
