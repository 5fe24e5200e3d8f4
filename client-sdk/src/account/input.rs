//! The inputs of the account task: from the app, from the connection, and the answers to its own requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use zim_protocol::{
    CallEntry, ConversationType, Dirty, ErrorCode, ErrorEvent, Event, EventFrame, FeedEntry, FillResult,
    GroupMemberInfo, LeaveRoomRequest, LogKind, LostRoom, Message, MessageSentResult, MessageType, Page, Push,
    RoomEvent, RoomsResumedResult, Rpc, SyncResult, UserFullInfo, UserStatus, Welcome, event_frame::Frame,
    feed_entry::Detail,
};

use super::remote::Remote;
use super::rooms::Wish;
use super::task::{AUDIT_MS, AccountTask, AwaitingFeed, InFlight, PAUSE_MS, Stored};
use super::typing::is_typing;
use crate::apply::{Awaited, Edit, Local, Settle};
use crate::engine::Origin;
use crate::error::Error;
use crate::outbox::{Submission, is_network};
use crate::store::member_list::MemberPage;
use crate::store::message::without_reply;
use crate::store::outgoing::named;
use crate::types::{Key, Name};

/// The answer to a request: its result, and the pushes that came with it.
type Answer<T> = BoxFuture<'static, Result<(T, Vec<Push>), Error>>;

/// An input of the task.
pub(crate) enum Input {
    /// A new connection is logged in.
    Connected { connection: u64, user: Option<UserFullInfo>, is_named: bool, welcome: Arc<Welcome> },
    /// The connection is lost.
    Disconnected,
    /// A frame of the event stream.
    Frame(EventFrame, OwnedSemaphorePermit),
    /// A hint of this device that entries of logs are missing.
    Dirty(Dirty),
    /// The server may have let this device into a room, although the app is not in it.
    Stray { room_id: String, left: Option<String> },
    /// A request that the task owns from now on. Its frame is queued.
    Request(InFlight),
    /// A page of history.
    Filled { name: Name, generation: u64, fill: FillResult, done: Stored },
    /// Profiles from the server.
    Users(Vec<UserFullInfo>, Stored),
    /// Members of a group that were requested.
    Members(String, Vec<GroupMemberInfo>, Stored),
    /// A page of the list of members of a group, and what happened since the request.
    MemberPage(String, Box<(MemberPage, Arc<Awaited>)>, Stored),
    /// The user's own status, as a request of this device changed it.
    OwnStatus(UserStatus, Stored),
    /// A change of what this device has, and the positions that no longer count as unread in its conversation; `None`: all.
    Local(Box<Local>, Option<Vec<u64>>, Stored),
    /// What only this device does to its list of conversations.
    Edit(Edit, Stored),
    /// A message to send.
    Send(Box<Submission>),
    /// A message whose files are not to be uploaded any more.
    Cancel(Key, oneshot::Sender<bool>),
    /// The app can use the account from now on.
    Accepted,
    /// There was no place for a message with a key of the app.
    LostMessage,
    /// The login ends; the next one goes on with unsent messages, or they fail.
    Close { done: oneshot::Sender<()>, keeps_unsent: bool },
}

/// The answer to a request of the task.
pub(crate) enum Done {
    /// The answer to a request of the app, with the log entries that it caused.
    Answered {
        pushes: Vec<Push>,
        stored: Stored,
    },
    /// Work of the app has ended.
    Nothing,
    Pulled {
        ticket: u64,
        result: Result<(Page, Vec<Push>), Error>,
    },
    Synced {
        ticket: u64,
        result: Result<(SyncResult, Vec<Push>), Error>,
    },
    /// The files of a message are uploaded, or cannot be.
    Uploaded {
        key: Key,
        number: u64,
        result: Result<Message, Error>,
    },
    Sent {
        number: u64,
        connection: u64,
        /// How many epochs had ended when it was sent.
        epochs: u64,
        result: Result<(MessageSentResult, Vec<Push>), Error>,
    },
    /// The answer to the question which of these rooms the device is still in.
    Resumed {
        stays: BTreeMap<String, u64>,
        result: Result<(RoomsResumedResult, Vec<Push>), Error>,
    },
    /// The device has left a room into which the server let it too late, or cannot.
    StrayLeft {
        room_id: String,
        left: Option<String>,
    },
}

impl<L: Remote> AccountTask<L> {
    pub(super) async fn input(&mut self, input: Input) {
        self.handled += u64::from(matches!(input, Input::Frame(..)));
        if self.is_stale
            && !matches!(
                input,
                Input::Request(_)
                    | Input::LostMessage
                    | Input::Accepted
                    | Input::Close { .. }
                    | Input::Connected { .. }
                    | Input::Disconnected
            )
        {
            self.reload().await;
            if self.is_stale {
                return self.refuse(input);
            }
        }
        match input {
            Input::Connected { connection, user, is_named, welcome } => {
                self.raise_again();
                let server_time = welcome.server_time;
                if let Some(limits) = &welcome.limits {
                    self.sends.set_pace(limits.messages_per_second, limits.message_burst);
                }
                if self.engine.is_online() {
                    self.engine.offline();
                }
                self.connection = connection;
                self.handled = 0;
                self.is_connected = true;
                self.viewer.login_ms = server_time;
                let ahead_ms = server_time.saturating_sub(self.clock.steady_ms());
                self.shared.ahead_ms.store(ahead_ms, Ordering::Relaxed);
                self.job.settle.push(Settle::ServerTime(server_time));
                self.next_audit_ms = self.clock.steady_ms() + AUDIT_MS;
                if let Some(info) = user {
                    self.engine.logged_in(info, is_named);
                }
                let generation = self.engine.generation();
                self.engine.online(&welcome.epoch);
                if self.engine.generation() != generation {
                    // The positions are gone. Until the sync has brought them, queries would find nothing, and there would
                    // be nothing to mark as read.
                    self.shared.is_listed.send_replace(false);
                    self.shared.rooms.count_anew();
                }
                self.shared.watchers.connected(connection);
                for room_id in self.shared.rooms.left_offline() {
                    self.leave_stray(room_id, None).await;
                }
                self.resume_rooms(None).await;
            }
            Input::Disconnected => self.disconnected(),
            Input::Frame(frame, _permit) => self.frame(frame).await,
            Input::Dirty(dirty) => self.dirtied(dirty).await,
            Input::Stray { room_id, left } => self.leave_stray(room_id, left).await,
            Input::Request(request) => self.start_boxed(request).await,
            Input::Filled { name, generation, fill, done } => {
                self.engine.filled(&name, generation, fill);
                self.after.done.push(done);
            }
            Input::Users(users, done) => {
                self.job.settle.push(Settle::Users(users));
                self.after.done.push(done);
            }
            Input::Members(group_id, members, done) => {
                self.job.settle.push(Settle::Members { group_id, members });
                self.after.done.push(done);
            }
            Input::MemberPage(group_id, page, done) => {
                let (page, awaited) = *page;
                self.job.settle.push(Settle::MemberPage { group_id, page, awaited });
                self.after.done.push(done);
            }
            Input::OwnStatus(status, done) => {
                self.job.settle.push(Settle::OwnStatus(status));
                self.after.done.push(done);
            }
            Input::Local(local, uncounted, done) => {
                self.change_here(local, uncounted.as_deref()).await;
                self.after.done.push(done);
            }
            Input::Edit(edit, done) => {
                self.job.settle.push(Settle::Edit(edit));
                self.after.done.push(done);
            }
            Input::Send(submission) => {
                if self.job.settle.iter().any(|settle| matches!(settle, Settle::Local(local) if deletes(local))) {
                    // What the app has deleted before is not sent again.
                    self.commit().await;
                }
                self.submit(submission);
            }
            Input::Cancel(key, done) => {
                if !self.job.attach.is_empty() {
                    // Its upload begins with its row.
                    self.commit().await;
                }
                let is_cancelled = self.cancel_upload(&key);
                self.after.cancelled.push((done, is_cancelled));
            }
            Input::LostMessage => self.keep_events(),
            Input::Accepted => self.raise_again(),
            Input::Close { done, keeps_unsent } => {
                self.closing = Some(done);
                self.keeps_unsent = keeps_unsent;
            }
        }
    }

    /// Refuses what needs the local database, which cannot be read. The next sync finds what is dropped here.
    fn refuse(&mut self, input: Input) {
        let error = || Error::new(ErrorCode::DatabaseModuleSeleteDatabaseError, "the local database cannot be read");
        match input {
            Input::Filled { done, .. }
            | Input::Users(_, done)
            | Input::Members(_, _, done)
            | Input::MemberPage(_, _, done)
            | Input::OwnStatus(_, done)
            | Input::Local(_, _, done)
            | Input::Edit(_, done) => {
                done(Err(error()));
            }
            Input::Stray { room_id, .. } => self.shared.rooms.stray_left(&room_id),
            Input::Send(submission) => {
                self.lost(&submission);
                drop(submission.reply.send(Err(error())));
            }
            _ => {}
        }
    }

    /// Changes what only this device has.
    async fn change_here(&mut self, local: Box<Local>, uncounted: Option<&[u64]>) {
        if deletes(&local) && !self.job.attach.is_empty() {
            // What the app sends before it deletes has its row, and can be withdrawn.
            self.commit().await;
        }
        if let Local::Delete { name, .. } | Local::Clear(name) = &*local {
            self.engine.deleted(name, uncounted);
        }
        if let Local::Delete { messages, .. } = &*local {
            messages.iter().filter(|message| message.message_seq <= 0).for_each(|message| self.withdraw(message));
        }
        self.job.settle.push(Settle::Local(local));
    }

    /// Raises the events that an earlier login may not have delivered, before all others.
    fn raise_again(&mut self) {
        let again = std::mem::take(&mut self.again);
        self.raise_all(again.into_iter().map(|(id, event)| (Some(id), event)));
    }

    pub(super) fn disconnected(&mut self) {
        if self.is_connected {
            self.lost_connection();
        }
        (self.next_audit_ms, self.await_until_ms) = (i64::MAX, i64::MAX);
        self.engine.offline();
        self.shared.is_listed.send_replace(true);
        self.shared.rooms.disconnected(|event| self.remote.raise(event, None));
    }

    /// Handles a hint that something was missed: in logs, or in rooms.
    async fn dirtied(&mut self, mut dirty: Dirty) {
        let is_room = |kind: i32| kind == ConversationType::Room as i32;
        let (rooms, logs) = std::mem::take(&mut dirty.conversations).into_iter().partition(|name| is_room(name.r#type));
        dirty.conversations = logs;
        self.engine.dirtied(&dirty);
        let rooms = if dirty.all { self.shared.rooms.ids() } else { rooms.into_iter().map(|name| name.id).collect() };
        for room_id in rooms {
            self.resume_rooms(Some(&room_id)).await;
        }
    }

    /// Asks the server to let the pushes of rooms reach this device again: of all, or of one.
    async fn resume_rooms(&mut self, only: Option<&str>) {
        for request in self.resumptions(only) {
            self.start_boxed(request).await;
        }
    }

    fn resumptions(&self, only: Option<&str>) -> Vec<InFlight> {
        let requests = self.shared.rooms.resume(only).into_iter().map(|request| -> InFlight {
            let stays = self.shared.rooms.stays(&request.rooms);
            let response = self.insist(request);
            Box::pin(async move { Done::Resumed { stays, result: response.await } })
        });
        requests.collect()
    }

    /// Leaves a room in which the server may have this device, although the app is not in it. Once that is done, so is the request that
    /// may have let the device in. If it was one to switch, the device may be out of the room that it has `left`.
    async fn leave_stray(&mut self, room_id: String, left: Option<String>) {
        let response = self.insist(LeaveRoomRequest { room_id: room_id.clone() });
        self.start(async move {
            if let Err(error) = response.await {
                tracing::debug!(%error, "the device leaves a room with its connection");
            }
            Done::StrayLeft { room_id, left }
        })
        .await;
    }

    /// Sends a request until this connection ends or there is an answer that says more than that there is none now.
    fn insist<R: Rpc + Clone + Send + Sync>(&self, request: R) -> Answer<R::Response>
    where
        R::Response: Send,
    {
        let (remote, clock, connection) = (self.remote.clone(), self.clock.clone(), Some(self.connection));
        let mut response: BoxFuture<'static, _> = Box::pin(remote.request(connection, request.clone()));
        Box::pin(async move {
            loop {
                match response.await {
                    Err(error) if is_temporary(&error) => {
                        tracing::debug!(%error, "a request about rooms is repeated");
                        clock.sleep_until_steady(clock.steady_ms().saturating_add(PAUSE_MS)).await;
                        response = Box::pin(remote.request(connection, request.clone()));
                    }
                    answer => return answer,
                }
            }
        })
    }

    /// Stops sending until there is another connection.
    pub(super) fn lost_connection(&mut self) {
        self.is_connected = false;
        self.sends.disconnected(self.clock.steady_ms(), self.resend_window_ms);
    }

    pub(super) async fn frame(&mut self, frame: EventFrame) {
        match frame.frame {
            Some(Frame::Push(push)) => self.push(push, Origin::Other),
            Some(Frame::Dirty(dirty)) => {
                if dirty.transients_dropped > 0 {
                    self.raise_dropped(dirty.transients_dropped);
                }
                self.dirtied(dirty).await;
            }
            Some(Frame::Room(push)) => match self.shared.rooms.pushed(push, |event| self.remote.raise(event, None)) {
                Some(Wish::Resume(room_id)) => self.resume_rooms(Some(&room_id)).await,
                Some(Wish::Leave(room_id)) => self.leave_stray(room_id, None).await,
                None => {}
            },
            Some(Frame::Transient(transient)) if is_typing(&transient) => self.typing_told(&transient),
            Some(Frame::Transient(transient)) => self.transient(transient).await,
            Some(Frame::Snapshot(snapshot)) => {
                self.engine.snapshot_pushed(&snapshot);
                self.job.settle.push(Settle::Snapshot(snapshot));
            }
            Some(Frame::End(_)) | None => {}
        }
    }

    /// Reports what the server has dropped of what it had for this device: it was behind, or this connection was too slow. The history
    /// brings back what a room keeps, and nothing else does.
    fn raise_dropped(&self, count: u64) {
        let message = format!(
            "the server could not keep {count} commands or messages to rooms for this device; the history has what a room keeps"
        );
        tracing::warn!("{message}");
        let event = ErrorEvent { code: ErrorCode::NetworkModuleCommonError as i32, message };
        self.remote.raise(Event::Error(event), None);
    }

    pub(super) fn pushes(&mut self, pushes: Vec<Push>) {
        for push in pushes {
            self.push(push, Origin::Own);
        }
    }

    /// Own messages come back without content. The queue has it as it was sent: a combined message gets the ID of what it combines.
    pub(super) fn push(&mut self, mut push: Push, origin: Origin) {
        for entry in push.messages.iter_mut().filter(|entry| entry.content.is_empty()) {
            if let Some(content) = self.sends.content(&entry.client_key) {
                let content = if entry.state.is_some() { without_reply(content) } else { content };
                let is_combined = entry.kind == MessageType::Combine as i32;
                let named = if is_combined { named(&content, entry.message_id) } else { None };
                entry.content = named.map_or(content, Bytes::from);
            }
        }
        self.engine.push(push, origin);
    }

    pub(super) fn done(&mut self, done: Done) {
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
                    self.sync_error = Some(error);
                }
            },
            Done::Answered { pushes, stored } => {
                let of_feed = pushes.iter().filter(|push| push.log == LogKind::Feed as i32);
                let through = of_feed.map(|push| push.to).max().unwrap_or(0);
                let mut calls = calls(&pushes);
                let known = self.engine.position().pos;
                self.pushes(pushes);
                // What follows on the known position is applied like any push.
                calls.retain(|(pos, _)| *pos <= known || *pos > self.engine.position().pos);
                self.awaiting_feed.push(AwaitingFeed { through, calls, stored });
            }
            Done::Nothing => {}
            Done::Uploaded { key, number, result } => self.upload_ended(key, number, result),
            Done::Sent { number, epochs, result: Ok(_), .. }
                if epochs != self.engine.epochs() && self.sends.is_stored(number) =>
            {
                self.sent_before_a_restore(number);
            }
            Done::Sent { number, connection, result, .. } => self.sent(number, connection, result),
            Done::StrayLeft { room_id, left } => {
                self.shared.rooms.stray_left(&room_id);
                if let Some(left) = left {
                    let requests = self.resumptions(Some(&left));
                    self.in_flight.extend(requests);
                }
            }
            Done::Resumed { stays, result } => {
                let lost = match result {
                    Ok((resumed, _)) => resumed.lost,
                    // The next connection asks again.
                    Err(error) if is_network(&error) => return,
                    Err(error) => {
                        tracing::warn!(%error, "rooms cannot be resumed");
                        let event = RoomEvent::NetworkDisconnected as i32;
                        stays.keys().map(|room_id| LostRoom { room_id: room_id.clone(), event }).collect()
                    }
                };
                self.shared.rooms.lost(&stays, lost, |event| self.remote.raise(event, None));
            }
        }
    }
}

/// The calls that pushes have, with their positions.
fn calls(pushes: &[Push]) -> Vec<(u64, CallEntry)> {
    let entries = pushes.iter().flat_map(|push| &push.feed);
    let call = |entry: &FeedEntry| match &entry.detail {
        Some(Detail::Call(call)) => Some((entry.pos, call.clone())),
        _ => None,
    };
    entries.filter_map(call).collect()
}

/// Whether messages of this device may go.
fn deletes(local: &Local) -> bool {
    matches!(local, Local::Delete { .. } | Local::Clear(_))
}

/// Whether the same request may succeed over the same connection a little later.
fn is_temporary(error: &Error) -> bool {
    let is_failure_of_server = error.code() == ErrorCode::CommonModuleImServerError;
    is_failure_of_server || (error.is_retryable() && error.code() != ErrorCode::NetworkModuleNetworkError)
}
