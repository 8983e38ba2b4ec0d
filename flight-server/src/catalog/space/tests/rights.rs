//! What rows carry from their datasets, and views.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_from_datasets_and_carry_their_rights() {
    let bench = bench().await;
    let (work, meter, quantities) = bench.work();
    let view = bench.view().await;
    let options = SessionOptions::default();
    let sql = "CREATE TABLE cohort AS SELECT name, age FROM data.people WHERE age >= 40";
    let parsed = parse(sql, 1 << 20).expect("parses");
    change(
        &bench.planning(&view, &options),
        (parsed, Vec::new()),
        &AtomicBool::new(false),
        Run {
            work: &work,
            meter: &meter,
            commits: &Commits::default(),
        },
    )
    .await
    .expect("runs");
    // Two columns of ten rows: two bytes of text and eight of number each.
    assert_eq!(quantities.measured().bytes_scanned, 100);
    assert_eq!(
        bench
            .rows("SELECT count(*), min(age) FROM space.cohort")
            .await,
        ["6 40"]
    );
    bench.done("CREATE TABLE space.plain (name VARCHAR)").await;
    bench.done("INSERT INTO space.plain VALUES ('free')").await;
    bench
        .done("CREATE TABLE space.derived AS SELECT name FROM space.cohort")
        .await;
    bench.done("CREATE TABLE space.mixed (name VARCHAR)").await;
    bench
        .done("INSERT INTO space.mixed SELECT name FROM data.people LIMIT 1")
        .await;
    bench
        .done("CREATE TABLE space.touched AS SELECT 1 AS a")
        .await;
    bench
        .done("DELETE FROM space.touched WHERE a IN (SELECT age FROM data.people)")
        .await;
    bench
        .done("UPDATE space.touched SET a = (SELECT max(age) FROM data.people)")
        .await;
    bench
        .done("CREATE VIEW space.seen AS SELECT name FROM space.cohort")
        .await;
    let labels = &bench.view().await.space.clone().expect("space").objects["mixed"].labels;
    assert_eq!(labels.sources.len(), 1);
    assert_eq!(
        (
            labels.sources[0].dataset.as_str(),
            labels.sources[0].version
        ),
        ("data", 1)
    );

    let habilitations = bench.hub.store.habilitations_of("p").await.expect("lists");
    bench
        .hub
        .store
        .revoke_habilitation(&habilitations[0].id)
        .await
        .expect("revokes");
    let later = Bench {
        now: Utc::now() + TimeDelta::seconds(1),
        ..bench
    };
    for table in ["cohort", "derived", "mixed", "touched", "seen"] {
        let sql = format!("SELECT * FROM space.{table}");
        later
            .fails(&sql, ErrorKind::PermissionDenied, "`data`")
            .await;
    }
    later
        .refused(
            "INSERT INTO space.mixed VALUES ('x')",
            ErrorKind::PermissionDenied,
            "`data`",
        )
        .await;
    later
        .refused(
            "DELETE FROM space.cohort",
            ErrorKind::PermissionDenied,
            "`data`",
        )
        .await;
    later
        .refused(
            "CREATE TABLE space.stolen AS SELECT * FROM space.cohort",
            ErrorKind::PermissionDenied,
            "`data`",
        )
        .await;
    assert_eq!(later.rows("SELECT * FROM space.plain").await, ["free"]);
    let listed = later
        .rows("SELECT column_name FROM information_schema.columns WHERE table_name = 'cohort' ORDER BY 1")
        .await;
    assert_eq!(listed, ["age", "name"]);
    later.done("DROP TABLE space.cohort").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_planned_when_they_are_used() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t AS SELECT name, age FROM data.people")
        .await;
    bench
        .done("CREATE VIEW space.old (who, years) AS SELECT * FROM space.t WHERE age > 50")
        .await;
    bench
        .done("CREATE VIEW space.oldest AS SELECT who FROM space.old ORDER BY years DESC LIMIT 1")
        .await;
    assert_eq!(bench.rows("SELECT * FROM space.oldest").await, ["p9"]);
    bench
        .done("INSERT INTO space.t VALUES ('methuselah', 969)")
        .await;
    assert_eq!(
        bench
            .rows("SELECT a.who FROM space.oldest a JOIN space.oldest b ON a.who = b.who")
            .await,
        ["methuselah"]
    );
    // Names without a schema keep the meaning that they had: here the only dataset's.
    bench
        .done("CREATE VIEW space.people AS SELECT count(*) AS n FROM people")
        .await;
    assert_eq!(bench.rows("SELECT n FROM space.people").await, ["10"]);
    bench
        .refused(
            "CREATE OR REPLACE VIEW space.old AS SELECT who, 1 AS years FROM space.oldest",
            ErrorKind::NotFound,
            "`space.old` reads itself",
        )
        .await;
    bench
        .refused(
            "CREATE OR REPLACE VIEW space.me AS SELECT * FROM space.me",
            ErrorKind::NotFound,
            "space.me",
        )
        .await;
    bench
        .refused(
            "CREATE OR REPLACE VIEW space.t AS SELECT 1 AS a",
            ErrorKind::InvalidArgument,
            "is a table",
        )
        .await;
    bench
        .refused(
            "INSERT INTO space.old VALUES ('x', 1)",
            ErrorKind::InvalidArgument,
            "is a view",
        )
        .await;
    bench
        .refused(
            "DROP TABLE space.old",
            ErrorKind::InvalidArgument,
            "DROP VIEW",
        )
        .await;
    bench
        .refused(
            "CREATE VIEW space.w AS SELECT * FROM space.none",
            ErrorKind::NotFound,
            "space.none",
        )
        .await;
    bench.done("DROP TABLE space.t").await;
    bench
        .fails(
            "SELECT * FROM space.oldest",
            ErrorKind::NotFound,
            "view `space.oldest` cannot be read: view `space.old`",
        )
        .await;
    let listed = bench
        .rows("SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = 'space' ORDER BY 1")
        .await;
    assert_eq!(listed, ["old VIEW", "oldest VIEW", "people VIEW"]);
    bench.done("DROP VIEW space.old, space.oldest").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_upon_views_stay_bounded() {
    let bench = bench().await;
    bench.done("CREATE VIEW space.v0 AS SELECT 1 AS a").await;
    let mut last = 0;
    for level in 1..40 {
        let below = level - 1;
        let sql = format!(
            "CREATE VIEW space.v{level} AS SELECT x.a FROM space.v{below} x JOIN space.v{below} y ON x.a = y.a"
        );
        match bench.run(&sql).await {
            Ok(_) => last = level,
            Err(error) => {
                assert!(error.to_string().contains("larger than"), "{error}");
                break;
            }
        }
    }
    assert!((4..12).contains(&last), "{last}");
    bench.done("CREATE VIEW space.w0 AS SELECT 1 AS a").await;
    let mut deep = 0;
    for level in 1..40 {
        let sql = format!(
            "CREATE VIEW space.w{level} AS SELECT a FROM space.w{}",
            level - 1
        );
        if bench.run(&sql).await.is_err() {
            break;
        }
        deep = level;
    }
    assert_eq!(deep + 1, VIEW_DEPTH_MAX);
    assert_eq!(
        bench.rows(&format!("SELECT a FROM space.w{}", deep)).await,
        ["1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_table_holds_is_measured_as_it_is_written() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t AS SELECT name, age FROM data.people")
        .await;
    let bytes = async |columns: &[&str]| {
        let table = bench.view().await.table("space", "t").await;
        let table = table.expect("opens").expect("is there");
        let table: &dyn std::any::Any = table.as_ref();
        let table = table.downcast_ref::<SpaceTable>().expect("is a table");
        assert_eq!(table.name(), "t");
        table.logical_bytes(&columns.iter().map(ToString::to_string).collect())
    };
    assert_eq!(bytes(&["name"]).await, 20);
    assert_eq!(bytes(&["age"]).await, 80);
    // Another file adds to it, and an UPDATE leaves what it does not change.
    bench
        .done("INSERT INTO space.t VALUES ('methuselah', 969)")
        .await;
    assert_eq!(bytes(&["name", "age"]).await, 30 + 88);
    bench
        .done("UPDATE space.t SET age = 970 WHERE age > 900")
        .await;
    assert_eq!(bytes(&["name", "age"]).await, 30 + 88);
    bench.done("DELETE FROM space.t WHERE age < 900").await;
    assert_eq!(bytes(&["name", "age", "none"]).await, 10 + 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_runs_again_is_charged_once() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (a INT)").await;
    let (work, meter, quantities) = bench.work();
    let view = bench.view().await;
    let (space, options) = (
        view.space.clone().expect("space"),
        SessionOptions::default(),
    );
    let planning = bench.planning(&view, &options);
    let charged = false.into();
    let change = change::Change {
        planning: &planning,
        space: &space,
        parameters: &[],
        work: &work,
        meter: &meter,
        commits: &Commits::default(),
        charged: &charged,
    };
    for (sql, reads) in [
        ("SELECT name FROM data.people", true),
        ("SELECT a FROM space.t", false),
    ] {
        let authorised = planning.query(parse(sql, 1 << 20).expect(sql)).await;
        let query = authorised.expect(sql).optimise().expect(sql);
        change.charge(&query).await.expect("charges");
        change.charge(&query).await.expect("charges");
        assert_eq!(change::reads_dataset(&query).expect(sql), reads, "{sql}");
    }
    assert_eq!(quantities.measured().bytes_scanned, 20);
}
