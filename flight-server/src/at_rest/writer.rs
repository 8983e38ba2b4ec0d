//! Sealing a file while it is written.

use std::io::{Error, Result, Write};

use super::cipher::{ChunkCipher, Place};
use super::layout::CHUNK_BYTES;

/// Seals what is written to it, one chunk in memory at a time. What is not finished does not
/// open: its last chunk is missing.
#[derive(Debug)]
pub struct SealedWriter<W> {
    inner: W,
    cipher: ChunkCipher,
    /// Plain bytes of the chunk that is being filled: the last chunk, unless more comes.
    chunk: Vec<u8>,
    number: u32,
    /// A chunk was not written: its number is not used for another.
    has_failed: bool,
}

impl<W: Write> SealedWriter<W> {
    /// Begins a file with its header.
    pub(super) fn begin(mut inner: W, header: &[u8], cipher: ChunkCipher) -> Result<Self> {
        inner.write_all(header)?;
        Ok(Self {
            inner,
            cipher,
            chunk: Vec::new(),
            number: 0,
            has_failed: false,
        })
    }

    fn seal(&mut self, is_last: bool) -> Result<()> {
        if std::mem::replace(&mut self.has_failed, true) {
            return Err(Error::other("a file is written to that has failed"));
        }
        let place = Place {
            number: self.number,
            is_last,
        };
        self.cipher.seal(place, &mut self.chunk)?;
        self.inner.write_all(&self.chunk)?;
        self.chunk.clear();
        let next = self.number.checked_add(1);
        self.number = next.ok_or_else(|| Error::other("a file has too many chunks"))?;
        self.has_failed = false;
        Ok(())
    }

    /// Writes the last chunk, and gives back what was written to.
    pub fn finish(mut self) -> Result<W> {
        self.seal(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for SealedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.chunk.len() >= CHUNK_BYTES {
            self.seal(false)?;
        }
        let room = CHUNK_BYTES - self.chunk.len();
        let (taken, _) = bytes.split_at(room.min(bytes.len()));
        self.chunk.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// A chunk is written when it is full: nothing opens before the file is finished.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
