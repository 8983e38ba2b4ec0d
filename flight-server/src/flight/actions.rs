//! DoAction and ListActions: what is offered, and prepared statements.

use std::sync::Arc;

use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    ActionBeginTransactionRequest, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Any, ProstMessageExt,
};
use arrow_flight::{Action, ActionType, IpcMessage, SchemaAsIpc};
use futures::StreamExt;
use hubflight_wire::messages::ActionCreatePreparedStatementResult;
use prost::Message;
use tonic::Response;

use super::call::Caller;
use super::{Answer, BoxStream, options, tickets, transactions};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::statement::{self, Text};

/// Name and description of each action that is offered.
const ACTIONS: [(&str, &str); 10] = [
    ("CreatePreparedStatement", "prepares a SQL statement"),
    ("ClosePreparedStatement", "forgets a prepared statement"),
    (
        "BeginTransaction",
        "begins a transaction on the project's space",
    ),
    ("EndTransaction", "commits a transaction or rolls it back"),
    (
        "CancelFlightInfo",
        "stops the executions of a flight info, and withdraws its tickets",
    ),
    ("CancelQuery", "the same (older form)"),
    (
        "RenewFlightEndpoint",
        "gives an endpoint whose ticket lives longer",
    ),
    ("SetSessionOptions", "sets options of the session"),
    ("GetSessionOptions", "lists the options of the session"),
    (
        "CloseSession",
        "stops the session's statements, and forgets what it prepared and set",
    ),
];

pub fn list() -> Response<BoxStream<ActionType>> {
    let types = ACTIONS.map(|(name, description)| {
        Ok(ActionType {
            r#type: name.into(),
            description: description.into(),
        })
    });
    Response::new(futures::stream::iter(types).boxed())
}

pub async fn do_action(
    hub: &Arc<Hub>,
    caller: &Caller,
    action: Action,
) -> Answer<BoxStream<arrow_flight::Result>> {
    let body = action.body.as_ref();
    let reply = match action.r#type.as_str() {
        "CreatePreparedStatement" => Some(prepare(hub, caller, unpack(body)?).await?),
        "ClosePreparedStatement" => {
            let request: ActionClosePreparedStatementRequest = unpack(body)?;
            let handle = &request.prepared_statement_handle;
            hub.prepared.close(handle, &caller.principal);
            None
        }
        "BeginTransaction" => {
            let _: ActionBeginTransactionRequest = unpack(body)?;
            Some(transactions::begin(hub, caller)?)
        }
        "EndTransaction" => {
            transactions::end(hub, caller, unpack(body)?).await?;
            None
        }
        "CancelFlightInfo" => Some(tickets::cancel_flight(hub, caller, decode(body)?)?),
        "CancelQuery" => Some(tickets::cancel_query(hub, caller, unpack(body)?)?),
        "RenewFlightEndpoint" => Some(tickets::renew(hub, caller, decode(body)?)?),
        "SetSessionOptions" => Some(options::set(hub, caller, decode(body)?)?),
        "GetSessionOptions" => Some(options::get(caller)),
        "CloseSession" => Some(options::close(hub, caller)),
        other => {
            let names = ACTIONS.map(|(name, _)| name).join(", ");
            return Err(Error::unimplemented(format!(
                "action `{other}` is not offered; there are {names}"
            ))
            .into());
        }
    };
    let replies = reply.map(|body| Ok(arrow_flight::Result { body: body.into() }));
    Ok(Response::new(futures::stream::iter(replies).boxed()))
}

pub fn decode<M: Message + Default>(body: &[u8]) -> Result<M> {
    M::decode(body).map_err(|_| unreadable())
}

fn unpack<M: ProstMessageExt + Default>(body: &[u8]) -> Result<M> {
    let any: Any = decode(body)?;
    let message = any.unpack().map_err(|_| unreadable())?;
    message.ok_or_else(|| Error::invalid("the body of the action is of another type"))
}

fn unreadable() -> Error {
    Error::invalid("the body of the action cannot be read")
}

async fn prepare(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: ActionCreatePreparedStatementRequest,
) -> Result<Vec<u8>> {
    let transaction = transactions::of(request.transaction_id.as_ref())?;
    let text = Text::new(request.query).within(transaction);
    let described = statement::describe(hub, caller, &text).await?;
    let handle = hub.prepared.put(text, &caller.principal)?;
    // Serialised schemas even where they have no field: empty bytes break R's drivers, and a
    // schema without fields is how JDBC knows an update.
    let result = ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle,
        dataset_schema: serialised(&described.schema)?,
        parameter_schema: serialised(&described.parameters)?,
        is_update: Some(described.changes),
    };
    Ok(result.as_any().encode_to_vec())
}

fn serialised(schema: &arrow::datatypes::Schema) -> Result<bytes::Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}
