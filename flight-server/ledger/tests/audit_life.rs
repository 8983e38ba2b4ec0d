//! The audit log: proofs, checkpoints, purges, older entries, several writers, kills.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{Months, Utc};
use common::{
    LOG_ENTRIES, audit, ledger, limits, login, on_each_store, opened, report, settle_one, signer,
    store, tariff, write_log,
};
use hubflight_audit::{Checkpoint, Signer};
use hubflight_ledger::{
    Filter, Ledger, LedgerError, LedgerLimits, Page, Purged, Refusal, StatementKind,
    newest_checkpoint, overdue, prove_inclusion, purge_before, record_act,
};
use hubflight_store::Store;

const CHILD: &str = "HUBFLIGHT_TEST_AUDIT_URL";

#[test]
fn an_entry_is_proven_by_its_checkpoint() {
    on_each_store("inclusion", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        let store = Store::open(&url).await.unwrap();
        let key = signer().key().clone();
        for seq in 1..=LOG_ENTRIES as i64 {
            let mut proof = prove_inclusion(&store, seq).await.unwrap();
            assert!(proof.verify(&key), "entry {seq}");
            assert!(!proof.verify(Signer::of_hub(&[1; 32]).unwrap().key()));
            proof.leaf_hash[0] ^= 1;
            assert!(!proof.verify(&key), "entry {seq}");
        }
        let missing = prove_inclusion(&store, LOG_ENTRIES as i64 + 1).await;
        assert!(matches!(missing, Err(LedgerError::NoEntry(43))));
        store.close().await;
    });
}

#[test]
fn checkpoints_come_while_entries_come_and_at_midnight() {
    on_each_store("checkpoints", |url| async move {
        let store = store(&url).await;
        let quick = LedgerLimits {
            checkpoint_ms: 20,
            ..limits()
        };
        let first = Ledger::open(&store, tariff(), quick.clone(), audit())
            .await
            .unwrap();
        // An entry of yesterday: that day is over, and is sealed.
        let yesterday = Utc::now() - chrono::TimeDelta::days(1);
        first.event(login(yesterday)).await.unwrap();
        let count = async || -> i64 {
            sqlx::query_scalar("SELECT COUNT(*) FROM audit_checkpoints")
                .fetch_one(store.pool())
                .await
                .unwrap()
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while count().await == 0 {
            assert!(Instant::now() < deadline, "no checkpoint was made");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let note = newest_checkpoint(&store).await.unwrap().unwrap();
        let seal = Checkpoint::open(&note, signer().key()).unwrap();
        assert_eq!((seal.size, seal.seal), (1, Some(yesterday.date_naive())));
        // Nothing new, no checkpoint.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(count().await, 1);
        settle_one(&first).await;
        first.close().await.unwrap();
        let note = newest_checkpoint(&store).await.unwrap().unwrap();
        let last = Checkpoint::open(&note, signer().key()).unwrap();
        assert_eq!((last.size, last.seal), (3, None));
        store.close().await;
        assert!(report(&url, None).await.is_sound());
    });
}

#[test]
fn a_purge_erases_what_is_old_and_the_tree_stays() {
    on_each_store("purge", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let long_ago = Utc::now() - Months::new(30);
        let mut old = opened(StatementKind::Query);
        old.opened_at = long_ago;
        old.sql_sealed = b"HEALTH SECRET".to_vec();
        let refusal = Refusal {
            statement_id: old.statement_id,
            reason: "permission_denied",
            habilitations: Vec::new(),
            at: long_ago,
        };
        ledger.statement(old).await.unwrap();
        ledger.refuse(refusal).await.unwrap();
        ledger.event(login(long_ago)).await.unwrap();
        settle_one(&ledger).await;
        let direct = sqlx::query(
            "UPDATE audit SET person = NULL, client = '', \
             sql_sha256 = NULL, sealed_sha256 = NULL, salt = NULL WHERE seq = 1",
        );
        assert!(direct.execute(store.pool()).await.is_err(), "no purge yet");

        let act = login(Utc::now());
        let young = purge_before(&store, signer(), 12, Utc::now() - Months::new(11), &act).await;
        assert!(
            matches!(young, Err(LedgerError::TooYoung { .. })),
            "{young:?}"
        );
        let before = Utc::now() - Months::new(24);
        let kept_longer = purge_before(&store, signer(), 36, before, &act).await;
        assert!(
            matches!(kept_longer, Err(LedgerError::TooYoung { .. })),
            "{kept_longer:?}"
        );
        let due = async |months| overdue(&store, months, Utc::now()).await.unwrap();
        assert_eq!(
            due(12).await.map(|at| at.timestamp()),
            Some(long_ago.timestamp())
        );
        assert_eq!(due(36).await, None);
        let purged = purge_before(&store, signer(), 12, before, &act)
            .await
            .unwrap();
        assert_eq!(
            purged,
            Purged {
                entries: 2,
                statements: 1,
                log_is_busy: false
            }
        );
        assert_eq!(due(12).await, None);
        // The purge allows no other change, neither of what is old nor of what is not.
        for sql in [
            "UPDATE audit SET outcome = 'ok' WHERE seq = 1",
            "UPDATE audit SET person = 'eve' WHERE seq = 1",
            "UPDATE audit SET person = NULL, client = '', sql_sha256 = NULL, \
             sealed_sha256 = NULL, salt = NULL WHERE seq = 3",
            "UPDATE statements SET person = 'eve'",
            "DELETE FROM audit WHERE seq = 1",
            "INSERT INTO audit_purges (before_at, purged_at) VALUES (2, 3)",
        ] {
            let refused = sqlx::query(sql).execute(store.pool()).await;
            assert!(refused.is_err(), "{sql}");
        }
        let records = ledger.audit(&Filter::default(), Page::FIRST).await.unwrap();
        let persons: Vec<_> = records.iter().map(|r| r.person.as_deref()).collect();
        let ada = Some("ada");
        assert_eq!(persons, [None, None, ada, ada, ada]);
        assert_eq!(records[4].event, "audit_purged");
        settle_one(&ledger).await;
        ledger.close().await.unwrap();
        store.close().await;
        let report = report(&url, None).await;
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!((report.entries, report.erased), (7, 2));
        if let Some(path) = url.strip_prefix("sqlite://") {
            let bytes = std::fs::read(path).unwrap();
            let secret = b"HEALTH SECRET";
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    });
}

/// Several writers at once, servers where the database allows them, make one log.
#[test]
fn several_writers_make_one_log() {
    on_each_store("writers", |url| async move {
        const EACH: usize = 150;
        let store = store(&url).await;
        let mut ledgers = vec![ledger(&store).await];
        if store.sqlite_path().is_none() {
            ledgers.push(ledger(&store).await);
            ledgers.push(ledger(&Store::open(&url).await.unwrap()).await);
        }
        let mut tasks = Vec::new();
        for index in 0..EACH * ledgers.len() {
            let ledger = ledgers[index % ledgers.len()].clone();
            tasks.push(tokio::spawn(async move { settle_one(&ledger).await }));
        }
        for _ in 0..20 {
            let detail = serde_json::json!({ "key": "k" });
            let mut write = store.write().await.unwrap();
            record_act(&mut write, signer(), &login(Utc::now()), &detail)
                .await
                .unwrap();
            write.commit().await.unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        let entries = (2 * EACH * ledgers.len() + 20) as u64;
        for ledger in ledgers {
            ledger.close().await.unwrap();
        }
        store.close().await;
        let report = report(&url, None).await;
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!(report.entries, entries);
    });
}

/// The process that is killed: it writes until then.
#[test]
#[ignore = "is killed; another test runs it"]
fn child_that_writes() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = store(&url).await;
        let quick = LedgerLimits {
            checkpoint_ms: 5,
            ..limits()
        };
        let ledger = Ledger::open(&store, tariff(), quick, audit())
            .await
            .unwrap();
        loop {
            let some = (0..7).map(|_| settle_one(&ledger));
            futures::future::join_all(some).await;
        }
    });
}

#[test]
fn a_kill_at_any_moment_keeps_log_and_tree_together() {
    on_each_store("killed", |url| async move {
        let store = store(&url).await;
        let mut before = 0;
        for round in 0..6_u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--ignored", "--exact", "child_that_writes"])
                .env(CHILD, &url)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let deadline = Instant::now() + Duration::from_secs(30);
            loop {
                let entries: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit")
                    .fetch_one(store.pool())
                    .await
                    .unwrap();
                if entries > before + 20 {
                    before = entries;
                    break;
                }
                assert!(Instant::now() < deadline, "the child writes nothing");
                tokio::time::sleep(Duration::from_millis(1 + round)).await;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let report = report(&url, None).await;
            assert!(report.is_sound(), "round {round}: {:?}", report.findings);
            let count = async |what: &'static str| -> i64 {
                let row = sqlx::query_scalar(what).fetch_one(store.pool());
                row.await.unwrap()
            };
            let executions = count("SELECT COUNT(*) FROM executions").await;
            let usage = count("SELECT COUNT(*) FROM usage").await;
            assert_eq!(executions - usage, report.open as i64, "round {round}");
            let entries = report.entries as i64;
            assert_eq!(entries, executions + usage, "round {round}");
        }
        store.close().await;
    });
}
