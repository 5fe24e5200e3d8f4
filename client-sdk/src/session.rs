//! Logging in, staying logged in, logging out.

mod login_task;
mod login;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zim_protocol::token::Token;
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, LoginConfig, LoginRequest, RenewTokenRequest, TokenRenewedResult,
    UserInfo, Validate,
};

pub(crate) use self::login::Login;
use self::login_task::LoginTask;
use crate::error::Error;
use crate::last_user;
use crate::zim::{Inner, Zim};

/// A logout waits no longer for the end of what is under way; it ends in the background then.
const LOGOUT_PATIENCE: Duration = Duration::from_secs(5);

impl Zim {
    /// Logs in (reference: `login`). The first login of a name registers it. `(Connecting, ActiveLogin)` is raised at once, then
    /// what became of it: `(Connected, Success)`, `(Disconnected, LoginTimeout)` without network, or
    /// `(Disconnected, LoginInterrupted)` when the server refuses. From then on a lost connection is found again by itself, for
    /// ever: `(Reconnecting, LoginInterrupted)`, `(Connected, Success)`.
    ///
    /// A second login of the same user does nothing. The login goes on when this future is dropped; [`Zim::logout`] ends it.
    ///
    /// With `isOfflineLogin` the last user who was logged in on this device comes in without network: what is stored here can
    /// be queried, and the connection is made when it can be.
    ///
    /// # Errors
    /// 6000111: another user is logged in. 6000103, 6000106 … 6000109: the token. 6000104, 6000105: no network. 6000124: an
    /// offline login of somebody else than the last user. 6000701: the local database is in use.
    pub async fn login(&self, user_id: &str, config: LoginConfig) -> Result<(), Error> {
        loop {
            match self.inner().begin(user_id, &config)? {
                Begun::Login(login) => return login.accepted().await,
                Begun::EndsFirst(earlier) => earlier.ended().await,
            }
        }
    }

    /// The reference's older form of `login`.
    ///
    /// # Errors
    /// As [`Zim::login`].
    #[deprecated = "use login"]
    pub async fn login_with_user_info(&self, user: UserInfo, token: &str) -> Result<(), Error> {
        let config = LoginConfig { user_name: user.user_name, token: token.to_owned(), ..LoginConfig::default() };
        self.login(&user.user_id, config).await
    }

    /// Replaces the token before it ends (reference: `renewToken`).
    ///
    /// # Errors
    /// The token is not good for this user, or there is no connection.
    pub async fn renew_token(&self, token: &str) -> Result<TokenRenewedResult, Error> {
        let login = self.logged_in()?;
        let request = RenewTokenRequest { token: token.to_owned() };
        request.validate().map_err(|violation| Error::from(*violation))?;
        let ends_at_s = Token::expiry(token)?;
        let (result, _) = login.link.request(request).await?;
        login.renew(token, ends_at_s.saturating_mul(1_000));
        Ok(result)
    }

    /// Logs out (reference: `logout`): `(Disconnected, Success)`. Takes seconds at most, with or without network; without, the
    /// server finds out by itself. What is being sent fails.
    pub async fn logout(&self) {
        let Some(login) = self.inner().login.lock().clone() else { return };
        login.leave();
        // It goes on in the background, and the next login waits for it.
        let _ = timeout(LOGOUT_PATIENCE, login.ended()).await;
    }
}

/// What a login found.
enum Begun {
    /// It is under way, or done.
    Login(Arc<Login>),
    /// An earlier one is ending.
    EndsFirst(Arc<Login>),
}

impl Inner {
    fn begin(self: &Arc<Self>, user_id: &str, config: &LoginConfig) -> Result<Begun, Error> {
        let mut slot = self.login.lock();
        self.alive()?;
        if let Some(login) = &*slot {
            if login.is_ending() {
                return Ok(Begun::EndsFirst(Arc::clone(login)));
            }
            if login.user_id == user_id {
                return Ok(Begun::Login(Arc::clone(login)));
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
        Ok(Begun::Login(login))
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
        // With both, the server looks at the token only when the sign is wrong.
        if !self.config.has_app_sign() {
            // Whether it has ended the server knows: this device's clock may be wrong.
            Token::expiry(&config.token)?;
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests;
