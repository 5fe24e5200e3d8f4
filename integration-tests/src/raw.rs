//! A client without the SDK: frames on a QUIC stream, for behaviour that the SDK does not allow.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
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

use crate::coverage::note_error;
use crate::wait::soon;

/// A connection with its session stream.
#[derive(Debug)]
pub struct RawClient {
    endpoint: Endpoint,
    /// The QUIC connection.
    pub connection: Connection,
    send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
    events: Option<(RecvStream, FrameDecoder)>,
    next_id: u64,
}

impl RawClient {
    /// Connects to a server that has this certificate and opens the session stream; sends nothing.
    pub async fn connect(server: SocketAddr, certificate: CertificateDer<'static>) -> Self {
        Self::connect_with(server, certificate, TransportConfig::default()).await
    }

    /// Connects as [`RawClient::connect`] does, with QUIC settings of the test.
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

    /// Sends the Hello and reads the Welcome.
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

    /// Writes any bytes. Ignores errors, because the server may have closed the connection.
    pub async fn write_bytes(&mut self, bytes: &[u8]) {
        let _ = soon(self.send.write_all(bytes)).await;
    }

    /// Writes any bytes; false if the server does not take them within `limit`.
    pub async fn try_write(&mut self, bytes: &[u8], limit: std::time::Duration) -> bool {
        matches!(tokio::time::timeout(limit, self.send.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Closes the sending side of the session stream.
    pub fn finish(&mut self) {
        let _ = self.send.finish();
    }

    /// Sends a request without waiting for the answer; returns its id.
    pub async fn send_request(&mut self, rpc: &impl Rpc) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.write([request(id, rpc)]).await;
        id
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Rpc>(&mut self, rpc: &R) -> Result<R::Response, zim_protocol::Error> {
        let id = self.send_request(rpc).await;
        let response = self.response().await;
        assert_eq!(response.id, id, "the answer to another request");
        match response.outcome.expect("an outcome") {
            Outcome::Ok(payload) => Ok(prost::Message::decode(payload).unwrap()),
            Outcome::Error(error) => {
                note_error(error.code);
                Err(error)
            }
        }
    }

    /// Calls a method by its path, with any payload.
    pub async fn call_bytes(&mut self, method: &str, payload: impl Into<Bytes>) -> Response {
        let id = self.next_id;
        self.next_id += 1;
        let request = Request { id, method: method.to_owned(), payload: payload.into(), ack: 0 };
        self.write([client_frame::Frame::Request(request)]).await;
        self.response().await
    }

    /// Reads the next response.
    pub async fn response(&mut self) -> Response {
        match self.read().await {
            Some(server_frame::Frame::Response(response)) => response,
            other => panic!("{other:?} instead of a Response"),
        }
    }

    /// Whether a frame arrives within 50 ms: for frames that must not arrive.
    pub async fn receives_anything(&mut self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(50), self.read()).await.is_ok()
    }

    /// Reads `count` responses and sorts them by id.
    pub async fn responses(&mut self, count: usize) -> Vec<Response> {
        let mut responses = Vec::with_capacity(count);
        while responses.len() < count {
            responses.push(self.response().await);
        }
        responses.sort_by_key(|response| response.id);
        responses
    }

    /// Reads the next frame; `None` when the stream or the connection has ended.
    pub async fn read(&mut self) -> Option<server_frame::Frame> {
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return Some(ServerFrame::decode(frame).unwrap().frame.expect("a known frame"));
            }
            let chunk = soon(self.recv.read_chunk(65_536, true)).await.ok().flatten()?;
            self.frames.push(&chunk.bytes);
        }
    }

    /// Reads the next event frame; `None` when the stream or the connection has ended.
    pub async fn event(&mut self) -> Option<event_frame::Frame> {
        if self.events.is_none() {
            let stream = soon(self.connection.accept_uni()).await.ok()?;
            self.events = Some((stream, FrameDecoder::new(MAX_FRAME_BYTES)));
        }
        let (stream, frames) = self.events.as_mut()?;
        loop {
            if let Some(frame) = frames.next().unwrap() {
                return Some(EventFrame::decode(frame).unwrap().frame.expect("a known frame"));
            }
            let chunk = soon(stream.read_chunk(65_536, true)).await.ok().flatten()?;
            frames.push(&chunk.bytes);
        }
    }

    /// Waits until the server closes the connection; returns the close code.
    pub async fn closed(&self) -> CloseCode {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(closed) => CloseCode::from_code(closed.error_code.into_inner()).unwrap(),
            other => panic!("{other}"),
        }
    }

    /// Closes the connection and waits until the close was sent.
    pub async fn end(self) {
        self.connection.close(0u32.into(), b"");
        soon(self.endpoint.wait_idle()).await;
    }

    /// Ends many at once: each waits for about 80 ms, because packets may still be on their way.
    pub async fn end_all(clients: impl IntoIterator<Item = Self>) {
        join_all(clients.into_iter().map(Self::end)).await;
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

/// A Hello of version 1 from the device with this number.
pub fn hello(device: u8) -> Hello {
    Hello { versions: vec![1], sdk_version: "raw".to_owned(), platform: 5, device_id: vec![device; 16].into() }
}

/// A request as a frame.
pub fn request<R: Rpc>(id: u64, rpc: &R) -> client_frame::Frame {
    let payload = rpc.encode_to_vec().into();
    client_frame::Frame::Request(Request { id, method: R::METHOD.path.to_owned(), payload, ack: 0 })
}

/// A request that sends a text to a user, with a client key of 16 bytes `key`.
pub fn send_text(to: &str, text: &str, key: u8) -> SendMessageRequest {
    SendMessageRequest {
        message: Some(Message::text(text)),
        to_conversation_id: to.to_owned(),
        conversation_type: ConversationType::Peer as i32,
        client_key: vec![key; 16].into(),
        ..SendMessageRequest::default()
    }
}

/// The error code of a response; 0 for success.
pub fn code(response: &Response) -> i32 {
    match response.outcome.as_ref().expect("an outcome") {
        Outcome::Ok(_) => 0,
        Outcome::Error(error) => {
            note_error(error.code);
            error.code
        }
    }
}
