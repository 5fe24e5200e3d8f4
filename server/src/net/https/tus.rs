//! Uploads by tus 1.0: <https://tus.io/protocols/resumable-upload>, with the extensions creation, termination and checksum.
//! `Media/CreateMediaUpload` announces a file; its URL is both where tus creates the upload and the upload itself.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use ring::digest;
use tokio::time::{Instant, timeout};
use zim_protocol::ErrorCode;

use super::rate::Moved;
use super::{Refusal, Shared, SharedState};
use crate::media::{Appending, Writing};
use crate::service::media::File;

const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const LENGTH: HeaderName = HeaderName::from_static("upload-length");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
const VERSION: &str = "1.0.0";
/// A request that gets no bytes for this part of the time that it may gives way to a newer one.
const QUIET_DIVISOR: u32 = 10;

/// The status of tus for a checksum that differs.
pub(super) fn checksum_mismatch() -> StatusCode {
    StatusCode::from_u16(460).unwrap_or(StatusCode::BAD_REQUEST)
}

fn answer(status: StatusCode, headers: &[(HeaderName, String)]) -> Response {
    let mut response = status.into_response();
    let fixed = [(RESUMABLE, VERSION.to_owned()), (header::CACHE_CONTROL, "no-store".to_owned())];
    for (name, value) in fixed.iter().chain(headers) {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name.clone(), value);
        }
    }
    response
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, ErrorCode::CommonModuleParamsInvalid, message)
}

fn check_version(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get(RESUMABLE).is_some_and(|version| version == VERSION) {
        return Ok(());
    }
    let message = "the header Tus-Resumable must be 1.0.0";
    Err(Refusal::new(StatusCode::PRECONDITION_FAILED, ErrorCode::CommonModuleParamsInvalid, message))
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Refusal> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|value| value.parse().ok());
    value.ok_or_else(|| invalid(&format!("the header {name} must be a number")))
}

/// Returns what this server can do.
pub(super) async fn options(State(shared): SharedState) -> Response {
    let limits = &shared.app.config.limits;
    let most = limits.max_file_bytes.max(limits.max_video_bytes).max(limits.max_image_bytes);
    let name = HeaderName::from_static;
    answer(
        StatusCode::NO_CONTENT,
        &[
            (name("tus-version"), VERSION.to_owned()),
            (name("tus-extension"), "creation,termination,checksum".to_owned()),
            (name("tus-checksum-algorithm"), "sha1,sha256".to_owned()),
            (name("tus-max-size"), most.to_string()),
            (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PATCH, DELETE".to_owned()),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "content-type, tus-resumable, upload-checksum, upload-length, upload-metadata, upload-offset, range"
                    .to_owned(),
            ),
        ],
    )
}

/// Returns the upload, unless it was left for too long.
async fn upload(shared: &Shared, token: &str) -> Result<File, Refusal> {
    let file = shared.find(token, async || shared.app.upload(token).await).await?;
    let valid_ms = i64::from(shared.app.config.media.upload_valid_s) * 1_000;
    if !file.is_complete && file.created_at + valid_ms <= shared.app.clock.now_ms() {
        return Err(Refusal::new(
            StatusCode::GONE,
            ErrorCode::MessageModuleFileNotExist,
            "the upload was left for too long",
        ));
    }
    Ok(file)
}

async fn offset(shared: &Shared, file: &File) -> Result<u64, Refusal> {
    if file.is_complete {
        return Ok(file.size.unsigned_abs());
    }
    Ok(shared.app.files.received(file.id).await?)
}

/// Creates the upload, which was announced over the session: here its length must be the same.
pub(super) async fn create(
    State(shared): SharedState,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    check_version(&headers)?;
    let file = upload(&shared, &token).await?;
    if number(&headers, &LENGTH)? != file.size.unsigned_abs() {
        return Err(invalid("the header Upload-Length is not the size that was announced"));
    }
    let location = format!("{}/uploads/{}", file.base, file.token);
    Ok(answer(StatusCode::CREATED, &[(header::LOCATION, location)]))
}

/// Returns how much of the file has arrived.
pub(super) async fn head(
    State(shared): SharedState,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    check_version(&headers)?;
    let file = upload(&shared, &token).await?;
    let at = offset(&shared, &file).await?;
    Ok(answer(StatusCode::OK, &[(OFFSET, at.to_string()), (LENGTH, file.size.to_string())]))
}

/// Takes the right to write to an upload. A request for it that has got no bytes for `quiet` is ended.
async fn claim(shared: &Shared, token: &str, quiet: Duration) -> Result<(File, Writing), Refusal> {
    let id = upload(shared, token).await?.id;
    let writing = shared.app.files.write(id, quiet).await?.ok_or_else(locked)?;
    // Read again: the request before may have completed or ended it.
    match upload(shared, token).await {
        Ok(file) => Ok((file, writing)),
        Err(refusal) => {
            if refusal.status == StatusCode::NOT_FOUND {
                // It was ended meanwhile, and its file was made anew to lock it.
                shared.app.files.remove(id).await?;
            }
            Err(refusal)
        }
    }
}

fn locked() -> Refusal {
    let message = "another request goes on with this upload";
    Refusal::new(StatusCode::LOCKED, ErrorCode::MessageModuleFileHttpError, message)
}

/// Ends an upload that is not complete.
pub(super) async fn terminate(
    State(shared): SharedState,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    check_version(&headers)?;
    // Whoever writes to it stops.
    let (file, _writing) = claim(&shared, &token, Duration::ZERO).await?;
    if shared.app.end_upload(&file).await? {
        return Ok(answer(StatusCode::NO_CONTENT, &[]));
    }
    let message = "the upload is complete: revoke the messages that have the file";
    Err(Refusal::new(StatusCode::FORBIDDEN, ErrorCode::CommonModuleParamsInvalid, message))
}

/// Appends to the file. The last bytes complete it.
pub(super) async fn patch(
    State(shared): SharedState,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    check_version(&headers)?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/offset+octet-stream") {
        let message = "the content type must be application/offset+octet-stream";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, ErrorCode::CommonModuleParamsInvalid, message));
    }
    let checksum = Checksum::of(&headers)?;
    let at = number(&headers, &OFFSET)?;
    let (file, writing) = claim(&shared, &token, shared.least.stall / QUIET_DIVISOR).await?;
    // A connection that breaks off ends this function anywhere. The task goes on until the file is in a defined state, and
    // holds the right to write until then.
    let tasks = shared.tasks.clone();
    let written = tasks.spawn(async move {
        let written = write(&shared, &file, &writing, at, body, checksum).await;
        let has_completed =
            !file.is_complete && written.as_ref().is_ok_and(|reached| *reached == file.size.unsigned_abs());
        if shared.app.files.has_pieces()
            && !has_completed
            && let Err(refusal) = remove_leftovers(&shared, &file).await
        {
            tracing::warn!(?refusal, "the pieces of an upload that was ended or is complete may be left");
        }
        written
    });
    let reached = written.await.map_err(std::io::Error::other)??;
    Ok(answer(StatusCode::NO_CONTENT, &[(OFFSET, reached.to_string())]))
}

/// Removes what a request has left. The row of the upload may have been deleted meanwhile; or a request at another node has completed
/// it, and its pieces had been removed before this one put its last.
async fn remove_leftovers(shared: &Shared, file: &File) -> Result<(), Refusal> {
    match shared.app.upload(&file.token).await? {
        None => shared.app.files.remove(file.id).await?,
        Some(now) if now.is_complete => shared.app.files.remove_rest(file.id).await?,
        Some(_) => {}
    }
    Ok(())
}

/// Writes a body to a file from `at` on, and completes the upload if these are the last bytes. Returns how much of the file
/// has arrived.
async fn write(
    shared: &Shared,
    file: &File,
    writing: &Writing,
    at: u64,
    body: Body,
    mut checksum: Option<Checksum>,
) -> Result<u64, Refusal> {
    let size = file.size.unsigned_abs();
    let begin = if file.is_complete { size } else { writing.begin(at).await? };
    if at != begin {
        let message = format!("the header Upload-Offset is {at}, but {begin} bytes have arrived");
        return Err(Refusal::new(StatusCode::CONFLICT, ErrorCode::CommonModuleParamsInvalid, message));
    }
    let mut reached = begin;
    if begin < size {
        let written = write_body(shared, writing, (begin, size), body, &mut checksum).await;
        let is_valid = checksum.is_none_or(|checksum| written.is_ok() && checksum.matches());
        if !is_valid {
            // What cannot be checked does not count.
            writing.truncate(begin).await?;
        }
        reached = written?;
        if !is_valid {
            return Err(Refusal::new(
                checksum_mismatch(),
                ErrorCode::MessageModuleFileVerificationError,
                "the bytes do not have the checksum of the header Upload-Checksum",
            ));
        }
    }
    if reached == size && !file.is_complete {
        shared.app.complete_upload(file, writing).await?;
    }
    Ok(reached)
}

/// Writes a body to a file, and returns how much of the file has arrived then. What arrives before a failure stays, unless it is the
/// disk that fails.
async fn write_body(
    shared: &Shared,
    writing: &Writing,
    (begin, size): (u64, u64),
    body: Body,
    checksum: &mut Option<Checksum>,
) -> Result<u64, Refusal> {
    let mut pieces = body.into_data_stream();
    let mut appending = Appending::new(writing, begin, size);
    let mut moved = Moved::new(Instant::now());
    let ended = loop {
        let bytes = match next(shared, writing, &mut pieces).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => break Ok(()),
            Err(refusal) => break Err(refusal),
        };
        writing.moved();
        if !moved.note(bytes.len(), Instant::now(), shared.least) {
            let message = "the bytes come too slowly";
            break Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::MessageModuleFileHttpError, message));
        }
        if appending.reached() + bytes.len() as u64 > size {
            let message = "more bytes came than were announced";
            break Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::MessageModuleFileSizeInvalid, message));
        }
        if let Some(checksum) = checksum {
            checksum.context.update(&bytes);
        }
        let begun = Instant::now();
        appending.append(&bytes).await?;
        // While the disk is busy with other uploads, nothing is read from this client.
        moved.was_held_up(begun.elapsed());
    };
    let reached = appending.finish().await?;
    ended.map(|()| reached)
}

/// Returns the next bytes of a body.
async fn next(
    shared: &Shared,
    writing: &Writing,
    pieces: &mut axum::body::BodyDataStream,
) -> Result<Option<Bytes>, Refusal> {
    let refuse = |status, message: &str| Refusal::new(status, ErrorCode::MessageModuleFileHttpError, message);
    tokio::select! {
        next = timeout(shared.least.stall, pieces.next()) => match next {
            Ok(None) => Ok(None),
            Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
            Ok(Some(Err(_))) => Err(refuse(StatusCode::BAD_REQUEST, "the request ended before its time")),
            Err(_) => Err(refuse(StatusCode::REQUEST_TIMEOUT, "no bytes came for a while")),
        },
        () = writing.superseded() => Err(locked()),
        () = shared.stopping.cancelled() => {
            Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping; go on later"))
        }
    }
}

/// The checksum of a request, and that of its body.
struct Checksum {
    expected: Vec<u8>,
    context: digest::Context,
}

impl Checksum {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(CHECKSUM) else { return Ok(None) };
        let parsed = value.to_str().ok().and_then(|value| value.split_once(' '));
        let (name, expected) = parsed.ok_or_else(|| invalid("the header Upload-Checksum must be: ALGORITHM BASE64"))?;
        let algorithm = match name {
            "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            "sha256" => &digest::SHA256,
            _ => return Err(invalid("the algorithm of Upload-Checksum must be sha1 or sha256")),
        };
        let expected =
            base64(expected).ok_or_else(|| invalid("the header Upload-Checksum must be: ALGORITHM BASE64"))?;
        Ok(Some(Self { expected, context: digest::Context::new(algorithm) }))
    }

    fn matches(self) -> bool {
        self.context.finish().as_ref() == self.expected
    }
}

/// Decodes base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = ((bits << 6) | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("aGk=", b"hi"), ("Zm9v", b"foo"), ("+/+/", b"\xfb\xff\xbf")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes), "{text}");
        }
        for bad in ["Z", "Zg=", "Z===", "Zg==Zg==", "Z-8="] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_checksum_is_compared() {
        let headers = |value: &'static str| HeaderMap::from_iter([(CHECKSUM, HeaderValue::from_static(value))]);
        let check = |value, body: &[u8]| {
            let mut checksum = Checksum::of(&headers(value)).unwrap().unwrap();
            checksum.context.update(body);
            checksum.matches()
        };
        // The example of the specification.
        assert!(check("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", b"hello world"));
        assert!(!check("sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", b"hello World"));
        assert!(check("sha256 uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=", b"hello world"));
        assert!(Checksum::of(&headers("md5 XrY7u+Ae7tCTyyK7j1rNww==")).is_err());
        assert!(Checksum::of(&headers("sha1")).is_err());
        assert!(Checksum::of(&HeaderMap::new()).unwrap().is_none());
    }
}
