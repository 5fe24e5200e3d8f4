//! A push service of a test: HTTP/1.1 and HTTP/2, with and without TLS, with the answers that the test sets. It runs on a thread of its
//! own, so that it is none of the tasks of the server under test.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsAcceptor;

use crate::wait::eventually;

/// How long an answer takes that does not come. Longer than the server waits for it.
const NEVER: Duration = Duration::from_secs(60);

/// A request that a push service got.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// The protocol.
    pub version: Version,
    /// The method.
    pub method: String,
    /// The path, with the query.
    pub path: String,
    /// The headers, by lower-case names.
    pub headers: HashMap<String, String>,
    /// The body.
    pub body: Bytes,
}

impl PushRequest {
    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Returns a header; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// How a push service answers.
#[derive(Clone, Debug)]
pub struct PushAnswer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    hangs: bool,
    when: Option<Arc<Notify>>,
}

impl PushAnswer {
    /// An answer with this status.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new(), hangs: false, when: None }
    }

    /// No answer in time.
    pub fn none() -> Self {
        Self { hangs: true, ..Self::status(500) }
    }

    /// Adds a header.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The answer comes once this is notified.
    pub fn when(self, when: &Arc<Notify>) -> Self {
        Self { when: Some(Arc::clone(when)), ..self }
    }

    /// Sets the body.
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<PushRequest>>,
    answers: Mutex<VecDeque<PushAnswer>>,
    /// What requests whose path begins with it get, before any other answer.
    fixed: Mutex<Vec<(&'static str, PushAnswer)>>,
}

/// A push service.
#[derive(Debug)]
pub struct PushServer {
    address: SocketAddr,
    /// The certificate in PEM, with TLS.
    ca: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl PushServer {
    /// Starts a push service without TLS.
    pub fn http() -> Self {
        Self::start(None, String::new())
    }

    /// Starts a push service with TLS, which speaks these protocols: `h2`, `http/1.1`.
    pub fn https(protocols: &[&str]) -> Self {
        let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate: CertificateDer<'static> = key.cert.der().clone();
        let secret = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], secret)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self::start(Some(TlsAcceptor::from(Arc::new(tls))), key.cert.pem())
    }

    fn start(tls: Option<TlsAcceptor>, ca: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, tls, of_thread) => {}
                }
            });
        });
        Self { address, ca, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns its address, with a path.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.ca.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// Returns its certificate in PEM.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Sets the answers of the next requests. After them it answers 200 without a body.
    pub fn answer(&self, answers: impl IntoIterator<Item = PushAnswer>) {
        self.shared.answers.lock().extend(answers);
    }

    /// Sets the answer of all requests whose path begins with `path`. They are not among those that [`PushServer::next`] returns.
    pub fn answer_at(&self, path: &'static str, answer: PushAnswer) {
        self.shared.fixed.lock().push((path, answer));
    }

    /// Waits for a request, and takes it.
    pub async fn next(&self) -> PushRequest {
        eventually("a request to the push service", async || {
            let mut requests = self.shared.requests.lock();
            (!requests.is_empty()).then(|| requests.remove(0))
        })
        .await
    }

    /// Returns how many requests wait to be taken.
    pub fn waiting(&self) -> usize {
        self.shared.requests.lock().len()
    }
}

impl Drop for PushServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared))));
    }
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(request, Arc::clone(&shared)));
    let builder = auto::Builder::new(TokioExecutor::new());
    // A client may leave at any time.
    match tls {
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            }
        }
        None => drop(builder.serve_connection(TokioIo::new(stream), service).await),
    }
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let path = head.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let fixed =
        shared.fixed.lock().iter().find(|(prefix, _)| path.starts_with(prefix)).map(|(_, answer)| answer.clone());
    let answer = match fixed {
        Some(answer) => answer,
        None => {
            let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
            let (version, method) = (head.version, head.method.to_string());
            shared.requests.lock().push(PushRequest { version, method, path, headers, body });
            shared.answers.lock().pop_front().unwrap_or_else(|| PushAnswer::status(200))
        }
    };
    if let Some(when) = &answer.when {
        when.notified().await;
    }
    if answer.hangs {
        tokio::time::sleep(NEVER).await;
    }
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
    for (name, value) in answer.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    Ok(response)
}
