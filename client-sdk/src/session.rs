//! Logging in, staying logged in, logging out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use zim_protocol::token::Token;
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, Event, LoginConfig, LoginRequest, LoginResult, LogoutRequest,
    RenewTokenRequest, SessionEndReason, TokenRenewedResult, TokenWillExpireEvent, UserInfo, Validate,
};

use crate::data::Data;
use crate::error::Error;
use crate::net::{Backoff, Ended, Session};
use crate::zim::{Inner, Zim};

/// The app is warned so long before its token ends.
const WARN_MS: i64 = 30_000;
/// A logout waits no longer for the server.
const LOGOUT_PATIENCE: Duration = Duration::from_secs(2);

/// Whoever is logged in.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) user_id: String,
    pub(crate) data: Arc<Data>,
    credentials: Arc<Credentials>,
    cancel: CancellationToken,
}

#[derive(Debug)]
struct Credentials {
    token: Mutex<String>,
    /// When the token ends, Unix milliseconds; 0 without one.
    ends_at: watch::Sender<i64>,
    /// Continues the session after a lost connection.
    ticket: Mutex<bytes::Bytes>,
}

impl Zim {
    /// Logs in (reference: `login`). The first login of a name registers it. `(Connecting, ActiveLogin)` is raised at once, then
    /// what became of it. From then on a lost connection is found again by itself, for ever.
    ///
    /// A second login of the same user does nothing. With `isOfflineLogin` the last user who was logged in on this device comes
    /// in without network: what is stored here can be queried, and the connection is made when it can be.
    ///
    /// # Errors
    /// 6000111: another user is logged in. 6000103, 6000106 … 6000109: the token. 6000104, 6000105: no network. 6000124: an
    /// offline login of somebody else than the last user. 6000701: the local database is in use.
    pub async fn login(&self, user_id: &str, config: LoginConfig) -> Result<(), Error> {
        let inner = self.inner();
        inner.alive()?;
        let _one_at_a_time = inner.logging_in.lock().await;
        if let Some(active) = &*inner.active.lock() {
            if active.user_id == user_id {
                return Ok(());
            }
            let message = format!("{} is logged in; log out first", active.user_id);
            return Err(Error::new(ErrorCode::NetworkModuleUserHasAlreadyLogged, message));
        }
        let request = inner.login_request(user_id, &config)?;
        inner.enter(ConnectionState::Connecting, ConnectionEvent::ActiveLogin);
        let logged_in = Arc::clone(inner).begin(request, config.is_offline_login).await;
        if let Err((event, error)) = logged_in {
            inner.enter(ConnectionState::Disconnected, event);
            return Err(error);
        }
        Ok(())
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
        self.data()?;
        let ends_at = Token::precheck(token, self.inner().config.clock.now_s())?;
        let request = RenewTokenRequest { token: token.to_owned() };
        let (result, _) = self.inner().link.call(request).await?;
        if let Some(active) = &*self.inner().active.lock() {
            token.clone_into(&mut active.credentials.token.lock());
            active.credentials.ends_at.send_replace(ends_at.saturating_mul(1_000));
        }
        Ok(result)
    }

    /// Logs out (reference: `logout`). Works without network as well; the server then sees the user go offline by himself.
    pub async fn logout(&self) {
        let inner = self.inner();
        let Some(active) = inner.active.lock().take() else { return };
        if inner.link.is_online() {
            // Whether the server heard it or not, this device is out.
            let _ = tokio::time::timeout(LOGOUT_PATIENCE, inner.link.call(LogoutRequest {})).await;
        }
        active.cancel.cancel();
        inner.link.detach();
        active.data.close().await;
        inner.enter(ConnectionState::Disconnected, ConnectionEvent::Success);
    }
}

type Failure = (ConnectionEvent, Error);

impl Inner {
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
        if self.config.app_sign.is_empty() {
            Token::precheck(&config.token, self.config.clock.now_s())?;
        }
        Ok(request)
    }

    async fn begin(self: Arc<Self>, mut request: LoginRequest, is_offline: bool) -> Result<(), Failure> {
        let refused = |error| (ConnectionEvent::LoginInterrupted, error);
        let user_id = request.user_id.clone();
        if is_offline && crate::last_user::get(&self.config).as_deref() != Some(&*user_id) {
            let message = format!("{user_id} is not the last user who was logged in on this device");
            return Err(refused(Error::new(ErrorCode::NetworkModuleUserIdError, message)));
        }
        let first = if is_offline { None } else { Some(self.admitted(&request).await?) };
        let data = Data::open(
            &self.config,
            self.config.app_id,
            &user_id,
            self.link.clone(),
            self.events.clone(),
            self.config.clock.clone(),
        )
        .map_err(refused)?;
        let config = request.config.get_or_insert_default();
        let token_ends_at = Token::precheck(&config.token, self.config.clock.now_s()).unwrap_or(0).saturating_mul(1_000);
        let credentials = Arc::new(Credentials {
            token: Mutex::new(std::mem::take(&mut config.token)),
            ends_at: watch::Sender::new(if is_offline { token_ends_at } else { 0 }),
            ticket: Mutex::default(),
        });
        // A name given at login is set once, not again at each new connection.
        config.user_name.clear();
        let cancel = self.root.child_token();
        let life = Life { inner: Arc::clone(&self), data: Arc::clone(&data), credentials, request, cancel };
        *self.active.lock() = Some(Active {
            user_id,
            data,
            credentials: Arc::clone(&life.credentials),
            cancel: life.cancel.clone(),
        });
        let started = match first {
            Some((session, login)) => Some(life.connected(session, &login).await),
            None => None,
        };
        self.tasks.spawn(life.run(started));
        Ok(())
    }

    /// The first connection of a login: one attempt.
    async fn admitted(&self, request: &LoginRequest) -> Result<(Session, LoginResult), Failure> {
        self.connect(request).await.map_err(|error| match error.code() {
            ErrorCode::NetworkModuleNetworkError | ErrorCode::NetworkModuleRequestTimeout => {
                (ConnectionEvent::LoginTimeout, error)
            }
            _ => (ConnectionEvent::LoginInterrupted, error),
        })
    }

    async fn connect(&self, request: &LoginRequest) -> Result<(Session, LoginResult), Error> {
        let mut session = self.dialer.dial().await?;
        let patience = Duration::from_millis(self.config.request_timeout_ms);
        let login = session.call(request, patience).await?;
        Ok((session, login))
    }
}

type Running = (Session, mpsc::UnboundedReceiver<crate::net::Outgoing>);

/// A login from its first connection to its end.
struct Life {
    inner: Arc<Inner>,
    data: Arc<Data>,
    credentials: Arc<Credentials>,
    request: LoginRequest,
    cancel: CancellationToken,
}

impl Life {
    async fn run(self, started: Option<Running>) {
        let event = tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            event = self.stay(started) => Some(event),
            () = self.token_ends() => Some(ConnectionEvent::TokenExpired),
        };
        self.inner.link.detach();
        self.data.disconnected();
        // A logout has taken it already, and tells the app itself.
        let active = self.inner.active.lock().take_if(|active| Arc::ptr_eq(&active.data, &self.data));
        if active.is_some() {
            self.data.close().await;
            if let Some(event) = event {
                self.inner.enter(ConnectionState::Disconnected, event);
            }
        }
    }

    /// A connection is logged in: calls go through it from now on.
    async fn connected(&self, session: Session, login: &LoginResult) -> Running {
        self.credentials.ticket.lock().clone_from(&login.session);
        self.credentials.ends_at.send_replace(login.token_expires_at);
        crate::last_user::set(&self.inner.config, &self.request.user_id);
        let (out, calls) = mpsc::unbounded_channel();
        self.inner.link.attach(out);
        self.inner.enter(ConnectionState::Connected, ConnectionEvent::Success);
        self.data.connected(login, session.welcome()).await;
        (session, calls)
    }

    /// Stays connected; returns why the login is over.
    async fn stay(&self, mut started: Option<Running>) -> ConnectionEvent {
        loop {
            let (session, calls) = match started.take() {
                Some(running) => running,
                None => match self.reconnect().await {
                    Ok(running) => running,
                    Err(event) => return event,
                },
            };
            let ended = session.run(calls, |frame| self.data.event_frame(frame)).await;
            self.inner.link.detach();
            self.data.disconnected();
            match ended {
                Ended::Server(SessionEndReason::KickedOut) => return ConnectionEvent::KickedOut,
                Ended::Server(SessionEndReason::TokenExpired) => return ConnectionEvent::TokenExpired,
                Ended::Server(SessionEndReason::Unregistered) => return ConnectionEvent::Unregistered,
                Ended::Server(SessionEndReason::LoggedOut) => return ConnectionEvent::Success,
                Ended::Server(SessionEndReason::GoingAway | SessionEndReason::Unspecified) | Ended::Lost => {
                    self.inner.enter(ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted);
                }
            }
        }
    }

    /// Tries until it works, or until the server says that it never will.
    async fn reconnect(&self) -> Result<Running, ConnectionEvent> {
        let mut backoff = Backoff::default();
        loop {
            let mut chance = [0; 8];
            // Without chance the pauses are just less spread.
            let _ = getrandom::fill(&mut chance);
            tokio::time::sleep(backoff.next(u64::from_ne_bytes(chance))).await;
            let mut request = self.request.clone();
            request.resume = self.credentials.ticket.lock().clone();
            if let Some(config) = &mut request.config {
                config.token.clone_from(&self.credentials.token.lock());
            }
            match self.inner.connect(&request).await {
                Ok((session, login)) => return Ok(self.connected(session, &login).await),
                Err(error) => match verdict(&error) {
                    Some(event) => {
                        tracing::warn!(%error, "the login is over");
                        return Err(event);
                    }
                    None => tracing::debug!(%error, "not connected yet"),
                },
            }
        }
    }

    /// Warns before the token ends, and returns when it does.
    async fn token_ends(&self) {
        let clock = &self.inner.config.clock;
        let mut ends_at = self.credentials.ends_at.subscribe();
        loop {
            let at = *ends_at.borrow_and_update();
            let end = async {
                if at == 0 {
                    return std::future::pending().await;
                }
                clock.sleep_until(at - WARN_MS).await;
                let second = (at - clock.now_ms()).max(0).div_euclid(1_000);
                self.inner.events.raise(Event::TokenWillExpire(TokenWillExpireEvent { second }));
                clock.sleep_until(at).await;
            };
            tokio::select! {
                () = end => return,
                // A new token; the sender lives as long as this.
                _ = ends_at.changed() => {}
            }
        }
    }
}

/// Whether a refused reconnect ends the login, and how the app is told.
fn verdict(error: &Error) -> Option<ConnectionEvent> {
    match error.code() {
        ErrorCode::NetworkModuleUserHasAlreadyLoggedOut => Some(match error.detail("reason") {
            Some("kickedOut") => ConnectionEvent::KickedOut,
            _ => ConnectionEvent::LoginInterrupted,
        }),
        ErrorCode::NetworkModuleTokenInvalid
        | ErrorCode::NetworkModuleTokenExpired
        | ErrorCode::NetworkModuleTokenVersionError
        | ErrorCode::NetworkModuleTokenTimeIsTooShort => Some(ConnectionEvent::TokenExpired),
        ErrorCode::CommonModuleInvalidAppId => Some(ConnectionEvent::LoginInterrupted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verdict_ends_a_login() {
        let lost = Error::new(ErrorCode::NetworkModuleNetworkError, "");
        assert_eq!(verdict(&lost), None);
        let mut wire = zim_protocol::Error::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, "");
        assert_eq!(verdict(&wire.clone().into()), Some(ConnectionEvent::LoginInterrupted));
        wire.details.insert("reason".to_owned(), "kickedOut".to_owned());
        assert_eq!(verdict(&wire.into()), Some(ConnectionEvent::KickedOut));
        let expired = Error::new(ErrorCode::NetworkModuleTokenExpired, "");
        assert_eq!(verdict(&expired), Some(ConnectionEvent::TokenExpired));
    }
}
