//! What clients send as Arrow: whatever stands in it is read or refused, and nothing follows a
//! refusal. What is read can be measured, and leaves as what it is.
//!
//! The input is messages one after another: the lengths of header and body (two bytes each), and
//! both.
#![no_main]

use std::sync::Once;

use arrow::array::RecordBatch;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::FlightData;
use arrow_flight::decode::DecodedPayload;
use futures::StreamExt;
use futures::executor::block_on;
use hubflight_wire::{Chunks, Encoder, Message, bytes_of_rows, received, uploads};
use libfuzzer_sys::fuzz_target;
use tonic::Status;

/// Rows that are measured: those of types without bytes can be any number.
const ROWS_MAX: usize = 10_000;
/// Of texts that views lead to.
const BYTES_MAX: usize = 64 << 20;

fn messages(mut data: &[u8]) -> Vec<Result<FlightData, Status>> {
    let mut messages = Vec::new();
    while let Some((lengths, rest)) = data.split_first_chunk::<4>() {
        let [a, b, c, d] = *lengths;
        let header = usize::from(u16::from_le_bytes([a, b])).min(rest.len());
        let (header, rest) = rest.split_at(header);
        let (body, rest) = rest.split_at(usize::from(u16::from_le_bytes([c, d])).min(rest.len()));
        let message = FlightData::new().with_data_header(header.to_vec());
        messages.push(Ok(message.with_data_body(body.to_vec())));
        data = rest;
    }
    messages
}

/// The decoder asserts some things, which whoever calls it catches: libFuzzer would end there.
fn quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| ())));
}

fn leaves(batch: &RecordBatch) {
    let bytes = bytes_of_rows(batch);
    assert_eq!(bytes.len(), batch.num_rows());
    let mut chunks = Chunks::new(100, 1 << 10);
    let mut parts = chunks.take(batch, &bytes);
    parts.push(chunks.rest());
    let rows = parts.iter().flatten().map(RecordBatch::num_rows);
    assert_eq!(rows.sum::<usize>(), batch.num_rows());
    let options = IpcWriteOptions::default();
    let Ok(mut encoder) = Encoder::new(&batch.schema(), options.clone()) else {
        return;
    };
    let Ok(message) = encoder.encode(batch) else {
        return;
    };
    let schema = Message::schema(&batch.schema(), &options);
    let again = [schema, message].map(|message| Ok(message.into()));
    let again = received::decoded("rows", BYTES_MAX, futures::stream::iter(again), |_| Ok(()));
    let again = block_on(again.collect::<Vec<_>>());
    let Some(Ok(DecodedPayload::RecordBatch(again))) = again.into_iter().nth(1) else {
        panic!("what was sent cannot be read");
    };
    assert_eq!(again.num_rows(), batch.num_rows());
}

fuzz_target!(|data: &[u8]| {
    quietly();
    let mut taken = 0;
    let sent = futures::stream::iter(messages(data));
    let read = received::decoded("rows", BYTES_MAX, sent, move |message| {
        received::dictionary(message);
        taken += 1;
        match taken > 100 {
            true => Err(Status::resource_exhausted("too many")),
            false => Ok(()),
        }
    });
    let read = block_on(read.collect::<Vec<_>>());
    let refused = read.iter().position(Result::is_err);
    assert!(refused.is_none_or(|at| at + 1 == read.len()), "more came");
    for payload in read.into_iter().flatten() {
        let DecodedPayload::RecordBatch(batch) = payload else {
            continue;
        };
        let is_small = batch.num_rows() <= ROWS_MAX;
        if uploads::check_value_types("rows", &batch.schema()).is_ok() && is_small {
            assert!(
                batch.num_columns() == 0 || uploads::value_bytes(&batch) >= batch.num_rows() as u64
            );
        }
        if uploads::check_types("rows", &batch.schema()).is_ok() && is_small {
            leaves(&batch);
        }
    }
});
