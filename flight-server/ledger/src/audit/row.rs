//! Rows of the audit as entries of the log.

use data_encoding::HEXLOWER;
use hubflight_audit::{Entry, Hash, Payload, Salt};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::LedgerError;

/// Rows that are read at once. Each may bring a sealed text of a megabyte.
const ROWS_AT_ONCE: i64 = 64;

/// Rows from a number on.
const FROM: &str = "SELECT a.*, s.sql_sealed, s.statement_id AS text_of \
    FROM (SELECT * FROM audit WHERE seq >= $1 ORDER BY seq LIMIT $2) a \
    LEFT JOIN statements s ON s.statement_id = a.statement_id ORDER BY a.seq";

/// The first row of a statement that still tells the hash of its text.
const OF_STATEMENT: &str = "SELECT a.*, s.sql_sealed, s.statement_id AS text_of \
    FROM audit a LEFT JOIN statements s ON s.statement_id = a.statement_id \
    WHERE a.statement_id = $1 AND a.salt IS NOT NULL ORDER BY a.seq LIMIT 1";

/// A row of the audit, with the text of its statement.
#[derive(Debug)]
pub(super) struct AuditRow {
    pub seq: i64,
    pub at: i64,
    event: String,
    pub person: Option<String>,
    project: Option<String>,
    statement_id: Option<String>,
    attempt: Option<i64>,
    habilitations: String,
    datasets: String,
    columns: String,
    pub sql_sha256: Option<String>,
    outcome: String,
    error_kind: Option<String>,
    rows_returned: i64,
    bytes_returned: i64,
    client: String,
    detail: Option<String>,
    pub sealed_sha256: Option<String>,
    pub leaf: Option<i64>,
    pub leaf_hash: Option<Hash>,
    pub payload_hash: Option<Hash>,
    pub salt: Option<Salt>,
    /// Whether its statement is stored, and the hash of that one's text as it is now.
    has_statement: bool,
    text_sha256: Option<String>,
}

/// The next rows from that number on, in order; none at the end.
pub(super) async fn rows_from(
    connection: &mut AnyConnection,
    seq: i64,
) -> Result<Vec<AuditRow>, LedgerError> {
    let rows = sqlx::query(FROM)
        .bind(seq)
        .bind(ROWS_AT_ONCE)
        .fetch_all(connection)
        .await?;
    rows.iter().map(AuditRow::read).collect()
}

/// The first entry of a statement that tells the hash of its text.
pub(super) async fn row_of_statement(
    connection: &mut AnyConnection,
    statement_id: &str,
) -> Result<Option<AuditRow>, LedgerError> {
    let row = sqlx::query(OF_STATEMENT)
        .bind(statement_id.to_owned())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(AuditRow::read).transpose()
}

/// SHA-256 of a sealed text, in hexadecimal; none where no text is kept.
pub(crate) fn sealed_sha256(sealed: Vec<u8>) -> Option<String> {
    (!sealed.is_empty()).then(|| HEXLOWER.encode(&Sha256::digest(&sealed)))
}

impl AuditRow {
    fn read(row: &AnyRow) -> Result<Self, LedgerError> {
        let text_of: Option<String> = row.try_get("text_of")?;
        let sealed: Option<Vec<u8>> = row.try_get("sql_sealed")?;
        Ok(AuditRow {
            seq: row.try_get("seq")?,
            at: row.try_get("at")?,
            event: row.try_get("event")?,
            person: row.try_get("person")?,
            project: row.try_get("project")?,
            statement_id: row.try_get("statement_id")?,
            attempt: row.try_get("attempt")?,
            habilitations: row.try_get("habilitations")?,
            datasets: row.try_get("datasets")?,
            columns: row.try_get("columns")?,
            sql_sha256: row.try_get("sql_sha256")?,
            outcome: row.try_get("outcome")?,
            error_kind: row.try_get("error_kind")?,
            rows_returned: row.try_get("rows_returned")?,
            bytes_returned: row.try_get("bytes_returned")?,
            client: row.try_get("client")?,
            detail: row.try_get("detail")?,
            sealed_sha256: row.try_get("sealed_sha256")?,
            leaf: row.try_get("leaf")?,
            leaf_hash: hash_of(row, "leaf_hash")?,
            payload_hash: hash_of(row, "payload_hash")?,
            salt: hash_of(row, "salt")?,
            has_statement: text_of.is_some(),
            text_sha256: sealed.and_then(sealed_sha256),
        })
    }

    pub fn is(&self, event: &str) -> bool {
        self.event == event
    }

    /// A field of its `detail`, which is JSON.
    pub fn in_detail(&self, field: &str) -> Option<serde_json::Value> {
        let detail: serde_json::Value = serde_json::from_str(self.detail.as_deref()?).ok()?;
        detail.get(field).cloned()
    }

    /// The usage record that it tells the digest of: its identifier and that digest.
    pub fn usage(&self) -> Option<(String, String)> {
        let digest = self.in_detail(super::usage::FIELD)?.as_str()?.to_owned();
        let (statement_id, attempt) = (self.statement_id.as_ref()?, self.attempt?);
        Some((format!("{statement_id}.{attempt}"), digest))
    }

    /// Whether the text of its statement is the one that it tells the hash of.
    pub fn has_its_text(&self) -> bool {
        let is_there = self.has_statement || self.statement_id.is_none();
        is_there && self.text_sha256 == self.sealed_sha256
    }

    /// Whether the payload and the fields are those that its hashes were made of.
    pub fn is_as_hashed(&self) -> bool {
        let hashes = self.salt.zip(self.payload_hash).zip(self.leaf_hash);
        hashes.is_some_and(|((salt, payload), leaf)| {
            self.payload().hash(&salt) == payload && self.entry().leaf_hash(&payload) == leaf
        })
    }

    pub fn entry(&self) -> Entry<'_> {
        Entry {
            seq: self.seq,
            at: self.at,
            event: &self.event,
            project: self.project.as_deref(),
            statement_id: self.statement_id.as_deref(),
            attempt: self.attempt,
            habilitations: &self.habilitations,
            datasets: &self.datasets,
            columns: &self.columns,
            outcome: &self.outcome,
            error_kind: self.error_kind.as_deref(),
            rows_returned: self.rows_returned,
            bytes_returned: self.bytes_returned,
            detail: self.detail.as_deref(),
        }
    }

    pub fn payload(&self) -> Payload<'_> {
        Payload {
            person: self.person.as_deref(),
            client: &self.client,
            sql_sha256: self.sql_sha256.as_deref(),
            sealed_sha256: self.sealed_sha256.as_deref(),
        }
    }

    /// Whether nothing of the payload is there.
    pub fn is_erased(&self) -> bool {
        self.salt.is_none()
            && self.person.is_none()
            && self.client.is_empty()
            && self.sql_sha256.is_none()
            && self.sealed_sha256.is_none()
    }
}

/// A hash; one of another length reads as none, which the entry's own hash then contradicts.
fn hash_of(row: &AnyRow, column: &str) -> Result<Option<Hash>, LedgerError> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}
