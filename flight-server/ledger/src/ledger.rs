//! The ledger's handle: what the server calls.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use hubflight_store::{Store, micros};
use sqlx::Row;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::audit::{AuditLog, AuditSettings, Notary, SecondPlace, SecondPlaces};
use crate::owner::Owner;
use crate::write::Begin;
use crate::writer::{Queued, Reply, Request, Writer};
use crate::{
    AuditEvent, Execution, ExecutionStarted, LedgerError, Refusal, StatementOpened, Tariff,
};

/// Limits of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLimits {
    /// Requests that may wait to be written. Settlements are not counted: each belongs to an
    /// execution that was admitted.
    pub queue_requests_max: usize,
    /// Wait for a place in the queue, in milliseconds.
    pub queue_wait_ms_max: u64,
    /// Requests written in one transaction.
    pub batch_requests_max: usize,
    /// Wait for one transaction, in milliseconds: without an answer by then it was not written.
    pub write_wait_ms_max: u64,
    /// Wait before settlements that could not be written are tried again, in milliseconds.
    pub retry_ms: u64,
    /// Tries to write the last settlements when the ledger closes.
    pub close_tries_max: u32,
    /// Between two looks for expired statements and dead servers, in milliseconds.
    pub sweep_ms: u64,
    /// Between two checkpoints of the audit log while entries come, in milliseconds.
    pub checkpoint_ms: u64,
}

impl Default for LedgerLimits {
    fn default() -> Self {
        LedgerLimits {
            queue_requests_max: 4096,
            queue_wait_ms_max: 2_000,
            batch_requests_max: 256,
            write_wait_ms_max: 30_000,
            retry_ms: 500,
            close_tries_max: 3,
            sweep_ms: 5_000,
            checkpoint_ms: 60_000,
        }
    }
}

/// Handle of the ledger; cheap to clone. The last one that is dropped ends the writer.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub(crate) store: Store,
    tariff: Arc<Tariff>,
    second_places: Vec<SecondPlace>,
    sender: mpsc::UnboundedSender<Queued>,
    places: Arc<Semaphore>,
    queue_wait_ms_max: u64,
}

impl Ledger {
    /// Takes the ledger over, settles what dead processes left open (outcome `interrupted`),
    /// and starts the writer on the current runtime. On PostgreSQL, where other servers may
    /// live, that is settled at the first sweep.
    ///
    /// # Errors
    /// [`LedgerError::Owned`] when a living process writes the same SQLite ledger,
    /// [`LedgerError::TariffChanged`] when the tariff's version was used with other prices,
    /// [`LedgerError::AuditForged`] when the audit log was written by somebody else or put back,
    /// [`LedgerError::Witness`], [`LedgerError::Unwritable`].
    pub async fn open(
        store: &Store,
        tariff: Tariff,
        limits: LedgerLimits,
        audit: AuditSettings,
    ) -> Result<Self, LedgerError> {
        let AuditSettings {
            signer,
            witness,
            syslog,
        } = audit;
        let owner = Owner::claim(store).await?;
        let tariff = Arc::new(tariff);
        keep_tariff(store, &tariff).await?;
        let log = Arc::new(AuditLog::new(signer));
        let entries = log.look(store).await?;
        let places = SecondPlaces::open(witness, syslog, entries).await?;
        let second_places = places.states();
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut writer = Writer::new(
            store.clone(),
            owner,
            (tariff.clone(), log.clone()),
            limits.clone(),
            (receiver, sender.downgrade()),
        );
        let recovered = writer.recover().await?;
        if recovered > 0 {
            tracing::info!(
                recovered,
                "settled executions that a dead process left open"
            );
        }
        let every = Duration::from_millis(limits.checkpoint_ms.max(1));
        writer.notary = Some(Notary::new(store.clone(), log, every, places).start());
        tokio::spawn(writer.run());
        Ok(Ledger {
            store: store.clone(),
            tariff,
            second_places,
            sender,
            places: Arc::new(Semaphore::new(limits.queue_requests_max.max(1))),
            queue_wait_ms_max: limits.queue_wait_ms_max,
        })
    }

    /// How the places stand that get the audit's checkpoints.
    pub fn second_places(&self) -> &[SecondPlace] {
        &self.second_places
    }

    pub fn tariff(&self) -> &Tariff {
        &self.tariff
    }

    /// Whether somebody writes. Where not, the ledger was closed or its writer failed, and every
    /// request is refused until the server starts again.
    pub fn is_writing(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Records a statement; durable when it returns.
    ///
    /// # Errors
    /// [`LedgerError::DuplicateStatement`], [`LedgerError::Unwritable`], [`LedgerError::Busy`].
    pub async fn statement(&self, statement: StatementOpened) -> Result<(), LedgerError> {
        self.ask(Request::Statement(statement)).await.map(drop)
    }

    /// As [`Ledger::statement`], without waiting for durability: it becomes durable before any
    /// later [`Ledger::begin`] returns. If it cannot be written, that begin answers
    /// [`LedgerError::UnknownStatement`].
    pub async fn statement_soon(&self, statement: StatementOpened) -> Result<(), LedgerError> {
        let place = self.place().await?;
        self.send(Request::Statement(statement), None, Some(place))
    }

    /// Records that a statement starts to run, as its next attempt. Durable when it returns:
    /// on an error, nothing may be served.
    ///
    /// A caller that stops waiting leaves no open execution behind.
    ///
    /// # Errors
    /// [`LedgerError::UnknownStatement`], [`LedgerError::Unwritable`], [`LedgerError::Busy`].
    pub async fn begin(&self, started: ExecutionStarted) -> Result<Execution, LedgerError> {
        self.begin_scanning(started, 0).await
    }

    /// As [`Ledger::begin`], with the visible bytes that it reads: they are in its first
    /// interim record, made durable with its start, so that they are charged even if the
    /// process dies at once. The execution's quantities hold them already.
    ///
    /// # Errors
    /// As [`Ledger::begin`].
    pub async fn begin_scanning(
        &self,
        started: ExecutionStarted,
        scanned: u64,
    ) -> Result<Execution, LedgerError> {
        match self.ask(Request::Begin(Begin { started, scanned })).await? {
            Reply::Begun(execution) => Ok(*execution),
            _ => Err(LedgerError::Corrupt { what: "answer" }),
        }
    }

    /// Records that a statement was refused. One that never ran gets its usage record, of
    /// nothing; each refusal gets its audit outcome.
    pub async fn refuse(&self, refusal: Refusal) -> Result<(), LedgerError> {
        self.ask(Request::Refuse(refusal)).await.map(drop)
    }

    /// Records something to audit that is not an execution.
    pub async fn event(&self, event: AuditEvent) -> Result<(), LedgerError> {
        self.ask(Request::Event(event)).await.map(drop)
    }

    /// Waits until everything that was asked before, and every execution that was dropped
    /// before, is durable.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Flush, Some(reply), None)?;
        answer.await.map_err(|_| LedgerError::Closed)?.map(drop)
    }

    /// Writes what was asked before, then ends the writer and frees the ledger for another
    /// process. Executions that are still open are settled by the next one, as interrupted.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Close, Some(reply), None)?;
        answer.await.map_err(|_| LedgerError::Closed)?.map(drop)
    }

    async fn ask(&self, request: Request) -> Result<Reply, LedgerError> {
        let place = self.place().await?;
        let (reply, answer) = oneshot::channel();
        self.send(request, Some(reply), Some(place))?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, LedgerError> {
        let wait_ms = self.queue_wait_ms_max;
        let place = self.places.clone().acquire_owned();
        tokio::time::timeout(Duration::from_millis(wait_ms), place)
            .await
            .map_err(|_| LedgerError::Busy { wait_ms })?
            .map_err(|_| LedgerError::Closed)
    }

    fn send(
        &self,
        request: Request,
        reply: Option<oneshot::Sender<Result<Reply, LedgerError>>>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<(), LedgerError> {
        self.sender
            .send(Queued {
                request,
                reply,
                _place: place,
            })
            .map_err(|_| LedgerError::Closed)
    }
}

/// Remembers the prices of a version, so that a record can be priced by the tariff it began
/// under even after a restart with a newer one.
async fn keep_tariff(store: &Store, tariff: &Tariff) -> Result<(), LedgerError> {
    let body =
        serde_json::to_string(tariff).map_err(|_| LedgerError::Corrupt { what: "tariff" })?;
    let mut write = store.write().await?;
    sqlx::query(
        "INSERT INTO tariffs (version, body, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (version) DO NOTHING",
    )
    .bind(tariff.version())
    .bind(body)
    .bind(micros(Utc::now()))
    .execute(write.connection())
    .await?;
    let row = sqlx::query("SELECT body FROM tariffs WHERE version = $1")
        .bind(tariff.version())
        .fetch_one(write.connection())
        .await?;
    let kept: String = row.try_get("body")?;
    write.commit().await?;
    // The contents are compared, not the texts: `1.0` and `1.00` are the same price.
    if serde_json::from_str::<Tariff>(&kept).is_ok_and(|kept| kept == *tariff) {
        return Ok(());
    }
    Err(LedgerError::TariffChanged {
        version: tariff.version().to_owned(),
    })
}
