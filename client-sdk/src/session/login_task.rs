//! The task of a login: connects, reconnects, and cleans up at the end.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, ErrorEvent, Event, LoginRequest, LoginResult, LogoutRequest,
    RoomEvent, TokenWillExpireEvent, token,
};

use super::Account;
use super::client::Client;
use super::end::{End, Failed, before_login, first_verdict, needs_other_token, verdict, wrong_version};
use super::login::Login;
use crate::error::Error;
use crate::media::Http;
use crate::net::{Address, Backoff, Dialed, Ended, LinkRemote, drive, https_config};
use crate::outbox::is_network;
use crate::{account, last_user, logged_out};

/// The app is warned this long before its token expires.
const WARN_MS: i64 = 30_000;
/// The pause between two attempts to replace a token.
const TOKEN_RETRY: Duration = Duration::from_secs(5);
/// The longest wait for the answer to a logout.
const LOGOUT_TIMEOUT: Duration = Duration::from_secs(2);

/// The task of one login, from its first connection to its end.
pub(super) struct LoginTask {
    client: Arc<Client>,
    login: Arc<Login>,
    request: Mutex<LoginRequest>,
    is_offline: bool,
    /// The changes of the network that were handled. None is lost while the client is busy.
    network_changes: AtomicU64,
    /// Where the current token stands, if tokens are provided.
    token: Mutex<TokenState>,
}

/// Where a provided token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenState {
    /// The server refused it, or there is none.
    Needed,
    /// It was just provided.
    Fresh,
    /// The server has accepted it, or the app gave it.
    Used,
}

impl LoginTask {
    pub(super) fn new(client: Arc<Client>, login: Arc<Login>, request: LoginRequest) -> Self {
        let is_offline = request.config.as_ref().is_some_and(|config| config.is_offline_login);
        let token = if login.token().is_empty() { TokenState::Needed } else { TokenState::Used };
        let network_changes = AtomicU64::new(client.dialer.network_changes());
        Self { client, login, request: Mutex::new(request), is_offline, network_changes, token: Mutex::new(token) }
    }

    pub(super) async fn run(self) {
        match self.open().await {
            Ok(account) => {
                let end = self.run_until_end(&account).await;
                self.finish(end, Some(account)).await;
            }
            Err(error) => self.finish(End::Refused(error), None).await,
        }
    }

    /// Opens the local database. This needs no network, so that an offline login works.
    async fn open(&self) -> Result<Arc<Account>, Error> {
        let (client, login) = (Arc::clone(&self.client), Arc::clone(&self.login));
        let opened = tokio::task::spawn_blocking(move || {
            let remote = LinkRemote { link: login.link.clone(), events: client.events.clone() };
            let (address, trust) = (Address::of(&client.config)?, client.config.trust.clone());
            let host = address.host.clone();
            let forbidden = client.config.forbidden_hosts.clone();
            let media = Http::new(address.host, forbidden, move || https_config(&trust, host.clone()));
            Account::open(&client.config, client.hello.device_id.clone(), &login.user_id, remote, media)
        });
        let panicked = |_| Error::new(ErrorCode::DatabaseModuleOpenDatabaseError, "opening the local database failed");
        opened.await.map_err(panicked)?
    }

    async fn run_until_end(&self, account: &Arc<Account>) -> End {
        if self.is_offline {
            // Without an app sign the token was checked; with one it does not matter.
            let ends_at_s = zim_protocol::token::expiry(&self.login.token()).unwrap_or(0);
            let ends_at_s = if self.client.config.has_app_sign() { 0 } else { ends_at_s };
            self.login.set_token_end(ends_at_s.saturating_mul(1_000));
            self.login.set_account(account);
            self.login.set_accepted();
        }
        tokio::select! {
            biased;
            () = self.client.root.cancelled() => End::Destroyed,
            error = account.panicked() => End::Panicked(error),
            end = self.keep_connected(account) => end,
            () = self.app_logs_out() => End::Left,
            () = self.token_expires() => End::TokenExpired,
        }
    }

    async fn finish(self, end: End, account: Option<Arc<Account>>) {
        self.login.set_ending();
        self.login.link.close();
        let is_deleted = matches!(end, End::Unregistered) || self.login.is_clearing();
        // A short-lived session reports what it could not send, so that must not be sent later. Otherwise only a logout
        // gives up what was not sent: after any other end, the next login of this user goes on with it.
        let keeps_unsent = !self.client.config.one_shot && !matches!(end, End::Left | End::Unregistered);
        let (is_panic, is_left) = (matches!(end, End::Panicked(_)), matches!(end, End::Left));
        let why = end.extended_data();
        let outcome = end.outcome();
        if let Some((event, error)) = &outcome {
            if let Some(error) = error {
                tracing::info!(user = self.login.user_id, ?event, %error, "the login has ended");
            }
            if is_panic && let Some(error) = error {
                let event = ErrorEvent { code: error.number(), message: error.message().to_owned() };
                self.client.events.raise(Event::Error(event));
            }
            self.client.enter_because(ConnectionState::Disconnected, *event, why);
        }
        if let Some(account) = account {
            let event = if is_left { RoomEvent::Success } else { RoomEvent::NetworkDisconnected };
            account.rooms().end(event, |event| self.client.events.raise(event));
            account.disconnected();
            account.close(keeps_unsent).await;
            if is_deleted {
                self.erase();
            }
        }
        self.client.login.lock().take_if(|login| Arc::ptr_eq(login, &self.login));
        self.login.set_ended(outcome.and_then(|(_, error)| error));
    }

    /// Deletes the local data: the account no longer exists, or the app wants it.
    fn erase(&self) {
        last_user::forget(&self.client.config, &self.login.user_id);
        if let Err(error) = account::erase(&self.client.config, self.client.config.app_id, &self.login.user_id) {
            tracing::warn!(%error, "the local database cannot be removed");
        }
    }

    /// Waits until the app logs out, then tells the server. The device is logged out whether or not the server answers.
    async fn app_logs_out(&self) {
        self.login.left().await;
        // First: the program may end while it waits for the server.
        let session = self.request.lock().resume.clone();
        logged_out::note(&self.client.config, &self.login.user_id, &session);
        if !self.login.link.is_online() {
            return;
        }
        let answer = timeout(LOGOUT_TIMEOUT, self.login.link.request(None, LogoutRequest {})).await;
        if matches!(answer, Ok(Ok(_))) {
            logged_out::forget(&self.client.config, &self.login.user_id, &session);
        }
    }

    /// Connects and reconnects until the login ends; returns why it ended.
    async fn keep_connected(&self, account: &Arc<Account>) -> End {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match Box::pin(self.connection(account)).await {
                Ok((ended, lasted)) => {
                    let why = match ended {
                        Ended::Server(reason) => match End::of(reason) {
                            Some(End::TokenExpired) if self.needs_token() => format!("{reason:?}"),
                            Some(end) => return end,
                            None => format!("{reason:?}"),
                        },
                        Ended::Version => return End::Refused(wrong_version()),
                        Ended::Lost(why) => why,
                    };
                    backoff.note_connection(lasted);
                    if !self.login.is_leaving() {
                        tracing::info!(user = self.login.user_id, why, "the connection is lost");
                        self.client.enter(ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted);
                    }
                    self.pause(&mut backoff).await;
                }
                Err(failed) => {
                    if !(needs_other_token(&failed) && self.needs_token())
                        && let Some(end) = self.verdict(&failed)
                    {
                        return end;
                    }
                    tracing::debug!(error = %failed.error, "not connected yet");
                    let timeout = Duration::from_millis(self.client.config.connect_timeout_ms);
                    let times_out = async {
                        if self.login.is_accepted() || self.client.config.retries_login {
                            return std::future::pending().await;
                        }
                        sleep(timeout.saturating_sub(started.elapsed())).await;
                    };
                    tokio::select! {
                        biased;
                        () = times_out => return End::GaveUp(failed.error),
                        () = self.pause(&mut backoff) => {}
                    }
                }
            }
        }
    }

    /// Notes that the server refuses the token. Returns whether another one can be provided; one that was just
    /// provided will not be better the next time.
    fn needs_token(&self) -> bool {
        let mut token = self.token.lock();
        let is_fresh = std::mem::replace(&mut *token, TokenState::Needed) == TokenState::Fresh;
        self.client.config.token_provider.is_some() && !is_fresh
    }

    /// Gets a token if the next login to the server needs one.
    async fn provide_token(&self) -> Result<(), Failed> {
        if *self.token.lock() != TokenState::Needed {
            return Ok(());
        }
        let Some(token) = self.provided().await else { return Ok(()) };
        // A provider that fails may work later. What is no token remains none.
        let (token, ends_at_s) = token.map_err(|error| Failed { is_final: !is_network(&error), error })?;
        self.login.set_token(token, ends_at_s);
        *self.token.lock() = TokenState::Fresh;
        Ok(())
    }

    /// Asks the app for a token; returns it with its end. `None`: the app provides none.
    async fn provided(&self) -> Option<Result<(String, i64), Error>> {
        let provider = self.client.config.token_provider.as_ref()?;
        let provided = provider(self.login.user_id.clone()).await.map_err(|error| {
            let message = "the token provider of the app failed";
            Error::new(ErrorCode::NetworkModuleNetworkError, message).with_source(error)
        });
        Some(provided.and_then(|token| {
            let ends_at_s = token::expiry(&token)?;
            Ok((token, ends_at_s))
        }))
    }

    /// Decides whether a failed attempt ends the login.
    fn verdict(&self, failed: &Failed) -> Option<End> {
        match self.login.is_accepted() {
            true => verdict(&failed.error),
            false => first_verdict(failed, self.client.config.retries_login),
        }
    }

    async fn pause(&self, backoff: &mut Backoff) {
        let mut random = [0; 8];
        // Without random bytes the pauses are only less spread.
        let _ = getrandom::fill(&mut random);
        tokio::select! {
            () = sleep(backoff.next(u64::from_ne_bytes(random))) => {}
            // A new network: retry at once, with a fresh back-off.
            () = self.client.dialer.network_changed(&self.network_changes, None) => *backoff = Backoff::default(),
        }
    }

    /// Runs one connection, from dialing to its end. Returns how it ended and how long it was logged in, or why the
    /// login failed.
    async fn connection(&self, account: &Arc<Account>) -> Result<(Ended, Duration), Failed> {
        self.provide_token().await?;
        let dialed = loop {
            tokio::select! {
                dialed = self.client.dialer.dial() => break dialed,
                // The attempt may be bound to a network that is gone.
                () = self.client.dialer.network_changed(&self.network_changes, None) => self.client.dialer.rebind(),
            }
        };
        let mut dialed =
            dialed.map_err(|unreachable| Failed { error: unreachable.error, is_final: unreachable.is_final })?;
        let outcome = self.serve(&mut dialed, account).await;
        self.login.link.close();
        if outcome.is_ok() {
            account.disconnected();
        }
        outcome
    }

    async fn serve(&self, dialed: &mut Dialed, account: &Arc<Account>) -> Result<(Ended, Duration), Failed> {
        let link = &self.login.link;
        let (ready, is_ready) = watch::channel(false);
        let take = |frame| {
            let (mut is_ready, account) = (is_ready.clone(), Arc::clone(account));
            async move {
                // Events may overtake the answer to the login. Fails when the connection is lost.
                if is_ready.wait_for(|ready| *ready).await.is_ok() {
                    account.event_frame(frame).await;
                }
            }
        };
        let connection = dialed.connection.clone();
        link.open(self.client.hello.clone());
        // Hello and the login are sent together: one round trip.
        let noted = logged_out::noted(&self.client.config, &self.login.user_id);
        let request = noted.tell(LoginRequest { in_rooms: account.rooms().inside(), ..self.request() });
        let mut driven = std::pin::pin!(drive(dialed, link, take));
        let answer = tokio::select! {
            ended = &mut driven => Err(before_login(ended)),
            answer = link.log_in(&request) => answer.map_err(|error| Failed { error, is_final: false }),
        };
        let answer = answer?;
        let welcome = link.welcome().await;
        self.client.fence.check(&welcome).map_err(|error| Failed { error, is_final: true })?;
        if !self.login.is_leaving() {
            noted.forget();
        }
        self.logged_in(&answer, account).await;
        ready.send_replace(true);
        let since = Instant::now();
        let ended = tokio::select! {
            ended = driven => ended,
            () = self.follow_network_changes(&connection) => Ended::Lost("the network changed".to_owned()),
            () = self.pull_late(account) => Ended::Lost("late answers have ended".to_owned()),
        };
        Ok((ended, since.elapsed()))
    }

    /// Builds the login request.
    fn request(&self) -> LoginRequest {
        let mut request = self.request.lock().clone();
        if let Some(config) = &mut request.config {
            config.token = self.login.token();
        }
        request
    }

    /// Takes over a connection that is logged in: requests use it from now on.
    async fn logged_in(&self, result: &LoginResult, account: &Arc<Account>) {
        let welcome = self.login.link.welcome().await;
        self.login.set_time(welcome.server_time, self.client.config.clock.steady_ms());
        self.login.set_token_end(result.token_expires_at);
        *self.token.lock() = TokenState::Used;
        let mut is_named = false;
        {
            let mut request = self.request.lock();
            request.resume = if request.one_shot { Bytes::new() } else { result.session.clone() };
            if let Some(config) = &mut request.config {
                // These are set once, by the first login, and not again by each reconnect.
                is_named = !std::mem::take(&mut config.user_name).is_empty();
                config.custom_status.clear();
            }
        }
        if !self.client.config.one_shot {
            last_user::set(&self.client.config, &self.login.user_id);
        }
        if self.login.is_leaving() {
            return;
        }
        self.login.link.set_logged_in();
        self.login.set_account(account);
        self.client.enter(ConnectionState::Connected, ConnectionEvent::Success);
        account.connected(self.login.link.number(), result, is_named, &welcome);
        self.login.set_accepted();
    }

    /// Fetches what late answers announce: the server carried out the request, although the app was told of a timeout.
    async fn pull_late(&self, account: &Arc<Account>) {
        loop {
            let pushes = self.login.link.late().await;
            account.pull(pushes);
        }
    }

    /// Moves the connection to a new socket whenever the network changes.
    async fn follow_network_changes(&self, connection: &quinn::Connection) {
        loop {
            self.client.dialer.network_changed(&self.network_changes, Some(connection)).await;
            self.client.dialer.rebind();
            self.login.link.heartbeat();
        }
    }

    /// Warns before the token expires, and returns when it expires. A provided token is replaced instead.
    async fn token_expires(&self) {
        let clock = &self.client.config.clock;
        let mut ends_at = self.login.token_end();
        loop {
            let at = *ends_at.borrow_and_update();
            let end = async {
                if at == i64::MAX {
                    return std::future::pending().await;
                }
                clock.sleep_until_steady(at.saturating_sub(WARN_MS)).await;
                self.replace_token().await;
                // Rounded up, so that 30 seconds before the end the event says 30.
                let second = at.saturating_sub(clock.steady_ms()).max(0).saturating_add(999).div_euclid(1_000);
                self.client.events.raise(Event::TokenWillExpire(TokenWillExpireEvent { second }));
                clock.sleep_until_steady(at).await;
            };
            tokio::select! {
                biased;
                // A new token counts even if it is noticed late. The sender lives as long as `self`.
                _ = ends_at.changed() => {}
                () = end => return,
            }
        }
    }

    /// Replaces a token that is about to expire until that succeeds; the new end of the token then ends this wait.
    /// Returns at once if the app provides none.
    async fn replace_token(&self) {
        loop {
            let Some(provided) = self.provided().await else { return };
            let renewed = match provided {
                Ok((token, _)) => self.login.renew(token).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = renewed {
                tracing::warn!(user = self.login.user_id, %error, "the token cannot be replaced yet");
            }
            sleep(TOKEN_RETRY).await;
        }
    }
}
