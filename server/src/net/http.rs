//! HTTP for the operator's machines: whether the server lives, whether it can work, and its numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::exchange::Bounded;
use super::{Net, meter};
use crate::app::App;
use crate::db::params;
use crate::error::Error;

/// A database that takes longer is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Serves until `end`.
pub(crate) async fn serve(net: Arc<Net>, listener: TcpListener, end: CancellationToken) {
    let limits = &net.app.config.limits;
    let patience = Duration::from_millis(limits.http_timeout_ms.into());
    let listener = Bounded::new(listener, limits.max_http_connections, patience, end.clone());
    let router = Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(net);
    let served = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the HTTP service ended");
    }
}

async fn ready(State(net): State<Arc<Net>>) -> (StatusCode, &'static str) {
    if net.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match timeout(READY_WITHIN, ping(&net.app)).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n"),
        Ok(Err(error)) => {
            tracing::warn!(%error, cause = error.cause().map(tracing::field::display), "the database does not answer");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer in time\n"),
    }
}

async fn ping(app: &App) -> Result<(), Error> {
    app.db.read(async move |tx| Ok::<_, Error>(tx.fetch_one("SELECT 1", &params![]).await.map(drop)?)).await
}

async fn metrics() -> impl IntoResponse {
    let text = meter::recorder().map_or_else(String::new, |handle| {
        // What was measured in the last second, too.
        handle.run_upkeep();
        handle.render()
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
