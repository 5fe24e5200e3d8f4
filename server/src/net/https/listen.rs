//! Connections of the public HTTPS listener: TLS, and a limit on how long one may not take what is sent to it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::bounded_listener::BoundedListener;
use crate::net::peer::Peer;
use crate::net::slots::{Activity, RequestGuard};
use crate::net::timed_stream::TimedStream;

type Io = TlsStream<TimedStream<TcpStream>>;

/// Accepts connections whose handshake is complete. Those that shake hands do not hold up others.
pub(super) struct TlsListener {
    listener: BoundedListener<TcpListener>,
    tls: TlsAcceptor,
    stall: Duration,
    handshakes: FuturesUnordered<BoxFuture<'static, (io::Result<Io>, Peer)>>,
}

impl TlsListener {
    pub(super) fn new(listener: BoundedListener<TcpListener>, tls: rustls::ServerConfig, stall: Duration) -> Self {
        Self { listener, tls: TlsAcceptor::from(Arc::new(tls)), stall, handshakes: FuturesUnordered::new() }
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = StallGuard;
    type Addr = Peer;

    async fn accept(&mut self) -> (StallGuard, Peer) {
        loop {
            tokio::select! {
                (stream, peer) = self.listener.next() => {
                    let handshake = self.tls.accept(stream);
                    self.handshakes.push(Box::pin(async move { (handshake.await, peer) }));
                }
                Some((done, peer)) = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    // A connection whose handshake fails is closed, and nothing else happens.
                    if let Ok(stream) = done {
                        return (StallGuard::new(stream, self.stall), peer);
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        axum::serve::Listener::local_addr(&self.listener)
    }
}

/// A connection that ends if its client takes nothing of what is sent to it for a while.
#[derive(Debug)]
pub(super) struct StallGuard {
    stream: Io,
    stall: Duration,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    fn new(stream: Io, stall: Duration) -> Self {
        Self { stream, stall, deadline: None }
    }

    fn check<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let by = Instant::now() + self.stall;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(by - Instant::now())));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
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
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, written)
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
        Self(Arc::clone(stream.io().stream.get_ref().0.slot().activity()))
    }
}
