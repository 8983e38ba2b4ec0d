//! The door of the service: who calls is told from the headers, before a byte of the message is
//! read. tonic reads and decodes a whole message before it hands it to a verb; nobody who is not
//! known makes the hub do that.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use hubflight_rights::Zone;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::call;
use crate::hub::Hub;

/// The one call that needs no caller: it reads no message, and answers with who calls.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// A service whose calls carry their [`call::Caller`].
#[derive(Clone, Debug)]
pub struct Door<S> {
    hub: Arc<Hub>,
    /// Of the listener that it stands at.
    zone: Zone,
    service: S,
}

impl<S> Door<S> {
    pub(super) fn new(hub: Arc<Hub>, zone: Zone, service: S) -> Self {
        Self { hub, zone, service }
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
        async move {
            let (mut head, body) = request.into_parts();
            if head.uri.path() != HANDSHAKE {
                match call::admit(&hub, &zone, &head).await {
                    Ok(caller) => drop(head.extensions.insert(caller)),
                    Err(error) => {
                        hub.metrics.refused(error.kind);
                        return Ok(Status::from(error).into_http());
                    }
                }
            }
            service.call(Request::from_parts(head, body)).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderValue;
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
