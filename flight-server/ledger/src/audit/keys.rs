//! Whether the keys that texts are sealed to are those that the log recorded.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Row};

use super::finding::Finding;
use super::row::AuditRow;
use super::verify::Findings;
use crate::{AuditEvent, LedgerError};

/// The event that records a key.
const EVENT: &str = "text_key_created";
const HOLDER: &str = "holder";
const KEY: &str = "public_key";

/// What is to be recorded, with [`crate::record_act`], in the transaction that puts a key of
/// texts in force: the event with the holder and the whole key.
pub fn text_key_created(
    act: AuditEvent,
    holder: &str,
    public_key: &[u8; 32],
) -> (AuditEvent, Value) {
    let detail = json!({ HOLDER: holder, KEY: HEXLOWER.encode(public_key) });
    (
        AuditEvent {
            event: EVENT,
            ..act
        },
        detail,
    )
}

/// The keys that the log recorded.
#[derive(Default)]
pub(super) struct Keys {
    recorded: BTreeSet<(String, String)>,
    /// By holder, the last one.
    newest: BTreeMap<String, String>,
}

impl Keys {
    /// Notes the key that an entry records, if it records one.
    pub fn read(&mut self, row: &AuditRow) {
        if !row.is(EVENT) {
            return;
        }
        let text = |field| Some(row.in_detail(field)?.as_str()?.to_owned());
        if let (Some(holder), Some(key)) = (text(HOLDER), text(KEY)) {
            self.newest.insert(holder.clone(), key.clone());
            self.recorded.insert((holder, key));
        }
    }

    /// Compares them with those that are stored.
    pub async fn compare(
        mut self,
        connection: &mut AnyConnection,
        findings: &mut Findings,
    ) -> Result<(), LedgerError> {
        let rows = sqlx::query("SELECT holder, public_key FROM text_keys ORDER BY seq")
            .fetch_all(connection)
            .await?;
        let mut in_force = BTreeMap::new();
        for row in &rows {
            let holder: String = row.try_get("holder")?;
            let key: Vec<u8> = row.try_get("public_key")?;
            let key = HEXLOWER.encode(&key);
            if !self.recorded.contains(&(holder.clone(), key.clone())) {
                findings.add(Finding::KeyUnrecorded {
                    holder: holder.clone(),
                    key: key.clone(),
                });
            }
            in_force.insert(holder, key);
        }
        self.newest
            .retain(|holder, key| in_force.get(holder) != Some(key));
        for holder in self.newest.into_keys() {
            findings.add(Finding::KeyNotInForce { holder });
        }
        Ok(())
    }
}
