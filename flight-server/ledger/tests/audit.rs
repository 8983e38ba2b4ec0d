//! The audit log: what is altered is found, and what is not altered is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, Months, Utc};
use common::{audit, ledger, limits, on_each_store, opened, signer, started, store, tariff};
use hubflight_audit::{Checkpoint, Entry, Payload, Signer};
use hubflight_ledger::{
    AuditEvent, AuditSettings, Filter, Finding, Ledger, LedgerError, LedgerLimits, Outcome, Page,
    Purged, Refusal, Report, StatementKind, VerifyOptions, newest_checkpoint, prove_inclusion,
    purge_before, record_act, verify,
};
use hubflight_store::Store;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

const CHILD: &str = "HUBFLIGHT_TEST_AUDIT_URL";
/// Entries of the log that is tampered with.
const ENTRIES: u64 = 24;

fn login(at: DateTime<Utc>) -> AuditEvent {
    AuditEvent {
        event: "login",
        outcome: "ok",
        person: Some("ada".to_owned()),
        project: None,
        client: "test".to_owned(),
        at,
    }
}

async fn settle_one(ledger: &Ledger) {
    let id = common::statement(ledger, StatementKind::Query).await;
    let execution = ledger.begin(started(id)).await.unwrap();
    execution.settle(Outcome::Ok).await.unwrap();
}

/// A log of 24 entries with three checkpoints, of 8, 16 and 24, which a witness has too.
async fn write_log(url: &str, witness: &Path) {
    let store = store(url).await;
    for _ in 0..3 {
        let settings = AuditSettings {
            signer: signer(),
            witness: Some(witness.to_owned()),
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

async fn report(url: &str, witness: Option<&Path>) -> Report {
    let copy = Store::open_copy(url).await.unwrap();
    let options = VerifyOptions {
        key: signer().key().clone(),
        witness: witness.map(Path::to_owned),
    };
    let report = verify(&copy, &options).await.unwrap();
    copy.close().await;
    report
}

/// A copy of a database that nobody uses, and its address.
async fn copy_of(url: &str, name: &str) -> String {
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

async fn drop_copy(copy: &str) {
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

/// A connection of somebody who owns the database, with its triggers gone.
async fn intruder(url: &str) -> AnyConnection {
    let mut connection = AnyConnection::connect(url).await.unwrap();
    let guards = if url.starts_with("sqlite://") {
        "DROP TRIGGER audit_immutable; DROP TRIGGER audit_kept; \
         DROP TRIGGER statements_immutable; DROP TRIGGER audit_checkpoints_immutable; \
         DROP TRIGGER audit_checkpoints_kept; PRAGMA foreign_keys = OFF"
    } else {
        "ALTER TABLE audit DISABLE TRIGGER USER; ALTER TABLE statements DISABLE TRIGGER USER; \
         ALTER TABLE audit_checkpoints DISABLE TRIGGER USER"
    };
    sqlx::raw_sql(guards)
        .execute(&mut connection)
        .await
        .unwrap();
    connection
}

async fn run(connection: &mut AnyConnection, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

const COPY_ROW: &str = "INSERT INTO audit (seq, at, event, person, habilitations, datasets, \
    columns, outcome, rows_returned, bytes_returned, client, leaf, leaf_hash, payload_hash, \
    salt) SELECT 25, at, event, person, habilitations, datasets, columns, outcome, \
    rows_returned, bytes_returned, client, 24, leaf_hash, payload_hash, salt FROM audit \
    WHERE seq = 8";

/// What is done to a copy, and a finding that must come of it.
fn tamperings() -> Vec<(&'static str, String, Finding)> {
    let sql = |text: &str| text.to_owned();
    let other = Signer::of_hub(&[43; 32]).unwrap();
    let forged = Checkpoint {
        size: 8,
        root: [0; 32],
        at: Utc::now(),
        seal: None,
    };
    let forged = forged.sign(&other);
    vec![
        (
            "field",
            sql("UPDATE audit SET outcome = 'error' WHERE seq = 5"),
            Finding::Changed { seq: 5 },
        ),
        (
            "time",
            sql("UPDATE audit SET at = at + 1 WHERE seq = 24"),
            Finding::Changed { seq: 24 },
        ),
        (
            "person",
            sql("UPDATE audit SET person = 'eve' WHERE seq = 5"),
            Finding::PayloadChanged { seq: 5 },
        ),
        (
            "payload_hash",
            sql("UPDATE audit SET payload_hash = leaf_hash WHERE seq = 5"),
            Finding::Changed { seq: 5 },
        ),
        (
            "leaf_hash",
            sql("UPDATE audit SET leaf_hash = payload_hash WHERE seq = 5"),
            Finding::CheckpointDiffers {
                id: 1,
                size: 8,
                from_seq: 1,
                to_seq: 8,
            },
        ),
        (
            "text",
            sql(
                "UPDATE statements SET sql_sealed = (SELECT salt FROM audit WHERE seq = 5) WHERE statement_id = \
                 (SELECT statement_id FROM audit WHERE seq = 5)",
            ),
            Finding::TextChanged { seq: 5 },
        ),
        (
            "erased",
            sql(
                "UPDATE audit SET person = NULL, client = '', sql_sha256 = NULL, \
                 sealed_sha256 = NULL, salt = NULL WHERE seq = 5",
            ),
            Finding::Erased { seq: 5 },
        ),
        (
            "middle",
            sql("DELETE FROM audit WHERE seq = 5"),
            Finding::Missing {
                after_seq: 4,
                before_seq: 6,
                count: 1,
            },
        ),
        (
            "tail",
            sql("DELETE FROM audit WHERE seq > 21"),
            Finding::Truncated {
                after_seq: 21,
                count: 3,
            },
        ),
        (
            "tail_and_head",
            sql("DELETE FROM audit WHERE seq > 21; \
                 UPDATE audit_head SET size = 21, last_seq = 21"),
            Finding::HeadUnsigned,
        ),
        (
            "all",
            sql("DELETE FROM audit; UPDATE audit_head SET size = 0, last_seq = 0, note = ''"),
            Finding::CheckpointBeyond { id: 1, size: 8 },
        ),
        (
            "swap",
            sql(
                "UPDATE audit SET seq = -1 WHERE seq = 5; UPDATE audit SET seq = 5 \
                 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = -1",
            ),
            Finding::Changed { seq: 5 },
        ),
        (
            "swap_with_leaves",
            sql(
                "UPDATE audit SET seq = -1, leaf = 5 WHERE seq = 5; UPDATE audit SET seq = 5, \
                 leaf = 4 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = -1",
            ),
            Finding::Changed { seq: 6 },
        ),
        ("forged", sql(COPY_ROW), Finding::Appended { seq: 25 }),
        (
            "forged_and_head",
            format!("{COPY_ROW}; UPDATE audit_head SET size = 25, last_seq = 25"),
            Finding::HeadUnsigned,
        ),
        (
            "checkpoint",
            format!("UPDATE audit_checkpoints SET note = '{forged}' WHERE id = 1"),
            Finding::CheckpointUnsigned { id: 1 },
        ),
        (
            "checkpoint_moved",
            sql(
                "UPDATE audit_checkpoints SET note = (SELECT note FROM audit_checkpoints \
                 WHERE id = 1) WHERE id = 2",
            ),
            Finding::CheckpointAltered { id: 2 },
        ),
        (
            "purge",
            sql("INSERT INTO audit_purges (before_at, purged_at) VALUES (1, 9000000000000000)"),
            Finding::PurgeUnrecorded {
                before: "1970-01-01T00:00:00.000001+00:00".to_owned(),
            },
        ),
    ]
}

#[test]
fn every_tampering_is_found_and_an_untouched_copy_passes() {
    on_each_store("tamper", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        let sound = report(&url, Some(witness.path())).await;
        assert!(sound.is_sound(), "{:?}", sound.findings);
        assert_eq!((sound.entries, sound.erased), (ENTRIES, 0));
        assert_eq!((sound.checkpoints, sound.witnessed), (3, 3));
        for (name, sql, finding) in tamperings() {
            let copy = copy_of(&url, name).await;
            let mut intruder = intruder(&copy).await;
            run(&mut intruder, &sql).await;
            intruder.close().await.unwrap();
            let found = report(&copy, None).await.findings;
            assert!(found.contains(&finding), "{name}: {found:?}");
            drop_copy(&copy).await;
        }
        // The original was not touched by any of it.
        assert_eq!(report(&url, Some(witness.path())).await, sound);
    });
}

/// Who rewrites an entry with all its hashes is found by the next checkpoint, and where the
/// checkpoints are gone too, by the log's signed head.
#[test]
fn a_rewritten_entry_is_found() {
    on_each_store("rewritten", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        let copy = copy_of(&url, "rewritten").await;
        let mut intruder = intruder(&copy).await;
        rewrite_login(&mut intruder, 15).await;
        let between = Finding::CheckpointDiffers {
            id: 2,
            size: 16,
            from_seq: 9,
            to_seq: 16,
        };
        let found = report(&copy, None).await.findings;
        assert!(found.contains(&between), "{found:?}");
        assert!(!found.contains(&Finding::Changed { seq: 15 }), "{found:?}");
        run(&mut intruder, "DELETE FROM audit_checkpoints").await;
        intruder.close().await.unwrap();
        let found = report(&copy, None).await.findings;
        assert_eq!(found, [Finding::HeadDiffers { after_seq: 0 }]);
        // A server that appends to it would not notice: the frontier hides the entry, and the
        // witness does not.
        let found = report(&copy, Some(witness.path())).await.findings;
        assert!(
            matches!(
                &found[..],
                [
                    Finding::WitnessDiffers {
                        size: 16,
                        from_seq: 9,
                        ..
                    },
                    ..
                ]
            ),
            "{found:?}"
        );
        drop_copy(&copy).await;
    });
}

/// Makes another person log in, with a salt and hashes that fit.
async fn rewrite_login(connection: &mut AnyConnection, seq: i64) {
    let row = sqlx::query("SELECT at, event FROM audit WHERE seq = $1")
        .bind(seq)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let event: String = row.get("event");
    assert_eq!(event, "login");
    let payload = Payload {
        person: Some("eve"),
        client: "test",
        sql_sha256: None,
        sealed_sha256: None,
    };
    let payload_hash = payload.hash(&[1; 32]);
    let entry = Entry {
        seq,
        at: row.get("at"),
        event: &event,
        project: None,
        statement_id: None,
        attempt: None,
        habilitations: "[]",
        datasets: "[]",
        columns: "[]",
        outcome: "ok",
        error_kind: None,
        rows_returned: 0,
        bytes_returned: 0,
        detail: None,
    };
    sqlx::query(
        "UPDATE audit SET person = 'eve', salt = $1, payload_hash = $2, leaf_hash = $3 \
         WHERE seq = $4",
    )
    .bind(vec![1_u8; 32])
    .bind(payload_hash.to_vec())
    .bind(entry.leaf_hash(&payload_hash).to_vec())
    .bind(seq)
    .execute(connection)
    .await
    .unwrap();
}

/// An older copy is sound in itself: only the witness knows that the log was longer.
#[test]
fn an_older_copy_and_a_fork_are_found_by_the_witness() {
    on_each_store("rollback", |url| async move {
        let (witness, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_log(&url, witness.path()).await;
        let older = copy_of(&url, "older").await;
        write_log(&url, witness.path()).await;
        assert!(report(&older, None).await.is_sound());
        let found = report(&older, Some(witness.path())).await.findings;
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(matches!(found[0], Finding::WitnessBeyond { size: 32, .. }));
        // It goes on where it was, as another history.
        write_log(&older, elsewhere.path()).await;
        assert!(report(&older, Some(elsewhere.path())).await.is_sound());
        let found = report(&older, Some(witness.path())).await.findings;
        let fork = |finding: &Finding| matches!(finding, Finding::WitnessDiffers { size: 32, .. });
        assert!(found.iter().any(fork), "{found:?}");
        // The witness's own files are proven as well.
        let mut files: Vec<PathBuf> = std::fs::read_dir(witness.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert_eq!(files.len(), 6);
        std::fs::write(&files[2], "nothing").unwrap();
        let found = report(&url, Some(witness.path())).await.findings;
        assert!(
            matches!(&found[..], [Finding::WitnessUnsigned { .. }]),
            "{found:?}"
        );
        drop_copy(&older).await;
    });
}

#[test]
fn a_log_that_somebody_else_wrote_is_not_continued() {
    on_each_store("forged_head", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        let before_the_log = "INSERT INTO audit (seq, at, event, habilitations, datasets, \
             columns, outcome, rows_returned, bytes_returned, client) VALUES (25, 0, 'login', \
             '[]', '[]', '[]', 'ok', 0, 0, '')";
        for (name, row, head) in [
            ("head", COPY_ROW, "size = 25, last_seq = 25"),
            ("older", before_the_log, "adopt_to = 25"),
        ] {
            let copy = copy_of(&url, name).await;
            let mut intruder = intruder(&copy).await;
            run(&mut intruder, row).await;
            run(&mut intruder, &format!("UPDATE audit_head SET {head}")).await;
            intruder.close().await.unwrap();
            let store = Store::open(&copy).await.unwrap();
            let refused = Ledger::open(&store, tariff(), limits(), audit()).await;
            assert!(
                matches!(refused, Err(LedgerError::AuditForged)),
                "{name}: {refused:?}"
            );
            store.close().await;
            drop_copy(&copy).await;
        }
        let store = Store::open(&url).await.unwrap();
        ledger(&store).await.close().await.unwrap();
        store.close().await;
    });
}

#[test]
fn an_entry_is_proven_by_its_checkpoint() {
    on_each_store("inclusion", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        let store = Store::open(&url).await.unwrap();
        let key = signer().key().clone();
        for seq in 1..=ENTRIES as i64 {
            let mut proof = prove_inclusion(&store, seq).await.unwrap();
            assert!(proof.verify(&key), "entry {seq}");
            assert!(!proof.verify(Signer::of_hub(&[1; 32]).unwrap().key()));
            proof.leaf_hash[0] ^= 1;
            assert!(!proof.verify(&key), "entry {seq}");
        }
        let missing = prove_inclusion(&store, 25).await;
        assert!(matches!(missing, Err(LedgerError::NoEntry(25))));
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
        assert_eq!((last.size, last.seal), (2, None));
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
        let young = purge_before(&store, signer(), Utc::now() - Months::new(11), &act).await;
        assert!(
            matches!(young, Err(LedgerError::TooYoung { .. })),
            "{young:?}"
        );
        let before = Utc::now() - Months::new(24);
        let purged = purge_before(&store, signer(), before, &act).await.unwrap();
        assert_eq!(
            purged,
            Purged {
                entries: 2,
                statements: 1
            }
        );
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
        assert_eq!(persons, [None, None, Some("ada"), Some("ada")]);
        assert_eq!(records[3].event, "audit_purged");
        settle_one(&ledger).await;
        ledger.close().await.unwrap();
        store.close().await;
        let report = report(&url, None).await;
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!((report.entries, report.erased), (5, 2));
        if let Some(path) = url.strip_prefix("sqlite://") {
            let bytes = std::fs::read(path).unwrap();
            let secret = b"HEALTH SECRET";
            assert!(!bytes.windows(secret.len()).any(|part| part == secret));
        }
    });
}

#[test]
fn entries_from_before_there_was_a_log_come_first() {
    on_each_store("adopt", |url| async move {
        let store = store(&url).await;
        for seq in [2, 3, 150] {
            sqlx::query(
                "INSERT INTO audit (seq, at, event, person, habilitations, datasets, columns, \
                 outcome, rows_returned, bytes_returned, client) VALUES \
                 ($1, 7, 'login', 'ada', '[]', '[]', '[]', 'ok', 0, 0, 'old')",
            )
            .bind(seq)
            .execute(store.pool())
            .await
            .unwrap();
        }
        sqlx::query("UPDATE audit_head SET adopt_to = 150")
            .execute(store.pool())
            .await
            .unwrap();
        let ledger = ledger(&store).await;
        settle_one(&ledger).await;
        let records = ledger.audit(&Filter::default(), Page::FIRST).await.unwrap();
        let numbers: Vec<i64> = records.iter().map(|record| record.seq).collect();
        assert_eq!(numbers, [2, 3, 150, 151]);
        ledger.close().await.unwrap();
        store.close().await;
        let report = report(&url, None).await;
        assert!(report.is_sound(), "{:?}", report.findings);
        assert_eq!(report.entries, 4);
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
            record_act(&store, signer(), &login(Utc::now()), &detail)
                .await
                .unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        let entries = (EACH * ledgers.len() + 20) as u64;
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
            let usage: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM usage")
                .fetch_one(store.pool())
                .await
                .unwrap();
            assert_eq!(report.entries as i64, usage, "round {round}");
        }
        store.close().await;
    });
}

/// How fast statements are opened, begun and settled one after another: what one user waits for.
#[test]
#[ignore = "measures"]
fn latency_of_one_after_another() {
    on_each_store("latency", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let mut times = Vec::new();
        for _ in 0..1_000 {
            let id = common::statement(&ledger, StatementKind::Query).await;
            let execution = ledger.begin(started(id)).await.unwrap();
            let start = Instant::now();
            execution.settle(Outcome::Ok).await.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!("settle: p50 {:?}, p99 {:?}", times[500], times[990]);
        ledger.close().await.unwrap();
    });
}
