//! Timings, printed on request: `cargo test --release -p hubflight-policy -- --ignored --nocapture`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::StringArray;
use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Int32Array, Int64Array, RecordBatch};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use hubflight_policy::dataset::PersonPath;
use hubflight_policy::habilitation::{Comparison, Mask, Predicate, TableGrant, Tables, Value};

use crate::world::{
    World, config, date, grant, habilitation, keys, parquet_table, researcher, rows,
};

fn best(runs: usize, mut run: impl FnMut()) -> Duration {
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
#[ignore = "prints timings"]
fn pseudonyms_per_row() {
    const ROWS: usize = 8_192;
    let cipher = keys("p").cipher("main", "person");
    for (name, repeats) in [
        ("all distinct", 1),
        ("runs of 10", 10),
        ("runs of 100", 100),
    ] {
        let ids = Int64Array::from_iter_values((0..ROWS as i64).map(|row| row / repeats));
        let time = best(200, || {
            black_box(cipher.encrypt_array(black_box(&ids)).unwrap());
        });
        println!("{name}: {:.2} ns/row", time.as_nanos() as f64 / ROWS as f64);
    }
    let texts = StringArray::from_iter_values((0..ROWS).map(|row| format!("patient-{row}")));
    let time = best(20, || {
        black_box(cipher.encrypt_array(black_box(&texts)).unwrap());
    });
    println!(
        "distinct texts: {:.2} ns/row",
        time.as_nanos() as f64 / ROWS as f64
    );
}

async fn read(ctx: &SessionContext, sql: &str) -> usize {
    let mut stream = ctx.sql(sql).await.unwrap().execute_stream().await.unwrap();
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch.unwrap().num_rows();
    }
    rows
}

/// A table like the claims, as raw files and through the barrier.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints timings"]
async fn a_scan_of_claims() {
    const CLAIMS: i64 = 2_000_000;
    let mut world = World::new().await;
    for (name, sorted_by_person) in [("by person", true), ("by date", false)] {
        let person = |row: i64| {
            if sorted_by_person {
                row / 100
            } else {
                (row * 7_919) % 20_000
            }
        };
        let day = |row: i64| {
            if sorted_by_person {
                (row * 31) % 2_000
            } else {
                row / 1_000
            }
        };
        let columns: Vec<(&str, ArrayRef)> = vec![
            (
                "person",
                Arc::new(Int64Array::from_iter_values((0..CLAIMS).map(person))),
            ),
            (
                "begun",
                Arc::new(Date32Array::from_iter_values(
                    (0..CLAIMS).map(|r| day(r) as i32),
                )),
            ),
            (
                "kind",
                Arc::new(Int32Array::from_iter_values(
                    (0..CLAIMS).map(|r| (r * 13 % 400) as i32),
                )),
            ),
            (
                "paid",
                Arc::new(
                    Decimal128Array::from_iter_values(
                        (0..CLAIMS).map(|r| i128::from(r * 31 % 100_000)),
                    )
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
                ),
            ),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let ctx = SessionContext::new_with_config(config(false));
        let folder = world.dir.path().join(name.replace(' ', "-"));
        let source = parquet_table(&ctx, &folder, &batch).await;
        let mut dataset = crate::world::hospital();
        dataset.tables.truncate(1);
        dataset.tables[0].columns.clear();
        world.datasets[0] = Arc::new(dataset);
        world.sources.insert(
            ("hospital".to_owned(), "stays".to_owned()),
            Arc::clone(&source),
        );
        ctx.register_table("raw", source).unwrap();
        world.register(&ctx, &habilitation("p", Tables::All), &keys("p"));
        for sql in [
            "SELECT * FROM {}",
            "SELECT person, paid FROM {}",
            "SELECT count(DISTINCT person) FROM {}",
        ] {
            let mut times = [Duration::MAX; 2];
            for _ in 0..7 {
                for (time, table) in times.iter_mut().zip(["raw", "stays"]) {
                    let start = Instant::now();
                    read(&ctx, &sql.replace("{}", table)).await;
                    *time = start.elapsed().min(*time);
                }
            }
            let [raw, ours] = times.map(|time| time.as_secs_f64() * 1e9 / CLAIMS as f64);
            println!(
                "{name}: {sql}: raw {raw:.1} ns/row, pseudonyms {ours:.1} ns/row, {:.2} x",
                ours / raw
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints timings"]
async fn planning() {
    let world = World::new().await;
    let raw = SessionContext::new_with_config(config(true));
    raw.register_table(
        "labels",
        hubflight_policy::Sources::source(&world, "hospital", "labels").unwrap(),
    )
    .unwrap();
    raw.register_table(
        "stays",
        hubflight_policy::Sources::source(&world, "hospital", "stays").unwrap(),
    )
    .unwrap();
    let ours = world.session(&researcher(), config(true));
    let all = world.session(&habilitation("p", Tables::All), config(true));
    for sql in [
        "SELECT * FROM labels WHERE code = 'I05'",
        "SELECT * FROM stays WHERE diagnosis = 'I05' AND big = 3",
    ] {
        for (name, ctx) in [("raw", &raw), ("all rows", &all), ("restricted", &ours)] {
            let mut time = Duration::MAX;
            for _ in 0..30 {
                let start = Instant::now();
                ctx.sql(sql)
                    .await
                    .unwrap()
                    .create_physical_plan()
                    .await
                    .unwrap();
                time = start.elapsed().min(time);
            }
            println!("plan of {sql} ({name}): {:.2} ms", time.as_secs_f64() * 1e3);
        }
    }
    let start = Instant::now();
    for _ in 0..1_000 {
        hubflight_policy::open_table(&world, &researcher(), "stays", &keys("readmission")).unwrap();
    }
    println!("open_table: {:.3} ms", start.elapsed().as_secs_f64());
    rows(&ours, "SELECT 1").await.unwrap();
}

/// The 22 queries of TPC-H on orders since 1995 with masked dates, and on a copy of just these.
/// `HUBFLIGHT_TPCH` names the folder that `bench tpch` wrote, `…-filtered` beside it the copy
/// that `bench run policy` made; `HUBFLIGHT_PLANS` prints the plan of one query.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints timings; needs the files of `bench run policy`"]
async fn tpch() {
    let folder = std::env::var("HUBFLIGHT_TPCH").unwrap();
    let plans = std::env::var("HUBFLIGHT_PLANS").unwrap_or_default();
    let ours = tpch_session(&folder, &folder, tpch_grants()).await;
    let copy = format!("{folder}-filtered");
    let copy = tpch_session(&folder, &copy, Tables::All).await;
    let mut ratios = Vec::new();
    for (name, sql) in tpch_queries() {
        if name == plans {
            for ctx in [&copy, &ours] {
                let plan = ctx.sql(sql).await.unwrap().create_physical_plan().await;
                println!("{}", displayable(plan.unwrap().as_ref()).indent(false));
            }
        }
        let mut times = [Duration::MAX; 2];
        for _ in 0..5 {
            for (time, ctx) in times.iter_mut().zip([&copy, &ours]) {
                let start = Instant::now();
                read(ctx, sql).await;
                *time = start.elapsed().min(*time);
            }
        }
        let [copy, ours] = times.map(|time| time.as_secs_f64());
        ratios.push((ours / copy).ln());
        println!(
            "{name}: copy {copy:.4} s, ours {ours:.4} s, {:.3} x",
            ours / copy
        );
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    println!("geometric mean of {}: {:.3}", ratios.len(), mean.exp());
}

fn tpch_queries() -> impl Iterator<Item = (&'static str, &'static str)> {
    const MORE: [(&str, &str); 4] = [
        (
            "filter",
            "SELECT count(*), sum(o_totalprice) FROM orders WHERE o_orderstatus = 'F'",
        ),
        (
            "group",
            "SELECT o_orderpriority, count(*), max(o_orderdate) FROM orders GROUP BY 1",
        ),
        (
            "join",
            "SELECT count(*), sum(l_quantity) FROM lineitem JOIN orders ON l_orderkey = o_orderkey",
        ),
        (
            "mask",
            "SELECT o_orderdate, count(*) FROM orders GROUP BY 1 ORDER BY 1",
        ),
    ];
    let queries = include_str!("../../../../bench/queries/tpch.sql");
    let of_tpch = queries.split("-- q").skip(1).filter_map(|part| {
        let (number, text) = part.split_once('\n')?;
        Some((number.trim(), text.trim().trim_end_matches(';')))
    });
    of_tpch.chain(MORE)
}

fn tpch_grants() -> Tables {
    let orders = TableGrant {
        rows: Some(Predicate::Compare {
            column: "o_orderdate".to_owned(),
            op: Comparison::Ge,
            value: Value::Date(date(1995, 1, 1)),
        }),
        masks: vec![("o_orderdate".to_owned(), Mask::Year)],
        ..grant("orders")
    };
    let mut grants = vec![orders, grant("lineitem")];
    let others = [
        "customer", "nation", "part", "partsupp", "region", "supplier",
    ];
    grants.extend(others.map(grant));
    Tables::Only(grants)
}

/// TPC-H as one dataset, orders and lines from a folder of their own.
async fn tpch_session(folder: &str, restricted: &str, tables: Tables) -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_batch_size(8_192));
    let mut world = World::keeping(64 << 20).await;
    let mut dataset = crate::world::hospital();
    dataset.tables.clear();
    let all = [
        "orders", "lineitem", "customer", "nation", "part", "partsupp", "region", "supplier",
    ];
    for name in all {
        let person = match name {
            "orders" => PersonPath::Column("o_custkey".to_owned()),
            "customer" => PersonPath::Column("c_custkey".to_owned()),
            "lineitem" => PersonPath::Parent {
                table: "orders".to_owned(),
                on: vec![("l_orderkey".to_owned(), "o_orderkey".to_owned())],
            },
            _ => PersonPath::None,
        };
        dataset
            .tables
            .push(crate::world::table(name, person, Vec::new()));
        let base = if matches!(name, "orders" | "lineitem") {
            restricted
        } else {
            folder
        };
        let source = crate::world::listed(&ctx, &format!("{base}/{name}/")).await;
        let key = ("hospital".to_owned(), name.to_owned());
        world.sources.insert(key, source);
    }
    world.datasets[0] = Arc::new(dataset);
    world.register(&ctx, &habilitation("p", tables), &keys("p"));
    ctx
}
