//! `flight-server admin audit …`: what an auditor does with a copy of the store, and what an
//! administrator does for them.
//!
//! `verify`, `checkpoint`, `prove`, `tiles` and `open` change nothing, and work on a copy of the database
//! alone. The others work on the hub's store, beside a server that may be running.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use hubflight_audit::{TextKey, VerifierKey, checkpoint_notes, open_text};
use hubflight_ledger::{
    AuditEvent, InclusionProof, Report, VerifyOptions, newest_checkpoint, prove_inclusion,
    purge_before, record_act, recorded_text, text_key_created, tiles, verify,
};
use hubflight_store::{Secrets, Store, TextHolder};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Which;
use super::door::command_client;
use crate::asked;
use crate::config::Config;
use crate::hub::{SECRET_FILE, audit_signer, open_store, witness};

const DATABASE_FILE: &str = "hub.sqlite";

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verifies the log in a copy of the store; fails if anything was altered.
    Verify {
        #[command(flatten)]
        source: Source,
        /// Witness, whose checkpoints the log must continue: a folder, or `s3://bucket/folder`
        /// with what the environment says of it [default: that of the configuration].
        #[arg(long, value_name = "FOLDER|URL")]
        witness: Option<String>,
        /// Checkpoints that the log must continue, as `checkpoint` prints them or as syslog got
        /// them: a text, or a file with a line for each.
        #[arg(long, value_name = "FILE|TEXT")]
        checkpoint: Vec<String>,
        /// Public key of the log, as `admin audit key` prints it [default: that of the secret
        /// beside the store].
        #[arg(long, value_name = "PUBLIC")]
        key: Option<VerifierKey>,
    },
    /// Prints the newest checkpoint, a signed note.
    Checkpoint {
        #[command(flatten)]
        source: Source,
    },
    /// Prints the proof that an entry is in the log.
    Prove {
        #[command(flatten)]
        source: Source,
        /// Number of the entry.
        #[arg(long)]
        seq: i64,
    },
    /// Writes the log's tree as tiles (C2SP tlog-tiles) with its checkpoint, from which others make
    /// and check proofs with tools of their own. It holds hashes alone, and nothing of anybody.
    Tiles {
        #[command(flatten)]
        source: Source,
        /// An empty or missing folder.
        #[arg(long, value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Decrypts a statement's text with the private key of its project or of the auditors; fails
    /// if it is not the text that the log recorded.
    Open {
        #[command(flatten)]
        source: Source,
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        #[arg(long, value_name = "ID")]
        statement: Uuid,
        /// Public key of the log [default: that of the secret beside the store].
        #[arg(long, value_name = "PUBLIC")]
        key: Option<VerifierKey>,
    },
    /// Prints the public key that verifies the log.
    Key {
        #[command(flatten)]
        place: Which,
    },
    /// Keys that the texts of statements are sealed to.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Erases persons, clients and texts of entries before a month; the log stays verifiable.
    Purge {
        #[command(flatten)]
        place: Which,
        /// The first month that is kept, at least 12 months ago.
        #[arg(long, value_name = "YYYY-MM", value_parser = month)]
        before: DateTime<Utc>,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Makes a key pair, keeps its public key, and shows its private key once.
    Create {
        #[command(flatten)]
        place: Which,
        #[command(flatten)]
        holder: Holder,
    },
}

/// Whose key it is.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Holder {
    #[arg(long)]
    project: Option<String>,
    #[arg(long)]
    auditors: bool,
}

/// The store that is looked at.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// A copy: `postgres://…`, `sqlite://…`, a database file, or a folder with `hub.sqlite`.
    #[arg(long, value_name = "URL|FOLDER")]
    store: Option<String>,
    /// Configuration of a hub.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of a demo.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs one command and prints what it has to say.
pub async fn run(command: AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Verify {
            source,
            witness,
            checkpoint,
            key,
        } => verify_copy(&source, witness, &checkpoint, key).await,
        AuditCommand::Checkpoint { source } => {
            let store = Store::open_copy(&source.url()?).await?;
            let note = newest_checkpoint(&store).await?;
            print(&note.context("the log has no checkpoint yet")?)
        }
        AuditCommand::Prove { source, seq } => {
            let store = Store::open_copy(&source.url()?).await?;
            print(&proof_text(&prove_inclusion(&store, seq).await?))
        }
        AuditCommand::Tiles { source, to } => {
            let store = Store::open_copy(&source.url()?).await?;
            let entries = write_tiles(&store, &to).await?;
            print(&format!("wrote the tree of {entries} entries\n"))
        }
        AuditCommand::Open {
            source,
            key_file,
            statement,
            key,
        } => {
            let (store, key) = source.copy(key).await?;
            let text = open_statement(&store, &key, &key_file, statement).await?;
            print(&format!("{text}\n"))
        }
        AuditCommand::Key { place } => {
            let (_, secrets) = open_store(&place.config()?).await?;
            print(&format!("{}\n", audit_signer(&secrets)?.key()))
        }
        AuditCommand::Keys(KeysCommand::Create { place, holder }) => {
            let (store, secrets) = open_store(&place.config()?).await?;
            print(&create_key(&store, &secrets, holder.into()).await?)
        }
        AuditCommand::Purge { place, before } => {
            let config = place.config()?;
            let (store, secrets) = open_store(&config).await?;
            let (act, kept) = (act("audit_purged", None), config.audit.kept_months);
            let signer = audit_signer(&secrets)?;
            let purged = purge_before(&store, signer, kept, before, &act).await?;
            print(&format!(
                "erased the payload of {} entries and the texts of {} statements before {}\n",
                purged.entries,
                purged.statements,
                before.date_naive()
            ))?;
            if purged.log_is_busy {
                bail!(
                    "the database's write-ahead log may still hold what was erased, because \
                     somebody reads; run the same command again later"
                );
            }
            Ok(())
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

impl Source {
    /// Address of the database. Nothing is made where there is none.
    fn url(&self) -> anyhow::Result<String> {
        if let Some(url) = self.store.as_ref().filter(|store| store.contains("://")) {
            return Ok(url.clone());
        }
        if let Some(url) = self.hub()?.and_then(|config| config.server.database) {
            return Ok(url.0);
        }
        let state = self.state()?;
        let file = if state.is_file() {
            state
        } else {
            state.join(DATABASE_FILE)
        };
        Ok(format!("sqlite://{}", file.display()))
    }

    /// The public key that follows from the secret beside the store, where there is one.
    fn key(&self) -> anyhow::Result<Option<VerifierKey>> {
        if self
            .store
            .as_ref()
            .is_some_and(|store| store.contains("://"))
        {
            return Ok(None);
        }
        let secret = self.state()?.join(SECRET_FILE);
        if !secret.is_file() {
            return Ok(None);
        }
        let secrets = Secrets::load_or_create(&secret)?;
        Ok(Some(audit_signer(&secrets)?.key().clone()))
    }

    /// The store, and the public key that its log is verified with.
    async fn copy(&self, key: Option<VerifierKey>) -> anyhow::Result<(Store, VerifierKey)> {
        let key = match key {
            Some(key) => key,
            None => self.key()?.context(
                "the log's public key is needed: give it with `--key`; `admin audit key` prints \
                 it on the hub",
            )?,
        };
        Ok((Store::open_copy(&self.url()?).await?, key))
    }

    fn hub(&self) -> anyhow::Result<Option<Config>> {
        Ok(self.config.as_deref().map(Config::read).transpose()?)
    }

    /// The folder of the store.
    fn state(&self) -> anyhow::Result<PathBuf> {
        if let Some(config) = self.hub()? {
            return Ok(config.server.state);
        }
        let folder = match (&self.store, &self.dir) {
            (Some(folder), _) => PathBuf::from(folder),
            (None, Some(folder)) => folder.join("state"),
            (None, None) => bail!("name the store with `--store`, `--config` or `--dir`"),
        };
        Ok(folder)
    }
}

async fn verify_copy(
    source: &Source,
    place: Option<String>,
    checkpoints: &[String],
    key: Option<VerifierKey>,
) -> anyhow::Result<()> {
    let mut given = Vec::new();
    for named in checkpoints {
        given.extend(notes(named)?);
    }
    let (store, key) = source.copy(key).await?;
    let mut audit = source.hub()?.unwrap_or_default().audit;
    if place.is_some() {
        // What the configuration says of its own place is not of another.
        (audit.witness, audit.storage) = (place, Default::default());
    }
    let witness = witness(&audit)?;
    print(&format!("key {key}\n"))?;
    let options = VerifyOptions {
        key,
        witness,
        given,
    };
    let report = verify(&store, &options).await?;
    print(&report_text(&report))?;
    if report.is_sound() {
        return Ok(());
    }
    bail!("the audit log is not as it was signed")
}

/// The notes of checkpoints in a file, or in the text itself.
fn notes(named: &str) -> anyhow::Result<Vec<String>> {
    let text = match checkpoint_notes(named) {
        Ok(notes) => return Ok(notes),
        Err(_) if named.contains("checkpoint log=") => named.to_owned(),
        Err(_) => std::fs::read_to_string(named)
            .with_context(|| format!("`{named}` is neither a checkpoint nor a file with one"))?,
    };
    checkpoint_notes(&text).with_context(|| format!("`{named}`"))
}

fn report_text(report: &Report) -> String {
    let mut text = format!(
        "{} entries, {} of them with an erased payload; {} executions open; {} checkpoints, {} at \
         the witness, {} given\nroot {}\n",
        report.entries,
        report.erased,
        report.open,
        report.checkpoints,
        report.witnessed,
        report.given,
        HEXLOWER.encode(&report.root),
    );
    for finding in &report.findings {
        text.push_str(&format!("FOUND {finding}\n"));
    }
    if report.further > 0 {
        text.push_str(&format!("FOUND {} more\n", report.further));
    }
    if report.is_sound() {
        text.push_str("nothing was altered\n");
    }
    text
}

fn proof_text(proof: &InclusionProof) -> String {
    let path = proof.path.iter().map(|hash| HEXLOWER.encode(hash));
    let proof = serde_json::json!({
        "seq": proof.seq,
        "leaf": proof.index,
        "leaf_hash": HEXLOWER.encode(&proof.leaf_hash),
        "path": path.collect::<Vec<_>>(),
        "note": proof.note,
    });
    format!("{proof:#}\n")
}

/// Whatever goes wrong, a folder with a checkpoint has all tiles of its tree.
async fn write_tiles(store: &Store, folder: &Path) -> anyhow::Result<u64> {
    std::fs::create_dir_all(folder)?;
    if std::fs::read_dir(folder)?.next().is_some() {
        bail!("`{}` is not empty; name another folder", folder.display());
    }
    let write = |path: &str, bytes: &[u8]| {
        let file = folder.join(path);
        file.parent().map(std::fs::create_dir_all).transpose()?;
        std::fs::write(file, bytes)
    };
    Ok(tiles(store, write).await?)
}

/// The text of a statement, if it is the one that the log recorded.
async fn open_statement(
    store: &Store,
    log: &VerifierKey,
    key_file: &Path,
    statement: Uuid,
) -> anyhow::Result<String> {
    let key = std::fs::read_to_string(key_file)
        .map(zeroize::Zeroizing::new)
        .with_context(|| format!("cannot read the key file `{}`", key_file.display()))?;
    let key = TextKey::parse(&key)?;
    let id = statement.to_string();
    let sealed = store.sealed_text(&id).await?;
    let sealed = sealed.with_context(|| format!("statement `{statement}` does not exist"))?;
    if sealed.is_empty() {
        bail!("the text of statement `{statement}` is not kept, only its SHA-256");
    }
    let text = open_text(&sealed, statement, &key)?;
    let recorded = recorded_text(store, &id).await?.with_context(|| {
        format!(
            "the log has no entry of statement `{statement}`: nothing tells if this is its text"
        )
    })?;
    let seq = recorded.proof.seq;
    if !recorded.proof.verify(log) {
        bail!("the log that entry {seq} is in was not signed by `{log}`");
    }
    if recorded.sql_sha256 != Some(HEXLOWER.encode(&Sha256::digest(&text))) {
        bail!("this is not the text of statement `{statement}`: entry {seq} recorded another one");
    }
    let asked = asked::decode(&String::from_utf8_lossy(&text))?;
    if asked.parameters.is_empty() {
        return Ok(asked.sql);
    }
    Ok(format!(
        "{}\n-- with the parameters\n{}",
        asked.sql, asked.parameters
    ))
}

impl From<Holder> for TextHolder {
    fn from(holder: Holder) -> Self {
        holder
            .project
            .map_or(TextHolder::Auditors, TextHolder::Project)
    }
}

/// Puts a new key in force, and records it in the same transaction.
async fn create_key(
    store: &Store,
    secrets: &Secrets,
    holder: TextHolder,
) -> anyhow::Result<String> {
    let project = match &holder {
        TextHolder::Project(id) => Some(id.clone()),
        TextHolder::Auditors => None,
    };
    if let Some(id) = &project
        && store.project(id).await?.is_none()
    {
        bail!("project `{id}` does not exist; `admin project list` shows which do");
    }
    let key = TextKey::generate()?;
    let public = key.public();
    let act = act("text_key_created", project);
    let (act, detail) = text_key_created(act, &holder.label(), public.as_bytes());
    let mut write = store.write().await?;
    write
        .put_text_key(secrets, &holder, public.as_bytes(), act.at)
        .await?;
    record_act(&mut write, audit_signer(secrets)?, &act, &detail).await?;
    write.commit().await?;
    Ok(format!(
        "Private key {} of `{}`. It is shown only now and kept nowhere: who loses it cannot read \
         the texts of statements from now on.\n{}\n",
        public.fingerprint(),
        holder.label(),
        key.reveal().as_str()
    ))
}

fn act(event: &'static str, project: Option<String>) -> AuditEvent {
    AuditEvent {
        event,
        outcome: "ok",
        person: None,
        project,
        client: command_client(),
        at: Utc::now(),
    }
}

fn month(text: &str) -> Result<DateTime<Utc>, String> {
    let first: Result<NaiveDate, _> = format!("{text}-01").parse();
    let first = first.map_err(|_| "it must read like `2025-01`".to_owned())?;
    Ok(first.and_time(NaiveTime::MIN).and_utc())
}

#[cfg(test)]
mod tests;
