//! Errors as an oracle: in aggregate mode, a condition that fails on the rows of one person
//! would tell by its error that there is such a person.

use hubflight_rights::habilitation::Tables;

use crate::aggregate::Hub;
use crate::world::{World, config, habilitation};

/// Conditions that fail on every row that reaches them.
const FAILING: &[(&str, &str)] = &[
    ("substr(note, 1, -1) = 'a'", "out of range"),
    ("substr('abc', 1, -1) = 'a'", "negative"),
    ("date_trunc('nonsense', begun) = begun", "no part"),
    ("date_part('nonsense', begun) = 1", "no part"),
    ("begun + INTERVAL '400000 years' > begun", "calculates with"),
    ("CAST('hidden-' || note AS INT) = 1", "TRY_CAST"),
    ("note > 5", "TRY_CAST"),
    ("note = divisor AND urgent", "TRY_CAST"),
    ("1 / (divisor - divisor) = 1", "division"),
    ("1 / 0 = divisor", "zero"),
    (
        "CAST(divisor + 100 AS DECIMAL(38, 0)) * CAST('10000000000000000000000000000000000000' AS DECIMAL(38, 0)) > 0",
        "calculates with",
    ),
    (
        "CAST(TRY_CAST(divisor + 4000000 AS DATE) AS TIMESTAMP) > now()",
        "TRY_CAST",
    ),
];

/// Conditions that fail on some values, present or not.
const FALLIBLE: &[(&str, &str)] = &[
    ("CAST(big + 9000000000000000000 AS INT) + 1 > 0", "TRY_CAST"),
    ("CAST('x' AS INT) > 0", "Cannot cast"),
    ("big / -1 = 1", "division"),
    ("big % -1 = 0", "division"),
    ("big / divisor = 1", "division"),
    ("begun = TIMESTAMP '2024-01-01 00:00:00'", "TRY_CAST"),
    (
        "begun > CAST(begun AS TIMESTAMP) - INTERVAL '1 day'",
        "TRY_CAST",
    ),
    ("CAST(begun AS VARCHAR) = '2024-01-01'", "TRY_CAST"),
    ("TRY_CAST(begun AS VARCHAR) = '2024-01-01'", "not available"),
    ("TRY_CAST(divisor AS DATE) > begun", "not available"),
    ("TRY_CAST(note AS TIMESTAMP) > begun", "not available"),
    ("round(big, -18) = 0", "Int64"),
    ("round(score, divisor) = 0", "constants besides"),
    ("left(note, divisor) = 'a'", "constants besides"),
    ("left(note, -9223372036854775807) = 'a'", "out of range"),
    ("substr(note, divisor) = 'a'", "constants besides"),
    ("strpos(note, commune) = 1", "constants besides"),
    ("date_part('hour', begun) = 1", "no part"),
    ("date_part(note, begun) = 1", "constant string"),
    ("note LIKE commune", "constant pattern"),
    ("-CAST(score AS DECIMAL(10, 2)) < 0", "calculates with"),
];

fn asked(person_like: &str, condition: &str) -> String {
    format!("SELECT count(*) FROM stays WHERE diagnosis = '{person_like}' AND {condition}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_could_fail_on_a_row_is_refused_whatever_the_rows() {
    let hub = Hub::new().await;
    for (condition, said) in FAILING.iter().chain(FALLIBLE) {
        let present = hub.refusal(&asked("I07", condition)).await;
        let absent = hub.refusal(&asked("nobody", condition)).await;
        assert!(present.contains(said), "{condition}: {present}");
        assert_eq!(
            present.replace("I07", "nobody"),
            absent,
            "{condition}: the answers differ"
        );
    }
}

/// The control: without protection, each of these errors tells whether a row is there.
#[tokio::test(flavor = "multi_thread")]
async fn without_protection_the_error_tells() {
    let world = World::new().await;
    let ctx = world.session(&habilitation("open", Tables::All), config(true));
    let ask = async |sql: String| ctx.sql(&sql).await?.collect().await;
    for (condition, _) in FAILING {
        let present = ask(asked("I07", condition)).await;
        assert!(present.is_err(), "{condition} fails on no row");
        let absent = ask(asked("nobody", condition)).await;
        assert!(absent.is_ok(), "{condition} fails without rows: {absent:?}");
    }
}

/// A long pattern becomes a regular expression that is too large, when the first text comes.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_refused_whatever_the_rows() {
    let hub = Hub::new().await;
    let long = "_".repeat(200_000);
    let world = World::new().await;
    let open = world.session(&habilitation("open", Tables::All), config(true));
    for condition in [
        format!("note LIKE '{long}'"),
        format!("note ILIKE '{long}'"),
        format!("starts_with(note, '{long}')"),
    ] {
        for who in ["I07", "nobody"] {
            let refused = hub.refusal(&asked(who, &condition)).await;
            assert!(refused.contains("too long"), "{refused}");
        }
        let like = condition.contains("LIKE");
        let unprotected = open.sql(&asked("I07", &condition)).await.unwrap();
        assert_eq!(unprotected.collect().await.is_err(), like, "the control");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_measures_that_could_fail_are_refused() {
    let hub = Hub::new().await;
    for (sql, said) in [
        (
            "SELECT count(*) FROM stays s JOIN labels l ON l.code = s.divisor",
            "primary key",
        ),
        (
            "SELECT count(*) FROM stays a, stays b WHERE a.person = b.person AND a.note = b.divisor",
            "TRY_CAST",
        ),
        (
            "SELECT count(*) FROM stays WHERE divisor IN (SELECT code FROM labels)",
            "TRY_CAST",
        ),
        (
            "SELECT count(*) FROM stays WHERE divisor IN (SELECT CAST(code AS INT) FROM labels)",
            "TRY_CAST",
        ),
        (
            "SELECT count(*) FROM stays s JOIN (SELECT code, 1 / (length(code) - 3) AS one \
             FROM labels) l ON l.code = s.diagnosis",
            "division",
        ),
        (
            "SELECT count(*) FROM stays s JOIN (SELECT code FROM labels WHERE CAST(label AS INT) = 1) l \
             ON l.code = s.diagnosis",
            "TRY_CAST",
        ),
        (
            "SELECT sum(CASE WHEN urgent THEN CAST(note AS INT) END) FROM stays",
            "TRY_CAST",
        ),
        (
            "SELECT count(*) FILTER (WHERE 1 / divisor > 0) FROM stays",
            "division",
        ),
        (
            "SELECT CAST(note AS INT), count(*) FROM stays GROUP BY 1",
            "TRY_CAST",
        ),
        (
            "SELECT avg(a) FROM (SELECT person, avg(CAST(divisor AS DECIMAL(38, 0))) AS a \
             FROM stays GROUP BY person)",
            "fails on some values",
        ),
    ] {
        let refused = hub.refusal(sql).await;
        assert!(refused.contains(said), "{sql}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_fail_is_answered() {
    let hub = Hub::new().await;
    for condition in [
        "TRY_CAST(note AS INT) > -1000000 OR note IS NOT NULL",
        "divisor / 2 < 1000000",
        "CAST(divisor AS DOUBLE) / divisor < 2 OR divisor = 0",
        "begun >= '2020-01-01'",
        "begun - DATE '2020-01-01' > 0",
        "begun > DATE '2020-03-01' - INTERVAL '30 days'",
        "date_trunc('year', begun) >= DATE '2020-01-01'",
        "substr(diagnosis, 1, 1) = 'I'",
        "round(score, 1) < 1000 OR score IS NULL",
        "big * 2 > 0 OR big <= 0 OR big > 0",
        "CAST(divisor AS VARCHAR) <> ''",
        "diagnosis LIKE 'I%'",
        "diagnosis >= coalesce(NULL, 'I07')",
        "starts_with(diagnosis, 'I')",
    ] {
        let sql = format!("SELECT count(*) FROM stays WHERE {condition}");
        let answer = hub.number(&sql).await;
        assert!(answer.is_some(), "{condition}: suppressed");
    }
}
