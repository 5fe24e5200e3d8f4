//! The QUIC endpoint: who may connect, how many at once, and how much any of them can make the server hold.
//!
//! A storm of handshakes (a deploy, a network that is back) must not stall those who are connected, so only a few are in work
//! at a time; under load a client first proves its address (Retry), which costs the server nothing, and only then counts
//! against the bounds of its address, so that nobody can use up another's.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, AsyncTimer, AsyncUdpSocket, Connection, Endpoint, IdleTimeout, Incoming, Runtime, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, debug_span, warn};
use zim_protocol::wire::{ALPN, CloseCode};

use super::limits::{Bucket, Subnet};
use super::{Net, session_stream};
use crate::config::Limits;

/// With the system's default of 208 KB, 500 busy connections lost 36,000 datagrams and their slowest messages took 139 ms;
/// with this, none and 31 ms.
const SOCKET_BUFFER: usize = 4 << 20;
/// What one connection can make QUIC hold of what it sent and nobody has read, once somebody has logged in on it: at 100 ms
/// there and back 2.5 MB a second. A frame may be longer, because it is read as it comes. Who sends the second half of
/// something and never the first leaves it here, where nothing else bounds it.
const RECEIVE_WINDOW: u32 = 256 << 10;
/// And before: two of the frames that a stranger may send.
const UNAUTHENTICATED_RECEIVE_WINDOW: u32 = 32 << 10;
/// What the server holds of what one connection has not acknowledged. It costs as much as the connection itself, so it is not
/// counted.
pub(super) const SEND_WINDOW: usize = 32 << 10;
/// The same while there are pages to send, which is counted: 2.5 MB a second for a client 100 ms away, there and back.
pub(super) const PAGES_SEND_WINDOW: usize = 256 << 10;
/// The session stream. A client that opens another breaks the protocol, and QUIC itself says so; what a connection may open
/// costs memory in every session (8 KB at quinn's 100).
const CLIENT_STREAMS: u32 = 1;
/// A handshake keeps its permit for so long. Its work, which the permits are there to spread, is done by then; what is left is the
/// client's way to answer. Kept to the end, four permits were 40 handshakes a second with clients 100 ms away, and none at all
/// with four strangers who send their first packet and nothing more.
const HANDSHAKE_PERMIT_TIME: Duration = Duration::from_millis(10);
/// More packets of one connection than this wait nowhere while it waits for its handshake.
const INCOMING_BUFFER: u64 = 16 << 10;
const INCOMING_BUFFERS: u64 = 16 << 20;

fn transport(limits: &Limits) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(CLIENT_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(UNAUTHENTICATED_RECEIVE_WINDOW))
        .send_window(as_u64(SEND_WINDOW))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        // The client keeps the connection alive: whoever is silent is gone.
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(limits.offline_after_ms))))
        .ack_frequency_config(Some(ack_frequency()));
    transport
}

fn ack_frequency() -> AckFrequencyConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(25)));
    acks
}

/// Opens the endpoint. Its own tasks run in `tasks`, until `abort` at the latest.
pub(crate) fn bind(
    address: SocketAddr,
    tls: rustls::ServerConfig,
    endpoint: quinn::EndpointConfig,
    limits: &Limits,
    tasks: &TaskTracker,
    abort: &CancellationToken,
) -> io::Result<Endpoint> {
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport(limits)))
        .max_incoming(limits.handshakes_waiting)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFERS);
    Endpoint::new(
        endpoint,
        Some(server),
        socket(address)?,
        Arc::new(TrackedRuntime { tasks: tasks.clone(), abort: abort.clone() }),
    )
}

fn socket(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    // Linux doubles what it is asked for, for its own book-keeping.
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    let actual = socket.recv_buffer_size()?.min(socket.send_buffer_size()?) / factor;
    if actual < SOCKET_BUFFER {
        warn!(
            actual_bytes = actual,
            requested_bytes = SOCKET_BUFFER,
            "the system clamps UDP buffers: under load datagrams are lost and sent again; \
             on Linux raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// tokio, with every task of the endpoint and its connections counted among the server's, and abort off when the server has no
/// more patience: a connection whose first packet is its farewell stays in quinn until it is idle for long enough, and nothing
/// ends it before.
#[derive(Debug)]
struct TrackedRuntime {
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl Runtime for TrackedRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // Of its own: all connections on one token would meet at its lock, whenever one of them has something to do.
        let abort = self.abort.child_token().cancelled_owned();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = future => {}
                () = abort => {}
            }
        });
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// What becomes of somebody who knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Accept,
    /// Prove your address first.
    Retry,
    Refuse,
}

/// How busy the admission is.
#[derive(Clone, Copy, Debug)]
struct Admission {
    /// Handshakes that are not over, whether they have had their permit or not.
    waiting: usize,
    connections: usize,
}

impl Admission {
    /// `may_handshake` is asked only about an address that is proved, `may_accept_unvalidated` only about one that is not.
    fn decide(
        self,
        limits: &Limits,
        validated: bool,
        may_handshake: impl FnOnce() -> bool,
        may_accept_unvalidated: impl FnOnce() -> bool,
    ) -> Decision {
        if self.connections >= limits.max_connections || self.waiting >= limits.handshakes_waiting {
            Decision::Refuse
        } else if validated {
            if may_handshake() { Decision::Accept } else { Decision::Refuse }
        } else if self.waiting >= limits.handshakes_at_once * 4 || !may_accept_unvalidated() {
            Decision::Retry
        } else {
            Decision::Accept
        }
    }
}

/// Accepts connections until the server stops.
pub(crate) async fn accept(net: Arc<Net>, endpoint: Endpoint) {
    let limits = &net.app.config.limits;
    let permits = Arc::new(Semaphore::new(limits.handshakes_at_once));
    let waiting = Arc::new(AtomicUsize::new(0));
    let mut unvalidated = Bucket::default();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = net.stopping.cancelled() => None,
        };
        let Some(incoming) = incoming else { break };
        let admission =
            Admission { waiting: waiting.load(Ordering::Relaxed), connections: endpoint.open_connections() };
        let subnet = Subnet::from(incoming.remote_address());
        let now = net.app.clock.steady_ms();
        let may_handshake = || net.addresses.lock().may_handshake(subnet, now);
        let may_accept_unvalidated = || unvalidated.take(net.unvalidated_handshakes, now).is_ok();
        match admission.decide(limits, incoming.remote_address_validated(), may_handshake, may_accept_unvalidated) {
            Decision::Accept => {
                waiting.fetch_add(1, Ordering::Relaxed);
                let (net, permits, waiting) = (Arc::clone(&net), Arc::clone(&permits), Arc::clone(&waiting));
                let span = debug_span!("connection", address = %incoming.remote_address());
                let (tasks, connections) = (net.tasks.clone(), net.connections.clone());
                let connection = async move {
                    let connection = handshake(&net, &permits, incoming).await;
                    waiting.fetch_sub(1, Ordering::Relaxed);
                    if let Some(connection) = connection {
                        connected(net, connection).await;
                    }
                };
                tasks.spawn(connections.track_future(connection.instrument(span)));
            }
            Decision::Retry => {
                counter!("zim_handshakes_total", "outcome" => "retry").increment(1);
                // It fails only for an address that is proved.
                drop(incoming.retry());
            }
            Decision::Refuse => {
                counter!("zim_handshakes_total", "outcome" => "refused").increment(1);
                incoming.refuse();
            }
        }
    }
}

/// The handshake, when its permit comes. One that waited too long is not begun: its client has given up.
async fn handshake(net: &Net, permits: &Semaphore, incoming: Incoming) -> Option<Connection> {
    let limit = Duration::from_millis(net.app.config.limits.handshake_timeout_ms.into());
    let permit = tokio::select! {
        permit = timeout(limit, permits.acquire()) => permit.ok().and_then(Result::ok),
        () = net.stopping.cancelled() => None,
    };
    let Some(permit) = permit else {
        incoming.refuse();
        counter!("zim_handshakes_total", "outcome" => "late").increment(1);
        return None;
    };
    let completed = async {
        let mut connecting = incoming.accept()?;
        let first = timeout(HANDSHAKE_PERMIT_TIME, &mut connecting).await;
        drop(permit);
        match first {
            Ok(outcome) => outcome,
            Err(_) => connecting.await,
        }
    };
    let outcome = tokio::select! {
        outcome = timeout(limit, completed) => outcome,
        () = net.stopping.cancelled() => return None,
    };
    let (label, connection) = match outcome {
        Ok(Ok(connection)) => ("ok", Some(connection)),
        Ok(Err(error)) => {
            debug!(%error, "a handshake failed");
            ("failed", None)
        }
        Err(_) => ("timed out", None),
    };
    counter!("zim_handshakes_total", "outcome" => label).increment(1);
    connection
}

/// A place among the connections of an address; given back whatever becomes of the connection.
struct AddressSlot<'a> {
    net: &'a Net,
    subnet: Subnet,
}

impl Drop for AddressSlot<'_> {
    fn drop(&mut self) {
        self.net.addresses.lock().disconnect(self.subnet, self.net.app.clock.steady_ms());
        gauge!("zim_connections").decrement(1.0);
    }
}

async fn connected(net: Arc<Net>, connection: Connection) {
    let subnet = Subnet::from(connection.remote_address());
    if !net.addresses.lock().connect(subnet) {
        close(&connection, CloseCode::Busy, "too many connections from this address");
        return;
    }
    gauge!("zim_connections").increment(1.0);
    let _slot = AddressSlot { net: &net, subnet };
    // One endpoint serves what the client asked for in its handshake; WebTransport becomes a second arm.
    match protocol(&connection).as_deref() {
        Some(ALPN) => session_stream::run(&net, &connection).await,
        _ => close(&connection, CloseCode::Protocol, "no such protocol"),
    }
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// A user has logged in: from now on the client may send more at once.
pub(super) fn raise_receive_window(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
}

/// From now on QUIC takes something new only while it holds less than `bytes` of what is not acknowledged.
pub(super) fn set_send_window(connection: &Connection, bytes: usize) {
    connection.set_send_window(as_u64(bytes));
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Closes a connection and counts why.
pub(crate) fn close(connection: &Connection, code: CloseCode, reason: &str) {
    if connection.close_reason().is_none() {
        debug!(?code, reason, "the server closes a connection");
        counter!("zim_closed_total", "code" => code.code().to_string()).increment(1);
        connection.close(VarInt::from_u32(code.code()), reason.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(waiting: usize, connections: usize, validated: bool, may_handshake: bool) -> Decision {
        Admission { waiting, connections }.decide(&Limits::default(), validated, || may_handshake, || true)
    }

    #[test]
    fn a_quiet_door_is_open() {
        assert_eq!(decide(0, 0, false, false), Decision::Accept);
        assert_eq!(decide(15, 99_999, false, true), Decision::Accept);
    }

    #[test]
    fn under_load_an_address_is_proved_before_it_counts() {
        assert_eq!(decide(16, 0, false, false), Decision::Retry);
        assert_eq!(decide(16, 0, true, true), Decision::Accept);
        assert_eq!(decide(16, 0, true, false), Decision::Refuse);
        assert_eq!(decide(0, 0, true, false), Decision::Refuse);
    }

    #[test]
    fn those_who_prove_nothing_are_few_in_a_second_however_soon_each_is_served() {
        let admission = Admission { waiting: 0, connections: 0 };
        let decide =
            |validated, may_handshake| admission.decide(&Limits::default(), validated, || may_handshake, || false);
        assert_eq!(decide(false, true), Decision::Retry);
        assert_eq!(decide(true, true), Decision::Accept);
        assert_eq!(decide(true, false), Decision::Refuse);
    }

    #[test]
    fn a_full_house_is_full_for_all() {
        assert_eq!(decide(0, 100_000, true, true), Decision::Refuse);
        assert_eq!(decide(4_096, 0, false, true), Decision::Refuse);
    }
}
