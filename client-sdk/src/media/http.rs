//! Uploads by tus 1.0, and downloads with ranges.
//!
//! Whoever has the address of a file has the file, or may write to it: errors, which apps log, are without it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, IF_RANGE, RANGE};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Body, Client, Response, StatusCode, Url};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use zim_protocol::{ErrorCode, MessageType};

use super::fenced::Fenced;
use super::file::LocalFile;
use super::first::First;
use super::turns::{Turn, Turns};
use crate::error::Error;
use crate::host::Host;

/// Files that are uploaded at the same time.
const UPLOADS: usize = 4;
/// Bytes of an upload that are read from a file at once. Each piece takes a turn on another thread, while the one before is sent.
const PIECE: usize = 128 << 10;
/// Bytes of a download that are collected before they are written. TLS gives at most 16 KB at once, and each write takes a turn on
/// another thread. A client that is killed loses them.
const COLLECTED: usize = 128 << 10;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer, or a part of one, may take. A server that checks a large file or unpacks a picture takes seconds.
const STALL: Duration = Duration::from_secs(60);
/// The most bytes of a file that is elsewhere, as the reference has it.
const MAX_DOWNLOAD: u64 = 200 << 20;
/// The most redirections of a download.
const REDIRECTIONS: usize = 5;

/// The files that are being downloaded: nobody else writes to them. All clients of the process may share a folder.
static DOWNLOADS: LazyLock<Turns<PathBuf>> = LazyLock::new(Turns::default);

/// Makes the TLS settings, when they are needed first.
type Tls = Box<dyn Fn() -> Result<rustls::ClientConfig, Error> + Send + Sync>;

/// The HTTPS client of an account.
pub(crate) struct Http {
    tls: Tls,
    /// The host by which this client knows the server.
    pub(crate) host: String,
    fenced: Fenced,
    client: OnceLock<Client>,
    pub(crate) uploads: Arc<Semaphore>,
    /// Uploads give way to the messages of the account.
    pub(crate) first: First,
    /// The files that are being uploaded, by SHA-256 and type: the server has one upload for all messages with a file.
    uploading: Turns<([u8; 32], MessageType)>,
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
    /// The server got other bytes: the upload begins again.
    Restart(Error),
    /// Nothing helps.
    Finally(Error),
}

/// Waits until nobody else in this process downloads to this path, whose folder exists.
pub(crate) async fn downloading(path: &Path) -> Turn {
    // Clients may know the folder by different names.
    let folder = path.parent().unwrap_or(path);
    let folder = tokio::fs::canonicalize(folder).await.unwrap_or_else(|_| folder.to_owned());
    DOWNLOADS.take(folder.join(path.file_name().unwrap_or_default())).await
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
        forbidden: Vec<Host>,
        tls: impl Fn() -> Result<rustls::ClientConfig, Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let uploads = Arc::new(Semaphore::new(UPLOADS));
        Arc::new(Self {
            tls: Box::new(tls),
            fenced: Fenced::new(&host, forbidden),
            host,
            client: OnceLock::new(),
            uploads,
            first: First::default(),
            uploading: Turns::default(),
        })
    }

    /// Reads a file that a message of this type is to have.
    ///
    /// # Errors
    /// The file cannot be sent: see [`LocalFile::read`].
    pub(crate) async fn read(&self, path: String, kind: MessageType) -> Result<LocalFile, Error> {
        LocalFile::read(path, kind, &self.first).await
    }

    /// Waits until no other message has this file uploaded.
    pub(crate) async fn uploading(&self, file: &LocalFile, kind: MessageType) -> Turn {
        self.uploading.take((file.sha256, kind)).await
    }

    fn client(&self) -> Result<&Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        // A session that reaches its server directly does not need a proxy for its files.
        let builder = Client::builder().tls_backend_preconfigured((self.tls)()?).no_proxy();
        let builder = match self.fenced.resolver() {
            Some(resolver) => builder.dns_resolver(resolver),
            None => builder,
        };
        let fenced = self.fenced.clone();
        let redirect = Policy::custom(move |attempt| match attempt.url().host_str() {
            Some(host) if fenced.forbids(host) => attempt.error("a server in an area that the app may not use"),
            _ => follow(attempt),
        });
        let builder = builder.connect_timeout(CONNECT).read_timeout(STALL).redirect(redirect);
        let client = builder.build().map_err(|error| {
            let message = "the HTTPS client cannot be made";
            Error::new(ErrorCode::MessageModuleFileClientError, message).with_source(error)
        })?;
        Ok(self.client.get_or_init(|| client))
    }

    fn is_forbidden(&self, url: &Url) -> bool {
        url.host_str().is_some_and(|host| self.fenced.forbids(host))
    }

    /// Uploads the rest of a file to where `CreateMediaUpload` says. `on_bytes` gets how much the server has, or will have
    /// soon.
    pub(crate) async fn upload(&self, url: &str, file: &LocalFile, on_bytes: OnBytes) -> Result<(), Failed> {
        let client = self.client().map_err(Failed::Finally)?;
        if Url::parse(url).is_ok_and(|url| self.is_forbidden(&url)) {
            let message = "the server wants the file in an area that the app may not use";
            return Err(Failed::Finally(Error::new(ErrorCode::MessageModuleFileHttpError, message)));
        }
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
        let body = body_of(file.path.clone(), (offset, file.size), self.first.clone(), on_bytes);
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
                let found = tokio::fs::metadata(&file.path).await;
                let is_unchanged = file.is_unchanged().await;
                return Err(match found {
                    Err(gone) => Failed::Finally(super::file::unusable(&file.path, gone)),
                    Ok(_) if is_unchanged => not_reached(error),
                    Ok(_) => Failed::Finally(super::file::changed(&file.path)),
                });
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
            tracing::debug!(error = %error.without_url(), "an upload could not be ended");
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
        let url = Url::parse(wanted.url).map_err(|error| download_failed("has no valid URL").with_source(error))?;
        if self.is_forbidden(&url) {
            return Err(download_failed("is in an area that the app may not use"));
        }
        let (part, tag_file) = (beside(wanted.to, "part"), beside(wanted.to, "tag"));
        let known = tokio::fs::metadata(&part).await.map_or(0, |found| found.len());
        let tag = tokio::fs::read_to_string(&tag_file).await.unwrap_or_default();
        let mut request = client.get(wanted.url);
        if known > 0 && !tag.is_empty() {
            request = request.header(RANGE, format!("bytes={known}-")).header(IF_RANGE, &tag);
        }
        let answer = request.send().await;
        let answer = answer.map_err(|error| download_failed("cannot be reached").with_source(error.without_url()))?;
        let total = |answer: &Response, begin: u64| {
            let of_range = answer.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()?.rsplit_once('/'));
            let of_range = of_range.and_then(|(_, size)| size.parse::<u64>().ok());
            of_range.or_else(|| answer.content_length().map(|length| begin + length)).unwrap_or(0)
        };
        let begin = match answer.status() {
            StatusCode::PARTIAL_CONTENT if first_byte(&answer) == Some(known) => known,
            StatusCode::PARTIAL_CONTENT => {
                drop(tokio::fs::remove_file(&part).await);
                return Err(download_failed("comes from another place than was asked for; try again"));
            }
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
    let mut out = BufWriter::with_capacity(COLLECTED, out);
    let (mut reached, mut body) = (begin, answer.bytes_stream());
    while let Some(piece) = body.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                out.flush().await.map_err(cannot)?;
                return Err(download_failed("broke off; try again").with_source(error.without_url()));
            }
        };
        reached += piece.len() as u64;
        check_size(reached)?;
        out.write_all(&piece).await.map_err(cannot)?;
        on_bytes(reached, size.max(reached));
    }
    out.flush().await.map_err(cannot)?;
    // After a power failure, the file must not be there without its bytes.
    out.get_ref().sync_all().await.map_err(cannot)?;
    Ok(reached)
}

/// Returns where in the file the bytes of an answer begin.
fn first_byte(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Follows a redirection of a download. A server may not lead from HTTPS to HTTP, and with HTTP to no other host.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if attempt.previous().len() > REDIRECTIONS {
        return attempt.error("too many redirections");
    }
    let (to, from) = (attempt.url(), attempt.previous().last());
    let is_same_host = from.is_some_and(|from| from.scheme() == "http" && from.host() == to.host());
    if to.scheme() == "https" || (to.scheme() == "http" && is_same_host) {
        return attempt.follow();
    }
    attempt.error("a redirection to another host without HTTPS")
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
    Failed::Later(Error::new(ErrorCode::MessageModuleFileConnectError, message).with_source(error.without_url()))
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
        // The upload was ended, has got bytes, or is in use, by another device: it is announced again.
        404 | 409 | 410 | 423 => Failed::Later(error(ErrorCode::MessageModuleFileHttpError)),
        408 | 429 | 503 => Failed::Later(error(ErrorCode::MessageModuleFileServerError)),
        // Not the server, but what stands before it, for example while the server starts again.
        500.. if code.is_none() => Failed::Later(error(ErrorCode::MessageModuleFileServerError)),
        500.. => Failed::Finally(error(ErrorCode::MessageModuleFileServerError)),
        _ => Failed::Finally(error(code.unwrap_or(ErrorCode::MessageModuleFileHttpError))),
    }
}

/// Returns a body that reads a file from `offset` to `size`. A piece is read while the one before is sent.
fn body_of(path: PathBuf, (offset, size): (u64, u64), first: First, on_bytes: OnBytes) -> Body {
    type Read = io::Result<(Vec<u8>, File)>;
    struct State {
        path: PathBuf,
        ahead: Option<JoinHandle<Read>>,
        at: u64,
    }
    let next = move |mut state: State| {
        let (first, on_bytes) = (first.clone(), Arc::clone(&on_bytes));
        async move {
            if state.at >= size {
                return Ok(None);
            }
            let reading = state.ahead.take().unwrap_or_else(|| {
                let (path, at) = (state.path.clone(), state.at);
                spawn_blocking(move || {
                    let mut file = File::open(path)?;
                    file.seek(SeekFrom::Start(at))?;
                    read_piece(file, size - at)
                })
            });
            let (piece, file) = reading.await.map_err(io::Error::other)??;
            if piece.is_empty() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            state.at += piece.len() as u64;
            let left = size.saturating_sub(state.at);
            if left > 0 {
                state.ahead = Some(spawn_blocking(move || read_piece(file, left)));
            }
            first.give_way().await;
            on_bytes(state.at);
            Ok(Some((Bytes::from(piece), state)))
        }
    };
    Body::wrap_stream(stream::try_unfold(State { path, ahead: None, at: offset }, next))
}

/// Reads the next bytes of a file, which is to have `left` more of them.
fn read_piece(file: File, left: u64) -> io::Result<(Vec<u8>, File)> {
    let length = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
    let mut piece = Vec::with_capacity(length);
    (&file).take(length as u64).read_to_end(&mut piece)?;
    Ok((piece, file))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that starts again is behind a proxy that says so with a code of its own.
    #[tokio::test]
    async fn an_upload_goes_on_after_what_a_proxy_says() {
        let port = serve(|path| {
            let own = "zim-error-code: 6000212\r\n";
            let (status, header) = match path {
                "/502" => ("502 Bad Gateway", ""),
                "/504" => ("504 Gateway Timeout", ""),
                _ => ("500 Internal Server Error", own),
            };
            Some(format!("{status}\r\n{header}Content-Length: 0\r\n\r\n"))
        })
        .await;
        for (path, is_later) in [("502", true), ("504", true), ("500", false)] {
            let http = http();
            let url = format!("http://127.0.0.1:{port}/{path}");
            let answer = http.client().unwrap().get(url).send().await.unwrap();
            assert_eq!(matches!(refused(answer).await, Failed::Later(_)), is_later, "{path}");
        }
    }

    /// Answers each request with what is given for its path, and 404 to others.
    async fn serve(answers: impl Fn(&str) -> Option<String> + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut request, mut piece) = (Vec::new(), [0; 1_024]);
                while !request.ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut piece).await.unwrap();
                    request.extend_from_slice(&piece[..read]);
                }
                let request = String::from_utf8(request).unwrap();
                let path = request.split(' ').nth(1).unwrap();
                let answer = answers(path).unwrap_or_else(|| "404 Not Found\r\n\r\n".to_owned());
                let answer = format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nConnection: close\r\n", 1));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        port
    }

    fn http() -> Arc<Http> {
        Http::new("localhost".to_owned(), Vec::new(), || {
            crate::net::https_config(&crate::config::Trust::Fingerprint([0; 32]), "localhost".to_owned())
        })
    }

    async fn download(port: u16, path: &str, to: &Path) -> Result<Vec<u8>, Error> {
        let http = http();
        let url = format!("http://127.0.0.1:{port}{path}");
        http.download(Wanted { url: &url, to }, |_, _| {}).await?;
        Ok(std::fs::read(to).unwrap())
    }

    const FILE: &str = "200 OK\r\nContent-Length: 4\r\n\r\nfile";

    fn moved(to: &str) -> String {
        format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
    }

    #[tokio::test]
    async fn a_download_follows_few_redirections_on_the_same_host() {
        let port = serve(|path| match path.strip_prefix("/hop/") {
            Some("0") => Some(FILE.to_owned()),
            Some(left) => Some(moved(&format!("/hop/{}", left.parse::<u32>().unwrap() - 1))),
            None => (path == "/away").then(|| moved("http://localhost/")),
        })
        .await;
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("file");
        assert_eq!(download(port, "/hop/5", &to).await.unwrap(), b"file");
        for refused in ["/hop/6", "/away"] {
            let error = download(port, refused, &to).await.unwrap_err();
            let cause = format!("{:?}", std::error::Error::source(&error));
            assert!(cause.contains("redirection"), "{refused}: {cause}");
        }
    }

    /// Returns what an app logs of an error, whichever way.
    fn logged(error: &Error) -> String {
        let (mut text, mut source) = (format!("{error:?} {error}"), std::error::Error::source(error));
        while let Some(cause) = source {
            text.push_str(&format!(" {cause:?} {cause}"));
            source = cause.source();
        }
        text
    }

    #[tokio::test]
    async fn no_error_has_the_address_of_a_file() {
        let port = serve(|path| (path == "/hidden").then(|| "200 OK\r\nContent-Length: 9\r\n\r\ncut".to_owned())).await;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let (to, from) = (dir.path().join("to"), dir.path().join("from"));
        std::fs::write(&from, "file").unwrap();
        let file = http().read(from.to_string_lossy().into_owned(), MessageType::File).await.unwrap();
        let Err(Failed::Later(upload)) =
            http().upload(&format!("http://127.0.0.1:{nobody}/hidden"), &file, Arc::new(|_| {})).await
        else {
            panic!("nobody is there");
        };
        let errors = [
            download(port, "/hidden", &to).await.unwrap_err(),
            download(nobody, "/hidden", &to).await.unwrap_err(),
            upload,
        ];
        for error in errors {
            assert!(std::error::Error::source(&error).is_some(), "{error:?}");
            assert!(!logged(&error).contains("hidden"), "{}", logged(&error));
        }
    }

    #[tokio::test]
    async fn a_download_goes_on_only_where_it_was() {
        let answer = |begin: u64| format!("206 Partial Content\r\nContent-Range: bytes {begin}-4/5\r\n\r\nrest");
        let port = serve(move |path| Some(answer(path.trim_start_matches('/').parse().unwrap()))).await;
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("file");
        let (part, tag) = (beside(&to, "part"), beside(&to, "tag"));
        for (begin, expected) in [(0, None), (2, None), (1, Some(b"crest".to_vec()))] {
            std::fs::write(&part, "c").unwrap();
            std::fs::write(&tag, "\"tag\"").unwrap();
            assert_eq!(download(port, &format!("/{begin}"), &to).await.ok(), expected, "{begin}");
            assert!(!part.exists(), "what does not fit is not kept");
        }
    }
}
