//! Dialing: resolves the server's name, connects to the first address that answers, and detects changes of the network.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use quinn::{ClientConfig, ConnectError, Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use zim_protocol::ErrorCode;
use zim_protocol::wire::CloseCode;

use super::address::Address;
use super::quic;
use super::socket::Replaceable;
use super::tls::Refused;
use crate::config::Config;
use crate::error::Error;

/// After this time without an answer the next address is tried as well (RFC 8305): a name like `localhost` may have an
/// address where no server listens.
const STAGGER: Duration = Duration::from_millis(250);
/// How often the route to the server is checked.
const ROUTE_CHECK: Duration = Duration::from_secs(3);
/// How long the close frame may take to arrive, and how long if the server has not been heard of.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const SILENT_CLOSE_TIMEOUT: Duration = Duration::from_millis(20);
/// QUIC error codes 0x100 to 0x1ff are TLS alerts.
const TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Connects to the server. All connections share one socket per address family, until an attempt fails.
#[derive(Debug)]
pub(crate) struct Dialer {
    address: Address,
    config: ClientConfig,
    refused: Refused,
    timeout: Duration,
    endpoints: Mutex<Endpoints>,
    /// Counts the changes of the network that the app reported.
    changes: watch::Sender<u64>,
    tasks: TaskTracker,
}

/// An endpoint and its socket.
type Bound = (Endpoint, Arc<Replaceable>);

/// One endpoint for each address family; both are rarely used.
#[derive(Debug, Default)]
struct Endpoints {
    v4: Option<Bound>,
    v6: Option<Bound>,
    /// The address of the last connection.
    server: Option<SocketAddr>,
    last: Option<Connection>,
}

impl Endpoints {
    fn slot(&mut self, to: SocketAddr) -> &mut Option<Bound> {
        if to.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }
}

/// A connection with its session stream. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) connection: Connection,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

impl Drop for Dialed {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
    }
}

/// The packets of a connection so far.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    sent: u64,
    received: u64,
}

/// Returns whether something is wrong: there is no connection, or the server has not reacted to what this device has sent.
fn is_unanswered(before: Option<Traffic>, now: Option<Traffic>) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return true };
    now.sent > before.sent && now.received == before.received
}

/// Why a connection could not be made.
#[derive(Debug)]
pub(crate) struct Unreachable {
    pub(crate) error: Error,
    /// A retry would fail again, for example because the certificate is not trusted.
    pub(crate) is_final: bool,
}

impl Unreachable {
    fn transient(error: Error) -> Self {
        Self { error, is_final: false }
    }
}

fn network(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, message)
}

impl Dialer {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let address = Address::of(config)?;
        let (client_config, refused) = quic::noting_client_config(&config.trust)?;
        Ok(Self {
            address,
            config: client_config,
            refused,
            timeout: Duration::from_millis(config.connect_timeout_ms),
            endpoints: Mutex::default(),
            changes: watch::Sender::new(0),
            tasks: TaskTracker::new(),
        })
    }

    /// Connects and opens the session stream. The server sees the stream with the first bytes that are written.
    pub(crate) async fn dial(&self) -> Result<Dialed, Unreachable> {
        let dialed = timeout(self.timeout, self.race()).await;
        let dialed = dialed.unwrap_or_else(|_| {
            let message = format!("{} does not answer", self.address.given);
            Err(Unreachable::transient(Error::new(ErrorCode::NetworkModuleRequestTimeout, message)))
        });
        if dialed.is_err() {
            // A NAT or a balancer on the way may keep sending what comes from this port to a place where nobody is any more. The next
            // attempt has another port.
            let mut endpoints = self.endpoints.lock();
            (endpoints.v4, endpoints.v6) = (None, None);
        }
        dialed
    }

    async fn race(&self) -> Result<Dialed, Unreachable> {
        let Address { given, host, port, .. } = &self.address;
        let found = tokio::net::lookup_host((host.as_str(), *port)).await.map_err(|error| {
            Unreachable::transient(network(format!("{given}: the host cannot be found")).with_source(error))
        })?;
        self.first_of(interleaved(found)).await
    }

    /// Connects to the first of these addresses that answers.
    async fn first_of(&self, mut addresses: VecDeque<SocketAddr>) -> Result<Dialed, Unreachable> {
        let mut failure = Unreachable::transient(network(format!("{} has no address", self.address.given)));
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
        let mut connecting = self.endpoint(to)?.connect_with(self.config.clone(), to, &self.address.name);
        if matches!(connecting, Err(ConnectError::EndpointStopping)) {
            // Its task has ended, because the socket failed or the task panicked. A new endpoint replaces it.
            *self.endpoints.lock().slot(to) = None;
            connecting = self.endpoint(to)?.connect_with(self.config.clone(), to, &self.address.name);
        }
        let connecting = connecting.map_err(|error| {
            let message = format!("{}: {to} cannot be reached: {error}", self.address.given);
            Unreachable::transient(network(message).with_source(error))
        })?;
        let connection = connecting.await.map_err(|error| self.unreachable(error))?;
        let (send, recv) = connection.open_bi().await.map_err(|error| self.unreachable(error))?;
        {
            let mut endpoints = self.endpoints.lock();
            (endpoints.server, endpoints.last) = (Some(to), Some(connection.clone()));
        }
        Ok(Dialed { connection, send, recv })
    }

    fn unreachable(&self, error: ConnectionError) -> Unreachable {
        let is_final = match &error {
            ConnectionError::TransportError(error) => TLS_ALERTS.contains(&u64::from(error.code)),
            ConnectionError::ConnectionClosed(close) => TLS_ALERTS.contains(&u64::from(close.error_code)),
            ConnectionError::VersionMismatch => true,
            _ => false,
        };
        // The error of QUIC has a text only.
        let problem = if is_final { self.refused.lock().take() } else { None };
        let given = &self.address.given;
        let error = match problem {
            Some(problem) => network(format!("the certificate of the server at {given} is not accepted: {problem}"))
                .with_detail("reason", problem.reason()),
            None => network(format!("no connection to {given}: {error}")),
        }
        .with_source(error);
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
        let (endpoint, _) = slot.insert(bound.map_err(|error| {
            Unreachable::transient(network("the system does not provide a UDP socket").with_source(error))
        })?);
        Ok(endpoint.clone())
    }

    /// Reports that the network changed.
    pub(crate) fn report_network_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Returns how many changes the app has reported.
    pub(crate) fn network_changes(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Waits until the app reports a change beyond those that were `seen`, or the route to the server changes: the device
    /// is in another network, or in one again. The route is checked while something is wrong: without a connection, and
    /// while the server does not react to what this device sends.
    pub(crate) async fn network_changed(&self, seen: &AtomicU64, connection: Option<&Connection>) {
        let route = || self.endpoints.lock().server.map(|server| (server, quic::local_address(server)));
        let traffic = || {
            let stats = connection?.stats();
            Some(Traffic { sent: stats.udp_tx.datagrams, received: stats.udp_rx.datagrams })
        };
        let (before, mut changes) = (route(), self.changes.subscribe());
        let mut last = traffic();
        loop {
            tokio::select! {
                changes = changes.wait_for(|changes| *changes > seen.load(Ordering::Acquire)) => {
                    // Never fails: `self` holds the sender.
                    seen.store(changes.map_or(0, |changes| *changes), Ordering::Release);
                    return;
                }
                () = sleep(ROUTE_CHECK) => {}
            }
            let now = traffic();
            if !is_unanswered(last, now) {
                last = now;
                continue;
            }
            // This opens a socket.
            let now = route();
            if now != before && now.is_some_and(|(_, local)| local.is_some()) {
                return;
            }
        }
    }

    /// Moves the connections to a new socket, because the old one may belong to a network that is gone.
    pub(crate) fn rebind(&self) {
        let mut endpoints = self.endpoints.lock();
        let Some(server) = endpoints.server else { return };
        let Some((_, socket)) = endpoints.slot(server) else { return };
        match quic::socket(server).and_then(|other| socket.replace(other)) {
            Ok(()) => tracing::info!("the network changed; the connection moves to a new socket"),
            Err(error) => tracing::debug!(%error, "a new socket could not be bound"),
        }
    }

    /// Closes the sockets: sends close frames and waits a short time for them to arrive.
    pub(crate) async fn close(&self) {
        let Endpoints { v4, v6, last, .. } = std::mem::take(&mut *self.endpoints.lock());
        let is_there = |last: Connection| match last.close_reason() {
            None | Some(ConnectionError::LocallyClosed) => true,
            Some(_) => false,
        };
        let limit = if last.is_some_and(is_there) { CLOSE_TIMEOUT } else { SILENT_CLOSE_TIMEOUT };
        let endpoints: Vec<Endpoint> = [v4, v6].into_iter().flatten().map(|(endpoint, _)| endpoint).collect();
        endpoints.iter().for_each(|endpoint| endpoint.close(VarInt::from_u32(CloseCode::Done.code()), b""));
        let closing = async move {
            // The task of an endpoint ends when nobody has it any more.
            for endpoint in endpoints {
                endpoint.wait_idle().await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        // A server that is gone does not answer.
        let _ = timeout(limit, closing).await;
    }
}

/// Alternates between the address families, in the order of the resolver.
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
    use quinn::ServerConfig;
    use quinn::crypto::rustls::QuicServerConfig;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use sha2::{Digest, Sha256};
    use tokio::task::JoinHandle;
    use zim_protocol::wire::ALPN;

    use super::*;
    use crate::config::Trust;

    /// A server that accepts connections and does nothing with them.
    struct Accepting {
        endpoint: Endpoint,
        fingerprint: [u8; 32],
        task: JoinHandle<()>,
    }

    impl Accepting {
        fn start() -> Self {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(["chat.example".to_owned()]).unwrap();
            let certificate = params.self_signed(&key).unwrap().der().clone();
            let fingerprint = Sha256::digest(&certificate).into();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut tls = rustls::ServerConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
                .unwrap();
            tls.alpn_protocols = vec![ALPN.to_vec()];
            let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
            let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
            let task = tokio::spawn({
                let endpoint = endpoint.clone();
                async move {
                    let mut connections = Vec::new();
                    while let Some(incoming) = endpoint.accept().await {
                        // A client that does not trust this server ends the connection.
                        connections.extend(incoming.await.ok());
                    }
                }
            });
            Self { endpoint, fingerprint, task }
        }

        fn address(&self) -> SocketAddr {
            self.endpoint.local_addr().unwrap()
        }

        /// A client that trusts this server, whatever address it is reached at.
        fn dialer(&self) -> Dialer {
            let config = Config::new(1, "chat.example:1").trust(Trust::Fingerprint(self.fingerprint));
            Dialer::new(&config).unwrap()
        }
    }

    impl Drop for Accepting {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    fn config(server: &str) -> Config {
        Config::new(1, server).trust(Trust::Fingerprint([0; 32])).connect_timeout_ms(50)
    }

    #[test]
    fn address_families_alternate() {
        let found = ["[::1]:1", "[::2]:1", "127.0.0.1:1", "[::3]:1"].map(|address| address.parse().unwrap());
        let order: Vec<String> = interleaved(found.into_iter()).iter().map(ToString::to_string).collect();
        assert_eq!(order, ["[::1]:1", "127.0.0.1:1", "[::2]:1", "[::3]:1"]);
    }

    #[tokio::test]
    async fn a_name_with_several_addresses_is_reached_at_the_one_that_answers() {
        let (server, other) = (Accepting::start(), Accepting::start());
        let silent = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let [first, second] = silent.each_ref().map(|silent| silent.local_addr().unwrap());
        let dialer = server.dialer();
        // Some do not answer, and at one of them is somebody else's server.
        for addresses in [
            vec![server.address(), first],
            vec![first, server.address()],
            vec![first, other.address(), second, server.address()],
            vec![other.address(), server.address()],
        ] {
            let dialed = dialer.first_of(addresses.clone().into()).await;
            let dialed = dialed.unwrap_or_else(|unreachable| panic!("{addresses:?}: {unreachable:?}"));
            assert_eq!(dialed.connection.remote_address(), server.address(), "{addresses:?}");
        }
        // Without the server, the error says why the one that answers is not used.
        let refused = dialer.first_of([other.address()].into()).await.unwrap_err();
        assert!(refused.is_final, "{refused:?}");
        assert!(refused.error.message().contains("certificate"), "{refused:?}");
        let none = dialer.first_of(VecDeque::new()).await.unwrap_err();
        assert!(none.error.message().contains("has no address"), "{none:?}");
        dialer.close().await;
    }

    #[tokio::test]
    async fn a_silent_server_times_out() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let dialer = Dialer::new(&config(&silent.local_addr().unwrap().to_string())).unwrap();
        let unreachable = dialer.dial().await.unwrap_err();
        assert_eq!(unreachable.error.code(), ErrorCode::NetworkModuleRequestTimeout);
        assert!(!unreachable.is_final);
        dialer.close().await;
    }

    #[tokio::test]
    async fn an_attempt_after_a_failed_one_comes_from_another_port() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let dialer = Dialer::new(&config(&silent.local_addr().unwrap().to_string())).unwrap();
        for _ in 0..2 {
            dialer.dial().await.unwrap_err();
        }
        silent.set_nonblocking(true).unwrap();
        let mut ports: Vec<u16> =
            std::iter::from_fn(|| silent.recv_from(&mut [0; 2_000]).ok()).map(|(_, from)| from.port()).collect();
        ports.dedup();
        assert_eq!(ports.len(), 2, "{ports:?}");
        dialer.close().await;
    }

    #[test]
    fn the_route_is_checked_only_while_something_is_wrong() {
        let traffic = |sent, received| Some(Traffic { sent, received });
        let after = |sent, received| is_unanswered(traffic(5, 5), traffic(sent, received));
        assert!(!after(5, 5), "nothing was sent: an idle phone sleeps");
        assert!(!after(9, 6) && !after(5, 6), "the server reacts");
        assert!(after(6, 5));
        assert!(is_unanswered(None, None), "there is no connection");
    }

    #[tokio::test]
    async fn a_change_of_the_network_that_is_reported_while_no_one_waits_is_not_lost() {
        let dialer = Dialer::new(&config("127.0.0.1:1")).unwrap();
        let seen = AtomicU64::new(dialer.network_changes());
        let changed = async || futures_util::poll!(Box::pin(dialer.network_changed(&seen, None))).is_ready();
        assert!(!changed().await);
        dialer.report_network_change();
        dialer.report_network_change();
        assert!(changed().await);
        assert!(!changed().await, "both are handled");
    }
}
