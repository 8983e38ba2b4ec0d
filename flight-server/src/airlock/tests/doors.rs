//! Every way that is shut, tried: texts that are no query, other zones, altered files.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_a_query_of_ones_own_project_is_exported() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    bench.request(&ada, "cells", CELLS).await.expect("released");
    for (sql, kind) in [
        ("SELECT * FROM clinic.hidden", ErrorKind::NotFound),
        ("SELECT * FROM q.clinic.stays", ErrorKind::NotFound),
        ("SELECT * FROM q.space.t", ErrorKind::NotFound),
        ("SELECT * FROM exports.cells", ErrorKind::InvalidArgument),
        ("SELECT * FROM hub.audit", ErrorKind::InvalidArgument),
        (
            "SELECT 1 WHERE EXISTS (SELECT * FROM hub.usage)",
            ErrorKind::InvalidArgument,
        ),
        (
            "SELECT * FROM information_schema.tables",
            ErrorKind::InvalidArgument,
        ),
        ("DROP TABLE space.t", ErrorKind::InvalidArgument),
        (
            "CREATE TABLE space.t AS SELECT 1 AS a",
            ErrorKind::InvalidArgument,
        ),
        ("INSERT INTO space.t VALUES (1)", ErrorKind::InvalidArgument),
        ("SELECT 1; DROP TABLE space.t", ErrorKind::InvalidArgument),
        ("SELECT 1) TO '/tmp/x' --", ErrorKind::InvalidArgument),
        ("COPY (SELECT 1) TO '/tmp/x'", ErrorKind::InvalidArgument),
        ("EXPLAIN SELECT 1", ErrorKind::InvalidArgument),
        ("SHOW TABLES", ErrorKind::InvalidArgument),
        ("DESCRIBE clinic.stays", ErrorKind::InvalidArgument),
        (
            "CALL hub.request_export('SELECT 1', 'b', 'p')",
            ErrorKind::InvalidArgument,
        ),
        (
            "CALL hub.cancel('0198f2c0-0000-7000-8000-000000000001')",
            ErrorKind::InvalidArgument,
        ),
        ("SELECT $1", ErrorKind::InvalidArgument),
        ("SELECT ?", ErrorKind::InvalidArgument),
        ("SELECT 1 AS a, 2 AS a", ErrorKind::InvalidArgument),
        (
            "SELECT a.column1 FROM (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) a, \
          (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) b, \
          (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)) c, \
          (VALUES (1), (2)) d",
            ErrorKind::ResourceExhausted,
        ),
        ("", ErrorKind::InvalidArgument),
    ] {
        let error = bench.request(&ada, "x", sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
    }
    // Nothing was made on the way, in the space or as a package.
    assert_eq!(bench.hub.store.exports(None).await.expect("read").len(), 1);
    let gone = bench.run(&ada, "SELECT * FROM space.t").await;
    assert_eq!(gone.expect_err("never made").kind, ErrorKind::NotFound);
    let again = bench
        .request(&ada, "cells", CELLS)
        .await
        .expect_err("taken");
    assert_eq!(again.kind, ErrorKind::InvalidArgument);
    for change in [
        "INSERT INTO exports.cells VALUES ('x', 1)",
        "UPDATE exports.cells SET persons = 1",
        "DELETE FROM exports.cells",
        "DROP TABLE exports.cells",
        "CREATE TABLE exports.mine AS SELECT 1 AS a",
        "CREATE OR REPLACE VIEW exports.cells AS SELECT 1 AS a",
    ] {
        let error = bench.run(&ada, change).await.expect_err(change);
        assert_eq!(error.kind, ErrorKind::InvalidArgument, "{change}: {error}");
    }
    assert_eq!(
        bench
            .run(&ada, "SELECT * FROM exports.cells")
            .await
            .expect("as it was"),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_nothing_leaves_but_released_exports() {
    let bench = Bench::new().await;
    let (ada, outside) = (bench.ada().await, bench.outside().await);
    bench.request(&ada, "cells", CELLS).await.expect("released");
    bench
        .request(&ada, "labels", "SELECT label FROM clinic.wards")
        .await
        .expect("released");
    // Written by hand, rows have no labels.
    for made in [
        "CREATE TABLE space.laundered AS SELECT 'p1' AS person, 42 AS age",
        "CREATE VIEW space.through AS SELECT * FROM space.laundered",
        "CREATE VIEW space.door AS SELECT * FROM exports.cells",
    ] {
        bench.run(&ada, made).await.expect(made);
    }
    assert_eq!(
        bench
            .run(&ada, "SELECT * FROM space.laundered")
            .await
            .expect("inside"),
        1
    );
    for (sql, kind) in [
        ("SELECT * FROM clinic.stays", ErrorKind::PermissionDenied),
        ("SELECT * FROM space.laundered", ErrorKind::PermissionDenied),
        (
            "SELECT count(*) FROM space.laundered WHERE age = 42",
            ErrorKind::PermissionDenied,
        ),
        (
            "DELETE FROM space.laundered WHERE age = 42",
            ErrorKind::PermissionDenied,
        ),
        (
            "UPDATE space.laundered SET age = 1 WHERE person = 'p1'",
            ErrorKind::PermissionDenied,
        ),
        (
            "CREATE TABLE space.b AS SELECT * FROM space.laundered",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT a.* FROM exports.cells a, exports.labels b",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT * FROM exports.cells UNION ALL SELECT label, 1 FROM exports.labels",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT * FROM exports.cells WHERE EXISTS (SELECT * FROM hub.usage)",
            ErrorKind::PermissionDenied,
        ),
        (
            "SELECT c.* FROM exports.cells c, space.laundered l",
            ErrorKind::PermissionDenied,
        ),
    ] {
        let error = bench.run(&outside, sql).await.expect_err(sql);
        assert_eq!(error.kind, kind, "{sql}: {error}");
    }
    bench
        .run(&outside, "SELECT * FROM space.through")
        .await
        .expect_err("through a view");
    assert_eq!(
        bench
            .run(&outside, "SELECT * FROM space.door")
            .await
            .expect("a view of it"),
        2
    );
    let joined = "SELECT a.ward FROM exports.cells a JOIN exports.cells b ON a.ward = b.ward";
    assert_eq!(bench.run(&outside, joined).await.expect("with itself"), 2);
    for sql in [CELLS, "SELECT 1 AS a"] {
        let error = bench.request(&outside, "mine", sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    }
    assert_eq!(
        bench
            .run(&ada, "SELECT a.* FROM exports.cells a, exports.labels b")
            .await
            .expect("inside anything goes"),
        4
    );
    assert_eq!(
        bench
            .run(&outside, "SELECT * FROM exports.labels")
            .await
            .expect("the other"),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_is_not_what_was_sealed_is_not_handed_out() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    let read = async |name: &str| {
        bench
            .run(&ada, &format!("SELECT * FROM exports.{name}"))
            .await
    };
    bench.request(&ada, "a", CELLS).await.expect("released");
    bench.request(&ada, "b", CELLS).await.expect("released");
    let (a, b) = (
        bench.export("a").await.package,
        bench.export("b").await.package,
    );
    assert_eq!(
        (
            read("a").await.expect("sealed"),
            read("b").await.expect("sealed")
        ),
        (2, 2)
    );
    let whole = std::fs::read(bench.package(&a.id)).expect("there");
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let other = std::fs::read(bench.package(&b.id)).expect("there");
    let forged = package::encode(&inside_schema(), &[]).expect("Parquet");
    for wrong in [
        flipped,
        other,
        whole[..whole.len() - 1].to_vec(),
        forged,
        Vec::new(),
    ] {
        std::fs::write(bench.package(&a.id), wrong).expect("written");
        let error = read("a").await.expect_err("tampered");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
    // Sealed by this hub for this package, and yet not what was released.
    let id = uuid::Uuid::parse_str(&a.id).expect("ours");
    std::fs::remove_dir_all(bench.package(&a.id).parent().expect("a folder")).expect("removed");
    assert_eq!(
        read("a").await.expect_err("gone").kind,
        ErrorKind::Unavailable
    );
    let forged = package::encode(&inside_schema(), &[]).expect("Parquet");
    let key = bench.hub.space_files.keys().newest("p").await;
    package::place(&bench.hub, &key.expect("its key"), id, &forged)
        .expect("placed")
        .keep();
    assert_eq!(
        read("a").await.expect_err("another").kind,
        ErrorKind::Unavailable
    );
    std::fs::write(bench.package(&a.id), whole).expect("written");
    assert_eq!(read("a").await.expect("as it was"), 2);
    let told = bench.audit("export_downloaded").await;
    let failed = told.iter().filter(|record| record.outcome == "unavailable");
    assert_eq!((failed.count(), told.len()), (7, 10));
}

fn inside_schema() -> SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema};
    Arc::new(Schema::new(vec![Field::new("ward", DataType::Utf8, true)]))
}

/// What the operator keeps inside is read and not taken out, nor what was made of it.
#[tokio::test]
async fn an_operator_keeps_a_dataset_inside() {
    let bench = Bench::ruled(
        r#"@id("kept") forbid (
            principal == Person::"ada", action == Action::"export", resource == Dataset::"clinic"
        );"#,
    )
    .await;
    let (ada, bob) = (bench.ada().await, bench.caller("bob", inside()).await);
    assert_eq!(bench.run(&ada, CELLS).await.expect("read"), 2);
    let kept = format!("CREATE TABLE space.t AS {CELLS}");
    bench.run(&ada, &kept).await.expect("made");
    for sql in [CELLS, "SELECT * FROM space.t"] {
        let error = bench.request(&ada, "mine", sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("`kept`"), "{error}");
    }
    let exports = bench.hub.store.exports(None).await.expect("read");
    assert!(exports.is_empty(), "{exports:?}");
    assert_eq!(bench.request(&bob, "his", CELLS).await.expect("made"), 1);
}

/// What a habilitation says of exports holds for what was made of its dataset too; reading and what
/// others take out go on as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_habilitation_keeps_a_dataset_inside_or_has_a_second_person_look() {
    let bench = Bench::new().await;
    let (ada, bob) = (bench.ada().await, bench.caller("bob", inside()).await);
    let kept = format!("CREATE TABLE space.t AS {CELLS}");
    bench.run(&ada, &kept).await.expect("made");
    assert_eq!(bench.state(&ada, "a", CELLS).await, ExportState::Released);

    bench.rule_exports("p", ExportRule::Review).await;
    assert_eq!(bench.state(&ada, "b", CELLS).await, ExportState::Waiting);
    let found = findings(&bench.export("b").await.package).expect("read");
    let rules: Vec<&str> = found.iter().map(|finding| finding.rule.as_str()).collect();
    assert_eq!(rules, ["habilitation"]);
    bench.release("b").await;
    let rows = bench.run(&ada, "SELECT * FROM exports.b").await;
    assert_eq!(rows.expect("released"), 2);

    bench.rule_exports("p", ExportRule::None).await;
    for sql in [CELLS, "SELECT * FROM space.t"] {
        let error = bench.request(&ada, "c", sql).await.expect_err(sql);
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("take nothing"), "{error}");
        assert_eq!(bench.run(&ada, sql).await.expect("still read"), 2);
    }
    assert_eq!(bench.state(&bob, "d", CELLS).await, ExportState::Released);
}
