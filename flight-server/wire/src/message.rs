//! Batches as messages of Arrow, whose bodies are the batches' own buffers.
//!
//! `arrow_flight` copies each buffer into one body and that into a message. Here a message is a
//! list of pieces: large buffers as they lie in memory, and between them what is small, gathered.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::{FlightData, SchemaAsIpc};
use bytes::{BufMut, Bytes, BytesMut};

/// A buffer of fewer bytes is copied: a piece costs a frame of HTTP/2, and its way from the task of
/// the stream to that of the connection.
const PIECE_BYTES_MIN: usize = 64 << 10;
/// Memory that a message may keep, as a multiple of its bytes: a client that reads slowly keeps it
/// for as long as it likes.
const KEPT_MAX: usize = 2;
/// What the streaming format has before a message: a mark and the length of the header.
const PREFIX_BYTES: usize = 8;

/// The tags of FlightData's fields in protobuf: `data_header = 2`, `data_body = 1000`.
const HEADER_TAG: [u8; 1] = [0x12];
const BODY_TAG: [u8; 2] = [0xc2, 0x3e];
/// gRPC: whether a message is compressed, and its length (4 bytes).
const GRPC_PREFIX_BYTES: usize = 5;

/// One message of DoGet.
#[derive(Clone, Debug, Default)]
pub struct Message {
    header: Bytes,
    body: Vec<Bytes>,
    body_bytes: usize,
}

impl Message {
    /// The message of a schema.
    pub fn schema(schema: &Schema, options: &IpcWriteOptions) -> Self {
        FlightData::from(SchemaAsIpc::new(schema, options)).into()
    }

    /// The message of no rows of the schema that this one is.
    ///
    /// # Errors
    /// A message that is no schema, or of a schema that the encoder does not take.
    pub fn no_rows(&self) -> Result<Self, ArrowError> {
        let schema = Schema::try_from(&FlightData::from(self.clone()))?;
        let mut encoder = Encoder::new(&schema, IpcWriteOptions::default())?;
        encoder.encode(&RecordBatch::new_empty(Arc::new(schema)))
    }

    /// Bytes of Arrow: of the header and the body.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.body_bytes
    }

    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// The pieces of the message as gRPC sends it, in order.
    ///
    /// # Errors
    /// A message of 4 GiB or more, which gRPC cannot say the length of.
    pub fn into_grpc(self) -> Result<VecDeque<Bytes>, ArrowError> {
        let length =
            fields_bytes(&HEADER_TAG, self.header.len()) + fields_bytes(&BODY_TAG, self.body_bytes);
        let too_long = |_| ArrowError::InvalidArgumentError("a row of 4 GiB or more".to_owned());
        let length = u32::try_from(length).map_err(too_long)?;
        let mut head = BytesMut::with_capacity(GRPC_PREFIX_BYTES + self.header.len() + 32);
        head.put_u8(0);
        head.put_u32(length);
        put_field(&mut head, &HEADER_TAG, self.header.len());
        head.put_slice(&self.header);
        put_field(&mut head, &BODY_TAG, self.body_bytes);
        let mut pieces = Pieces::after(head);
        for piece in self.body {
            pieces.push(piece);
        }
        Ok(pieces.end())
    }
}

impl From<FlightData> for Message {
    fn from(data: FlightData) -> Self {
        Self {
            header: data.data_header,
            body_bytes: data.data_body.len(),
            body: vec![data.data_body],
        }
    }
}

/// With a copy of the body: for tests, and messages that have none.
impl From<Message> for FlightData {
    fn from(message: Message) -> Self {
        let mut body = BytesMut::with_capacity(message.body_bytes);
        message.body.iter().for_each(|piece| body.put_slice(piece));
        Self::new()
            .with_data_header(message.header)
            .with_data_body(body.freeze())
    }
}

/// Bytes of a field of so many bytes; none where it is empty, as protobuf leaves it out.
fn fields_bytes(tag: &[u8], bytes: usize) -> usize {
    match bytes {
        0 => 0,
        bytes => tag.len() + varint_bytes(bytes) + bytes,
    }
}

fn varint_bytes(number: usize) -> usize {
    let bits = (usize::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

/// What stands before a field's bytes.
fn put_field(out: &mut BytesMut, tag: &[u8], bytes: usize) {
    if bytes == 0 {
        return;
    }
    out.put_slice(tag);
    let mut rest = bytes;
    while rest > 0x7f {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// Pieces in order, of which small ones that meet are gathered.
struct Pieces {
    done: VecDeque<Bytes>,
    open: BytesMut,
}

impl Pieces {
    fn after(head: BytesMut) -> Self {
        Self {
            done: VecDeque::new(),
            open: head,
        }
    }

    fn push(&mut self, piece: Bytes) {
        if piece.len() < PIECE_BYTES_MIN {
            return self.copy(&piece);
        }
        self.close();
        self.done.push_back(piece);
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push_back(self.open.split().freeze());
        }
    }

    fn end(mut self) -> VecDeque<Bytes> {
        self.close();
        self.done
    }
}

/// Encodes the batches of one stream, which all have its schema.
pub struct Encoder(StreamEncoder);

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// # Errors
    /// A schema or compression that the format does not have.
    pub fn new(schema: &Schema, options: IpcWriteOptions) -> Result<Self, ArrowError> {
        let mut encoder = StreamEncoder::try_new_with_options(schema, options)?;
        // The first batch comes behind the schema, which is a message of its own here.
        encoder.encode(&RecordBatch::new_empty(Arc::new(schema.clone())))?;
        Ok(Self(encoder))
    }

    /// The message of a batch: the bytes of its rows and of no other, as Arrow's own writer has
    /// them.
    ///
    /// # Errors
    /// A batch that needs several messages, as one with dictionaries does.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Message, ArrowError> {
        let buffers = self.0.encode(batch)?;
        let (header, body) = split(&buffers)?;
        let body_bytes = body.iter().map(Buffer::len).sum();
        check(&header, body_bytes)?;
        let body = match kept_bytes(&body) <= body_bytes.saturating_mul(KEPT_MAX) {
            true => shared(body),
            false => vec![copied(&body, body_bytes)],
        };
        Ok(Message {
            header,
            body,
            body_bytes,
        })
    }
}

/// The header of the one message in `buffers`, and the pieces of its body.
fn split(buffers: &[Buffer]) -> Result<(Bytes, Vec<Buffer>), ArrowError> {
    let wrong = || ArrowError::IpcError("an encoded message has another form".to_owned());
    let (prefix, rest) = buffers.split_first().ok_or_else(wrong)?;
    let (header, rest) = rest.split_first().ok_or_else(wrong)?;
    let prefix: [u8; PREFIX_BYTES] = prefix.as_slice().try_into().map_err(|_| wrong())?;
    let [.., a, b, c, d] = prefix;
    let padded = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| wrong())?;
    let padding = padded.checked_sub(header.len()).ok_or_else(wrong)?;
    let rest = match (padding, rest.split_first()) {
        (0, _) => rest,
        (padding, Some((first, rest))) if first.len() == padding => rest,
        _ => return Err(wrong()),
    };
    Ok((Bytes::copy_from_slice(header), rest.to_vec()))
}

/// Refuses what is not one whole batch: a body in whose place other bytes stand.
fn check(header: &[u8], body_bytes: usize) -> Result<(), ArrowError> {
    let wrong = |problem: String| Err(ArrowError::IpcError(problem));
    let Ok(message) = root_as_message(header) else {
        return wrong("the header of an encoded message cannot be read".to_owned());
    };
    if message.header_type() != MessageHeader::RecordBatch {
        return wrong("a dictionary was left in a result".to_owned());
    }
    if usize::try_from(message.bodyLength()).ok() != Some(body_bytes) {
        return wrong("an encoded message has another length than it says".to_owned());
    }
    Ok(())
}

/// The memory behind `body`: each allocation once, whatever part of it is meant.
fn kept_bytes(body: &[Buffer]) -> usize {
    let mut seen = HashSet::with_capacity(body.len());
    let mut bytes = 0_usize;
    for buffer in body {
        if seen.insert(buffer.data_ptr()) {
            bytes = bytes.saturating_add(buffer.capacity());
        }
    }
    bytes
}

/// An Arrow buffer, as the owner of bytes.
struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn shared(body: Vec<Buffer>) -> Vec<Bytes> {
    let mut pieces = Pieces::after(BytesMut::new());
    for buffer in body {
        match buffer.len() < PIECE_BYTES_MIN {
            true => pieces.copy(&buffer),
            false => pieces.push(Bytes::from_owner(Owned(buffer))),
        }
    }
    pieces.end().into()
}

fn copied(body: &[Buffer], bytes: usize) -> Bytes {
    let mut copy = BytesMut::with_capacity(bytes);
    body.iter().for_each(|buffer| copy.put_slice(buffer));
    copy.freeze()
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Array, ArrayRef, BooleanArray, Decimal128Array, FixedSizeListArray, Int64Array, ListArray,
        NullArray, RecordBatchOptions, StringArray, StringViewArray, StructArray,
    };
    use arrow::datatypes::{DataType, Field, Int32Type};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext};
    use prost::Message as _;

    use super::*;

    fn array(array: impl Array + 'static) -> ArrayRef {
        Arc::new(array)
    }

    fn batch(rows: usize) -> RecordBatch {
        let texts = || (0..rows).map(|row| (row % 5 != 0).then(|| "é".repeat(row * 7 % 40)));
        let inner = Arc::new(Field::new("t", DataType::Utf8, true));
        let pairs = StringArray::from_iter_values((0..2 * rows).map(|item| "p".repeat(item % 13)));
        let lists = (0..rows).map(|row| {
            let items = (0..row % 9).map(|item| (item != 3).then_some(item as i32));
            (row % 4 != 0).then(|| items.collect::<Vec<_>>())
        });
        let numbers = Int64Array::from_iter((0..rows as i64).map(|n| (n % 3 != 0).then_some(n)));
        let structs = StructArray::from(vec![(
            Arc::clone(&inner),
            array(StringArray::from_iter(texts())),
        )]);
        RecordBatch::try_from_iter([
            ("number", array(numbers)),
            ("all", array(Int64Array::from_iter_values(0..rows as i64))),
            (
                "price",
                array(Decimal128Array::from_iter_values(
                    (0..rows).map(|n| n as i128),
                )),
            ),
            (
                "is",
                array(BooleanArray::from_iter((0..rows).map(|n| Some(n % 3 == 1)))),
            ),
            ("text", array(StringArray::from_iter(texts()))),
            ("view", array(StringViewArray::from_iter(texts()))),
            (
                "list",
                array(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)),
            ),
            ("struct", array(structs)),
            (
                "pair",
                array(FixedSizeListArray::new(inner, 2, array(pairs), None)),
            ),
            ("null", array(NullArray::new(rows))),
        ])
        .expect("valid")
    }

    /// As Arrow's own writer has it, which copies.
    fn copied_by_arrow(batch: &RecordBatch, options: &IpcWriteOptions) -> FlightData {
        let (mut ids, mut context) = (DictionaryTracker::new(false), IpcWriteContext::default());
        let generator = IpcDataGenerator::default();
        let encoded = generator.encode(batch, &mut ids, options, &mut context);
        let (dictionaries, encoded) = encoded.expect("encodes");
        assert!(dictionaries.is_empty());
        encoded.into()
    }

    fn joined(pieces: VecDeque<Bytes>) -> Vec<u8> {
        pieces.into_iter().flatten().collect()
    }

    /// Byte for byte, whatever part of a batch it is of: no byte of the other rows is among them.
    #[test]
    fn a_message_is_what_arrow_and_tonic_make() {
        let whole = batch(20_000);
        for codec in [
            None,
            Some(CompressionType::LZ4_FRAME),
            Some(CompressionType::ZSTD),
        ] {
            let options = IpcWriteOptions::default();
            let options = options.try_with_compression(codec).expect("has it");
            let mut encoder = Encoder::new(&whole.schema(), options.clone()).expect("an encoder");
            for (start, rows) in [
                (0, 20_000),
                (0, 1),
                (7, 900),
                (19_999, 1),
                (13, 12_288),
                (5, 0),
            ] {
                let part = whole.slice(start, rows);
                let expected = copied_by_arrow(&part, &options);
                let message = encoder.encode(&part).expect("encodes");
                let bytes = expected.data_header.len() + expected.data_body.len();
                assert_eq!(message.bytes(), bytes);
                assert_eq!(
                    FlightData::from(message.clone()),
                    expected,
                    "{start} {rows}"
                );
                let mut sent = vec![0];
                sent.extend((expected.encoded_len() as u32).to_be_bytes());
                expected.encode(&mut sent).expect("room");
                assert!(
                    joined(message.into_grpc().expect("short")) == sent,
                    "{start} {rows}"
                );
            }
        }
    }

    #[test]
    fn a_schema_and_rows_without_columns_are_messages_too() {
        let options = IpcWriteOptions::default();
        let schema = batch(0).schema();
        let expected = FlightData::from(SchemaAsIpc::new(&schema, &options));
        let mut sent = vec![0];
        sent.extend((expected.encoded_len() as u32).to_be_bytes());
        expected.encode(&mut sent).expect("room");
        let message = Message::schema(&schema, &options);
        assert_eq!(joined(message.into_grpc().expect("short")), sent);
        let rows = RecordBatchOptions::new().with_row_count(Some(7));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &rows);
        let none = none.expect("valid");
        let mut encoder = Encoder::new(&none.schema(), options.clone()).expect("an encoder");
        let message = encoder.encode(&none).expect("encodes");
        assert_eq!(FlightData::from(message), copied_by_arrow(&none, &options));
    }

    /// The numbers of a message, and where they lie.
    fn sent(batch: &RecordBatch) -> Vec<Bytes> {
        let mut encoder = Encoder::new(&batch.schema(), IpcWriteOptions::default()).expect("new");
        encoder.encode(batch).expect("encodes").body
    }

    #[test]
    fn large_buffers_are_not_copied_and_little_of_a_large_one_is() {
        let numbers = Int64Array::from_iter_values(0..100_000);
        let own = numbers.values().inner().as_ptr();
        let whole = RecordBatch::try_from_iter([("n", array(numbers))]).expect("valid");
        assert!(sent(&whole).iter().any(|piece| piece.as_ptr() == own));
        // Most of it keeps the rest too; less than half does not.
        assert_eq!(sent(&whole.slice(0, 60_000))[0].as_ptr(), own);
        let copy = sent(&whole.slice(0, 40_000));
        assert_eq!((copy.len(), copy[0].len()), (1, 320_000));
        assert_ne!(copy[0].as_ptr(), own);
    }

    #[test]
    fn what_needs_a_dictionary_is_refused() {
        let codes: arrow::array::DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        let batch = RecordBatch::try_from_iter([("c", array(codes))]).expect("valid");
        let mut encoder = Encoder::new(&batch.schema(), IpcWriteOptions::default()).expect("new");
        encoder.encode(&batch).expect_err("two messages");
    }
}
