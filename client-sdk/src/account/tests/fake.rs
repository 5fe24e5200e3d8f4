//! A server for one user, without a network: enough of it to run an account.
#![expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use zim_protocol::{
    Base, BlockEntry, CallEntry, CallJoinSentResult, ChangeEntry, ClearConversationUnreadMessageCountRequest,
    ConversationCleared, ConversationDeletedResult, ConversationHead, ConversationRef, ErrorCode, Event, FeedEntry,
    FillRequest, FillResult, FriendEntry, FriendInfo, Limits, LogKind, Message, MessageEntry, MessageFlag,
    MessageSentResult, MessageType, Page, PullRequest, Push, ReadMark, Rpc, SendMessageRequest, Sums, SyncRequest,
    SyncResult, UserFullInfo, UserInfo, UserStatus, change_entry, clock::Clock, feed_entry::Detail, message::Body,
};

use crate::account::Remote;
use crate::error::{Error, IS_SENT};
use crate::events::{Heard, Receipt};
use crate::types::{Name, Storage};

/// The user of the server.
pub(super) const ME: &str = "ann";
pub(super) const NOW: i64 = 1_000_000_000;

#[derive(Debug, Default)]
pub(super) struct World {
    logs: BTreeMap<String, Log>,
    pub(super) pos: u64,
    pub(super) feed: Vec<FeedEntry>,
    pub(super) is_online: bool,
    /// The number of answers to sends that are lost after the message was stored.
    pub(super) lose_answers: usize,
    /// The number of pulls that the rate limit refuses.
    pub(super) limit_pulls: usize,
    /// The number of syncs that fail because the database does not answer.
    pub(super) refuse_syncs: usize,
    /// The number of requests about rooms that are not answered in time.
    pub(super) late_for_rooms: usize,
    /// The server refuses to let the device out of rooms: it is in none.
    pub(super) is_in_no_room: bool,
    /// Syncs wait until this is over.
    pub(super) holds_syncs: bool,
    /// The answers to messages, to requests to join a call and to those to switch rooms wait until this is over.
    pub(super) holds_answers: bool,
    /// The current profiles, for syncs that ask for changes.
    pub(super) profiles: Vec<UserFullInfo>,
    /// The current statuses, likewise.
    pub(super) statuses: Vec<UserStatus>,
    pub(super) requests: Vec<&'static str>,
    pub(super) events: Vec<Event>,
    /// The limits of the server.
    pub(super) limits: Option<Limits>,
    /// With a clock, the limit of messages applies since a time.
    pub(super) clock: Option<(Clock, i64)>,
    /// The messages that count for the limit.
    pub(super) spent: i64,
    /// The number of messages that were refused for the limit.
    pub(super) refused: usize,
    /// Counts the connections.
    pub(super) connection: u64,
    /// Messages do not reach the server until the connection ends.
    pub(super) swallows_sends: bool,
    /// The number of such messages.
    pub(super) swallowed: usize,
    /// Syncs do not reach the server until the connection ends.
    pub(super) swallows_syncs: bool,
    /// The texts of messages and commands, in the order of their arrival.
    pub(super) arrived: Vec<String>,
    /// Requests panic in the task that waits for the answer.
    pub(super) is_broken: bool,
    /// The handlers of the app do not return.
    pub(super) is_slow: bool,
    /// The receipts of the events that they are handling.
    pub(super) receipts: Vec<Receipt>,
    /// The events that were acknowledged.
    pub(super) handled: u64,
    /// The positions that were acknowledged.
    pub(super) stored: Vec<(Name, u64)>,
    /// The positions of the feed that were acknowledged.
    pub(super) feeds: Vec<u64>,
    pub(super) epoch: u8,
    /// The next sync finds that the server lacks what its clients have, without a new epoch.
    pub(super) is_behind: bool,
    /// The call that the user may join, as it is then.
    pub(super) call: CallEntry,
    /// The server's time, since `NOW`.
    pub(super) elapsed_ms: i64,
    /// The number of requests without an answer.
    pub(super) in_flight: usize,
    written: u64,
    ids: i64,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<MessageEntry>,
    changes: Vec<ChangeEntry>,
    n: u64,
    sent: u64,
    base: Base,
}

impl Log {
    /// The revoked messages of others that would count as unread.
    fn revoked(&self) -> Vec<u64> {
        let revoked = |entry: &&MessageEntry| entry.kind == MessageType::Revoke as i32 && entry.sender != ME;
        self.entries.iter().filter(revoked).map(|entry| entry.seq).filter(|seq| *seq > self.base.seq).collect()
    }
}

/// The remote of that server.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<World>>);

impl Remote for Fake {
    fn request<R: Rpc + Send + Sync>(
        &self,
        connection: Option<u64>,
        request: R,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static
    where
        R::Response: Send,
    {
        let fake = self.clone();
        let current = self.0.lock().connection;
        async move {
            let _in_flight = InFlight::of(&fake);
            if connection.is_some_and(|connection| connection != current) {
                return Err(lost().with_detail(IS_SENT, "false"));
            }
            if swallows(&fake, R::METHOD.path) {
                while fake.0.lock().connection == current {
                    tokio::task::yield_now().await;
                }
                return Err(lost());
            }
            while R::METHOD.path == "Sync/Sync" && fake.0.lock().holds_syncs {
                tokio::task::yield_now().await;
            }
            let answer = fake.0.lock().serve(R::METHOD.path, &request.encode_to_vec());
            // An answer takes a while.
            tokio::task::yield_now().await;
            let is_held = matches!(R::METHOD.path, "Message/SendMessage" | "Call/CallJoin" | "Room/SwitchRoom");
            while is_held && fake.0.lock().holds_answers {
                tokio::task::yield_now().await;
            }
            let (bytes, pushes) = answer?;
            Ok((R::Response::decode(&bytes[..]).unwrap(), pushes))
        }
    }

    fn request_encoded<R: Rpc + Send + Sync>(
        &self,
        connection: Option<u64>,
        request: Bytes,
    ) -> impl Future<Output = Result<(R::Response, Vec<Push>), Error>> + Send + 'static
    where
        R::Response: Send,
    {
        self.request(connection, R::decode(request).unwrap())
    }

    fn heard(&self) -> Heard {
        Heard::all()
    }

    fn acknowledge(&self, _: u64, events: u64, stored: Storage) {
        let mut world = self.0.lock();
        world.handled += events;
        world.stored.extend(stored.messages);
        world.feeds.extend((stored.feed > 0).then_some(stored.feed));
    }

    fn is_online(&self) -> bool {
        self.0.lock().is_online
    }

    fn raise(&self, event: Event, receipt: Option<Receipt>) {
        let mut world = self.0.lock();
        world.events.push(event);
        match receipt {
            Some(receipt) if world.is_slow => world.receipts.push(receipt),
            Some(receipt) => receipt.sign(),
            None => {}
        }
    }
}

/// Counts a request until its answer arrives, or nobody waits for it any more.
struct InFlight(Fake);

impl InFlight {
    fn of(fake: &Fake) -> Self {
        fake.0.lock().in_flight += 1;
        Self(fake.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.lock().in_flight -= 1;
    }
}

/// Counts the request if the network swallows it.
fn swallows(fake: &Fake, path: &str) -> bool {
    let mut world = fake.0.lock();
    let is_swallowed = world.swallows_sends && path == "Message/SendMessage";
    world.swallowed += usize::from(is_swallowed);
    is_swallowed || (world.swallows_syncs && path == "Sync/Sync")
}

fn lost() -> Error {
    Error::new(ErrorCode::NetworkModuleNetworkError, "lost")
}

impl World {
    fn serve(&mut self, path: &'static str, bytes: &[u8]) -> Result<(Vec<u8>, Vec<Push>), Error> {
        if !self.is_online {
            return Err(lost());
        }
        self.requests.push(path);
        if path == "Sync/Pull" && self.limit_pulls > 0 {
            self.limit_pulls -= 1;
            return Err(Error::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, "too many"));
        }
        if path == "Sync/Sync" && self.refuse_syncs > 0 {
            self.refuse_syncs -= 1;
            return Err(Error::new(ErrorCode::CommonModuleImDatabaseError, "the server's database does not answer"));
        }
        let is_about_rooms = matches!(path, "Sync/ResumeRooms" | "Room/LeaveRoom" | "Room/SwitchRoom");
        if is_about_rooms && self.late_for_rooms > 0 {
            self.late_for_rooms -= 1;
            return Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
        }
        if path == "Room/LeaveRoom" && self.is_in_no_room {
            return Err(Error::new(ErrorCode::RoomModuleUserIsNotInTheRoom, "in no room"));
        }
        match path {
            _ if is_about_rooms => Ok((Vec::new(), Vec::new())),
            _ if self.is_broken => panic!("a bug of the SDK"),
            "Message/SendMessage" => self.send(SendMessageRequest::decode(bytes).unwrap()),
            "Sync/Sync" => Ok((self.sync(&SyncRequest::decode(bytes).unwrap()).encode_to_vec(), Vec::new())),
            "Sync/Pull" => {
                self.pull(&PullRequest::decode(bytes).unwrap()).map(|page| (page.encode_to_vec(), Vec::new()))
            }
            "Sync/Fill" => {
                self.fill(&FillRequest::decode(bytes).unwrap()).map(|fill| (fill.encode_to_vec(), Vec::new()))
            }
            "Conversation/ClearConversationUnreadMessageCount" => {
                Ok(self.clear(&ClearConversationUnreadMessageCountRequest::decode(bytes).unwrap()))
            }
            "Conversation/DeleteConversation" => Ok((ConversationDeletedResult::default().encode_to_vec(), Vec::new())),
            "Call/CallJoin" => {
                let push = self.changes_call();
                Ok((CallJoinSentResult::default().encode_to_vec(), vec![push]))
            }
            other => panic!("{other} is not faked"),
        }
    }

    /// Restores an empty backup under a new epoch.
    pub(super) fn restore_backup(&mut self) {
        self.logs.clear();
        self.pos = 0;
        self.feed.clear();
        self.epoch += 1;
    }

    /// Adds or deletes a friend: appends the entry to the feed.
    pub(super) fn befriend(&mut self, user_id: &str, alias: &str, is_deleted: bool) {
        self.pos += 1;
        let info = FriendInfo { user_id: user_id.into(), friend_alias: alias.into(), ..FriendInfo::default() };
        let entry = FriendEntry { info: Some(info), is_deleted, place: self.pos as i64 };
        self.feed.push(FeedEntry { pos: self.pos, detail: Some(Detail::Friend(entry)) });
    }

    /// The call is another: appends its entry to the feed. Returns the push for the session.
    pub(super) fn changes_call(&mut self) -> Push {
        self.pos += 1;
        // Earlier entries say what the call is now.
        self.feed.retain(|entry| !matches!(entry.detail, Some(Detail::Call(_))));
        let entry = FeedEntry { pos: self.pos, detail: Some(Detail::Call(self.call.clone())) };
        self.feed.push(entry.clone());
        Push { log: LogKind::Feed as i32, from: self.pos, to: self.pos, feed: vec![entry], ..Push::default() }
    }

    /// Blocks users: appends an entry for each to the feed.
    pub(super) fn block(&mut self, users: &[&str]) {
        for user_id in users {
            self.pos += 1;
            let user = UserInfo { user_id: (*user_id).to_owned(), ..UserInfo::default() };
            let entry = BlockEntry { user: Some(user), is_deleted: false, place: self.pos as i64 };
            self.feed.push(FeedEntry { pos: self.pos, detail: Some(Detail::Block(entry)) });
        }
    }

    /// Stores a message; returns the push for the session.
    pub(super) fn write(&mut self, peer: &str, sender: &str, text: &str) -> Push {
        self.written += 1;
        let client_key = self.written.to_be_bytes().repeat(2).into();
        let content = Message::text(text).encode_to_vec();
        let entry = self.append(peer, sender, client_key, content.into());
        push(peer, vec![entry])
    }

    /// Somebody revokes a message; returns the push for the session.
    pub(super) fn revoke(&mut self, peer: &str, seq: u64) -> Option<Push> {
        let log = self.logs.get_mut(peer)?;
        let entry = log.entries.get_mut(usize::try_from(seq).unwrap().checked_sub(1)?)?;
        entry.kind = MessageType::Revoke as i32;
        entry.content = Message::text("revoked").encode_to_vec().into();
        let (rev, detail) = (log.changes.len() as u64 + 1, Some(change_entry::Detail::Message(entry.clone())));
        log.changes.push(ChangeEntry { rev, detail, ..ChangeEntry::default() });
        let (conversation, changes) = (Some(conversation_ref(peer)), log.changes[rev as usize - 1..].to_vec());
        Some(Push { log: LogKind::Changes as i32, conversation, from: rev, to: rev, changes, ..Push::default() })
    }

    /// The number of messages with a user.
    pub(super) fn len(&self, peer: &str) -> usize {
        self.logs.get(peer).map_or(0, |log| log.entries.len())
    }

    /// The user reads up to a message on another device; returns the push for the session.
    pub(super) fn read(&mut self, peer: &str, through_seq: i64) -> Push {
        let conversation_id = peer.to_owned();
        let request = ClearConversationUnreadMessageCountRequest { conversation_id, conversation_type: 0, through_seq };
        let push = self.clear(&request).1.remove(0);
        self.feed.extend(push.feed.iter().cloned());
        push
    }

    /// The user deletes all messages with another user up to one, on another device; returns the push for the session.
    pub(super) fn clear_messages(&mut self, peer: &str, cleared_seq: u64) -> Push {
        self.pos += 1;
        let conversation = Some(conversation_ref(peer));
        let cleared = ConversationCleared { conversation, cleared_seq, ..ConversationCleared::default() };
        let entry = FeedEntry { pos: self.pos, detail: Some(Detail::Cleared(cleared)) };
        self.feed.push(entry.clone());
        Push { log: LogKind::Feed as i32, from: self.pos, to: self.pos, feed: vec![entry], ..Push::default() }
    }

    fn append(&mut self, peer: &str, sender: &str, client_key: Bytes, content: Bytes) -> MessageEntry {
        self.ids += 1;
        let message_id = 1_000 + self.ids;
        let log = self.logs.entry(peer.to_owned()).or_default();
        log.n += 1;
        log.sent += u64::from(sender == ME);
        let seq = log.entries.len() as u64 + 1;
        let entry = MessageEntry {
            seq,
            n: log.n,
            message_id,
            sender: sender.to_owned(),
            ts: NOW + self.elapsed_ms + seq as i64,
            kind: 1,
            flags: MessageFlag::Counted as u32,
            client_key,
            content,
            state: None,
        };
        log.entries.push(entry.clone());
        entry
    }

    fn send(&mut self, request: SendMessageRequest) -> Result<(Vec<u8>, Vec<Push>), Error> {
        let peer = request.to_conversation_id.clone();
        if peer == "nobody" {
            return Err(Error::new(ErrorCode::MessageModuleTargetDoesNotExist, "nobody"));
        }
        if let (Some((clock, since_ms)), Some(limits)) = (&self.clock, &self.limits) {
            let interval_ms = 1_000 / i64::from(limits.messages_per_second);
            let allowed = i64::from(limits.message_burst) + (clock.steady_ms() - since_ms) / interval_ms;
            if self.spent >= allowed {
                self.refused += 1;
                let error = Error::new(ErrorCode::CommonModuleTriggerServerFrequencyLimit, "too fast");
                return Err(error.with_detail("retry_after_ms", &interval_ms.to_string()));
            }
            self.spent += 1;
        }
        let body = request.message.as_ref().and_then(|message| message.body.clone());
        if let Some(Body::Command(command)) = &body {
            self.arrived.push(String::from_utf8_lossy(&command.message).into_owned());
            if self.lose_answers > 0 {
                self.lose_answers -= 1;
                return Err(lost());
            }
            return Ok((MessageSentResult { message: request.message }.encode_to_vec(), Vec::new()));
        }
        if let Some(Body::Text(text)) = body {
            self.arrived.push(text.message);
        }
        let known = self
            .logs
            .get(&peer)
            .and_then(|log| log.entries.iter().find(|entry| entry.client_key == request.client_key));
        let entry = match known.cloned() {
            Some(entry) => entry,
            None => {
                let content = request.message.unwrap().encode_to_vec().into();
                self.append(&peer, ME, request.client_key, content)
            }
        };
        if self.lose_answers > 0 {
            self.lose_answers -= 1;
            return Err(lost());
        }
        let message = Message {
            message_id: entry.message_id.to_string(),
            message_seq: entry.seq as i64,
            timestamp: entry.ts,
            order_key: entry.seq as i64 * 100,
            ..Message::default()
        };
        let echo = MessageEntry { content: Bytes::new(), ..entry };
        Ok((MessageSentResult { message: Some(message) }.encode_to_vec(), vec![push(&peer, vec![echo])]))
    }

    fn head(&self, peer: &str) -> ConversationHead {
        let log = &self.logs[peer];
        ConversationHead {
            conversation: Some(conversation_ref(peer)),
            end_seq: log.entries.len() as u64,
            end_rev: log.changes.len() as u64,
            revoked: log.revoked(),
            n: log.n,
            sent: log.sent,
            base: Some(log.base),
            read_seq: log.base.seq,
            last_ts: log.entries.last().map_or(0, |entry| entry.ts),
            last_message: log.entries.last().cloned(),
            peer: Some(UserFullInfo {
                base_info: Some(UserInfo {
                    user_id: peer.to_owned(),
                    user_name: peer.to_uppercase(),
                    ..UserInfo::default()
                }),
                ..UserFullInfo::default()
            }),
            ..ConversationHead::default()
        }
    }

    fn sync(&mut self, request: &SyncRequest) -> SyncResult {
        let is_behind = std::mem::take(&mut self.is_behind);
        let sums = Sums {
            count: self.logs.len() as u64,
            seq: self.logs.values().map(|log| log.entries.len() as u64).sum(),
            rev: self.logs.values().map(|log| log.changes.len() as u64).sum(),
        };
        let epoch = Bytes::from(vec![self.epoch; 16]);
        let reset = !request.epoch.is_empty() && (request.epoch != epoch || is_behind);
        let is_equal = !reset && request.since > 0 && request.sums == Some(sums);
        SyncResult {
            reset,
            epoch,
            feed: self.feed.iter().filter(|entry| reset || entry.pos > request.pos).cloned().collect(),
            pos: self.pos,
            heads: if is_equal { Vec::new() } else { self.logs.keys().map(|peer| self.head(peer)).collect() },
            sums: Some(sums),
            touched: NOW,
            profiles: if request.profiles_since > 0 { self.profiles.clone() } else { Vec::new() },
            statuses: if request.profiles_since > 0 { self.statuses.clone() } else { Vec::new() },
            profiles_at: NOW,
            ..SyncResult::default()
        }
    }

    fn log(&self, name: Option<&ConversationRef>) -> Result<&Log, Error> {
        let missing = || Error::new(ErrorCode::ConversationModuleConversationDoesNotExist, "missing");
        self.logs.get(&name.unwrap().id).ok_or_else(missing)
    }

    fn pull(&self, request: &PullRequest) -> Result<Page, Error> {
        let log = self.log(request.conversation.as_ref())?;
        let messages: Vec<_> =
            log.entries.iter().filter(|entry| entry.seq > request.after_seq).take(100).cloned().collect();
        let end_seq = log.entries.len() as u64;
        let through_seq = messages.last().map_or(end_seq, |entry| entry.seq);
        let changes: Vec<_> = log.changes.iter().filter(|entry| entry.rev > request.after_rev).cloned().collect();
        let end_rev = log.changes.len() as u64;
        Ok(Page { messages, changes, through_seq, end_seq, through_rev: end_rev, end_rev, ..Page::default() })
    }

    fn fill(&self, request: &FillRequest) -> Result<FillResult, Error> {
        let log = self.log(request.conversation.as_ref())?;
        let (anchor, count, len) = (request.anchor, request.count as usize, log.entries.len() as u64);
        let messages: Vec<MessageEntry> = if request.reverse {
            let below = log.entries.iter().rev().filter(|entry| anchor == 0 || entry.seq < anchor);
            let mut page: Vec<_> = below.take(count).cloned().collect();
            page.reverse();
            page
        } else {
            log.entries.iter().filter(|entry| entry.seq > anchor).take(count).cloned().collect()
        };
        let first = messages.first().map_or(1, |entry| entry.seq);
        let last = messages.last().map_or(len, |entry| entry.seq);
        let (from, to) =
            if request.reverse { (first, if anchor == 0 { len } else { anchor - 1 }) } else { (anchor + 1, last) };
        let end = if request.reverse { first <= 1 } else { last >= len };
        Ok(FillResult { messages, from, to, end, rev: log.changes.len() as u64 })
    }

    fn clear(&mut self, request: &ClearConversationUnreadMessageCountRequest) -> (Vec<u8>, Vec<Push>) {
        let through = request.through_seq as u64;
        let log = self.logs.get_mut(&request.conversation_id).unwrap();
        let seen = &log.entries[..through as usize];
        let sent = seen.iter().filter(|entry| entry.sender == ME).count() as u64;
        log.base = Base { seq: through, n: seen.last().map_or(0, |entry| entry.n), sent };
        self.pos += 1;
        let mark = ReadMark {
            conversation: Some(conversation_ref(&request.conversation_id)),
            read_seq: through,
            base: Some(log.base),
        };
        let feed = vec![FeedEntry { pos: self.pos, detail: Some(Detail::Read(mark)) }];
        (Vec::new(), vec![Push { log: LogKind::Feed as i32, from: self.pos, to: self.pos, feed, ..Push::default() }])
    }
}

pub(super) fn conversation_ref(peer: &str) -> ConversationRef {
    ConversationRef { r#type: 0, id: peer.to_owned() }
}

fn push(peer: &str, messages: Vec<MessageEntry>) -> Push {
    Push {
        log: LogKind::Messages as i32,
        conversation: Some(conversation_ref(peer)),
        from: messages[0].seq,
        to: messages[messages.len() - 1].seq,
        messages,
        ..Push::default()
    }
}
