//! What whoever writes to the database, without the key, tries to hide: it is refused or found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Months, TimeDelta, Utc};
use common::{
    copy_of, drop_copy, intruder, ledger, limits, login, on_each_store, opened, report, run,
    settle_one, signer, started, statement, store, tariff, write_log,
};
use hubflight_audit::{Entry, Payload};
use hubflight_ledger::{
    AuditEvent, AuditSettings, Finding, Flaw, Ledger, LedgerError, Outcome, Place, Purged, Refusal,
    StatementKind, Witness, prove_inclusion, purge_before, record_act, record_event, recorded_text,
    text_key_created,
};
use hubflight_store::{Secrets, Store, StoreLimits, TextHolder};
use sqlx::{AnyConnection, Connection};

/// Takes the log back to before its first entry, and keeps the entries for the next start.
const EMPTIED: &str = "UPDATE audit SET person = 'eve', leaf = NULL, leaf_hash = NULL, \
    payload_hash = NULL, salt = NULL; DELETE FROM audit_checkpoints; \
    UPDATE audit_head SET size = 0, last_seq = 0, note = ''";

fn empty_frontier(url: &str) -> &'static str {
    if url.starts_with("sqlite://") {
        "UPDATE audit_head SET frontier = x''"
    } else {
        "UPDATE audit_head SET frontier = ''"
    }
}

async fn open(store: &Store, witness: Option<&Path>) -> Result<Ledger, LedgerError> {
    let settings = AuditSettings {
        signer: signer(),
        witness: witness.map(|path| Witness::folder(path.to_owned())),
        syslog: None,
    };
    Ledger::open(store, tariff(), limits(), settings).await
}

/// Records an event as the administrator's commands do.
async fn record(store: &Store) -> Result<(), LedgerError> {
    let mut write = store.write().await.unwrap();
    record_event(&mut write, signer(), &login(Utc::now())).await?;
    write.commit().await.unwrap();
    Ok(())
}

fn is_forged<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::AuditForged))
}

#[test]
fn an_emptied_log_is_not_begun_again() {
    on_each_store("emptied", |url| async move {
        let witness = tempfile::tempdir().unwrap();
        write_log(&url, witness.path()).await;
        let copy = copy_of(&url, "emptied").await;
        let mut intruder = intruder(&copy).await;
        run(&mut intruder, EMPTIED).await;
        run(&mut intruder, empty_frontier(&url)).await;
        let store = Store::open(&copy).await.unwrap();
        assert!(is_forged(&open(&store, None).await));
        assert!(is_forged(&record(&store).await));
        let found = report(&copy, None).await.findings;
        assert!(found.contains(&Finding::Appended { seq: 1 }), "{found:?}");
        // Without any entry it is an earlier state of the store, which the witness knows.
        run(&mut intruder, "DELETE FROM audit").await;
        let refused = open(&store, Some(witness.path())).await;
        assert!(
            matches!(refused, Err(LedgerError::Witness { .. })),
            "{refused:?}"
        );
        let found = report(&copy, None).await.findings;
        let unlogged = |finding: &&Finding| matches!(finding, Finding::Unlogged { .. });
        assert_eq!(found.iter().filter(unlogged).count(), 18, "{found:?}");
        // The checkpoints alone tell that it was longer.
        run(
            &mut intruder,
            "INSERT INTO audit_checkpoints (size, at, note) VALUES (14, 0, '')",
        )
        .await;
        assert!(is_forged(&open(&store, None).await));
        assert!(is_forged(&record(&store).await));
        intruder.close().await.unwrap();
        store.close().await;
        drop_copy(&copy).await;
    });
}

/// A server that runs knows how long its log was, also where the head is an older one that it
/// signed itself.
#[test]
fn a_running_server_refuses_a_log_that_was_put_back() {
    on_each_store("put_back", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        ledger.event(login(Utc::now())).await.unwrap();
        let mut intruder = AnyConnection::connect(&url).await.unwrap();
        run(
            &mut intruder,
            "CREATE TABLE older AS SELECT * FROM audit_head",
        )
        .await;
        ledger.event(login(Utc::now())).await.unwrap();
        intruder.close().await.unwrap();
        let mut intruder = common::intruder(&url).await;
        for sql in [
            "DELETE FROM audit WHERE seq > 1; DELETE FROM audit_head; \
             INSERT INTO audit_head SELECT * FROM older",
            "DELETE FROM audit; UPDATE audit_head SET size = 0, last_seq = 0, note = ''",
        ] {
            run(&mut intruder, sql).await;
            if sql.starts_with("DELETE FROM audit;") {
                run(&mut intruder, empty_frontier(&url)).await;
            }
            let refused = ledger.event(login(Utc::now())).await;
            assert!(is_forged(&refused), "{sql}: {refused:?}");
            let id = opened(StatementKind::Query);
            let asked = id.statement_id;
            ledger.statement(id).await.unwrap();
            assert!(is_forged(&ledger.begin(started(asked)).await), "{sql}");
        }
        intruder.close().await.unwrap();
        drop(ledger.close().await);
        store.close().await;
    });
}

fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// An operator sets the clock ahead, purges, and sets it back: the log is signed, and the
/// checkpoints after it tell when that was.
#[test]
fn a_purge_under_a_wrong_clock_is_found() {
    on_each_store("clock_ahead", |url| async move {
        let store = store(&url).await;
        let first = ledger(&store).await;
        settle_one(&first).await;
        first.close().await.unwrap();
        let ahead = Utc::now() + Months::new(14);
        let before = ahead - Months::new(13);
        let act = AuditEvent {
            event: "audit_purged",
            ..login(ahead)
        };
        let detail = serde_json::json!({ "before_at": micros(before) });
        let mut write = store.write().await.unwrap();
        sqlx::query("INSERT INTO audit_purges (before_at, purged_at) VALUES ($1, $2)")
            .bind(micros(before))
            .bind(micros(ahead))
            .execute(write.connection())
            .await
            .unwrap();
        record_act(&mut write, signer(), &act, &detail)
            .await
            .unwrap();
        write.commit().await.unwrap();
        // As the purge itself does under that clock.
        sqlx::query(
            "UPDATE audit SET person = NULL, client = '', sql_sha256 = NULL, \
             sealed_sha256 = NULL, salt = NULL WHERE seq < 3",
        )
        .execute(store.pool())
        .await
        .unwrap();
        ledger(&store).await.close().await.unwrap();
        store.close().await;
        let report = report(&url, None).await;
        assert_eq!(report.erased, 2);
        assert!(
            matches!(
                &report.findings[..],
                [Finding::PurgeTooYoung { seq: 3, .. }]
            ),
            "{:?}",
            report.findings
        );
    });
}

/// A text goes with the last entry of its statement, neither before it nor unnoticed.
#[test]
fn a_text_stays_as_long_as_an_entry_tells_its_hash() {
    on_each_store("text_stays", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let long_ago = Utc::now() - Months::new(30);
        let mut texts = Vec::new();
        for _ in 0..2 {
            let mut old = opened(StatementKind::Query);
            old.opened_at = long_ago;
            let id = old.statement_id;
            ledger.statement(old).await.unwrap();
            let refusal = Refusal {
                statement_id: id,
                reason: "permission_denied",
                habilitations: Vec::new(),
                at: long_ago,
            };
            ledger.refuse(refusal).await.unwrap();
            texts.push(id);
        }
        // The second one is used again, yesterday.
        let mut late = started(texts[1]);
        late.started_at = Utc::now() - TimeDelta::days(1);
        let execution = ledger.begin(late).await.unwrap();
        execution.settle(Outcome::Ok).await.unwrap();
        let before = Utc::now() - Months::new(24);
        let purged = purge_before(&store, signer(), 12, before, &login(Utc::now())).await;
        let expected = Purged {
            entries: 2,
            statements: 1,
            log_is_busy: false,
        };
        assert_eq!(purged.unwrap(), expected);
        let empty = if store.sqlite_path().is_some() {
            "x''"
        } else {
            "''"
        };
        let erase = format!(
            "UPDATE statements SET person = '', client = '', sql_sha256 = '', \
             sql_sealed = {empty}, tags = '{{}}' WHERE statement_id = '{}'",
            texts[1]
        );
        let refused = sqlx::query(sqlx::AssertSqlSafe(erase.clone()));
        assert!(refused.execute(store.pool()).await.is_err());
        ledger.close().await.unwrap();
        store.close().await;
        let sound = report(&url, None).await;
        assert!(sound.is_sound(), "{:?}", sound.findings);
        let mut intruder = intruder(&url).await;
        run(&mut intruder, &erase).await;
        intruder.close().await.unwrap();
        let found = report(&url, None).await.findings;
        let changed = [3, 4].map(|seq| Finding::TextChanged { seq });
        assert_eq!(found, changed);
    });
}

fn secrets() -> Secrets {
    Secrets::new([7; 32])
}

/// Puts a key in force and records it, as the administrator's command does.
async fn put_key(store: &Store, holder: &TextHolder, key: [u8; 32]) {
    let mut write = store.write().await.unwrap();
    let now = Utc::now();
    let secrets = secrets();
    let put = write.put_text_key(&secrets, holder, &key, now);
    put.await.unwrap();
    let (act, detail) = text_key_created(login(now), &holder.label(), &key);
    record_act(&mut write, signer(), &act, &detail)
        .await
        .unwrap();
    write.commit().await.unwrap();
}

#[test]
fn a_key_of_an_intruder_is_found() {
    on_each_store("keys", |url| async move {
        let store = store(&url).await;
        let project = TextHolder::Project("p".to_owned());
        put_key(&store, &TextHolder::Auditors, [1; 32]).await;
        put_key(&store, &project, [2; 32]).await;
        put_key(&store, &project, [3; 32]).await;
        store.close().await;
        assert!(report(&url, None).await.is_sound());
        let hex = |byte: &str| byte.repeat(32);
        let blob = |byte: &str| {
            let hex = hex(byte);
            if url.starts_with("sqlite://") {
                format!("x'{hex}'")
            } else {
                format!("decode('{hex}', 'hex')")
            }
        };
        let mut intruder = intruder(&url).await;
        let own = format!(
            "INSERT INTO text_keys (holder, public_key, created_at) VALUES ('auditors', {}, 1)",
            blob("09")
        );
        run(&mut intruder, &own).await;
        let found = report(&url, None).await.findings;
        let (holder, key) = ("auditors".to_owned(), hex("09"));
        let unrecorded = Finding::KeyUnrecorded {
            holder: holder.clone(),
            key,
        };
        let replaced = Finding::KeyNotInForce { holder };
        assert_eq!(found, [unrecorded, replaced]);
        // Nothing is sealed to it meanwhile.
        let store = Store::open(&url).await.unwrap();
        let newest = store.text_keys(None).await.unwrap();
        assert_eq!(newest, [[9; 32]]);
        let own = store.own_text_keys(&secrets(), Some("p")).await.unwrap();
        assert_eq!(own, [[1; 32], [3; 32]]);
        let others = Secrets::new([8; 32]);
        let none = store.own_text_keys(&others, Some("p")).await.unwrap();
        assert!(none.is_empty());
        store.close().await;
        // An older key of the project comes back into force when the newest goes.
        let back = format!(
            "DELETE FROM text_keys WHERE public_key IN ({}, {})",
            blob("09"),
            blob("03")
        );
        run(&mut intruder, &back).await;
        intruder.close().await.unwrap();
        let found = report(&url, None).await.findings;
        let holder = "project:p".to_owned();
        assert_eq!(found, [Finding::KeyNotInForce { holder }]);
    });
}

/// Rows before the first entry break no proof, and what was altered is not proven.
#[test]
fn what_was_altered_has_no_proof() {
    on_each_store("no_proof", |url| async move {
        write_log(&url, tempfile::tempdir().unwrap().path()).await;
        let mut intruder = intruder(&url).await;
        let copied = "INSERT INTO audit (seq, at, event, person, habilitations, datasets, \
             columns, outcome, rows_returned, bytes_returned, client, leaf, leaf_hash, \
             payload_hash, salt) SELECT -3, at, event, person, habilitations, datasets, \
             columns, outcome, rows_returned, bytes_returned, client, leaf, leaf_hash, \
             payload_hash, salt FROM audit WHERE seq = 1";
        run(&mut intruder, copied).await;
        let store = Store::open(&url).await.unwrap();
        let proof = prove_inclusion(&store, 5).await.unwrap();
        assert!(proof.verify(signer().key()));
        let found = report(&url, None).await.findings;
        assert!(found.contains(&Finding::Changed { seq: -3 }), "{found:?}");
        run(
            &mut intruder,
            "UPDATE audit SET leaf_hash = payload_hash WHERE seq = 7",
        )
        .await;
        let unproven = prove_inclusion(&store, 5).await;
        assert!(matches!(unproven, Err(LedgerError::Unproven(5))));
        intruder.close().await.unwrap();
        store.close().await;
    });
}

/// A text of the intruder's own, with an entry whose hashes fit: it is not the one in the log.
#[test]
fn a_forged_text_is_not_recorded() {
    on_each_store("forged_text", |url| async move {
        let store = store(&url).await;
        let ledger = ledger(&store).await;
        let id = statement(&ledger, StatementKind::Query).await;
        assert_eq!(recorded_text(&store, &id.to_string()).await.unwrap(), None);
        let execution = ledger.begin(started(id)).await.unwrap();
        execution.settle(Outcome::Ok).await.unwrap();
        ledger.close().await.unwrap();
        let recorded = recorded_text(&store, &id.to_string()).await.unwrap();
        let recorded = recorded.unwrap();
        assert_eq!(recorded.sql_sha256, Some("ab".repeat(32)));
        assert!(recorded.proof.verify(signer().key()));
        let mut intruder = intruder(&url).await;
        forge_hash(&mut intruder).await;
        intruder.close().await.unwrap();
        let forged = recorded_text(&store, &id.to_string()).await;
        assert!(
            matches!(forged, Err(LedgerError::Unproven(1))),
            "{forged:?}"
        );
        store.close().await;
    });
}

/// Gives the first entry another hash of its text, and hashes that fit.
async fn forge_hash(connection: &mut AnyConnection) {
    use sqlx::Row;
    let row = sqlx::query("SELECT * FROM audit WHERE seq = 1")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let text = |column| -> String { row.get(column) };
    let sha256 = "cd".repeat(32);
    let (person, client, sealed) = (text("person"), text("client"), text("sealed_sha256"));
    let payload = Payload {
        person: Some(&person),
        client: &client,
        sql_sha256: Some(&sha256),
        sealed_sha256: Some(&sealed),
    };
    let payload_hash = payload.hash(&[1; 32]);
    let (event, project, statement) = (text("event"), text("project"), text("statement_id"));
    let (habilitations, datasets) = (text("habilitations"), text("datasets"));
    let (columns, outcome) = (text("columns"), text("outcome"));
    let entry = Entry {
        seq: 1,
        at: row.get("at"),
        event: &event,
        project: Some(&project),
        statement_id: Some(&statement),
        attempt: row.get("attempt"),
        habilitations: &habilitations,
        datasets: &datasets,
        columns: &columns,
        outcome: &outcome,
        error_kind: None,
        rows_returned: 0,
        bytes_returned: 0,
        detail: None,
    };
    sqlx::query(
        "UPDATE audit SET sql_sha256 = $1, salt = $2, payload_hash = $3, leaf_hash = $4 \
         WHERE seq = 1",
    )
    .bind(sha256.clone())
    .bind(vec![1_u8; 32])
    .bind(payload_hash.to_vec())
    .bind(entry.leaf_hash(&payload_hash).to_vec())
    .execute(connection)
    .await
    .unwrap();
}

/// A witness that lost files, or was never shown any, confirms nothing.
#[test]
fn a_witness_that_lacks_checkpoints_is_found() {
    on_each_store("witness_gaps", |url| async move {
        let (witness, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write_log(&url, witness.path()).await;
        write_log(&url, witness.path()).await;
        let missing = |id| Finding::Checkpoint {
            place: Place::Store { id },
            flaw: Flaw::Missing,
        };
        assert!(report(&url, Some(witness.path())).await.is_sound());
        let found = report(&url, Some(empty.path())).await.findings;
        // The newest may be on their way.
        assert_eq!(found, [1, 2, 3].map(missing));
        let mut files: Vec<PathBuf> = std::fs::read_dir(witness.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        // The second one takes the name of a checkpoint of 29 entries.
        let name = files[1].file_name().unwrap().to_str().unwrap();
        let renamed = name.replace("0028-", "0029-");
        std::fs::rename(&files[1], witness.path().join(&renamed)).unwrap();
        let found = report(&url, Some(witness.path())).await.findings;
        let altered = Finding::Checkpoint {
            place: Place::Witness { file: renamed },
            flaw: Flaw::Altered,
        };
        assert_eq!(found, [missing(2), altered]);
    });
}

/// What a reader holds in the write-ahead log is not said to be gone.
#[tokio::test]
async fn a_purge_says_when_the_log_of_the_database_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    drop(store(&url).await);
    let impatient = StoreLimits {
        lock_wait_ms_max: 50,
        ..StoreLimits::default()
    };
    let store = Store::open_with(&url, &impatient).await.unwrap();
    let mut reader = store.pool().begin().await.unwrap();
    sqlx::query("SELECT * FROM audit")
        .fetch_all(&mut *reader)
        .await
        .unwrap();
    let before = Utc::now() - Months::new(24);
    let act = login(Utc::now());
    let purged = purge_before(&store, signer(), 12, before, &act)
        .await
        .unwrap();
    assert!(purged.log_is_busy);
    reader.rollback().await.unwrap();
    let purged = purge_before(&store, signer(), 12, before, &act)
        .await
        .unwrap();
    assert!(!purged.log_is_busy);
    store.close().await;
}
