//! Why a call fails: the reference's code, a sentence, and whether the same call may work later.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use zim_protocol::{ErrorCode, Violation};

/// The failure of a call.
///
/// ```
/// # use zim_client_sdk::{Error, ErrorCode};
/// # fn example(error: Error) {
/// if error.code() == ErrorCode::MessageModuleTargetDoesNotExist {
///     println!("nobody has that name");
/// } else if error.is_retryable() {
///     println!("later, perhaps: {error}");
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    code: i32,
    message: String,
    details: Vec<(String, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with the reference's code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner { code: code as i32, message: message.into(), details: Vec::new(), source: None }))
    }

    /// With what caused it.
    #[must_use]
    pub(crate) fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let Inner { code, message, details, .. } = &*self.0;
        let (code, message, details) = (*code, message.clone(), details.clone());
        Self(Arc::new(Inner { code, message, details, source: Some(source.into()) }))
    }

    /// The reference's code; [`ErrorCode::Failed`] for one that this version does not know, see [`Error::number`].
    pub fn code(&self) -> ErrorCode {
        ErrorCode::try_from(self.0.code).unwrap_or(ErrorCode::Failed)
    }

    /// The reference's code as a number.
    pub fn number(&self) -> i32 {
        self.0.code
    }

    /// What went wrong, a sentence for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// More for programs, by name.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.0.details.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the same call may succeed a little later.
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

impl From<zim_protocol::Error> for Error {
    fn from(error: zim_protocol::Error) -> Self {
        let details = error.details.into_iter().collect();
        Self(Arc::new(Inner { code: error.code, message: error.message, details, source: None }))
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::new(violation.code, violation.to_string())
    }
}

impl From<zim_protocol::token::TokenError> for Error {
    fn from(error: zim_protocol::token::TokenError) -> Self {
        Self::new(error.code, error.reason)
    }
}

/// What to do about an error, where the sentence alone does not say it.
fn advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::CommonModuleTriggerServerFrequencyLimit | ErrorCode::CommonModuleUserInfoQueriedLimit => {
            "wait a moment"
        }
        ErrorCode::CommonModuleImServerError => "the server's log says more",
        ErrorCode::CommonModuleImServerDisconnect | ErrorCode::CommonModuleImDatabaseError => "try again in a moment",
        ErrorCode::CommonModuleInvalidAppId => "take the app id from the server's operator",
        ErrorCode::NetworkModuleTokenInvalid => {
            "get a token for this app and user from your own back end, or use the app sign of this app"
        }
        ErrorCode::NetworkModuleTokenVersionError => "make tokens of version 04",
        ErrorCode::NetworkModuleTokenExpired | ErrorCode::NetworkModuleTokenTimeIsTooShort => {
            "get a new token from your own back end"
        }
        ErrorCode::NetworkModuleRequestTimeout | ErrorCode::NetworkModuleNetworkError => {
            "see whether the server runs and is reached at this address, by UDP"
        }
        ErrorCode::NetworkModuleUserIsNotLogged => "call login first",
        ErrorCode::NetworkModuleUserIdError => "log in with a connection once",
        _ => return None,
    })
}

/// The code, its name, what went wrong, and what to do about it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ErrorCode::try_from(self.0.code);
        let name = known.map_or("", ErrorCode::reference_name);
        write!(f, "{} {name}: {}", self.0.code, self.0.message)?;
        known.ok().and_then(advice).map_or(Ok(()), |advice| write!(f, " ({advice})"))
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
    fn an_error_names_its_code() {
        let error = Error::new(ErrorCode::MessageModuleTargetDoesNotExist, "there is nobody named bob");
        assert_eq!(error.to_string(), "6000204 MessageModuleTargetDoesNotExist: there is nobody named bob");
        assert!(!error.is_retryable());
        let error = Error::new(ErrorCode::NetworkModuleTokenExpired, "the token has expired");
        let said = "6000106 NetworkModuleTokenExpired: the token has expired (get a new token from your own back end)";
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn a_code_of_a_later_version_is_kept() {
        let error = Error::from(zim_protocol::Error { code: 6_009_999, message: "new".into(), ..Default::default() });
        assert_eq!((error.code(), error.number()), (ErrorCode::Failed, 6_009_999));
    }
}
