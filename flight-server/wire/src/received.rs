//! What a client sends as Arrow messages: each is looked at before the decoder believes it.

use std::future::ready;
use std::panic::AssertUnwindSafe;

use arrow::datatypes::{DataType, Schema};
use arrow::ipc::{self, Message, MessageHeader, root_as_message_with_opts};
use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use flatbuffers::VerifierOptions;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use known::Known;
use parts::Parts;
use tonic::Status;

mod known;
mod parts;

/// What a client is told of what it sent.
type Result<T> = std::result::Result<T, Status>;

/// How often over the bytes of a header may be read where its parts are followed: an honest writer
/// names no part twice, and each part is read with the layout of its table.
const HEADER_READ_MAX: usize = 8;
/// The same for headers of a few bytes.
const HEADER_READ_FREE: usize = 64 << 10;
/// Bytes of the smallest table: where its layout is, and where it is named.
const TABLE_BYTES_MIN: usize = 8;
/// Tables of headers of a few bytes.
const TABLES_FREE: usize = 16;
/// Tables of any header: a column is two or three of them, and takes some 200 bytes of memory.
const TABLES_MAX: usize = 1 << 18;

/// Values without bytes in a message, as NULLs of no type: where they may not be NULL, the decoder
/// makes a bit of each.
const BARE_VALUES_MAX: u64 = 1 << 24;

/// The schema, once, and the batches of `messages`; `what` names them in errors, and `check` is
/// asked of each message before it is decoded. Nothing follows an error.
///
/// The texts that views in a message lead to are `bytes_max` at most, however few bytes they share.
/// Arrow's decoder asserts some of what a message says of itself: who sends one that is not so has
/// an error.
pub fn decoded(
    what: &'static str,
    bytes_max: usize,
    messages: impl Stream<Item = Result<FlightData>> + Send + 'static,
    mut check: impl FnMut(&FlightData) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<DecodedPayload>> {
    let mut doubt = Doubt {
        what,
        bytes_max: bytes_max as u64,
        schema: None,
    };
    let messages = messages
        .map_err(|status: Status| FlightError::Tonic(Box::new(status)))
        // Some clients send the descriptor in a message of its own, without Arrow data.
        .try_filter(|message| ready(!message.data_header.is_empty()))
        .and_then(move |message| {
            let checked = doubt.check(&message).and_then(|()| check(&message));
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
            Err(_) => Err(unlike(what)),
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

/// Looks at messages before the decoder does.
struct Doubt {
    what: &'static str,
    bytes_max: u64,
    /// What it knows of it, and how many of its fields it may still look through.
    schema: Option<Known>,
}

impl Doubt {
    /// Refuses messages that bring nothing, since the decoder passes over them and rows would be
    /// missing, and what costs more than its bytes: compressed buffers, since the decoder believes the
    /// length that the client writes before each and allocates it, pieces of dictionaries, since each
    /// is joined to a copy of all before it, buffers that overlap, views of the same texts, and many
    /// dictionaries of few bytes beside many fields.
    fn check(&mut self, message: &FlightData) -> Result<()> {
        let what = self.what;
        let header = header(message).ok_or_else(|| {
            Status::invalid_argument(format!("a message of {what} cannot be read"))
        })?;
        if !KINDS.contains(&header.header_type()) {
            return Err(Status::invalid_argument(format!(
                "a message of {what} is neither their schema, nor a dictionary, nor rows"
            )));
        }
        if header.header_as_schema().is_some() {
            // What is none is the decoder's to refuse.
            self.schema = Schema::try_from(message).ok().map(Known::of);
            return Ok(());
        }
        let dictionary = header.header_as_dictionary_batch();
        if let Some(schema) = &mut self.schema {
            let bytes = message.data_header.len() + message.data_body.len();
            let paid = schema.pay(bytes, dictionary.is_some());
            paid.ok_or_else(|| too_many_dictionaries(what))?;
        }
        if dictionary.is_some_and(|dictionary| dictionary.isDelta()) {
            return Err(Status::invalid_argument(format!(
                "{what} have a dictionary in pieces; send plain values"
            )));
        }
        let batches = [
            header.header_as_record_batch(),
            dictionary.and_then(|dictionary| dictionary.data()),
        ];
        let columns = self.columns(dictionary.map(|dictionary| dictionary.id()));
        for batch in batches.into_iter().flatten() {
            if batch.compression().is_some() {
                return Err(Status::invalid_argument(format!(
                    "{what} are compressed; send them uncompressed"
                )));
            }
            check_buffers(what, &batch, &message.data_body)?;
            let parts = Parts::new(header.version(), &batch, &message.data_body);
            let mut parts = parts.ok_or_else(|| unlike(what))?;
            let mut columns = columns.iter();
            let taken = columns.try_for_each(|column| parts.take(column));
            taken.ok_or_else(|| unlike(what))?;
            self.check_cost(&parts)?;
        }
        Ok(())
    }

    /// The types of a batch's columns, or of a dictionary's values, as the decoder finds them; none
    /// where it finds none, and refuses the batch.
    fn columns(&self, dictionary: Option<i64>) -> Vec<&DataType> {
        match (&self.schema, dictionary) {
            (None, _) => Vec::new(),
            (Some(schema), None) => schema.columns(),
            (Some(schema), Some(id)) => schema.values(id).into_iter().collect(),
        }
    }

    fn check_cost(&self, parts: &Parts<'_>) -> Result<()> {
        let Self {
            what, bytes_max, ..
        } = self;
        if parts.viewed > *bytes_max {
            return Err(Status::resource_exhausted(format!(
                "{what} have views of {} bytes in one message, which may have {bytes_max}; send \
                 fewer rows in each",
                parts.viewed
            )));
        }
        if parts.bare > BARE_VALUES_MAX {
            return Err(Status::resource_exhausted(format!(
                "{what} have {} values without bytes in one message, which may have \
                 {BARE_VALUES_MAX}; send fewer rows in each",
                parts.bare
            )));
        }
        Ok(())
    }
}

/// Refuses buffers that are not in the body, and more than it holds: the decoder copies each that is
/// not aligned, so that buffers which are the same bytes would be as many copies.
fn check_buffers(what: &str, batch: &ipc::RecordBatch<'_>, body: &[u8]) -> Result<()> {
    let mut buffers = batch.buffers().into_iter().flatten();
    let bytes = buffers.try_fold(0_usize, |sum, buffer| {
        sum.checked_add(part(body, buffer)?.len())
    });
    match bytes {
        Some(bytes) if bytes <= body.len() => Ok(()),
        Some(bytes) => Err(Status::invalid_argument(format!(
            "{what} have buffers of {bytes} bytes in a body of {}; send no byte twice",
            body.len()
        ))),
        None => Err(unlike(what)),
    }
}

/// The bytes that a buffer is; none where they are not in the body.
fn part<'a>(body: &'a [u8], buffer: &ipc::Buffer) -> Option<&'a [u8]> {
    let start = usize::try_from(buffer.offset()).ok()?;
    let length = usize::try_from(buffer.length()).ok()?;
    body.get(start..start.checked_add(length)?)
}

fn too_many_dictionaries(what: &str) -> Status {
    Status::resource_exhausted(format!(
        "{what} have too many dictionaries of few bytes for so many columns; send fewer columns, more \
         rows in each message, or plain values"
    ))
}

fn unlike(what: &str) -> Status {
    Status::invalid_argument(format!(
        "{what} cannot be read: a message is not what its header says"
    ))
}

/// The header, where it is one and names each of its parts about once: the decoder makes a text of
/// its own of each name, of however few bytes all of them are.
fn header(message: &FlightData) -> Option<Message<'_>> {
    let bytes = message.data_header.len();
    let options = VerifierOptions {
        max_tables: (bytes / TABLE_BYTES_MIN + TABLES_FREE).min(TABLES_MAX),
        max_apparent_size: bytes
            .saturating_mul(HEADER_READ_MAX)
            .saturating_add(HEADER_READ_FREE),
        ..VerifierOptions::default()
    };
    root_as_message_with_opts(&options, &message.data_header).ok()
}

/// The dictionary that a message brings, by its number, with its bytes.
pub fn dictionary(message: &FlightData) -> Option<(i64, usize)> {
    let header = header(message)?;
    let dictionary = header.header_as_dictionary_batch()?;
    Some((dictionary.id(), message.data_body.len()))
}

fn unreadable(what: &str, error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::invalid_argument(format!("{what} cannot be read: {other}")),
    }
}

#[cfg(test)]
mod tests;
