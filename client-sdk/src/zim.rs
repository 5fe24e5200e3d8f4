//! The handle of a client: made, found again, destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zim_protocol::{
    AnyRequest, ConnectionEvent, ConnectionState, ConnectionStateChangedEvent, ErrorCode, Event, EventKind,
};

use crate::config::Config;
use crate::data::Data;
use crate::error::Error;
use crate::event::{EventStream, Events};
use crate::net::{Dialer, Link};
use crate::session::Active;

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
        self.inner.root.cancel();
        self.inner.tasks.close();
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) link: Link,
    pub(crate) events: Events,
    pub(crate) dialer: Dialer,
    pub(crate) active: Mutex<Option<Active>>,
    /// Only one login at a time.
    pub(crate) logging_in: tokio::sync::Mutex<()>,
    pub(crate) state: watch::Sender<ConnectionState>,
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
        let device_id = crate::device::id(config.folder())?;
        let dialer = Dialer::new(&config, device_id)?;
        let (events, handled) = Events::new();
        let inner = Arc::new(Inner {
            link: Link::new(config.request_timeout_ms),
            events: events.clone(),
            dialer,
            config,
            active: Mutex::default(),
            logging_in: tokio::sync::Mutex::default(),
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

    /// Ends the client (reference: `destroy`): no call works any more, no event is raised. [`Zim::closed`] waits until its
    /// tasks are over and its database is closed.
    pub fn destroy(&self) {
        {
            let mut instance = INSTANCE.lock();
            if instance.as_ref().is_some_and(|one| Arc::ptr_eq(&one.0, &self.0)) {
                *instance = None;
            }
        }
        self.inner().is_destroyed.store(true, Ordering::Release);
        self.inner().root.cancel();
        self.inner().tasks.close();
    }

    /// Waits until a destroyed client has ended.
    pub async fn closed(&self) {
        self.inner().root.cancelled().await;
        self.inner().tasks.wait().await;
        self.inner().dialer.close().await;
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

    /// Who is logged in.
    pub fn user_id(&self) -> Option<String> {
        self.inner().active.lock().as_ref().map(|active| active.user_id.clone())
    }

    /// Calls any method of the wire by its path, with the reference's names: `"Message/SendMessage"`. For tools: the local
    /// database knows nothing of it.
    ///
    /// # Errors
    /// No such method, a value over its limit, or the server's refusal.
    pub async fn call_json(&self, path: &str, request: serde_json::Value) -> Result<serde_json::Value, Error> {
        self.data()?;
        let method = zim_protocol::method(path).ok_or_else(|| {
            Error::new(ErrorCode::CommonModuleUnsupportedRequest, format!("there is no method {path:?}"))
        })?;
        let request = AnyRequest::from_json(method, request).map_err(|error| {
            Error::new(ErrorCode::CommonModuleParamsInvalid, format!("{} cannot be read: {error}", method.request))
        })?;
        request.validate().map_err(|violation| Error::from(*violation))?;
        let (payload, _) = self.inner().link.send(method, request.encode().into()).await?;
        zim_protocol::response_to_json(method, &payload)
            .map_err(|error| Error::new(ErrorCode::NetworkModuleRspProtoParseError, error.to_string()))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }

    /// The data of whoever is logged in.
    pub(crate) fn data(&self) -> Result<Arc<Data>, Error> {
        self.inner().alive()?;
        let active = self.inner().active.lock();
        active
            .as_ref()
            .map(|active| Arc::clone(&active.data))
            .ok_or_else(|| Error::new(ErrorCode::NetworkModuleUserIsNotLogged, "nobody is logged in; call login first"))
    }
}

impl Inner {
    pub(crate) fn alive(&self) -> Result<(), Error> {
        if self.is_destroyed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorCode::CommonModuleNotInit, "this client was destroyed; create a new one"));
        }
        Ok(())
    }

    /// Moves to a state and tells the app.
    pub(crate) fn enter(&self, state: ConnectionState, event: ConnectionEvent) {
        self.state.send_replace(state);
        if self.is_destroyed.load(Ordering::Acquire) {
            return;
        }
        let changed =
            ConnectionStateChangedEvent { state: state as i32, event: event as i32, extended_data: String::new() };
        self.events.raise(Event::ConnectionStateChanged(changed));
    }
}
