//! Rows and workers that end badly, memory that runs out, and what all that costs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;
use futures::StreamExt;
use hubflight_udfs::WorkError;

use crate::proxy::{Does, FakeWorker, dies_over};
use crate::support::{Meter, TestWorker, pool, session, session_with, session_within};

/// A row that ends its worker fails; the rows beside it, and other statements, do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_that_ends_workers_fails_alone() -> Result<()> {
    let worker = TestWorker::start();
    let (address, deaths) = dies_over(worker.address, "POISON").await;
    let pool = pool(&[address]);
    let other = session_with(&pool, Meter::default(), Duration::from_secs(60), 1);
    let other = tokio::spawn(async move {
        let sql = "SELECT max(echo(value)) FROM generate_series(1, 200000)";
        other.sorted(sql).await
    });
    let session = session_with(&pool, Meter::default(), Duration::from_secs(60), 1);
    let sql = "SELECT r['value'], r['error'] FROM (SELECT echo(CASE WHEN value = 95 THEN 'POISON' ELSE 'w' || value END, on_error => 'report') r FROM generate_series(0, 95))";
    let mut values = 0;
    let mut errors = Vec::new();
    for batch in session.run(sql).await? {
        values += batch.num_rows() - batch.column(0).null_count();
        let reasons = batch.column(1).as_string::<i32>();
        errors.extend(reasons.iter().flatten().map(str::to_owned));
    }
    assert_eq!(values, 95);
    assert_eq!(errors, ["the function ended its worker on this row"]);
    assert_eq!(
        session.meter.items(),
        95,
        "a row that no worker answered costs nothing"
    );
    assert_eq!(session.meter.row_errors.load(Ordering::SeqCst), 1);
    assert!(deaths.load(Ordering::SeqCst) >= 4);
    let other = other.await.expect("it does not panic")?;
    assert!(other.iter().any(|row| row == "|200000|"), "{other:?}");
    Ok(())
}

/// No arguments are sent to a process that has not shown the key.
#[tokio::test]
async fn a_process_without_the_key_gets_nothing() -> Result<()> {
    for proof in [&b""[..], b"no proof"] {
        let (address, worker) = FakeWorker::start(Does::TakesItWith(proof)).await;
        let pool = pool(&[address]);
        let session = session_with(&pool, Meter::default(), Duration::from_secs(10), 1);
        let error = session.error("SELECT echo(1)").await;
        match WorkError::find(&error) {
            Some(WorkError::Internal(text)) => assert!(
                text.contains(&address.to_string()) && text.contains("does not hold"),
                "{text}"
            ),
            other => panic!("{other:?} in {error}"),
        }
        assert_eq!(worker.batches.load(Ordering::SeqCst), 0);
    }
    Ok(())
}

/// A worker whose clock is ahead does not end a statement before its time.
#[tokio::test]
async fn a_deadline_is_ours() -> Result<()> {
    let says = Does::Refuses(tonic::Code::DeadlineExceeded, "the stream sent nothing");
    let (ahead, fake) = FakeWorker::start(says).await;
    let worker = TestWorker::start();
    let both = pool(&[ahead, worker.address]);
    for _ in 0..3 {
        let found = session(&both).sorted("SELECT echo(7)").await?;
        assert!(found.iter().any(|row| row == "|7|"), "{found:?}");
    }
    assert!(fake.streams.load(Ordering::SeqCst) > 0);

    let alone = pool(&[ahead]);
    let session = session_with(&alone, Meter::default(), Duration::from_millis(400), 1);
    let error = session.error("SELECT echo(1)").await;
    match WorkError::find(&error) {
        Some(WorkError::Unavailable { reason }) => assert!(reason.contains("clock"), "{reason}"),
        other => panic!("{other:?} in {error}"),
    }
    Ok(())
}

/// A worker's own words reach the user, and a worker that is there is "configured".
#[tokio::test]
async fn errors_say_what_the_worker_said() -> Result<()> {
    let text = "the worker takes no more streams now";
    let (full, _) = FakeWorker::start(Does::Refuses(tonic::Code::Unavailable, text)).await;
    // Connections to it are never answered.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let none = pool(&[]);
    let cases = [
        (pool(&[full]), text),
        (
            pool(&[silent.local_addr()?]),
            "no worker has taken the work",
        ),
        (none, "no worker is configured"),
    ];
    for (pool, expected) in cases {
        let session = session_with(&pool, Meter::default(), Duration::from_millis(400), 1);
        let error = session.error("SELECT echo(1)").await;
        match WorkError::find(&error) {
            Some(WorkError::Unavailable { reason }) => {
                assert!(reason.contains(expected), "{expected}: {reason}");
            }
            other => panic!("{other:?} in {error}"),
        }
    }
    Ok(())
}

/// What was computed ahead of a LIMIT costs nothing: the same rows cost the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_rows_that_are_handed_on_cost() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let sql =
        "SELECT value FROM generate_series(1, 1000000000) WHERE echo(value) % 100 = 0 LIMIT 10";
    let mut costs = Vec::new();
    for pause_ms in [0, 0, 1, 5] {
        let meter = Meter {
            on_work: Some(Box::new(move |_| {
                std::thread::sleep(Duration::from_millis(pause_ms));
            })),
            ..Meter::default()
        };
        let session = session_with(&pool, meter, Duration::from_secs(60), 1);
        session.run(sql).await?;
        costs.push(session.meter.items());
    }
    assert!(costs[0] >= 1_000, "{costs:?}");
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");

    // A stream that is dropped has cost what it gave.
    let session = session_with(&pool, Meter::default(), Duration::from_secs(60), 1);
    let mut stream = session
        .stream("SELECT echo(value) FROM generate_series(1, 1000000000)")
        .await?;
    let mut rows = 0;
    for _ in 0..6 {
        rows += stream.next().await.expect("endless")?.num_rows() as u64;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(session.meter.items(), rows);
    Ok(())
}

/// Large rows go a few at a time, and answers count as memory too.
#[tokio::test]
async fn large_rows_need_little_memory() -> Result<()> {
    const ROW_BYTES: usize = 256 << 10;
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    // One batch of 1000 rows, 250 MB as arguments, of views on one value.
    let value = "x".repeat(ROW_BYTES);
    let views = arrow::array::StringViewArray::from_iter_values([value.as_str()]);
    let indices = arrow::array::UInt32Array::from(vec![0; 1_000]);
    let views = arrow::compute::take(&views, &indices, None)?;
    let batch = arrow::array::RecordBatch::try_from_iter([("v", views)])?;
    let run = async |memory_bytes: usize, sql: &str| -> Result<usize> {
        let session = session_within(&pool, memory_bytes);
        let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]])?;
        session.context.register_table("t", Arc::new(table))?;
        let mut stream = session.stream(sql).await?;
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch?.num_rows();
        }
        Ok(rows)
    };
    // Eight slices in flight, with their answers.
    assert_eq!(
        run(100 << 20, "SELECT length(echo(v)) FROM t").await?,
        1_000
    );
    // Enough for the arguments of two slices of 2 MB, not for an answer beside them.
    let error = run(6 << 20, "SELECT length(echo(v)) FROM t").await;
    let error = error.expect_err("there is no memory for the answer");
    assert!(
        matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)),
        "{error}"
    );
    Ok(())
}

/// A connection that breaks under many streams is one failure: its worker rests briefly.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broken_connection_is_one_failure() -> Result<()> {
    let worker = TestWorker::start();
    let (address, deaths) = dies_over(worker.address, "POISON").await;
    let pool = pool(&[address]);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let session = session_with(&pool, Meter::default(), Duration::from_secs(60), 1);
        let mut stream = session
            .stream("SELECT echo(value) FROM generate_series(1, 1000000000)")
            .await?;
        stream.next().await.expect("endless")?;
        streams.push((session, stream));
    }
    let poison = session_with(&pool, Meter::default(), Duration::from_secs(60), 1);
    let poison = tokio::spawn(async move { poison.run("SELECT echo('POISON')").await });
    while deaths.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let start = std::time::Instant::now();
    let again = futures::future::join_all(streams.iter_mut().map(|(_, stream)| async {
        for _ in 0..6 {
            stream.next().await.expect("endless")?;
        }
        Ok::<(), DataFusionError>(())
    }));
    for result in again.await {
        result?;
    }
    poison.await.expect("it does not panic")?;
    // Four deaths with rests of 25 to 200 ms; twenty failures counted each time were 1 s each.
    assert!(
        start.elapsed() < Duration::from_millis(3_500),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}
