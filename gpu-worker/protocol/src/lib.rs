//! What travels between the server and a compute worker.
//!
//! Both sides are generic Arrow Flight peers; the only things of ours on the wire are three
//! small JSON texts, so any Arrow client can talk to a worker:
//!
//! 1. `DoExchange`. The `cmd` of the first message's descriptor is a sealed [`Envelope`]
//!    (a compact JWS, see [`envelope`]); the same message carries the schema of the
//!    arguments, one column per parameter of the function, in order. The worker's first
//!    message is the schema of the answers; it comes before any batch is sent, and its
//!    `app_metadata` is [`Key::prove`] of the sealed envelope.
//! 2. Each batch of arguments carries `app_metadata` = [`BatchTag`], `{"seq": 7}`.
//! 3. The answers have the columns `value` (the function's type) and `error` (text, NULL
//!    where the row succeeded), as many rows as the batch, and `app_metadata` =
//!    [`BatchUsage`]. Batches are answered in the order of completion: match them by `seq`.
//!    An answer too large for one message comes in parts, marked by `row` and `last`.
//!
//! `DoAction` `health` and `metrics` take a sealed envelope of the same name as their body.
//!
//! The table of [`functions`] is shared by the planner and the worker, so that both agree on
//! names, parameters, types and units.

pub mod envelope;
mod functions;
mod key_file;
mod messages;
pub mod wire;

pub use envelope::{Envelope, Key, SealError};
pub use functions::{ArgumentType, FunctionSpec, Parameter, WorkUnit, function, functions};
pub use key_file::user_key_file;
pub use messages::{
    ACTION_HEALTH, ACTION_METRICS, BatchTag, BatchUsage, ERROR_COLUMN, Health, VALUE_COLUMN,
    answer_schema,
};

/// Version of this protocol; a worker refuses an envelope of another version.
pub const PROTOCOL_VERSION: u16 = 1;

/// Largest sealed envelope that is looked at.
pub const ENVELOPE_BYTES_MAX: usize = 16 << 10;

/// Bytes of a stream that may be on the way before the reader reads on (HTTP/2 flow control).
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for a connection, which all statements share: so far above a stream's that those
/// whose reader waits cannot use it up and stop the others (HTTP/2 allows 2^31 - 1).
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;

/// Largest HTTP/2 frame.
pub const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Largest Flight message that either side decodes.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Largest answer that a worker puts in one message; a larger one is sent in parts, and a larger
/// row fails. It leaves room in [`MESSAGE_BYTES_MAX`] for the frame, padding and metadata.
pub const ANSWER_BYTES_MAX: usize = 192 << 20;

/// Largest argument row that can be sent to a worker; a larger one fails alone.
pub const ROW_BYTES_MAX: usize = 192 << 20;

/// Most rows in one batch of arguments.
pub const BATCH_ROWS_MAX: usize = 65_536;
