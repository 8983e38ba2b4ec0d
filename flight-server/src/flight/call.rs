//! What every call has in common: who calls, from which session, until when.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::{HandshakeRequest, HandshakeResponse};
use chrono::{DateTime, Utc};
use http::request::Parts;
use hubflight_rights::Zone;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::server::TlsConnectInfo;
use tonic::{Extensions, Request, Response, Streaming};

use super::connections::Client;
use super::{Answer, BoxStream};
use crate::auth::{Peer, Principal};
use crate::catalog::project::{Look, ProjectView, Viewer};
use crate::catalog::space::Overlay;
use crate::error::{Error, Result};
use crate::exec::admission::CallPlace;
use crate::hub::Hub;

/// A caller and the time that their call may take.
#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Principal,
    /// Of the listener that was called.
    pub zone: Zone,
    pub now: DateTime<Utc>,
    /// From the header `grpc-timeout`.
    pub timeout: Option<Duration>,
    /// Among the calls of this person: kept by what the call leaves behind, as a stream.
    pub place: CallPlace,
}

impl Caller {
    /// What is left of the client's timeout, so that a statement says itself that it is late.
    pub fn time_left(&self) -> Option<Duration> {
        let timeout = self.timeout?;
        let left = timeout.saturating_sub(self.place.since.elapsed());
        Some(left.saturating_sub(2 * moment(timeout)))
    }

    /// The same caller at a later moment.
    pub fn at(&self, now: DateTime<Utc>) -> Self {
        Self {
            now,
            ..self.clone()
        }
    }

    /// The same caller, let in anew: what they sent may have taken them long.
    ///
    /// # Errors
    /// As at the door, where what let them in has ended since.
    pub async fn again(&self, hub: &Arc<Hub>) -> Result<Self> {
        let now = Utc::now();
        let rights = hub.store.rights().await?;
        let mut caller = self.at(now);
        let principal = &mut caller.principal;
        let admitted = hub.auth.admit(&rights, &principal.standing, now).await?;
        principal.person = admitted.person;
        principal.roles = admitted.roles;
        principal.projects = admitted.projects;
        Ok(caller)
    }

    /// The project as it is now, seen by this caller.
    pub async fn view(&self, hub: &Arc<Hub>, project: &str) -> Result<ProjectView> {
        self.view_at(hub, project, At::default()).await
    }

    /// The project as it is now, with another view of its space.
    pub async fn view_at(&self, hub: &Arc<Hub>, project: &str, space: At) -> Result<ProjectView> {
        let look = Look {
            project,
            viewer: &Viewer::of(&self.principal, &self.zone),
            snapshot: space.snapshot,
            overlay: space.overlay.as_ref(),
            now: self.now,
        };
        ProjectView::load(hub, look).await
    }
}

/// How a space is seen: at its newest snapshot where none is said, and with what a transaction has
/// written over it.
#[derive(Debug, Default)]
pub struct At {
    pub snapshot: Option<i64>,
    pub overlay: Option<Arc<Overlay>>,
}

/// Who calls, from the headers alone.
pub(super) async fn admit(hub: &Arc<Hub>, zone: &Zone, head: &Parts) -> Result<Caller> {
    let now = Utc::now();
    let metadata = MetadataMap::from_headers(head.headers.clone());
    let peer = peer(&head.extensions);
    let principal = hub.auth.authenticate(&metadata, peer, now).await?;
    let place = hub.engine.call(&principal.person.id)?;
    Ok(Caller {
        principal,
        zone: zone.clone(),
        now,
        timeout: timeout(&metadata),
        place,
    })
}

/// The caller whom the door let in.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Error::internal("a call did not come through the door", &""))
}

/// Answers a handshake with a bearer token, in the header that clients look in and in the
/// payload.
pub async fn handshake(
    hub: &Arc<Hub>,
    request: Request<Streaming<HandshakeRequest>>,
) -> Answer<BoxStream<HandshakeResponse>> {
    let peer = peer(request.extensions());
    let token = hub
        .auth
        .handshake(request.metadata(), peer, Utc::now())
        .await
        .inspect_err(|error| hub.metrics.refused(error.kind))?;
    let reply = HandshakeResponse {
        protocol_version: 0,
        payload: token.clone().into_bytes().into(),
    };
    let stream: BoxStream<HandshakeResponse> = Box::pin(futures::stream::iter([Ok(reply)]));
    let mut response = Response::new(stream);
    let header = AsciiMetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|error| Error::internal("a token is no header", &error))?;
    response.metadata_mut().insert("authorization", header);
    Ok(response)
}

/// Names the connection, so that `Basic` on each call still has a session, and takes what its
/// client showed in the handshake of TLS.
pub(super) fn peer(extensions: &Extensions) -> Peer {
    let tls = extensions.get::<TlsConnectInfo<Client>>();
    let connection = extensions
        .get::<Client>()
        .and_then(|client| client.address)
        .map_or_else(|| "local".to_owned(), |address| address.to_string());
    Peer {
        connection,
        certificates: tls.and_then(TlsConnectInfo::peer_certs),
    }
}

/// How long before the client's timeout it is told that it is late: it takes time to come there.
pub(super) fn moment(timeout: Duration) -> Duration {
    (timeout / 20).min(Duration::from_millis(20))
}

/// gRPC's `grpc-timeout`: up to eight digits and a unit.
fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", AsciiMetadataValue::from_static(text));
            timeout(&metadata)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        for wrong in ["", "S", "5", "-5S", "123456789S", "5x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
