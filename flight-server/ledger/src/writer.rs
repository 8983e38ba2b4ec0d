//! The one task that writes: it groups what is queued into one transaction after another.
//!
//! A group fails as a whole. When the store is unfit (full, locked, gone), everything that
//! waits is refused at once and settlements are kept for later; when one request is at fault,
//! the group is written again one by one, so that only that one is refused.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use hubflight_store::Store;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use uuid::Uuid;

use crate::audit::{AuditLog, NotaryHandle};
use crate::execution::{Begun, Interim, Settlement};
use crate::owner::Owner;
use crate::write::{Batch, Begin, Stamp, Wrote, expire_statements, write_batch};
use crate::{AuditEvent, Execution, LedgerError, LedgerLimits, Refusal, StatementOpened, Tariff};

/// How long a statement that nobody waits for waits for the next request, usually its own start, to
/// be written with it.
const COMPANY_WAIT: Duration = Duration::from_millis(5);
/// Tries of a transaction that another server's transaction made fail.
const TRANSIENT_TRIES_MAX: u32 = 5;

#[derive(Debug)]
pub(crate) enum Request {
    Statement(StatementOpened),
    Begin(Begin),
    Interim(Interim),
    Settle(Box<Settlement>),
    Refuse(Refusal),
    Event(AuditEvent),
    Flush,
    Close,
}

#[derive(Debug)]
pub(crate) enum Reply {
    Done,
    Begun(Box<Execution>),
}

pub(crate) type Answer = oneshot::Sender<Result<Reply, LedgerError>>;

/// A request with the place that it takes in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub request: Request,
    pub reply: Option<Answer>,
    pub _place: Option<OwnedSemaphorePermit>,
}

impl Queued {
    fn is_patient(&self) -> bool {
        self.reply.is_none() && matches!(self.request, Request::Statement(_))
    }

    fn answer(self, result: Result<Reply, LedgerError>) {
        match (self.reply, result) {
            // An answer that nobody waits for is dropped; a begun execution then settles.
            (Some(reply), result) => drop(reply.send(result)),
            (None, Err(error)) => tracing::error!(%error, "the ledger could not write"),
            (None, Ok(_)) => {}
        }
    }
}

pub(crate) struct Writer {
    pub store: Store,
    pub owner: Owner,
    pub tariff: Arc<Tariff>,
    pub log: Arc<AuditLog>,
    /// Makes the checkpoints; none until it is started.
    pub notary: Option<NotaryHandle>,
    pub limits: LedgerLimits,
    /// Executions that somebody was given and that are not settled.
    pub running: HashSet<(Uuid, u32)>,
    receiver: mpsc::UnboundedReceiver<Queued>,
    /// Weak, so that the writer ends when the last handle and the last execution are dropped.
    sender: mpsc::WeakUnboundedSender<Queued>,
    /// Settlements that could not be written, and statements that nobody waits for. They are bounded
    /// by the executions that were running when the store became unfit, since none begins while it
    /// is, and by the places in the queue.
    pending: Vec<Queued>,
    closing: Option<Answer>,
    last_error: Option<LedgerError>,
}

impl Writer {
    pub fn new(
        store: Store,
        owner: Owner,
        (tariff, log): (Arc<Tariff>, Arc<AuditLog>),
        limits: LedgerLimits,
        (receiver, sender): (
            mpsc::UnboundedReceiver<Queued>,
            mpsc::WeakUnboundedSender<Queued>,
        ),
    ) -> Self {
        Writer {
            store,
            owner,
            tariff,
            log,
            notary: None,
            limits,
            running: HashSet::new(),
            receiver,
            sender,
            pending: Vec::new(),
            closing: None,
            last_error: None,
        }
    }

    pub async fn run(mut self) {
        // The ledger was looked after when it was opened, so the next look is one interval on.
        let every = Duration::from_millis(self.limits.sweep_ms.max(1));
        let mut sweep = interval_at(Instant::now() + every, every);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retry = interval(Duration::from_millis(self.limits.retry_ms.max(1)));
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.closing.is_none() {
            tokio::select! {
                first = self.receiver.recv() => match first {
                    Some(first) => {
                        let mut batch = self.collect(Some(first));
                        self.wait_for_company(&mut batch).await;
                        self.process(batch).await;
                    }
                    None => break,
                },
                _ = retry.tick(), if !self.pending.is_empty() => {
                    let batch = self.collect(None);
                    self.process(batch).await;
                }
                _ = sweep.tick() => self.sweep().await,
            }
        }
        self.finish().await;
    }

    /// Until somebody waits for an answer, a moment at most.
    async fn wait_for_company(&mut self, batch: &mut Vec<Queued>) {
        let moment = Instant::now() + COMPANY_WAIT;
        let max = self.limits.batch_requests_max.max(1);
        while batch.len() < max && batch.iter().all(Queued::is_patient) {
            match tokio::time::timeout_at(moment, self.receiver.recv()).await {
                Ok(Some(next)) => self.admit(next, batch),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Kept settlements, the first request and what else is queued, up to the limit.
    fn collect(&mut self, first: Option<Queued>) -> Vec<Queued> {
        let max = self.limits.batch_requests_max.max(1);
        let kept = self.pending.len().min(max);
        let mut batch: Vec<Queued> = self.pending.drain(..kept).collect();
        let mut next = first;
        loop {
            if let Some(queued) = next {
                self.admit(queued, &mut batch);
            }
            if batch.len() >= max {
                return batch;
            }
            next = match self.receiver.try_recv() {
                Ok(queued) => Some(queued),
                Err(_) => return batch,
            };
        }
    }

    fn admit(&mut self, queued: Queued, batch: &mut Vec<Queued>) {
        match &queued.request {
            Request::Close => {
                self.receiver.close();
                self.closing = queued.reply;
            }
            Request::Begin(_) if self.closing.is_some() => {
                queued.answer(Err(LedgerError::Closed));
            }
            // Whoever asked has left: nothing would run.
            Request::Begin(_) if queued.reply.as_ref().is_none_or(Answer::is_closed) => {}
            _ => batch.push(queued),
        }
    }

    async fn process(&mut self, batch: Vec<Queued>) {
        let Err((batch, error)) = self.attempt(batch).await else {
            return;
        };
        if matches!(error, LedgerError::Unwritable(_)) || batch.len() == 1 {
            return self.fail(batch, error);
        }
        let mut rest = batch.into_iter();
        while let Some(queued) = rest.next() {
            if let Err((mut failed, error)) = self.attempt(vec![queued]).await {
                if matches!(error, LedgerError::Unwritable(_)) {
                    failed.extend(rest);
                    return self.fail(failed, error);
                }
                self.fail(failed, error);
            }
        }
    }

    /// Writes a batch in one transaction and answers its requests, or gives the batch back.
    async fn attempt(&mut self, batch: Vec<Queued>) -> Result<(), (Vec<Queued>, LedgerError)> {
        match self.write(&batch).await {
            Ok(wrote) => {
                self.answer(batch, wrote);
                Ok(())
            }
            Err(error) => Err((batch, error)),
        }
    }

    async fn write(&mut self, queued: &[Queued]) -> Result<Wrote, LedgerError> {
        let mut batch = Batch::default();
        for queued in queued {
            match &queued.request {
                Request::Statement(statement) => batch.statements.push(statement),
                Request::Begin(begin) => batch.begins.push(begin),
                Request::Interim(interim) => batch.interims.push(interim),
                Request::Settle(settlement) => batch.settlements.push(settlement),
                Request::Refuse(refusal) => batch.refusals.push(refusal),
                Request::Event(event) => batch.events.push(event),
                Request::Flush | Request::Close => {}
            }
        }
        if batch.is_empty() {
            return Ok(Wrote::default());
        }
        for _ in 1..TRANSIENT_TRIES_MAX {
            match self.write_once(&batch).await {
                Err(LedgerError::Unwritable(error)) if error.is_transient() => {}
                result => return result,
            }
        }
        self.write_once(&batch).await
    }

    /// Without an answer in time it counts as not written. It may have been all the same: what
    /// was begun so is settled by the next sweep.
    async fn write_once(&mut self, batch: &Batch<'_>) -> Result<Wrote, LedgerError> {
        let (store, stamp) = (&self.store, self.stamp());
        let written = async {
            let mut write = store.write().await?;
            let wrote = write_batch(write.connection(), stamp, batch).await?;
            write.commit().await?;
            Ok(wrote)
        };
        let wrote = in_time(self.limits.write_wait_ms_max, written).await?;
        self.log.committed(wrote.entries);
        Ok(wrote)
    }

    fn answer(&mut self, batch: Vec<Queued>, mut wrote: Wrote) {
        let mut begun = std::mem::take(&mut wrote.begun).into_iter();
        let mut refused = std::mem::take(&mut wrote.refused).into_iter();
        for queued in batch {
            let result = match &queued.request {
                Request::Begin(begin) => match begun.next().flatten() {
                    Some(begun) => self.execution(begun, begin.scanned),
                    None => Err(LedgerError::UnknownStatement(begin.started.statement_id)),
                },
                Request::Refuse(refusal) => match refused.next() {
                    Some(true) => Ok(Reply::Done),
                    _ => Err(LedgerError::UnknownStatement(refusal.statement_id)),
                },
                Request::Interim(interim) => {
                    done_if_open(&wrote.measured, (interim.statement_id, interim.attempt))
                }
                Request::Settle(settlement) => {
                    let key = settlement.key();
                    self.running.remove(&key);
                    done_if_open(&wrote.settled, key)
                }
                _ => Ok(Reply::Done),
            };
            queued.answer(result);
        }
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp {
            owner: self.owner.id(),
            tariff: &self.tariff,
            log: &self.log,
        }
    }

    fn execution(&mut self, begun: Begun, scanned: u64) -> Result<Reply, LedgerError> {
        // Without a sender, every handle is gone, and whoever asked with it: the open record
        // is settled by the next process.
        let sender = self.sender.upgrade().ok_or(LedgerError::Closed)?;
        self.running.insert((begun.statement_id, begun.attempt));
        let execution = Execution::new(Arc::new(begun), self.tariff.clone(), sender);
        execution.quantities().add_scanned(scanned);
        Ok(Reply::Begun(Box::new(execution)))
    }

    /// Refuses the requests; keeps settlements if only the store is at fault.
    fn fail(&mut self, mut batch: Vec<Queued>, error: LedgerError) {
        let unfit = matches!(error, LedgerError::Unwritable(_));
        if unfit {
            // Whatever waits would wait for as long again, and fail as well.
            while let Ok(queued) = self.receiver.try_recv() {
                self.admit(queued, &mut batch);
            }
        }
        for mut queued in batch {
            // Who has a ticket may start the statement when the store is fit again.
            let is_kept = matches!(queued.request, Request::Settle(_)) || queued.is_patient();
            if unfit && is_kept {
                if let Some(reply) = queued.reply.take() {
                    drop(reply.send(Err(error.clone())));
                }
                self.pending.push(queued);
                continue;
            }
            if let Request::Settle(settlement) = &queued.request {
                // Nobody settles it any more but a sweep, as the hub's fault.
                self.running.remove(&settlement.key());
            }
            let duplicate = match (&queued.request, &error) {
                (Request::Statement(statement), LedgerError::Store(cause))
                    if cause.is_duplicate() =>
                {
                    Some(LedgerError::DuplicateStatement(statement.statement_id))
                }
                _ => None,
            };
            queued.answer(Err(duplicate.unwrap_or_else(|| error.clone())));
        }
        self.last_error = Some(error);
    }

    /// Looks after what no request looks after: expired statements, and executions that nobody
    /// runs.
    async fn sweep(&mut self) {
        let wait_ms = self.limits.write_wait_ms_max;
        let swept = async {
            self.expire().await?;
            self.settle_unanswered().await?;
            self.owner.renew(&self.store).await?;
            self.recover().await.map(drop)
        };
        if let Err(error) = in_time(wait_ms, swept).await {
            tracing::warn!(%error, "the ledger could not be swept; it is tried again");
        }
    }

    async fn expire(&mut self) -> Result<(), LedgerError> {
        let max = self.limits.batch_requests_max.max(1);
        loop {
            let mut write = self.store.write().await?;
            let (found, entries) =
                expire_statements(write.connection(), self.stamp(), Utc::now(), max).await?;
            write.commit().await?;
            self.log.committed(entries);
            if found < max {
                return Ok(());
            }
        }
    }

    /// Writes what is left, then lets go of the ledger.
    async fn finish(mut self) {
        for round in 1..=self.limits.close_tries_max.max(1) {
            loop {
                let batch = self.collect(None);
                if batch.is_empty() {
                    break;
                }
                let before = self.pending.len();
                self.process(batch).await;
                if self.pending.len() > before {
                    break;
                }
            }
            if self.pending.is_empty() || round == self.limits.close_tries_max {
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.limits.retry_ms)).await;
        }
        let result = match (self.pending.len(), self.last_error.take()) {
            (0, _) | (_, None) => Ok(Reply::Done),
            (unwritten, Some(error)) => {
                tracing::error!(unwritten, %error, "settlements are left to the next start");
                Err(error)
            }
        };
        // What was written last is covered by a checkpoint too.
        if let Some(notary) = self.notary.take() {
            notary.stop().await;
        }
        // Another process may take over before anyone is told that it may.
        drop(self.owner);
        if let Some(reply) = self.closing {
            drop(reply.send(result));
        }
    }
}

/// A store that does not answer in time is one that cannot be written.
async fn in_time<T>(
    wait_ms: u64,
    work: impl Future<Output = Result<T, LedgerError>>,
) -> Result<T, LedgerError> {
    let late = || std::io::Error::new(ErrorKind::TimedOut, "the store does not answer");
    tokio::time::timeout(Duration::from_millis(wait_ms), work)
        .await
        .map_err(|_| sqlx::Error::Io(late()))?
}

/// Done if the execution is among those that were open, else somebody else settled it.
fn done_if_open(
    open: &HashSet<(Uuid, u32)>,
    (statement_id, attempt): (Uuid, u32),
) -> Result<Reply, LedgerError> {
    if open.contains(&(statement_id, attempt)) {
        Ok(Reply::Done)
    } else {
        Err(LedgerError::AlreadySettled {
            statement_id,
            attempt,
        })
    }
}
