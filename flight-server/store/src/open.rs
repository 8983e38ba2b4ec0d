//! Opening the store: connections, migrations and the discipline of one writer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore};

use crate::StoreError;
use crate::rights::Read;

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// How often the log is tried to be emptied while others read it, each after waiting for them.
const LOG_TRIES_MAX: u32 = 5;
const LOG_PAUSE: Duration = Duration::from_millis(200);

/// Which database serves the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

/// Limits of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Connections that this process keeps to the database.
    pub connections_max: u32,
    /// Wait for a free connection, in milliseconds.
    pub connection_wait_ms_max: u64,
    /// Wait for another process's lock on the database, in milliseconds.
    pub lock_wait_ms_max: u32,
    /// Passwords that are checked at once: each check takes 19 MiB and tens of milliseconds.
    pub password_checks_max: usize,
    /// Size that a SQLite file may reach, in pages of 4 KiB; none for the disk's limit.
    pub sqlite_pages_max: Option<u32>,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            connections_max: 8,
            connection_wait_ms_max: 5_000,
            lock_wait_ms_max: 5_000,
            password_checks_max: 2,
            sqlite_pages_max: None,
        }
    }
}

/// The hub's store; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    /// Where transactions that write come from.
    writers: AnyPool,
    backend: Backend,
    sqlite_path: Option<Arc<PathBuf>>,
    /// SQLite has one writer at a time. Queueing here is fair and costs nothing, where the
    /// database's own lock is polled.
    writer: Arc<Mutex<()>>,
    /// What was read of rights since they last changed.
    pub(crate) read: Arc<parking_lot::Mutex<Arc<Read>>>,
    pub(crate) password_checks: Arc<Semaphore>,
}

impl Store {
    /// Opens `sqlite://PATH` (made if missing, PATH is taken literally) or `postgres://…`,
    /// and migrates it.
    ///
    /// # Errors
    /// [`StoreError::Address`] for another address, [`StoreError::Newer`] for a store that a
    /// newer program wrote, [`StoreError::Unavailable`] when it cannot be reached or written.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, &StoreLimits::default()).await
    }

    /// As [`Store::open`], with limits.
    pub async fn open_with(url: &str, limits: &StoreLimits) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let address = Address::parse(url)?;
        let options = address.options.clone().disable_statement_logging();
        let setup = address.setup(limits);
        // A connection apart gives its error at once, where the pool would try again and again.
        let mut first = AnyConnection::connect_with(&options).await?;
        sqlx::raw_sql(AssertSqlSafe(setup.clone()))
            .execute(&mut first)
            .await?;
        migrate(&mut first, address.backend).await?;
        first.close().await?;
        Self::of(address, options, setup, limits).await
    }

    /// Opens a copy that is to be looked at as it is: nothing is made, migrated or written.
    ///
    /// # Errors
    /// As [`Store::open`], and [`StoreError::Older`] for a store that this program would migrate.
    pub async fn open_copy(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let mut address = Address::parse(url)?;
        if let Some(path) = &address.sqlite_path {
            address.options = copy_options(url, path)?;
        }
        let options = address.options.clone().disable_statement_logging();
        let limits = StoreLimits::default();
        let setup = address.copy_setup(&limits);
        let mut first = AnyConnection::connect_with(&options).await?;
        check_current(&mut first, address.backend).await?;
        first.close().await?;
        Self::of(address, options, setup, &limits).await
    }

    async fn of(
        address: Address,
        options: AnyConnectOptions,
        setup: String,
        limits: &StoreLimits,
    ) -> Result<Self, StoreError> {
        let connections_max = limits.connections_max.max(2);
        let pool = pool_of(connections_max, &address, &setup, limits);
        let pool = pool.min_connections(1);
        let pool = pool.connect_with(options.clone()).await?;
        let writers = match address.backend {
            // One that always writes keeps its pages: any other would read them again after it.
            Backend::Sqlite => pool_of(1, &address, &setup, limits),
            // Who holds a lock reads over a second connection, which those that wait for that lock
            // must not have taken all of.
            Backend::Postgres => pool_of(connections_max, &address, &setup, limits),
        };
        let writers = writers.connect_lazy_with(options);
        Ok(Store {
            pool,
            writers,
            backend: address.backend,
            sqlite_path: address.sqlite_path.map(Arc::new),
            writer: Arc::default(),
            read: Arc::default(),
            password_checks: Arc::new(Semaphore::new(limits.password_checks_max.max(1))),
        })
    }

    /// True where other servers may serve from it too.
    pub fn is_shared(&self) -> bool {
        self.backend == Backend::Postgres
    }

    /// Writes SQLite's log into its file and empties it, so that neither says what was there
    /// before. False where others read what the log holds, and for PostgreSQL, whose log is its
    /// own affair.
    pub async fn empty_log(&self) -> Result<bool, StoreError> {
        if self.backend == Backend::Postgres {
            return Ok(false);
        }
        let _turn = self.writer.clone().lock_owned().await;
        for _ in 0..LOG_TRIES_MAX {
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(&self.writers)
                .await?;
            if crate::columns::get::<i64>(&row, "busy")? == 0 {
                return Ok(true);
            }
            tokio::time::sleep(LOG_PAUSE).await;
        }
        Ok(false)
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The file of a SQLite store.
    pub fn sqlite_path(&self) -> Option<&Path> {
        self.sqlite_path.as_ref().map(|path| path.as_path())
    }

    /// Connections for reading. Writes go through [`Store::write`].
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that writes. Dropped without a commit, it rolls back.
    pub async fn write(&self) -> Result<WriteTransaction, StoreError> {
        let (turn, begin) = match self.backend {
            // An immediate transaction never fails half way for want of the write lock.
            Backend::Sqlite => (
                Some(self.writer.clone().lock_owned().await),
                "BEGIN IMMEDIATE",
            ),
            Backend::Postgres => (None, "BEGIN"),
        };
        let transaction = self.writers.begin_with(begin).await?;
        Ok(WriteTransaction {
            transaction,
            _turn: turn,
        })
    }

    /// Waits for running calls and closes every connection.
    pub async fn close(&self) {
        self.writers.close().await;
        self.pool.close().await;
    }
}

/// Connections that are set up, and come back without a transaction.
fn pool_of(
    connections_max: u32,
    address: &Address,
    setup: &str,
    limits: &StoreLimits,
) -> AnyPoolOptions {
    let setup = setup.to_owned();
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(Duration::from_millis(limits.connection_wait_ms_max))
        .test_before_acquire(address.backend == Backend::Postgres)
        .after_connect(move |connection, _| {
            let setup = setup.clone();
            Box::pin(async move {
                // Only names and numbers of ours are in this text.
                sqlx::raw_sql(AssertSqlSafe(setup))
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .after_release(|connection, _| {
            Box::pin(async move {
                if !connection.is_in_transaction() {
                    return Ok(true);
                }
                // SQLite itself rolls back when it is full or its disk fails; the driver's
                // own rollback then fails, and it believes the transaction open for ever.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
}

/// A transaction that holds the writer's turn.
#[derive(Debug)]
pub struct WriteTransaction {
    transaction: Transaction<'static, Any>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl WriteTransaction {
    /// Makes the changes durable.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }

    /// The connection to run statements on.
    pub fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

struct Address {
    backend: Backend,
    options: AnyConnectOptions,
    sqlite_path: Option<PathBuf>,
}

impl Address {
    fn parse(url: &str) -> Result<Self, StoreError> {
        let refuse = |reason| StoreError::Address {
            url: without_password(url),
            reason,
        };
        if let Some(path) = url.strip_prefix("sqlite://") {
            if path.is_empty() || path.starts_with(":memory:") {
                return Err(refuse("a file is needed, so that nothing is lost"));
            }
            let path = std::path::absolute(path).map_err(|_| refuse("the path is not valid"))?;
            let text = path
                .to_str()
                .ok_or_else(|| refuse("the path is not UTF-8"))?;
            let options = format!("sqlite://{}?mode=rwc", percent_encoded(text))
                .parse()
                .map_err(|_| refuse("the path is not valid"))?;
            return Ok(Address {
                backend: Backend::Sqlite,
                options,
                sqlite_path: Some(path),
            });
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Address {
                backend: Backend::Postgres,
                options: url.parse().map_err(|_| refuse("it is not a URL"))?,
                sqlite_path: None,
            });
        }
        Err(refuse("its scheme is unknown"))
    }

    /// What every new connection runs first.
    fn setup(&self, limits: &StoreLimits) -> String {
        let wait = limits.lock_wait_ms_max;
        match self.backend {
            Backend::Sqlite => {
                let mut setup = format!(
                    // What is overwritten or deleted, such as the salt of a key that is dropped, leaves
                    // its page, free pages too.
                    "PRAGMA busy_timeout = {wait}; PRAGMA journal_mode = WAL; \
                     PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                     PRAGMA secure_delete = ON;"
                );
                if let Some(pages) = limits.sqlite_pages_max {
                    setup.push_str(&format!(" PRAGMA max_page_count = {pages};"));
                }
                setup
            }
            Backend::Postgres => format!("SET lock_timeout = {wait}"),
        }
    }

    /// What every new connection to a copy runs first.
    fn copy_setup(&self, limits: &StoreLimits) -> String {
        let wait = limits.lock_wait_ms_max;
        match self.backend {
            Backend::Sqlite => format!("PRAGMA busy_timeout = {wait}; PRAGMA query_only = ON"),
            Backend::Postgres => "SET default_transaction_read_only = on".to_owned(),
        }
    }
}

/// Options that write nothing, not even the files beside a database that is in use.
fn copy_options(url: &str, path: &Path) -> Result<AnyConnectOptions, StoreError> {
    let refuse = |reason| StoreError::Address {
        url: without_password(url),
        reason,
    };
    if !path.is_file() {
        return Err(refuse("there is no such file"));
    }
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    // What is only in the write-ahead log must be read too.
    let is_logged = std::fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    let immutable = if is_logged { "" } else { "&immutable=true" };
    let text = path
        .to_str()
        .ok_or_else(|| refuse("the path is not UTF-8"))?;
    format!("sqlite://{}?mode=ro{immutable}", percent_encoded(text))
        .parse()
        .map_err(|_| refuse("the path is not valid"))
}

/// Refuses a store that is not of this program's version.
async fn check_current(connection: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    let migrator = migrator(backend);
    let known = migrator.iter().map(|m| m.version).max().unwrap_or_default();
    let applied = connection
        .list_applied_migrations(&migrator.table_name)
        .await?;
    let store = applied.iter().map(|m| m.version).max().unwrap_or_default();
    match store.cmp(&known) {
        std::cmp::Ordering::Less => Err(StoreError::Older { store, known }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(StoreError::Newer { store, known }),
    }
}

fn migrator(backend: Backend) -> &'static Migrator {
    match backend {
        Backend::Sqlite => &SQLITE,
        Backend::Postgres => &POSTGRES,
    }
}

async fn migrate(connection: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    let migrator = migrator(backend);
    let known = migrator.iter().map(|m| m.version).max().unwrap_or_default();
    connection
        .ensure_migrations_table(&migrator.table_name)
        .await?;
    let applied = connection
        .list_applied_migrations(&migrator.table_name)
        .await?;
    let store = applied.iter().map(|m| m.version).max().unwrap_or_default();
    if store > known {
        return Err(StoreError::Newer { store, known });
    }
    Ok(migrator.run(connection).await?)
}

/// The address as it may be shown: what stands between `:` and `@` is the password.
fn without_password(url: &str) -> String {
    let Some((head, tail)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    match head.split_once("://") {
        Some((scheme, login)) => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{tail}")
        }
        None => format!("***@{tail}"),
    }
}

/// The bytes of a path as a URL's path (RFC 3986: unreserved characters and `/` as they are).
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
