//! From a configuration to a worker that serves, until it is told to stop.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, bail};
use arrow_flight::flight_service_server::FlightServiceServer;
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, Key, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use crate::engine::Engine;
use crate::queue::QueueLimits;
use crate::service::Service;
use crate::{Backend, CpuBackend};

/// Longest wait for open streams when the worker stops.
const DRAIN_MS_MAX: u64 = 30_000;

/// Most threads that execute batches.
const THREADS_MAX: usize = 256;

/// Stack of a thread that executes batches; codecs and parsers recurse.
const THREAD_STACK_BYTES: usize = 8 << 20;

/// Where functions are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            Some(("cuda", number)) if number.parse::<u32>().is_ok() => {
                Ok(Self::Cuda(number.parse().unwrap_or_default()))
            }
            _ => Err(format!("`{text}` is no device: write cpu or cuda:N")),
        }
    }
}

/// A certificate chain and its private key, in PEM.
#[derive(Clone)]
pub struct Tls {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(redacted)")
    }
}

/// What a worker is told.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub device: Device,
    /// Folder of model weights.
    pub models: Option<PathBuf>,
    /// Key shared with the servers.
    pub key: Key,
    /// Threads that execute batches; one per core where `None`.
    pub threads: Option<usize>,
    /// Without it, only loopback addresses are served.
    pub tls: Option<Tls>,
}

impl WorkerConfig {
    /// A worker on all cores, in plaintext on loopback.
    pub fn new(key: Key) -> Self {
        Self {
            device: Device::Cpu,
            models: None,
            key,
            threads: None,
            tls: None,
        }
    }

    fn backends(&self) -> anyhow::Result<Vec<Box<dyn Backend>>> {
        match self.device {
            Device::Cpu => {
                let cores = available_parallelism().map_or(1, usize::from);
                let threads = self.threads.unwrap_or(cores).clamp(1, THREADS_MAX);
                let backend = |_| Box::new(CpuBackend) as Box<dyn Backend>;
                Ok((0..threads).map(backend).collect())
            }
            Device::Cuda(_) => bail!(
                "this worker is built for CPUs only, so `--device {}` cannot be used: use `--device cpu`, or a worker built with CUDA",
                self.device
            ),
        }
    }
}

/// Serves on `listener` until `shutdown` resolves; then finishes what is open, within
/// `DRAIN_MS_MAX`.
pub async fn run(
    config: WorkerConfig,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let address = listener
        .local_addr()
        .context("the listener has no address")?;
    if config.tls.is_none() && !address.ip().is_loopback() {
        bail!(
            "{address} is not a loopback address: give --tls-cert and --tls-key, or listen on 127.0.0.1"
        );
    }
    if let Some(models) = &config.models
        && !models.is_dir()
    {
        bail!(
            "`{}` is not a folder: --models names the folder of models",
            models.display()
        );
    }
    let backends = config.backends()?;
    let engine = Arc::new(Engine::new(QueueLimits::default())?);
    engine.metrics.started.set(unix_ms() as f64 / 1000.0);
    let draining = Arc::new(AtomicBool::new(false));
    let service = Service {
        engine: Arc::clone(&engine),
        key: config.key.clone(),
        device: config.device.to_string(),
        threads: backends.len(),
        draining: Arc::clone(&draining),
    };
    start_threads(&engine, backends)?;
    tracing::info!(%address, device = %config.device, "worker is ready");

    let (stop, stopped) = oneshot::channel::<()>();
    let serving = serve(&config, listener, service, stopped);
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        () = shutdown => {
            tracing::info!("worker finishes what is open and stops");
            draining.store(true, Ordering::Release);
            // The receiver is gone only if serving has ended.
            let _ = stop.send(());
            let limit = Duration::from_millis(DRAIN_MS_MAX);
            tokio::time::timeout(limit, &mut serving).await.unwrap_or(Ok(()))
        }
    };
    engine.stop();
    result
}

fn start_threads(engine: &Arc<Engine>, backends: Vec<Box<dyn Backend>>) -> anyhow::Result<()> {
    for (number, mut backend) in backends.into_iter().enumerate() {
        let engine = Arc::clone(engine);
        std::thread::Builder::new()
            .name(format!("{}-{number}", backend.device()))
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || engine.work(backend.as_mut()))
            .context("a thread for a backend could not be started")?;
    }
    Ok(())
}

async fn serve(
    config: &WorkerConfig,
    listener: TcpListener,
    service: Service,
    stopped: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let mut builder = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)));
    if let Some(tls) = &config.tls {
        let identity = Identity::from_pem(&tls.certificate, &tls.key);
        builder = builder
            .tls_config(ServerTlsConfig::new().identity(identity))
            .context("the certificate or its key is not usable")?;
    }
    let service = FlightServiceServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopped = async {
        // Dropped or sent, it is time to stop.
        let _ = stopped.await;
    };
    builder
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stopped)
        .await
        .context("the worker stopped serving")
}
