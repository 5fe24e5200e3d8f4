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
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
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
}

impl StallGuard {
    fn new(stream: Io, least: Least) -> Self {
        Self { stream, least, waiting: None }
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
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.wait(context),
            Poll::Ready(written) => {
                self.wrote(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
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
