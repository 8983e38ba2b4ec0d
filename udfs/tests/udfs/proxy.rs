//! Workers that misbehave: one that dies over a text, and ones that say what a test wants.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::DataType;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, stream};
use hubflight_protocol::answer_schema;
use hubflight_protocol::wire::{BatchWriter, is_batch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Request, Response, Status, Streaming};

/// Cuts a connection to `worker` when `poison` is sent over it, as if the worker had died; the
/// next connection finds it alive again. Returns its address and how often that happened.
pub async fn dies_over(worker: SocketAddr, poison: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let deaths = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&deaths);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let deaths = Arc::clone(&counter);
            tokio::spawn(async move {
                let Ok(worker) = TcpStream::connect(worker).await else {
                    return;
                };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_worker, mut to_worker) = worker.into_split();
                let back = tokio::io::copy(&mut from_worker, &mut to_client);
                let forth = async {
                    let mut tail = Vec::new();
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                        // The text may come in two reads.
                        tail.extend_from_slice(&buffer[..read]);
                        if tail
                            .windows(poison.len())
                            .any(|part| part == poison.as_bytes())
                        {
                            deaths.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        tail.drain(..tail.len().saturating_sub(poison.len() - 1));
                        if to_worker.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                };
                tokio::select! {
                    _ = back => {}
                    () = forth => {}
                }
            });
        }
    });
    (address, deaths)
}

/// What a [`FakeWorker`] does with a stream.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// Refuses it.
    Refuses(tonic::Code, &'static str),
    /// Takes it without the key: its schema has a wrong proof, or none.
    TakesItWith(&'static [u8]),
}

/// A worker that answers nothing, and counts what it is sent.
#[derive(Clone)]
pub struct FakeWorker {
    does: Does,
    pub streams: Arc<AtomicUsize>,
    /// Batches of arguments that came.
    pub batches: Arc<AtomicUsize>,
}

impl FakeWorker {
    pub async fn start(does: Does) -> (SocketAddr, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let worker = Self {
            does,
            streams: Arc::default(),
            batches: Arc::default(),
        };
        let service = FlightServiceServer::new(worker.clone());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        (address, worker)
    }
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("a fake"))
}

#[tonic::async_trait]
impl FlightService for FakeWorker {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;
    type DoExchangeStream = Answer<FlightData>;

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        let proof = match self.does {
            Does::Refuses(code, text) => return Err(Status::new(code, text)),
            Does::TakesItWith(proof) => proof,
        };
        let mut schema = BatchWriter::default().schema(&answer_schema(DataType::Int64), None);
        schema.app_metadata = proof.into();
        let batches = Arc::clone(&self.batches);
        let read = request.into_inner().skip(1).filter_map(move |message| {
            let sent = message.is_ok_and(|message| is_batch(&message));
            batches.fetch_add(usize::from(sent), Ordering::SeqCst);
            std::future::ready(None)
        });
        Ok(Response::new(
            stream::iter([Ok(schema)]).chain(read).boxed(),
        ))
    }

    async fn do_action(
        &self,
        _request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        not_here()
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        not_here()
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
