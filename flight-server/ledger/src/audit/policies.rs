//! Which policies are in force, as the log is told at each start that brings others.

use hubflight_store::WriteTransaction;
use serde_json::{Value, json};
use sqlx::Row;

use crate::{AuditEvent, LedgerError};

/// The event that tells of them.
const EVENT: &str = "policies_changed";
const DIGEST: &str = "sha256";
const FILES: &str = "files";

/// What is to be recorded, with [`crate::record_act`]: the event with the digest of the policies
/// and the files that they come from.
pub fn policies_changed(act: AuditEvent, digest: &str, files: &[String]) -> (AuditEvent, Value) {
    let event = AuditEvent {
        event: EVENT,
        ..act
    };
    (event, json!({ DIGEST: digest, FILES: files }))
}

/// The digest that the log was last told; none where it never was.
///
/// # Errors
/// [`LedgerError`] where the store cannot be read.
pub async fn policies_told(write: &mut WriteTransaction) -> Result<Option<String>, LedgerError> {
    let row = sqlx::query(
        "SELECT detail FROM audit WHERE project IS NULL AND event = $1 \
         ORDER BY seq DESC LIMIT 1",
    )
    .bind(EVENT)
    .fetch_optional(write.connection())
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let detail: Option<String> = row.try_get("detail")?;
    let detail = detail.and_then(|text| serde_json::from_str::<Value>(&text).ok());
    Ok(detail.and_then(|detail| Some(detail.get(DIGEST)?.as_str()?.to_owned())))
}
