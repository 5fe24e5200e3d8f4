//! Failures of an object store: what they mean, in a text without addresses and credentials.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};

use object_store::Error;

/// Returns a failure as one of a file. It is `NotFound` only if the object is missing, and `NotConnected` if the same request may
/// succeed later.
pub(super) fn of(error: Error) -> io::Error {
    let full = error.to_string();
    let (code, status) = (between(&full, "<Code>", "</Code>"), between(&full, "status code: ", ":"));
    let text = match (code, status) {
        (Some(code), _) => {
            let message = between(&full, "<Message>", "</Message>").unwrap_or_default();
            format!("the object store answers {code}: {message}")
        }
        (None, Some(status)) => format!("the object store answers with HTTP {status}"),
        (None, None) => format!("the object store cannot be reached: {}", innermost(&error)),
    };
    io::Error::new(kind(&error, code.unwrap_or_default(), status.unwrap_or_default()), text)
}

fn kind(error: &Error, code: &str, status: &str) -> ErrorKind {
    let is_denied = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. });
    match error {
        _ if code == "NoSuchBucket" => ErrorKind::Other,
        Error::NotFound { .. } => ErrorKind::NotFound,
        // As Ceph, MinIO and others call it.
        _ if code.contains("QuotaExceeded") || code.contains("StorageFull") || status.starts_with("507") => {
            ErrorKind::QuotaExceeded
        }
        _ if is_denied || status.starts_with("401") || status.starts_with("403") => ErrorKind::PermissionDenied,
        // The request itself is wrong: the region, for example.
        _ if status.starts_with("400") || status.starts_with("301") => ErrorKind::Other,
        _ => ErrorKind::NotConnected,
    }
}

fn between<'t>(text: &'t str, begin: &str, end: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(begin)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// Returns the innermost error, which says why. The others repeat addresses.
fn innermost(error: &Error) -> String {
    let mut inner: &dyn StdError = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn a_failure_is_told_without_what_is_secret() {
        let body = |status: &str, code: &str| {
            format!(
                "Error performing GET http://h/b?list-type=2 in 1ms - Server returned non-2xx status code: {status}: \
                 <Error><Code>{code}</Code><Message>It says why.</Message><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>"
            )
        };
        for (status, code, expected) in [
            ("403 Forbidden", "SignatureDoesNotMatch", ErrorKind::PermissionDenied),
            ("404 Not Found", "NoSuchBucket", ErrorKind::Other),
            ("507 Insufficient Storage", "XMinioStorageFull", ErrorKind::QuotaExceeded),
            ("403 Forbidden", "QuotaExceeded", ErrorKind::QuotaExceeded),
            ("400 Bad Request", "AuthorizationHeaderMalformed", ErrorKind::Other),
            ("503 Service Unavailable", "SlowDown", ErrorKind::NotConnected),
        ] {
            let failure = of(generic(&body(status, code)));
            assert_eq!(failure.kind(), expected, "{code}");
            assert_eq!(failure.to_string(), format!("the object store answers {code}: It says why."));
        }
        let missing = Error::NotFound { path: "a".to_owned(), source: body("404 Not Found", "NoSuchKey").into() };
        assert_eq!(of(missing).kind(), ErrorKind::NotFound);
        let bucket = Error::NotFound { path: "a".to_owned(), source: body("404 Not Found", "NoSuchBucket").into() };
        assert_eq!(of(bucket).kind(), ErrorKind::Other);
        let refused = of(generic("connection refused"));
        assert_eq!(refused.kind(), ErrorKind::NotConnected);
        assert_eq!(refused.to_string(), "the object store cannot be reached: connection refused");
        let silent = of(generic("Server returned non-2xx status code: 502 Bad Gateway: <html>"));
        assert_eq!(silent.to_string(), "the object store answers with HTTP 502 Bad Gateway");
    }
}
