//! What queries spill, sealed: a file of frames, each with a key of this file alone that is
//! never written down.
//!
//! Whoever reads the folder, during or after the process, has nothing. What was changed there is
//! an error: the operators that read it back believe what they wrote without checking it. How
//! many frames there are is known in memory, so that none can be cut off.
//!
//! A file may be read while it is written: its reader is told of a batch once it was flushed,
//! which ends a frame.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::Stream;
use hubflight_tickets::random;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::at_rest::{ChunkCipher, Place, TAG_BYTES};
use crate::error::Error;

/// Plain bytes of a frame; one that is flushed has fewer.
const FRAME_BYTES: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;

/// Makes spill files in a folder, within a number of bytes for all of them.
#[derive(Debug)]
pub struct SpillFiles {
    folder: PathBuf,
    disk: Arc<Disk>,
}

#[derive(Debug)]
struct Disk {
    used: AtomicU64,
    bytes_max: u64,
}

impl SpillFiles {
    pub fn new(folder: PathBuf, bytes_max: u64) -> Self {
        let disk = Disk {
            used: AtomicU64::new(0),
            bytes_max,
        };
        Self {
            folder,
            disk: Arc::new(disk),
        }
    }
}

impl Disk {
    /// Takes up room, or says that there is none.
    fn take(&self, bytes: u64) -> io::Result<()> {
        let more = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.used.fetch_update(set, fetch, more);
        taken.map(drop).map_err(|used| {
            io::Error::other(Error::exhausted(format!(
                "the statement would spill more than the hub's disk space for that: {used} of {} \
                 bytes are in use by all statements; select fewer rows or columns, try again \
                 later, or ask an administrator for a larger `limits.spill_mb_max`",
                self.bytes_max
            )))
        })
    }
}

impl TempFileFactory for SpillFiles {
    fn create_temp_file(&self, _: &str) -> Result<Arc<dyn SpillFile>> {
        let key = random().map_err(Error::from)?;
        let cipher = ChunkCipher::new(&key, b"hubflight spill 1");
        let path = self.folder.join(Uuid::now_v7().to_string());
        File::create_new(&path)?;
        let frames = Frames {
            path,
            cipher,
            disk: Arc::clone(&self.disk),
            written: Mutex::default(),
        };
        Ok(Arc::new(Spilled(Arc::new(frames))))
    }
}

/// A spill file; its bytes go with its last user.
struct Spilled(Arc<Frames>);

struct Frames {
    path: PathBuf,
    cipher: ChunkCipher,
    disk: Arc<Disk>,
    written: Mutex<Counted>,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    frames: u32,
    bytes: u64,
    /// A frame was not written whole: nothing can follow it.
    has_failed: bool,
}

impl Drop for Frames {
    fn drop(&mut self) {
        let bytes = self.written.get_mut().bytes;
        self.disk.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a spilled file is left behind");
        }
    }
}

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        Some(self.0.written.lock().bytes)
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let reading = Reading {
            frames: Arc::clone(&self.0),
            file: None,
            number: 0,
        };
        let next = |mut reading: Reading| async move {
            let read = tokio::task::spawn_blocking(move || {
                reading
                    .next()
                    .map(|frame| frame.map(|frame| (frame, reading)))
            });
            let read = read.await.map_err(io::Error::other)?;
            read.map_err(DataFusionError::IoError)
        };
        Ok(Box::pin(futures::stream::try_unfold(reading, next)))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        let file = OpenOptions::new().append(true).open(&self.0.path)?;
        Ok(Box::new(Writing {
            frames: Arc::clone(&self.0),
            file,
            frame: Vec::new(),
        }))
    }
}

struct Writing {
    frames: Arc<Frames>,
    file: File,
    /// Plain bytes of the frame that is being filled.
    frame: Vec<u8>,
}

impl Writing {
    /// Seals the frame and writes it after its length.
    fn seal(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let mut written = self.frames.written.lock();
        if std::mem::replace(&mut written.has_failed, true) {
            return Err(io::Error::other(
                "a spill file is written to that has failed",
            ));
        }
        self.frames
            .cipher
            .seal(place(written.frames), &mut self.frame)?;
        let length = u32::try_from(self.frame.len()).map_err(io::Error::other)?;
        let bytes = (LENGTH_BYTES + self.frame.len()) as u64;
        self.frames.disk.take(bytes)?;
        written.bytes += bytes;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&self.frame)?;
        self.frame.clear();
        let frames = written.frames.checked_add(1);
        written.frames = frames.ok_or_else(|| io::Error::other("a spill file is too long"))?;
        written.has_failed = false;
        Ok(())
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.frame.len() >= FRAME_BYTES {
            self.seal()?;
        }
        let room = FRAME_BYTES.saturating_sub(self.frame.len());
        let (taken, _) = bytes.split_at(room.min(bytes.len()));
        self.frame.extend_from_slice(taken);
        Ok(taken.len())
    }

    /// Whoever is told of what was written so far can read it.
    fn flush(&mut self) -> io::Result<()> {
        self.seal()
    }
}

impl SpillWriter for Writing {
    fn finish(&mut self) -> Result<()> {
        Ok(self.seal()?)
    }
}

struct Reading {
    frames: Arc<Frames>,
    file: Option<File>,
    number: u32,
}

impl Reading {
    /// The next frame that was written; none after the last of now.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.number >= self.frames.written.lock().frames {
            return Ok(None);
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(File::open(&self.frames.path)?),
        };
        let mut length = [0; LENGTH_BYTES];
        file.read_exact(&mut length).map_err(|_| changed())?;
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES + TAG_BYTES {
            return Err(changed());
        }
        let mut frame = vec![0; length];
        file.read_exact(&mut frame).map_err(|_| changed())?;
        let opened = self.frames.cipher.open(place(self.number), &mut frame, 0);
        frame.truncate(opened.ok_or_else(changed)?);
        self.number += 1;
        Ok(Some(frame.into()))
    }
}

fn place(number: u32) -> Place {
    Place {
        number,
        is_last: false,
    }
}

fn changed() -> io::Error {
    tracing::error!("a spilled file is not what was written to it");
    io::Error::other(Error::new(
        crate::error::ErrorKind::Unavailable,
        "what the statement spilled was changed outside the hub, and nothing of it is read; try \
         again, and tell an administrator if it happens again",
    ))
}

#[cfg(test)]
mod tests;
