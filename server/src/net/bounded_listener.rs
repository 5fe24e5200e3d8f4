//! A listener that always takes the next connection: its slots may be taken, and the process may have no file descriptor left.

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

/// File descriptors that are kept for connections when the process has no other left.
const SPARE_DESCRIPTORS: usize = 4;
/// How long nothing is accepted when it does not work and nothing can be done about it.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Connections that wait until they are accepted, which they soon are. With fewer, some of a thousand that come at once are summary
/// nothing, and try again after a second. The system may allow less.
const BACKLOG: u32 = 4_096;

/// Listens on `address`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that is started again need not wait for the connections of the last one.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A listener with so many slots.
#[derive(Debug)]
pub(super) struct BoundedListener<L> {
    listener: L,
    slots: Arc<Slots>,
    timeouts: Timeouts,
    /// After so long a connection is closed when it is idle, however often it asked.
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

    /// Connections are closed after so long, when they are idle.
    pub(super) fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// The next connection. It may be given up at any time: no connection is lost by that.
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
                // It was gone before it was accepted.
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.warnings.accept_failed(&error);
                    self.free_a_descriptor().await;
                }
            }
        }
    }

    /// As a rule, the process has no file descriptor left: one is made free.
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

/// What a listener has to say to the operator, at most once a minute.
#[derive(Debug)]
pub(super) struct ListenerWarnings {
    service: &'static str,
    clock: Clock,
    full: Mutex<Repeated<String>>,
    fails: Mutex<Repeated<String>>,
}

impl ListenerWarnings {
    pub(super) fn new(service: &'static str, clock: &Clock) -> Arc<Self> {
        let (full, fails) = (Mutex::new(Repeated::new()), Mutex::new(Repeated::new()));
        Arc::new(Self { service, clock: clock.clone(), full, fails })
    }

    /// `evicted` lost its slot.
    fn evicted(&self, evicted: Peer) {
        let summary = self.full.lock().note(self.clock.steady_ms(), evicted.source());
        summary.into_iter().for_each(|summary| self.warn_evicted(summary));
    }

    fn accept_failed(&self, error: &io::Error) {
        let summary = self.fails.lock().note(self.clock.steady_ms(), error.to_string());
        summary.into_iter().for_each(|summary| self.warn_accept_failed(summary));
    }

    /// Says what is left to say, until `end`.
    pub(super) async fn run(&self, end: &CancellationToken) {
        let full = repeated::keep(&self.full, &self.clock, end, |summary| self.warn_evicted(summary));
        let fails = repeated::keep(&self.fails, &self.clock, end, |summary| self.warn_accept_failed(summary));
        join(full, fails).await;
    }

    fn warn_evicted(&self, Summary { count, addresses }: Summary) {
        let service = self.service;
        tracing::warn!(
            count,
            addresses,
            "all slots of {service} were taken: the oldest connections were closed for new ones"
        );
    }

    fn warn_accept_failed(&self, Summary { count, addresses: errors }: Summary) {
        let service = self.service;
        tracing::warn!(
            count,
            errors,
            "{service} cannot accept connections; if there are too many open files, raise their limit"
        );
    }
}
