//! A query gives the same rows whether `echo(x)` goes through a worker or is replaced by `(x)`.

use std::sync::Arc;

use crate::support::{Session, TestWorker, pool, session};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::common::Result;
use datafusion::datasource::MemTable;

const ROWS: i64 = 1_000;

/// Table `t(id, grp, word)` in four partitions, `word` NULL in each seventh row, and `s(id, name)`.
fn tables(session: &Session) -> Result<()> {
    let partition = |start: i64| -> Result<Vec<RecordBatch>> {
        let ids: Vec<i64> = (start..ROWS).step_by(4).collect();
        let groups: Vec<i64> = ids.iter().map(|id| id % 5).collect();
        let word = |id: &i64| (id % 7 != 0).then(|| format!("w{}", id % 13));
        let words: Vec<Option<String>> = ids.iter().map(word).collect();
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
            ("grp", Arc::new(Int64Array::from(groups)) as ArrayRef),
            ("word", Arc::new(StringArray::from(words)) as ArrayRef),
        ])?;
        // Several batches a partition, of uneven sizes.
        Ok(vec![
            batch.slice(0, 100),
            batch.slice(100, 0),
            batch.slice(100, 150),
        ])
    };
    let partitions = (0..4).map(partition).collect::<Result<Vec<_>>>()?;
    let schema = partitions[0][0].schema();
    let t = MemTable::try_new(schema, partitions)?;
    session.context.register_table("t", Arc::new(t))?;
    let small = RecordBatch::try_from_iter([
        (
            "id",
            Arc::new(Int64Array::from(vec![1, 2, 3, 400])) as ArrayRef,
        ),
        (
            "name",
            Arc::new(StringArray::from(vec!["w1", "w2", "zzz", "w10"])) as ArrayRef,
        ),
    ])?;
    let s = MemTable::try_new(small.schema(), vec![vec![small]])?;
    session.context.register_table("s", Arc::new(s))?;
    Ok(())
}

const QUERIES: &[&str] = &[
    "SELECT id, echo(id) FROM t",
    "SELECT echo(word) w, echo(id) FROM t",
    "SELECT echo(echo(id) + 1) FROM t",
    "SELECT echo(id + echo(id)), echo(id) FROM t WHERE id < 50",
    "SELECT id FROM t WHERE echo(id) > 990",
    "SELECT id FROM t WHERE echo(id) > 900 AND grp = 2 AND echo(word) LIKE 'w1%'",
    "SELECT id FROM t WHERE echo(id) < 5 OR echo(word) = 'w3'",
    "SELECT id, echo(word) FROM t WHERE echo(word) IS NULL",
    "SELECT echo(word) FROM t WHERE echo(word) IS NOT NULL AND id < 100",
    "SELECT count(*), sum(echo(id)) FROM t",
    "SELECT grp, max(echo(word)), count(echo(word)) FROM t GROUP BY grp",
    "SELECT echo(grp), count(*) FROM t GROUP BY echo(grp)",
    "SELECT echo(grp) g, count(*) FROM t GROUP BY g HAVING sum(echo(id)) > 99000",
    "SELECT echo(grp) + 1, sum(id) FILTER (WHERE echo(word) = 'w2') FROM t GROUP BY 1",
    "SELECT DISTINCT echo(word) FROM t",
    "SELECT count(DISTINCT echo(word)) FROM t",
    "SELECT id, CASE WHEN grp = 1 THEN echo(word) WHEN echo(grp) = 2 THEN 'two' ELSE echo('x' || word) END FROM t",
    "SELECT id, CASE echo(grp) WHEN 0 THEN echo(id) WHEN 1 THEN -echo(id) END FROM t",
    "SELECT CASE WHEN id > 10 THEN CASE WHEN grp = 3 THEN echo(word) END ELSE echo(word) END FROM t",
    "SELECT coalesce(echo(word), 'none'), nullif(echo(grp), 3) FROM t",
    "SELECT id FROM t WHERE id IN (SELECT echo(id) FROM s)",
    "SELECT id FROM t WHERE echo(id) IN (SELECT echo(id) FROM s)",
    "SELECT id FROM t WHERE echo(id) NOT IN (SELECT id FROM s)",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM s WHERE echo(s.id) = t.id)",
    "SELECT id, (SELECT max(echo(id)) FROM s) FROM t WHERE id < 9",
    "SELECT id FROM t WHERE id < (SELECT max(echo(id)) FROM s)",
    "SELECT (SELECT count(echo(s.name)) FROM s WHERE s.id = t.id) FROM t WHERE id < 9",
    "SELECT echo((SELECT min(id) FROM s) + id) FROM t WHERE id < 9",
    "SELECT t.id, s.name FROM t JOIN s ON echo(t.id) = s.id",
    "SELECT t.id, s.name FROM t JOIN s ON echo(t.id) = echo(s.id) AND echo(t.word) = s.name",
    "SELECT t.id, s.name FROM t JOIN s ON t.id = s.id AND echo(t.id + s.id) > 4",
    "SELECT t.id, s.name FROM t LEFT JOIN s ON t.id = s.id AND echo(s.name) = 'w1' WHERE t.id < 9",
    "SELECT t.id, s.name FROM t RIGHT JOIN s ON t.id = s.id AND echo(t.grp) = 2",
    "SELECT t.id, s.name FROM t FULL JOIN s ON t.id = s.id AND echo(t.grp) = 2",
    "SELECT t.id, echo(s.name), echo(t.word) FROM t, s WHERE t.id = s.id",
    "SELECT a.id, echo(b.word) FROM t a JOIN t b ON a.id = b.id + 1 WHERE echo(a.word) = 'w5'",
    "SELECT id, row_number() OVER (PARTITION BY echo(grp) ORDER BY echo(id)) FROM t",
    "SELECT id, sum(echo(id)) OVER (PARTITION BY grp ORDER BY id) FROM t",
    "SELECT id, echo(sum(id) OVER (PARTITION BY grp)) FROM t",
    "SELECT echo(word) FROM t ORDER BY echo(id) DESC LIMIT 7",
    "SELECT id FROM t ORDER BY echo(word) NULLS LAST, id LIMIT 7",
    "SELECT echo(word), id FROM t ORDER BY id LIMIT 7 OFFSET 3",
    "SELECT echo(word) w, grp FROM t ORDER BY grp, w, id LIMIT 40",
    "SELECT v FROM (SELECT echo(id) v, grp FROM t ORDER BY id LIMIT 30) WHERE grp = 1",
    "SELECT v + 1 FROM (SELECT echo(id) v, grp FROM t) q WHERE v > 3 AND grp = 1",
    "WITH q AS (SELECT id, echo(word) v FROM t) SELECT a.v, b.v FROM q a JOIN q b ON a.id = b.id + 500",
    "SELECT echo(id) FROM t WHERE id < 3 UNION ALL SELECT echo(id) FROM s",
    "SELECT echo(id) FROM t WHERE id < 3 UNION SELECT id FROM s",
    "SELECT id FROM t EXCEPT SELECT echo(id) FROM t WHERE grp < 4",
    "SELECT echo('a'), echo(1 + 1), echo(NULL)",
    "SELECT echo('a') FROM t LIMIT 3",
    "SELECT v, echo(v) FROM (VALUES ('a'), (NULL), ('c')) q(v)",
    "SELECT unnest([echo(id), echo(grp)]) FROM t WHERE id < 5",
    "SELECT count(*) FROM (SELECT echo(id) FROM t)",
    "SELECT id FROM (SELECT echo(id), id FROM t)",
    "SELECT echo(CAST(id AS INT)), echo(arrow_cast(word, 'Dictionary(Int32, Utf8)')) FROM t",
    "SELECT echo(id) FROM t WHERE false",
    "SELECT sum(a) FROM (SELECT echo(id) a, echo(grp) b FROM t) GROUP BY b",
    "SELECT grp, array_agg(echo(id) ORDER BY echo(id)) FROM t WHERE id < 20 GROUP BY grp",
];

#[tokio::test]
async fn a_worker_changes_no_result() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    for query in QUERIES {
        let session = session(&pool);
        tables(&session)?;
        let expected = session.sorted(&query.replace("echo(", "coalesce(")).await?;
        assert_eq!(session.meter.items(), 0);
        let found = session.sorted(query).await?;
        assert_eq!(found, expected, "{query}");
    }
    Ok(())
}

/// Column names are those of the expression as written, so that clients see what they asked for.
#[tokio::test]
async fn names_and_types_are_the_functions_own() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session(&pool);
    tables(&session)?;
    let cases = [
        ("SELECT echo(id) FROM t", "echo(t.id)", "Int64"),
        ("SELECT echo(value => word) FROM t", "echo(t.word)", "Utf8"),
        ("SELECT echo(id) AS x FROM t", "x", "Int64"),
        ("SELECT max(echo(id)) FROM t", "max(echo(t.id))", "Int64"),
        (
            "SELECT dicom_tags(arrow_cast(word, 'Binary'), tag => 'Modality') v FROM t",
            "v",
            "Utf8",
        ),
        ("SELECT ecg_rpeaks([id], 500) v FROM t", "v", "List(Int32)"),
        (
            "SELECT echo(word, on_error => 'report') v FROM t",
            "v",
            "Struct(\"value\": Utf8, \"error\": Utf8)",
        ),
    ];
    for (sql, name, data_type) in cases {
        let plan = session.plan(sql).await?;
        let field = plan.schema().field(0).clone();
        assert_eq!(
            (
                field.name().as_str(),
                field.data_type().to_string().as_str()
            ),
            (name, data_type),
            "{sql}"
        );
        let batches = plan.collect().await?;
        assert_eq!(batches[0].schema().field(0).name(), name, "{sql}");
        assert_eq!(
            &batches[0].schema().field(0).data_type().to_string(),
            data_type,
            "{sql}"
        );
    }
    let tags = session
        .plan("SELECT dicom_tags(arrow_cast(word, 'Binary')) FROM t")
        .await?;
    let name = tags.schema().field(0).name().clone();
    assert!(
        name.starts_with("dicom_tags(") && !name.contains("NULL"),
        "{name}"
    );
    Ok(())
}

#[tokio::test]
async fn the_same_call_is_made_once() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let null_words = (0..ROWS).filter(|id| id % 7 == 0).count() as u64;
    let rows = ROWS as u64;
    let grp1 = (0..ROWS).filter(|id| id % 5 == 1).count() as u64;
    let cases = [
        ("SELECT echo(id), echo(id) + 1, -echo(id) FROM t", rows),
        (
            "SELECT echo(id) FROM t WHERE echo(id) >= 0 ORDER BY echo(id)",
            rows,
        ),
        (
            "SELECT echo(id) FROM t WHERE echo(id) >= 0 LIMIT 2000",
            rows,
        ),
        (
            "SELECT echo(id), count(*) FROM t GROUP BY echo(id) HAVING max(echo(id)) > 3",
            rows,
        ),
        // Rows whose argument is NULL are not sent.
        ("SELECT echo(word) FROM t", rows - null_words),
        // Plain predicates come first, and each condition sees only what passed those before.
        ("SELECT echo(id) FROM t WHERE grp = 1", grp1),
        (
            "SELECT id FROM t WHERE echo(word) = 'x' AND grp = 1 AND id % 7 <> 0 AND echo(id) > 0",
            grp1 - (0..ROWS).filter(|id| id % 35 == 21).count() as u64,
        ),
        // A branch costs only the rows that take it.
        ("SELECT CASE WHEN grp = 1 THEN echo(id) END FROM t", grp1),
        (
            "SELECT CASE WHEN grp = 1 THEN 0 ELSE echo(id) END FROM t",
            rows - grp1,
        ),
        (
            "SELECT CASE grp WHEN 0 THEN 1 WHEN 1 THEN echo(id) END FROM t",
            grp1,
        ),
        // What nobody looks at is not computed.
        ("SELECT count(*) FROM (SELECT echo(id) FROM t)", 0),
        // A sort that keeps few rows comes first, if it can.
        (
            "SELECT echo(word), id FROM t WHERE id % 7 <> 0 ORDER BY id DESC LIMIT 5",
            5,
        ),
        ("SELECT echo(echo(id)) FROM t ORDER BY grp, id LIMIT 5", 10),
        ("SELECT echo(id) e FROM t ORDER BY e LIMIT 5", rows),
    ];
    for (sql, expected) in cases {
        let session = session(&pool);
        tables(&session)?;
        session.run(sql).await?;
        assert_eq!(session.meter.items(), expected, "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn order_is_kept() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session(&pool);
    tables(&session)?;
    // The order of a partition is not sorted again above the calls.
    let sql = "SELECT echo(id) FROM (SELECT id FROM t ORDER BY id LIMIT 900)";
    let batches = session.run(sql).await?;
    let ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            let ids = batch
                .column(0)
                .as_any()
                .downcast_ref::<Int64Array>()
                .expect("integers");
            ids.values().to_vec()
        })
        .collect();
    assert_eq!(ids, (0..900).collect::<Vec<i64>>());
    let explained = session
        .sorted(
            "EXPLAIN SELECT id, echo(value => id) FROM (SELECT id FROM t ORDER BY id) ORDER BY id",
        )
        .await?
        .join("\n");
    assert_eq!(explained.matches("SortExec").count(), 1, "{explained}");
    assert!(explained.contains("DispatchExec:echo("), "{explained}");
    Ok(())
}

#[tokio::test]
async fn calls_that_cannot_be_made_say_so() -> Result<()> {
    let worker = TestWorker::start();
    let pool = pool(&[worker.address]);
    let session = session(&pool);
    tables(&session)?;
    let cases = [
        (
            "SELECT echo() FROM t",
            "`echo` needs `value` at line 1, column 8: call it as `echo(value)`",
        ),
        (
            "SELECT\n  ecg_rpeaks([1.0])",
            "`ecg_rpeaks` needs `fs` at line 2, column 3",
        ),
        ("SELECT echo(1, 2, 3)", "takes at most 1 arguments"),
        (
            "SELECT dicom_tags(content => 'x', 'y')",
            "without a name after a named one",
        ),
        (
            "SELECT dicom_tags('x', content => 'y')",
            "got `content` twice",
        ),
        (
            "SELECT dicom_tags(centre => 'y')",
            "has no argument `centre`",
        ),
        (
            "SELECT echo(1, on_error => 'ignore')",
            "'null', 'fail' or 'report'",
        ),
        (
            "SELECT echo(1, on_error => word) FROM t",
            "'null', 'fail' or 'report'",
        ),
        ("SELECT echo(*) FROM t", "plain arguments only"),
        ("SELECT echo(DISTINCT id) FROM t", "plain arguments only"),
        ("SELECT echo(id) OVER () FROM t", "plain arguments only"),
        (
            "SELECT dicom_tags(word) FROM t",
            "`content` of `dicom_tags` must be binary, not Utf8",
        ),
        (
            "SELECT ecg_rpeaks(id, 500) FROM t",
            "must be a list of numbers",
        ),
        (
            "SELECT grp FROM t GROUP BY ROLLUP(grp, echo(word))",
            "`echo` cannot be called in this place",
        ),
        (
            "SELECT * FROM (VALUES (echo('a')))",
            "`echo` cannot be called in this place",
        ),
        (
            "SELECT * FROM t FULL JOIN s ON t.id = s.id AND echo(t.id + s.id) > 4",
            "`echo` cannot be called in this place",
        ),
    ];
    for (sql, text) in cases {
        let error = session.error(sql).await.to_string();
        assert!(error.contains(text), "{sql}\n{error}");
        assert!(
            !error.to_lowercase().contains("internal error"),
            "{sql}\n{error}"
        );
    }
    Ok(())
}
