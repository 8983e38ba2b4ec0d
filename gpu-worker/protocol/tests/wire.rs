//! Batches as messages: what is written is read, and malformed bytes are errors.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, NullArray, RecordBatch, StringArray,
    StructArray, UInt8Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use arrow_flight::FlightData;
use hubflight_protocol::wire::{BatchWriter, array_bytes, read_batch, read_schema};
use hubflight_protocol::{
    ArgumentType, BatchTag, CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, function, functions,
};

fn batch() -> RecordBatch {
    let signal = ListArray::from_iter_primitive::<Float32Type, _, _>([
        Some(vec![Some(1.0), None, Some(f32::NAN)]),
        None,
        Some(vec![]),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("signal", Arc::new(signal)),
        (
            "fs",
            Arc::new(Int32Array::from(vec![Some(500), None, Some(-1)])),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec![Some("é"), None, Some("")])),
        ),
        ("nothing", Arc::new(NullArray::new(3))),
    ];
    RecordBatch::try_from_iter(columns).expect("equal lengths")
}

#[test]
fn what_is_written_is_read() {
    let mut writer = BatchWriter::default();
    let schema = read_schema(&writer.schema(&batch().schema(), None)).expect("a schema");
    for slice in [batch(), batch().slice(1, 2), batch().slice(0, 0)] {
        let message = writer
            .batch(&slice, &BatchTag { seq: 3 })
            .expect("no dictionaries");
        assert_eq!(message.app_metadata.as_ref(), br#"{"seq":3}"#);
        let read = read_batch(&message, Arc::clone(&schema)).expect("a batch");
        assert_eq!(format!("{read:?}"), format!("{slice:?}"));
    }
}

/// Every truncation and many altered bytes: an error or a batch, never a crash.
#[test]
fn malformed_messages_are_errors() {
    let mut writer = BatchWriter::default();
    let schema = batch().schema();
    let message = writer
        .batch(&batch(), &BatchTag { seq: 0 })
        .expect("a message");
    let mut refused = 0;
    let mut check = |header: Vec<u8>, body: Vec<u8>| {
        let altered = FlightData {
            data_header: header.into(),
            data_body: body.into(),
            ..FlightData::default()
        };
        refused += usize::from(read_batch(&altered, Arc::clone(&schema)).is_err());
        refused += usize::from(read_schema(&altered).is_err());
    };
    let (header, body) = (message.data_header.to_vec(), message.data_body.to_vec());
    for length in 0..body.len() {
        check(header.clone(), body[..length].to_vec());
    }
    for length in 0..header.len() {
        check(header[..length].to_vec(), body.clone());
    }
    for index in 0..header.len() {
        for bit in [1_u8, 0x80] {
            let mut altered = header.clone();
            altered[index] ^= bit;
            check(altered, body.clone());
        }
    }
    assert!(refused > header.len() + body.len());
}

#[test]
fn dictionaries_do_not_travel() {
    let words: arrow::array::DictionaryArray<arrow::datatypes::Int32Type> =
        ["a", "b"].into_iter().collect();
    let batch =
        RecordBatch::try_from_iter([("w", Arc::new(words) as ArrayRef)]).expect("one column");
    assert!(
        BatchWriter::default()
            .batch(&batch, &BatchTag { seq: 0 })
            .is_err()
    );
}

#[test]
fn bytes_of_slices_are_their_own() {
    let list = batch().column(0).clone();
    assert_eq!(array_bytes(list.as_ref()), 3 * 4 + 3 * 4);
    assert_eq!(array_bytes(list.slice(1, 2).as_ref()), 2 * 4);
    let blob: ArrayRef = Arc::new(BinaryArray::from_vec(vec![&[0; 1000], b"", &[0; 10]]));
    assert_eq!(array_bytes(blob.as_ref()), 1010 + 4 * 4);
    assert_eq!(array_bytes(blob.slice(1, 2).as_ref()), 10 + 3 * 4);
    assert_eq!(array_bytes(&Int64Array::from(vec![1, 2])), 16);
    assert_eq!(array_bytes(&NullArray::new(1_000_000)), 0);
    let pixels: ArrayRef = Arc::new(UInt8Array::from(vec![0; 40]));
    let image = StructArray::from(vec![(
        Arc::new(Field::new("p", DataType::UInt8, true)),
        pixels,
    )]);
    assert_eq!(array_bytes(&image.slice(30, 10)), 10);
}

#[test]
fn parameters_say_what_they_accept() {
    let list = |item: DataType| DataType::List(Arc::new(Field::new("x", item, false)));
    let accepted = [
        (ArgumentType::Float64, DataType::Decimal128(12, 2), true),
        (ArgumentType::Float64, DataType::Int64, true),
        (ArgumentType::Float64, DataType::Utf8, false),
        (ArgumentType::Int64, DataType::UInt64, true),
        (ArgumentType::Int64, DataType::Float64, false),
        (ArgumentType::Text, DataType::Utf8View, true),
        (ArgumentType::Text, DataType::Binary, false),
        (ArgumentType::Binary, DataType::LargeBinary, true),
        (ArgumentType::Binary, DataType::Utf8, false),
        (ArgumentType::Float32List, list(DataType::Float64), true),
        (ArgumentType::Float32List, list(DataType::Utf8), false),
        (
            ArgumentType::Float32List,
            list(list(DataType::Float32)),
            false,
        ),
        (ArgumentType::Boolean, DataType::Null, true),
    ];
    for (kind, given, expected) in accepted {
        let wire = kind.wire(&given);
        assert_eq!(wire.is_some(), expected, "{kind:?} of {given}");
        assert!(
            wire.is_none_or(|wire| wire == kind.declared()),
            "{kind:?} of {given}"
        );
    }
}

/// Readers that wait hold their streams' windows; some hundred of them leave the connection
/// room for the others.
#[test]
fn waiting_streams_leave_room_in_their_connection() {
    const { assert!(CONNECTION_WINDOW_BYTES / STREAM_WINDOW_BYTES >= 1024) };
    const { assert!(CONNECTION_WINDOW_BYTES < 1 << 31) };
}

#[test]
fn the_table_is_the_contract() {
    let signatures: Vec<String> = functions().iter().map(|f| f.signature()).collect();
    let expected = [
        "dicom_tags(content, tag = all, as DICOM JSON)",
        "dicom_window(content, center = from the file, width = from the file, rows = native, columns = native, frame = 0)",
        "ecg_rpeaks(signal, fs)",
        "text_deidentify(text, surrogates = false)",
        "echo(value)",
    ];
    assert_eq!(signatures, expected);
    let rpeaks = function("ecg_rpeaks").expect("it is in the table");
    let schema = Schema::new(vec![Field::new("r", (rpeaks.returns)(&[]), true)]);
    assert_eq!(schema.field(0).data_type().to_string(), "List(Int32)");
    assert!(function("ECG_RPEAKS").is_none());
    // A bigint travels as it is: no cast of it can fail the query.
    assert_eq!(
        rpeaks.parameters[1].kind.wire(&DataType::Int64),
        Some(DataType::Int64)
    );
}
