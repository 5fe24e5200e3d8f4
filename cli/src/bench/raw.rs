//! A bare client: frames over QUIC, without a database or synchronization. It costs as little as a client can, and leaves the
//! rest of the machine to the server.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::{Connecting, Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::{sleep, timeout};
use zim_protocol::client_frame::Frame as ToServer;
use zim_protocol::frame::{FrameDecoder, encode_frame};
use zim_protocol::response::Outcome;
use zim_protocol::server_frame::Frame as FromServer;
use zim_protocol::wire::{MAX_FRAME_BYTES, VERSION};
use zim_protocol::{ClientFrame, ErrorCode, Hello, LoginRequest, Request, Response, Rpc, ServerFrame};

use super::target::{Access, Target, user};
use crate::context::platform;
use crate::exit::{Exit, Failure};

const READ_BYTES: usize = 64 << 10;
/// The time limit for a connection and for a response.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// The number of attempts of a login with retries, and the pause after the first, which grows linearly.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Opens connections over several sockets, so that a socket is not the bottleneck.
#[derive(Debug)]
pub(crate) struct Dialer {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    config: quinn::ClientConfig,
    access: Access,
    run: String,
    retries: AtomicU64,
}

/// What a socket buffers. A socket has hundreds of clients, each of which would have one of its own: with the system's default a
/// burst to all of them loses datagrams.
const SOCKET_BYTES: usize = 4 << 20;

fn endpoint(local: SocketAddr) -> std::io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    // A smaller buffer works too.
    let _ = socket.set_recv_buffer_size(SOCKET_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BYTES);
    socket.bind(&local.into())?;
    socket.set_nonblocking(true)?;
    Endpoint::new(EndpointConfig::default(), None, socket.into(), Arc::new(TokioRuntime))
}

impl Dialer {
    pub(crate) fn new(target: &Target, sockets: usize) -> Result<Self, Failure> {
        let access = target.access.clone();
        let any: SocketAddr = match access.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let config = zim_client_sdk::quic_client_config(&target.profile.trust()?)?;
        let endpoints = (0..sockets.max(1)).map(|_| endpoint(any)).collect::<Result<_, _>>()?;
        Ok(Self {
            endpoints,
            next: AtomicUsize::new(0),
            config,
            access,
            run: target.run.clone(),
            retries: AtomicU64::new(0),
        })
    }

    /// See [`Target::user`].
    pub(crate) fn user(&self, role: &str, number: usize) -> String {
        user(&self.run, role, number)
    }

    /// Opens a connection and exchanges Hello and Welcome.
    async fn connect(&self) -> Result<Raw, Failure> {
        timeout(ANSWERED_WITHIN, self.dial()).await.map_err(|_| lost("connecting timed out"))?
    }

    /// Starts the handshake of a connection.
    pub(crate) fn handshake(&self) -> Result<Connecting, Failure> {
        let endpoint = &self.endpoints[self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len()];
        endpoint.connect_with(self.config.clone(), self.access.address, &self.access.name).map_err(lost)
    }

    async fn dial(&self) -> Result<Raw, Failure> {
        let connection = self.handshake()?.await.map_err(lost)?;
        let (send, recv) = connection.open_bi().await.map_err(lost)?;
        let mut raw = Raw { connection, send, recv, frames: FrameDecoder::new(MAX_FRAME_BYTES), requests: 0 };
        let mut device_id = [0; 16];
        getrandom::fill(&mut device_id).map_err(lost)?;
        let hello = Hello {
            versions: vec![VERSION],
            sdk_version: concat!("bench ", env!("CARGO_PKG_VERSION")).to_owned(),
            platform: platform() as i32,
            device_id: Bytes::copy_from_slice(&device_id),
        };
        let mut out = BytesMut::new();
        encode_frame(&ClientFrame { frame: Some(ToServer::Hello(hello)) }, &mut out);
        raw.write(out).await?;
        match raw.frame().await?.frame {
            Some(FromServer::Welcome(_)) => Ok(raw),
            _ => Err(lost("the server did not send Welcome")),
        }
    }

    /// Opens a connection and logs in a user, in a single attempt.
    pub(crate) async fn log_in(&self, user_id: &str) -> Result<Raw, Failure> {
        self.log_in_as(user_id, false).await
    }

    async fn log_in_as(&self, user_id: &str, one_shot: bool) -> Result<Raw, Failure> {
        let mut raw = self.connect().await?;
        let request = LoginRequest {
            user_id: user_id.to_owned(),
            app_id: self.access.app_id,
            app_sign: self.access.app_sign.clone(),
            one_shot,
            ..LoginRequest::default()
        };
        raw.request(&request).await?;
        Ok(raw)
    }

    /// Like [`Dialer::log_in`], but retries after network errors, such as the refusals of a busy server.
    pub(crate) async fn log_in_with_retries(&self, user_id: &str) -> Result<Raw, Failure> {
        self.log_in_as_with_retries(user_id, false).await
    }

    /// Like [`Dialer::log_in_with_retries`], but with a one-shot login, which is not a device.
    pub(crate) async fn log_in_one_shot_with_retries(&self, user_id: &str) -> Result<Raw, Failure> {
        self.log_in_as_with_retries(user_id, true).await
    }

    async fn log_in_as_with_retries(&self, user_id: &str, one_shot: bool) -> Result<Raw, Failure> {
        let mut attempts = 1;
        loop {
            match self.log_in_as(user_id, one_shot).await {
                Err(failure) if attempts < ATTEMPTS && failure.exit == Exit::Network => {
                    self.retries.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE * attempts).await;
                    attempts += 1;
                }
                settled => return settled,
            }
        }
    }

    /// Returns the number of retries.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

fn lost(error: impl std::fmt::Display) -> Failure {
    Failure { exit: Exit::Network, ..Failure::coded(ErrorCode::NetworkModuleNetworkError as i32, error.to_string()) }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
    requests: u64,
}

/// Appends a request as a frame.
pub(crate) fn queue<R: Rpc>(id: u64, request: &R, out: &mut BytesMut) {
    let payload = Bytes::from(request.encode_to_vec());
    let request = Request { id, method: R::METHOD.path.to_owned(), payload, ack: 0 };
    encode_frame(&ClientFrame { frame: Some(ToServer::Request(request)) }, out);
}

impl Raw {
    pub(crate) async fn write(&mut self, out: BytesMut) -> Result<(), Failure> {
        self.send.write_chunk(out.freeze()).await.map_err(lost)
    }

    async fn frame(&mut self) -> Result<ServerFrame, Failure> {
        loop {
            if let Some(frame) = self.frames.next().map_err(lost)? {
                return ServerFrame::decode(frame).map_err(lost);
            }
            match self.recv.read_chunk(READ_BYTES, true).await.map_err(lost)? {
                Some(chunk) => self.frames.push(&chunk.bytes),
                None => return Err(lost("the server closed the session")),
            }
        }
    }

    /// Waits for the next response.
    pub(crate) async fn response(&mut self) -> Result<Response, Failure> {
        loop {
            if let Some(FromServer::Response(response)) = self.frame().await?.frame {
                return Ok(response);
            }
        }
    }

    /// Returns a response that has already arrived.
    pub(crate) fn ready(&mut self) -> Result<Option<Response>, Failure> {
        while let Some(frame) = self.frames.next().map_err(lost)? {
            if let Some(FromServer::Response(response)) = ServerFrame::decode(frame).map_err(lost)?.frame {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Writes `frames` up to `times` times, as fast as the server accepts them, and passes each response to `on_response`.
    /// Returns when the connection ends, with the error.
    pub(crate) async fn flood(&mut self, frames: &Bytes, times: u64, mut on_response: impl FnMut(Response)) -> Failure {
        let (mut left, mut rest) = (times, Bytes::new());
        loop {
            if rest.is_empty() && left > 0 {
                left -= 1;
                rest = frames.clone();
            }
            let read = tokio::select! {
                written = self.send.write_chunks(std::slice::from_mut(&mut rest)), if !rest.is_empty() => match written {
                    Ok(_) => continue,
                    Err(error) => return lost(error),
                },
                read = self.recv.read_chunk(READ_BYTES, true) => read,
            };
            match read {
                Ok(Some(chunk)) => self.frames.push(&chunk.bytes),
                Ok(None) => return lost("the server closed the session"),
                Err(error) => return lost(error),
            }
            loop {
                match self.ready() {
                    Ok(Some(response)) => on_response(response),
                    Ok(None) => break,
                    Err(failure) => return failure,
                }
            }
        }
    }

    /// Sends a request and waits for the response. No other request may be in flight.
    pub(crate) async fn request<R: Rpc>(&mut self, request: &R) -> Result<R::Response, Failure> {
        self.requests += 1;
        let mut out = BytesMut::new();
        queue(self.requests, request, &mut out);
        self.write(out).await?;
        let response =
            timeout(ANSWERED_WITHIN, self.response()).await.map_err(|_| lost("the response timed out"))??;
        let payload = outcome(response)?;
        R::Response::decode(payload).map_err(lost)
    }

    pub(crate) fn close(self) {
        self.connection.close(0_u32.into(), b"");
    }
}

/// Returns the payload of a response, or its error.
pub(crate) fn outcome(response: Response) -> Result<Bytes, Failure> {
    match response.outcome {
        Some(Outcome::Ok(payload)) => Ok(payload),
        Some(Outcome::Error(error)) => Err(Failure::coded(error.code, error.message)),
        None => Err(lost("a response without an outcome")),
    }
}

/// The frames of the event stream of a connection.
#[derive(Debug)]
pub(crate) struct Events {
    connection: Connection,
    stream: Option<RecvStream>,
    frames: FrameDecoder,
}

impl Events {
    pub(crate) fn of(raw: &Raw) -> Self {
        Self { connection: raw.connection.clone(), stream: None, frames: FrameDecoder::new(MAX_FRAME_BYTES) }
    }

    /// Waits for the next frame; fails when the connection ends.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(frame) = self.frames.next().map_err(lost)? {
                return Ok(frame);
            }
            let stream = match &mut self.stream {
                Some(stream) => stream,
                None => {
                    let stream = self.connection.accept_uni().await.map_err(lost)?;
                    self.stream.insert(stream)
                }
            };
            match stream.read_chunk(READ_BYTES, true).await.map_err(lost)? {
                Some(chunk) => self.frames.push(&chunk.bytes),
                None => return Err(lost("the event stream ended")),
            }
        }
    }
}

/// A dialer that is shared by the tasks of a benchmark.
pub(crate) type SharedDialer = Arc<Dialer>;
