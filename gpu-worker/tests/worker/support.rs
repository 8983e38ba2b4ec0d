//! A worker on a real loopback socket, and a plain Arrow Flight client that asks it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, FlightData, FlightDescriptor};
use gpu_worker::{WorkerConfig, run};
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::wire::{BatchWriter, read_batch, read_schema};
use hubflight_protocol::{
    BatchTag, BatchUsage, CONNECTION_WINDOW_BYTES, Envelope, Health, Key, MESSAGE_BYTES_MAX,
    STREAM_WINDOW_BYTES,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

pub fn key() -> Key {
    Key::new([7; 32])
}

pub struct Worker {
    pub address: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub running: JoinHandle<Result<()>>,
}

pub async fn start() -> Result<Worker> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let running = tokio::spawn(run(WorkerConfig::new(key()), listener, shutdown));
    Ok(Worker {
        address,
        stop,
        running,
    })
}

pub async fn connect(address: SocketAddr) -> Result<FlightServiceClient<Channel>> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await?;
    Ok(FlightServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

pub async fn ask(
    mut client: FlightServiceClient<Channel>,
    name: &str,
    body: String,
) -> Result<String, Status> {
    let action = Action {
        r#type: name.into(),
        body: body.into(),
    };
    let mut answers = client.do_action(action).await?.into_inner();
    let answer = answers.message().await?.unwrap_or_default();
    String::from_utf8(answer.body.to_vec()).map_err(|e| Status::unknown(e.to_string()))
}

impl Worker {
    pub async fn action(&self, name: &str, body: String) -> Result<String, Status> {
        let client = connect(self.address).await;
        ask(
            client.map_err(|e| Status::unknown(e.to_string()))?,
            name,
            body,
        )
        .await
    }

    pub async fn health(&self) -> Result<Health> {
        let text = self.action("health", seal("health", 5_000)?).await?;
        Ok(serde_json::from_str(&text)?)
    }
}

pub fn seal(function: &str, milliseconds: u64) -> Result<String> {
    let deadline = unix_ms() + milliseconds;
    Ok(Envelope::new(function, "tenant", "statement", deadline).seal(&key())?)
}

/// One open stream, from the client's side.
pub struct Client {
    pub outbox: mpsc::Sender<FlightData>,
    pub writer: BatchWriter,
    pub answers: Streaming<FlightData>,
    pub schema: Option<SchemaRef>,
}

impl Client {
    pub async fn open(worker: &Worker, sealed: &str, schema: &Schema) -> Result<Self, Status> {
        let client = connect(worker.address).await;
        let client = client.map_err(|e| Status::unknown(e.to_string()))?;
        Self::open_on(client, sealed, schema).await
    }

    pub async fn open_on(
        mut client: FlightServiceClient<Channel>,
        sealed: &str,
        schema: &Schema,
    ) -> Result<Self, Status> {
        let writer = BatchWriter::default();
        let (outbox, inbox) = mpsc::channel(64);
        let descriptor = FlightDescriptor::new_cmd(sealed.as_bytes().to_vec());
        let first = writer.schema(schema, Some(descriptor));
        outbox
            .send(first)
            .await
            .map_err(|_| Status::unknown("closed"))?;
        let answers = client
            .do_exchange(ReceiverStream::new(inbox))
            .await?
            .into_inner();
        Ok(Self {
            outbox,
            writer,
            answers,
            schema: None,
        })
    }

    pub async fn send(&mut self, seq: u64, batch: &RecordBatch) -> Result<()> {
        let message = self.writer.batch(batch, &BatchTag { seq })?;
        Ok(self.outbox.send(message).await?)
    }

    pub async fn next(&mut self) -> Result<Option<(BatchUsage, RecordBatch)>, Status> {
        let bad = |error: arrow::error::ArrowError| Status::unknown(error.to_string());
        loop {
            let Some(message) = self.answers.message().await? else {
                return Ok(None);
            };
            let Some(schema) = &self.schema else {
                self.schema = Some(read_schema(&message).map_err(bad)?);
                continue;
            };
            let usage = serde_json::from_slice(&message.app_metadata)
                .map_err(|error| Status::unknown(error.to_string()))?;
            return Ok(Some((
                usage,
                read_batch(&message, Arc::clone(schema)).map_err(bad)?,
            )));
        }
    }
}

pub fn column(name: &str, array: ArrayRef) -> Result<RecordBatch> {
    Ok(RecordBatch::try_from_iter([(name, array)])?)
}

pub fn numbers(range: std::ops::Range<i64>) -> Result<RecordBatch> {
    column("value", Arc::new(Int64Array::from_iter_values(range)))
}
