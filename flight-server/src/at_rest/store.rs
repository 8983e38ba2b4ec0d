//! Spaces' files as scans read them: plain, out of a store that holds them sealed.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, coalesce_ranges,
};
use parking_lot::Mutex;

use super::cipher::ChunkCipher;
use super::keys::SpaceKeys;
use super::layout::{CHUNK_BYTES, HEADER_BYTES, Header, Layout, SEALED_CHUNK_BYTES};
use crate::error::{Error, ErrorKind};

/// Files whose key is kept at hand.
const OPENED_FILES_MAX: usize = 10_000;
/// Plain bytes of a whole file that are in memory at once.
const PIECE_BYTES: u64 = 16 * CHUNK_BYTES as u64;
const NAME: &str = "space";

/// A store whose files are sealed, each with a key of its project. It is read only: files are
/// made by [`super::SealedWriter`] and removed by their names.
#[derive(Debug)]
pub struct SealedStore {
    inner: Arc<dyn ObjectStore>,
    keys: SpaceKeys,
    /// The project that a folder is of.
    project_of: fn(&str) -> Option<String>,
    opened: Mutex<Opened>,
}

#[derive(Debug, Default)]
struct Opened {
    files: HashMap<Path, Arc<Contents>>,
    /// Grows whenever what is known is forgotten.
    era: u64,
}

/// What opens one file.
#[derive(Debug)]
struct Contents {
    cipher: ChunkCipher,
    layout: Layout,
}

/// Why a file is not read.
#[derive(Clone, Copy)]
enum Unread {
    Missing,
    Plain,
    Damaged,
    NoKey,
}

impl SealedStore {
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        keys: SpaceKeys,
        project_of: fn(&str) -> Option<String>,
    ) -> Self {
        Self {
            inner,
            keys,
            project_of,
            opened: Mutex::default(),
        }
    }

    pub fn keys(&self) -> &SpaceKeys {
        &self.keys
    }

    /// Forgets every key: one may have been dropped.
    pub fn forget(&self) {
        let mut opened = self.opened.lock();
        opened.files.clear();
        opened.era += 1;
    }

    /// What opens a file; read from its header unless that is known for a file of this size.
    async fn contents(&self, location: &Path, sealed_bytes: Option<u64>) -> Result<Arc<Contents>> {
        let (known, era) = {
            let opened = self.opened.lock();
            (opened.files.get(location).cloned(), opened.era)
        };
        if let Some(known) = known
            && sealed_bytes.is_none_or(|bytes| bytes == known.layout.sealed_bytes)
        {
            return Ok(known);
        }
        let sealed_bytes = match sealed_bytes {
            Some(bytes) => bytes,
            None => self.stored(location).await?.size,
        };
        let contents = Arc::new(self.opened(location, sealed_bytes).await?);
        let mut opened = self.opened.lock();
        if opened.era == era {
            if opened.files.len() >= OPENED_FILES_MAX {
                opened.files.clear();
            }
            let kept = Arc::clone(&contents);
            opened.files.insert(location.clone(), kept);
        }
        Ok(contents)
    }

    /// Reads a file's header and its last chunk: whatever is told of the file, its size first,
    /// is what was sealed.
    async fn opened(&self, location: &Path, sealed_bytes: u64) -> Result<Contents> {
        let unread = |why| unread(location, why);
        if sealed_bytes < HEADER_BYTES as u64 {
            return Err(unread(Unread::Plain));
        }
        let layout = Layout::of(sealed_bytes);
        let last = layout.map(|layout| layout.last().1);
        let ranges: Vec<_> = std::iter::once(0..HEADER_BYTES as u64)
            .chain(last)
            .collect();
        let read = self.inner.get_ranges(location, &ranges).await;
        let mut read = found(location, read)?.into_iter();
        let header = read.next().and_then(|bytes| Header::parse(&bytes));
        let header = header.ok_or_else(|| unread(Unread::Plain))?;
        let (Some(layout), Some(last)) = (layout, read.next()) else {
            return Err(unread(Unread::Damaged));
        };
        let contents = Contents {
            cipher: self.cipher(location, &header).await?,
            layout,
        };
        let opened = contents.open(layout.last().0, last);
        opened.ok_or_else(|| unread(Unread::Damaged))?;
        Ok(contents)
    }

    async fn cipher(&self, location: &Path, header: &Header) -> Result<ChunkCipher> {
        let mut parts = location.parts();
        let (folder, name) = (parts.next(), parts.next());
        let project = folder.and_then(|folder| (self.project_of)(folder.as_ref()));
        let (Some(project), Some(name), None) = (project, name, parts.next()) else {
            return Err(unread(location, Unread::NoKey));
        };
        let key = self.keys.key(&project, header.key_id).await;
        let key = key.map_err(|error| generic(Box::new(error)))?;
        let key = key.ok_or_else(|| unread(location, Unread::NoKey))?;
        Ok(key.cipher(name.as_ref(), header))
    }

    /// The file as it is stored.
    async fn stored(&self, location: &Path) -> Result<ObjectMeta> {
        found(location, self.inner.head(location).await)
    }

    fn reading(&self, location: &Path, contents: Arc<Contents>) -> Reading {
        Reading {
            inner: Arc::clone(&self.inner),
            location: location.clone(),
            contents,
        }
    }
}

/// One file that is read.
#[derive(Clone)]
struct Reading {
    inner: Arc<dyn ObjectStore>,
    location: Path,
    contents: Arc<Contents>,
}

impl Reading {
    /// The plain bytes of a range, with whatever other bytes their chunks have only for as long
    /// as it takes.
    async fn range(self, range: Range<u64>) -> Result<Bytes> {
        let damaged = || unread(&self.location, Unread::Damaged);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let span = self.contents.layout.span(&range).ok_or_else(damaged)?;
        let sealed = std::slice::from_ref(&span.sealed);
        let read = self.inner.get_ranges(&self.location, sealed).await;
        let sealed = found(&self.location, read)?.pop().ok_or_else(damaged)?;
        let plain = self.contents.open(span.first, sealed);
        // It may have been cut since it was opened.
        let plain = plain.filter(|plain| plain.len() >= span.wanted.end);
        Ok(plain.ok_or_else(damaged)?.slice(span.wanted))
    }

    /// The plain bytes of a range, a piece at a time.
    fn pieces(self, range: Range<u64>, piece_bytes: u64) -> BoxStream<'static, Result<Bytes>> {
        let next = move |start: u64| {
            let (reading, end) = (
                self.clone(),
                range.end.min(start.saturating_add(piece_bytes)),
            );
            let is_over = start >= range.end;
            async move {
                match is_over {
                    true => Ok(None),
                    false => Ok(Some((reading.range(start..end).await?, end))),
                }
            }
        };
        futures::stream::try_unfold(range.start, next).boxed()
    }
}

impl Contents {
    /// Opens chunks that follow one another, from number `first` on, in their own memory.
    fn open(&self, first: u64, sealed: Bytes) -> Option<Bytes> {
        let mut buffer = BytesMut::from(sealed);
        let (mut plain, mut at, mut number) = (0, 0, first);
        while at < buffer.len() {
            let end = buffer.len().min(at + SEALED_CHUNK_BYTES);
            let place = self.layout.place(number)?;
            // What is open lies before it; it moves up to that.
            let window = buffer.get_mut(plain..end)?;
            plain += self.cipher.open(place, window, at - plain)?;
            (at, number) = (end, number + 1);
        }
        buffer.truncate(plain);
        Some(buffer.freeze())
    }
}

impl fmt::Display for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for SealedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut meta = self.stored(location).await?;
        let contents = self.contents(location, Some(meta.size)).await?;
        options.check_preconditions(&meta)?;
        meta.size = contents.layout.plain_bytes;
        let range = match &options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|error| generic(Box::new(error)))?,
            None => 0..meta.size,
        };
        // A range that was asked for is wanted in one piece.
        let piece_bytes = match &options.range {
            Some(GetRange::Bounded(_) | GetRange::Suffix(_)) => u64::MAX,
            Some(GetRange::Offset(_)) | None => PIECE_BYTES,
        };
        let payload = match options.head {
            true => futures::stream::empty().boxed(),
            false => self
                .reading(location, contents)
                .pieces(range.clone(), piece_bytes),
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(payload),
            meta,
            range,
            attributes: Default::default(),
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let contents = self.contents(location, None).await?;
        let size = contents.layout.plain_bytes;
        if ranges
            .iter()
            .any(|range| range.start > range.end || range.end > size)
        {
            return Err(unread(location, Unread::Damaged));
        }
        let reading = self.reading(location, contents);
        // Ranges of one chunk are opened together.
        let fetch = |range| reading.clone().range(range);
        coalesce_ranges(ranges, fetch, CHUNK_BYTES as u64).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let found = self.inner.list(prefix);
        found.and_then(|meta| async { plain(meta) }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.inner.list_with_delimiter(prefix).await?;
        let objects = std::mem::take(&mut found.objects);
        found.objects = objects.into_iter().map(plain).collect::<Result<_>>()?;
        Ok(found)
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        futures::stream::once(async { Err(read_only()) }).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(read_only())
    }
}

/// What is known of a file in a listing, with its plain size.
fn plain(meta: ObjectMeta) -> Result<ObjectMeta> {
    let layout = Layout::of(meta.size).ok_or_else(|| unread(&meta.location, Unread::Damaged))?;
    Ok(ObjectMeta {
        size: layout.plain_bytes,
        ..meta
    })
}

/// A scan reads "not found" as a folder without files, as no rows: here it is an error.
fn found<T>(location: &Path, read: Result<T>) -> Result<T> {
    match read {
        Err(StoreError::NotFound { .. }) => Err(unread(location, Unread::Missing)),
        other => other,
    }
}

/// The file's name is for the log; the user may know the table only.
fn unread(location: &Path, why: Unread) -> StoreError {
    let what = match why {
        Unread::Missing => "is missing",
        Unread::Plain => "is not encrypted, and nothing is read that the hub did not encrypt",
        Unread::Damaged => {
            "was changed, cut or replaced outside the hub, and nothing of it is read"
        }
        Unread::NoKey => "belongs to no project of this hub, and nothing of it is read",
    };
    let text = format!(
        "a file of this table {what}, which is not charged; tell an administrator, who finds its \
         name in the log and may put it back from a backup, or drop the table and make it anew"
    );
    refusal(location, Error::new(ErrorKind::Unavailable, text))
}

fn refusal(location: &Path, error: Error) -> StoreError {
    tracing::error!(%location, %error, "a file of a space is not read");
    generic(Box::new(error))
}

fn generic(source: Box<dyn std::error::Error + Send + Sync>) -> StoreError {
    StoreError::Generic {
        store: NAME,
        source,
    }
}

fn read_only() -> StoreError {
    StoreError::NotSupported {
        source: "files of a space are made by statements only".into(),
    }
}
