//! Places that hang, go away and come back.

use std::path::PathBuf;

use chrono::Utc;
use hubflight_audit::{Checkpoint, Signer};

use super::super::append::AuditLog;
use super::super::notary::Notary;
use super::*;
use crate::{AuditEvent, SyslogAddress, record_event};

fn signer() -> Signer {
    Signer::of_hub(&[1; 32]).expect("a signer")
}

async fn store(folder: &tempfile::TempDir) -> Store {
    let url = format!("sqlite://{}/hub.db", folder.path().display());
    Store::open(&url).await.expect("opens")
}

/// An entry, as the administrator's commands write it.
async fn append(store: &Store) {
    let event = AuditEvent {
        event: "login",
        outcome: "ok",
        person: None,
        project: None,
        client: String::new(),
        at: Utc::now(),
    };
    let mut write = store.write().await.expect("begins");
    let recorded = record_event(&mut write, signer(), &event).await;
    recorded.expect("recorded");
    write.commit().await.expect("commits");
}

fn notary(store: &Store, places: SecondPlaces) -> Notary {
    let log = Arc::new(AuditLog::new(signer()));
    Notary::new(store.clone(), log, Duration::from_secs(60), places)
}

async fn made(store: &Store) -> i64 {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM audit_checkpoints");
    count.fetch_one(store.pool()).await.expect("counted")
}

#[tokio::test]
async fn a_witness_that_hangs_stops_no_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(&folder).await;
    let witness = Witness::folder(folder.path().to_owned());
    let (hanging, ends) = tokio::sync::oneshot::channel::<()>();
    let hang = async {
        ends.await.expect_err("nothing is sent");
        Ok(())
    };
    let mut giving = Giving::new(
        Place::Witness(witness.clone()),
        SecondPlace::new(witness.kind()),
    );
    giving.wait = Duration::from_millis(50);
    giving.under_way = Some((0, tokio::spawn(hang)));
    let state = giving.state.clone();
    let mut notary = notary(&store, SecondPlaces(vec![giving]));
    for expected in 1..=2_i64 {
        append(&store).await;
        let looked = notary.look(None).await;
        assert!(
            matches!(looked, Err(LedgerError::Witness { .. })),
            "{looked:?}"
        );
        assert_eq!(made(&store).await, expected);
        assert!(state.is_behind());
    }
    assert_eq!(witness.list().await.expect("read").len(), 0);
    drop(hanging);
    notary.look(None).await.expect("witnessed");
    assert_eq!(witness.list().await.expect("read").len(), 2);
    assert!(!state.is_behind());
}

/// One place that is away keeps nothing from the other, and gets all that it missed.
#[tokio::test]
async fn a_collector_that_was_away_is_told_what_it_missed() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = store(&folder).await;
    let path = folder.path().join("log");
    let witness = Witness::folder(folder.path().to_owned());
    let open = async |path: PathBuf| {
        let syslog = Syslog::new(SyslogAddress::Unix(path), None).expect("an address");
        SecondPlaces::open(Some(witness.clone()), Some(syslog), 0).await
    };
    let away = open(path.clone()).await;
    let away = away.expect_err("nobody listens").to_string();
    assert!(away.contains("unix:"), "{away}");
    append(&store).await;
    let mut own = notary(&store, SecondPlaces::default());
    own.look(None).await.expect("made");
    append(&store).await;
    own.look(None).await.expect("made");
    let listening = tokio::net::UnixDatagram::bind(&path).expect("listens");
    let places = open(path.clone()).await.expect("listens");
    let states = places.states();
    let mut notary = notary(&store, places);
    notary.look(None).await.expect("told");
    assert_eq!(sizes(&listening), [2], "the newest alone");
    drop(listening);
    std::fs::remove_file(&path).expect("removed");
    for _ in 0..2 {
        append(&store).await;
        let looked = notary.look(None).await;
        looked.expect_err("nobody listens");
    }
    let behind: Vec<_> = states.iter().map(|s| (s.kind, s.is_behind())).collect();
    assert_eq!(behind, [("folder", false), ("syslog", true)]);
    assert_eq!(witness.list().await.expect("read").len(), 4);
    let listening = tokio::net::UnixDatagram::bind(&path).expect("listens");
    notary.look(None).await.expect("told");
    assert_eq!(sizes(&listening), [3, 4]);
    assert!(states.iter().all(|state| !state.is_behind()));
}

/// The sizes of the checkpoints that a collector was told.
fn sizes(listening: &tokio::net::UnixDatagram) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut bytes = vec![0; 4096];
    while let Ok(length) = listening.try_recv(&mut bytes) {
        let text = std::str::from_utf8(&bytes[..length]).expect("a text");
        let notes = hubflight_audit::checkpoint_notes(text).expect(text);
        let signed = Checkpoint::open(&notes[0], signer().key()).expect("signed");
        assert!(text.starts_with("<109>1 "), "{text}");
        let data = format!("[checkpoint@32473 size=\"{}\" root=\"", signed.size);
        assert!(text.contains(&data), "{text}");
        sizes.push(signed.size);
    }
    sizes
}
