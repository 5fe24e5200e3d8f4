//! A login as its callers and its task see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zim_protocol::ErrorCode;
use zim_protocol::clock::Clock;

use crate::account::{Account, logged_out};
use crate::error::Error;
use crate::net::Link;

/// How far a login is.
#[derive(Clone, Debug)]
enum Phase {
    /// Nobody knows yet whether it will be one.
    Pending,
    /// Calls may be made.
    Accepted,
    /// Calls may not be made any more.
    Ending,
    /// Nothing of it is left; the reason, if it was not the app's wish.
    Ended(Option<Error>),
}

/// A login, from the call to its last moment.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) user_id: String,
    pub(crate) link: Link,
    account: Mutex<Option<Arc<Account>>>,
    token: Mutex<String>,
    /// When the token ends, by the steady clock; `i64::MAX` for never.
    ends_at: watch::Sender<i64>,
    /// What to add to the steady clock for the time of day: the server's, once it has said it.
    ahead_ms: AtomicI64,
    phase: watch::Sender<Phase>,
    leaving: CancellationToken,
}

impl Login {
    pub(crate) fn new(user_id: &str, token: &str, request_timeout_ms: u64, clock: &Clock) -> Self {
        Self {
            user_id: user_id.to_owned(),
            link: Link::new(request_timeout_ms),
            account: Mutex::default(),
            token: Mutex::new(token.to_owned()),
            ends_at: watch::Sender::new(i64::MAX),
            ahead_ms: AtomicI64::new(clock.now_ms().saturating_sub(clock.steady_ms())),
            phase: watch::Sender::new(Phase::Pending),
            leaving: CancellationToken::new(),
        }
    }

    /// What is stored for this user, while calls may be made.
    pub(crate) fn account(&self) -> Option<Arc<Account>> {
        self.account.lock().clone()
    }

    /// The app's wish that it ends: calls fail from now on.
    pub(crate) fn leave(&self) {
        self.leaving.cancel();
        self.account.lock().take();
    }

    /// Whether the app wished that it ends.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Returns when the app wishes that it ends.
    pub(super) async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Whether it is over, or will be in a moment.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_leaving() || matches!(*self.phase.borrow(), Phase::Ending | Phase::Ended(_))
    }

    /// Whether it has become one.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Accepted)
    }

    /// Returns when it has become one, or why it has not.
    pub(crate) async fn accepted(&self) -> Result<(), Error> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|phase| matches!(phase, Phase::Accepted | Phase::Ended(_))).await;
        match settled.map(|phase| phase.clone()) {
            Ok(Phase::Ended(Some(error))) => Err(error),
            Ok(Phase::Accepted) => Ok(()),
            // Logged out, or destroyed, meanwhile.
            _ => Err(logged_out()),
        }
    }

    /// Returns when nothing of it is left.
    pub(crate) async fn ended(&self) {
        // Fails never: `self` holds the sender.
        let _ = self.phase.subscribe().wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    }

    /// Calls may be made from now on.
    pub(super) fn set_account(&self, account: &Arc<Account>) {
        let mut slot = self.account.lock();
        // `leave` cancels first and looks into the slot then: it cannot miss what is put here.
        if !self.is_leaving() {
            *slot = Some(Arc::clone(account));
        }
    }

    /// Those who wait for the login may go on.
    pub(super) fn set_accepted(&self) {
        self.phase.send_replace(Phase::Accepted);
    }

    pub(super) fn set_ending(&self) {
        self.account.lock().take();
        self.phase.send_replace(Phase::Ending);
    }

    pub(super) fn set_ended(&self, error: Option<Error>) {
        self.phase.send_replace(Phase::Ended(error));
    }

    pub(super) fn token(&self) -> String {
        self.token.lock().clone()
    }

    /// A new token that the server has taken.
    pub(crate) fn renew(&self, token: &str, ends_at_ms: i64) {
        token.clone_into(&mut self.token.lock());
        self.set_token_end(ends_at_ms);
    }

    /// It is so late, by the server's clock and by the steady one.
    pub(super) fn set_time(&self, server_ms: i64, steady_ms: i64) {
        self.ahead_ms.store(server_ms.saturating_sub(steady_ms), Ordering::Relaxed);
    }

    /// The token ends then, by the server's clock; 0 for never.
    pub(super) fn set_token_end(&self, at_ms: i64) {
        let at_ms = if at_ms == 0 { i64::MAX } else { at_ms.saturating_sub(self.ahead_ms.load(Ordering::Relaxed)) };
        self.ends_at.send_if_modified(|ends_at| std::mem::replace(ends_at, at_ms) != at_ms);
    }

    pub(super) fn token_end(&self) -> watch::Receiver<i64> {
        self.ends_at.subscribe()
    }
}

/// Why calls fail after a kick: the same as after a logout, with the cause.
pub(super) fn kicked_out() -> Error {
    Error::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, "another login of this user took the place of this one")
}

/// Why calls fail after the operator ended the session.
pub(super) fn ended_by_operator() -> Error {
    Error::new(ErrorCode::NetworkModuleUserHasAlreadyLoggedOut, "the operator ended this session; log in again")
}
