//! QUIC settings and UDP sockets.

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
use super::tls::{self, Refused};
use crate::config::Trust;
use crate::error::Error;

/// The interval of keep-alive packets. The server counts a client as offline after 35 s of silence, unless its Welcome
/// sets another time.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The idle timeout: the connection is closed after three keep-alive packets without an answer.
const IDLE: Duration = Duration::from_secs(30);
/// The size of the socket buffers. With the default of 208 KB, bursts lose datagrams.
const SOCKET_BYTES: usize = 4 << 20;
/// How much the server may send before it is read: twice the largest frame.
const STREAM_RECEIVE_WINDOW: u32 = 2 << 20;
const RECEIVE_WINDOW: u32 = 4 << 20;
/// The most unacknowledged bytes.
const SEND_WINDOW: u64 = 4 << 20;

/// Returns the QUIC settings of a client. For tools that speak the protocol without a [`Zim`](crate::Zim).
///
/// # Errors
/// The certificates to trust cannot be loaded: there is no such file, or no certificate in it.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    noting_client_config(trust).map(|(config, _)| config)
}

/// Returns the QUIC settings of a client, and where they note why a certificate is refused.
pub(super) fn noting_client_config(trust: &Trust) -> Result<(ClientConfig, Refused), Error> {
    let (tls, refused) = tls::client_config(trust)?;
    let tls = QuicClientConfig::try_from(tls).map_err(|error| {
        let message = "the TLS settings do not support QUIC";
        Error::new(ErrorCode::NetworkModuleCommonError, message).with_source(error)
    })?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok((config, refused))
}

fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(10)).max_ack_delay(Some(Duration::from_millis(25)));
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IDLE.try_into().ok())
        // The server opens the event stream and no other.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .ack_frequency_config(Some(acks));
    transport
}

/// Creates an endpoint. Its tasks are counted in `tasks`.
pub(super) fn endpoint(socket: Arc<Replaceable>, tasks: &TaskTracker) -> io::Result<Endpoint> {
    let runtime = Arc::new(Tracked(tasks.clone()));
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
}

/// Binds a socket of the family of `to` to a free port.
pub(super) fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Socket::new(Domain::for_address(from), Type::DGRAM, Some(Protocol::UDP))?;
    // A smaller buffer is slower but works.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.bind(&from.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Returns the local address from which `to` is reached now. Nothing is sent.
pub(super) fn local_address(to: SocketAddr) -> Option<IpAddr> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The tokio runtime, with every task of the endpoint and its connections counted.
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
