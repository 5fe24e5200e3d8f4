use prost::Message as _;
use zim_protocol::{
    Base, ChangeEntry, ConversationHead, ConversationRef, ConversationType, FeedEntry, FillResult, GroupFullInfo,
    GroupInfo, GroupMemberEvent, GroupMemberInfo, GroupMemberState, LogKind, Message, MessageEntry, MessageFlag,
    MessageType, Page, PullRequest, Push, ReadMark, RosterChange, Sums, SyncRequest, SyncResult, UserFullInfo,
    UserInfo, UserStatus, change_entry, feed_entry::Detail,
};

/// The user whose device is traced.
pub(crate) const VIEWER: &str = "ann";
/// Entries of an answer: few, so that there are many answers.
const PAGE: u64 = 4;
/// Heads of an answer.
const HEADS: usize = 2;

pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

/// A profile.
pub(crate) fn profile(user_id: &str, user_name: &str) -> UserFullInfo {
    let base_info = UserInfo { user_id: user_id.into(), user_name: user_name.into(), ..UserInfo::default() };
    UserFullInfo { base_info: Some(base_info), ..UserFullInfo::default() }
}

/// A conversation of the viewer.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    pub name: ConversationRef,
    pub log: Vec<MessageEntry>,
    changes: Vec<ChangeEntry>,
    /// Nothing is kept up to here.
    pub floor: u64,
    /// The viewer's stay begins here.
    from: (u64, u64),
    /// It ended here.
    end: Option<(u64, u64)>,
    read_seq: u64,
    base: Base,
    touched: i64,
}

impl Talk {
    pub(crate) fn new(kind: ConversationType, id: &str) -> Self {
        Self {
            name: ConversationRef { r#type: kind as i32, id: id.to_owned() },
            log: Vec::new(),
            changes: Vec::new(),
            floor: 0,
            from: (1, 1),
            end: None,
            read_seq: 0,
            base: Base::default(),
            touched: 0,
        }
    }

    pub(crate) fn is_group(&self) -> bool {
        self.name.r#type == ConversationType::Group as i32
    }

    pub(crate) fn has_left(&self) -> bool {
        self.end.is_some()
    }

    /// Where the logs end for the viewer.
    pub(crate) fn ends(&self) -> (u64, u64) {
        self.end.unwrap_or((self.log.len() as u64, self.changes.len() as u64))
    }

    fn n(&self, seq: u64) -> u64 {
        seq.checked_sub(1).map_or(0, |at| self.log[index(at)].n)
    }

    fn counted(&self, from: u64, to: u64) -> impl Iterator<Item = &MessageEntry> {
        let entries = self.log.iter().filter(move |entry| (from..=to).contains(&entry.seq));
        entries.filter(|entry| entry.has(MessageFlag::Counted))
    }

    fn sent(&self, seq: u64) -> u64 {
        self.counted(self.from.0, seq).filter(|entry| entry.sender == VIEWER).count() as u64
    }

    /// The entries in `from..=to` that the viewer may see.
    pub(crate) fn messages(&self, from: u64, to: u64) -> Vec<MessageEntry> {
        let from = from.max(self.floor + 1).max(self.from.0);
        self.log.iter().filter(|entry| (from..=to.min(self.ends().0)).contains(&entry.seq)).cloned().collect()
    }

    pub(crate) fn changes(&self, from: u64, to: u64) -> Vec<ChangeEntry> {
        self.changes.iter().filter(|entry| (from..=to.min(self.ends().1)).contains(&entry.rev)).cloned().collect()
    }

    fn head(&self) -> ConversationHead {
        let (end_seq, end_rev) = self.ends();
        let (n, sent, base) = (self.n(end_seq), self.sent(end_seq), self.base);
        let revoked: Vec<u64> = self
            .counted(base.seq + 1, end_seq)
            .filter(|entry| entry.sender != VIEWER && entry.kind == MessageType::Revoke as i32)
            .map(|entry| entry.seq)
            .collect();
        let deducted = revoked.len() as u64;
        let group_info = GroupInfo { group_id: self.name.id.clone(), ..GroupInfo::default() };
        ConversationHead {
            conversation: Some(self.name.clone()),
            end_seq,
            end_rev,
            n,
            floor_seq: self.floor,
            from_seq: self.from.0,
            from_rev: self.from.1,
            read_seq: self.read_seq,
            base: Some(base),
            sent,
            deducted,
            unread: (n - base.n).saturating_sub(sent.saturating_sub(base.sent)).saturating_sub(deducted),
            last_ts: end_seq.checked_sub(1).map_or(0, |at| self.log[index(at)].ts),
            last_message: self.messages(end_seq, end_seq).pop(),
            peer: (!self.is_group()).then(|| profile(&self.name.id, "")),
            group: self.is_group().then(|| GroupFullInfo { base_info: Some(group_info), ..GroupFullInfo::default() }),
            has_left: self.has_left(),
            revoked,
            ..ConversationHead::default()
        }
    }

    fn mark(&self) -> ReadMark {
        ReadMark { conversation: Some(self.name.clone()), read_seq: self.read_seq, base: Some(self.base) }
    }

    fn change(&mut self, at: i64, actor: &str, detail: change_entry::Detail) -> Push {
        let rev = self.changes.len() as u64 + 1;
        self.changes.push(ChangeEntry { rev, at, actor: actor.to_owned(), detail: Some(detail), change: None });
        self.touched = at;
        let changes = vec![self.changes[index(rev - 1)].clone()];
        let (log, conversation) = (LogKind::Changes as i32, Some(self.name.clone()));
        Push { log, conversation, from: rev, to: rev, changes, ..Push::default() }
    }
}

/// An entry of the feed. Those about a conversation have its present state, whenever they are read.
#[derive(Clone, Debug)]
enum Fed {
    Head(usize),
    Read(usize),
    Own(Box<Detail>),
}

/// The logs of the viewer.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub epoch: u8,
    pub now: i64,
    pub talks: Vec<Talk>,
    feed: Vec<Fed>,
    /// Profiles that changed, and when.
    pub profiles: Vec<(i64, UserFullInfo)>,
    /// The same for statuses.
    pub statuses: Vec<(i64, UserStatus)>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            epoch: 1,
            now: 1_000_000,
            talks: Vec::new(),
            feed: Vec::new(),
            profiles: Vec::new(),
            statuses: Vec::new(),
        }
    }

    pub(crate) fn epoch(&self) -> bytes::Bytes {
        vec![self.epoch; 16].into()
    }

    /// Stores a message; returns its push.
    pub(crate) fn send(&mut self, at: usize, sender: &str, is_counted: bool) -> Push {
        let now = self.now;
        let talk = &mut self.talks[at];
        let seq = talk.log.len() as u64 + 1;
        let n = talk.n(seq - 1) + u64::from(is_counted);
        talk.log.push(MessageEntry {
            seq,
            n,
            message_id: i64::try_from(at as u64 * 10_000 + seq).unwrap(),
            sender: sender.to_owned(),
            ts: now,
            kind: MessageType::Text as i32,
            flags: if is_counted { MessageFlag::Counted as u32 } else { 0 },
            content: Message::text("x").encode_to_vec().into(),
            ..MessageEntry::default()
        });
        talk.touched = now;
        self.messages_push(at, seq, seq)
    }

    /// The push of these messages.
    pub(crate) fn messages_push(&self, at: usize, from: u64, to: u64) -> Push {
        let talk = &self.talks[at];
        let (log, conversation, messages) =
            (LogKind::Messages as i32, Some(talk.name.clone()), talk.messages(from, to));
        Push { log, conversation, from, to, messages, ..Push::default() }
    }

    pub(crate) fn revoke(&mut self, at: usize, seq: u64) -> Push {
        let talk = &mut self.talks[at];
        let entry = &mut talk.log[index(seq - 1)];
        entry.kind = MessageType::Revoke as i32;
        entry.content = Message::default().encode_to_vec().into();
        let (actor, detail) = (entry.sender.clone(), change_entry::Detail::Message(entry.clone()));
        talk.change(self.now, &actor, detail)
    }

    /// Another user enters or leaves.
    pub(crate) fn roster(&mut self, at: usize, user: &str, is_enter: bool) -> Push {
        let (state, event) = if is_enter {
            (GroupMemberState::Enter, GroupMemberEvent::Joined)
        } else {
            (GroupMemberState::Quit, GroupMemberEvent::Left)
        };
        let user_list = vec![GroupMemberInfo { user_id: user.to_owned(), ..GroupMemberInfo::default() }];
        let change =
            RosterChange { state: state as i32, member_event: event as i32, user_list, ..RosterChange::default() };
        self.talks[at].change(self.now, user, change_entry::Detail::Roster(change))
    }

    /// The viewer enters a group again, or leaves it.
    pub(crate) fn stay(&mut self, at: usize) -> Vec<Push> {
        if self.talks[at].has_left() {
            let talk = &mut self.talks[at];
            let seq = talk.log.len() as u64;
            talk.end = None;
            talk.from = (seq + 1, talk.changes.len() as u64 + 1);
            talk.base = Base { seq, n: talk.n(seq), sent: 0 };
            let push = self.roster(at, VIEWER, true);
            return vec![push, self.feed(Fed::Head(at))];
        }
        let push = self.roster(at, VIEWER, false);
        let talk = &mut self.talks[at];
        talk.end = Some((talk.log.len() as u64, talk.changes.len() as u64));
        vec![push]
    }

    /// The viewer enters a group in which others have written.
    pub(crate) fn enter(&mut self, id: &str, others: u64) -> Vec<Push> {
        let at = self.talks.len();
        self.talks.push(Talk::new(ConversationType::Group, id));
        for _ in 0..others {
            self.send(at, "bob", true);
        }
        let talk = &mut self.talks[at];
        talk.end = Some((others, 0));
        self.stay(at)
    }

    /// The viewer reads; returns the push if that is news.
    pub(crate) fn read(&mut self, at: usize, seq: u64) -> Option<Push> {
        let talk = &mut self.talks[at];
        if seq <= talk.read_seq {
            return None;
        }
        talk.read_seq = seq;
        if seq > talk.base.seq {
            talk.base = Base { seq, n: talk.n(seq), sent: talk.sent(seq) };
        }
        Some(self.feed(Fed::Read(at)))
    }

    /// The first entry of a new conversation is in the feed, too.
    pub(crate) fn introduce(&mut self, at: usize) -> Push {
        self.feed(Fed::Head(at))
    }

    /// Something that concerns the viewer alone.
    pub(crate) fn own(&mut self, detail: Detail) -> Push {
        self.feed(Fed::Own(Box::new(detail)))
    }

    fn feed(&mut self, entry: Fed) -> Push {
        self.feed.push(entry);
        let pos = self.feed.len() as u64;
        let feed = vec![self.fed(pos)];
        Push { log: LogKind::Feed as i32, from: pos, to: pos, feed, ..Push::default() }
    }

    fn fed(&self, pos: u64) -> FeedEntry {
        let detail = match &self.feed[index(pos - 1)] {
            Fed::Head(at) => Detail::Conversation(self.talks[*at].head()),
            Fed::Read(at) => Detail::Read(self.talks[*at].mark()),
            Fed::Own(detail) => (**detail).clone(),
        };
        FeedEntry { pos, detail: Some(detail) }
    }

    fn sums(&self) -> Sums {
        let ends = self.talks.iter().map(Talk::ends).filter(|ends| ends.0 + ends.1 > 0);
        ends.fold(Sums::default(), |sums, ends| Sums {
            count: sums.count + 1,
            seq: sums.seq + ends.0,
            rev: sums.rev + ends.1,
        })
    }

    pub(crate) fn sync(&self, request: &SyncRequest) -> SyncResult {
        let (sums, end) = (self.sums(), self.feed.len() as u64);
        let is_ahead = request.sums.is_some_and(|theirs| theirs.seq > sums.seq || theirs.rev > sums.rev);
        let is_other = !request.epoch.is_empty() && request.epoch != self.epoch();
        let reset = is_other || request.pos > end || is_ahead;
        let after = if reset { 0 } else { request.pos };
        let pos = end.min(after + PAGE);
        let mut talks: Vec<(usize, &Talk)> = self.talks.iter().enumerate().collect();
        talks.retain(|(_, talk)| talk.ends().0 + talk.ends().1 > 0 && (reset || talk.touched >= request.since));
        let is_equal = request.sums == Some(sums) && request.since > 0 && request.cursor == 0 && !reset;
        if is_equal {
            talks.clear();
        }
        talks.retain(|(at, _)| *at as u64 >= request.cursor);
        let next_cursor = talks.get(HEADS).map_or(0, |(at, _)| *at as u64);
        let profiles_since = if reset { 0 } else { request.profiles_since };
        let is_due = profiles_since > 0 && request.cursor == 0;
        let profiles = self.profiles.iter().filter(|(at, _)| is_due && *at >= profiles_since);
        let statuses = self.statuses.iter().filter(|(at, _)| is_due && *at >= profiles_since);
        SyncResult {
            reset,
            epoch: self.epoch(),
            feed: (after + 1..=pos).map(|pos| self.fed(pos)).collect(),
            pos,
            heads: talks.iter().take(HEADS).map(|(_, talk)| talk.head()).collect(),
            sums: Some(sums),
            next_cursor,
            touched: self.talks.iter().map(|talk| talk.touched).max().unwrap_or(0),
            feed_more: pos < end,
            profiles: profiles.map(|(_, profile)| profile.clone()).collect(),
            profiles_at: self.now,
            statuses: statuses.map(|(_, status)| status.clone()).collect(),
            ..SyncResult::default()
        }
    }

    pub(crate) fn pull(&self, request: &PullRequest, without_roster: bool) -> Option<Page> {
        let name = request.conversation.as_ref()?;
        let talk = self.talks.iter().find(|talk| talk.name == *name)?;
        let (end_seq, end_rev) = talk.ends();
        let after = request.after_seq.max(talk.floor).min(end_seq);
        let through_seq = end_seq.min(after + PAGE);
        let through_rev = end_rev.min(request.after_rev + PAGE).max(request.after_rev.min(end_rev));
        let mut changes = talk.changes(request.after_rev + 1, through_rev);
        if without_roster {
            changes.retain(|change| !matches!(change.detail, Some(change_entry::Detail::Roster(_))));
        }
        Some(Page {
            messages: talk.messages(after + 1, through_seq),
            changes,
            through_seq,
            through_rev,
            end_seq,
            end_rev,
            reset: request.after_seq < talk.floor,
            without_roster,
            entered_seq: 0,
            history_from: 0,
        })
    }

    /// A page of history before `anchor`, or the newest one if that is 0.
    pub(crate) fn fill(&self, at: usize, anchor: u64) -> FillResult {
        let talk = &self.talks[at];
        let to = if anchor == 0 { talk.ends().0 } else { anchor - 1 };
        let first = talk.floor.max(talk.from.0 - 1) + 1;
        let from = first.max((to + 1).saturating_sub(PAGE));
        let end = from == first;
        let messages = talk.messages(from, to);
        FillResult { messages, from: if end { 1 } else { from }, to, end, rev: talk.ends().1 }
    }
}
