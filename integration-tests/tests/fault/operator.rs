//! The operator's service: where it listens, and the limits of its connections.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::process::umask;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::Endpoint;
use zim_integration_tests::{World, eventually, soon};
use zim_protocol::admin::AdminClient;
use zim_protocol::{CreateAppRequest, ListAppsRequest};
use zim_server::config::{AdminListen, Config};
use zim_server::{AdminAddr, Server};

fn port(address: &str) -> AdminListen {
    AdminListen::Tcp(address.parse().unwrap())
}

/// Starts a server whose operator's service listens on a loopback port.
async fn world_with_port(edit: impl FnOnce(&mut Config)) -> (World, SocketAddr) {
    let world = World::with(|config| {
        config.admin = port("127.0.0.1:0");
        edit(config);
    })
    .await;
    let Some(AdminAddr::Loopback(address)) = world.server().admin_addr().cloned() else { panic!("no port") };
    (world, address)
}

#[tokio::test]
async fn the_admin_socket_is_private_and_is_removed_with_the_server() {
    // The most permissive umask.
    umask(Mode::empty());
    let mut world = World::new().await;
    let socket = world.data_dir().join("admin.sock");
    assert_eq!(world.server().admin_addr(), Some(&AdminAddr::Unix(socket.clone())));
    let file = std::fs::symlink_metadata(&socket).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    soon(world.admin().await.list_apps(ListAppsRequest {})).await.unwrap();
    world.stop_server().await;
    assert!(!socket.exists());
    // A killed server leaves its socket.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    world.start_server().await;
    soon(world.admin().await.list_apps(ListAppsRequest {})).await.unwrap();
    // The server does not remove a file of another process.
    std::fs::remove_file(&socket).unwrap();
    let _another = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    world.stop_server().await;
    assert!(socket.exists());
    world.end().await;
}

/// The error of a start with the operator's socket at `path`.
async fn start_error(path: &Path) -> String {
    let data = tempfile::tempdir().unwrap();
    let config = Config { admin: AdminListen::Unix(path.to_owned()), ..Config::local(data.path()) };
    Server::start(config).await.unwrap_err().to_string()
}

#[tokio::test]
async fn an_unusable_admin_socket_path_has_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("l".repeat(100)).join("admin.sock");
    let error = start_error(&long).await;
    assert!(error.contains("bytes is too long") && error.contains("--admin unix:/run/zim/admin.sock"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = start_error(&file).await;
    assert!(error.contains(&format!("cannot listen on unix:{}", file.display())), "{error}");
    assert!(error.contains("exists and is not a socket"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
    assert!(start_error(&link).await.contains("exists and is not a socket"));
    let taken = folder.path().join("taken");
    let _listener = std::os::unix::net::UnixListener::bind(&taken).unwrap();
    assert!(start_error(&taken).await.contains("in use"));
    assert!(start_error(&folder.path().join("no/folder")).await.contains("No such file"));
}

#[tokio::test]
async fn a_non_loopback_admin_address_requires_tls() {
    let world = World::with(|config| config.admin = port("0.0.0.0:0")).await;
    let Some(AdminAddr::Tls(address)) = world.server().admin_addr().cloned() else { panic!("no TLS") };
    let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let plain = async { AdminClient::new(endpoint.connect().await.ok()?).list_apps(ListAppsRequest {}).await.ok() };
    assert!(soon(plain).await.is_none(), "plain HTTP/2 is accepted");

    let certificate = CertificateDer::from_pem_file(world.data_dir().join("cert.pem")).unwrap();
    let handshake = async |protocol: &[u8]| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    };
    let connected = handshake(b"h2").await.unwrap();
    let session = connected.get_ref().1;
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(session.alpn_protocol(), Some(b"h2".as_slice()));
    assert!(handshake(b"http/1.1").await.is_err());
    drop(connected);
    // Only these addresses count as loopback: not the mapped form of the other family.
    for (listen, is_plain) in [("127.0.0.2:0", true), ("[::ffff:127.0.0.1]:0", true), ("[::]:0", false)] {
        let data = tempfile::tempdir().unwrap();
        let config = Config { admin: port(listen), ..Config::local(data.path()) };
        let server = Server::start(config).await.unwrap();
        let address = server.admin_addr().unwrap();
        assert_eq!(matches!(address, AdminAddr::Loopback(_)), is_plain, "{address}");
        assert_eq!(server.stop().await, 0);
    }
    world.end().await;
}

#[tokio::test]
async fn health_on_a_non_loopback_address_logs_a_warning() {
    let world = World::new().await;
    assert_eq!(world.warnings(), Vec::<String>::new());
    world.end().await;
    let world = World::with(|config| config.http.0 = Some("0.0.0.0:0".parse().unwrap())).await;
    let warnings = world.warnings();
    assert!(matches!(warnings.as_slice(), [one] if one.contains("over plain HTTP")), "{warnings:?}");
    world.end().await;
}

/// HTTP/2 frames by hand, for behaviour that no library allows.
struct Http2(TcpStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame: kind, flags, stream and payload.
type Frame = (u8, u8, u32, Vec<u8>);

impl Http2 {
    async fn connect(to: SocketAddr) -> Self {
        let mut stream = soon(TcpStream::connect(to)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut http2 = Self(stream);
        http2.write(SETTINGS, 0, 0, &[]).await;
        http2
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        // Ignores errors: a closed connection shows when it is read.
        let _ = self.0.write_all(&[&head, payload].concat()).await;
    }

    /// Reads the next frame; `None` at the end.
    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon(self.0.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        soon(self.0.read_exact(&mut payload)).await.ok()?;
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// Waits for a frame; `None` at the end.
    async fn until(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if is_it(&frame) {
                return Some(frame);
            }
        }
    }

    /// Starts a call of `ListApps` without its message.
    async fn begin(&mut self, stream: u32, key: &str) {
        let bearer = format!("Bearer {key}");
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/zim.v1.Admin/ListApps"),
            (":authority", "here"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", &bearer),
        ];
        let mut block = Vec::new();
        for text in headers.into_iter().flat_map(|(name, value)| [None, Some(name), Some(value)]) {
            match text {
                // A literal header without indexing.
                None => block.push(0),
                Some(text) => {
                    block.push(u8::try_from(text.len()).unwrap());
                    block.extend_from_slice(text.as_bytes());
                }
            }
        }
        self.write(HEADERS, END_HEADERS, stream, &block).await;
    }

    /// Makes a complete call; false if it is not answered.
    async fn call(&mut self, stream: u32, key: &str) -> bool {
        self.begin(stream, key).await;
        self.write(DATA, END_STREAM, stream, &[0; 5]).await;
        self.until(|(kind, flags, of, _)| *kind == HEADERS && *of == stream && flags & END_STREAM != 0).await.is_some()
    }

    async fn is_open(&mut self) -> bool {
        self.write(PING, 0, 0, b"is there").await;
        self.until(|(kind, flags, _, _)| *kind == PING && flags & ACK != 0).await.is_some()
    }

    /// Waits until the server has closed it.
    async fn closed(&mut self) {
        while self.read().await.is_some() {}
    }
}

#[tokio::test]
async fn an_admin_connection_must_make_a_call_with_the_key_in_time() {
    let (world, address) = world_with_port(|config| config.limits.admin_first_call_timeout_ms = 1_000).await;
    let key = world.admin_key();
    let began = Instant::now();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let (mut prefaced, mut wrong, mut calls) =
        (Http2::connect(address).await, Http2::connect(address).await, Http2::connect(address).await);
    assert!(calls.call(1, &key).await);
    let mut wrongs = 1;
    while wrong.call(wrongs, "wrong").await {
        wrongs += 2;
    }
    assert!(wrongs > 1, "the first wrong key closed the connection");
    prefaced.closed().await;
    // The connection may be closed or reset.
    drop(soon(silent.read(&mut [0])).await);
    assert!(began.elapsed() >= Duration::from_millis(1_000), "a connection was closed before its timeout");
    assert!(calls.is_open().await && calls.call(3, &key).await);
    world.end().await;
}

#[tokio::test]
async fn wrong_keys_are_counted_limited_and_logged_once_a_minute() {
    let (world, address) = world_with_port(|config| config.limits.admin_first_call_timeout_ms = 60_000).await;
    let key = world.admin_key();
    let mut http2 = Http2::connect(address).await;
    for call in 0..500 {
        assert!(http2.call(call * 2 + 1, "wrong").await);
    }
    assert!(http2.call(1_001, &key).await, "the valid key was refused");
    let metrics = world.metrics().await;
    for (reason, count) in [("wrong", 10), ("limited", 490)] {
        let line = format!(r#"zim_admin_refused_total{{reason="{reason}"}} {count}"#);
        assert!(metrics.contains(&line), "{metrics}");
    }
    let next_warning = async || {
        let warnings = world.warnings();
        assert!(warnings.len() < 2 && !warnings.iter().any(|line| line.contains("wrong\"")), "{warnings:?}");
        warnings.into_iter().next()
    };
    let first = eventually("the first is logged at once", &next_warning).await;
    assert!(first.contains(r#"count=1 addresses="127.0.0.1""#), "{first}");
    assert_eq!(next_warning().await, None);
    world.clock.advance(60_000);
    let rest = eventually("the others are logged a minute later", &next_warning).await;
    assert!(rest.contains(r#"count=499 addresses="127.0.0.1""#), "{rest}");
    // Failures of an unfinished minute are logged at the stop.
    assert!(http2.call(1_003, "wrong").await);
    drop(http2);
    let logged = world.logged();
    world.end().await;
    let last = logged.warnings();
    assert!(matches!(last.as_slice(), [one] if one.contains("count=1 ")), "{last:?}");
}

#[tokio::test]
async fn an_idle_admin_connection_is_closed() {
    let (world, address) = world_with_port(|config| config.limits.admin_idle_timeout_ms = 400).await;
    let key = world.admin_key();
    let began = Instant::now();
    let mut idle = Http2::connect(address).await;
    assert!(idle.call(1, &key).await);
    // A call in flight has the timeout of a call.
    let mut works = Http2::connect(address).await;
    works.begin(1, &key).await;
    assert!(works.is_open().await);
    idle.closed().await;
    assert!(began.elapsed() >= Duration::from_millis(400), "the connection was closed before its timeout");
    works.write(DATA, END_STREAM, 1, &[0; 5]).await;
    assert!(works.until(|(kind, flags, ..)| *kind == HEADERS && flags & END_STREAM != 0).await.is_some());
    world.end().await;
}

#[tokio::test]
async fn an_admin_connection_has_a_limit_of_concurrent_calls() {
    let (world, address) = world_with_port(|_| {}).await;
    let key = world.admin_key();
    let mut http2 = Http2::connect(address).await;
    for call in 0..16 {
        http2.begin(call * 2 + 1, &key).await;
    }
    assert!(http2.is_open().await, "16 are allowed");
    http2.begin(33, &key).await;
    let refused = http2.until(|(kind, ..)| *kind == RST_STREAM).await;
    // The error code REFUSED_STREAM.
    assert_eq!(refused, Some((RST_STREAM, 0, 33, vec![0, 0, 0, 7])));
    http2.write(DATA, END_STREAM, 1, &[0; 5]).await;
    assert!(http2.until(|(kind, _, of, _)| *kind == HEADERS && *of == 1).await.is_some());
    drop(http2);
    world.end().await;
}

#[tokio::test]
async fn an_admin_request_has_a_size_limit() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    for (bytes, expected) in [(60_000, Code::InvalidArgument), (70_000, Code::OutOfRange)] {
        let name = "n".repeat(bytes);
        let refused = soon(operator.create_app(CreateAppRequest { app_id: 7, name })).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{refused}");
    }
    for (bytes, is_answered) in [(15_000, true), (17_000, false)] {
        let mut request = tonic::Request::new(ListAppsRequest {});
        request.metadata_mut().insert("x-long", "h".repeat(bytes).parse().unwrap());
        assert_eq!(soon(operator.list_apps(request)).await.is_ok(), is_answered, "{bytes}");
    }
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn admin_connections_are_limited() {
    let (world, address) = world_with_port(|config| config.limits.max_admin_connections = 4).await;
    let key = world.admin_key();
    let mut four = Vec::new();
    for _ in 0..4 {
        let mut one = Http2::connect(address).await;
        assert!(one.call(1, &key).await);
        four.push(one);
    }
    for one in &mut four {
        assert!(one.is_open().await, "four connections are allowed");
    }
    let mut fifth = Http2::connect(address).await;
    assert!(fifth.call(1, &key).await);
    four[0].closed().await;
    assert!(four[1].is_open().await && fifth.is_open().await);
    // Idle connections, one after another: all but the last four are evicted, which later time out.
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(soon(TcpStream::connect(address)).await.unwrap());
    }
    for mut one in idle.drain(..296) {
        // The connection may be closed or reset.
        drop(soon(one.read(&mut [0])).await);
    }
    eventually("the operator is served", async || soon(world.admin().await.list_apps(ListAppsRequest {})).await.ok())
        .await;
    let warnings = world.warnings();
    let full =
        warnings.iter().filter(|line| line.contains("all connection slots of the operator's service were taken"));
    assert_eq!(full.count(), 1, "{warnings:?}");
    world.end().await;
}
