//! Merges of small files, and keys that are dropped, beside the statements of users.

use std::time::Duration;

use super::*;

impl Bench {
    async fn files_of(&self, table: &str) -> usize {
        let space = self.view().await.space.clone().expect("space");
        space.objects[table].files.len()
    }

    /// Runs a change that was planned on this view.
    async fn change_on(&self, view: &Arc<ProjectView>, sql: &str) -> Result<u64> {
        let (work, meter, _) = self.work();
        let options = SessionOptions::default();
        let run = Run {
            work: &work,
            meter: &meter,
            commits: &Commits::default(),
        };
        let parsed = parse(sql, 1 << 20)?;
        let bound = (parsed, Vec::new());
        let charged = AtomicBool::new(false);
        change(&self.planning(view, &options), bound, &charged, run).await
    }
}

/// An UPDATE that reads a dataset runs once only, so that a conflict would be the user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_merge_goes_after_statements_and_disturbs_none() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (a INT)").await;
    let changing = bench.hub.space_turns.of("p").change().await;
    for i in 0..40 {
        bench
            .done(&format!("INSERT INTO space.t VALUES ({i})"))
            .await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(bench.files_of("t").await, 40, "a statement is under way");
    let before = bench.view().await;
    drop(changing);
    for _ in 0..500 {
        if bench.files_of("t").await < 40 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bench.files_of("t").await < 40, "it merges later");
    let sql = "UPDATE space.t SET a = a + 1 WHERE EXISTS (SELECT 1 FROM data.people)";
    assert_eq!(bench.change_on(&before, sql).await.expect(sql), 40);
    assert_eq!(
        bench.rows("SELECT count(*), sum(a) FROM space.t").await,
        ["40 820"]
    );
}

/// Two statements of users are another matter: the second is told to run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_of_users_is_aborted() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t AS SELECT 1 AS a").await;
    let before = bench.view().await;
    bench.done("UPDATE space.t SET a = 2").await;
    let sql = "UPDATE space.t SET a = 3 WHERE EXISTS (SELECT 1 FROM data.people)";
    let error = bench.change_on(&before, sql).await.expect_err(sql);
    assert_eq!(error.kind, ErrorKind::Aborted, "{error}");
    assert_eq!(bench.rows("SELECT a FROM space.t").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_written_while_the_keys_are_dropped_are_not_lost() {
    let bench = Arc::new(bench().await);
    bench.done("CREATE TABLE space.t (a BIGINT)").await;
    let writing = Arc::clone(&bench);
    let insert = tokio::spawn(async move {
        let sql = "INSERT INTO space.t SELECT value FROM generate_series(1, 3000000)";
        writing.run(sql).await
    });
    // A file that is begun has its key.
    while bench.files().is_empty() {
        assert!(!insert.is_finished(), "too fast to tell");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut write = bench.hub.store.write().await.expect("begins");
    let dropped = write.drop_space_keys("p", Utc::now()).await;
    assert_eq!(dropped.expect("drops"), 1);
    write.commit().await.expect("commits");
    bench.hub.space_files.forget();
    assert!(!insert.is_finished(), "too fast to tell");
    assert_eq!(insert.await.expect("runs").expect("inserts"), 3_000_000);
    assert_eq!(
        bench.rows("SELECT count(*) FROM space.t").await,
        ["3000000"]
    );
}
