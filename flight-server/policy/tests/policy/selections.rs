//! The rows that views show, found once: for whom they are kept, for how long, and that nothing
//! but time and statistics differs.

use std::sync::Arc;

use arrow::array::Int64Array;
use arrow::util::pretty::pretty_format_batches;
use chrono::{NaiveDate, TimeDelta};
use datafusion::common::stats::Precision;
use datafusion::common::{ScalarValue, Statistics};
use datafusion::physical_plan::{collect_partitioned, displayable};
use datafusion::prelude::SessionContext;
use hubflight_policy::Selections;
use hubflight_rights::dataset::PERSON_DOMAIN;
use hubflight_rights::habilitation::{
    Comparison, Habilitation, Mask, Predicate, TableGrant, Tables, Value,
};

use crate::world::{
    STAYS, World, birth, cohort, config, date, days, diagnoses, first_visible_day, grant,
    habilitation, keys, researcher, rows, since, stays,
};

async fn count(ctx: &SessionContext, table: &str) -> usize {
    let sql = format!("SELECT count(*) FROM {table} WHERE length(note) >= 0");
    rows(ctx, &sql).await.unwrap()[0].parse().unwrap()
}

fn kept(world: &World) -> Arc<Selections> {
    Arc::clone(world.selections.as_ref().unwrap())
}

fn visible() -> (usize, usize) {
    let mut visible = stays();
    visible.retain(|stay| stay.begun >= days(first_visible_day()));
    (visible.len(), diagnoses(&visible).len())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_view_is_kept_once_and_by_version() {
    let world = World::keeping(1 << 20).await;
    let selections = kept(&world);
    let (of_stays, of_diagnoses) = visible();
    let ctx = world.session(&researcher(), config(true));
    for _ in 0..2 {
        assert_eq!(count(&ctx, "stays").await, of_stays);
        assert_eq!(count(&ctx, "diagnoses").await, of_diagnoses);
    }
    assert_eq!(selections.len(), 2, "labels are not restricted");
    let bytes = selections.bytes();
    assert!(bytes >= STAYS as usize / 8, "{bytes}");

    // A new version replaces the old one's rows; another project has its own.
    let later = TableGrant {
        rows: Some(since(date(2025, 1, 1))),
        ..grant("stays")
    };
    let newer = Habilitation {
        version: 4,
        tables: Tables::Only(vec![later, grant("diagnoses")]),
        ..researcher()
    };
    let fewer = count(&world.session(&newer, config(true)), "stays").await;
    assert!(fewer < of_stays && fewer > 0);
    assert_eq!(selections.len(), 2);
    let other = Habilitation {
        project: "other".to_owned(),
        ..researcher()
    };
    let ctx = SessionContext::new_with_config(config(true));
    world.register(&ctx, &other, &keys("other"));
    assert_eq!(count(&ctx, "stays").await, of_stays);
    assert_eq!(selections.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cohort_counts_too() {
    let world = World::keeping(1 << 20).await;
    let habilitation = Habilitation {
        persons: Some(cohort()),
        ..researcher()
    };
    let mut expected = stays();
    expected.retain(|stay| {
        stay.begun >= days(first_visible_day()) && stay.person.is_some_and(|p| birth(p) < 1970)
    });
    let ctx = world.session(&habilitation, config(false));
    assert_eq!(count(&ctx, "stays").await, expected.len());
    assert_eq!(count(&ctx, "diagnoses").await, diagnoses(&expected).len());
    assert_eq!(kept(&world).len(), 2);
}

/// What does not fit is not kept, and the answers are the same.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded() {
    let (of_stays, of_diagnoses) = visible();
    let world = World::keeping(100).await;
    let ctx = world.session(&researcher(), config(true));
    assert_eq!(count(&ctx, "stays").await, of_stays);
    assert_eq!((kept(&world).len(), kept(&world).bytes()), (0, 0));

    // Room for one of the two: the one that was used last stays.
    let world = World::keeping(STAYS as usize / 8 + 50).await;
    let ctx = world.session(&researcher(), config(true));
    for _ in 0..2 {
        assert_eq!(count(&ctx, "diagnoses").await, of_diagnoses);
        assert_eq!(count(&ctx, "stays").await, of_stays);
        assert!(kept(&world).len() <= 1);
    }
    assert!(kept(&world).bytes() <= STAYS as usize / 8 + 50);
}

/// Files that are replaced under the same name have rows of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_looked_at_again() {
    let world = World::keeping(1 << 20).await;
    let (before, _) = visible();
    let ctx = world.session(&researcher(), config(true));
    assert_eq!(count(&ctx, "stays").await, before);
    let folder = world.dir.path().join("hospital/stays");
    let (one, other) = (folder.join("part-0.parquet"), folder.join("part-1.parquet"));
    let aside = world.dir.path().join("aside");
    std::fs::rename(&one, &aside).unwrap();
    std::fs::rename(&other, &one).unwrap();
    std::fs::rename(&aside, &other).unwrap();
    // A session of its own lists the files anew.
    let ctx = world.session(&researcher(), config(true));
    assert_eq!(count(&ctx, "stays").await, before);
    let hidden = "SELECT count(*) FROM stays WHERE note LIKE 'hidden%'";
    assert_eq!(rows(&ctx, hidden).await.unwrap(), ["0"]);
}

async fn statistics_of(ctx: &SessionContext, sql: &str) -> Statistics {
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await;
    let context = datafusion::physical_plan::statistics::StatisticsContext::new();
    let args = datafusion::physical_plan::statistics::StatisticsArgs::new();
    let statistics = context.compute(plan.unwrap().as_ref(), &args).unwrap();
    Arc::unwrap_or_clone(statistics)
}

/// What plans know of a view's values once they were read: of those that are shown as they are, the
/// extremes of the visible ones.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_have_the_extremes_of_visible_rows_only() {
    let world = World::keeping(1 << 20).await;
    let ctx = world.session(&researcher(), config(true));
    let first = days(first_visible_day());
    let begun = stays().into_iter().map(|stay| stay.begun);
    let (visible, hidden): (Vec<i32>, Vec<i32>) = begun.partition(|begun| *begun >= first);
    let (min, max) = (visible.iter().min().unwrap(), visible.iter().max().unwrap());
    assert!(hidden.iter().any(|begun| begun < min));
    let sql = "SELECT stay, begun FROM stays";
    let before = statistics_of(&ctx, sql).await;
    rows(&ctx, sql).await.unwrap();
    let after = statistics_of(&ctx, sql).await;
    for statistics in [&before, &after] {
        assert_eq!(statistics.num_rows, Precision::Exact(visible.len()));
        let pseudonym = &statistics.column_statistics[0];
        assert_eq!(pseudonym.min_value, Precision::Absent);
        assert_eq!(pseudonym.max_value, Precision::Absent);
    }
    let day = |day: &i32| Precision::Inexact(ScalarValue::Date32(Some(*day)));
    assert_eq!(before.column_statistics[1].min_value, Precision::Absent);
    assert_eq!(after.column_statistics[1].min_value, day(min));
    assert_eq!(after.column_statistics[1].max_value, day(max));
    // So few rows are expected where few can pass.
    let late = NaiveDate::default() + TimeDelta::days(i64::from(*max));
    let sql = format!("SELECT stay FROM stays WHERE begun >= DATE '{late}'");
    let few = *statistics_of(&ctx, &sql)
        .await
        .num_rows
        .get_value()
        .unwrap();
    assert!(few < visible.len() / 20, "{few} of {}", visible.len());
}

/// The number of rows that a project sees is no secret to it, and plans need it.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_count_visible_rows_only() {
    let world = World::keeping(1 << 20).await;
    let (of_stays, _) = visible();
    let ctx = world.session(&researcher(), config(true));
    let rows_of = async |sql: &str| {
        let statistics = statistics_of(&ctx, sql).await;
        for column in &statistics.column_statistics {
            assert_eq!(column.min_value, Precision::Absent, "{sql}");
            assert_eq!(column.null_count, Precision::Absent, "{sql}");
        }
        statistics.num_rows
    };
    let whole = rows_of("SELECT stay, begun, note FROM stays").await;
    assert_eq!(whole, Precision::Exact(of_stays));
    // One in five is guessed to pass what nothing is known of, as DataFusion guesses.
    let filtered = rows_of("SELECT stay FROM stays WHERE diagnosis = 'I07'").await;
    assert_eq!(filtered, Precision::Inexact(of_stays.div_ceil(5)));
    // So a count is answered without reading anything, and rightly.
    let counted = "SELECT count(*) FROM stays";
    assert_eq!(rows(&ctx, counted).await.unwrap(), [of_stays.to_string()]);
    let plan = ctx.sql(counted).await.unwrap().create_physical_plan().await;
    let text = displayable(plan.unwrap().as_ref())
        .indent(false)
        .to_string();
    assert!(!text.contains("PolicyScanExec"), "{text}");
}

/// Dynamic filters end the reading of a file in the middle of a row group where its statistics
/// exclude it; the rows of a group are counted off against its bits and must all come.
#[tokio::test(flavor = "multi_thread")]
async fn extremes_and_first_rows_are_those_of_visible_rows() {
    let world = World::keeping(1 << 20).await;
    let first = days(first_visible_day());
    let visible: Vec<_> = stays().into_iter().filter(|s| s.begun >= first).collect();
    let codes: Vec<String> = diagnoses(&visible).into_iter().map(|d| d.code).collect();
    let (most, least) = (codes.iter().max().unwrap(), codes.iter().min().unwrap());
    let latest = visible.iter().map(|stay| stay.begun).max().unwrap();
    let latest = visible.iter().filter(|stay| stay.begun == latest).count();
    for batch_size in [100, 512, 4_096] {
        let ctx = world.session(&researcher(), config(true).with_batch_size(batch_size));
        for (sql, expected) in [
            ("SELECT max(code) FROM diagnoses", vec![most.clone()]),
            ("SELECT min(code) FROM diagnoses", vec![least.clone()]),
            (
                "SELECT code FROM diagnoses ORDER BY code DESC LIMIT 2",
                vec![most.clone(), most.clone()],
            ),
            (
                "SELECT code FROM diagnoses ORDER BY code LIMIT 2",
                vec![least.clone(), least.clone()],
            ),
            (
                "SELECT count(*) FROM stays WHERE begun = (SELECT max(begun) FROM stays)",
                vec![latest.to_string()],
            ),
        ] {
            let found = rows(&ctx, sql).await.unwrap();
            assert_eq!(found, expected, "{sql} in batches of {batch_size}");
        }
    }
}

/// What each partition of a plan gives, batch by batch.
async fn batches(ctx: &SessionContext, sql: &str) -> Vec<Vec<String>> {
    let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await;
    let partitions = collect_partitioned(plan.unwrap(), ctx.task_ctx())
        .await
        .unwrap();
    let text = |batch| pretty_format_batches(&[batch]).unwrap().to_string();
    let partitions = partitions.into_iter();
    partitions
        .map(|batches| batches.into_iter().map(text).collect())
        .collect()
}

/// The visible rows of two worlds are the same, in the same order; their hidden rows stand elsewhere.
/// Rows that fail are met, or not, whatever row group they are in.
#[tokio::test(flavor = "multi_thread")]
async fn neither_batches_nor_partitions_tell_where_hidden_rows_stand() {
    let first = days(first_visible_day());
    let by_date = || {
        let mut stays = stays();
        stays.sort_by_key(|stay| stay.begun);
        // The extremes that files keep leave NaN out, which is more than any number.
        let some = stays.iter_mut().filter(|stay| stay.id % 50 == 0);
        some.for_each(|stay| stay.score = Some(f64::NAN));
        stays
            .into_iter()
            .partition::<Vec<_>, _>(|stay| stay.begun >= first)
    };
    let (visible, hidden) = by_date();
    let mut among: Vec<_> = Vec::new();
    let mut hidden = hidden.into_iter();
    for (place, stay) in visible.into_iter().enumerate() {
        among.extend(hidden.by_ref().take(if place % 700 == 0 { 650 } else { 0 }));
        among.push(stay);
    }
    let (visible, mut before) = by_date();
    before.extend(visible);
    let late = NaiveDate::default() + TimeDelta::days(i64::from(first) + 200);
    let among_days = |days: i64| {
        let days = (0..days).map(|day| format!("(DATE '{}')", late + TimeDelta::days(day)));
        let days: Vec<String> = days.collect();
        format!(
            "SELECT stay, s.begun FROM (VALUES {}) v(day) JOIN stays s ON s.begun = v.day \
             WHERE diagnosis > 'I30' AND length(note) < 9",
            days.join(", ")
        )
    };
    let asked = [
        "SELECT stay, begun, note FROM stays".to_owned(),
        format!("SELECT stay, note FROM stays WHERE begun >= DATE '{late}'"),
        format!("SELECT stay FROM stays WHERE begun < DATE '{late}' AND diagnosis > 'I30'"),
        "SELECT stay, note FROM stays WHERE length(diagnosis) = 3".to_owned(),
        // A filter that is found while the query runs, and rows that are judged after it.
        format!(
            "SELECT stay, s.begun FROM (VALUES (DATE '{late}')) v(day) JOIN stays s \
             ON s.begun = v.day WHERE length(note) < 9"
        ),
        "SELECT stay, score FROM stays WHERE score > 1000.0".to_owned(),
        // Of these, rows pass one filter and not the other.
        among_days(60),
        among_days(200),
    ];
    for is_kept in [true, false] {
        let bytes = if is_kept { 1 << 20 } else { 0 };
        let one = World::keeping(bytes).await.storing(&among, 1_000).await;
        let other = World::keeping(bytes).await.storing(&before, 3_000).await;
        let mut differences = 0;
        for batch_size in [50, 512, 8_192] {
            let config = config(true).with_batch_size(batch_size);
            let one = one.session(&researcher(), config.clone());
            let other = other.session(&researcher(), config);
            // Then again, when row groups are left unread.
            for sql in asked.iter().chain(&asked) {
                let (one, other) = (batches(&one, sql).await, batches(&other, sql).await);
                assert_eq!((one.len(), other.len()), (3, 3), "{sql}");
                assert!(!is_kept || !one.concat().is_empty(), "{sql}");
                differences += usize::from(one != other);
            }
            // The rows of one day fail, and no other day's join meets them.
            for day in (190..210).filter(|day| *day != 200) {
                let day = NaiveDate::default() + TimeDelta::days(i64::from(first) + day);
                let sql = format!(
                    "SELECT count(*) FROM (VALUES (DATE '{day}')) v(day) JOIN stays s ON s.begun = v.day \
                     WHERE 1 / (CASE WHEN s.begun = DATE '{late}' THEN 0 ELSE 1 END) > 0"
                );
                assert_eq!(
                    rows(&one, &sql).await.unwrap(),
                    rows(&other, &sql).await.unwrap()
                );
            }
        }
        // Where the bits are not kept, batches come as they are stored.
        assert_eq!(differences == 0, is_kept, "{differences}");
    }
}

/// What the habilitation does not open is answered before a file is opened, and only where the user
/// knows as much: of a pseudonym they do not know on which side of a bound it lies.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_habilitation_excludes_is_not_read() {
    let world = World::keeping(1 << 20).await;
    let first = first_visible_day();
    let ctx = world.session(&researcher(), config(true));
    let few = TableGrant {
        rows: Some(Predicate::Compare {
            column: "person".to_owned(),
            op: Comparison::Lt,
            value: Value::Int(10),
        }),
        ..grant("stays")
    };
    let few = habilitation("few", Tables::Only(vec![few]));
    let of_few = world.session(&few, config(true));
    let years = TableGrant {
        rows: Some(Predicate::Compare {
            column: "begun".to_owned(),
            op: Comparison::Ge,
            value: Value::Date(first),
        }),
        masks: vec![("begun".to_owned(), Mask::Year)],
        ..grant("stays")
    };
    let years = habilitation("years", Tables::Only(vec![years]));
    let of_years = world.session(&years, config(true));
    for file in std::fs::read_dir(world.dir.path().join("hospital/stays")).unwrap() {
        let path = file.unwrap().path();
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        std::fs::write(path, vec![7; length]).unwrap();
    }
    let none = format!("SELECT stay FROM stays WHERE begun < DATE '{first}'");
    assert!(rows(&ctx, &none).await.unwrap().is_empty());
    assert!(
        kept(&world).is_empty(),
        "nobody looked which rows are visible"
    );
    let some = format!("SELECT stay FROM stays WHERE begun >= DATE '{first}'");
    assert!(rows(&ctx, &some).await.is_err(), "the files cannot be read");
    let year = first.format("%Y-01-01");
    let none = format!("SELECT stay FROM stays WHERE begun < DATE '{year}'");
    assert!(rows(&of_years, &none).await.unwrap().is_empty());
    let some = format!("SELECT stay FROM stays WHERE begun = DATE '{year}'");
    assert!(rows(&of_years, &some).await.is_err(), "a year that is open");
    let cipher = keys(&few.project).cipher(PERSON_DOMAIN);
    let persons = cipher.encrypt_array(&Int64Array::from(vec![5, 500]));
    for person in persons.unwrap().iter().flatten() {
        let sql = format!("SELECT stay FROM stays WHERE person = '{person}'");
        assert!(rows(&of_few, &sql).await.is_err(), "{person}");
    }
}
