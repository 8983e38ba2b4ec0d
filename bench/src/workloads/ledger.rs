//! What the ledger and its audit cost a statement: its opening, its intent before the first
//! batch and its outcome, against plain commits of one row in the same kind of file. A server that
//! has its store alone does not wait for the opening, which is then written with the intent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use chrono::{TimeDelta, Utc};
use futures::future::try_join_all;
use hubflight_audit::{Signer, VerifierKey};
use hubflight_ledger::{
    AuditSettings, ExecutionStarted, Ledger, LedgerLimits, Outcome, StatementKind, StatementOpened,
    Tariff, VerifyOptions, verify,
};
use hubflight_store::{Organisation, Project, Store};
use uuid::Uuid;

use crate::Options;
use crate::report::Report;

/// Statements one after another, whose latencies are compared.
const ONE_BY_ONE: usize = 1_000;
const CLIENTS: usize = 64;
const STATEMENTS_OF_CLIENT: usize = 200;

const TARIFF: &str = r#"
version = "bench"
currency = "EUR"
prices = { gb_returned = "0.09" }
"#;

pub async fn run(options: &Options) -> Result<Report> {
    let folder = options.data.join("ledger");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(folder.join("witness"))?;
    let store = Store::open(&format!("sqlite://{}/hub.db", folder.display())).await?;
    project(&store).await?;
    let signer = Signer::of_hub(&[7; 32])?;
    let key = signer.key().clone();
    let tariff: Tariff = toml::from_str(TARIFF)?;
    let settings = AuditSettings {
        signer,
        witness: Some(hubflight_ledger::Witness::folder(folder.join("witness"))),
        syslog: None,
    };
    let ledger = Ledger::open(&store, tariff, LedgerLimits::default(), settings).await?;

    let mut commits = commits(&store).await?;
    let (mut whole, mut shared) = (Vec::new(), Vec::new());
    for _ in 0..ONE_BY_ONE {
        let begun = Instant::now();
        statement(&ledger, false).await?;
        whole.push(begun.elapsed());
        let begun = Instant::now();
        statement(&ledger, true).await?;
        shared.push(begun.elapsed());
    }
    let mut rate: f64 = 0.0;
    for _ in 0..options.runs {
        let begun = Instant::now();
        let client = || async {
            for _ in 0..STATEMENTS_OF_CLIENT {
                statement(&ledger, false).await?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..CLIENTS).map(|_| client())).await?;
        let statements = (CLIENTS * STATEMENTS_OF_CLIENT) as f64;
        rate = rate.max(statements / begun.elapsed().as_secs_f64());
    }
    ledger.close().await?;
    let entries = verified(&store, &folder, key).await?;
    let expected = 2 * ONE_BY_ONE + options.runs * CLIENTS * STATEMENTS_OF_CLIENT;
    ensure!(entries >= expected as u64, "the log has {entries} entries");

    let mut report = Report::new(
        "ledger",
        "opening, intent and outcome of a statement, one after another and from 64 at once, against \
         commits of one row",
        vec!["what", "measured", "asked"],
    );
    let [commit, commit_99] = percentiles(&mut commits);
    let [p50, p99] = percentiles(&mut whole);
    let [shared, _] = percentiles(&mut shared);
    for (what, measured, asked) in [
        ("a commit of one row, p50, ms", commit, ""),
        ("a commit of one row, p99, ms", commit_99, ""),
        ("ledger of a statement, p50, ms", p50, "1"),
        ("ledger of a statement, p99, ms", p99, ""),
        (
            "the same on a store that servers share, p50, ms",
            shared,
            "1",
        ),
    ] {
        report.row([what.to_owned(), format!("{measured:.2}"), asked.to_owned()]);
    }
    let what = "statements a second from 64 at once".to_owned();
    report.row([what, format!("{rate:.0}"), "2000".to_owned()]);
    report.summary = format!(
        "{p50:.2} ms at p50 ({:.1} commits), {rate:.0} statements a second, {entries} entries verified",
        p50 / commit
    );
    Ok(report)
}

/// What a query leaves in the ledger.
async fn statement(ledger: &Ledger, is_shared: bool) -> Result<()> {
    let now = Utc::now();
    let statement_id = Uuid::now_v7();
    let opened = StatementOpened {
        statement_id,
        person: "ada".to_owned(),
        project: Some("p".to_owned()),
        kind: StatementKind::Query,
        client: "bench".to_owned(),
        sql_sha256: [0; 32],
        sql_sealed: vec![0; 200],
        tags: BTreeMap::new(),
        opened_at: now,
        expires_at: now + TimeDelta::hours(1),
    };
    match is_shared {
        true => ledger.statement(opened).await?,
        false => ledger.statement_soon(opened).await?,
    }
    let execution = ledger
        .begin(ExecutionStarted {
            statement_id,
            habilitations: vec![("h".to_owned(), 1)],
            datasets: vec![("snds".to_owned(), 1)],
            columns: serde_json::json!({"snds.er_prs_f": ["ben_idt", "prs_nat_ref"]}),
            started_at: now,
        })
        .await?;
    execution.settle(Outcome::Ok).await?;
    Ok(())
}

async fn project(store: &Store) -> Result<()> {
    let (id, name) = ("o".to_owned(), "O".to_owned());
    store.put_organisation(&Organisation { id, name }).await?;
    let project = Project {
        id: "p".to_owned(),
        title: "P".to_owned(),
        purpose: "measure".to_owned(),
        organisation: "o".to_owned(),
        valid_from: Utc::now(),
        valid_to: Utc::now() + TimeDelta::days(1),
        space_quota_bytes: 0,
        budget: None,
    };
    store.put_project(&project).await?;
    Ok(())
}

/// Commits of one row each on a table that has nothing to do with the hub.
async fn commits(store: &Store) -> Result<Vec<Duration>> {
    let pool = store.pool();
    sqlx::query("CREATE TABLE plain (id INTEGER PRIMARY KEY, text TEXT)")
        .execute(pool)
        .await?;
    let mut times = Vec::new();
    for _ in 0..ONE_BY_ONE {
        let begun = Instant::now();
        sqlx::query("INSERT INTO plain (text) VALUES ('a row of some length')")
            .execute(pool)
            .await?;
        times.push(begun.elapsed());
    }
    sqlx::query("DROP TABLE plain").execute(pool).await?;
    Ok(times)
}

/// A log that does not verify was not measured.
async fn verified(store: &Store, folder: &std::path::Path, key: VerifierKey) -> Result<u64> {
    let options = VerifyOptions {
        key,
        witness: Some(hubflight_ledger::Witness::folder(folder.join("witness"))),
        given: Vec::new(),
    };
    let report = verify(store, &options).await?;
    ensure!(
        report.is_sound(),
        "the log is unsound: {:?}",
        report.findings
    );
    Ok(report.entries)
}

/// The median and the 99th percentile, in milliseconds.
fn percentiles(times: &mut [Duration]) -> [f64; 2] {
    times.sort_unstable();
    [50, 99].map(|percent| {
        let at = times.len() * percent / 100;
        times
            .get(at)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    })
}
