//! The state of a login, shared by its callers and its task.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;
use zim_protocol::{RenewTokenRequest, TokenRenewedResult, token};

use super::Account;
use crate::account::logged_out;
use crate::error::Error;
use crate::net::Link;
use crate::outbox::is_network;

/// The phase of a login.
#[derive(Clone, Debug)]
enum Phase {
    /// Not accepted yet.
    Pending,
    /// Requests may be made.
    Accepted,
    /// No new requests may be made.
    Ending,
    /// The task has ended. The error, unless the app ended the login.
    Ended(Option<Error>),
}

/// A login, from the call of `login` until its task has ended.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) user_id: String,
    pub(crate) link: Link,
    account: Mutex<Option<Arc<Account>>>,
    /// The account also while the login is ending.
    last_account: Mutex<Weak<Account>>,
    token: Mutex<String>,
    /// When the token expires, by the steady clock; `i64::MAX` for never.
    ends_at: watch::Sender<i64>,
    /// The offset of the time of day from the steady clock: by the clock of this device at first, by the server's clock
    /// once it is known.
    ahead_ms: AtomicI64,
    phase: watch::Sender<Phase>,
    leaving: CancellationToken,
    /// Whether the app wants the local data deleted.
    is_clearing: AtomicBool,
}

impl Login {
    pub(crate) fn new(user_id: &str, token: &str, request_timeout_ms: u64, clock: &Clock) -> Self {
        Self {
            user_id: user_id.to_owned(),
            link: Link::new(request_timeout_ms),
            account: Mutex::default(),
            last_account: Mutex::default(),
            token: Mutex::new(token.to_owned()),
            ends_at: watch::Sender::new(i64::MAX),
            ahead_ms: AtomicI64::new(clock.now_ms().saturating_sub(clock.steady_ms())),
            phase: watch::Sender::new(Phase::Pending),
            leaving: CancellationToken::new(),
            is_clearing: AtomicBool::new(false),
        }
    }

    /// The account, while requests may be made.
    pub(crate) fn account(&self) -> Option<Arc<Account>> {
        self.account.lock().clone()
    }

    /// Reports that a message with a key of the app was refused because the login is ending. It may be the answer to an
    /// event, which then does not count as delivered.
    pub(crate) fn lost_message(&self) {
        if let Some(account) = self.last_account.lock().upgrade() {
            account.lost_message();
        }
    }

    /// Ends the login at the app's request: requests fail from now on.
    pub(crate) fn leave(&self, is_clearing: bool) {
        self.is_clearing.fetch_or(is_clearing, Ordering::Relaxed);
        self.leaving.cancel();
        self.account.lock().take();
    }

    /// Returns whether the app asked for the end.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Returns whether the app wants the local data deleted.
    pub(super) fn is_clearing(&self) -> bool {
        self.is_clearing.load(Ordering::Relaxed)
    }

    /// Waits until the app asks for the end.
    pub(super) async fn left(&self) {
        self.leaving.cancelled().await;
    }

    /// Returns whether the login has ended or is ending.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_leaving() || matches!(*self.phase.borrow(), Phase::Ending | Phase::Ended(_))
    }

    /// Returns whether the login is accepted.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Accepted)
    }

    /// Waits until the login is accepted, or returns why it is not.
    pub(crate) async fn accepted(&self) -> Result<(), Error> {
        let mut phase = self.phase.subscribe();
        let settled = phase.wait_for(|phase| matches!(phase, Phase::Accepted | Phase::Ended(_))).await;
        match settled.map(|phase| phase.clone()) {
            Ok(Phase::Ended(Some(error))) => Err(error),
            Ok(Phase::Accepted) => Ok(()),
            // It was logged out or destroyed meanwhile.
            _ => Err(logged_out()),
        }
    }

    /// Waits until the task has ended.
    pub(crate) async fn ended(&self) {
        // Never fails: `self` holds the sender.
        let _ = self.phase.subscribe().wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
    }

    /// Allows requests from now on.
    pub(super) fn set_account(&self, account: &Arc<Account>) {
        let mut slot = self.account.lock();
        // `leave` cancels first and then empties the slot, so it cannot miss an account that is put here.
        if !self.is_leaving() {
            // Under the lock: a handler that is called now finds the account.
            account.accepted();
            *self.last_account.lock() = Arc::downgrade(account);
            *slot = Some(Arc::clone(account));
        }
    }

    /// Wakes the callers that wait for the login.
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

    pub(crate) fn token(&self) -> String {
        self.token.lock().clone()
    }

    /// Replaces the token: on the server, or without a connection by the next login to it.
    pub(crate) async fn renew(&self, token: String) -> Result<TokenRenewedResult, Error> {
        let ends_at_s = token::expiry(&token)?;
        let renewed = match self.link.request(None, RenewTokenRequest { token: token.clone() }).await {
            Ok((renewed, _)) => renewed,
            Err(error) if is_network(&error) => TokenRenewedResult { token: token.clone() },
            Err(error) => return Err(error),
        };
        self.set_token(token, ends_at_s);
        Ok(renewed)
    }

    /// Sets the token of the next login to the server.
    pub(super) fn set_token(&self, token: String, ends_at_s: i64) {
        *self.token.lock() = token;
        self.set_token_end(ends_at_s.saturating_mul(1_000));
    }

    /// Sets the offset of the server's time from the steady clock.
    pub(super) fn set_time(&self, server_ms: i64, steady_ms: i64) {
        self.ahead_ms.store(server_ms.saturating_sub(steady_ms), Ordering::Relaxed);
    }

    /// Sets when the token expires, by the server's clock; 0 for never.
    pub(super) fn set_token_end(&self, at_ms: i64) {
        let at_ms = if at_ms == 0 { i64::MAX } else { at_ms.saturating_sub(self.ahead_ms.load(Ordering::Relaxed)) };
        self.ends_at.send_if_modified(|ends_at| std::mem::replace(ends_at, at_ms) != at_ms);
    }

    pub(super) fn token_end(&self) -> watch::Receiver<i64> {
        self.ends_at.subscribe()
    }
}
