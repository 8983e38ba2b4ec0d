//! Files that only this hub can read: what projects keep in their spaces, what queries spill.
//!
//! A file of a space is a header and chunks of 64 KiB, each AES-256-GCM with a key of this file
//! alone, its number and whether it is the last in the nonce: the STREAM construction of Hoang,
//! Reyhanitabar, Rogaway and Vizár (2015). What was changed, cut, moved, swapped or renamed does
//! not open, and any chunk opens without the others.
//!
//! ```text
//!  "hubseal1" │ key id │ salt ║ chunk 0 │ tag ║ chunk 1 │ tag ║ … ║ last chunk │ tag
//!       8         4       32      65536    16                        0 … 65536   16
//! ```
//!
//! ```text
//!  master.key ──┐
//!               ├─HKDF─▶ key of a project's space ──HKDF with the file's salt and name──▶ its key
//!  space_keys ──┘ (the store; dropped: nothing opens any more)
//! ```
//!
//! Nothing here knows of Parquet, tables or rights.

mod cipher;
mod keys;
mod layout;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use cipher::{ChunkCipher, Place, TAG_BYTES};
pub use keys::{ProjectKey, SpaceKeys};
pub use store::SealedStore;
pub use writer::SealedWriter;
