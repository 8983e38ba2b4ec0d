//! Results leave as they lie in memory: a verb answers with the stream itself, and the door makes
//! the answer's body of it. tonic would copy each message into a buffer of its own.

use std::sync::Arc;

use arrow_flight::FlightData;
use hubflight_wire::{GrpcBody, Message};
use parking_lot::Mutex;
use tonic::body::Body;
use tonic::{Response, Status};

use super::BoxStream;

/// What goes past tonic, in the extensions of its answer. It may be cloned, and is taken once.
#[derive(Clone)]
struct Uncopied(Arc<Mutex<Option<BoxStream<Message>>>>);

/// The answer of a verb, whose own stream nobody reads.
pub fn answer(messages: BoxStream<Message>) -> Response<BoxStream<FlightData>> {
    let lost = || Status::internal("a result did not leave through the door");
    let unread = futures::stream::once(async move { Err(lost()) });
    let mut response: Response<BoxStream<FlightData>> = Response::new(Box::pin(unread));
    let uncopied = Uncopied(Arc::new(Mutex::new(Some(messages))));
    response.extensions_mut().insert(uncopied);
    response
}

/// The answer as it leaves. Its headers stay: tonic compresses no messages here, and says so.
pub fn sent(mut response: http::Response<Body>) -> http::Response<Body> {
    let uncopied = response.extensions_mut().remove::<Uncopied>();
    let messages = uncopied.and_then(|uncopied| uncopied.0.lock().take());
    match messages {
        Some(messages) => response.map(|_| Body::new(GrpcBody::new(messages))),
        None => response,
    }
}
