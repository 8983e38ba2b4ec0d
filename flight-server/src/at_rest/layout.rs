//! Where the chunks of a sealed file lie.

use std::ops::Range;

use super::cipher::{Place, TAG_BYTES};

/// Plain bytes of a chunk; the last one may have fewer.
pub const CHUNK_BYTES: usize = 64 << 10;
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
pub const SALT_BYTES: usize = 32;
pub const HEADER_BYTES: usize = MAGIC.len() + 4 + SALT_BYTES;
const MAGIC: &[u8; 8] = b"hubseal1";

/// What a sealed file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub key_id: u32,
    pub salt: [u8; SALT_BYTES],
}

impl Header {
    pub fn bytes(&self) -> Vec<u8> {
        [&MAGIC[..], &self.key_id.to_le_bytes(), &self.salt].concat()
    }

    /// `None` where a file begins with something else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (key_id, salt) = rest.split_first_chunk::<4>()?;
        Some(Self {
            key_id: u32::from_le_bytes(*key_id),
            salt: salt.try_into().ok()?,
        })
    }
}

/// The sizes of a sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub sealed_bytes: u64,
    pub plain_bytes: u64,
    chunks: u64,
}

/// Whole chunks that hold a range of plain bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of the first chunk.
    pub first: u64,
    /// Where they lie in the sealed file.
    pub sealed: Range<u64>,
    /// Where the range lies among their plain bytes.
    pub wanted: Range<usize>,
}

impl Layout {
    /// The layout of a file of that size; `None` where no sealed file has it.
    pub fn of(sealed_bytes: u64) -> Option<Self> {
        let body = sealed_bytes.checked_sub(HEADER_BYTES as u64)?;
        let chunks = body.div_ceil(SEALED_CHUNK_BYTES as u64);
        let tags = chunks * TAG_BYTES as u64;
        // The last chunk holds at least its tag, and something else unless it is the only one.
        let last = body.checked_sub(chunks.checked_sub(1)? * SEALED_CHUNK_BYTES as u64)?;
        let is_whole = last > TAG_BYTES as u64 || (last == TAG_BYTES as u64 && chunks == 1);
        let is_countable = u32::try_from(chunks).is_ok();
        let plain_bytes = body.checked_sub(tags)?;
        (is_whole && is_countable).then_some(Self {
            sealed_bytes,
            plain_bytes,
            chunks,
        })
    }

    /// The place of a chunk of this file.
    pub fn place(&self, number: u64) -> Option<Place> {
        (number < self.chunks).then_some(Place {
            number: u32::try_from(number).ok()?,
            is_last: number + 1 == self.chunks,
        })
    }

    /// Number and place of the last chunk: where it opens, the file has the length that it had.
    pub fn last(&self) -> (u64, Range<u64>) {
        let number = self.chunks.saturating_sub(1);
        let start = HEADER_BYTES as u64 + number * SEALED_CHUNK_BYTES as u64;
        (number, start..self.sealed_bytes)
    }

    /// The chunks that hold a range; `None` where it is empty or goes beyond the file.
    pub fn span(&self, range: &Range<u64>) -> Option<Span> {
        if range.start >= range.end || range.end > self.plain_bytes {
            return None;
        }
        let (chunk, sealed) = (CHUNK_BYTES as u64, SEALED_CHUNK_BYTES as u64);
        let (first, after) = (range.start / chunk, range.end.div_ceil(chunk));
        let place = |number: u64| HEADER_BYTES as u64 + number * sealed;
        let skipped = first * chunk;
        Some(Span {
            first,
            sealed: place(first)..place(after).min(self.sealed_bytes),
            wanted: usize::try_from(range.start - skipped).ok()?
                ..usize::try_from(range.end - skipped).ok()?,
        })
    }
}
