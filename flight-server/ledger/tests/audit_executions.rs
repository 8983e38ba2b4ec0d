//! Executions that somebody hides or makes up, and those that nobody was given: each is told by
//! the log or settled by the hub.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::time::{Duration, Instant};

use common::{
    LOG_ENTRIES, audit, intruder, ledger, limits, on_each_store, report, run, settle_one, started,
    statement, store, tariff, write_log,
};
use hubflight_ledger::{
    Filter, Finding, Ledger, LedgerError, LedgerLimits, Outcome, Page, StatementKind, UsageRecord,
};
use hubflight_store::Store;
use rust_decimal::Decimal;
use sqlx::{AnyConnection, Connection};

async fn usage(ledger: &Ledger) -> Vec<UsageRecord> {
    ledger.usage(&Filter::default(), Page::FIRST).await.unwrap()
}

/// Waits until there are that many records.
async fn wait_for_usage(ledger: &Ledger, records: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while usage(ledger).await.len() < records {
        assert!(Instant::now() < deadline, "nobody settles it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Marks each execution as settled when it begins, so that no usage would be written.
async fn settle_at_once(url: &str) {
    let mut intruder = AnyConnection::connect(url).await.unwrap();
    let change = "UPDATE executions SET settled = 1 WHERE statement_id = NEW.statement_id";
    let sql = if url.starts_with("sqlite://") {
        format!("CREATE TRIGGER free AFTER INSERT ON executions BEGIN {change}; END")
    } else {
        format!(
            "CREATE FUNCTION free() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN {change}; RETURN NULL; END $$; \
             CREATE TRIGGER free AFTER INSERT ON executions FOR EACH ROW EXECUTE FUNCTION free()"
        )
    };
    run(&mut intruder, &sql).await;
    intruder.close().await.unwrap();
}

#[test]
fn what_ran_without_a_record_leaves_its_intent() {
    on_each_store("free", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        settle_one(&ledger).await;
        settle_at_once(&url).await;
        let id = statement(&ledger, StatementKind::Query).await;
        let execution = ledger.begin(started(id)).await.unwrap();
        let unpaid = execution.settle(Outcome::Ok).await;
        assert!(matches!(unpaid, Err(LedgerError::AlreadySettled { .. })));
        ledger.close().await.unwrap();
        store.close().await;
        let found = report(&url, None).await.findings;
        let statement_id = id.to_string();
        let attempt = 1;
        let unlogged = Finding::Unlogged {
            statement_id,
            attempt,
        };
        assert_eq!(found, [Finding::Vanished { seq: 3 }, unlogged]);
    });
}

/// What a killed server left open is found when it is gone; while it is open all is well.
#[test]
fn an_open_execution_cannot_be_taken_away() {
    on_each_store("taken_away", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let id = statement(&ledger, StatementKind::Query).await;
        let execution = ledger.begin_scanning(started(id), 5).await.unwrap();
        ledger.close().await.unwrap();
        drop(execution);
        store.close().await;
        let sound = report(&url, None).await;
        assert!(sound.is_sound(), "{:?}", sound.findings);
        assert_eq!((sound.entries, sound.open), (1, 1));
        let mut intruder = intruder(&url).await;
        run(
            &mut intruder,
            "DELETE FROM interims; DELETE FROM executions; DELETE FROM statements",
        )
        .await;
        intruder.close().await.unwrap();
        let found = report(&url, None).await.findings;
        assert!(found.contains(&Finding::Vanished { seq: 1 }), "{found:?}");
        assert!(
            found.contains(&Finding::TextChanged { seq: 1 }),
            "{found:?}"
        );
    });
}

/// Executions that never ran, for others to pay: one that is settled, and one that the hub
/// itself settles because its owner is dead.
#[test]
fn forged_executions_are_found() {
    on_each_store("forged", |url| async move {
        write_log(&url, tempfile::tempdir().unwrap().path()).await;
        let mut intruder = intruder(&url).await;
        for (attempt, settled) in [(8, 1), (9, 0)] {
            let sql = format!(
                "INSERT INTO executions SELECT statement_id, {attempt}, 1, tariff_version, \
                 habilitations, datasets, columns, started_at, {settled} FROM executions \
                 WHERE attempt = 1 AND statement_id = (SELECT MIN(statement_id) FROM executions)"
            );
            run(&mut intruder, &sql).await;
        }
        intruder.close().await.unwrap();
        let store = Store::open(&url).await.unwrap();
        let quick = LedgerLimits {
            sweep_ms: 20,
            ..limits()
        };
        let ledger = Ledger::open(&store, tariff(), quick, audit())
            .await
            .unwrap();
        wait_for_usage(&ledger, 19).await;
        ledger.close().await.unwrap();
        store.close().await;
        let found = report(&url, None).await.findings;
        let seq = LOG_ENTRIES as i64 + 1;
        assert!(found.contains(&Finding::Unannounced { seq }), "{found:?}");
        let unlogged = |finding: &Finding| matches!(finding, Finding::Unlogged { attempt: 8, .. });
        assert!(found.iter().any(unlogged), "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
    });
}

/// The answer to the commit of a begin is lost: the execution is written, and nobody was given
/// it. The hub settles it as its own fault, and leaves alone what runs.
#[test]
fn an_execution_that_nobody_was_given_is_free() {
    on_each_store("ghost", |url| async move {
        let store = store(&url).await;
        let quick = LedgerLimits {
            sweep_ms: 20,
            ..limits()
        };
        let ledger = Ledger::open(&store, tariff(), quick, audit())
            .await
            .unwrap();
        let id = statement(&ledger, StatementKind::Query).await;
        let running = ledger
            .begin_scanning(started(id), 4_000_000_000)
            .await
            .unwrap();
        let mut write = store.write().await.unwrap();
        for sql in [
            "INSERT INTO executions SELECT statement_id, 2, owner, tariff_version, \
             habilitations, datasets, columns, started_at, 0 FROM executions",
            "INSERT INTO interims SELECT statement_id, 2, seq, at, quantities FROM interims",
        ] {
            let written = sqlx::query(sql).execute(write.connection()).await;
            written.unwrap();
        }
        write.commit().await.unwrap();
        wait_for_usage(&ledger, 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let records = usage(&ledger).await;
        assert_eq!(records.len(), 1, "what runs is left alone");
        let ghost = &records[0];
        assert_eq!((ghost.attempt, ghost.outcome.as_str()), (2, "error"));
        assert_eq!(ghost.error_kind.as_deref(), Some("unavailable"));
        assert_eq!(
            (ghost.bytes_scanned, ghost.cost),
            (4_000_000_000, Decimal::ZERO)
        );
        running.interim().await.unwrap();
        let paid = running.settle(Outcome::Ok).await.unwrap();
        assert!(paid.cost > Decimal::ZERO);
        ledger.close().await.unwrap();
        assert!(!ledger.is_writing());
    });
}

/// A store that does not answer is one that cannot be written: nothing is served, and nobody
/// waits for ever.
#[tokio::test]
async fn a_store_that_does_not_answer_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    let store = store(&url).await;
    let impatient = LedgerLimits {
        write_wait_ms_max: 100,
        ..limits()
    };
    let ledger = Ledger::open(&store, tariff(), impatient, audit())
        .await
        .unwrap();
    assert!(ledger.is_writing());
    let id = statement(&ledger, StatementKind::Query).await;
    let running = ledger.begin(started(id)).await.unwrap();
    // The writer's turn, which it waits for without a limit of the store's own.
    let held = store.write().await.unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(5), ledger.begin(started(id))).await;
    assert!(
        matches!(refused, Ok(Err(LedgerError::Unwritable(_)))),
        "{refused:?}"
    );
    let kept = running.settle(Outcome::Ok).await;
    assert!(matches!(kept, Err(LedgerError::Unwritable(_))));
    drop(held);
    wait_for_usage(&ledger, 1).await;
    ledger.close().await.unwrap();
    store.close().await;
    assert_eq!(report(&url, None).await.open, 0);
}
