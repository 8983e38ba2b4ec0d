use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, NullArray, RecordBatch,
    StringArray, StringViewArray, StringViewBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int32Type, Schema};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{self, MessageHeader, MetadataVersion};
use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};
use futures::executor::block_on;
use tonic::Code;

use super::*;

/// Of the texts that views lead to.
const BYTES_MAX: usize = 1 << 20;

/// What is read of messages, and how it ends.
fn read(sent: Vec<FlightData>) -> Result<Vec<DecodedPayload>> {
    let sent = futures::stream::iter(sent.into_iter().map(Ok));
    let read = decoded("the rows", BYTES_MAX, sent, |_| Ok(()));
    block_on(read.try_collect())
}

/// Why the last of the messages is refused, before which all are read.
fn refused(mut sent: Vec<FlightData>) -> Status {
    let last = sent.pop().expect("a message");
    read(sent.clone()).expect("what comes before is read");
    sent.push(last);
    read(sent).expect_err("refused")
}

/// The message of a schema, whose dictionaries are numbered from 0.
fn described(schema: &Schema) -> FlightData {
    let (options, mut ids) = (IpcWriteOptions::default(), DictionaryTracker::new(false));
    let generator = IpcDataGenerator::default();
    let schema = generator.schema_to_bytes_with_dictionary_tracker(schema, &mut ids, &options);
    schema.into()
}

/// As Arrow's own writer sends a batch without dictionaries.
fn messages(batch: &RecordBatch) -> Vec<FlightData> {
    let (options, mut ids) = (IpcWriteOptions::default(), DictionaryTracker::new(false));
    let mut context = IpcWriteContext::default();
    let encoded = IpcDataGenerator::default().encode(batch, &mut ids, &options, &mut context);
    let (_, rows) = encoded.expect("encodes");
    vec![described(&batch.schema()), rows.into()]
}

/// The bytes of a header that says of itself to be of that kind.
fn message(
    mut builder: FlatBufferBuilder<'_>,
    kind: MessageHeader,
    header: WIPOffset<UnionWIPOffset>,
) -> Vec<u8> {
    let mut message = ipc::MessageBuilder::new(&mut builder);
    message.add_version(MetadataVersion::V5);
    message.add_header_type(kind);
    message.add_header(header);
    let message = message.finish();
    builder.finish(message, None);
    builder.finished_data().to_vec()
}

fn fields(count: usize) -> Schema {
    let names = (0..count).map(|n| format!("column_{n}"));
    let fields = names.map(|name| Field::new(name, DataType::Int64, true));
    Schema::new(fields.collect::<Vec<_>>())
}

/// A schema of one field with a long name, named so many times.
fn repeated(name: &str, times: usize) -> FlightData {
    let mut builder = FlatBufferBuilder::new();
    let name = builder.create_string(name);
    let mut int = ipc::IntBuilder::new(&mut builder);
    int.add_bitWidth(64);
    int.add_is_signed(true);
    let int = int.finish();
    let mut field = ipc::FieldBuilder::new(&mut builder);
    field.add_name(name);
    field.add_type_type(ipc::Type::Int);
    field.add_type_(int.as_union_value());
    let field = field.finish();
    let fields = builder.create_vector(&vec![field; times]);
    let mut schema = ipc::SchemaBuilder::new(&mut builder);
    schema.add_fields(fields);
    let schema = schema.finish().as_union_value();
    let header = message(builder, MessageHeader::Schema, schema);
    FlightData::new().with_data_header(header)
}

#[test]
fn parts_that_are_named_again_and_again_are_refused() {
    let long = "x".repeat(100_000);
    read(vec![repeated(&long, 1)]).expect("one name");
    read(vec![repeated("a", 5)]).expect("few");
    for (name, times) in [(long.as_str(), 200), ("a", 10_000)] {
        let sent = repeated(name, times);
        assert!(sent.data_header.len() < 200_000);
        let error = refused(vec![sent.clone()]);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        assert!(error.message().contains("cannot be read"), "{error}");
        assert!(dictionary(&sent).is_none());
        // What stands before: the decoder makes each of them.
        let alone = Schema::try_from(&sent).expect("as it was sent");
        assert_eq!(alone.fields().len(), times);
    }
}

#[test]
fn wide_tables_are_read() {
    let schema = fields(20_000);
    let columns = vec![Arc::new(Int64Array::from(vec![1])) as ArrayRef; 20_000];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).expect("valid");
    let payloads = read(messages(&batch)).expect("read");
    let [DecodedPayload::Schema(_), DecodedPayload::RecordBatch(read)] = &payloads[..] else {
        panic!("{payloads:?}");
    };
    assert_eq!(*read, batch);
}

/// A header of a batch of so many rows.
struct Rows<'a> {
    nodes: &'a [ipc::FieldNode],
    buffers: &'a [ipc::Buffer],
    /// Of each column of views, the buffers behind its views.
    blocks: &'a [i64],
}

impl Rows<'_> {
    fn batch<'a>(&self, builder: &mut FlatBufferBuilder<'a>) -> WIPOffset<ipc::RecordBatch<'a>> {
        let nodes = builder.create_vector(self.nodes);
        let buffers = builder.create_vector(self.buffers);
        let blocks = (!self.blocks.is_empty()).then(|| builder.create_vector(self.blocks));
        let arguments = ipc::RecordBatchArgs {
            length: self.nodes.first().map_or(0, ipc::FieldNode::length),
            nodes: Some(nodes),
            buffers: Some(buffers),
            compression: None,
            variadicBufferCounts: blocks,
        };
        ipc::RecordBatch::create(builder, &arguments)
    }

    fn message(&self, body: Vec<u8>) -> FlightData {
        let mut builder = FlatBufferBuilder::new();
        let batch = self.batch(&mut builder).as_union_value();
        let header = message(builder, MessageHeader::RecordBatch, batch);
        FlightData::new()
            .with_data_header(header)
            .with_data_body(body)
    }

    fn dictionary(&self, id: i64, body: Vec<u8>) -> FlightData {
        let mut builder = FlatBufferBuilder::new();
        let batch = self.batch(&mut builder);
        let mut dictionary = ipc::DictionaryBatchBuilder::new(&mut builder);
        dictionary.add_id(id);
        dictionary.add_data(batch);
        let dictionary = dictionary.finish().as_union_value();
        let header = message(builder, MessageHeader::DictionaryBatch, dictionary);
        FlightData::new()
            .with_data_header(header)
            .with_data_body(body)
    }
}

/// A thousand columns that are the same bytes, which lie so that each is copied.
#[test]
fn buffers_that_overlap_are_refused() {
    let body = vec![0; 8 * 1_000 + 1];
    let columns = 1_000;
    let nodes = vec![ipc::FieldNode::new(1_000, 0); columns];
    let buffers = [ipc::Buffer::new(0, 0), ipc::Buffer::new(1, 8 * 1_000)].repeat(columns);
    let same = Rows {
        nodes: &nodes,
        buffers: &buffers,
        blocks: &[],
    };
    let error = refused(vec![
        described(&fields(columns)),
        same.message(body.clone()),
    ]);
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("8000000 bytes"), "{error}");
    // One of them is read as it lies.
    let one = Rows {
        nodes: &nodes[..1],
        buffers: &buffers[..2],
        blocks: &[],
    };
    read(vec![described(&fields(1)), one.message(body.clone())]).expect("one");

    let key = Box::new(DataType::Int8);
    let item = Field::new("item", DataType::Int64, true);
    let structs = DataType::Struct(vec![item; 2].into());
    let coded = DataType::Dictionary(key, Box::new(structs));
    let coded = described(&Schema::new(vec![Field::new("a", coded, true)]));
    let nodes = vec![ipc::FieldNode::new(1_000, 0); 3];
    let twice = [&buffers[..1], &buffers[..4]].concat();
    let dictionary = Rows {
        nodes: &nodes,
        buffers: &twice,
        blocks: &[],
    };
    let error = refused(vec![coded, dictionary.dictionary(0, body)]);
    assert!(error.message().contains("16000 bytes"), "{error}");
}

#[test]
fn buffers_that_are_not_there_are_refused() {
    let nodes = [ipc::FieldNode::new(1, 0)];
    for (offset, length) in [
        (0, 17),
        (16, 1),
        (-8, 8),
        (0, -8),
        (i64::MAX, i64::MAX),
        (i64::MIN, i64::MIN),
    ] {
        let rows = Rows {
            nodes: &nodes,
            buffers: &[ipc::Buffer::new(0, 0), ipc::Buffer::new(offset, length)],
            blocks: &[],
        };
        let error = refused(vec![described(&fields(1)), rows.message(vec![0; 16])]);
        assert!(
            error.message().contains("is not what its header says"),
            "{error}"
        );
    }
}

/// So many views of one text.
fn views(rows: usize, text: &str) -> StringViewArray {
    let mut views = StringViewBuilder::new();
    let block = views.append_block(text.as_bytes().to_vec().into());
    for _ in 0..rows {
        let length = u32::try_from(text.len()).expect("short");
        views.try_append_view(block, 0, length).expect("a view");
    }
    views.finish()
}

fn table(columns: Vec<ArrayRef>) -> RecordBatch {
    let fields = columns
        .iter()
        .enumerate()
        .map(|(n, column)| Field::new(format!("column_{n}"), column.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns).expect("valid")
}

/// Columns of each form, before the views: what is not taken as the decoder does would be taken for
/// them.
fn others(rows: usize) -> Vec<ArrayRef> {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"; rows]));
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let offsets = OffsetBuffer::from_lengths(vec![1; rows]);
    let lists = ListArray::new(item, offsets, Arc::clone(&texts), None);
    let few: ArrayRef = Arc::new(StringViewArray::from(vec![
        "a text longer than twelve";
        rows
    ]));
    let structs = StructArray::try_from(vec![("n", Arc::clone(&numbers)), ("v", few)]);
    let structs = structs.expect("valid");
    let nulls: ArrayRef = Arc::new(NullArray::new(rows));
    vec![numbers, texts, Arc::new(lists), Arc::new(structs), nulls]
}

#[test]
fn texts_that_many_views_lead_to_count_for_each() {
    let text = "x".repeat(BYTES_MAX / 16);
    for (rows, fits) in [(8, true), (17, false)] {
        let column: ArrayRef = Arc::new(views(rows, &text));
        let offsets = OffsetBuffer::from_lengths([rows].into_iter().chain(vec![0; rows - 1]));
        let item = Arc::new(Field::new("item", DataType::Utf8View, true));
        let inside = ListArray::new(item, offsets, Arc::clone(&column), None);
        for column in [column, Arc::new(inside)] {
            let mut columns = others(rows);
            columns.push(column);
            let batch = table(columns);
            let sent = messages(&batch);
            assert!(sent[1].data_body.len() < BYTES_MAX / 4);
            if fits {
                let payloads = read(sent).expect("few");
                assert!(
                    matches!(&payloads[1], DecodedPayload::RecordBatch(read) if *read == batch)
                );
                continue;
            }
            let error = refused(sent);
            assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
            assert!(error.message().contains("views of"), "{error}");
        }
    }
}

/// The values of a dictionary are views, which its rows need not name.
#[test]
fn views_in_dictionaries_count_too() {
    let coded = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View));
    let schema = described(&Schema::new(vec![Field::new("a", coded, true)]));
    let text = "x".repeat(BYTES_MAX / 16);
    let values = messages(&table(vec![Arc::new(views(100, &text))])).remove(1);
    let header = ipc::root_as_message(&values.data_header).expect("a header");
    let values_of = header.header_as_record_batch().expect("a batch");
    let nodes: Vec<_> = values_of.nodes().into_iter().flatten().copied().collect();
    let buffers = values_of.buffers().into_iter().flatten();
    let buffers: Vec<_> = buffers.copied().collect();
    let blocks = values_of.variadicBufferCounts().into_iter().flatten();
    let blocks: Vec<i64> = blocks.collect();
    let rows = Rows {
        nodes: &nodes,
        buffers: &buffers,
        blocks: &blocks,
    };
    let error = refused(vec![schema, rows.dictionary(0, values.data_body.to_vec())]);
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
}

/// Room is made for each where it may not be NULL, of which no byte was sent.
#[test]
fn values_without_bytes_are_bounded() {
    let lists = |size: i32, is_nullable: bool| {
        let item = Arc::new(Field::new("item", DataType::Null, is_nullable));
        let lists = DataType::FixedSizeList(item, size);
        described(&Schema::new(vec![Field::new("a", lists, true)]))
    };
    let sent = |size: i64| {
        let rows = Rows {
            nodes: &[ipc::FieldNode::new(1, 0), ipc::FieldNode::new(size, size)],
            buffers: &[ipc::Buffer::new(0, 0)],
            blocks: &[],
        };
        rows.message(Vec::new())
    };
    read(vec![lists(1_000, true), sent(1_000)]).expect("few");
    let size = i32::MAX;
    for is_nullable in [true, false] {
        let error = refused(vec![lists(size, is_nullable), sent(i64::from(size))]);
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        assert!(error.message().contains("without bytes"), "{error}");
    }
}

#[test]
fn parts_that_are_missing_are_errors() {
    let views = described(&Schema::new(vec![Field::new(
        "a",
        DataType::Utf8View,
        true,
    )]));
    let nodes = [ipc::FieldNode::new(1, 0)];
    let buffers = [ipc::Buffer::new(0, 0), ipc::Buffer::new(0, 16)];
    let wrong: [(&[ipc::FieldNode], &[ipc::Buffer], &[i64]); 7] = [
        (&nodes[..0], &buffers[..], &[0][..]),
        (&nodes, &buffers[..1], &[0]),
        (&nodes, &buffers, &[]),
        (&nodes, &buffers, &[1]),
        (&nodes, &buffers, &[-1]),
        (&nodes, &buffers, &[i64::MAX]),
        (&[ipc::FieldNode::new(-1, 0)], &buffers, &[0]),
    ];
    for (nodes, buffers, blocks) in wrong {
        let rows = Rows {
            nodes,
            buffers,
            blocks,
        };
        let error = refused(vec![views.clone(), rows.message(vec![0; 16])]);
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    let rows = Rows {
        nodes: &nodes,
        buffers: &buffers,
        blocks: &[0],
    };
    read(vec![views, rows.message(vec![0; 16])]).expect("an empty text");
}

/// A struct of texts by their numbers behind so many numbers, in a row; first its schema.
fn coded_behind(numbers: usize) -> (RecordBatch, Vec<FlightData>) {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["one"]));
    let keys = Int32Array::from(vec![0]);
    let coded = DictionaryArray::<Int32Type>::try_new(keys, texts).expect("valid");
    let inner = Arc::new(Field::new("inner", coded.data_type().clone(), true));
    let inside = StructArray::from(vec![(inner, Arc::new(coded) as ArrayRef)]);
    let mut named: Vec<_> = fields(numbers).fields().iter().cloned().collect();
    named.push(Arc::new(Field::new(
        "outer",
        inside.data_type().clone(),
        true,
    )));
    let mut columns = vec![Arc::new(Int64Array::from(vec![1])) as ArrayRef; numbers];
    columns.push(Arc::new(inside));
    let schema = Arc::new(Schema::new(named));
    let batch = RecordBatch::try_new(schema, columns).expect("valid");
    let (options, mut ids) = (IpcWriteOptions::default(), DictionaryTracker::new(false));
    let (generator, mut context) = (IpcDataGenerator::default(), IpcWriteContext::default());
    let schema = batch.schema();
    let schema = generator.schema_to_bytes_with_dictionary_tracker(&schema, &mut ids, &options);
    let encoded = generator.encode(&batch, &mut ids, &options, &mut context);
    let (dictionaries, rows) = encoded.expect("encodes");
    let mut sent = vec![FlightData::from(schema)];
    sent.extend(dictionaries.into_iter().map(FlightData::from));
    sent.push(rows.into());
    (batch, sent)
}

#[test]
fn dictionaries_of_wide_tables_are_read() {
    let (batch, sent) = coded_behind(3);
    let schema = Schema::try_from(&sent[0]).expect("a schema");
    assert_eq!(Known::of(schema).fields(), 5);
    let payloads = read(sent).expect("read");
    let Some(DecodedPayload::RecordBatch(read)) = payloads.last() else {
        panic!("{payloads:?}");
    };
    assert_eq!(*read, batch);
}

/// The decoder looks through all fields for each dictionary, which is a few bytes.
#[test]
fn many_small_dictionaries_beside_many_fields_are_refused() {
    let taken = |numbers: usize| {
        let (_, sent) = coded_behind(numbers);
        let mut doubt = Doubt {
            what: "the rows",
            bytes_max: BYTES_MAX as u64,
            schema: None,
        };
        doubt.check(&sent[0]).expect("a schema");
        let taken = (0..2_000).map(|_| doubt.check(&sent[1]));
        taken.collect::<Result<Vec<()>>>()
    };
    assert!(taken(100).is_ok());
    let error = taken(40_000).expect_err("too many");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert!(error.message().contains("dictionaries"), "{error}");
}
