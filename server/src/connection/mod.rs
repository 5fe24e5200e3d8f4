//! The server's state of one connection, before and after login.

mod allowance;
mod audit;
mod caller;
mod handled;
mod login_allowance;
mod queue;
mod ringing;
mod stored;
mod transients;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use zim_protocol::{ConversationRef, SessionEndReason, Stored, feed_entry::Detail};

pub(crate) use self::allowance::LoginAllowances;
pub use self::audit::{Audit, Call};
pub use self::caller::{Answered, Caller, Origin, WriteTo};
use self::handled::Handled;
pub(crate) use self::login_allowance::{Allowance, Allowances};
pub use self::queue::{PushQueue, PushTarget};
use self::ringing::Ringing;
use self::stored::StoredPositions;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};
use crate::tenant::{Access, Proof};

/// The user who is logged in on a connection. Set once: another user needs another connection.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The app.
    pub app: AppKey,
    /// The user.
    pub user: UserKey,
    /// The user's name in the app.
    pub user_id: Arc<str>,
    /// The login.
    pub login: LoginKey,
    /// The ticket that resumes the login.
    pub ticket: [u8; 16],
    /// When the login began, Unix milliseconds.
    pub login_at: i64,
    /// Whether it is a one-shot login: it is no device and has no presence.
    pub one_shot: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct ConnectionState {
    /// The address of the client.
    pub address: SocketAddr,
    /// `PlatformType`, from `Hello`.
    pub platform: i32,
    /// The ID of the installation, from `Hello`.
    pub device: [u8; 16],
    /// The version of the SDK, from `Hello`.
    pub sdk_version: String,
    /// The frames for the event stream.
    pub queue: PushQueue,
    identity: OnceLock<Arc<Identity>>,
    proof: Mutex<Option<Proof>>,
    token_expires_at: AtomicI64,
    /// Notified when the token's expiry changes.
    pub token_moved: tokio::sync::Notify,
    logged_out: AtomicBool,
    fed: AtomicI64,
    /// Since when it gets events, Unix milliseconds; the maximum: it does not.
    listens_since: AtomicI64,
    /// Where the feed ended when the client got all of it first; the maximum: it has not.
    feed_given: AtomicI64,
    /// Up to where the client says that it has stored the feed.
    feed_stored: AtomicI64,
    events_sent: AtomicU64,
    events_acknowledged: AtomicU64,
    handled: Mutex<Handled>,
    stored: Mutex<StoredPositions>,
    ringing: Mutex<Ringing>,
    unsettled: AtomicUsize,
    /// The rooms that the device is in, with their IDs.
    rooms: Mutex<Vec<(ConversationKey, Arc<str>)>>,
    /// Until the login.
    allowance: Mutex<Allowance>,
    allowance_of_login: OnceLock<Arc<Mutex<Allowance>>>,
}

/// Something that a user's devices are told of.
#[derive(Clone, Copy, Debug)]
pub struct Happened {
    /// When it happened, Unix milliseconds.
    pub at: i64,
    /// When the events that tell of it had been handed over, Unix milliseconds.
    pub handled_at: i64,
    /// An entry of the user's feed tells of it. What happens to a message is in its conversation instead.
    pub is_in_feed: bool,
}

impl ConnectionState {
    /// Creates the state of a connection after its `Hello`.
    pub fn new(address: SocketAddr, platform: i32, device: [u8; 16], sdk_version: String, queue_bytes: usize) -> Self {
        Self {
            address,
            platform,
            device,
            sdk_version,
            queue: PushQueue::new(queue_bytes),
            identity: OnceLock::new(),
            proof: Mutex::default(),
            token_expires_at: AtomicI64::new(0),
            token_moved: tokio::sync::Notify::new(),
            logged_out: AtomicBool::new(false),
            fed: AtomicI64::new(0),
            listens_since: AtomicI64::new(i64::MAX),
            feed_given: AtomicI64::new(i64::MAX),
            feed_stored: AtomicI64::new(-1),
            events_sent: AtomicU64::new(0),
            events_acknowledged: AtomicU64::new(0),
            handled: Mutex::default(),
            stored: Mutex::default(),
            ringing: Mutex::default(),
            unsettled: AtomicUsize::new(0),
            rooms: Mutex::default(),
            allowance: Mutex::default(),
            allowance_of_login: OnceLock::new(),
        }
    }

    /// Returns who is logged in.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.get()
    }

    /// Logs in. Returns false if the connection is logged in already.
    pub fn log_in(&self, identity: Identity) -> bool {
        self.identity.set(Arc::new(identity)).is_ok()
    }

    /// Returns when the token expires, Unix milliseconds; 0 for never.
    pub fn token_expires_at(&self) -> i64 {
        self.token_expires_at.load(Ordering::Relaxed)
    }

    /// Sets the expiry of a first or renewed token.
    pub fn set_token_expires_at(&self, at_ms: i64) {
        self.token_expires_at.store(at_ms, Ordering::Relaxed);
        self.token_moved.notify_one();
    }

    /// Sets what the client logged in with, or renewed its token with.
    pub fn set_proof(&self, proof: Proof) {
        *self.proof.lock() = Some(proof);
    }

    /// Ends the connection if its app no longer accepts the proof; otherwise sets its expiry to what the app allows.
    pub fn enforce(&self, access: &Access, now_ms: i64) {
        // Held until the end, so that an older expiry does not overwrite that of a token that is renewed at the same
        // time.
        let guard = self.proof.lock();
        let Some(proof) = *guard else { return };
        match access.ends_at(proof, now_ms) {
            Some(ends_at) => self.set_token_expires_at(ends_at),
            None => {
                self.queue.end(
                    SessionEndReason::EndedByOperator,
                    "the app no longer accepts these credentials; log in again",
                );
            }
        }
    }

    /// Returns what the client may still do.
    pub(crate) fn allowance(&self) -> &Mutex<Allowance> {
        self.allowance_of_login.get().map_or(&self.allowance, |allowance| allowance)
    }

    /// Replaces the allowance by that of the login, which takes over what the login itself has used up. To be called before
    /// [`ConnectionState::log_in`].
    pub(crate) fn set_allowance(&self, allowance: Arc<Mutex<Allowance>>) {
        allowance.lock().merge(&mut self.allowance.lock());
        // A connection logs in once.
        let _ = self.allowance_of_login.set(allowance);
    }

    /// Counts frames of the event stream, before they are sent.
    pub(crate) fn add_events_sent(&self, count: u64) {
        self.events_sent.fetch_add(count, Ordering::Relaxed);
    }

    /// Notes how many frames of the event stream the client has handled, at a time, Unix milliseconds. Returns false if that many were
    /// not sent.
    pub(crate) fn acknowledge(&self, count: u64, now_ms: i64) -> bool {
        self.events_acknowledged.fetch_max(count, Ordering::Relaxed);
        // In this order: a frame that is about to be sent counts twice, and not as none.
        let waiting = self.queue.len();
        let sent = self.events_sent.load(Ordering::Relaxed);
        self.handled.lock().acknowledge(count, sent.saturating_add(waiting), now_ms);
        count <= sent
    }

    /// Notes that the connection gets all events from this time on, Unix milliseconds.
    pub(crate) fn set_listening(&self, since_ms: i64) {
        self.listens_since.store(since_ms, Ordering::Relaxed);
    }

    /// Notes that the client was given its feed up to where it ends.
    pub(crate) fn set_feed_given(&self, pos: i64) {
        // What happened before the connection was made is in the first one.
        let _ = self.feed_given.compare_exchange(i64::MAX, pos, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the client has what happened at a time, Unix milliseconds. A connection that is younger got no event of it, so that it
    /// has none to handle: its client has it once it has stored the feed that it was given instead, if it is in the feed. Otherwise
    /// the client has handled all events that it was to get a little later, or until now.
    pub fn has_handled(&self, what: Happened) -> bool {
        if self.listens_since.load(Ordering::Relaxed) > what.at {
            let is_fed = self.feed_stored.load(Ordering::Relaxed) >= self.feed_given.load(Ordering::Relaxed);
            return what.is_in_feed && is_fed;
        }
        self.events_behind() == 0 || self.handled.lock().through() >= what.handled_at
    }

    /// Returns how many events the client has not acknowledged: those that wait, and those that were sent.
    pub fn events_behind(&self) -> u64 {
        let acknowledged = self.events_acknowledged.load(Ordering::Relaxed);
        self.queue.len() + self.events_sent.load(Ordering::Relaxed).saturating_sub(acknowledged)
    }

    /// Notes what the client has stored.
    pub(crate) fn add_stored(&self, stored: Stored) {
        if let Ok(feed) = i64::try_from(stored.feed)
            && feed > 0
        {
            self.feed_stored.fetch_max(feed, Ordering::Relaxed);
        }
        self.stored.lock().add(stored);
    }

    /// Whether the client has stored a message, as far as it has said so on this connection.
    pub fn has_stored(&self, conversation: &ConversationRef, seq: u64) -> bool {
        self.stored.lock().has(conversation, seq)
    }

    /// Notes entries of the feed that the client gets: it may be asked into a call that it has not received yet.
    pub(crate) fn add_ringing<'a>(&self, entries: impl IntoIterator<Item = (i64, &'a Detail)>) {
        let Some(identity) = self.identity().filter(|identity| !identity.one_shot) else { return };
        for (pos, detail) in entries {
            if let Detail::Call(call) = detail {
                self.ringing.lock().add(pos, call, &identity.user_id);
            }
        }
    }

    /// Takes the calls, by the IDs that clients see, to which the client has received invitations by storing its feed up to
    /// `through`.
    pub(crate) fn take_ringing(&self, through: i64) -> Vec<i64> {
        self.ringing.lock().take(through)
    }

    /// Whether a write of this connection has not ended: it may be neither committed nor handed to the fan-out.
    pub(crate) fn has_unsettled_writes(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) > 0
    }

    /// Notes that the device has entered or left a room.
    pub(crate) fn set_in_room(&self, (room, name): (ConversationKey, &Arc<str>), is_in: bool) {
        let mut rooms = self.rooms.lock();
        rooms.retain(|(other, _)| *other != room);
        if is_in {
            rooms.push((room, Arc::clone(name)));
        } else if rooms.is_empty() {
            // A device in no room keeps no list.
            *rooms = Vec::new();
        }
    }

    /// Returns the rooms that the device is in, with their IDs.
    pub(crate) fn rooms(&self) -> Vec<(ConversationKey, Arc<str>)> {
        self.rooms.lock().clone()
    }

    /// Notes that the user logged out on this connection: its end is not a lost connection.
    pub fn set_logged_out(&self) {
        self.logged_out.store(true, Ordering::Relaxed);
    }

    /// Returns the last position of the feed that the fan-out reached for this connection; 0 if that is not known.
    pub(crate) fn fed(&self) -> i64 {
        self.fed.load(Ordering::Relaxed)
    }

    /// Sets what [`ConnectionState::fed`] returns.
    pub(crate) fn set_fed(&self, pos: i64) {
        self.fed.store(pos, Ordering::Relaxed);
    }

    /// Whether the user logged out on this connection.
    pub fn is_logged_out(&self) -> bool {
        self.logged_out.load(Ordering::Relaxed)
    }
}
