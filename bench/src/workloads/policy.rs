//! What the barrier costs: a restricted view of orders against a copy that holds just that, on
//! the 22 queries of TPC-H and on four that do little else than read.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use arrow::util::pretty::pretty_format_batches;
use chrono::NaiveDate;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use hubflight_rights::dataset::{PersonPath, Table};
use hubflight_rights::habilitation::{
    Columns, Comparison, Mask, Predicate, TableGrant, Tables, Value,
};

use super::tpch;
use crate::report::{Report, geometric_mean};
use crate::server::{Case, login, start};
use crate::{Options, files};

/// Tables that are the same on both sides, shown whole.
const OTHERS: [&str; 6] = [
    "customer", "nation", "part", "partsupp", "region", "supplier",
];
/// Each runs on the restricted view and on the copy; their ratio is not asked to be low, because
/// a copy without the hidden rows has fewer to read.
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
    let (mut of_tpch, mut of_scans) = (Vec::new(), Vec::new());
    let whole = std::path::absolute(&folder)?;
    let tables = tables(Identifiers::Person, &whole);
    let barrier = Measured::new(options, "barrier", &folder, restricted()?, tables.clone()).await?;
    let physical = Measured::new(options, "copy", &copy, Tables::All, tables).await?;
    let of_both = tpch::queries().map(|query| (query, true));
    for ((name, sql), is_tpch) in of_both.chain(QUERIES.map(|query| (query, false))) {
        let (plain, plain_answer) = physical.best(sql, options.runs).await?;
        let (guarded, guarded_answer) = barrier.best(sql, options.runs).await?;
        ensure!(plain_answer == guarded_answer, "{name}: the answers differ");
        let ratio = guarded / plain;
        if is_tpch { &mut of_tpch } else { &mut of_scans }.push(ratio);
        report.row([
            name.to_owned(),
            format!("{plain:.3}"),
            format!("{guarded:.3}"),
            format!("{ratio:.3}"),
        ]);
    }
    let tables = |identifiers| self::tables(identifiers, &whole);
    let person = tables(Identifiers::Person);
    let none = tables(Identifiers::None);
    let pseudonyms = Measured::new(options, "pseudonyms", &folder, Tables::All, person).await?;
    let plain = Measured::new(options, "plain", &folder, Tables::All, none).await?;
    let (without, _) = plain.best(SCAN, options.runs).await?;
    let (with, _) = pseudonyms.best(SCAN, options.runs).await?;
    report.row([
        "pseudonyms of a scan".to_owned(),
        format!("{without:.3}"),
        format!("{with:.3}"),
        format!("{:.3}", with / without),
    ]);
    report.summary = format!(
        "geometric mean {:.3} of TPC-H (asked: at most 1.10), {:.3} of the scans; pseudonyms \
         cost {:.1} % of a scan (asked: at most 10 %)",
        geometric_mean(&of_tpch),
        geometric_mean(&of_scans),
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
        tables: Vec<Table>,
    ) -> Result<Self> {
        let state = options.data.join(format!("state-policy-{name}"));
        let case = Case {
            dataset: "tpch",
            folder,
            tables,
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
        // Rows of equal rank come in any order.
        let mut lines: Vec<&str> = answer.lines().collect();
        lines.sort_unstable();
        Ok((best, lines.join("\n")))
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

/// `orders` and `customer`, with a path to the customer or none; `lineitem` through its order.
/// The tables that are not restricted lie in `whole`.
fn tables(identifiers: Identifiers, whole: &Path) -> Vec<Table> {
    let located = |name: &str, location: String, person: PersonPath| Table {
        name: name.into(),
        remarks: String::new(),
        location,
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
    let mut tables = vec![
        located("orders", "orders".into(), customer),
        located("lineitem", "lineitem".into(), lines),
    ];
    for name in OTHERS {
        let location = whole.join(name).to_string_lossy().into_owned();
        let person = match (name, identifiers) {
            ("customer", Identifiers::Person) => PersonPath::Column("c_custkey".into()),
            _ => PersonPath::None,
        };
        tables.push(located(name, location, person));
    }
    tables
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
    let mut grants = vec![orders, grant("lineitem")];
    grants.extend(OTHERS.map(grant));
    Ok(Tables::Only(grants))
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
