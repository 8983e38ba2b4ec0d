//! The actions on the tickets of a flight info: cancelling and renewing.

use std::sync::Arc;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, Command, ProstMessageExt,
};
use arrow_flight::{
    CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest,
};
use bytes::Bytes;
use hubflight_tickets::{Ticket, TicketError, after};
use hubflight_wire::command_of;
use prost::Message;

use super::actions::decode;
use super::call::Caller;
use super::get_info::{CHANGED, endpoint};
use crate::error::{Error, Result};
use crate::hub::Hub;

pub fn cancel_flight(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: CancelFlightInfoRequest,
) -> Result<Vec<u8>> {
    let info = request.info.unwrap_or_default();
    let status = cancel(hub, caller, &info)?;
    Ok(CancelFlightInfoResult::new(status).encode_to_vec())
}

pub fn cancel_query(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: ActionCancelQueryRequest,
) -> Result<Vec<u8>> {
    let info: FlightInfo = decode(&request.info)?;
    // The older message's results have the numbers of `CancelStatus`.
    let result = cancel(hub, caller, &info)? as i32;
    Ok(ActionCancelQueryResult { result }.as_any().encode_to_vec())
}

/// Stops the running executions of a flight info of the caller, and withdraws its tickets: nothing
/// of it runs afterwards on this server. Metadata is neither.
///
/// # Errors
/// That of a ticket that is none of the caller's, after the others were gone through;
/// `ResourceExhausted` where nothing ran and too many are withdrawn.
fn cancel(hub: &Arc<Hub>, caller: &Caller, info: &FlightInfo) -> Result<CancelStatus> {
    let mut status = Ok(CancelStatus::NotCancellable);
    for endpoint in &info.endpoint {
        match cancel_endpoint(hub, caller, endpoint) {
            Ok(true) if status.is_ok() => status = Ok(CancelStatus::Cancelled),
            Ok(_) => {}
            Err(error) => status = status.and(Err(error)),
        }
    }
    status
}

/// Whether nothing of it runs any more.
fn cancel_endpoint(hub: &Arc<Hub>, caller: &Caller, endpoint: &FlightEndpoint) -> Result<bool> {
    // A statement outlives its ticket, which then is only its name.
    let Some(sealed) = sealed(endpoint)? else {
        return Ok(false);
    };
    let person = &caller.principal.person.id;
    let ticket = Ticket::open_expired(&sealed, &hub.tickets, person);
    let ticket = counted(hub, ticket)?;
    let statement = ticket.statement_id;
    let longest = after(ticket.now, hub.config.limits.ticket_life_seconds_max());
    let withdrawn = hub.withdrawn.add(person, statement, longest, caller.now);
    let ran = hub.running.cancel(statement, person);
    match withdrawn {
        // Another server of the same store may redeem it.
        Ok(()) => Ok(ran || !hub.store.is_shared()),
        Err(_) if ran => Ok(true),
        Err(error) => Err(error),
    }
}

/// The same endpoint with a ticket that lives longer. It is no more than the first was: who redeems
/// it is authorised anew.
pub fn renew(
    hub: &Arc<Hub>,
    caller: &Caller,
    request: RenewFlightEndpointRequest,
) -> Result<Vec<u8>> {
    let given = request.endpoint.unwrap_or_default();
    let Some(sealed) = sealed(&given)? else {
        return Err(Error::invalid(
            "this endpoint does not expire; only those of statements are renewed",
        ));
    };
    let person = &caller.principal.person.id;
    let ticket = Ticket::open(&sealed, &hub.tickets, person, caller.now);
    let ticket = counted(hub, ticket)?;
    if !ticket.renewable {
        return Err(Error::denied(
            "what shows a secret is read at once, and never again",
        ));
    }
    hub.withdrawn.check(&ticket.person, ticket.statement_id)?;
    let limits = &hub.config.limits;
    let longest = limits.ticket_life_seconds_max();
    let renewed = ticket.renewed(caller.now, limits.ticket_seconds_max, longest);
    let handle = renewed.seal(&hub.tickets)?;
    let expires = renewed.part.is_none().then_some(renewed.expires);
    Ok(endpoint(handle, expires, renewed.statement_id).encode_to_vec())
}

/// The sealed ticket of an endpoint; none where it is one of metadata, or of a change that has run.
fn sealed(endpoint: &FlightEndpoint) -> Result<Option<Bytes>> {
    let Some(ticket) = &endpoint.ticket else {
        return Ok(None);
    };
    Ok(match command_of(&ticket.ticket)? {
        Command::TicketStatementQuery(ticket) => {
            Some(ticket.statement_handle).filter(|handle| handle != CHANGED)
        }
        _ => None,
    })
}

/// Whoever tries tickets that are none is counted.
fn counted(hub: &Hub, opened: Result<Ticket, TicketError>) -> Result<Ticket> {
    opened
        .map_err(Error::from)
        .inspect_err(|error| hub.metrics.refused(error.kind))
}
