//! Downloads: whole files, ranges, and small versions of pictures. Whoever knows a URL can download the file.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use zim_protocol::MessageType;
use zim_protocol::media::MediaFormat;

use super::{Refusal, Shared, SharedState, body_of};
use crate::media::{Version, Versions};
use crate::service::media::File;

/// A file never changes.
const CACHE: &str = "private, max-age=31536000, immutable";

pub(super) async fn original(
    state: SharedState,
    method: Method,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    serve(state, &secret, Version::Original, (&method, &headers)).await
}

pub(super) async fn version(
    state: SharedState,
    method: Method,
    Path((secret, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = [Version::Large, Version::Thumbnail].into_iter().find(|known| known.name() == version);
    serve(state, &secret, version.ok_or_else(Refusal::not_found)?, (&method, &headers)).await
}

/// Tells a browser that a script may ask for a part of a file.
pub(super) async fn options() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "if-none-match, if-range, range"),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}

async fn serve(
    State(shared): SharedState,
    secret: &str,
    version: Version,
    (method, headers): (&Method, &HeaderMap),
) -> Result<Response, Refusal> {
    let file = shared.find(secret, async || shared.app.file(secret).await).await?;
    let tag = format!("\"{}{}\"", zim_protocol::id::hex(&file.hash), version.name());
    let mut answer = HeaderMap::new();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.insert(name, value);
        }
    };
    set(header::CONTENT_DISPOSITION, &disposition_of(&file));
    // A file is shown as nothing but what it is, and no script in it runs.
    set(header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox");
    set(header::CACHE_CONTROL, CACHE);
    set(header::ACCEPT_RANGES, "bytes");
    set(header::ETAG, &tag);
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| tags == "*" || tags.split(',').any(|one| one.trim() == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, answer).into_response());
    }
    // The URL of an object store is for one method.
    if method == Method::GET
        && let Some(moved) = redirect(&shared, &file, version).await?
    {
        return Ok(moved);
    }
    let content = shared.app.files.open_file(file.id, version).await?.ok_or_else(Refusal::not_found)?;
    let size = content.size();
    let media_type = match version {
        Version::Original => file.media_type.as_str(),
        _ => MediaFormat::detect(content.first()).map(MediaFormat::media_type).unwrap_or_default(),
    };
    set(header::CONTENT_TYPE, type_of(media_type));
    let is_same = text(header::IF_RANGE).is_none_or(|wanted| wanted == tag);
    let range = text(header::RANGE).filter(|_| is_same).map_or(Range::Whole, |range| Range::parse(range, size));
    let (status, bytes) = match range {
        Range::Whole => (StatusCode::OK, None),
        Range::Part(part) => (StatusCode::PARTIAL_CONTENT, Some(part)),
        Range::Outside => {
            let none = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, none).into_response());
        }
    };
    let (mut begin, mut length) = (0, size);
    if let Some(part) = bytes {
        (begin, length) = (*part.start(), part.end() - part.start() + 1);
        set(header::CONTENT_RANGE, &format!("bytes {}-{}/{size}", part.start(), part.end()));
    }
    set(header::CONTENT_LENGTH, &length.to_string());
    Ok((status, answer, body_of(content.stream(begin, length), shared.stopping)).into_response())
}

/// Returns a redirection to the object store, if the settings say so. The URL of the server stays the one to keep.
async fn redirect(shared: &Shared, file: &File, version: Version) -> Result<Option<Response>, Refusal> {
    let seconds = shared.app.config.media.redirect_s;
    if seconds == 0 {
        return Ok(None);
    }
    let Versions { large, thumbnail, .. } = file.versions;
    let is_there = match version {
        Version::Original => true,
        Version::Large => large.0 > 0,
        Version::Thumbnail => thumbnail.0 > 0,
    };
    if !is_there {
        return Err(Refusal::not_found());
    }
    let disposition = disposition_of(file);
    let mut headers = vec![("cache-control", CACHE), ("content-disposition", disposition.as_str())];
    // A small version was stored with its type.
    if version == Version::Original {
        headers.push(("content-type", type_of(&file.media_type)));
    }
    let valid = Duration::from_secs(seconds.into());
    let Some(url) = shared.app.files.url((file.id, version), &headers, valid).await? else { return Ok(None) };
    // Whoever follows it last still has half of the time.
    let cache = format!("private, max-age={}", seconds / 2);
    let headers = [(header::LOCATION, url), (header::CACHE_CONTROL, cache)];
    Ok(Some((StatusCode::TEMPORARY_REDIRECT, headers).into_response()))
}

fn type_of(media_type: &str) -> &str {
    if media_type.is_empty() { "application/octet-stream" } else { media_type }
}

fn disposition_of(file: &File) -> String {
    disposition(&file.name, file.kind == MessageType::File as i32)
}

/// Returns how a browser handles the file, and its name. Bytes beyond ASCII are escaped.
fn disposition(name: &str, is_file: bool) -> String {
    let kind = if is_file { "attachment" } else { "inline" };
    if name.is_empty() {
        return kind.to_owned();
    }
    let escaped: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect();
    format!("{kind}; filename*=UTF-8''{escaped}")
}

/// What a request wants of a file.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// All of it. Several ranges, and what cannot be read, are answered with all of it, as HTTP allows.
    Whole,
    /// These bytes.
    Part(RangeInclusive<u64>),
    /// Bytes that it does not have.
    Outside,
}

impl Range {
    fn parse(text: &str, size: u64) -> Self {
        let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Whole;
        };
        match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(first), _) if first >= size && (last.is_empty() || last.parse::<u64>().is_ok()) => Self::Outside,
            (Ok(first), Ok(last)) if first <= last => Self::Part(first..=last.min(size - 1)),
            (Ok(first), Err(_)) if last.is_empty() => Self::Part(first..=size - 1),
            // The last bytes.
            (Err(_), Ok(0)) if first.is_empty() => Self::Outside,
            (Err(_), Ok(count)) if first.is_empty() && size > 0 => Self::Part(size.saturating_sub(count)..=size - 1),
            _ => Self::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read() {
        for (text, expected) in [
            ("bytes=0-0", Range::Part(0..=0)),
            ("bytes=2-5", Range::Part(2..=5)),
            ("bytes=2-", Range::Part(2..=9)),
            ("bytes=2-99", Range::Part(2..=9)),
            ("bytes=-3", Range::Part(7..=9)),
            ("bytes=-99", Range::Part(0..=9)),
            ("bytes=-0", Range::Outside),
            ("bytes=10-", Range::Outside),
            ("bytes=10-20", Range::Outside),
            ("bytes=5-2", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("bytes=-", Range::Whole),
            ("lines=1-2", Range::Whole),
        ] {
            assert_eq!(Range::parse(text, 10), expected, "{text}");
        }
    }

    #[test]
    fn a_name_is_escaped() {
        assert_eq!(disposition("cat.jpg", false), "inline; filename*=UTF-8''cat.jpg");
        assert_eq!(disposition("a \"ü\".pdf", true), "attachment; filename*=UTF-8''a%20%22%C3%BC%22.pdf");
        assert_eq!(disposition("", true), "attachment");
    }
}
