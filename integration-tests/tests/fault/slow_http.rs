//! Strangers on the machine who want the server to look dead.

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

const ASKS: &[u8] = b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n";

/// What a slow connection does to keep its place.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Silent,
    HalfARequest,
    HalfAPreface,
    AByteNowAndThen,
    AsksAgainAndAgain,
}

/// Connections that are slow, on threads of their own, and come back as soon as they are closed.
struct Crowd {
    runtime: Option<Runtime>,
    ends: Arc<AtomicBool>,
    closed: Arc<AtomicUsize>,
}

impl Crowd {
    fn of(count: usize, slow: Slow, to: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (ends, closed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        for _ in 0..count {
            let (ends, closed) = (Arc::clone(&ends), Arc::clone(&closed));
            runtime.spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    let Ok(mut stream) = tokio::net::TcpStream::connect(to).await else { continue };
                    keep(&mut stream, slow).await;
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

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Keeps a connection until the server closes it.
async fn keep(stream: &mut tokio::net::TcpStream, slow: Slow) {
    let mut heard = [0; 1_024];
    match slow {
        Slow::Silent => {}
        Slow::HalfARequest => drop(stream.write_all(&ASKS[..20]).await),
        Slow::HalfAPreface => drop(stream.write_all(b"PRI * HTTP/2.0\r\n").await),
        Slow::AByteNowAndThen => {
            let pause = Duration::from_millis(10);
            while tokio::time::timeout(pause, stream.read(&mut heard)).await.is_err() {
                if stream.write_all(b"P").await.is_err() {
                    return;
                }
            }
            return;
        }
        Slow::AsksAgainAndAgain => {
            while stream.write_all(ASKS).await.is_ok() && matches!(stream.read(&mut heard).await, Ok(1..)) {}
            return;
        }
    }
    drop(stream.read(&mut heard).await);
}

/// Asks as a probe does: a connection for a question.
fn probe(to: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(ASKS)?;
    let mut heard = [0; 1_024];
    match stream.read(&mut heard)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        length => {
            assert!(heard[..length].starts_with(b"HTTP/1.1 200 OK"), "{}", heard[..length].escape_ascii());
            Ok(())
        }
    }
}

async fn health(world: &World) -> std::io::Result<()> {
    let to = world.server().http_addr().unwrap();
    tokio::task::spawn_blocking(move || probe(to)).await.unwrap()
}

/// How many connections a test may open from both sides: as many as wanted, where the system allows it.
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
    for slow in [Slow::Silent, Slow::HalfARequest, Slow::AByteNowAndThen, Slow::AsksAgainAndAgain] {
        let crowd = Crowd::of(count, slow, world.server().http_addr().unwrap());
        // All have been there once: they take each other's places.
        eventually("the crowd has come", async || (crowd.closed() > count).then_some(())).await;
        for _ in 0..5 {
            // On a machine that is busy with other things too, a request may come too late for its connection.
            eventually("health", async || health(&world).await.ok()).await;
        }
        drop(crowd);
        eventually("all are gone", async || health(&world).await.is_ok().then_some(())).await;
    }
    let warnings = world.warnings();
    let full: Vec<_> =
        warnings.iter().filter(|line| line.contains("all places of the HTTP service were taken")).collect();
    assert_eq!(full.len(), 1, "{warnings:?}");
    assert!(full[0].contains("127.0.0.1"), "{full:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_is_served_beside_a_thousand_slow_connections() {
    let world = World::with(|config| config.admin = AdminListen::Tcp(([127, 0, 0, 1], 0).into())).await;
    let Some(AdminAddr::Loopback(to)) = world.server().admin_addr().cloned() else { panic!("no port") };
    let count = files_for(1_000);
    for slow in [Slow::Silent, Slow::HalfAPreface, Slow::AByteNowAndThen] {
        let crowd = Crowd::of(count, slow, to);
        eventually("the crowd has come", async || (crowd.closed() > count).then_some(())).await;
        // A call takes several steps. In a crowd that comes back at once, not each attempt gets through all of them.
        eventually("an operator's call", async || {
            let channel = world.admin_endpoint().connect().await.ok()?;
            let mut operator = AdminClient::with_interceptor(channel, OperatorKey(world.admin_key()));
            operator.list_apps(ListAppsRequest {}).await.ok()
        })
        .await;
        health(&world).await.unwrap();
        drop(crowd);
    }
    world.end().await;
}

#[tokio::test]
async fn health_answers_when_no_file_can_be_opened() {
    let world = World::new().await;
    let to = world.server().http_addr().unwrap();
    health(&world).await.unwrap();
    // More than the server keeps files for.
    let sockets: Vec<_> = (0..10).map(|_| TcpSocket::new_v4().unwrap()).collect();
    let all = take_all_files();
    let mut asked = Vec::new();
    for socket in sockets {
        let mut stream = soon(socket.connect(to)).await.unwrap();
        stream.write_all(ASKS).await.unwrap();
        let mut heard = [0; 1_024];
        let length = soon(stream.read(&mut heard)).await.unwrap();
        assert!(heard[..length].starts_with(b"HTTP/1.1 200 OK"), "{} were answered", asked.len());
        asked.push(stream);
    }
    drop((all, asked));
    health(&world).await.unwrap();
    let warnings = world.warnings();
    let told = warnings.iter().filter(|line| line.contains("the HTTP service cannot accept connections"));
    assert_eq!(told.count(), 1, "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("Too many open files")), "{warnings:?}");
    world.assert_serves_others().await;
    world.end().await;
}

/// Opens files until no more can be opened.
fn take_all_files() -> Vec<File> {
    // Nextest runs each test in a process of its own.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(300), maximum: limit.maximum }).unwrap();
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    all
}
