//! The server of the model: the logs in memory, read through the real server's rules.

use std::collections::{BTreeMap, BTreeSet};

use zim_protocol::{
    Base, ChangeEntry, ConversationHead, ConversationRef, FeedEntry, GroupFullInfo, MessageEntry, MessageFlag, Page,
    PullRequest, ReadMark, Sums, SyncRequest, SyncResult, UserFullInfo, feed_entry::Detail,
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
    pub rev: i64,
    pub floor: i64,
    pub end: Option<(i64, i64)>,
    pub members: BTreeMap<User, Member>,
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

    pub(crate) fn entry(&self, viewer: User, seq: i64) -> MessageEntry {
        let message = self.at(seq);
        // Independent of the rules, a user never gets what they may not see.
        assert!(message.entitled.contains(&viewer), "{} got {seq} of {}", NAMES[viewer], self.id);
        assert!(seq > self.floor, "{} got {seq}, which is no longer kept", NAMES[viewer]);
        assert!(seq > self.members[&viewer].cleared, "{} got {seq}, which they deleted", NAMES[viewer]);
        MessageEntry {
            seq: seq as u64,
            n: message.n as u64,
            message_id: message.key as i64,
            sender: NAMES[message.sender].to_owned(),
            ts: seq,
            kind: 1,
            flags: if message.is_counted { MessageFlag::Counted as u32 } else { 0 },
            client_key: message.key.to_be_bytes().to_vec().into(),
            content: vec![1].into(),
            state: None,
        }
    }

    /// The entries of `after < seq <= through` that `viewer` may see, as pushes and pulls carry them.
    pub(crate) fn entries(&self, viewer: User, after: i64, through: i64) -> Vec<MessageEntry> {
        let windows = self.windows(viewer);
        (after + 1..=through)
            .filter(|seq| windows.iter().any(|(after, through)| seq > after && seq <= through))
            .filter(|seq| !self.at(*seq).is_targeted || self.at(*seq).entitled.contains(&viewer))
            .map(|seq| self.entry(viewer, seq))
            .collect()
    }

    pub(crate) fn unread(&self, user: User) -> i64 {
        let (member, end) = (&self.members[&user], self.end_seq(user));
        unread(self.n(end), member.base, self.sent(user, end), 0)
    }

    /// The unread count by counting: messages of others after the read mark of `user`.
    pub(crate) fn unread_counted(&self, user: User) -> i64 {
        let member = &self.members[&user];
        let from = member.seqs.last().unwrap().from;
        let after = member.read.max(from - 1).max(member.cleared);
        (after + 1..=self.end_seq(user)).filter(|seq| self.at(*seq).sender != user && self.at(*seq).is_counted).count()
            as i64
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
            deducted: 0,
            unread: self.unread(user) as u64,
            last_ts: end,
            last_message: self.entries(user, end - 1, end).pop(),
            revoked: Vec::new(),
            peer: (!self.peers.is_empty()).then(UserFullInfo::default),
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
        };
        FeedEntry { pos, detail: Some(detail) }
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
        let changes = (request.after_rev as i64 + 1..=end_rev)
            .map(|rev| ChangeEntry { rev: rev as u64, ..ChangeEntry::default() })
            .collect();
        Some(Page {
            messages,
            changes,
            through_seq: through as u64,
            through_rev: end_rev as u64,
            end_seq: end as u64,
            end_rev: end_rev as u64,
            reset,
            without_roster: false,
        })
    }
}
