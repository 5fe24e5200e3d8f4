//! A client without any library: frames on a QUIC stream, to do what a well-behaved one never does.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use zim_protocol::frame::{FrameDecoder, encode_frame};
use zim_protocol::response::Outcome;
use zim_protocol::wire::{ALPN, CloseCode, MAX_FRAME_BYTES};
use zim_protocol::{
    ClientFrame, ConversationType, EventFrame, Hello, Message, Request, Response, Rpc, SendMessageRequest, ServerFrame,
    Welcome, client_frame, event_frame, server_frame,
};

use crate::wait::soon;

/// One connection with its session stream.
#[derive(Debug)]
pub struct RawClient {
    endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
    events: Option<(RecvStream, FrameDecoder)>,
    next_id: u64,
}

impl RawClient {
    /// Connects to a server with this certificate, and says nothing.
    pub(crate) async fn connect(server: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        Self::connect_with(server, certificate, TransportConfig::default()).await
    }

    /// As [`RawClient::connect`], with QUIC settings of the test's own.
    pub(crate) async fn connect_with(
        server: SocketAddr,
        certificate: CertificateDer<'static>,
        transport: TransportConfig,
    ) -> Self {
        let endpoint = endpoint_with(certificate, transport);
        let connection = soon(endpoint.connect(server, "localhost").unwrap()).await.unwrap();
        let (send, recv) = soon(connection.open_bi()).await.unwrap();
        let frames = FrameDecoder::new(MAX_FRAME_BYTES);
        Self { endpoint, connection, send, recv, frames, events: None, next_id: 1 }
    }

    /// Says Hello and reads the Welcome.
    pub async fn handshake(&mut self, hello: Hello) -> Welcome {
        self.write([client_frame::Frame::Hello(hello)]).await;
        match self.read().await {
            Some(server_frame::Frame::Welcome(welcome)) => welcome,
            other => panic!("{other:?} instead of a Welcome"),
        }
    }

    /// Writes frames.
    pub async fn write(&mut self, frames: impl IntoIterator<Item = client_frame::Frame>) {
        let mut out = BytesMut::new();
        for frame in frames {
            encode_frame(&ClientFrame { frame: Some(frame) }, &mut out);
        }
        self.write_bytes(&out).await;
    }

    /// Writes anything. That the server does not take it is no failure: it may have hung up meanwhile.
    pub async fn write_bytes(&mut self, bytes: &[u8]) {
        let _ = soon(self.send.write_all(bytes)).await;
    }

    /// Writes without waiting longer than the server takes: false if it is not read.
    pub async fn try_write(&mut self, bytes: &[u8], limit: std::time::Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.send.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    /// A call, not answered yet; returns its id.
    pub async fn send_request(&mut self, rpc: &impl Rpc) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.write([request(id, rpc)]).await;
        id
    }

    /// A call and its answer.
    pub async fn call<R: Rpc>(&mut self, rpc: &R) -> Result<R::Response, zim_protocol::Error> {
        let id = self.send_request(rpc).await;
        let response = self.response().await;
        assert_eq!(response.id, id, "the answer to another call");
        match response.outcome.expect("an outcome") {
            Outcome::Ok(payload) => Ok(prost::Message::decode(payload).unwrap()),
            Outcome::Error(error) => Err(error),
        }
    }

    /// A call of a method by its name, with any payload.
    pub async fn call_bytes(&mut self, method: &str, payload: impl Into<Bytes>) -> Response {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { id, method: method.to_owned(), payload: payload.into(), ack: 0 };
        self.write([client_frame::Frame::Request(request)]).await;
        self.response().await
    }

    /// The next answer.
    pub async fn response(&mut self) -> Response {
        match self.read().await {
            Some(server_frame::Frame::Response(response)) => response,
            other => panic!("{other:?} instead of a Response"),
        }
    }

    /// Whether a frame comes within a moment: for what must not come.
    pub async fn receives_anything(&mut self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(50), self.read()).await.is_ok()
    }

    /// As many answers, by id.
    pub async fn responses(&mut self, count: usize) -> Vec<Response> {
        let mut responses = Vec::with_capacity(count);
        while responses.len() < count {
            responses.push(self.response().await);
        }
        responses.sort_by_key(|response| response.id);
        responses
    }

    /// The next frame; `None` when the stream or the connection has ended.
    pub async fn read(&mut self) -> Option<server_frame::Frame> {
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return Some(ServerFrame::decode(frame).unwrap().frame.expect("a frame that is known"));
            }
            let chunk = soon(self.recv.read_chunk(65_536, true)).await.ok().flatten()?;
            self.frames.push(&chunk.bytes);
        }
    }

    /// The next event; `None` when the stream or the connection has ended.
    pub async fn event(&mut self) -> Option<event_frame::Frame> {
        if self.events.is_none() {
            let stream = soon(self.connection.accept_uni()).await.ok()?;
            self.events = Some((stream, FrameDecoder::new(MAX_FRAME_BYTES)));
        }
        let (stream, frames) = self.events.as_mut()?;
        loop {
            if let Some(frame) = frames.next().unwrap() {
                return Some(EventFrame::decode(frame).unwrap().frame.expect("a frame that is known"));
            }
            let chunk = soon(stream.read_chunk(65_536, true)).await.ok().flatten()?;
            frames.push(&chunk.bytes);
        }
    }

    /// Why the server closed the connection.
    pub async fn closed(&self) -> CloseCode {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(closed) => CloseCode::from_code(closed.error_code.into_inner()).unwrap(),
            other => panic!("{other}"),
        }
    }

    /// Hangs up, and waits until the server must know.
    pub async fn end(self) {
        self.connection.close(0u32.into(), b"");
        soon(self.endpoint.wait_idle()).await;
    }
}

pub(crate) fn endpoint(certificate: CertificateDer<'static>) -> Endpoint {
    endpoint_with(certificate, TransportConfig::default())
}

fn endpoint_with(certificate: CertificateDer<'static>, transport: TransportConfig) -> Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    endpoint
}

/// A Hello of version 1 from a device of its own.
pub fn hello(device: u8) -> Hello {
    Hello { versions: vec![1], sdk_version: "raw".to_owned(), platform: 5, device_id: vec![device; 16].into() }
}

/// A call as a frame.
pub fn request<R: Rpc>(id: u64, rpc: &R) -> client_frame::Frame {
    let payload = rpc.encode_to_vec().into();
    client_frame::Frame::Request(Request { id, method: R::METHOD.path.to_owned(), payload, ack: 0 })
}

/// A text to a user, under a key that is `key` sixteen times.
pub fn send_text(to: &str, text: &str, key: u8) -> SendMessageRequest {
    SendMessageRequest {
        message: Some(Message::text(text)),
        to_conversation_id: to.to_owned(),
        conversation_type: ConversationType::Peer as i32,
        config: None,
        client_key: vec![key; 16].into(),
    }
}

/// The code of an answer; 0 for success.
pub fn code(response: &Response) -> i32 {
    match response.outcome.as_ref().expect("an outcome") {
        Outcome::Ok(_) => 0,
        Outcome::Error(error) => error.code,
    }
}
