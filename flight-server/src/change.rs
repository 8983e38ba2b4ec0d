//! A change of rights: one transaction with the entries of the audit that tell of it, so that
//! neither is without the other.

use chrono::{DateTime, Utc};
use hubflight_ledger::{AuditEvent, record_event};
use hubflight_store::{Secrets, Store, WriteTransaction};
use tokio::sync::OwnedMutexGuard;

use crate::error::Result;
use crate::hub::audit_signer;

/// What is done to whom, for the audit.
#[derive(Clone, Debug, Default)]
pub struct Act {
    /// Label of a closed set (`token_created`, …).
    pub event: &'static str,
    pub person: Option<String>,
    pub project: Option<String>,
    /// What it is about, where person and project do not say; never an identifier of data.
    pub detail: String,
}

/// Dropped without a commit, nothing has happened.
#[derive(Debug)]
#[must_use]
pub struct Change<'a> {
    /// Whatever changes rights waits for it, so that what is read through it stays true.
    pub write: WriteTransaction,
    secrets: &'a Secrets,
    /// What the audit calls whoever makes the change.
    client: String,
    at: DateTime<Utc>,
    acts: Vec<Act>,
    /// Given up after the transaction.
    _turn: Option<OwnedMutexGuard<()>>,
}

impl<'a> Change<'a> {
    pub async fn begin(
        store: &Store,
        secrets: &'a Secrets,
        client: impl Into<String>,
        at: DateTime<Utc>,
    ) -> Result<Self> {
        Ok(Self {
            write: store.change_rights().await?,
            secrets,
            client: client.into(),
            at,
            acts: Vec::new(),
            _turn: None,
        })
    }

    /// The same while nobody else has this turn.
    pub fn in_turn(self, turn: Option<OwnedMutexGuard<()>>) -> Self {
        Self {
            _turn: turn,
            ..self
        }
    }

    pub fn record(&mut self, act: Act) {
        self.acts.push(act);
    }

    /// What has been recorded so far.
    pub fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Makes the change durable with its entries. They are written last, because whoever else
    /// appends to the log waits for them.
    pub async fn commit(mut self) -> Result<()> {
        for act in self.acts {
            let client = match act.detail.as_str() {
                "" => self.client.clone(),
                detail => format!("{}, {detail}", self.client),
            };
            let event = AuditEvent {
                event: act.event,
                outcome: "ok",
                person: act.person,
                project: act.project,
                client,
                at: self.at,
            };
            record_event(&mut self.write, audit_signer(self.secrets)?, &event).await?;
        }
        Ok(self.write.commit().await?)
    }
}
