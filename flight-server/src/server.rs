//! From a configuration to a running server.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hubflight_protocol::Key;
use hubflight_rights::Zone;
use hubflight_udfs::{PoolConfig, WorkerPool};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::ServerTlsConfig;
use tonic::transport::server::TcpIncoming;

use crate::airlock;
use crate::catalog::space;
use crate::config::{Config, Listener};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::{revocation, transactions};
use crate::flight::connections::{ConnectionLimits, bounded};
use crate::http::{self, About};
use crate::hub::{Hub, Mode, open_store};
use crate::open_files;
use crate::provision::provision;
use crate::supervise::Supervisor;
use crate::{flight, rules, tls};

/// HTTP/2 flow control: what a client may send ahead of its being read, whoever it is. Results go
/// the other way, at the pace of the client's own windows.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Calls of one connection at once; a client's others wait there.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Streams of a connection that may end in errors that the client provoked, before it is closed:
/// tonic passes hyper's own limit by.
const STREAMS_RESET_MAX: usize = 1024;
/// Pings keep a silent stream alive through middle boxes, and find dead clients.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long a stop waits for what runs.
const DRAIN_MAX: Duration = Duration::from_secs(20);
/// How long a start waits for workers that it does not supervise.
const WORKERS_WAIT: Duration = Duration::from_secs(3);
const SETTLE_PAUSE: Duration = Duration::from_millis(20);

/// A server that answers.
pub struct Server {
    pub hub: Arc<Hub>,
    pub flight: SocketAddr,
    pub http: SocketAddr,
    tasks: JoinSet<Result<()>>,
    stop: watch::Sender<bool>,
    /// Ends what runs on rights that have ended.
    rights: AbortOnDropHandle<()>,
    transactions: AbortOnDropHandle<()>,
    exports: AbortOnDropHandle<()>,
    supervisor: Option<Supervisor>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("flight", &self.flight)
            .field("http", &self.http)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Opens everything and starts to answer; returns as soon as queries are answered.
    pub async fn start(config: Config, mode: Mode) -> Result<Self> {
        config.validate()?;
        let files = open_files::raise();
        // Ports first: a port in use is found before anything is opened.
        let mut listeners = Vec::new();
        if config.server.zone.is_none() {
            tracing::warn!(
                "`server.zone` is not declared: callers of `{}` are outside, where rows of \
                 datasets are not read; declare `zone = \"inside\"` if they are not",
                config.server.flight
            );
        }
        for (index, listener) in config.listeners().into_iter().enumerate() {
            let key = ["server.flight", "listener.flight"][index.min(1)];
            let tls = listener_tls(&config, &listener)?;
            listeners.push((bind(listener.flight, key).await?, listener.zone, tls));
        }
        let Some((first, ..)) = listeners.first() else {
            return Err(Error::invalid("there is no listener"));
        };
        let flight = address(first)?;
        let http = bind(config.server.http, "server.http").await?;
        let (store, secrets) = open_store(&config).await?;
        let (workers, supervisor) = workers(&config, mode).await?;
        let hub = Hub::open(config, mode, store, secrets.clone(), workers).await?;
        if let Some(supervisor) = &supervisor {
            supervisor.report_to(&hub.metrics);
        }
        provision(&hub.store, &secrets, &hub.config, &hub.datasets).await?;
        rules::record(&hub, &secrets).await?;
        space::clean_up(&hub).await?;
        let (stop, stopped) = watch::channel(false);
        let mut server = Self {
            flight,
            http: address(&http)?,
            tasks: JoinSet::new(),
            stop,
            rights: AbortOnDropHandle::new(tokio::spawn(revocation::watch(Arc::clone(&hub)))),
            transactions: AbortOnDropHandle::new(tokio::spawn(transactions::watch(Arc::clone(
                &hub,
            )))),
            exports: AbortOnDropHandle::new(tokio::spawn(airlock::watch(Arc::clone(&hub)))),
            supervisor,
            hub,
        };
        let limits = &server.hub.config.limits;
        let connections_max =
            open_files::connections(limits.connections_max, files, listeners.len());
        let limits = ConnectionLimits {
            connections_max,
            per_address_max: limits.connections_per_address_max(connections_max),
            ..ConnectionLimits::default()
        };
        for (listener, zone, tls) in listeners {
            server.serve_flight(listener, (zone, tls), limits, stopped.clone());
        }
        server.serve_http(http, mode, stopped);
        Ok(server)
    }

    fn serve_flight(
        &mut self,
        listener: TcpListener,
        (zone, tls): (Zone, Option<ServerTlsConfig>),
        limits: ConnectionLimits,
        stopped: watch::Receiver<bool>,
    ) {
        let hub = Arc::clone(&self.hub);
        self.tasks.spawn(async move {
            let health = flight::about::health(Arc::clone(&hub), stopped.clone());
            let reflection = flight::about::reflection(Arc::clone(&hub), zone.clone())?;
            let older = flight::about::older_reflection(Arc::clone(&hub), zone.clone())?;
            let service = flight::service(hub, zone);
            let wrong = |error: tonic::transport::Error| {
                Error::internal("the Flight server stopped", &error)
            };
            let mut builder = tonic::transport::Server::builder()
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
                .http2_max_local_error_reset_streams(Some(STREAMS_RESET_MAX))
                .http2_keepalive_interval(Some(KEEPALIVE));
            if let Some(tls) = tls {
                builder = builder.tls_config(tls).map_err(wrong)?;
            }
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let incoming = bounded(incoming, limits);
            builder
                .add_service(service)
                .add_service(health)
                .add_service(reflection)
                .add_service(older)
                .serve_with_incoming_shutdown(incoming, until(stopped))
                .await
                .map_err(wrong)
        });
    }

    fn serve_http(&mut self, listener: TcpListener, mode: Mode, stopped: watch::Receiver<bool>) {
        let about = About {
            flight: self.flight,
            http: self.http,
            tls: self.hub.config.server.tls.is_some(),
            demo: mode.passwords,
        };
        let router = http::router(Arc::clone(&self.hub), about);
        self.tasks.spawn(async move {
            http::serve(listener, router, until(stopped))
                .await
                .map_err(|error| Error::internal("the HTTP server stopped", &error))
        });
    }

    /// Serves until `shutdown`, then drains.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<()> {
        tokio::pin!(shutdown);
        let ended = tokio::select! {
            () = &mut shutdown => None,
            ended = self.tasks.join_next() => ended,
        };
        self.stop().await?;
        match ended {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => Err(Error::internal("a server task failed", &error)),
            None => Ok(()),
        }
    }

    /// Stops taking calls, waits a bounded time for those that run, settles and stops the
    /// worker.
    pub async fn stop(mut self) -> Result<()> {
        // Nobody listens any more if the tasks are gone.
        let _ = self.stop.send(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            tracing::warn!("some statements did not end in time and are cancelled");
            self.hub.running.cancel_all();
            let settled = async {
                while !self.hub.running.is_empty() {
                    tokio::time::sleep(SETTLE_PAUSE).await;
                }
            };
            // What is not settled by then is settled by the next start, from its last interim.
            let _ = tokio::time::timeout(DRAIN_MAX, settled).await;
            self.tasks.shutdown().await;
        }
        self.rights.abort();
        self.transactions.abort();
        self.hub.transactions.end_all();
        self.exports.abort();
        self.hub.ledger.close().await?;
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.stop().await;
        }
        self.hub.store.close().await;
        Ok(())
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// What a listener shows its clients and asks of them.
fn listener_tls(config: &Config, listener: &Listener) -> Result<Option<ServerTlsConfig>> {
    let Some(mut files) = config.server.tls.clone() else {
        return Ok(None);
    };
    if let Some(demand) = listener.client_certificates {
        files.client_certificates = demand;
    }
    tls::server_config(&files).map(Some)
}

async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::invalid(format!(
            "cannot listen on `{address}`: {error}; end what uses it, or set `{key}` to another \
             address"
        ))
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr> {
    listener
        .local_addr()
        .map_err(|error| Error::internal("a listener has no address", &error))
}

/// The pool of the configuration, or one supervised worker of our own.
async fn workers(config: &Config, mode: Mode) -> Result<(Arc<WorkerPool>, Option<Supervisor>)> {
    let unusable = |error: &dyn std::fmt::Display| Error::invalid(format!("workers: {error}"));
    let (addresses, key, supervisor) = if config.workers.addresses.is_empty() {
        let key = Key::new(hubflight_tickets::random()?);
        let supervisor = Supervisor::start(config.workers.listen, &key).await?;
        let address = supervisor.address().to_string();
        (vec![address], key, Some(supervisor))
    } else {
        (config.workers.addresses.clone(), config.worker_key()?, None)
    };
    let authority = config.workers.authority.as_ref().map(|path| {
        std::fs::read(path)
            .map_err(|error| unusable(&format!("cannot read `{}`: {error}", path.display())))
    });
    let pool = WorkerPool::new(PoolConfig {
        workers: addresses,
        key,
        tls_ca: authority.transpose()?,
        io: tokio::runtime::Handle::current(),
    })
    .map_err(|error| unusable(&error))?;
    match &supervisor {
        Some(supervisor) => supervisor.ready(&pool).await?,
        // Workers of somebody else's may come later, but a demo's must be there.
        None => match pool.wait_ready(WORKERS_WAIT).await {
            Err(error) if mode.passwords => {
                return Err(Error::new(ErrorKind::Unavailable, error.to_string()));
            }
            Err(error) => tracing::warn!(%error, "functions wait for a worker"),
            Ok(()) => {}
        },
    }
    Ok((pool, supervisor))
}
