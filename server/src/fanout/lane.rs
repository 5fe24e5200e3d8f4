//! What the threads of the write queue hand over to the fan-out. Each lane serves a part of the users, in the order in
//! which their entries were handed over. It is bounded: a lane that is behind drops bodies and keeps the names of the
//! logs, which clients then pull.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use zim_protocol::{
    ChangeEntry, ConversationRef, ConversationType, MessageEntry, MessageFlag, MessagePriority, Transient, UserStatus,
    event_frame::Frame, feed_entry,
};

use super::deliver::encode;
use super::group::{Group, GroupPush};
use crate::connection::{ConnectionState, Identity};
use crate::effect::MessageEffect;
use crate::key::{AppKey, ConversationKey, LoginKey, UserKey};

/// The bytes that wait in one lane. More than a commit has, so that only a lane that is behind drops bodies.
const MAX_BYTES: usize = 8 << 20;
/// The bytes of transients that wait in one lane, in addition.
const MAX_TRANSIENT_BYTES: usize = 2 << 20;
/// What an entry takes besides its content.
const WORK_BYTES: usize = 256;
/// Entries that are pushed before the lane gives others their turn.
const STEP: usize = 256;
/// Beyond this many logs without bodies, they are no longer named: all clients of the lane sync.
const MAX_MARKS: usize = 10_000;

/// A user who sees a conversation, and the conversation's name for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct View {
    pub(super) user: UserKey,
    pub(super) kind: ConversationType,
    pub(super) name: Arc<str>,
}

impl View {
    pub(super) fn conversation(&self) -> ConversationRef {
        ConversationRef { r#type: self.kind as i32, id: self.name.to_string() }
    }
}

/// Who sees a conversation: a user, or the sessions of the lane in a group. A broadcast, which has no conversation, is for all
/// sessions of an app, or for those of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Viewers {
    User(View),
    Group(Group),
    App(AppKey),
    Sessions(UserKey),
}

impl Viewers {
    fn is_broadcast(&self) -> bool {
        matches!(self, Self::App(_) | Self::Sessions(_))
    }

    pub(super) fn conversation(&self) -> ConversationRef {
        match self {
            Self::User(view) => view.conversation(),
            Self::Group(group) => group.conversation(),
            // No conversation has this name.
            Self::App(_) | Self::Sessions(_) => {
                ConversationRef { r#type: ConversationType::Unknown as i32, id: String::new() }
            }
        }
    }
}

/// A push to the devices of one user, or to those of the lane in one group.
#[derive(Debug)]
pub(super) enum Work {
    Message {
        view: View,
        message: Arc<MessageEffect>,
    },
    Change {
        view: View,
        entry: Arc<ChangeEntry>,
        cause: LoginKey,
    },
    Group(Arc<GroupPush>),
    Feed {
        user: UserKey,
        pos: i64,
        entry: Box<feed_entry::Detail>,
        cause: LoginKey,
    },
    Status {
        user: UserKey,
        status: Box<UserStatus>,
        cause: LoginKey,
    },
    Transient(Arc<TransientPush>),
    /// The clients have to pull the conversation.
    Pull(Viewers),
    /// The sessions of a user in a room have to ask what it is now, once they have what was pushed to it before.
    Look(ConversationKey, View),
    /// A user's sessions whose stay in a room is over by this change are in it no more, once they have what was pushed to it before.
    Forget(ConversationKey, UserKey, i64),
}

/// A message that is never stored.
#[derive(Debug)]
pub(super) struct TransientPush {
    pub(super) to: Viewers,
    pub(super) message: MessageEntry,
    pub(super) after_seq: i64,
    pub(super) after_rev: i64,
    pub(super) priority: MessagePriority,
    pub(super) cause: LoginKey,
    /// The number of the room; 0: it is not for a room.
    pub(super) room: i64,
    /// The frame, once the first session needs it.
    pub(super) frame: OnceLock<Bytes>,
}

/// How many transients were dropped that the same viewers would have got.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    total: u64,
    /// Of these, those that a login has sent and does not get.
    by_login: HashMap<LoginKey, u64>,
    /// Those of which a user must not learn that they sent them.
    by_user: HashMap<String, u64>,
}

impl Lost {
    fn add(&mut self, push: &TransientPush) {
        self.total += 1;
        // The login that sent it is one of the user's.
        match push.unaware() {
            Some(user_id) => *self.by_user.entry(user_id.to_owned()).or_default() += 1,
            None => *self.by_login.entry(push.cause).or_default() += 1,
        }
    }

    /// Returns how many of them a session would have got.
    pub(super) fn of(&self, session: &ConnectionState) -> u64 {
        let Some(who) = session.identity() else { return 0 };
        let sent = self.by_login.get(&who.login).copied().unwrap_or(0);
        self.total - sent - self.by_user.get(&*who.user_id).copied().unwrap_or(0)
    }
}

impl TransientPush {
    /// The user who must not learn that they sent it.
    fn unaware(&self) -> Option<&str> {
        self.message.has(MessageFlag::SenderUnaware).then_some(&*self.message.sender)
    }

    /// Whether a session gets it: all but the one that sent it, and those of a user who must not learn that they sent it.
    fn is_for(&self, session: &ConnectionState) -> bool {
        let is_left_out =
            |who: &Identity| who.login == self.cause || self.unaware().is_some_and(|id| *id == *who.user_id);
        session.identity().is_some_and(|who| !is_left_out(who))
    }

    /// Whether somebody is to know that it was dropped: nobody misses that somebody is writing.
    pub(super) fn is_missed(&self) -> bool {
        !self.message.has(MessageFlag::Typing)
    }

    /// Pushes it to a session that it is for.
    pub(super) fn push(&self, session: &ConnectionState) {
        if !self.is_for(session) {
            return;
        }
        let conversation = self.to.conversation();
        let encode = || {
            encode(Frame::Transient(Transient {
                conversation: Some(conversation.clone()).filter(|_| !self.to.is_broadcast()),
                message: Some(self.message.clone()),
                after_seq: self.after_seq.unsigned_abs(),
                room: self.room,
                after_rev: if self.room == 0 { 0 } else { self.after_rev.unsigned_abs() },
            }))
        };
        let frame = self.frame.get_or_init(encode).clone();
        session.queue.push_transient(frame, (self.priority, self.is_missed()), &conversation);
    }
}

impl Work {
    fn bytes(&self) -> usize {
        let content = match self {
            Self::Message { message, .. } => message.bytes(),
            Self::Group(push) => push.bytes(),
            Self::Transient(push) => push.message.content.len(),
            _ => 0,
        };
        WORK_BYTES + content
    }
}

/// A log whose bodies were dropped.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    Conversation(Viewers),
    Feed(UserKey),
    Snapshot(UserKey),
}

impl Mark {
    /// The log that work extends; a transient extends none.
    fn of(work: Work) -> Option<Self> {
        match work {
            Work::Message { view, .. } | Work::Change { view, .. } | Work::Look(_, view) => {
                Some(Self::Conversation(Viewers::User(view)))
            }
            Work::Group(push) => Some(Self::Conversation(Viewers::Group(push.group.clone()))),
            Work::Pull(viewers) => Some(Self::Conversation(viewers)),
            Work::Feed { user, .. } => Some(Self::Feed(user)),
            Work::Status { user, .. } => Some(Self::Snapshot(user)),
            Work::Transient(_) | Work::Forget(..) => None,
        }
    }
}

/// The logs whose bodies a lane dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marks {
    Of(HashSet<Mark>),
    /// There are too many to list: those of all users of the lane.
    All,
}

impl Default for Marks {
    fn default() -> Self {
        Self::Of(HashSet::new())
    }
}

impl Marks {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Of(marks) if marks.is_empty())
    }

    fn has(&self, viewers: &Viewers) -> bool {
        match self {
            Self::Of(marks) => !marks.is_empty() && marks.contains(&Mark::Conversation(viewers.clone())),
            Self::All => true,
        }
    }

    fn add(&mut self, mark: Mark) {
        let Self::Of(marks) = self else { return };
        marks.insert(mark);
        if marks.len() > MAX_MARKS {
            *self = Self::All;
        }
    }
}

/// One step of a lane. The marks come after the work.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) work: Vec<Work>,
    pub(super) marks: Marks,
    /// The numbers of dropped transients.
    pub(super) lost: HashMap<Viewers, Lost>,
    /// Users whose sessions are to be forgotten in these rooms, after the marks, and the changes that have ended their stays.
    pub(super) ended: Vec<(ConversationKey, UserKey, i64)>,
}

impl Step {
    fn is_empty(&self) -> bool {
        self.work.is_empty() && self.marks.is_empty() && self.lost.is_empty() && self.ended.is_empty()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    work: VecDeque<Work>,
    bytes: usize,
    transient_bytes: usize,
    marks: Marks,
    lost: HashMap<Viewers, Lost>,
    ended: Vec<(ConversationKey, UserKey, i64)>,
    is_closed: bool,
}

impl Waiting {
    /// Adds a transient if there is room for its priority, and nothing before it in its conversation was dropped: it must not
    /// overtake that. In a room there is nothing that a client pulls.
    fn add_transient(&mut self, push: Arc<TransientPush>) {
        let max = match push.priority {
            MessagePriority::Unspecified | MessagePriority::Low => MAX_TRANSIENT_BYTES / 2,
            MessagePriority::Medium => MAX_TRANSIENT_BYTES / 4 * 3,
            MessagePriority::High => MAX_TRANSIENT_BYTES,
        };
        let work = Work::Transient(Arc::clone(&push));
        let bytes = self.transient_bytes + work.bytes();
        if bytes <= max && (push.room != 0 || !self.marks.has(&push.to)) {
            self.transient_bytes = bytes;
            self.work.push_back(work);
        } else if push.is_missed() {
            self.lost.entry(push.to.clone()).or_default().add(&push);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    waiting: Mutex<Waiting>,
    /// Work was added since the lane was woken last.
    has_news: AtomicBool,
    added: Notify,
}

impl Lane {
    /// Hands work over. Never waits for the fan-out. A lane that waits for work gets it when it is woken.
    pub(super) fn add(&self, more: impl IntoIterator<Item = Work>) {
        let mut dropped = 0;
        let mut waiting = self.waiting.lock();
        for work in more {
            let work = match work {
                Work::Transient(push) => {
                    waiting.add_transient(push);
                    continue;
                }
                work => work,
            };
            let bytes = work.bytes();
            // After a dropped body all others are dropped until the lane has caught up: a client must not get what
            // follows a body without the notice that the body is missing.
            if waiting.marks.is_empty() && waiting.bytes + bytes <= MAX_BYTES {
                waiting.bytes += bytes;
                waiting.work.push_back(work);
            } else if let Work::Forget(room, user, rev) = work {
                // It is never dropped: the session would get what is pushed to the room for ever. It comes after the notice that
                // something is missing.
                waiting.ended.push((room, user, rev));
            } else {
                dropped += 1;
                Mark::of(work).into_iter().for_each(|mark| waiting.marks.add(mark));
            }
        }
        drop(waiting);
        if dropped > 0 {
            metrics::counter!("zim_fanout_dropped_total").increment(dropped);
        }
        self.has_news.store(true, Ordering::Release);
    }

    /// Notes that a transient was lost before it was handed over.
    pub(super) fn lose(&self, push: &TransientPush) {
        self.waiting.lock().lost.entry(push.to.clone()).or_default().add(push);
        self.has_news.store(true, Ordering::Release);
    }

    /// Wakes the lane if work was handed over since it was woken last.
    pub(super) fn wake(&self) {
        if self.has_news.swap(false, Ordering::AcqRel) {
            self.added.notify_one();
        }
    }

    /// The number of waiting pushes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.lock().work.len()
    }

    /// No more work comes.
    pub(super) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.added.notify_one();
    }

    /// Waits for work and takes the next step. Returns `None` once the lane is closed and empty.
    pub(super) async fn next(&self) -> Option<Step> {
        loop {
            let step = self.take();
            if step.as_ref().is_none_or(|step| !step.is_empty()) {
                return step;
            }
            self.added.notified().await;
        }
    }

    /// Takes the next step, an empty one if nothing waits. Returns `None` once the lane is closed and empty.
    pub(super) fn take(&self) -> Option<Step> {
        let mut waiting = self.waiting.lock();
        let count = waiting.work.len().min(STEP);
        let work: Vec<Work> = waiting.work.drain(..count).collect();
        for one in &work {
            match one {
                Work::Transient(_) => waiting.transient_bytes -= one.bytes(),
                _ => waiting.bytes -= one.bytes(),
            }
        }
        if !waiting.work.is_empty() {
            return Some(Step { work, ..Step::default() });
        }
        if waiting.work.capacity() > STEP {
            waiting.work = VecDeque::new();
        }
        let (marks, lost) = (std::mem::take(&mut waiting.marks), std::mem::take(&mut waiting.lost));
        let step = Step { work, marks, lost, ended: std::mem::take(&mut waiting.ended) };
        let is_over = waiting.is_closed && step.is_empty();
        (!is_over).then_some(step)
    }
}

#[cfg(test)]
mod tests;
