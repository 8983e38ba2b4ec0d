//! What tools ask a gRPC server about itself: whether it serves (`grpc.health.v1`), which anybody may
//! ask, and what it offers (reflection), which callers may.

use std::sync::Arc;
use std::time::Duration;

use hubflight_rights::Zone;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::server::{Builder, v1, v1alpha};

use super::{Answer, BoxStream, Door};
use crate::error::{Error, Result};
use crate::hub::Hub;

/// Flight.proto of Arrow 21 and what it imports, as `protoc --include_imports --descriptor_set_out`
/// writes them: `arrow-flight` has none.
const DESCRIPTORS: &[u8] = include_bytes!("flight.binpb");
const FLIGHT: &str = "arrow.flight.protocol.FlightService";
/// Questions are names of services.
const QUESTION_BYTES_MAX: usize = 4 << 10;
/// How long it may take to find out.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a client may go on asking in one call: nothing else ends it.
const TALK_TIME_MAX: Duration = Duration::from_secs(30);

/// Tells anybody whether calls are taken, by `""`, and whether queries are answered, by the name of
/// the Flight service, as `/readyz` does.
pub fn health(hub: Arc<Hub>, stopped: watch::Receiver<bool>) -> HealthServer<impl Health> {
    HealthServer::new(Asked { hub, stopped }).max_decoding_message_size(QUESTION_BYTES_MAX)
}

struct Asked {
    hub: Arc<Hub>,
    stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Health for Asked {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        let is_stopping = *self.stopped.borrow();
        let serves = match request.get_ref().service.as_str() {
            "" => !is_stopping,
            FLIGHT => {
                let asked = tokio::time::timeout(CHECK_TIME_MAX, self.hub.is_ready());
                !is_stopping && asked.await.unwrap_or(false)
            }
            _ => return Err(Status::not_found(format!("there is `{FLIGHT}`"))),
        };
        let status = match serves {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        Ok(Response::new(HealthCheckResponse {
            status: status.into(),
        }))
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    /// Nobody unknown keeps a call open.
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        Err(Status::unimplemented("ask with Check, again and again"))
    }
}

type Reflection<S> = Result<Door<S>>;

fn builder<'a>() -> Builder<'a> {
    Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn unreadable(error: tonic_reflection::server::Error) -> Error {
    Error::internal("the descriptors of Flight cannot be read", &error)
}

/// Describes the services to callers.
///
/// # Errors
/// `Internal` where the descriptors cannot be read.
pub fn reflection(
    hub: Arc<Hub>,
    zone: Zone,
) -> Reflection<v1::ServerReflectionServer<impl v1::ServerReflection>> {
    let service = builder().build_v1().map_err(unreadable)?;
    let service = service.max_decoding_message_size(QUESTION_BYTES_MAX);
    Ok(Door::new(hub, zone, service).for_at_most(TALK_TIME_MAX))
}

/// The same for older tools, which ask by its older name.
///
/// # Errors
/// As [`reflection`].
pub fn older_reflection(
    hub: Arc<Hub>,
    zone: Zone,
) -> Reflection<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>> {
    let service = builder().build_v1alpha().map_err(unreadable)?;
    let service = service.max_decoding_message_size(QUESTION_BYTES_MAX);
    Ok(Door::new(hub, zone, service).for_at_most(TALK_TIME_MAX))
}
