//! Connections of clients: bounded in number, and closed when nothing comes. What a client may
//! send before somebody knows who it is (a window of HTTP/2) counts for each of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, StreamExt};
use hubflight_wire::Gathered;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Pause after the system refused a connection, as when it is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections that are served at once; others wait in the listener's queue.
    pub connections_max: usize,
    /// How long a client may take until its first byte.
    pub first_byte_max: Duration,
    /// How long nothing at all may come after that. Whoever lives answers pings.
    pub silence_max: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
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
    _place: OwnedSemaphorePermit,
}

/// The connections that are accepted.
pub fn bounded(
    incoming: impl Stream<Item = io::Result<TcpStream>> + Send + Unpin,
    limits: ConnectionLimits,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    futures::stream::unfold(
        (incoming, places),
        move |(mut incoming, places)| async move {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            let accepted = incoming.next().await?;
            if let Err(error) = &accepted {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            let connection = accepted.map(|stream| Connection {
                stream: Gathered::new(stream),
                limits,
                heard: None,
                patience: Box::pin(tokio::time::sleep(limits.first_byte_max)),
                _place: place,
            });
            Some((connection, (incoming, places)))
        },
    )
}

impl Connection {
    /// Ready when nothing came for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.patience.as_mut().poll(context).is_ready() {
            let Some(heard) = self.heard else {
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
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tonic::transport::server::TcpIncoming;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        connections_max: 2,
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
        assert_eq!(
            one.connect_info().remote_addr(),
            clients[0].local_addr().ok()
        );
        let third = tokio::time::timeout(SOON, accepted.next()).await;
        assert!(third.is_err(), "two at once");
        drop(one);
        let third = tokio::time::timeout(SOON, accepted.next()).await;
        third.expect("a place").expect("listens").expect("accepts");
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
