//! Pseudonyms written in a query: turned into stored identifiers below the barrier, with
//! exactly the meaning that the comparison has above it.

use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use hubflight_rights::habilitation::{Mask, TableGrant, Tables};

use crate::world::{World, config, grant, habilitation, keys, researcher, rows};

async fn plan(ctx: &SessionContext, sql: &str) -> String {
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await;
    displayable(plan.unwrap().as_ref())
        .indent(false)
        .to_string()
}

/// The pseudonym of a stored person or stay.
fn shown(domain: &str, id: i64) -> String {
    let ids = arrow::array::Int64Array::from(vec![id]);
    let cipher = keys("readmission").cipher(domain);
    cipher.encrypt_array(&ids).unwrap().value(0).to_owned()
}

/// Every comparison in every place, against the same one on a column of texts: a projection in
/// a subquery that the optimiser cannot see through.
#[tokio::test(flavor = "multi_thread")]
async fn mean_the_same_below_as_above() {
    let world = World::new().await;
    for pushdown in [false, true] {
        let ctx = world.session(&researcher(), config(pushdown));
        // `concat` with an empty text copies the pseudonyms, so that no filter gets below.
        let copied = "(SELECT CASE WHEN person IS NULL THEN NULL ELSE concat(person, '') END \
                      AS person, diagnosis FROM stays)";
        let (one, two) = (shown("person", 31), shown("person", 62));
        let nobody = shown("person", i64::MIN);
        let (foreign, upper) = (shown("stay", 31), one.to_uppercase());
        let list = format!("'{one}', '{two}', 'x', '{foreign}'");
        let conditions = [
            format!("person = '{one}'"),
            format!("'{one}' = person"),
            format!("person <> '{one}'"),
            format!("person <> 'x' AND person <> '{foreign}'"),
            format!("NOT (person = '{one}')"),
            format!("NOT (person = '{upper}')"),
            format!("NOT (person <> '{one}')"),
            "NOT (person <> 'x')".to_owned(),
            "(person = 'x') IS NULL".to_owned(),
            format!("NOT (person = '{one}' AND diagnosis = 'I31')"),
            format!("NOT (person = '{one}' OR person = 'x' OR diagnosis = 'I31')"),
            format!("person IN ({list})"),
            format!("person NOT IN ({list})"),
            format!("NOT (person IN ({list}))"),
            format!("NOT (person NOT IN ({list}))"),
            format!("person IN ({list}, NULL)"),
            format!("person NOT IN ({list}, NULL)"),
            format!("NOT (person IN ({list}, NULL))"),
            "person IN ('x', 'y', 'z', '')".to_owned(),
            "person NOT IN ('x', 'y', 'z', '')".to_owned(),
            "NOT (person NOT IN ('x', 'y', 'z', ''))".to_owned(),
            format!("person IS DISTINCT FROM '{one}'"),
            "person IS DISTINCT FROM 'x'".to_owned(),
            format!("person IS NOT DISTINCT FROM '{two}'"),
            "person IS NOT DISTINCT FROM 'x'".to_owned(),
            format!("NOT (person IS NOT DISTINCT FROM '{one}')"),
            format!("person = '{nobody}' OR person = '{one}'"),
            "person = NULL".to_owned(),
            format!("person > '{one}'"),
        ];
        let mut different = std::collections::HashSet::new();
        for condition in conditions {
            let count = |table: &str| format!("SELECT count(*) FROM {table} WHERE {condition}");
            let below = rows(&ctx, &count("stays")).await.unwrap();
            let above = rows(&ctx, &count(copied)).await.unwrap();
            assert_eq!(below, above, "{condition}");
            different.insert(below);
        }
        assert!(
            different.len() > 6,
            "the conditions are too tame: {different:?}"
        );
    }
}

/// That they are compared as stored identifiers at all.
#[tokio::test(flavor = "multi_thread")]
async fn are_evaluated_below() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    let one = shown("person", 31);
    let five = [1, 2, 3, 4, 5]
        .map(|id| format!("'{}'", shown("person", id)))
        .join(", ");
    for below in [
        format!("person = '{one}'"),
        format!("person <> '{one}'"),
        format!("NOT (person = '{one}' AND diagnosis = 'I01')"),
        format!("person IN ({five})"),
        format!("person NOT IN ({five})"),
        format!("person IS DISTINCT FROM '{one}'"),
        format!("person IN ({five}) OR urgent"),
    ] {
        let text = plan(&ctx, &format!("SELECT note FROM stays WHERE {below}")).await;
        assert!(!text.contains("FilterExec"), "{below}: {text}");
        // Only the user's own words are shown, never the identifier.
        assert!(
            text.contains("filters=[") && !text.contains("31)"),
            "{below}: {text}"
        );
    }
    for above in [
        format!("person > '{one}'"),
        format!("person LIKE '{one}%'"),
        format!("NOT (person IN ('{one}', NULL))"),
    ] {
        let text = plan(&ctx, &format!("SELECT note FROM stays WHERE {above}")).await;
        assert!(
            text.contains("FilterExec") || text.contains("EmptyExec"),
            "{above}: {text}"
        );
    }
}

/// A hash hides a value as a mask does: nothing is compared with what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn of_hashes_stay_above() {
    let world = World::new().await;
    let masked = TableGrant {
        masks: vec![
            ("big".to_owned(), Mask::HashPerProject),
            ("diagnosis".to_owned(), Mask::HashPerProject),
        ],
        ..grant("stays")
    };
    let ctx = world.session(&habilitation("p", Tables::Only(vec![masked])), config(true));
    let sample = "SELECT big, diagnosis FROM stays WHERE urgent ORDER BY 1 LIMIT 1";
    let sample = rows(&ctx, sample).await.unwrap().remove(0);
    let (big, diagnosis) = sample.split_once('|').unwrap();
    assert_eq!((big.len(), diagnosis.len()), (26, 26));
    for (column, value) in [("big", big), ("diagnosis", diagnosis)] {
        let sql = format!("SELECT count(*) > 0 FROM stays WHERE {column} = '{value}'");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), ["true"]);
        assert!(plan(&ctx, &sql).await.contains("FilterExec"), "{column}");
    }
    for stored in ["diagnosis = 'I07'", "big = '7'", "diagnosis < 'I'"] {
        let sql = format!("SELECT count(*) FROM stays WHERE {stored}");
        let found: usize = rows(&ctx, &sql).await.unwrap()[0].parse().unwrap();
        let hashes_only = "SELECT count(*) FROM stays WHERE length(diagnosis) <> 26";
        assert_eq!(rows(&ctx, hashes_only).await.unwrap(), ["0"]);
        assert!(stored.contains('<') || found == 0, "{stored}: {found}");
    }
    // Equal values are equal within the project, and differ in another.
    let distinct = "SELECT count(DISTINCT diagnosis) FROM stays";
    assert_eq!(rows(&ctx, distinct).await.unwrap(), ["89"]);
    let masked = TableGrant {
        masks: vec![("diagnosis".to_owned(), Mask::HashPerProject)],
        ..grant("stays")
    };
    let other = habilitation("q", Tables::Only(vec![masked]));
    let ctx = world.session(&other, config(true));
    let sql = format!("SELECT count(*) FROM stays WHERE diagnosis = '{diagnosis}'");
    assert_eq!(rows(&ctx, &sql).await.unwrap(), ["0"]);
}

/// Bands, multiples and predicates between bounds, through the barrier.
#[tokio::test(flavor = "multi_thread")]
async fn masks_of_numbers_and_bounds() {
    use hubflight_rights::habilitation::{Predicate, Value};
    let world = World::new().await;
    let masked = TableGrant {
        rows: Some(Predicate::Between {
            column: "divisor".to_owned(),
            low: Value::Int(2),
            high: Value::Int(7),
        }),
        masks: vec![
            ("divisor".to_owned(), Mask::AgeBand(5)),
            ("big".to_owned(), Mask::Round(1_000)),
        ],
        ..grant("stays")
    };
    let ctx = world.session(&habilitation("p", Tables::Only(vec![masked])), config(true));
    let bands = "SELECT DISTINCT divisor FROM stays ORDER BY 1";
    assert_eq!(rows(&ctx, bands).await.unwrap(), ["0", "5"]);
    let visible = |stay: &&crate::world::Stay| (2..=7).contains(&stay.divisor);
    let expected = crate::world::stays().iter().filter(visible).count();
    let count = "SELECT count(*), sum(big % 1000) FROM stays";
    assert_eq!(rows(&ctx, count).await.unwrap(), [format!("{expected}|0")]);
    for above in ["divisor = 3", "big = 7"] {
        let sql = format!("SELECT count(*) FROM stays WHERE {above}");
        assert_eq!(rows(&ctx, &sql).await.unwrap(), ["0"]);
        assert!(plan(&ctx, &sql).await.contains("FilterExec"), "{above}");
    }
}
