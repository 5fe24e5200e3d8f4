//! Connections of the public HTTPS listener: TLS, and a limit on how long one may not take what is sent to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::rate::{Least, Moved};
use crate::net::bounded_listener::BoundedListener;
use crate::net::peer::Peer;
use crate::net::slots::{Activity, RequestGuard};
use crate::net::timed_stream::TimedStream;

/// Bytes that are read from a connection at once. TLS alone asks the system for 4 KB at a time.
const READ_AT_ONCE: usize = 32 << 10;
/// The most bytes of a connection that are handed on at once. hyper makes room for twice as many whenever what it gets fills its
/// buffer, up to 400 KB, and an upload that is faster than the disk has three of these buffers: one is appended to the file, one
/// waits, one is read into. This is more than 32 KB and less than 64 KB, so a buffer becomes 64 KB large, and not larger.
const HAND_ON: usize = 48 << 10;

type Io = TlsStream<BufReader<TimedStream<TcpStream>>>;

/// Accepts connections whose handshake is complete. Those that shake hands do not hold up others.
pub(super) struct TlsListener {
    listener: BoundedListener<TcpListener>,
    tls: TlsAcceptor,
    least: Least,
    handshakes: FuturesUnordered<BoxFuture<'static, (io::Result<Io>, Peer)>>,
}

impl TlsListener {
    pub(super) fn new(listener: BoundedListener<TcpListener>, tls: rustls::ServerConfig, least: Least) -> Self {
        Self { listener, tls: TlsAcceptor::from(Arc::new(tls)), least, handshakes: FuturesUnordered::new() }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = StallGuard;
    type Addr = Peer;

    async fn accept(&mut self) -> (StallGuard, Peer) {
        loop {
            tokio::select! {
                (stream, peer) = self.listener.next() => {
                    let handshake = self.tls.accept(BufReader::with_capacity(READ_AT_ONCE, stream));
                    self.handshakes.push(Box::pin(async move { (handshake.await, peer) }));
                }
                Some((done, peer)) = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    // A connection whose handshake fails is closed, and nothing else happens.
                    if let Ok(stream) = done {
                        return (StallGuard::new(stream, self.least), peer);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        axum::serve::Listener::local_addr(&self.listener)
    }
}

/// A connection that ends if its client takes too little of what is sent to it for a while.
#[derive(Debug)]
pub(super) struct StallGuard {
    stream: Io,
    least: Least,
    /// Set while writes wait, until enough was written or nothing waits.
    waiting: Option<(Moved, Pin<Box<Sleep>>)>,
    /// Why nothing more is read, when what came before it was handed on.
    failed: Option<io::Error>,
}

impl StallGuard {
    fn new(stream: Io, least: Least) -> Self {
        Self { stream, least, waiting: None, failed: None }
    }

    /// Notes bytes that were written.
    fn wrote(&mut self, bytes: usize) {
        let now = Instant::now();
        if let Some((moved, deadline)) = &mut self.waiting {
            // A time that is over is noticed when the next write waits.
            moved.note(bytes, now, self.least);
            let due = moved.due(self.least);
            if due != deadline.deadline() {
                self.waiting = None;
            }
        }
    }

    /// A write waits. Returns an error if too little was written for too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let (_, deadline) = self.waiting.get_or_insert_with(|| {
            let moved = Moved::new(Instant::now());
            (moved, Box::pin(sleep_until(moved.due(self.least))))
        });
        deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Notes what a write has come to.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() {
            return self.wait(context);
        }
        if let Poll::Ready(Ok(bytes)) = &written {
            self.wrote(*bytes);
        }
        written
    }

    fn check<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_pending() {
            return self.wait(context);
        }
        self.waiting = None;
        done
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        hand_on(&mut this.stream, &mut this.failed, context, buffer)
    }
}

/// Hands on what has arrived, up to [`HAND_ON`] bytes. A failure after some bytes is kept for the next time.
fn hand_on(
    stream: &mut (impl AsyncBufRead + Unpin),
    failed: &mut Option<io::Error>,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if let Some(error) = failed.take() {
        return Poll::Ready(Err(error));
    }
    let mut left = buffer.remaining().min(HAND_ON);
    let mut is_first = true;
    while left > 0 {
        // TLS gives the bytes of one record, at most 16 KB.
        let bytes = match Pin::new(&mut *stream).poll_fill_buf(context) {
            Poll::Ready(Ok(bytes)) => bytes,
            Poll::Ready(Err(error)) if is_first => return Poll::Ready(Err(error)),
            Poll::Ready(Err(error)) => {
                *failed = Some(error);
                break;
            }
            Poll::Pending if is_first => return Poll::Pending,
            Poll::Pending => break,
        };
        let bytes = bytes.get(..left).unwrap_or(bytes);
        if bytes.is_empty() {
            // The end.
            break;
        }
        let length = bytes.len();
        buffer.put_slice(bytes);
        Pin::new(&mut *stream).consume(length);
        left -= length;
        is_first = false;
    }
    Poll::Ready(Ok(()))
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    // hyper would copy the pieces of a download into one buffer otherwise.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.check(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check(context, closed)
    }
}

/// The connection that a request arrived on.
#[derive(Clone, Debug)]
pub(super) struct Connection(Arc<Activity>);

impl Connection {
    /// Marks a request as in flight.
    pub(super) fn begin_request(&self) -> RequestGuard {
        self.0.begin_request()
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(Arc::clone(stream.io().stream.get_ref().0.get_ref().slot().activity()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// What a connection gives, one after the other; then nothing for now.
    struct Given(VecDeque<io::Result<Vec<u8>>>);

    impl AsyncRead for Given {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            unreachable!("it is read by records")
        }
    }

    impl AsyncBufRead for Given {
        fn poll_fill_buf(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
            let given = &mut self.get_mut().0;
            if matches!(given.front(), Some(Err(_))) {
                // It is told once.
                return given.pop_front().map_or(Poll::Pending, |error| Poll::Ready(error.map(|_| &b""[..])));
            }
            match given.front() {
                Some(Ok(bytes)) => Poll::Ready(Ok(bytes.as_slice())),
                _ => Poll::Pending,
            }
        }

        fn consume(self: Pin<&mut Self>, length: usize) {
            let given = &mut self.get_mut().0;
            if let Some(Ok(bytes)) = given.front_mut() {
                bytes.drain(..length);
            }
            if matches!(given.front(), Some(Ok(bytes)) if bytes.is_empty()) {
                given.pop_front();
            }
        }
    }

    /// Returns how many bytes are handed on at once to somebody with this room.
    fn hand_on_to(room: usize, given: &mut Given, failed: &mut Option<io::Error>) -> Poll<io::Result<usize>> {
        let mut room = vec![0; room];
        let mut buffer = ReadBuf::new(&mut room);
        let mut context = Context::from_waker(std::task::Waker::noop());
        hand_on(given, failed, &mut context, &mut buffer).map_ok(|()| {
            assert!(buffer.filled().iter().all(|byte| *byte == 7));
            buffer.filled().len()
        })
    }

    #[test]
    fn what_has_arrived_is_handed_on_in_parts() {
        const RECORD: usize = 16 << 10;
        let mut given = Given((0..5).map(|_| Ok(vec![7; RECORD])).collect());
        let mut failed = None;
        let mut next = |room| match hand_on_to(room, &mut given, &mut failed) {
            Poll::Ready(Ok(bytes)) => Some(bytes),
            other => {
                assert!(other.is_pending(), "{other:?}");
                None
            }
        };
        assert_eq!(next(1 << 20), Some(HAND_ON), "however much room there is");
        assert_eq!(next(1_000), Some(1_000));
        assert_eq!(next(1 << 20), Some(2 * RECORD - 1_000), "the rest of a record, and the next one");
        assert_eq!(next(1 << 20), None);
    }

    #[test]
    fn a_failure_is_told_after_what_came_before_it() {
        let broken = || Err(io::Error::from(io::ErrorKind::ConnectionReset));
        let mut given = Given([Ok(vec![7; 5]), broken(), Ok(vec![7; 3]), Ok(Vec::new())].into());
        let mut failed = None;
        let mut next = || match hand_on_to(100, &mut given, &mut failed) {
            Poll::Ready(handed_on) => handed_on.map_err(|error| error.kind()),
            Poll::Pending => panic!("nothing is handed on"),
        };
        assert_eq!(next(), Ok(5));
        assert_eq!(next(), Err(io::ErrorKind::ConnectionReset));
        assert_eq!(next(), Ok(3));
        // The end.
        assert_eq!(next(), Ok(0));
        // A failure with nothing before it is told at once.
        let mut given = Given([broken()].into());
        let told = hand_on_to(100, &mut given, &mut failed);
        assert!(matches!(told, Poll::Ready(Err(_))), "{told:?}");
    }
}
