//! Uploads by tus 1.0, and downloads with ranges.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::{Body, Client, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::{OwnedMutexGuard, Semaphore};
use zim_protocol::ErrorCode;

use super::file::LocalFile;
use crate::error::Error;

/// Files that are uploaded at the same time.
const UPLOADS: usize = 4;
/// Bytes that are read from a file at once.
const PIECE: usize = 64 << 10;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer, or a part of one, may take. A server that checks a large file or unpacks a picture takes seconds.
const STALL: Duration = Duration::from_secs(60);
/// The most bytes of a file that is elsewhere, as the reference has it.
const MAX_DOWNLOAD: u64 = 200 << 20;

/// Makes the TLS settings, when they are needed first.
type Tls = Box<dyn Fn() -> Result<rustls::ClientConfig, Error> + Send + Sync>;

/// The HTTPS client of an account.
pub(crate) struct Http {
    tls: Tls,
    /// The host by which this client knows the server.
    pub(crate) host: String,
    client: OnceLock<Client>,
    pub(crate) uploads: Arc<Semaphore>,
    /// The files that are being downloaded: nobody else writes to them.
    downloads: Mutex<HashMap<PathBuf, Weak<tokio::sync::Mutex<()>>>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Why an upload stopped, and what helps.
#[derive(Debug)]
pub(crate) enum Failed {
    /// Going on later may help.
    Later(Error),
    /// The server has other bytes: the upload begins again.
    Restart(Error),
    /// Nothing helps.
    Finally(Error),
}

/// What is wanted of a download.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    /// Where the file will be.
    pub(crate) to: &'a Path,
}

/// A file that was downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Download {
    pub(crate) size: u64,
}

/// Called with the number of bytes that have been moved.
pub(crate) type OnBytes = Arc<dyn Fn(u64) + Send + Sync>;

impl Http {
    pub(crate) fn new(
        host: String,
        tls: impl Fn() -> Result<rustls::ClientConfig, Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let uploads = Arc::new(Semaphore::new(UPLOADS));
        Arc::new(Self { tls: Box::new(tls), host, client: OnceLock::new(), uploads, downloads: Mutex::default() })
    }

    /// Waits until nobody else downloads to this path.
    pub(crate) async fn turn(&self, path: &Path) -> OwnedMutexGuard<()> {
        let turn = {
            let mut downloads = self.downloads.lock();
            downloads.retain(|_, turn| turn.strong_count() > 0);
            let known = downloads.get(path).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                downloads.insert(path.to_owned(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }

    fn client(&self) -> Result<&Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // A session that reaches its server directly does not need a proxy for its files.
        let builder = Client::builder().tls_backend_preconfigured((self.tls)()?).no_proxy();
        let client = builder.connect_timeout(CONNECT).read_timeout(STALL).build().map_err(|error| {
            let message = "the HTTPS client cannot be made";
            Error::new(ErrorCode::MessageModuleFileClientError, message).with_source(error)
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Uploads the rest of a file to where `CreateMediaUpload` says. `on_bytes` gets how much the server has, or will have
    /// soon.
    pub(crate) async fn upload(&self, url: &str, file: &LocalFile, on_bytes: OnBytes) -> Result<(), Failed> {
        let client = self.client().map_err(Failed::Finally)?;
        let head = client.head(url).header("tus-resumable", "1.0.0").send().await.map_err(not_reached)?;
        if !head.status().is_success() {
            return Err(refused(head).await);
        }
        let offset = number(head.headers(), "upload-offset").filter(|offset| *offset <= file.size);
        let Some(offset) = offset else {
            let message = "the server's answer to an upload is not valid";
            return Err(Failed::Finally(Error::new(ErrorCode::MessageModuleFileHttpError, message)));
        };
        on_bytes(offset);
        // If all bytes are there, this completes the upload.
        let body = body_of(file.path.clone(), offset, file.size, on_bytes);
        let sent = client
            .patch(url)
            .header("tus-resumable", "1.0.0")
            .header("upload-offset", offset)
            .header(CONTENT_TYPE, "application/offset+octet-stream")
            .header(CONTENT_LENGTH, file.size - offset)
            .body(body)
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                // The file may be gone, or shorter than it was.
                let failed = tokio::fs::metadata(&file.path).await.err();
                return Err(failed.map_or_else(
                    || not_reached(error),
                    |failed| Failed::Finally(super::file::unusable(&file.path, failed)),
                ));
            }
        };
        if answer.status() == StatusCode::NO_CONTENT {
            let reached = number(answer.headers(), "upload-offset");
            return if reached == Some(file.size) { Ok(()) } else { Err(Failed::Later(incomplete())) };
        }
        Err(refused(answer).await)
    }

    /// Ends an upload, so that the server need not keep what it has. It forgets it after a day in any case.
    pub(crate) async fn end_upload(&self, url: &str) {
        let Ok(client) = self.client() else { return };
        if let Err(error) = client.delete(url).header("tus-resumable", "1.0.0").send().await {
            tracing::debug!(%error, "an upload could not be ended");
        }
    }

    /// Downloads a file, or the rest of it if a part is there already.
    ///
    /// # Errors
    /// 6000217: the download failed. 6000218: the file is too large. 6000220: the server fails.
    pub(crate) async fn download(
        &self,
        wanted: Wanted<'_>,
        on_bytes: impl Fn(u64, u64) + Send,
    ) -> Result<Download, Error> {
        let client = self.client()?;
        let (part, tag_file) = (beside(wanted.to, "part"), beside(wanted.to, "tag"));
        let known = tokio::fs::metadata(&part).await.map_or(0, |found| found.len());
        let tag = tokio::fs::read_to_string(&tag_file).await.unwrap_or_default();
        let mut request = client.get(wanted.url);
        if known > 0 && !tag.is_empty() {
            request = request.header(RANGE, format!("bytes={known}-")).header(IF_RANGE, &tag);
        }
        let answer = request.send().await.map_err(|error| download_failed("cannot be reached").with_source(error))?;
        let total = |answer: &Response, begin: u64| {
            let of_range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.rsplit_once('/'));
            let of_range = of_range.and_then(|(_, size)| size.parse::<u64>().ok());
            of_range.or_else(|| answer.content_length().map(|length| begin + length)).unwrap_or(0)
        };
        let begin = match answer.status() {
            StatusCode::PARTIAL_CONTENT => known,
            StatusCode::OK => 0,
            // The part is the whole file, or of another one.
            StatusCode::RANGE_NOT_SATISFIABLE => {
                drop(tokio::fs::remove_file(&part).await);
                return Err(download_failed("has another size; try again"));
            }
            status if status.is_server_error() => {
                let message = format!("the server of the file answers with HTTP {}", status.as_u16());
                return Err(Error::new(ErrorCode::MessageModuleFileDownloadHttpRequestServerError, message));
            }
            status => return Err(download_failed(&format!("is not given: HTTP {}", status.as_u16()))),
        };
        let size = total(&answer, begin);
        check_size(size)?;
        store_tag(&tag_file, answer.headers()).await;
        let received = receive(answer, &part, (begin, size), on_bytes).await?;
        if size > 0 && received != size {
            return Err(download_failed("ended before its time; try again"));
        }
        let stored = async {
            drop(tokio::fs::remove_file(&tag_file).await);
            tokio::fs::rename(&part, wanted.to).await
        };
        stored.await.map_err(|error| cannot_store(wanted.to, error))?;
        Ok(Download { size: received })
    }
}

fn check_size(size: u64) -> Result<(), Error> {
    if size <= MAX_DOWNLOAD {
        return Ok(());
    }
    let message = format!("the file has {size} bytes; at most {MAX_DOWNLOAD} can be downloaded");
    Err(Error::new(ErrorCode::MessageModuleFileDownloadLimit, message))
}

/// Appends the body of an answer to a file; returns how long the file is then. What arrived before a failure stays.
async fn receive(
    answer: Response,
    part: &Path,
    (begin, size): (u64, u64),
    on_bytes: impl Fn(u64, u64),
) -> Result<u64, Error> {
    let cannot = |error| cannot_store(part, error);
    let path = part.to_owned();
    // Only the user can read what they download.
    let opened = tokio::task::spawn_blocking(move || {
        zim_files::open(&path, std::fs::OpenOptions::new().write(true).create(true).truncate(false))
    });
    let mut out = tokio::fs::File::from_std(opened.await.map_err(io::Error::other).flatten().map_err(cannot)?);
    out.set_len(begin).await.map_err(cannot)?;
    out.seek(SeekFrom::Start(begin)).await.map_err(cannot)?;
    let (mut reached, mut body) = (begin, answer.bytes_stream());
    while let Some(piece) = body.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                out.flush().await.map_err(cannot)?;
                return Err(download_failed("broke off; try again").with_source(error));
            }
        };
        reached += piece.len() as u64;
        check_size(reached)?;
        out.write_all(&piece).await.map_err(cannot)?;
        on_bytes(reached, size.max(reached));
    }
    out.flush().await.map_err(cannot)?;
    Ok(reached)
}

/// Keeps the tag of a file, so that a download can go on later. Without one it begins again.
async fn store_tag(file: &Path, headers: &HeaderMap) {
    let tag = headers.get(ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| !tag.starts_with("W/"));
    let stored = match tag {
        Some(tag) => tokio::fs::write(file, tag).await,
        None => tokio::fs::remove_file(file).await,
    };
    if let Err(error) = stored {
        tracing::debug!(%error, "a download could not be continued after a break");
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

fn cannot_store(path: &Path, error: io::Error) -> Error {
    let message = format!("the download cannot be stored as {}", path.display());
    Error::new(ErrorCode::MessageModuleFileDownloadFailed, message).with_source(error)
}

fn download_failed(what: &str) -> Error {
    Error::new(ErrorCode::MessageModuleFileDownloadFailed, format!("the file {what}"))
}

fn incomplete() -> Error {
    Error::new(ErrorCode::MessageModuleFileHttpError, "the upload was not complete")
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// The server could not be reached, or the connection broke off.
fn not_reached(error: reqwest::Error) -> Failed {
    let message = if error.is_connect() {
        "the server's HTTPS port cannot be reached: check that it is open for TCP"
    } else {
        "the connection for the file broke off"
    };
    Failed::Later(Error::new(ErrorCode::MessageModuleFileConnectError, message).with_source(error))
}

/// The server refused a request of an upload.
async fn refused(answer: Response) -> Failed {
    let status = answer.status();
    let code = number(answer.headers(), "zim-error-code").and_then(|code| i32::try_from(code).ok());
    let code = code.and_then(|code| ErrorCode::try_from(code).ok());
    let text = answer.text().await.unwrap_or_default();
    let message = match text.trim() {
        "" => format!("the server refuses the file: HTTP {}", status.as_u16()),
        text => text.chars().take(200).collect(),
    };
    let error = |code| Error::new(code, message.clone());
    match status.as_u16() {
        460 => Failed::Restart(error(ErrorCode::MessageModuleFileVerificationError)),
        // The upload is another one now, or is in use.
        404 | 409 | 410 | 423 => Failed::Restart(error(ErrorCode::MessageModuleFileHttpError)),
        408 | 429 | 503 => Failed::Later(error(ErrorCode::MessageModuleFileServerError)),
        500.. => Failed::Finally(error(ErrorCode::MessageModuleFileServerError)),
        _ => Failed::Finally(error(code.unwrap_or(ErrorCode::MessageModuleFileHttpError))),
    }
}

/// Returns a body that reads a file from `offset` to `size`.
fn body_of(path: PathBuf, offset: u64, size: u64, on_bytes: OnBytes) -> Body {
    struct State {
        path: PathBuf,
        file: Option<tokio::fs::File>,
        at: u64,
        size: u64,
        on_bytes: OnBytes,
    }
    let next = async |mut state: State| -> io::Result<Option<(Bytes, State)>> {
        if state.at >= state.size {
            return Ok(None);
        }
        let file = match &mut state.file {
            Some(file) => file,
            None => {
                let mut file = tokio::fs::File::open(&state.path).await?;
                file.seek(SeekFrom::Start(state.at)).await?;
                state.file.insert(file)
            }
        };
        let left = usize::try_from(state.size - state.at).unwrap_or(usize::MAX);
        let mut piece = vec![0; left.min(PIECE)];
        let read = file.read(&mut piece).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        state.at += read as u64;
        (state.on_bytes)(state.at);
        Ok(Some((piece.into(), state)))
    };
    Body::wrap_stream(stream::try_unfold(State { path, file: None, at: offset, size, on_bytes }, next))
}
