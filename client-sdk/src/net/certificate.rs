//! Why the certificate of a server is not accepted.

use std::fmt;

use rustls::CertificateError;

/// Why the certificate of a server is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateProblem {
    /// No trusted authority signed it.
    UnknownIssuer,
    /// It is for other names than the expected one.
    OtherName {
        /// The expected name.
        expected: String,
        /// The names of the certificate.
        names: Vec<String>,
    },
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotValidYet,
    /// It is the certificate of an authority, and the server uses it as its own.
    OfAuthority,
    /// It is not the certificate with the trusted fingerprint.
    OtherFingerprint,
    /// Anything else, in the words of rustls.
    Other(String),
}

impl CertificateProblem {
    /// Returns what is wrong with a certificate, if that is why TLS failed.
    pub fn of(error: &rustls::Error) -> Option<Self> {
        let rustls::Error::InvalidCertificate(error) = error else { return None };
        Some(match error {
            // A bad signature: the authority that signed it has the name of a trusted one, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForNameContext { expected, presented } => Self::OtherName {
                expected: expected.to_str().into_owned(),
                names: presented.iter().map(|name| bare(name).to_owned()).collect(),
            },
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotValidYet,
            CertificateError::ApplicationVerificationFailure => Self::OtherFingerprint,
            CertificateError::Other(cause) if cause.0.to_string() == "CaUsedAsEndEntity" => Self::OfAuthority,
            other => Self::Other(other.to_string()),
        })
    }

    /// Returns a word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownIssuer => "certificateUnknownIssuer",
            Self::OtherName { .. } => "certificateOtherName",
            Self::Expired => "certificateExpired",
            Self::NotValidYet => "certificateNotValidYet",
            Self::OfAuthority => "certificateOfAuthority",
            Self::OtherFingerprint => "certificateOtherFingerprint",
            Self::Other(_) => "certificate",
        }
    }
}

/// Returns the name in `DnsName("localhost")` or `IpAddress(127.0.0.1)`.
fn bare(name: &str) -> &str {
    name.split_once('(').map_or(name, |(_, name)| name.trim_end_matches(')').trim_matches('"'))
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer => f.write_str("no trusted authority signed it"),
            Self::OtherName { expected, names } if names.is_empty() => {
                write!(f, "it has no subject alternative name, and {expected} must be one")
            }
            Self::OtherName { expected, names } => write!(f, "it is for {}, and not for {expected}", names.join(", ")),
            Self::Expired => f.write_str("it has expired"),
            Self::NotValidYet => f.write_str("it is not valid yet"),
            Self::OfAuthority => f.write_str("it is the certificate of an authority, and not of a server"),
            Self::OtherFingerprint => f.write_str("it has another fingerprint"),
            Self::Other(what) => f.write_str(what),
        }
    }
}
