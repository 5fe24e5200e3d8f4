//! An object store of a test, which speaks S3 and keeps its objects in a folder. It runs on a thread of its own, so that it is none of
//! the tasks of the server under test, and fails when the test says so.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

const BUCKET: &str = "zim-files";
const KEY_ID: &str = "AKIATEST";
const SECRET: &str = "a secret of the test";

/// How an object store fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum S3Fault {
    /// It does not.
    #[default]
    None,
    /// It closes connections without an answer.
    Away,
    /// It answers this much later, or when the test says that it is not slow any more.
    Slow(Duration),
    /// It answers all requests with this status and code.
    Answer(u16, &'static str),
    /// It answers requests with this method so, if their path contains this text, and others as usual.
    AnswerTo(&'static str, &'static str, u16, &'static str),
}

/// An object store.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    root: TempDir,
    fault: watch::Sender<S3Fault>,
    /// The method and the path of each request.
    requests: Arc<Mutex<Vec<String>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl S3Server {
    /// Starts an object store with an empty bucket.
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (objects, credentials) = (root.path().join("objects"), root.path().join("credentials"));
        std::fs::create_dir_all(objects.join(BUCKET)).unwrap();
        let text = format!("[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n");
        std::fs::write(credentials, text).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let (fault, told) = watch::channel(S3Fault::None);
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let shared = (told, Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut builder = S3ServiceBuilder::new(FileSystem::new(objects).unwrap());
                builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
                let (listener, service) = (TcpListener::from_std(listener).unwrap(), builder.build());
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, service, shared) => {}
                }
            });
        });
        Self { address, root, fault, requests, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns the setting `media.store` for its bucket.
    pub fn store(&self) -> String {
        self.store_of(BUCKET)
    }

    /// Returns the setting `media.store` for a bucket, which may not exist.
    pub fn store_of(&self, bucket: &str) -> String {
        let credentials = self.root.path().join("credentials");
        let (address, credentials) = (self.address, credentials.display());
        format!("s3://{bucket}/chat/files?endpoint=http://{address}&region=eu-1&credentials={credentials}")
    }

    /// Makes the credentials that servers read from now on wrong.
    pub fn spoil_credentials(&self) {
        let text = format!("aws_access_key_id = {KEY_ID}\naws_secret_access_key = wrong {SECRET}\n");
        std::fs::write(self.root.path().join("credentials"), text).unwrap();
    }

    /// Returns what no log and no error may contain.
    pub fn secrets(&self) -> [&'static str; 2] {
        [KEY_ID, SECRET]
    }

    /// Sets how it fails from now on.
    pub fn fail(&self, fault: S3Fault) {
        self.fault.send_replace(fault);
    }

    /// Returns the methods and the paths of the requests since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock())
    }

    /// Returns the folder with the files of the server under test, as it would lay them out itself.
    pub fn folder(&self) -> PathBuf {
        self.root.path().join("objects").join(BUCKET).join("chat/files")
    }

    /// Returns the paths of all objects in the bucket, without the one by which a server asks whether it can store any, and those that
    /// say who uses it.
    pub fn objects(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
            }
        }
        let mut found = Vec::new();
        walk(&self.folder(), &mut found);
        let owners = self.folder().join("owners");
        found.retain(|path| !path.ends_with("probe") && !path.starts_with(&owners));
        found
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

type Shared = (watch::Receiver<S3Fault>, Arc<Mutex<Vec<String>>>);

async fn accept(listener: TcpListener, service: S3Service, shared: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(tokio::spawn(serve(stream, service.clone(), shared.clone())));
    }
}

async fn serve(stream: TcpStream, service: S3Service, shared: Shared) {
    let handle = service_fn(move |request| handle(request, service.clone(), shared.clone()));
    // A client may leave at any time.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), handle).await);
}

async fn handle(request: Request<Incoming>, service: S3Service, shared: Shared) -> io::Result<Response<Body>> {
    let (mut told, requests) = shared;
    requests.lock().push(format!("{} {}", request.method(), request.uri().path()));
    let fault = told.borrow_and_update().clone();
    let refusal = |status, code| {
        let text = format!("<Error><Code>{code}</Code><Message>The test says so.</Message></Error>");
        let mut answer = Response::new(Body::from(text));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        Ok(answer)
    };
    match fault {
        S3Fault::Away => return Err(io::ErrorKind::ConnectionAborted.into()),
        S3Fault::Answer(status, code) => return refusal(status, code),
        S3Fault::AnswerTo(method, part, status, code)
            if request.method() == method && request.uri().path().contains(part) =>
        {
            return refusal(status, code);
        }
        S3Fault::Slow(time) => {
            let is_other = told.wait_for(|fault| *fault != S3Fault::Slow(time));
            drop(tokio::time::timeout(time, is_other).await);
        }
        S3Fault::AnswerTo(..) | S3Fault::None => {}
    }
    service.call(request.map(Body::from)).await.map_err(|error| io::Error::other(format!("{error:?}")))
}
