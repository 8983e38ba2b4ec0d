//! Everything that can go wrong in the store.

use hubflight_keys::KeyError;
use sqlx::migrate::MigrateError;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "store address `{url}` is not understood: {reason}; write `sqlite://PATH` or `postgres://USER@HOST/NAME`"
    )]
    Address { url: String, reason: &'static str },

    #[error(
        "the store has migration {store} but this program knows only up to {known}; start the program that wrote it, or a newer one"
    )]
    Newer { store: i64, known: i64 },

    #[error(
        "the store has migration {store} and this program would migrate it to {known}; look at it with the program that wrote it"
    )]
    Older { store: i64, known: i64 },

    #[error(
        "the store could not be migrated; restore it from a backup or ask for help with this message"
    )]
    Migration(#[source] Box<MigrateError>),

    #[error("{what} `{name}` does not exist; create it first")]
    NotFound { what: &'static str, name: String },

    #[error("{what} `{name}` exists already; drop it first or choose another name")]
    Exists { what: &'static str, name: String },

    #[error("{what} `{name}` cannot be changed; write a new version")]
    Immutable { what: &'static str, name: String },

    #[error("`{value}` is not a valid {what}; {expected}")]
    Invalid {
        what: &'static str,
        value: String,
        expected: &'static str,
    },

    #[error(
        "the space of project `{project}` changed since snapshot {base}, it is now at {current}; run the statement again"
    )]
    Conflict {
        project: String,
        base: i64,
        current: i64,
    },

    #[error(
        "the keys of project `{project}` were dropped while this was written; run the statement again"
    )]
    KeyDropped { project: String },

    #[error("rights changed while this was written, and nothing was; run the statement again")]
    RightsChanged,

    #[error(
        "the space would hold {used} bytes, its quota is {quota}; drop tables or ask for a larger quota"
    )]
    QuotaExceeded { used: i64, quota: i64 },

    #[error(
        "the space would hold {held} bytes with the files that were replaced lately, and it may hold {max}; wait until those are removed or ask for a larger quota"
    )]
    HeldExceeded { held: i64, max: i64 },

    #[error("the space would have more than {max} {what}; drop some or ask for more")]
    TooMany { what: &'static str, max: i64 },

    #[error(
        "the master secret does not belong to this store; put back the secret file that was made with it"
    )]
    WrongSecret,

    #[error(transparent)]
    Keys(#[from] KeyError),

    #[error("the system gave no random bytes; try again")]
    Random,

    #[error("the password could not be hashed; try another password")]
    Password,

    #[error("the store holds an unreadable {what}; restore it from a backup")]
    Corrupt { what: &'static str },

    /// Full, locked, read-only or unreachable: the same call may succeed later.
    #[error("the store cannot be used now; check its disk space, its permissions and its server")]
    Unavailable(#[source] sqlx::Error),

    #[error("the store refused a statement; report this as a bug")]
    Database(#[source] sqlx::Error),
}

impl StoreError {
    /// True when the store itself is unfit (full, locked, read-only, gone), whatever was asked.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }

    /// True when a commit of a space was refused, so that it certainly changed nothing.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            StoreError::Conflict { .. }
                | StoreError::KeyDropped { .. }
                | StoreError::RightsChanged
                | StoreError::QuotaExceeded { .. }
                | StoreError::HeldExceeded { .. }
                | StoreError::TooMany { .. }
                | StoreError::Exists { .. }
                | StoreError::NotFound { .. }
                | StoreError::Invalid { .. }
        )
    }

    /// True when a row with the same key exists already.
    pub fn is_duplicate(&self) -> bool {
        matches!(self, StoreError::Database(error)
            if error.as_database_error().is_some_and(|e| e.is_unique_violation()))
    }

    /// True when a concurrent transaction made this one fail and running it again is right.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(error)
            if error.as_database_error().and_then(|e| e.code()).is_some_and(|code|
                matches!(code.as_ref(), "40001" | "40P01")))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if unfit(&error) {
            StoreError::Unavailable(error)
        } else {
            StoreError::Database(error)
        }
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)
                if unfit(&error) =>
            {
                StoreError::Unavailable(error)
            }
            other => StoreError::Migration(Box::new(other)),
        }
    }
}

/// Whether the store failed, rather than what was asked of it.
fn unfit(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| code_is_unfit(&code)),
        _ => false,
    }
}

/// SQLite's codes are decimal numbers whose low byte is the primary result code (sqlite.org,
/// "Result and Error Codes"); PostgreSQL's are five characters whose first two are the class
/// (PostgreSQL manual, appendix A).
fn code_is_unfit(code: &str) -> bool {
    // BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB.
    const SQLITE: [i64; 9] = [5, 6, 8, 10, 11, 13, 14, 15, 26];
    // Connection, login, database, serialization, resources, operator, system.
    const POSTGRES_CLASSES: [&str; 7] = ["08", "28", "3D", "40", "53", "57", "58"];
    // Read-only transaction, lock not available.
    const POSTGRES: [&str; 2] = ["25006", "55P03"];
    // Numbers of SQLite have at most four digits, but for extended codes below 10,000.
    if code.len() == 5 {
        return POSTGRES.contains(&code)
            || POSTGRES_CLASSES.iter().any(|class| code.starts_with(class));
    }
    code.parse::<i64>()
        .is_ok_and(|number| SQLITE.contains(&(number & 0xff)))
}
