//! Login, reconnection, logout.

mod login_task;
mod login;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zim_protocol::token;
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, LoginConfig, LoginRequest, LogoutConfig, RenewTokenRequest,
    TokenRenewedResult, UserInfo, Validate,
};

pub(crate) use self::login::Login;
use self::login_task::LoginTask;
use crate::error::Error;
use crate::last_user;
use crate::zim::{Inner, Zim};

/// The longest wait of `logout`. After that the login ends in the background.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);

impl Zim {
    /// Logs in (reference: `login`). The first login with a user id registers the user. `(Connecting, ActiveLogin)` is
    /// raised at once, then the result: `(Connected, Success)`, `(Disconnected, LoginTimeout)` without a network, or
    /// `(Disconnected, LoginInterrupted)` when the server refuses. After a success the client reconnects on its own
    /// whenever the connection is lost, without a limit: `(Reconnecting, LoginInterrupted)`, then `(Connected,
    /// Success)`.
    ///
    /// A second login of the same user has no effect; its config is ignored. Dropping the future does not stop the
    /// login; [`Zim::logout`] does.
    ///
    /// With `isOfflineLogin` the last user who was logged in on this device can log in without a network. The local
    /// database can be queried, and the client connects when it can.
    ///
    /// # Errors
    /// 6000111: another user is logged in. 6000103, 6000106 … 6000109: the token. 6000104, 6000105: no network.
    /// 6000124: an offline login of a user other than the last one. 6000701: the local database is in use.
    pub async fn login(&self, user_id: &str, config: LoginConfig) -> Result<(), Error> {
        loop {
            match self.inner().begin(user_id, &config)? {
                Started::Login(login) => return login.accepted().await,
                Started::EndsFirst(earlier) => earlier.ended().await,
            }
        }
    }

    /// The older form of `login` in the reference.
    ///
    /// # Errors
    /// See [`Zim::login`].
    #[deprecated = "use login"]
    pub async fn login_with_user_info(&self, user: UserInfo, token: &str) -> Result<(), Error> {
        let config = LoginConfig { user_name: user.user_name, token: token.to_owned(), ..LoginConfig::default() };
        self.login(&user.user_id, config).await
    }

    /// Replaces the token before it expires (reference: `renewToken`).
    ///
    /// # Errors
    /// The token is not valid for this user, or there is no connection.
    pub async fn renew_token(&self, token: &str) -> Result<TokenRenewedResult, Error> {
        let login = self.logged_in()?;
        let request = RenewTokenRequest { token: token.to_owned() };
        request.validate().map_err(|violation| Error::from(*violation))?;
        let ends_at_s = token::expiry(token)?;
        let (result, _) = login.link.request(request).await?;
        login.renew(token, ends_at_s.saturating_mul(1_000));
        Ok(result)
    }

    /// Logs out (reference: `logout`): `(Disconnected, Success)`. This takes seconds at most, with or without a
    /// network. Without one, the server detects by itself that the device is offline. Messages that are being sent
    /// fail.
    pub async fn logout(&self) {
        self.logout_with_config(LogoutConfig::default()).await;
    }

    /// The form of [`Zim::logout`] with a config (reference: `logout`). With `isClearDB` the local copy of this user's
    /// data is deleted; the next login fetches it again, and needs a network. What exists only on the device is gone:
    /// messages that were not sent. Without a login nothing is deleted.
    pub async fn logout_with_config(&self, config: LogoutConfig) {
        let Some(login) = self.inner().login.lock().clone() else { return };
        login.leave(config.is_clear_db);
        // After a timeout it continues in the background; the next login waits for it.
        let _ = timeout(LOGOUT_TIMEOUT, login.ended()).await;
    }
}

/// The outcome of starting a login.
enum Started {
    /// This login is in progress, or done.
    Login(Arc<Login>),
    /// An earlier login is ending and must be awaited first.
    EndsFirst(Arc<Login>),
}

impl Inner {
    fn begin(self: &Arc<Self>, user_id: &str, config: &LoginConfig) -> Result<Started, Error> {
        let mut slot = self.login.lock();
        self.alive()?;
        if let Some(login) = &*slot {
            if login.is_ending() {
                return Ok(Started::EndsFirst(Arc::clone(login)));
            }
            if login.user_id == user_id {
                return Ok(Started::Login(Arc::clone(login)));
            }
            let message = format!("{} is logged in; log out first", login.user_id);
            return Err(Error::new(ErrorCode::NetworkModuleUserHasAlreadyLogged, message));
        }
        let request = self.login_request(user_id, config)?;
        if config.is_offline_login && last_user::get(&self.config).as_deref() != Some(user_id) {
            let message = format!("{user_id} is not the last user who was logged in on this device");
            return Err(Error::new(ErrorCode::NetworkModuleUserIdError, message));
        }
        let login = Arc::new(Login::new(user_id, &config.token, self.config.request_timeout_ms, &self.config.clock));
        *slot = Some(Arc::clone(&login));
        self.enter(ConnectionState::Connecting, ConnectionEvent::ActiveLogin);
        self.tasks.spawn(LoginTask::new(Arc::clone(self), Arc::clone(&login), request).run());
        Ok(Started::Login(login))
    }

    fn login_request(&self, user_id: &str, config: &LoginConfig) -> Result<LoginRequest, Error> {
        let request = LoginRequest {
            user_id: user_id.to_owned(),
            config: Some(config.clone()),
            app_id: self.config.app_id,
            app_sign: self.config.app_sign.clone(),
            resume: bytes::Bytes::new(),
            one_shot: self.config.one_shot,
        };
        request.validate().map_err(|violation| Error::from(*violation))?;
        // If both are given, the server looks at the token only when the app sign is wrong.
        if !self.config.has_app_sign() {
            // The server decides whether the token has expired, because the clock of this device may be wrong.
            token::expiry(&config.token)?;
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
