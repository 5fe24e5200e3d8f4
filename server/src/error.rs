//! Errors of requests. Each has a constructor, so that its code and its sentence are in one place. The cause of an internal error
//! is logged once, in `net/handler.rs`, and never sent.

mod conversation;
mod friend;
mod group;
mod left_out;
mod login;
mod media;
mod message;
mod room;
mod user;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use zim_protocol::token::TokenError;
use zim_protocol::{ErrorCode, RequestError, Violation};

pub use self::left_out::LeftOut;

/// Why a request failed: a code and a message for the client, and a cause for the log.
pub struct Error(Box<Inner>);

struct Inner {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error with a message for the client, which must not contain internals.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), details: Vec::new(), source: None }))
    }

    /// Whether the request may have taken effect although it failed: the failure is not a refusal by a rule.
    pub fn may_have_effect(&self) -> bool {
        self.0.source.is_some()
    }

    /// Adds a machine-readable detail.
    #[must_use]
    pub fn with_detail(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.details.push((key, value.into()));
        self
    }

    fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the reference's code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// Returns the message for the client.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the internal cause, which only the log may contain.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// Converts to the wire form, without the cause.
    pub fn to_wire(&self) -> zim_protocol::Error {
        zim_protocol::Error {
            code: self.0.code as i32,
            message: self.0.message.clone().into_owned(),
            details: self.0.details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }
    }
}

/// Failures of the server.
impl Error {
    /// A failure that the client did not cause. `source` is not sent.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImServerError, "internal error").caused_by(source)
    }

    /// The same as [`Error::internal`], with a text as the cause.
    pub fn internal_text(cause: impl Into<String>) -> Self {
        Self::internal(cause.into())
    }

    /// The disk is full. Reads and logout still work.
    pub fn storage_full(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImDatabaseError, "the server's disk is full; try again later")
            .caused_by(source)
    }

    /// The database is unreachable or too slow. The client may retry the request.
    pub fn storage_unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImDatabaseError, "the server's database is not available; try again later")
            .caused_by(source)
    }

    /// The server is stopping.
    pub fn shutting_down() -> Self {
        Self::new(ErrorCode::CommonModuleImServerDisconnect, "the server is stopping; connect again")
    }

    /// The deadline of the method passed. The request may still take effect.
    pub fn timed_out() -> Self {
        let message = "the server did not finish the request in time; it may still take effect";
        Self::new(ErrorCode::NetworkModuleRequestTimeout, message)
    }
}

/// Failures before a request reaches a service.
impl Error {
    /// A parameter is not valid.
    pub fn params_invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::CommonModuleParamsInvalid, message)
    }

    /// A message goes to no such kind of conversation.
    pub fn unknown_conversation_type() -> Self {
        Self::params_invalid("conversationType must be 0 (one other user), 1 (a room) or 2 (a group)")
    }

    /// The payload is not a request of its method.
    pub fn undecodable(method: &str, why: &RequestError) -> Self {
        Self::params_invalid(match why {
            RequestError::TooManyParts => why.to_string(),
            RequestError::Decode(_) => format!("the payload cannot be decoded as a request of {method}"),
        })
    }

    /// There is no such method.
    pub fn unsupported(method: &str) -> Self {
        // An unauthenticated client chooses the name, so the message repeats only a part of it.
        let name: String = method.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::new(ErrorCode::CommonModuleUnsupportedRequest, format!("there is no method {name}"))
    }

    /// The method requires a login.
    pub fn not_logged_in() -> Self {
        Self::new(ErrorCode::NetworkModuleUserIsNotLogged, "no user is logged in on this connection; log in first")
    }

    /// The method acts on a connection, and the caller has none.
    pub fn needs_connection() -> Self {
        Self::params_invalid("this method is for clients that are connected")
    }

    /// The session exceeded a rate of requests.
    pub fn too_fast(retry_after_ms: i64) -> Self {
        let message = "too many requests in a short time; try again after retry_after_ms";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }
}

/// Failures of calls, besides those that the rules name.
impl Error {
    /// An invitee is not registered.
    pub fn invitee_not_found(user_id: &str) -> Self {
        Self::new(ErrorCode::CallModuleInviteUserDoesNotExist, format!("there is no user {user_id}"))
    }
}

/// Failures of offline push.
impl Error {
    /// A device registers something that cannot be a token of its push service.
    pub fn push_id_invalid(message: &'static str) -> Self {
        Self::new(ErrorCode::ZpnsModulePushIdInvalid, message)
    }
}

impl From<Box<Violation>> for Error {
    fn from(violation: Box<Violation>) -> Self {
        Self::new(violation.code, violation.to_string())
    }
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::new(error.code, error.reason)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.message, self.0.code as i32)
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
    fn the_cause_is_kept_and_never_sent() {
        let error = Error::internal(std::io::Error::other("disk of node 3 is on fire"));
        let wire = error.to_wire();
        assert_eq!((wire.code, wire.message.as_str()), (6_000_007, "internal error"));
        assert!(error.cause().unwrap().to_string().contains("on fire"));
        assert!(!error.to_string().contains("on fire"));
    }

    #[test]
    fn an_unknown_method_name_is_cut_and_cleaned() {
        let error = Error::unsupported(&"x\n".repeat(10_000));
        assert!(error.message().len() < 100);
        assert!(!error.message().contains('\n'));
    }
}
