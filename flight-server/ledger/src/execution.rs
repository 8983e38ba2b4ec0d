//! A running execution: it settles exactly once, even when it is only dropped.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::records::Ending;
use crate::tariff::total;
use crate::writer::{Queued, Reply, Request};
use crate::{LedgerError, Measured, Outcome, Quantities, Tariff, UsageRecord};

/// What the ledger knows of an execution from its statement and its start.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub statement_id: Uuid,
    pub attempt: u32,
    pub person: String,
    pub project: Option<String>,
    pub organisation: Option<String>,
    pub kind: String,
    pub client: String,
    pub sql_sha256: String,
    pub sealed_sha256: Option<String>,
    /// JSON texts.
    pub habilitations: String,
    pub datasets: String,
    pub columns: String,
    pub started_at: DateTime<Utc>,
}

/// A usage record with what its audit outcome adds.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    pub record: UsageRecord,
    pub begun: Arc<Begun>,
}

impl Settlement {
    /// Prices what was measured. Metadata, refusals and the hub's own faults are free.
    pub fn new(
        begun: Arc<Begun>,
        ending: Ending,
        measured: Measured,
        tariff: &Tariff,
        ended_at: DateTime<Utc>,
    ) -> Self {
        let free = !ending.is_charged() || begun.kind == crate::StatementKind::Metadata.as_str();
        let lines = if free {
            Vec::new()
        } else {
            tariff.price(&measured)
        };
        let record = UsageRecord {
            seq: 0,
            usage_id: format!("{}.{}", begun.statement_id, begun.attempt),
            statement_id: begun.statement_id,
            attempt: begun.attempt,
            person: begun.person.clone(),
            project: begun.project.clone(),
            organisation: begun.organisation.clone(),
            started_at: begun.started_at,
            // A clock that was set back must not make an interval negative.
            ended_at: ended_at.max(begun.started_at),
            kind: begun.kind.clone(),
            outcome: ending.outcome().to_owned(),
            error_kind: ending.error_kind().map(str::to_owned),
            units: measured.units(),
            rows_returned: measured.rows_returned,
            bytes_returned: measured.bytes_returned,
            bytes_scanned: measured.bytes_scanned,
            failed_rows: measured.failed_rows,
            row_errors: measured.row_errors,
            cost: total(&lines),
            currency: tariff.currency().to_owned(),
            tariff_version: tariff.version().to_owned(),
            lines,
        };
        Settlement { record, begun }
    }

    /// The execution that it settles.
    pub fn key(&self) -> (Uuid, u32) {
        (self.begun.statement_id, self.begun.attempt)
    }
}

/// An interval record: what was used up to now.
#[derive(Clone, Debug)]
pub(crate) struct Interim {
    pub statement_id: Uuid,
    pub attempt: u32,
    pub seq: i64,
    pub at: DateTime<Utc>,
    pub measured: Measured,
}

/// A running execution. Dropped without [`Execution::settle`], it settles as cancelled with
/// what was counted by then.
#[derive(Debug)]
pub struct Execution {
    begun: Arc<Begun>,
    tariff: Arc<Tariff>,
    quantities: Arc<Quantities>,
    interims: Mutex<i64>,
    sender: mpsc::UnboundedSender<Queued>,
    outcome: Outcome,
    settled: bool,
}

impl Execution {
    pub(crate) fn new(
        begun: Arc<Begun>,
        tariff: Arc<Tariff>,
        sender: mpsc::UnboundedSender<Queued>,
    ) -> Self {
        Execution {
            begun,
            tariff,
            quantities: Arc::default(),
            interims: Mutex::new(0),
            sender,
            outcome: Outcome::Cancelled,
            settled: false,
        }
    }

    pub fn statement_id(&self) -> Uuid {
        self.begun.statement_id
    }

    /// From 1.
    pub fn attempt(&self) -> u32 {
        self.begun.attempt
    }

    /// The counters, to be shared with streams and operators.
    pub fn quantities(&self) -> &Arc<Quantities> {
        &self.quantities
    }

    /// Writes an immutable interval record, which is charged if the process dies. Durable when
    /// it returns.
    ///
    /// # Errors
    /// [`LedgerError::AlreadySettled`] when another server took this one for dead and settled
    /// the execution: what it serves from now on is not charged, so it must stop. On any other
    /// error nothing is lost yet: the next interim or the settlement counts everything.
    pub async fn interim(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        {
            // Numbered and sent under one lock, so that a later number never counts less.
            let mut seq = self.interims.lock();
            *seq += 1;
            let interim = Interim {
                statement_id: self.begun.statement_id,
                attempt: self.begun.attempt,
                seq: *seq,
                at: Utc::now(),
                measured: self.quantities.measured(),
            };
            self.send(Request::Interim(interim), Some(reply))?;
        }
        answer.await.map_err(|_| LedgerError::Closed)?.map(drop)
    }

    /// Settles the execution: usage and audit outcome in one transaction.
    ///
    /// A caller that stops waiting does not undo it. With [`LedgerError::Unwritable`] the
    /// ledger keeps the record and writes it when the store can be written again.
    pub async fn settle(mut self, outcome: Outcome) -> Result<UsageRecord, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.outcome = outcome;
        let record = self.send_settlement(Some(reply))?;
        answer.await.map_err(|_| LedgerError::Closed)??;
        Ok(record)
    }

    fn send_settlement(
        &mut self,
        reply: Option<oneshot::Sender<Result<Reply, LedgerError>>>,
    ) -> Result<UsageRecord, LedgerError> {
        self.settled = true;
        let settlement = Settlement::new(
            self.begun.clone(),
            Ending::Settled(self.outcome),
            self.quantities.measured(),
            &self.tariff,
            Utc::now(),
        );
        let record = settlement.record.clone();
        self.send(Request::Settle(Box::new(settlement)), reply)?;
        Ok(record)
    }

    fn send(
        &self,
        request: Request,
        reply: Option<oneshot::Sender<Result<Reply, LedgerError>>>,
    ) -> Result<(), LedgerError> {
        self.sender
            .send(Queued {
                request,
                reply,
                _place: None,
            })
            .map_err(|_| LedgerError::Closed)
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        if let Err(error) = self.send_settlement(None) {
            // The next process settles it, with its last interim.
            tracing::error!(
                statement = %self.begun.statement_id,
                attempt = self.begun.attempt,
                %error,
                "an execution ended after the ledger"
            );
        }
    }
}
