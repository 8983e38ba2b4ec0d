//! Persons who oppose: no row of theirs is shown, counted or hinted at, along every path.

use std::collections::HashMap;
use std::sync::Arc;

use hubflight_policy::{Opposed, PolicyTable, open_table};
use hubflight_rights::habilitation::{Habilitation, Tables};

use crate::world::{
    PERSONS, World, birth, cohort, config, diagnoses, first_visible_day, habilitation, keys,
    researcher, rows, stays,
};

/// Texts as an administrator writes them; the last two are nobody.
const OPPOSED: [&str; 5] = ["5", "0007", "31", "abc", "99999999999999999999"];

fn opposes(person: Option<i64>) -> bool {
    person.is_some_and(|person| [5, 7, 31].contains(&person))
}

async fn world(values: &[&str]) -> World {
    let mut world = World::new().await;
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    let opposed = Opposed::new(values).map(|opposed| ("person".to_owned(), Arc::new(opposed)));
    world.opposed = opposed.into_iter().collect::<HashMap<_, _>>();
    world
}

fn opened(world: &World, habilitation: &Habilitation, table: &str) -> Arc<PolicyTable> {
    let keys = keys(&habilitation.project);
    open_table(world, habilitation, table, &keys)
        .unwrap()
        .unwrap()
}

/// (stays, diagnoses) that remain of those that pass.
fn remaining(passes: impl Fn(&crate::world::Stay) -> bool) -> (usize, usize) {
    let mut kept = stays();
    kept.retain(|stay| passes(stay) && !opposes(stay.person));
    (kept.len(), diagnoses(&kept).len())
}

async fn counts(world: &World, habilitation: &Habilitation) -> (usize, usize) {
    let mut counts = Vec::new();
    for pushdown in [false, true] {
        let ctx = world.session(habilitation, config(pushdown));
        let count = async |table: &str| -> usize {
            let sql = format!("SELECT count(*) FROM {table}");
            rows(&ctx, &sql).await.unwrap()[0].parse().unwrap()
        };
        counts.push((count("stays").await, count("diagnoses").await));
    }
    assert_eq!(counts[0], counts[1]);
    counts[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn their_rows_and_what_follows_them_are_gone() {
    let world = world(&OPPOSED).await;
    let whole = habilitation("whole", Tables::All);
    let all = remaining(|_| true);
    // Rows of nobody stay: there is nobody to exclude.
    assert!(stays().iter().any(|stay| stay.person.is_none()));
    assert_eq!(counts(&world, &whole).await, all);

    let day = |stay: &crate::world::Stay| {
        let begun = chrono::NaiveDate::default() + chrono::TimeDelta::days(stay.begun.into());
        begun >= first_visible_day()
    };
    assert_eq!(counts(&world, &researcher()).await, remaining(day));

    let mut of_cohort = whole.clone();
    of_cohort.persons = Some(cohort());
    let born = |stay: &crate::world::Stay| stay.person.is_some_and(|person| birth(person) < 1970);
    assert_eq!(counts(&world, &of_cohort).await, remaining(born));

    let mut register = whole;
    register.dataset = "registry".to_owned();
    let ctx = world.session(&register, config(true));
    let found = rows(&ctx, "SELECT count(*), count(DISTINCT person) FROM persons").await;
    let left = PERSONS - 3;
    assert_eq!(found.unwrap(), [format!("{left}|{left}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_barrier_stands_where_somebody_opposes_and_steps_aside_where_nobody_does() {
    let whole = habilitation("whole", Tables::All);
    let (nobody, somebody) = (world(&[]).await, world(&OPPOSED).await);
    for (table, leads_to_a_person) in [("stays", true), ("diagnoses", true), ("labels", false)] {
        let before = opened(&nobody, &whole, table);
        let after = opened(&somebody, &whole, table);
        assert!(before.shows_all_rows(), "{table}");
        assert_eq!(after.shows_all_rows(), !leads_to_a_person, "{table}");
        // Sizes that were measured with them are not used without them.
        assert_eq!(
            before.digest() != after.digest(),
            leads_to_a_person,
            "{table}"
        );
    }
    assert!(opened(&somebody, &whole, "labels").is_unrestricted());
    let more = world(&["5"]).await;
    assert_ne!(
        opened(&more, &whole, "diagnoses").digest(),
        opened(&somebody, &whole, "diagnoses").digest()
    );
}

/// Each divides by zero on one stay of a person who opposes, and on no other.
#[tokio::test(flavor = "multi_thread")]
async fn no_expression_and_no_plan_reaches_them() {
    let whole = habilitation("whole", Tables::All);
    // One that has diagnoses, so that a join keeps it.
    let mined = |stay: &&crate::world::Stay| {
        opposes(stay.person) && stay.big == stay.id && stay.id % 3 != 0
    };
    let id = stays().iter().find(mined).unwrap().id;
    let attempts = [
        format!("SELECT count(*) FROM stays WHERE 10 / (big - {id}) >= 0"),
        format!("SELECT sum(10 / (big - {id})) FROM stays"),
        format!("SELECT big FROM stays ORDER BY 10 / (big - {id}) LIMIT 3"),
        format!(
            "SELECT count(*) FROM stays s JOIN diagnoses d USING (stay) WHERE 10 % (s.big - {id}) >= 0"
        ),
        format!(
            "SELECT count(*) FROM labels WHERE length(code) IN (SELECT 10 / (big - {id}) FROM stays)"
        ),
    ];
    let (nobody, somebody) = (world(&[]).await, world(&OPPOSED).await);
    for pushdown in [false, true] {
        let leaks = nobody.session(&whole, config(pushdown));
        let ctx = somebody.session(&whole, config(pushdown));
        for sql in &attempts {
            rows(&leaks, sql)
                .await
                .expect_err("tame: nothing would leak");
            rows(&ctx, sql).await.expect(sql);
        }
        let all = "SELECT count(*), max(big) FROM stays WHERE big < 1000000";
        let mut left = stays();
        left.retain(|stay| stay.big == stay.id && !opposes(stay.person));
        let largest = left.iter().map(|stay| stay.big).max().unwrap();
        let expected = format!("{}|{largest}", left.len());
        assert_eq!(rows(&ctx, all).await.unwrap(), [expected]);
        let text = rows(&ctx, "EXPLAIN VERBOSE SELECT count(*) FROM stays").await;
        let text = text.unwrap().join("\n");
        assert!(
            !text.contains("opposed"),
            "EXPLAIN tells of the list: {text}"
        );
    }
}

#[test]
fn a_list_is_told_from_another_and_prints_nobody() {
    let list = |values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Opposed::new(values)
    };
    assert!(list(&[]).is_none());
    let (one, two) = (list(&["1 a"]).unwrap(), list(&["1 a", "2 b"]).unwrap());
    assert!(two.exceeds(&one) && !one.exceeds(&two));
    assert_ne!(one.digest(), two.digest());
    assert_eq!(format!("{two:?}"), "Opposed(2 persons)");
}
