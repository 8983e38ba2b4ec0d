//! A stream of messages as the body of a gRPC answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use crate::Message;

/// The messages of a stream, then its end or its error as trailers. Dropping it drops the stream.
pub struct GrpcBody<S> {
    /// None after its end.
    messages: Option<S>,
    /// Pieces of the message that is being sent.
    pieces: VecDeque<Bytes>,
    is_told: bool,
}

impl<S> GrpcBody<S> {
    pub fn new(messages: S) -> Self {
        Self {
            messages: Some(messages),
            pieces: VecDeque::new(),
            is_told: false,
        }
    }
}

impl<S> std::fmt::Debug for GrpcBody<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcBody").finish_non_exhaustive()
    }
}

impl<S: Stream<Item = Result<Message, Status>> + Unpin> Body for GrpcBody<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(messages) = &mut this.messages else {
                return Poll::Ready(None);
            };
            let next = ready!(Pin::new(messages).poll_next(context));
            let sent = next.transpose().and_then(|message| {
                let pieces = message.map(Message::into_grpc).transpose();
                pieces.map_err(|error| Status::internal(error.to_string()))
            });
            let end = match sent {
                Ok(Some(pieces)) => {
                    this.pieces = pieces;
                    continue;
                }
                Ok(None) => Status::ok(""),
                Err(status) => status,
            };
            this.messages = None;
            this.is_told = true;
            let mut trailers = HeaderMap::new();
            let told = end.add_header(&mut trailers);
            return Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_told
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use arrow::array::{Int64Array, RecordBatch};
    use arrow::ipc::writer::IpcWriteOptions;
    use futures::StreamExt;
    use tonic::Code;

    use super::*;
    use crate::Encoder;

    fn message() -> Message {
        let numbers = Arc::new(Int64Array::from_iter_values(0..5_000));
        let batch = RecordBatch::try_from_iter([("n", numbers as _)]).expect("valid");
        let mut encoder = Encoder::new(&batch.schema(), IpcWriteOptions::default()).expect("new");
        encoder.encode(&batch).expect("encodes")
    }

    /// The bytes of a body, and the status in its trailers.
    async fn read(messages: Vec<Result<Message, Status>>) -> (Vec<u8>, Status) {
        let mut body = GrpcBody::new(futures::stream::iter(messages));
        let mut bytes = Vec::new();
        loop {
            assert!(!body.is_end_stream());
            let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
            match frame.expect("trailers").expect("a frame").into_data() {
                Ok(piece) => bytes.extend(piece),
                Err(frame) => {
                    let trailers = frame.into_trailers().expect("trailers");
                    let status = Status::from_header_map(&trailers).expect("a status");
                    assert!(body.is_end_stream());
                    let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
                    assert!(next.is_none());
                    return (bytes, status);
                }
            }
        }
    }

    #[tokio::test]
    async fn messages_come_in_order_and_their_end_is_told() {
        let one: Vec<u8> = message()
            .into_grpc()
            .expect("short")
            .into_iter()
            .flatten()
            .collect();
        let (bytes, status) = read(vec![Ok(message()), Ok(message())]).await;
        assert_eq!(status.code(), Code::Ok);
        assert!(bytes == [one.clone(), one.clone()].concat());
        let (bytes, status) = read(Vec::new()).await;
        assert!(bytes.is_empty() && status.code() == Code::Ok);
        // Nothing follows an error.
        let late = Status::deadline_exceeded("tröp tard");
        let (bytes, status) = read(vec![Ok(message()), Err(late), Ok(message())]).await;
        assert!(bytes == one);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), "tröp tard");
    }

    #[tokio::test]
    async fn whoever_lets_go_of_the_body_ends_the_stream() {
        let held = Arc::new(());
        let kept = Arc::clone(&held);
        let messages = futures::stream::iter([Ok(message())]).chain(futures::stream::pending());
        let messages = messages.map(move |message: Result<Message, Status>| {
            let _kept = &kept;
            message
        });
        let mut body = GrpcBody::new(messages);
        let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(frame.is_some() && Arc::strong_count(&held) == 2);
        drop(body);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
