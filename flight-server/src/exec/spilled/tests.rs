//! What is spilled comes back, is nowhere in clear, and is not read once it was changed.

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;

use super::*;
use crate::error::ErrorKind;

const CANARY: &str = "a text that nobody else may read";

fn file_in(folder: &tempfile::TempDir, bytes_max: u64) -> Arc<dyn SpillFile> {
    let files = SpillFiles::new(folder.path().to_owned(), bytes_max);
    files.create_temp_file("test").expect("makes a file")
}

fn path_in(folder: &tempfile::TempDir) -> PathBuf {
    let mut entries = std::fs::read_dir(folder.path()).expect("lists");
    entries.next().expect("a file").expect("a file").path()
}

fn write(file: &Arc<dyn SpillFile>, parts: &[&[u8]]) {
    let mut writer = file.open_writer().expect("opens");
    for part in parts {
        writer.write_all(part).expect("writes");
        writer.flush().expect("flushes");
    }
    writer.finish().expect("finishes");
}

async fn read(file: &Arc<dyn SpillFile>) -> Result<Vec<u8>> {
    let frames: Vec<Bytes> = file.read_stream()?.try_collect().await?;
    Ok(frames.concat())
}

#[tokio::test]
async fn what_is_written_comes_back_and_is_nowhere_in_clear() {
    let folder = tempfile::tempdir().expect("folder");
    let file = file_in(&folder, 1 << 30);
    assert!(read(&file).await.expect("empty").is_empty());
    let large = CANARY.repeat(10_000);
    let parts = [CANARY.as_bytes(), b"", large.as_bytes(), b"end"];
    write(&file, &parts);
    assert_eq!(read(&file).await.expect("reads"), parts.concat());
    let path = path_in(&folder);
    let stored = std::fs::read(&path).expect("reads");
    assert_eq!(file.size(), Some(stored.len() as u64));
    assert!(stored.len() > large.len());
    let canary = CANARY.as_bytes();
    assert!(!stored.windows(canary.len()).any(|bytes| bytes == canary));
    drop(file);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_reader_sees_what_was_flushed_while_it_is_written() {
    let folder = tempfile::tempdir().expect("folder");
    let file = file_in(&folder, 1 << 30);
    let mut writer = file.open_writer().expect("opens");
    writer.write_all(b"one").expect("writes");
    writer.flush().expect("flushes");
    writer.write_all(b"two").expect("writes");
    let mut stream = file.read_stream().expect("reads");
    assert_eq!(
        stream.try_next().await.expect("reads").as_deref(),
        Some(&b"one"[..])
    );
    writer.flush().expect("flushes");
    // Who is told of it reads on with the same stream.
    assert_eq!(
        stream.try_next().await.expect("reads").as_deref(),
        Some(&b"two"[..])
    );
    writer.finish().expect("finishes");
    assert_eq!(stream.try_next().await.expect("reads"), None);
}

#[tokio::test]
async fn what_was_changed_outside_is_not_read() {
    let folder = tempfile::tempdir().expect("folder");
    let file = file_in(&folder, 1 << 30);
    write(&file, &[b"first", b"second"]);
    let path = path_in(&folder);
    let whole = std::fs::read(&path).expect("reads");
    let half = whole.len() / 2;
    let mut wild: Vec<Vec<u8>> = (0..whole.len())
        .map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        })
        .collect();
    wild.extend((0..whole.len()).map(|length| whole[..length].to_vec()));
    wild.push([&whole[half..], &whole[..half]].concat());
    for stored in wild {
        std::fs::write(&path, &stored).expect("writes");
        let error = Error::from(read(&file).await.expect_err("must not be read"));
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("spilled"), "{error}");
    }
    // Of another file of the same process, although its frames are whole.
    let other = tempfile::tempdir().expect("folder");
    let others = file_in(&other, 1 << 30);
    write(&others, &[b"first", b"second"]);
    std::fs::copy(path_in(&other), &path).expect("copies");
    read(&file).await.expect_err("another key");
    std::fs::write(&path, &whole).expect("writes");
    assert_eq!(read(&file).await.expect("as it was"), b"firstsecond");
}

#[tokio::test]
async fn all_files_together_have_so_much_room() {
    let folder = tempfile::tempdir().expect("folder");
    let files = SpillFiles::new(folder.path().to_owned(), 1_000);
    let [one, two] = [(); 2].map(|()| files.create_temp_file("test").expect("makes"));
    write(&one, &[&[7; 600]]);
    let mut writer = two.open_writer().expect("opens");
    writer.write_all(&[7; 600]).expect("is not sealed yet");
    let error = writer.flush().expect_err("too much");
    let error = Error::from(DataFusionError::IoError(error));
    assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    assert!(error.to_string().contains("spill_mb_max"), "{error}");
    writer
        .flush()
        .expect_err("nothing follows what is not whole");
    drop(writer);
    drop(one);
    write(
        &files.create_temp_file("test").expect("makes"),
        &[&[7; 900]],
    );
    assert_eq!(files.disk.used.load(Ordering::Relaxed), 0, "given back");
}

/// A sort and a join that do not fit in memory, through DataFusion's own operators.
#[tokio::test(flavor = "multi_thread")]
async fn queries_spill_sealed_files_and_answer_the_same() {
    let folder = tempfile::tempdir().expect("folder");
    let files = SpillFiles::new(folder.path().to_owned(), 1 << 30);
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(16 << 20)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Custom(Arc::new(files))),
        )
        .build_arc()
        .expect("environment");
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(1_024)
        .with_sort_spill_reservation_bytes(1 << 20);
    let context = SessionContext::new_with_config_rt(config, environment);
    let sql = format!(
        "SELECT value, concat('{CANARY} ', value) AS t FROM generate_series(1, 400000) \
         ORDER BY value * 7919 % 400009"
    );
    let plan = context.sql(&sql).await.expect("plans");
    let plan = plan.create_physical_plan().await.expect("plans");
    let mut stream =
        datafusion::physical_plan::execute_stream(Arc::clone(&plan), context.task_ctx())
            .expect("runs");
    let (mut rows, mut last, mut seen) = (0_u64, -1_i64, 0_usize);
    while let Some(batch) = stream.try_next().await.expect("runs") {
        use arrow::array::AsArray;
        let values = batch
            .column(0)
            .as_primitive::<arrow::datatypes::Int64Type>();
        for value in values.values() {
            let key = value * 7919 % 400_009;
            assert!(key > last, "sorted");
            (rows, last) = (rows + 1, key);
        }
        if seen == 0 {
            for entry in std::fs::read_dir(folder.path()).expect("lists") {
                let stored = std::fs::read(entry.expect("entry").path()).expect("reads");
                let canary = CANARY.as_bytes();
                assert!(!stored.windows(canary.len()).any(|bytes| bytes == canary));
                seen += stored.len();
            }
        }
    }
    assert_eq!(rows, 400_000);
    assert!(seen > 1 << 20, "it spilled {seen} bytes");
    drop((stream, plan, context));
    assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
}
