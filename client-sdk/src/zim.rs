//! The handle of a client: made, found again, destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zim_protocol::wire::VERSION;
use zim_protocol::{
    AnyRequest, ConnectionEvent, ConnectionState, ConnectionStateChangedEvent, Dirty, ErrorCode, Event, EventFrame,
    EventKind, Hello, LogKind, Push, event_frame,
};

use crate::account::{Account, logged_out};
use crate::config::Config;
use crate::error::Error;
use crate::event::{EventStream, Events};
use crate::net::Dialer;
use crate::session::Login;

/// A client of one app. Cheap to clone; when the last clone is dropped, it stops.
///
/// The reference allows one instance per process: [`Zim::create`], [`Zim::get_instance`] and [`Zim::destroy`] keep its rules.
/// [`Zim::new`] makes as many independent ones as a program wants.
#[derive(Clone, Debug)]
pub struct Zim(pub(crate) Arc<Handle>);

/// What the app holds; the tasks hold [`Inner`].
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) hello: Hello,
    pub(crate) events: Events,
    pub(crate) dialer: Dialer,
    /// The present login, from the call to its last moment.
    pub(crate) login: Mutex<Option<Arc<Login>>>,
    state: watch::Sender<ConnectionState>,
    pub(crate) root: CancellationToken,
    pub(crate) tasks: TaskTracker,
    is_destroyed: AtomicBool,
}

static INSTANCE: Mutex<Option<Zim>> = Mutex::new(None);

impl Zim {
    /// An independent client. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The settings make no sense, or the server could not be trusted with them.
    pub fn new(config: Config) -> Result<Self, Error> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "a client needs a tokio runtime; make it within one";
            return Err(Error::new(ErrorCode::CommonModuleNotInit, message));
        }
        if config.app_id == 0 {
            return Err(Error::new(ErrorCode::CommonModuleInvalidAppId, "0 is no app id"));
        }
        let dialer = Dialer::new(&config)?;
        let device_id = crate::device::id(config.folder())?;
        let hello = Hello {
            versions: vec![VERSION],
            sdk_version: Self::get_version().to_owned(),
            platform: config.platform as i32,
            device_id: device_id.to_vec().into(),
        };
        let (events, handled) = Events::new();
        let inner = Arc::new(Inner {
            events: events.clone(),
            hello,
            dialer,
            config,
            login: Mutex::default(),
            state: watch::Sender::new(ConnectionState::Disconnected),
            root: CancellationToken::new(),
            tasks: TaskTracker::new(),
            is_destroyed: AtomicBool::new(false),
        });
        let handle = Arc::new(Handle { inner: Arc::clone(&inner) });
        let (root, weak) = (inner.root.clone(), Arc::downgrade(&handle));
        inner.tasks.spawn(async move {
            tokio::select! {
                () = events.dispatch(handled, weak) => {}
                () = root.cancelled() => {}
            }
        });
        Ok(Self(handle))
    }

    /// The process's one instance (reference: `create`). `None` if there is one already, or if the settings make no sense,
    /// which the log tells.
    pub fn create(config: Config) -> Option<Self> {
        let mut instance = INSTANCE.lock();
        if instance.is_some() {
            return None;
        }
        let zim = Self::new(config).inspect_err(|error| tracing::error!(%error, "no client is made")).ok()?;
        *instance = Some(zim.clone());
        Some(zim)
    }

    /// What [`Zim::create`] made (reference: `getInstance`).
    pub fn get_instance() -> Option<Self> {
        INSTANCE.lock().clone()
    }

    /// The version of this SDK (reference: `getVersion`).
    pub fn get_version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Ends the client (reference: `destroy`): no call works any more, no event is raised, streams of events end. It does not
    /// log out: the server sees this device go offline. [`Zim::closed`] waits until the tasks are over and the database is
    /// closed.
    pub fn destroy(&self) {
        {
            let mut instance = INSTANCE.lock();
            if instance.as_ref().is_some_and(|one| Arc::ptr_eq(&one.0, &self.0)) {
                *instance = None;
            }
        }
        self.inner().is_destroyed.store(true, Ordering::Release);
        self.inner().stop();
    }

    /// Waits until a destroyed client has ended.
    pub async fn closed(&self) {
        let inner = self.inner();
        inner.root.cancelled().await;
        inner.tasks.wait().await;
        inner.dialer.close().await;
    }

    /// All events from now on, in order. A reader that is too slow is told how many it missed; it never slows the client.
    pub fn events(&self) -> EventStream {
        self.inner().events.stream()
    }

    /// Calls `listener` for every event of this kind, in place of the one before it (reference: `on`). Listeners are called
    /// one after the other, in the order of the events; a long one delays the others, so it should hand long work on.
    pub fn on(&self, kind: EventKind, listener: impl Fn(&Self, &Event) + Send + Sync + 'static) {
        self.inner().events.on(kind, Arc::new(listener));
    }

    /// Removes the listener of this kind (reference: `off`).
    pub fn off(&self, kind: EventKind) {
        self.inner().events.off(kind);
    }

    /// Whether there is a connection.
    pub fn connection_state(&self) -> ConnectionState {
        *self.inner().state.borrow()
    }

    /// Tells the client that the network is another one: it goes on over a new socket at once, or connects at once. Not in the
    /// reference, and needed by no app: the client notices within seconds by itself. The system of a phone tells its apps
    /// earlier.
    pub fn network_changed(&self) {
        self.inner().dialer.tell_network_changed();
    }

    /// Who is logged in, by an offline login as well.
    pub fn user_id(&self) -> Option<String> {
        self.logged_in().ok().map(|login| login.user_id.clone())
    }

    /// Calls any method of the wire by its path, with the reference's names: `"Message/SendMessage"`. For tools. What it
    /// changes comes back as it does to the user's other devices.
    ///
    /// # Errors
    /// Nobody is logged in, no such method, a value over its limit, or the server's refusal.
    pub async fn call_json(&self, path: &str, request: serde_json::Value) -> Result<serde_json::Value, Error> {
        let login = self.logged_in()?;
        let method = zim_protocol::method(path).ok_or_else(|| {
            Error::new(ErrorCode::CommonModuleUnsupportedRequest, format!("there is no method {path:?}"))
        })?;
        if method.service == "Session" {
            let message = "logging in and out, and renewing a token, are methods of the client itself";
            return Err(Error::new(ErrorCode::CommonModuleUnsupportedRequest, message));
        }
        let request = AnyRequest::from_json(method, request).map_err(|error| {
            Error::new(ErrorCode::CommonModuleParamsInvalid, format!("{} cannot be read: {error}", method.request))
        })?;
        request.validate().map_err(|violation| Error::from(*violation))?;
        let (payload, pushes) = login.link.send(method, request.encode().into()).await?;
        if let (false, Some(account)) = (pushes.is_empty(), login.account()) {
            account.event_frame(EventFrame { frame: Some(event_frame::Frame::Dirty(dirty(pushes))) }).await;
        }
        zim_protocol::response_to_json(method, &payload)
            .map_err(|error| Error::new(ErrorCode::NetworkModuleRspProtoParseError, error.to_string()))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }

    /// The login through which calls may be made.
    pub(crate) fn logged_in(&self) -> Result<Arc<Login>, Error> {
        self.inner().alive()?;
        let login = self.inner().login.lock().clone();
        login.filter(|login| login.account().is_some()).ok_or_else(logged_out)
    }

    /// The data of whoever is logged in.
    pub(crate) fn account(&self) -> Result<Arc<Account>, Error> {
        self.inner().alive()?;
        let login = self.inner().login.lock().clone();
        login.and_then(|login| login.account()).ok_or_else(logged_out)
    }
}

/// The logs that pushes move. Their entries of one's own messages say nothing, because the client that sent them has the
/// words; here nobody has, so that the logs are pulled.
fn dirty(pushes: Vec<Push>) -> Dirty {
    let mut dirty = Dirty::default();
    for push in pushes {
        match push.log() {
            LogKind::Feed => dirty.feed = true,
            _ => dirty.conversations.extend(push.conversation),
        }
    }
    dirty
}

impl Inner {
    /// Everything ends, at once and in the background.
    fn stop(&self) {
        self.events.close();
        self.root.cancel();
        self.tasks.close();
    }

    pub(crate) fn alive(&self) -> Result<(), Error> {
        if self.is_destroyed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorCode::CommonModuleNotInit, "this client was destroyed; create a new one"));
        }
        Ok(())
    }

    /// Moves to a state and tells the app.
    pub(crate) fn enter(&self, state: ConnectionState, event: ConnectionEvent) {
        self.enter_because(state, event, "");
    }

    /// As [`Inner::enter`], with the event's `extendedData`.
    pub(crate) fn enter_because(&self, state: ConnectionState, event: ConnectionEvent, extended_data: &str) {
        self.state.send_replace(state);
        let extended_data = extended_data.to_owned();
        let changed = ConnectionStateChangedEvent { state: state as i32, event: event as i32, extended_data };
        self.events.raise(Event::ConnectionStateChanged(changed));
    }
}
