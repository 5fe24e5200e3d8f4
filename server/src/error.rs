//! Why a call fails. Errors are made by named sentences, so that a code and its words stand together in one place; what
//! caused an internal one is logged once, in `net/handler.rs`, and never sent.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use zim_protocol::token::TokenError;
use zim_protocol::{ErrorCode, ErrorUserInfo, RequestError, Violation};

use crate::key::AppKey;

/// The failure of a call: what the caller hears, and what only the log does.
pub struct Error(Box<Inner>);

struct Inner {
    code: ErrorCode,
    message: Cow<'static, str>,
    details: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// `code` with a sentence of the caller's concern: no internals.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), details: Vec::new(), source: None }))
    }

    /// Adds a detail that a program may want to read.
    #[must_use]
    pub fn with_detail(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.details.push((key, value.into()));
        self
    }

    fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The reference's code.
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// What the caller hears.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The internal cause, for the log alone.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.source.as_deref()
    }

    /// As it is sent: without the cause.
    pub fn to_wire(&self) -> zim_protocol::Error {
        zim_protocol::Error {
            code: self.0.code as i32,
            message: self.0.message.clone().into_owned(),
            details: self.0.details.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        }
    }
}

/// The server's own trouble.
impl Error {
    /// Something that is not the caller's fault. The cause stays here.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImServerError, "internal error").caused_by(source)
    }

    /// As [`Error::internal`], where no other error says what is wrong.
    pub fn internal_text(cause: impl Into<String>) -> Self {
        Self::internal(cause.into())
    }

    /// The disk is full: reads and logout still work.
    pub fn storage_full(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImDatabaseError, "the server has no room to store this").caused_by(source)
    }

    /// The database cannot be reached or answers too late; what was asked may be tried again.
    pub fn storage_unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorCode::CommonModuleImDatabaseError, "the server's store does not answer").caused_by(source)
    }

    /// The server stops.
    pub fn shutting_down() -> Self {
        Self::new(ErrorCode::CommonModuleImServerDisconnect, "the server stops; connect again")
    }

    /// The deadline of the method passed. What was asked may still happen.
    pub fn timed_out() -> Self {
        Self::new(ErrorCode::NetworkModuleRequestTimeout, "the server could not answer in time")
    }
}

/// What is wrong with a call before it reaches a service.
impl Error {
    /// A value is not allowed.
    pub fn params_invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::CommonModuleParamsInvalid, message)
    }

    /// The request is not what its method takes.
    pub fn undecodable(method: &str, why: &RequestError) -> Self {
        Self::params_invalid(match why {
            RequestError::TooManyParts => why.to_string(),
            RequestError::Decode(_) => format!("the request cannot be read as one of {method}"),
        })
    }

    /// There is no such method.
    pub fn unsupported(method: &str) -> Self {
        // What a stranger sends is not repeated at any length.
        let name: String = method.chars().filter(|c| !c.is_control()).take(64).collect();
        Self::new(ErrorCode::CommonModuleUnsupportedRequest, format!("there is no method {name}"))
    }

    /// Somebody must be logged in for this.
    pub fn not_logged_in() -> Self {
        Self::new(ErrorCode::NetworkModuleUserIsNotLogged, "log in first")
    }

    /// Too many calls of this session in too short a time.
    pub fn too_fast(retry_after_ms: i64) -> Self {
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, "too many requests in a short time")
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }
}

/// Logging in.
impl Error {
    /// There is no such app here.
    pub fn app_not_found(app: AppKey) -> Self {
        Self::new(ErrorCode::CommonModuleInvalidAppId, format!("there is no app {}", app.0))
    }

    /// Neither app sign nor token.
    pub fn credentials_missing() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenInvalid, "a token or the app's sign is needed")
    }

    /// The app sign is another, or there is no such app: nobody learns which apps a server has.
    pub fn app_sign_wrong() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenInvalid, "the app ID or the app sign is wrong")
    }

    /// The app sign is right, and the operator has turned it off.
    pub fn app_sign_off() -> Self {
        let message = "logging in with the app sign is turned off for this app; log in with a token";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message).with_detail("reason", "appSignOff")
    }

    /// The token is of the AES-CBC form, which the app does not accept.
    pub fn cbc_tokens_off(app_id: u32) -> Self {
        let message = format!(
            "tokens of the AES-CBC form are off for this app; make AES-GCM tokens, or turn them on with: \
             zim admin app set --app-id {app_id} --cbc-tokens on"
        );
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message).with_detail("reason", "cbcTokensOff")
    }

    /// Whether this is [`Error::cbc_tokens_off`].
    pub fn is_cbc_tokens_off(&self) -> bool {
        self.0.details.iter().any(|(key, value)| *key == "reason" && value == "cbcTokensOff")
    }

    /// Logins of this address, or to this app, failed too often. A client that may have been right must not come again with the
    /// same: the code is that of wrong credentials.
    pub fn credentials_refused(retry_after_ms: i64) -> Self {
        let message = "the credentials are not accepted; too many logins failed in a short time for more to be told";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// Logins of this address, or to this app, failed too often for a token of the AES-CBC form to be looked at.
    pub fn too_many_failed_logins(retry_after_ms: i64) -> Self {
        let message = "too many logins failed in a short time; tokens of the AES-CBC form have to wait";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// The back end that made the token has a clock that is far ahead, or counts milliseconds.
    pub fn token_made_ahead() -> Self {
        let message = "the token was made more than ten minutes ahead of the server's clock; \
                       ctime is in Unix seconds, and the clocks must agree";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message)
    }

    /// Too many new users of this address.
    pub fn too_many_first_logins(retry_after_ms: i64) -> Self {
        let message = "too many new users from this address in a short time";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// A first login does not register a user of this app.
    pub fn user_not_registered(user_id: &str) -> Self {
        let message = format!("there is no user {user_id}, and this app does not register users in this way");
        Self::new(ErrorCode::CommonModuleUserIsNotExist, message).with_detail("reason", "notRegistered")
    }

    /// The operator keeps the user out.
    pub fn user_banned(ends_at_ms: i64) -> Self {
        let error =
            Self::new(ErrorCode::NetworkModuleTokenInvalid, "this user is banned").with_detail("reason", "banned");
        if ends_at_ms == 0 { error } else { error.with_detail("ends_at_ms", ends_at_ms.to_string()) }
    }

    /// The operator has revoked the token. To a client it is as if its time were up: a newer one opens.
    pub fn token_revoked() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenExpired, "this token was revoked; log in with a newer one")
            .with_detail("reason", "revoked")
    }

    /// Another login on the same connection.
    pub fn already_logged_in() -> Self {
        Self::new(
            ErrorCode::NetworkModuleUserHasAlreadyLogged,
            "somebody is logged in on this connection; another login needs another connection",
        )
    }

    /// A login that was resumed has been ended meanwhile; `reason` is for the SDK.
    pub fn session_ended(reason: &'static str) -> Self {
        Self::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, "this login was ended").with_detail("reason", reason)
    }
}

/// Sending and asking.
impl Error {
    /// The sender's key stands for another message already.
    pub fn key_reused() -> Self {
        Self::params_invalid("another message was sent under the same client key; a new message needs a new key")
    }

    /// Who should get the message has blocked the sender.
    pub fn sender_blocked() -> Self {
        Self::new(ErrorCode::MessageModuleSenderInBlacklist, "this user does not want messages from you")
    }

    /// Nothing that was asked of several users could be done: for the one reason they share, or else `various`.
    pub fn all_refused(errors: &[ErrorUserInfo], various: ErrorCode) -> Self {
        let first = errors.first().and_then(|error| code(error.reason)).unwrap_or(various);
        let is_shared = errors.iter().all(|error| code(error.reason) == Some(first));
        let list: Vec<String> = errors.iter().map(|error| format!("{} ({})", error.user_id, error.reason)).collect();
        let message = format!("this could be done for none of the users: {}", list.join(", "));
        Self::new(if is_shared { first } else { various }, message)
    }

    /// The extended data of a profile is too long for this server.
    pub fn user_extended_data_too_long(bytes: usize, most: u32) -> Self {
        Self::params_invalid(format!("extendedData is {bytes} bytes long; at most {most} are allowed"))
    }

    /// Nobody subscribes to himself.
    pub fn own_status() -> Self {
        Self::params_invalid("this user is yourself: your own devices hear of your status anyhow")
    }

    /// There is no subscription to end.
    pub fn not_subscribed(user_id: &str) -> Self {
        Self::params_invalid(format!("you have not subscribed to the status of {user_id}"))
    }

    /// More profiles than a session may ask for.
    pub fn users_queried_too_often() -> Self {
        Self::new(ErrorCode::CommonModuleUserInfoQueriedLimit, "at most 10 users can be queried in 10 seconds")
    }
}

/// Friends and applications.
impl Error {
    /// A list of friends holds no more.
    pub fn friends_full(whose: &str, most: u64) -> Self {
        Self::new(ErrorCode::FriendModuleFriendNumsLimit, format!("{whose} list of friends is full: it holds {most}"))
    }

    /// There is nothing that the caller could answer.
    pub fn no_application_waits() -> Self {
        let message = "no application of this user waits for your answer";
        Self::new(ErrorCode::FriendModuleFriendApplicationStatusError, message)
    }

    /// It was not answered in time.
    pub fn application_expired() -> Self {
        Self::new(ErrorCode::FriendModuleFriendApplicationExpired, "the application of this user has expired")
    }

    /// The other one is on the caller's list.
    pub fn already_friends() -> Self {
        Self::new(ErrorCode::FriendModuleIsAlreadyYourFriend, "this user is your friend already")
    }

    /// Who should become a friend has blocked the caller.
    pub fn blocked_by_friend() -> Self {
        Self::new(ErrorCode::CommonModuleBlacklistLimit, "this user has blocked you")
    }

    /// Nobody is his own friend.
    pub fn cannot_befriend_self() -> Self {
        Self::new(ErrorCode::FriendModuleCannotAddSelfToFriendList, "this user is yourself")
    }

    /// There is no such user in the app.
    pub fn friend_unregistered(user_id: &str) -> Self {
        Self::new(ErrorCode::FriendModuleFriendAreUnregistered, format!("there is no user {user_id}"))
    }

    /// The other one is not on the caller's list.
    pub fn not_friends(user_id: &str) -> Self {
        Self::new(ErrorCode::FriendModuleNotYourFriend, format!("{user_id} is not on your list of friends"))
    }

    /// Nobody is on his own list.
    pub fn cannot_delete_self() -> Self {
        Self::new(ErrorCode::FriendModuleCannotDeleteSelf, "this user is yourself: you are not on your own list")
    }

    /// Attributes that are too long together with those that are there.
    pub fn friend_attributes_too_long(bytes: usize, most: usize) -> Self {
        let message = format!("the friend would have {bytes} bytes of attributes; at most {most} are allowed");
        Self::params_invalid(message)
    }
}

/// Users whom a call for several could not serve, each with the reason.
#[derive(Debug, Default)]
pub struct LeftOut(Vec<(String, Error)>);

impl LeftOut {
    /// One more.
    pub fn add(&mut self, user_id: String, why: Error) {
        self.0.push((user_id, why));
    }

    /// What the answer says of them, when `served` others were served. If nobody was, the call fails as the first one did.
    ///
    /// # Errors
    /// Nobody was served.
    pub fn finish(mut self, served: usize) -> Result<Vec<ErrorUserInfo>, Error> {
        if served == 0 && !self.0.is_empty() {
            return Err(self.0.swap_remove(0).1);
        }
        let left_out = self.0.into_iter();
        Ok(left_out.map(|(user_id, why)| ErrorUserInfo { user_id, reason: i64::from(why.code() as i32) }).collect())
    }
}

/// Things that are not there.
impl Error {
    /// There is no such user in the app.
    pub fn user_not_found(user_id: &str) -> Self {
        Self::new(ErrorCode::CommonModuleUserIsNotExist, format!("there is no user {user_id}"))
    }

    /// Nobody to send to.
    pub fn target_not_found(id: &str) -> Self {
        Self::new(ErrorCode::MessageModuleTargetDoesNotExist, format!("there is nobody named {id} to send to"))
    }

    /// The conversation has ended, or the caller was never part of it: he is not told which.
    pub fn conversation_closed() -> Self {
        Self::new(ErrorCode::ConversationModuleConversationDoesNotExist, "you are not part of this conversation")
    }

    /// There is no such conversation for the caller.
    pub fn conversation_not_found(id: &str) -> Self {
        Self::new(ErrorCode::ConversationModuleConversationDoesNotExist, format!("there is no conversation with {id}"))
    }
}

fn code(reason: i64) -> Option<ErrorCode> {
    i32::try_from(reason).ok().and_then(|code| ErrorCode::try_from(code).ok())
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
