//! A bucket as the second place: what was cut off, forked or altered shows there.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod common;

use std::sync::Arc;

use chrono::Utc;
use common::{
    LOG_ENTRIES, copy_of, drop_copy, limits, login, on_each_store, settle_one, signer, tariff,
    write_log_to,
};
use futures::TryStreamExt;
use hubflight_audit::checkpoint_line;
use hubflight_ledger::{
    AuditSettings, Finding, Flaw, Ledger, LedgerError, Place, Report, VerifyOptions, Witness,
    newest_checkpoint, verify,
};
use hubflight_store::Store;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

fn bucket() -> (Arc<InMemory>, Witness) {
    let store = Arc::new(InMemory::new());
    let witness = Witness::bucket(store.clone(), Path::from("hub/audit"), "the bucket".into());
    (store, witness)
}

async fn names(bucket: &InMemory) -> Vec<Path> {
    let listed: Vec<_> = bucket.list(None).try_collect().await.unwrap();
    let mut names: Vec<_> = listed.into_iter().map(|object| object.location).collect();
    names.sort();
    names
}

async fn report(url: &str, witness: Option<Witness>, given: Vec<String>) -> Report {
    let copy = Store::open_copy(url).await.unwrap();
    let key = signer().key().clone();
    let options = VerifyOptions {
        key,
        witness,
        given,
    };
    let report = verify(&copy, &options).await.unwrap();
    copy.close().await;
    report
}

async fn open(store: &Store, witness: Witness) -> Result<Ledger, LedgerError> {
    let settings = AuditSettings {
        signer: signer(),
        witness: Some(witness),
        syslog: None,
    };
    Ledger::open(store, tariff(), limits(), settings).await
}

/// Whether a server that starts on this store is contradicted by its witness.
async fn is_contradicted(url: &str, witness: &Witness) -> bool {
    let store = Store::open(url).await.unwrap();
    let ledger = open(&store, witness.clone()).await.unwrap();
    let state = ledger.second_places()[0].clone();
    assert_eq!(state.kind, "bucket");
    // The ledger's end waits for the comparison.
    ledger.close().await.unwrap();
    store.close().await;
    state.contradicts()
}

fn flaws(report: &Report) -> Vec<&Flaw> {
    let findings = report.findings.iter();
    findings
        .filter_map(|finding| match finding {
            Finding::Checkpoint { flaw, .. } => Some(flaw),
            _ => None,
        })
        .collect()
}

#[test]
fn what_was_cut_off_or_forked_is_found_by_the_bucket() {
    on_each_store("bucket_rollback", |url| async move {
        let (objects, witness) = bucket();
        write_log_to(&url, witness.clone()).await;
        assert_eq!(names(&objects).await.len(), 3);
        let older = copy_of(&url, "older").await;
        write_log_to(&url, witness.clone()).await;
        let sound = report(&url, Some(witness.clone()), Vec::new()).await;
        assert!(sound.is_sound(), "{:?}", sound.findings);
        assert_eq!((sound.entries, sound.witnessed), (2 * LOG_ENTRIES, 6));
        assert!(!is_contradicted(&url, &witness).await);
        // Cut off: the copy is sound in itself.
        assert!(report(&older, None, Vec::new()).await.is_sound());
        let cut = report(&older, Some(witness.clone()), Vec::new()).await;
        assert_eq!(flaws(&cut)[0], &Flaw::Beyond { size: 56 });
        assert!(is_contradicted(&older, &witness).await);
        // Forked: it goes on where it was, as another history that becomes longer.
        let fork = copy_of(&older, "fork").await;
        for _ in 0..2 {
            write_log_to(&fork, bucket().1).await;
        }
        let forked = report(&fork, Some(witness.clone()), Vec::new()).await;
        let differs = |flaw: &&Flaw| matches!(flaw, Flaw::Differs { size: 56, .. });
        assert!(flaws(&forked).iter().any(differs), "{:?}", forked.findings);
        assert!(is_contradicted(&fork, &witness).await);
        // Emptied: nothing is served.
        let folder = tempfile::tempdir().unwrap();
        let empty = format!("sqlite://{}/hub.db", folder.path().display());
        let store = common::store(&empty).await;
        let refused = open(&store, witness.clone()).await;
        assert!(matches!(refused, Err(LedgerError::Witness { .. })));
        store.close().await;
        for copy in [older, fork] {
            drop_copy(&copy).await;
        }
    });
}

#[test]
fn what_was_altered_or_removed_in_the_bucket_is_found() {
    on_each_store("bucket_altered", |url| async move {
        let (objects, witness) = bucket();
        for _ in 0..2 {
            write_log_to(&url, witness.clone()).await;
        }
        let names = names(&objects).await;
        let other = objects.get(&names[0]).await.unwrap().bytes().await.unwrap();
        let own = objects.get(&names[4]).await.unwrap().bytes().await.unwrap();
        for (written, flaw) in [
            (b"nothing".to_vec(), Flaw::Unsigned),
            (other.into(), Flaw::Altered),
        ] {
            objects.put(&names[4], written.into()).await.unwrap();
            let found = report(&url, Some(witness.clone()), Vec::new()).await;
            let file = names[4].filename().unwrap().to_owned();
            let place = Place::Witness { file };
            assert_eq!(found.findings, [Finding::Checkpoint { place, flaw }]);
            assert!(is_contradicted(&url, &witness).await);
        }
        objects.put(&names[4], own.into()).await.unwrap();
        assert!(!is_contradicted(&url, &witness).await);
        objects.delete(&names[1]).await.unwrap();
        let found = report(&url, Some(witness.clone()), Vec::new()).await;
        assert_eq!(flaws(&found), [&Flaw::Missing]);
        // What else lies there is none of its own.
        for name in ["hub/audit/readme", "hub/audit/0/x", "hub/other"] {
            objects.put(&Path::from(name), "x".into()).await.unwrap();
        }
        assert!(!is_contradicted(&url, &witness).await);
    });
}

/// What is there is not written again, whoever asks.
#[test]
fn no_object_is_replaced() {
    on_each_store("bucket_once", |url| async move {
        let (objects, witness) = bucket();
        write_log_to(&url, witness.clone()).await;
        let name = names(&objects).await.remove(2);
        objects.put(&name, "mine".into()).await.unwrap();
        assert!(is_contradicted(&url, &witness).await);
        let kept = objects.get(&name).await.unwrap().bytes().await.unwrap();
        assert_eq!(kept, "mine");
    });
}

#[test]
fn a_checkpoint_from_syslog_tells_what_was_cut_off() {
    on_each_store("given", |url| async move {
        let (_, witness) = bucket();
        write_log_to(&url, witness.clone()).await;
        let older = copy_of(&url, "older").await;
        let store = Store::open(&url).await.unwrap();
        let ledger = open(&store, witness).await.unwrap();
        settle_one(&ledger).await;
        ledger.event(login(Utc::now())).await.unwrap();
        ledger.close().await.unwrap();
        let note = newest_checkpoint(&store).await.unwrap().unwrap();
        store.close().await;
        let line = checkpoint_line(&note).unwrap();
        let given = hubflight_audit::checkpoint_notes(&format!("<109>1 - {line}")).unwrap();
        let sound = report(&url, None, given.clone()).await;
        assert!(sound.is_sound(), "{:?}", sound.findings);
        assert_eq!(sound.given, 1);
        let cut = report(&older, None, given.clone()).await;
        let beyond = Finding::Checkpoint {
            place: Place::Given { number: 1 },
            flaw: Flaw::Beyond {
                size: LOG_ENTRIES + 3,
            },
        };
        assert_eq!(cut.findings, [beyond]);
        // The copy goes on, to as many entries and more.
        write_log_to(&older, bucket().1).await;
        let forked = report(&older, None, given).await;
        let differs = |flaw: &&Flaw| matches!(flaw, Flaw::Differs { size: 45, .. });
        assert!(flaws(&forked).iter().any(differs), "{:?}", forked.findings);
        let forged = vec![note.replace("45\n", "44\n")];
        let found = report(&url, None, forged).await;
        assert_eq!(flaws(&found), [&Flaw::Unsigned]);
        drop_copy(&older).await;
    });
}

/// A bucket that is away at the start keeps the server from starting.
#[tokio::test]
async fn a_bucket_that_cannot_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    let store = common::store(&url).await;
    let away = object_store::aws::AmazonS3Builder::new()
        .with_bucket_name("hub")
        .with_region("us-east-1")
        .with_endpoint("http://127.0.0.1:9")
        .with_allow_http(true)
        .with_access_key_id("synthetic")
        .with_secret_access_key("synthetic")
        .with_retry(object_store::RetryConfig {
            max_retries: 0,
            ..Default::default()
        })
        .build()
        .unwrap();
    let witness = Witness::bucket(Arc::new(away), Path::from("audit"), "s3://hub/audit".into());
    let refused = open(&store, witness).await.unwrap_err().to_string();
    assert!(refused.contains("s3://hub/audit"), "{refused}");
    assert!(!refused.contains("synthetic"), "{refused}");
}
