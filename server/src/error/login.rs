//! Errors of logins.

use zim_protocol::ErrorCode;

use super::Error;
use crate::key::AppKey;

/// Failures of a login.
impl Error {
    /// There is no such app.
    pub fn app_not_found(app: AppKey) -> Self {
        Self::new(ErrorCode::CommonModuleInvalidAppId, format!("there is no app {}", app.0))
    }

    /// The login has neither an app sign nor a token.
    pub fn credentials_missing() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenInvalid, "the login has no credentials; send a token or the app sign")
    }

    /// The app sign is wrong, or there is no such app. The error does not reveal which apps a server has.
    pub fn app_sign_wrong() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenInvalid, "the app ID or the app sign is wrong")
    }

    /// The app sign is right, but the operator has turned it off.
    pub fn app_sign_off() -> Self {
        let message = "logging in with the app sign is turned off for this app; log in with a token";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message).with_detail("reason", "appSignOff")
    }

    /// The app does not accept AES-CBC tokens.
    pub fn cbc_tokens_off(app_id: u32) -> Self {
        let message = format!(
            "this app does not accept AES-CBC tokens; make AES-GCM tokens, or accept AES-CBC with: \
             zim admin app set --app-id {app_id} --cbc-tokens on"
        );
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message).with_detail("reason", "cbcTokensOff")
    }

    /// Whether this is [`Error::cbc_tokens_off`].
    pub fn is_cbc_tokens_off(&self) -> bool {
        self.0.details.iter().any(|(key, value)| *key == "reason" && value == "cbcTokensOff")
    }

    /// Too many logins from this address, or to this app, failed. A client whose credentials may be right must not retry with
    /// them: the code is that of wrong credentials.
    pub fn credentials_refused(retry_after_ms: i64) -> Self {
        let message = "the credentials are not accepted; the reason is withheld after too many failed logins";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// Too many logins from this address, or to this app, failed: AES-CBC tokens are refused unseen.
    pub fn too_many_failed_logins(retry_after_ms: i64) -> Self {
        let message = "AES-CBC tokens are refused after too many failed logins; try again after retry_after_ms";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// The clock of the back end that made the token is far ahead, or its ctime is in milliseconds.
    pub fn token_made_ahead() -> Self {
        let message = "the token's ctime is more than ten minutes ahead of the server's clock; \
                       give ctime in Unix seconds, and synchronize the clocks";
        Self::new(ErrorCode::NetworkModuleTokenInvalid, message)
    }

    /// Too many logins from this address registered new users.
    pub fn too_many_first_logins(retry_after_ms: i64) -> Self {
        let message = "too many new users from this address in a short time; try again after retry_after_ms";
        Self::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, message)
            .with_detail("retry_after_ms", retry_after_ms.to_string())
    }

    /// The user does not exist, and the app does not register users at such a login.
    pub fn user_not_registered(user_id: &str) -> Self {
        let message =
            format!("there is no user {user_id}, and this login cannot register one; register the user first");
        Self::new(ErrorCode::CommonModuleUserIsNotExist, message).with_detail("reason", "notRegistered")
    }

    /// The operator has banned the user.
    pub fn user_banned(ends_at_ms: i64) -> Self {
        let error =
            Self::new(ErrorCode::NetworkModuleTokenInvalid, "this user is banned").with_detail("reason", "banned");
        if ends_at_ms == 0 { error } else { error.with_detail("ends_at_ms", ends_at_ms.to_string()) }
    }

    /// The operator has revoked the token. The code is that of an expired token, because a newer one is accepted.
    pub fn token_revoked() -> Self {
        Self::new(ErrorCode::NetworkModuleTokenExpired, "this token was revoked; log in with a newer one")
            .with_detail("reason", "revoked")
    }

    /// A second login on the same connection.
    pub fn already_logged_in() -> Self {
        Self::new(
            ErrorCode::NetworkModuleUserHasAlreadyLogged,
            "a user is already logged in on this connection; open another connection for another login",
        )
    }

    /// The login to resume has ended in the meantime; `reason` is for the SDK.
    pub fn session_ended(reason: &'static str) -> Self {
        let message = "this login has ended; log in again";
        Self::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, message).with_detail("reason", reason)
    }
}
