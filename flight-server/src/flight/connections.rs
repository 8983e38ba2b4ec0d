//! Connections of clients: bounded in number, also from one address, and closed when nothing comes.
//! What a client may send before somebody knows who it is (a window of HTTP/2) counts for each of
//! them. Of an address that has as many as it may, a few more are taken for a moment, so that the
//! door tells them why they are not served; those beyond are closed as they come.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use http::Extensions;
use hubflight_wire::Gathered;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use crate::error::Error;

/// Pause after the system refused a connection, as when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of an address beyond those that it may have, which are told so.
const TOLD_PER_ADDRESS_MAX: usize = 8;
/// How long they have to ask.
const TOLD_TIME_MAX: Duration = Duration::from_secs(5);
/// How often the log says of an address that it has too many.
const LOGGED_EVERY: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections that are served at once; others wait in the listener's queue.
    pub connections_max: usize,
    /// Those of one network that is one client's; more are refused as they come, so that they keep
    /// nobody else in that queue.
    pub per_address_max: usize,
    /// How long a client may take until its first byte.
    pub first_byte_max: Duration,
    /// How long nothing at all may come after that. Whoever lives answers pings.
    pub silence_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            per_address_max: 768,
            first_byte_max: Duration::from_secs(10),
            silence_max: Duration::from_secs(90),
        }
    }
}

/// A client's connection; its place is free when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: Gathered<TcpStream>,
    limits: ConnectionLimits,
    /// When something last came.
    heard: Option<Instant>,
    /// Runs out at the earliest moment that may be too late.
    patience: Pin<Box<Sleep>>,
    of_address: OfAddress,
    _place: OwnedSemaphorePermit,
}

/// What the door is told of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// None where it has gone.
    pub address: Option<SocketAddr>,
    /// Its address has as many connections as it may.
    is_one_too_many: bool,
    per_address_max: usize,
}

/// # Errors
/// `ResourceExhausted` for a call of a connection that is one too many of its address.
pub(super) fn check(extensions: &Extensions) -> Result<(), Error> {
    let client = extensions.get::<Client>();
    let Some(client) = client.filter(|client| client.is_one_too_many) else {
        return Ok(());
    };
    Err(Error::exhausted(format!(
        "{} connections of your address are open, and no more may be; close some of them, or \
         where many have one address, as behind a proxy, ask the operator to raise \
         `limits.connections_per_address_max`",
        client.per_address_max
    )))
}

/// The connections that are accepted.
pub fn bounded(
    incoming: impl Stream<Item = io::Result<TcpStream>> + Send + Unpin,
    limits: ConnectionLimits,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let accepting = (incoming, places, Arc::<Addresses>::default());
    futures::stream::unfold(
        accepting,
        move |(mut incoming, places, addresses)| async move {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            let accepted = loop {
                match incoming.next().await? {
                    Ok(stream) => match addresses.enter(&stream, limits.per_address_max) {
                        Some(of_address) => break Ok((stream, of_address)),
                        // Closed.
                        None => drop(stream),
                    },
                    Err(error) => break Err(error),
                }
            };
            if let Err(error) = &accepted {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            let connection = accepted
                .map(|(stream, of_address)| Connection::new(stream, limits, of_address, place));
            Some((connection, (incoming, places, addresses)))
        },
    )
}

/// How many connections each network has that is one client's.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, OfOne>>);

#[derive(Debug, Default)]
struct OfOne {
    served: usize,
    /// Those that are told that they are too many.
    told: usize,
    /// When the log said last that it has too many.
    logged: Option<Instant>,
}

impl OfOne {
    fn log(&mut self, network: IpAddr, max: usize) {
        if self.logged.is_some_and(|at| at.elapsed() < LOGGED_EVERY) {
            return;
        }
        self.logged = Some(Instant::now());
        tracing::warn!(
            %network,
            "more than {max} connections of one address are refused; where many have one address, \
             as behind a proxy, raise `limits.connections_per_address_max`"
        );
    }
}

impl Addresses {
    /// A place among those of its address; none where all are taken, or the client has gone.
    fn enter(self: &Arc<Self>, stream: &TcpStream, max: usize) -> Option<OfAddress> {
        let network = network(stream.peer_addr().ok()?.ip());
        let mut addresses = self.0.lock();
        let of_one = addresses.entry(network).or_default();
        let is_one_too_many = of_one.served >= max;
        if is_one_too_many {
            of_one.log(network, max);
            if of_one.told >= TOLD_PER_ADDRESS_MAX {
                return None;
            }
            of_one.told += 1;
        } else {
            of_one.served += 1;
        }
        Some(OfAddress {
            addresses: Arc::clone(self),
            network,
            is_one_too_many,
        })
    }
}

/// What one client is given of addresses: of IPv6 no less than 64 bits (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
        address => address,
    }
}

/// A place among the connections of an address; given back when dropped.
#[derive(Debug)]
struct OfAddress {
    addresses: Arc<Addresses>,
    network: IpAddr,
    is_one_too_many: bool,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut addresses = self.addresses.0.lock();
        if let Some(of_one) = addresses.get_mut(&self.network) {
            match self.is_one_too_many {
                true => of_one.told -= 1,
                false => of_one.served -= 1,
            }
            if of_one.served + of_one.told == 0 {
                addresses.remove(&self.network);
            }
        }
    }
}

impl Connection {
    fn new(
        stream: TcpStream,
        limits: ConnectionLimits,
        of_address: OfAddress,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let patience = match of_address.is_one_too_many {
            true => limits.first_byte_max.min(TOLD_TIME_MAX),
            false => limits.first_byte_max,
        };
        Self {
            stream: Gathered::new(stream),
            limits,
            heard: None,
            patience: Box::pin(tokio::time::sleep(patience)),
            of_address,
            _place: place,
        }
    }

    /// Ready when nothing came for too long, or it was told for long enough that it is one too many.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.patience.as_mut().poll(context).is_ready() {
            let Some(heard) = self.heard.filter(|_| !self.of_address.is_one_too_many) else {
                return Poll::Ready(());
            };
            let end = heard + self.limits.silence_max;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.patience.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever is one too many is not heard out, however much they say.
        if self.of_address.is_one_too_many && self.poll_silence(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.heard = Some(Instant::now());
            return Poll::Ready(read);
        }
        match self.poll_silence(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Drop for Connection {
    /// The alert of a handshake that failed is written by whoever then lets go.
    fn drop(&mut self) {
        let unwritten = self.stream.unwritten();
        if !unwritten.is_empty() {
            // What the socket does not take at once is lost, as the connection is.
            let _ = self.stream.get_ref().try_write(unwritten);
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        Client {
            address: self.stream.get_ref().peer_addr().ok(),
            is_one_too_many: self.of_address.is_one_too_many,
            per_address_max: self.limits.per_address_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tonic::transport::server::TcpIncoming;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections_max: 2,
        per_address_max: 2,
        first_byte_max: Duration::from_millis(100),
        silence_max: Duration::from_millis(600),
    };
    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn connections_are_bounded_in_number() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
        let address = listener.local_addr().expect("known");
        let accepted = bounded(TcpIncoming::from(listener), LIMITS);
        tokio::pin!(accepted);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.expect("connects"));
        }
        let one = accepted.next().await.expect("listens").expect("accepts");
        let _two = accepted.next().await.expect("listens").expect("accepts");
        assert_eq!(one.connect_info().address, clients[0].local_addr().ok());
        let third = tokio::time::timeout(SOON, accepted.next()).await;
        assert!(third.is_err(), "two at once");
        drop(one);
        let third = tokio::time::timeout(SOON, accepted.next()).await;
        third.expect("a place").expect("listens").expect("accepts");
    }

    #[tokio::test]
    async fn connections_of_one_address_are_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
        let address = listener.local_addr().expect("known");
        // Those of one address, one that is closed, and one of another.
        let closed = LIMITS.per_address_max + TOLD_PER_ADDRESS_MAX;
        let limits = ConnectionLimits {
            connections_max: closed + 2,
            ..LIMITS
        };
        let accepted = bounded(TcpIncoming::from(listener), limits);
        tokio::pin!(accepted);
        let connect = async |from: &str| {
            let socket = TcpSocket::new_v4().expect("a socket");
            let from = format!("{from}:0").parse().expect("an address");
            socket.bind(from).expect("of this machine");
            socket.connect(address).await.expect("connects")
        };
        let mut clients = Vec::new();
        for _ in 0..=closed {
            clients.push(connect("127.0.0.1").await);
        }
        clients.push(connect("127.0.0.2").await);
        let mut taken = Vec::new();
        for (index, client) in clients.iter().enumerate() {
            if index == closed {
                continue;
            }
            let one = accepted.next().await.expect("listens").expect("accepts");
            let info = one.connect_info();
            assert_eq!(info.address, client.local_addr().ok());
            let is_told = (LIMITS.per_address_max..closed).contains(&index);
            assert_eq!(info.is_one_too_many, is_told, "{index}");
            let mut extensions = Extensions::new();
            extensions.insert(info);
            let told = check(&extensions).err().map(|error| error.to_string());
            assert_eq!(told.is_some(), is_told);
            assert!(told.is_none_or(|told| told.contains("2 connections of")));
            taken.push(one);
        }
        let read = clients[closed].read(&mut [0]).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
        // Who is told is closed in a moment, however much they say.
        let (client, told) = (&mut clients[closed - 1], &mut taken[closed - 1]);
        let ended = loop {
            client.write_all(b"x").await.expect("sent");
            if let Err(error) = told.read(&mut [0]).await {
                break error;
            }
            tokio::time::sleep(SOON / 5).await;
        };
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        drop(taken.remove(0));
        let again = connect("127.0.0.1").await;
        let one = tokio::time::timeout(SOON, accepted.next()).await;
        let one = one.expect("a place").expect("listens").expect("accepts");
        assert_eq!(one.connect_info().address, again.local_addr().ok());
        assert!(!one.connect_info().is_one_too_many);
    }

    #[test]
    fn networks_are_those_of_one_client() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("::1", "::"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(network(address).to_string(), expected);
        }
    }

    #[tokio::test]
    async fn who_says_nothing_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free");
        let address = listener.local_addr().expect("known");
        let accepted = bounded(TcpIncoming::from(listener), LIMITS);
        tokio::pin!(accepted);
        let _client = TcpStream::connect(address).await.expect("connects");
        let mut silent = accepted.next().await.expect("listens").expect("accepts");
        let mut byte = [0];
        let began = Instant::now();
        let error = silent.read_exact(&mut byte).await.expect_err("silent");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < LIMITS.silence_max);

        let mut client = TcpStream::connect(address).await.expect("connects");
        let mut talks = accepted.next().await.expect("listens").expect("accepts");
        // Longer than until the first byte, and less than the silence, each time.
        for _ in 0..4 {
            client.write_all(b"x").await.expect("sent");
            talks.read_exact(&mut byte).await.expect("heard");
            tokio::time::sleep(LIMITS.first_byte_max * 2).await;
        }
        let error = talks.read_exact(&mut byte).await.expect_err("silent");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
