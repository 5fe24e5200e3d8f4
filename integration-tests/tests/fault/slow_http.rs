//! Slow connections that try to make the HTTP service and the operator's service unreachable.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use zim_integration_tests::{OperatorKey, TIMEOUT, World, eventually, print_line, soon};
use zim_protocol::ListAppsRequest;
use zim_protocol::admin::AdminClient;
use zim_server::AdminAddr;
use zim_server::config::AdminListen;

const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n";

/// How a slow connection tries to stay open.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Silent,
    PartialRequest,
    PartialPreface,
    ByteByByte,
    RepeatedRequests,
}

/// Slow connections on their own threads, which reconnect as soon as they are closed.
struct SlowConnections {
    runtime: Option<Runtime>,
    ends: Arc<AtomicBool>,
    closed: Arc<AtomicUsize>,
}

impl SlowConnections {
    fn of(count: usize, slow: Slow, to: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ends, closed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        for _ in 0..count {
            let (ends, closed) = (Arc::clone(&ends), Arc::clone(&closed));
            runtime.spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    let Ok(mut stream) = tokio::net::TcpStream::connect(to).await else { continue };
                    hold(&mut stream, slow).await;
                    closed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { runtime: Some(runtime), ends, closed }
    }

    fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }
}

impl Drop for SlowConnections {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Keeps a connection open until the server closes it.
async fn hold(stream: &mut tokio::net::TcpStream, slow: Slow) {
    let mut response = [0; 1_024];
    match slow {
        Slow::Silent => {}
        Slow::PartialRequest => drop(stream.write_all(&REQUEST[..20]).await),
        Slow::PartialPreface => drop(stream.write_all(b"PRI * HTTP/2.0\r\n").await),
        Slow::ByteByByte => {
            let pause = Duration::from_millis(10);
            while tokio::time::timeout(pause, stream.read(&mut response)).await.is_err() {
                if stream.write_all(b"P").await.is_err() {
                    return;
                }
            }
            return;
        }
        Slow::RepeatedRequests => {
            while stream.write_all(REQUEST).await.is_ok() && matches!(stream.read(&mut response).await, Ok(1..)) {}
            return;
        }
    }
    drop(stream.read(&mut response).await);
}

/// Sends a request on a new connection, as a health probe does.
fn probe(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(REQUEST)?;
    let mut response = [0; 1_024];
    match stream.read(&mut response)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        length => {
            assert!(response[..length].starts_with(b"HTTP/1.1 200 OK"), "{}", response[..length].escape_ascii());
            Ok(())
        }
    }
}

async fn health(world: &World) -> std::io::Result<()> {
    let to = world.server().http_addr().unwrap();
    tokio::task::spawn_blocking(move || probe(to)).await.unwrap()
}

/// The number of connections that a test may open from both sides: `connections`, or fewer if the system allows fewer
/// files.
fn files_for(connections: usize) -> usize {
    let most = u64::try_from(connections + 500).unwrap();
    let limit = getrlimit(Resource::Nofile);
    let allowed = limit.maximum.unwrap_or(most).min(most);
    if limit.current.is_some_and(|current| current < allowed) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum }).unwrap();
    }
    let fit = usize::try_from(allowed).unwrap().saturating_sub(500).min(connections);
    if fit < connections {
        print_line(format!("only {fit} connections: the system allows no more than {allowed} open files"));
    }
    fit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_answers_beside_a_thousand_slow_connections() {
    let world = World::new().await;
    let count = files_for(1_000);
    for slow in [Slow::Silent, Slow::PartialRequest, Slow::ByteByByte, Slow::RepeatedRequests] {
        let connections = SlowConnections::of(count, slow, world.server().http_addr().unwrap());
        // On average every connection has been evicted once.
        eventually("every connection was evicted once", async || (connections.closed() > count).then_some(())).await;
        for _ in 0..5 {
            // On a busy machine a request may arrive after its connection was evicted.
            eventually("health", async || health(&world).await.ok()).await;
        }
        drop(connections);
        eventually("health after the connections", async || health(&world).await.is_ok().then_some(())).await;
    }
    let warnings = world.warnings();
    let full: Vec<_> =
        warnings.iter().filter(|line| line.contains("all connection slots of the HTTP service were taken")).collect();
    assert_eq!(full.len(), 1, "{warnings:?}");
    assert!(full[0].contains("127.0.0.1"), "{full:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_served_beside_a_thousand_slow_connections() {
    let world = World::with(|config| config.admin = AdminListen::Tcp(([127, 0, 0, 1], 0).into())).await;
    let Some(AdminAddr::Loopback(to)) = world.server().admin_addr().cloned() else { panic!("no port") };
    let count = files_for(1_000);
    for slow in [Slow::Silent, Slow::PartialPreface, Slow::ByteByByte] {
        let connections = SlowConnections::of(count, slow, to);
        eventually("every connection was evicted once", async || (connections.closed() > count).then_some(())).await;
        // A call takes several round trips. Among connections that reconnect at once, an attempt may be evicted.
        eventually("an operator's call", async || {
            let channel = world.admin_endpoint().connect().await.ok()?;
            let mut operator = AdminClient::with_interceptor(channel, OperatorKey(world.admin_key()));
            operator.list_apps(ListAppsRequest {}).await.ok()
        })
        .await;
        health(&world).await.unwrap();
        drop(connections);
    }
    world.end().await;
}

#[tokio::test]
async fn health_answers_when_no_file_can_be_opened() {
    let world = World::new().await;
    let to = world.server().http_addr().unwrap();
    health(&world).await.unwrap();
    // More connections than the server reserves files for.
    let sockets: Vec<_> = (0..10).map(|_| TcpSocket::new_v4().unwrap()).collect();
    let all = take_all_files();
    let mut answered = Vec::new();
    for socket in sockets {
        let mut stream = soon(socket.connect(to)).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        let mut response = [0; 1_024];
        let length = soon(stream.read(&mut response)).await.unwrap();
        assert!(response[..length].starts_with(b"HTTP/1.1 200 OK"), "{} were answered", answered.len());
        answered.push(stream);
    }
    drop((all, answered));
    health(&world).await.unwrap();
    let warnings = world.warnings();
    let refused = warnings.iter().filter(|line| line.contains("the HTTP service cannot accept connections"));
    assert_eq!(refused.count(), 1, "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("Too many open files")), "{warnings:?}");
    world.assert_serves_others().await;
    world.end().await;
}

/// Opens files until no more can be opened.
fn take_all_files() -> Vec<File> {
    // The limit is the process's: nextest runs each test in its own process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum: limit.maximum }).unwrap();
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    all
}
