//! The commit of a turn, and what follows it: promises, events, requests.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use zim_protocol::{
    ConversationSyncState, ConversationSyncStateChangedEvent, ConversationTotalUnreadMessageCountUpdatedEvent,
    ErrorCode, Event, Message, MessageReceiptStatus, MessageSentResult, UserOnlineStatus, UserStatus,
    UserStatusUpdatedEvent,
};

use super::indexing::messages_of;
use super::input::Done;
use super::remote::Remote;
use super::task::{AWAIT_MS, AccountTask, After, AwaitingFeed, RECOVER_MS};
use super::typing::senders;
use crate::apply::{self, Applied, Job, Settle};
use crate::engine::{Batch, Change, Progress, Request};
use crate::error::Error;
use crate::outbox::{Submission, SubmissionKind};
use crate::store;
use crate::types::{Key, Name, Storage};

/// Returns what a batch stores, as the server is told.
fn stored(batch: &Batch) -> Storage {
    let feed = batch.position.as_ref().map_or(0, |position| position.pos);
    let with_messages: HashSet<&Name> = batch.changes.iter().filter_map(Change::name_of_messages).collect();
    let states = batch.states.iter().filter(|saved| with_messages.contains(&saved.name));
    Storage { messages: states.map(|saved| (saved.name.clone(), saved.state.seq)).collect(), feed }
}

impl<L: Remote> AccountTask<L> {
    /// Commits the inputs, then reports in this order: promises, events, requests.
    pub(super) async fn commit(&mut self) {
        let output = self.engine.take();
        self.shared.generation.store(self.engine.generation(), Ordering::Release);
        let mut job = std::mem::take(&mut self.job);
        let stored = stored(&output.batch);
        job.batch = output.batch;
        self.viewer.now_ms = self.shared.server_now_ms(&self.clock);
        self.viewer.horizon_ms = self.horizon_ms();
        self.viewer.heard = self.remote.heard();
        let mut after = std::mem::take(&mut self.after);
        // A request whose entry has to wait for earlier entries ends with the sync that brings them, so that the next
        // query shows it.
        let (through, is_syncing) = (self.engine.position().pos, self.engine.is_syncing());
        let is_over = |waiting: &mut AwaitingFeed| waiting.through <= through || !is_syncing;
        for waiting in self.awaiting_feed.extract_if(.., is_over) {
            let settle = |(pos, call)| match pos <= through {
                true => Settle::LateCall(Box::new(call)),
                false => Settle::Call(Box::new(call)),
            };
            if self.engine.gets_pushes() {
                job.settle.extend(waiting.calls.into_iter().map(settle));
            }
            after.done.push(waiting.stored);
        }
        if output.progress.contains(&Progress::Started) {
            self.progress(ConversationSyncState::Started);
        }
        let is_failure = |settle: &&Settle| matches!(settle, Settle::Failed { .. });
        let failures: Vec<Settle> = job.settle.iter().filter(is_failure).cloned().collect();
        let applied = if job.is_empty() { Ok(Applied::default()) } else { self.write(job).await };
        match applied {
            Ok(applied) => {
                self.acknowledge(stored);
                self.report(applied, after);
            }
            Err(error) => {
                after.done.extend(self.awaiting_feed.drain(..).map(|waiting| waiting.stored));
                self.write_failed(&error, after);
                // Otherwise the messages would be shown as being sent, and could not be sent again.
                self.job.settle.extend(failures);
                // The engine will want its requests again. Until then nobody waits for the list.
                self.reload().await;
                self.shared.is_listed.send_replace(true);
                if output.progress.iter().any(|progress| *progress != Progress::Started) {
                    // The sync of the login has ended and is not reported again; callers that wait for it get what is
                    // stored.
                    self.progressed(Progress::Failed).await;
                    self.sync_error = Some(error);
                    self.note_catch_up(Progress::Failed);
                }
                return;
            }
        }
        let last = output.progress.last().copied();
        for progress in output.progress {
            self.progressed(progress).await;
        }
        if let Some(last) = last {
            self.note_catch_up(last);
        }
        for request in output.requests {
            match request {
                Request::Pull { ticket, request } => {
                    let response = self.remote.request(Some(self.connection), request);
                    self.start(async move { Done::Pulled { ticket, result: response.await } }).await;
                }
                Request::Sync { ticket, request } => {
                    let response = self.remote.request(Some(self.connection), request);
                    self.start(async move { Done::Synced { ticket, result: response.await } }).await;
                }
            }
        }
    }

    /// Tells the server what was handled and stored. After a failed write the next commit does it, or nothing: then what was
    /// pushed counts as not stored until it is pulled.
    fn acknowledge(&mut self, stored: Storage) {
        let handled = std::mem::take(&mut self.handled);
        if self.is_connected && (handled > 0 || stored != Storage::default()) {
            self.remote.acknowledge(self.connection, handled, stored);
        }
    }

    async fn write(&mut self, job: Job) -> Result<Applied, Error> {
        let viewer = self.viewer.clone();
        let (length, messages) = (job.length(), messages_of(&job));
        let recent = Arc::clone(&self.recent);
        let write = move |db: &rusqlite::Connection| apply::apply(db, &viewer, &mut recent.lock(), job);
        let applied = self.store.write(length, write).await.inspect_err(|_| self.recent.lock().clear())?;
        // This commit deleted the events that were delivered before.
        self.viewer.delivered = None;
        self.index_later(messages);
        self.shared.watchers.changed(&applied.touched);
        Ok(applied)
    }

    fn report(&mut self, applied: Applied, after: After) {
        for (submission, attached) in after.attached.into_iter().zip(applied.attached) {
            self.attached(submission, attached);
        }
        // The receipt arrived before the answer.
        let is_read = |message: &&Message| message.receipt_status == MessageReceiptStatus::Done as i32;
        let read: HashSet<String> =
            applied.settled.iter().filter(is_read).map(|message| message.local_message_id.clone()).collect();
        for message in applied.settled {
            let key: Key = zim_protocol::id::from_hex(&message.local_message_id).unwrap_or_default();
            // The log showed it before the answer arrived, so the promise need not wait.
            if let Some(outgoing) = self.sends.settled(&key) {
                outgoing.reply.send(Ok(MessageSentResult { message: Some(message) }));
            }
        }
        for (reply, mut answer) in after.sent {
            if let Ok(MessageSentResult { message: Some(message) }) = &mut answer
                && read.contains(&message.local_message_id)
            {
                message.receipt_status = MessageReceiptStatus::Done as i32;
            }
            reply.send(answer);
        }
        for done in after.done {
            done(Ok(()));
        }
        for (done, is_cancelled) in after.cancelled {
            // The app may have stopped waiting.
            let _ = done.send(is_cancelled);
        }
        for (name, uncounted) in applied.uncounted {
            self.engine.uncounted(&name, &uncounted);
        }
        self.viewer.last_event = self.viewer.last_event.max(applied.last_event);
        let senders = senders(&applied.events);
        self.raise_all(applied.events);
        self.typing_stopped(senders);
        if applied.needs_audit && self.is_connected {
            self.next_audit_ms = self.clock.steady_ms();
        }
        self.await_until_ms = match self.engine.awaits_pushes() && self.is_connected {
            true => self.await_until_ms.min(self.clock.steady_ms() + AWAIT_MS),
            false => i64::MAX,
        };
        if applied.unread_delta != 0 {
            self.total += applied.unread_delta;
            self.raise_total();
        }
    }

    /// Handles a failed write: nothing of the turn is stored.
    fn write_failed(&mut self, error: &Error, after: After) {
        tracing::error!(?error, "a write to the local database failed; trying again soon");
        for submission in after.attached {
            self.lost(&submission);
            let _ = submission.reply.send(Err(error.clone()));
        }
        for (reply, answer) in after.sent {
            // The result of the server is true even if it could not be stored.
            reply.send(answer);
        }
        for done in after.done {
            done(Err(error.clone()));
        }
        for (done, is_cancelled) in after.cancelled {
            // It is written again with the next turn.
            let _ = done.send(is_cancelled);
        }
        self.is_stale = true;
        if self.is_connected {
            self.next_audit_ms = self.clock.steady_ms() + RECOVER_MS;
        }
    }

    /// Reloads the engine from the store.
    pub(super) async fn reload(&mut self) {
        match self.store.read(store::conversation::load).await {
            Ok((position, states)) => {
                self.engine.restore(position, states);
                self.is_stale = false;
            }
            Err(error) => tracing::warn!(?error, "the local database cannot be read"),
        }
    }

    /// Raises events, those with an id with a receipt.
    pub(super) fn raise_all(&self, events: impl IntoIterator<Item = (Option<i64>, Event)>) {
        for (id, event) in events {
            self.remote.raise(event, id.map(|id| self.deliveries.receipt(id)));
        }
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

    /// Notes the progress for those who wait for the first catch-up of this login.
    fn note_catch_up(&mut self, progress: Progress) {
        let ended = match progress {
            Progress::Finished => Some(Ok(())),
            Progress::Failed if self.is_connected => {
                let unknown =
                    || Error::new(ErrorCode::NetworkModuleRspProtoParseError, "the answer to the sync is wrong");
                Some(Err(self.sync_error.take().unwrap_or_else(unknown)))
            }
            // The next connection starts again.
            Progress::Failed | Progress::Started => None,
        };
        self.shared.catch_up.send_if_modified(|catch_up| {
            let is_open = !matches!(catch_up, Some(Ok(())));
            if is_open {
                *catch_up = ended;
            }
            is_open
        });
    }

    pub(super) fn progress(&self, state: ConversationSyncState) {
        let event = ConversationSyncStateChangedEvent { state: state as i32 };
        self.remote.raise(Event::ConversationSyncStateChanged(event), None);
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
                    self.remote.raise(Event::UserStatusUpdated(UserStatusUpdatedEvent { user_status_list }), None);
                }
            }
            Err(error) => tracing::warn!(?error, "the local database cannot be read"),
        }
    }

    fn raise_total(&mut self) {
        self.is_total_raised = true;
        let event = ConversationTotalUnreadMessageCountUpdatedEvent { total_unread_message_count: self.total };
        self.remote.raise(Event::ConversationTotalUnreadMessageCountUpdated(event), None);
    }

    /// Notes that the handlers have had the events up to `id`: the next commit deletes them.
    pub(super) fn delivered(&mut self, id: i64) {
        if id > self.forgotten && !self.has_lost_message {
            self.forgotten = id;
            self.viewer.delivered = Some(id);
        }
    }

    /// A message of the app could not be stored. If it has a key of the app, it may be the answer to an event.
    pub(super) fn lost(&mut self, submission: &Submission) {
        if matches!(submission.kind, SubmissionKind::Stored { is_first_only: true, .. }) {
            self.keep_events();
        }
    }

    /// From now on no event of this login counts as delivered.
    pub(super) fn keep_events(&mut self) {
        self.has_lost_message = true;
        self.viewer.delivered = None;
    }

    /// Deletes the events that were delivered, if no input waits. Otherwise the next commit deletes them.
    pub(super) fn forget_delivered(&mut self) {
        if self.inbox.is_empty()
            && let Some(id) = self.viewer.delivered.take()
        {
            self.store.write_later(move |db| store::pending::forget(db, id));
        }
    }
}
