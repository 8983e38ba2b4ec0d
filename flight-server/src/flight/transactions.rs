//! The actions of transactions on the project's space. Savepoints are not offered.

use std::sync::Arc;

use arrow_flight::sql::{
    ActionBeginTransactionResult, ActionEndTransactionRequest, ProstMessageExt,
};
use bytes::Bytes;
use prost::Message;
use uuid::Uuid;

use super::call::Caller;
use crate::error::{Error, ErrorKind, Result};
use crate::hub::Hub;
use crate::statement;

/// `ActionEndTransactionRequest.EndTransaction` of the protocol.
const COMMIT: i32 = 1;
const ROLLBACK: i32 = 2;

/// Begins a transaction, of the project of its first statement. It costs nothing until it changes
/// something.
pub fn begin(hub: &Arc<Hub>, caller: &Caller) -> Result<Vec<u8>> {
    let session = &caller.principal.session;
    let id = hub.transactions.begin(session)?;
    hub.prepared.join(id, session);
    let transaction_id = Bytes::copy_from_slice(id.as_bytes());
    let result = ActionBeginTransactionResult { transaction_id };
    Ok(result.as_any().encode_to_vec())
}

/// Commits a transaction or rolls it back. To roll back what has ended without a commit is no error:
/// nothing of it is kept, and clients whose commit was refused do so before they begin the next.
pub async fn end(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: ActionEndTransactionRequest,
) -> Result<()> {
    let id = named(&request.transaction_id)?;
    if matches!(request.action, COMMIT | ROLLBACK) {
        hub.prepared.leave(id, &caller.principal.session);
    }
    match request.action {
        COMMIT => statement::commit(hub, caller, id).await,
        ROLLBACK => roll_back(hub, caller, id),
        other => Err(Error::invalid(format!(
            "`{other}` is no way to end a transaction; it is committed ({COMMIT}) or rolled back \
             ({ROLLBACK})"
        ))),
    }
}

fn roll_back(hub: &Arc<Hub>, caller: &Caller, id: Uuid) -> Result<()> {
    if hub.transactions.was_committed(id) {
        return Err(Error::new(
            ErrorKind::Aborted,
            "the transaction was committed, or is being; look at what it changed",
        ));
    }
    let person = &caller.principal.person.id;
    if hub
        .transactions
        .find(id, person, &hub.config.limits)
        .is_ok()
    {
        hub.transactions.roll_back(id);
    }
    Ok(())
}

/// The transaction that a command names; an empty name is none.
///
/// # Errors
/// `InvalidArgument` for what no transaction is called.
pub fn of(id: Option<&Bytes>) -> Result<Option<Uuid>> {
    match id {
        Some(id) if !id.is_empty() => named(id).map(Some),
        _ => Ok(None),
    }
}

fn named(id: &[u8]) -> Result<Uuid> {
    Uuid::from_slice(id).map_err(|_| {
        Error::invalid("there is no such transaction; its name is what BeginTransaction answered")
    })
}
