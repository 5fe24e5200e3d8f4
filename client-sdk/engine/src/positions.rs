//! The rules of the three logs: which part of a push, a page or a head is new, and which positions it moves.

use zim_protocol::{
    ChangeEntry, ConversationHead, FeedEntry, LogKind, MessageEntry, MessageType, Page, Push, ReadMark, change_entry,
    feed_entry::Detail,
};

use super::name::Name;
use super::pulls::{LIVE, Pull};
use super::state::{Change, Origin, State, Uncounted};
use super::sync_engine::SyncEngine;

/// The most messages that are caught up with per conversation. Older ones are a gap that history fills.
const CATCH_UP_MESSAGES: u64 = 1_000;
/// The last possible position. Larger positions from a server are ignored, because counting on from them could
/// overflow.
pub(super) const MAX_POSITION: u64 = (1 << 53) - 1;

impl SyncEngine {
    /// Handles a push from the event stream or a response.
    pub fn push(&mut self, push: Push, origin: Origin) {
        if push.from == 0 || push.to < push.from || push.to > MAX_POSITION {
            return;
        }
        match LogKind::try_from(push.log) {
            Ok(LogKind::Messages) => self.push_messages(push),
            Ok(LogKind::Changes) => self.push_changes(push, origin),
            Ok(LogKind::Feed) => self.push_feed(push, origin),
            // A log of a later version is ignored, so that an old client is never stuck.
            Ok(LogKind::Unspecified) | Err(_) => {}
        }
    }

    /// Handles the answer to a pull.
    pub fn page(&mut self, ticket: u64, page: Page) {
        if !is_possible(&page) {
            self.pull_failed(ticket);
            return;
        }
        let Some(Pull { name, after_seq, after_rev }) = self.pulls.remove(&ticket) else { return };
        let Some(state) = self.conversations.get_mut(&name) else { return };
        state.pulling = None;
        state.awaits_pushes = false;
        let mut from = after_seq + 1;
        if page.reset {
            // Changes since then are no longer available, so nothing that is held can be trusted.
            from = page.messages.first().map_or(page.through_seq + 1, |first| first.seq);
            state.held.clear();
            state.known = false;
            state.uncounted = true;
            // Intervals of this turn that are not stored yet are dropped too.
            self.dirty.insert(name.clone(), Vec::new());
            self.output.batch.changes.push(Change::Drop(name.clone()));
        }
        let raise_after = state.seq;
        let new = page.messages.iter().filter(|entry| entry.seq > state.head_seq).count() as u64;
        if new < page.through_seq.saturating_sub(state.head_seq) {
            // A missing position may be an own message that was deleted meanwhile. Only a head says how many were sent.
            state.known = false;
            state.uncounted = true;
        }
        count(state, &self.viewer, &page.messages, page.entered_seq);
        deduct(state, &self.viewer, &page.changes);
        state.head_seq = state.head_seq.max(page.through_seq);
        state.head_rev = state.head_rev.max(page.through_rev);
        if page.without_roster {
            // Only a head says whether the user is still a member.
            state.known = false;
            self.output.batch.changes.push(Change::Skipped(name.clone()));
        }
        state.target_seq = state.target_seq.max(page.end_seq);
        state.target_rev = state.target_rev.max(page.end_rev);
        let is_forward = page.through_seq > after_seq || page.through_rev > after_rev;
        if !is_forward {
            // The announced positions do not exist for this user.
            state.target_seq = page.end_seq;
            state.target_rev = page.end_rev;
        }
        state.seq = state.seq.max(page.through_seq);
        state.rev = state.rev.max(page.through_rev);
        // Those of messages that a later page brings.
        pass_over(state, &page.changes);
        if !page.messages.is_empty() {
            state.as_of(page.end_rev);
        }
        // Without progress only a new hint justifies another pull. The next sync handles the rest.
        let (is_known, lacks_positions) = (state.known, state.dirty || is_forward && state.lacks_positions());
        let (raise_after, own_after) = state.news_after(raise_after);
        self.cover(&name, from, page.through_seq);
        self.moved(&name);
        let changes = &mut self.output.batch.changes;
        // What they see of before they entered is history. The head says so as well, but a hint may overtake it. What they missed of
        // the stay before is none.
        let first_of_history = page.messages.partition_point(|entry| entry.seq < page.history_from);
        let mut earlier = page.messages;
        let entries = earlier.split_off(if page.entered_seq > 0 { first_of_history } else { 0 });
        let entered = page.entered_seq.saturating_sub(1);
        for (entries, entered) in [(earlier, 0), (entries, entered)] {
            if !entries.is_empty() {
                let (raise_after, own_after) = (raise_after.max(entered), own_after.max(entered));
                changes.push(Change::Messages { name: name.clone(), entries, raise_after, own_after });
            }
        }
        if !page.changes.is_empty() {
            changes.push(Change::Changes { name: name.clone(), entries: page.changes, origin: Origin::Other });
        }
        if !is_known {
            self.ask_about(&name);
        }
        if lacks_positions {
            self.want_pull(&name, LIVE);
        }
    }

    fn push_messages(&mut self, push: Push) {
        let Some(name) = push.conversation.as_ref().map(Name::from) else { return };
        if !self.conversations.contains_key(&name) {
            if push.from > 1 {
                // It has older messages that this device does not know. Its head says how many of them matter.
                self.want_sync();
                return;
            }
            self.open(&name);
        }
        let Some(state) = self.conversations.get_mut(&name) else { return };
        let (from, to, mut entries) = (push.from, push.to, push.messages);
        if to <= state.seq {
            return;
        }
        let is_next = from <= state.seq + 1;
        let is_counted_next = from <= state.head_seq + 1 && to > state.head_seq;
        let may_be_old = from.max(state.seq + 1) <= state.unseen_seq;
        if !is_next && !is_counted_next || may_be_old {
            state.target_seq = state.target_seq.max(to);
            state.awaits_pushes = false;
            if state.known {
                self.want_pull(&name, LIVE);
            } else {
                self.want_sync();
            }
            return;
        }
        // If it follows the counted messages but not the raised ones, it is stored and counted; the pull in flight
        // raises it.
        let (begin, raise_after) = if is_next { (state.seq + 1, state.seq) } else { (state.head_seq + 1, u64::MAX) };
        entries.retain(|entry| (begin..=to).contains(&entry.seq));
        count(state, &self.viewer, &entries, 0);
        state.head_seq = state.head_seq.max(to);
        if is_next {
            state.seq = to;
        }
        state.is_live |= is_next;
        // Others are missing before it, or it is the last.
        state.awaits_pushes &= is_next && state.seq < state.head_seq;
        let (is_known, lacks_positions) = (state.known, state.lacks_positions());
        let (raise_after, own_after) = state.news_after(raise_after);
        self.cover_push(&name, begin, to, &entries);
        self.moved(&name);
        self.output.batch.changes.push(Change::Messages { name: name.clone(), entries, raise_after, own_after });
        if !is_known {
            self.ask_about(&name);
        }
        if lacks_positions {
            self.want_pull(&name, LIVE);
        }
    }

    fn push_changes(&mut self, push: Push, origin: Origin) {
        let Some(name) = push.conversation.as_ref().map(Name::from) else { return };
        let Some(state) = self.conversations.get_mut(&name) else {
            self.want_sync();
            return;
        };
        let (from, to, mut entries) = (push.from, push.to, push.changes);
        if to <= state.rev {
            return;
        }
        state.target_rev = state.target_rev.max(to);
        // If the message has not arrived yet, the pull brings its current state.
        let is_early = |entry: &ChangeEntry| match &entry.detail {
            Some(change_entry::Detail::Message(message)) => message.seq > state.head_seq,
            Some(
                change_entry::Detail::Roster(_) | change_entry::Detail::Group(_) | change_entry::Detail::Expired(_),
            )
            | None => false,
        };
        if from > state.rev + 1 || entries.iter().any(is_early) {
            self.want_pull(&name, LIVE);
            return;
        }
        entries.retain(|entry| entry.rev > state.rev && entry.rev <= to);
        state.rev = to;
        state.head_rev = state.head_rev.max(to);
        pass_over(state, &entries);
        deduct(state, &self.viewer, &entries);
        self.moved(&name);
        self.output.batch.changes.push(Change::Changes { name, entries, origin });
    }

    fn push_feed(&mut self, push: Push, origin: Origin) {
        if push.to <= self.position.pos {
            return;
        }
        if push.from > self.position.pos + 1 {
            self.want_sync();
            return;
        }
        let described = |entry: &FeedEntry| match &entry.detail {
            Some(Detail::Conversation(head)) if entry.pos > self.position.pos => {
                head.conversation.as_ref().map(Name::from)
            }
            _ => None,
        };
        let described: Vec<Name> = push.feed.iter().filter_map(described).collect();
        self.apply_feed(push.feed, push.to, origin);
        // A sync in flight may have been read before them.
        described.iter().for_each(|name| self.moved(name));
    }

    /// Applies the feed from the known position to `through`.
    pub(super) fn apply_feed(&mut self, entries: Vec<FeedEntry>, through: u64, origin: Origin) {
        let known = self.position.pos;
        for entry in entries.into_iter().filter(|entry| entry.pos > known) {
            match entry.detail {
                Some(Detail::Conversation(head)) => self.apply_head(head),
                Some(Detail::Read(mark)) => {
                    let name = mark.conversation.as_ref().map(Name::from);
                    // For an unknown conversation the head brings the mark.
                    if let Some(name) = name.filter(|name| self.conversations.contains_key(name)) {
                        if let Some(state) = self.conversations.get_mut(&name) {
                            state.tally.read(&mark);
                        }
                        self.touch(&name);
                    }
                }
                Some(detail) => {
                    self.tally_own(&detail);
                    self.output.batch.changes.push(Change::Own { detail: Box::new(detail), origin });
                }
                None => {}
            }
        }
        if through > known {
            self.position.pos = through;
            self.position_moved = true;
        }
    }

    /// The app deleted messages on this device only. `seqs` are those of others that counted as unread; `None`: all messages.
    pub fn deleted(&mut self, name: &Name, seqs: Option<&[u64]>) {
        let Some(state) = self.conversations.get_mut(name) else { return };
        match seqs {
            Some(seqs) => seqs.iter().for_each(|seq| state.tally.delete(*seq)),
            None => state.tally.clear(state.head_seq),
        }
        self.touch(name);
    }

    /// The store has found messages that this device had deleted.
    pub fn uncounted(&mut self, name: &Name, uncounted: &Uncounted) {
        let Some(state) = self.conversations.get_mut(name) else { return };
        state.uncount(uncounted);
        self.touch(name);
    }

    /// Takes what the user deleted for themselves out of the count of unread messages. For an unknown conversation the head
    /// has it.
    fn tally_own(&mut self, detail: &Detail) {
        let name = match detail {
            Detail::MessageDeletion(deletion) => deletion.conversation.as_ref(),
            Detail::Cleared(cleared) => cleared.conversation.as_ref(),
            _ => None,
        };
        let Some(name) = name.map(Name::from) else { return };
        let Some(state) = self.conversations.get_mut(&name) else { return };
        match detail {
            Detail::MessageDeletion(deletion) if deletion.is_counted => state.tally.delete(deletion.seq),
            Detail::Cleared(cleared) => state.tally.read(&ReadMark { base: cleared.base, ..ReadMark::default() }),
            _ => {}
        }
        self.touch(&name);
    }

    /// Applies a head. An old head changes only what heads alone tell.
    pub(super) fn apply_head(&mut self, mut head: ConversationHead) {
        if head.end_seq.max(head.end_rev).max(head.sent) > MAX_POSITION {
            return;
        }
        let Some(name) = head.conversation.as_ref().map(Name::from) else { return };
        // Only a device that was away leaves old messages to history; a connected device raises all of them.
        let is_new = !self.conversations.contains_key(&name);
        let was_away = is_new || self.is_logging_in();
        let is_first = !self.position.is_settled;
        self.open(&name);
        let Some(state) = self.conversations.get_mut(&name) else { return };
        // Pushes have begun the conversation, and bring the rest. A pull would overtake what comes between them, which no log has.
        let has_pushes = state.is_live && !state.known && !state.lacks_positions();
        let has_pushes = has_pushes && state.pulling.is_none() && state.rank.is_none();
        // After a stay in which nobody wrote, the next one begins with the same message. The log of changes tells them apart. A device
        // that did not note where its stay began compares with what it has applied: what lies between may never come.
        let known_rev = if state.from_rev > 0 { state.from_rev } else { state.rev + 1 };
        let has_gap = head.from_seq >= state.from_seq && head.from_rev > known_rev;
        if state.from_seq > 0 && (head.from_seq > state.from_seq || has_gap) {
            // The user left and returned. What is held of the earlier stay may have changed unseen.
            state.held.clear();
            self.dirty.insert(name.clone(), Vec::new());
            self.output.batch.changes.push(Change::Drop(name.clone()));
        }
        let returns = state.from_rev > 0 && head.from_rev > state.from_rev;
        let begins = !state.known || head.from_rev > state.from_rev;
        state.from_seq = state.from_seq.max(head.from_seq);
        state.from_rev = state.from_rev.max(head.from_rev);
        let is_local = std::mem::take(&mut state.is_local);
        if !state.known {
            // Changes to messages that are not held are dropped, so there are none to catch up with. But pushes may have brought
            // messages before the server described the conversation, and the connection may have ended in between. In a group
            // that is new to the user, the first change tells how they came in.
            let is_entered = (is_new || is_local) && !is_first && head.group.is_some();
            let has_changes = is_entered || !state.held.is_empty();
            let rev = if has_changes { head.from_rev.saturating_sub(1) } else { head.end_rev };
            if rev > state.rev {
                state.unseen_seq = state.unseen_seq.max(head.end_seq);
                if !is_new {
                    self.output.batch.changes.push(Change::Skipped(name.clone()));
                }
            }
            state.rev = state.rev.max(rev);
        }
        state.asked = false;
        if head.end_rev < state.head_rev {
            // It may be older than a change that was applied already.
            head.last_message = None;
            let has_group = head.group.take().is_some() && !head.has_left;
            // What the group became before the stay is in no change that this device gets.
            state.lacks_group |= has_group && begins;
        } else {
            state.lacks_group = false;
        }
        let is_old = head.end_seq < state.head_seq;
        state.known = !(is_old && state.uncounted);
        state.uncounted &= is_old;
        if !is_old {
            state.tally.set(&head);
            state.head_seq = head.end_seq;
            // Without a message it is the time when the user entered, also if the server's clock was set back since the stay before.
            state.last_ts = if returns { head.last_ts } else { state.last_ts.max(head.last_ts) };
        } else {
            state.tally.set_base(&head);
        }
        state.head_rev = state.head_rev.max(head.end_rev);
        if !self.position.is_settled {
            state.history_seq = state.history_seq.max(head.end_seq);
        }
        let start = match head.last_ts < self.horizon_ms {
            _ if !was_away => 0,
            true => head.end_seq,
            false => head.end_seq.saturating_sub(CATCH_UP_MESSAGES),
        };
        // A user who has left and returned also gets what they missed of the stay that this device knows.
        let first = if is_new || is_local { head.from_seq.saturating_sub(1) } else { 0 };
        state.seq = state.seq.max(start.max(head.floor_seq).max(first).min(head.end_seq));
        // What they see of before they entered is history. If they missed something of the stay before, a pull brings both.
        if head.entered_seq > head.from_seq && state.seq + 1 >= head.from_seq {
            state.seq = state.seq.max((head.entered_seq - 1).min(head.end_seq));
        }
        // A later head does not end the wait: pushes may have overtaken it.
        state.awaits_pushes = (has_pushes || state.awaits_pushes) && state.seq < state.head_seq;
        self.awaits_pushes |= state.awaits_pushes;
        let is_known = state.known && !state.lacks_group;
        if let Some(last) = head.last_message.as_ref().filter(|last| !last.content.is_empty()) {
            self.cover(&name, last.seq, last.seq);
        }
        self.touch(&name);
        self.output.batch.changes.push(Change::Head(Box::new(head)));
        if !is_known {
            self.ask_about(&name);
        }
    }

    /// Requests the head of a conversation, once.
    pub(super) fn ask_about(&mut self, name: &Name) {
        if let Some(state) = self.conversations.get_mut(name)
            && !std::mem::replace(&mut state.asked, true)
        {
            self.want_sync();
        }
    }

    /// Marks the positions of a push as held, except own messages that came back without content.
    fn cover_push(&mut self, name: &Name, begin: u64, to: u64, entries: &[MessageEntry]) {
        let mut lo = begin;
        for hole in entries.iter().filter(|entry| entry.content.is_empty()) {
            self.cover(name, lo, hole.seq - 1);
            lo = hole.seq + 1;
        }
        self.cover(name, lo, to);
    }
}

/// Returns whether all positions of a page are possible.
fn is_possible(page: &Page) -> bool {
    let ends = [page.through_seq, page.through_rev, page.end_seq, page.end_rev, page.entered_seq, page.history_from];
    let mut all = ends.into_iter().chain(page.messages.iter().map(|entry| entry.seq));
    all.all(|position| position <= MAX_POSITION)
}

/// Counts the entries after the head, in order. Those before `entered_seq` are history, and do not count as unread.
fn count(state: &mut State, viewer: &str, entries: &[MessageEntry], entered_seq: u64) {
    for entry in entries {
        if entry.seq > state.head_seq {
            state.tally.count(entry, viewer);
            state.head_seq = entry.seq;
            if entry.seq < entered_seq {
                state.tally.clear(entry.seq);
            }
        }
        state.last_ts = state.last_ts.max(entry.ts);
    }
}

/// Notes changes of messages that this device does not have. It passes them over.
fn pass_over(state: &mut State, entries: &[ChangeEntry]) {
    let unseen = entries.iter().filter_map(|entry| match &entry.detail {
        Some(change_entry::Detail::Message(message)) => {
            Some(message.seq).filter(|seq| *seq > state.seq && !state.held.contains(*seq))
        }
        _ => None,
    });
    state.unseen_seq = state.unseen_seq.max(unseen.max().unwrap_or(0));
}

/// Takes revoked messages out of the count of unread ones.
fn deduct(state: &mut State, viewer: &str, entries: &[ChangeEntry]) {
    for entry in entries {
        if let Some(change_entry::Detail::Message(message)) = &entry.detail
            && message.kind == MessageType::Revoke as i32
        {
            state.tally.revoke(message, viewer);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use zim_protocol::{ConversationRef, ConversationType, SyncResult};

    use super::super::state::{Position, Request};
    use super::*;

    fn bob() -> ConversationRef {
        ConversationRef { r#type: ConversationType::Peer as i32, id: "bob".to_owned() }
    }

    fn push(log: LogKind, to: u64) -> Push {
        Push { log: log as i32, conversation: Some(bob()), from: 1, to, ..Push::default() }
    }

    /// A connected engine and the ticket of its sync.
    fn online() -> (SyncEngine, u64) {
        let mut engine = SyncEngine::new("ann", Position::default(), []);
        engine.online(&Bytes::from_static(&[1; 16]));
        match engine.take().requests.as_slice() {
            [Request::Sync { ticket, .. }] => (engine, *ticket),
            _ => (engine, 0),
        }
    }

    fn seq(engine: &SyncEngine) -> Option<u64> {
        engine.state(&Name::from(&bob())).map(|state| state.seq)
    }

    #[test]
    fn a_push_to_the_last_position_is_accepted_and_one_beyond_is_ignored() {
        for log in [LogKind::Messages, LogKind::Changes, LogKind::Feed] {
            let (mut engine, _) = online();
            engine.push(push(LogKind::Messages, 1), Origin::Other);
            for (to, is_accepted) in [(MAX_POSITION + 1, false), (u64::MAX, false), (MAX_POSITION, true)] {
                engine.push(push(log, to), Origin::Other);
                let state = engine.state(&Name::from(&bob())).unwrap();
                let reached = [state.seq, state.rev, engine.position().pos].contains(&to);
                assert_eq!(reached, is_accepted, "{log:?} to {to}");
            }
            // Counting on does not overflow.
            engine.push(push(log, u64::MAX), Origin::Other);
            engine.audit();
            engine.take();
        }
    }

    #[test]
    fn a_head_at_the_last_position_is_accepted_and_one_beyond_is_ignored() {
        let head = |end_seq, end_rev, sent| ConversationHead {
            conversation: Some(bob()),
            end_seq,
            end_rev,
            sent,
            ..ConversationHead::default()
        };
        let most = MAX_POSITION;
        for (head, is_accepted) in [
            (head(most, most, most), true),
            (head(most + 1, 0, 0), false),
            (head(0, most + 1, 0), false),
            (head(0, 0, most + 1), false),
        ] {
            let (mut engine, ticket) = online();
            engine.synced(ticket, SyncResult { heads: vec![head], ..SyncResult::default() });
            assert_eq!(seq(&engine).is_some(), is_accepted);
            engine.sums();
        }
    }

    #[test]
    fn an_answer_with_impossible_positions_counts_as_failed() {
        let (mut engine, ticket) = online();
        engine.synced(ticket, SyncResult { pos: MAX_POSITION + 1, ..SyncResult::default() });
        assert_eq!(engine.position().pos, 0);
        assert!(engine.is_idle(), "the sync has ended");
        let page = |through_seq| Page { through_seq, end_seq: through_seq, ..Page::default() };
        for (page, is_accepted) in [
            (page(MAX_POSITION), true),
            (page(MAX_POSITION + 1), false),
            (Page { messages: vec![MessageEntry { seq: u64::MAX, ..MessageEntry::default() }], ..page(4) }, false),
        ] {
            let (mut engine, ticket) = online();
            let head = ConversationHead { conversation: Some(bob()), end_seq: 2, ..ConversationHead::default() };
            let sums = Some(zim_protocol::Sums { count: 1, seq: 2, rev: 0 });
            engine.synced(ticket, SyncResult { heads: vec![head], sums, ..SyncResult::default() });
            let requests = engine.take().requests;
            let [Request::Pull { ticket, .. }] = requests.as_slice() else { panic!("{requests:?}") };
            engine.page(*ticket, page.clone());
            assert_eq!(seq(&engine) == Some(page.through_seq), is_accepted, "{page:?}");
        }
    }
}
