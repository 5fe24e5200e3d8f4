//! Turns effects into frames. A body is copied once for each name under which viewers see the conversation, not once
//! per connection: connections that see the same share a frame.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zim_protocol::{
    ChangeEntry, ConversationRef, ConversationType, EventFrame, FeedEntry, MessageEntry, Push, SessionEndReason,
    Snapshot, Transient, UserStatus, event_frame::Frame, frame::encode_frame,
};

use super::Fanout;
use crate::connection::ConnectionState;
use crate::connection::PushTarget;
use crate::effect::{Audience, Effect, MessageEffect};
use crate::journal::{change_push, feed_push, message_push};
use crate::key::{LoginKey, UserKey};

impl MessageEffect {
    /// Returns the entry for a push. The connection that sent the message gets it without content.
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
            content: if with_content { self.content.clone() } else { Bytes::new() },
        }
    }
}

/// A push of a run of messages for one connection; messages that it sent itself come without content.
fn run_push(run: &[Arc<MessageEffect>], conversation: ConversationRef, cause: Option<LoginKey>) -> Push {
    message_push(run.iter().map(|message| message.entry(cause != Some(message.cause))).collect(), conversation)
}

fn encode(frame: Frame) -> Bytes {
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

impl Fanout {
    /// Pushes what was committed to the connections of this node, in commit order within a partition. Runs on the
    /// thread of the write queue, so it only encodes and appends to queues.
    pub fn publish(&self, effects: Vec<Effect>) {
        let mut messages: Vec<Arc<MessageEffect>> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Message(message) => messages.push(message),
                Effect::Feed { user, pos, entry, cause } => self.push_feed(user, pos, *entry, cause),
                Effect::Profile { user, info } => self.profiles.add(user, *info, |_, _| true),
                Effect::Status { user, status, cause } => {
                    let snapshot = Snapshot { profiles: Vec::new(), statuses: vec![(*status).clone()] };
                    self.push_snapshot([user], &snapshot, Some(cause));
                    self.statuses.add(user, *status, is_newer);
                }
                Effect::Change { audience, entry, cause } => {
                    // The change may be about one of these messages. A client drops a change of a message that it does
                    // not have, and would keep the message as it was sent.
                    self.flush_messages(&mut messages);
                    self.push_change(&audience, &entry, cause);
                }
                Effect::LoginEnded { user, login, reason } => self.end_login(user, login, reason),
                // The timers have it.
                Effect::Due { .. } => {}
                Effect::OneShotsEnded { user, reason } => {
                    self.one_shots.end(user, reason);
                }
            }
        }
        self.flush_messages(&mut messages);
    }

    /// Pushes the collected messages. Grouping them by conversation keeps the order of each log.
    fn flush_messages(&self, messages: &mut Vec<Arc<MessageEffect>>) {
        messages.sort_by_key(|message| (message.conversation, message.seq));
        for run in messages.chunk_by(|a, b| a.conversation == b.conversation) {
            self.push_run(run);
        }
        messages.clear();
    }

    fn push_run(&self, run: &[Arc<MessageEffect>]) {
        let Some(first) = run.first() else { return };
        match &first.audience {
            Audience::Peers([one, two]) => {
                self.push_run_to(one.0, run, ConversationType::Peer, &two.1);
                if one.0 != two.0 {
                    self.push_run_to(two.0, run, ConversationType::Peer, &one.1);
                }
            }
        }
    }

    fn push_run_to(&self, user: UserKey, run: &[Arc<MessageEffect>], kind: ConversationType, name: &str) {
        let shard = self.shard(user).read();
        let Some(connections) = shard.get(&user) else { return };
        let conversation = ConversationRef { r#type: kind as i32, id: name.to_owned() };
        let target = PushTarget::Conversation(conversation.clone());
        let mut shared: Option<Bytes> = None;
        for connection in connections {
            let Some(identity) = connection.identity() else { continue };
            let own = run.iter().filter(|message| message.cause == identity.login).count();
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

    fn push_change(&self, audience: &Audience, entry: &ChangeEntry, cause: LoginKey) {
        match audience {
            Audience::Peers([one, two]) => {
                for (user, name) in [(one.0, &two.1), (two.0, &one.1)] {
                    let connections = self.connections(user);
                    if connections.is_empty() {
                        continue;
                    }
                    let conversation = ConversationRef { r#type: ConversationType::Peer as i32, id: name.to_string() };
                    let target = PushTarget::Conversation(conversation.clone());
                    let frame = encode(Frame::Push(change_push(entry.clone(), conversation)));
                    for connection in connections {
                        if connection.identity().is_some_and(|identity| identity.login != cause) {
                            connection.queue.push(frame.clone(), &target);
                        }
                    }
                }
            }
        }
    }

    fn push_feed(&self, user: UserKey, pos: i64, entry: zim_protocol::feed_entry::Detail, cause: LoginKey) {
        let connections = self.connections(user);
        if connections.is_empty() {
            return;
        }
        let frame = encode(Frame::Push(feed_push(vec![FeedEntry { pos: pos.unsigned_abs(), detail: Some(entry) }])));
        for connection in connections {
            if connection.identity().is_some_and(|identity| identity.login != cause) {
                connection.queue.push(frame.clone(), &PushTarget::Feed);
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

    /// Pushes a message that is never stored to all connections of `user`, except `except`.
    pub fn push_transient(
        &self,
        user: UserKey,
        conversation: ConversationRef,
        message: MessageEntry,
        except: &Arc<ConnectionState>,
    ) {
        let connections = self.connections(user);
        if connections.is_empty() {
            return;
        }
        let frame = encode(Frame::Transient(Transient { conversation: Some(conversation), message: Some(message) }));
        for connection in connections {
            if !Arc::ptr_eq(&connection, except) {
                connection.queue.push_transient(frame.clone());
            }
        }
    }
}
