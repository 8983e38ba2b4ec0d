//! What the expressions of one statement hold of memory.
//!
//! Functions find it in the options of their session. While a statement is planned its constants
//! stay in the plan, in many copies: so they are counted and never given back, and what would be
//! too much is not computed then but where it is needed. While it runs, results are in the
//! query's own pool until the last who holds them lets go.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::buffer::Buffer;
use bytes::Bytes;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use crate::error::Error;

/// Constants that may be computed while one statement is planned, together. The planner copies them
/// wherever their column is read.
const CONSTANT_BYTES_MAX: u64 = 256 << 10;
/// What one call may make of a batch where nobody counts.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// A result below this is not held: what it takes to do so would be more.
const HELD_BYTES_MIN: u64 = 512 << 10;

/// The account of one statement; its clones are the same account.
#[derive(Clone, Debug, Default)]
pub struct Account(Book);

#[derive(Clone, Debug, Default)]
enum Book {
    /// Outside a statement.
    #[default]
    Nobodys,
    /// Bytes of the constants that were computed.
    Planning(Arc<AtomicU64>),
    Running(Arc<dyn MemoryPool>),
}

impl Account {
    /// Of a statement that is planned.
    pub fn planning() -> Self {
        Self(Book::Planning(Arc::default()))
    }

    /// Of a query that runs in this pool.
    pub fn running(pool: Arc<dyn MemoryPool>) -> Self {
        Self(Book::Running(pool))
    }

    /// True where small results matter too, since they are kept.
    pub(super) fn counts_all(&self) -> bool {
        matches!(self.0, Book::Planning(_))
    }

    /// Room for a result that may be so large.
    ///
    /// # Errors
    /// Resources are exhausted where it is not there.
    pub(super) fn reserve(&self, function: &str, bytes: u64) -> Result<Reserved> {
        let room = match &self.0 {
            Book::Nobodys if bytes > BATCH_BYTES_MAX => return Err(no_room(function)),
            Book::Nobodys => Room::Free,
            Book::Planning(made) => {
                let before = made.fetch_add(bytes, Ordering::Relaxed);
                let kept = Room::Kept {
                    made: Arc::clone(made),
                    bytes,
                };
                if before.saturating_add(bytes) > CONSTANT_BYTES_MAX {
                    // Nothing was made: given back as it is dropped.
                    let mut reserved = Reserved(kept);
                    reserved.resize(0)?;
                    return Err(no_room(function));
                }
                kept
            }
            Book::Running(pool) => {
                let consumer = MemoryConsumer::new("an expression").register(pool);
                consumer.try_grow(in_memory(bytes))?;
                Room::Held(consumer)
            }
        };
        Ok(Reserved(room))
    }
}

fn no_room(function: &str) -> DataFusionError {
    Error::exhausted(format!(
        "`{function}` would make more than may be made at once; ask for less"
    ))
    .into()
}

fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Room that was reserved, until it is dropped.
pub(super) struct Reserved(Room);

enum Room {
    Free,
    Kept { made: Arc<AtomicU64>, bytes: u64 },
    Held(MemoryReservation),
}

impl Reserved {
    /// To what the result turned out to take.
    pub(super) fn resize(&mut self, to: u64) -> Result<()> {
        match &mut self.0 {
            Room::Free => Ok(()),
            Room::Kept { made, bytes } => {
                if to < *bytes {
                    made.fetch_sub(*bytes - to, Ordering::Relaxed);
                } else {
                    made.fetch_add(to - *bytes, Ordering::Relaxed);
                }
                *bytes = to;
                Ok(())
            }
            Room::Held(reservation) => reservation.try_resize(in_memory(to)),
        }
    }

    /// The array, with the room reserved until nobody holds it any more.
    pub(super) fn hold(self, array: ArrayRef) -> Result<ArrayRef> {
        let Room::Held(reservation) = self.0 else {
            return Ok(array);
        };
        if (reservation.size() as u64) < HELD_BYTES_MIN {
            return Ok(array);
        }
        let mut data = array.to_data();
        let largest = largest_buffer(&data);
        let mut reservation = Some(reservation);
        data = with_held(data, largest, &mut reservation)?;
        Ok(make_array(data))
    }
}

fn largest_buffer(data: &ArrayData) -> usize {
    let own = data.buffers().iter().map(Buffer::len);
    let inner = data.child_data().iter().map(largest_buffer);
    own.chain(inner).max().unwrap_or(0)
}

/// The same data, in which the first buffer of that length brings the reservation with it.
fn with_held(
    data: ArrayData,
    length: usize,
    reservation: &mut Option<MemoryReservation>,
) -> Result<ArrayData> {
    if reservation.is_none() {
        return Ok(data);
    }
    let (mut buffers, mut children) = (data.buffers().to_vec(), data.child_data().to_vec());
    match buffers.iter_mut().find(|buffer| buffer.len() == length) {
        Some(buffer) if length > 0 => {
            *buffer = Buffer::from(Bytes::from_owner(Held {
                buffer: buffer.clone(),
                _reservation: reservation.take(),
            }));
        }
        _ => {
            for child in &mut children {
                *child = with_held(child.clone(), length, reservation)?;
            }
        }
    }
    let built = data.into_builder().buffers(buffers).child_data(children);
    Ok(built.build()?)
}

struct Held {
    buffer: Buffer,
    _reservation: Option<MemoryReservation>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_slice()
    }
}

impl ConfigExtension for Account {
    const PREFIX: &'static str = "hubflight_account";
}

impl ExtensionOptions for Account {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    /// The same account on purpose: it is a count, not a setting.
    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _: &str) -> Result<()> {
        Err(DataFusionError::Configuration(format!(
            "`{key}` is no setting"
        )))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}
