//! The settings of QUIC, and its sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    AckFrequencyConfig, AsyncTimer, AsyncUdpSocket, ClientConfig, Endpoint, EndpointConfig, Runtime, TokioRuntime,
    TransportConfig, VarInt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::task::TaskTracker;
use zim_protocol::ErrorCode;

use super::socket::Replaceable;
use super::tls;
use crate::config::Trust;
use crate::error::Error;

/// The server hears something at least this often: it takes a client for gone after 35 silent seconds, unless it says another
/// time in Welcome.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// After so much silence of the server the connection is given up: three questions went unanswered.
const IDLE: Duration = Duration::from_secs(30);
/// With the system's default of 208 KB, datagrams are lost when much comes at once.
const SOCKET_BYTES: usize = 4 << 20;
/// What the server may send before it is read: twice the largest frame.
const STREAM_RECEIVE_WINDOW: u32 = 2 << 20;
const RECEIVE_WINDOW: u32 = 4 << 20;
/// What waits for the server's acknowledgement.
const SEND_WINDOW: u64 = 4 << 20;

/// How a client connects on QUIC: whom it believes, and how it keeps the connection. For tools that speak the protocol
/// without a [`Zim`](crate::Zim) in between.
///
/// # Errors
/// Nobody can be believed that way: no such file, no certificate in it.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let tls = QuicClientConfig::try_from(tls::client_config(trust)?).map_err(|error| {
        let message = "QUIC cannot use this system's cryptography";
        Error::new(ErrorCode::NetworkModuleCommonError, message).with_source(error)
    })?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(25)));
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE.try_into().ok())
        // The server opens the event stream, and nothing else.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .ack_frequency_config(Some(acks));
    transport
}

/// An endpoint on a socket for servers of one family of addresses. Its tasks are counted in `tasks`.
pub(super) fn endpoint(socket: Arc<Replaceable>, tasks: &TaskTracker) -> io::Result<Endpoint> {
    let runtime = Arc::new(Tracked(tasks.clone()));
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
}

/// A socket on any free port.
pub(super) fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, Some(Protocol::UDP))?;
    // Less is slower, not wrong: the system may give what it likes.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.bind(&from.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The address of this machine from which `to` is reached now. Nothing is sent.
pub(super) fn local_address(to: SocketAddr) -> Option<IpAddr> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// tokio, with every task of the endpoint and its connections counted among the client's.
#[derive(Debug)]
struct Tracked(TaskTracker);

impl Runtime for Tracked {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.0.spawn(future);
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
