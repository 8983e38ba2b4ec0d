//! What a client sends as Arrow messages: each is looked at before the decoder believes it.

use std::future::ready;
use std::panic::AssertUnwindSafe;

use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::Status;

/// What a client is told of what it sent.
type Result<T> = std::result::Result<T, Status>;

/// The schema, once, and the batches of `messages`; `what` names them in errors, and `check` is
/// asked of each message first. Nothing follows an error.
///
/// Arrow's decoder asserts some of what a message says of itself: who sends one that is not so has
/// an error.
pub fn decoded(
    what: &'static str,
    messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
    mut check: impl FnMut(&FlightData) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<DecodedPayload>> {
    let messages = messages
        .map_err(|status: Status| FlightError::Tonic(Box::new(status)))
        // Some clients send the descriptor in a message of its own, without Arrow data.
        .try_filter(|message| ready(!message.data_header.is_empty()))
        .and_then(move |message| {
            let checked = check(&message).and_then(|()| check_plain(what, &message));
            let refused = |status| FlightError::Tonic(Box::new(status));
            ready(checked.map(|()| message).map_err(refused))
        });
    let mut described = false;
    let decoded = AssertUnwindSafe(FlightDataDecoder::new(messages)).catch_unwind();
    decoded
        .map(move |decoded| match decoded {
            Ok(Ok(message)) => match message.payload {
                DecodedPayload::Schema(_) if std::mem::replace(&mut described, true) => {
                    Err(Status::invalid_argument(format!("{what} have two schemas")))
                }
                payload => Ok(payload),
            },
            Ok(Err(error)) => Err(unreadable(what, error)),
            Err(_) => Err(Status::invalid_argument(format!(
                "{what} cannot be read: a message is not what its header says"
            ))),
        })
        .scan(false, |failed, decoded| {
            let ended = std::mem::replace(failed, *failed || decoded.is_err());
            ready((!ended).then_some(decoded))
        })
        .boxed()
}

/// What a stream of rows consists of.
const KINDS: [MessageHeader; 3] = [
    MessageHeader::Schema,
    MessageHeader::DictionaryBatch,
    MessageHeader::RecordBatch,
];

/// Refuses messages that bring nothing, since the decoder passes over them and rows would be missing,
/// and what costs more than its bytes: compressed buffers, since the decoder believes the
/// length that the client writes before each and allocates it, and pieces of dictionaries, since
/// each is joined to a copy of all before it.
fn check_plain(what: &str, message: &FlightData) -> Result<()> {
    let header = root_as_message(&message.data_header)
        .map_err(|_| Status::invalid_argument(format!("a message of {what} cannot be read")))?;
    if !KINDS.contains(&header.header_type()) {
        return Err(Status::invalid_argument(format!(
            "a message of {what} is neither their schema, nor a dictionary, nor rows"
        )));
    }
    let dictionary = header.header_as_dictionary_batch();
    if dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
        return Err(Status::invalid_argument(format!(
            "{what} have a dictionary in pieces; send plain values"
        )));
    }
    let batches = [
        header.header_as_record_batch(),
        dictionary.and_then(|dictionary| dictionary.data()),
    ];
    let mut batches = batches.iter().flatten();
    if batches.any(|batch| batch.compression().is_some()) {
        return Err(Status::invalid_argument(format!(
            "{what} are compressed; send them uncompressed"
        )));
    }
    Ok(())
}

/// The dictionary that a message brings, by its number, with its bytes.
pub fn dictionary(message: &FlightData) -> Option<(i64, usize)> {
    let header = root_as_message(&message.data_header).ok()?;
    let dictionary = header.header_as_dictionary_batch()?;
    Some((dictionary.id(), message.data_body.len()))
}

fn unreadable(what: &str, error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::invalid_argument(format!("{what} cannot be read: {other}")),
    }
}
