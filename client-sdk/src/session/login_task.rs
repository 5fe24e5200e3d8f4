//! The task of a login: connects, stays connected, and tidies up at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, Event, LoginRequest, LoginResult, LogoutRequest, SessionEndReason,
    TokenWillExpireEvent,
};

use super::login::{Login, ended_by_operator, kicked_out};
use crate::account::Account;
use crate::error::Error;
use crate::last_user;
use crate::net::{Backoff, Dialed, Ended, drive};
use crate::zim::Inner;

/// The app is warned so long before its token ends.
const WARN_MS: i64 = 30_000;
/// A logout waits no longer for the server's answer.
const FAREWELL: Duration = Duration::from_secs(2);
/// A connection that lasted so long was a good one: the next pause is short again.
const STEADY: Duration = Duration::from_secs(10);

/// Why a login is over.
#[derive(Debug)]
enum End {
    /// The app logged out.
    Left,
    /// The app destroyed the client, or dropped it.
    Destroyed,
    /// The server, or the local database, said no.
    Refused(Error),
    /// There was no connection in time.
    GaveUp(Error),
    KickedOut,
    /// The operator ended the session.
    EndedByOperator,
    TokenExpired,
    Unregistered,
}

impl End {
    /// As the server says it; `None`: connect again.
    fn of(reason: SessionEndReason) -> Option<Self> {
        match reason {
            SessionEndReason::KickedOut => Some(Self::KickedOut),
            SessionEndReason::EndedByOperator => Some(Self::EndedByOperator),
            SessionEndReason::TokenExpired => Some(Self::TokenExpired),
            SessionEndReason::Unregistered => Some(Self::Unregistered),
            SessionEndReason::LoggedOut => Some(Self::Left),
            SessionEndReason::GoingAway | SessionEndReason::Unspecified => None,
        }
    }

    /// The `extendedData` of the event: what the reference's events cannot tell apart.
    const fn extended_data(&self) -> &'static str {
        match self {
            Self::EndedByOperator => r#"{"reason":"endedByOperator"}"#,
            _ => "",
        }
    }

    /// What the app is told, and what a caller who still waits for the login gets.
    fn told(self) -> Option<(ConnectionEvent, Option<Error>)> {
        Some(match self {
            Self::Destroyed => return None,
            Self::Left => (ConnectionEvent::Success, None),
            Self::Refused(error) => (ConnectionEvent::LoginInterrupted, Some(error)),
            Self::GaveUp(error) => (ConnectionEvent::LoginTimeout, Some(error)),
            Self::KickedOut => (ConnectionEvent::KickedOut, Some(kicked_out())),
            Self::EndedByOperator => (ConnectionEvent::KickedOut, Some(ended_by_operator())),
            Self::TokenExpired => {
                let error = Error::new(ErrorCode::NetworkModuleTokenExpired, "the token has expired");
                (ConnectionEvent::TokenExpired, Some(error))
            }
            Self::Unregistered => {
                let error = Error::new(ErrorCode::CommonModuleUserIsNotExist, "this account does not exist any more");
                (ConnectionEvent::Unregistered, Some(error))
            }
        })
    }
}

/// Why an attempt did not log in.
#[derive(Debug)]
struct Failed {
    error: Error,
    /// The same will happen again.
    is_final: bool,
}

impl Failed {
    fn is_network(&self) -> bool {
        matches!(self.error.code(), ErrorCode::NetworkModuleNetworkError | ErrorCode::NetworkModuleRequestTimeout)
    }
}

/// A login from its first connection to its end.
pub(super) struct LoginTask {
    inner: Arc<Inner>,
    login: Arc<Login>,
    request: Mutex<LoginRequest>,
    is_offline: bool,
}

impl LoginTask {
    pub(super) fn new(inner: Arc<Inner>, login: Arc<Login>, request: LoginRequest) -> Self {
        let is_offline = request.config.as_ref().is_some_and(|config| config.is_offline_login);
        Self { inner, login, request: Mutex::new(request), is_offline }
    }

    pub(super) async fn run(self) {
        match self.open().await {
            Ok(account) => {
                let end = self.live(&account).await;
                self.finish(end, Some(account)).await;
            }
            Err(error) => self.finish(End::Refused(error), None).await,
        }
    }

    /// The local database; before the network answers, so that an offline login has it.
    async fn open(&self) -> Result<Arc<Account>, Error> {
        let (inner, login) = (Arc::clone(&self.inner), Arc::clone(&self.login));
        let opened = tokio::task::spawn_blocking(move || {
            let (config, link, events) = (&inner.config, login.link.clone(), inner.events.clone());
            Account::open(config, config.app_id, &login.user_id, link, events, config.clock.clone())
        });
        let panicked = |_| Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, "opening the local database failed");
        opened.await.map_err(panicked)?
    }

    async fn live(&self, account: &Arc<Account>) -> End {
        if self.is_offline {
            // Without an app sign it was checked; with one it does not matter.
            let ends_at_s = zim_protocol::token::Token::expiry(&self.login.token()).unwrap_or(0);
            let ends_at_s = if self.inner.config.has_app_sign() { 0 } else { ends_at_s };
            self.login.set_token_end(ends_at_s.saturating_mul(1_000));
            self.login.set_account(account);
            self.login.set_accepted();
        }
        tokio::select! {
            biased;
            () = self.inner.root.cancelled() => End::Destroyed,
            end = self.stay(account) => end,
            () = self.farewell() => End::Left,
            () = self.token_ends() => End::TokenExpired,
        }
    }

    async fn finish(self, end: End, account: Option<Arc<Account>>) {
        self.login.set_ending();
        self.login.link.close();
        let is_gone = matches!(end, End::Unregistered);
        let why = end.extended_data();
        let told = end.told();
        if let Some((event, error)) = &told {
            if let Some(error) = error {
                tracing::info!(user = self.login.user_id, ?event, %error, "the login is over");
            }
            self.inner.enter_because(ConnectionState::Disconnected, *event, why);
        }
        if let Some(account) = account {
            account.disconnected();
            account.close().await;
            if is_gone {
                self.erase();
            }
        }
        self.inner.login.lock().take_if(|login| Arc::ptr_eq(login, &self.login));
        self.login.set_ended(told.and_then(|(_, error)| error));
    }

    /// Nothing stays of an account that is gone.
    fn erase(&self) {
        last_user::forget(&self.inner.config, &self.login.user_id);
        if let Err(error) = Account::erase(&self.inner.config, self.inner.config.app_id, &self.login.user_id) {
            tracing::warn!(%error, "the local database of an account that is gone stays");
        }
    }

    /// When the app logs out, tells the server; whether it hears it or not, this device is out.
    async fn farewell(&self) {
        self.login.left().await;
        if self.login.link.is_online() {
            let _ = timeout(FAREWELL, self.login.link.request(LogoutRequest {})).await;
        }
    }

    /// Connects again and again; returns when the login is over.
    async fn stay(&self, account: &Arc<Account>) -> End {
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match Box::pin(self.connection(account)).await {
                Ok((ended, lasted)) => {
                    let why = match ended {
                        Ended::Server(reason) => match End::of(reason) {
                            Some(end) => return end,
                            None => format!("{reason:?}"),
                        },
                        Ended::Version => return End::Refused(wrong_version()),
                        Ended::Lost(why) => why,
                    };
                    if lasted >= STEADY {
                        backoff = Backoff::default();
                    }
                    if !self.login.is_leaving() {
                        tracing::info!(user = self.login.user_id, why, "the connection is lost");
                        self.inner.enter(ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted);
                    }
                    self.pause(&mut backoff).await;
                }
                Err(failed) => {
                    if let Some(end) = self.verdict(&failed) {
                        return end;
                    }
                    tracing::debug!(error = %failed.error, "not connected yet");
                    let patience = Duration::from_millis(self.inner.config.connect_timeout_ms);
                    let gives_up = async {
                        if self.login.is_accepted() {
                            return std::future::pending().await;
                        }
                        sleep(patience.saturating_sub(begun.elapsed())).await;
                    };
                    tokio::select! {
                        biased;
                        () = gives_up => return End::GaveUp(failed.error),
                        () = self.pause(&mut backoff) => {}
                    }
                }
            }
        }
    }

    /// Whether a failed attempt ends the login.
    fn verdict(&self, failed: &Failed) -> Option<End> {
        if self.login.is_accepted() {
            return verdict(&failed.error);
        }
        if !failed.is_network() {
            return Some(End::Refused(failed.error.clone()));
        }
        failed.is_final.then(|| End::GaveUp(failed.error.clone()))
    }

    async fn pause(&self, backoff: &mut Backoff) {
        let mut chance = [0; 8];
        // Without chance the pauses are just less spread.
        let _ = getrandom::fill(&mut chance);
        tokio::select! {
            () = sleep(backoff.next(u64::from_ne_bytes(chance))) => {}
            // Another network, another chance.
            () = self.inner.dialer.network_changed() => *backoff = Backoff::default(),
        }
    }

    /// One connection, from finding the server to the end; how it ended and how long it lasted, or why nobody was logged in.
    async fn connection(&self, account: &Arc<Account>) -> Result<(Ended, Duration), Failed> {
        let dialed = self.inner.dialer.dial().await;
        let mut dialed = dialed.map_err(|gone| Failed { error: gone.error, is_final: gone.is_final })?;
        let outcome = self.converse(&mut dialed, account).await;
        self.login.link.close();
        if outcome.is_ok() {
            account.disconnected();
        }
        outcome
    }

    async fn converse(&self, dialed: &mut Dialed, account: &Arc<Account>) -> Result<(Ended, Duration), Failed> {
        let link = &self.login.link;
        let (ready, is_ready) = watch::channel(false);
        let take = |frame| {
            let (mut is_ready, account) = (is_ready.clone(), Arc::clone(account));
            async move {
                // Events may overtake the answer to the login. Fails when the connection is over.
                if is_ready.wait_for(|ready| *ready).await.is_ok() {
                    account.event_frame(frame).await;
                }
            }
        };
        link.open(self.inner.hello.clone());
        // Hello and the login leave together: one round trip.
        let request = self.request();
        let mut driven = std::pin::pin!(drive(dialed, link, take));
        let answer = tokio::select! {
            ended = &mut driven => Err(before_login(ended)),
            answer = link.log_in(&request) => answer.map_err(|error| Failed { error, is_final: false }),
        };
        self.logged_in(&answer?, account).await;
        ready.send_replace(true);
        let since = Instant::now();
        let ended = tokio::select! {
            ended = driven => ended,
            () = self.roam() => Ended::Lost("the network changed".to_owned()),
        };
        Ok((ended, since.elapsed()))
    }

    /// The login as it is sent now.
    fn request(&self) -> LoginRequest {
        let mut request = self.request.lock().clone();
        if let Some(config) = &mut request.config {
            config.token = self.login.token();
        }
        request
    }

    /// A connection is logged in: calls go through it from now on.
    async fn logged_in(&self, result: &LoginResult, account: &Arc<Account>) {
        let welcome = self.login.link.welcome().await;
        self.login.set_time(welcome.server_time, self.inner.config.clock.steady_ms());
        self.login.set_token_end(result.token_expires_at);
        let mut is_named = false;
        {
            let mut request = self.request.lock();
            request.resume = if request.one_shot { Bytes::new() } else { result.session.clone() };
            if let Some(config) = &mut request.config {
                // Given at login and set once, not again at each new connection.
                is_named = !std::mem::take(&mut config.user_name).is_empty();
                config.custom_status.clear();
            }
        }
        if !self.inner.config.one_shot {
            last_user::set(&self.inner.config, &self.login.user_id);
        }
        if self.login.is_leaving() {
            return;
        }
        self.login.link.set_logged_in();
        self.login.set_account(account);
        self.inner.enter(ConnectionState::Connected, ConnectionEvent::Success);
        account.connected(result, is_named, &welcome).await;
        self.login.set_accepted();
    }

    /// Moves the connection to each new network.
    async fn roam(&self) {
        loop {
            self.inner.dialer.network_changed().await;
            self.inner.dialer.rebind();
            self.login.link.heartbeat();
        }
    }

    /// Warns before the token ends, and returns when it does.
    async fn token_ends(&self) {
        let clock = &self.inner.config.clock;
        let mut ends_at = self.login.token_end();
        loop {
            let at = *ends_at.borrow_and_update();
            let end = async {
                if at == i64::MAX {
                    return std::future::pending().await;
                }
                clock.sleep_until_steady(at.saturating_sub(WARN_MS)).await;
                // Begun seconds count, so that 30 seconds before the end it says 30.
                let second = at.saturating_sub(clock.steady_ms()).max(0).saturating_add(999).div_euclid(1_000);
                self.inner.events.raise(Event::TokenWillExpire(TokenWillExpireEvent { second }));
                clock.sleep_until_steady(at).await;
            };
            tokio::select! {
                biased;
                // A new token that came in time, even if this looks late. The sender lives as long as this.
                _ = ends_at.changed() => {}
                () = end => return,
            }
        }
    }
}

/// Whether a refused reconnect ends the login, and how the app is told.
fn verdict(error: &Error) -> Option<End> {
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
        _ => None,
    }
}

/// The connection ended before the answer to the login.
fn before_login(ended: Ended) -> Failed {
    let (error, is_final) = match ended {
        Ended::Version => (wrong_version(), true),
        Ended::Lost(why) => {
            let message = format!("the connection was lost at its beginning: {why}");
            (Error::new(ErrorCode::NetworkModuleNetworkError, message), false)
        }
        Ended::Server(reason) => {
            let message = format!("the server ended the connection: {reason:?}");
            (Error::new(ErrorCode::NetworkModuleNetworkError, message), false)
        }
    };
    Failed { error, is_final }
}

fn wrong_version() -> Error {
    Error::new(ErrorCode::CommonModuleUnsupportedRequest, "the server does not speak to clients of this version")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(end: Option<End>) -> Option<(ConnectionEvent, Option<ErrorCode>)> {
        let (event, error) = end?.told()?;
        Some((event, error.map(|error| error.code())))
    }

    #[test]
    fn only_a_verdict_ends_a_login() {
        let lost = Error::new(ErrorCode::NetworkModuleNetworkError, "");
        assert!(verdict(&lost).is_none());
        let busy = Error::new(ErrorCode::CommonModuleImDatabaseError, "");
        assert!(verdict(&busy).is_none());
        let code = ErrorCode::NetworkModuleUserHasAlreadyLoggedOut;
        let mut wire = zim_protocol::Error::new(code, "");
        let interrupted = Some((ConnectionEvent::LoginInterrupted, Some(code)));
        assert_eq!(told(verdict(&wire.clone().into())), interrupted);
        wire.details.insert("reason".to_owned(), "kickedOut".to_owned());
        assert_eq!(told(verdict(&wire.into())), Some((ConnectionEvent::KickedOut, Some(code))));
        let code = ErrorCode::NetworkModuleTokenExpired;
        let expired = Error::new(code, "");
        assert_eq!(told(verdict(&expired)), Some((ConnectionEvent::TokenExpired, Some(code))));
    }

    #[test]
    fn the_server_ends_a_login_or_just_a_connection() {
        let event = |reason| told(End::of(reason)).map(|(event, _)| event);
        assert_eq!(event(SessionEndReason::KickedOut), Some(ConnectionEvent::KickedOut));
        assert_eq!(event(SessionEndReason::EndedByOperator), Some(ConnectionEvent::KickedOut));
        assert_eq!(event(SessionEndReason::TokenExpired), Some(ConnectionEvent::TokenExpired));
        assert_eq!(event(SessionEndReason::Unregistered), Some(ConnectionEvent::Unregistered));
        assert_eq!(event(SessionEndReason::LoggedOut), Some(ConnectionEvent::Success));
        assert_eq!(event(SessionEndReason::GoingAway), None);
        assert_eq!(event(SessionEndReason::Unspecified), None);
        assert_eq!(told(Some(End::Destroyed)), None);
    }
}
