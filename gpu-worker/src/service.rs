//! The Flight service: `DoExchange` executes; `DoAction` tells health and counters.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, stream};
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::wire::read_schema;
use hubflight_protocol::{
    ACTION_HEALTH, ACTION_METRICS, Envelope, Health, Key, PROTOCOL_VERSION, function, functions,
};
use tonic::{Request, Response, Status, Streaming};

use crate::engine::Engine;
use crate::stream::{self as open, Answers, deadline_passed};

/// Longest wait for the first message of a stream, which says who asks.
const FIRST_MESSAGE_MS_MAX: u64 = 10_000;

/// Streams that may be open at once. A server that meets this bound goes to another worker, or
/// comes back.
const STREAMS_MAX: i64 = 4_096;

/// What the worker tells of itself, and what all streams share.
pub(crate) struct Service {
    pub(crate) engine: Arc<Engine>,
    pub(crate) key: Key,
    pub(crate) device: String,
    pub(crate) threads: usize,
    /// Set when the worker stops: open streams end as they wish, new ones are refused.
    pub(crate) draining: Arc<AtomicBool>,
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    fn open(&self, sealed: &[u8]) -> Result<Envelope, Status> {
        let now = unix_ms();
        let envelope = Envelope::open(sealed, &self.key, now)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        if envelope.deadline <= now {
            return Err(deadline_passed());
        }
        Ok(envelope)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn health(&self) -> Health {
        let load = self.engine.load();
        let streams = self.engine.metrics.streams.get();
        Health {
            status: if self.is_draining() {
                "draining"
            } else {
                "ready"
            }
            .into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocol: PROTOCOL_VERSION,
            device: self.device.clone(),
            threads: self.threads as u64,
            functions: functions().iter().map(|f| f.name.to_owned()).collect(),
            queue_batches: load.batches as u64,
            queue_rows: load.rows as u64,
            streams: u64::try_from(streams).unwrap_or(0),
        }
    }

    /// Reads the opening of a stream and begins to work on it.
    async fn exchange(&self, mut batches: Streaming<FlightData>) -> Result<Answers, Status> {
        let limit = Duration::from_millis(FIRST_MESSAGE_MS_MAX);
        let first = next(&mut batches, limit).await?;
        let descriptor = first.flight_descriptor.as_ref();
        let sealed = descriptor.ok_or_else(|| {
            Status::unauthenticated("the first message must carry a sealed envelope as its command")
        })?;
        let sealed = std::str::from_utf8(&sealed.cmd)
            .map_err(|_| Status::unauthenticated("the sealed envelope must be text"))?;
        let envelope = self.open(sealed.as_bytes())?;
        let proof = self.key.prove(sealed);
        if self.is_draining() || self.engine.metrics.streams.get() >= STREAMS_MAX {
            return Err(Status::unavailable("the worker takes no more streams now"));
        }
        let spec = function(&envelope.function).ok_or_else(|| {
            Status::not_found(format!("there is no function `{}`", envelope.function))
        })?;
        tracing::debug!(
            function = spec.name,
            tenant = %envelope.tenant,
            statement = %envelope.statement_id,
            trace = envelope.trace.as_deref(),
            "a stream opens"
        );
        let opening = match first.data_header.is_empty() {
            true => next(&mut batches, limit).await?,
            false => first,
        };
        let schema =
            read_schema(&opening).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let request = open::Request::new(spec, envelope, schema)?;
        let engine = Arc::clone(&self.engine);
        Ok(Answers::start(engine, request, batches, proof))
    }
}

/// The next message of an opening. That none comes says nothing of the statement's deadline:
/// the client may try again.
async fn next(
    messages: &mut (impl Stream<Item = Result<FlightData, Status>> + Unpin),
    limit: Duration,
) -> Result<FlightData, Status> {
    match tokio::time::timeout(limit, messages.next()).await {
        Ok(Some(message)) => message,
        Ok(None) => Err(Status::invalid_argument("the stream has no schema")),
        Err(_) => Err(Status::unavailable("the stream sent nothing")),
    }
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "a worker answers DoExchange, DoAction and ListActions only",
    ))
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;
    type DoExchangeStream = Answers;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Answers>, Status> {
        self.exchange(request.into_inner()).await.map(Response::new)
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let action = request.into_inner();
        let envelope = self.open(&action.body)?;
        if envelope.function != action.r#type {
            return Err(Status::unauthenticated(
                "the envelope is for another action",
            ));
        }
        let body = match action.r#type.as_str() {
            ACTION_HEALTH => serde_json::to_vec(&self.health())
                .map_err(|error| Status::internal(error.to_string()))?,
            ACTION_METRICS => self
                .engine
                .metrics
                .text()
                .map_err(|error| Status::internal(error.to_string()))?,
            other => return Err(Status::not_found(format!("there is no action `{other}`"))),
        };
        let answer = arrow_flight::Result { body: body.into() };
        Ok(Response::new(Box::pin(stream::iter([Ok(answer)]))))
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        let action = |name: &str, description: &str| {
            Ok(ActionType {
                r#type: name.into(),
                description: description.into(),
            })
        };
        let actions = [
            action(
                ACTION_HEALTH,
                "the worker's state as JSON; the body is a sealed envelope",
            ),
            action(
                ACTION_METRICS,
                "its counters for Prometheus; the body is a sealed envelope",
            ),
        ];
        Ok(Response::new(Box::pin(stream::iter(actions))))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        not_here()
    }

    async fn list_flights(
        &self,
        _request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        not_here()
    }

    async fn get_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        not_here()
    }

    async fn poll_flight_info(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        not_here()
    }

    async fn get_schema(
        &self,
        _request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        not_here()
    }

    async fn do_get(
        &self,
        _request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        not_here()
    }

    async fn do_put(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        not_here()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_that_sends_nothing_may_come_again() {
        let limit = Duration::from_millis(1);
        let nothing = next(&mut stream::pending(), limit).await;
        assert_eq!(nothing.map_err(|s| s.code()), Err(tonic::Code::Unavailable));
        let ended = next(&mut stream::empty(), limit).await;
        let code = ended.map_err(|status| status.code());
        assert_eq!(code, Err(tonic::Code::InvalidArgument));
        let message = next(&mut stream::iter([Ok(FlightData::default())]), limit).await;
        assert!(message.is_ok());
    }
}
