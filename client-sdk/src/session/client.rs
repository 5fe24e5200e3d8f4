//! The client behind the handles of the app: its settings, its connection, and the login in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zim_protocol::wire::VERSION;
use zim_protocol::{
    ConnectionEvent, ConnectionState, ConnectionStateChangedEvent, ErrorCode, Event, Hello, LoginConfig, LoginRequest,
    Validate, token,
};

use super::login::Login;
use super::login_task::LoginTask;
use super::states::ConnectionStates;
use crate::config::Config;
use crate::error::Error;
use crate::events::Events;
use crate::fence::Fence;
use crate::net::Dialer;
use crate::{advanced, device, fence, last_user};

/// The client. Handles of the app share it; tasks hold it too.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) config: Config,
    pub(crate) fence: Fence,
    /// The upload of the log that is running.
    pub(crate) log_upload: tokio::sync::Mutex<()>,
    logs_uploaded: AtomicU64,
    pub(crate) hello: Hello,
    pub(crate) events: Events,
    pub(crate) dialer: Dialer,
    /// The current login, from the call of `login` until its task has ended.
    pub(crate) login: Mutex<Option<Arc<Login>>>,
    state: watch::Sender<ConnectionState>,
    pub(crate) root: CancellationToken,
    pub(crate) tasks: TaskTracker,
    is_destroyed: AtomicBool,
}

/// The outcome of starting a login.
pub(crate) enum Started {
    /// This login is in progress, or done.
    Login(Arc<Login>),
    /// The user is logged in, or will be, with another token. This one replaces it.
    Renews(Arc<Login>, String),
    /// An earlier login is ending and must be awaited first.
    EndsFirst(Arc<Login>),
}

impl Client {
    /// Creates a client and the task that calls the handlers.
    pub(crate) fn new(mut config: Config) -> Result<Arc<Self>, Error> {
        advanced::apply(&mut config);
        let fence = fence::apply(&mut config)?;
        let dialer = Dialer::new(&config)?;
        let device_id = device::id(config.folder())?;
        let hello = Hello {
            versions: vec![VERSION],
            sdk_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: config.platform as i32,
            device_id: device_id.to_vec().into(),
        };
        let (events, handled) = Events::new();
        let client = Arc::new(Self {
            events: events.clone(),
            hello,
            dialer,
            config,
            fence,
            log_upload: tokio::sync::Mutex::default(),
            logs_uploaded: AtomicU64::new(0),
            login: Mutex::default(),
            state: watch::Sender::new(ConnectionState::Disconnected),
            root: CancellationToken::new(),
            tasks: TaskTracker::new(),
            is_destroyed: AtomicBool::new(false),
        });
        let root = client.root.clone();
        client.tasks.spawn(async move {
            tokio::select! {
                () = events.dispatch(handled) => {}
                () = root.cancelled() => {}
            }
        });
        Ok(client)
    }

    /// Starts a login, or finds the one in progress.
    pub(crate) fn begin(self: &Arc<Self>, user_id: &str, config: &LoginConfig) -> Result<Started, Error> {
        let mut slot = self.login.lock();
        self.alive()?;
        if let Some(login) = &*slot {
            if login.is_ending() {
                return Ok(Started::EndsFirst(Arc::clone(login)));
            }
            if login.user_id == user_id {
                // With an app sign, tokens do not matter.
                if self.config.has_app_sign() || config.token.is_empty() || config.token == login.token() {
                    return Ok(Started::Login(Arc::clone(login)));
                }
                token::expiry(&config.token)?;
                return Ok(Started::Renews(Arc::clone(login), config.token.clone()));
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
            in_rooms: Vec::new(),
            // Each connection says that for itself.
            was_logged_out: false,
            logged_out_user_ids: Vec::new(),
            logged_out: Vec::new(),
        };
        request.validate()?;
        // If both are given, the server looks at the token only when the app sign is wrong.
        let is_provided = self.config.token_provider.is_some() && config.token.is_empty();
        if !self.config.has_app_sign() && !is_provided {
            // The server decides whether the token has expired, because the clock of this device may be wrong.
            token::expiry(&config.token)?;
        }
        Ok(request)
    }

    /// How often the log was uploaded.
    pub(crate) fn logs_uploaded(&self) -> u64 {
        self.logs_uploaded.load(Ordering::Acquire)
    }

    /// Counts an upload of the log.
    pub(crate) fn count_log_upload(&self) {
        self.logs_uploaded.fetch_add(1, Ordering::AcqRel);
    }

    /// Ends everything, and makes methods fail from now on.
    pub(crate) fn destroy(&self) {
        self.is_destroyed.store(true, Ordering::Release);
        self.stop();
    }

    /// Waits until a destroyed client has ended.
    pub(crate) async fn closed(&self) {
        self.root.cancelled().await;
        self.tasks.wait().await;
        self.dialer.close().await;
    }

    /// Returns the state of the connection.
    pub(crate) fn state(&self) -> ConnectionState {
        *self.state.borrow()
    }

    /// Returns the state of the connection as a stream.
    pub(crate) fn states(&self) -> ConnectionStates {
        ConnectionStates::new(self.state.subscribe(), self.root.clone())
    }

    /// Ends everything. Returns at once; tasks end in the background.
    pub(crate) fn stop(&self) {
        self.events.close();
        self.root.cancel();
        // The app gets no event about it any more.
        self.state.send_replace(ConnectionState::Disconnected);
        self.tasks.close();
    }

    pub(crate) fn alive(&self) -> Result<(), Error> {
        if self.is_destroyed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorCode::CommonModuleNotInit, "this client was destroyed; create a new one"));
        }
        Ok(())
    }

    /// Changes the connection state and raises the event.
    pub(crate) fn enter(&self, state: ConnectionState, event: ConnectionEvent) {
        self.enter_because(state, event, "");
    }

    /// Like [`Client::enter`], with the event's `extendedData`.
    pub(crate) fn enter_because(&self, state: ConnectionState, event: ConnectionEvent, extended_data: &str) {
        // After the end of the client its tasks may still run for a moment.
        self.state.send_if_modified(|current| {
            let is_alive = !self.root.is_cancelled();
            is_alive && std::mem::replace(current, state) != state
        });
        let extended_data = extended_data.to_owned();
        let changed = ConnectionStateChangedEvent { state: state as i32, event: event as i32, extended_data };
        self.events.raise(Event::ConnectionStateChanged(changed));
    }
}
