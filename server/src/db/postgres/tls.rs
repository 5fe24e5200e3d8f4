//! TLS to PostgreSQL. All messages and the apps' secrets go over this connection. So a database on another machine must present
//! a certificate, unless the address says otherwise.

use std::error::Error;
use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::super::error::DbError;

/// What an operator can do about a certificate that is not accepted.
const SSLMODE_HINT: &str = "The address has no sslmode, so a database on another machine must present a certificate of a \
     known authority for its name (sslmode=verify-full). Name your own authority with sslrootcert=FILE. sslmode=require \
     encrypts and accepts any certificate, sslmode=disable does not encrypt: use them only in a network that nobody else can \
     reach";

/// How the connection to one address is protected.
#[derive(Clone, Copy, Debug)]
pub(in crate::db) struct Decision {
    mode: PgSslMode,
    /// The operator did not choose a mode.
    is_default: bool,
    /// The operator chose a mode with which others on the path can read or change the traffic.
    is_unprotected: bool,
}

/// Returns the mode for a database at `host`; `chosen` is the operator's choice.
fn decide(host: &str, chosen: Option<PgSslMode>) -> Decision {
    use PgSslMode::{Allow, Disable, Prefer, Require, VerifyCa, VerifyFull};

    if is_local(host) {
        return Decision { mode: chosen.unwrap_or(Prefer), is_default: false, is_unprotected: false };
    }
    match chosen {
        None => Decision { mode: VerifyFull, is_default: true, is_unprotected: false },
        Some(mode @ (Require | VerifyCa | VerifyFull)) => Decision { mode, is_default: false, is_unprotected: false },
        Some(mode @ (Disable | Allow | Prefer)) => Decision { mode, is_default: false, is_unprotected: true },
    }
}

/// Whether `host` is a Unix socket or a loopback address. `localhost` is trusted: whoever can redefine it controls this machine.
fn is_local(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.starts_with('/') || host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Returns the mode from the URL, else from the variable. An unknown value counts as no choice.
fn chosen(url: &str, variable: Option<&str>) -> Option<PgSslMode> {
    let before_fragment = url.split('#').next().unwrap_or_default();
    let query = before_fragment.split_once('?').map_or("", |(_, query)| query);
    let mut in_url = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        matches!(name, "sslmode" | "ssl-mode").then_some(value)
    });
    // The last one counts, as in sqlx.
    in_url.next_back().or(variable)?.parse().ok()
}

/// Sets the mode for the host of these options. Warns if the operator chose an unprotected mode.
pub(super) fn protect(options: PgConnectOptions, url: &str, variable: Option<&str>) -> (PgConnectOptions, Decision) {
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    let decision = decide(&host, chosen(url, variable));
    if decision.is_unprotected {
        tracing::warn!(
            host,
            sslmode = ?decision.mode,
            "the database is on another machine, and others on the path can read and change the traffic; \
             sslmode=verify-full prevents this"
        );
    }
    (options.ssl_mode(decision.mode), decision)
}

impl Decision {
    /// Adds the hint about `sslmode` to a TLS error of the first connection, if the operator did not choose a mode.
    pub(in crate::db) fn explain(self, error: DbError) -> DbError {
        if self.is_default && is_tls_failure(&error) {
            return DbError::new(error.kind(), format!("{error}. {SSLMODE_HINT}"));
        }
        error
    }
}

/// Whether the two sides did not agree on TLS, or the certificate was not accepted. An unreachable database is not a TLS failure.
fn is_tls_failure(error: &DbError) -> bool {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(sqlx::Error::Tls(_)) => true,
        // An error in the handshake.
        Some(sqlx::Error::Io(error)) => error.get_ref().is_some_and(<dyn Error + Send + Sync>::is::<rustls::Error>),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::failure;
    use super::*;

    fn name(mode: PgSslMode) -> String {
        format!("{mode:?}")
    }

    /// Returns the mode, `is_default` and `is_unprotected`.
    fn decided(host: &str, chosen: Option<&str>) -> (String, bool, bool) {
        let Decision { mode, is_default, is_unprotected } = decide(host, chosen.map(|mode| mode.parse().unwrap()));
        (name(mode), is_default, is_unprotected)
    }

    #[test]
    fn another_machine_must_present_a_certificate_unless_configured_otherwise() {
        for host in
            ["db.example", "10.0.0.5", "192.168.1.1", "[fd00::5]", "localhost.example", "0.0.0.0", "128.0.0.1", ""]
        {
            assert_eq!(decided(host, None), ("VerifyFull".to_owned(), true, false), "{host}");
            for (mode, is_unprotected) in [
                ("verify-full", false),
                ("verify-ca", false),
                ("require", false),
                ("prefer", true),
                ("allow", true),
                ("disable", true),
            ] {
                let chosen = name(mode.parse().unwrap());
                assert_eq!(decided(host, Some(mode)), (chosen, false, is_unprotected), "{host} {mode}");
            }
        }
    }

    #[test]
    fn a_local_database_needs_no_certificate() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1", "/var/run/postgresql"] {
            assert_eq!(decided(host, None), ("Prefer".to_owned(), false, false), "{host}");
            assert_eq!(decided(host, Some("disable")), ("Disable".to_owned(), false, false), "{host}");
            assert_eq!(decided(host, Some("verify-full")), ("VerifyFull".to_owned(), false, false), "{host}");
        }
    }

    #[test]
    fn the_address_overrides_the_variable() {
        let chosen_mode = |url: &str, variable| chosen(url, variable).map(name);
        assert_eq!(chosen_mode("postgres://db/zim", None), None);
        assert_eq!(chosen_mode("postgres://db/zim?sslrootcert=ca.pem", None), None);
        assert_eq!(chosen_mode("postgres://db/zim", Some("require")).as_deref(), Some("Require"));
        assert_eq!(chosen_mode("postgres://db/zim?sslmode=disable", Some("require")).as_deref(), Some("Disable"));
        assert_eq!(chosen_mode("postgres://db/zim?a=b&ssl-mode=verify-ca#x", None).as_deref(), Some("VerifyCa"));
        assert_eq!(chosen_mode("postgres://db/zim?sslmode=disable&sslmode=require", None).as_deref(), Some("Require"));
        assert_eq!(chosen_mode("postgres://db/zim?a=b#&sslmode=disable", None), None);
        // The name of the database and a password are not parameters.
        assert_eq!(chosen_mode("postgres://zim:sslmode=disable@db/sslmode=disable", None), None);
        assert_eq!(chosen_mode("postgres://db/zim", Some("loud")), None);
    }

    #[test]
    fn the_mode_is_set_and_a_default_mode_adds_the_hint() {
        let mode = |url: &str| {
            let (options, decision) = protect(url.parse().unwrap(), url, None);
            (name(options.get_ssl_mode()), decision)
        };
        assert_eq!(mode("postgres://zim@127.0.0.1/zim?sslmode=require").0, "Require");
        assert_eq!(mode("postgres://zim@db.example/zim?sslmode=disable").0, "Disable");
        assert_eq!(mode("postgres://zim@%2Frun%2Fpg/zim").0, "Prefer");
        assert_eq!(mode("postgres://zim@localhost/zim?host=db.example").0, "VerifyFull");
        let no_tls = || failure(sqlx::Error::Tls("no TLS".into()), "connect");
        let io = |kind, cause: Box<dyn Error + Send + Sync>| failure(io::Error::new(kind, cause).into(), "connect");
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let (_, decided) = mode("postgres://zim@db.example/zim?sslmode=verify-full");
        assert!(!decided.explain(no_tls()).to_string().contains("no sslmode"));
        let (verify, default) = mode("postgres://zim@db.example/zim");
        assert_eq!(verify, "VerifyFull");
        for tls_failure in [no_tls(), io(io::ErrorKind::InvalidData, unknown.into())] {
            let message = default.explain(tls_failure).to_string();
            assert!(message.contains("in: connect. The address has no sslmode"), "{message}");
        }
        // These are not TLS failures.
        for other in [io(io::ErrorKind::ConnectionRefused, "refused".into()), DbError::closed()] {
            assert_eq!(default.explain(other.clone()).to_string(), other.to_string());
        }
    }
}
