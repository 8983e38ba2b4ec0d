//! The door of the service: who calls is told from the headers, before a byte of the message is
//! read. tonic reads and decodes a whole message before it hands it to a verb; nobody who is not
//! known makes the hub do that, and of whoever is, so many bytes are under way at once (`begun.rs`).
//! Of a handshake without such a header, nor a certificate, a few bytes are read.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use hubflight_rights::Zone;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;
use tracing::Instrument;
use uuid::Uuid;

use super::{basic_auth, begun, call, connections, uncopied};
use crate::error::Error;
use crate::exec::admission::CallPlace;
use crate::hub::Hub;

/// The one call that needs no caller: it answers with who calls.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

const REQUEST_ID: &str = "x-request-id";
const REQUEST_ID_BYTES_MAX: usize = 128;

/// A service whose calls carry their [`call::Caller`].
#[derive(Clone, Debug)]
pub struct Door<S> {
    hub: Arc<Hub>,
    /// Of the listener that it stands at.
    zone: Zone,
    service: S,
    /// How long an answer may go on.
    time_max: Option<Duration>,
}

impl<S> Door<S> {
    pub(super) fn new(hub: Arc<Hub>, zone: Zone, service: S) -> Self {
        Self {
            hub,
            zone,
            service,
            time_max: None,
        }
    }

    /// The same service, whose answers end after that time.
    pub(super) fn for_at_most(self, time_max: Duration) -> Self {
        let time_max = Some(time_max);
        Self { time_max, ..self }
    }
}

impl<S: NamedService> NamedService for Door<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Door<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (hub, zone) = (Arc::clone(&self.hub), self.zone.clone());
        // The one that is ready is called; its clone is made ready for the next call.
        let next = self.service.clone();
        let mut service = std::mem::replace(&mut self.service, next);
        let id = request_id(request.headers());
        let span = tracing::error_span!("call", request = ?id);
        let time_max = self.time_max;
        let came = Instant::now();
        let answered = async move {
            let (mut head, mut body) = request.into_parts();
            let (mut place, mut timeout, mut held) = (None, None, None);
            let refused = |error: Error| {
                hub.metrics.refused(error.kind);
                Ok(Status::from(error).into_http())
            };
            if let Err(error) = connections::check(&head.extensions) {
                return refused(error);
            }
            if head.uri.path() == HANDSHAKE {
                let peer = call::peer(&head.extensions);
                let heard = basic_auth::heard(&hub.handshakes, &peer, &mut head.headers, body);
                match heard.await {
                    Ok(left) => body = left,
                    Err(error) => return refused(error),
                }
            } else {
                match call::admit(&hub, &zone, &head).await {
                    Ok(caller) => {
                        place = Some(caller.place.clone());
                        timeout = caller.timeout;
                        let sent = hub.begun.held(&caller.principal.person.id);
                        body = begun::followed(&sent, head.uri.path(), body);
                        head.extensions.insert(sent.clone());
                        held = Some(sent);
                        head.extensions.insert(caller);
                    }
                    Err(error) => return refused(error),
                }
            }
            let answer = service.call(Request::from_parts(head, body));
            let answer = match timeout {
                Some(timeout) => in_time(came, timeout, answer).await?,
                None => answer.await?,
            };
            // A verb has what it was sent until it answers.
            drop(held);
            let answer = uncopied::sent(answer);
            Ok::<_, Infallible>(answer.map(|body| kept(body, place, time_max)))
        };
        async move {
            let mut response = answered.instrument(span).await?;
            response.headers_mut().insert(REQUEST_ID, id);
            Ok(response)
        }
        .boxed()
    }
}

/// The answer, or a moment before the client's timeout that it is late: tonic, which looks for the
/// same timeout, would say that the call was cancelled.
async fn in_time(
    came: Instant,
    timeout: Duration,
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
) -> Result<Response<Body>, Infallible> {
    let ends = came + timeout.saturating_sub(call::moment(timeout));
    match tokio::time::timeout_at(ends, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = "the call took longer than its client waits; what changes something may have \
                        done so, look before you repeat it";
            Ok(Status::deadline_exceeded(text).into_http())
        }
    }
}

/// An answer that takes up one of its person's calls to its end, and that ends in time.
fn kept(body: Body, place: Option<CallPlace>, time_max: Option<Duration>) -> Body {
    let ends = time_max.map(|time| Box::pin(tokio::time::sleep(time)));
    Body::new(Kept {
        body: Some(body),
        ends,
        _place: place,
    })
}

struct Kept {
    /// None after its time.
    body: Option<Body>,
    ends: Option<Pin<Box<Sleep>>>,
    _place: Option<CallPlace>,
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(ends) = &mut self.ends
            && ends.as_mut().poll(context).is_ready()
        {
            self.ends = None;
            self.body = None;
            let late = Status::deadline_exceeded("this call was open for long; call again");
            let mut trailers = HeaderMap::new();
            let told = late.add_header(&mut trailers);
            return Poll::Ready(Some(told.map(|()| Frame::trailers(trailers))));
        }
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

/// What a client calls its request, if that is short and printable, or a name of ours: it is told
/// back, refused or not, and stands in the log.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|value| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    given.cloned().unwrap_or_else(|| {
        let made = Uuid::now_v7().to_string();
        HeaderValue::try_from(made).unwrap_or(HeaderValue::from_static("unnamed"))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tonic::Code;

    use super::*;
    use crate::rig::{inside, open_hub};

    const FILE: &str = "
[server]
state = 'state'
[[person]]
id = 'ada'
";

    /// A body that never ends, and tells whether somebody asked for a byte of it.
    fn endless(touched: &Arc<AtomicBool>) -> Body {
        let touched = Arc::clone(touched);
        let bytes = futures::stream::poll_fn(move |_| -> Poll<Option<Result<Bytes, Status>>> {
            touched.store(true, Ordering::Relaxed);
            Poll::Pending
        });
        Body::new(axum::body::Body::from_stream(bytes))
    }

    fn request(path: &str, bearer: Option<&str>, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = path.parse().expect("a path");
        let grpc = HeaderValue::from_static("application/grpc");
        request.headers_mut().insert("content-type", grpc);
        if let Some(bearer) = bearer {
            let value = format!("Bearer {bearer}").parse().expect("a header");
            request.headers_mut().insert("authorization", value);
        }
        request
    }

    #[tokio::test]
    async fn no_byte_is_read_of_somebody_who_is_not_known() {
        let folder = tempfile::tempdir().expect("folder");
        let hub = open_hub(folder.path(), FILE).await;
        let ada = hub.store.person("ada").await.expect("read").expect("there");
        let token = hub.auth.tokens.issue(
            &ada.id,
            ada.token_epoch,
            Default::default(),
            chrono::Utc::now(),
        );
        let token = token.expect("issued");
        let mut service = super::super::service(Arc::clone(&hub), inside());
        for verb in [
            "GetFlightInfo",
            "PollFlightInfo",
            "GetSchema",
            "DoGet",
            "DoPut",
            "DoAction",
            "DoExchange",
            "ListActions",
            "ListFlights",
        ] {
            let path = format!("/arrow.flight.protocol.FlightService/{verb}");
            for bearer in [None, Some("wrong")] {
                let touched = Arc::new(AtomicBool::new(false));
                let refused = service.call(request(&path, bearer, endless(&touched)));
                let wait = Duration::from_secs(5);
                let refused = tokio::time::timeout(wait, refused).await;
                let refused = refused.expect("answered at once").expect("answered");
                let status = Status::from_header_map(refused.headers()).expect("a status");
                assert_eq!(status.code(), Code::Unauthenticated, "{verb}");
                assert!(!touched.load(Ordering::Relaxed), "{verb}: read");
            }
        }
        // Whoever is known is read.
        let touched = Arc::new(AtomicBool::new(false));
        let path = "/arrow.flight.protocol.FlightService/GetFlightInfo";
        let answer = service.call(request(path, Some(&token), endless(&touched)));
        let wait = Duration::from_millis(200);
        let waited = tokio::time::timeout(wait, answer).await;
        assert!(waited.is_err() && touched.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_request_keeps_its_name() {
        let folder = tempfile::tempdir().expect("folder");
        let hub = open_hub(folder.path(), FILE).await;
        let mut service = super::super::service(hub, inside());
        let mut named = async |name: Option<&[u8]>| {
            let path = "/arrow.flight.protocol.FlightService/ListActions";
            let mut request = request(path, None, Body::empty());
            if let Some(name) = name {
                let name = HeaderValue::from_bytes(name).expect("a header");
                request.headers_mut().insert(REQUEST_ID, name);
            }
            let answer = service.call(request).await.expect("answered");
            let names: Vec<_> = answer.headers().get_all(REQUEST_ID).iter().collect();
            assert_eq!(names.len(), 1);
            names[0].as_bytes().to_vec()
        };
        assert_eq!(named(Some(b"trace-7")).await, b"trace-7");
        let long = [b'x'; REQUEST_ID_BYTES_MAX + 1];
        for wrong in [
            None,
            Some(&b""[..]),
            Some(b"two words"),
            Some(b"\xc3\xa9"),
            Some(&long),
        ] {
            let name = String::from_utf8(named(wrong).await).expect("a text");
            name.parse::<Uuid>().expect("one of ours");
        }
    }

    #[tokio::test]
    async fn a_client_that_waits_no_longer_is_told_that_it_is_late() {
        let never = std::future::pending();
        let answer = in_time(Instant::now(), Duration::from_millis(40), never).await;
        let answer = answer.expect("answered");
        let status = Status::from_header_map(answer.headers()).expect("a status");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let at_once = async { Ok(Response::new(Body::empty())) };
        let answer = in_time(Instant::now(), Duration::from_secs(1), at_once).await;
        assert!(Status::from_header_map(answer.expect("answered").headers()).is_none());
    }

    #[tokio::test]
    async fn an_answer_ends_in_its_time() {
        let touched = Arc::new(AtomicBool::new(false));
        let mut answer = kept(endless(&touched), None, Some(Duration::from_millis(20)));
        let mut next = async || {
            let body = &mut answer;
            std::future::poll_fn(|context| {
                http_body::Body::poll_frame(Pin::new(&mut *body), context)
            })
            .await
        };
        let told = next().await.expect("its end").expect("told");
        assert!(next().await.is_none());
        assert!(touched.load(Ordering::Relaxed), "nothing was read of it");
        let status = Status::from_header_map(told.trailers_ref().expect("trailers"));
        assert_eq!(status.expect("a status").code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn calls_of_one_person_are_bounded() {
        let folder = tempfile::tempdir().expect("folder");
        let hub = open_hub(folder.path(), FILE).await;
        let places: Vec<_> = (0..crate::exec::admission::CALLS_PER_PERSON_MAX)
            .map(|_| hub.engine.call("ada").expect("room"))
            .collect();
        let ada = hub.store.person("ada").await.expect("read").expect("there");
        let token = hub.auth.tokens.issue(
            &ada.id,
            ada.token_epoch,
            Default::default(),
            chrono::Utc::now(),
        );
        let token = token.expect("issued");
        let mut service = super::super::service(Arc::clone(&hub), inside());
        let path = "/arrow.flight.protocol.FlightService/ListActions";
        let mut code = async || {
            let answer = service.call(request(path, Some(&token), Body::empty()));
            let answer = answer.await.expect("answered");
            Status::from_header_map(answer.headers()).map(|status| status.code())
        };
        assert_eq!(code().await, Some(Code::ResourceExhausted));
        hub.engine.call("eve").expect("her own");
        drop(places);
        assert_ne!(code().await, Some(Code::ResourceExhausted));
    }
}
