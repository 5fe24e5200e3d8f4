//! What the server knows of one connection: nothing before login, everything after.

mod allowance;
mod queue;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use zim_protocol::{Push, SessionEndReason};

pub(crate) use self::allowance::LoginAllowances;
pub use self::queue::{PushQueue, PushTarget};
use crate::key::{AppKey, LoginKey, UserKey};
use crate::tenant::{Access, Proof};

/// Who logged in on a session. Set once: another user needs another connection.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The app.
    pub app: AppKey,
    /// The user.
    pub user: UserKey,
    /// His name in the app.
    pub user_id: Arc<str>,
    /// The login.
    pub login: LoginKey,
    /// What resumes it.
    pub ticket: [u8; 16],
    /// When he logged in, Unix milliseconds.
    pub login_at: i64,
    /// Comes and goes: no device, no presence.
    pub one_shot: bool,
}

/// One connection.
#[derive(Debug)]
pub struct ConnectionState {
    /// Where the client is.
    pub address: SocketAddr,
    /// From `Hello`.
    pub platform: i32,
    /// From `Hello`: names the installation.
    pub device: [u8; 16],
    /// From `Hello`.
    pub sdk_version: String,
    /// What waits for the event stream.
    pub queue: PushQueue,
    identity: OnceLock<Identity>,
    proof: Mutex<Option<Proof>>,
    token_expires_at: AtomicI64,
    /// Wakes the session when the token's end moved.
    pub token_moved: tokio::sync::Notify,
    logged_out: AtomicBool,
    queried_users: Mutex<VecDeque<(i64, usize)>>,
}

/// How many profiles a session may ask for within [`QUERY_WINDOW_MS`].
const QUERIED_USERS: usize = 10;
const QUERY_WINDOW_MS: i64 = 10_000;

impl ConnectionState {
    /// A connection that has said Hello.
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
            queried_users: Mutex::default(),
        }
    }

    /// Who is logged in, if anybody.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.get()
    }

    /// Logs in. False if somebody is logged in already.
    pub fn log_in(&self, identity: Identity) -> bool {
        self.identity.set(identity).is_ok()
    }

    /// When the token ends, Unix milliseconds; 0: never.
    pub fn token_expires_at(&self) -> i64 {
        self.token_expires_at.load(Ordering::Relaxed)
    }

    /// A (new) token ends then.
    pub fn set_token_expires_at(&self, at_ms: i64) {
        self.token_expires_at.store(at_ms, Ordering::Relaxed);
        self.token_moved.notify_one();
    }

    /// What let the session in, or keeps it in since a token was renewed.
    pub fn set_proof(&self, proof: Proof) {
        *self.proof.lock() = Some(proof);
    }

    /// Ends the session if its app does not let it in any more; else moves its end to where the app has it.
    pub fn enforce(&self, access: &Access, now_ms: i64) {
        // Held to the end: the end of a token that is renewed meanwhile is not overwritten by that of the one before.
        let guard = self.proof.lock();
        let Some(proof) = *guard else { return };
        match access.ends_at(proof, now_ms) {
            Some(ends_at) => self.set_token_expires_at(ends_at),
            None => {
                self.queue.end(SessionEndReason::EndedByOperator, "the app does not accept any more what let you in");
            }
        }
    }

    /// Counts a query of `users` profiles at `now_ms`, by the steady clock; false if that is more than 10 within 10 seconds.
    pub fn count_queried_users(&self, users: usize, now_ms: i64) -> bool {
        let mut queried = self.queried_users.lock();
        while queried.front().is_some_and(|(at, _)| now_ms - at >= QUERY_WINDOW_MS) {
            queried.pop_front();
        }
        let before: usize = queried.iter().map(|(_, users)| users).sum();
        let allowed = before + users <= QUERIED_USERS;
        if allowed {
            queried.push_back((now_ms, users));
        }
        allowed
    }

    /// The user logged out on this session: its end is not a loss.
    pub fn set_logged_out(&self) {
        self.logged_out.store(true, Ordering::Relaxed);
    }

    /// Whether the user logged out on this session.
    pub fn is_logged_out(&self) -> bool {
        self.logged_out.load(Ordering::Relaxed)
    }
}

/// The caller of one method.
#[derive(Debug)]
pub struct Caller {
    /// The connection that the call came on.
    pub connection: Arc<ConnectionState>,
    submitted: AtomicBool,
    pushes: Mutex<Vec<Push>>,
}

impl Caller {
    /// The caller of one call on `session`.
    pub fn new(connection: Arc<ConnectionState>) -> Self {
        Self { connection, submitted: AtomicBool::new(false), pushes: Mutex::default() }
    }

    /// Who calls; the ring around the handlers has checked that somebody is logged in.
    ///
    /// # Errors
    /// Not logged in.
    pub fn identity(&self) -> Result<&Identity, crate::error::Error> {
        self.connection.identity().ok_or_else(crate::error::Error::not_logged_in)
    }

    /// The call has its place in the write queue: the next write of its session may start.
    pub fn set_submitted(&self) {
        self.submitted.store(true, Ordering::Release);
    }

    /// Whether the call has its place in the write queue.
    pub fn is_submitted(&self) -> bool {
        self.submitted.load(Ordering::Acquire)
    }

    /// Adds log entries that the call caused to its response.
    pub fn add_push(&self, push: Push) {
        self.pushes.lock().push(push);
    }

    /// The log entries for the response.
    pub fn take_pushes(&self) -> Vec<Push> {
        std::mem::take(&mut *self.pushes.lock())
    }
}
