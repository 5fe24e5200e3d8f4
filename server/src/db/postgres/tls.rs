//! How the way to PostgreSQL is protected. Everything that people said goes over it, and the apps' secrets, so another machine
//! must show a certificate, unless the address says otherwise.

use std::error::Error;
use std::net::IpAddr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::super::error::DbError;

/// What an operator does who reads that the certificate is not good.
const SSLMODE_HINT: &str = "The address has no sslmode, so a database on another machine must show a certificate of a \
     known authority for its name (sslmode=verify-full). Name your own authority with sslrootcert=FILE. sslmode=require \
     encrypts and believes any certificate, sslmode=disable encrypts nothing: only for a network that is yours alone";

/// What is decided for one address.
#[derive(Clone, Copy, Debug)]
pub(in crate::db) struct Decision {
    mode: PgSslMode,
    /// Nobody chose it.
    is_default: bool,
    /// Somebody chose what others on the way can read or change.
    is_unprotected: bool,
}

/// The mode for a database at `host`, where `chosen` is what the operator said.
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

/// A Unix socket or a loopback address. A name is what it says: who can change what `localhost` means has this machine.
fn is_local(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.starts_with('/') || host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// What the address says, else the variable; one that says nothing known is not a choice.
fn chosen(url: &str, variable: Option<&str>) -> Option<PgSslMode> {
    let before_fragment = url.split('#').next().unwrap_or_default();
    let query = before_fragment.split_once('?').map_or("", |(_, query)| query);
    let mut in_url = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        matches!(name, "sslmode" | "ssl-mode").then_some(value)
    });
    // The last one counts, as for sqlx.
    in_url.next_back().or(variable)?.parse().ok()
}

/// The options with the mode that was decided for their host.
pub(super) fn protect(options: PgConnectOptions, url: &str, variable: Option<&str>) -> (PgConnectOptions, Decision) {
    let host = options.get_socket().map_or_else(|| options.get_host().to_owned(), |path| path.display().to_string());
    let decision = decide(&host, chosen(url, variable));
    if decision.is_unprotected {
        tracing::warn!(
            host,
            sslmode = ?decision.mode,
            "the database is on another machine, and others on the way may read and change what is sent; \
             sslmode=verify-full prevents it"
        );
    }
    (options.ssl_mode(decision.mode), decision)
}

impl Decision {
    /// An error of the first connection, with how to choose if nobody has.
    pub(in crate::db) fn explain(self, error: DbError) -> DbError {
        if self.is_default && is_tls_failure(&error) {
            return DbError::new(error.kind(), format!("{error}. {SSLMODE_HINT}"));
        }
        error
    }
}

/// Whether the two sides did not agree on TLS, or the certificate is not good. A database that is not there is another matter.
fn is_tls_failure(error: &DbError) -> bool {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(sqlx::Error::Tls(_)) => true,
        // What goes wrong in the handshake.
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

    /// Mode, default, open.
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
        // A name of the database or a password is no choice.
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
        // A certificate does not help against these.
        for other in [io(io::ErrorKind::ConnectionRefused, "refused".into()), DbError::closed()] {
            assert_eq!(default.explain(other.clone()).to_string(), other.to_string());
        }
    }
}
