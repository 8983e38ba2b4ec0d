//! Laziness, failing rows, and workers that die, are late or are not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{self, Meter, TestWorker, pool, session, session_with};
use arrow::array::{Array, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use datafusion::common::Result;
use futures::StreamExt;
use hubflight_udfs::WorkError;

/// More rows than any of these tests could wait for.
const ENDLESS: &str = "generate_series(1, 1000000000)";

#[tokio::test]
async fn few_rows_asked_for_are_few_rows_computed() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let cases = [
        (format!("SELECT echo(value) FROM {ENDLESS} LIMIT 5"), 5),
        (
            format!("SELECT echo(value) FROM {ENDLESS} LIMIT 5 OFFSET 3"),
            8,
        ),
        (
            format!("SELECT value FROM {ENDLESS} WHERE echo(value) % 2 = 0 LIMIT 5"),
            2_000,
        ),
        (
            format!(
                "SELECT value FROM {ENDLESS} WHERE echo(value) > 10 AND echo(echo(value)) > 2 LIMIT 5"
            ),
            6_000,
        ),
        (
            format!("SELECT * FROM (SELECT echo(value) v FROM {ENDLESS}) WHERE v > 100 LIMIT 1"),
            2_000,
        ),
    ];
    for (sql, most) in cases {
        let session = session_with(&pool, Meter::default(), Duration::from_secs(20), 2);
        let rows: usize = session.run(&sql).await?.iter().map(|b| b.num_rows()).sum();
        assert!(rows == 5 || rows == 1, "{sql}: {rows}");
        let items = session.meter.items();
        let plan = session.sorted(&format!("EXPLAIN {sql}")).await?.join("\n");
        assert!(
            items <= most,
            "{sql}: {items} items for {rows} rows\n{plan}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn failing_rows_do_what_on_error_says() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let from = "FROM (SELECT value, CASE WHEN value % 3 = 0 THEN NULL ELSE arrow_cast('not DICOM', 'Binary') END AS file FROM generate_series(1, 300)) ORDER BY value";

    let null = session(&pool);
    let batches = null.run(&format!("SELECT dicom_tags(file) {from}")).await?;
    let nulls: usize = batches
        .iter()
        .map(|batch| batch.column(0).null_count())
        .sum();
    assert_eq!(nulls, 300);
    assert_eq!(null.meter.row_errors.load(Ordering::SeqCst), 200);
    assert_eq!(null.meter.items(), 200, "NULL files are not sent");

    let report = session(&pool);
    let sql = format!("SELECT dicom_tags(file, on_error => 'REPORT') r {from}");
    for batch in report.run(&sql).await? {
        let structs = batch.column(0).as_struct();
        assert_eq!(structs.null_count(), 0);
        assert_eq!(structs.column(0).null_count(), batch.num_rows());
        assert!(structs.column(1).null_count() < batch.num_rows());
    }
    let sql = format!(
        "SELECT count(r['error']), count(*) FROM (SELECT dicom_tags(file, on_error => 'report') r {from})"
    );
    let counts = report.sorted(&sql).await?;
    assert!(counts.iter().any(|row| row == "|200|300|"), "{counts:?}");

    let fail = session(&pool);
    let error = fail
        .error(&format!(
            "SELECT dicom_tags(file, on_error => 'fail') {from}"
        ))
        .await;
    match WorkError::find(&error) {
        Some(WorkError::RowFailed { function, reason }) => {
            assert_eq!(function, "dicom_tags");
            assert!(
                !reason.contains("not DICOM"),
                "a reason holds no data: {reason}"
            );
        }
        other => panic!("{other:?} in {error}"),
    }
    Ok(())
}

#[tokio::test]
async fn real_functions_give_real_results() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session(&pool);
    let sql = "SELECT text_deidentify(text => 'Vu le 12/03/2021 par le Dr DURAND, tel 06 12 34 56 78') t, text_deidentify('', true) e";
    let batch = session.run(sql).await?.remove(0);
    assert_eq!(
        batch.column(0).as_string::<i32>().value(0),
        "Vu le <DATE> par le Dr <NOM>, tel <TEL>"
    );
    assert_eq!(batch.column(1).as_string::<i32>().value(0), "");

    // A spike every 500 samples at 500 Hz on a flat line: one beat a second.
    let sql = "SELECT ecg_rpeaks(fs => 500, signal => array_agg(CASE WHEN value % 500 BETWEEN 240 AND 260 THEN 1.0 - abs(value % 500 - 250) / 10.0 ELSE 0.0 END ORDER BY value)) FROM generate_series(0, 9999)";
    let batch = session.run(sql).await?.remove(0);
    let list = batch.column(0).as_list::<i32>().value(0);
    let peaks = list
        .as_primitive::<arrow::datatypes::Int32Type>()
        .values()
        .to_vec();
    assert!(peaks.len() >= 18, "{peaks:?}");
    assert!(
        peaks.iter().all(|peak| (peak % 500 - 250).abs() <= 5),
        "{peaks:?}"
    );
    assert!(session.meter.units.load(Ordering::SeqCst) > 10_000);
    Ok(())
}

/// A worker is killed in the middle, and another takes its place at the same address: every row
/// comes once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_dies_is_replaced() -> Result<()> {
    const ROWS: i64 = 400_000;
    let first = TestWorker::start();
    let address = first.address;
    let pool = pool(&[address]);
    let (tell, told) = std::sync::mpsc::channel();
    let killed = Arc::new(AtomicBool::new(false));
    let killer = std::thread::spawn({
        let killed = Arc::clone(&killed);
        move || {
            let _: u64 = told.recv().expect("work is done");
            first.kill();
            killed.store(true, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(200));
            TestWorker::start_at(address)
        }
    });
    let once = AtomicBool::new(false);
    let meter = Meter {
        on_work: Some(Box::new(move |items| {
            if items > 20_000 && !once.swap(true, Ordering::SeqCst) {
                tell.send(items).expect("the killer waits");
            }
        })),
        ..Meter::default()
    };
    let session = session_with(&pool, meter, Duration::from_secs(60), 2);
    let sql = format!("SELECT echo(value), value FROM generate_series(1, {ROWS})");
    let mut stream = session.stream(&sql).await?;
    let mut expected = 1;
    let mut after = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let values = batch.column(0).as_primitive::<Int64Type>();
        for value in values.values() {
            assert_eq!(*value, expected);
            expected += 1;
        }
        assert_eq!(batch.column(0).to_data(), batch.column(1).to_data());
        if !killed.load(Ordering::SeqCst) {
            // Leaves the killer time to strike before all is computed.
            tokio::time::sleep(Duration::from_millis(2)).await;
        } else {
            after += batch.num_rows();
        }
    }
    assert_eq!(expected, ROWS + 1);
    assert!(
        after > 100_000,
        "the worker died too late to matter: {after} rows came after"
    );
    assert_eq!(
        session.meter.items(),
        ROWS as u64,
        "each row is metered once"
    );
    let status = pool.refresh().await;
    assert_eq!(status[0].state, "ready", "{status:?}");
    drop(killer.join());
    Ok(())
}

/// With a second worker, nothing waits for the first to come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_worker_takes_over() -> Result<()> {
    let (first, second) = (TestWorker::start(), TestWorker::start());
    let pool = pool(&[first.address, second.address]);
    let session = session_with(&pool, Meter::default(), Duration::from_secs(60), 2);
    let mut stream = session
        .stream("SELECT echo(value) FROM generate_series(1, 300000)")
        .await?;
    let mut rows = 0;
    let mut first = Some(first);
    while let Some(batch) = stream.next().await {
        rows += batch?.num_rows();
        if rows > 20_000
            && let Some(first) = first.take()
        {
            first.kill();
        }
    }
    assert_eq!(rows, 300_000);
    let status = pool.refresh().await;
    assert_eq!(status[0].state, "unreachable");
    assert_eq!(status[1].state, "ready");
    let health = status[1].health.as_ref().expect("it was asked");
    assert_eq!((health.device.as_str(), health.protocol), ("cpu", 1));
    assert!(health.functions.iter().any(|name| name == "ecg_rpeaks"));
    Ok(())
}

#[tokio::test]
async fn without_a_worker_a_statement_is_unavailable_at_its_deadline() -> Result<()> {
    let worker = TestWorker::start();
    let address = worker.address;
    worker.kill();
    let pool = pool(&[address]);
    let session = session_with(&pool, Meter::default(), Duration::from_millis(400), 2);
    let start = Instant::now();
    let error = session.error("SELECT echo(1)").await;
    let took = start.elapsed();
    let found = WorkError::find(&error);
    assert!(
        matches!(found, Some(WorkError::Unavailable { .. })),
        "{error}"
    );
    assert!((300..3_000).contains(&took.as_millis()), "{took:?}");
    assert!(pool.wait_ready(Duration::from_millis(100)).await.is_err());

    let none = support::pool(&[]);
    let session = session_with(&none, Meter::default(), Duration::from_secs(60), 2);
    let start = Instant::now();
    let error = session.error("SELECT echo(1)").await;
    assert!(
        matches!(WorkError::find(&error), Some(WorkError::Unavailable { .. })),
        "{error}"
    );
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "an empty pool is no reason to wait"
    );
    Ok(())
}

#[tokio::test]
async fn work_stops_at_the_deadline() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    pool.wait_ready(Duration::from_secs(10)).await?;
    let session = session_with(&pool, Meter::default(), Duration::from_millis(500), 2);
    let start = Instant::now();
    let error = session
        .error(&format!("SELECT max(echo(value)) FROM {ENDLESS}"))
        .await;
    assert_eq!(
        WorkError::find(&error),
        Some(&WorkError::DeadlineExceeded),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(session.meter.items() > 0);
    Ok(())
}

#[tokio::test]
async fn another_key_is_no_key() -> Result<()> {
    let worker = TestWorker::start();
    let pool = hubflight_udfs::WorkerPool::new(hubflight_udfs::PoolConfig {
        workers: vec![worker.address.to_string()],
        key: hubflight_udfs::Key::new([4; 32]),
        tls_ca: None,
        io: tokio::runtime::Handle::current(),
    })?;
    let session = session_with(&pool, Meter::default(), Duration::from_millis(300), 2);
    let error = session.error("SELECT echo(1)").await;
    match WorkError::find(&error) {
        Some(WorkError::Unavailable { reason }) => assert!(reason.contains("same key"), "{reason}"),
        other => panic!("{other:?} in {error}"),
    }
    Ok(())
}

/// A query that is dropped leaves nothing in the worker.
#[tokio::test]
async fn a_dropped_query_stops_its_work() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session_with(&pool, Meter::default(), Duration::from_secs(60), 2);
    let mut stream = session
        .stream(&format!("SELECT echo(value) FROM {ENDLESS}"))
        .await?;
    for _ in 0..50 {
        stream.next().await.expect("endless")?;
    }
    drop(stream);
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let status = pool.refresh().await;
        let health = status[0].health.as_ref().expect("it is up");
        if health.streams == 0 && health.queue_batches == 0 && status[0].in_flight_batches == 0 {
            break;
        }
        assert!(Instant::now() < end, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let items = session.meter.items();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(session.meter.items(), items);
    Ok(())
}

#[tokio::test]
async fn addresses_are_checked() {
    let cases = [
        ("192.0.2.1:31338", "not a loopback address"),
        ("http://192.0.2.1:31338", "not a loopback address"),
        ("https://127.0.0.1:31338", "authority"),
        ("127.0.0.1", "no port"),
        ("ftp://127.0.0.1:1", "http://"),
        ("a b:1", "host:port"),
    ];
    for (address, text) in cases {
        let pool = hubflight_udfs::WorkerPool::new(hubflight_udfs::PoolConfig {
            workers: vec![address.into()],
            key: support::key(),
            tls_ca: None,
            io: tokio::runtime::Handle::current(),
        });
        let error = pool
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        assert!(
            error.contains(text) && error.contains(address),
            "{address}: {error}"
        );
    }
}

/// How many rows a second go through a worker and back; printed, for comparison.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput() -> Result<()> {
    const ROWS: u64 = 4_000_000;
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session_with(&pool, Meter::default(), Duration::from_secs(60), 2);
    let start = Instant::now();
    let sql = format!("SELECT sum(echo(value)) FROM generate_series(1, {ROWS})");
    let batch = session.run(&sql).await?.remove(0);
    let took = start.elapsed().as_secs_f64();
    let sum = batch
        .column(0)
        .as_any()
        .downcast_ref::<Int64Array>()
        .expect("a sum")
        .value(0);
    assert_eq!(sum as u64, ROWS * (ROWS + 1) / 2);
    println!(
        "{:.1} million rows/s through a worker",
        ROWS as f64 / took / 1e6
    );
    Ok(())
}
