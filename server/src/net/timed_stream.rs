//! Connections of the HTTP service and the operator's service, with time limits. The libraries that serve them accept
//! any number of connections, and wait for the rest of a request for ever.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::peer::Peer;
use super::slots::{Slot, Timeouts};

/// A source of new connections.
pub(super) trait Accept: Debug + Send + 'static {
    /// A connection.
    type Io: Stream;

    /// Accepts a connection. Cancel safe: no connection is lost.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

/// The transport of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Debug + Unpin + Send + 'static {
    /// Makes the system discard the connection's state when the stream is dropped, because it is dropped before its
    /// regular end.
    fn reset_on_drop(&self);
}

impl Stream for TcpStream {
    fn reset_on_drop(&self) {
        // Otherwise the system keeps the addresses of each connection of a flood for a minute, and the first packet of
        // another client that reuses such a port gets no response. If the option cannot be set, this happens.
        drop(self.set_zero_linger());
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = Self::accept(self).await?;
        // Responses are small and written in one piece: waiting for more data gains nothing.
        stream.set_nodelay(true)?;
        Ok((stream, Peer::Tcp(address)))
    }
}

/// A connection with a slot. Only a complete request extends its deadline; single bytes do not.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    slot: Slot,
    timeouts: Timeouts,
    deadline: Pin<Box<Sleep>>,
    /// The connection accepts no request after this time.
    retire_at: Option<Instant>,
    close_requested: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S: Stream> TimedStream<S> {
    pub(super) fn new(stream: S, slot: Slot, timeouts: Timeouts, max_age: Option<Duration>) -> Self {
        let close_requested = Box::pin(slot.activity().close_requested());
        let deadline = Box::pin(sleep(timeouts.first_request));
        Self {
            stream,
            slot,
            timeouts,
            deadline,
            retire_at: max_age.map(|max_age| Instant::now() + max_age),
            close_requested,
        }
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Checks the limits of the connection, and registers the task to be woken when one is exceeded. Returns whether
    /// the connection is to close because the server stops.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let is_closing = self.close_requested.as_mut().poll(cx).is_ready();
        let activity = self.slot.activity();
        if is_closing && activity.is_evicted() {
            self.stream.reset_on_drop();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            // Without a deadline the limits are checked again after the idle timeout.
            let by = activity.deadline(&self.timeouts).unwrap_or_else(|| Instant::now() + self.timeouts.idle);
            if by < self.deadline.deadline() || self.deadline.is_elapsed() {
                self.deadline.as_mut().reset(by);
            }
            if self.deadline.as_mut().poll(cx).is_pending() {
                return Ok(is_closing);
            }
            if by <= Instant::now() {
                self.stream.reset_on_drop();
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl<S: Stream> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_closing = self.poll_limits(cx)?;
        if self.retire_at.is_some_and(|by| Instant::now() >= by) && self.slot.activity().is_done() {
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() && is_closing && self.slot.activity().is_idle() {
            // No complete request is in flight: the connection is closed at once.
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl<S: Stream> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_limits(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_limits(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.slot.activity().set_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
