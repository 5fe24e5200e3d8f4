//! A client without the SDK: frames on a QUIC stream, for behaviour that the SDK does not allow.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "test helpers")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use prost::Message;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::time::timeout;
use zim_protocol::clock::Clock;
use zim_protocol::frame::{FrameDecoder, encode_frame};
use zim_protocol::response::Outcome;
use zim_protocol::wire::{ALPN, CloseCode, MAX_FRAME_BYTES};
use zim_protocol::{
    ClientFrame, EventFrame, Hello, LoginRequest, Request, Response, Rpc, ServerFrame, Welcome, client_frame,
    event_frame, server_frame,
};
use zim_server::Server;
use zim_server::config::Config;

/// The longest wait for a single condition.
const TIMEOUT: Duration = Duration::from_secs(10);

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, what).await.expect("timed out")
}

/// A server with its data folder and its clock.
pub struct TestServer {
    pub server: Server,
    pub clock: Clock,
    pub dir: TempDir,
}

impl TestServer {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(edit: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The server refuses a folder that others can write to, whatever the umask is.
        zim_files::own_folder(dir.path()).unwrap();
        let mut config = Config::local(dir.path());
        edit(&mut config);
        let clock = Clock::manual(1_700_000_000_000);
        let server = Server::start_with(config, clock.clone()).await.unwrap();
        Self { server, clock, dir }
    }

    /// Stops the server and asserts that no task is left.
    pub async fn end(self) -> TempDir {
        assert_eq!(soon(self.server.stop()).await, 0);
        self.dir
    }
}

/// A connection with its session stream.
pub struct RawClient {
    _endpoint: Endpoint,
    pub connection: Connection,
    pub send: SendStream,
    recv: RecvStream,
    frames: FrameDecoder,
}

pub async fn connect(test: &TestServer, alpn: &[u8]) -> Result<(Endpoint, Connection), ConnectionError> {
    let endpoint = endpoint(test.dir.path(), alpn);
    let connection = endpoint.connect(test.server.local_addr(), "localhost").unwrap().await?;
    Ok((endpoint, connection))
}

fn endpoint(data_dir: &Path, alpn: &[u8]) -> Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data_dir.join("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap())));
    endpoint
}

impl RawClient {
    pub async fn new(test: &TestServer) -> Self {
        let (endpoint, connection) = soon(connect(test, ALPN)).await.unwrap();
        let (send, recv) = soon(connection.open_bi()).await.unwrap();
        Self { _endpoint: endpoint, connection, send, recv, frames: FrameDecoder::new(MAX_FRAME_BYTES) }
    }

    /// Connects and completes the Hello.
    pub async fn after_hello(test: &TestServer) -> Self {
        let mut raw = Self::new(test).await;
        raw.hello(hello()).await;
        raw.welcome().await;
        raw
    }

    /// Connects and logs in.
    pub async fn logged_in(test: &TestServer, user_id: &str) -> Self {
        let mut raw = Self::after_hello(test).await;
        let response = raw.call(&login(test, user_id)).await;
        assert_eq!(code(&response), 0, "{response:?}");
        raw
    }

    pub async fn write(&mut self, frames: impl IntoIterator<Item = client_frame::Frame>) {
        let mut out = BytesMut::new();
        for frame in frames {
            encode_frame(&ClientFrame { frame: Some(frame) }, &mut out);
        }
        soon(self.send.write_all(&out)).await.unwrap();
    }

    pub async fn hello(&mut self, hello: Hello) {
        self.write([client_frame::Frame::Hello(hello)]).await;
    }

    pub async fn welcome(&mut self) -> Welcome {
        match self.read().await {
            server_frame::Frame::Welcome(welcome) => welcome,
            other @ server_frame::Frame::Response(_) => panic!("{other:?}"),
        }
    }

    pub async fn response(&mut self) -> Response {
        match self.read().await {
            server_frame::Frame::Response(response) => response,
            other @ server_frame::Frame::Welcome(_) => panic!("{other:?}"),
        }
    }

    pub async fn call(&mut self, rpc: &impl Rpc) -> Response {
        self.write([request(1, rpc)]).await;
        self.response().await
    }

    async fn read(&mut self) -> server_frame::Frame {
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return ServerFrame::decode(frame).unwrap().frame.unwrap();
            }
            let chunk = soon(self.recv.read_chunk(65_536, true)).await.unwrap();
            self.frames.push(&chunk.expect("the session stream ended").bytes);
        }
    }

    /// Reads all events until the event stream ends.
    pub async fn events(&self) -> Vec<event_frame::Frame> {
        let mut stream = soon(self.connection.accept_uni()).await.unwrap();
        let mut frames = FrameDecoder::new(MAX_FRAME_BYTES);
        frames.push(&soon(stream.read_to_end(1 << 20)).await.unwrap());
        std::iter::from_fn(|| frames.next().unwrap())
            .map(|frame| EventFrame::decode(frame).unwrap().frame.unwrap())
            .collect()
    }

    /// Waits until the server closes the connection; returns the close code.
    pub async fn closed(&self) -> CloseCode {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(closed) => CloseCode::from_code(closed.error_code.into_inner()).unwrap(),
            other => panic!("{other}"),
        }
    }
}

pub fn hello() -> Hello {
    Hello { versions: vec![1], sdk_version: "raw".to_owned(), platform: 5, device_id: vec![1; 16].into() }
}

pub fn login(test: &TestServer, user_id: &str) -> LoginRequest {
    let app = test.server.first_app();
    LoginRequest {
        user_id: user_id.to_owned(),
        app_id: app.app_id,
        app_sign: app.app_sign.clone(),
        ..LoginRequest::default()
    }
}

pub fn request<R: Rpc>(id: u64, rpc: &R) -> client_frame::Frame {
    client_frame::Frame::Request(Request {
        id,
        method: R::METHOD.path.to_owned(),
        payload: rpc.encode_to_vec().into(),
        ack: 0,
    })
}

/// The error code of a response; 0 for success.
pub fn code(response: &Response) -> i32 {
    match response.outcome.as_ref().expect("an outcome") {
        Outcome::Ok(_) => 0,
        Outcome::Error(error) => error.code,
    }
}
