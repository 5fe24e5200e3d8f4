//! Turns effects into frames. A body is copied once for each name under which viewers see the conversation, not once
//! per connection: connections that see the same share a frame.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use tokio::time::{Instant, timeout_at};
use zim_protocol::{
    ChangeEntry, ConversationRef, ConversationType, EventFrame, MessageEntry, MessageFlag, MessagePriority,
    MessageType, Push, SessionEndReason, Snapshot, UserStatus, change_entry, event_frame::Frame, frame::encode_frame,
};

use super::Fanout;
use super::feed::Feeds;
use super::feed_order::{Fed, FeedOrder};
use super::group::{Group, GroupPush, for_group};
use super::lane::{Lane, Lost, Mark, Marks, Step, TransientPush, View, Viewers, Work};
use super::walk::{Item, Walks};
use crate::connection::{ConnectionState, PushTarget};
use crate::effect::{Audience, Effect, MessageEffect, TransientEffect};
use crate::journal::{change_push, message_push};
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// The bytes of messages in one push, unless a single message has more. A frame must not get too long for its client.
pub(super) const RUN_BYTES: usize = 64 << 10;
/// What a message takes in a push besides its content.
pub(super) const RUN_ENTRY_BYTES: usize = 256;

impl MessageEffect {
    /// The bytes of its content, and of what it replies to.
    pub(super) fn bytes(&self) -> usize {
        self.content.len() + self.state.as_deref().map_or(0, prost::Message::encoded_len)
    }

    /// Returns the entry for a push. The connection that sent the message gets it without content, unless that is not what its client
    /// has sent: the push may come before the answer, or the answer never.
    pub fn entry(&self, with_content: bool) -> MessageEntry {
        MessageEntry {
            seq: self.seq.unsigned_abs(),
            n: self.n.unsigned_abs(),
            message_id: self.message_id,
            sender: self.sender.to_string(),
            ts: self.ts,
            kind: self.kind,
            flags: self.flags,
            client_key: Bytes::copy_from_slice(&self.client_key),
            content: if with_content || is_completed(self.kind) { self.content.clone() } else { Bytes::new() },
            state: self.state.clone(),
        }
    }
}

/// Whether the server completes the content of such a message: by what it knows of the files, or by the ID of what it combines.
fn is_completed(kind: i32) -> bool {
    use MessageType::{Audio, Combine, File, Image, Multiple, Video};
    MessageType::try_from(kind).is_ok_and(|kind| matches!(kind, Combine | Image | File | Audio | Video | Multiple))
}

/// Whether a message with these flags is kept from the user of a peer conversation who has sent it.
fn is_kept_from(flags: u32, sender: &str, view: &View) -> bool {
    flags & MessageFlag::SenderUnaware as u32 != 0 && *view.name != *sender
}

/// A push of a run of messages for one connection, to which what it sent itself comes as `entry` says.
fn run_push(run: &[(View, Arc<MessageEffect>)], conversation: ConversationRef, cause: Option<LoginKey>) -> Push {
    message_push(run.iter().map(|(_, message)| message.entry(cause != Some(message.cause))).collect(), conversation)
}

pub(super) fn encode(frame: Frame) -> Bytes {
    let mut out = BytesMut::new();
    encode_frame(&EventFrame { frame: Some(frame) }, &mut out);
    out.freeze()
}

/// Compares by the times of the status: two changes of one user may be published in reverse if they were committed in
/// different partitions.
fn is_newer(one: &UserStatus, other: &UserStatus) -> bool {
    let times = |status: &UserStatus| (status.last_online_status_update_time, status.last_custom_status_update_time);
    let ((online, custom), (other_online, other_custom)) = (times(one), times(other));
    online >= other_online && custom >= other_custom
}

/// The work of one commit for each lane, so that a lane is locked and woken once.
struct Handover<'f> {
    fanout: &'f Fanout,
    work: Vec<Vec<Work>>,
    /// The last push to each group, which the next message may join.
    groups: HashMap<ConversationKey, GroupPush>,
    /// What comes last.
    leaves: Vec<(usize, Work)>,
}

impl Handover<'_> {
    /// Adds work for a user who is online. One who comes online later reads after the commit.
    fn add(&mut self, user: UserKey, work: impl FnOnce() -> Work) {
        let shard = self.fanout.shard_index(user);
        let lane = shard % self.work.len();
        if self.fanout.shards[shard].read().contains_key(&user) {
            self.work[lane].push(work());
        }
    }

    /// Adds work for both users of a peer conversation.
    fn add_views(&mut self, [one, two]: &[(UserKey, Arc<str>); 2], work: impl Fn(View) -> Work) {
        let view = |user, name| View { user, kind: ConversationType::Peer, name: Arc::clone(name) };
        self.add(one.0, || work(view(one.0, &two.1)));
        if one.0 != two.0 {
            self.add(two.0, || work(view(two.0, &one.1)));
        }
    }

    fn add_message(&mut self, message: Arc<MessageEffect>) {
        if let Some(passed) = self.fanout.passed.get() {
            passed.note(&message.audience, message.seq);
        }
        match &message.audience {
            Audience::Peers(peers) => {
                self.add_views(peers, |view| match is_kept_from(message.flags, &message.sender, &view) {
                    // Their count of what they sent has changed nevertheless.
                    true => Work::Pull(Viewers::User(view)),
                    false => Work::Message { view, message: Arc::clone(&message) },
                });
            }
            Audience::Group { conversation, name } => {
                if self.groups.get_mut(conversation).is_none_or(|push| !push.join(&message)) {
                    let group = Group::new(*conversation, Arc::clone(name));
                    self.add_to_group(GroupPush::message(group, Arc::clone(&message)));
                }
            }
            // What is said in a room is a transient, also if it is stored.
            Audience::Room { .. } => {}
        }
    }

    fn add_change(&mut self, audience: &Audience, entry: Box<ChangeEntry>, (cause, ended_rev): (LoginKey, i64)) {
        if self.fanout.passed.get().is_some_and(|passed| passed.may_overtake(audience, &entry)) {
            return self.add_pull(audience);
        }
        match audience {
            Audience::Peers(peers) => {
                let entry = Arc::<ChangeEntry>::from(entry);
                self.add_views(peers, |view| match &entry.detail {
                    Some(change_entry::Detail::Message(about)) if is_kept_from(about.flags, &about.sender, &view) => {
                        Work::Pull(Viewers::User(view))
                    }
                    _ => Work::Change { view, entry: Arc::clone(&entry), cause },
                });
            }
            Audience::Group { conversation, name } => {
                let group = Group::new(*conversation, Arc::clone(name));
                self.add_to_group(GroupPush::change(group, entry, (cause, ended_rev)));
            }
            // The changes of a room are no log.
            Audience::Room { .. } => {}
        }
    }

    /// Lets the clients pull a conversation.
    fn add_pull(&mut self, audience: &Audience) {
        match audience {
            Audience::Peers(peers) => self.add_views(peers, |view| Work::Pull(Viewers::User(view))),
            Audience::Group { conversation, name } => {
                for (index, work) in self.fanout.groups.iter().zip(&mut self.work) {
                    if index.has(*conversation) {
                        work.push(Work::Pull(Viewers::Group(Group::new(*conversation, Arc::clone(name)))));
                    }
                }
            }
            Audience::Room { .. } => {}
        }
    }

    /// Adds a push to a group, behind the one before it.
    fn add_to_group(&mut self, push: GroupPush) {
        if let Some(earlier) = self.groups.insert(push.group.key, push) {
            self.flush_group(earlier);
        }
    }

    fn add_transient(&mut self, transient: TransientEffect) {
        let TransientEffect { audience, message, after_seq, after_rev, priority, cause, room, ended_rev } = transient;
        let push = |to| {
            let message = message.clone();
            let frame = OnceLock::new();
            Arc::new(TransientPush { to, message, after_seq, after_rev, priority, cause, room, frame })
        };
        match &audience {
            Audience::Peers(peers) => self.add_views(peers, |view| Work::Transient(push(Viewers::User(view)))),
            Audience::Group { conversation, name } | Audience::Room { conversation, name } => {
                // The messages before it are handed over first.
                if let Some(earlier) = self.groups.remove(conversation) {
                    self.flush_group(earlier);
                }
                let group = match &audience {
                    Audience::Room { .. } => Group::room(*conversation, Arc::clone(name)),
                    _ => Group::new(*conversation, Arc::clone(name)),
                };
                let push = push(Viewers::Group(group.clone()));
                self.for_lanes((&group, ended_rev), |lane, work, is_known| match is_known {
                    true => work.push(Work::Transient(Arc::clone(&push))),
                    // There is nothing that a client could pull.
                    false if push.is_missed() => lane.lose(&push),
                    false => {}
                });
            }
        }
    }

    /// Adds a message for these users, or for all who are online in an app.
    fn add_broadcast(&mut self, (app, users): (AppKey, &[UserKey]), message: MessageEntry, priority: MessagePriority) {
        let push = |to| {
            let (message, frame, cause) = (message.clone(), OnceLock::new(), LoginKey(0));
            Arc::new(TransientPush { to, message, after_seq: 0, after_rev: 0, priority, cause, room: 0, frame })
        };
        for user in users {
            self.add(*user, || Work::Transient(push(Viewers::Sessions(*user))));
        }
        if users.is_empty() {
            let push = push(Viewers::App(app));
            self.work.iter_mut().for_each(|work| work.push(Work::Transient(Arc::clone(&push))));
        }
    }

    /// Hands a push to the lanes that have sessions of the group.
    fn flush_group(&mut self, push: GroupPush) {
        let push = Arc::new(push);
        self.for_lanes((&push.group, push.ended_rev), |_, work, is_known| match is_known {
            true => work.push(Work::Group(Arc::clone(&push))),
            // The pull reads who may see it.
            false => work.push(Work::Pull(Viewers::Group(push.group.clone()))),
        });
    }

    /// Calls `add` for the lanes that have sessions of the group, each with its work and whether its sessions know of all who had left.
    fn for_lanes(&mut self, (group, ended_rev): (&Group, i64), add: impl Fn(&Lane, &mut Vec<Work>, bool)) {
        let is_shared = self.fanout.passed.get().is_some();
        let mut is_unheard = false;
        for ((lane, index), work) in self.fanout.lanes.iter().zip(&self.fanout.groups).zip(&mut self.work) {
            let Some(knows) = index.knows(group.key, ended_rev) else { continue };
            let is_known = knows || !is_shared;
            is_unheard |= !is_known;
            add(lane, work, is_known);
        }
        if is_unheard {
            let unheard = (Arc::clone(&group.name), ended_rev);
            self.fanout.unheard.add(group.key, unheard, |new, held| new.1 > held.1);
        }
    }
}

impl Fanout {
    /// Takes over what was committed, in commit order within a partition. Called by the threads of the write queue before
    /// the callers are answered: what must be in force by then happens here, and the pushes are handed to the lanes.
    pub(super) fn publish(&self, effects: Vec<Effect>) {
        let work = self.lanes.iter().map(|_| Vec::new()).collect();
        let mut handover = Handover { fanout: self, work, groups: HashMap::new(), leaves: Vec::new() };
        let entered = self.entered(&effects);
        for effect in effects {
            match effect {
                Effect::Message(message) => handover.add_message(message),
                Effect::Change { audience, entry, cause, ended_rev } => {
                    handover.add_change(&audience, entry, (cause, ended_rev));
                }
                Effect::Transient(transient) => handover.add_transient(*transient),
                Effect::Broadcast { app, users, message, priority } => {
                    handover.add_broadcast((app, &users), *message, priority);
                }
                Effect::Stay { user, conversation, name, stay, end } => {
                    self.tell_stay(user, (conversation, &name), (stay, end));
                }
                Effect::RoomStay { user, device, conversation, name, stay } => {
                    handover.leaves.extend(self.set_room_stay((user, device), (conversation, &name), stay));
                }
                Effect::Room(effect) => handover.add_to_group(GroupPush::of_room(effect)),
                Effect::Feed { user, pos, entry, cause } => {
                    handover.add(user, || Work::Feed { user, pos, entry, cause });
                }
                Effect::Status { user, status, cause } => {
                    self.statuses.add(user, (*status).clone(), is_newer);
                    handover.add(user, || Work::Status { user, status, cause });
                }
                Effect::Profile { user, info } => self.profiles.add(user, *info, |_, _| true),
                Effect::LoginEnded { user, login, reason } => self.end_login(user, login, reason),
                // The timers have it, the app, or the node that it is for.
                Effect::Due { .. } | Effect::AppChanged { .. } | Effect::RoomMessage { .. } => {}
                Effect::OneShotsEnded { user, reason } => {
                    self.one_shots.end(user, reason);
                }
                Effect::Look(look) => self.look(look),
            }
        }
        for (_, push) in std::mem::take(&mut handover.groups) {
            handover.flush_group(push);
        }
        for (lane, work) in std::mem::take(&mut handover.leaves) {
            handover.work[lane].push(work);
        }
        for (lane, work) in self.lanes.iter().zip(handover.work) {
            if !work.is_empty() {
                lane.add(work);
            }
        }
        self.look_after_entrances(entered);
    }

    /// Pushes what is handed to a lane, until the lane is closed. Each user's devices belong to one lane.
    pub(super) async fn serve(&self, index: usize) {
        let Some(lane) = self.lanes.get(index) else { return };
        let (mut order, mut walks) = (FeedOrder::default(), Walks::default());
        loop {
            let step = match order.deadline().into_iter().chain(walks.deadline()).min() {
                _ if walks.is_full() => Some(Step::default()),
                _ if !walks.is_idle() => Some(lane.take().unwrap_or_default()),
                None => lane.next().await,
                Some(deadline) => timeout_at(deadline, lane.next()).await.unwrap_or_else(|_| Some(Step::default())),
            };
            let Some(Step { work, marks, lost, ended }) = step else {
                walks.finish(&self.groups[index]);
                return;
            };
            let pushed = catch_unwind(AssertUnwindSafe(|| {
                self.push_work(index, work, &mut order, &mut walks);
                for (user, pos) in order.expire(Instant::now()) {
                    self.skip_feed(user, pos);
                }
                self.mark(index, &marks);
                self.report_lost(index, &lost);
                for (room, user, rev) in ended {
                    walks.forget(&self.groups[index], room, (user, rev));
                }
                walks.advance(&self.groups[index], Instant::now());
            }));
            if pushed.is_err() {
                walks = Walks::default();
                tracing::error!("a push panicked: all clients of its lane are told to sync");
                self.mark(index, &Marks::All);
            }
            // Who was woken, and requests, come first.
            tokio::task::yield_now().await;
        }
    }

    fn push_work(&self, index: usize, work: Vec<Work>, order: &mut FeedOrder, walks: &mut Walks) {
        let (mut messages, mut feeds) = (Vec::new(), Feeds::default());
        let (groups, now) = (&self.groups[index], Instant::now());
        for work in work {
            if !matches!(work, Work::Feed { .. }) {
                self.push_feeds(&mut feeds);
            }
            match work {
                Work::Message { view, message } => messages.push((view, message)),
                Work::Change { view, entry, cause } => {
                    // The change may be about one of these messages. A client drops a change of a message that it does
                    // not have, and would keep the message as it was sent.
                    self.push_messages(&mut messages);
                    self.push_change(&view, &entry, cause);
                }
                Work::Transient(push) => {
                    // It keeps its place among the messages of its conversation.
                    match &push.to {
                        Viewers::User(view) => {
                            self.push_messages(&mut messages);
                            self.connections(view.user).iter().for_each(|session| push.push(session));
                        }
                        Viewers::Group(group) => {
                            walks.add(groups, group.key, Item::Transient(Arc::clone(&push)), now);
                        }
                        Viewers::App(app) => self.for_app(index, *app, |session| push.push(session)),
                        Viewers::Sessions(user) => {
                            self.connections(*user).iter().for_each(|session| push.push(session));
                        }
                    }
                }
                Work::Pull(viewers) => {
                    self.push_messages(&mut messages);
                    self.mark(index, &Marks::Of([Mark::Conversation(viewers)].into()));
                }
                Work::Look(room, view) => walks.add(groups, room, Item::Look(view), now),
                Work::Forget(room, user, rev) => walks.forget(groups, room, (user, rev)),
                Work::Group(push) => walks.add(groups, push.group.key, Item::Push(push), now),
                Work::Feed { user, pos, entry, cause } => {
                    let last = self.connections(user).iter().map(|connection| connection.fed()).max().unwrap_or(0);
                    for (pos, fed) in order.arrive(user, last, pos, Fed { entry, cause }, now) {
                        self.note_fed(user, pos);
                        feeds.add(user, pos, fed);
                    }
                }
                Work::Status { user, status, cause } => {
                    let snapshot = Snapshot { profiles: Vec::new(), statuses: vec![*status] };
                    self.push_snapshot([user], &snapshot, Some(cause));
                }
            }
        }
        self.push_feeds(&mut feeds);
        self.push_messages(&mut messages);
    }

    /// Pushes the collected messages. Grouping them by view keeps the order of each log.
    fn push_messages(&self, messages: &mut Vec<(View, Arc<MessageEffect>)>) {
        messages.sort_by_key(|(view, message)| (view.user, message.conversation, message.seq));
        let mut bytes = 0;
        let is_run = |(one, a): &(View, Arc<MessageEffect>), (two, b): &(View, Arc<MessageEffect>)| {
            bytes += a.bytes() + RUN_ENTRY_BYTES;
            // A push stands for every position from its first to its last.
            let joins = one.user == two.user
                && a.conversation == b.conversation
                && a.seq + 1 == b.seq
                && bytes + b.bytes() <= RUN_BYTES;
            if !joins {
                bytes = 0;
            }
            joins
        };
        for run in messages.chunk_by(is_run) {
            self.push_run(run);
        }
        messages.clear();
    }

    /// Tells the clients which logs to pull.
    pub(super) fn mark(&self, lane: usize, marks: &Marks) {
        match marks {
            Marks::Of(marks) => {
                for mark in marks {
                    let (user, target) = match mark {
                        Mark::Conversation(Viewers::Group(group)) => {
                            let target = PushTarget::Conversation(group.conversation());
                            for_group(&self.groups[lane], group.key, |session, _| session.queue.mark_dirty(&target));
                            continue;
                        }
                        Mark::Conversation(Viewers::User(view)) => {
                            (view.user, PushTarget::Conversation(view.conversation()))
                        }
                        // A broadcast extends no log.
                        Mark::Conversation(Viewers::App(_) | Viewers::Sessions(_)) => continue,
                        Mark::Feed(user) => (*user, PushTarget::Feed),
                        Mark::Snapshot(user) => (*user, PushTarget::Snapshot),
                    };
                    for connection in self.connections(user) {
                        if matches!(target, PushTarget::Feed) {
                            connection.set_fed(0);
                        }
                        connection.queue.mark_dirty(&target);
                    }
                }
            }
            Marks::All => {
                for shard in self.shards.iter().skip(lane).step_by(self.lanes.len()) {
                    for connection in shard.read().values().flatten() {
                        connection.set_fed(0);
                        connection.queue.mark_all_dirty();
                    }
                }
            }
        }
    }

    /// Tells the clients how many transients were dropped, those that would have got them.
    fn report_lost(&self, lane: usize, lost: &HashMap<Viewers, Lost>) {
        for (viewers, lost) in lost {
            let report = |session: &ConnectionState| {
                let count = lost.of(session);
                if count > 0 {
                    session.queue.report_lost(count);
                }
            };
            match viewers {
                Viewers::User(View { user, .. }) | Viewers::Sessions(user) => {
                    self.connections(*user).iter().for_each(|session| report(session));
                }
                Viewers::Group(group) => for_group(&self.groups[lane], group.key, |session, stay| {
                    // Who has left stays in the index.
                    if stay.to.is_none() {
                        report(session);
                    }
                }),
                Viewers::App(app) => self.for_app(lane, *app, report),
            }
        }
    }

    /// Calls `visit` for the sessions of a lane that are online in an app.
    fn for_app(&self, lane: usize, app: AppKey, visit: impl Fn(&ConnectionState)) {
        for shard in self.shards.iter().skip(lane).step_by(self.lanes.len()) {
            let of_app = |session: &&Arc<ConnectionState>| session.identity().is_some_and(|who| who.app == app);
            shard.read().values().flatten().filter(of_app).for_each(|session| visit(session));
        }
    }

    fn push_run(&self, run: &[(View, Arc<MessageEffect>)]) {
        let Some((view, _)) = run.first() else { return };
        let shard = self.shard(view.user).read();
        let Some(connections) = shard.get(&view.user) else { return };
        let conversation = view.conversation();
        let target = PushTarget::Conversation(conversation.clone());
        let mut shared: Option<Bytes> = None;
        for connection in connections {
            let Some(identity) = connection.identity() else { continue };
            let own = run.iter().filter(|(_, message)| message.cause == identity.login).count();
            if own == run.len() {
                // The responses of this connection carry exactly these entries.
                continue;
            }
            let frame = if own > 0 {
                encode(Frame::Push(run_push(run, conversation.clone(), Some(identity.login))))
            } else {
                shared.get_or_insert_with(|| encode(Frame::Push(run_push(run, conversation.clone(), None)))).clone()
            };
            connection.queue.push(frame, &target);
        }
    }

    fn push_change(&self, view: &View, entry: &ChangeEntry, cause: LoginKey) {
        let connections = self.connections(view.user);
        if connections.is_empty() {
            return;
        }
        let conversation = view.conversation();
        let target = PushTarget::Conversation(conversation.clone());
        let frame = encode(Frame::Push(change_push(entry.clone(), conversation)));
        for connection in connections {
            if connection.identity().is_some_and(|identity| identity.login != cause) {
                connection.queue.push(frame.clone(), &target);
            }
        }
    }

    /// Ends the connection of a login, if it has one on this node. It is offline at once, before its client reads the
    /// reason.
    pub fn end_login(&self, user: UserKey, login: LoginKey, reason: SessionEndReason) {
        self.remember_ended(login, reason);
        for online in self.connections(user) {
            if online.identity().is_some_and(|identity| identity.login == login) {
                online.queue.end(reason, super::end_message(reason));
                self.unregister(user, &online);
            }
        }
    }

    /// Pushes the present state of a user to the connections of `users`, except that of `except`. Encodes it once, or
    /// not at all if none of them is online.
    pub fn push_snapshot(
        &self,
        users: impl IntoIterator<Item = UserKey>,
        snapshot: &Snapshot,
        except: Option<LoginKey>,
    ) {
        let mut encoded: Option<Bytes> = None;
        for user in users {
            let shard = self.shard(user).read();
            for connection in shard.get(&user).into_iter().flatten() {
                let login = connection.identity().map(|identity| identity.login);
                if except.is_none() || login != except {
                    let frame = encoded.get_or_insert_with(|| encode(Frame::Snapshot(snapshot.clone()))).clone();
                    connection.queue.push(frame, &PushTarget::Snapshot);
                }
            }
        }
    }

    /// Hands over a message that is never stored, for the devices of `user` except the one that sends it. It keeps its place
    /// behind the messages whose senders have their answers, and before those that are submitted later.
    pub fn send_transient(
        &self,
        user: UserKey,
        (kind, name): (ConversationType, &Arc<str>),
        (message, after_seq): (MessageEntry, i64),
        priority: MessagePriority,
        cause: LoginKey,
    ) {
        let shard = self.shard_index(user);
        if self.shards[shard].read().contains_key(&user) {
            let view = View { user, kind, name: Arc::clone(name) };
            let to = Viewers::User(view);
            let push = Arc::new(TransientPush {
                to,
                message,
                after_seq,
                after_rev: 0,
                priority,
                cause,
                room: 0,
                frame: OnceLock::new(),
            });
            let lane = &self.lanes[shard % self.lanes.len()];
            lane.add([Work::Transient(push)]);
            // No commit follows that would wake it.
            lane.wake();
        }
    }
}
