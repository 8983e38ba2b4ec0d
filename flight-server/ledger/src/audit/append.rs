//! Entries that are added to the log.

use chrono::{DateTime, Utc};
use hubflight_audit::{Checkpoint, Entry, Frontier, Hash, Payload, Salt, Signer};
use hubflight_store::{Store, WriteTransaction, micros};
use parking_lot::Mutex;
use sqlx::{AnyConnection, Row};

use super::usage;
use crate::bulk::Bulk;
use crate::execution::{Begun, Settlement};
use crate::settle::count;
use crate::write::EMPTY_LIST;
use crate::{AuditEvent, LedgerError};

/// The entry of an execution that begins, in the transaction of its record.
pub(super) const INTENT: &str = "intent";
/// The entry of how it ended, and of a refusal.
pub(super) const OUTCOME: &str = "statement";
/// What an intent has as its outcome.
const BEGUN: &str = "begun";

/// One entry that is to be written.
#[derive(Debug)]
pub(crate) struct Audit {
    at: DateTime<Utc>,
    event: &'static str,
    person: Option<String>,
    project: Option<String>,
    execution: Option<(String, u32)>,
    habilitations: String,
    datasets: String,
    columns: String,
    sql_sha256: Option<String>,
    sealed_sha256: Option<String>,
    outcome: String,
    error_kind: Option<String>,
    rows_returned: u64,
    bytes_returned: u64,
    client: String,
    detail: Option<String>,
}

impl Audit {
    pub fn of_begin(begun: &Begun) -> Self {
        Audit {
            at: begun.started_at,
            event: INTENT,
            person: Some(begun.person.clone()),
            project: begun.project.clone(),
            execution: Some((begun.statement_id.to_string(), begun.attempt)),
            habilitations: begun.habilitations.clone(),
            datasets: begun.datasets.clone(),
            columns: begun.columns.clone(),
            sql_sha256: Some(begun.sql_sha256.clone()),
            sealed_sha256: begun.sealed_sha256.clone(),
            outcome: BEGUN.to_owned(),
            error_kind: None,
            rows_returned: 0,
            bytes_returned: 0,
            client: begun.client.clone(),
            detail: None,
        }
    }

    /// With the digest of the usage record that is written with it; a refusal after the first
    /// has none.
    pub fn of_settlement(settlement: &Settlement, usage: Option<&str>) -> Self {
        let record = &settlement.record;
        Audit {
            at: record.ended_at,
            event: OUTCOME,
            outcome: record.outcome.clone(),
            error_kind: record.error_kind.clone(),
            rows_returned: record.rows_returned,
            bytes_returned: record.bytes_returned,
            detail: usage.map(usage::detail),
            ..Self::of_begin(&settlement.begun)
        }
    }

    pub fn of_event(event: &AuditEvent) -> Self {
        Audit {
            at: event.at,
            event: event.event,
            person: event.person.clone(),
            project: event.project.clone(),
            execution: None,
            habilitations: EMPTY_LIST.to_owned(),
            datasets: EMPTY_LIST.to_owned(),
            columns: EMPTY_LIST.to_owned(),
            sql_sha256: None,
            sealed_sha256: None,
            outcome: event.outcome.to_owned(),
            error_kind: None,
            rows_returned: 0,
            bytes_returned: 0,
            client: event.client.clone(),
            detail: None,
        }
    }

    /// An administrator's act, with what it was about.
    pub fn of_act(event: &AuditEvent, detail: &serde_json::Value) -> Self {
        Audit {
            detail: Some(detail.to_string()),
            ..Self::of_event(event)
        }
    }

    fn entry(&self, seq: i64) -> Entry<'_> {
        Entry {
            seq,
            at: micros(self.at),
            event: self.event,
            project: self.project.as_deref(),
            statement_id: self.execution.as_ref().map(|(id, _)| id.as_str()),
            attempt: self.execution.as_ref().map(|(_, n)| i64::from(*n)),
            habilitations: &self.habilitations,
            datasets: &self.datasets,
            columns: &self.columns,
            outcome: &self.outcome,
            error_kind: self.error_kind.as_deref(),
            rows_returned: count(self.rows_returned),
            bytes_returned: count(self.bytes_returned),
            detail: self.detail.as_deref(),
        }
    }

    fn payload(&self) -> Payload<'_> {
        Payload {
            person: self.person.as_deref(),
            client: &self.client,
            sql_sha256: self.sql_sha256.as_deref(),
            sealed_sha256: self.sealed_sha256.as_deref(),
        }
    }
}

/// The state of the tree, as the store holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub frontier: Frontier,
    pub last_seq: i64,
    /// The signed checkpoint; empty for the empty tree.
    pub note: String,
}

/// What an entry gets when it is taken into the tree.
struct Leaf {
    seq: i64,
    index: i64,
    hash: Hash,
    payload_hash: Hash,
    salt: Salt,
}

impl Head {
    /// Reads the head, and keeps others from writing it until the transaction ends.
    pub async fn lock(connection: &mut AnyConnection) -> Result<Self, LedgerError> {
        // A transaction that writes is alone on SQLite, which does not know the clause.
        let sql = match connection.backend_name() {
            "SQLite" => "SELECT * FROM audit_head WHERE id = 1",
            _ => "SELECT * FROM audit_head WHERE id = 1 FOR UPDATE",
        };
        Self::read(connection, sql).await
    }

    /// Reads the head as it is.
    pub async fn peek(connection: &mut AnyConnection) -> Result<Self, LedgerError> {
        Self::read(connection, "SELECT * FROM audit_head WHERE id = 1").await
    }

    async fn read(connection: &mut AnyConnection, sql: &'static str) -> Result<Self, LedgerError> {
        let row = sqlx::query(sql).fetch_optional(connection).await?;
        let row = row.ok_or(LedgerError::AuditForged)?;
        let size: i64 = row.try_get("size")?;
        let size = u64::try_from(size).map_err(|_| LedgerError::AuditForged)?;
        let frontier: Vec<u8> = row.try_get("frontier")?;
        Ok(Head {
            frontier: Frontier::from_bytes(size, &frontier)
                .map_err(|_| LedgerError::AuditForged)?,
            last_seq: row.try_get("last_seq")?,
            note: row.try_get("note")?,
        })
    }

    /// Takes the next entry into the tree.
    fn take(&mut self, entry: &Entry<'_>, payload: &Payload<'_>) -> Result<Leaf, LedgerError> {
        let salt = Payload::salt()?;
        let payload_hash = payload.hash(&salt);
        let hash = entry.leaf_hash(&payload_hash);
        let index = i64::try_from(self.frontier.size())
            .map_err(|_| LedgerError::Corrupt { what: "audit head" })?;
        self.frontier.push(hash);
        self.last_seq = entry.seq;
        Ok(Leaf {
            seq: entry.seq,
            index,
            hash,
            payload_hash,
            salt,
        })
    }
}

/// The log, for whoever may sign it.
#[derive(Debug)]
pub(crate) struct AuditLog {
    pub(super) signer: Signer,
    seen: Mutex<Seen>,
}

/// What a process knows of the log.
#[derive(Debug, Default)]
struct Seen {
    /// The head that was last found to be signed, or that this process signed itself.
    head: Head,
    /// Entries that are durable: a head of fewer was put back. None before the first look.
    committed: Option<u64>,
}

impl AuditLog {
    pub fn new(signer: Signer) -> Self {
        AuditLog {
            signer,
            seen: Mutex::default(),
        }
    }

    /// Adds entries, in this transaction. Answers how many the log has then, which is to be
    /// told to [`AuditLog::committed`]; 0 where there was nothing to add.
    ///
    /// # Errors
    /// [`LedgerError::AuditForged`] when the log's head was written by somebody else or put
    /// back.
    pub async fn append(
        &self,
        connection: &mut AnyConnection,
        audits: &[Audit],
    ) -> Result<u64, LedgerError> {
        if audits.is_empty() {
            return Ok(0);
        }
        let mut head = self.lock(connection).await?;
        let mut leaves = Vec::with_capacity(audits.len());
        for audit in audits {
            let entry = audit.entry(head.last_seq + 1);
            leaves.push(head.take(&entry, &audit.payload())?);
        }
        let rows: Vec<_> = audits.iter().zip(leaves).collect();
        insert(connection, &rows).await?;
        let entries = head.frontier.size();
        self.put(connection, head).await?;
        Ok(entries)
    }

    /// The transaction that appended is durable: from now on no smaller log is this one.
    pub fn committed(&self, entries: u64) {
        let mut seen = self.seen.lock();
        seen.committed = seen.committed.max(Some(entries));
    }

    /// Looks at the log before anything is appended; answers how many entries it has. Under its
    /// lock, since another server's entry or checkpoint would make the head look too short.
    pub async fn look(&self, store: &Store) -> Result<u64, LedgerError> {
        let mut write = store.write().await?;
        Ok(self.lock(write.connection()).await?.frontier.size())
    }

    /// The head, locked and known to be signed.
    pub(super) async fn lock(&self, connection: &mut AnyConnection) -> Result<Head, LedgerError> {
        let head = Head::lock(connection).await?;
        self.check(connection, &head).await?;
        Ok(head)
    }

    /// Refuses a head that this hub did not sign, and one of fewer entries than there were. The
    /// empty head has no signature: it is believed only where nothing tells of an entry.
    async fn check(&self, connection: &mut AnyConnection, head: &Head) -> Result<(), LedgerError> {
        let size = head.frontier.size();
        let committed = self.seen.lock().committed;
        let least = match committed {
            Some(committed) => committed,
            None => checkpointed(connection).await?,
        };
        let is_signed = if size == 0 {
            head.note.is_empty() && !has_entries(connection).await?
        } else {
            self.has_signed(head)
        };
        // Entries are numbered from 1, each with its place in the tree.
        let is_numbered = u64::try_from(head.last_seq) == Ok(size);
        if size < least || !is_signed || !is_numbered {
            return Err(LedgerError::AuditForged);
        }
        let mut seen = self.seen.lock();
        seen.head.clone_from(head);
        seen.committed = seen.committed.max(Some(size.max(least)));
        Ok(())
    }

    fn has_signed(&self, head: &Head) -> bool {
        if self.seen.lock().head == *head {
            return true;
        }
        Checkpoint::open(&head.note, self.signer.key()).is_ok_and(|signed| {
            signed.size == head.frontier.size() && signed.root == head.frontier.root()
        })
    }

    /// Signs the head and writes it. It is remembered before it is durable, which does no harm:
    /// it is signed, whether or not the store ever holds it.
    async fn put(&self, connection: &mut AnyConnection, mut head: Head) -> Result<(), LedgerError> {
        let checkpoint = Checkpoint {
            size: head.frontier.size(),
            root: head.frontier.root(),
            at: Utc::now(),
            seal: None,
        };
        head.note = checkpoint.sign(&self.signer);
        let size = i64::try_from(checkpoint.size)
            .map_err(|_| LedgerError::Corrupt { what: "audit head" })?;
        sqlx::query(
            "UPDATE audit_head SET size = $1, last_seq = $2, frontier = $3, note = $4 \
             WHERE id = 1",
        )
        .bind(size)
        .bind(head.last_seq)
        .bind(head.frontier.to_bytes())
        .bind(head.note.clone())
        .execute(connection)
        .await?;
        self.seen.lock().head = head;
        Ok(())
    }
}

/// Entries that the store's own checkpoints cover.
async fn checkpointed(connection: &mut AnyConnection) -> Result<u64, LedgerError> {
    let size: i64 = sqlx::query_scalar("SELECT COALESCE(MAX(size), 0) FROM audit_checkpoints")
        .fetch_one(connection)
        .await?;
    u64::try_from(size).map_err(|_| LedgerError::AuditForged)
}

async fn has_entries(connection: &mut AnyConnection) -> Result<bool, LedgerError> {
    let row = sqlx::query("SELECT seq FROM audit LIMIT 1")
        .fetch_optional(connection)
        .await?;
    Ok(row.is_some())
}

/// Records an administrator's act in the transaction of the change that it tells of, where no
/// ledger is open: the administrator's commands, beside a server that may be running. `detail`
/// says what it was about.
///
/// # Errors
/// [`LedgerError::AuditForged`], [`LedgerError::Unwritable`]; the transaction must then not be
/// committed.
pub async fn record_act(
    write: &mut WriteTransaction,
    signer: Signer,
    event: &AuditEvent,
    detail: &serde_json::Value,
) -> Result<(), LedgerError> {
    record(write, signer, &Audit::of_act(event, detail)).await
}

/// As [`record_act`], of an event that needs no detail.
pub async fn record_event(
    write: &mut WriteTransaction,
    signer: Signer,
    event: &AuditEvent,
) -> Result<(), LedgerError> {
    record(write, signer, &Audit::of_event(event)).await
}

async fn record(
    write: &mut WriteTransaction,
    signer: Signer,
    audit: &Audit,
) -> Result<(), LedgerError> {
    let log = AuditLog::new(signer);
    let audits = std::slice::from_ref(audit);
    log.append(write.connection(), audits).await?;
    Ok(())
}

async fn insert(
    connection: &mut AnyConnection,
    rows: &[(&Audit, Leaf)],
) -> Result<(), LedgerError> {
    const INSERT: Bulk = Bulk {
        head: "INSERT INTO audit (seq, at, event, person, project, statement_id, attempt, \
               habilitations, datasets, columns, sql_sha256, outcome, error_kind, \
               rows_returned, bytes_returned, client, detail, sealed_sha256, leaf, leaf_hash, \
               payload_hash, salt) VALUES ",
        row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        tail: "",
    };
    INSERT
        .run(connection, rows, |(audit, leaf), row| {
            row.add(leaf.seq)
                .add(micros(audit.at))
                .add(audit.event.to_owned())
                .add(audit.person.clone())
                .add(audit.project.clone())
                .add(audit.execution.as_ref().map(|(id, _)| id.clone()))
                .add(audit.execution.as_ref().map(|(_, n)| i64::from(*n)))
                .add(audit.habilitations.clone())
                .add(audit.datasets.clone())
                .add(audit.columns.clone())
                .add(audit.sql_sha256.clone())
                .add(audit.outcome.clone())
                .add(audit.error_kind.clone())
                .add(count(audit.rows_returned))
                .add(count(audit.bytes_returned))
                .add(audit.client.clone())
                .add(audit.detail.clone())
                .add(audit.sealed_sha256.clone())
                .add(leaf.index)
                .add(leaf.hash.to_vec())
                .add(leaf.payload_hash.to_vec())
                .add(leaf.salt.to_vec());
        })
        .await?;
    Ok(())
}
