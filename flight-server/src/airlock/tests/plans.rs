//! What the rules make of the plan of a query.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_released_alone_only_where_it_counts_persons_who_are_alike() {
    use ExportState::{Refused, Released, Waiting};
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    for made in [
        "CREATE TABLE space.copy AS SELECT ward, age FROM clinic.stays",
        "CREATE TABLE space.names AS SELECT DISTINCT person AS x FROM clinic.stays",
        "CREATE VIEW space.cells AS SELECT ward, count(DISTINCT person) AS persons \
         FROM clinic.stays GROUP BY ward",
    ] {
        bench.run(&ada, made).await.expect(made);
    }
    let shut = [
        // Rows, grouped by what tells persons apart or not grouped at all.
        ("SELECT age, ward FROM clinic.stays", Waiting),
        ("SELECT DISTINCT age FROM clinic.stays", Waiting),
        ("SELECT upper(person) AS x FROM clinic.stays", Refused),
        (
            "SELECT person || '' AS x, count(*) FROM clinic.stays GROUP BY 1",
            Refused,
        ),
        (
            "SELECT count(*) AS n FROM clinic.stays GROUP BY person",
            Waiting,
        ),
        (
            "SELECT max(substr(person, 1, 9)) AS x, count(DISTINCT person) AS n FROM clinic.stays",
            Refused,
        ),
        // Copies in the space have no lineage: their content is judged.
        ("SELECT * FROM space.copy", Waiting),
        (
            "SELECT ward, count(*) AS n FROM space.copy GROUP BY ward",
            Waiting,
        ),
        ("SELECT x FROM space.names", Refused),
        // Cells that are small, or whose persons are not counted.
        (
            "SELECT rare, count(DISTINCT person) AS n FROM clinic.stays GROUP BY rare",
            Waiting,
        ),
        (
            "SELECT ward, count(*) AS n FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT age) AS n FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        // Values of persons, and counts of some of them.
        (
            "SELECT ward, count(DISTINCT person) AS n, max(age) FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n, count(*) FILTER (WHERE age = 20) AS f \
          FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n, sum(CASE WHEN age = 20 THEN 1 END) AS f \
          FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT note, count(DISTINCT person) AS n FROM clinic.stays GROUP BY note",
            Waiting,
        ),
        // A bit of one person a row, in which cells there are or what they count.
        (
            "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays \
          WHERE (SELECT max(age) FROM clinic.stays WHERE rare = 'x') > 20 GROUP BY ward",
            Waiting,
        ),
        (
            "SELECT a.ward, count(DISTINCT a.person) AS n FROM clinic.stays a, clinic.stays b \
          WHERE b.rare = 'x' AND b.age = 20 GROUP BY a.ward",
            Waiting,
        ),
        (
            "SELECT ward, persons * 1000 + 7 AS n FROM space.cells",
            Waiting,
        ),
        (
            "SELECT a.ward, a.persons, b.persons AS p FROM space.cells a CROSS JOIN space.cells b",
            Waiting,
        ),
        (
            "SELECT ward, persons, sum(persons) OVER () AS s FROM space.cells",
            Waiting,
        ),
        (
            "SELECT * FROM space.cells UNION ALL SELECT * FROM space.cells",
            Waiting,
        ),
        (
            "SELECT ward, rare, count(DISTINCT person) AS n FROM clinic.stays \
          GROUP BY ROLLUP (ward, rare)",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays GROUP BY ward \
             HAVING max(age) > 30",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT person) AS n FROM clinic.stays GROUP BY ward \
             ORDER BY max(age)",
            Waiting,
        ),
        // What is another's beside a person: through a window, or a hospital that both were in.
        (
            "SELECT x, count(DISTINCT person) AS n FROM (SELECT person, first_value(age) \
             OVER (ORDER BY rare, age) AS x FROM clinic.stays) t GROUP BY x",
            Waiting,
        ),
        (
            "SELECT b.rare, count(DISTINCT a.person) AS n FROM clinic.stays a \
             JOIN clinic.stays b ON a.site = b.site GROUP BY b.rare",
            Waiting,
        ),
        // More than one value for a person, and one for several, that are made of identifiers.
        (
            "SELECT rare, count(DISTINCT id) AS n FROM (SELECT rare, person || ward || site AS id \
             FROM clinic.stays) t GROUP BY rare",
            Waiting,
        ),
        (
            "SELECT b.age, count(DISTINCT a.person) AS n \
             FROM (SELECT person, left(person, 0) AS k FROM clinic.stays) a \
             JOIN (SELECT age, left(person, 0) AS k FROM clinic.stays WHERE rare = 'x') b \
             ON a.k = b.k GROUP BY b.age",
            Waiting,
        ),
        (
            "SELECT ward, count(DISTINCT id) AS n FROM (SELECT ward, person AS id \
             FROM clinic.stays UNION ALL SELECT ward, CAST(age AS text) FROM clinic.stays) t \
             GROUP BY ward",
            Waiting,
        ),
        // What was seen inside, and written again.
        ("VALUES ('x', 42)", Waiting),
        (
            "SELECT ward, count(DISTINCT person) AS n, 42 AS x FROM clinic.stays GROUP BY ward",
            Waiting,
        ),
        ("SELECT 'joindre au 06 12 34 56 78' AS x", Refused),
    ];
    for (index, (sql, expected)) in shut.into_iter().enumerate() {
        let name = format!("x{index}");
        assert_eq!(bench.state(&ada, &name, sql).await, expected, "{sql}");
        if expected == Waiting {
            bench.withdraw(&name).await;
        }
    }
    for (index, sql) in [
        CELLS,
        "SELECT * FROM space.cells WHERE persons > 11 ORDER BY ward",
        "SELECT a.ward, count(DISTINCT a.person) AS n, count(*) AS stays FROM clinic.stays a \
         JOIN clinic.stays b ON a.person = b.person WHERE b.age > 20 GROUP BY a.ward",
        "SELECT label FROM clinic.wards",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("y{index}");
        let state = bench.state(&ada, &name, sql).await;
        let export = bench.export(&name).await;
        assert_eq!(state, Released, "{sql}: {}", export.package.findings);
    }
    // After so many a day, everything waits.
    assert_eq!(bench.state(&ada, "more", CELLS).await, Waiting);
    assert!(
        bench
            .export("more")
            .await
            .package
            .findings
            .contains("volume")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn published_aggregates_pass_with_their_noise() {
    let bench = Bench::new().await;
    let cleo = bench.caller("cleo", inside()).await;
    let sql = "SELECT ward, count(*) AS n, avg(age) AS a FROM clinic.stays GROUP BY ward";
    assert_eq!(bench.state(&cleo, "a", sql).await, ExportState::Released);
    let error = bench
        .request(&cleo, "b", "SELECT age FROM clinic.stays")
        .await;
    assert_eq!(error.expect_err("rows").kind, ErrorKind::PermissionDenied);
}
