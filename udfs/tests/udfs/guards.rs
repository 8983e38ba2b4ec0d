//! A call that only some rows reach works on those rows, on each once, and cannot fail elsewhere.

use datafusion::common::Result;

use crate::support::{TestWorker, pool, session};

/// Rows `v` from 0 to 999.
const FROM: &str = "FROM (SELECT value AS v FROM generate_series(0, 999))";

#[tokio::test]
async fn a_row_is_computed_once_and_only_where_it_is_reached() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let cases = [
        // `coalesce` and `nvl` become CASE WHEN echo(v) IS NOT NULL THEN echo(v) …
        ("SELECT coalesce(echo(v), -1)", "", 1_000),
        ("SELECT nvl(echo(v), -1)", "", 1_000),
        // A call that every row reaches is there for the branches, wherever it is written.
        (
            "SELECT echo(v), CASE WHEN v < 10 THEN echo(v) END",
            "",
            1_000,
        ),
        (
            "SELECT CASE WHEN v < 10 THEN echo(v) END, echo(v)",
            "",
            1_000,
        ),
        (
            "SELECT CASE WHEN v < 10 THEN echo(v) END",
            "WHERE echo(v) >= 0",
            1_000,
        ),
        // A later branch uses what an earlier condition computed.
        (
            "SELECT CASE WHEN v < 900 THEN 1 WHEN echo(v) > 950 THEN echo(v) END",
            "",
            100,
        ),
        (
            "SELECT CASE WHEN v < 10 THEN echo(v) ELSE -echo(v) END",
            "",
            1_000,
        ),
        // Places whose rows overlap compute each row once.
        (
            "SELECT CASE WHEN v < 30 THEN echo(v) END, CASE WHEN v > 20 AND v < 50 THEN echo(v) END",
            "",
            50,
        ),
        (
            "SELECT 1",
            "WHERE (v < 30 AND echo(v) > 10) OR (v < 50 AND echo(v) > 40)",
            50,
        ),
        // The right sides of AND and OR.
        ("SELECT v < 10 AND echo(v) > 5", "", 10),
        ("SELECT v < 900 OR echo(v) > 950", "", 100),
        ("SELECT CASE WHEN v < 10 THEN echo(v) > 5 END", "", 10),
        // A call in an argument of a call.
        (
            "SELECT CASE WHEN v < 10 THEN echo(coalesce(echo(v), v)) END",
            "",
            20,
        ),
    ];
    for (select, filter, expected) in cases {
        let sql = format!("{select} {FROM} {filter}");
        let session = session(&pool);
        let found = session.sorted(&sql).await?;
        let plan = session.sorted(&format!("EXPLAIN {sql}")).await?.join("\n");
        assert_eq!(session.meter.items(), expected, "{sql}\n{plan}");
        let plain = session.sorted(&sql.replace("echo(", "abs(")).await?;
        assert_eq!(found, plain, "{sql}\n{plan}");
    }
    Ok(())
}

#[tokio::test]
async fn conditions_and_arguments_cannot_fail_where_they_are_not_reached() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let cases = [
        "SELECT CASE WHEN v = 0 THEN 0 WHEN 100 / v > 2 THEN echo(v) END",
        "SELECT CASE WHEN v = 0 THEN 0 WHEN v > 990 THEN echo(100 / v) END",
        "SELECT CASE WHEN v = 0 THEN 0 WHEN 100 / v > 50 THEN 1 WHEN 100 / v > 2 THEN echo(v) END",
        "SELECT CASE WHEN v > 0 THEN dicom_window(arrow_cast('no image', 'Binary'), width => 100 / v) IS NULL END",
    ];
    for select in cases {
        let session = session(&pool);
        let rows: usize = session
            .run(&format!("{select} {FROM}"))
            .await?
            .iter()
            .map(|batch| batch.num_rows())
            .sum();
        assert_eq!(rows, 1_000, "{select}");
    }
    Ok(())
}

/// The plan of a long chain stays in proportion to its statement.
#[tokio::test]
async fn a_long_chain_of_calls_is_planned() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session(&pool);
    let terms: Vec<String> = (0..40)
        .map(|term| format!("echo(v + {term}) = 7"))
        .collect();
    let sql = format!("SELECT v {FROM} WHERE v < 20 AND ({})", terms.join(" OR "));
    let rows: usize = session.run(&sql).await?.iter().map(|b| b.num_rows()).sum();
    assert_eq!(rows, 8);
    Ok(())
}
