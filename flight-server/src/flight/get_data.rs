//! DoGet: metadata at once and free, statements by their ticket.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::sql::Command;
use datafusion::execution::memory_pool::MemoryPool;
use futures::StreamExt;
use hubflight_tickets::Compression;
use hubflight_wire::{Message, command_of};
use tonic::Status;

use super::call::Caller;
use super::get_info::CHANGED;
use super::{BoxStream, alive, metadata};
use crate::error::{Error, Result};
use crate::exec::frames::{Frame, FrameWriter};
use crate::hub::Hub;
use crate::plan::parameters;
use crate::statement;

pub async fn do_get(
    hub: &Arc<Hub>,
    caller: &Caller,
    ticket: Ticket,
) -> Result<BoxStream<Message>, Status> {
    Ok(match command_of(&ticket.ticket)? {
        // A change has run when its ticket is given.
        Command::TicketStatementQuery(ticket) if ticket.statement_handle == CHANGED => {
            nothing(hub, caller)?
        }
        Command::TicketStatementQuery(ticket) => {
            let sealed = ticket.statement_handle;
            let person = &caller.principal.person.id;
            let ticket = hubflight_tickets::Ticket::open(&sealed, &hub.tickets, person, caller.now)
                .map_err(Error::from)
                .inspect_err(|error| hub.metrics.refused(error.kind))?;
            let messages = statement::redeem(hub, caller, ticket).await?;
            let seconds = hub.config.limits.keep_alive_seconds.max(1);
            alive::kept(messages, Duration::from_secs(seconds))
        }
        command if metadata::handles(&command) => answer(hub, caller, &command).await?,
        _ => {
            return Err(Error::invalid(
                "this is no ticket of this hub; ask for the flight info again",
            )
            .into());
        }
    })
}

async fn answer(hub: &Arc<Hub>, caller: &Caller, command: &Command) -> Result<BoxStream<Message>> {
    let batch = metadata::answer(hub, caller, command).await?;
    let frame_bytes_max = hub.config.limits.frame_bytes_max;
    let mut writer = FrameWriter::new(batch.schema(), Compression::None, frame_bytes_max)?;
    let mut frames = vec![writer.schema()];
    let (_, pool) = hub.engine.query_environment();
    let room: Arc<dyn MemoryPool> = pool;
    let mut chunks = writer.take(&batch, &room)?;
    chunks.extend(writer.rest());
    for rows in chunks {
        frames.push(writer.frame(&rows)?);
    }
    Ok(kept(caller, frames))
}

/// The result of a change: no columns, and no rows.
fn nothing(hub: &Hub, caller: &Caller) -> Result<BoxStream<Message>> {
    let frame_bytes_max = hub.config.limits.frame_bytes_max;
    let writer = FrameWriter::new(parameters::none(), Compression::None, frame_bytes_max)?;
    Ok(kept(caller, vec![writer.schema()]))
}

/// Frames that nobody reads take up one of their person's calls.
fn kept(caller: &Caller, frames: Vec<Frame>) -> BoxStream<Message> {
    let place = caller.place.clone();
    let frames = frames.into_iter().map(move |frame| {
        let _kept = &place;
        Ok(frame.message)
    });
    futures::stream::iter(frames).boxed()
}
