//! Results as bytes: rows cut into chunks, chunks encoded without being copied, and the gRPC body
//! and the write buffer by which they leave. And the other way: commands, and what clients send as
//! Arrow, looked at before it is believed.
//!
//! What this crate does not know: SQL, policies, persons, tickets, bills. It is a crate of its own
//! because every byte of a result passes through it, so that it is compiled with all
//! optimisations, which the server around it is not.

mod body;
mod chunks;
mod commands;
mod gathered;
mod message;
pub mod messages;
pub mod received;
pub mod uploads;

pub use body::GrpcBody;
pub use chunks::{Chunks, bytes_of, bytes_of_rows};
pub use commands::command_of;
pub use gathered::Gathered;
pub use message::{Encoder, Message};
