//! A listener that always takes the next connection: its places may be taken, and the process may have no file descriptor left.

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
use super::places::{Patience, Places};
use super::timed_stream::{Accept, TimedStream};
use crate::repeated::{self, Repeated, Summary};

/// File descriptors that are kept for connections when the process has no other left.
const SPARE_FILES: usize = 4;
/// How long nothing is accepted when it does not work and nothing can be done about it.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Connections that wait until they are accepted, which they soon are. With fewer, some of a thousand that come at once are told
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

/// A listener with so many places.
#[derive(Debug)]
pub(super) struct BoundedListener<L> {
    listener: L,
    places: Arc<Places>,
    patience: Patience,
    /// After so long a connection is closed when it is idle, however often it asked.
    stay: Option<Duration>,
    spare: Vec<File>,
    complaints: Arc<Complaints>,
    end: CancellationToken,
}

impl<L: Accept> BoundedListener<L> {
    pub(super) fn new(
        listener: L,
        places: usize,
        patience: Patience,
        complaints: &Arc<Complaints>,
        end: &CancellationToken,
    ) -> Self {
        let mut bounded = Self {
            listener,
            places: Places::new(places),
            patience,
            stay: None,
            spare: Vec::new(),
            complaints: Arc::clone(complaints),
            end: end.clone(),
        };
        bounded.save_files();
        bounded
    }

    /// Connections are closed after so long, when they are idle.
    pub(super) fn stay(mut self, stay: Duration) -> Self {
        self.stay = Some(stay);
        self
    }

    /// The next connection. It may be given up at any time: no connection is lost by that.
    pub(super) async fn next(&mut self) -> (TimedStream<L::Io>, Peer) {
        loop {
            self.places.ready().await;
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    let (place, evicted) = self.places.take(peer, &self.end);
                    if let Some(evicted) = evicted {
                        self.complaints.full(evicted);
                    }
                    self.save_files();
                    return (TimedStream::new(stream, place, self.patience, self.stay), peer);
                }
                // It was gone before it was accepted.
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.complaints.fails(&error);
                    self.find_a_file().await;
                }
            }
        }
    }

    /// As a rule, the process has no file descriptor left: one is made free.
    async fn find_a_file(&mut self) {
        if self.spare.pop().is_some() {
            return;
        }
        self.places.evict();
        sleep(BACK_OFF).await;
    }

    fn save_files(&mut self) {
        let file = if cfg!(windows) { "NUL" } else { "/dev/null" };
        while self.spare.len() < SPARE_FILES
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

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | NotConnected)
}

/// What a listener has to say to the operator, at most once a minute.
#[derive(Debug)]
pub(super) struct Complaints {
    what: &'static str,
    clock: Clock,
    full: Mutex<Repeated<String>>,
    fails: Mutex<Repeated<String>>,
}

impl Complaints {
    pub(super) fn new(what: &'static str, clock: &Clock) -> Arc<Self> {
        let (full, fails) = (Mutex::new(Repeated::new()), Mutex::new(Repeated::new()));
        Arc::new(Self { what, clock: clock.clone(), full, fails })
    }

    /// `evicted` lost its place.
    fn full(&self, evicted: Peer) {
        let told = self.full.lock().note(self.clock.steady_ms(), evicted.source());
        told.into_iter().for_each(|summary| self.tell_full(summary));
    }

    fn fails(&self, error: &io::Error) {
        let told = self.fails.lock().note(self.clock.steady_ms(), error.to_string());
        told.into_iter().for_each(|summary| self.tell_failing(summary));
    }

    /// Says what is left to say, until `end`.
    pub(super) async fn keep(&self, end: &CancellationToken) {
        let full = repeated::keep(&self.full, &self.clock, end, |summary| self.tell_full(summary));
        let fails = repeated::keep(&self.fails, &self.clock, end, |summary| self.tell_failing(summary));
        join(full, fails).await;
    }

    fn tell_full(&self, Summary { count, addresses }: Summary) {
        let what = self.what;
        tracing::warn!(
            count,
            addresses,
            "all places of {what} were taken: the oldest connections were closed for new ones"
        );
    }

    fn tell_failing(&self, Summary { count, addresses: errors }: Summary) {
        let what = self.what;
        tracing::warn!(
            count,
            errors,
            "{what} cannot accept connections; if there are too many open files, raise their limit"
        );
    }
}
