//! The QUIC endpoint: which connections it admits, how many at once, and how much memory each of them can occupy.
//!
//! A burst of handshakes (after a deploy, or when a network recovers) must not stall connected clients, so only a few
//! handshakes run at a time. Under load a client must first validate its address (Retry), which costs the server no
//! state. Only then does it count against the limits of its address, so nobody can use up the limits of another
//! address.

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

/// With the system's default of 208 KB, 500 busy connections lost 36,000 datagrams and their slowest messages took 139
/// ms; with this size they lost none, and the slowest took 31 ms.
const SOCKET_BUFFER: usize = 4 << 20;
/// What QUIC buffers at most of unread data that one connection sent after its login. It allows 2.5 MB a second at a
/// round trip of 100 ms. A frame may be longer, because the server reads it while it arrives. A client that sends the
/// second half of something and never the first leaves its data in this window; no other limit covers it.
const RECEIVE_WINDOW: u32 = 256 << 10;
/// The same before the login: two frames of the largest size that an unauthenticated connection may send.
const UNAUTHENTICATED_RECEIVE_WINDOW: u32 = 32 << 10;
/// Unacknowledged data that the server keeps for one connection. This costs as much as the connection itself, so it is
/// not counted.
pub(super) const SEND_WINDOW: usize = 32 << 10;
/// The same while there are pages to send. It is counted, and allows 2.5 MB a second at a round trip of 100 ms.
pub(super) const PAGES_SEND_WINDOW: usize = 256 << 10;
/// The session stream. A client that opens another one violates the protocol, and QUIC reports it. Each allowed stream
/// costs memory in every session (8 KB at quinn's default of 100).
const CLIENT_STREAMS: u32 = 1;
/// How long a handshake holds its permit. The permits spread the server's work, which is done by then; the rest of a
/// handshake waits for the client. With permits held to the end, four of them allowed 40 handshakes a second with
/// clients at a round trip of 100 ms, and none at all when four clients sent their first packet and nothing more.
const HANDSHAKE_PERMIT_TIME: Duration = Duration::from_millis(10);
/// Bytes of packets that quinn buffers for one connection until its handshake starts; it drops the rest.
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
        // The client keeps the connection alive. A silent client counts as offline.
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(limits.offline_after_ms))))
        .ack_frequency_config(Some(ack_frequency()));
    transport
}

fn ack_frequency() -> AckFrequencyConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(25)));
    acks
}

/// Opens the endpoint. Its own tasks run in `tasks` and end at the latest when `abort` is cancelled.
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
    // Linux doubles the requested size for its own bookkeeping.
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    let actual = socket.recv_buffer_size()?.min(socket.send_buffer_size()?) / factor;
    if actual < SOCKET_BUFFER {
        warn!(
            actual_bytes = actual,
            requested_bytes = SOCKET_BUFFER,
            "the UDP buffers are smaller than requested, so datagrams are lost and sent again under load; \
             on Linux raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The tokio runtime, except that the tasks of the endpoint and its connections are tracked with the server's, and
/// aborted when the shutdown runs out of time. A connection whose first packet closes it stays in quinn until its idle
/// timeout, and nothing else ends it earlier.
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
        // A child token: connections that share one token contend for its lock whenever one of them is polled.
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

/// What happens to an incoming connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Accept,
    /// The client must validate its address first.
    Retry,
    Refuse,
}

/// The load that decides on the admission of a connection.
#[derive(Clone, Copy, Debug)]
struct Admission {
    /// Handshakes that are not complete, with a permit or without.
    waiting: usize,
    connections: usize,
}

impl Admission {
    /// Decides on one incoming connection. `may_handshake` is only called for a validated address,
    /// `may_accept_unvalidated` only for an unvalidated one.
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
                // Fails only for a validated address.
                drop(incoming.retry());
            }
            Decision::Refuse => {
                counter!("zim_handshakes_total", "outcome" => "refused").increment(1);
                incoming.refuse();
            }
        }
    }
}

/// Performs the handshake, once it has a permit. If it waits too long, it does not start: the client has given up.
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
            debug!(%error, "handshake failed");
            ("failed", None)
        }
        Err(_) => ("timed out", None),
    };
    counter!("zim_handshakes_total", "outcome" => label).increment(1);
    connection
}

/// One of the connections that an address may have. Dropping it frees the slot.
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
    // One endpoint serves every protocol that clients negotiate in the handshake. WebTransport becomes a second arm.
    match protocol(&connection).as_deref() {
        Some(ALPN) => session_stream::run(&net, &connection).await,
        _ => close(&connection, CloseCode::Protocol, "unknown application protocol"),
    }
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// Raises the receive window after the login.
pub(super) fn raise_receive_window(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
}

/// Sets the send window: QUIC accepts new data only while it holds less than `bytes` of unacknowledged data.
pub(super) fn set_send_window(connection: &Connection, bytes: usize) {
    connection.set_send_window(as_u64(bytes));
}

fn as_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Closes a connection and counts the close code.
pub(crate) fn close(connection: &Connection, code: CloseCode, reason: &str) {
    if connection.close_reason().is_none() {
        debug!(?code, reason, "closing a connection");
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
    fn without_load_every_connection_is_accepted() {
        assert_eq!(decide(0, 0, false, false), Decision::Accept);
        assert_eq!(decide(15, 99_999, false, true), Decision::Accept);
    }

    #[test]
    fn under_load_an_address_is_validated_before_it_counts() {
        assert_eq!(decide(16, 0, false, false), Decision::Retry);
        assert_eq!(decide(16, 0, true, true), Decision::Accept);
        assert_eq!(decide(16, 0, true, false), Decision::Refuse);
        assert_eq!(decide(0, 0, true, false), Decision::Refuse);
    }

    #[test]
    fn unvalidated_handshakes_have_a_rate_even_if_none_waits() {
        let admission = Admission { waiting: 0, connections: 0 };
        let decide =
            |validated, may_handshake| admission.decide(&Limits::default(), validated, || may_handshake, || false);
        assert_eq!(decide(false, true), Decision::Retry);
        assert_eq!(decide(true, true), Decision::Accept);
        assert_eq!(decide(true, false), Decision::Refuse);
    }

    #[test]
    fn a_full_server_refuses_validated_and_unvalidated_addresses() {
        assert_eq!(decide(0, 100_000, true, true), Decision::Refuse);
        assert_eq!(decide(4_096, 0, false, true), Decision::Refuse);
    }
}
