//! Checkpoints: the signed states of the log that are kept.
//!
//! The notary is a task beside the writer, so that a slow second place delays no query. A checkpoint
//! is made when entries came since the last one and `every` has passed, when the ledger closes,
//! and, as its seal, for each day that is over. Servers that share a database make one between
//! them, since they look under the lock of the log's head.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use hubflight_audit::Checkpoint;
use hubflight_store::{Store, micros};
use sqlx::{AnyConnection, Row};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::append::{AuditLog, Head};
use super::second::SecondPlaces;
use crate::LedgerError;

/// How long a stop waits for the last checkpoint and the second places: longer than for those.
const STOP_WAIT: Duration = Duration::from_secs(10);

pub(crate) struct Notary {
    store: Store,
    log: Arc<AuditLog>,
    every: Duration,
    places: SecondPlaces,
}

#[derive(Debug)]
pub(crate) struct NotaryHandle {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl NotaryHandle {
    /// Makes a last checkpoint.
    pub async fn stop(self) {
        // A notary that ended already has nothing to do.
        let _ = self.stop.send(());
        if tokio::time::timeout(STOP_WAIT, self.task).await.is_err() {
            tracing::error!("the last checkpoint of the audit log was not made in time");
        }
    }
}

/// Which checkpoint is due.
enum Due {
    Regular,
    Seal(NaiveDate),
}

impl Notary {
    pub fn new(store: Store, log: Arc<AuditLog>, every: Duration, places: SecondPlaces) -> Self {
        Notary {
            store,
            log,
            every,
            places,
        }
    }

    pub fn start(self) -> NotaryHandle {
        let (stop, stopped) = oneshot::channel();
        NotaryHandle {
            stop,
            task: tokio::spawn(self.run(stopped)),
        }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let key = self.log.signer.key();
        self.places.compare(&self.store, key).await;
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once, and what is written just after the start belongs to the next.
        tick.tick().await;
        loop {
            let every = tokio::select! {
                _ = tick.tick() => Some(self.every),
                // An error means that the ledger is gone, which is a stop too.
                _ = &mut stopped => None,
            };
            if let Err(error) = self.look(every).await {
                tracing::error!(%error, "a checkpoint is not made, or did not reach a second place; it is tried again");
            }
            if every.is_none() {
                return;
            }
        }
    }

    /// Makes the checkpoint that is due. Without `every`, any new entry makes it so.
    pub(super) async fn look(&mut self, every: Option<Duration>) -> Result<(), LedgerError> {
        let now = Utc::now();
        // A look that finds nothing to do takes no lock.
        let due = due(&mut *self.store.pool().acquire().await?, every, now).await?;
        if due.is_some() {
            let mut write = self.store.write().await?;
            let head = self.log.lock(write.connection()).await?;
            if let Some(due) = self::due(write.connection(), every, now).await? {
                self.make(write.connection(), &head, due, now).await?;
            }
            write.commit().await?;
        }
        self.places.give(&self.store).await
    }

    async fn make(
        &self,
        connection: &mut AnyConnection,
        head: &Head,
        due: Due,
        at: DateTime<Utc>,
    ) -> Result<(), LedgerError> {
        let seal = match due {
            Due::Regular => None,
            Due::Seal(day) => Some(day),
        };
        let size = head.frontier.size();
        let checkpoint = Checkpoint {
            size,
            root: head.frontier.root(),
            at,
            seal,
        };
        let size = i64::try_from(size).map_err(|_| LedgerError::Corrupt { what: "audit head" })?;
        sqlx::query("INSERT INTO audit_checkpoints (size, at, seal, note) VALUES ($1, $2, $3, $4)")
            .bind(size)
            .bind(micros(at))
            .bind(seal.map(|day| day.to_string()))
            .bind(checkpoint.sign(&self.log.signer))
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// The checkpoint that is due now.
async fn due(
    connection: &mut AnyConnection,
    every: Option<Duration>,
    now: DateTime<Utc>,
) -> Result<Option<Due>, LedgerError> {
    let row = sqlx::query(
        "SELECT h.size, c.size AS made, c.at AS made_at, \
         (SELECT MAX(seal) FROM audit_checkpoints) AS sealed, \
         (SELECT MAX(size) FROM audit_checkpoints WHERE seal IS NOT NULL) AS sealed_size, \
         (SELECT at FROM audit ORDER BY seq LIMIT 1) AS begun_at \
         FROM audit_head h LEFT JOIN audit_checkpoints c \
         ON c.id = (SELECT MAX(id) FROM audit_checkpoints) WHERE h.id = 1",
    )
    .fetch_one(connection)
    .await?;
    let size: i64 = row.try_get("size")?;
    let sealed: Option<String> = row.try_get("sealed")?;
    let sealed_size: Option<i64> = row.try_get("sealed_size")?;
    let begun_at: Option<i64> = row.try_get("begun_at")?;
    let today = now.date_naive();
    let midnight = micros(today.and_time(NaiveTime::MIN).and_utc());
    if let Some(yesterday) = today.checked_sub_days(Days::new(1))
        && begun_at.is_some_and(|at| at < midnight)
        && sealed.is_none_or(|day| day < yesterday.to_string())
        && sealed_size.is_none_or(|sealed| sealed < size)
    {
        return Ok(Some(Due::Seal(yesterday)));
    }
    let made: Option<i64> = row.try_get("made")?;
    let made_at: Option<i64> = row.try_get("made_at")?;
    let is_late = match (every, made_at) {
        (Some(every), Some(made_at)) => {
            let every = TimeDelta::from_std(every).unwrap_or(TimeDelta::MAX);
            // A clock that was set back must not put the next checkpoint off for long.
            let since = micros(now).saturating_sub(made_at);
            since < 0 || since >= every.num_microseconds().unwrap_or(i64::MAX)
        }
        _ => true,
    };
    Ok((size > made.unwrap_or_default() && is_late).then_some(Due::Regular))
}

/// The newest checkpoint that is kept, as it was signed.
pub async fn newest_checkpoint(store: &Store) -> Result<Option<String>, LedgerError> {
    let note = sqlx::query_scalar("SELECT note FROM audit_checkpoints ORDER BY id DESC LIMIT 1")
        .fetch_optional(store.pool())
        .await?;
    Ok(note)
}
