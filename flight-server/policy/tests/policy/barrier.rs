//! What views show, and what the optimiser may and may not do around them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::SessionContext;
use hubflight_policy::{
    PolicyError, PolicyScanExec, REMARKS_KEY, Sources, UNIT_KEY, describe_table, granted_tables,
    open_table,
};
use hubflight_rights::dataset::PersonPath;
use hubflight_rights::habilitation::{
    Columns, Comparison, Habilitation, Mask, Mode, Predicate, TableGrant, Tables, Value,
};

use crate::world::{
    self, World, birth, cohort, config, date, grant, habilitation, keys, keys_of, parquet_table,
    researcher, rows, since, stays,
};

async fn one(ctx: &SessionContext, sql: &str) -> String {
    rows(ctx, sql).await.unwrap().join(";")
}

async fn plan(ctx: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    ctx.sql(sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap()
}

/// The barriers of a plan by table, with the number of dynamic filters that each has let in.
fn barriers(plan: &Arc<dyn ExecutionPlan>) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<PolicyScanExec>() {
            let mut dynamic = 0;
            node.apply_expressions(&mut |_| {
                dynamic += 1;
                Ok(TreeNodeRecursion::Continue)
            })?;
            found.push((scan.table().1.to_owned(), dynamic));
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn only_granted_tables_and_columns_exist() {
    let world = World::new().await;
    let habilitation = researcher();
    let dataset = world.dataset("hospital").unwrap();
    assert_eq!(
        granted_tables(&dataset, &habilitation),
        ["stays", "diagnoses", "labels"]
    );
    let less = Habilitation {
        tables: Tables::Only(vec![grant("labels")]),
        ..researcher()
    };
    assert_eq!(granted_tables(&dataset, &less), ["labels"]);
    let keys = keys("readmission");
    for missing in ["stays", "persons", "nothing", "", "STAYS"] {
        assert!(
            open_table(&world, &less, missing, &keys).unwrap().is_none(),
            "{missing}"
        );
        assert!(
            describe_table(&world, &less, missing).unwrap().is_none(),
            "{missing}"
        );
    }

    let stays = open_table(&world, &habilitation, "stays", &keys)
        .unwrap()
        .unwrap();
    assert_eq!(
        stays.visible_columns(),
        [
            "person",
            "stay",
            "begun",
            "diagnosis",
            "commune",
            "departed",
            "note",
            "divisor",
            "big",
            "score",
            "urgent"
        ]
    );
    assert_eq!((stays.dataset(), stays.table()), ("hospital", "stays"));
    assert_eq!(stays.habilitation(), ("readmission-hospital", 3));
    assert!(!stays.is_unrestricted() && !stays.shows_all_rows());
    let labels = open_table(&world, &habilitation, "labels", &keys)
        .unwrap()
        .unwrap();
    assert!(labels.is_unrestricted());

    let described = describe_table(&world, &habilitation, "stays")
        .unwrap()
        .unwrap();
    assert_eq!(described, stays.described_schema());
    let score = described.field_with_name("score").unwrap();
    assert_eq!(
        score.metadata().get(REMARKS_KEY).unwrap(),
        "remarks on score"
    );
    assert_eq!(score.metadata().get(UNIT_KEY).unwrap(), "points");
    let person = described.field_with_name("person").unwrap();
    assert_eq!(person.data_type(), &DataType::Utf8View);
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregate_mode_and_foreign_keys_are_refused() {
    let world = World::new().await;
    let aggregate = Habilitation {
        mode: Mode::Aggregate,
        ..researcher()
    };
    let stays = open_table(&world, &aggregate, "stays", &keys("readmission"));
    let ctx = SessionContext::new();
    ctx.register_table("stays", stays.unwrap().unwrap())
        .unwrap();
    for sql in [
        "SELECT * FROM stays",
        "SELECT count(*) FROM stays",
        "SELECT 1 FROM stays",
    ] {
        let ran = ctx.sql(sql).await.unwrap().collect().await;
        let refused = ran.unwrap_err().to_string();
        assert!(refused.contains("only aggregates of dataset"), "{refused}");
    }
    assert!(
        describe_table(&world, &aggregate, "stays")
            .unwrap()
            .is_some()
    );
    assert!(
        open_table(&world, &aggregate, "persons", &keys("readmission"))
            .unwrap()
            .is_none()
    );
    let error = open_table(&world, &researcher(), "stays", &keys("linked")).unwrap_err();
    assert_eq!(
        error,
        PolicyError::KeysOfOtherScope {
            project: "readmission".to_owned()
        }
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_follow_the_path_to_the_person() {
    let world = World::new().await;
    let all = stays();
    let first = world::first_visible_day();
    let is_visible = |stay: &&world::Stay| {
        date(1970, 1, 1) + chrono::TimeDelta::days(i64::from(stay.begun)) >= first
    };
    let visible = all.iter().filter(is_visible).count();
    assert!(
        visible * 10 > all.len() * 3,
        "too few visible rows to show a leak: {visible}"
    );

    // Diagnoses of hidden stays are hidden, whether or not stays are granted themselves.
    let expected: i64 = all.iter().filter(is_visible).map(|stay| stay.id % 3).sum();
    let ctx = world.session(&researcher(), config(false));
    assert_eq!(
        one(&ctx, "SELECT count(*) FROM diagnoses").await,
        expected.to_string()
    );

    // The cohort comes from a table that the project cannot see, and reaches both.
    let with_cohort = Habilitation {
        persons: Some(cohort()),
        tables: Tables::Only(vec![grant("diagnoses"), grant("labels")]),
        ..researcher()
    };
    let in_cohort = |stay: &&world::Stay| stay.person.is_some_and(|person| birth(person) < 1970);
    let expected: i64 = all.iter().filter(in_cohort).map(|stay| stay.id % 3).sum();
    let ctx = world.session(&with_cohort, config(false));
    assert_eq!(
        one(&ctx, "SELECT count(*) FROM diagnoses").await,
        expected.to_string()
    );
    assert_eq!(one(&ctx, "SELECT count(*) FROM labels").await, "89");
    assert!(rows(&ctx, "SELECT * FROM persons").await.is_err());

    // Both at once.
    let both = Habilitation {
        persons: Some(cohort()),
        ..researcher()
    };
    let expected = all.iter().filter(is_visible).filter(in_cohort).count();
    let ctx = world.session(&both, config(false));
    assert_eq!(
        one(&ctx, "SELECT count(*) FROM stays").await,
        expected.to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pseudonyms_join_within_a_linkage_group_only() {
    let world = World::new().await;
    let linked = |dataset: &str, group: &str, project: &str| Habilitation {
        id: format!("{project}-{dataset}"),
        dataset: dataset.to_owned(),
        linkage_group: group.to_owned(),
        ..habilitation(project, Tables::All)
    };
    let distinct = stays()
        .iter()
        .filter_map(|s| s.person)
        .collect::<std::collections::HashSet<_>>();
    let join = "SELECT count(DISTINCT p.person) FROM persons p JOIN stays s ON p.person = s.person";

    let ctx = world.session(&linked("hospital", "main", "linked"), config(true));
    world.register(&ctx, &linked("registry", "main", "linked"), &keys("linked"));
    assert_eq!(one(&ctx, join).await, distinct.len().to_string());

    let ctx = world.session(&linked("hospital", "main", "linked"), config(true));
    world.register(
        &ctx,
        &linked("registry", "apart", "linked"),
        &keys_of("linked", "apart"),
    );
    assert_eq!(one(&ctx, join).await, "0");

    let ctx = world.session(&linked("hospital", "main", "linked"), config(true));
    world.register(&ctx, &linked("registry", "main", "other"), &keys("other"));
    assert_eq!(one(&ctx, join).await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_literal_pseudonym_finds_its_rows() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    let sample = rows(
        &ctx,
        "SELECT stay, max(person), count(*) OVER () FROM stays WHERE person IS NOT NULL \
         GROUP BY stay ORDER BY stay LIMIT 3",
    )
    .await
    .unwrap();
    let cells: Vec<Vec<&str>> = sample.iter().map(|row| row.split('|').collect()).collect();
    let (first, second) = (cells[0][0], cells[1][0]);
    assert_eq!(first.len(), 26);

    let sql = format!("SELECT stay, person FROM stays WHERE stay = '{first}'");
    assert_eq!(one(&ctx, &sql).await, format!("{first}|{}", cells[0][1]));
    let plan = displayable(plan(&ctx, &sql).await.as_ref())
        .indent(false)
        .to_string();
    assert!(
        plan.contains("filters=[") && !plan.contains("FilterExec"),
        "{plan}"
    );

    let sql =
        format!("SELECT stay FROM stays WHERE '{first}' = stay OR stay = '{second}' ORDER BY 1");
    assert_eq!(one(&ctx, &sql).await, format!("{first};{second}"));
    let sql =
        format!("SELECT count(*) FROM stays WHERE stay IN ('{first}', 'x', NULL, '{second}')");
    assert_eq!(one(&ctx, &sql).await, "2");
    let all = one(&ctx, "SELECT count(*) FROM stays").await;
    let sql =
        format!("SELECT count(*) FROM stays WHERE NOT (stay = '{first}') OR stay = '{first}'");
    assert_eq!(one(&ctx, &sql).await, all);
    // A pseudonym of another domain, an altered one and the stored identifier find nothing.
    for literal in [
        cells[0][1],
        "7",
        "00000000000000000000000007",
        &first.to_uppercase(),
    ] {
        let sql = format!("SELECT count(*) FROM stays WHERE stay = '{literal}'");
        assert_eq!(one(&ctx, &sql).await, "0", "{literal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_hidden_rows_do_not_answer() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    for sql in [
        "SELECT count(*) FROM stays",
        "SELECT min(begun) FROM stays",
        "SELECT max(big) FROM stays",
        "SELECT count(commune) FROM stays",
    ] {
        let plan = plan(&ctx, sql).await;
        assert_eq!(
            barriers(&plan).len(),
            1,
            "{sql} is answered without reading the view"
        );
    }
    // Every row visible: the count may come from the files' statistics, and what the masked
    // and re-keyed columns hold may not.
    let masked = TableGrant {
        masks: vec![("departed".to_owned(), Mask::Year)],
        ..grant("stays")
    };
    let all_rows = habilitation("readmission", Tables::Only(vec![masked]));
    let ctx = world.session(&all_rows, config(true));
    assert!(barriers(&plan(&ctx, "SELECT count(*) FROM stays").await).is_empty());
    assert_eq!(
        one(&ctx, "SELECT count(*) FROM stays").await,
        world::STAYS.to_string()
    );
    for sql in [
        "SELECT max(departed) FROM stays",
        "SELECT min(person) FROM stays",
    ] {
        assert_eq!(barriers(&plan(&ctx, sql).await).len(), 1, "{sql}");
    }
    assert_eq!(
        one(&ctx, "SELECT max(departed) FROM stays").await,
        "2026-01-01"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamic_filters_pass_on_plain_columns_only() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    let cases = [
        // Bounds of a join key and the threshold of a TopK on plain columns are let in.
        (
            "SELECT s.stay FROM labels l JOIN stays s ON l.code = s.diagnosis WHERE l.label < 'label of I05'",
            1,
        ),
        ("SELECT stay FROM stays ORDER BY begun LIMIT 3", 1),
        ("SELECT max(begun) FROM stays", 1),
        // Expressions, masked and re-keyed columns stay outside.
        (
            "SELECT s.stay FROM labels l JOIN stays s ON length(l.code) = CAST(s.note AS INT) WHERE l.label < 'label of I05'",
            0,
        ),
        (
            "SELECT stay FROM stays ORDER BY CAST(note AS INT) LIMIT 3",
            0,
        ),
        ("SELECT stay FROM stays ORDER BY 10 / divisor LIMIT 3", 0),
        ("SELECT stay FROM stays ORDER BY commune LIMIT 3", 0),
        ("SELECT note FROM stays ORDER BY stay LIMIT 3", 0),
        ("SELECT max(big / divisor) FROM stays", 0),
    ];
    for (sql, expected) in cases {
        let plan = plan(&ctx, sql).await;
        let let_in: usize = barriers(&plan)
            .iter()
            .filter(|(table, _)| table == "stays")
            .map(|(_, dynamic)| dynamic)
            .sum();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert_eq!(let_in, expected, "{sql}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_filters_and_sorts_stay_above() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    let above = [
        (
            "SELECT stay FROM stays WHERE CAST(note AS INT) > 5",
            "FilterExec: CAST(note",
        ),
        (
            "SELECT stay FROM stays WHERE commune = '75'",
            "FilterExec: commune",
        ),
        (
            "SELECT stay FROM stays WHERE stay > 'a'",
            "FilterExec: stay",
        ),
        (
            "SELECT stay FROM stays WHERE note LIKE 'hidden%'",
            "FilterExec: note",
        ),
        (
            "SELECT stay FROM stays WHERE begun > departed",
            "FilterExec: departed",
        ),
        (
            "SELECT CAST(note AS INT) FROM stays",
            "ProjectionExec: expr=[CAST(note",
        ),
        (
            "SELECT stay FROM stays ORDER BY begun",
            "SortExec: expr=[begun",
        ),
    ];
    for (sql, expected) in above {
        let plan = plan(&ctx, sql).await;
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(text.contains(expected), "{sql}: no `{expected}` in\n{text}");
    }
    let below = [
        "SELECT stay FROM stays WHERE begun > DATE '2025-01-01'",
        "SELECT stay FROM stays WHERE diagnosis IN ('I01', 'I02') AND divisor <> 3",
        "SELECT stay FROM stays WHERE score IS NULL OR (urgent AND big >= 7)",
    ];
    for sql in below {
        let plan = plan(&ctx, sql).await;
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(
            text.contains("filters=[") && !text.contains("FilterExec"),
            "{sql}\n{text}"
        );
    }
    // A limit ends up in the barrier itself, above the policy.
    let plan = plan(&ctx, "SELECT note FROM stays LIMIT 7").await;
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("fetch=7"), "{text}");
    assert_eq!(
        rows(&ctx, "SELECT note FROM stays LIMIT 7")
            .await
            .unwrap()
            .len(),
        7
    );
    let limited = "SELECT note FROM stays WHERE begun < DATE '2024-09-01' LIMIT 7";
    assert_eq!(rows(&ctx, limited).await.unwrap().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unrestricted_table_is_planned_as_without_us() {
    let world = World::new().await;
    let ctx = world.session(&researcher(), config(true));
    let raw = SessionContext::new_with_config(config(true));
    raw.register_table("labels", world.source("hospital", "labels").unwrap())
        .unwrap();
    for sql in [
        "SELECT * FROM labels WHERE code > 'I40' ORDER BY label LIMIT 3",
        "SELECT count(*), min(code) FROM labels",
        "SELECT a.label FROM labels a JOIN labels b USING (code) WHERE b.label LIKE '%I1%'",
    ] {
        let ours = displayable(plan(&ctx, sql).await.as_ref())
            .indent(false)
            .to_string();
        let theirs = displayable(plan(&raw, sql).await.as_ref())
            .indent(false)
            .to_string();
        assert_eq!(ours, theirs);
    }
    // A subset of the columns is a projection and nothing more.
    let subset = TableGrant {
        columns: Columns::Only(vec!["label".to_owned()]),
        ..grant("labels")
    };
    let ctx = world.session(&habilitation("p", Tables::Only(vec![subset])), config(true));
    assert_eq!(
        one(&ctx, "SELECT count(*), max(label) FROM labels").await,
        "89|label of I88"
    );
    assert!(rows(&ctx, "SELECT code FROM labels").await.is_err());
    assert!(barriers(&plan(&ctx, "SELECT * FROM labels WHERE label = 'x'").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_tell_views_apart() {
    let world = World::new().await;
    let digest = |habilitation: &Habilitation, table: &str, project: &str| {
        let keys = keys_of(project, &habilitation.linkage_group);
        let table = open_table(&world, habilitation, table, &keys)
            .unwrap()
            .unwrap();
        table.digest()
    };
    let base = digest(&researcher(), "stays", "readmission");
    assert_eq!(base, digest(&researcher(), "stays", "readmission"));
    let mut different = vec![base, digest(&researcher(), "labels", "readmission")];
    let later = TableGrant {
        rows: Some(since(date(2025, 1, 1))),
        ..grant("stays")
    };
    let variants = [
        Habilitation {
            version: 4,
            ..researcher()
        },
        Habilitation {
            linkage_group: "other".to_owned(),
            ..researcher()
        },
        Habilitation {
            persons: Some(cohort()),
            ..researcher()
        },
        Habilitation {
            tables: Tables::All,
            ..researcher()
        },
        Habilitation {
            tables: Tables::Only(vec![later]),
            ..researcher()
        },
    ];
    different.extend(variants.map(|variant| digest(&variant, "stays", "readmission")));
    let other = Habilitation {
        project: "q".to_owned(),
        ..researcher()
    };
    different.push(digest(&other, "stays", "q"));
    let total = different.len();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), total);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_files_is_refused() {
    let world = World::new().await;
    let open = |grant: TableGrant| {
        let habilitation = habilitation("readmission", Tables::Only(vec![grant]));
        open_table(&world, &habilitation, "stays", &keys("readmission")).map(|_| ())
    };
    let compare = |column: &str, value: Value| TableGrant {
        rows: Some(Predicate::Compare {
            column: column.to_owned(),
            op: Comparison::Eq,
            value,
        }),
        ..grant("stays")
    };
    let mask = |column: &str, mask: Mask| TableGrant {
        masks: vec![(column.to_owned(), mask)],
        ..grant("stays")
    };
    assert_eq!(open(compare("divisor", Value::Int(3))), Ok(()));
    let refused = [
        (compare("divisor", Value::Text("3".to_owned())), "divisor"),
        (compare("divisor", Value::Int(i64::MAX)), "divisor"),
        (compare("diagnosis", Value::Int(3)), "diagnosis"),
        (compare("score", Value::Float(f64::NAN)), "score"),
        (compare("begun", Value::Bool(true)), "begun"),
        (compare("nothing", Value::Int(3)), "nothing"),
        (mask("divisor", Mask::Department), "divisor"),
        (mask("commune", Mask::Year), "commune"),
        (mask("person", Mask::Null), "person"),
        (mask("nothing", Mask::Null), "nothing"),
        (
            TableGrant {
                columns: Columns::Only(vec!["nothing".to_owned()]),
                ..grant("stays")
            },
            "nothing",
        ),
        (
            TableGrant {
                columns: Columns::Only(Vec::new()),
                ..grant("stays")
            },
            "no column",
        ),
    ];
    for (grant, named) in refused {
        let error = open(grant).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(
            !error.user_text().contains(&format!("column `{named}`")),
            "{error}"
        );
        assert!(!error.is_denial());
    }
}

/// Masks of every kind on odd values, and a NULL mask that never reads its column.
#[tokio::test(flavor = "multi_thread")]
async fn masks_show_what_they_say() {
    let world = World::new().await;
    let masked = TableGrant {
        masks: vec![
            ("commune".to_owned(), Mask::Prefix(1)),
            ("diagnosis".to_owned(), Mask::Prefix(0)),
            ("note".to_owned(), Mask::Prefix(255)),
            ("departed".to_owned(), Mask::Year),
            ("big".to_owned(), Mask::Null),
        ],
        ..grant("stays")
    };
    let ctx = world.session(&habilitation("p", Tables::Only(vec![masked])), config(true));
    let first = one(
        &ctx,
        "SELECT string_agg(DISTINCT commune, ',' ORDER BY commune) FROM stays",
    )
    .await;
    assert_eq!(first, "1,2,6,7,9,é");
    assert_eq!(one(&ctx, "SELECT DISTINCT diagnosis FROM stays").await, "");
    assert_eq!(
        one(&ctx, "SELECT count(big), count(*) FROM stays").await,
        "0|20011"
    );
    assert_eq!(
        one(&ctx, "SELECT count(*) FROM stays WHERE big IS NULL").await,
        "20011"
    );
    assert_eq!(
        one(
            &ctx,
            "SELECT count(*) FROM stays WHERE note LIKE 'hidden-%' "
        )
        .await,
        stays()
            .iter()
            .filter(|s| s.divisor == 0)
            .count()
            .to_string()
    );
    let years = "SELECT DISTINCT departed FROM stays WHERE departed IS NOT NULL ORDER BY 1";
    assert_eq!(
        one(&ctx, years).await,
        "2023-01-01;2024-01-01;2025-01-01;2026-01-01"
    );
}

/// Files whose column order, types and metadata differ from what is declared.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_declared_columns_still_hides_its_person() {
    let mut world = World::new().await;
    let mut dataset = world.dataset("hospital").unwrap().as_ref().clone();
    dataset.tables.retain(|table| table.name == "stays");
    dataset.tables[0].columns.clear();
    dataset.tables[0].person = PersonPath::Column("person".to_owned());
    world.datasets[0] = Arc::new(dataset);
    let ctx = world.session(&habilitation("p", Tables::All), config(true));
    let row = one(
        &ctx,
        "SELECT person, stay FROM stays WHERE person IS NOT NULL LIMIT 1",
    )
    .await;
    let (person, stay) = row.split_once('|').unwrap();
    assert_eq!(person.len(), 26);
    assert!(
        stay.parse::<i64>().is_ok(),
        "only the person is known to be an identifier"
    );
}

/// Metadata in the files (pandas writes the names of all columns there) stays inside.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_files_stays_inside() {
    let mut world = World::new().await;
    let config = config(true).set_bool("datafusion.execution.parquet.skip_metadata", false);
    let ctx = SessionContext::new_with_config(config.clone());
    let source = world.source("hospital", "stays").unwrap();
    ctx.register_table("raw", source).unwrap();
    let batches = ctx
        .sql("SELECT * FROM raw")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let batch = arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap();
    let metadata = [("pandas".to_owned(), "secret".to_owned())].into();
    let schema = Arc::new(batch.schema().as_ref().clone().with_metadata(metadata));
    let batch = batch.with_schema(schema).unwrap();
    let source = parquet_table(&ctx, &world.dir.path().join("with-metadata"), &batch).await;
    world
        .sources
        .insert(("hospital".to_owned(), "stays".to_owned()), source);
    let ctx = world.session(&researcher(), config);
    let batches = ctx
        .sql("SELECT * FROM stays")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    assert!(!batches.is_empty());
    for batch in batches {
        assert!(!format!("{:?}", batch.schema()).contains("secret"));
    }
}
