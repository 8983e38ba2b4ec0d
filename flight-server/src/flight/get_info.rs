//! GetFlightInfo, GetSchema and PollFlightInfo: plan, authorise, answer a ticket.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{
    Any, Command, CommandPreparedStatementQuery, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, SchemaAsIpc, SchemaResult, Ticket,
};
use prost::Message;
use tonic::{Response, Status};

use super::call::Caller;
use super::{Answer, metadata};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::parameters;
use crate::statement::{self, Opened, Text};

pub async fn flight_info(
    hub: &Arc<Hub>,
    caller: &Caller,
    descriptor: FlightDescriptor,
) -> Answer<FlightInfo> {
    Ok(Response::new(info(hub, caller, descriptor).await?))
}

/// Complete at once: planning is all that happens before the data is fetched.
pub async fn poll_info(
    hub: &Arc<Hub>,
    caller: &Caller,
    descriptor: FlightDescriptor,
) -> Answer<PollInfo> {
    let info = info(hub, caller, descriptor).await?;
    Ok(Response::new(PollInfo {
        info: Some(info),
        flight_descriptor: None,
        progress: Some(1.0),
        expiration_time: None,
    }))
}

pub async fn schema(
    hub: &Arc<Hub>,
    caller: &Caller,
    descriptor: FlightDescriptor,
) -> Answer<SchemaResult> {
    let command = command_of(&descriptor.cmd)?;
    let schema = match text_of(hub, caller, &command)? {
        Some(text) => statement::describe(hub, caller, &text).await?.schema,
        None => metadata::schema(&command)?,
    };
    let result = SchemaAsIpc::new(&schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(Error::from)?;
    Ok(Response::new(result))
}

async fn info(
    hub: &Arc<Hub>,
    caller: &Caller,
    descriptor: FlightDescriptor,
) -> Result<FlightInfo, Status> {
    let command = command_of(&descriptor.cmd)?;
    let Some(text) = text_of(hub, caller, &command)? else {
        let schema = metadata::schema(&command)?;
        let ticket = Ticket::new(command.into_any().encode_to_vec());
        return Ok(flight(&schema, descriptor, Some(ticket))?);
    };
    match Opened::open(hub, caller, text).await? {
        Opened::Query { schema, handle } => {
            let ticket = TicketStatementQuery {
                statement_handle: handle.into(),
            };
            let ticket = Ticket::new(ticket.as_any().encode_to_vec());
            Ok(flight(&schema, descriptor, Some(ticket))?)
        }
        Opened::Changed { rows } => {
            let info = flight(&parameters::none(), descriptor, None)?;
            Ok(info.with_total_records(i64::try_from(rows).unwrap_or(i64::MAX)))
        }
    }
}

fn flight(
    schema: &SchemaRef,
    descriptor: FlightDescriptor,
    ticket: Option<Ticket>,
) -> Result<FlightInfo> {
    let mut info = FlightInfo::new()
        .try_with_schema(schema)?
        .with_descriptor(descriptor)
        .with_total_records(-1)
        .with_total_bytes(-1);
    if let Some(ticket) = ticket {
        // No location: the client fetches from where it asked.
        info = info.with_endpoint(FlightEndpoint::new().with_ticket(ticket));
    }
    Ok(info)
}

/// The Flight SQL command of some bytes.
pub fn command_of(bytes: &[u8]) -> Result<Command> {
    let wrong = || Error::invalid("this is no Flight SQL command");
    let any = Any::decode(bytes).map_err(|_| wrong())?;
    Command::try_from(any).map_err(|_| wrong())
}

/// The statement that a command runs; `None` for metadata.
fn text_of(hub: &Arc<Hub>, caller: &Caller, command: &Command) -> Result<Option<Text>> {
    match command {
        Command::CommandStatementQuery(query) => {
            no_transaction(query.transaction_id.as_ref())?;
            Ok(Some(Text::new(query.query.clone())))
        }
        Command::CommandPreparedStatementQuery(CommandPreparedStatementQuery {
            prepared_statement_handle: handle,
        }) => Ok(Some(hub.prepared.get(handle, &caller.principal)?)),
        other if metadata::handles(other) => Ok(None),
        _ => Err(Error::unimplemented(
            "this Flight SQL command is not offered; send SQL text",
        )),
    }
}

/// Transactions are not offered; an identifier of one is a client's mistake.
pub fn no_transaction(id: Option<&bytes::Bytes>) -> Result<()> {
    match id {
        Some(id) if !id.is_empty() => Err(Error::invalid(
            "there is no such transaction; transactions are not offered",
        )),
        _ => Ok(()),
    }
}
