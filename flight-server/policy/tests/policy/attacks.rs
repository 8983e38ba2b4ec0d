//! Attempts to learn something of hidden rows, columns and files through the barrier.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::prelude::SessionContext;
use hubflight_policy::habilitation::Tables;
use hubflight_policy::{Sources, open_table};

use crate::world::{STAYS, World, config, researcher, rows};

/// Each makes DataFusion evaluate an expression that fails on hidden rows and on them only.
const ORACLES: &[&str] = &[
    "SELECT count(*) FROM stays WHERE CAST(note AS INT) > 0",
    "SELECT count(*) FROM stays WHERE CAST(note AS INT) > 0 AND begun >= DATE '2023-01-01'",
    "SELECT count(*) FROM stays WHERE arrow_cast(note, 'Int64') >= 0",
    "SELECT sum(CAST(note AS INT)) FROM stays",
    "SELECT count(*) FROM stays WHERE 10 / divisor > 1",
    "SELECT count(*) FROM stays WHERE 10 % divisor >= 0",
    "SELECT sum(10 / divisor) FROM stays",
    "SELECT count(*) FROM stays s JOIN labels l ON CAST(s.note AS INT) = length(l.code)",
    "SELECT count(*) FROM labels l JOIN stays s ON length(l.code) = 10 / s.divisor",
    "SELECT count(*) FROM labels l WHERE length(l.code) IN (SELECT CAST(note AS INT) FROM stays)",
    "SELECT count(*) FROM stays WHERE CASE WHEN divisor < 9 THEN CAST(note AS INT) ELSE 0 END >= 0",
    "SELECT sum(CASE WHEN urgent THEN 1 / divisor ELSE 2 / divisor END) FROM stays",
    "SELECT stay FROM stays ORDER BY CAST(note AS INT) LIMIT 3",
    "SELECT stay FROM stays ORDER BY 10 / divisor DESC LIMIT 3",
    "SELECT diagnosis FROM stays GROUP BY diagnosis HAVING min(CAST(note AS INT)) >= 0",
    "SELECT max(CAST(note AS INT)) FROM stays",
    "SELECT count(*) FROM (SELECT note FROM stays WHERE divisor > 0) WHERE CAST(note AS INT) >= 0",
    "SELECT count(*) FROM stays WHERE begun >= DATE '2024-07-01' AND CAST(note AS INT) >= 0",
    "SELECT count(*) FROM diagnoses WHERE CAST(note AS INT) >= 0",
    "SELECT count(*) FROM diagnoses d JOIN stays s USING (stay) WHERE CAST(d.note AS INT) + CAST(s.note AS INT) >= 0",
    "SELECT count(*) FROM stays WHERE CAST(CAST(big AS DECIMAL(20, 0)) * 10 AS BIGINT) >= 0",
    "SELECT count(*) FROM stays WHERE CAST(big AS INT) >= 0",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_expression_is_evaluated_on_hidden_rows() {
    let world = World::new().await;
    for pushdown in [false, true] {
        let ctx = world.session(&researcher(), config(pushdown));
        for sql in ORACLES {
            if let Err(error) = rows(&ctx, sql).await {
                panic!("{sql} sees hidden rows: {error}");
            }
        }
    }
}

/// The same attempts on a view of the same rows: if they all failed to leak there, the test
/// above would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_barrier_the_oracles_leak() {
    let world = World::new().await;
    let mut leaks = BTreeSet::new();
    let mut value_shown = false;
    for pushdown in [false, true] {
        let ctx = with_views(&world, pushdown).await;
        for sql in ORACLES {
            if let Err(error) = rows(&ctx, sql).await {
                leaks.insert(*sql);
                value_shown |= error.to_string().contains("hidden-");
            }
        }
    }
    assert!(
        value_shown,
        "no attempt shows a hidden value: they are too tame"
    );
    assert!(leaks.len() >= 8, "too few attempts leak: {leaks:#?}");
}

async fn with_views(world: &World, pushdown: bool) -> SessionContext {
    let ctx = SessionContext::new_with_config(config(pushdown));
    for table in ["stays", "diagnoses", "labels"] {
        let source = world.source("hospital", table).unwrap();
        ctx.register_table(format!("raw_{table}"), source).unwrap();
    }
    for view in [
        "CREATE VIEW stays AS SELECT * FROM raw_stays WHERE begun >= DATE '2024-07-01'",
        "CREATE VIEW diagnoses AS SELECT d.* FROM raw_diagnoses d LEFT SEMI JOIN stays s ON d.stay = s.stay",
        "CREATE VIEW labels AS SELECT * FROM raw_labels",
    ] {
        ctx.sql(view).await.unwrap().collect().await.unwrap();
    }
    ctx
}

/// EXPLAIN in every form, of queries that read, join, filter and sort.
#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_the_view_only() {
    let world = World::new().await;
    let mut habilitation = researcher();
    habilitation.persons = Some(crate::world::cohort());
    let ctx = world.session(&habilitation, config(true));
    let path = world.dir.path().display().to_string();
    let hidden = [
        path.trim_start_matches('/'),
        ".parquet",
        "secret",
        "cohort",
        "persons",
        "birth",
        "1970",
        "2024-07-01",
        "19905",
        &STAYS.to_string(),
        "20.01",
        "parent",
        "DataSource",
        "file_groups",
        "pseudonym(",
        "mask(",
        "FilterExec: begun",
        "hidden-",
    ];
    for explain in [
        "EXPLAIN",
        "EXPLAIN VERBOSE",
        "EXPLAIN ANALYZE",
        "EXPLAIN ANALYZE VERBOSE",
        "EXPLAIN FORMAT INDENT",
        "EXPLAIN FORMAT TREE",
        "EXPLAIN FORMAT PGJSON",
        "EXPLAIN FORMAT GRAPHVIZ",
    ] {
        for query in [
            "SELECT * FROM stays",
            "SELECT count(*), min(begun), max(note) FROM stays WHERE diagnosis = 'I07'",
            "SELECT s.stay, d.code FROM stays s JOIN diagnoses d ON s.stay = d.stay",
            // Its dynamic filter shows visible dates; the first of them is the policy's own.
            "SELECT a.stay FROM stays a JOIN stays b ON a.begun = b.begun AND a.divisor = b.divisor ORDER BY a.begun DESC LIMIT 3",
        ] {
            let sql = format!("{explain} {query}");
            let text = rows(&ctx, &sql).await.unwrap().join("\n");
            assert!(text.contains("stays"), "{sql} explains nothing: {text}");
            for word in hidden {
                assert!(!text.contains(word), "{sql} shows `{word}`:\n{text}");
            }
        }
    }
}

/// Errors of the user's own making speak of visible values only; errors from inside (a file
/// that vanished) speak of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn errors_do_not_speak_of_files() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    assert_eq!(
        rows(&ctx, "SELECT count(*) FROM diagnoses")
            .await
            .unwrap()
            .len(),
        1
    );
    for part in ["part-0.parquet", "part-1.parquet"] {
        let file = world.dir.path().join("hospital/stays").join(part);
        std::fs::write(file, b"PAR1 no more PAR1").unwrap();
    }
    for sql in [
        "SELECT * FROM stays",
        "SELECT note FROM stays",
        "SELECT * FROM diagnoses",
    ] {
        let text = rows(&ctx, sql).await.unwrap_err().to_string();
        let path = world.dir.path().display().to_string();
        for word in [path.trim_start_matches('/'), "parquet", "Parquet", "begun"] {
            assert!(!text.contains(word), "{sql}: `{word}` in {text}");
        }
        assert!(text.contains("could not be read"), "{text}");
    }
}

/// Functions of the barrier cannot be called, and hidden columns cannot be named through
/// structs, wildcards or system columns.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_barrier_has_a_name() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    for sql in [
        "SELECT pseudonym(begun) FROM stays",
        "SELECT mask(note) FROM stays",
        "SELECT t.secret FROM stays",
        "SELECT stays.secret FROM stays",
        "SELECT * EXCEPT (secret) FROM stays",
        "SELECT * FROM cohort",
        "SELECT * FROM parent1",
    ] {
        assert!(rows(&ctx, sql).await.is_err(), "{sql}");
    }
    let columns = ctx.table("stays").await.unwrap().schema().clone();
    assert!(!columns.has_column_with_unqualified_name("secret"));
    assert_eq!(columns.fields().len(), 11);
}

/// A child table that declares no column shows the key to its parent as the parent does.
#[tokio::test(flavor = "multi_thread")]
async fn an_undeclared_key_to_the_person_is_no_raw_identifier() {
    let mut world = World::new().await;
    let mut dataset = crate::world::hospital();
    dataset.tables[1].columns.clear();
    dataset.validate().unwrap();
    world.datasets[0] = Arc::new(dataset);
    let everything = crate::world::habilitation("readmission", Tables::All);
    let keys = crate::world::keys("readmission");
    let opened = open_table(&world, &everything, "diagnoses", &keys);
    assert!(!opened.unwrap().unwrap().is_unrestricted());
    let ctx = world.session(&everything, config(true));
    for sql in [
        "SELECT count(*) FROM diagnoses WHERE length(stay) <> 26",
        "SELECT count(*) FROM diagnoses d LEFT ANTI JOIN stays s ON d.stay = s.stay",
    ] {
        assert_eq!(rows(&ctx, sql).await.unwrap(), ["0"], "{sql}");
    }
}
