//! The operator's policies: read at start, and told to the audit when they change.

use std::path::Path;

use chrono::Utc;
use hubflight_ledger::{AuditEvent, policies_changed, policies_told, record_act};
use hubflight_rights::{Rules, RulesFile};
use hubflight_store::Secrets;

use crate::config::Policies;
use crate::error::{Error, Result};
use crate::hub::{Hub, audit_signer};

/// What the audit calls the configuration.
const CLIENT: &str = "flight-server configuration";

/// Reads and checks the policies of a configuration.
///
/// # Errors
/// `InvalidArgument` naming the file, the line and the policy that is wrong.
pub fn load(policies: &Policies) -> Result<Rules> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| {
            let path = path.display();
            Error::invalid(format!("cannot read the policies `{path}`: {error}"))
        })
    };
    let files = policies.files.iter();
    let files: Vec<(String, String)> = files
        .map(|path| Ok((path.display().to_string(), read(path)?)))
        .collect::<Result<_>>()?;
    let files: Vec<RulesFile<'_>> = files
        .iter()
        .map(|(name, text)| RulesFile { name, text })
        .collect();
    Rules::load(&files).map_err(|error| Error::invalid(error.to_string()))
}

/// Tells the audit which policies are in force, where they are others than it was last told. A
/// hub whose operator never had any says nothing.
pub async fn record(hub: &Hub, secrets: &Secrets) -> Result<()> {
    let mut write = hub.store.change_rights().await?;
    let told = policies_told(&mut write).await?;
    let digest = hub.rules.digest();
    let is_told = match &told {
        Some(told) => told == digest,
        None => hub.rules.are_the_hubs_alone(),
    };
    if is_told {
        return Ok(());
    }
    let files = &hub.config.policies.files;
    let names: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let act = AuditEvent {
        event: "",
        outcome: "ok",
        person: None,
        project: None,
        client: CLIENT.to_owned(),
        at: Utc::now(),
    };
    let (event, detail) = policies_changed(act, digest, &names);
    record_act(&mut write, audit_signer(secrets)?, &event, &detail).await?;
    tracing::info!(%digest, files = names.len(), "other policies are in force");
    Ok(write.commit().await?)
}
