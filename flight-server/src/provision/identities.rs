//! Whom the file's subjects and certificates stand for, brought into the store.

use std::collections::BTreeMap;

use hubflight_store::Identity;

use crate::change::{Act, Change};
use crate::error::Result;

/// Ends identities that stand for nobody in the file, or for somebody else.
pub(super) async fn end(
    change: &mut Change<'_>,
    wanted: &BTreeMap<Identity, String>,
) -> Result<()> {
    for (identity, person) in change.write.identities().await? {
        if wanted.get(&identity) == Some(&person) {
            continue;
        }
        change.write.remove_identity(&identity).await?;
        tracing::info!(%person, issuer = %identity.issuer, "identity ended");
        change.record(Act {
            event: "identity_removed",
            person: Some(person),
            detail: told(&identity),
            ..Act::default()
        });
    }
    Ok(())
}

/// Adds those that are new.
pub(super) async fn begin(
    change: &mut Change<'_>,
    wanted: BTreeMap<Identity, String>,
) -> Result<()> {
    let stored: BTreeMap<_, _> = change.write.identities().await?.into_iter().collect();
    for (identity, person) in wanted {
        if stored.contains_key(&identity) {
            continue;
        }
        change.write.add_identity(&identity, &person).await?;
        change.record(Act {
            event: "identity_added",
            detail: told(&identity),
            person: Some(person),
            ..Act::default()
        });
    }
    Ok(())
}

fn told(identity: &Identity) -> String {
    match identity.issuer.as_str() {
        Identity::CERTIFICATE => format!("certificate sha256:{}", identity.subject),
        issuer => format!("subject {} of {issuer}", identity.subject),
    }
}
