//! The audit log: what is altered is found, and what is not altered is not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::path::PathBuf;

use chrono::Utc;
use common::{
    LOG_ENTRIES, audit, copy_of, drop_copy, intruder, ledger, limits, on_each_store, report, run,
    tariff, write_log,
};
use hubflight_audit::{Checkpoint, Entry, Payload, Signer};
use hubflight_ledger::{Finding, Flaw, Ledger, LedgerError, Place};
use hubflight_store::Store;
use sqlx::{AnyConnection, Connection, Row};

/// A flaw of a checkpoint of the database.
fn kept(id: i64, flaw: Flaw) -> Finding {
    let place = Place::Store { id };
    Finding::Checkpoint { place, flaw }
}

/// The flaws of checkpoints, wherever they are.
fn flaws(findings: &[Finding]) -> Vec<&Flaw> {
    fn flaw(finding: &Finding) -> Option<&Flaw> {
        match finding {
            Finding::Checkpoint { flaw, .. } => Some(flaw),
            _ => None,
        }
    }
    findings.iter().filter_map(flaw).collect()
}

const COPY_ROW: &str = "INSERT INTO audit (seq, at, event, person, habilitations, datasets, \
    columns, outcome, rows_returned, bytes_returned, client, leaf, leaf_hash, payload_hash, \
    salt) SELECT 43, at, event, person, habilitations, datasets, columns, outcome, \
    rows_returned, bytes_returned, client, 42, leaf_hash, payload_hash, salt FROM audit \
    WHERE seq = 14";

/// A record that was never taken into the log, with the first number that there can be.
const FIRST_ROW: &str = "INSERT INTO audit (seq, at, event, person, habilitations, datasets, \
    columns, outcome, rows_returned, bytes_returned, client) VALUES (-9223372036854775808, 0, \
    'login', 'eve', '[]', '[]', '[]', 'ok', 0, 0, '')";

const MORE_LINES: &str = "INSERT INTO usage_lines (usage_id, line, unit, quantity, unit_price, \
    amount) SELECT usage_id, 9, 'bytes_scanned', '1', '1', '1' FROM usage WHERE seq = 1";

/// What is done to a copy, and a finding that must come of it.
fn tamperings() -> Vec<(&'static str, String, Finding)> {
    let sql = |text: &str| text.to_owned();
    let other = Signer::of_hub(&[43; 32]).unwrap();
    let forged = Checkpoint {
        size: 14,
        root: [0; 32],
        at: Utc::now(),
        seal: None,
    };
    let forged = forged.sign(&other);
    vec![
        (
            "field",
            sql("UPDATE audit SET outcome = 'error' WHERE seq = 6"),
            Finding::Changed { seq: 6 },
        ),
        (
            "time",
            sql("UPDATE audit SET at = at + 1 WHERE seq = 42"),
            Finding::Changed { seq: 42 },
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
            kept(
                1,
                Flaw::Differs {
                    size: 14,
                    from_seq: 1,
                    to_seq: 14,
                },
            ),
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
            sql("DELETE FROM audit WHERE seq > 39"),
            Finding::Truncated {
                after_seq: 39,
                count: 3,
            },
        ),
        (
            "tail_and_head",
            sql("DELETE FROM audit WHERE seq > 39; \
                 UPDATE audit_head SET size = 39, last_seq = 39"),
            Finding::HeadUnsigned,
        ),
        (
            "all",
            sql("DELETE FROM audit; UPDATE audit_head SET size = 0, last_seq = 0, note = ''"),
            kept(1, Flaw::Beyond { size: 14 }),
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
        ("forged", sql(COPY_ROW), Finding::Appended { seq: 43 }),
        (
            "forged_first",
            sql(FIRST_ROW),
            Finding::Forged { seq: i64::MIN },
        ),
        (
            "forged_and_head",
            format!("{COPY_ROW}; UPDATE audit_head SET size = 43, last_seq = 43"),
            Finding::HeadUnsigned,
        ),
        (
            "checkpoint",
            format!("UPDATE audit_checkpoints SET note = '{forged}' WHERE id = 1"),
            kept(1, Flaw::Unsigned),
        ),
        (
            "checkpoint_moved",
            sql(
                "UPDATE audit_checkpoints SET note = (SELECT note FROM audit_checkpoints \
                 WHERE id = 1) WHERE id = 2",
            ),
            kept(2, Flaw::Altered),
        ),
        (
            "purge",
            sql("INSERT INTO audit_purges (before_at, purged_at) VALUES (1, 9000000000000000)"),
            Finding::PurgeUnrecorded {
                before: "1970-01-01T00:00:00.000001+00:00".to_owned(),
            },
        ),
        (
            "usage_gone",
            sql("DELETE FROM usage_lines; DELETE FROM usage"),
            Finding::UsageChanged { seq: 2 },
        ),
        (
            "usage_cost",
            sql("UPDATE usage SET cost = '7' WHERE seq = 1"),
            Finding::UsageChanged { seq: 2 },
        ),
        (
            "usage_person",
            sql("UPDATE usage SET person = 'eve' WHERE seq = 1"),
            Finding::UsageChanged { seq: 2 },
        ),
        (
            "usage_line",
            sql(MORE_LINES),
            Finding::UsageChanged { seq: 2 },
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
        rewrite_login(&mut intruder, 27).await;
        let found = report(&copy, None).await.findings;
        // A checkpoint of its own time may have come before: its number does not matter.
        let between = Flaw::Differs {
            size: 28,
            from_seq: 15,
            to_seq: 28,
        };
        assert!(flaws(&found).contains(&&between), "{found:?}");
        assert!(!found.contains(&Finding::Changed { seq: 27 }), "{found:?}");
        run(&mut intruder, "DELETE FROM audit_checkpoints").await;
        intruder.close().await.unwrap();
        let found = report(&copy, None).await.findings;
        assert_eq!(found, [Finding::HeadDiffers { after_seq: 0 }]);
        // A server that appends to it would not notice: the frontier hides the entry, and the
        // witness does not.
        let found = report(&copy, Some(witness.path())).await.findings;
        assert_eq!(flaws(&found).first(), Some(&&between), "{found:?}");
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
        assert_eq!(flaws(&found)[0], &Flaw::Beyond { size: 56 });
        // It goes on where it was, as another history.
        write_log(&older, elsewhere.path()).await;
        assert!(report(&older, Some(elsewhere.path())).await.is_sound());
        let found = report(&older, Some(witness.path())).await.findings;
        let fork = |flaw: &&Flaw| matches!(flaw, Flaw::Differs { size: 56, .. });
        assert!(flaws(&found).iter().any(fork), "{found:?}");
        // The witness's own files are proven as well.
        let mut files: Vec<PathBuf> = std::fs::read_dir(witness.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert_eq!(files.len(), 6);
        std::fs::write(&files[2], "nothing").unwrap();
        let found = report(&url, Some(witness.path())).await.findings;
        assert_eq!(flaws(&found), [&Flaw::Unsigned], "{found:?}");
        assert_eq!(found.len(), 1, "{found:?}");
        drop_copy(&older).await;
    });
}

#[test]
fn a_log_that_somebody_else_wrote_is_not_continued() {
    on_each_store("forged_head", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        for (name, row, head) in [
            ("head", COPY_ROW, "size = 43, last_seq = 43"),
            ("numbers", "SELECT 1", "last_seq = -9"),
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
