//! The first message of a handshake, where no header says who calls: a `BasicAuth`, as Arrow's scenario
//! `auth:basic_proto` has it. Nobody knows yet who sends it, so that only so many bytes are read of it,
//! for so long, of so many at once from one address; then it is the header `authorization`, with what
//! locks, bounds and records that.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use arrow_flight::{BasicAuth, HandshakeRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use prost::Message;
use tonic::body::Body;

use crate::auth::{Peer, TOKEN_HEADER};
use crate::error::{Error, Result};

const MESSAGE_BYTES_MAX: usize = 4096;
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(5);
/// What gRPC has before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Handshakes from one address whose first message is waited for, over however many connections.
const WAITING_PER_PEER_MAX: usize = 16;

/// How many handshakes wait for their first message, by address; those of which none is known count
/// together.
#[derive(Debug, Default)]
pub struct Handshakes(Mutex<HashMap<Option<IpAddr>, usize>>);

/// One that waits, until it is dropped.
struct Waiting<'a> {
    handshakes: &'a Handshakes,
    address: Option<IpAddr>,
}

impl Handshakes {
    /// # Errors
    /// `ResourceExhausted` for more than may wait.
    fn wait(&self, address: Option<IpAddr>) -> Result<Waiting<'_>> {
        let mut waiting = self.0.lock();
        let count = waiting.entry(address).or_default();
        if *count >= WAITING_PER_PEER_MAX {
            return Err(Error::exhausted(format!(
                "{WAITING_PER_PEER_MAX} handshakes of your address wait for their first message; \
                 send it, or log in by the header `authorization`"
            )));
        }
        *count += 1;
        Ok(Waiting {
            handshakes: self,
            address,
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.handshakes.0.lock();
        if let Some(count) = waiting.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.address);
            }
        }
    }
}

/// Puts what the first message says into the headers, where neither they nor a certificate say who
/// calls, and gives the body that is left.
///
/// # Errors
/// `InvalidArgument` for a message that is larger than a name and a password are, or compressed;
/// `ResourceExhausted` where too many of that address wait.
pub async fn heard(
    handshakes: &Handshakes,
    peer: &Peer,
    headers: &mut HeaderMap,
    body: Body,
) -> Result<Body> {
    let is_shown = peer.certificates.as_ref().is_some_and(|c| !c.is_empty());
    if is_shown || headers.contains_key(AUTHORIZATION) || headers.contains_key(TOKEN_HEADER) {
        return Ok(body);
    }
    let _waiting = handshakes.wait(peer.address())?;
    if let Some(login) = said(body, MESSAGE_TIME_MAX).await? {
        headers.insert(AUTHORIZATION, login);
    }
    Ok(Body::empty())
}

/// The header that says what the message does; none where none comes, or it says nothing of the kind.
async fn said(body: Body, time_max: Duration) -> Result<Option<HeaderValue>> {
    let message = tokio::time::timeout(time_max, first_message(body)).await;
    Ok(match message {
        Ok(message) => message?.as_deref().and_then(header),
        Err(_) => None,
    })
}

fn header(message: &[u8]) -> Option<HeaderValue> {
    let request = HandshakeRequest::decode(message).ok()?;
    let BasicAuth { username, password } = BasicAuth::decode(request.payload).ok()?;
    // No name has a colon, behind which a header has the password.
    if username.is_empty() || username.contains(':') {
        return None;
    }
    let login = STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {login}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn first_message(mut body: Body) -> Result<Option<BytesMut>> {
    let mut read = BytesMut::new();
    loop {
        if let Some([flag, length @ ..]) = read.first_chunk::<PREFIX_BYTES>() {
            let length = u32::from_be_bytes(*length) as usize;
            if *flag != 0 || length > MESSAGE_BYTES_MAX {
                return Err(Error::invalid(format!(
                    "the first message of a handshake may have {MESSAGE_BYTES_MAX} bytes, \
                     uncompressed: a name and a password"
                )));
            }
            if read.len() >= PREFIX_BYTES + length {
                let mut message = read.split_off(PREFIX_BYTES);
                message.truncate(length);
                return Ok(Some(message));
            }
        }
        let frame = std::future::poll_fn(|context| {
            http_body::Body::poll_frame(Pin::new(&mut body), context)
        });
        let Some(Ok(frame)) = frame.await else {
            return Ok(None);
        };
        if let Ok(data) = frame.into_data() {
            let room = (PREFIX_BYTES + MESSAGE_BYTES_MAX).saturating_sub(read.len());
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
        // Frames without an end are no reason to miss the time.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use futures::{FutureExt, Stream};
    use http::{Request, Response};
    use rustls::pki_types::CertificateDer;
    use tempfile::TempDir;
    use tonic::{Code, Status};
    use tower::Service;

    use super::*;
    use crate::error::ErrorKind;
    use crate::hub::Hub;
    use crate::rig::{inside, open_hub};

    const FILE: &str = "
[server]
state = 'state'
[limits]
login_failures_per_person_max = 3
[[person]]
id = 'ada'
";
    const HANDSHAKE: &str = "Handshake";

    async fn opened() -> (TempDir, Arc<Hub>) {
        let folder = tempfile::tempdir().expect("folder");
        let hub = open_hub(folder.path(), FILE).await;
        let set = hub.store.set_password("ada", "correct horse").await;
        set.expect("set");
        (folder, hub)
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[0][..], &length, message].concat()
    }

    fn payload(payload: Vec<u8>) -> Vec<u8> {
        let request = HandshakeRequest {
            protocol_version: 0,
            payload: payload.into(),
        };
        framed(&request.encode_to_vec())
    }

    fn login(username: &str, password: &str) -> Vec<u8> {
        let basic = BasicAuth {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        payload(basic.encode_to_vec())
    }

    fn streamed(bytes: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Body {
        Body::new(axum::body::Body::from_stream(bytes))
    }

    fn whole(bytes: Vec<u8>) -> Body {
        Body::new(axum::body::Body::from(bytes))
    }

    async fn call(
        hub: &Arc<Hub>,
        verb: &str,
        headers: &[(&'static str, &str)],
        body: Body,
    ) -> Response<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        let path = format!("/arrow.flight.protocol.FlightService/{verb}");
        *request.uri_mut() = path.parse().expect("a path");
        for (name, value) in [("content-type", "application/grpc")].iter().chain(headers) {
            let value = HeaderValue::from_str(value).expect("a header");
            request.headers_mut().insert(*name, value);
        }
        let mut service = super::super::service(Arc::clone(hub), inside());
        service.call(request).await.expect("answered")
    }

    /// The bearer of a handshake, or why there is none.
    async fn begun(hub: &Arc<Hub>, body: Body) -> Result<String, Code> {
        let answer = call(hub, HANDSHAKE, &[], body).await;
        if let Some(status) = Status::from_header_map(answer.headers()) {
            return Err(status.code());
        }
        let bearer = answer.headers()["authorization"].to_str().expect("a text");
        Ok(bearer.strip_prefix("Bearer ").expect("a bearer").to_owned())
    }

    #[tokio::test]
    async fn a_message_logs_in_and_its_token_is_taken() {
        let (_folder, hub) = opened().await;
        let right = login("ada", "correct horse");
        begun(&hub, whole(right.clone())).await.expect("logs in");
        // Byte for byte, and with more behind it.
        let more = [right, vec![7; 10_000]].concat();
        let bytes = more.into_iter().map(|byte| Ok(Bytes::from(vec![byte])));
        let token = begun(&hub, streamed(futures::stream::iter(bytes))).await;
        let binary = STANDARD.encode(token.expect("logs in"));
        let binary = binary.as_str();
        let listed = async |headers: &[(&'static str, &str)]| {
            let answer = call(&hub, "ListActions", headers, whole(framed(&[]))).await;
            Status::from_header_map(answer.headers()).map(|status| status.code())
        };
        assert_eq!(listed(&[(TOKEN_HEADER, binary)]).await, None);
        // The other header counts, where there are both.
        for (headers, name) in [
            (vec![], "none"),
            (vec![(TOKEN_HEADER, "anVuaw")], "junk"),
            (vec![(TOKEN_HEADER, "%%%")], "no base64"),
            (vec![(TOKEN_HEADER, "")], "empty"),
            (vec![(TOKEN_HEADER, "/////w")], "no text"),
            (
                vec![("authorization", "Bearer no"), (TOKEN_HEADER, binary)],
                "both",
            ),
        ] {
            assert_eq!(
                listed(&headers).await,
                Some(Code::Unauthenticated),
                "{name}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_login_is_refused() {
        let (_folder, hub) = opened().await;
        let claimed = |flag: u8, length: u32| [&[flag][..], &length.to_be_bytes()].concat();
        for (sent, code) in [
            (login("ada", "wrong horse"), Code::Unauthenticated),
            (login("eve", "correct horse"), Code::Unauthenticated),
            (login("", ""), Code::Unauthenticated),
            (login("ada:correct horse", ""), Code::Unauthenticated),
            (payload(Vec::new()), Code::Unauthenticated),
            (payload(vec![0xff; 100]), Code::Unauthenticated),
            (framed(&[0xff; 100]), Code::Unauthenticated),
            (Vec::new(), Code::Unauthenticated),
            // Cut off.
            (
                login("ada", "correct horse")[..20].to_vec(),
                Code::Unauthenticated,
            ),
            (
                login("ada", &"x".repeat(MESSAGE_BYTES_MAX)),
                Code::InvalidArgument,
            ),
            // A length that is only claimed is not waited for, nor made room for.
            (claimed(0, u32::MAX), Code::InvalidArgument),
            (claimed(1, 10), Code::InvalidArgument),
        ] {
            let refused = begun(&hub, whole(sent)).await;
            assert_eq!(refused.expect_err("no login"), code);
        }
    }

    #[tokio::test]
    async fn guessing_locks_as_it_does_by_the_header() {
        let (_folder, hub) = opened().await;
        for _ in 0..3 {
            let wrong = begun(&hub, whole(login("ada", "wrong horse"))).await;
            wrong.expect_err("wrong");
        }
        let right = begun(&hub, whole(login("ada", "correct horse"))).await;
        right.expect_err("locked");
        let basic = format!("Basic {}", STANDARD.encode("ada:correct horse"));
        let headers = [("authorization", basic.as_str())];
        let answer = call(&hub, HANDSHAKE, &headers, Body::empty()).await;
        assert!(
            Status::from_header_map(answer.headers()).is_some(),
            "locked"
        );
    }

    /// Whoever says who they are by a header is not asked again.
    #[tokio::test]
    async fn no_byte_is_read_beside_a_header() {
        let (_folder, hub) = opened().await;
        for header in ["authorization", TOKEN_HEADER] {
            let is_read = Arc::new(AtomicBool::new(false));
            let read = Arc::clone(&is_read);
            let body = streamed(futures::stream::poll_fn(move |_| {
                read.store(true, Ordering::Relaxed);
                std::task::Poll::Pending
            }));
            let headers = [(header, "bm8")];
            let answered = call(&hub, HANDSHAKE, &headers, body);
            let answered = tokio::time::timeout(Duration::from_secs(4), answered).await;
            let answered = answered.expect("at once");
            let status = Status::from_header_map(answered.headers()).expect("a status");
            assert_eq!(status.code(), Code::Unauthenticated);
            assert!(!is_read.load(Ordering::Relaxed));
        }
    }

    /// A handshake from there of which nothing comes.
    async fn silent(handshakes: &Handshakes, peer: &Peer) -> Result<Body> {
        let body = streamed(futures::stream::pending());
        heard(handshakes, peer, &mut HeaderMap::new(), body).await
    }

    #[tokio::test]
    async fn so_many_of_an_address_are_waited_for() {
        let handshakes = Handshakes::default();
        for name in ["192.0.2.1", "[2001:db8::1]", "local"] {
            let peers: Vec<Peer> = (1..=WAITING_PER_PEER_MAX)
                // Each from a connection of its own.
                .map(|port| Peer::from(format!("{name}:{port}").as_str()))
                .collect();
            let mut waiting: Vec<_> = peers
                .iter()
                .map(|peer| silent(&handshakes, peer).boxed())
                .collect();
            for one in &mut waiting {
                assert!(one.now_or_never().is_none(), "waits");
            }
            let refused = silent(&handshakes, &peers[0]).now_or_never();
            let error = refused.expect("at once").expect_err("too many");
            assert_eq!(error.kind, ErrorKind::ResourceExhausted);
            // Others are heard, and by a header the same are.
            let other = silent(&handshakes, &Peer::from("192.0.2.2:1")).now_or_never();
            assert!(other.is_none(), "waits");
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic x"));
            let told = heard(&handshakes, &peers[0], &mut headers, Body::empty()).await;
            told.expect("not waited for");
            drop(waiting.pop());
            assert!(silent(&handshakes, &peers[0]).now_or_never().is_none());
            drop(waiting);
            assert!(handshakes.0.lock().is_empty(), "none waits");
        }
    }

    /// Whoever shows a certificate has said who they are: all else of the body is theirs to send.
    #[tokio::test]
    async fn nobody_is_waited_for_who_shows_a_certificate() {
        let handshakes = Handshakes::default();
        let shown = |certificates: Vec<CertificateDer<'static>>| Peer {
            certificates: Some(Arc::new(certificates)),
            ..Peer::from("192.0.2.1:1")
        };
        let peer = shown(vec![CertificateDer::from(vec![0x30])]);
        let answered = silent(&handshakes, &peer).now_or_never();
        answered.expect("at once").expect("left as it is");
        let none = shown(Vec::new());
        assert!(silent(&handshakes, &none).now_or_never().is_none());
    }

    #[tokio::test]
    async fn nobody_is_waited_for_who_does_not_say_who_they_are() {
        let silent = streamed(futures::stream::pending());
        let empty = streamed(futures::stream::repeat_with(|| Ok(Bytes::new())));
        let begun = streamed(futures::stream::iter([Ok(Bytes::from_static(&[0]))]));
        for body in [silent, empty, begun] {
            let said = said(body, Duration::from_millis(50));
            let said = tokio::time::timeout(Duration::from_secs(5), said).await;
            assert!(said.expect("ends").expect("no error").is_none());
        }
    }
}
