//! Rows of the audit as entries of the log.

use data_encoding::HEXLOWER;
use hubflight_audit::{Entry, Hash, Payload, Salt};
use sha2::{Digest, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::LedgerError;

/// Rows that are read at once. Each may bring a sealed text of a megabyte.
const ROWS_AT_ONCE: i64 = 64;

const SELECT: &str = "SELECT a.seq, a.at, a.event, a.person, a.project, a.statement_id, \
    a.attempt, a.habilitations, a.datasets, a.columns, a.sql_sha256, a.outcome, a.error_kind, \
    a.rows_returned, a.bytes_returned, a.client, a.detail, a.sealed_sha256, a.leaf, \
    a.leaf_hash, a.payload_hash, a.salt, s.opened_at, s.sql_sealed \
    FROM (SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2) a \
    LEFT JOIN statements s ON s.statement_id = a.statement_id ORDER BY a.seq";

/// A row of the audit, with the text of its statement.
#[derive(Debug)]
pub(super) struct AuditRow {
    pub seq: i64,
    pub at: i64,
    event: String,
    pub person: Option<String>,
    project: Option<String>,
    pub statement_id: Option<String>,
    attempt: Option<i64>,
    habilitations: String,
    datasets: String,
    columns: String,
    pub sql_sha256: Option<String>,
    outcome: String,
    error_kind: Option<String>,
    rows_returned: i64,
    bytes_returned: i64,
    pub client: String,
    pub detail: Option<String>,
    pub sealed_sha256: Option<String>,
    pub leaf: Option<i64>,
    pub leaf_hash: Option<Hash>,
    pub payload_hash: Option<Hash>,
    pub salt: Option<Salt>,
    /// When the statement was opened, and the hash of its text as it is stored now.
    pub text: Option<(i64, Option<String>)>,
}

/// The next rows after that number, in order; none at the end.
pub(super) async fn rows_after(
    connection: &mut AnyConnection,
    seq: i64,
) -> Result<Vec<AuditRow>, LedgerError> {
    let rows = sqlx::query(SELECT)
        .bind(seq)
        .bind(ROWS_AT_ONCE)
        .fetch_all(connection)
        .await?;
    rows.iter().map(AuditRow::read).collect()
}

/// SHA-256 of a sealed text, in hexadecimal; none where no text is kept.
pub(crate) fn sealed_sha256(sealed: Vec<u8>) -> Option<String> {
    (!sealed.is_empty()).then(|| HEXLOWER.encode(&Sha256::digest(&sealed)))
}

impl AuditRow {
    fn read(row: &AnyRow) -> Result<Self, LedgerError> {
        let opened_at: Option<i64> = row.try_get("opened_at")?;
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
            text: opened_at
                .zip(sealed)
                .map(|(at, sealed)| (at, sealed_sha256(sealed))),
        })
    }

    pub fn is_purge(&self) -> bool {
        self.event == super::purge::EVENT
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
