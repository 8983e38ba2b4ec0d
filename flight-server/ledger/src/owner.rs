//! Who writes the ledger: an execution whose owner is dead may be settled by another.
//!
//! The proof of life is a lock that the system releases when a process dies, however it
//! dies: for SQLite a lock on a file beside the database, so that there is one owner; for
//! PostgreSQL an advisory lock on a session of its own, so that many servers share the ledger
//! and each can tell which others live. There is no clock and no lease to wait for. (A proxy
//! that shares sessions between clients, as PgBouncer in transaction mode, breaks this.)

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};

use hubflight_store::Store;
use rand::RngExt;
use sqlx::{AnyConnection, Connection, Row};

use crate::LedgerError;

/// The right to write, held while it lives.
#[derive(Debug)]
pub(crate) struct Owner {
    id: i64,
    life: Life,
    /// Owners that looked dead at the last sweep.
    suspects: HashSet<i64>,
}

#[derive(Debug)]
enum Life {
    File { _locked: File },
    Session { connection: Box<AnyConnection> },
}

impl Owner {
    pub async fn claim(store: &Store) -> Result<Self, LedgerError> {
        let id = new_id();
        let life = match store.sqlite_path() {
            Some(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(".ledger.lock");
                Life::File {
                    _locked: lock_file(name.as_ref())?,
                }
            }
            None => {
                let mut connection = session(store).await?;
                if !try_lock(&mut connection, id).await? {
                    // Another server drew the same number of 63 bits.
                    return Err(LedgerError::Owned {
                        store: format!("owner {id}"),
                    });
                }
                Life::Session {
                    connection: Box::new(connection),
                }
            }
        };
        Ok(Owner {
            id,
            life,
            suspects: HashSet::new(),
        })
    }

    /// Marks the executions that this process begins.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Makes sure that the proof of life still stands, and replaces a lost session. Another
    /// server may have taken this one for dead by then, and settled its executions: that is
    /// found at their next interim, or when they settle here.
    ///
    /// The identifier stays, since the executions that run bear it.
    ///
    /// # Errors
    /// [`LedgerError::Owned`] while the database has not yet noticed that the old session is
    /// gone: it still proves this life, and the next sweep tries again.
    pub async fn renew(&mut self, store: &Store) -> Result<(), LedgerError> {
        if let Life::Session { connection } = &mut self.life
            && connection.ping().await.is_err()
        {
            let mut replacement = session(store).await?;
            if !try_lock(&mut replacement, self.id).await? {
                return Err(LedgerError::Owned {
                    store: format!("owner {}", self.id),
                });
            }
            **connection = replacement;
            tracing::warn!("the ledger's session was lost and replaced");
        }
        Ok(())
    }

    /// Owners other than this one that have open executions and are dead. A server that lost
    /// its session (the database failed over) looks dead until its own sweep has renewed it,
    /// so one is only believed to be dead that was so at the last call too.
    pub async fn dead_owners(&mut self, store: &Store) -> Result<Vec<i64>, LedgerError> {
        let rows = sqlx::query("SELECT DISTINCT owner FROM executions WHERE settled = 0")
            .fetch_all(store.pool())
            .await?;
        let mut dead = HashSet::new();
        for row in rows {
            let id: i64 = row.try_get("owner")?;
            if id != self.id && self.is_dead(id).await? {
                dead.insert(id);
            }
        }
        let certain = match &self.life {
            // The file is ours alone: there is nobody else to be mistaken about.
            Life::File { .. } => dead.iter().copied().collect(),
            Life::Session { .. } => dead.intersection(&self.suspects).copied().collect(),
        };
        self.suspects = dead;
        Ok(certain)
    }

    /// Whether nobody holds that owner's lock. Asking takes it and gives it back; an owner
    /// that dies never comes back under the same identifier.
    async fn is_dead(&mut self, id: i64) -> Result<bool, LedgerError> {
        match &mut self.life {
            // The file is ours alone, so every other owner is dead.
            Life::File { .. } => Ok(true),
            Life::Session { connection } => {
                if !try_lock(connection, id).await? {
                    return Ok(false);
                }
                sqlx::query("SELECT pg_advisory_unlock($1)")
                    .bind(id)
                    .fetch_one(&mut **connection)
                    .await?;
                Ok(true)
            }
        }
    }
}

fn new_id() -> i64 {
    rand::rng().random_range(1..i64::MAX)
}

fn lock_file(path: &std::path::Path) -> Result<File, LedgerError> {
    let unusable = |error| LedgerError::from(sqlx::Error::Io(error));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::Owned {
            store: path.display().to_string(),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// A session apart from the pool, which can hold the owner's lock as long as it lives.
async fn session(store: &Store) -> Result<AnyConnection, LedgerError> {
    Ok(store.pool().acquire().await?.detach())
}

async fn try_lock(connection: &mut AnyConnection, id: i64) -> Result<bool, LedgerError> {
    let row = sqlx::query("SELECT pg_try_advisory_lock($1) AS locked")
        .bind(id)
        .fetch_one(connection)
        .await?;
    Ok(row.try_get("locked")?)
}
