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

/// Begins a transaction in the session's project. It costs nothing until it changes something.
pub fn begin(hub: &Arc<Hub>, caller: &Caller) -> Result<Vec<u8>> {
    let principal = &caller.principal;
    let id = hub
        .transactions
        .begin(principal.project()?, &principal.session)?;
    let transaction_id = Bytes::copy_from_slice(id.as_bytes());
    Ok(ActionBeginTransactionResult { transaction_id }
        .as_any()
        .encode_to_vec())
}

/// Commits a transaction or rolls it back. To roll back what has ended already is no error: nothing
/// of it is kept, and drivers whose commit failed do so before they begin the next.
pub async fn end(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: ActionEndTransactionRequest,
) -> Result<()> {
    let id = named(&request.transaction_id)?;
    match request.action {
        COMMIT => statement::commit(hub, caller, id).await,
        ROLLBACK => {
            let person = &caller.principal.person.id;
            match hub.transactions.find(id, person, &hub.config.limits) {
                Ok(_) => hub.transactions.end(id),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(())
        }
        other => Err(Error::invalid(format!(
            "`{other}` is no way to end a transaction; it is committed ({COMMIT}) or rolled back \
             ({ROLLBACK})"
        ))),
    }
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
