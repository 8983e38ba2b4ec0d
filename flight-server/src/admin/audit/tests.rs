//! What the audit's commands refuse, and what they show.

use super::*;
use clap::Parser;
use hubflight_audit::{TextPublicKey, seal_text};
use hubflight_ledger::{
    AuditSettings, ExecutionStarted, Ledger, Outcome, StatementKind, StatementOpened, Witness,
};

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: AuditCommand,
}

async fn audit(line: &str) -> anyhow::Result<()> {
    let words = ["audit"].into_iter().chain(line.split_whitespace());
    run(Line::try_parse_from(words)?.command).await
}

/// A demo's folder with an empty store.
async fn hub() -> (tempfile::TempDir, Store, Secrets) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.server.state = folder.path().join("state");
    let (store, secrets) = open_store(&config).await.expect("opens");
    (folder, store, secrets)
}

#[tokio::test]
async fn a_copy_is_verified_with_its_own_key_only() {
    let (folder, store, secrets) = hub().await;
    let text = create_key(&store, &secrets, TextHolder::Auditors).await;
    text.expect("made");
    store.close().await;
    let dir = folder.path().display();
    audit(&format!("verify --dir {dir}")).await.expect("sound");
    audit(&format!("verify --store {dir}/state"))
        .await
        .expect("sound");
    audit(&format!("prove --dir {dir} --seq 1"))
        .await
        .expect("proven");
    audit(&format!("prove --dir {dir} --seq 2"))
        .await
        .expect_err("no entry");
    audit(&format!("checkpoint --dir {dir}"))
        .await
        .expect_err("none yet");
    let database = format!("sqlite://{dir}/state/{DATABASE_FILE}");
    let keyless = audit(&format!("verify --store {database}")).await;
    assert!(keyless.expect_err("no key").to_string().contains("--key"));
    let key = audit_signer(&secrets).expect("a signer").key().to_string();
    audit(&format!("verify --store {database} --key {key}"))
        .await
        .expect("sound");
    let other = hubflight_audit::Signer::of_hub(&[1; 32]).expect("a signer");
    audit(&format!("verify --store {database} --key {}", other.key()))
        .await
        .expect_err("another's log");
    audit(&format!("verify --store {dir}/nowhere"))
        .await
        .expect_err("no store");
    assert!(!folder.path().join("nowhere").exists());
}

#[tokio::test]
async fn a_text_is_sealed_to_the_newest_keys() {
    let (_folder, store, secrets) = hub().await;
    assert!(
        store
            .text_keys(Some("admin"))
            .await
            .expect("read")
            .is_empty()
    );
    let project = TextHolder::Project("admin".into());
    let mut shown = Vec::new();
    for holder in [&project, &TextHolder::Auditors, &project] {
        let text = create_key(&store, &secrets, holder.clone()).await;
        shown.push(TextKey::parse(&text.expect("made")).expect("a key"));
    }
    let readers = store.text_keys(Some("admin")).await.expect("read");
    let readers: Vec<_> = readers.into_iter().map(TextPublicKey::from_bytes).collect();
    let id = Uuid::now_v7();
    let sealed = seal_text(b"SELECT 1", id, &readers).expect("sealed");
    let opens = |key: &TextKey| open_text(&sealed, id, key).is_ok();
    assert_eq!(
        shown.iter().map(opens).collect::<Vec<_>>(),
        [false, true, true]
    );
    assert_eq!(store.text_keys(None).await.expect("read").len(), 1);
    let nobody = TextHolder::Project("nobody".into());
    assert!(create_key(&store, &secrets, nobody).await.is_err());
}

#[tokio::test]
async fn what_is_young_is_not_purged() {
    let (folder, store, _) = hub().await;
    store.close().await;
    let dir = folder.path().display();
    let this_month = Utc::now().format("%Y-%m");
    audit(&format!("purge --dir {dir} --before {this_month}"))
        .await
        .expect_err("too young");
    audit(&format!("purge --dir {dir} --before soon"))
        .await
        .expect_err("no month");
    audit(&format!("purge --dir {dir} --before 2020-01"))
        .await
        .expect("old");
    audit(&format!("verify --dir {dir}")).await.expect("sound");
}

/// The hub's ledger, with a witness if one is named.
async fn ledger(store: &Store, secrets: &Secrets, witness: Option<PathBuf>) -> Ledger {
    let tariff = Config::default().tariff().expect("a tariff");
    let settings = AuditSettings {
        signer: audit_signer(secrets).expect("a signer"),
        witness: witness.map(Witness::folder),
        syslog: None,
    };
    let ledger = Ledger::open(store, tariff, Default::default(), settings).await;
    ledger.expect("a ledger")
}

/// A statement with that text, and what is sealed to a reader as its text. A reader's public key
/// is all that is needed to seal another one.
fn opened(text: &str, sealed: &str, reader: TextPublicKey) -> StatementOpened {
    let (statement_id, now) = (Uuid::now_v7(), Utc::now());
    StatementOpened {
        statement_id,
        person: "ada".into(),
        project: None,
        kind: StatementKind::Query,
        client: "test".into(),
        sql_sha256: Sha256::digest(text).into(),
        sql_sealed: seal_text(sealed.as_bytes(), statement_id, &[reader]).expect("sealed"),
        tags: Default::default(),
        opened_at: now,
        expires_at: now + chrono::TimeDelta::hours(1),
    }
}

#[tokio::test]
async fn only_the_text_that_the_log_recorded_is_shown() {
    let (folder, store, secrets) = hub().await;
    let reader = TextKey::generate().expect("a key");
    let key_file = folder.path().join("reader.key");
    std::fs::write(&key_file, reader.reveal().as_bytes()).expect("written");
    let ledger = ledger(&store, &secrets, None).await;
    let log = audit_signer(&secrets).expect("a signer").key().clone();
    let show = async |id, log: &VerifierKey| {
        let shown = open_statement(&store, log, &key_file, id).await;
        shown.map_err(|error| error.to_string())
    };
    let mut ids = Vec::new();
    for sealed in ["SELECT 1", "SELECT 2"] {
        let asked = opened("SELECT 1", sealed, reader.public());
        let started = ExecutionStarted {
            statement_id: asked.statement_id,
            habilitations: Vec::new(),
            datasets: Vec::new(),
            columns: serde_json::json!({}),
            started_at: Utc::now(),
        };
        ids.push(asked.statement_id);
        ledger.statement(asked).await.expect("recorded");
        let early = show(started.statement_id, &log).await;
        assert!(early.expect_err("not yet").contains("no entry"));
        let execution = ledger.begin(started).await.expect("begins");
        execution.settle(Outcome::Ok).await.expect("settles");
    }
    ledger.close().await.expect("closes");
    assert_eq!(show(ids[0], &log).await.as_deref(), Ok("SELECT 1"));
    let forged = show(ids[1], &log).await.expect_err("another text");
    assert!(forged.contains("recorded another"), "{forged}");
    let other = hubflight_audit::Signer::of_hub(&[1; 32]).expect("a signer");
    let unsigned = show(ids[0], other.key()).await.expect_err("another's log");
    assert!(unsigned.contains("not signed"), "{unsigned}");
    store.close().await;
}

#[tokio::test]
async fn the_witness_of_the_configuration_is_asked() {
    let (folder, store, secrets) = hub().await;
    let (witness, lost) = (folder.path().join("witness"), folder.path().join("lost"));
    for place in [&witness, &lost] {
        std::fs::create_dir(place).expect("a folder");
    }
    // The witness may be behind by the newest few.
    for _ in 0..5 {
        let ledger = ledger(&store, &secrets, Some(witness.clone())).await;
        ledger.event(act("test", None)).await.expect("recorded");
        ledger.close().await.expect("closes");
    }
    store.close().await;
    let file = folder.path().join("hub.toml");
    let verified = async |name: &str| {
        let text = format!("[server]\nstate = 'state'\n[audit]\nwitness = '{name}'\n");
        std::fs::write(&file, text).expect("written");
        audit(&format!("verify --config {}", file.display())).await
    };
    verified("witness").await.expect("sound");
    verified("lost").await.expect_err("it has no checkpoint");
    verified("nowhere").await.expect_err("there is none");
    audit(&format!("verify --dir {}", folder.path().display()))
        .await
        .expect("sound in itself");
}

#[tokio::test]
async fn a_line_of_syslog_is_what_the_log_must_continue() {
    let (folder, store, secrets) = hub().await;
    let ledger = ledger(&store, &secrets, None).await;
    ledger.event(act("test", None)).await.expect("recorded");
    ledger.close().await.expect("closes");
    let note = newest_checkpoint(&store).await.expect("read").expect("one");
    store.close().await;
    let line = hubflight_audit::checkpoint_line(&note).expect("a line");
    let line = format!("Nov 22 00:00:04 hub hubflight[7]: {line}\n");
    let file = folder.path().join("syslog");
    let verified = async |checkpoint: &str| {
        let dir = folder.path().display().to_string();
        let words = ["audit", "verify", "--dir", &dir, "--checkpoint", checkpoint];
        run(Line::try_parse_from(words)?.command).await
    };
    for (text, sound) in [
        (line.clone(), true),
        (note.clone(), true),
        (line.replace("size=1 ", "size=2 "), false),
        (line.replace("signature=", "signature=A"), false),
        (line.replace("signature=", ""), false),
        ("no checkpoint".to_owned(), false),
    ] {
        assert_eq!(verified(&text).await.is_ok(), sound, "{text}");
        std::fs::write(&file, format!("{text}{text}")).expect("written");
        if text != note {
            let file = file.display().to_string();
            assert_eq!(verified(&file).await.is_ok(), sound, "{text}");
        }
    }
    std::fs::write(&file, &note).expect("written");
    let file = file.display().to_string();
    verified(&file).await.expect("a note in a file");
    verified("/nowhere").await.expect_err("no file");
}
