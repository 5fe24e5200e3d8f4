//! The server of the model: the logs in memory, read through the real server's rules.

use std::collections::{BTreeMap, BTreeSet};

use zim_protocol::{
    AllCleared, Base, ChangeEntry, ConversationCleared, ConversationHead, ConversationReceiptEntry, ConversationRef,
    FeedEntry, GroupFullInfo, MessageDeletion, MessageEntry, MessageFlag, MessageType, Page, PullRequest, ReadMark,
    ReceiptEntry, Sums, SyncRequest, SyncResult, UserFullInfo, change_entry, feed_entry::Detail,
};
use zim_server::journal::rules::{self, Extent, Stay, end_of_stay, read_through, unread, visible};

pub(crate) type User = usize;
pub(crate) const NAMES: [&str; 2] = ["ann", "bob"];
/// Entries of a page: few, so that there are many pages.
const PAGE: usize = 5;

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub n: i64,
    pub sender: User,
    pub is_counted: bool,
    pub key: u64,
    /// The users who may see it, recorded when it was sent, independent of the rules. Answers are checked against this.
    pub entitled: BTreeSet<User>,
    pub is_targeted: bool,
    /// How often it was edited, pinned, unpinned, reacted or replied to: whatever changes it, the entry has all of it.
    pub version: u64,
    /// The change that revoked it.
    pub revoked: Option<i64>,
    /// The users who deleted it for themselves.
    pub hidden: BTreeSet<User>,
    /// The users who sent a receipt.
    pub readers: BTreeSet<User>,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub seqs: Vec<Stay>,
    pub revs: Vec<Stay>,
    pub read: i64,
    /// The position up to which the user deleted all messages for themselves.
    pub cleared: i64,
    pub base: rules::Base,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Conversation {
    /// The users of a peer conversation; empty for a group.
    pub peers: Vec<User>,
    pub id: String,
    pub log: Vec<Message>,
    /// The message that each change is about, if it is about one.
    pub changes: Vec<Option<i64>>,
    pub rev: i64,
    pub floor: i64,
    pub end: Option<(i64, i64)>,
    pub members: BTreeMap<User, Member>,
    /// The positions up to which the users of a peer conversation sent a receipt for everything.
    pub receipts: BTreeMap<User, i64>,
    pub touched: i64,
}

impl Conversation {
    pub(crate) fn head(&self) -> i64 {
        self.log.len() as i64
    }

    pub(crate) fn at(&self, seq: i64) -> &Message {
        &self.log[seq as usize - 1]
    }

    pub(crate) fn n(&self, seq: i64) -> i64 {
        if seq == 0 { 0 } else { self.at(seq).n }
    }

    pub(crate) fn sent(&self, user: User, through: i64) -> i64 {
        (1..=through).filter(|seq| self.at(*seq).sender == user && self.at(*seq).is_counted).count() as i64
    }

    pub(crate) fn is_member(&self, user: User) -> bool {
        self.end.is_none() && self.members.get(&user).is_some_and(|member| member.seqs.last().unwrap().to.is_none())
    }

    pub(crate) fn name(&self, viewer: User) -> ConversationRef {
        match self.peers.iter().find(|user| **user != viewer) {
            Some(peer) => ConversationRef { r#type: 0, id: NAMES[*peer].to_owned() },
            None => ConversationRef { r#type: 2, id: self.id.clone() },
        }
    }

    pub(crate) fn extent(&self) -> Extent {
        Extent { floor: self.floor, head: self.head(), end: self.end.map(|end| end.0) }
    }

    pub(crate) fn end_seq(&self, user: User) -> i64 {
        end_of_stay(*self.members[&user].seqs.last().unwrap(), self.extent())
    }

    pub(crate) fn end_rev(&self, user: User) -> i64 {
        let extent = Extent { floor: 0, head: self.rev, end: self.end.map(|end| end.1) };
        end_of_stay(*self.members[&user].revs.last().unwrap(), extent)
    }

    fn windows(&self, user: User) -> Vec<(i64, i64)> {
        visible(&self.members[&user].seqs, self.extent(), self.members[&user].cleared)
    }

    /// The positions up to which the other user of a peer conversation and this one sent a receipt for everything.
    pub(crate) fn receipts_of(&self, user: User) -> (u64, u64) {
        let through = |of: User| self.receipts.get(&of).map_or(0, |seq| *seq as u64);
        let peer = self.peers.iter().find(|peer| **peer != user);
        (peer.map_or(0, |peer| through(*peer)), through(user))
    }

    /// Whether a message is shown to a user, as the rules say.
    pub(crate) fn is_visible(&self, viewer: User, seq: i64) -> bool {
        if !self.windows(viewer).iter().any(|(after, through)| seq > *after && seq <= *through) {
            return false;
        }
        let message = self.at(seq);
        (!message.is_targeted || message.entitled.contains(&viewer)) && !message.hidden.contains(&viewer)
    }

    /// Whether a user knows that a message was revoked: not if they had left before.
    pub(crate) fn is_revoked(&self, viewer: User, seq: i64) -> bool {
        self.at(seq).revoked.is_some_and(|rev| rev <= self.end_rev(viewer))
    }

    pub(crate) fn change_entry(&self, viewer: User, rev: i64) -> ChangeEntry {
        let seq = self.changes[rev as usize - 1].filter(|seq| self.is_visible(viewer, *seq));
        let detail = seq.map(|seq| change_entry::Detail::Message(self.entry(viewer, seq)));
        ChangeEntry { rev: rev as u64, detail, ..ChangeEntry::default() }
    }

    pub(crate) fn entry(&self, viewer: User, seq: i64) -> MessageEntry {
        let message = self.at(seq);
        // Independent of the rules, a user never gets what they may not see.
        assert!(message.entitled.contains(&viewer), "{} got {seq} of {}", NAMES[viewer], self.id);
        assert!(seq > self.floor, "{} got {seq}, which is no longer kept", NAMES[viewer]);
        let is_hidden = seq <= self.members[&viewer].cleared || message.hidden.contains(&viewer);
        assert!(!is_hidden, "{} got {seq}, which they deleted", NAMES[viewer]);
        let kind = if self.is_revoked(viewer, seq) { MessageType::Revoke } else { MessageType::Text };
        MessageEntry {
            seq: seq as u64,
            n: message.n as u64,
            message_id: message.key as i64,
            sender: NAMES[message.sender].to_owned(),
            ts: seq,
            kind: kind as i32,
            flags: if message.is_counted { MessageFlag::Counted as u32 } else { 0 },
            client_key: message.key.to_be_bytes().to_vec().into(),
            content: message.version.to_be_bytes().to_vec().into(),
            state: None,
        }
    }

    /// The entries of `after < seq <= through` that `viewer` may see, as pushes and pulls carry them.
    pub(crate) fn entries(&self, viewer: User, after: i64, through: i64) -> Vec<MessageEntry> {
        let visible = (after + 1..=through).filter(|seq| self.is_visible(viewer, *seq));
        visible.map(|seq| self.entry(viewer, seq)).collect()
    }

    pub(crate) fn unread(&self, user: User) -> i64 {
        let (member, end) = (&self.members[&user], self.end_seq(user));
        unread(self.n(end), member.base, self.sent(user, end), self.deducted(user).len() as i64)
    }

    /// Whether a message counts as unread for a user who has not read it.
    fn counts(&self, user: User, seq: i64) -> bool {
        self.at(seq).sender != user && self.at(seq).is_counted
    }

    /// The positions of messages that would be unread if they had not been revoked or deleted.
    fn deducted(&self, user: User) -> Vec<u64> {
        let is_gone = |seq: &i64| self.is_revoked(user, *seq) || self.at(*seq).hidden.contains(&user);
        let after = self.members[&user].base.seq;
        let gone = (after + 1..=self.end_seq(user)).filter(|seq| self.counts(user, *seq)).filter(is_gone);
        gone.map(|seq| seq as u64).collect()
    }

    /// The unread count by counting: messages of others after the read mark of `user`.
    pub(crate) fn unread_counted(&self, user: User) -> i64 {
        let member = &self.members[&user];
        let from = member.seqs.last().unwrap().from;
        let after = member.read.max(from - 1).max(member.cleared);
        let is_left = |seq: &i64| !self.is_revoked(user, *seq) && !self.at(*seq).hidden.contains(&user);
        (after + 1..=self.end_seq(user)).filter(|seq| self.counts(user, *seq)).filter(is_left).count() as i64
    }

    fn head_of(&self, user: User) -> ConversationHead {
        let (member, end) = (&self.members[&user], self.end_seq(user));
        ConversationHead {
            conversation: Some(self.name(user)),
            end_seq: end as u64,
            end_rev: self.end_rev(user) as u64,
            n: self.n(end) as u64,
            floor_seq: self.floor as u64,
            floor_rev: 0,
            from_seq: member.seqs.last().unwrap().from as u64,
            from_rev: member.revs.last().unwrap().from as u64,
            has_left: self.end.is_some() || member.seqs.last().unwrap().to.is_some(),
            group: self.peers.is_empty().then(GroupFullInfo::default),
            read_seq: member.read as u64,
            base: Some(wire(member.base)),
            sent: self.sent(user, end) as u64,
            deducted: self.deducted(user).len() as u64,
            unread: self.unread(user) as u64,
            last_ts: end,
            last_message: self.entries(user, end - 1, end).pop(),
            revoked: self.deducted(user),
            peer: (!self.peers.is_empty()).then(UserFullInfo::default),
            ..ConversationHead::default()
        }
    }
}

fn wire(base: rules::Base) -> Base {
    Base { seq: base.seq as u64, n: base.n as u64, sent: base.sent as u64 }
}

/// The kind of a feed entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Read,
    Membership,
    /// All messages were deleted.
    Cleared,
    /// A message was deleted.
    Deletion(i64),
    /// A message was read by its receiver: for both.
    Receipt(i64),
    /// Everything in a peer conversation was read by one of its users: for both.
    AllRead,
    /// All messages of all conversations were deleted; the entries about each come before.
    AllCleared,
}

/// The head of a feed, and its positions by kind and conversation; an entry replaces the one before it.
type Feed = (u64, BTreeMap<(Kind, usize), u64>);

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub epoch: u8,
    pub now: i64,
    pub conversations: Vec<Conversation>,
    /// The feed of each user.
    pub feeds: Vec<Feed>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self { epoch: 1, now: 1_000_000, conversations: Vec::new(), feeds: vec![Feed::default(); NAMES.len()] }
    }

    pub(crate) fn mine(&self, user: User) -> impl Iterator<Item = &Conversation> {
        self.conversations
            .iter()
            .filter(move |one| one.members.contains_key(&user) && one.end_seq(user) + one.end_rev(user) > 0)
    }

    pub(crate) fn sums(&self, user: User) -> Sums {
        self.mine(user).fold(Sums::default(), |sums, one| Sums {
            count: sums.count + 1,
            seq: sums.seq + one.end_seq(user) as u64,
            rev: sums.rev + one.end_rev(user) as u64,
        })
    }

    pub(crate) fn read(&mut self, user: User, index: usize, seen: i64) -> Option<FeedEntry> {
        let one = &mut self.conversations[index];
        let member = one.members.get(&user)?;
        let through = read_through(member.read, seen, one.end_seq(user))?;
        let base = rules::Base { seq: through, n: one.n(through), sent: one.sent(user, through) };
        let member = one.members.get_mut(&user)?;
        member.read = through;
        if base.seq > member.base.seq {
            member.base = base;
        }
        Some(self.append(user, Kind::Read, index))
    }

    /// Appends to a feed; returns the entry.
    pub(crate) fn append(&mut self, user: User, kind: Kind, index: usize) -> FeedEntry {
        let (pos, entries) = &mut self.feeds[user];
        *pos += 1;
        entries.insert((kind, index), *pos);
        let pos = *pos;
        self.feed_entry(user, kind, index, pos)
    }

    /// An entry with the present state, whenever it was written.
    fn feed_entry(&self, user: User, kind: Kind, index: usize, pos: u64) -> FeedEntry {
        let one = &self.conversations[index];
        let member = &one.members[&user];
        let detail = match kind {
            Kind::Membership => Detail::Conversation(one.head_of(user)),
            Kind::Read => Detail::Read(ReadMark {
                conversation: Some(one.name(user)),
                read_seq: member.read as u64,
                base: Some(wire(member.base)),
            }),
            Kind::Cleared => Detail::Cleared(ConversationCleared {
                conversation: Some(one.name(user)),
                cleared_seq: member.cleared as u64,
                read_seq: member.read as u64,
                base: Some(wire(member.base)),
            }),
            Kind::Deletion(seq) => Detail::MessageDeletion(MessageDeletion {
                conversation: Some(one.name(user)),
                seq: seq as u64,
                is_counted: one.counts(user, seq),
            }),
            Kind::Receipt(seq) => Detail::Receipt(ReceiptEntry {
                conversation: Some(one.name(user)),
                seq: seq as u64,
                read_member_count: one.at(seq).readers.len() as i64,
                is_self_operated: one.at(seq).sender != user,
                ..ReceiptEntry::default()
            }),
            Kind::AllRead => {
                let (peer_seq, own_seq) = one.receipts_of(user);
                Detail::ConversationReceipt(ConversationReceiptEntry {
                    conversation: Some(one.name(user)),
                    peer_seq,
                    own_seq,
                    ..ConversationReceiptEntry::default()
                })
            }
            Kind::AllCleared => Detail::AllCleared(AllCleared::default()),
        };
        FeedEntry { pos, detail: Some(detail) }
    }

    /// Whether a user was ever told that all messages of all conversations were deleted.
    pub(crate) fn has_all_cleared(&self, user: User) -> bool {
        self.feeds[user].1.keys().any(|(kind, _)| *kind == Kind::AllCleared)
    }

    pub(crate) fn feed(&self, user: User, after: u64) -> Vec<FeedEntry> {
        let mut entries: Vec<FeedEntry> = self.feeds[user]
            .1
            .iter()
            .filter(|(_, pos)| **pos > after)
            .map(|((kind, index), pos)| self.feed_entry(user, *kind, *index, *pos))
            .collect();
        entries.sort_by_key(|entry| entry.pos);
        entries
    }

    pub(crate) fn sync(&self, user: User, request: &SyncRequest) -> SyncResult {
        let (sums, claimed) = (self.sums(user), request.sums.unwrap_or_default());
        let head = self.feeds[user].0;
        let reset = !request.epoch.is_empty()
            && (request.epoch[..] != [self.epoch; 16]
                || request.pos > head
                || claimed.seq > sums.seq
                || claimed.rev > sums.rev);
        let (pos, since) = if reset { (0, 0) } else { (request.pos, request.since) };
        let all: Vec<(usize, &Conversation)> = self.mine(user).enumerate().collect();
        let mut heads = Vec::new();
        let mut next_cursor = 0;
        if reset || claimed != sums || request.cursor > 0 || request.since == 0 {
            for (index, one) in all.into_iter().filter(|(index, _)| *index as u64 >= request.cursor) {
                if one.touched < since {
                    continue;
                }
                if heads.len() == 2 {
                    next_cursor = index as u64;
                    break;
                }
                heads.push(one.head_of(user));
            }
        }
        SyncResult {
            reset,
            epoch: vec![self.epoch; 16].into(),
            feed: self.feed(user, pos),
            pos: head,
            heads,
            sums: Some(sums),
            next_cursor,
            touched: self.mine(user).map(|one| one.touched).max().unwrap_or(0),
            feed_more: false,
            ..SyncResult::default()
        }
    }

    pub(crate) fn pull(&self, user: User, request: &PullRequest) -> Option<Page> {
        let name = request.conversation.as_ref()?;
        let one = self.mine(user).find(|one| one.name(user) == *name)?;
        let (end, end_rev) = (one.end_seq(user), one.end_rev(user));
        let mut after = request.after_seq as i64;
        let reset = after < one.floor;
        // Not beyond what the user may know of, even if less is kept.
        after = after.max(one.floor).min(end);
        let mut messages = one.entries(user, after, end);
        let mut through = end;
        if messages.len() > PAGE {
            messages.truncate(PAGE);
            through = messages[PAGE - 1].seq as i64;
        }
        let changes = (request.after_rev as i64 + 1..=end_rev).map(|rev| one.change_entry(user, rev)).collect();
        Some(Page {
            messages,
            changes,
            through_seq: through as u64,
            through_rev: end_rev as u64,
            end_seq: end as u64,
            end_rev: end_rev as u64,
            reset,
            without_roster: false,
            entered_seq: 0,
            history_from: 0,
        })
    }
}
