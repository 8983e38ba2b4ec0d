//! Aggregate mode: what it answers, what it refuses, and the published attacks on such systems.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::util::display::array_value_to_string;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use hubflight_policy::LinkageKeys;
use hubflight_policy::aggregate::{self, MARGIN, noise::NOISE_MAX};
use hubflight_rights::dataset::{Dataset, PERSONS_MIN_DEFAULT};
use hubflight_rights::habilitation::{Habilitation, Mask, Mode, TableGrant, Tables};

use crate::world::{self, Stay, World, config, grant, habilitation, keys};

pub struct Hub {
    world: Arc<World>,
    aggregate: Habilitation,
    ctx: SessionContext,
}

impl Hub {
    pub async fn new() -> Self {
        Self::of_project("surveillance").await
    }

    async fn of_project(project: &str) -> Self {
        Self::of_tables(project, Tables::All).await
    }

    async fn of_tables(project: &str, tables: Tables) -> Self {
        let mut world = World::new().await;
        let mut hospital: Dataset = world.datasets[0].as_ref().clone();
        // A diagnosis leads to one stay, and so to one person.
        hospital.tables[0].primary_key = vec!["stay".to_owned()];
        hospital.tables[2].primary_key = vec!["code".to_owned()];
        world.datasets[0] = Arc::new(hospital);
        let aggregate = Habilitation {
            mode: Mode::Aggregate,
            ..habilitation(project, tables)
        };
        Self::with_keys(Arc::new(world), aggregate, &keys(project))
    }

    fn with_keys(world: Arc<World>, aggregate: Habilitation, keys: &LinkageKeys) -> Self {
        let ctx = SessionContext::new_with_config(config(true));
        world.register(&ctx, &aggregate, keys);
        Self {
            world,
            aggregate,
            ctx,
        }
    }

    async fn ask(&self, sql: &str) -> Result<RecordBatch, DataFusionError> {
        let plan = self.ctx.state().create_logical_plan(sql).await?;
        let plan = aggregate::protect(plan)?;
        let frame = self.ctx.execute_logical_plan(plan).await?;
        let schema = Arc::clone(frame.schema().inner());
        let batches = frame.collect().await?;
        Ok(concat_batches(&schema, &batches)?)
    }

    /// Which columns of a query's result are published.
    pub async fn marks(&self, sql: &str) -> Vec<bool> {
        let plan = self.ctx.state().create_logical_plan(sql).await.unwrap();
        aggregate::published(&aggregate::protect(plan).unwrap())
    }

    async fn rows(&self, sql: &str) -> RecordBatch {
        match self.ask(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// The one number that a query gives; None where it is suppressed.
    pub async fn number(&self, sql: &str) -> Option<i64> {
        let rows = self.rows(sql).await;
        assert_eq!((rows.num_rows(), rows.num_columns()), (1, 1), "{sql}");
        let numbers = rows.column(0).as_primitive::<Int64Type>();
        numbers.is_valid(0).then(|| numbers.value(0))
    }

    pub async fn refusal(&self, sql: &str) -> String {
        match self.ask(sql).await {
            Ok(rows) => panic!("{sql} gave {rows:?}"),
            Err(error) => error.to_string(),
        }
    }
}

fn text(column: &dyn Array, row: usize) -> String {
    array_value_to_string(column, row).unwrap()
}

/// Stays whose person is known: others count for nobody.
fn known() -> Vec<Stay> {
    let mut stays = world::stays();
    stays.retain(|stay| stay.person.is_some());
    stays
}

fn persons<'a>(stays: impl IntoIterator<Item = &'a Stay>) -> BTreeSet<i64> {
    stays.into_iter().filter_map(|stay| stay.person).collect()
}

/// Rows of the person who has most, which scale the noise.
fn most_rows<'a>(stays: impl IntoIterator<Item = &'a Stay>) -> i64 {
    let mut rows = BTreeMap::new();
    for stay in stays {
        *rows.entry(stay.person).or_insert(0) += 1;
    }
    rows.into_values().max().unwrap_or(0)
}

/// How far a count of rows may be from the truth: its noise, and what is cut from those who have
/// most, who are fewer than the largest threshold.
fn slack<'a>(stays: impl IntoIterator<Item = &'a Stay>) -> i64 {
    (NOISE_MAX + i64::from(PERSONS_MIN_DEFAULT + MARGIN)) * most_rows(stays)
}

#[tokio::test(flavor = "multi_thread")]
async fn large_cells_are_answered_within_their_noise() {
    let hub = Hub::new().await;
    let stays = known();
    let all = hub.number("SELECT count(*) FROM stays").await.unwrap();
    let bound = slack(&stays);
    assert!((all - stays.len() as i64).abs() <= bound, "{all}");
    let everybody = hub
        .number("SELECT count(DISTINCT person) FROM stays")
        .await
        .unwrap();
    assert!(
        (everybody - persons(&stays).len() as i64).abs() <= NOISE_MAX,
        "{everybody}"
    );

    let rows = hub
        .rows(
            "SELECT diagnosis, count(*) AS n, count(DISTINCT person) AS persons, avg(score) AS s \
             FROM stays GROUP BY diagnosis HAVING count(*) > 0 ORDER BY diagnosis",
        )
        .await;
    assert_eq!(rows.num_rows(), 89);
    for row in 0..rows.num_rows() {
        let diagnosis = text(rows.column(0).as_ref(), row);
        let of = || stays.iter().filter(|stay| stay.diagnosis == diagnosis);
        let n = rows.column(1).as_primitive::<Int64Type>().value(row);
        assert!((n - of().count() as i64).abs() <= slack(of()));
        let persons_said = rows.column(2).as_primitive::<Int64Type>().value(row);
        assert!((persons_said - persons(of()).len() as i64).abs() <= NOISE_MAX);
        let scores: Vec<f64> = of().filter_map(|stay| stay.score).collect();
        let mean = scores.iter().sum::<f64>() / scores.len() as f64;
        let said = rows.column(3).as_primitive::<Float64Type>().value(row);
        assert!((said - mean).abs() < 1.0, "{diagnosis}: {said} for {mean}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_epidemiologists_write_is_answered() {
    let hub = Hub::new().await;
    for sql in [
        "SELECT date_trunc('month', begun) AS month, count(*) FROM stays GROUP BY 1 ORDER BY 1",
        "SELECT extract(year FROM begun) AS y, urgent, count(*) FROM stays GROUP BY 1, 2",
        "SELECT left(commune, 2) AS d, count(*) FROM stays WHERE commune IS NOT NULL GROUP BY d",
        "SELECT d.code, count(DISTINCT s.person) FROM stays s JOIN diagnoses d ON d.stay = s.stay \
         WHERE s.begun >= DATE '2024-01-01' GROUP BY d.code",
        "SELECT d.code, count(*) FROM stays s, diagnoses d WHERE d.stay = s.stay GROUP BY d.code",
        "SELECT l.label, count(*) FROM stays a JOIN stays b ON b.person = a.person \
         AND b.begun > a.begun JOIN labels l ON l.code = a.diagnosis GROUP BY l.label",
        "SELECT count(*) FROM diagnoses d LEFT JOIN stays s ON s.stay = d.stay \
         JOIN (SELECT person, count(*) AS n FROM stays GROUP BY person) p ON p.person = s.person \
         JOIN stays o ON o.person = p.person",
        "SELECT code, count(*) FROM diagnoses GROUP BY code",
        "SELECT l.label, count(*) FROM stays s JOIN labels l ON l.code = s.diagnosis GROUP BY 1",
        "SELECT count(*) FROM stays WHERE person IN (SELECT person FROM stays WHERE diagnosis = 'I07')",
        "SELECT count(*) FROM stays WHERE diagnosis IN (SELECT code FROM labels WHERE label LIKE '%1')",
        "SELECT n, count(*) FROM (SELECT person, count(*) AS n FROM stays GROUP BY person) GROUP BY n",
        "SELECT avg(n) FROM (SELECT person, count(*) AS n FROM stays GROUP BY person)",
        "WITH first AS (SELECT person, min(begun) AS d FROM stays GROUP BY person) \
         SELECT count(*) FROM first f JOIN stays s ON s.person = f.person AND s.begun > f.d",
        "SELECT count(*) FILTER (WHERE urgent) * 100.0 / count(*) AS share FROM stays",
        "SELECT sum(CASE WHEN score > 5 THEN 1 ELSE 0 END) AS high FROM stays",
        "SELECT sum(departed - begun) FROM (SELECT TRY_CAST(note AS INT) AS departed, divisor AS begun FROM stays)",
        "SELECT a.n - b.n FROM (SELECT count(*) AS n FROM stays) a, (SELECT count(*) AS n FROM stays WHERE diagnosis = 'I07') b",
        "SELECT diagnosis, count(*) * 1.0 / (SELECT count(*) FROM stays) AS share FROM stays GROUP BY 1",
        "SELECT diagnosis, rank() OVER (ORDER BY n DESC) FROM (SELECT diagnosis, count(*) AS n FROM stays GROUP BY 1)",
        "SELECT count(*) FROM stays WHERE begun BETWEEN DATE '2024-01-01' AND DATE '2024-12-31' AND NOT urgent",
        "SELECT * FROM labels",
    ] {
        let rows = hub.rows(sql).await;
        assert!(rows.num_rows() > 0, "{sql}");
        let empty = rows
            .columns()
            .iter()
            .all(|column| column.null_count() == rows.num_rows());
        assert!(!empty, "{sql}: everything is suppressed");
    }
}

/// Queries that would show rows, and what their refusals say.
const REFUSED: &[(&str, &str)] = &[
    ("SELECT * FROM stays", "only aggregates"),
    ("SELECT begun FROM stays LIMIT 1", "only aggregates"),
    ("SELECT DISTINCT diagnosis FROM stays", "only aggregates"),
    (
        "SELECT diagnosis FROM stays GROUP BY diagnosis",
        "add count(*)",
    ),
    (
        "SELECT person, count(*) FROM stays GROUP BY person",
        "only aggregates",
    ),
    (
        "SELECT stay, count(*) FROM stays GROUP BY stay",
        "only aggregates",
    ),
    (
        "SELECT left(person, 3), count(*) FROM stays GROUP BY 1",
        "identifier",
    ),
    (
        "SELECT count(*) FROM stays WHERE person = 'x'",
        "identifier",
    ),
    (
        "SELECT count(*) FROM stays WHERE person IN ('x', 'y')",
        "identifier",
    ),
    (
        "SELECT count(*) FROM stays WHERE person LIKE 'a%'",
        "identifier",
    ),
    ("SELECT min(begun) FROM stays", "`min` is not available"),
    (
        "SELECT max(score), count(*) FROM stays",
        "`max` is not available",
    ),
    (
        "SELECT median(score) FROM stays",
        "`median` is not available",
    ),
    (
        "SELECT array_agg(note) FROM stays",
        "`array_agg` is not available",
    ),
    ("SELECT string_agg(note, ',') FROM stays", "not available"),
    (
        "SELECT count(DISTINCT note) FROM stays",
        "counts identifiers",
    ),
    ("SELECT sum(DISTINCT score) FROM stays", "not available"),
    ("SELECT count(*) OVER () FROM stays", "only aggregates"),
    (
        "SELECT count(*) FROM (SELECT * FROM stays LIMIT 1)",
        "only aggregates",
    ),
    (
        "SELECT count(*) FROM (SELECT * FROM stays ORDER BY begun LIMIT 12)",
        "only aggregates",
    ),
    (
        "SELECT count(*) FROM (SELECT note FROM stays UNION ALL SELECT note FROM stays)",
        "only aggregates",
    ),
    (
        "SELECT count(*) FROM stays s JOIN (VALUES ('I07')) v(d) ON v.d = s.diagnosis",
        "aggregate them first",
    ),
    (
        "SELECT count(*) FROM stays WHERE diagnosis IN (SELECT * FROM (VALUES ('I07')))",
        "IN (SELECT",
    ),
    (
        "SELECT count(*) FROM stays a, stays b",
        "joined on an identifier",
    ),
    (
        "SELECT count(*) FROM stays a JOIN stays b ON a.begun = b.begun",
        "joined on an identifier",
    ),
    (
        "SELECT count(*) FROM stays a CROSS JOIN labels",
        "primary key",
    ),
    (
        "SELECT count(*) FROM stays s JOIN labels l ON l.label = s.note",
        "primary key",
    ),
    (
        "SELECT count(*) FROM stays s JOIN labels l ON l.code <> s.diagnosis",
        "primary key",
    ),
    (
        "SELECT count(*) FROM stays s JOIN (SELECT a.code FROM labels a, labels b) l \
         ON l.code = s.diagnosis",
        "primary key",
    ),
    (
        "SELECT count(*) FROM stays a JOIN stays b ON a.stay = b.stay \
         JOIN stays c ON b.stay = c.stay JOIN stays d ON c.stay = d.stay \
         JOIN stays e ON d.stay = e.stay JOIN stays f ON e.stay = f.stay",
        "at most 4 joins",
    ),
    (
        "SELECT count(*) FROM stays a JOIN stays b ON a.person = b.person \
         JOIN stays c ON b.person = c.person",
        "may meet several of each other in 1 join",
    ),
    (
        "SELECT count(*) FROM (SELECT a.person FROM stays a, stays b WHERE a.person = b.person) x \
         JOIN (SELECT a.person FROM stays a, stays b WHERE a.person = b.person) y \
         ON x.person = y.person",
        "may meet several of each other in 1 join",
    ),
    (
        "SELECT count(*) FROM (SELECT person, urgent, count(*) AS n FROM stays GROUP BY person, \
         left(note, 9), urgent) x JOIN stays y ON x.person = y.person AND x.urgent = y.urgent \
         JOIN diagnoses d ON d.stay = y.stay JOIN stays z ON z.person = y.person",
        "may meet several of each other in 1 join",
    ),
    (
        "SELECT count(*) FROM stays a FULL JOIN stays b ON a.person = b.person",
        "not available",
    ),
    (
        "SELECT count(*) FROM stays WHERE CAST(note AS INT) > 5",
        "TRY_CAST",
    ),
    (
        "SELECT count(*) FROM stays WHERE 100 / divisor > 5",
        "division",
    ),
    ("SELECT sum(100 % divisor) FROM stays", "division"),
    (
        "SELECT count(*) FROM stays WHERE sqrt(score) > 1",
        "`sqrt` is not available",
    ),
    (
        "SELECT count(*) FROM stays WHERE random() < 0.5",
        "`random` is not available",
    ),
    (
        "SELECT count(*) FROM stays s WHERE EXISTS (SELECT 1 FROM diagnoses d WHERE d.stay = s.stay)",
        "subquery",
    ),
    (
        "SELECT count(*) FROM stays WHERE score > (SELECT avg(score) FROM stays)",
        "subquery",
    ),
    (
        "SELECT urgent, count(*) FROM stays GROUP BY ROLLUP (urgent)",
        "ROLLUP",
    ),
    (
        "SELECT (SELECT max(begun) FROM stays) AS d",
        "not available",
    ),
    (
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM stays WHERE secret = 4242)",
        "only aggregates",
    ),
    (
        "SELECT 1 WHERE 1 IN (SELECT divisor FROM stays)",
        "only aggregates",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_would_show_rows_is_refused() {
    let hub = Hub::new().await;
    for (sql, said) in REFUSED {
        let refused = hub.refusal(sql).await;
        assert!(refused.contains(said), "{sql}: {refused}");
        assert!(!refused.contains("hidden-"), "{sql}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_cells_become_one_row_without_keys() {
    let hub = Hub::new().await;
    // One stay each: a list of rows in disguise.
    for key in ["note", "big"] {
        let sql =
            format!("SELECT {key}, count(*) FROM stays WHERE note LIKE 'hidden%' GROUP BY {key}");
        let rows = hub.rows(&sql).await;
        for row in 0..rows.num_rows() {
            let small = rows.column(1).is_null(row);
            assert_eq!(small, rows.column(0).is_null(row), "{rows:?}");
        }
        assert!(rows.num_rows() <= 2);
    }
    // Around the threshold it depends on who they are.
    let rows = hub
        .rows("SELECT big % 16 AS b, diagnosis, count(*) FROM stays GROUP BY b, diagnosis")
        .await;
    let mut true_persons: BTreeMap<(i64, String), BTreeSet<i64>> = BTreeMap::new();
    for stay in known() {
        let cell = true_persons
            .entry((stay.big % 16, stay.diagnosis.clone()))
            .or_default();
        cell.extend(stay.person);
    }
    let of_size = |least: u32| {
        let sizes = true_persons.values().map(BTreeSet::len);
        sizes.filter(|size| *size >= least as usize).count()
    };
    let shown = rows.num_rows() - 1;
    let (surely, at_most) = (
        of_size(PERSONS_MIN_DEFAULT + MARGIN),
        of_size(PERSONS_MIN_DEFAULT),
    );
    assert!(
        (surely..=at_most).contains(&shown),
        "{surely} {shown} {at_most}"
    );
    assert!(at_most > 0, "no cell is near the threshold");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_that_is_small_is_suppressed_and_its_complement_does_not_tell() {
    let hub = Hub::new().await;
    for (sql, shown) in [
        ("SELECT count(*) FROM stays WHERE big = 3", false),
        ("SELECT count(*) FROM stays WHERE big <> 3", true),
        ("SELECT count(*) FROM stays WHERE false", false),
        (
            "SELECT count(*) FROM stays WHERE person IN (SELECT person FROM stays WHERE big < 20000)",
            true,
        ),
        (
            "SELECT count(*) FROM stays WHERE person NOT IN (SELECT person FROM stays WHERE big = 3 AND person IS NOT NULL)",
            true,
        ),
        // A set of nobody but a NULL, or of one person: what is not in it is the same.
        (
            "SELECT count(*) FROM stays WHERE person NOT IN (SELECT b.person FROM stays a \
             LEFT JOIN stays b ON a.person = b.person AND b.big = -3 WHERE a.big = 3)",
            true,
        ),
        (
            "SELECT count(*) FROM stays WHERE person NOT IN (SELECT b.person FROM stays a \
             LEFT JOIN stays b ON a.person = b.person AND b.big = 3 WHERE a.big = 3)",
            true,
        ),
        // A NULL that is in no set, whether or not anybody is.
        (
            "SELECT count(*) FROM stays a LEFT JOIN stays b ON a.person = b.person AND b.big = -3 \
             WHERE b.person NOT IN (SELECT person FROM stays WHERE big = -3)",
            false,
        ),
        (
            "SELECT count(*) FROM stays a LEFT JOIN stays b ON a.person = b.person AND b.big = -3 \
             WHERE b.person NOT IN (SELECT person FROM stays WHERE big = 3)",
            false,
        ),
        (
            "SELECT count(*) FROM stays WHERE (big = 3) IS NOT TRUE",
            true,
        ),
        (
            "SELECT count(*) FROM stays WHERE (big = -3) IS NOT TRUE",
            true,
        ),
        (
            "SELECT count(DISTINCT person) FROM stays WHERE diagnosis = 'I07'",
            true,
        ),
    ] {
        assert_eq!(hub.number(sql).await.is_some(), shown, "{sql}");
    }
}

/// A hospital has many patients, a diagnosis many stays: to keep all of its rows for the sake of one
/// person would tell of that person by the count of the others.
#[tokio::test(flavor = "multi_thread")]
async fn identifiers_that_persons_share_are_not_looked_for_in_sets() {
    let hashed = TableGrant {
        masks: vec![("diagnosis".to_owned(), Mask::HashPerProject)],
        ..grant("stays")
    };
    let hub = Hub::of_tables("surveillance", Tables::Only(vec![hashed])).await;
    let of_one = "SELECT diagnosis FROM stays WHERE big = 3";
    for sql in [
        format!("SELECT count(*) FROM stays WHERE diagnosis IN ({of_one})"),
        format!("SELECT count(*) FROM stays WHERE diagnosis NOT IN ({of_one})"),
        format!("SELECT count(*) FROM stays WHERE person IN ({of_one})"),
        "SELECT count(*) FROM stays WHERE diagnosis IN (SELECT person FROM stays WHERE big = 3)"
            .to_owned(),
    ] {
        let said = hub.refusal(&sql).await;
        assert!(said.contains("leads to one person"), "{sql}: {said}");
    }
}

/// Averaging: the same persons asked for in other words, by other projects, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_persons_give_the_same_noise_however_they_are_asked_for() {
    let hub = Hub::new().await;
    let mut answers = BTreeSet::new();
    for sql in [
        "SELECT count(DISTINCT person) FROM stays WHERE diagnosis = 'I07'",
        "SELECT count(DISTINCT person) FROM stays WHERE diagnosis = 'I07' AND 1 = 1",
        "SELECT count(DISTINCT person) FROM stays WHERE NOT (diagnosis <> 'I07')",
        "SELECT count(DISTINCT person) FILTER (WHERE diagnosis = 'I07') FROM stays",
        "SELECT count(*) FROM (SELECT person FROM stays WHERE diagnosis = 'I07' GROUP BY person)",
        "SELECT sum(x) FROM (SELECT person, 1 AS x FROM stays WHERE diagnosis = 'I07' GROUP BY person)",
        "SELECT sum(CASE WHEN u > 0 THEN 1 ELSE 0 END) FROM \
         (SELECT person, sum(CASE WHEN diagnosis = 'I07' THEN 1 ELSE 0 END) AS u FROM stays GROUP BY person)",
        "SELECT count(DISTINCT a.person) FROM stays a JOIN stays b ON a.person = b.person WHERE b.diagnosis = 'I07'",
    ] {
        answers.insert(hub.number(sql).await);
    }
    let other = Hub::of_project("elsewhere").await;
    answers.insert(
        other
            .number("SELECT count(DISTINCT person) FROM stays WHERE diagnosis = 'I07'")
            .await,
    );
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.iter().all(Option::is_some));
}

/// Without the hub's one key of noise the same attack succeeds: what is drawn anew, for another
/// wording, another account or another project, is gone in the mean.
#[tokio::test(flavor = "multi_thread")]
async fn noise_that_is_drawn_anew_is_averaged_away() {
    let hub = Hub::new().await;
    let sql = "SELECT count(DISTINCT person) FROM stays WHERE diagnosis = 'I07'";
    let ill = known().into_iter().filter(|stay| stay.diagnosis == "I07");
    let ill: Vec<Stay> = ill.collect();
    let truth = persons(ill.iter()).len() as f64;
    let mut answers = Vec::new();
    for draw in 0..=u8::MAX {
        let keys = world::keys_with_noise(&hub.aggregate.project, [draw; 32]);
        let anew = Hub::with_keys(Arc::clone(&hub.world), hub.aggregate.clone(), &keys);
        answers.push(anew.number(sql).await.unwrap() as f64);
    }
    let mean = answers.iter().sum::<f64>() / answers.len() as f64;
    assert!((mean - truth).abs() < 0.5, "{mean} of {truth}");
    let off = answers.iter().filter(|answer| **answer != truth).count();
    assert!(off > answers.len() / 2, "no noise");
}

/// Differencing: a count with and without one person. Without noise each pair gives the person
/// away; with it the guess is hardly better than a coin's.
#[tokio::test(flavor = "multi_thread")]
async fn two_counts_that_differ_by_one_person_do_not_tell() {
    let hub = Hub::new().await;
    let stays = known();
    let (mut differences, mut right) = (BTreeMap::new(), 0);
    let targets: Vec<i64> = (0..60).collect();
    for target in &targets {
        // Persons with a stay of these numbers; `big` is the number of a visible stay.
        let visible: Vec<&Stay> = stays.iter().filter(|stay| stay.big != i64::MAX).collect();
        let base = 40 + target;
        let members = persons(visible.iter().filter(|s| s.big < base * 10).copied());
        let outsider = visible
            .iter()
            .find(|s| s.person.is_some_and(|p| !members.contains(&p)));
        let outsider = outsider.unwrap().big;
        let count = |condition: String| {
            format!(
                "SELECT count(DISTINCT person) FROM stays WHERE person IN \
                 (SELECT person FROM stays WHERE {condition})"
            )
        };
        let without = hub.number(&count(format!("big < {}", base * 10))).await;
        let with = hub
            .number(&count(format!("big < {} OR big = {outsider}", base * 10)))
            .await;
        let difference = with.unwrap() - without.unwrap();
        *differences.entry(difference).or_insert(0) += 1;
        // The best guess that the person is there: the difference is at least one.
        right += i32::from(difference >= 1);
    }
    // Noise of both counts: the standard deviation is 2.5, so that two in five point the wrong way.
    assert!(differences.len() >= 5, "{differences:?}");
    assert!(
        (targets.len() as i32 / 4..=targets.len() as i32 * 5 / 6).contains(&right),
        "{right}"
    );
}

/// Remainders: all minus the groups that are shown.
#[tokio::test(flavor = "multi_thread")]
async fn what_groups_leave_of_the_whole_carries_noise() {
    let hub = Hub::new().await;
    let groups = hub
        .rows("SELECT CASE WHEN big = 3 THEN 'one' ELSE 'others' END AS g, count(*) FROM stays GROUP BY g")
        .await;
    assert_eq!(groups.num_rows(), 2);
    let counts = groups.column(1).as_primitive::<Int64Type>();
    assert_eq!(counts.null_count(), 1, "the one is not shown");
    let others: i64 = counts.iter().flatten().sum();
    let all = hub.number("SELECT count(*) FROM stays").await.unwrap();
    let truth = known();
    let exact = truth.iter().filter(|stay| stay.big != 3).count() as i64;
    assert!(
        others != exact || all != truth.len() as i64,
        "both are exact"
    );
}

/// Trackers: sums over a condition that holds for few are suppressed, whatever the group.
#[tokio::test(flavor = "multi_thread")]
async fn sums_in_which_few_count_are_suppressed() {
    let hub = Hub::new().await;
    for sql in [
        "SELECT sum(CASE WHEN big = 3 THEN 1 ELSE 0 END) FROM stays",
        "SELECT count(*) FILTER (WHERE big = 3) FROM stays",
        "SELECT count(CASE WHEN big = 3 THEN 1 END) FROM stays",
        "SELECT count(nullif(big = 3, false)) FROM stays",
    ] {
        assert_eq!(hub.number(sql).await, None, "{sql}");
    }
}

/// One flag a person: 1 for those who were ever found to have a diagnosis.
fn flagged(diagnosis: &str, weights: &str) -> String {
    format!(
        "SELECT {weights} FROM (SELECT person, max(CASE WHEN diagnosis = '{diagnosis}' THEN 1 \
         ELSE 0 END) AS p FROM stays GROUP BY person)"
    )
}

/// Weights: the remainder of a sum, or the difference of two, gives a small number exactly where
/// the noise is whole or the same for both.
#[tokio::test(flavor = "multi_thread")]
async fn no_choice_of_weights_cancels_the_noise() {
    let hub = Hub::new().await;
    for weights in [
        "sum(CASE WHEN p = 1 THEN 1 ELSE 1000000 END) % 1000000",
        "2 * sum(1) - sum(CASE WHEN p = 1 THEN 1 ELSE 2 END)",
        "sum(1 + p) - count(*)",
        "sum(1000 + p) - 1000 * count(*)",
        "sum(CASE WHEN p = 1 THEN 1.00001 ELSE 1 END) * 100000 - 100000 * sum(CAST(1 AS DOUBLE))",
    ] {
        let mut exact = 0;
        for code in 0..16 {
            let diagnosis = format!("I{code:02}");
            let stays = known();
            let truth = persons(stays.iter().filter(|stay| stay.diagnosis == diagnosis));
            let sql = flagged(&diagnosis, &format!("CAST(round({weights}) AS BIGINT)"));
            let answer = hub.number(&sql).await;
            exact += i32::from(answer == Some(truth.len() as i64));
        }
        // By chance one in four would be hit, were the noise of one count all that there is.
        assert!(exact <= 8, "{weights}: {exact} of 16 are exact");
    }
}

/// Weights: what few bring is cut to what others bring, so that neither the sum nor its
/// suppression tells of them.
#[tokio::test(flavor = "multi_thread")]
async fn heavy_weights_on_few_do_not_show() {
    let hub = Hub::new().await;
    let all = persons(&known()).len() as f64;
    for weight in ["1000000000.0", "CAST('NaN' AS DOUBLE)", "1e-12"] {
        for condition in ["big = 3", "big IN (3, 4, 5)", "big = -3"] {
            let weights = format!("sum(CASE WHEN p = 1 THEN {weight} ELSE 1.0 END)");
            let sql = format!(
                "SELECT CAST({weights} AS BIGINT) FROM (SELECT person, \
                 max(CASE WHEN {condition} THEN 1 ELSE 0 END) AS p FROM stays GROUP BY person)"
            );
            let sum = hub.number(&sql).await.unwrap() as f64;
            assert!(
                (sum - all).abs() <= 20.0,
                "{weight} where {condition}: {sum} of {all}"
            );
        }
    }
}

/// The row of suppressed cells is always there: it does not tell that somebody is in one.
#[tokio::test(flavor = "multi_thread")]
async fn the_row_of_small_cells_tells_nothing() {
    let hub = Hub::new().await;
    for condition in ["big = 3", "big = -3"] {
        let rows = hub
            .rows(&format!(
                "SELECT CASE WHEN {condition} THEN 'few' ELSE 'others' END AS g, count(*) \
                 FROM stays GROUP BY g"
            ))
            .await;
        let keys: Vec<String> = (0..rows.num_rows())
            .map(|row| text(rows.column(0).as_ref(), row))
            .collect();
        assert_eq!(rows.num_rows(), 2, "{condition}: {keys:?}");
        assert_eq!(rows.column(0).null_count(), 1, "{condition}: {keys:?}");
    }
    let rows = hub
        .rows("SELECT diagnosis, count(*) FROM stays WHERE big = -3 GROUP BY diagnosis")
        .await;
    assert_eq!(rows.num_rows(), 1, "nobody at all");
}

/// Persons of a dataset with a higher threshold keep it where others are asked for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_by_another_dataset_keeps_its_threshold() {
    for (persons_min, shown) in [(11, true), (1_000_000, false)] {
        let hub = Hub::new().await;
        let mut world = World::new().await;
        let mut registry: Dataset = world.datasets[1].as_ref().clone();
        registry.persons_min = persons_min;
        world.datasets[1] = Arc::new(registry);
        let aggregate = Habilitation {
            mode: Mode::Aggregate,
            dataset: "registry".to_owned(),
            ..habilitation("surveillance", Tables::All)
        };
        world.register(&hub.ctx, &aggregate, &keys("surveillance"));
        let sql = "SELECT count(*) FROM stays WHERE person IN \
                   (SELECT person FROM persons WHERE birth > 0)";
        assert_eq!(hub.number(sql).await.is_some(), shown, "{persons_min}");
    }
}

/// The test of the test: without the noise, two counts give a person away every time.
#[tokio::test(flavor = "multi_thread")]
async fn without_protection_the_difference_is_exact() {
    let world = World::new().await;
    let ctx = world.session(&habilitation("open", Tables::All), config(true));
    let count = async |sql: &str| {
        let rows = ctx.sql(sql).await.unwrap().collect().await.unwrap();
        rows[0].column(0).as_primitive::<Int64Type>().value(0)
    };
    let without = count("SELECT count(DISTINCT person) FROM stays WHERE big < 4000").await;
    let members = "SELECT person FROM stays WHERE big < 4000 AND person IS NOT NULL";
    let outsider = count(&format!(
        "SELECT min(big) FROM stays WHERE person NOT IN ({members})"
    ))
    .await;
    let with = count(&format!(
        "SELECT count(DISTINCT person) FROM stays WHERE big < 4000 OR big = {outsider}"
    ))
    .await;
    assert_eq!(with - without, 1);
}
