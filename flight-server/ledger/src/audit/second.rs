//! The second places that get the checkpoints: a witness, which keeps them and is read back, and
//! syslog, which is told them.
//!
//! Neither delays a query or a checkpoint. One that is away at the start of a server refuses it;
//! one that goes away later is an error in the server's log and in [`SecondPlace`], and gets what
//! it lacks when it is back. One that contradicts the log does so until somebody looks: nothing
//! that the server does could tell which of the two is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hubflight_audit::VerifierKey;
use hubflight_store::Store;
use sqlx::Row;
use tokio::task::JoinHandle;

use super::syslog::Syslog;
use super::witness::{self, Witness};
use crate::LedgerError;

/// Checkpoints that a place is given at once.
const AT_ONCE: i64 = 100;

/// How a second place stands.
#[derive(Clone, Debug)]
pub struct SecondPlace {
    /// `folder`, `bucket` or `syslog`.
    pub kind: &'static str,
    is_behind: Arc<AtomicBool>,
    contradicts: Arc<AtomicBool>,
}

impl SecondPlace {
    fn new(kind: &'static str) -> Self {
        SecondPlace {
            kind,
            is_behind: Arc::default(),
            contradicts: Arc::default(),
        }
    }

    /// It did not take the newest checkpoints, or cannot be asked.
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// What an operator reads: `contradicts the log`, `behind` or `ok`.
    pub fn state(&self) -> &'static str {
        match (self.contradicts(), self.is_behind()) {
            (true, _) => "contradicts the log",
            (false, true) => "behind",
            (false, false) => "ok",
        }
    }

    /// It knew of another history when this server started.
    pub fn contradicts(&self) -> bool {
        self.contradicts.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct SecondPlaces(Vec<Giving>);

#[derive(Clone, Debug)]
enum Place {
    Witness(Witness),
    Syslog(Syslog),
}

/// One of them, and how far it has come.
#[derive(Debug)]
struct Giving {
    place: Place,
    state: SecondPlace,
    /// The last checkpoint that it is known to have; none before it was asked.
    last: Option<i64>,
    /// What it is given now, up to that checkpoint. While it does not answer, it is asked for
    /// nothing else, and checkpoints go on.
    under_way: Option<(i64, JoinHandle<Result<(), LedgerError>>)>,
    /// How long a look waits for it.
    wait: Duration,
}

impl SecondPlaces {
    /// Those that are there, for a log of so many entries.
    ///
    /// # Errors
    /// [`LedgerError::Witness`].
    pub async fn open(
        witness: Option<Witness>,
        syslog: Option<Syslog>,
        entries: u64,
    ) -> Result<Self, LedgerError> {
        let mut places = Vec::new();
        if let Some(witness) = witness {
            witness.open(entries).await?;
            let state = SecondPlace::new(witness.kind());
            places.push(Giving::new(Place::Witness(witness), state));
        }
        if let Some(syslog) = syslog {
            syslog.open().await?;
            places.push(Giving::new(
                Place::Syslog(syslog),
                SecondPlace::new("syslog"),
            ));
        }
        Ok(SecondPlaces(places))
    }

    pub fn states(&self) -> Vec<SecondPlace> {
        self.0.iter().map(|giving| giving.state.clone()).collect()
    }

    /// Gives each the checkpoints that it does not have.
    ///
    /// # Errors
    /// Those of the first that did not take them.
    pub async fn give(&mut self, store: &Store) -> Result<(), LedgerError> {
        let given = self.0.iter_mut().map(|giving| giving.give(store));
        futures::future::join_all(given)
            .await
            .into_iter()
            .collect::<Result<Vec<()>, _>>()
            .map(drop)
    }

    /// Says so if a place that can be read knows of another history.
    pub async fn compare(&self, store: &Store, key: &VerifierKey) {
        for giving in &self.0 {
            let Place::Witness(witness) = &giving.place else {
                continue;
            };
            match witness.contradicts(store, key).await {
                Ok(None) => {}
                Ok(Some(contradiction)) => {
                    giving.state.contradicts.store(true, Ordering::Relaxed);
                    tracing::error!(
                        contradiction,
                        place = witness.shown(),
                        "the witness contradicts the audit log; find what was changed with \
                         `flight-server admin audit verify`"
                    );
                }
                Err(error) => {
                    giving.state.is_behind.store(true, Ordering::Relaxed);
                    tracing::error!(%error, "the witness cannot be read");
                }
            }
        }
    }
}

impl Giving {
    fn new(place: Place, state: SecondPlace) -> Self {
        Giving {
            place,
            state,
            last: None,
            under_way: None,
            wait: witness::WAIT,
        }
    }

    async fn give(&mut self, store: &Store) -> Result<(), LedgerError> {
        let given = self.give_all(store).await;
        let is_behind = given.is_err();
        self.state.is_behind.store(is_behind, Ordering::Relaxed);
        given
    }

    async fn give_all(&mut self, store: &Store) -> Result<(), LedgerError> {
        loop {
            if let Some((last, task)) = &mut self.under_way {
                let last = *last;
                let Ok(given) = tokio::time::timeout(self.wait, task).await else {
                    return Err(self.silent());
                };
                self.under_way = None;
                given.map_err(|_| LedgerError::Closed)??;
                self.last = Some(last);
            }
            let Some((last, checkpoints)) = self.lacking(store).await? else {
                return Ok(());
            };
            let place = self.place.clone();
            let task = tokio::spawn(async move { place.give(checkpoints).await });
            self.under_way = Some((last, task));
        }
    }

    /// The next checkpoints that it does not have, with the number of the last of them.
    async fn lacking(&self, store: &Store) -> Result<Option<Batch>, LedgerError> {
        let after = match (self.last, &self.place) {
            (Some(last), _) => last,
            (None, Place::Witness(_)) => 0,
            // Nobody can ask it what it was told: the newest covers all that were before it.
            (None, Place::Syslog(_)) => {
                let newest = "SELECT COALESCE(MAX(id), 0) FROM audit_checkpoints";
                let newest: i64 = sqlx::query_scalar(newest).fetch_one(store.pool()).await?;
                newest.saturating_sub(1)
            }
        };
        let rows = sqlx::query(
            "SELECT id, size, note FROM audit_checkpoints WHERE id > $1 ORDER BY id LIMIT $2",
        )
        .bind(after)
        .bind(AT_ONCE)
        .fetch_all(store.pool())
        .await?;
        let mut checkpoints = Vec::with_capacity(rows.len());
        for row in &rows {
            let size: i64 = row.try_get("size")?;
            let size =
                u64::try_from(size).map_err(|_| LedgerError::Corrupt { what: "checkpoint" })?;
            checkpoints.push((size, row.try_get("note")?));
        }
        let last = rows.last().map(|row| row.try_get("id")).transpose()?;
        Ok(last.map(|last| (last, checkpoints)))
    }

    fn silent(&self) -> LedgerError {
        let shown = match &self.place {
            Place::Witness(witness) => witness.shown().to_owned(),
            Place::Syslog(syslog) => syslog.to_string(),
        };
        LedgerError::Witness {
            place: shown,
            reason: "it does not answer".to_owned(),
        }
    }
}

type Batch = (i64, Vec<(u64, String)>);

impl Place {
    async fn give(&self, checkpoints: Vec<(u64, String)>) -> Result<(), LedgerError> {
        match self {
            Place::Witness(witness) => witness.keep(checkpoints).await,
            Place::Syslog(syslog) => syslog.tell(&checkpoints).await,
        }
    }
}

#[cfg(test)]
mod tests;
