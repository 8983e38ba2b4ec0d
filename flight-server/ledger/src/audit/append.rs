//! Entries that are added to the log.

use chrono::{DateTime, Utc};
use hubflight_audit::{Checkpoint, Entry, Frontier, Hash, Payload, Salt, Signer};
use hubflight_store::{Store, WriteTransaction, micros};
use parking_lot::Mutex;
use sqlx::{AnyConnection, Row};

use super::row::rows_after;
use crate::bulk::Bulk;
use crate::execution::Settlement;
use crate::settle::count;
use crate::write::EMPTY_LIST;
use crate::{AuditEvent, LedgerError};

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
    pub fn of_settlement(settlement: &Settlement) -> Self {
        let (record, begun) = (&settlement.record, &settlement.begun);
        Audit {
            at: record.ended_at,
            event: "statement",
            person: Some(record.person.clone()),
            project: record.project.clone(),
            execution: Some((record.statement_id.to_string(), record.attempt)),
            habilitations: begun.habilitations.clone(),
            datasets: begun.datasets.clone(),
            columns: begun.columns.clone(),
            sql_sha256: Some(begun.sql_sha256.clone()),
            sealed_sha256: begun.sealed_sha256.clone(),
            outcome: record.outcome.clone(),
            error_kind: record.error_kind.clone(),
            rows_returned: record.rows_returned,
            bytes_returned: record.bytes_returned,
            client: begun.client.clone(),
            detail: None,
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
    pub adopt_to: i64,
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
            adopt_to: row.try_get("adopt_to")?,
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
    /// The head that was last found to be signed, or that this process signed itself.
    known: Mutex<Head>,
}

impl AuditLog {
    pub fn new(signer: Signer) -> Self {
        AuditLog {
            signer,
            known: Mutex::default(),
        }
    }

    /// Adds entries, in this transaction.
    ///
    /// # Errors
    /// [`LedgerError::AuditForged`] when the log's head was written by somebody else.
    pub async fn append(
        &self,
        connection: &mut AnyConnection,
        audits: &[Audit],
    ) -> Result<(), LedgerError> {
        if audits.is_empty() {
            return Ok(());
        }
        let mut head = self.lock(connection).await?;
        adopt_rows(connection, &mut head).await?;
        let mut leaves = Vec::with_capacity(audits.len());
        for audit in audits {
            let entry = audit.entry(head.last_seq + 1);
            leaves.push(head.take(&entry, &audit.payload())?);
        }
        let rows: Vec<_> = audits.iter().zip(leaves).collect();
        insert(connection, &rows).await?;
        self.put(connection, head).await
    }

    /// Takes what was written before there was a log into it.
    pub async fn adopt(&self, store: &Store) -> Result<(), LedgerError> {
        let head = Head::peek(&mut *store.pool().acquire().await?).await?;
        if head.last_seq >= head.adopt_to {
            self.check(&head)?;
            return Ok(());
        }
        let mut write = store.write().await?;
        let mut head = self.lock(write.connection()).await?;
        let before = head.frontier.size();
        adopt_rows(write.connection(), &mut head).await?;
        let adopted = head.frontier.size() - before;
        self.put(write.connection(), head).await?;
        write.commit().await?;
        tracing::info!(adopted, "took older entries into the audit log");
        Ok(())
    }

    /// The head, locked and known to be signed.
    pub(super) async fn lock(&self, connection: &mut AnyConnection) -> Result<Head, LedgerError> {
        let head = Head::lock(connection).await?;
        self.check(&head)?;
        Ok(head)
    }

    fn check(&self, head: &Head) -> Result<(), LedgerError> {
        let mut known = self.known.lock();
        if *known == *head {
            return Ok(());
        }
        let size = head.frontier.size();
        let is_signed = if size == 0 {
            head.note.is_empty()
        } else {
            Checkpoint::open(&head.note, self.signer.key())
                .is_ok_and(|signed| signed.size == size && signed.root == head.frontier.root())
        };
        if !is_signed {
            return Err(LedgerError::AuditForged);
        }
        known.clone_from(head);
        Ok(())
    }

    /// Signs the head and writes it. It is remembered before it is durable, which does no harm:
    /// it is signed, whether or not the store ever holds it.
    async fn put(&self, connection: &mut AnyConnection, mut head: Head) -> Result<(), LedgerError> {
        let size = head.frontier.size();
        if size > 0 {
            let checkpoint = Checkpoint {
                size,
                root: head.frontier.root(),
                at: Utc::now(),
                seal: None,
            };
            head.note = checkpoint.sign(&self.signer);
        }
        let size = i64::try_from(size).map_err(|_| LedgerError::Corrupt { what: "audit head" })?;
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
        *self.known.lock() = head;
        Ok(())
    }
}

/// Records an administrator's act, with what it was about, beside a server that may be running.
///
/// # Errors
/// [`LedgerError::AuditForged`], [`LedgerError::Unwritable`].
pub async fn record_act(
    store: &Store,
    signer: Signer,
    event: &AuditEvent,
    detail: &serde_json::Value,
) -> Result<(), LedgerError> {
    let log = AuditLog::new(signer);
    let mut write = store.write().await?;
    log.append(write.connection(), &[Audit::of_act(event, detail)])
        .await?;
    write.commit().await?;
    Ok(())
}

/// Records an event in the transaction of the change that it tells of, where no ledger is open:
/// the administrator's commands.
///
/// # Errors
/// As [`record_act`]; the transaction must then not be committed.
pub async fn record_event(
    write: &mut WriteTransaction,
    signer: Signer,
    event: &AuditEvent,
) -> Result<(), LedgerError> {
    let log = AuditLog::new(signer);
    log.append(write.connection(), &[Audit::of_event(event)])
        .await
}

/// Takes rows without a leaf into the empty tree, in their order.
async fn adopt_rows(connection: &mut AnyConnection, head: &mut Head) -> Result<(), LedgerError> {
    // Nobody signs how far the rows go that were there before the tree: once it has entries, a
    // row without a leaf is forged, whatever the head says.
    if head.last_seq < head.adopt_to && head.frontier.size() > 0 {
        return Err(LedgerError::AuditForged);
    }
    const ADOPT: Bulk = Bulk {
        head: "UPDATE audit SET leaf = v.column2, leaf_hash = v.column3, \
               payload_hash = v.column4, salt = v.column5, sealed_sha256 = v.column6 \
               FROM (VALUES ",
        row: "(?, ?, ?, ?, ?, ?)",
        tail: ") AS v WHERE seq = v.column1",
    };
    while head.last_seq < head.adopt_to {
        let mut rows = rows_after(connection, head.last_seq).await?;
        rows.retain(|row| row.seq <= head.adopt_to);
        if rows.is_empty() {
            head.last_seq = head.adopt_to;
            break;
        }
        let mut leaves = Vec::with_capacity(rows.len());
        for row in &mut rows {
            row.sealed_sha256 = row.text.take().and_then(|(_, sha256)| sha256);
            leaves.push(head.take(&row.entry(), &row.payload())?);
        }
        let adopted: Vec<_> = rows.iter().zip(leaves).collect();
        ADOPT
            .run(connection, &adopted, |(row, leaf), parameters| {
                parameters
                    .add(leaf.seq)
                    .add(leaf.index)
                    .add(leaf.hash.to_vec())
                    .add(leaf.payload_hash.to_vec())
                    .add(leaf.salt.to_vec())
                    .add(row.sealed_sha256.clone());
            })
            .await?;
    }
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
