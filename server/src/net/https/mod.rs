//! The public HTTPS listener: the files of messages. It uses the certificate of the server.

mod download;
mod listen;
mod rate;
mod tus;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options, patch};
use futures_util::future::join;
use futures_util::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zim_protocol::ErrorCode;

use self::listen::{Connection, TlsListener};
use self::rate::Least;
use super::Net;
use super::bounded_listener::{BoundedListener, ListenerWarnings};
use super::slots::{RequestGuard, Timeouts};
use crate::app::App;
use crate::error::Error;
use crate::media;

/// The header with the reference's code of an error.
const ERROR_CODE: HeaderName = HeaderName::from_static("zim-error-code");
/// The headers of answers that scripts in browsers may read.
const EXPOSED: &str = "accept-ranges, content-disposition, content-range, etag, location, tus-checksum-algorithm, tus-extension, \
                       tus-max-size, tus-resumable, tus-version, upload-length, upload-offset, zim-error-code";
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(60);
/// How long a connection has for its handshake and the head of its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Reads of the database at once.
const LOOKUPS: usize = 16;
/// The digits of a secret in a URL.
const SECRET_DIGITS: usize = 32;

/// What the requests share.
#[derive(Clone, Debug)]
struct Shared {
    app: Arc<App>,
    /// Uploads and downloads end when the server stops.
    stopping: CancellationToken,
    /// What a stop of the server waits for.
    tasks: TaskTracker,
    least: Least,
    /// Reads of the database at once: a flood of requests by nobody in particular must not hold up those of users.
    lookups: Arc<Semaphore>,
}

impl Shared {
    /// Looks something up by a secret of a URL. What cannot be one is not looked up.
    async fn find<T>(&self, secret: &str, look: impl AsyncFnOnce() -> Result<Option<T>, Error>) -> Result<T, Refusal> {
        if secret.len() != SECRET_DIGITS || !secret.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Refusal::not_found());
        }
        // Never closed.
        let _permit = self.lookups.acquire().await.ok();
        look().await?.ok_or_else(Refusal::not_found)
    }
}

/// Serves until `end`.
pub(crate) async fn serve(net: Arc<Net>, listener: TcpListener, tls: rustls::ServerConfig, end: CancellationToken) {
    let limits = &net.app.config.limits;
    let least = Least::new(limits);
    // A request has no limit of its own: a large file takes as long as it takes, as long as it makes progress.
    let timeouts = Timeouts { first_request: FIRST_REQUEST, request: None, idle: IDLE };
    let warnings = ListenerWarnings::new("the public HTTPS listener", &net.app.clock);
    let listener = BoundedListener::new(listener, limits.max_https_connections, timeouts, &warnings, &end);
    let lookups = Arc::new(Semaphore::new(LOOKUPS));
    let (app, stopping, tasks) = (Arc::clone(&net.app), net.stopping.clone(), net.tasks.clone());
    let shared = Shared { app, stopping, tasks, least, lookups };
    let router = Router::new()
        .route("/uploads", options(tus::options))
        .route(
            "/uploads/{token}",
            patch(tus::patch).head(tus::head).post(tus::create).delete(tus::terminate).options(tus::options),
        )
        .route("/media/{secret}", get(download::original).options(download::options))
        .route("/media/{secret}/{version}", get(download::version).options(download::options))
        .layer(middleware::from_fn(track_request))
        .with_state(shared)
        .into_make_service_with_connect_info::<Connection>();
    let listener = TlsListener::new(listener, tls, least);
    let served = axum::serve(listener, router).with_graceful_shutdown(end.clone().cancelled_owned());
    let (served, ()) = join(served.into_future(), warnings.run(&end)).await;
    if let Err(error) = served {
        tracing::error!(%error, "the public HTTPS listener ended");
    }
}

/// Marks the request as in flight until its answer is complete.
async fn track_request(ConnectInfo(connection): ConnectInfo<Connection>, request: Request, next: Next) -> Response {
    let guard = connection.begin_request();
    let response = next.run(request).await;
    let (mut head, body) = response.into_parts();
    // Scripts of any page may read the answers: whoever knows a URL may use it.
    head.headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    head.headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    head.headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Response::from_parts(head, Body::new(Tracked { body, _guard: guard }))
}

/// A body that keeps its request in flight.
struct Tracked {
    body: Body,
    _guard: RequestGuard,
}

impl axum::body::HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Why a request fails: the status, and the reference's code with a sentence.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: ErrorCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// There is nothing at this URL. It does not tell whether there was.
    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::MessageModuleFileNotExist, "there is no such file")
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        if let Some(cause) = error.cause() {
            tracing::warn!(%error, %cause, "a request for a file failed");
        }
        let status = match error.code() {
            ErrorCode::MessageModuleFileVerificationError => tus::checksum_mismatch(),
            ErrorCode::MessageModuleFileTypeUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ErrorCode::MessageModuleFileSizeInvalid => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::CommonModuleImDatabaseError => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::MessageModuleFileServerError => {
                let of_store = error.cause().and_then(|cause| cause.downcast_ref::<std::io::Error>());
                of_store.map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of)
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error.message())
    }
}

/// Returns the status for a failure of the store: whether trying again later helps, and what the operator has to do.
fn status_of(error: &std::io::Error) -> StatusCode {
    use std::io::ErrorKind::{FileTooLarge, NotFound, QuotaExceeded, StorageFull};
    match error.kind() {
        // The store has lost bytes that had arrived: the upload goes on before them.
        NotFound => StatusCode::CONFLICT,
        StorageFull | QuotaExceeded | FileTooLarge => StatusCode::INSUFFICIENT_STORAGE,
        _ if media::is_away(error) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        let status = status_of(&error);
        tracing::warn!(%error, "the store of the files failed");
        Self::new(status, ErrorCode::MessageModuleFileServerError, "the server cannot store or read the file")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers = [
            (ERROR_CODE, HeaderValue::from(self.code as i32)),
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (self.status, headers, format!("{}\n", self.message)).into_response()
    }
}

/// Returns a body of these pieces, which ends when the server stops.
fn body_of(pieces: BoxStream<'static, std::io::Result<Bytes>>, stopping: CancellationToken) -> Body {
    Body::from_stream(stream::unfold((pieces, stopping), async |(mut pieces, stopping)| {
        let next = tokio::select! {
            next = futures_util::StreamExt::next(&mut pieces) => next?,
            () = stopping.cancelled() => Err(std::io::ErrorKind::ConnectionAborted.into()),
        };
        Some((next, (pieces, stopping)))
    }))
}

/// Extracts what the requests share.
type SharedState = State<Shared>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_store_that_is_away_are_told() {
        use std::io::ErrorKind;
        for (kind, expected) in [
            (ErrorKind::StorageFull, 507),
            (ErrorKind::QuotaExceeded, 507),
            (ErrorKind::NotConnected, 503),
            (ErrorKind::NotFound, 409),
            (ErrorKind::PermissionDenied, 500),
        ] {
            let error = || std::io::Error::from(kind);
            assert_eq!(Refusal::from(error()).status.as_u16(), expected, "{kind}");
            assert_eq!(Refusal::from(Error::file_store_failed(error())).status.as_u16(), expected, "{kind}");
        }
    }
}
