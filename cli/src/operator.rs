//! Connects to the operator's service over a Unix socket, a port of this machine, or TLS. Each request carries the key, so
//! nothing else is accepted.

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tonic::codegen::http::Uri;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use zim_client_sdk::Trust;
use zim_client_sdk::net::{CertificateProblem, ascii_host, certificate_verifier};

use crate::exit::{Exit, Failure};

/// The time limit for connecting, and then for the TLS handshake.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The time limit for a request.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// The address of the operator's service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A Unix socket.
    Unix(String),
    /// A port of this machine.
    Loopback(Uri),
    /// A port of any machine, with TLS.
    Tls(Uri),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{path}"),
            Self::Loopback(uri) | Self::Tls(uri) => write!(f, "{}", uri.to_string().trim_end_matches('/')),
        }
    }
}

impl Target {
    /// Parses `unix:PATH`, `http://…` of this machine, or `https://…`. Without a scheme, this machine means `http` and any
    /// other `https`.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.strip_prefix("//").unwrap_or(path).to_owned()));
        }
        let wrong = || {
            Failure::usage(format!("{text:?} is not an address of the operator's service")).hint(
                "use a form like unix:zim-data/admin.sock, https://chat.example.org:4712 or http://127.0.0.1:4712",
            )
        };
        let ascii = ascii(text).ok_or_else(wrong)?;
        let text = ascii.as_str();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| wrong())?;
        let is_local = uri.host().is_some_and(is_this_machine);
        if uri.host().and_then(ip).is_some_and(|ip| ip.is_unspecified()) {
            return Err(Failure::usage(format!(
                "the operator's service listens on {text:?}, but nothing can connect to this address"
            ))
            .hint("give the address of the server's machine, such as 127.0.0.1 for this one"));
        }
        if uri.host().is_none_or(str::is_empty) || uri.port().is_none() || !matches!(uri.path(), "" | "/") {
            return Err(wrong());
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self::Tls(uri)),
            Some("http") if is_local => Ok(Self::Loopback(uri)),
            Some("http") if !text.contains("://") => {
                format!("https://{text}").parse().map(Self::Tls).map_err(|_| wrong())
            }
            Some("http") => {
                Err(Failure::usage(format!("{text} is another machine: the key would be sent in the clear"))
                    .hint("use https://, as the server requires there, or run zim on the server's machine"))
            }
            _ => Err(wrong()),
        }
    }

    /// Connects. With TLS, `trust` says how the server's certificate is verified.
    pub(crate) async fn connect(&self, trust: &Trust) -> Result<Channel, Failure> {
        let endpoint = Endpoint::from_shared(self.to_string())
            .map_err(|error| Failure::usage(format!("{self}: {error}")))?
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWERED_WITHIN);
        let endpoint = match self {
            Self::Tls(_) => {
                let tls = ClientTlsConfig::new().timeout(CONNECT_WITHIN);
                endpoint.tls_config_with_verifier(tls, certificate_verifier(trust)?).map_err(|error| {
                    Failure::usage(format!("{self} cannot be reached with TLS: {}", last_cause(&error)))
                })?
            }
            Self::Unix(_) | Self::Loopback(_) => endpoint,
        };
        endpoint.connect().await.map_err(|error| self.unreachable(&error, trust))
    }

    /// Explains why the service cannot be reached, with a hint.
    fn unreachable(&self, error: &(dyn StdError + 'static), trust: &Trust) -> Failure {
        let certificate = causes(error).find_map(|cause| CertificateProblem::of(cause.downcast_ref()?));
        if let Some(why) = certificate {
            let message = format!("the certificate of the server at {self} is not accepted: {why}");
            let failure = Failure::new(Exit::Network, message);
            return failure.hint(match trust {
                Trust::Fingerprint(_) => {
                    "compare --admin-fingerprint with the fingerprint that zim-server prints when it starts; if it did not \
                     change there, another server answers at this address"
                }
                _ => {
                    "pass the fingerprint that zim-server prints when it starts (--admin-fingerprint HEX), or its certificate \
                     authority (--admin-ca FILE)"
                }
            });
        }
        let failure = |what: &str| Failure::new(Exit::Network, format!("{what} at {self}: {}", last_cause(error)));
        let kind = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind));
        match (self, kind) {
            (Self::Unix(_), Some(io::ErrorKind::NotFound)) => failure("there is no operator's socket")
                .hint("is the server running with this data folder? --server-data FOLDER names another one"),
            (Self::Unix(_), Some(io::ErrorKind::ConnectionRefused)) => {
                failure("no server listens on the operator's socket").hint("the server has stopped: start it")
            }
            (Self::Unix(_), Some(io::ErrorKind::PermissionDenied)) => failure("you may not use the operator's socket")
                .hint("only root and the user that the server runs as can: sudo -u USER zim admin …"),
            (Self::Tls(_), _) => failure("the operator's service cannot be reached")
                .hint("is the server running, and started with --admin and this address?"),
            _ => failure("the operator's service cannot be reached").hint(
                "is the server running, and started with --admin and this address? On addresses \
                 other than this machine's it requires TLS: https://",
            ),
        }
    }
}

/// Converts the host of an address to ASCII, if it is an internationalized name.
fn ascii(text: &str) -> Option<String> {
    let (scheme, place) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let (host, port) = place.split_at(place.rfind(':').unwrap_or(place.len()));
    ascii_host(host).map(|host| format!("{scheme}{host}{port}"))
}

/// Returns true if `host` can only be this machine. Host names are not looked up.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip(host).is_some_and(|ip| ip.is_loopback())
}

/// Returns the address that the host of a URL is, if it is not a name.
fn ip(host: &str) -> Option<IpAddr> {
    let address: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(address.to_canonical())
}

/// Iterates over an error and its causes.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn StdError + 'static)| {
        // An I/O error hides its inner error from `source`.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.map(|inner| inner as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

fn last_cause(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> String {
        match Target::parse(text) {
            Ok(target) => target.to_string(),
            Err(failure) => {
                assert_eq!(failure.exit, Exit::Usage);
                format!("{} {}", failure.message, failure.hint.unwrap())
            }
        }
    }

    #[test]
    fn the_key_goes_to_this_machine_or_over_tls() {
        for (text, expected) in [
            ("unix:zim-data/admin.sock", "unix:zim-data/admin.sock"),
            ("unix:/run/zim/admin.sock", "unix:/run/zim/admin.sock"),
            ("unix:///run/zim/admin.sock", "unix:/run/zim/admin.sock"),
            ("http://127.0.0.1:4712", "http://127.0.0.1:4712"),
            ("http://127.9.9.9:4712/", "http://127.9.9.9:4712"),
            ("http://[::1]:4712", "http://[::1]:4712"),
            ("http://localhost:4712", "http://localhost:4712"),
            ("127.0.0.1:4712", "http://127.0.0.1:4712"),
            ("https://127.0.0.1:4712", "https://127.0.0.1:4712"),
            ("https://chat.example.org:4712", "https://chat.example.org:4712"),
            // Without a scheme, another machine is reached with TLS.
            ("10.0.0.5:4712", "https://10.0.0.5:4712"),
            ("chat.example.org:4712", "https://chat.example.org:4712"),
            ("bücher.example:4712", "https://xn--bcher-kva.example:4712"),
            ("https://bücher.example:4712", "https://xn--bcher-kva.example:4712"),
        ] {
            assert_eq!(target(text), expected);
        }
    }

    #[test]
    fn the_key_does_not_go_to_another_machine_in_the_clear() {
        for text in [
            "http://10.0.0.5:4712",
            "http://chat.example.org:4712",
            "http://localhost.example.org:4712",
            "http://127.0.0.1@example.org:4712",
            "http://127.0.0.1.example.org:4712",
            "http://127.1:4712",
        ] {
            assert!(target(text).contains("the key would be sent in the clear use https://"), "{}", target(text));
        }
    }

    #[test]
    fn an_invalid_address_is_reported() {
        for text in ["", "chat.example.org", "ftp://127.0.0.1:21", "https://here:4712/path", "http://:4712", "a b:1"] {
            assert!(target(text).contains("is not an address of the operator's service"), "{}", target(text));
        }
    }

    #[test]
    fn an_address_to_listen_on_is_not_one_to_connect_to() {
        for text in ["0.0.0.0:4712", "http://0.0.0.0:4712", "https://[::]:4712", "[::ffff:0.0.0.0]:4712"] {
            assert!(
                target(text).contains(&format!("{text:?}, but nothing can connect to this address give")),
                "{}",
                target(text)
            );
        }
    }

    #[test]
    fn a_socket_error_has_a_hint() {
        let unix = Target::parse("unix:/data/admin.sock").unwrap();
        for (kind, what, hint) in [
            (io::ErrorKind::NotFound, "there is no operator's socket at unix:/data/admin.sock", "--server-data"),
            (io::ErrorKind::ConnectionRefused, "no server listens", "start it"),
            (io::ErrorKind::PermissionDenied, "you may not use the operator's socket", "sudo -u USER"),
            (io::ErrorKind::TimedOut, "cannot be reached", "--admin"),
        ] {
            let failure = unix.unreachable(&io::Error::from(kind), &Trust::System);
            assert!(failure.message.contains(what) && failure.hint.unwrap().contains(hint), "{}", failure.message);
        }
    }

    #[test]
    fn a_certificate_error_is_found_among_the_causes() {
        let tls = Target::parse("https://10.0.0.5:4712").unwrap();
        let certificate = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, certificate));
        let failure = tls.unreachable(&error, &Trust::System);
        assert!(
            failure
                .message
                .starts_with("the certificate of the server at https://10.0.0.5:4712 is not accepted: no trusted"),
            "{}",
            failure.message
        );
        assert!(failure.hint.unwrap().contains("--admin-fingerprint HEX"));
        let failure = tls.unreachable(&error, &Trust::Fingerprint([0; 32]));
        assert!(failure.hint.unwrap().contains("another server answers"));
    }
}
