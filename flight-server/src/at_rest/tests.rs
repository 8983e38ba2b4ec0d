//! Files come back whole, and whatever was done to them outside is an error, never other bytes.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{TimeZone, Utc};
use datafusion::error::DataFusionError;
use futures::TryStreamExt;
use hubflight_store::{Organisation, Project, Secrets, Store};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use super::layout::{CHUNK_BYTES, HEADER_BYTES, Layout, SEALED_CHUNK_BYTES};
use super::*;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::hub::open_store;

struct Bench {
    folder: TempDir,
    store: Store,
    secrets: Secrets,
    sealed: Arc<SealedStore>,
}

fn project_of(folder: &str) -> Option<String> {
    Some(folder.to_owned())
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let mut config = Config::default();
        config.server.state = folder.path().join("state");
        let (store, secrets) = open_store(&config).await.expect("store");
        let organisation = Organisation {
            id: "o".into(),
            name: "O".into(),
        };
        store.put_organisation(&organisation).await.expect("put");
        for id in ["p", "q"] {
            let project = Project {
                id: id.into(),
                title: String::new(),
                purpose: String::new(),
                organisation: "o".into(),
                valid_from: Utc.timestamp_nanos(0),
                valid_to: Utc::now(),
                space_quota_bytes: 0,
                budget: None,
            };
            store.put_project(&project).await.expect("put");
            std::fs::create_dir_all(folder.path().join("spaces").join(id)).expect("folder");
        }
        let spaces = folder.path().join("spaces");
        let inner = LocalFileSystem::new_with_prefix(spaces).expect("opens");
        let keys = SpaceKeys::new(store.clone(), secrets.clone());
        Self {
            sealed: Arc::new(SealedStore::new(Arc::new(inner), keys, project_of)),
            folder,
            store,
            secrets,
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("spaces").join(file)
    }

    async fn write(&self, file: &str, plain: &[u8]) {
        let (project, name) = file.split_once('/').expect("a folder");
        let key = self.sealed.keys().newest(project).await.expect("a key");
        let opened = std::fs::File::create(self.path(file)).expect("opens");
        let mut writer = key.begin(name, opened).expect("begins");
        for part in plain.chunks(10_007) {
            writer.write_all(part).expect("writes");
        }
        writer.finish().expect("finishes");
    }

    async fn read(&self, file: &str) -> Result<Bytes, Error> {
        let found = self.sealed.get(&Path::from(file)).await;
        let found = found.map_err(shown)?;
        found.bytes().await.map_err(shown)
    }

    /// Some of its bytes, without looking at the file as it is now first.
    async fn part(
        &self,
        file: &str,
        range: std::ops::Range<u64>,
    ) -> object_store::Result<Vec<Bytes>> {
        self.sealed.get_ranges(&Path::from(file), &[range]).await
    }

    /// What is stored under that name now is not read, for a reason that the user is told.
    async fn refused(&self, file: &str, part: &str) {
        self.sealed.forget();
        let error = self.read(file).await.expect_err("must not be read");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains(file), "{error}");
    }

    async fn drop_keys(&self, project: &str) {
        let mut write = self.store.write().await.expect("begins");
        let dropped = write.drop_space_keys(project, Utc::now()).await;
        assert!(dropped.expect("drops") > 0);
        write.commit().await.expect("commits");
        self.sealed.forget();
    }
}

/// As a client is told of it.
fn shown(error: object_store::Error) -> Error {
    Error::from(DataFusionError::from(error))
}

/// Bytes that are different everywhere.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut random = generator(seed);
    (0..length).map(|_| random(256) as u8).collect()
}

/// A small generator of its own, so that a failure comes again.
fn generator(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        let next = state.wrapping_mul(6_364_136_223_846_793_005);
        state = next.wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

const SIZES: [usize; 9] = [
    0,
    1,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES,
    3 * CHUNK_BYTES - 5,
    17 * CHUNK_BYTES,
    1_200_000,
];

#[tokio::test]
async fn files_come_back_whole_and_in_ranges() {
    let bench = Bench::new().await;
    for size in SIZES {
        let file = format!("p/{size}.parquet");
        let (plain, location) = (bytes(size, 1), Path::from(file.as_str()));
        bench.write(&file, &plain).await;
        let head = bench.sealed.head(&location).await.expect("is there");
        assert_eq!(head.size, size as u64, "the plain size");
        assert_eq!(bench.read(&file).await.expect("reads"), plain);
        let mut random = generator(size as u64);
        let whole = 0..size as u64;
        let mut ranges = vec![whole];
        for _ in 0..if size == 0 { 0 } else { 60 } {
            let start = random(size);
            ranges.push(start as u64..(start + 1 + random(size - start)) as u64);
        }
        let read = bench.sealed.get_ranges(&location, &ranges).await;
        for (range, read) in ranges.iter().zip(read.expect("reads")) {
            let expected = &plain[range.start as usize..range.end as usize];
            assert!(read == expected, "{range:?} of {size}");
            if !range.is_empty() {
                let one = bench.sealed.get_range(&location, range.clone()).await;
                assert!(one.expect("reads") == expected, "{range:?} of {size}");
            }
        }
        let beyond = 0..size as u64 + 1;
        let read = bench.sealed.get_ranges(&location, &[beyond]).await;
        assert!(read.is_err(), "beyond {size}");
        let stored = std::fs::read(bench.path(&file)).expect("reads");
        assert_eq!(
            Layout::of(stored.len() as u64).map(|l| l.plain_bytes),
            Some(size as u64)
        );
        if size > 40 {
            assert!(!stored.windows(32).any(|window| window == &plain[..32]));
        }
    }
    let listed: Vec<_> = bench.sealed.list(None).try_collect().await.expect("lists");
    let mut sizes: Vec<_> = listed.iter().map(|meta| meta.size as usize).collect();
    sizes.sort_unstable();
    let mut expected = SIZES;
    expected.sort_unstable();
    assert_eq!(sizes, expected);
    let folder = Path::from("p");
    let listed = bench.sealed.list_with_delimiter(Some(&folder)).await;
    assert_eq!(listed.expect("lists").objects.len(), SIZES.len());
}

#[tokio::test]
async fn equal_files_differ_and_no_other_hub_opens_them() {
    let bench = Bench::new().await;
    let plain = bytes(1_000, 1);
    bench.write("p/a", &plain).await;
    bench.write("p/b", &plain).await;
    let [a, b] = ["p/a", "p/b"].map(|file| std::fs::read(bench.path(file)).expect("reads"));
    let same = a.iter().zip(&b).skip(HEADER_BYTES).filter(|(a, b)| a == b);
    assert!(same.count() < 100);
    let others = SpaceKeys::new(bench.store.clone(), Secrets::new([9; 32]));
    let inner = LocalFileSystem::new_with_prefix(bench.folder.path().join("spaces"));
    let inner = Arc::new(inner.expect("opens"));
    let thief = SealedStore::new(inner, others, project_of);
    assert!(thief.get(&Path::from("p/a")).await.is_err());
    assert_ne!(bench.secrets.derive("x"), Secrets::new([9; 32]).derive("x"));
}

#[tokio::test]
async fn no_byte_can_be_changed() {
    let bench = Bench::new().await;
    let plain = bytes(CHUNK_BYTES + 300, 1);
    bench.write("p/t", &plain).await;
    let path = bench.path("p/t");
    let whole = std::fs::read(&path).expect("reads");
    let last = whole.len() - 400..whole.len();
    let places = (0..200).chain((200..last.start).step_by(977)).chain(last);
    for at in places {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&path, flipped).expect("writes");
        bench.sealed.forget();
        let error = bench.read("p/t").await.expect_err("changed");
        assert_eq!(error.kind, ErrorKind::Unavailable, "byte {at}: {error}");
    }
    std::fs::write(&path, whole).expect("writes");
    bench.sealed.forget();
    assert_eq!(bench.read("p/t").await.expect("as it was"), plain);
}

#[tokio::test]
async fn nothing_can_be_cut_off_or_added() {
    let bench = Bench::new().await;
    bench.write("p/t", &bytes(3 * CHUNK_BYTES + 100, 1)).await;
    let path = bench.path("p/t");
    let whole = std::fs::read(&path).expect("reads");
    let ends = [0, 1, 2, 3].map(|chunks| HEADER_BYTES + chunks * SEALED_CHUNK_BYTES);
    let near = ends
        .iter()
        .flat_map(|end| [end - 1, *end, end + 1, end + 16, end + 17]);
    for length in near.filter(|length| *length >= HEADER_BYTES) {
        std::fs::write(&path, &whole[..length]).expect("writes");
        bench.refused("p/t", "changed, cut or replaced").await;
    }
    std::fs::write(&path, &whole[..HEADER_BYTES - 1]).expect("writes");
    bench.refused("p/t", "not encrypted").await;
    std::fs::write(&path, [&whole[..], b"x"].concat()).expect("writes");
    bench.refused("p/t", "changed").await;
    std::fs::write(&path, [&whole[..], &whole[HEADER_BYTES..]].concat()).expect("writes");
    bench.refused("p/t", "changed").await;
    // An empty file would be skipped by a scan.
    let empty = [&whole[..HEADER_BYTES], &[0; 16]].concat();
    std::fs::write(&path, empty).expect("writes");
    bench.refused("p/t", "changed").await;
    let head = bench.sealed.head(&Path::from("p/t")).await;
    assert!(head.is_err(), "no size is told that is not the file's");
    // Cut after it was opened: what is known of it is not believed.
    std::fs::write(&path, &whole).expect("writes");
    bench.read("p/t").await.expect("as it was");
    std::fs::write(&path, &whole[..ends[2]]).expect("writes");
    bench.read("p/t").await.expect_err("cut");
    let size = 3 * CHUNK_BYTES as u64 + 100;
    let tail = bench.part("p/t", size - 8..size).await;
    assert!(tail.is_err());
}

#[tokio::test]
async fn chunks_and_files_have_one_place() {
    let bench = Bench::new().await;
    bench.write("p/t", &bytes(3 * CHUNK_BYTES, 1)).await;
    bench.write("p/u", &bytes(3 * CHUNK_BYTES, 2)).await;
    let [t, u] = ["p/t", "p/u"].map(|file| std::fs::read(bench.path(file)).expect("reads"));
    let chunk = |file: &[u8], number: usize| {
        let start = HEADER_BYTES + number * SEALED_CHUNK_BYTES;
        file[start..file.len().min(start + SEALED_CHUNK_BYTES)].to_vec()
    };
    let joined = |parts: [&[u8]; 4]| parts.concat();
    let (header, [a, b, c]) = (&t[..HEADER_BYTES], [0, 1, 2].map(|n| chunk(&t, n)));
    for mixed in [
        joined([header, &b, &a, &c]),
        joined([header, &a, &a, &c]),
        joined([header, &a, &c, &c]),
        joined([header, &a, &chunk(&u, 1), &c]),
        joined([&u[..HEADER_BYTES], &a, &b, &c]),
        u.clone(),
    ] {
        std::fs::write(bench.path("p/t"), mixed).expect("writes");
        bench.refused("p/t", "replaced").await;
    }
    // In another project's folder, under its own name: with a key of that number and without.
    std::fs::write(bench.path("q/t"), &t).expect("writes");
    bench.refused("q/t", "no project").await;
    bench.write("q/other", b"x").await;
    bench.refused("q/t", "replaced").await;
    std::fs::write(bench.path("p/t"), &t).expect("writes");
    bench.sealed.forget();
    bench.read("p/t").await.expect("where it belongs");
}

#[tokio::test]
async fn what_the_hub_did_not_encrypt_or_cannot_find_is_not_read() {
    let bench = Bench::new().await;
    let random = bytes(200_000, 3);
    for plain in [&b""[..], b"PAR1", &[0; 200], random.as_slice()] {
        std::fs::write(bench.path("p/t"), plain).expect("writes");
        bench.refused("p/t", "not encrypted").await;
    }
    std::fs::remove_file(bench.path("p/t")).expect("removes");
    // Not NOT_FOUND, which a scan would read as a folder without files: as no rows.
    bench.refused("p/t", "missing").await;
    bench.write("p/t", b"x").await;
    bench.read("p/t").await.expect("is there");
    std::fs::remove_file(bench.path("p/t")).expect("removes");
    let gone = bench.part("p/t", 0..1).await;
    let error = shown(gone.expect_err("was removed since"));
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn keys_rotate_and_end() {
    let bench = Bench::new().await;
    bench.write("p/old", b"old").await;
    bench.write("q/t", b"another project's").await;
    let mut write = bench.store.write().await.expect("begins");
    write.add_space_key("p", Utc::now()).await.expect("adds");
    write.commit().await.expect("commits");
    bench.write("p/new", b"new").await;
    let [old, new] = ["p/old", "p/new"].map(|file| std::fs::read(bench.path(file)).expect("reads"));
    assert_ne!(old[8..12], new[8..12], "the key's number");
    assert_eq!(bench.read("p/old").await.expect("reads"), &b"old"[..]);
    assert_eq!(bench.read("p/new").await.expect("reads"), &b"new"[..]);
    bench.drop_keys("p").await;
    for file in ["p/old", "p/new"] {
        let error = bench.read(file).await.expect_err("has no key");
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("dropped"), "{error}");
    }
    bench.read("q/t").await.expect("has its key");
    bench.write("p/later", b"later").await;
    assert_eq!(bench.read("p/later").await.expect("reads"), &b"later"[..]);
    bench.read("p/old").await.expect_err("has no key still");
}

#[tokio::test]
async fn nothing_is_written_through_the_store_of_scans() {
    let bench = Bench::new().await;
    bench.write("p/t", b"x").await;
    let (t, u) = (Path::from("p/t"), Path::from("p/u"));
    bench.sealed.put(&u, "x".into()).await.expect_err("put");
    assert!(bench.sealed.put_multipart(&u).await.is_err());
    bench.sealed.copy(&t, &u).await.expect_err("copy");
    bench.sealed.rename(&t, &u).await.expect_err("rename");
    bench.sealed.delete(&t).await.expect_err("delete");
    bench.read("p/t").await.expect("is there");
    assert!(!bench.path("p/u").exists());
}

/// A disk that is full at every place of a file: an error, and never two chunks of one number.
#[test]
fn a_writer_that_failed_writes_nothing_more() {
    #[derive(Debug)]
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let key = ProjectKey::of_tests();
    assert!(key.begin("t", Full(HEADER_BYTES - 1)).is_err());
    for room in [
        HEADER_BYTES,
        HEADER_BYTES + 100,
        HEADER_BYTES + SEALED_CHUNK_BYTES,
    ] {
        let mut writer = key.begin("t", Full(room)).expect("room for the header");
        let error = writer
            .write_all(&vec![1; 3 * CHUNK_BYTES])
            .expect_err("full");
        assert_eq!(Error::of_disk(&error).kind, ErrorKind::Unavailable);
        writer.write_all(b"more").expect_err("failed before");
        assert!(writer.finish().is_err());
    }
}
