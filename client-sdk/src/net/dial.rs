//! Finding the server: its addresses, the first of them that answers, and the way there when the network changes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use quinn::{ClientConfig, ConnectError, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use zim_protocol::ErrorCode;
use zim_protocol::wire::CloseCode;

use super::quic;
use super::socket::Replaceable;
use crate::config::Config;
use crate::error::Error;

/// The next address is tried beside the one that has not answered for so long (RFC 8305): a name like `localhost` may have
/// an address where nobody listens.
const STAGGER: Duration = Duration::from_millis(250);
/// The way to the server is looked at this often.
const LOOK: Duration = Duration::from_secs(3);
/// How long a goodbye may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);
/// TLS alerts are QUIC's errors 0x100 to 0x1ff.
const TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Connects, as often as needed, from one socket.
#[derive(Debug)]
pub(crate) struct Dialer {
    address: String,
    name: String,
    config: ClientConfig,
    timeout: Duration,
    endpoints: Mutex<Endpoints>,
    /// The app says that the network changed.
    told: Notify,
    tasks: TaskTracker,
}

/// An endpoint with its socket.
type Bound = (Endpoint, Arc<Replaceable>);

/// One for each family of addresses; rarely both are used.
#[derive(Debug, Default)]
struct Endpoints {
    v4: Option<Bound>,
    v6: Option<Bound>,
    /// Where the server was found last.
    server: Option<SocketAddr>,
}

impl Endpoints {
    fn slot(&mut self, to: SocketAddr) -> &mut Option<Bound> {
        if to.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// A connection with its session stream. It is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(super) connection: quinn::Connection,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

impl Drop for Dialed {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Unreachable {
    pub(crate) error: Error,
    /// The same will happen again: the server is not who it should be.
    pub(crate) is_final: bool,
}

impl Unreachable {
    fn passing(error: Error) -> Self {
        Self { error, is_final: false }
    }
}

fn network(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, message)
}

impl Dialer {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let host =
            config.server.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        let Some((host, _)) = host else {
            return Err(Error::new(
                ErrorCode::CommonModuleParamsInvalid,
                format!("the server's address is {:?}; it looks like host:port", config.server),
            ));
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            address: config.server.clone(),
            name: config.server_name.clone().unwrap_or_else(|| name.to_owned()),
            config: quic::client_config(&config.trust)?,
            timeout: Duration::from_millis(config.connect_timeout_ms),
            endpoints: Mutex::default(),
            told: Notify::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Connects and opens the session stream, which the server sees with the first thing that is written.
    pub(crate) async fn dial(&self) -> Result<Dialed, Unreachable> {
        let dialed = timeout(self.timeout, self.race()).await;
        dialed.unwrap_or_else(|_| {
            let message = format!("{} does not answer", self.address);
            Err(Unreachable::passing(Error::new(ErrorCode::NetworkModuleRequestTimeout, message)))
        })
    }

    async fn race(&self) -> Result<Dialed, Unreachable> {
        let found = tokio::net::lookup_host(&self.address).await.map_err(|error| {
            Unreachable::passing(network(format!("{}: there is no such host", self.address)).with_source(error))
        })?;
        let mut addresses = interleaved(found);
        let mut failure = Unreachable::passing(network(format!("{} has no address", self.address)));
        let mut attempts = FuturesUnordered::new();
        loop {
            match addresses.pop_front() {
                Some(address) => attempts.push(self.attempt(address)),
                None if attempts.is_empty() => return Err(failure),
                None => {}
            }
            tokio::select! {
                Some(outcome) = attempts.next() => match outcome {
                    Ok(dialed) => return Ok(dialed),
                    Err(unreachable) => failure = unreachable,
                },
                () = sleep(STAGGER), if !addresses.is_empty() => {}
            }
        }
    }

    async fn attempt(&self, to: SocketAddr) -> Result<Dialed, Unreachable> {
        let mut connecting = self.endpoint(to)?.connect_with(self.config.clone(), to, &self.name);
        if matches!(connecting, Err(ConnectError::EndpointStopping)) {
            // Its task has ended: a socket that was taken away, or a panic in it. Another one connects.
            *self.endpoints.lock().slot(to) = None;
            connecting = self.endpoint(to)?.connect_with(self.config.clone(), to, &self.name);
        }
        let connecting = connecting
            .map_err(|error| Unreachable::passing(network(format!("{to} cannot be reached")).with_source(error)))?;
        let connection = connecting.await.map_err(|error| self.unreachable(error))?;
        let (send, recv) = connection.open_bi().await.map_err(|error| self.unreachable(error))?;
        self.endpoints.lock().server = Some(to);
        Ok(Dialed { connection, send, recv })
    }

    fn unreachable(&self, error: ConnectionError) -> Unreachable {
        let is_final = match &error {
            ConnectionError::TransportError(error) => TLS_ALERTS.contains(&u64::from(error.code)),
            ConnectionError::ConnectionClosed(close) => TLS_ALERTS.contains(&u64::from(close.error_code)),
            ConnectionError::VersionMismatch => true,
            _ => false,
        };
        let error = network(format!("no connection to {}: {error}", self.address)).with_source(error);
        Unreachable { error, is_final }
    }

    fn endpoint(&self, to: SocketAddr) -> Result<Endpoint, Unreachable> {
        let mut endpoints = self.endpoints.lock();
        let slot = endpoints.slot(to);
        if let Some((endpoint, _)) = slot {
            return Ok(endpoint.clone());
        }
        let bound = quic::socket(to).and_then(Replaceable::new).map(Arc::new);
        let bound = bound.and_then(|socket| Ok((quic::endpoint(socket.clone(), &self.tasks)?, socket)));
        let (endpoint, _) = slot.insert(
            bound.map_err(|error| Unreachable::passing(network("there is no socket to be had").with_source(error)))?,
        );
        Ok(endpoint.clone())
    }

    /// The app knows that the network changed.
    pub(crate) fn tell_network_changed(&self) {
        self.told.notify_waiters();
    }

    /// Returns when the way to the server is another than at the call: another network, or one at last.
    pub(crate) async fn network_changed(&self) {
        let look = || self.endpoints.lock().server.map(|server| (server, quic::local_address(server)));
        let before = look();
        loop {
            tokio::select! {
                () = self.told.notified() => return,
                () = sleep(LOOK) => {}
            }
            let now = look();
            if now != before && now.is_some_and(|(_, local)| local.is_some()) {
                return;
            }
        }
    }

    /// Goes on over a new socket: the old one may belong to a network that is gone. Connections move with it.
    pub(crate) fn rebind(&self) {
        let mut endpoints = self.endpoints.lock();
        let Some(server) = endpoints.server else { return };
        let Some((_, socket)) = endpoints.slot(server) else { return };
        match quic::socket(server).and_then(|other| socket.replace(other)) {
            Ok(()) => tracing::info!("the network changed: the connection goes on over a new socket"),
            Err(error) => tracing::debug!(%error, "no new socket"),
        }
    }

    /// Gives the sockets back: says goodbye and waits until it was heard, but not for long.
    pub(crate) async fn close(&self) {
        let Endpoints { v4, v6, .. } = std::mem::take(&mut *self.endpoints.lock());
        for (endpoint, _) in [v4, v6].into_iter().flatten() {
            endpoint.close(VarInt::from_u32(CloseCode::Done.code()), b"");
            // A server that is gone hears nothing.
            let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
        }
        self.tasks.close();
        let _ = timeout(FAREWELL, self.tasks.wait()).await;
    }
}

/// The families of addresses in turns, as the system likes them.
fn interleaved(found: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) = (VecDeque::new(), VecDeque::new());
    for address in found {
        let is_first = first.front().is_none_or(|one: &SocketAddr| one.is_ipv4() == address.is_ipv4());
        if is_first { first.push_back(address) } else { second.push_back(address) }
    }
    let mut addresses = VecDeque::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        addresses.extend(first.pop_front());
        addresses.extend(second.pop_front());
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trust;

    fn config(server: &str) -> Config {
        Config::new(1, server).trust(Trust::Fingerprint([0; 32])).connect_timeout_ms(50)
    }

    #[test]
    fn families_take_turns() {
        let found = ["[::1]:1", "[::2]:1", "127.0.0.1:1", "[::3]:1"].map(|address| address.parse().unwrap());
        let order: Vec<String> = interleaved(found.into_iter()).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for wrong in ["", "host", ":1", "host:", "host:port", "host:99999"] {
            let error = Dialer::new(&config(wrong)).unwrap_err();
            assert_eq!(error.code(), ErrorCode::CommonModuleParamsInvalid, "{wrong}");
        }
        assert_eq!(Dialer::new(&config("[::1]:1")).unwrap().name, "::1");
        assert_eq!(Dialer::new(&config("host:1").server_name("chat")).unwrap().name, "chat");
    }

    #[tokio::test]
    async fn nobody_is_waited_for_for_ever() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let dialer = Dialer::new(&config(&silent.local_addr().unwrap().to_string())).unwrap();
        let unreachable = dialer.dial().await.unwrap_err();
        assert_eq!(unreachable.error.code(), ErrorCode::NetworkModuleRequestTimeout);
        assert!(!unreachable.is_final);
        dialer.close().await;
    }
}
