//! The HTTPS client of a push service.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::address::PublicOnly;
use super::{Answer, Meaning};
use crate::web_client;

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;
/// The longest wait that a push service can ask for, seconds.
const MAX_WAIT_S: i64 = 24 * 3_600;

/// Makes a client. It trusts these PEM certificates instead of the system's, if there are any. It follows no redirection: nobody but the
/// push service gets tokens.
///
/// # Errors
/// The certificates are not valid, or the system has none; the text says so.
pub(super) fn client(ca: &str, timeout: Duration, is_public_only: bool) -> Result<Client, String> {
    let mut roots = if ca.is_empty() { web_client::system_roots() } else { RootCertStore::empty() };
    if !ca.is_empty() {
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("ca is not PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("ca is not a certificate: {error}"))?;
        }
        if roots.is_empty() {
            return Err("ca contains no certificate".to_owned());
        }
    }
    let mut builder = web_client::builder(roots, &["h2", "http/1.1"])?.timeout(timeout);
    if is_public_only {
        builder = builder.dns_resolver(PublicOnly);
    }
    builder.build().map_err(|error| error.to_string())
}

/// An answer of a push service.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// Sends a request and reads the answer. Once the status is there it counts, even if the rest never comes: the push service has done
/// what it says.
///
/// # Errors
/// There is none; the push may be tried again.
pub(super) async fn ask(request: RequestBuilder) -> Result<Reply, Answer> {
    let not_reached = |error: reqwest::Error| {
        let mut detail = if error.is_timeout() { "no answer in time".to_owned() } else { "not reached".to_owned() };
        // The innermost error says why. The address of the request is left out: it may be a secret.
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            if inner.source().is_none() {
                detail = format!("{detail}: {inner}");
            }
            source = inner.source();
        }
        Answer::new(Meaning::Later(None), detail)
    };
    let mut response = request.send().await.map_err(not_reached)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            body.truncate(MAX_ANSWER);
            break;
        }
    }
    Ok(Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

impl Reply {
    /// Returns what the status means for any push service.
    pub(super) fn answer(&self) -> Answer {
        let meaning = match self.status.as_u16() {
            200..=299 => Meaning::Accepted,
            404 | 410 => Meaning::Gone(None),
            408 | 429 | 500..=599 => Meaning::Later(self.wait_ms()),
            _ => Meaning::Refused,
        };
        let body = self.body.trim();
        let detail = match body.is_empty() {
            true => self.status.as_u16().to_string(),
            false => format!("{} {}", self.status.as_u16(), body),
        };
        Answer::new(meaning, detail)
    }

    /// Returns how long the push service wants to be left alone, milliseconds. It says so in seconds; a date counts as not said.
    fn wait_ms(&self) -> Option<i64> {
        let seconds: i64 = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(seconds.clamp(0, MAX_WAIT_S) * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, retry_after: Option<&str>) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
        }
        Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: " why\n".to_owned() }
    }

    #[test]
    fn a_status_says_whether_to_try_again() {
        for (status, meaning) in [
            (200, Meaning::Accepted),
            (201, Meaning::Accepted),
            (301, Meaning::Refused),
            (400, Meaning::Refused),
            (404, Meaning::Gone(None)),
            (410, Meaning::Gone(None)),
            (429, Meaning::Later(None)),
            (503, Meaning::Later(None)),
        ] {
            assert_eq!(reply(status, None).answer().meaning, meaning, "{status}");
        }
        assert_eq!(reply(429, Some("7")).answer().meaning, Meaning::Later(Some(7_000)));
        assert_eq!(reply(503, Some("999999999")).answer().meaning, Meaning::Later(Some(86_400_000)));
        assert_eq!(reply(503, Some("Fri, 31 Dec 2027 23:59:59 GMT")).answer().meaning, Meaning::Later(None));
        assert_eq!(reply(400, None).answer().detail, "400 why");
    }

    #[tokio::test]
    async fn a_status_counts_even_if_the_answer_breaks_off() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let client = client("", Duration::from_secs(10), false).unwrap();
        for (head, meaning) in [
            ("HTTP/1.1 200 OK", Meaning::Accepted),
            ("HTTP/1.1 410 Gone", Meaning::Gone(None)),
            ("HTTP/1.1 503 Busy\r\nretry-after: 7", Meaning::Later(Some(7_000))),
        ] {
            let answers = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let read = stream.read(&mut [0; 4_096]).await.unwrap();
                let answer = format!("{head}\r\ncontent-length: 100\r\n\r\nhalf");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
                read
            };
            let (read, reply) = tokio::join!(answers, ask(client.get(&url)));
            let reply = reply.map_err(|answer| answer.detail).unwrap();
            assert!(read > 0);
            assert_eq!((reply.answer().meaning, reply.body.as_str()), (meaning, "half"), "{head}");
        }
        // Without a status nothing is known.
        let closes = async { drop(listener.accept().await.unwrap()) };
        let ((), reply) = tokio::join!(closes, ask(client.get(&url)));
        assert_eq!(reply.err().unwrap().meaning, Meaning::Later(None));
    }

    #[test]
    fn certificates_that_are_none_are_refused() {
        let made = |ca| client(ca, Duration::from_secs(1), false).map(drop);
        assert_eq!(made("no PEM"), Err("ca contains no certificate".to_owned()));
        assert!(made("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }
}
