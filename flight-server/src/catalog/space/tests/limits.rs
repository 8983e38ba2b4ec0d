//! Snapshots, concurrency, quotas and clients that go away.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_stays_readable_and_its_files_go_later() {
    let bench = bench_with("ticket_seconds_max = 0\nstatement_seconds_max = 0", 100).await;
    bench
        .done("CREATE TABLE space.t AS SELECT name FROM data.people")
        .await;
    let before = bench.view().await;
    let old = bench.files();
    bench.done("UPDATE space.t SET name = 'x'").await;
    assert!(old.iter().all(|file| file.exists()) || bench.files().len() == 1);
    let after = bench.view().await;
    assert!(after.space_snapshot() > before.space_snapshot());
    bench.done("DROP TABLE space.t").await;
    // The clean-up after a change runs beside it; whoever comes first, nothing is left.
    for _ in 0..100 {
        clean_up(&bench.hub).await.expect("cleans");
        if bench.files().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(bench.files().is_empty());
    assert!(
        bench
            .hub
            .store
            .space_file_names("p")
            .await
            .expect("lists")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_not_disturbed_by_writers() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t AS SELECT name FROM data.people")
        .await;
    let before = bench.view().await;
    bench.done("DELETE FROM space.t WHERE name < 'p5'").await;
    bench.done("DROP TABLE space.t").await;
    let rows = bench
        .query_in(&before, "SELECT count(*) FROM space.t WHERE name <> ''")
        .await;
    assert_eq!(rows.expect("reads"), ["10"]);
    bench
        .fails("SELECT * FROM space.t", ErrorKind::NotFound, "space.t")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_write_at_once_and_nothing_is_lost() {
    let bench = Arc::new(bench().await);
    bench.done("CREATE TABLE space.t (n INT)").await;
    bench.done("INSERT INTO space.t VALUES (0)").await;
    let mut tasks = Vec::new();
    for n in 1..=12 {
        let bench = Arc::clone(&bench);
        tasks.push(tokio::spawn(async move {
            if n % 2 == 0 {
                bench
                    .run(&format!("INSERT INTO space.t VALUES ({n})"))
                    .await
                    .map(|_| n)
            } else {
                bench
                    .run("UPDATE space.t SET n = n + 1000 WHERE n % 2 = 0")
                    .await
                    .map(|_| 0)
            }
        }));
    }
    let mut inserted = 0;
    for task in tasks {
        match task.await.expect("runs") {
            Ok(n) => inserted += usize::from(n > 0),
            Err(error) => assert!(
                error.to_string().contains("run the statement again"),
                "{error}"
            ),
        }
    }
    assert_eq!(inserted, 6, "appends do not conflict");
    let rows = bench
        .rows("SELECT n % 1000 AS m FROM space.t ORDER BY m")
        .await;
    assert_eq!(rows, ["0", "2", "4", "6", "8", "10", "12"]);
    let kept = bench.rows("SELECT count(*) FROM space.t").await;
    assert_eq!(kept, ["7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quota_stops_a_statement_early() {
    let bench = bench_with("", 1).await;
    let sql = "CREATE TABLE space.big AS SELECT md5(CAST(value AS VARCHAR)) AS h FROM generate_series(1, 50000000)";
    let begun = std::time::Instant::now();
    bench
        .refused(sql, ErrorKind::ResourceExhausted, "quota")
        .await;
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert!(bench.files().is_empty());
    bench
        .fails("SELECT * FROM space.big", ErrorKind::NotFound, "space.big")
        .await;
    bench
        .done("CREATE TABLE space.small AS SELECT 1 AS a")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_nothing() {
    let bench = bench().await;
    let sql = "CREATE TABLE space.big AS SELECT value AS v FROM generate_series(1, 2000000000)";
    let limit = std::time::Duration::from_millis(700);
    tokio::time::timeout(limit, bench.run(sql))
        .await
        .expect_err("takes longer");
    for _ in 0..250 {
        if bench.files().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(bench.files().is_empty());
    bench
        .fails("SELECT * FROM space.big", ErrorKind::NotFound, "space.big")
        .await;
}
