//! What the barrier costs: a restricted view of orders against a copy that holds just that.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arrow::util::pretty::pretty_format_batches;
use chrono::NaiveDate;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hubflight_policy::dataset::{PersonPath, Table};
use hubflight_policy::habilitation::{
    Columns, Comparison, Mask, Predicate, TableGrant, Tables, Value,
};

use crate::report::{Report, geometric_mean};
use crate::server::{Case, login, start};
use crate::{Options, files};

/// Each runs on the restricted view and on the copy.
const QUERIES: [(&str, &str); 4] = [
    (
        "filter",
        "SELECT count(*), sum(o_totalprice) FROM orders WHERE o_orderstatus = 'F'",
    ),
    (
        "group",
        "SELECT o_orderpriority, count(*), max(o_orderdate) FROM orders GROUP BY 1 ORDER BY 1",
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
/// Reads every value of orders, with and without the pseudonym of the customer. Aggregates that
/// look at the values: a count of a column without NULL reads no column at all.
const SCAN: &str = "SELECT max(o_orderkey), max(o_custkey), max(o_orderstatus), sum(o_totalprice), \
                    max(o_orderdate), max(o_orderpriority), max(o_clerk), max(o_comment) FROM orders";

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join(format!("tpch-{}", options.scale));
    files::tpch(&folder, options.scale)?;
    let copy = options
        .data
        .join(format!("tpch-{}-filtered", options.scale));
    filtered_copy(&folder, &copy).await?;
    let mut report = Report::new(
        "policy",
        "seconds, best of the runs; ratio = through the barrier / on a physical copy",
        vec!["query", "copy", "barrier", "ratio"],
    );
    let mut ratios = Vec::new();
    let barrier = Measured::new(
        options,
        "barrier",
        &folder,
        restricted()?,
        Identifiers::Person,
    )
    .await?;
    let physical = Measured::new(options, "copy", &copy, Tables::All, Identifiers::Person).await?;
    for (name, sql) in QUERIES {
        let (plain, plain_answer) = physical.best(sql, options.runs).await?;
        let (guarded, guarded_answer) = barrier.best(sql, options.runs).await?;
        ensure!(plain_answer == guarded_answer, "{name}: the answers differ");
        ratios.push(guarded / plain);
        report.row([
            name.to_owned(),
            format!("{plain:.3}"),
            format!("{guarded:.3}"),
            format!("{:.3}", guarded / plain),
        ]);
    }
    let pseudonyms = Measured::new(
        options,
        "pseudonyms",
        &folder,
        Tables::All,
        Identifiers::Person,
    )
    .await?;
    let plain = Measured::new(options, "plain", &folder, Tables::All, Identifiers::None).await?;
    let (without, _) = plain.best(SCAN, options.runs).await?;
    let (with, _) = pseudonyms.best(SCAN, options.runs).await?;
    report.row([
        "pseudonyms of a scan".to_owned(),
        format!("{without:.3}"),
        format!("{with:.3}"),
        format!("{:.3}", with / without),
    ]);
    report.summary = format!(
        "geometric mean {:.3}; pseudonyms cost {:.1} % of a scan (asked: at most 10 %)",
        geometric_mean(&ratios),
        100.0 * (with / without - 1.0)
    );
    for measured in [barrier, physical, pseudonyms, plain] {
        measured.server.stop().await?;
    }
    Ok(report)
}

struct Measured {
    server: flight_server::server::Server,
}

impl Measured {
    async fn new(
        options: &Options,
        name: &str,
        folder: &Path,
        grants: Tables,
        identifiers: Identifiers,
    ) -> Result<Self> {
        let state = options.data.join(format!("state-policy-{name}"));
        let case = Case {
            dataset: "tpch",
            folder,
            tables: tables(identifiers),
            grants,
        };
        Ok(Self {
            server: start(&state, case).await?,
        })
    }

    async fn best(&self, sql: &str, runs: usize) -> Result<(f64, String)> {
        let mut client = login(&self.server).await?;
        let (mut best, mut answer) = (f64::MAX, String::new());
        for run in 0..=runs {
            let started = Instant::now();
            let batches = client.query(sql).await?;
            let seconds = started.elapsed().as_secs_f64();
            if run > 0 {
                best = best.min(seconds);
            }
            answer = pretty_format_batches(&batches)?.to_string();
        }
        Ok((best, answer))
    }
}

/// What the customer's key in `orders` is.
#[derive(Clone, Copy)]
enum Identifiers {
    /// A number like any other: shown as it is stored.
    None,
    /// A person's: shown as a pseudonym.
    Person,
}

/// `orders`, with a path to the customer or none; `lineitem` through its order.
fn tables(identifiers: Identifiers) -> Vec<Table> {
    let table = |name: &str, person: PersonPath| Table {
        name: name.into(),
        remarks: String::new(),
        location: name.into(),
        format: Default::default(),
        person,
        primary_key: Vec::new(),
        foreign_keys: Vec::new(),
        columns: Vec::new(),
    };
    let customer = match identifiers {
        Identifiers::None => PersonPath::None,
        Identifiers::Person => PersonPath::Column("o_custkey".into()),
    };
    let lines = match identifiers {
        Identifiers::None => PersonPath::None,
        Identifiers::Person => PersonPath::Parent {
            table: "orders".into(),
            on: vec![("l_orderkey".into(), "o_orderkey".into())],
        },
    };
    vec![table("orders", customer), table("lineitem", lines)]
}

/// Orders since 1995, dates masked to years; lines of those orders.
fn restricted() -> Result<Tables> {
    let grant = |table: &str| TableGrant {
        table: table.into(),
        columns: Columns::All,
        rows: None,
        masks: Vec::new(),
    };
    let mut orders = grant("orders");
    orders.rows = Some(Predicate::Compare {
        column: "o_orderdate".into(),
        op: Comparison::Ge,
        value: Value::Date(NaiveDate::from_ymd_opt(1995, 1, 1).context("no such day")?),
    });
    orders.masks = vec![("o_orderdate".into(), Mask::Year)];
    Ok(Tables::Only(vec![orders, grant("lineitem")]))
}

async fn filtered_copy(folder: &Path, copy: &Path) -> Result<()> {
    if copy.join("lineitem").exists() {
        return Ok(());
    }
    let context = SessionContext::new();
    for table in ["orders", "lineitem"] {
        let path = folder.join(table).to_string_lossy().into_owned() + "/";
        context
            .register_parquet(table, path, ParquetReadOptions::default())
            .await?;
    }
    for (table, sql) in [
        (
            "orders",
            "SELECT o_orderkey, o_custkey, o_orderstatus, o_totalprice, CAST(date_trunc('year', o_orderdate) AS DATE) AS o_orderdate, o_orderpriority, o_clerk, o_shippriority, o_comment FROM orders WHERE o_orderdate >= DATE '1995-01-01'",
        ),
        (
            "lineitem",
            "SELECT l.* FROM lineitem l LEFT SEMI JOIN orders o ON l_orderkey = o_orderkey AND o_orderdate >= DATE '1995-01-01'",
        ),
    ] {
        let target = copy.join(table).join("part-0.parquet");
        std::fs::create_dir_all(copy.join(table))?;
        context
            .sql(sql)
            .await?
            .write_parquet(
                &target.to_string_lossy(),
                DataFrameWriteOptions::new().with_single_file_output(true),
                None,
            )
            .await?;
    }
    Ok(())
}
