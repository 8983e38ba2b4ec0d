//! Persons who oppose the use of their data, brought from the store to the barrier.
//!
//! The list is read at the start and whenever the revision of rights has grown. Every plan
//! that is made after excludes it; what was planned before and reads tables of persons is ended
//! (`exec/revocation.rs`). The audit has both ends: `opposition_added` in the transaction of
//! the entry, and `oppositions_applied` from each server that excludes it from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::Utc;
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use hubflight_ledger::AuditEvent;
use hubflight_policy::Opposed;
use hubflight_store::{Opposition, Secrets};
use sha2::Sha256;

use crate::error::{Error, Result};
use crate::hub::Hub;

/// Bytes of the name that an entry has in the audit.
const REFERENCE_BYTES: usize = 16;

/// What the audit calls that persons are excluded from now on.
pub const APPLIED: &str = "oppositions_applied";

/// Excludes who is on the store's list, which is as new as a revision of rights that was read
/// before. It is read again only where that revision is newer than the last.
pub async fn apply(hub: &Hub, revision: i64) -> Result<()> {
    // Held meanwhile, so that no older list comes after a newer one.
    let mut applied = hub.oppositions_applied.lock().await;
    if applied.is_some_and(|applied| applied >= revision) {
        return Ok(());
    }
    exclude(hub, revision).await?;
    *applied = Some(revision);
    Ok(())
}

async fn exclude(hub: &Hub, revision: i64) -> Result<()> {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (entry, _) in hub.store.oppositions().await? {
        values.entry(entry.domain).or_default().insert(entry.value);
    }
    let lists: BTreeMap<String, Arc<Opposed>> = values
        .into_iter()
        .filter_map(|(domain, values)| Some((domain, Arc::new(Opposed::new(values)?))))
        .collect();
    let persons: usize = lists.values().map(|list| list.persons()).sum();
    if !hub.datasets.oppose(lists) {
        return Ok(());
    }
    tracing::info!(persons, revision, "persons who oppose are excluded");
    let event = AuditEvent {
        event: APPLIED,
        outcome: "ok",
        person: None,
        project: None,
        client: format!("flight-server, {persons} persons at revision {revision}"),
        at: Utc::now(),
    };
    hub.metrics.ledger(hub.ledger.event(event).await)?;
    hub.datasets.opposition_recorded();
    Ok(())
}

/// The name of an entry in the audit: a keyed hash, so that the hub can prove which person an
/// entry was for and nobody else can tell.
pub fn reference(secrets: &Secrets, entry: &Opposition) -> Result<String> {
    let key = secrets.derive("oppositions")?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key[..])
        .map_err(|error| Error::internal("a key has the wrong length", &error))?;
    for part in [&entry.domain, &entry.value] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    let hash = mac.finalize().into_bytes();
    Ok(HEXLOWER.encode(&hash[..REFERENCE_BYTES]))
}
