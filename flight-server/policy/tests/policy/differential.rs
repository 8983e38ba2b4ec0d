//! A query by a restricted user gives the same rows, or the same class of error, as the same
//! query on a physically filtered copy.

use hubflight_rights::habilitation::Tables;

use crate::world::{self, Outcome, World, config, filtered_copy, outcome, researcher};

/// Queries that succeed on the copy.
const QUERIES: &[&str] = &[
    "SELECT * FROM stays",
    "SELECT count(*) FROM stays",
    "SELECT count(*), count(person), count(commune), count(DISTINCT stay) FROM stays",
    "SELECT min(begun), max(begun), min(big), max(big), min(divisor), max(divisor) FROM stays",
    "SELECT min(note), max(note), min(commune), max(commune), min(departed) FROM stays",
    "SELECT * FROM stays WHERE begun < DATE '2024-07-01'",
    "SELECT stay, begun FROM stays WHERE begun >= DATE '2025-01-01' AND diagnosis = 'I07'",
    "SELECT stay FROM stays WHERE diagnosis IN ('I07', 'I08', 'I99') AND urgent",
    "SELECT stay FROM stays WHERE NOT (urgent OR score > 5.0)",
    "SELECT stay FROM stays WHERE score BETWEEN 2.0 AND 3.0",
    "SELECT stay FROM stays WHERE score NOT BETWEEN 2.0 AND 3.0 OR commune IS NULL",
    "SELECT count(*) FROM stays WHERE commune = '97411'",
    "SELECT count(*) FROM stays WHERE commune = '974'",
    "SELECT commune, count(*) FROM stays GROUP BY commune",
    "SELECT count(*) FROM stays WHERE commune >= '75' AND commune < '750'",
    "SELECT departed, count(*) FROM stays WHERE departed = DATE '2024-01-01' GROUP BY departed",
    "SELECT count(*) FROM stays WHERE departed > DATE '2024-01-01'",
    "SELECT stay FROM stays WHERE CAST(note AS INT) > 50",
    "SELECT CAST(note AS INT) AS n, count(*) FROM stays GROUP BY n",
    "SELECT sum(CAST(note AS INT)) FROM stays",
    "SELECT stay FROM stays WHERE 100 / divisor > 30",
    "SELECT sum(100 % divisor) FROM stays",
    "SELECT max(big + 1000) FROM stays",
    "SELECT stay FROM stays ORDER BY CAST(note AS INT) DESC, stay LIMIT 10",
    "SELECT begun, stay FROM stays ORDER BY begun, stay LIMIT 25",
    "SELECT begun, stay FROM stays ORDER BY begun DESC, stay LIMIT 25 OFFSET 5",
    "SELECT count(*) FROM (SELECT * FROM stays LIMIT 100)",
    "SELECT CASE WHEN CAST(note AS INT) > 90 THEN 'high' ELSE 'low' END AS c, count(*) FROM stays GROUP BY c",
    "SELECT diagnosis FROM stays GROUP BY diagnosis HAVING max(CAST(note AS INT)) = 99",
    "SELECT count(*) FROM diagnoses",
    "SELECT code, count(*) FROM diagnoses GROUP BY code",
    "SELECT count(*) FROM diagnoses WHERE CAST(note AS INT) >= 0",
    "SELECT s.diagnosis, d.code, count(*) FROM stays s JOIN diagnoses d ON s.stay = d.stay GROUP BY 1, 2",
    "SELECT count(*) FROM diagnoses WHERE stay NOT IN (SELECT stay FROM stays)",
    "SELECT l.label, count(*) FROM stays s JOIN labels l ON l.code = s.diagnosis WHERE l.label < 'label of I20' GROUP BY 1",
    "SELECT count(*) FROM stays s JOIN labels l ON CAST(s.note AS INT) = CAST(substr(l.code, 2) AS INT)",
    "SELECT count(*) FROM stays a JOIN stays b ON a.divisor = b.divisor AND a.begun = b.begun",
    "SELECT max(begun) FROM stays WHERE begun < (SELECT avg(CAST(begun AS INT)) FROM stays)::INT::DATE",
    "SELECT person, count(*) AS n FROM stays GROUP BY person ORDER BY n DESC, person LIMIT 5",
    "SELECT count(*) FROM stays WHERE person IS NULL",
    "SELECT count(*) FROM stays WHERE stay = 'x' OR NOT (stay = 'y')",
    "SELECT count(*) FROM stays WHERE NOT (person = 'aaaaaaaaaaaaaaaaaaaaaaaaaa')",
    "SELECT row_number() OVER (PARTITION BY diagnosis ORDER BY begun, stay) AS r, stay FROM stays WHERE urgent",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT r.n + 1 FROM r JOIN stays s ON s.divisor = r.n WHERE r.n < 3 AND s.stay IN (SELECT min(stay) FROM stays GROUP BY divisor)) SELECT n, count(*) FROM r GROUP BY n",
    "SELECT * FROM stays WHERE false",
    "SELECT count(*) FROM stays WHERE score = 'NaN'::DOUBLE OR score < 'inf'::DOUBLE",
];

/// Queries that fail on the copy, each in its own way.
const FAILURES: &[&str] = &[
    "SELECT CAST(diagnosis AS INT) FROM stays",
    "SELECT stay FROM stays WHERE CAST(diagnosis AS INT) > 0",
    "SELECT 1 / (divisor - divisor) FROM stays",
    "SELECT CAST(100000 + divisor AS SMALLINT) FROM stays",
    "SELECT secret FROM stays",
    "SELECT * FROM stays WHERE secret = 4242",
    "SELECT * FROM persons",
    "SELECT arrow_cast(diagnosis, 'Int32') FROM stays",
];

async fn compare(world: &World, born_before: Option<i32>) {
    let mut habilitation = researcher();
    habilitation.persons = born_before.map(|_| world::cohort());
    for pushdown in [false, true] {
        let restricted = world.session(&habilitation, config(pushdown));
        let copy = filtered_copy(world.dir.path(), config(pushdown), born_before).await;
        for sql in QUERIES {
            let expected = outcome(&copy, sql).await;
            assert!(matches!(expected, Outcome::Rows(_)), "{sql}: {expected:?}");
            let actual = outcome(&restricted, sql).await;
            assert!(
                actual == expected,
                "{sql}: {}",
                difference(&actual, &expected)
            );
        }
        for sql in FAILURES {
            let expected = outcome(&copy, sql).await;
            assert!(
                matches!(expected, Outcome::Error(_)),
                "{sql} succeeds on the copy"
            );
            let actual = outcome(&restricted, sql).await;
            // A predicate that fails inside the reader of the copy's files is told as theirs.
            if pushdown {
                assert!(matches!(actual, Outcome::Error(_)), "{sql} succeeds");
            } else {
                assert_eq!(actual, expected, "{sql}");
            }
        }
    }
}

fn difference(actual: &Outcome, expected: &Outcome) -> String {
    match (actual, expected) {
        (Outcome::Rows(actual), Outcome::Rows(expected)) => format!(
            "{} rows instead of {}; first {:?} instead of {:?}",
            actual.len(),
            expected.len(),
            actual.first(),
            expected.first()
        ),
        _ => format!("{actual:?}").chars().take(200).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_filter_masks_and_pseudonyms() {
    compare(&World::new().await, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_cohort_from_a_hidden_table() {
    compare(&World::new().await, Some(1970)).await;
}

/// Where the visible rows are found once and kept.
#[tokio::test(flavor = "multi_thread")]
async fn with_rows_that_are_kept() {
    let world = World::keeping(1 << 20).await;
    compare(&world, Some(1970)).await;
    assert_eq!(world.selections.map(|kept| kept.len()), Some(2));
}

/// Where every row is visible and only identifiers are re-keyed, nothing may change either.
#[tokio::test(flavor = "multi_thread")]
async fn all_rows_with_pseudonyms() {
    let world = World::new().await;
    let habilitation = world::habilitation("readmission", Tables::All);
    let restricted = world.session(&habilitation, config(true));
    let raw = datafusion::prelude::SessionContext::new_with_config(config(true));
    for ((dataset, table), source) in &world.sources {
        if dataset == "hospital" {
            raw.register_table(table, source.clone()).unwrap();
        }
    }
    for sql in [
        "SELECT count(*), min(begun), max(score), sum(big / 2) FROM stays",
        "SELECT note, count(*) FROM stays WHERE commune LIKE '97%' AND begun > DATE '2024-01-01' GROUP BY note",
        "SELECT count(DISTINCT person), count(person) FROM stays",
        "SELECT s.diagnosis, count(*) FROM stays s JOIN diagnoses d ON s.stay = d.stay GROUP BY 1",
        "SELECT CAST(note AS INT) FROM stays",
        "SELECT 1 / divisor FROM stays",
    ] {
        assert_eq!(
            outcome(&restricted, sql).await,
            outcome(&raw, sql).await,
            "{sql}"
        );
    }
}
