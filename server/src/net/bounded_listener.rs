//! A listener that always accepts the next connection, even when all slots are occupied or the process has no file
//! descriptor left.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;

use super::peer::Peer;
use super::slots::{Slots, Timeouts};
use super::timed_stream::{Accept, TimedStream};
use crate::repeated::{self, Repeated, Summary};

/// File descriptors kept in reserve for connections, for when the process has no others left.
const SPARE_DESCRIPTORS: usize = 4;
/// How long the listener waits after a failure that it cannot do anything about.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted, which takes little time. With a shorter queue, some of a thousand simultaneous
/// connections get no response and retry after a second. The system may allow fewer.
const BACKLOG: u32 = 4_096;

/// Listens on `address`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server need not wait for connections of the previous process.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listener with a limited number of connection slots.
#[derive(Debug)]
pub(super) struct BoundedListener<L> {
    listener: L,
    slots: Arc<Slots>,
    timeouts: Timeouts,
    /// A connection of this age is closed when it is idle, however active it was.
    max_age: Option<Duration>,
    spare: Vec<File>,
    warnings: Arc<ListenerWarnings>,
    end: CancellationToken,
}

impl<L: Accept> BoundedListener<L> {
    pub(super) fn new(
        listener: L,
        slots: usize,
        timeouts: Timeouts,
        warnings: &Arc<ListenerWarnings>,
        end: &CancellationToken,
    ) -> Self {
        let mut bounded = Self {
            listener,
            slots: Slots::new(slots),
            timeouts,
            max_age: None,
            spare: Vec::new(),
            warnings: Arc::clone(warnings),
            end: end.clone(),
        };
        bounded.reserve_descriptors();
        bounded
    }

    /// Closes idle connections of this age.
    pub(super) fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Accepts the next connection. Cancel safe: no connection is lost.
    pub(super) async fn next(&mut self) -> (TimedStream<L::Io>, Peer) {
        loop {
            self.slots.ready().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (slot, evicted) = self.slots.acquire(peer, &self.end);
                    if let Some(evicted) = evicted {
                        self.warnings.evicted(evicted);
                    }
                    self.reserve_descriptors();
                    return (TimedStream::new(stream, slot, self.timeouts, self.max_age), peer);
                }
                // The connection ended before it was accepted.
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.warnings.accept_failed(&error);
                    self.free_a_descriptor().await;
                }
            }
        }
    }

    /// Frees a file descriptor, because accepting usually fails when the process has none left.
    async fn free_a_descriptor(&mut self) {
        if self.spare.pop().is_some() {
            return;
        }
        self.slots.evict();
        sleep(BACK_OFF).await;
    }

    fn reserve_descriptors(&mut self) {
        let file = if cfg!(windows) { "NUL" } else { "/dev/null" };
        while self.spare.len() < SPARE_DESCRIPTORS
            && let Ok(file) = File::open(file)
        {
            self.spare.push(file);
        }
    }
}

impl axum::serve::Listener for BoundedListener<TcpListener> {
    type Io = TimedStream<<TcpListener as Accept>::Io>;
    type Addr = Peer;

    async fn accept(&mut self) -> (Self::Io, Peer) {
        self.next().await
    }

    fn local_addr(&self) -> io::Result<Peer> {
        self.listener.local_addr().map(Peer::Tcp)
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | NotConnected)
}

/// The warnings of a listener, each at most once a minute.
#[derive(Debug)]
pub(super) struct ListenerWarnings {
    service: &'static str,
    clock: Clock,
    evictions: Mutex<Repeated<String>>,
    failures: Mutex<Repeated<String>>,
}

impl ListenerWarnings {
    pub(super) fn new(service: &'static str, clock: &Clock) -> Arc<Self> {
        let (evictions, failures) = (Mutex::new(Repeated::new()), Mutex::new(Repeated::new()));
        Arc::new(Self { service, clock: clock.clone(), evictions, failures })
    }

    /// Warns that `evicted` lost its slot.
    fn evicted(&self, evicted: Peer) {
        let summary = self.evictions.lock().note(self.clock.steady_ms(), evicted.source());
        summary.into_iter().for_each(|summary| self.warn_evicted(summary));
    }

    fn accept_failed(&self, error: &io::Error) {
        let summary = self.failures.lock().note(self.clock.steady_ms(), error.to_string());
        summary.into_iter().for_each(|summary| self.warn_accept_failed(summary));
    }

    /// Logs the warnings that are due, until `end`.
    pub(super) async fn run(&self, end: &CancellationToken) {
        let evictions =
            repeated::report_remaining(&self.evictions, &self.clock, end, |summary| self.warn_evicted(summary));
        let failures =
            repeated::report_remaining(&self.failures, &self.clock, end, |summary| self.warn_accept_failed(summary));
        join(evictions, failures).await;
    }

    fn warn_evicted(&self, Summary { count, addresses }: Summary) {
        let service = self.service;
        tracing::warn!(
            count,
            addresses,
            "all connection slots of {service} were taken, and the oldest connections were closed for new ones"
        );
    }

    fn warn_accept_failed(&self, Summary { count, addresses: errors }: Summary) {
        let service = self.service;
        tracing::warn!(
            count,
            errors,
            "{service} cannot accept connections; if too many files are open, raise the limit of open files"
        );
    }
}
