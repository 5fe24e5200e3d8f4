//! The client handle: creating, finding and destroying it.

use std::sync::Arc;

use parking_lot::Mutex;
use zim_protocol::{AnyRequest, ConnectionState, ErrorCode, Event, EventKind, EventType, Limits, Rpc};

use crate::account::logged_out;
use crate::config::Config;
use crate::error::Error;
use crate::events::{EventStream, HandlerGuard};
use crate::session::{Account, Client, ConnectionStates, Login};
use crate::store;

/// A client of one app. It is cheap to clone and stops when the last clone is dropped. [`Zim::create`] keeps a clone
/// until [`Zim::destroy`].
///
/// The reference allows one instance per process: [`Zim::create`], [`Zim::get_instance`] and [`Zim::destroy`] follow
/// that rule. [`Zim::new`] creates any number of independent clients.
#[derive(Clone, Debug)]
pub struct Zim(pub(crate) Arc<Handle>);

/// Owned by the app. Tasks hold [`Client`], so that dropping the last handle ends them.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) client: Arc<Client>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.client.stop();
    }
}

static INSTANCE: Mutex<Option<Zim>> = Mutex::new(None);

impl Zim {
    /// Creates an independent client. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// There is no tokio runtime, a setting is invalid, the certificates to trust cannot be loaded, or the data folder
    /// cannot be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message = "a client needs a tokio runtime; create it within one";
            return Err(Error::new(ErrorCode::CommonModuleNotInit, message));
        }
        if config.app_id == 0 {
            return Err(Error::new(
                ErrorCode::CommonModuleInvalidAppId,
                "0 is not a valid app id; set the app id of your server",
            ));
        }
        Ok(Self(Arc::new(Handle { client: Client::new(config)? })))
    }

    /// Creates the process's single instance (reference: `create`). Returns `None` if there is one already, or if
    /// [`Zim::new`] fails; the log has the reason.
    pub fn create(config: Config) -> Option<Self> {
        let mut instance = INSTANCE.lock();
        if instance.is_some() {
            return None;
        }
        let zim =
            Self::new(config).inspect_err(|error| tracing::error!(%error, "the client cannot be created")).ok()?;
        *instance = Some(zim.clone());
        Some(zim)
    }

    /// Returns the instance that [`Zim::create`] created (reference: `getInstance`).
    pub fn get_instance() -> Option<Self> {
        INSTANCE.lock().clone()
    }

    /// Returns the version of this SDK (reference: `getVersion`).
    pub fn get_version() -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// Ends the client (reference: `destroy`): methods fail from now on, no event is raised, and event streams end.
    /// This is not a logout: to the server the device goes offline. [`Zim::closed`] waits until all tasks have ended
    /// and the database is closed.
    pub fn destroy(&self) {
        {
            let mut instance = INSTANCE.lock();
            if instance.as_ref().is_some_and(|one| Arc::ptr_eq(&one.0, &self.0)) {
                *instance = None;
            }
        }
        self.client().destroy();
    }

    /// Waits until a destroyed client has ended.
    pub async fn closed(&self) {
        self.client().closed().await;
    }

    /// Ends the client as [`Zim::destroy`] does, and waits until its tasks have ended and the database is closed. Handlers
    /// are not called after that.
    pub async fn close(&self) {
        self.destroy();
        self.closed().await;
    }

    /// Returns a stream of all events from now on, in order. A reader that is too slow gets the number of events that
    /// it missed; it never slows the client down. The stream ends when the client is destroyed, also if the client is storing messages
    /// at that moment. Only a handler ([`Zim::on`], [`Zim::on_event`]) has their events, at the next login. The deprecated events `receivePeerMessage` and `receiveGroupMessage`,
    /// which repeat others, come only to handlers.
    pub fn events(&self) -> EventStream {
        self.client().events.stream()
    }

    /// Calls `listener` for every event of this kind and replaces the listener that was set before (reference: `on`).
    /// Listeners are called one at a time, in the order of the events. A slow listener delays the others, so it should
    /// hand long work to a task. [`Zim::on_event`] is the form for one type of event.
    pub fn on(&self, kind: EventKind, listener: impl Fn(&Self, &Event) + Send + Sync + 'static) {
        let handle = Arc::downgrade(&self.0);
        let handler = move |event: &Event| {
            if let Some(handle) = handle.upgrade() {
                listener(&Self(handle), event);
            }
        };
        self.client().events.on(kind, Box::new(handler));
    }

    /// Calls `handler` for every event of the type that it takes, until the guard is dropped. A kind can have any number of
    /// typed handlers, beside the one of [`Zim::on`]. They are called one at a time, in the order in which they were set.
    /// An event counts as delivered when all of them have returned or panicked.
    ///
    /// ```
    /// # fn example(zim: &zim_client_sdk::Zim) {
    /// use zim_client_sdk::PeerMessageReceivedEvent;
    ///
    /// let mut count = 0;
    /// let guard = zim.on_event(move |_, event: &PeerMessageReceivedEvent| {
    ///     count += event.message_list.len();
    ///     println!("{count} messages so far");
    /// });
    /// // Keeps the handler until the client ends. Dropping the guard removes it.
    /// guard.detach();
    /// # }
    /// ```
    pub fn on_event<E: EventType>(&self, mut handler: impl FnMut(&Self, &E) + Send + 'static) -> HandlerGuard {
        let handle = Arc::downgrade(&self.0);
        let call = move |event: &Event| {
            if let (Some(handle), Some(event)) = (handle.upgrade(), E::of(event)) {
                handler(&Self(handle), event);
            }
        };
        self.client().events.add(E::KIND, Box::new(call))
    }

    /// Removes the listener that [`Zim::on`] set for this kind (reference: `off`).
    pub fn off(&self, kind: EventKind) {
        self.client().events.off(kind);
    }

    /// Returns the state of the connection.
    pub fn connection_state(&self) -> ConnectionState {
        self.client().state()
    }

    /// Returns the state of the connection as a stream: the present one at once, then each change.
    pub fn connection_states(&self) -> ConnectionStates {
        self.client().states()
    }

    /// Waits until this login has caught up with the server once: the list of conversations, unread counts and friends
    /// are complete from then on. Returns at once if it has. While the connection is away it waits, so put a limit on it
    /// with `tokio::time::timeout` if the app needs one.
    ///
    /// # Errors
    /// 6000121: nobody is logged in, or the login ended meanwhile. Otherwise it is the error of the server or of the local
    /// database because of which the catch-up failed; the client tries again within minutes.
    pub async fn synced(&self) -> Result<(), Error> {
        let login = self.logged_in()?;
        let account = login.account().ok_or_else(logged_out)?;
        tokio::select! {
            biased;
            caught_up = account.caught_up() => caught_up,
            () = login.ended() => Err(logged_out()),
        }
    }

    /// Reports a change of network: the client moves the connection to a new socket, or connects without waiting for
    /// the next retry. This method is not part of the reference and optional: the client notices a change by itself
    /// within seconds, but the operating system of a phone tells its apps earlier.
    pub fn network_changed(&self) {
        self.client().dialer.report_network_change();
    }

    /// Returns the logged-in user, also after an offline login.
    pub fn user_id(&self) -> Option<String> {
        self.logged_in().ok().map(|login| login.user_id.clone())
    }

    /// Returns the epoch of the positions in the local database; empty before the first connection. An app that stores
    /// positions (`messageSeq`, `orderKey`) stores the epoch beside them, and drops them when it is another one: the
    /// server's operator has restored a backup, and other messages may have the positions. `epochChanged` reports it.
    /// The reference does not have this method.
    ///
    /// # Errors
    /// Nobody is logged in, or the local database cannot be read.
    pub async fn epoch(&self) -> Result<String, Error> {
        let epoch = self.account()?.store().read(store::conversation::epoch).await?;
        Ok(zim_protocol::id::hex(&epoch))
    }

    /// Returns the limits of the server. Waits for a connection if there is none. For tools.
    ///
    /// # Errors
    /// Nobody is logged in.
    pub async fn server_limits(&self) -> Result<Limits, Error> {
        let login = self.logged_in()?;
        Ok(login.link.welcome().await.limits.unwrap_or_default())
    }

    /// Calls any method of the protocol by its path, with the reference's JSON names: `"Message/SendMessage"`. For
    /// tools. Its changes reach this device as they reach the user's other devices.
    ///
    /// # Errors
    /// No user is logged in, there is no such method, a value is over its limit, or the server refused the request.
    pub async fn call_json(&self, path: &str, request: serde_json::Value) -> Result<serde_json::Value, Error> {
        let login = self.logged_in()?;
        let method = zim_protocol::method(path).ok_or_else(|| {
            Error::new(ErrorCode::CommonModuleUnsupportedRequest, format!("there is no method {path:?}"))
        })?;
        if method.service == "Session" {
            let message = "the methods of Session cannot be called by name; use login, logout and renew_token";
            return Err(Error::new(ErrorCode::CommonModuleUnsupportedRequest, message));
        }
        let request = AnyRequest::from_json(method, request).map_err(|error| {
            Error::new(ErrorCode::CommonModuleParamsInvalid, format!("{} cannot be read: {error}", method.request))
        })?;
        request.validate()?;
        let (payload, pushes) = login.link.send(None, method, request.encode().into()).await?;
        if let (false, Some(account)) = (pushes.is_empty(), login.account()) {
            account.pull(pushes);
        }
        zim_protocol::response_to_json(method, &payload)
            .map_err(|error| Error::new(ErrorCode::NetworkModuleRspProtoParseError, error.to_string()))
    }

    /// Checks a request and sends it at the call. Dropping the future drops only the answer.
    pub(crate) fn call<R: Rpc + Send + Sync>(
        &self,
        request: R,
    ) -> impl Future<Output = Result<R::Response, Error>> + Send + 'static + use<R>
    where
        R::Response: Send,
    {
        let checked = request.validate().map_err(Error::from);
        let account = checked.and_then(|()| self.account());
        let answer = account.map(|account| account.request(request));
        async move { answer?.await }
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.0.client
    }

    /// Returns the current login if requests may be made.
    pub(crate) fn logged_in(&self) -> Result<Arc<Login>, Error> {
        self.client().alive()?;
        let login = self.client().login.lock().clone();
        login.filter(|login| login.account().is_some()).ok_or_else(logged_out)
    }

    /// Returns the account of the logged-in user.
    pub(crate) fn account(&self) -> Result<Arc<Account>, Error> {
        self.client().alive()?;
        let login = self.client().login.lock().clone();
        login.and_then(|login| login.account()).ok_or_else(logged_out)
    }
}
