//! The server's one error: a closed kind, a text for the user, and the one map to gRPC.
//!
//! A text that reaches a client is written for it here; the texts of libraries are shown only
//! where they speak of the user's own statement (SQL) or of values that the user may read.

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use hubflight_ledger::LedgerError;
use hubflight_policy::PolicyError;
use hubflight_store::{KeyError, StoreError};
use hubflight_tickets::TicketError;
use hubflight_udfs::WorkError;
use tonic::{Code, Status};

/// Bytes of a text that a client is sent. It goes in a header, where most bytes take three, and of
/// headers there are clients that take 8 KiB: what is longer reaches them as another error.
const TEXT_BYTES_MAX: usize = 2_400;

/// What went wrong, as clients, metrics and the ledger count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    Unauthenticated,
    PermissionDenied,
    NotFound,
    InvalidArgument,
    ResourceExhausted,
    DeadlineExceeded,
    Cancelled,
    Unavailable,
    Unimplemented,
    Internal,
    /// Another statement was first, or a key went: the same one may succeed.
    Aborted,
}

impl ErrorKind {
    pub const ALL: [Self; 11] = [
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::InvalidArgument,
        Self::ResourceExhausted,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Unavailable,
        Self::Unimplemented,
        Self::Internal,
        Self::Aborted,
    ];

    /// The label of metrics and usage records.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::InvalidArgument => "invalid_argument",
            Self::ResourceExhausted => "resource_exhausted",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Unavailable => "unavailable",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Aborted => "aborted",
        }
    }

    /// True where the hub, not the user, failed: such work is free.
    pub fn is_hubs_fault(self) -> bool {
        matches!(self, Self::Internal | Self::Unavailable)
    }

    fn code(self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::NotFound => Code::NotFound,
            Self::InvalidArgument => Code::InvalidArgument,
            Self::ResourceExhausted => Code::ResourceExhausted,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Cancelled => Code::Cancelled,
            Self::Unavailable => Code::Unavailable,
            Self::Unimplemented => Code::Unimplemented,
            Self::Internal => Code::Internal,
            Self::Aborted => Code::Aborted,
        }
    }
}

/// An error whose text may be shown to the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    pub kind: ErrorKind,
    text: String,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, text)
    }

    pub fn denied(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::PermissionDenied, text)
    }

    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, text)
    }

    pub fn exhausted(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::ResourceExhausted, text)
    }

    pub fn unauthenticated(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unauthenticated, text)
    }

    pub fn unimplemented(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unimplemented, text)
    }

    /// A failure while a file of the hub is written or read. A full disk is not the user's
    /// doing, who has a quota: the statement is free.
    pub fn of_disk(cause: &std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        let own = cause
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Self>());
        match (own, cause.kind()) {
            (Some(own), _) => own.clone(),
            (None, StorageFull | QuotaExceeded | FileTooLarge) => Self::new(
                ErrorKind::Unavailable,
                "the hub's disk is full and nothing was changed; try again later, or tell an \
                 administrator",
            ),
            (None, _) => Self::internal("a file of the hub cannot be written or read", cause),
        }
    }

    /// A failure of the hub itself: the cause goes to the log, never to the client.
    pub fn internal(what: &str, cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "{what}");
        Self::new(
            ErrorKind::Internal,
            "the hub failed on this request, which is not charged; try again, or give the \
             request's identifier to an administrator",
        )
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::new(error.kind.code(), shortened(error.text))
    }
}

/// The begin and the end of a text that repeats a long one of the user's.
fn shortened(text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let head = text.floor_char_boundary(TEXT_BYTES_MAX * 2 / 3);
    let tail = text.ceil_char_boundary(text.len() - TEXT_BYTES_MAX / 3);
    let left_out = tail - head;
    format!("{} … ({left_out} bytes) … {}", &text[..head], &text[tail..])
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let kind = ErrorKind::ALL
            .into_iter()
            .find(|kind| kind.code() == status.code())
            .unwrap_or(ErrorKind::Internal);
        Self::new(kind, status.message())
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        from_datafusion(&error)
    }
}

impl From<ArrowError> for Error {
    fn from(error: ArrowError) -> Self {
        from_arrow(&error)
    }
}

fn from_datafusion(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) => from_datafusion(inner),
        DataFusionError::Diagnostic(diagnostic, inner) => {
            let mut found = from_datafusion(inner);
            if let Some(span) = diagnostic.span {
                found.text = format!(
                    "{} at line {}, column {}",
                    found.text, span.start.line, span.start.column
                );
            }
            found
        }
        DataFusionError::Shared(inner) => from_datafusion(inner),
        DataFusionError::Collection(errors) => errors.first().map_or_else(
            || Error::internal("an empty collection of errors", error),
            from_datafusion,
        ),
        DataFusionError::External(inner) => from_external(inner.as_ref()),
        DataFusionError::SQL(parse, _) => Error::invalid(format!("SQL: {parse}")),
        DataFusionError::Plan(text) if shows_a_plan(text) => {
            tracing::warn!(%text, "a plan was refused");
            Error::invalid(
                "this statement cannot be run as it was planned; write it in another way",
            )
        }
        DataFusionError::Plan(text) => Error::invalid(text.clone()),
        DataFusionError::SchemaError(schema, _) => Error::invalid(schema_text(schema)),
        DataFusionError::NotImplemented(text) => {
            Error::invalid(format!("not available in SQL here: {text}"))
        }
        DataFusionError::Configuration(text) | DataFusionError::Execution(text) => {
            Error::invalid(text.clone())
        }
        DataFusionError::ArrowError(inner, _) => from_arrow(inner),
        DataFusionError::ResourcesExhausted(text) => {
            tracing::info!(%text, "a query met its memory limit");
            Error::exhausted(
                "the statement needs more memory than it may use; select fewer columns or \
                 rows, or ask an administrator for a larger limit",
            )
        }
        DataFusionError::ObjectStore(cause) => unreadable(cause),
        DataFusionError::IoError(cause) => Error::of_disk(cause),
        DataFusionError::ParquetError(cause) => from_parquet(cause),
        DataFusionError::ExecutionJoin(join) if join.is_cancelled() => {
            Error::new(ErrorKind::Cancelled, "the statement was cancelled")
        }
        other => Error::internal("a query failed inside", other),
    }
}

/// True where an error tells how a statement would run, and so of files and of the barrier: checks of
/// physical plans print them.
fn shows_a_plan(text: &str) -> bool {
    text.contains("Exec:") || text.contains("file_groups")
}

/// The planner's text for a missing column lists every valid one, which may be hundreds.
fn schema_text(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let mut names: Vec<String> = valid_fields
                .iter()
                .map(|column| column.name.clone())
                .collect();
            names.dedup();
            let more = names.len().saturating_sub(12);
            names.truncate(12);
            let tail = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            if names.is_empty() {
                format!("column `{}` does not exist", field.name)
            } else {
                format!(
                    "column `{}` does not exist; there are {}{tail}",
                    field.name,
                    names.join(", ")
                )
            }
        }
        other => other.to_string(),
    }
}

fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => from_external(inner.as_ref()),
        ArrowError::CastError(text)
        | ArrowError::ParseError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::ArithmeticOverflow(text)
        | ArrowError::InvalidArgumentError(text) => Error::invalid(text.clone()),
        ArrowError::DivideByZero => Error::invalid("division by zero"),
        ArrowError::IoError(_, cause) => Error::of_disk(cause),
        other => Error::internal("Arrow failed", other),
    }
}

fn from_external(error: &(dyn std::error::Error + 'static)) -> Error {
    if let Some(own) = error.downcast_ref::<Error>() {
        Error::new(own.kind, own.text.clone())
    } else if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        from_datafusion(inner)
    } else if let Some(inner) = error.downcast_ref::<ArrowError>() {
        from_arrow(inner)
    } else if let Some(parquet) = error.downcast_ref::<ParquetError>() {
        from_parquet(parquet)
    } else if let Some(cause) = error.downcast_ref::<object_store::Error>() {
        unreadable(cause)
    } else if let Some(work) = error.downcast_ref::<WorkError>() {
        from_work(work)
    } else if let Some(policy) = error.downcast_ref::<PolicyError>() {
        from_policy(policy)
    } else {
        Error::internal("a part of the query failed", error)
    }
}

fn from_parquet(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => from_external(inner.as_ref()),
        other => Error::internal("a Parquet file cannot be read", other),
    }
}

/// A file or bucket that cannot be read: its place is for the log only.
fn unreadable(cause: &object_store::Error) -> Error {
    if let object_store::Error::Generic { source, .. } = cause
        && let Some(own) = source.downcast_ref::<Error>()
    {
        return own.clone();
    }
    tracing::error!(%cause, "a dataset's files cannot be read");
    Error::new(
        ErrorKind::Unavailable,
        "the files of a table cannot be read at present, which is not charged; try again later",
    )
}

fn from_work(error: &WorkError) -> Error {
    let kind = match error {
        WorkError::Unavailable { .. } => ErrorKind::Unavailable,
        WorkError::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        WorkError::RowFailed { .. } | WorkError::InvalidArgument(_) => ErrorKind::InvalidArgument,
        WorkError::Internal(_) => return Error::internal("a worker failed", error),
    };
    Error::new(kind, error.to_string())
}

fn from_policy(error: &PolicyError) -> Error {
    if error.is_denial() {
        Error::denied(error.to_string())
    } else {
        Error::internal("a habilitation cannot be applied", error)
    }
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        from_policy(&error)
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        tracing::error!(%error, "the ledger cannot be written");
        Error::new(
            ErrorKind::Unavailable,
            "the hub cannot record usage at present and serves nothing unrecorded; try again \
             later",
        )
    }
}

impl From<KeyError> for Error {
    fn from(error: KeyError) -> Self {
        tracing::error!(%error, "a key cannot be had");
        Error::new(
            ErrorKind::Unavailable,
            "the hub's keys cannot be had at present; try again later",
        )
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Error::new(
                ErrorKind::Aborted,
                "another statement changed this space at the same time; run the statement again",
            ),
            StoreError::KeyDropped { .. } => Error::new(
                ErrorKind::Aborted,
                "the keys of this space were dropped while the statement ran and nothing was \
                 changed; run the statement again",
            ),
            StoreError::RightsChanged => Error::new(
                ErrorKind::Aborted,
                "rights changed again and again while the statement was committed, and nothing \
                 was; run it again",
            ),
            StoreError::QuotaExceeded { used, quota } => Error::exhausted(format!(
                "the project's space would hold {used} bytes and its quota is {quota}; drop \
                 tables, or ask an administrator for a larger quota"
            )),
            StoreError::TooMany { what, max } => Error::exhausted(format!(
                "the project's space would have more than {max} {what}, the most that it may; drop \
                 some and wait until what was replaced lately is removed, or ask an administrator \
                 for more"
            )),
            StoreError::Keys(error) => error.into(),
            StoreError::Unavailable(error) => {
                tracing::error!(%error, "the store cannot be reached or written");
                Error::new(
                    ErrorKind::Unavailable,
                    "the hub's store cannot be reached or written at present; try again later",
                )
            }
            other => Error::internal("the store failed", &other),
        }
    }
}

impl From<TicketError> for Error {
    fn from(error: TicketError) -> Self {
        match &error {
            TicketError::Invalid | TicketError::Expired => Error::invalid(error.to_string()),
            TicketError::Ticket(cause) => Error::internal("a ticket cannot be written", cause),
            TicketError::Token(cause) => Error::internal("a token cannot be written", cause),
            TicketError::Seal(cause) => Error::internal("sealing failed", cause),
            TicketError::Random(cause) => Error::internal("the system gave no random bytes", cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_fits_in_the_headers_of_clients() {
        let said = |text: &str| Status::from(Error::invalid(text)).message().to_owned();
        let fits = "é".repeat(TEXT_BYTES_MAX / 2);
        assert_eq!(said(&fits), fits);
        for long in ["é".repeat(TEXT_BYTES_MAX), "x".repeat(1 << 20)] {
            let sent = said(&format!("table `{long}` does not exist; SHOW TABLES"));
            assert!(sent.len() < TEXT_BYTES_MAX + 50, "{}", sent.len());
            assert!(sent.starts_with("table `") && sent.ends_with("SHOW TABLES"));
        }
    }

    #[test]
    fn an_error_keeps_its_kind_through_datafusion_and_grpc() {
        for kind in ErrorKind::ALL {
            let wrapped = DataFusionError::from(Error::new(kind, "text")).context("planning");
            let error = Error::from(wrapped);
            assert_eq!(error.kind, kind);
            assert_eq!(Error::from(Status::from(error)).kind, kind);
        }
    }

    #[test]
    fn an_internal_error_tells_the_client_nothing_of_its_cause() {
        let error = Error::from(DataFusionError::Internal("/secret/path".into()));
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn files_that_cannot_be_read_are_unavailable_and_stay_unnamed() {
        let missing = || object_store::Error::NotFound {
            path: "/secret/path".into(),
            source: "gone".into(),
        };
        let direct = DataFusionError::from(missing());
        let nested = DataFusionError::from(ParquetError::External(Box::new(missing())));
        for error in [Error::from(direct), Error::from(nested)] {
            assert_eq!(error.kind, ErrorKind::Unavailable);
            assert!(!error.to_string().contains("secret"));
        }
    }

    #[test]
    fn tickets_that_are_not_taken_are_the_callers_mistake() {
        for (error, text) in [
            (
                TicketError::Invalid,
                "this is no valid ticket of yours; ask for the flight info again",
            ),
            (
                TicketError::Expired,
                "the ticket has expired; ask for the flight info again",
            ),
        ] {
            let error = Error::from(error);
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert_eq!(error.to_string(), text);
        }
    }
}
