//! Why a login ended, or an attempt to connect failed.

use zim_protocol::{ConnectionEvent, ErrorCode, SessionEndReason};

use crate::error::Error;
use crate::net::Ended;

/// Why a login ended.
#[derive(Debug)]
pub(super) enum End {
    /// The app logged out.
    Left,
    /// The app destroyed the client, or dropped it.
    Destroyed,
    /// The server refused the login, or the local database cannot be opened.
    Refused(Error),
    /// No connection was made in time.
    GaveUp(Error),
    /// A panic in the SDK, which is a bug.
    Panicked(Error),
    KickedOut,
    /// The operator ended the session.
    EndedByOperator,
    TokenExpired,
    Unregistered,
}

impl End {
    /// Translates the reason that the server gives. `None`: reconnect.
    pub(super) fn of(reason: SessionEndReason) -> Option<Self> {
        match reason {
            SessionEndReason::KickedOut => Some(Self::KickedOut),
            SessionEndReason::EndedByOperator => Some(Self::EndedByOperator),
            SessionEndReason::TokenExpired => Some(Self::TokenExpired),
            SessionEndReason::Unregistered => Some(Self::Unregistered),
            SessionEndReason::LoggedOut => Some(Self::Left),
            SessionEndReason::GoingAway | SessionEndReason::Unspecified => None,
        }
    }

    /// Returns the `extendedData` of the event, for reasons that the reference's events do not tell apart.
    pub(super) const fn extended_data(&self) -> &'static str {
        match self {
            Self::EndedByOperator => r#"{"reason":"endedByOperator"}"#,
            Self::Panicked(_) => r#"{"reason":"panicked"}"#,
            _ => "",
        }
    }

    /// Returns the event for the app, and the error for a caller that still waits for the login.
    pub(super) fn outcome(self) -> Option<(ConnectionEvent, Option<Error>)> {
        Some(match self {
            Self::Destroyed => return None,
            Self::Left => (ConnectionEvent::Success, None),
            Self::Refused(error) | Self::Panicked(error) => (ConnectionEvent::LoginInterrupted, Some(error)),
            Self::GaveUp(error) => (ConnectionEvent::LoginTimeout, Some(error)),
            Self::KickedOut => (ConnectionEvent::KickedOut, Some(kicked_out())),
            Self::EndedByOperator => (ConnectionEvent::KickedOut, Some(ended_by_operator())),
            Self::TokenExpired => {
                let error = Error::new(ErrorCode::NetworkModuleTokenExpired, "the token has expired");
                (ConnectionEvent::TokenExpired, Some(error))
            }
            Self::Unregistered => {
                let error = Error::new(ErrorCode::CommonModuleUserIsNotExist, "this account no longer exists");
                (ConnectionEvent::Unregistered, Some(error))
            }
        })
    }
}

/// Why an attempt to log in failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: Error,
    /// A retry would fail again.
    pub(super) is_final: bool,
}

impl Failed {
    pub(super) fn is_network(&self) -> bool {
        matches!(self.error.code(), ErrorCode::NetworkModuleNetworkError | ErrorCode::NetworkModuleRequestTimeout)
    }
}

/// Decides whether a refused reconnect ends the login, and how.
pub(super) fn verdict(error: &Error) -> Option<End> {
    match error.code() {
        ErrorCode::NetworkModuleUserHasAlreadyLoggedOut if error.detail("reason") == Some("kickedOut") => {
            Some(End::KickedOut)
        }
        ErrorCode::NetworkModuleUserHasAlreadyLoggedOut if error.detail("reason") == Some("endedByOperator") => {
            Some(End::EndedByOperator)
        }
        ErrorCode::NetworkModuleTokenExpired | ErrorCode::NetworkModuleTokenTimeIsTooShort => Some(End::TokenExpired),
        ErrorCode::NetworkModuleUserHasAlreadyLoggedOut
        | ErrorCode::NetworkModuleTokenInvalid
        | ErrorCode::NetworkModuleTokenVersionError
        | ErrorCode::CommonModuleInvalidAppId => Some(End::Refused(error.clone())),
        // The server has moved to an area that the app may not use.
        ErrorCode::CommonModuleParamsInvalid if error.detail("reason") == Some("area") => {
            Some(End::Refused(error.clone()))
        }
        _ => None,
    }
}

/// Decides whether a failed attempt ends a login that was never accepted, and how. `is_retried`: the app wants it retried as a
/// reconnect is.
pub(super) fn first_verdict(failed: &Failed, is_retried: bool) -> Option<End> {
    let may_pass = failed.is_network() || (is_retried && is_temporary(&failed.error));
    if !may_pass {
        return Some(End::Refused(failed.error.clone()));
    }
    failed.is_final.then(|| End::GaveUp(failed.error.clone()))
}

/// Returns whether the server accepts no login for now: something of it does not work, or there are too many.
fn is_temporary(error: &Error) -> bool {
    error.is_retryable() || error.code() == ErrorCode::CommonModuleImServerError
}

/// Returns whether the server may accept the same login with another token: this one has expired or was revoked, or its secret was
/// replaced.
pub(super) fn needs_other_token(failed: &Failed) -> bool {
    let is_of_token = matches!(
        failed.error.code(),
        ErrorCode::NetworkModuleTokenExpired
            | ErrorCode::NetworkModuleTokenTimeIsTooShort
            | ErrorCode::NetworkModuleTokenInvalid
    );
    is_of_token && !failed.is_final && failed.error.detail("reason") != Some("banned")
}

/// The error of a connection that ended before the answer to the login.
pub(super) fn before_login(ended: Ended) -> Failed {
    let (error, is_final) = match ended {
        Ended::Version => (wrong_version(), true),
        Ended::Lost(why) => {
            let message = format!("the connection was lost during the login: {why}");
            (Error::new(ErrorCode::NetworkModuleNetworkError, message), false)
        }
        Ended::Server(reason) => {
            let message = format!("the server ended the connection: {reason:?}");
            (Error::new(ErrorCode::NetworkModuleNetworkError, message), false)
        }
    };
    Failed { error, is_final }
}

pub(super) fn wrong_version() -> Error {
    Error::new(
        ErrorCode::CommonModuleUnsupportedRequest,
        "the server does not support this version of the SDK; update the SDK",
    )
}

/// The error after another login replaced this one: the code of a logout, with the cause.
fn kicked_out() -> Error {
    Error::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, "another login of this user replaced this one")
}

/// The error after the operator ended the session.
fn ended_by_operator() -> Error {
    Error::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, "the operator ended this session; log in again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: Option<End>) -> Option<(ConnectionEvent, Option<ErrorCode>)> {
        let (event, error) = end?.outcome()?;
        Some((event, error.map(|error| error.code())))
    }

    fn failed(code: ErrorCode, is_final: bool) -> Failed {
        Failed { error: Error::new(code, ""), is_final }
    }

    #[test]
    fn a_first_login_that_is_retried_goes_on_after_what_passes() {
        use ErrorCode::{
            CommonModuleImDatabaseError, CommonModuleImServerError, CommonModuleTriggerServerFrequencyLimit,
            CommonModuleUserIsNotExist, NetworkModuleNetworkError, NetworkModuleRequestTimeout,
            NetworkModuleTokenExpired, NetworkModuleTokenInvalid,
        };

        let verdict = |code, is_final, is_retried| outcome(first_verdict(&failed(code, is_final), is_retried));
        let refused = |code| Some((ConnectionEvent::LoginInterrupted, Some(code)));
        for code in [NetworkModuleNetworkError, NetworkModuleRequestTimeout] {
            for is_retried in [false, true] {
                assert_eq!(verdict(code, false, is_retried), None);
                // Such as a certificate that is not trusted.
                assert_eq!(verdict(code, true, is_retried), Some((ConnectionEvent::LoginTimeout, Some(code))));
            }
        }
        for code in [CommonModuleImDatabaseError, CommonModuleImServerError, CommonModuleTriggerServerFrequencyLimit] {
            assert_eq!(verdict(code, false, false), refused(code));
            assert_eq!(verdict(code, false, true), None);
        }
        for code in [NetworkModuleTokenInvalid, NetworkModuleTokenExpired, CommonModuleUserIsNotExist] {
            assert_eq!(verdict(code, false, true), refused(code));
        }
    }

    #[test]
    fn another_token_helps_unless_the_user_is_banned() {
        use ErrorCode::{
            NetworkModuleTokenExpired, NetworkModuleTokenInvalid, NetworkModuleTokenTimeIsTooShort,
            NetworkModuleUserHasAlreadyLoggedOut,
        };

        for code in [NetworkModuleTokenExpired, NetworkModuleTokenTimeIsTooShort, NetworkModuleTokenInvalid] {
            assert!(needs_other_token(&failed(code, false)), "{code:?}");
            // The app provides something that is no token.
            assert!(!needs_other_token(&failed(code, true)), "{code:?}");
        }
        let mut banned = failed(NetworkModuleTokenInvalid, false);
        banned.error = banned.error.with_detail("reason", "banned");
        assert!(!needs_other_token(&banned));
        assert!(!needs_other_token(&failed(NetworkModuleUserHasAlreadyLoggedOut, false)));
    }

    #[test]
    fn only_some_errors_end_a_login() {
        let lost = Error::new(ErrorCode::NetworkModuleNetworkError, "");
        assert!(verdict(&lost).is_none());
        let busy = Error::new(ErrorCode::CommonModuleImDatabaseError, "");
        assert!(verdict(&busy).is_none());
        let code = ErrorCode::NetworkModuleUserHasAlreadyLoggedOut;
        let mut wire = zim_protocol::Error::new(code, "");
        let interrupted = Some((ConnectionEvent::LoginInterrupted, Some(code)));
        assert_eq!(outcome(verdict(&wire.clone().into())), interrupted);
        wire.details.insert("reason".to_owned(), "kickedOut".to_owned());
        assert_eq!(outcome(verdict(&wire.into())), Some((ConnectionEvent::KickedOut, Some(code))));
        let code = ErrorCode::NetworkModuleTokenExpired;
        let expired = Error::new(code, "");
        assert_eq!(outcome(verdict(&expired)), Some((ConnectionEvent::TokenExpired, Some(code))));
    }

    #[test]
    fn some_reasons_of_the_server_end_the_login_and_some_only_the_connection() {
        let event = |reason| outcome(End::of(reason)).map(|(event, _)| event);
        assert_eq!(event(SessionEndReason::KickedOut), Some(ConnectionEvent::KickedOut));
        assert_eq!(event(SessionEndReason::EndedByOperator), Some(ConnectionEvent::KickedOut));
        assert_eq!(event(SessionEndReason::TokenExpired), Some(ConnectionEvent::TokenExpired));
        assert_eq!(event(SessionEndReason::Unregistered), Some(ConnectionEvent::Unregistered));
        assert_eq!(event(SessionEndReason::LoggedOut), Some(ConnectionEvent::Success));
        assert_eq!(event(SessionEndReason::GoingAway), None);
        assert_eq!(event(SessionEndReason::Unspecified), None);
        assert_eq!(outcome(Some(End::Destroyed)), None);
    }
}
