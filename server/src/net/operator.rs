//! The operator's service on the network: its listeners, the limits of its connections, the check of the key, and the
//! audit trail. `admin.rs` implements the service itself.

mod audit;
mod key;
mod listen;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{join3, ready};
use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::server::Connected;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use zim_protocol::admin::AdminServer;

use self::audit::Audited;
pub(crate) use self::key::KeyCheck;
pub use self::listen::AdminAddr;
use self::listen::Listener;
pub(crate) use self::listen::{Listening, bind};
use super::admin::Operator;
use super::bounded_listener::{BoundedListener, ListenerWarnings};
use super::peer::Peer;
use super::slots::{Activity, Timeouts};
use super::timed_stream::{Accept, Stream, TimedStream};
use crate::app::App;
use crate::config::Limits;

/// No RPC takes longer.
const RPC_TIMEOUT: Duration = Duration::from_secs(30);
/// RPCs of one connection at once.
const MAX_CONCURRENT_RPCS: u32 = 16;
/// A request's headers: the key and those of gRPC, some 200 bytes.
const HEADER_BYTES: u32 = 16 << 10;
/// A request. The longest one has a name and a few numbers.
const REQUEST_BYTES: usize = 64 << 10;
/// Data that a connection may send before it is read.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Serves until `end`.
pub(crate) async fn serve(
    app: Arc<App>,
    listening: Listening,
    tls: Option<rustls::ServerConfig>,
    check: KeyCheck,
    end: CancellationToken,
) {
    let tls = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
    match listening.listener {
        Listener::Tcp(listener) => serve_on(app, listener, tls, check, end).await,
        #[cfg(unix)]
        Listener::Unix(listener) => serve_on(app, listener, tls, check, end).await,
    }
}

async fn serve_on<L: Accept>(
    app: Arc<App>,
    listener: L,
    tls: Option<TlsAcceptor>,
    check: KeyCheck,
    end: CancellationToken,
) {
    let limits = &app.config.limits;
    let warnings = ListenerWarnings::new("the operator's service", &app.clock);
    let listener = BoundedListener::new(listener, limits.max_admin_connections, timeouts(limits), &warnings, &end);
    let accepted = stream::unfold(listener, async |mut listener| Some((listener.next().await, listener)));
    let incoming = accepted
        .map(|(stream, peer)| Connection::new(stream, peer, tls.clone()))
        // Their slots bound their number, and they have timeouts.
        .buffer_unordered(usize::MAX)
        // A connection whose TLS handshake fails is closed, and nothing else happens.
        .filter_map(|handshake| ready(handshake.ok().map(Ok::<_, Infallible>)));
    // The check of the key comes first: a request without the key leaves no audit line, or it could fill the log.
    let admin = AdminServer::new(Operator::new(Arc::clone(&app))).max_decoding_message_size(REQUEST_BYTES);
    let routes = match standard_services().await {
        Ok((health, reflection)) => Routes::new(admin).add_service(health).add_service(reflection),
        Err(error) => {
            tracing::error!(%error, "the operator's service has no health checks and no reflection");
            Routes::new(admin)
        }
    };
    let service = InterceptedService::new(Audited(routes.prepare()), check.clone());
    let served = tonic::transport::Server::builder()
        .timeout(RPC_TIMEOUT)
        .max_concurrent_streams(MAX_CONCURRENT_RPCS)
        .http2_max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(u32::try_from(REQUEST_BYTES).unwrap_or(u32::MAX))
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_with_incoming_shutdown(service, incoming, end.clone().cancelled_owned());
    let (served, (), ()) = join3(served, warnings.run(&end), check.run_warnings(&end)).await;
    if let Err(error) = served {
        tracing::error!(%error, "the operator's service ended");
    }
}

/// The services that tools of gRPC know: health checks, and the description of the methods.
async fn standard_services()
-> Result<(HealthServer<impl Health>, ServerReflectionServer<impl ServerReflection>), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AdminServer<Operator>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(zim_protocol::DESCRIPTOR)
        .with_service_name(AdminServer::<Operator>::NAME)
        .build_v1()?;
    Ok((health, reflection))
}

fn timeouts(limits: &Limits) -> Timeouts {
    Timeouts {
        first_request: Duration::from_millis(limits.admin_first_call_timeout_ms.into()),
        request: None,
        idle: Duration::from_millis(limits.admin_idle_timeout_ms.into()),
    }
}

/// The caller of an RPC, and its connection.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) peer: Peer,
    activity: Arc<Activity>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that RPCs arrive on.
struct Connection {
    io: Box<dyn Io>,
    caller: Caller,
}

impl Connection {
    async fn new<S: Stream>(stream: TimedStream<S>, peer: Peer, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let caller = Caller { peer, activity: Arc::clone(stream.slot().activity()) };
        let io: Box<dyn Io> = match tls {
            Some(tls) => Box::new(tls.accept(stream).await?),
            None => Box::new(stream),
        };
        Ok(Self { io, caller })
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
