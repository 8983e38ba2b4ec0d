//! What may be asked for in a day, and what a person looks through.

use super::*;

/// Counts of wards, so many.
fn answers(count: usize) -> String {
    let values: Vec<String> = (0..count)
        .map(|i| format!("sum(age + {i}) AS a{i}"))
        .collect();
    format!("SELECT {} FROM clinic.stays", values.join(", "))
}

/// The limits of a day refuse what they are there for, and nothing else does: with room for one
/// more the same is taken.
#[tokio::test(flavor = "multi_thread")]
async fn with_higher_limits_of_a_day_the_same_is_answered() {
    for room in [0, 1] {
        let bench = Bench::edited("", |hub| {
            let asked = format!("export_requests_per_day_max = {}", 2 + room);
            let answers = format!("{asked}\naggregate_answers_per_day_max = {}", 4 + room);
            hub.replace("export_requests_per_day_max = 60", &answers)
        })
        .await;
        let ada = bench.ada().await;
        for name in ["a", "b"] {
            bench.request(&ada, name, CELLS).await.expect("released");
        }
        let third = bench.request(&ada, "c", CELLS).await;
        let cleo = bench.caller("cleo", inside()).await;
        bench.run(&cleo, &answers(4)).await.expect("four");
        let fifth = bench.run(&cleo, &answers(1)).await;
        for refused in [third, fifth] {
            match room {
                0 => {
                    let error = refused.expect_err("full");
                    assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
                }
                _ => assert_eq!(refused.expect("room for one"), 1),
            }
        }
    }
}

/// What is refused stays on record, so that nobody fills the store with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_asks_so_often_a_day() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    let rows = "SELECT person FROM clinic.stays";
    for round in 0..60 {
        let refused = bench.request(&ada, &format!("r{round}"), rows).await;
        let error = refused.expect_err("identifiers");
        assert_eq!(error.kind, ErrorKind::PermissionDenied, "{round}: {error}");
    }
    for (name, sql) in [("r60", rows), ("fine", CELLS)] {
        let error = bench.request(&ada, name, sql).await.expect_err("too often");
        assert_eq!(error.kind, ErrorKind::ResourceExhausted, "{error}");
    }
    let wide: Vec<String> = (0..257).map(|i| format!("age AS a{i}")).collect();
    let wide = format!("SELECT {} FROM clinic.stays", wide.join(", "));
    let error = bench.request(&ada, "wide", &wide).await.expect_err("wide");
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
}

/// What the rules ask is all shown to the person who decides, or nobody is asked.
#[tokio::test(flavor = "multi_thread")]
async fn no_question_is_hidden_among_many() {
    let bench = Bench::new().await;
    let ada = bench.ada().await;
    let asks = |columns: usize| {
        let values: Vec<String> = (0..columns)
            .map(|i| format!("avg(age / 3.0 + {i}) AS a{i}"))
            .collect();
        format!(
            "SELECT ward, {} FROM clinic.stays GROUP BY ward",
            values.join(", ")
        )
    };
    assert_eq!(
        bench.state(&ada, "few", &asks(3)).await,
        ExportState::Waiting
    );
    let found = bench.export("few").await.package.findings;
    for column in ["\"a0\"", "\"a1\"", "\"a2\""] {
        assert!(found.contains(column), "{found}");
    }
    let error = bench.request(&ada, "many", &asks(255)).await;
    let error = error.expect_err("more than anybody looks through");
    assert_eq!(error.kind, ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("fewer columns"), "{error}");
}
