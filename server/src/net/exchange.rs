//! Connections of the HTTP service that cannot be held for nothing: axum takes as many as come, and waits for the rest of a
//! request for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A connection that is in use all the time makes room after so many times the patience: who asks once in a while again and again
/// would otherwise keep its place for ever.
const STAY: u32 = 10;

/// So many connections at once, and so much time for each exchange on them.
#[derive(Debug)]
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
    end: CancellationToken,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, places: usize, patience: Duration, end: CancellationToken) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), patience, end }
    }
}

impl Listener for Bounded {
    type Io = Exchange;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Exchange, SocketAddr) {
        // One that is too many waits where the system keeps it: none of the others is there for ever.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // It is never closed.
            return std::future::pending().await;
        };
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let exchange = Exchange {
            stream,
            patience: self.patience,
            deadline: Box::pin(sleep(self.patience)),
            leaves_at: Instant::now() + self.patience * STAY,
            end: Box::pin(self.end.clone().cancelled_owned()),
            is_answered: false,
            _place: place,
        };
        (exchange, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection. From the first byte of a request to the last of its answer there is a deadline, which no single byte moves; a
/// connection that asks for nothing is closed when that of its last exchange has passed, and any after some exchanges.
#[derive(Debug)]
pub(super) struct Exchange {
    stream: TcpStream,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
    /// No request is taken after this.
    leaves_at: Instant,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    /// An answer has begun: what is read next is another request.
    is_answered: bool,
    _place: OwnedSemaphorePermit,
}

impl Exchange {
    /// Whether there is time left; if so, the task is woken when there is none any more.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }

    fn poll_out(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.poll_deadline(cx)?;
        let written = write(Pin::new(&mut self.stream), cx);
        self.is_answered |= written.is_ready();
        written
    }
}

impl AsyncRead for Exchange {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_deadline(cx)?;
        if self.is_answered && Instant::now() >= self.leaves_at {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() && self.end.as_mut().poll(cx).is_ready() {
            // The server stops: who has not asked yet, or only half, is as good as gone.
            return Poll::Ready(Ok(()));
        }
        if self.is_answered && buffer.filled().len() > before {
            self.is_answered = false;
            let by = Instant::now() + self.patience;
            self.deadline.as_mut().reset(by);
        }
        read
    }
}

impl AsyncWrite for Exchange {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_out(cx, |stream, cx| stream.poll_write_vectored(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
