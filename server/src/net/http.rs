//! HTTP for monitoring: liveness, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use futures_util::future::join;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Net;
use super::bounded_listener::{BoundedListener, ListenerWarnings};
use super::slots::{Activity, Timeouts};
use crate::app::App;
use crate::bus::BusState;
use crate::db::params;
use crate::error::Error;

/// If the database takes longer to respond, the server is not ready.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is in use all the time is closed after this multiple of the request timeout.
const MAX_AGE_FACTOR: u32 = 10;

/// Serves until `end`.
pub(crate) async fn serve(net: Arc<Net>, listener: TcpListener, end: CancellationToken) {
    let limits = &net.app.config.limits;
    let request = Duration::from_millis(limits.http_timeout_ms.into());
    let first_request = Duration::from_millis(limits.http_header_timeout_ms.into()).min(request);
    let timeouts = Timeouts { first_request, request: Some(request), idle: request };
    let warnings = ListenerWarnings::new("the HTTP service", &net.app.clock);
    let listener = BoundedListener::new(listener, limits.max_http_connections, timeouts, &warnings, &end)
        .max_age(request * MAX_AGE_FACTOR);
    let router = Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn(track_request))
        .with_state(net)
        .into_make_service_with_connect_info::<Connection>();
    let served = axum::serve(listener, router).with_graceful_shutdown(end.clone().cancelled_owned());
    let (served, ()) = join(served.into_future(), warnings.run(&end)).await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP service ended");
    }
}

/// The connection that a request arrived on.
#[derive(Clone, Debug)]
struct Connection(Arc<Activity>);

impl Connected<IncomingStream<'_, BoundedListener<TcpListener>>> for Connection {
    fn connect_info(stream: IncomingStream<'_, BoundedListener<TcpListener>>) -> Self {
        Self(Arc::clone(stream.io().slot().activity()))
    }
}

/// Marks the request as in flight on its connection.
async fn track_request(
    ConnectInfo(Connection(activity)): ConnectInfo<Connection>,
    request: Request,
    next: Next,
) -> Response {
    let _guard = activity.begin_request();
    next.run(request).await
}

async fn ready(State(net): State<Arc<Net>>) -> (StatusCode, &'static str) {
    if net.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match timeout(READY_TIMEOUT, ping(&net.app)).await {
        Ok(Ok(())) => (StatusCode::OK, what_works(&net.app)),
        Ok(Err(error)) => {
            tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "the database does not respond");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not respond\n")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not respond in time\n"),
    }
}

/// Returns what is degraded. Everything but files works without their store, and without the bus what other nodes commit arrives a few
/// seconds later.
fn what_works(app: &App) -> &'static str {
    match (app.bus().state() == BusState::Down, app.files.problem().is_some()) {
        (false, false) => "ready\n",
        (true, false) => "ready, degraded: the bus is down\n",
        (false, true) => "ready, degraded: the store of the files does not work\n",
        (true, true) => "ready, degraded: the bus is down, and the store of the files does not work\n",
    }
}

async fn ping(app: &App) -> Result<(), Error> {
    app.db.read(async move |tx| Ok::<_, Error>(tx.fetch_one("SELECT 1", &params![]).await.map(drop)?)).await
}

async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], crate::meter::render())
}
