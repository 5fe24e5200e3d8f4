//! The error type: the reference's code, a message, and whether a retry can help.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use zim_protocol::{ErrorCode, Message, Violation};

/// The error of a method of the SDK.
///
/// ```
/// # use zim_client_sdk::{Error, ErrorCode};
/// # fn example(error: Error) {
/// if error.code() == ErrorCode::MessageModuleTargetDoesNotExist {
///     println!("there is no such user");
/// } else if error.is_retryable() {
///     println!("try again later: {error}");
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    code: i32,
    message: String,
    details: Vec<(String, String)>,
    failed_message: Option<Box<Message>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The detail of an error of the network that says whether the request left this device.
pub(crate) const IS_SENT: &str = "isSent";

impl Error {
    /// Creates an error with a code of the reference.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            code: code as i32,
            message: message.into(),
            details: Vec::new(),
            failed_message: None,
            source: None,
        }))
    }

    /// Adds a detail for programs.
    #[must_use]
    pub(crate) fn with_detail(self, name: &str, value: &str) -> Self {
        self.with(|inner| inner.details.push((name.to_owned(), value.to_owned())))
    }

    /// Adds the message that could not be sent.
    #[must_use]
    pub(crate) fn with_failed_message(self, message: Message) -> Self {
        self.with(|inner| inner.failed_message = Some(Box::new(message)))
    }

    /// Adds the cause.
    #[must_use]
    pub(crate) fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.with(|inner| inner.source = Some(Arc::from(source.into())))
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// Returns the reference's code, or [`ErrorCode::Failed`] for a code that this version does not know; see
    /// [`Error::number`].
    pub fn code(&self) -> ErrorCode {
        ErrorCode::try_from(self.0.code).unwrap_or(ErrorCode::Failed)
    }

    /// Returns the reference's code as a number.
    pub fn number(&self) -> i32 {
        self.0.code
    }

    /// Returns the message: what went wrong, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns a detail for programs, by name.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.0.details.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Returns the message that could not be sent, as it is in its conversation now. Passing it to
    /// [`send_message`](crate::Zim::send_message) again retries it; it is never stored twice.
    pub fn failed_message(&self) -> Option<&Message> {
        self.0.failed_message.as_deref()
    }

    /// Returns whether the same call may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code(),
            ErrorCode::NetworkModuleNetworkError
                | ErrorCode::NetworkModuleRequestTimeout
                | ErrorCode::NetworkModuleUserOffline
                | ErrorCode::CommonModuleTriggerServerFrequencyLimit
                | ErrorCode::CommonModuleTriggerSdkFrequencyLimit
                | ErrorCode::CommonModuleUserInfoQueriedLimit
                | ErrorCode::CommonModuleImServerDisconnect
                | ErrorCode::CommonModuleImDatabaseError
        )
    }
}

#[doc(hidden)]
impl From<zim_protocol::Error> for Error {
    fn from(error: zim_protocol::Error) -> Self {
        let details = error.details.into_iter().collect();
        Self(Arc::new(Inner { code: error.code, message: error.message, details, failed_message: None, source: None }))
    }
}

#[doc(hidden)]
impl From<Box<Violation>> for Error {
    fn from(violation: Box<Violation>) -> Self {
        Self::new(violation.code, violation.to_string())
    }
}

#[doc(hidden)]
impl From<zim_protocol::token::TokenError> for Error {
    fn from(error: zim_protocol::token::TokenError) -> Self {
        Self::new(error.code, error.reason)
    }
}

/// Returns what to do about an error whose message does not say it.
fn advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::CommonModuleTriggerServerFrequencyLimit | ErrorCode::CommonModuleUserInfoQueriedLimit => {
            "wait a moment"
        }
        ErrorCode::CommonModuleImServerError => "see the server's log",
        ErrorCode::CommonModuleImServerDisconnect | ErrorCode::CommonModuleImDatabaseError => "try again in a moment",
        ErrorCode::CommonModuleInvalidAppId => "ask the operator of the server for the app id",
        ErrorCode::NetworkModuleTokenInvalid => {
            "get a token for this app and user from your back end, or use the app sign of this app"
        }
        ErrorCode::NetworkModuleTokenVersionError => "use tokens of version 04",
        ErrorCode::NetworkModuleTokenExpired | ErrorCode::NetworkModuleTokenTimeIsTooShort => {
            "get a new token from your back end"
        }
        ErrorCode::NetworkModuleRequestTimeout | ErrorCode::NetworkModuleNetworkError => {
            "check that the server runs and that this address is reachable over UDP"
        }
        ErrorCode::NetworkModuleUserIsNotLogged => "call login first",
        ErrorCode::NetworkModuleUserIdError => "log in once with a connection",
        _ => return None,
    })
}

/// Returns what to do about an error whose code is not specific enough.
fn advice_of_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "certificateUnknownIssuer" => {
            "trust its authority with Trust::CaFile, or exactly this certificate with Trust::Fingerprint"
        }
        "certificateOtherName" => {
            "connect to a name of the certificate, or set one with Config::server_name; or make a certificate for this name"
        }
        "certificateExpired" => "renew the certificate of the server, or correct the clock of this device",
        "certificateNotValidYet" => {
            "correct the clock of this device, or that of the machine that made the certificate"
        }
        "certificateOfAuthority" => {
            "give the server a certificate that the authority signed, or trust this very one: its file with Trust::CaFile, or \
             its fingerprint with Trust::Fingerprint"
        }
        "certificateOtherFingerprint" => {
            "compare it with the one that zim-server prints; if they are the same, another server answers at this address"
        }
        "trust" => {
            "use Trust::CaFile with a PEM file of the authority's or the server's certificate, or Trust::Fingerprint"
        }
        "certificate" => "give the server another certificate",
        _ => return None,
    })
}

/// Writes the code, its name, the message, and what to do about it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ErrorCode::try_from(self.0.code);
        let name = known.map_or("", ErrorCode::reference_name);
        write!(f, "{} {name}: {}", self.0.code, self.0.message)?;
        let advice = self.detail("reason").and_then(advice_of_reason).or_else(|| known.ok().and_then(advice));
        advice.map_or(Ok(()), |advice| write!(f, " ({advice})"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("details", &self.0.details)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_code_and_its_advice() {
        let error = Error::new(ErrorCode::MessageModuleTargetDoesNotExist, "there is no user bob");
        assert_eq!(error.to_string(), "6000204 MessageModuleTargetDoesNotExist: there is no user bob");
        assert!(!error.is_retryable());
        let error = Error::new(ErrorCode::NetworkModuleTokenExpired, "the token has expired");
        let expected = "6000106 NetworkModuleTokenExpired: the token has expired (get a new token from your back end)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_reason_has_an_advice_of_its_own() {
        let error = Error::new(ErrorCode::NetworkModuleNetworkError, "x").with_detail("reason", "certificateExpired");
        assert!(
            error.to_string().ends_with("x (renew the certificate of the server, or correct the clock of this device)")
        );
        assert_eq!(error.detail("reason"), Some("certificateExpired"));
    }

    #[test]
    fn an_unknown_code_keeps_its_number() {
        let error = Error::from(zim_protocol::Error { code: 6_009_999, message: "new".into(), ..Default::default() });
        assert_eq!((error.code(), error.number()), (ErrorCode::Failed, 6_009_999));
    }
}
