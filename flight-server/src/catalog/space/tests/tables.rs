//! Tables and their rows, and what is refused.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_table_lives_from_create_to_drop() {
    let bench = bench().await;
    assert_eq!(
        bench
            .done("CREATE TABLE space.t (a INT NOT NULL, b VARCHAR, c DECIMAL(9,2))")
            .await,
        0
    );
    assert!(bench.rows("SELECT * FROM space.t").await.is_empty());
    assert_eq!(bench.rows("SELECT count(*) FROM space.t").await, ["0"]);
    assert_eq!(
        bench
            .done("INSERT INTO space.t VALUES (1, 'x', 1.5), (2, 'y', NULL)")
            .await,
        2
    );
    assert_eq!(
        bench
            .done("INSERT INTO p.space.t (b, a) VALUES ('z', 3)")
            .await,
        1
    );
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x 1.50", "2 y -", "3 z -"]
    );
    assert_eq!(bench.files().len(), 2);
    assert_eq!(
        bench
            .done("UPDATE space.t SET B = upper(b), c = a + 0.25 WHERE a > 1")
            .await,
        2
    );
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x 1.50", "2 Y 2.25", "3 Z 3.25"]
    );
    assert_eq!(bench.done("UPDATE space.t SET c = 0 WHERE a = 99").await, 0);
    assert_eq!(bench.done("DELETE FROM space.t WHERE c > 3").await, 1);
    assert_eq!(
        bench.rows("SELECT a FROM space.t ORDER BY a").await,
        ["1", "2"]
    );
    assert_eq!(bench.done("DELETE FROM space.t").await, 2);
    assert_eq!(
        bench.rows("SELECT count(*), max(a) FROM space.t").await,
        ["0 -"]
    );
    assert_eq!(
        bench
            .done("CREATE TABLE IF NOT EXISTS space.t (z INT)")
            .await,
        0
    );
    assert_eq!(
        bench.done("CREATE OR REPLACE TABLE space.t (z INT)").await,
        0
    );
    assert_eq!(bench.done("INSERT INTO space.t VALUES (9)").await, 1);
    assert_eq!(bench.rows("SELECT * FROM space.t").await, ["9"]);
    assert_eq!(bench.done("DROP TABLE space.t").await, 0);
    bench
        .fails("SELECT * FROM space.t", ErrorKind::NotFound, "space.t")
        .await;
    assert_eq!(bench.done("DROP TABLE IF EXISTS space.t").await, 0);
    bench
        .refused("DROP TABLE space.t", ErrorKind::NotFound, "space.t")
        .await;
}

/// Changes of what is not the space's, or that the space has no form for.
const UNCHANGEABLE: &[(&str, ErrorKind, &str)] = &[
    (
        "INSERT INTO data.people VALUES ('x', 1)",
        ErrorKind::InvalidArgument,
        "dataset",
    ),
    ("DELETE FROM people", ErrorKind::InvalidArgument, "dataset"),
    (
        "UPDATE data.people SET age = 0",
        ErrorKind::InvalidArgument,
        "dataset",
    ),
    (
        "DROP TABLE data.people",
        ErrorKind::InvalidArgument,
        "dataset",
    ),
    (
        "CREATE TABLE data.mine (a INT)",
        ErrorKind::InvalidArgument,
        "schema `space`",
    ),
    ("DROP TABLE data.none", ErrorKind::NotFound, "data.none"),
    ("DROP TABLE cardio.ecg", ErrorKind::NotFound, "cardio.ecg"),
    (
        "CREATE TABLE cardio.t (a INT)",
        ErrorKind::NotFound,
        "cardio.t",
    ),
    (
        "INSERT INTO q.space.t VALUES (1)",
        ErrorKind::NotFound,
        "q.space.t",
    ),
    (
        "CREATE TABLE hub.t (a INT)",
        ErrorKind::InvalidArgument,
        "`hub`",
    ),
    ("DELETE FROM hub.usage", ErrorKind::InvalidArgument, "`hub`"),
    (
        "CREATE VIEW information_schema.v AS SELECT 1 AS a",
        ErrorKind::InvalidArgument,
        "information_schema",
    ),
    (
        "CREATE TABLE sample.t (a INT)",
        ErrorKind::InvalidArgument,
        "`sample`",
    ),
    (
        "CREATE TABLE space.u AS SELECT * FROM cardio.ecg",
        ErrorKind::NotFound,
        "cardio.ecg",
    ),
    (
        "INSERT INTO space.t SELECT a FROM cardio.ecg",
        ErrorKind::NotFound,
        "cardio.ecg",
    ),
    (
        "CREATE TABLE space.t (a INT)",
        ErrorKind::InvalidArgument,
        "exists already",
    ),
    (
        "CREATE TABLE space.u (a INT PRIMARY KEY)",
        ErrorKind::InvalidArgument,
        "PRIMARY KEY",
    ),
    (
        "CREATE TABLE space.u (a INT, UNIQUE (a))",
        ErrorKind::InvalidArgument,
        "UNIQUE",
    ),
    (
        "CREATE TABLE space.u (a INT DEFAULT 3)",
        ErrorKind::InvalidArgument,
        "DEFAULT",
    ),
    (
        "CREATE TABLE space.u (a INT, a INT)",
        ErrorKind::InvalidArgument,
        "a",
    ),
    (
        "CREATE TABLE space.u AS SELECT 1 AS a, 2 AS \"a\"",
        ErrorKind::InvalidArgument,
        "a",
    ),
    (
        "CREATE TABLE space.u (a INTERVAL)",
        ErrorKind::InvalidArgument,
        "`a`",
    ),
    (
        "CREATE TABLE space.u ()",
        ErrorKind::InvalidArgument,
        "column",
    ),
    (
        "CREATE TABLE space.\"a\nb\" (a INT)",
        ErrorKind::InvalidArgument,
        "control",
    ),
    (
        "CREATE TEMPORARY TABLE space.u (a INT)",
        ErrorKind::InvalidArgument,
        "emporary",
    ),
    (
        "INSERT INTO space.t VALUES (1)",
        ErrorKind::InvalidArgument,
        "",
    ),
    (
        "INSERT INTO space.t (a, a) VALUES (1, 2)",
        ErrorKind::InvalidArgument,
        "a",
    ),
    (
        "INSERT INTO space.t (a, z) VALUES (1, 2)",
        ErrorKind::InvalidArgument,
        "z",
    ),
    (
        "INSERT INTO space.t (b) VALUES ('x')",
        ErrorKind::InvalidArgument,
        "a",
    ),
    (
        "INSERT INTO space.t VALUES (NULL, 'x')",
        ErrorKind::InvalidArgument,
        "a",
    ),
    (
        "INSERT INTO space.t VALUES ('x', 'y')",
        ErrorKind::InvalidArgument,
        "x",
    ),
    (
        "INSERT INTO space.t VALUES (3000000000, 'y')",
        ErrorKind::InvalidArgument,
        "3000000000",
    ),
    (
        "INSERT OVERWRITE space.t VALUES (1, 'y')",
        ErrorKind::InvalidArgument,
        "INSERT adds",
    ),
    (
        "INSERT INTO space.t VALUES (1, 'y') RETURNING a",
        ErrorKind::InvalidArgument,
        "RETURNING",
    ),
    (
        "INSERT INTO space.t VALUES (1, 'y') ON CONFLICT DO NOTHING",
        ErrorKind::InvalidArgument,
        "ON CONFLICT",
    ),
    (
        "UPDATE space.t SET a = 1, A = 2",
        ErrorKind::InvalidArgument,
        "twice",
    ),
    ("UPDATE space.t SET z = 1", ErrorKind::InvalidArgument, "z"),
    (
        "UPDATE space.t SET a = 1 FROM space.t u",
        ErrorKind::InvalidArgument,
        "FROM",
    ),
    (
        "UPDATE space.none SET a = 1",
        ErrorKind::NotFound,
        "space.none",
    ),
    (
        "DELETE FROM space.t USING space.t u",
        ErrorKind::InvalidArgument,
        "USING",
    ),
    (
        "DELETE FROM space.t LIMIT 1",
        ErrorKind::InvalidArgument,
        "LIMIT",
    ),
    (
        "DROP TABLE space.t CASCADE",
        ErrorKind::InvalidArgument,
        "CASCADE",
    ),
    (
        "CREATE OR REPLACE TABLE IF NOT EXISTS space.t (a INT)",
        ErrorKind::InvalidArgument,
        "",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn only_the_space_can_be_changed() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (a INT NOT NULL, b VARCHAR)")
        .await;
    use ErrorKind::InvalidArgument;
    for (sql, kind, part) in UNCHANGEABLE {
        bench.refused(sql, *kind, part).await;
    }
    assert!(bench.files().is_empty());
    assert!(bench.rows("SELECT * FROM space.t").await.is_empty());
    bench
        .done("INSERT INTO space.t VALUES (1, 'x'), (2, NULL)")
        .await;
    bench
        .refused(
            "UPDATE space.t SET a = NULL WHERE b = 'x'",
            InvalidArgument,
            "`a`",
        )
        .await;
    bench
        .refused("UPDATE space.t SET a = b", InvalidArgument, "x")
        .await;
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x", "2 -"]
    );
    assert_eq!(bench.files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn placeholders_are_values() {
    let bench = bench().await;
    bench
        .done("CREATE TABLE space.t (a INT, b VARCHAR, d DATE)")
        .await;
    let text = |text: &str| ScalarValue::Utf8(Some(text.into()));
    let sql = "INSERT INTO space.t VALUES (?, ?, ?)";
    let row = vec![
        ScalarValue::Int64(Some(1)),
        text("'; DROP TABLE t"),
        text("2024-02-29"),
    ];
    assert_eq!(bench.bound(sql, row).await.expect("inserts"), 1);
    let row = vec![
        ScalarValue::Null,
        ScalarValue::Utf8(None),
        ScalarValue::Null,
    ];
    assert_eq!(bench.bound(sql, row).await.expect("inserts"), 1);
    let wrong = vec![text("x"), text("x"), ScalarValue::Null];
    let error = bench.bound(sql, wrong).await.expect_err("no number");
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    let sql = "UPDATE space.t SET b = $2 WHERE a = $1";
    let row = vec![ScalarValue::Int64(Some(1)), text("x")];
    assert_eq!(bench.bound(sql, row).await.expect("updates"), 1);
    assert_eq!(
        bench.rows("SELECT * FROM space.t ORDER BY a").await,
        ["1 x 2024-02-29", "- - -"]
    );
    let row = vec![ScalarValue::Int32(Some(1))];
    assert_eq!(
        bench
            .bound("DELETE FROM space.t WHERE a = ?", row)
            .await
            .expect("deletes"),
        1
    );
    let row = vec![ScalarValue::Int64(Some(30))];
    bench
        .bound(
            "CREATE TABLE space.young AS SELECT * FROM data.people WHERE age < ?",
            row,
        )
        .await
        .expect("creates");
    assert_eq!(bench.rows("SELECT count(*) FROM space.young").await, ["2"]);
    bench
        .run("DELETE FROM space.t WHERE a = ?")
        .await
        .expect_err("unbound");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_parameters_are_one_file_and_small_files_are_merged() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (a INT, b VARCHAR)").await;
    let rows = (0..2_000)
        .map(|i| {
            vec![
                ScalarValue::Int64(Some(i)),
                ScalarValue::Utf8((i % 2 == 0).then(|| format!("r{i}"))),
            ]
        })
        .collect();
    let (work, meter, _) = bench.work();
    let view = bench.view().await;
    let options = SessionOptions::default();
    let parsed = parse("INSERT INTO space.t VALUES (?, ?)", 1 << 20).expect("parses");
    let begun = std::time::Instant::now();
    let count = change_rows(
        &bench.planning(&view, &options),
        parsed,
        rows,
        Run {
            work: &work,
            meter: &meter,
            commits: &Commits::default(),
        },
    )
    .await;
    println!("2000 bound rows in {:?}", begun.elapsed());
    assert_eq!(count.expect("inserts"), 2_000);
    assert_eq!(bench.files().len(), 1);
    assert_eq!(
        bench
            .rows("SELECT count(*), sum(a), count(b) FROM space.t")
            .await,
        ["2000 1999000 1000"]
    );
    let begun = std::time::Instant::now();
    for i in 0..70 {
        bench
            .done(&format!("INSERT INTO space.t VALUES ({i}, NULL)"))
            .await;
    }
    println!("70 single rows in {:?}", begun.elapsed());
    // Files are merged beside the statements.
    let mut files = usize::MAX;
    for _ in 0..250 {
        let space = bench.view().await.space.clone().expect("space");
        files = space.objects["t"].files.len();
        if files < 35 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(files < 35, "{files}");
    assert_eq!(
        bench
            .rows("SELECT count(*), sum(a), count(b) FROM space.t")
            .await,
        ["2070 2001415 1000"]
    );
    // Three rows of parameters of an UPDATE, each on what the one before left.
    let rows = vec![vec![ScalarValue::Int64(Some(2))]; 3];
    let (work, meter, _) = bench.work();
    let view = bench.view().await;
    let parsed = parse(
        "UPDATE space.t SET a = a * ? WHERE a = 7 OR a = 14 OR a = 28",
        1 << 20,
    )
    .expect("parses");
    let count = change_rows(
        &bench.planning(&view, &options),
        parsed,
        rows,
        Run {
            work: &work,
            meter: &meter,
            commits: &Commits::default(),
        },
    )
    .await;
    assert!(count.expect("updates") >= 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_parameters_that_were_applied_are_counted() {
    let bench = bench().await;
    bench.done("CREATE TABLE space.t (a INT NOT NULL)").await;
    bench.done("INSERT INTO space.t VALUES (0)").await;
    let update = async |rows: &[Option<i64>]| {
        let rows = rows
            .iter()
            .map(|value| vec![ScalarValue::Int64(*value)])
            .collect();
        let (work, meter, _) = bench.work();
        let view = bench.view().await;
        let options = SessionOptions::default();
        let parsed = parse("UPDATE space.t SET a = a + ?", 1 << 20).expect("parses");
        let planning = bench.planning(&view, &options);
        let run = Run {
            work: &work,
            meter: &meter,
            commits: &Commits::default(),
        };
        change_rows(&planning, parsed, rows, run).await
    };
    assert_eq!(update(&[Some(1), Some(10)]).await.expect("updates"), 2);
    let error = update(&[Some(100), None, Some(5)]).await;
    let error = error.expect_err("NULL").to_string();
    assert!(
        error.contains("`a`") && error.contains("row 2 of 3 that were bound, and none was changed"),
        "{error}"
    );
    assert_eq!(bench.rows("SELECT a FROM space.t").await, ["11"]);
    let error = update(&[None]).await.expect_err("NULL").to_string();
    assert!(!error.contains("bound"), "{error}");
}
