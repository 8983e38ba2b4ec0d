//! The audit log: what is altered is found, and what is not altered is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::path::PathBuf;

use chrono::Utc;
use common::{LOG_ENTRIES, audit, ledger, limits, on_each_store, report, tariff, write_log};
use hubflight_audit::{Checkpoint, Entry, Payload, Signer};
use hubflight_ledger::{Finding, Ledger, LedgerError};
use hubflight_store::Store;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

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
        assert_eq!((sound.entries, sound.erased), (LOG_ENTRIES, 0));
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
        let found = report(&copy, None).await.findings;
        // A checkpoint of its own time may have come before: its number does not matter.
        let between = |finding: &Finding| {
            matches!(
                finding,
                Finding::CheckpointDiffers {
                    size: 16,
                    from_seq: 9,
                    to_seq: 16,
                    ..
                }
            )
        };
        assert!(found.iter().any(between), "{found:?}");
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
