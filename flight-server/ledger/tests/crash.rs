//! Processes that die, two servers on one ledger, callers that leave, stores that fail.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use common::{audit, ledger, limits, on_each_store, opened, started, statement, store, tariff};
use hubflight_ledger::{
    Filter, Ledger, LedgerError, LedgerLimits, Outcome, Page, StatementKind, Tariff, UsageRecord,
    WorkUnit,
};
use hubflight_store::{Store, StoreLimits};
use rust_decimal::Decimal;

const CHILD: &str = "HUBFLIGHT_TEST_CRASH_URL";

async fn usage(ledger: &Ledger) -> Vec<UsageRecord> {
    ledger.usage(&Filter::default(), Page::FIRST).await.unwrap()
}

/// Waits until there are that many records.
async fn wait_for_usage(ledger: &Ledger, records: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while usage(ledger).await.len() < records {
        assert!(
            Instant::now() < deadline,
            "the dead server's executions stay open"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Executions that no record settles.
async fn open_executions(store: &Store) -> i64 {
    sqlx::query_scalar("SELECT COUNT(*) FROM executions WHERE settled = 0")
        .fetch_one(store.pool())
        .await
        .unwrap()
}

/// The process that dies: run by the tests below in a process of its own.
#[test]
#[ignore = "dies on purpose; the other tests run it"]
fn child_that_aborts() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let settled = statement(&ledger, StatementKind::Query).await;
        let execution = ledger.begin(started(settled)).await.unwrap();
        execution.quantities().add_scanned(1_000_000_000);
        execution.settle(Outcome::Ok).await.unwrap();

        let long = statement(&ledger, StatementKind::Query).await;
        let streaming = ledger.begin(started(long)).await.unwrap();
        for _ in 0..3 {
            streaming.quantities().add_returned(100, 1_000_000_000);
            streaming
                .quantities()
                .add_work("text_ner", WorkUnit::Tokens, 500_000);
            streaming.interim().await.unwrap();
        }
        // What comes after the last interim is lost, by design.
        streaming.quantities().add_returned(100, 1_000_000_000);
        let early = statement(&ledger, StatementKind::Query).await;
        let _unmeasured = ledger.begin(started(early)).await.unwrap();
        let scanning = statement(&ledger, StatementKind::Dml).await;
        let scanning = ledger.begin_scanning(started(scanning), 4_000_000_000);
        let _scanning = scanning.await.unwrap();
        std::process::abort();
    });
}

fn crash(url: &str) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_aborts"])
        .env(CHILD, url)
        .output()
        .unwrap();
    assert!(!output.status.success(), "the child must die: {output:?}");
}

#[test]
fn a_crash_settles_once_with_the_last_interim() {
    on_each_store("crash", |url| async move {
        crash(&url);
        let store = store(&url).await;
        // The prices of the time of use hold, even if others are in force now.
        let text = common::TARIFF
            .replace("2026-1", "2027-1")
            .replace("0.09", "9");
        for round in 0..2 {
            let newer: Tariff = toml::from_str(&text).unwrap();
            let quick = LedgerLimits {
                sweep_ms: 20,
                ..limits()
            };
            let ledger = Ledger::open(&store, newer, quick, audit()).await.unwrap();
            if store.sqlite_path().is_none() {
                // Where other servers may live, it takes a second look to be sure.
                wait_for_usage(&ledger, 4).await;
            }
            let records = usage(&ledger).await;
            assert_eq!(records.len(), 4, "round {round}");
            assert_eq!(records[0].outcome, "ok");
            let long = records.iter().find(|r| r.rows_returned > 0).unwrap();
            assert_eq!((long.outcome.as_str(), long.attempt), ("interrupted", 1));
            assert_eq!(
                (long.rows_returned, long.bytes_returned),
                (300, 3_000_000_000)
            );
            assert_eq!(long.units["tokens"], 1_500_000);
            assert_eq!(long.tariff_version, "2026-1");
            // 3 × 0.09 + 1.5 × 1.5.
            assert_eq!(long.cost, Decimal::from_str_exact("2.52").unwrap());
            assert!(long.ended_at >= long.started_at);
            let early = records
                .iter()
                .find(|r| r.bytes_returned + r.bytes_scanned == 0)
                .unwrap();
            assert_eq!(
                (early.outcome.as_str(), early.cost),
                ("interrupted", Decimal::ZERO)
            );
            // What was to be read is charged from the start: 4 × 0.005.
            let scanning = records.iter().find(|r| r.kind == "dml").unwrap();
            assert_eq!(
                (scanning.outcome.as_str(), scanning.bytes_scanned),
                ("interrupted", 4_000_000_000)
            );
            assert_eq!(scanning.cost, Decimal::from_str_exact("0.02").unwrap());
            let audit = ledger.audit(&Filter::default(), Page::FIRST).await.unwrap();
            let outcomes = audit.iter().filter(|entry| entry.event == "statement");
            assert_eq!((outcomes.count(), audit.len()), (4, 8));
            assert_eq!(open_executions(&store).await, 0);
            ledger.close().await.unwrap();
        }
    });
}

#[test]
fn the_running_server_settles_what_another_left() {
    on_each_store("two_servers", |url| async move {
        let store = store(&url).await;
        let quick = LedgerLimits {
            sweep_ms: 20,
            ..limits()
        };
        let first = Ledger::open(&store, tariff(), quick.clone(), audit())
            .await
            .unwrap();
        let id = statement(&first, StatementKind::Query).await;
        let mine = first.begin(started(id)).await.unwrap();
        if store.sqlite_path().is_some() {
            let second = Ledger::open(&store, tariff(), quick, audit()).await;
            assert!(matches!(second, Err(LedgerError::Owned { .. })));
        } else {
            // Another server opens, works, and dies; neither takes the other for dead.
            crash(&url);
            let second = Ledger::open(&store, tariff(), quick, audit())
                .await
                .unwrap();
            let theirs = statement(&second, StatementKind::Query).await;
            let theirs = second.begin(started(theirs)).await.unwrap();
            wait_for_usage(&first, 4).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(open_executions(&store).await, 2);
            theirs.settle(Outcome::Ok).await.unwrap();
            second.close().await.unwrap();
        }
        mine.settle(Outcome::Ok).await.unwrap();
        first.close().await.unwrap();
        let again = ledger(&store).await;
        assert_eq!(open_executions(&store).await, 0);
        again.close().await.unwrap();
    });
}

/// The database drops the sessions of two servers: for a moment each looks dead to the other,
/// and neither settles what the other runs.
#[test]
fn a_lost_session_is_no_death() {
    on_each_store("sessions", |url| async move {
        let store = store(&url).await;
        if store.sqlite_path().is_some() {
            return;
        }
        let with_sweep = |sweep_ms| LedgerLimits {
            sweep_ms,
            ..limits()
        };
        let first = Ledger::open(&store, tariff(), with_sweep(50), audit()).await;
        let second = Ledger::open(&store, tariff(), with_sweep(400), audit()).await;
        let (first, second) = (first.unwrap(), second.unwrap());
        let id = statement(&first, StatementKind::Query).await;
        let mine = first.begin(started(id)).await.unwrap();
        for _ in 0..5 {
            sqlx::query(
                "SELECT CAST(COUNT(pg_terminate_backend(pid)) AS BIGINT) FROM pg_locks \
                 WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database \
                 WHERE datname = current_database())",
            )
            .execute(store.pool())
            .await
            .unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(open_executions(&store).await, 1);
        }
        mine.interim().await.unwrap();
        mine.settle(Outcome::Ok).await.unwrap();
        first.close().await.unwrap();
        second.close().await.unwrap();
    });
}

#[test]
fn an_execution_settles_once() {
    on_each_store("once", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let id = statement(&ledger, StatementKind::Query).await;
        let execution = ledger.begin(started(id)).await.unwrap();
        // As if another server had taken this one for dead.
        sqlx::query("UPDATE executions SET settled = 1")
            .execute(store.pool())
            .await
            .unwrap();
        // It learns so at its next interim, while others go on; what it would serve after that
        // nobody would pay.
        let live = statement(&ledger, StatementKind::Query).await;
        let live = ledger.begin(started(live)).await.unwrap();
        let (stopped, written) = tokio::join!(execution.interim(), live.interim());
        assert!(matches!(
            stopped,
            Err(LedgerError::AlreadySettled { attempt: 1, .. })
        ));
        written.unwrap();
        let interims: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM interims")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(interims, 1);
        live.settle(Outcome::Ok).await.unwrap();
        let settled = execution.settle(Outcome::Ok).await;
        assert!(matches!(
            settled,
            Err(LedgerError::AlreadySettled { attempt: 1, .. })
        ));
        assert_eq!(usage(&ledger).await.len(), 1, "the live one");
        // The database itself refuses a second record.
        let next = ledger.begin(started(id)).await.unwrap();
        next.settle(Outcome::Ok).await.unwrap();
        let copy = "INSERT INTO usage (usage_id, statement_id, attempt, person, started_at, \
             ended_at, kind, outcome, rows_returned, bytes_returned, bytes_scanned, units, \
             failed_rows, row_errors, cost, currency, tariff_version) SELECT 'other', \
             statement_id, attempt, person, started_at, ended_at, kind, outcome, \
             rows_returned, bytes_returned, bytes_scanned, units, failed_rows, row_errors, \
             cost, currency, tariff_version FROM usage WHERE statement_id = $1";
        let copied = sqlx::query(copy).bind(id.to_string());
        assert!(copied.execute(store.pool()).await.is_err());
        ledger.close().await.unwrap();
    });
}

#[test]
fn a_thousand_at_once_are_all_settled() {
    on_each_store("thousand", |url| async move {
        const EXECUTIONS: usize = 1_000;
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let start = Instant::now();
        let tasks: Vec<_> = (0..EXECUTIONS)
            .map(|index| {
                let ledger = ledger.clone();
                tokio::spawn(async move {
                    let id = statement(&ledger, StatementKind::Query).await;
                    let execution = ledger.begin(started(id)).await.unwrap();
                    execution.quantities().add_scanned(1_000_000);
                    execution.quantities().add_returned(1, 1_000);
                    match index % 3 {
                        0 => drop(execution),
                        1 => drop(execution.settle(Outcome::Cancelled).await.unwrap()),
                        _ => drop(execution.settle(Outcome::Ok).await.unwrap()),
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        ledger.flush().await.unwrap();
        let rate = EXECUTIONS as f64 / start.elapsed().as_secs_f64();
        println!("{rate:.0} statements/s opened, begun and settled ({EXECUTIONS} at once)");
        let records = usage(&ledger).await;
        assert_eq!(records.len(), EXECUTIONS);
        assert_eq!(
            records.iter().filter(|r| r.outcome == "ok").count(),
            EXECUTIONS / 3
        );
        assert_eq!(open_executions(&store).await, 0);
        ledger.close().await.unwrap();
    });
}

/// Callers that stop waiting at any moment leave nothing open and nothing counted twice.
#[test]
fn callers_that_leave() {
    on_each_store("leaving", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        for delay in 0..60 {
            let id = statement(&ledger, StatementKind::Query).await;
            let whole = async {
                let execution = ledger.begin(started(id)).await.unwrap();
                execution.interim().await.unwrap();
                execution.settle(Outcome::Ok).await.unwrap();
            };
            let patience = Duration::from_micros(delay * 400);
            drop(tokio::time::timeout(patience, whole).await);
        }
        ledger.flush().await.unwrap();
        // Executions that were answered to nobody settle in the queue behind the first flush.
        ledger.flush().await.unwrap();
        assert_eq!(open_executions(&store).await, 0);
        let begun: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM executions")
            .fetch_one(store.pool())
            .await
            .unwrap();
        assert_eq!(usage(&ledger).await.len() as i64, begun);
        ledger.close().await.unwrap();
    });
}

#[tokio::test]
async fn a_locked_store_refuses_and_keeps_settlements() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    let impatient = StoreLimits {
        lock_wait_ms_max: 50,
        ..StoreLimits::default()
    };
    drop(store(&url).await);
    let store = Store::open_with(&url, &impatient).await.unwrap();
    let ledger = ledger(&store).await;
    let id = statement(&ledger, StatementKind::Query).await;
    let settling = ledger.begin(started(id)).await.unwrap();
    let dropping = ledger.begin(started(id)).await.unwrap();

    let stranger = Store::open(&url).await.unwrap();
    let held = stranger.write().await.unwrap();
    let refused = ledger.begin(started(id)).await;
    assert!(
        matches!(refused, Err(LedgerError::Unwritable(_))),
        "{refused:?}"
    );
    let refused = ledger.statement(opened(StatementKind::Query)).await;
    assert!(matches!(refused, Err(LedgerError::Unwritable(_))));
    assert!(matches!(
        settling.interim().await,
        Err(LedgerError::Unwritable(_))
    ));
    settling.quantities().add_scanned(1_000_000_000);
    let kept = settling.settle(Outcome::Ok).await;
    assert!(matches!(kept, Err(LedgerError::Unwritable(_))));
    drop(dropping);
    drop(held);

    let deadline = Instant::now() + Duration::from_secs(10);
    while usage(&ledger).await.len() < 2 {
        assert!(
            Instant::now() < deadline,
            "kept settlements are not written"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let records = usage(&ledger).await;
    assert_eq!(
        (records[0].outcome.as_str(), records[0].bytes_scanned),
        ("ok", 1_000_000_000)
    );
    assert_eq!(records[1].outcome, "cancelled");
    drop(ledger.begin(started(id)).await.unwrap());
    ledger.close().await.unwrap();
    assert_eq!(open_executions(&store).await, 0);
}

#[tokio::test]
async fn a_full_store_refuses_and_the_next_start_settles() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    drop(store(&url).await);
    let small = StoreLimits {
        sqlite_pages_max: Some(120),
        ..StoreLimits::default()
    };
    let full = Store::open_with(&url, &small).await.unwrap();
    let ledger = ledger(&full).await;
    let mut running = Vec::new();
    let error = loop {
        let mut opened = opened(StatementKind::Query);
        opened.sql_sealed = vec![7; 1_000];
        let id = opened.statement_id;
        if let Err(error) = ledger.statement(opened).await {
            break error;
        }
        match ledger.begin(started(id)).await {
            Ok(execution) => running.push(execution),
            Err(error) => break error,
        }
        assert!(running.len() < 1_000, "never full");
    };
    assert!(matches!(error, LedgerError::Unwritable(_)), "{error:?}");
    let count = running.len();
    for execution in running {
        execution.quantities().add_scanned(5);
        drop(execution);
    }
    let closed = ledger.close().await;
    assert!(
        matches!(closed, Err(LedgerError::Unwritable(_))),
        "{closed:?}"
    );

    let store = Store::open(&url).await.unwrap();
    let ledger = common::ledger(&store).await;
    assert_eq!(usage(&ledger).await.len(), count);
    assert_eq!(open_executions(&store).await, 0);
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_answers_busy() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    let store = store(&url).await;
    let narrow = LedgerLimits {
        queue_requests_max: 2,
        queue_wait_ms_max: 20,
        ..limits()
    };
    let ledger = Ledger::open(&store, tariff(), narrow, audit())
        .await
        .unwrap();
    let held = store.write().await.unwrap();
    let asked = (0..6).map(|_| ledger.statement(opened(StatementKind::Query)));
    let release = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(held);
    };
    let (answers, ()) = tokio::join!(futures::future::join_all(asked), release);
    let busy = answers
        .iter()
        .filter(|answer| matches!(answer, Err(LedgerError::Busy { wait_ms: 20 })))
        .count();
    assert_eq!((busy, answers.iter().filter(|a| a.is_ok()).count()), (4, 2));
    ledger.close().await.unwrap();
}

#[test]
fn a_clock_set_back_makes_no_negative_interval() {
    on_each_store("clock", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let id = statement(&ledger, StatementKind::Query).await;
        let mut future = started(id);
        future.started_at += TimeDelta::hours(5);
        let execution = ledger.begin(future).await.unwrap();
        let record = execution.settle(Outcome::Ok).await.unwrap();
        assert_eq!(record.ended_at, record.started_at);
        ledger.close().await.unwrap();
    });
}
