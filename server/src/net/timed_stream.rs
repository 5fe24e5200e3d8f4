//! Connections of the HTTP and the operator's service that cannot be held for nothing: the libraries that serve them take as many
//! as come, and wait for the rest of a request for ever.

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

/// What new connections come from.
pub(super) trait Accept: Debug + Send + 'static {
    /// A connection.
    type Io: Stream;

    /// Waits for a connection. It may be given up at any time: no connection is lost by that.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Io, Peer)>> + Send;
}

/// What a connection reads from and writes to.
pub(super) trait Stream: AsyncRead + AsyncWrite + Debug + Unpin + Send + 'static {
    /// It is going to be dropped in the middle of something: the system need not remember it either.
    fn reset_on_drop(&self);
}

impl Stream for TcpStream {
    fn reset_on_drop(&self) {
        // Otherwise each connection of a flood keeps its addresses taken for a minute, and somebody else's first packet, from a
        // port that is used again, goes unanswered. If it fails, that is what happens.
        drop(self.set_zero_linger());
    }
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = Self::accept(self).await?;
        // Answers are small and whole: nothing is gained by waiting for more of them.
        stream.set_nodelay(true)?;
        Ok((stream, Peer::Tcp(address)))
    }
}

/// A connection with a slot. Its time is limited, and no byte that it sends moves the limit: only a whole request does.
#[derive(Debug)]
pub(super) struct TimedStream<S> {
    stream: S,
    slot: Slot,
    timeouts: Timeouts,
    deadline: Pin<Box<Sleep>>,
    /// No request is taken after this.
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

    /// Whether the connection may go on; if so, the task is woken when it may not any more. Says whether the server is_closing.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let is_closing = self.close_requested.as_mut().poll(cx).is_ready();
        let activity = self.slot.activity();
        if is_closing && activity.is_evicted() {
            self.stream.reset_on_drop();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            // Without a deadline it looks again some time.
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
            // Who has not asked yet, or only half, is as good as gone.
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
