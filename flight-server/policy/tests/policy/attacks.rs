//! Attempts to learn something of hidden rows, columns and files through the barrier.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::prelude::{SessionConfig, SessionContext};
use hubflight_policy::{Sources, open_table};
use hubflight_rights::habilitation::Tables;

use crate::naive;
use crate::world::{STAYS, World, config, researcher, rows};

/// Attempts to make an expression fail on hidden rows, and on them only: by the clause in which
/// it stands and by what fails.
const ORACLES: &[(&str, &str, &str)] = &[
    (
        "WHERE",
        "cast",
        "SELECT count(*) FROM stays WHERE CAST(note AS INT) > 0",
    ),
    (
        "WHERE",
        "cast",
        "SELECT count(*) FROM stays WHERE CAST(note AS INT) > 0 AND begun >= DATE '2023-01-01'",
    ),
    (
        "WHERE",
        "cast",
        "SELECT count(*) FROM stays WHERE begun >= DATE '2024-07-01' AND CAST(note AS INT) >= 0",
    ),
    (
        "WHERE",
        "arrow_cast",
        "SELECT count(*) FROM stays WHERE arrow_cast(note, 'Int64') >= 0",
    ),
    (
        "WHERE",
        "division",
        "SELECT count(*) FROM stays WHERE 10 / divisor > 1",
    ),
    (
        "WHERE",
        "division",
        "SELECT count(*) FROM stays WHERE 10 % divisor >= 0",
    ),
    (
        "WHERE",
        "overflow",
        "SELECT count(*) FROM stays WHERE CAST(big AS INT) % 7 >= 0",
    ),
    (
        "WHERE",
        "overflow",
        "SELECT count(*) FROM stays WHERE CAST(CAST(big AS DECIMAL(20, 0)) * 10 AS BIGINT) >= 0",
    ),
    (
        "WHERE",
        "cast",
        "SELECT count(*) FROM diagnoses WHERE CAST(note AS INT) >= 0",
    ),
    (
        "SELECT",
        "cast",
        "SELECT n FROM (SELECT CAST(note AS INT) AS n FROM stays) WHERE n >= 0",
    ),
    (
        "SELECT",
        "division",
        "SELECT n FROM (SELECT 10 / divisor AS n FROM stays) WHERE n >= 0",
    ),
    ("SELECT", "cast", "SELECT sum(CAST(note AS INT)) FROM stays"),
    ("SELECT", "cast", "SELECT max(CAST(note AS INT)) FROM stays"),
    ("SELECT", "division", "SELECT sum(10 / divisor) FROM stays"),
    (
        "JOIN",
        "cast",
        "SELECT count(*) FROM stays s JOIN labels l ON s.diagnosis = l.code AND CAST(s.note AS INT) >= 0",
    ),
    (
        "JOIN",
        "cast",
        "SELECT count(*) FROM stays s JOIN labels l ON CAST(s.note AS INT) = length(l.code)",
    ),
    (
        "JOIN",
        "division",
        "SELECT count(*) FROM labels l JOIN stays s ON length(l.code) = 10 / s.divisor",
    ),
    (
        "JOIN",
        "cast",
        "SELECT count(*) FROM diagnoses d JOIN stays s USING (stay) WHERE CAST(d.note AS INT) + CAST(s.note AS INT) >= 0",
    ),
    (
        "CASE",
        "cast",
        "SELECT count(*) FROM stays WHERE CASE WHEN divisor < 9 THEN CAST(note AS INT) ELSE 0 END >= 0",
    ),
    (
        "CASE",
        "division",
        "SELECT sum(CASE WHEN urgent THEN 1 / divisor ELSE 2 / divisor END) FROM stays",
    ),
    (
        "ORDER BY",
        "cast",
        "SELECT stay FROM stays ORDER BY CAST(note AS INT) LIMIT 3",
    ),
    (
        "ORDER BY",
        "division",
        "SELECT stay FROM stays ORDER BY 10 / divisor DESC LIMIT 3",
    ),
    (
        "ORDER BY",
        "cast",
        "SELECT n FROM (SELECT CAST(note AS INT) AS n FROM stays ORDER BY CAST(note AS INT)) WHERE n >= 0",
    ),
    (
        "HAVING",
        "cast",
        "SELECT note FROM stays GROUP BY note HAVING CAST(note AS INT) >= 0",
    ),
    (
        "HAVING",
        "cast",
        "SELECT diagnosis FROM stays GROUP BY diagnosis HAVING min(CAST(note AS INT)) >= 0",
    ),
    (
        "subquery",
        "division",
        "SELECT count(*) FROM labels WHERE length(code) IN (SELECT divisor FROM stays WHERE 10 / divisor > 0)",
    ),
    (
        "subquery",
        "cast",
        "SELECT count(*) FROM labels l WHERE length(l.code) IN (SELECT CAST(note AS INT) FROM stays)",
    ),
    (
        "subquery",
        "cast",
        "SELECT count(*) FROM (SELECT note FROM stays WHERE divisor > 0) WHERE CAST(note AS INT) >= 0",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_expression_is_evaluated_on_hidden_rows() {
    for world in [World::new().await, World::keeping(1 << 20).await] {
        for pushdown in [false, true] {
            let ctx = world.session(&researcher(), config(pushdown));
            for (_, _, sql) in ORACLES {
                if let Err(error) = rows(&ctx, sql).await {
                    panic!("{sql} sees hidden rows: {error}");
                }
            }
        }
    }
}

/// The same attempts without the barrier: every clause and every way to fail must leak by one
/// of them, or the test above would prove nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_barrier_the_oracles_leak() {
    let world = World::new().await;
    let mut leaks = BTreeSet::new();
    let mut value_shown = false;
    for pushdown in [false, true] {
        for ctx in unguarded(&world, config(pushdown)).await {
            for (place, kind, sql) in ORACLES {
                if let Err(error) = rows(&ctx, sql).await {
                    leaks.extend([*place, *kind]);
                    value_shown |= error.to_string().contains("hidden-");
                }
            }
        }
    }
    assert!(
        value_shown,
        "no attempt shows a hidden value: they are too tame"
    );
    for class in ORACLES.iter().flat_map(|(place, kind, _)| [place, kind]) {
        assert!(
            leaks.contains(class),
            "no attempt by {class} leaks: {leaks:?}"
        );
    }
}

/// The policy as views, and as a filter in the table's scan.
pub async fn unguarded(world: &World, config: SessionConfig) -> [SessionContext; 2] {
    let views = SessionContext::new_with_config(config.clone());
    for table in ["stays", "diagnoses", "labels"] {
        let source = world.source("hospital", table).unwrap();
        views
            .register_table(format!("raw_{table}"), source)
            .unwrap();
    }
    for view in [
        "CREATE VIEW stays AS SELECT * FROM raw_stays WHERE begun >= DATE '2024-07-01'",
        naive::DIAGNOSES,
        "CREATE VIEW labels AS SELECT * FROM raw_labels",
    ] {
        views.sql(view).await.unwrap().collect().await.unwrap();
    }
    let scans = naive::session(world, config);
    scans
        .sql(naive::DIAGNOSES)
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    [views, scans]
}

/// COUNT, MIN and MAX from the statistics of files, which count hidden rows.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_answer_for_visible_rows() {
    let mut visible = crate::world::stays();
    visible.retain(|stay| stay.divisor > 0);
    let biggest = visible.iter().map(|stay| stay.big).max().unwrap();
    let attacks = [
        ("SELECT count(*) FROM stays", visible.len().to_string()),
        ("SELECT count(note) FROM stays", visible.len().to_string()),
        ("SELECT max(big) FROM stays", biggest.to_string()),
        ("SELECT min(begun) FROM stays", "2024-07-01".to_owned()),
        ("SELECT min(divisor) FROM stays", "1".to_owned()),
    ];
    let worlds = [World::new().await, World::keeping(1 << 20).await];
    for (sql, expected) in &attacks {
        for world in &worlds {
            let ctx = world.session(&researcher(), config(true));
            assert_eq!(
                &rows(&ctx, sql).await.unwrap(),
                std::slice::from_ref(expected),
                "{sql}"
            );
        }
        let [_, naive] = unguarded(&worlds[0], config(true)).await;
        assert_ne!(
            &rows(&naive, sql).await.unwrap(),
            std::slice::from_ref(expected),
            "{sql} is too tame"
        );
    }
}

/// A predicate on a masked column must see the mask: department `75` for commune `75056`.
#[tokio::test(flavor = "multi_thread")]
async fn predicates_on_masked_columns_see_the_mask() {
    let world = World::new().await;
    for pushdown in [false, true] {
        let ctx = world.session(&researcher(), config(pushdown));
        let [_, naive] = unguarded(&world, config(pushdown)).await;
        for predicate in [
            "commune = '75056'",
            "commune IN ('75056', '13055')",
            "commune LIKE '7505%'",
            "commune > '750' AND commune < '751'",
            "NOT (commune <> '75056')",
        ] {
            let sql = format!("SELECT count(*) FROM stays WHERE {predicate}");
            assert_eq!(rows(&ctx, &sql).await.unwrap(), ["0"], "{predicate}");
            assert_ne!(
                rows(&naive, &sql).await.unwrap(),
                ["0"],
                "{predicate} is too tame"
            );
        }
    }
}

/// What a catalogue tells: columns that are not granted, and the text of the policy.
#[tokio::test(flavor = "multi_thread")]
async fn the_information_schema_knows_the_view_only() {
    let world = World::new().await;
    let config = config(true).with_information_schema(true);
    let ctx = world.session(&researcher(), config.clone());
    let [views, _] = unguarded(&world, config).await;
    for (sql, word) in [
        (
            "SELECT column_name FROM information_schema.columns",
            "secret",
        ),
        (
            "SELECT table_name, definition FROM information_schema.views",
            "2024-07-01",
        ),
        ("DESCRIBE stays", "secret"),
    ] {
        let text = rows(&ctx, sql).await.unwrap().join("\n");
        assert!(!text.contains(word), "{sql} shows `{word}`: {text}");
        let text = rows(&views, sql).await.unwrap().join("\n");
        assert!(text.contains(word), "{sql} is too tame: {text}");
    }
}

/// No setting opens the barrier: each switch of the optimiser and of the Parquet reader, turned.
#[tokio::test(flavor = "multi_thread")]
async fn no_setting_opens_the_barrier() {
    let world = World::new().await;
    let config = config(false).with_information_schema(true);
    let ctx = world.session(&researcher(), config.clone());
    let switches = "SELECT name, value FROM information_schema.df_settings \
                    WHERE value IN ('true', 'false') AND (name LIKE 'datafusion.optimizer.%' \
                    OR name LIKE 'datafusion.execution.parquet.%') ORDER BY 1";
    let switches = rows(&ctx, switches).await.unwrap();
    assert!(switches.len() > 20, "{switches:?}");
    let (mut leaks, mut tried) = (0, 0);
    for switch in &switches {
        let (name, value) = switch.split_once('|').unwrap();
        // Changes the types of every plan's output, the one inside too, which is refused.
        if name.ends_with("expand_views_at_output") {
            continue;
        }
        let turned = if value == "true" { "false" } else { "true" };
        let set = format!("SET {name} = {turned}");
        let ctx = world.session(&researcher(), config.clone());
        let [views, scans] = unguarded(&world, config.clone()).await;
        for ctx in [&ctx, &views, &scans] {
            ctx.sql(&set).await.unwrap().collect().await.unwrap();
        }
        for sql in [
            "SELECT count(*) FROM stays WHERE CAST(note AS INT) >= 0",
            "SELECT count(*) FROM stays WHERE 10 / divisor >= 0",
        ] {
            let answer = rows(&ctx, sql).await;
            assert!(answer.is_ok(), "{set}: {sql}: {answer:?}");
            let leaky = rows(&views, sql).await.is_err() || rows(&scans, sql).await.is_err();
            leaks += usize::from(leaky);
            tried += 1;
        }
    }
    assert!(
        leaks * 2 > tried,
        "without the barrier only {leaks} of {tried} leak"
    );
}

/// EXPLAIN in every form, of queries that read, join, filter and sort.
/// The text without durations and times of day, whose digits may be any.
fn without_times(text: &str) -> String {
    let is_time = |word: &str| {
        let word = word.trim_end_matches([',', ']', ' ', '\n', '=']);
        let number = word.trim_end_matches(|c: char| c.is_alphabetic());
        let unit = word.get(number.len()..).unwrap_or_default();
        let is_number = number.starts_with(|c: char| c.is_ascii_digit());
        is_number && (matches!(unit, "ns" | "µs" | "ms" | "s") || number.contains(':'))
    };
    let words = text.split_inclusive([',', ']', ' ', '\n', '=']);
    words.filter(|word| !is_time(word)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_the_view_only() {
    let world = World::new().await;
    let mut habilitation = researcher();
    habilitation.persons = Some(crate::world::cohort());
    let ctx = world.session(&habilitation, config(true));
    let [views, _] = unguarded(&world, config(true)).await;
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
            let text = without_times(&rows(&ctx, &sql).await.unwrap().join("\n"));
            assert!(text.contains("stays"), "{sql} explains nothing: {text}");
            for word in hidden {
                assert!(!text.contains(word), "{sql} shows `{word}`:\n{text}");
            }
        }
        let sql = format!("{explain} SELECT stay FROM stays WHERE urgent");
        let text = rows(&views, &sql).await.unwrap().join("\n");
        let shown = hidden.iter().any(|word| text.contains(*word));
        assert!(shown, "{sql} is too tame: {text}");
        // The volume that was read: rows of the files, hidden ones included.
        let volume = !explain.contains("ANALYZE") || text.contains("20.01");
        assert!(volume, "{sql} does not tell the rows read: {text}");
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
    let open = unguarded(&world, config(true)).await;
    for part in ["part-0.parquet", "part-1.parquet"] {
        let file = world.dir.path().join("hospital/stays").join(part);
        // A footer of four bytes that says nothing.
        std::fs::write(file, b"PAR1....\x04\0\0\0PAR1").unwrap();
    }
    let path = world.dir.path().display().to_string();
    let words = [path.trim_start_matches('/'), "parquet", "Parquet", "begun"];
    for sql in [
        "SELECT * FROM stays",
        "SELECT note FROM stays",
        "SELECT * FROM diagnoses",
    ] {
        let text = rows(&ctx, sql).await.unwrap_err().to_string();
        for word in words {
            assert!(!text.contains(word), "{sql}: `{word}` in {text}");
        }
        assert!(text.contains("could not be read"), "{text}");
        // Without the barrier they speak of them.
        for ctx in &open {
            let text = rows(ctx, sql).await.unwrap_err().to_string();
            assert!(words.iter().any(|word| text.contains(word)), "{text}");
        }
    }
    for part in ["part-0.parquet", "part-1.parquet"] {
        std::fs::remove_file(world.dir.path().join("hospital/stays").join(part)).unwrap();
    }
    let sql = "SELECT note FROM stays";
    for ctx in &open {
        let text = rows(ctx, sql).await.unwrap_err().to_string();
        assert!(text.contains(words[0]), "{text}");
    }
    let text = rows(&ctx, sql).await.unwrap_err().to_string();
    assert!(!words.iter().any(|word| text.contains(word)), "{text}");
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
