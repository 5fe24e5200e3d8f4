//! What the sync engine knows, and what it wants done.

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationHead, MessageEntry, PullRequest, SyncRequest, UserFullInfo, UserStatus, feed_entry,
};

use super::name::Name;
use super::ranges::Ranges;
use super::unread::Tally;

/// What a device knows about a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// All messages up to here were raised to the app, or left to history on purpose.
    pub seq: u64,
    /// The same for the log of changes.
    pub rev: u64,
    /// The last position that the first sync of this device found. Up to it, own and read messages are no news.
    pub history_seq: u64,
    /// The position that `tally` and the sums refer to.
    pub head_seq: u64,
    /// The same for the log of changes.
    pub head_rev: u64,
    /// The values from which the unread count is computed.
    pub tally: Tally,
    /// The time of the newest message.
    pub last_ts: i64,
    /// The server has described this conversation.
    pub known: bool,
    /// The first message of the user's stay; 0: not known.
    pub from_seq: u64,
    /// The first change of the user's stay; 0: not known.
    pub from_rev: u64,
    /// The positions of the messages that this device holds.
    pub held: Ranges,
    /// The newest position that a push announced while entries before it are missing.
    pub target_seq: u64,
    /// The same for the log of changes.
    pub target_rev: u64,
    /// Pushes of this conversation were dropped on the way; it is unknown which.
    pub dirty: bool,
    /// Changes of messages up to here were passed over, because this device did not have the messages. A push of such a message may be
    /// older than they are; a page is not.
    pub unseen_seq: u64,
    /// The ticket of the pull in flight.
    pub pulling: Option<u64>,
    /// Its rank in the queue of pulls.
    pub rank: Option<i64>,
    /// A sync that describes it was requested.
    pub asked: bool,
    /// Positions were skipped, so the tally is invalid until a head arrives that is not older than the known positions.
    pub uncounted: bool,
    /// Only this device knows the conversation so far.
    pub is_local: bool,
    /// The head that told of the user's stay was older than changes that were applied, so it did not say what the group is now. Another
    /// one is requested.
    pub lacks_group: bool,
    /// A push of this connection has followed what was known: those after it follow too, or the server says that they do not.
    pub is_live: bool,
    /// The head is ahead of the pushes that have brought everything so far. They are on their way.
    pub awaits_pushes: bool,
}

impl State {
    /// Returns whether the server has positions that were not raised here, and that no push will bring.
    pub(super) fn lacks_positions(&self) -> bool {
        let head_seq = if self.awaits_pushes { 0 } else { self.head_seq };
        self.dirty || self.seq < self.target_seq.max(head_seq) || self.rev < self.target_rev.max(self.head_rev)
    }

    /// Takes messages that this device has deleted out of the count of unread ones.
    pub fn uncount(&mut self, uncounted: &Uncounted) {
        uncounted.seqs.iter().for_each(|seq| self.tally.delete(*seq));
        if uncounted.through.is_some_and(|(seq, ts)| self.head_seq <= seq && self.last_ts <= ts) {
            self.tally.clear(self.head_seq);
        }
    }

    /// Handles messages that arrived in their state at `rev`. Later changes were applied already, possibly while this
    /// device did not hold the messages, so they must be requested again.
    pub(super) fn as_of(&mut self, rev: u64) {
        self.target_rev = self.target_rev.max(self.rev);
        self.rev = self.rev.min(rev);
    }

    /// Returns the positions above which messages of others and own messages are new to the app, of those above
    /// `raise_after`.
    pub(super) fn news_after(&self, raise_after: u64) -> (u64, u64) {
        (raise_after.max(self.history_seq.min(self.tally.read_seq)), raise_after.max(self.history_seq))
    }

    /// Returns whether the conversation counts in the sums.
    pub(super) fn is_counted(&self) -> bool {
        self.head_seq + self.head_rev > 0
    }
}

/// Messages of a conversation that only this device has deleted, and that do not count as unread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    /// The positions of messages of others.
    pub seqs: Vec<u64>,
    /// All messages are deleted if the last one is neither after this position nor after this time.
    pub through: Option<(u64, i64)>,
}

/// What a device knows apart from its conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The epoch of the server that all positions belong to; empty before the first sync.
    pub epoch: Bytes,
    /// The position up to which the feed is applied.
    pub pos: u64,
    /// The newest change of a head in the last complete sync.
    pub touched: i64,
    /// A sync has completed once.
    pub is_settled: bool,
    /// Syncs ask for profiles that changed after this time; 0: heads and feed bring all of them.
    pub profiles_at: i64,
}

/// The origin of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A request of this device: its app has the result and needs no event.
    Own,
    /// Another user or another device.
    Other,
    /// The first sync of this device: what existed before raises no events.
    First,
}

/// A change of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stores messages, ascending. Those above `raise_after` are new to the app.
    Messages {
        /// The conversation.
        name: Name,
        /// The messages.
        entries: Vec<MessageEntry>,
        /// The position above which messages are new; `u64::MAX`: none is new.
        raise_after: u64,
        /// The position above which the user's own messages are new to the app, too.
        own_after: u64,
    },
    /// Applies changes, ascending, to the messages that are held.
    Changes {
        /// The conversation.
        name: Name,
        /// The changes.
        entries: Vec<ChangeEntry>,
        /// The origin of the changes.
        origin: Origin,
    },
    /// The server described a conversation.
    Head(Box<ConversationHead>),
    /// An entry of the feed about the user rather than a conversation, in its current state.
    Own {
        /// The entry.
        detail: Box<feed_entry::Detail>,
        /// The origin of the entry.
        origin: Origin,
    },
    /// The user's own profile, as a login returned it.
    LoggedIn {
        /// The current profile.
        info: Box<UserFullInfo>,
        /// The login itself set the name, so the name is not news.
        is_named: bool,
    },
    /// Current profiles of other users.
    Profiles(Vec<UserFullInfo>),
    /// Current statuses of users.
    Statuses(Vec<UserStatus>),
    /// The stored rows of a conversation are no longer valid and are deleted; rows that only this device has stay.
    Drop(Name),
    /// The same for all conversations: positions start anew.
    DropAll {
        /// The epoch of the server from now on.
        epoch: Bytes,
    },
    /// Changes of a conversation were skipped: what follows from all of them is not known any more.
    Skipped(Name),
    /// Empty conversations that the server no longer knows leave the list.
    Sweep,
}

impl Change {
    /// Returns the conversation if messages are stored.
    pub fn name_of_messages(&self) -> Option<&Name> {
        if let Self::Messages { name, .. } = self { Some(name) } else { None }
    }
}

/// The state of a conversation that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The conversation.
    pub name: Name,
    /// Its positions and tally, without `held`.
    pub state: State,
    /// The intervals that grew, in their current extent: each replaces what it covers.
    pub held: Vec<(u64, u64)>,
}

/// The changes of one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The changes, in this order.
    pub changes: Vec<Change>,
    /// The states after the changes.
    pub states: Vec<Saved>,
    /// The position after the changes, if it moved.
    pub position: Option<Position>,
}

impl Batch {
    /// Returns whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.states.is_empty() && self.position.is_none()
    }
}

/// A request to send. The ticket identifies its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Asks for entries of a conversation.
    Pull {
        /// Identifies the answer.
        ticket: u64,
        /// The request.
        request: PullRequest,
    },
    /// Asks for what changed.
    Sync {
        /// Identifies the answer.
        ticket: u64,
        /// The request.
        request: SyncRequest,
    },
}

/// The progress of the sync of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The sync started.
    Started,
    /// The list of conversations is complete.
    Finished,
    /// The sync failed and will be retried.
    Failed,
}

/// The output of the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Output {
    /// To store in one transaction, before anything else.
    pub batch: Batch,
    /// To send after that.
    pub requests: Vec<Request>,
    /// To report in this order: `Started` before the events of the batch, the others after them.
    pub progress: Vec<Progress>,
}
