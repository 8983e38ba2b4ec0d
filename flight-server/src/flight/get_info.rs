//! GetFlightInfo, GetSchema and PollFlightInfo: plan, authorise, answer a ticket. A descriptor is a
//! Flight SQL command, or the path of a table, which is all of its rows.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{
    Command, CommandPreparedStatementQuery, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, SchemaAsIpc, SchemaResult, Ticket,
};
use bytes::Bytes;
use chrono::{DateTime, Datelike, Utc};
use hubflight_wire::command_of;
use prost::Message;
use prost_types::Timestamp;
use tonic::{Response, Status};
use uuid::Uuid;

use super::call::Caller;
use super::{Answer, metadata, transactions};
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
    let schema = match Asked::of(hub, caller, &descriptor)? {
        Asked::Statement(text) => statement::describe(hub, caller, &text).await?.schema,
        Asked::Metadata(command) => metadata::schema(&command)?,
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
    let text = match Asked::of(hub, caller, &descriptor)? {
        Asked::Statement(text) => text,
        Asked::Metadata(command) => {
            let schema = metadata::schema(&command)?;
            let ticket = Ticket::new(command.into_any().encode_to_vec());
            let endpoint = FlightEndpoint::new().with_ticket(ticket);
            return Ok(flight(&schema, descriptor, Some(endpoint))?);
        }
    };
    match Opened::open(hub, caller, text).await? {
        Opened::Query {
            schema,
            handle,
            others,
            expires,
            ordered,
            statement,
        } => {
            // A part is fetched once: what has a time may be fetched again until then.
            let expires = others.is_empty().then_some(expires);
            let handles = std::iter::once(handle).chain(others);
            let endpoints = handles.map(|handle| endpoint(handle, expires, statement));
            let info = flight(&schema, descriptor, endpoints)?.with_ordered(ordered);
            Ok(info.with_app_metadata(statement.to_string()))
        }
        Opened::Changed { rows } => {
            let info = flight(&parameters::none(), descriptor, [nothing()])?;
            Ok(info.with_total_records(i64::try_from(rows).unwrap_or(i64::MAX)))
        }
    }
}

fn flight(
    schema: &SchemaRef,
    descriptor: FlightDescriptor,
    endpoints: impl IntoIterator<Item = FlightEndpoint>,
) -> Result<FlightInfo> {
    let mut info = FlightInfo::new()
        .try_with_schema(schema)?
        .with_descriptor(descriptor)
        .with_total_records(-1)
        .with_total_bytes(-1);
    for endpoint in endpoints {
        info = info.with_endpoint(endpoint);
    }
    Ok(info)
}

/// Where the rows of a statement are fetched, with what that is called, to look it up and to cancel
/// it. It has no location: that is where it was asked for.
pub fn endpoint(
    handle: Vec<u8>,
    expires: Option<DateTime<Utc>>,
    statement: Uuid,
) -> FlightEndpoint {
    let ticket = TicketStatementQuery {
        statement_handle: handle.into(),
    };
    FlightEndpoint {
        // Arrow's clients keep nanoseconds in 64 bits, which end in the year 2262.
        expiration_time: expires
            .filter(|at| at.year() < 2262)
            .map(|expires| Timestamp {
                seconds: expires.timestamp(),
                nanos: i32::try_from(expires.timestamp_subsec_nanos()).unwrap_or(0),
            }),
        app_metadata: statement.to_string().into(),
        ..FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()))
    }
}

/// What stands where a sealed ticket does in the endpoint of a change, which has run: of no statement,
/// and too short to be sealed.
pub const CHANGED: &[u8] = b"changed";

/// Where clients that fetch what any statement gives find that a change has no rows.
fn nothing() -> FlightEndpoint {
    let ticket = TicketStatementQuery {
        statement_handle: Bytes::from_static(CHANGED),
    };
    FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()))
}

/// What a descriptor asks for.
enum Asked {
    Statement(Text),
    Metadata(Command),
}

impl Asked {
    fn of(hub: &Arc<Hub>, caller: &Caller, descriptor: &FlightDescriptor) -> Result<Self> {
        match descriptor.r#type() {
            DescriptorType::Path => return Ok(Self::Statement(table_of(&descriptor.path)?)),
            DescriptorType::Cmd => {}
            DescriptorType::Unknown => {
                return Err(Error::invalid(
                    "the descriptor names neither a path nor a command",
                ));
            }
        }
        let command = command_of(&descriptor.cmd)?;
        Ok(match text_of(hub, caller, &command)? {
            Some(text) => Self::Statement(text),
            None => Self::Metadata(command),
        })
    }
}

/// All rows of the table of a path, as ListFlights gives it.
fn table_of(path: &[String]) -> Result<Text> {
    if path.is_empty() || path.len() > 3 {
        return Err(Error::invalid(
            "a path names a table by its project, schema and name, or by the last of them",
        ));
    }
    let quoted = path
        .iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    let name: Vec<String> = quoted.collect();
    Ok(Text::new(format!("SELECT * FROM {}", name.join("."))))
}

/// The statement that a command runs; `None` for metadata.
fn text_of(hub: &Arc<Hub>, caller: &Caller, command: &Command) -> Result<Option<Text>> {
    match command {
        Command::CommandStatementQuery(query) => {
            let transaction = transactions::of(query.transaction_id.as_ref())?;
            Ok(Some(Text::new(query.query.clone()).within(transaction)))
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
