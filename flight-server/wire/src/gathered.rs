//! Small writes gathered into large ones, beneath HTTP/2.
//!
//! h2 writes and flushes each frame for itself. A client that takes frames of 16 KiB, as most do,
//! is sent a gigabyte with 65,000 system calls, and an answer of one row with three.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is written at once: a write of so many bytes is not copied.
const WRITE_BYTES: usize = 256 << 10;
/// What is kept of the buffer while nothing is written: connections are many, and mostly silent.
const IDLE_BYTES_MAX: usize = 4 << 10;

/// A connection that holds small writes back until its owner has nothing more to write.
///
/// A flush behind a write does nothing yet but wake the task, which then comes again: whoever serves
/// HTTP/2 reads and flushes each time that it is woken. What is held back leaves with the next flush
/// that nothing was written before, with the next read, or when the buffer is full. So it waits
/// no longer than until the task's next turn.
#[derive(Debug)]
pub struct Gathered<T> {
    inner: T,
    held: Vec<u8>,
    /// Bytes of it that are written.
    written: usize,
    /// Whether something was written since the last flush.
    is_fresh: bool,
}

impl<T> Gathered<T> {
    pub fn new(inner: T) -> Self {
        Self {
            inner,
            held: Vec::new(),
            written: 0,
            is_fresh: false,
        }
    }

    /// What is held back, and would be lost where the connection is dropped now.
    pub fn unwritten(&self) -> &[u8] {
        &self.held[self.written..]
    }

    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.held.capacity() < self.held.len() + bytes.len() {
            // At once to its end, or to what little answers need.
            let wanted = match self.held.len() + bytes.len() {
                few if few <= IDLE_BYTES_MAX => IDLE_BYTES_MAX,
                _ => WRITE_BYTES,
            };
            self.held.reserve_exact(wanted - self.held.len());
        }
        self.held.extend_from_slice(bytes);
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes what is held.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let rest = &self.held[self.written..];
            match ready!(Pin::new(&mut self.inner).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.held.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer back.
    fn rest(&mut self) {
        if self.held.is_empty() && self.held.capacity() > IDLE_BYTES_MAX {
            self.held = Vec::new();
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Whoever reads waits for an answer to what was written. Where it cannot be written now,
        // the other side may have to be read first.
        if let Poll::Ready(Err(error)) = self.poll_drain(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if bytes >= WRITE_BYTES || self.held.len() >= WRITE_BYTES {
            ready!(self.poll_drain(context))?;
        }
        self.is_fresh = true;
        if bytes >= WRITE_BYTES {
            return Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        }
        let mut taken = 0;
        for slice in slices {
            let room = WRITE_BYTES.saturating_sub(self.held.len());
            let part = &slice[..slice.len().min(room)];
            self.hold(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.is_fresh) && !self.held.is_empty() {
            context.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_drain(context))?;
        self.rest();
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// A socket that takes so many bytes until it is emptied.
    #[derive(Debug)]
    struct Socket {
        room: usize,
        taken: Vec<u8>,
        writes: usize,
    }

    impl Socket {
        fn with_room(room: usize) -> Gathered<Self> {
            Gathered::new(Self {
                room,
                taken: Vec::new(),
                writes: 0,
            })
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.writes += 1;
            self.taken.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            self.poll_write(context, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncRead for Socket {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|index| (index % 251) as u8).collect()
    }

    /// As much of a frame as fits now, as h2 writes it: its bytes.
    fn write(socket: &mut Gathered<Socket>, context: &mut Context<'_>, mut frame: &[u8]) -> usize {
        let all = frame.len();
        while !frame.is_empty() {
            let head = frame.len().min(9);
            let slices = [IoSlice::new(&frame[..head]), IoSlice::new(&frame[head..])];
            match Pin::new(&mut *socket).poll_write_vectored(context, &slices) {
                Poll::Ready(written) => frame = &frame[written.expect("takes")..],
                Poll::Pending => break,
            }
        }
        let _ = Pin::new(&mut *socket).poll_flush(context);
        all - frame.len()
    }

    /// A turn of the task that serves a connection: it reads, writes what there is, and flushes.
    fn turn(socket: &mut Gathered<Socket>, context: &mut Context<'_>) {
        let mut buffer = [0; 16];
        let mut buffer = ReadBuf::new(&mut buffer);
        assert!(
            Pin::new(&mut *socket)
                .poll_read(context, &mut buffer)
                .is_pending()
        );
        let _ = Pin::new(&mut *socket).poll_flush(context);
    }

    #[test]
    fn a_small_answer_leaves_at_the_next_turn_in_one_write() {
        let woken = Arc::new(Woken::default());
        let waker = Arc::clone(&woken).into();
        let mut context = Context::from_waker(&waker);
        let mut socket = Socket::with_room(usize::MAX);
        let sent = bytes(300);
        for frame in sent.chunks(100) {
            assert_eq!(write(&mut socket, &mut context, frame), 100);
        }
        assert_eq!(socket.get_ref().writes, 0);
        assert!(woken.0.load(Ordering::Relaxed) > 0, "nobody comes back");
        turn(&mut socket, &mut context);
        assert_eq!(
            (socket.get_ref().writes, &socket.get_ref().taken),
            (1, &sent)
        );
        // A flush behind nothing new writes without a turn.
        write(&mut socket, &mut context, &sent);
        let _ = Pin::new(&mut socket).poll_flush(&mut context);
        assert_eq!(socket.get_ref().writes, 2);
        assert!(socket.held.capacity() <= IDLE_BYTES_MAX);
    }

    #[test]
    fn frames_leave_together_and_large_writes_as_they_are() {
        let waker = std::task::Waker::noop();
        let mut context = Context::from_waker(waker);
        let mut socket = Socket::with_room(usize::MAX);
        let sent = bytes(4 << 20);
        for frame in sent.chunks(16 << 10) {
            write(&mut socket, &mut context, frame);
        }
        turn(&mut socket, &mut context);
        assert!(socket.get_ref().taken == sent);
        assert!(socket.get_ref().writes <= 17, "{}", socket.get_ref().writes);
        assert_eq!(socket.held.capacity(), 0, "kept");
        write(&mut socket, &mut context, &bytes(10));
        write(&mut socket, &mut context, &bytes(1 << 20));
        assert_eq!(socket.get_ref().taken.len(), sent.len() + 10 + (1 << 20));
        assert!(socket.held.capacity() <= IDLE_BYTES_MAX);
    }

    /// Against a socket that takes a few bytes now and then, in writes of all sizes.
    #[test]
    fn a_slow_socket_gets_every_byte_once_and_bounds_what_is_held() {
        let waker = std::task::Waker::noop();
        let mut context = Context::from_waker(waker);
        let mut socket = Socket::with_room(0);
        let sent = bytes(3 << 20);
        let (mut done, mut step) = (0, 1_usize);
        while socket.get_ref().taken.len() < sent.len() {
            step = (step * 7_919 + 13) % 400_009;
            socket.inner.room = step % 40_000;
            let frame = &sent[done..sent.len().min(done + step)];
            done += write(&mut socket, &mut context, frame);
            if step % 3 == 0 || done == sent.len() {
                turn(&mut socket, &mut context);
            }
            assert!(socket.held.len() <= WRITE_BYTES);
            assert!(socket.held.capacity() <= WRITE_BYTES);
        }
        assert!(socket.get_ref().taken == sent);
    }

    #[tokio::test]
    async fn what_is_held_leaves_before_the_end() {
        let waker = std::task::Waker::noop();
        let mut context = Context::from_waker(waker);
        let mut socket = Socket::with_room(usize::MAX);
        write(&mut socket, &mut context, b"goodbye");
        assert!(socket.get_ref().taken.is_empty());
        let ended = poll_fn(|context| Pin::new(&mut socket).poll_shutdown(context)).await;
        ended.expect("ends");
        assert_eq!(socket.get_ref().taken, b"goodbye");
    }
}
