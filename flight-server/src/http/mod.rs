//! Plain HTTP on loopback: what operators and their tools ask. No data of any dataset, no
//! person but the demo's accounts.
//!
//! `/healthz` the process is alive · `/readyz` queries are answered · `/metrics` Prometheus ·
//! `/` what is running and how to connect. Only GET and HEAD; no request body is ever read.

mod connect;
mod page;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use hubflight_udfs::WorkerStatus;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hub::Hub;
use page::{Account, Page};

/// Connections that are served at once; others wait in the listener's queue.
const CONNECTIONS_MAX: usize = 256;
/// A client that does not send its next request's headers in this time is disconnected.
const HEADERS_WAIT_MS_MAX: u64 = 10_000;
/// Request line and headers together.
const HEADERS_BYTES_MAX: usize = 16 << 10;
const HEADERS_COUNT_MAX: usize = 64;
/// How long a stop waits for answers under way.
const STOP_WAIT_MS_MAX: u64 = 2_000;
/// How long the store, and the workers, may take to answer a question of `/readyz`.
const CHECK_WAIT_MS_MAX: u64 = 1_000;
/// Pause after the system refused a connection, as when it is out of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What the pages say of the server that the hub itself does not know.
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub flight: SocketAddr,
    pub http: SocketAddr,
    /// Whether Flight SQL speaks TLS.
    pub tls: bool,
    /// Whether this is the demo, whose accounts may be shown.
    pub demo: bool,
}

#[derive(Clone)]
struct Pages {
    hub: Arc<Hub>,
    about: About,
    started: Instant,
}

/// The pages of a hub.
pub fn router(hub: Arc<Hub>, about: About) -> Router {
    let pages = Pages {
        hub,
        about,
        started: Instant::now(),
    };
    Router::new()
        .route("/", get(home))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

/// Serves until `shutdown`, then finishes the answers under way, a bounded time.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let stop = CancellationToken::new();
    let connections = TaskTracker::new();
    tokio::pin!(shutdown);
    loop {
        let (stream, place) = tokio::select! {
            accepted = accept(&listener, &places) => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        connections.spawn(connection(stream, router.clone(), stop.clone(), place));
    }
    drop(listener);
    stop.cancel();
    connections.close();
    let wait = Duration::from_millis(STOP_WAIT_MS_MAX);
    // Whoever is slower than that loses a page that can be asked for again.
    let _ = tokio::time::timeout(wait, connections.wait()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

async fn connection(
    stream: TcpStream,
    router: Router,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADERS_WAIT_MS_MAX))
        .max_buf_size(HEADERS_BYTES_MAX)
        .max_headers(HEADERS_COUNT_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // Clients that go away or speak nonsense are their own affair.
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn alive() -> Response {
    plain("alive\n".into())
}

/// 200 when the store answers, so that queries are answered. Workers are stated and do not
/// decide: SQL without functions needs none, and a pool may be scaled to zero.
async fn ready(State(pages): State<Pages>) -> Response {
    let wait = Duration::from_millis(CHECK_WAIT_MS_MAX);
    let (store, workers) = tokio::join!(
        tokio::time::timeout(wait, pages.hub.is_ready()),
        worker_status(&pages.hub),
    );
    let reasons: Vec<&str> = match store {
        Ok(true) => Vec::new(),
        Ok(false) => vec!["the store does not answer; see the server's log"],
        Err(_) => vec!["the store does not answer in time; see its server and disk"],
    };
    let workers: Vec<serde_json::Value> = workers
        .into_iter()
        .map(|worker| serde_json::json!({ "address": worker.address, "state": worker.state }))
        .collect();
    let status = match reasons.as_slice() {
        [] => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    // Queries are answered while checkpoints of the audit wait for a place that is away.
    let places = pages.hub.ledger.second_places().iter();
    let places: Vec<serde_json::Value> = places
        .map(|place| serde_json::json!({ "place": place.kind, "state": place.state() }))
        .collect();
    let body = serde_json::json!({
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "workers": workers,
        "audit": places,
    });
    (status, [no_store()], Json(body)).into_response()
}

/// The workers as they are now, or as they were last known where they do not answer in time.
async fn worker_status(hub: &Hub) -> Vec<WorkerStatus> {
    let wait = Duration::from_millis(CHECK_WAIT_MS_MAX);
    match tokio::time::timeout(wait, hub.workers.refresh()).await {
        Ok(status) => status,
        Err(_) => hub.workers.status(),
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let Pages { hub, .. } = &pages;
    let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let metrics = &hub.metrics;
    metrics
        .queries_running
        .set(gauge(hub.engine.queries_running()));
    metrics
        .queries_waiting
        .set(gauge(hub.engine.queries_waiting()));
    metrics
        .memory_reserved_bytes
        .set(gauge(hub.engine.memory_reserved()));
    metrics.begun_message_bytes.set(gauge(hub.begun.bytes()));
    metrics.sessions.set(gauge(hub.auth.sessions.count()));
    for place in hub.ledger.second_places() {
        metrics.second_place(place);
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind), no_store()], metrics.render()).into_response()
}

async fn home(State(pages): State<Pages>) -> Response {
    let Pages {
        hub,
        about,
        started,
    } = &pages;
    let page = Page {
        about: *about,
        ca: authority(hub),
        uptime: started.elapsed(),
        queries_running: hub.engine.queries_running(),
        datasets: hub.datasets.iter().cloned().collect(),
        workers: worker_status(hub).await,
        accounts: accounts(hub, about),
    };
    let headers = [
        (CONTENT_SECURITY_POLICY, page::content_security_policy()),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        no_store(),
    ];
    (headers, Html(page.html())).into_response()
}

/// The file that clients trust: the demo's, beside the server's certificate.
fn authority(hub: &Hub) -> Option<String> {
    let tls = hub.config.server.tls.as_ref()?;
    let ca = tls.certificate.with_file_name("ca.pem");
    let ca = ca.canonicalize().ok()?;
    Some(ca.to_string_lossy().into_owned())
}

/// The demo's accounts with their projects; nobody's elsewhere.
fn accounts(hub: &Hub, about: &About) -> Vec<Account> {
    if !about.demo {
        return Vec::new();
    }
    let account = |person: &crate::config::PersonConfig| Account {
        id: person.id.clone(),
        name: person.name.clone(),
        projects: hub
            .config
            .projects
            .iter()
            .filter(|project| project.members.contains(&person.id))
            .map(|project| project.id.clone())
            .collect(),
    };
    hub.config.persons.iter().map(account).collect()
}

fn plain(text: String) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    ([(CONTENT_TYPE, kind), no_store()], text).into_response()
}

fn no_store() -> (HeaderName, HeaderValue) {
    (CACHE_CONTROL, HeaderValue::from_static("no-store"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    /// Serves `/healthz` alone, which needs no hub.
    async fn started() -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
        let address = listener.local_addr().expect("known");
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new().route("/healthz", get(alive));
        let server = tokio::spawn(async move {
            let shutdown = async { stopped.await.unwrap_or(()) };
            serve(listener, router, shutdown).await.expect("served");
        });
        (address, stop, server)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        // A server that refuses may close before everything was read.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn only_known_paths_and_methods_are_answered() {
        let (address, stop, server) = started().await;
        for (method, path, status) in [
            ("GET", "/healthz", "200"),
            ("HEAD", "/healthz", "200"),
            ("POST", "/healthz", "405"),
            ("DELETE", "/healthz", "405"),
            ("GET", "/healthz/../etc/passwd", "404"),
            ("GET", "/nothing", "404"),
        ] {
            let answer = ask(address, &request(method, path)).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{method} {path}: {answer}"
            );
        }
        stop.send(()).expect("serving");
        server.await.expect("stops");
        TcpStream::connect(address)
            .await
            .expect_err("nobody listens");
    }

    #[tokio::test]
    async fn headers_are_bounded() {
        let (address, _stop, _server) = started().await;
        let long = format!(
            "GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n",
            "a".repeat(64 << 10)
        );
        assert!(!ask(address, &long).await.contains(" 200 "));
        let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));
        assert!(!ask(address, &many).await.contains(" 200 "));
        let fine = ask(address, &request("GET", "/healthz")).await;
        assert!(fine.contains(" 200 "), "still serving: {fine}");
    }

    #[tokio::test]
    async fn a_silent_client_does_not_hold_up_a_stop() {
        let (address, stop, server) = started().await;
        let _silent = TcpStream::connect(address).await.expect("connects");
        assert!(
            ask(address, &request("GET", "/healthz"))
                .await
                .contains("alive")
        );
        let begun = Instant::now();
        stop.send(()).expect("serving");
        server.await.expect("stops");
        assert!(begun.elapsed() < Duration::from_millis(STOP_WAIT_MS_MAX + 1000));
    }
}
