//! A connection on QUIC: what `connection.rs` wants written and read, on a socket.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AckFrequencyConfig, ClientConfig, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use zim_protocol::response::Outcome;
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    ErrorCode, EventFrame, Hello, Response, Rpc, SessionEndReason, Welcome, event_frame,
};

use super::connection::{Connection, Incoming};
use super::link::{Answer, Outgoing, await_answer, unreadable};
use super::tls;
use crate::config::{Config, Trust};
use crate::error::Error;

/// The server hears something this often; it takes a client for gone after 35 silent seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// After so much silence of the server the connection is given up.
const IDLE: Duration = Duration::from_secs(35);
/// How long events may stay unacknowledged.
const ACK_AFTER: Duration = Duration::from_secs(1);
/// Read at once; it stays where QUIC put it until it is cut into frames.
const READ_BYTES: usize = 64 << 10;
/// Room of the sockets' buffers, asked for; the system may give less.
const SOCKET_BYTES: usize = 4 << 20;

/// Connects, as often as needed, from one socket.
#[derive(Debug)]
pub(crate) struct Dialer {
    address: String,
    name: String,
    tls: ClientConfig,
    hello: Hello,
    timeout: Duration,
    endpoint: Mutex<Option<Endpoint>>,
}

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The network, or the server's end of it.
    Lost,
    /// The server said why.
    Server(SessionEndReason),
}

fn network(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, message)
}

/// How a client connects on QUIC: whom it believes, and how it keeps the connection. For tools that speak the protocol
/// without a [`Zim`](crate::Zim) in between.
pub fn client_config(trust: &Trust) -> Result<ClientConfig, Error> {
    let tls = QuicClientConfig::try_from(tls::client_config(trust)?)
        .map_err(|error| network("QUIC cannot use this system's cryptography").with_source(error))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

impl Dialer {
    pub(crate) fn new(config: &Config, device_id: [u8; 16]) -> Result<Self, Error> {
        let Some((host, _)) = config.server.rsplit_once(':') else {
            return Err(Error::new(
                ErrorCode::CommonModuleParamsInvalid,
                format!("the server's address is {:?}; it looks like host:port", config.server),
            ));
        };
        let name = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            address: config.server.clone(),
            name: config.server_name.clone().unwrap_or_else(|| name.to_owned()),
            tls: client_config(&config.trust)?,
            hello: Hello {
                versions: vec![zim_protocol::wire::VERSION],
                sdk_version: env!("CARGO_PKG_VERSION").to_owned(),
                platform: config.platform as i32,
                device_id: device_id.to_vec().into(),
            },
            timeout: Duration::from_millis(config.connect_timeout_ms),
            endpoint: Mutex::default(),
        })
    }

    /// Connects and says Hello. Not logged in yet.
    pub(crate) async fn dial(&self) -> Result<Session, Error> {
        timeout(self.timeout, self.dial_now()).await.map_err(|_| {
            let message = format!("{} does not answer", self.address);
            Error::new(ErrorCode::NetworkModuleRequestTimeout, message)
        })?
    }

    async fn dial_now(&self) -> Result<Session, Error> {
        let addresses = tokio::net::lookup_host(&self.address)
            .await
            .map_err(|error| network(format!("{} is not known", self.address)).with_source(error))?;
        let mut failure = network(format!("{} has no address", self.address));
        for address in addresses {
            match self.dial_address(address).await {
                Ok(session) => return Ok(session),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn dial_address(&self, address: SocketAddr) -> Result<Session, Error> {
        let endpoint = self.endpoint(address)?;
        let connecting = endpoint
            .connect_with(self.tls.clone(), address, &self.name)
            .map_err(|error| network(format!("{address} cannot be reached")).with_source(error))?;
        let connection = connecting.await.map_err(|error| {
            let message = format!("no connection to {}: {error}", self.address);
            network(message).with_source(error)
        })?;
        let lost = |error: quinn::ConnectionError| network("the connection was lost at its beginning").with_source(error);
        let (send, recv) = connection.open_bi().await.map_err(lost)?;
        let mut session = Session {
            connection,
            send,
            recv,
            state: Mutex::new(Connection::new(self.hello.clone())),
            welcome: Welcome::default(),
        };
        match session.exchange().await? {
            Incoming::Welcome(welcome) => session.welcome = *welcome,
            Incoming::Response(_) => return Err(network("the server answers before it says Welcome")),
        }
        Ok(session)
    }

    /// The socket, for addresses of this family.
    fn endpoint(&self, to: SocketAddr) -> Result<Endpoint, Error> {
        let mut slot = self.endpoint.lock();
        if let Some(endpoint) = &*slot
            && endpoint.local_addr().is_ok_and(|local| local.is_ipv4() == to.is_ipv4())
        {
            return Ok(endpoint.clone());
        }
        let endpoint = open_endpoint(to).map_err(|error| network("there is no socket to be had").with_source(error))?;
        *slot = Some(endpoint.clone());
        Ok(endpoint)
    }

    /// Says goodbye on the socket and waits until it was heard, but not for long.
    pub(crate) async fn close(&self) {
        let endpoint = self.endpoint.lock().take();
        if let Some(endpoint) = endpoint {
            endpoint.close(VarInt::from_u32(CloseCode::Done.code()), b"");
            // A server that is gone hears nothing.
            let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
        }
    }
}

fn open_endpoint(to: SocketAddr) -> std::io::Result<Endpoint> {
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from)?;
    let sized = socket2::SockRef::from(&socket);
    // Less is slower, not wrong.
    let _ = sized.set_recv_buffer_size(SOCKET_BYTES);
    let _ = sized.set_send_buffer_size(SOCKET_BYTES);
    let runtime = quinn::default_runtime().ok_or_else(|| std::io::Error::other("no tokio runtime"))?;
    Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    transport.max_idle_timeout(IDLE.try_into().ok());
    // The server opens the event stream, and nothing else.
    transport.max_concurrent_uni_streams(1_u8.into());
    transport.max_concurrent_bidi_streams(0_u8.into());
    transport.datagram_receive_buffer_size(None);
    transport.stream_receive_window(VarInt::from_u32(2 << 20));
    transport.receive_window(VarInt::from_u32(8 << 20));
    transport.send_window(8 << 20);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(10_u8.into());
    acks.max_ack_delay(Some(Duration::from_millis(25)));
    transport.ack_frequency_config(Some(acks));
    transport
}

/// A connection that said Hello.
#[derive(Debug)]
pub(crate) struct Session {
    connection: quinn::Connection,
    send: SendStream,
    recv: RecvStream,
    state: Mutex<Connection>,
    welcome: Welcome,
}

impl Session {
    /// What the server said of itself.
    pub(crate) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Writes what is to be written and reads one thing.
    async fn exchange(&mut self) -> Result<Incoming, Error> {
        let out = self.state.get_mut().take_out();
        self.send.write_all(&out).await.map_err(|error| self.lost(error.into()))?;
        loop {
            let chunk = self.recv.read_chunk(READ_BYTES, true).await.map_err(|error| self.lost(error.into()))?;
            let Some(chunk) = chunk else { return Err(network("the server ended the connection")) };
            let incoming = self.state.get_mut().on_session(&chunk.bytes).map_err(|error| network(error.to_string()))?;
            if let Some(first) = incoming.into_iter().next() {
                return Ok(first);
            }
        }
    }

    fn lost(&self, error: std::io::Error) -> Error {
        let reason = self.connection.close_reason().map_or_else(|| error.to_string(), |reason| reason.to_string());
        network(format!("the connection was lost: {reason}")).with_source(error)
    }

    /// A call before the session runs: logging in.
    pub(crate) async fn call<R: Rpc>(&mut self, request: &R, patience: Duration) -> Result<R::Response, Error> {
        request.validate().map_err(|violation| Error::from(*violation))?;
        let id = self.state.get_mut().request(R::METHOD.path, request.encode_to_vec().into());
        let (reply, answer) = oneshot::channel();
        match timeout(patience, self.exchange()).await {
            Ok(Ok(Incoming::Response(response))) if response.id == id => settle(reply, *response),
            Ok(Ok(_)) => return Err(network("the server answers something else")),
            Ok(Err(error)) => return Err(error),
            Err(_) => drop(reply),
        }
        let (payload, _) = await_answer(answer, Duration::ZERO).await?;
        prost::Message::decode(payload).map_err(unreadable)
    }

    /// Carries calls and events until the end. `events` takes each event frame in order, and may take its time.
    pub(crate) async fn run<F, Taken>(self, mut calls: mpsc::UnboundedReceiver<Outgoing>, events: F) -> Ended
    where
        F: FnMut(EventFrame) -> Taken + Send,
        Taken: Future<Output = ()> + Send,
    {
        let Self { connection, mut send, mut recv, state, .. } = self;
        let ended = tokio::select! {
            () = serve(&state, &mut send, &mut recv, &mut calls) => Ended::Lost,
            ended = listen(&connection, &state, events) => ended,
        };
        connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
        ended
    }
}

/// Answers a caller.
fn settle(reply: oneshot::Sender<Answer>, response: Response) {
    let answer = match response.outcome {
        Some(Outcome::Ok(payload)) => Ok((payload, response.pushes)),
        Some(Outcome::Error(error)) => Err(Error::from(error)),
        None => Ok((Bytes::new(), response.pushes)),
    };
    // The caller may have stopped waiting.
    let _ = reply.send(answer);
}

/// The session stream: calls out, answers in, until it breaks.
async fn serve(
    state: &Mutex<Connection>,
    send: &mut SendStream,
    recv: &mut RecvStream,
    calls: &mut mpsc::UnboundedReceiver<Outgoing>,
) {
    let mut waiting: HashMap<u64, oneshot::Sender<Answer>> = HashMap::new();
    let mut writing = Bytes::new();
    let mut batch = Vec::new();
    let mut owed = tokio::time::interval(ACK_AFTER);
    owed.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if writing.is_empty() {
            writing = state.lock().take_out();
        }
        tokio::select! {
            written = send.write(&writing), if !writing.is_empty() => match written {
                Ok(count) => writing.advance(count),
                Err(_) => return,
            },
            chunk = recv.read_chunk(READ_BYTES, true) => {
                let Ok(Some(chunk)) = chunk else { return };
                let incoming = state.lock().on_session(&chunk.bytes);
                let Ok(incoming) = incoming.inspect_err(|error| tracing::warn!(%error, "closing the connection")) else {
                    return;
                };
                for one in incoming {
                    if let Incoming::Response(response) = one
                        && let Some(reply) = waiting.remove(&response.id)
                    {
                        settle(reply, *response);
                    }
                }
            }
            // Whatever waits leaves in one write, in the order of the calls.
            count = calls.recv_many(&mut batch, 256) => {
                if count == 0 {
                    return;
                }
                let mut state = state.lock();
                for Outgoing { method, payload, reply } in batch.drain(..) {
                    waiting.insert(state.request(method.path, payload), reply);
                }
            }
            _ = owed.tick() => {
                let mut state = state.lock();
                if state.owes_ack() {
                    state.acknowledge();
                }
            }
        }
    }
}

/// The event stream, which the server opens when there is something to say.
async fn listen<F, Taken>(connection: &quinn::Connection, state: &Mutex<Connection>, mut events: F) -> Ended
where
    F: FnMut(EventFrame) -> Taken + Send,
    Taken: Future<Output = ()> + Send,
{
    let Ok(mut stream) = connection.accept_uni().await else { return Ended::Lost };
    loop {
        let Ok(Some(chunk)) = stream.read_chunk(READ_BYTES, true).await else { return Ended::Lost };
        let frames = state.lock().on_events(&chunk.bytes);
        let Ok(frames) = frames.inspect_err(|error| tracing::warn!(%error, "closing the connection")) else {
            return Ended::Lost;
        };
        for frame in frames {
            if let Some(event_frame::Frame::End(end)) = &frame.frame {
                return Ended::Server(end.reason());
            }
            events(frame).await;
        }
    }
}
