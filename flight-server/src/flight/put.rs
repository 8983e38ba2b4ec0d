//! DoPut: updates, and the parameters of prepared statements.

use std::sync::Arc;

use arrow::ipc::root_as_message;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{Command, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{FlightData, PutResult};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tonic::{Response, Status, Streaming};

use super::call::Caller;
use super::get_info::{command_of, no_transaction};
use super::{Answer, BoxStream};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::plan::parameters;
use crate::statement::{Opened, Text};

pub async fn do_put(
    hub: &Arc<Hub>,
    caller: &Caller,
    mut stream: Streaming<FlightData>,
) -> Answer<BoxStream<PutResult>> {
    let first = stream.message().await?.unwrap_or_default();
    let descriptor = first
        .flight_descriptor
        .clone()
        .ok_or_else(|| Error::invalid("the first message of DoPut has no descriptor"))?;
    let metadata = match command_of(&descriptor.cmd)? {
        Command::CommandStatementUpdate(update) => {
            no_transaction(update.transaction_id.as_ref())?;
            change(hub, caller, Text::new(update.query)).await?
        }
        Command::CommandPreparedStatementUpdate(update) => {
            let mut text = hub
                .prepared
                .get(&update.prepared_statement_handle, &caller.principal)?;
            let bound = bound_rows(hub, first, stream).await?;
            if !bound.is_empty() {
                text.parameters = bound;
            }
            change(hub, caller, text).await?
        }
        Command::CommandPreparedStatementQuery(query) => {
            let handle = query.prepared_statement_handle;
            hub.prepared.get(&handle, &caller.principal)?;
            let bound = bound_rows(hub, first, stream).await?;
            hub.prepared.bind(&handle, &caller.principal, bound)?;
            DoPutPreparedStatementResult {
                prepared_statement_handle: Some(handle),
            }
            .encode_to_vec()
        }
        _ => {
            return Err(Error::unimplemented(
                "this DoPut command is not offered; there are updates and the parameters of \
                 prepared statements",
            )
            .into());
        }
    };
    let result = PutResult {
        app_metadata: metadata.into(),
    };
    Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
}

async fn change(hub: &Arc<Hub>, caller: &Caller, text: Text) -> Result<Vec<u8>> {
    match Opened::open(hub, caller, text).await? {
        Opened::Changed { rows } => Ok(DoPutUpdateResult {
            record_count: i64::try_from(rows).unwrap_or(i64::MAX),
        }
        .encode_to_vec()),
        Opened::Query { .. } => Err(Error::invalid(
            "this statement is a query; execute it as one to fetch its rows",
        )),
    }
}

/// The rows of parameters that a client sends, bounded in number; none is no error.
async fn bound_rows(
    hub: &Arc<Hub>,
    first: FlightData,
    stream: Streaming<FlightData>,
) -> Result<Vec<u8>> {
    let limits = &hub.config.limits;
    let messages = futures::stream::once(async { Ok(first) })
        .chain(stream)
        .map_err(|status: Status| FlightError::Tonic(Box::new(status)))
        // Some clients send the descriptor in a message of its own, without Arrow data.
        .try_filter(|message| std::future::ready(!message.data_header.is_empty()))
        .and_then(|message| std::future::ready(plain(message)));
    let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
    let mut kept = Vec::new();
    let (mut rows, mut values, mut bytes) = (0, 0, 0);
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(unreadable)?;
        rows += batch.num_rows();
        values += batch.num_rows() * batch.num_columns();
        bytes += batch.get_array_memory_size();
        if rows > limits.parameter_rows_max
            || values > limits.parameter_values_max
            || bytes > limits.message_bytes_max
        {
            return Err(Error::exhausted(format!(
                "at most {} rows, {} values and {} bytes of parameters can be bound at once",
                limits.parameter_rows_max, limits.parameter_values_max, limits.message_bytes_max
            )));
        }
        kept.push(batch);
    }
    match kept.first() {
        Some(batch) => parameters::encode(&batch.schema(), &kept),
        None => Ok(Vec::new()),
    }
}

/// Refuses compressed buffers: the decoder believes the length that the client writes before
/// each, and allocates it.
fn plain(message: FlightData) -> std::result::Result<FlightData, FlightError> {
    let refused = |why: &str| FlightError::Tonic(Box::new(Status::invalid_argument(why)));
    let header = root_as_message(&message.data_header)
        .map_err(|_| refused("a message of the bound parameters cannot be read"))?;
    let dictionary = header.header_as_dictionary_batch();
    let batches = [
        header.header_as_record_batch(),
        dictionary.and_then(|dictionary| dictionary.data()),
    ];
    if batches
        .iter()
        .flatten()
        .any(|batch| batch.compression().is_some())
    {
        return Err(refused(
            "the bound parameters are compressed; send them uncompressed",
        ));
    }
    Ok(message)
}

fn unreadable(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => Error::from(*status),
        other => Error::invalid(format!("the bound parameters cannot be read: {other}")),
    }
}
