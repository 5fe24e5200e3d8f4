//! Logging in and out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use zim_protocol::{LoginConfig, LogoutConfig, RenewTokenRequest, TokenRenewedResult, UserInfo, Validate};

use crate::account::logged_out;
use crate::error::Error;
use crate::session::Started;
use crate::zim::Zim;

/// The longest wait of `logout`. After that the login ends in the background.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);

impl Zim {
    /// Logs in (reference: `login`). The first login with a user id registers the user. `(Connecting, ActiveLogin)` is
    /// raised at once, then the result: `(Connected, Success)`, `(Disconnected, LoginTimeout)` without a network, or
    /// `(Disconnected, LoginInterrupted)` when the server refuses. After a success the client reconnects on its own
    /// whenever the connection is lost, without a limit: `(Reconnecting, LoginInterrupted)`, then `(Connected,
    /// Success)`.
    ///
    /// A second login of the same user waits for the first one, and then renews the token if it has another; the rest of
    /// its config is ignored. The login starts at the call. Dropping the future does not stop it; [`Zim::logout`] does.
    ///
    /// With `isOfflineLogin` the last user who was logged in on this device can log in without a network. The local
    /// database can be queried, and the client connects when it can.
    ///
    /// # Errors
    /// 6000111: another user is logged in. 6000103, 6000106 … 6000109: the token. 6000104, 6000105: no network.
    /// 6000124: an offline login of a user other than the last one. 6000701: the local database is in use.
    pub fn login(
        &self,
        user_id: &str,
        config: LoginConfig,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (client, user_id) = (Arc::clone(self.client()), user_id.to_owned());
        let mut started = client.begin(&user_id, &config);
        async move {
            loop {
                match started? {
                    Started::Login(login) => return login.accepted().await,
                    Started::Renews(login, token) => {
                        login.accepted().await?;
                        return login.renew(token).await.map(drop);
                    }
                    Started::EndsFirst(earlier) => earlier.ended().await,
                }
                started = client.begin(&user_id, &config);
            }
        }
    }

    /// The older form of `login` in the reference.
    ///
    /// # Errors
    /// See [`Zim::login`].
    #[deprecated = "use login"]
    pub fn login_with_user_info(
        &self,
        user: UserInfo,
        token: &str,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let config = LoginConfig { user_name: user.user_name, token: token.to_owned(), ..LoginConfig::default() };
        self.login(&user.user_id, config)
    }

    /// Replaces the token before it expires (reference: `renewToken`). Without a connection the next one uses the new
    /// token; if the server refuses it then, the login ends.
    ///
    /// # Errors
    /// The token is not valid for this user.
    pub fn renew_token(
        &self,
        token: &str,
    ) -> impl Future<Output = Result<TokenRenewedResult, Error>> + Send + 'static + use<> {
        let request = RenewTokenRequest { token: token.to_owned() };
        let checked = request.validate().map_err(Error::from);
        let answer = self.logged_in().and_then(|login| {
            checked?;
            let account = login.account().ok_or_else(logged_out)?;
            Ok(account.own(async move { login.renew(request.token).await }))
        });
        async move { answer?.await }
    }

    /// Logs out (reference: `logout`): `(Disconnected, Success)`. This takes seconds at most, with or without a
    /// network. Without one, the server detects by itself that the device is offline. Messages that are being sent
    /// fail.
    pub fn logout(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.logout_with_config(LogoutConfig::default())
    }

    /// The form of [`Zim::logout`] with a config (reference: `logout`). With `isClearDB` the local copy of this user's
    /// data is deleted; the next login fetches it again, and needs a network. What exists only on the device is gone:
    /// messages that were not sent. Without a login nothing is deleted.
    pub fn logout_with_config(&self, config: LogoutConfig) -> impl Future<Output = ()> + Send + 'static + use<> {
        let login = self.client().login.lock().clone();
        if let Some(login) = &login {
            login.leave(config.is_clear_db);
        }
        async move {
            if let Some(login) = login {
                // After a timeout it continues in the background; the next login waits for it.
                let _ = timeout(LOGOUT_TIMEOUT, login.ended()).await;
            }
        }
    }
}
