//! The task that owns the sync engine. It feeds the engine, stores the result, resolves promises, raises events and
//! sends the requests that the engine wants. All data of a login passes through this task, one turn after the other, so
//! positions, rows and events have one order. Inputs that wait share the next transaction.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use zim_protocol::{CallEntry, ErrorCode, Event, SendBarrageRequest, SendMessageRequest, clock::Clock};

use super::indexing::Backlog;
use super::input::{Done, Input};
use super::remote::Remote;
use super::rooms::Rooms;
use super::transients::WaitingTransient;
use super::typing::{Told, Typing};
use super::uploading::Uploading;
use super::watchers::Watchers;
use crate::apply::{Job, Recent, Viewer};
use crate::engine::SyncEngine;
use crate::error::Error;
use crate::events::Deliveries;
use crate::media::Http;
use crate::outbox::{Reply, SendQueue, SendResult, Submission, SubmissionKind};
use crate::store::outgoing::Unsent;
use crate::store::{self, Length, Store};
use crate::types::Key;

/// The interval of the audit, which compares sums with the server, so that a lost hint is repaired without traffic.
pub(super) const AUDIT_MS: i64 = 600_000;
/// The longest wait for pushes that are on their way: shorter than commands wait for their messages.
pub(super) const AWAIT_MS: i64 = 3_000;
/// The pause after a failed write or a refusal: long enough for a user to free space, short enough to be noticed.
pub(super) const RECOVER_MS: i64 = 10_000;
/// The pause after a rate limit; the allowance of the server is full again by then.
pub(super) const PAUSE_MS: i64 = 1_000;
/// Older messages are history and not caught up with.
const HORIZON_MS: i64 = 7 * 86_400_000;
/// The most inputs of one turn.
const MAX_INPUTS: usize = 256;

pub(crate) type InFlight = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The state that the task shares with its handle.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The generation of the positions, for requests of history.
    pub(crate) generation: AtomicU64,
    /// The list of conversations has been complete once in this epoch, or cannot be completed for now.
    pub(crate) is_listed: watch::Sender<bool>,
    /// How the first catch-up of this login ended; `None` until it has.
    pub(crate) catch_up: watch::Sender<Option<Result<(), Error>>>,
    /// The offset of the server's time from the steady clock, from the last connection; `UNKNOWN` before the first.
    pub(crate) ahead_ms: AtomicI64,
    /// The task has panicked.
    pub(crate) has_panicked: watch::Sender<bool>,
    /// Those who observe the local database.
    pub(crate) watchers: Watchers,
    /// The rooms that this device is in.
    pub(crate) rooms: Rooms,
    /// Who was told that this user is writing.
    pub(crate) told: Told,
}

/// The server's time is not known yet.
pub(crate) const UNKNOWN: i64 = i64::MIN;

impl Shared {
    /// Returns the server's time, as far as this device knows it. After the first connection it does not depend on the
    /// clock of this device.
    pub(crate) fn server_now_ms(&self, clock: &Clock) -> i64 {
        match self.ahead_ms.load(Ordering::Relaxed) {
            UNKNOWN => clock.now_ms(),
            ahead_ms => clock.steady_ms().saturating_add(ahead_ms),
        }
    }
}

/// Called when what an input brought is stored, or cannot be.
pub(crate) type Stored = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// A request that is answered, and whose entries have to wait for earlier ones.
pub(super) struct AwaitingFeed {
    /// The position of its last entry.
    pub(super) through: u64,
    /// The calls in its entries that the engine did not apply, with their positions. If the earlier entries do not come, the calls are
    /// stored without them: the next sync compares the calls with what this device knows.
    pub(super) calls: Vec<(u64, CallEntry)>,
    pub(super) stored: Stored,
}

/// What follows the commit.
#[derive(Default)]
pub(super) struct After {
    pub(super) attached: Vec<Submission>,
    pub(super) sent: Vec<(Reply, SendResult)>,
    pub(super) done: Vec<Stored>,
    pub(super) cancelled: Vec<(oneshot::Sender<bool>, bool)>,
}

/// The parts of a task.
pub(crate) struct Parts<L: Remote> {
    pub(crate) remote: L,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<Store>,
    pub(crate) engine: SyncEngine,
    pub(crate) viewer: Viewer,
    pub(crate) shared: Arc<Shared>,
    /// The total of unread messages, except in conversations that are set to do not disturb.
    pub(crate) total: i64,
    pub(crate) inbox: mpsc::UnboundedReceiver<Input>,
    /// For how long a message waits for a connection.
    pub(crate) resend_window_ms: i64,
    /// Messages are indexed for search when there is time: not in a session that ends soon.
    pub(crate) indexes: bool,
    /// The messages that earlier logins have not indexed.
    pub(crate) unindexed: usize,
    /// Uploads files.
    pub(crate) media: Arc<Http>,
}

/// The task. See the module.
pub(crate) struct AccountTask<L: Remote> {
    pub(super) remote: L,
    pub(super) clock: Clock,
    pub(super) store: Arc<Store>,
    pub(super) engine: SyncEngine,
    pub(super) viewer: Viewer,
    pub(super) deliveries: Deliveries,
    /// Events of an earlier login, until a handler can use this one: what it sends must not be refused.
    pub(super) again: Vec<(i64, Event)>,
    /// The id up to which delivered events are deleted, or will be by the next commit.
    pub(super) forgotten: i64,
    pub(super) shared: Arc<Shared>,
    /// The total of unread messages, except in conversations that are set to do not disturb.
    pub(super) total: i64,
    pub(super) inbox: mpsc::UnboundedReceiver<Input>,
    pub(super) sends: SendQueue,
    /// The messages whose files are being uploaded.
    pub(super) uploads: HashMap<Key, Uploading>,
    /// The number of the last upload.
    pub(super) last_upload: u64,
    pub(super) media: Arc<Http>,
    pub(super) in_flight: FuturesUnordered<InFlight>,
    pub(super) ready: Vec<Done>,
    pub(super) job: Job,
    /// What was just written. Only a write in progress holds the lock.
    pub(super) recent: Arc<Mutex<Recent>>,
    pub(super) after: After,
    /// Requests of this device that wait until the feed has arrived up to their own entries.
    pub(super) awaiting_feed: Vec<AwaitingFeed>,
    /// The number of the connection. Requests of the task go over this one or fail, so that nothing overtakes what failed
    /// on it; a failure on an old one says nothing about it.
    pub(super) connection: u64,
    /// Commands that wait for the messages before them.
    pub(super) transients: Vec<WaitingTransient>,
    /// Who is writing to this user.
    pub(super) typing: Typing,
    pub(super) is_connected: bool,
    /// The events of this connection that were handled since the last commit.
    pub(super) handled: u64,
    pub(super) resend_window_ms: i64,
    pub(super) indexes: bool,
    pub(super) next_audit_ms: i64,
    /// Until when pushes are awaited that are on their way; an audit follows.
    pub(super) await_until_ms: i64,
    /// When messages are indexed for search.
    pub(super) next_index_ms: i64,
    /// The messages that wait for that.
    pub(super) backlog: Backlog,
    pub(super) is_total_raised: bool,
    /// Why the last sync failed.
    pub(super) sync_error: Option<Error>,
    /// A write failed, so the engine is ahead of the store.
    pub(super) is_stale: bool,
    /// A message with a key of the app could not be stored. The event that it answers must be raised again, so from now on
    /// no event of this login counts as delivered.
    pub(super) has_lost_message: bool,
    pub(super) closing: Option<oneshot::Sender<()>>,
    /// The next login goes on with unsent messages. It does so unless this one ends in an orderly way.
    pub(super) keeps_unsent: bool,
}

impl<L: Remote> AccountTask<L> {
    pub(crate) fn new(parts: Parts<L>) -> Self {
        let Parts {
            remote,
            clock,
            store,
            engine,
            viewer,
            shared,
            total,
            inbox,
            resend_window_ms,
            indexes,
            unindexed,
            media,
        } = parts;
        Self {
            remote,
            clock,
            store,
            engine,
            viewer,
            deliveries: Deliveries::new(),
            again: Vec::new(),
            forgotten: 0,
            shared,
            total,
            inbox,
            sends: SendQueue::default(),
            uploads: HashMap::new(),
            last_upload: 0,
            media,
            in_flight: FuturesUnordered::new(),
            ready: Vec::new(),
            job: Job::default(),
            recent: Arc::default(),
            after: After::default(),
            awaiting_feed: Vec::new(),
            connection: 0,
            transients: Vec::new(),
            typing: Typing::default(),
            is_connected: false,
            handled: 0,
            resend_window_ms,
            indexes,
            next_audit_ms: i64::MAX,
            await_until_ms: i64::MAX,
            next_index_ms: i64::MAX,
            backlog: Backlog::new(unindexed),
            is_total_raised: false,
            sync_error: None,
            is_stale: false,
            has_lost_message: false,
            closing: None,
            keeps_unsent: true,
        }
    }

    /// Runs until the login ends, and reports a panic.
    pub(crate) async fn run_guarded(self, again: Vec<(i64, Event)>, unsent: Vec<Unsent>) {
        let shared = Arc::clone(&self.shared);
        if AssertUnwindSafe(self.run(again, unsent)).catch_unwind().await.is_err() {
            shared.has_panicked.send_replace(true);
        }
        shared.watchers.end();
    }

    /// Runs until the login ends. `again` are events that an earlier login may not have delivered.
    async fn run(mut self, again: Vec<(i64, Event)>, unsent: Vec<Unsent>) {
        self.again = again;
        let mut delivered = self.deliveries.through();
        self.resume(unsent);
        // The number through which events are delivered, and how many inputs come before that fact.
        let mut waiting: Option<(i64, usize)> = None;
        while self.closing.is_none() {
            let deadline = self.sends.next_deadline_ms(self.is_connected).unwrap_or(i64::MAX);
            let next_start = self.sends.next_start_ms(self.clock.steady_ms()).filter(|_| self.is_connected);
            let wake_ms = deadline.min(next_start.unwrap_or(i64::MAX)).min(self.audit_ms()).min(self.next_index_ms);
            let wake_ms = wake_ms.min(self.typing.deadline_ms().unwrap_or(i64::MAX));
            tokio::select! {
                input = self.inbox.recv() => match input {
                    Some(input) => self.input(input).await,
                    None => break,
                },
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => self.done(done),
                // Never fails: the task holds the sender.
                _ = delivered.changed() => {}
                () = self.clock.sleep_until_steady(wake_ms) => {}
            }
            // What handlers asked for before they returned is in the inbox by now. It is stored before, or together with,
            // the fact that they have had their events.
            let (through, mut before) =
                waiting.take().unwrap_or_else(|| (*delivered.borrow_and_update(), self.inbox.len()));
            for _ in 0..MAX_INPUTS {
                let Ok(input) = self.inbox.try_recv() else { break };
                before = before.saturating_sub(1);
                self.input(input).await;
            }
            while let Some(Some(done)) = self.in_flight.next().now_or_never() {
                self.done(done);
            }
            self.check_deadlines().await;
            if before == 0 {
                self.delivered(through);
            } else {
                waiting = Some((through, before));
            }
            self.turn().await;
            self.forget_delivered();
            self.index_messages().await;
        }
        self.end().await;
    }

    /// Commits, reports and sends requests until nothing is ready.
    async fn turn(&mut self) {
        loop {
            self.commit().await;
            self.release_transients().await;
            if self.is_connected {
                while let Some((number, request, is_barrage)) = self.sends.start(self.clock.steady_ms()) {
                    let (connection, epochs) = (self.connection, self.engine.epochs());
                    let done = move |result| Done::Sent { number, connection, epochs, result };
                    if is_barrage {
                        // The fields are the same.
                        let response = self.remote.request_encoded::<SendBarrageRequest>(Some(connection), request);
                        self.start(async move { done(response.await) }).await;
                    } else {
                        let response = self.remote.request_encoded::<SendMessageRequest>(Some(connection), request);
                        self.start(async move { done(response.await) }).await;
                    }
                }
            }
            if self.ready.is_empty() {
                return;
            }
            for done in std::mem::take(&mut self.ready) {
                self.done(done);
            }
        }
    }

    /// When the next audit is due.
    fn audit_ms(&self) -> i64 {
        self.next_audit_ms.min(self.await_until_ms)
    }

    /// Schedules a retry soon after a temporary refusal. After other errors the regular audit retries.
    pub(super) fn audit_soon(&mut self, error: &Error) {
        let pause_ms = match error.code() {
            ErrorCode::CommonModuleTriggerServerFrequencyLimit => {
                self.engine.pause_pulls();
                PAUSE_MS
            }
            ErrorCode::CommonModuleImServerError => RECOVER_MS,
            // This includes a database of the server that is down or full for now.
            _ if error.is_retryable() => RECOVER_MS,
            _ => return,
        };
        if self.is_connected {
            self.next_audit_ms = self.next_audit_ms.min(self.clock.steady_ms() + pause_ms);
        }
    }

    async fn check_deadlines(&mut self) {
        if self.is_stale {
            self.reload().await;
        }
        let steady_ms = self.clock.steady_ms();
        for (mut outgoing, error) in self.sends.expired(steady_ms, self.is_connected) {
            let cause = outgoing.unless_stored.take();
            self.fail(outgoing, cause.unwrap_or(error));
        }
        self.expire_typing();
        if steady_ms >= self.audit_ms() {
            (self.next_audit_ms, self.await_until_ms) = (steady_ms + AUDIT_MS, i64::MAX);
            self.engine.audit();
        }
    }

    /// Returns the time before which messages are history. The server dates messages, so its clock counts.
    pub(super) fn horizon_ms(&self) -> i64 {
        self.shared.server_now_ms(&self.clock).saturating_sub(HORIZON_MS)
    }

    /// Polls a request once, so that requests are sent in the order in which they are started.
    pub(super) async fn start(&mut self, request: impl Future<Output = Done> + Send + 'static) {
        self.start_boxed(Box::pin(request)).await;
    }

    pub(super) async fn start_boxed(&mut self, mut request: InFlight) {
        match futures_util::poll!(&mut request) {
            std::task::Poll::Ready(done) => self.ready.push(done),
            std::task::Poll::Pending => self.in_flight.push(request),
        }
    }

    /// Ends the login. Events that no handler has had yet stay in the store, and the next login raises them.
    async fn end(mut self) {
        self.deliveries.end();
        self.engine.offline();
        let error = Error::new(ErrorCode::NetworkModuleUserIsNotLogged, "the login ended before the message was sent");
        self.end_uploads(&error);
        for (outgoing, _) in self.sends.drain() {
            let error = error.clone();
            // The next login goes on with a message that is stored.
            if self.keeps_unsent && outgoing.is_stored {
                // The app may have stopped waiting.
                outgoing.reply.send(Err(error));
            } else {
                self.fail(outgoing, error);
            }
        }
        self.commit().await;
        let through = *self.deliveries.through().borrow();
        // Of what the app asked for since, only this matters: an answer to one of these events is not stored.
        while let Ok(input) = self.inbox.try_recv() {
            let is_lost = match input {
                Input::LostMessage => true,
                Input::Send(submission) => {
                    matches!(submission.kind, SubmissionKind::Stored { is_first_only: true, .. })
                }
                _ => false,
            };
            if is_lost {
                self.keep_events();
            }
        }
        self.delivered(through);
        if let Some(id) = self.viewer.delivered.take()
            && let Err(error) = self.store.write(Length::Short, move |db| store::pending::forget(db, id)).await
        {
            tracing::warn!(%error, "events that were delivered will be raised again");
        }
        self.store.close().await;
        if let Some(closing) = self.closing.take() {
            let _ = closing.send(());
        }
    }
}
