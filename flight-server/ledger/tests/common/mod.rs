//! Fresh stores with a ledger, on SQLite and, where a server is given, on PostgreSQL.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use hubflight_audit::Signer;
use hubflight_ledger::{
    AuditEvent, AuditSettings, ExecutionStarted, Ledger, LedgerLimits, Outcome, Report,
    StatementKind, StatementOpened, Tariff, VerifyOptions, Witness, verify,
};
use hubflight_store::{Organisation, Project, Store};
use sqlx::migrate::MigrateDatabase;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};
use uuid::Uuid;

/// Address of a PostgreSQL server on which databases may be made and dropped.
const POSTGRES: &str = "HUBFLIGHT_TEST_POSTGRES_URL";

pub const TARIFF: &str = r#"
version = "2026-1"
currency = "EUR"

[prices]
gb_scanned = "0.005"
gb_returned = "0.09"
million_tokens = "1.5"
million_pixels = "0.02"
million_samples = "0.01"
thousand_calls = "0.4"

[functions.image_embed]
million_pixels = "0.25"
"#;

pub fn tariff() -> Tariff {
    toml::from_str(TARIFF).unwrap()
}

/// Limits that make tests quick; the sweep is left to those that need it.
pub fn limits() -> LedgerLimits {
    LedgerLimits {
        retry_ms: 20,
        sweep_ms: 3_600_000,
        ..LedgerLimits::default()
    }
}

/// Runs the test with the address of a new store of each kind.
pub fn on_each_store<F, T>(name: &str, test: F)
where
    F: Fn(String) -> T,
    T: Future<Output = ()>,
{
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    runtime.block_on(test(url));
    let Ok(server) = std::env::var(POSTGRES) else {
        println!("{name}: skipped on PostgreSQL, {POSTGRES} is not set");
        return;
    };
    runtime.block_on(async {
        let (head, _) = server.rsplit_once('/').unwrap();
        let url = format!("{head}/hubflight_test_{name}_{}", std::process::id());
        sqlx::any::install_default_drivers();
        sqlx::Any::create_database(&url).await.unwrap();
        test(url.clone()).await;
        sqlx::Any::force_drop_database(&url).await.unwrap();
    });
}

/// The store with the project `p`, paid by `chu`.
pub async fn store(url: &str) -> Store {
    let store = Store::open(url).await.unwrap();
    let organisation = Organisation {
        id: "chu".to_owned(),
        name: "CHU".to_owned(),
    };
    store.put_organisation(&organisation).await.unwrap();
    let project = Project {
        id: "p".to_owned(),
        title: "P".to_owned(),
        purpose: "research".to_owned(),
        organisation: "chu".to_owned(),
        valid_from: time(0),
        valid_to: time(1),
        space_quota_bytes: 0,
        budget: None,
    };
    store.put_project(&project).await.unwrap();
    store
}

pub async fn ledger(store: &Store) -> Ledger {
    Ledger::open(store, tariff(), limits(), audit())
        .await
        .unwrap()
}

/// The log is signed by a key of the tests, and has no witness.
pub fn audit() -> AuditSettings {
    AuditSettings {
        signer: signer(),
        witness: None,
        syslog: None,
    }
}

pub fn signer() -> Signer {
    Signer::of_hub(&[42; 32]).unwrap()
}

pub fn time(seconds: i64) -> DateTime<Utc> {
    "2026-11-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

pub fn opened(kind: StatementKind) -> StatementOpened {
    StatementOpened {
        statement_id: Uuid::now_v7(),
        person: "ada".to_owned(),
        project: Some("p".to_owned()),
        kind,
        client: "test 1.0".to_owned(),
        sql_sha256: [0xab; 32],
        sql_sealed: vec![1, 2, 3],
        tags: BTreeMap::from([("study".to_owned(), "a \"b\"".to_owned())]),
        opened_at: Utc::now(),
        expires_at: Utc::now() + TimeDelta::hours(1),
    }
}

pub fn started(statement_id: Uuid) -> ExecutionStarted {
    ExecutionStarted {
        statement_id,
        habilitations: vec![("h1".to_owned(), 2)],
        datasets: vec![("snds".to_owned(), 7)],
        columns: serde_json::json!({"snds.er_prs_f": ["ben_idt"]}),
        started_at: Utc::now(),
    }
}

/// Opens a statement of that kind.
pub async fn statement(ledger: &Ledger, kind: StatementKind) -> Uuid {
    let opened = opened(kind);
    let id = opened.statement_id;
    ledger.statement(opened).await.unwrap();
    id
}

pub fn login(at: DateTime<Utc>) -> AuditEvent {
    AuditEvent {
        event: "login",
        outcome: "ok",
        person: Some("ada".to_owned()),
        project: None,
        client: "test".to_owned(),
        at,
    }
}

pub async fn settle_one(ledger: &Ledger) {
    let id = statement(ledger, StatementKind::Query).await;
    let execution = ledger.begin(started(id)).await.unwrap();
    execution.settle(Outcome::Ok).await.unwrap();
}

/// Entries of [`write_log`].
pub const LOG_ENTRIES: u64 = 42;

/// A log of 42 entries with three checkpoints, of 14, 28 and 42, which a witness has too. Of
/// each 14 the first 12 are the intents and outcomes of six executions, the last two logins.
pub async fn write_log(url: &str, witness: &Path) {
    write_log_to(url, Witness::folder(witness.to_owned())).await;
}

pub async fn write_log_to(url: &str, witness: Witness) {
    let store = store(url).await;
    for _ in 0..3 {
        let settings = AuditSettings {
            signer: signer(),
            witness: Some(witness.clone()),
            syslog: None,
        };
        let ledger = Ledger::open(&store, tariff(), limits(), settings)
            .await
            .unwrap();
        for _ in 0..6 {
            settle_one(&ledger).await;
        }
        ledger.event(login(Utc::now())).await.unwrap();
        ledger.event(login(Utc::now())).await.unwrap();
        ledger.close().await.unwrap();
    }
    store.close().await;
}

pub async fn report(url: &str, witness: Option<&Path>) -> Report {
    let copy = Store::open_copy(url).await.unwrap();
    let options = VerifyOptions {
        key: signer().key().clone(),
        witness: witness.map(|path| Witness::folder(path.to_owned())),
        given: Vec::new(),
    };
    let report = verify(&copy, &options).await.unwrap();
    copy.close().await;
    report
}

/// A copy of a database that nobody uses, and its address.
pub async fn copy_of(url: &str, name: &str) -> String {
    let copy = format!("{url}_{name}");
    if let Some(path) = url.strip_prefix("sqlite://") {
        std::fs::copy(path, copy.strip_prefix("sqlite://").unwrap()).unwrap();
        return copy;
    }
    let (server, database) = url.rsplit_once('/').unwrap();
    let mut connection = AnyConnection::connect(&format!("{server}/postgres"))
        .await
        .unwrap();
    let (_, new) = copy.rsplit_once('/').unwrap();
    for sql in [
        format!("DROP DATABASE IF EXISTS {new}"),
        format!("CREATE DATABASE {new} TEMPLATE {database}"),
    ] {
        sqlx::query(AssertSqlSafe(sql))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    copy
}

pub async fn drop_copy(copy: &str) {
    if copy.starts_with("sqlite://") {
        return;
    }
    let (server, database) = copy.rsplit_once('/').unwrap();
    let mut connection = AnyConnection::connect(&format!("{server}/postgres"))
        .await
        .unwrap();
    let sql = format!("DROP DATABASE {database} WITH (FORCE)");
    sqlx::query(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
}

/// A connection of somebody who owns the database: neither triggers nor foreign keys stop them.
pub async fn intruder(url: &str) -> AnyConnection {
    let mut connection = AnyConnection::connect(url).await.unwrap();
    if !url.starts_with("sqlite://") {
        run(&mut connection, "SET session_replication_role = replica").await;
        return connection;
    }
    let triggers = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'trigger'");
    let triggers: Vec<String> = triggers.fetch_all(&mut connection).await.unwrap();
    for name in triggers {
        run(&mut connection, &format!("DROP TRIGGER {name}")).await;
    }
    run(&mut connection, "PRAGMA foreign_keys = OFF").await;
    connection
}

pub async fn run(connection: &mut AnyConnection, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}
