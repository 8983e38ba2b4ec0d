//! Flight SQL: the service is a table of contents, each verb has a file of its own.

pub mod about;
mod actions;
mod alive;
mod basic_auth;
mod begun;
pub mod call;
pub mod connections;
mod door;
mod exchange;
mod get_data;
mod get_info;
mod ingest;
mod list_flights;
pub mod metadata;
mod options;
mod prepared;
pub(crate) mod put;
mod sql_info;
mod tickets;
mod transactions;
mod uncopied;

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::Stream;
use hubflight_rights::Zone;
use tonic::{Request, Response, Status, Streaming};

use crate::hub::Hub;
pub use basic_auth::Handshakes;
pub use begun::Begun;
pub use door::Door;
pub use prepared::PreparedStatements;

pub type Answer<T> = Result<Response<T>, Status>;
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The Flight service of a hub, as one of its listeners offers it.
#[derive(Clone)]
pub struct FlightEndpoint {
    hub: Arc<Hub>,
}

/// The service with its message limits, behind its door, ready for a tonic server.
pub fn service(hub: Arc<Hub>, zone: Zone) -> Door<FlightServiceServer<FlightEndpoint>> {
    let message_bytes_max = hub.config.limits.message_bytes_max;
    let endpoint = FlightEndpoint {
        hub: Arc::clone(&hub),
    };
    let service = FlightServiceServer::new(endpoint)
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    Door::new(hub, zone, service)
}

#[tonic::async_trait]
impl FlightService for FlightEndpoint {
    type HandshakeStream = BoxStream<HandshakeResponse>;
    type ListFlightsStream = BoxStream<FlightInfo>;
    type DoGetStream = BoxStream<FlightData>;
    type DoPutStream = BoxStream<PutResult>;
    type DoActionStream = BoxStream<arrow_flight::Result>;
    type ListActionsStream = BoxStream<ActionType>;
    type DoExchangeStream = BoxStream<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        call::handshake(&self.hub, request).await
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        let caller = call::caller(&request)?;
        get_info::flight_info(&self.hub, &caller, request.into_inner()).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        let caller = call::caller(&request)?;
        get_info::poll_info(&self.hub, &caller, request.into_inner()).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        let caller = call::caller(&request)?;
        get_info::schema(&self.hub, &caller, request.into_inner()).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let caller = call::caller(&request)?;
        let messages = get_data::do_get(&self.hub, &caller, request.into_inner()).await?;
        Ok(uncopied::answer(messages))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        let (caller, held) = (call::caller(&request)?, begun::held(&request)?);
        put::do_put(&self.hub, &caller, held, request.into_inner()).await
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        let caller = call::caller(&request)?;
        actions::do_action(&self.hub, &caller, request.into_inner()).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        call::caller(&request)?;
        Ok(actions::list())
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        let caller = call::caller(&request)?;
        list_flights::list(&self.hub, &caller, request.into_inner()).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        let caller = call::caller(&request)?;
        exchange::do_exchange(&self.hub, &caller, request.into_inner()).await
    }
}
