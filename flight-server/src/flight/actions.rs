//! DoAction and ListActions: prepared statements, session options, cancelling.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any, Command,
    ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
    IpcMessage, SchemaAsIpc,
};
use futures::StreamExt;
use hubflight_tickets::Ticket;
use prost::Message;
use tonic::Response;

use super::call::Caller;
use super::get_info::{command_of, no_transaction};
use super::session_messages::{
    CloseSessionResult, CloseSessionStatus, GetSessionOptionsResult, OptionError, OptionErrorKind,
    SessionOptionValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use super::{Answer, BoxStream};
use crate::auth::session::{OPTION_NAMES, SessionOptions};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::statement::{self, Text};

/// Name and description of each action that is offered.
const ACTIONS: [(&str, &str); 7] = [
    ("CreatePreparedStatement", "prepares a SQL statement"),
    ("ClosePreparedStatement", "forgets a prepared statement"),
    ("CancelFlightInfo", "stops the executions of a flight info"),
    (
        "CancelQuery",
        "stops the executions of a flight info (older form)",
    ),
    ("SetSessionOptions", "sets options of the session"),
    ("GetSessionOptions", "lists the options of the session"),
    ("CloseSession", "forgets the options of the session"),
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
        "CancelFlightInfo" => Some(cancel_flight(hub, caller, decode(body)?)?),
        "CancelQuery" => Some(cancel_query(hub, caller, unpack(body)?)?),
        "SetSessionOptions" => Some(set_options(hub, caller, decode(body)?)?),
        "GetSessionOptions" => Some(get_options(caller)),
        "CloseSession" => {
            hub.auth.sessions.close(&caller.principal.session);
            let status = CloseSessionStatus::Closed as i32;
            Some(CloseSessionResult { status }.encode_to_vec())
        }
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

fn decode<M: Message + Default>(body: &[u8]) -> Result<M> {
    M::decode(body).map_err(|_| Error::invalid("the body of the action cannot be read"))
}

fn unpack<M: ProstMessageExt + Default>(body: &[u8]) -> Result<M> {
    let any: Any = decode(body)?;
    any.unpack()
        .ok()
        .flatten()
        .ok_or_else(|| Error::invalid("the body of the action is of another type"))
}

async fn prepare(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: ActionCreatePreparedStatementRequest,
) -> Result<Vec<u8>> {
    no_transaction(request.transaction_id.as_ref())?;
    let text = Text::new(request.query);
    let described = statement::describe(hub, caller, &text).await?;
    let handle = hub.prepared.put(text, &caller.principal)?;
    // Serialised schemas even where they have no field: empty bytes break R's drivers, and a
    // schema without fields is how JDBC knows an update.
    let result = ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle,
        dataset_schema: serialised(&described.schema)?,
        parameter_schema: serialised(&described.parameters)?,
    };
    Ok(result.as_any().encode_to_vec())
}

fn serialised(schema: &arrow::datatypes::Schema) -> Result<bytes::Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default()).try_into()?;
    Ok(bytes)
}

fn set_options(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: SetSessionOptionsRequest,
) -> Result<Vec<u8>> {
    let mut options = caller.principal.options.clone();
    let mut errors = HashMap::new();
    for (name, value) in &request.session_options {
        if let Some(kind) = set_option(&mut options, caller, name, value) {
            let value = kind as i32;
            errors.insert(name.clone(), OptionError { value });
        }
    }
    hub.auth.sessions.put(&caller.principal.session, options)?;
    Ok(SetSessionOptionsResult { errors }.encode_to_vec())
}

fn set_option(
    options: &mut SessionOptions,
    caller: &Caller,
    name: &str,
    value: &SessionOptionValue,
) -> Option<OptionErrorKind> {
    if !OPTION_NAMES.contains(&name) && name != "timezone" {
        return Some(OptionErrorKind::InvalidName);
    }
    let Some(text) = value.as_text() else {
        return Some(OptionErrorKind::InvalidValue);
    };
    let is_foreign = name == "catalog"
        && !text.is_empty()
        && !caller.principal.catalogs().contains(&text.as_str());
    if is_foreign || options.set(name, &text).is_err() {
        return Some(OptionErrorKind::InvalidValue);
    }
    None
}

fn get_options(caller: &Caller) -> Vec<u8> {
    let mut session_options: HashMap<String, SessionOptionValue> = caller
        .principal
        .options
        .list()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), SessionOptionValue::text(value)))
        .collect();
    if let Ok(project) = caller.principal.project() {
        let project = SessionOptionValue::text(project.to_owned());
        session_options.insert("catalog".into(), project);
    }
    GetSessionOptionsResult { session_options }.encode_to_vec()
}

fn cancel_flight(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: CancelFlightInfoRequest,
) -> Result<Vec<u8>> {
    let info = request.info.unwrap_or_default();
    let status = cancel(hub, caller, &info)?;
    Ok(CancelFlightInfoResult::new(status).encode_to_vec())
}

fn cancel_query(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: ActionCancelQueryRequest,
) -> Result<Vec<u8>> {
    let info: FlightInfo = decode(&request.info)?;
    // The older message's results have the numbers of `CancelStatus`.
    let result = cancel(hub, caller, &info)? as i32;
    Ok(ActionCancelQueryResult { result }.as_any().encode_to_vec())
}

/// Stops the running executions of a flight info of the caller.
fn cancel(hub: &Arc<Hub>, caller: &Caller, info: &FlightInfo) -> Result<CancelStatus> {
    let mut cancelled = false;
    for ticket in info
        .endpoint
        .iter()
        .filter_map(|endpoint| endpoint.ticket.as_ref())
    {
        if let Command::TicketStatementQuery(statement) = command_of(&ticket.ticket)? {
            let person = &caller.principal.person.id;
            let handle = &statement.statement_handle;
            let ticket = Ticket::open(handle, &hub.tickets, person, caller.now)?;
            cancelled |= hub.running.cancel(ticket.statement_id, person);
        }
    }
    Ok(if cancelled {
        CancelStatus::Cancelled
    } else {
        CancelStatus::NotCancellable
    })
}
