//! The audit trail: one log line for each of the operator's RPCs. It is written around the service, so that no method
//! can omit it.
//!
//! The line has the method, the caller, the outcome and the duration. The method adds what the RPC was about:
//! `tracing::Span::current().record("app", app_id)`, and the same for `user` and `detail`. Keys, tokens and secrets are
//! never added.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Instant;

use metrics::counter;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::{Code, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::Caller;
use crate::meter::ADMIN_CALLS;
use crate::net::slots::RequestGuard;

/// The target of the lines, so that `log.filter` can keep them and drop others.
const TARGET: &str = "zim_server::audit";

/// A service with an audit trail.
#[derive(Clone, Debug)]
pub(super) struct Audited<S>(pub(super) S);

impl<S> Service<http::Request<Body>> for Audited<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let line = Line::begin(&request);
        let span = line.span.clone();
        let response = span.in_scope(|| self.0.call(request));
        let audited = async move {
            let response = response.await?;
            line.end(code(&response));
            Ok(response)
        };
        Box::pin(audited.instrument(span))
    }
}

/// The status of an RPC. A successful one has its status in the trailers, which need not be read; a failed one has it
/// in the headers.
fn code(response: &http::Response<Body>) -> Code {
    Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
}

/// The audit line of one RPC. It is also written when the RPC is cancelled, by its caller or because it took too long.
struct Line {
    span: Span,
    method: String,
    began: Instant,
    code: Code,
    /// A health check or a question about the methods, of which tools ask many. It has no line if it succeeds.
    is_of_tool: bool,
    /// Marks the request as in flight on its connection.
    _guard: Option<RequestGuard>,
}

impl Line {
    fn begin(request: &http::Request<Body>) -> Self {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let caller = request.extensions().get::<Caller>();
        let peer = caller.map(|caller| tracing::field::display(caller.peer));
        let span =
            tracing::info_span!(target: TARGET, "admin", method, peer, app = Empty, user = Empty, detail = Empty);
        let guard = caller.map(|caller| caller.activity.begin_request());
        let is_of_tool = request.uri().path().starts_with("/grpc.");
        Self { span, method, began: Instant::now(), code: Code::Cancelled, is_of_tool, _guard: guard }
    }

    fn end(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { span, method, began, code, is_of_tool, .. } = self;
        if *is_of_tool && *code == Code::Ok {
            return;
        }
        // A method name that a client made up is not used as a label, because labels are never removed.
        let label = if *code == Code::Unimplemented { "unknown".to_owned() } else { std::mem::take(method) };
        let code = format!("{code:?}");
        let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        span.in_scope(|| tracing::info!(target: TARGET, code, ms, "operator RPC"));
        counter!(ADMIN_CALLS, "method" => label, "code" => code).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    /// A log that a test reads.
    #[derive(Clone, Debug, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.lock().clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// Responds with a status, or never.
    #[derive(Clone)]
    struct Responds(Option<Code>);

    impl Service<http::Request<Body>> for Responds {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            let status = self.0;
            Box::pin(async move {
                Span::current().record("app", 7).record("user", "ann\n");
                let Some(code) = status else { return std::future::pending().await };
                Ok(Status::new(code, "message").into_http())
            })
        }
    }

    /// Returns the audit line of an RPC under the default filter.
    async fn line(code: Option<Code>) -> String {
        let log = Log::default();
        let filter = crate::config::Log::default().env_filter().unwrap();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(log.clone());
        let _guard = tracing::subscriber::set_default(lines.finish());
        let request = http::Request::post("/zim.v1.Admin/MintToken").body(Body::empty()).unwrap();
        let rpc = Audited(Responds(code)).call(request);
        let is_cancelled = tokio::time::timeout(std::time::Duration::ZERO, rpc).await.is_err();
        assert_eq!(is_cancelled, code.is_none());
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.into_iter().next().unwrap()
    }

    #[tokio::test]
    async fn an_rpc_leaves_a_line_with_the_fields_of_its_method() {
        let line = line(Some(Code::NotFound)).await;
        let expected =
            r#"INFO admin{method="MintToken" app=7 user="ann\n"}: zim_server::audit: operator RPC code="NotFound" ms="#;
        assert!(line.contains(expected), "{line}");
    }

    #[tokio::test]
    async fn a_cancelled_rpc_leaves_a_line_too() {
        let line = line(None).await;
        assert!(line.contains(r#"method="MintToken" app=7"#) && line.contains(r#"code="Cancelled""#), "{line}");
    }
}
