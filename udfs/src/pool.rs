//! The workers that a server knows, and which one to ask next.

use std::fmt;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use hubflight_protocol::envelope::unix_ms;
use hubflight_protocol::{
    ACTION_HEALTH, CONNECTION_WINDOW_BYTES, Envelope, FRAME_BYTES_MAX, Health, Key,
    MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri};

use crate::WorkError;

/// Longest wait for a connection to a worker.
const CONNECT_MS_MAX: u64 = 2_000;
/// Longest wait for a worker's answer to `health`.
const ACTION_MS_MAX: u64 = 5_000;
/// A worker that failed is not asked again before this wait, doubled with each failure …
const BACKOFF_MS_MIN: u64 = 25;
/// … up to this one.
const BACKOFF_MS_MAX: u64 = 1_000;
/// Workers are asked again for their health at this pace by [`WorkerPool::wait_ready`].
const READY_POLL_MS: u64 = 20;

/// Where the workers are and how to reach them.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// `host:port`, `http://host:port` or `https://host:port`. Plaintext is for loopback only.
    pub workers: Vec<String>,
    /// Key shared with the workers.
    pub key: Key,
    /// Authority that signed the workers' certificates, in PEM. With it, `host:port` means
    /// `https://host:port`.
    pub tls_ca: Option<Vec<u8>>,
    /// Runtime that does the IO, where it is not the one that executes queries.
    pub io: Handle,
}

/// What `hub.workers` shows of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStatus {
    pub address: String,
    /// `ready`, `draining`, `unreachable`, or `unknown` before the first contact.
    pub state: &'static str,
    /// What the worker last said of itself.
    pub health: Option<Health>,
    /// Batches of this server that the worker holds now.
    pub in_flight_batches: usize,
    /// The last failure, cleared by the next success.
    pub last_error: Option<String>,
    /// Milliseconds since 1970 of the last contact; 0 before the first.
    pub checked_at: u64,
}

/// The workers; shared by all statements.
pub struct WorkerPool {
    workers: Vec<Arc<Worker>>,
    pub(crate) key: Key,
    pub(crate) io: Handle,
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.workers.iter().map(|worker| &worker.address);
        f.debug_list().entries(addresses).finish()
    }
}

/// One worker: its connection, made at first use and again after it broke, and its state.
pub(crate) struct Worker {
    pub(crate) address: String,
    channel: Channel,
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    health: Option<Health>,
    checked_at: u64,
    failures: u32,
    last_error: Option<String>,
    rest_until: Option<Instant>,
}

/// Counts a batch as held by a worker while it lives.
pub(crate) struct InFlight(Arc<Worker>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerPool {
    /// Checks the addresses; connects to none yet. An empty pool is allowed: statements that
    /// need a worker then fail as unavailable at once.
    pub fn new(config: PoolConfig) -> Result<Arc<Self>, WorkError> {
        // Connections belong to the IO runtime, whoever builds the pool.
        let _runtime = config.io.enter();
        let workers = config
            .workers
            .iter()
            .map(|address| Worker::new(address, config.tls_ca.as_deref()).map(Arc::new))
            .collect::<Result<Vec<_>, WorkError>>()?;
        Ok(Arc::new(Self {
            workers,
            key: config.key,
            io: config.io,
        }))
    }

    /// What is known of each worker, without asking.
    pub fn status(&self) -> Vec<WorkerStatus> {
        self.workers.iter().map(|worker| worker.status()).collect()
    }

    /// Asks every worker how it is, all at once, and returns what is known then.
    pub async fn refresh(&self) -> Vec<WorkerStatus> {
        futures::future::join_all(self.workers.iter().map(|worker| self.check(worker))).await;
        self.status()
    }

    /// Waits until a worker is ready, at most for `limit`.
    pub async fn wait_ready(&self, limit: Duration) -> Result<(), WorkError> {
        let end = Instant::now() + limit;
        loop {
            let status = self.refresh().await;
            if status.iter().any(|worker| worker.state == "ready") {
                return Ok(());
            }
            if Instant::now() >= end {
                let reason = status.into_iter().find_map(|worker| worker.last_error);
                return Err(WorkError::Unavailable {
                    reason: reason.unwrap_or_else(|| "no worker is configured".into()),
                });
            }
            tokio::time::sleep(Duration::from_millis(READY_POLL_MS)).await;
        }
    }

    /// The least loaded worker that is not resting after a failure, or how long to wait for one.
    /// `None` where there are no workers at all.
    pub(crate) fn pick(&self) -> Option<Result<Arc<Worker>, Duration>> {
        let now = Instant::now();
        let rest = |worker: &Worker| {
            let until = worker.state.lock().rest_until;
            until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
        };
        let ready = self.workers.iter().filter(|worker| rest(worker).is_zero());
        match ready.min_by_key(|worker| worker.in_flight.load(Ordering::Relaxed)) {
            Some(worker) => Some(Ok(Arc::clone(worker))),
            None => self.workers.iter().map(|w| rest(w)).min().map(Err),
        }
    }

    async fn check(&self, worker: &Worker) {
        let answer = self.ask_health(worker).await;
        let health = answer.and_then(|body| {
            serde_json::from_slice::<Health>(&body)
                .map_err(|error| format!("its health is not understood: {error}"))
        });
        match health {
            Ok(health) => worker.healthy(health),
            Err(reason) => worker.failed(&reason),
        }
    }

    /// What a worker says of itself, as JSON; its failure in words.
    async fn ask_health(&self, worker: &Worker) -> Result<bytes::Bytes, String> {
        let deadline = unix_ms() + ACTION_MS_MAX;
        let sealed = Envelope::new(ACTION_HEALTH, "hub", "hub", deadline).seal(&self.key);
        let action = Action {
            r#type: ACTION_HEALTH.to_owned(),
            body: sealed.map_err(|error| error.to_string())?.into(),
        };
        let mut client = worker.client();
        let ask = async {
            let mut answers = client.do_action(action).await?.into_inner();
            answers.message().await
        };
        let answer = tokio::time::timeout(Duration::from_millis(ACTION_MS_MAX), ask).await;
        match answer {
            Ok(Ok(Some(answer))) => Ok(answer.body),
            Ok(Ok(None)) => Err("it gave no answer".into()),
            Ok(Err(status)) => Err(reason(&status)),
            Err(_) => Err(format!("it did not answer within {ACTION_MS_MAX} ms")),
        }
    }
}

impl Worker {
    fn new(address: &str, tls_ca: Option<&[u8]>) -> Result<Self, WorkError> {
        let wrong = |reason: String| {
            WorkError::InvalidArgument(format!("worker address `{address}` {reason}"))
        };
        let scheme = if tls_ca.is_some() { "https" } else { "http" };
        let full = match address.contains("://") {
            true => address.to_owned(),
            false => format!("{scheme}://{address}"),
        };
        let uri: Uri = full.parse().map_err(|_| wrong("is not host:port".into()))?;
        if uri.port().is_none() {
            return Err(wrong("has no port: write host:port".into()));
        }
        let mut endpoint = Endpoint::from(uri.clone())
            .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10));
        match uri.scheme_str() {
            Some("https") => {
                let ca =
                    tls_ca.ok_or_else(|| wrong("needs the authority of its certificate".into()))?;
                let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
                endpoint = endpoint
                    .tls_config(tls)
                    .map_err(|error| wrong(format!("has no usable authority: {error}")))?;
            }
            Some("http") if is_loopback(&uri) => {}
            Some("http") => {
                return Err(wrong(
                    "is not a loopback address: use https:// and an authority".into(),
                ));
            }
            _ => return Err(wrong("must begin with http:// or https://".into())),
        }
        Ok(Self {
            address: address.to_owned(),
            channel: endpoint.connect_lazy(),
            in_flight: AtomicUsize::new(0),
            state: Mutex::default(),
        })
    }

    pub(crate) fn client(&self) -> FlightServiceClient<Channel> {
        FlightServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn take_batch(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// The worker answered: whatever failed before is over.
    pub(crate) fn succeeded(&self) {
        let mut state = self.state.lock();
        state.failures = 0;
        state.last_error = None;
        state.rest_until = None;
        state.checked_at = unix_ms();
    }

    /// The worker failed: it rests a little, longer each time. What fails while it rests, such
    /// as the other streams of a connection that broke, is the same failure.
    pub(crate) fn failed(&self, reason: &str) {
        let mut state = self.state.lock();
        if state.rest_until.is_some_and(|until| until > Instant::now()) {
            return;
        }
        if state.failures == 0 {
            tracing::info!(worker = %self.address, reason, "a worker failed");
        }
        let rest = BACKOFF_MS_MIN << state.failures.min(10);
        let rest = Duration::from_millis(rest.min(BACKOFF_MS_MAX));
        state.failures = state.failures.saturating_add(1);
        state.last_error = Some(reason.to_owned());
        state.rest_until = Some(Instant::now() + rest);
        state.checked_at = unix_ms();
    }

    fn healthy(&self, health: Health) {
        self.succeeded();
        self.state.lock().health = Some(health);
    }

    fn status(&self) -> WorkerStatus {
        let state = self.state.lock();
        let draining = state
            .health
            .as_ref()
            .is_some_and(|h| h.status == "draining");
        WorkerStatus {
            address: self.address.clone(),
            state: match () {
                () if state.checked_at == 0 => "unknown",
                () if state.last_error.is_some() => "unreachable",
                () if draining => "draining",
                () => "ready",
            },
            health: state.health.clone(),
            in_flight_batches: self.in_flight.load(Ordering::Relaxed),
            last_error: state.last_error.clone(),
            checked_at: state.checked_at,
        }
    }
}

/// True where every address that the host stands for is loopback.
fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return address.is_loopback();
    }
    match (bare, uri.port_u16().unwrap_or_default()).to_socket_addrs() {
        Ok(mut addresses) => {
            let mut some = false;
            addresses.all(|address| {
                some = true;
                address.ip().is_loopback()
            }) && some
        }
        Err(_) => false,
    }
}

/// A status in words for `hub.workers` and for errors: the worker's own where it sent any. A
/// status that the transport made up has a source.
pub(crate) fn reason(status: &tonic::Status) -> String {
    let made_up = status.message().is_empty() || std::error::Error::source(status).is_some();
    match status.code() {
        tonic::Code::Unavailable if made_up => "the worker cannot be reached".into(),
        _ => status.message().to_owned(),
    }
}
