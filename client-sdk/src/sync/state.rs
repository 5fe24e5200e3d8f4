//! What the sync engine knows, and what it wants done.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationHead, ConversationRef, MessageEntry, PullRequest, SyncRequest, UserFullInfo, UserStatus,
    feed_entry,
};

use super::ranges::Ranges;
use super::unread::Tally;

/// A conversation as this user names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// `ConversationType`.
    pub kind: i32,
    /// The peer's user id, or the group's id.
    pub id: Arc<str>,
}

impl Name {
    /// The conversation of this type with this id.
    pub fn new(kind: i32, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// As it travels.
    pub fn to_ref(&self) -> ConversationRef {
        ConversationRef { r#type: self.kind, id: self.id.to_string() }
    }
}

impl From<&ConversationRef> for Name {
    fn from(name: &ConversationRef) -> Self {
        Self::new(name.r#type, name.id.as_str())
    }
}

/// What a device knows of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Everything up to here was raised to the app, or left to history on purpose.
    pub seq: u64,
    /// The same of the log of changes.
    pub rev: u64,
    /// What `tally` belongs to, and what the sums are made of.
    pub head_seq: u64,
    /// The same of the log of changes.
    pub head_rev: u64,
    /// What the unread count is computed from.
    pub tally: Tally,
    /// When the newest message was sent.
    pub last_ts: i64,
    /// Whether the server described this conversation yet.
    pub known: bool,
    /// The messages that this device holds.
    pub held: Ranges,
    /// The newest position heard of, by a push whose predecessors are missing.
    pub(crate) target_seq: u64,
    /// The same of the log of changes.
    pub(crate) target_rev: u64,
    /// Something of it was dropped on the way, nobody knows what.
    pub(crate) dirty: bool,
    /// The pull under way.
    pub(crate) pulling: Option<u64>,
    /// Its place in the queue of pulls.
    pub(crate) rank: Option<i64>,
    /// A sync was asked for to describe it.
    pub(crate) asked: bool,
    /// Positions were skipped, so the tally means nothing until a head that is not older than what is known.
    pub(crate) uncounted: bool,
}

impl State {
    /// Whether the server has positions of it that were not raised here.
    pub(super) fn lacks_positions(&self) -> bool {
        self.dirty || self.seq < self.target_seq.max(self.head_seq) || self.rev < self.target_rev.max(self.head_rev)
    }

    /// Messages came as they were at `rev`. What changed since was told already, perhaps to a device that did not hold them:
    /// it is to be told again.
    pub(super) fn as_of(&mut self, rev: u64) {
        self.target_rev = self.target_rev.max(self.rev);
        self.rev = self.rev.min(rev);
    }

    /// Whether it counts in the sums.
    pub(super) fn is_counted(&self) -> bool {
        self.head_seq + self.head_rev > 0
    }
}

/// What a device knows beside its conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The server's epoch that all positions belong to; empty before the first sync.
    pub epoch: Bytes,
    /// The feed up to here was applied.
    pub pos: u64,
    /// The newest change of a head, of the last complete sync.
    pub touched: i64,
    /// A sync was completed once.
    pub is_settled: bool,
    /// Profiles that changed since are asked for; 0: heads and feed bring all.
    pub profiles_at: i64,
}

/// Who caused a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A call of this device: its app has the result and needs no event.
    Own,
    /// Somebody else, or another device.
    Other,
    /// The first sync of this device: what was there before is no news.
    First,
}

/// One thing for the store to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Store these messages, ascending; those above `raise_after` are new to the app.
    Messages {
        /// The conversation.
        name: Name,
        /// Its messages.
        entries: Vec<MessageEntry>,
        /// `u64::MAX`: none is new.
        raise_after: u64,
    },
    /// Apply these changes, ascending, to the messages that are held.
    Changes {
        /// The conversation.
        name: Name,
        /// What changed.
        entries: Vec<ChangeEntry>,
    },
    /// The server described a conversation.
    Head(Box<ConversationHead>),
    /// Something that is this person's own, as it is now: an entry of the feed that concerns no conversation.
    Own {
        /// What it is.
        detail: Box<feed_entry::Detail>,
        /// Who caused it.
        origin: Origin,
    },
    /// One's own profile, as a login found it.
    LoggedIn {
        /// As it is now.
        info: Box<UserFullInfo>,
        /// The login itself gave the name: that is no news.
        is_named: bool,
    },
    /// Profiles of others, as they are now.
    Profiles(Vec<UserFullInfo>),
    /// What people are seen as now.
    Statuses(Vec<UserStatus>),
    /// What the server stored of a conversation is no longer to be trusted: its rows go, those that only this device has stay.
    Drop(Name),
    /// The same of all conversations.
    DropAll,
    /// Conversations that the server no longer knows and that hold nothing leave the list.
    Sweep,
}

/// A conversation's state that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The conversation.
    pub name: Name,
    /// Its positions and tally; `held` is not part of it.
    pub state: State,
    /// Intervals that grew, as they are now: each replaces what it covers.
    pub held: Vec<(u64, u64)>,
}

/// What goes to the store in one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// In this order.
    pub changes: Vec<Change>,
    /// The states after them.
    pub states: Vec<Saved>,
    /// The position after them, if it moved.
    pub position: Option<Position>,
}

impl Batch {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.states.is_empty() && self.position.is_none()
    }
}

/// A call to make. The ticket comes back with its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// The truth behind a push.
    Pull {
        /// Names the answer.
        ticket: u64,
        /// The call.
        request: PullRequest,
    },
    /// What moved.
    Sync {
        /// Names the answer.
        ticket: u64,
        /// The call.
        request: SyncRequest,
    },
}

/// How far the catching up of a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It began.
    Started,
    /// The list of conversations is right.
    Finished,
    /// It will be tried again.
    Failed,
}

/// What came of a step of the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// To be stored, in one transaction, before anything else is done.
    pub batch: Batch,
    /// To be sent, after that.
    pub requests: Vec<Request>,
    /// To be told, in this order; `Started` before the events of the batch, the others after.
    pub progress: Vec<Progress>,
}
