//! A client with nothing in it but the protocol: frames over QUIC, no database, no synchronization. What it costs is the least
//! that a client can cost, so that a server on the same machine gets the rest of it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use quinn::{Connecting, Connection, Endpoint, RecvStream, SendStream};
use tokio::time::{sleep, timeout};
use zim_protocol::client_frame::Frame as ToServer;
use zim_protocol::frame::{FrameDecoder, encode_frame};
use zim_protocol::response::Outcome;
use zim_protocol::server_frame::Frame as FromServer;
use zim_protocol::wire::{MAX_FRAME_BYTES, VERSION};
use zim_protocol::{ClientFrame, ErrorCode, Hello, LoginRequest, Request, Response, Rpc, ServerFrame};

use super::target::{Door, Target, user};
use crate::context::platform;
use crate::exit::{Exit, Failure};

const READ_BYTES: usize = 64 << 10;
/// A connection, or an answer, that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a client that is to be there, however busy the server is, tries again, and after which pause.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(200);

/// Opens connections, over a few sockets, so that no one of them is the bottleneck.
#[derive(Debug)]
pub(crate) struct Dialer {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    config: quinn::ClientConfig,
    door: Door,
    run: String,
    again: AtomicU64,
}

impl Dialer {
    pub(crate) fn new(target: &Target, sockets: usize) -> Result<Self, Failure> {
        let door = target.door.clone();
        let any: SocketAddr = match door.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let config = zim_client_sdk::quic_client_config(&target.profile.trust()?)?;
        let endpoints = (0..sockets.max(1)).map(|_| Endpoint::client(any)).collect::<Result<_, _>>()?;
        Ok(Self {
            endpoints,
            next: AtomicUsize::new(0),
            config,
            door,
            run: target.run.clone(),
            again: AtomicU64::new(0),
        })
    }

    /// See [`Target::user`].
    pub(crate) fn user(&self, role: &str, number: usize) -> String {
        user(&self.run, role, number)
    }

    /// A connection that has said Hello.
    pub(crate) async fn connect(&self) -> Result<Raw, Failure> {
        timeout(PATIENCE, self.dial()).await.map_err(|_| lost("no connection in time"))?
    }

    /// A connection that has said nothing.
    pub(crate) fn shake(&self) -> Result<Connecting, Failure> {
        let endpoint = &self.endpoints[self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len()];
        endpoint.connect_with(self.config.clone(), self.door.address, &self.door.host).map_err(lost)
    }

    async fn dial(&self) -> Result<Raw, Failure> {
        let connection = self.shake()?.await.map_err(lost)?;
        let (send, recv) = connection.open_bi().await.map_err(lost)?;
        let mut raw = Raw { connection, send, recv, frames: FrameDecoder::new(MAX_FRAME_BYTES), calls: 0 };
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
            _ => Err(lost("the server did not say Welcome")),
        }
    }

    /// A connection of a user who is logged in.
    pub(crate) async fn log_in(&self, user_id: &str) -> Result<Raw, Failure> {
        self.enter(user_id, false).await
    }

    async fn enter(&self, user_id: &str, one_shot: bool) -> Result<Raw, Failure> {
        let mut raw = self.connect().await?;
        let request = LoginRequest {
            user_id: user_id.to_owned(),
            app_id: self.door.app_id,
            app_sign: self.door.app_sign.clone(),
            one_shot,
            ..LoginRequest::default()
        };
        raw.call(&request).await?;
        Ok(raw)
    }

    /// As [`Dialer::log_in`], like a client that is there to stay: a busy server that refuses it is asked again.
    pub(crate) async fn settle(&self, user_id: &str) -> Result<Raw, Failure> {
        self.settle_as(user_id, false).await
    }

    /// As [`Dialer::settle`], but no device, as a command that comes and goes.
    pub(crate) async fn settle_one_shot(&self, user_id: &str) -> Result<Raw, Failure> {
        self.settle_as(user_id, true).await
    }

    async fn settle_as(&self, user_id: &str, one_shot: bool) -> Result<Raw, Failure> {
        let mut tries = 1;
        loop {
            match self.enter(user_id, one_shot).await {
                Err(failure) if tries < TRIES && failure.exit == Exit::Network => {
                    self.again.fetch_add(1, Ordering::Relaxed);
                    sleep(PAUSE * tries).await;
                    tries += 1;
                }
                settled => return settled,
            }
        }
    }

    /// How often a connection was tried again.
    pub(crate) fn tried_again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }
}

fn lost(error: impl std::fmt::Display) -> Failure {
    Failure { exit: Exit::Network, ..Failure::coded(ErrorCode::NetworkModuleNetworkError as i32, error.to_string()) }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
    calls: u64,
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

    /// The next answer.
    pub(crate) async fn response(&mut self) -> Result<Response, Failure> {
        loop {
            if let Some(FromServer::Response(response)) = self.frame().await?.frame {
                return Ok(response);
            }
        }
    }

    /// An answer that has come already.
    pub(crate) fn ready(&mut self) -> Result<Option<Response>, Failure> {
        while let Some(frame) = self.frames.next().map_err(lost)? {
            if let Some(FromServer::Response(response)) = ServerFrame::decode(frame).map_err(lost)?.frame {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    /// Writes `what` again and again, as fast as the server takes it and so many times at most; hands over the answers. Ends
    /// with the connection.
    pub(crate) async fn pour(&mut self, what: &Bytes, times: u64, mut heard: impl FnMut(Response)) -> Failure {
        let (mut left, mut rest) = (times, Bytes::new());
        loop {
            if rest.is_empty() && left > 0 {
                left -= 1;
                rest = what.clone();
            }
            let came = tokio::select! {
                written = self.send.write_chunks(std::slice::from_mut(&mut rest)), if !rest.is_empty() => match written {
                    Ok(_) => continue,
                    Err(error) => return lost(error),
                },
                came = self.recv.read_chunk(READ_BYTES, true) => came,
            };
            match came {
                Ok(Some(chunk)) => self.frames.push(&chunk.bytes),
                Ok(None) => return lost("the server closed the session"),
                Err(error) => return lost(error),
            }
            loop {
                match self.ready() {
                    Ok(Some(response)) => heard(response),
                    Ok(None) => break,
                    Err(failure) => return failure,
                }
            }
        }
    }

    /// Asks and waits for the answer; nothing else may be under way.
    pub(crate) async fn call<R: Rpc>(&mut self, request: &R) -> Result<R::Response, Failure> {
        self.calls += 1;
        let mut out = BytesMut::new();
        queue(self.calls, request, &mut out);
        self.write(out).await?;
        let response = timeout(PATIENCE, self.response()).await.map_err(|_| lost("no answer in time"))??;
        let answer = outcome(response)?;
        R::Response::decode(answer).map_err(lost)
    }

    pub(crate) fn close(self) {
        self.connection.close(0_u32.into(), b"");
    }
}

/// The payload, or what the server says instead.
pub(crate) fn outcome(response: Response) -> Result<Bytes, Failure> {
    match response.outcome {
        Some(Outcome::Ok(payload)) => Ok(payload),
        Some(Outcome::Error(error)) => Err(Failure::coded(error.code, error.message)),
        None => Err(lost("an answer without an outcome")),
    }
}

/// The event stream of a connection: whole frames as they come.
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

    /// The next frame; an error once the connection is gone.
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

/// Shared by the tasks of a bench.
pub(crate) type SharedDialer = Arc<Dialer>;
