//! The task that owns the sync engine. It feeds the engine, stores the result, resolves promises, raises events and
//! sends the requests that the engine wants. All data of a login passes through this task, one turn after the other, so
//! positions, rows and events have one order. Inputs that wait share the next transaction.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use zim_protocol::{
    ConversationSyncState, ConversationSyncStateChangedEvent, ConversationTotalUnreadMessageCountUpdatedEvent,
    ErrorCode, Event, EventFrame, FillResult, LogKind, Message, MessageReceivedInfo, MessageSentResult, Page, Push,
    SyncResult, UserFullInfo, UserOnlineStatus, UserStatus, UserStatusUpdatedEvent, clock::Clock, event_frame::Frame,
};

use super::apply::{self, Applied, Job, Settle, Viewer};
use super::outbox::{Submission, accept};
use super::{Name, Origin, Progress, Request, SyncEngine};
use crate::account::Remote;
use crate::error::Error;
use crate::send_queue::{Key, SendQueue};
use crate::store::{self, Store};

/// The interval of the audit, which compares sums with the server, so that a lost hint is repaired without traffic.
const AUDIT_MS: i64 = 600_000;
/// The pause after a failed write or a refusal: long enough for a user to free space, short enough to be noticed.
const RECOVER_MS: i64 = 10_000;
/// The pause after a rate limit; the allowance of the server is full again by then.
const PAUSE_MS: i64 = 1_000;
/// Older messages are history and not caught up with.
const HORIZON_MS: i64 = 7 * 86_400_000;
/// The most inputs of one turn.
const MAX_INPUTS: usize = 256;

/// An input of the task.
pub(crate) enum Input {
    /// A new connection is logged in.
    Connected { user: Option<UserFullInfo>, is_named: bool, epoch: Bytes, server_time: i64 },
    /// The connection is lost.
    Disconnected,
    /// A frame of the event stream.
    Frame(EventFrame, OwnedSemaphorePermit),
    /// Log entries from the response to a request of this device.
    Pushes(Vec<Push>, oneshot::Sender<Result<(), Error>>),
    /// A page of history.
    Filled { name: Name, generation: u64, fill: FillResult, done: oneshot::Sender<Result<(), Error>> },
    /// Profiles from the server.
    Users(Vec<UserFullInfo>, oneshot::Sender<Result<(), Error>>),
    /// The user's own status, as a request of this device changed it.
    OwnStatus(UserStatus, oneshot::Sender<Result<(), Error>>),
    /// A message to send.
    Send(Box<Submission>),
    /// The login ends.
    Close(oneshot::Sender<()>),
}

/// The answer to a request of the task.
pub(super) enum Done {
    Pulled {
        ticket: u64,
        result: Result<(Page, Vec<Push>), Error>,
    },
    Synced {
        ticket: u64,
        result: Result<(SyncResult, Vec<Push>), Error>,
    },
    Sent {
        number: u64,
        connection: u64,
        result: Result<(MessageSentResult, Vec<Push>), Error>,
    },
    TransientSent {
        message: Box<Message>,
        reply: oneshot::Sender<Result<MessageSentResult, Error>>,
        result: Result<MessageSentResult, Error>,
    },
}

type InFlight = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The state that the task shares with its handle.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The generation of the positions, for requests of history.
    pub(crate) generation: AtomicU64,
    /// The list of conversations has been complete once, or cannot be completed for now.
    pub(crate) is_listed: watch::Sender<bool>,
    /// The offset of the server's time from the steady clock, from the last connection; `UNKNOWN` before the first.
    pub(crate) ahead_ms: AtomicI64,
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

/// The result of sending a message.
pub(crate) type SendResult = Result<MessageSentResult, Error>;

/// What follows the commit.
#[derive(Default)]
pub(super) struct After {
    pub(super) attached: Vec<Submission>,
    pub(super) sent: Vec<(oneshot::Sender<SendResult>, SendResult)>,
    done: Vec<oneshot::Sender<Result<(), Error>>>,
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
}

/// The task. See the module.
pub(crate) struct AccountTask<L: Remote> {
    pub(super) remote: L,
    pub(super) clock: Clock,
    store: Arc<Store>,
    pub(super) engine: SyncEngine,
    viewer: Viewer,
    shared: Arc<Shared>,
    /// The total of unread messages, except in conversations that are set to do not disturb.
    total: i64,
    inbox: mpsc::UnboundedReceiver<Input>,
    pub(super) sends: SendQueue,
    in_flight: FuturesUnordered<InFlight>,
    ready: Vec<Done>,
    pub(super) job: Job,
    pub(super) after: After,
    /// Requests of this device that wait until the feed has arrived up to their own entries.
    awaiting_feed: Vec<(u64, oneshot::Sender<Result<(), Error>>)>,
    /// Counts connections. A failure on an old connection says nothing about the current one.
    pub(super) connection: u64,
    pub(super) is_connected: bool,
    next_audit_ms: i64,
    is_total_raised: bool,
    /// A write failed, so the engine is ahead of the store.
    is_stale: bool,
    closing: Option<oneshot::Sender<()>>,
}

impl<L: Remote> AccountTask<L> {
    pub(crate) fn new(parts: Parts<L>) -> Self {
        let Parts { remote, clock, store, engine, viewer, shared, total, inbox } = parts;
        Self {
            remote,
            clock,
            store,
            engine,
            viewer,
            shared,
            total,
            inbox,
            sends: SendQueue::default(),
            in_flight: FuturesUnordered::new(),
            ready: Vec::new(),
            job: Job::default(),
            after: After::default(),
            awaiting_feed: Vec::new(),
            connection: 0,
            is_connected: false,
            next_audit_ms: i64::MAX,
            is_total_raised: false,
            is_stale: false,
            closing: None,
        }
    }

    /// Runs until the login ends. `again` are events that the previous process may not have raised.
    pub(crate) async fn run(mut self, again: Vec<Event>) {
        if !self.raise_all(again.into_iter().flat_map(apply::with_twin)) {
            self.viewer.raised = None;
        }
        while self.closing.is_none() {
            let deadline = self.sends.next_deadline_ms().unwrap_or(i64::MAX);
            tokio::select! {
                input = self.inbox.recv() => match input {
                    Some(input) => self.input(input).await,
                    None => break,
                },
                Some(done) = self.in_flight.next(), if !self.in_flight.is_empty() => self.done(done),
                () = self.clock.sleep_until_steady(deadline) => {}
                () = self.clock.sleep_until_steady(self.next_audit_ms) => {}
            }
            for _ in 0..MAX_INPUTS {
                let Ok(input) = self.inbox.try_recv() else { break };
                self.input(input).await;
            }
            while let Some(Some(done)) = self.in_flight.next().now_or_never() {
                self.done(done);
            }
            self.check_deadlines().await;
            self.turn().await;
            self.forget_raised();
        }
        self.end().await;
    }

    /// Commits, reports and sends requests until nothing is ready.
    async fn turn(&mut self) {
        loop {
            self.commit().await;
            if self.is_connected {
                while let Some((number, request)) = self.sends.start() {
                    let (response, connection) = (self.remote.request(request), self.connection);
                    self.start(async move { Done::Sent { number, connection, result: response.await } }).await;
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

    async fn input(&mut self, input: Input) {
        if self.is_stale && !matches!(input, Input::Close(_) | Input::Connected { .. } | Input::Disconnected) {
            self.reload().await;
            if self.is_stale {
                // The next sync finds what is dropped here.
                let error =
                    || Error::new(ErrorCode::DatabaseModuleSeleteDatabaseError, "the local database cannot be read");
                match input {
                    Input::Pushes(_, done)
                    | Input::Filled { done, .. }
                    | Input::Users(_, done)
                    | Input::OwnStatus(_, done) => drop(done.send(Err(error()))),
                    Input::Send(submission) => drop(submission.reply.send(Err(error()))),
                    _ => {}
                }
                return;
            }
        }
        match input {
            Input::Connected { user, is_named, epoch, server_time } => {
                if self.engine.is_online() {
                    self.engine.offline();
                }
                self.connection += 1;
                self.is_connected = true;
                self.viewer.login_ms = server_time;
                let ahead_ms = server_time.saturating_sub(self.clock.steady_ms());
                self.shared.ahead_ms.store(ahead_ms, Ordering::Relaxed);
                self.next_audit_ms = self.clock.steady_ms() + AUDIT_MS;
                if let Some(info) = user {
                    self.engine.logged_in(info, is_named);
                }
                self.engine.online(&epoch);
            }
            Input::Disconnected => self.disconnected(),
            Input::Frame(frame, _permit) => self.frame(frame),
            Input::Pushes(pushes, done) => {
                let of_feed = pushes.iter().filter(|push| push.log == LogKind::Feed as i32);
                let through = of_feed.map(|push| push.to).max().unwrap_or(0);
                self.pushes(pushes);
                self.awaiting_feed.push((through, done));
            }
            Input::Filled { name, generation, fill, done } => {
                self.engine.filled(&name, generation, fill);
                self.after.done.push(done);
            }
            Input::Users(users, done) => {
                self.job.settle.push(Settle::Users(users));
                self.after.done.push(done);
            }
            Input::OwnStatus(status, done) => {
                self.job.settle.push(Settle::OwnStatus(status));
                self.after.done.push(done);
            }
            Input::Send(submission) => self.submit(submission).await,
            Input::Close(done) => self.closing = Some(done),
        }
    }

    fn disconnected(&mut self) {
        self.is_connected = false;
        self.next_audit_ms = i64::MAX;
        self.engine.offline();
        self.shared.is_listed.send_replace(true);
    }

    fn frame(&mut self, frame: EventFrame) {
        match frame.frame {
            Some(Frame::Push(push)) => self.push(push, Origin::Other),
            Some(Frame::Dirty(dirty)) => {
                if dirty.transients_dropped > 0 {
                    tracing::warn!(
                        dropped = dirty.transients_dropped,
                        "this connection was too slow: the server dropped commands"
                    );
                }
                self.engine.dirtied(&dirty);
            }
            Some(Frame::Transient(transient)) => {
                let (Some(name), Some(entry)) = (transient.conversation, transient.message) else { return };
                let info = MessageReceivedInfo { is_offline_message: false };
                let message = store::message::shown(entry, &self.viewer.user_id, &name);
                for event in apply::received(&name, vec![message], info).into_iter().flat_map(apply::with_twin) {
                    self.remote.raise(event);
                }
            }
            Some(Frame::Snapshot(snapshot)) => {
                self.engine.snapshot_pushed(&snapshot);
                self.job.settle.push(Settle::Snapshot(snapshot));
            }
            Some(Frame::End(_)) | None => {}
        }
    }

    pub(super) fn pushes(&mut self, pushes: Vec<Push>) {
        for push in pushes {
            self.push(push, Origin::Own);
        }
    }

    /// Own messages come back without content, which the queue has.
    fn push(&mut self, mut push: Push, origin: Origin) {
        for entry in push.messages.iter_mut().filter(|entry| entry.content.is_empty()) {
            if let Some(content) = self.sends.content(&entry.client_key) {
                entry.content = content;
            }
        }
        self.engine.push(push, origin);
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Pulled { ticket, result } => match result {
                Ok((page, _)) => {
                    self.engine.set_horizon(self.horizon_ms());
                    self.engine.page(ticket, page);
                }
                Err(error) => {
                    tracing::debug!(%error, "a pull failed");
                    self.engine.pull_failed(ticket);
                    self.audit_soon(&error);
                }
            },
            Done::Synced { ticket, result } => match result {
                Ok((result, _)) => {
                    self.engine.set_horizon(self.horizon_ms());
                    self.engine.synced(ticket, result);
                }
                Err(error) => {
                    tracing::debug!(%error, "a sync failed");
                    self.engine.sync_failed(ticket);
                    self.audit_soon(&error);
                }
            },
            Done::Sent { number, connection, result } => self.sent(number, connection, result),
            Done::TransientSent { mut message, reply, result } => {
                let answer = result.map(|result| {
                    accept(&mut message, &result.message.unwrap_or_default());
                    MessageSentResult { message: Some(*message) }
                });
                // The app may have stopped waiting.
                let _ = reply.send(answer);
            }
        }
    }

    /// Schedules a retry soon after a temporary refusal. After other errors the regular audit retries.
    fn audit_soon(&mut self, error: &Error) {
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
        for (outgoing, error) in self.sends.expired(steady_ms) {
            self.fail(outgoing, error);
        }
        if steady_ms >= self.next_audit_ms {
            self.next_audit_ms = steady_ms + AUDIT_MS;
            self.engine.audit();
        }
    }

    /// Returns the time before which messages are history. The server dates messages, so its clock counts.
    fn horizon_ms(&self) -> i64 {
        self.shared.server_now_ms(&self.clock).saturating_sub(HORIZON_MS)
    }

    /// Commits the inputs, then reports in this order: promises, events, requests.
    async fn commit(&mut self) {
        let output = self.engine.take();
        self.shared.generation.store(self.engine.generation(), Ordering::Release);
        let mut job = std::mem::take(&mut self.job);
        job.batch = output.batch;
        self.viewer.now_ms = self.shared.server_now_ms(&self.clock);
        self.viewer.horizon_ms = self.horizon_ms();
        let mut after = std::mem::take(&mut self.after);
        // A request whose entry has to wait for earlier entries ends with the sync that brings them, so that the next
        // query shows it.
        let (through, is_syncing) = (self.engine.position().pos, self.engine.is_syncing());
        let has_arrived = |waiting: &mut (u64, oneshot::Sender<_>)| waiting.0 <= through || !is_syncing;
        after.done.extend(self.awaiting_feed.extract_if(.., has_arrived).map(|(_, done)| done));
        if output.progress.contains(&Progress::Started) {
            self.progress(ConversationSyncState::Started);
        }
        let applied = if job.is_empty() { Ok(Applied::default()) } else { self.write(job).await };
        match applied {
            Ok(applied) => self.report(applied, after),
            Err(error) => {
                after.done.extend(self.awaiting_feed.drain(..).map(|(_, done)| done));
                self.write_failed(&error, after);
                // The engine will want its requests again.
                self.reload().await;
                if output.progress.iter().any(|progress| *progress != Progress::Started) {
                    // The sync of the login has ended and is not reported again; callers that wait for it get what is
                    // stored.
                    self.progressed(Progress::Failed).await;
                }
                return;
            }
        }
        for progress in output.progress {
            self.progressed(progress).await;
        }
        for request in output.requests {
            match request {
                Request::Pull { ticket, request } => {
                    let response = self.remote.request(request);
                    self.start(async move { Done::Pulled { ticket, result: response.await } }).await;
                }
                Request::Sync { ticket, request } => {
                    let response = self.remote.request(request);
                    self.start(async move { Done::Synced { ticket, result: response.await } }).await;
                }
            }
        }
    }

    async fn write(&mut self, job: Job) -> Result<Applied, Error> {
        let viewer = self.viewer.clone();
        let applied = self.store.write(move |db| apply::apply(db, &viewer, job)).await?;
        // This commit deleted the events that were raised before.
        self.viewer.raised = None;
        Ok(applied)
    }

    fn report(&mut self, applied: Applied, after: After) {
        for (submission, attached) in after.attached.into_iter().zip(applied.attached) {
            self.attached(submission, attached);
        }
        for message in applied.settled {
            let key: Key = zim_protocol::id::from_hex(&message.local_message_id).unwrap_or_default();
            // The log showed it before the answer arrived, so the promise need not wait.
            if let Some(outgoing) = self.sends.settled(&key) {
                let _ = outgoing.reply.send(Ok(MessageSentResult { message: Some(message) }));
            }
        }
        for (reply, answer) in after.sent {
            // The app may have stopped waiting.
            let _ = reply.send(answer);
        }
        for done in after.done {
            let _ = done.send(Ok(()));
        }
        if self.raise_all(applied.events) {
            self.viewer.raised = applied.pending.or(self.viewer.raised);
        }
        if applied.needs_audit && self.is_connected {
            self.next_audit_ms = self.clock.steady_ms();
        }
        if applied.unread_delta != 0 {
            self.total += applied.unread_delta;
            self.raise_total();
        }
    }

    /// Handles a failed write: nothing of the turn is stored.
    fn write_failed(&mut self, error: &Error, after: After) {
        tracing::error!(?error, "a write to the local database failed; trying again soon");
        for submission in after.attached {
            let _ = submission.reply.send(Err(error.clone()));
        }
        for (reply, answer) in after.sent {
            // The result of the server is true even if it could not be stored.
            let _ = reply.send(answer);
        }
        for done in after.done {
            let _ = done.send(Err(error.clone()));
        }
        self.is_stale = true;
        if self.is_connected {
            self.next_audit_ms = self.clock.steady_ms() + RECOVER_MS;
        }
    }

    /// Reloads the engine from the store.
    async fn reload(&mut self) {
        match self.store.read(store::conversation::load).await {
            Ok((position, states)) => {
                self.engine.restore(position, states);
                self.is_stale = false;
            }
            Err(error) => tracing::warn!(?error, "the local database cannot be read"),
        }
    }

    /// Raises events; returns whether all of them could be raised. Events that are stored while the client is destroyed
    /// are raised at the next start.
    fn raise_all(&self, events: impl IntoIterator<Item = Event>) -> bool {
        events.into_iter().all(|event| self.remote.raise(event))
    }

    /// Reports the progress of the sync of the login; its start was reported before.
    async fn progressed(&mut self, progress: Progress) {
        let state = match progress {
            Progress::Started => return,
            Progress::Finished => ConversationSyncState::Finished,
            Progress::Failed => ConversationSyncState::Failed,
        };
        self.shared.is_listed.send_replace(true);
        self.raise_statuses().await;
        if progress == Progress::Finished && !self.is_total_raised {
            self.raise_total();
        }
        self.progress(state);
    }

    fn progress(&self, state: ConversationSyncState) {
        let event = ConversationSyncStateChangedEvent { state: state as i32 };
        self.remote.raise(Event::ConversationSyncStateChanged(event));
    }

    /// Raises the status of all subscribed users once per login. Changes follow.
    async fn raise_statuses(&mut self) {
        if std::mem::replace(&mut self.viewer.is_caught_up, true) {
            return;
        }
        let now_ms = self.shared.server_now_ms(&self.clock);
        match self.store.read(move |db| store::status::subscriptions(db, now_ms)).await {
            Ok(list) => {
                let known = |status: &UserStatus| status.online_status() != UserOnlineStatus::Unknown;
                let user_status_list: Vec<_> =
                    list.into_iter().filter_map(|held| held.user_status).filter(known).collect();
                if !user_status_list.is_empty() {
                    self.remote.raise(Event::UserStatusUpdated(UserStatusUpdatedEvent { user_status_list }));
                }
            }
            Err(error) => tracing::warn!(?error, "the local database cannot be read"),
        }
    }

    fn raise_total(&mut self) {
        self.is_total_raised = true;
        let event = ConversationTotalUnreadMessageCountUpdatedEvent { total_unread_message_count: self.total };
        self.remote.raise(Event::ConversationTotalUnreadMessageCountUpdated(event));
    }

    /// Deletes the events that were raised, if no input waits. Otherwise the next commit deletes them.
    fn forget_raised(&mut self) {
        if self.inbox.is_empty()
            && let Some(id) = self.viewer.raised.take()
        {
            self.store.write_later(move |db| store::pending::forget(db, id));
        }
    }

    /// Polls a request once, so that requests are sent in the order in which they are started.
    pub(super) async fn start(&mut self, request: impl Future<Output = Done> + Send + 'static) {
        let mut request: InFlight = Box::pin(request);
        match futures_util::poll!(&mut request) {
            std::task::Poll::Ready(done) => self.ready.push(done),
            std::task::Poll::Pending => self.in_flight.push(request),
        }
    }

    async fn end(mut self) {
        self.engine.offline();
        for (outgoing, _) in self.sends.drain() {
            let error =
                Error::new(ErrorCode::NetworkModuleUserIsNotLogged, "the login ended before the message was sent");
            self.fail(outgoing, error);
        }
        self.commit().await;
        self.forget_raised();
        self.store.close().await;
        if let Some(closing) = self.closing.take() {
            let _ = closing.send(());
        }
    }
}
