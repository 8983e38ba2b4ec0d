//! Snapshots, concurrency, quotas, clients that go away and files that nobody owns.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_stays_readable_and_its_files_go_later() {
    // A statement of no time may still have waited for a place, and read since then.
    let bench = bench_with("ticket_seconds_max = 0\nstatement_seconds_max = 0", 100).await;
    bench
        .done("CREATE TABLE space.t AS SELECT name FROM data.people")
        .await;
    let before = bench.view().await;
    let old = bench.files();
    bench.done("UPDATE space.t SET name = 'x'").await;
    clean::clean(&bench.hub, None).await.expect("cleans");
    assert!(old.iter().all(|file| file.exists()));
    assert_eq!(bench.files().len(), 2);
    let after = bench.view().await;
    assert!(after.space_snapshot() > before.space_snapshot());
    bench.done("DROP TABLE space.t").await;
    let later = Utc::now() + TimeDelta::seconds(1);
    clean::replaced_before(&bench.hub, "p", later)
        .await
        .expect("cleans");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rewritten_again_and_again_meets_the_quota() {
    let bench = bench_with("", 1).await;
    bench
        .done("CREATE TABLE space.t AS SELECT 0 AS n, md5(CAST(value AS VARCHAR)) AS h FROM generate_series(1, 10000)")
        .await;
    let sql = "UPDATE space.t SET n = n + 1";
    let mut rewritten = 0;
    let error = loop {
        match bench.run(sql).await {
            Ok(rows) => assert_eq!(rows, 10_000),
            Err(error) => break error,
        }
        rewritten += 1;
        assert!(rewritten < 30, "the disk fills");
    };
    assert_eq!(error.kind, ErrorKind::ResourceExhausted);
    assert!(error.to_string().contains("replaced lately"), "{error}");
    assert!(rewritten > 1, "{error}");
    assert_eq!(bench.files().len(), rewritten + 1);
    let later = Utc::now() + TimeDelta::seconds(1);
    clean::replaced_before(&bench.hub, "p", later)
        .await
        .expect("cleans");
    assert_eq!(bench.done(sql).await, 10_000);
    // What frees room is never refused.
    bench.done("DROP TABLE space.t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_dead_statements_go_at_the_next_start() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t AS SELECT 1 AS a").await;
    let [live] = bench.files().try_into().expect("one file");
    let path = |name: &str| live.with_file_name(name);
    let id = uuid::Uuid::now_v7;
    let orphan = path(&format!("{}.parquet", id()));
    let unfinished = path(&format!("{}.parquet.tmp", id()));
    let others = path("notes.parquet");
    let younger = path(&format!("{}.parquet", id()));
    for file in [&orphan, &unfinished, &others, &younger] {
        std::fs::write(file, "x").expect("writes");
    }
    let hour = std::time::Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(&younger);
    file.expect("opens")
        .set_modified(std::time::SystemTime::now() + hour)
        .expect("sets the time");
    // While statements run, a file may be one of theirs.
    let yesterday = std::time::SystemTime::now() - 24 * hour;
    clean::clean(&bench.hub, Some(yesterday))
        .await
        .expect("cleans");
    assert!(orphan.exists() && unfinished.exists());
    clean_up(&bench.hub).await.expect("cleans");
    assert!(!orphan.exists() && !unfinished.exists());
    assert!(live.exists() && others.exists() && younger.exists());
    assert_eq!(bench.rows("SELECT a FROM space.t").await, ["1"]);
}

/// Files of a commit: gone if it was refused, there if nobody knows whether it happened.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_refused_commit_removes_its_files() {
    let bench = bench().await;
    let (work, meter, _) = bench.work();
    let view = bench.view().await;
    let (space, options) = (
        view.space.clone().expect("space"),
        SessionOptions::default(),
    );
    let planning = bench.planning(&view, &options);
    let change = change::Change {
        planning: &planning,
        space: &space,
        parameters: &[],
        work: &work,
        meter: &meter,
        commits: &Commits::default(),
        charged: &false.into(),
    };
    let one_file = async || {
        let parsed = parse("SELECT 1 AS a", 1 << 20).expect("parses");
        let authorised = planning.query(parsed).await.expect("plans");
        let schema = Arc::clone(&authorised.schema);
        let job = change::Job {
            query: authorised.optimise().expect("optimises"),
            flagged: false,
        };
        let target = change.target("t", &schema, &[]).await.expect("target");
        let (written, _) = change.write(target, vec![job]).await.expect("writes");
        let changes = vec![hubflight_store::SpaceChange::AddFiles {
            object: "t".into(),
            files: written.files.clone(),
        }];
        change::Commit {
            changes,
            written,
            again: false,
        }
    };
    let commit = one_file().await;
    assert_eq!(bench.files().len(), 1);
    assert!(change.commit(commit).await.is_err(), "there is no table");
    assert!(bench.files().is_empty());
    let commit = one_file().await;
    bench.hub.store.close().await;
    assert!(change.commit(commit).await.is_err(), "there is no store");
    assert_eq!(bench.files().len(), 1);
}
