//! The sync core: which entries of the three logs are new, what is to be stored, and what to ask the server for. Pure: no IO,
//! no clock. The driver feeds it what arrives and takes what is to be done; a model checker does the same.
//!
//! Rules. A push that ends at or below my position is old; one that begins at my position plus one is applied; any other is a
//! hint, and one pull tells the truth. Conversations that moved while the device was away are pulled newest first. What is
//! held is told by ranges, so that what was left out is a known hole and never a silent one.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use zim_protocol::{
    ConversationHead, Dirty, FeedEntry, FillResult, LogKind, MessageEntry, Page, PullRequest, Push, Sums,
    feed_entry::Detail,
};

use super::catch_up::Syncing;
use super::ranges::Ranges;
use super::state::{Batch, Change, Name, Origin, Output, Position, Progress, Request, Saved, State};

/// Pulls under way at the same time: enough to fill the pipe, few enough to let live traffic through.
const MAX_PULLS: usize = 4;
/// Messages of one conversation that are caught up with; what lies further back is a hole, and history fills it.
const CATCH_UP_MESSAGES: u64 = 1_000;
/// The rank of a pull that somebody waits for: before all that is only caught up with.
const LIVE: i64 = i64::MIN;

/// What a device knows, and the rules by which it learns. See the module.
#[derive(Debug)]
pub struct Core {
    pub(super) viewer: String,
    pub(super) conversations: HashMap<Name, State>,
    pub(super) position: Position,
    pub(super) syncing: Option<Syncing>,
    /// Another sync is wanted after the present one.
    pub(super) sync_wanted: bool,
    pub(super) is_online: bool,
    pub(super) ticket: u64,
    pub(super) output: Output,
    pub(super) position_moved: bool,
    /// Changes with every reset: what was asked before it means nothing after it.
    generation: u64,
    /// Messages older than this are not caught up with.
    horizon_ms: i64,
    pulls: HashMap<u64, Pull>,
    queue: BTreeSet<(i64, Name)>,
    pulls_enabled: bool,
    dirty: HashMap<Name, Vec<(u64, u64)>>,
}

#[derive(Debug)]
struct Pull {
    name: Name,
    after_seq: u64,
    after_rev: u64,
}

impl Core {
    /// A core of `viewer` that knows what the store has.
    pub fn new(viewer: &str, position: Position, states: impl IntoIterator<Item = (Name, State)>) -> Self {
        Self {
            viewer: viewer.to_owned(),
            conversations: states.into_iter().map(as_stored).collect(),
            position,
            syncing: None,
            sync_wanted: false,
            is_online: false,
            ticket: 0,
            output: Output::default(),
            position_moved: false,
            generation: 0,
            horizon_ms: 0,
            pulls: HashMap::new(),
            queue: BTreeSet::new(),
            pulls_enabled: true,
            dirty: HashMap::new(),
        }
    }

    /// Never pulls: for a session that comes and goes, and gets no pushes.
    #[must_use]
    pub fn without_pulls(mut self) -> Self {
        self.pulls_enabled = false;
        self
    }

    /// Messages sent before this are left to history.
    pub fn set_horizon(&mut self, ms: i64) {
        self.horizon_ms = ms;
    }

    /// What is known of a conversation.
    pub fn state(&self, name: &Name) -> Option<&State> {
        self.conversations.get(name)
    }

    /// All that is known of conversations.
    pub fn states(&self) -> impl Iterator<Item = (&Name, &State)> {
        self.conversations.iter()
    }

    /// What is known beside them.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Which life of the positions this is.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// COUNT, SUM(head_seq), SUM(head_rev): equal sums mean equal positions, because a client is never ahead.
    pub fn sums(&self) -> Sums {
        let counted = self.conversations.values().filter(|state| state.is_counted());
        counted.fold(Sums::default(), |sums, state| Sums {
            count: sums.count + 1,
            seq: sums.seq + state.head_seq,
            rev: sums.rev + state.head_rev,
        })
    }

    /// Whether nothing is under way and nothing is wanted.
    pub fn is_idle(&self) -> bool {
        self.syncing.is_none() && self.pulls.is_empty() && self.queue.is_empty()
    }

    /// What came of the steps since the last call.
    pub fn take(&mut self) -> Output {
        self.pump();
        let mut output = std::mem::take(&mut self.output);
        for (name, held) in self.dirty.drain() {
            if let Some(state) = self.conversations.get(&name) {
                let state = State { held: Ranges::default(), ..state.clone() };
                output.batch.states.push(Saved { name, state, held });
            }
        }
        if std::mem::take(&mut self.position_moved) {
            output.batch.position = Some(self.position.clone());
        }
        output
    }

    /// The link is gone: no call that is under way will be answered.
    pub fn offline(&mut self) {
        self.is_online = false;
        self.sync_wanted = false;
        if self.syncing.take().is_some_and(|syncing| syncing.is_login) {
            self.output.progress.push(Progress::Failed);
        }
        self.pulls.clear();
        self.queue.clear();
        for state in self.conversations.values_mut() {
            state.pulling = None;
            state.rank = None;
        }
    }

    /// Whether calls are answered.
    pub fn is_online(&self) -> bool {
        self.is_online
    }

    /// Begins again from what the store has, because it did not take what was learnt since. What was asked for is forgotten;
    /// the next audit asks again.
    pub fn restore(&mut self, position: Position, states: impl IntoIterator<Item = (Name, State)>) {
        let is_online = self.is_online;
        self.output = Output::default();
        self.offline();
        self.is_online = is_online;
        self.generation += 1;
        self.dirty.clear();
        self.position_moved = false;
        self.position = position;
        self.conversations = states.into_iter().collect();
    }

    /// A push, of the event stream or of a response.
    pub fn push(&mut self, push: Push, origin: Origin) {
        if push.from == 0 || push.to < push.from {
            return;
        }
        match LogKind::try_from(push.log) {
            Ok(LogKind::Messages) => self.push_messages(push),
            Ok(LogKind::Changes) => self.push_changes(push),
            Ok(LogKind::Feed) => self.push_feed(push, origin),
            // A log of a later version: an old client is never stuck at something new.
            Ok(LogKind::Unspecified) | Err(_) => {}
        }
    }

    /// Bodies were dropped on the way.
    pub fn dirtied(&mut self, dirty: &Dirty) {
        if dirty.all || dirty.feed {
            self.want_sync();
        }
        for name in &dirty.conversations {
            let name = Name::from(name);
            match self.conversations.get_mut(&name) {
                Some(state) => {
                    state.dirty = true;
                    self.want_pull(&name, LIVE);
                }
                None => self.want_sync(),
            }
        }
    }

    /// A conversation that only this device knows yet: somebody writes its first message.
    pub fn open(&mut self, name: &Name) {
        if !self.conversations.contains_key(name) {
            self.conversations.insert(name.clone(), State::default());
            self.touch(name);
        }
    }

    /// A message of this device was stored at `seq`; the device has it.
    pub fn hold(&mut self, name: &Name, seq: u64) {
        self.cover(name, seq, seq);
        if let Some(state) = self.conversations.get_mut(name) {
            state.target_seq = state.target_seq.max(seq);
            if state.is_behind() {
                self.want_pull(name, LIVE);
            }
        }
    }

    /// The answer to a fill that was asked in `generation`.
    pub fn filled(&mut self, name: &Name, generation: u64, fill: FillResult) {
        let Some(state) = self.conversations.get_mut(name).filter(|_| generation == self.generation) else { return };
        state.target_seq = state.target_seq.max(fill.to);
        let is_behind = state.is_behind();
        self.cover(name, fill.from.max(1), fill.to);
        let change = Change::Messages { name: name.clone(), entries: fill.messages, raise_after: u64::MAX };
        self.output.batch.changes.push(change);
        if is_behind {
            self.want_pull(name, LIVE);
        }
    }

    /// The answer to a pull.
    pub fn page(&mut self, ticket: u64, page: Page) {
        let Some(Pull { name, after_seq, after_rev }) = self.pulls.remove(&ticket) else { return };
        let Some(state) = self.conversations.get_mut(&name) else { return };
        state.pulling = None;
        let mut from = after_seq + 1;
        if page.reset {
            // What changed since cannot be told any more, so nothing that is held can be trusted.
            from = page.messages.first().map_or(page.through_seq + 1, |first| first.seq);
            state.held.clear();
            state.known = false;
            state.uncounted = true;
            // Intervals of this step that were not stored yet are gone too.
            self.dirty.insert(name.clone(), Vec::new());
            self.output.batch.changes.push(Change::Drop(name.clone()));
        }
        let raise_after = state.seq;
        count(state, &self.viewer, &page.messages);
        state.head_seq = state.head_seq.max(page.through_seq);
        state.head_rev = state.head_rev.max(page.through_rev);
        state.target_seq = state.target_seq.max(page.end_seq);
        state.target_rev = state.target_rev.max(page.end_rev);
        let is_forward = page.through_seq > after_seq || page.through_rev > after_rev;
        if !is_forward {
            // What was heard of does not exist for this user.
            state.target_seq = page.end_seq;
            state.target_rev = page.end_rev;
        }
        state.seq = state.seq.max(page.through_seq);
        state.rev = state.rev.max(page.through_rev);
        // Without a step forward only a hint that came meanwhile is a reason to ask again; the next sync looks after the rest.
        let (is_known, is_behind) = (state.known, state.dirty || is_forward && state.is_behind());
        self.cover(&name, from, page.through_seq);
        self.moved(&name);
        let changes = &mut self.output.batch.changes;
        if !page.messages.is_empty() {
            changes.push(Change::Messages { name: name.clone(), entries: page.messages, raise_after });
        }
        if !page.changes.is_empty() {
            changes.push(Change::Changes { name: name.clone(), entries: page.changes });
        }
        if !is_known {
            self.ask_about(&name);
        }
        if is_behind {
            self.want_pull(&name, LIVE);
        }
    }

    /// A pull that was refused. The next sync tries again.
    pub fn pull_failed(&mut self, ticket: u64) {
        if let Some(pull) = self.pulls.remove(&ticket)
            && let Some(state) = self.conversations.get_mut(&pull.name)
        {
            state.pulling = None;
        }
    }

    fn push_messages(&mut self, push: Push) {
        let Some(name) = push.conversation.as_ref().map(Name::from) else { return };
        if !self.conversations.contains_key(&name) {
            if push.from > 1 {
                // It has a past that this device knows nothing of; its head says how much of it matters.
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
        if !is_next && !is_counted_next {
            state.target_seq = state.target_seq.max(to);
            if state.known {
                self.want_pull(&name, LIVE);
            } else {
                self.want_sync();
            }
            return;
        }
        // Next to what is counted but not to what was raised, it is stored and counted; the pull under way raises it.
        let (begin, raise_after) = if is_next { (state.seq + 1, state.seq) } else { (state.head_seq + 1, u64::MAX) };
        entries.retain(|entry| (begin..=to).contains(&entry.seq));
        count(state, &self.viewer, &entries);
        state.head_seq = state.head_seq.max(to);
        if is_next {
            state.seq = to;
        }
        let (is_known, is_behind) = (state.known, state.is_behind());
        self.cover_push(&name, begin, to, &entries);
        self.moved(&name);
        self.output.batch.changes.push(Change::Messages { name: name.clone(), entries, raise_after });
        if !is_known {
            self.ask_about(&name);
        }
        if is_behind {
            self.want_pull(&name, LIVE);
        }
    }

    fn push_changes(&mut self, push: Push) {
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
        if from > state.rev + 1 {
            self.want_pull(&name, LIVE);
            return;
        }
        entries.retain(|entry| entry.rev > state.rev && entry.rev <= to);
        state.rev = to;
        state.head_rev = state.head_rev.max(to);
        self.moved(&name);
        self.output.batch.changes.push(Change::Changes { name, entries });
    }

    fn push_feed(&mut self, push: Push, origin: Origin) {
        if push.to <= self.position.pos {
            return;
        }
        if push.from > self.position.pos + 1 {
            self.want_sync();
            return;
        }
        self.apply_feed(push.feed, push.to, origin);
    }

    /// Applies the feed after the present position, to `through`.
    pub(super) fn apply_feed(&mut self, entries: Vec<FeedEntry>, through: u64, origin: Origin) {
        let known = self.position.pos;
        for entry in entries.into_iter().filter(|entry| entry.pos > known) {
            match entry.detail {
                Some(Detail::Conversation(head)) => self.apply_head(head),
                Some(Detail::Read(mark)) => {
                    let name = mark.conversation.as_ref().map(Name::from);
                    // Of a conversation that is not known yet, the head brings the mark.
                    if let Some(name) = name.filter(|name| self.conversations.contains_key(name)) {
                        if let Some(state) = self.conversations.get_mut(&name) {
                            state.tally.read(&mark);
                        }
                        self.touch(&name);
                    }
                }
                Some(Detail::Profile(info)) => {
                    self.output.batch.changes.push(Change::Profile { info: Box::new(info), origin });
                }
                None => {}
            }
        }
        if through > known {
            self.position.pos = through;
            self.position_moved = true;
        }
    }

    /// The server describes a conversation. What is older than what is known changes nothing but what only heads tell.
    pub(super) fn apply_head(&mut self, head: ConversationHead) {
        let Some(name) = head.conversation.as_ref().map(Name::from) else { return };
        self.open(&name);
        let Some(state) = self.conversations.get_mut(&name) else { return };
        if !state.known {
            // Changes to messages that are not held are dropped: there is nothing to catch up with.
            state.rev = state.rev.max(head.end_rev);
        }
        state.asked = false;
        let is_old = head.end_seq < state.head_seq;
        state.known = !(is_old && state.uncounted);
        state.uncounted &= is_old;
        if !is_old {
            state.tally.set(&head);
            state.head_seq = head.end_seq;
            state.last_ts = state.last_ts.max(head.last_ts);
        } else {
            state.tally.set_base(&head);
        }
        state.head_rev = state.head_rev.max(head.end_rev);
        let too_old = head.last_ts < self.horizon_ms;
        let start = if too_old { head.end_seq } else { head.end_seq.saturating_sub(CATCH_UP_MESSAGES) };
        let start = start.max(head.floor_seq).max(head.from_seq.saturating_sub(1)).min(head.end_seq);
        state.seq = state.seq.max(start);
        let is_known = state.known;
        if let Some(last) = head.last_message.as_ref().filter(|last| !last.content.is_empty()) {
            self.cover(&name, last.seq, last.seq);
        }
        self.touch(&name);
        self.output.batch.changes.push(Change::Head(Box::new(head)));
        if !is_known {
            self.ask_about(&name);
        }
    }

    /// The positions mean nothing any more.
    pub(super) fn drop_all(&mut self) {
        self.generation += 1;
        self.position = Position::default();
        self.position_moved = true;
        self.pulls.clear();
        self.queue.clear();
        self.dirty.clear();
        for (name, state) in &mut self.conversations {
            self.dirty.insert(name.clone(), Vec::new());
            *state = State::default();
        }
        self.output.batch.changes.push(Change::DropAll);
    }

    /// The server knows nothing of a conversation that it once had.
    pub(super) fn drop_one(&mut self, name: &Name) {
        if let Some(state) = self.conversations.get_mut(name) {
            if let Some(rank) = state.rank {
                self.queue.remove(&(rank, name.clone()));
            }
            if let Some(ticket) = state.pulling {
                self.pulls.remove(&ticket);
            }
            *state = State::default();
            self.output.batch.changes.push(Change::Drop(name.clone()));
            self.dirty.insert(name.clone(), Vec::new());
        }
    }

    /// Conversations that are behind, in the background; the newest first.
    pub(super) fn want_pulls(&mut self) {
        let behind: Vec<(Name, i64)> = self
            .conversations
            .iter()
            .filter(|(_, state)| state.is_behind())
            .map(|(name, state)| (name.clone(), state.last_ts.saturating_neg()))
            .collect();
        for (name, rank) in behind {
            self.want_pull(&name, rank);
        }
    }

    /// A conversation without a head gets one, once.
    fn ask_about(&mut self, name: &Name) {
        if let Some(state) = self.conversations.get_mut(name)
            && !std::mem::replace(&mut state.asked, true)
        {
            self.want_sync();
        }
    }

    fn want_pull(&mut self, name: &Name, rank: i64) {
        if !self.is_online || !self.pulls_enabled {
            return;
        }
        let Some(state) = self.conversations.get_mut(name) else { return };
        if state.pulling.is_some() {
            // Its answer looks again.
            return;
        }
        match state.rank {
            Some(queued) if queued <= rank => return,
            Some(queued) => {
                self.queue.remove(&(queued, name.clone()));
            }
            None => {}
        }
        state.rank = Some(rank);
        self.queue.insert((rank, name.clone()));
    }

    /// Starts what is wanted.
    fn pump(&mut self) {
        while self.is_online && self.pulls.len() < MAX_PULLS {
            let Some((_, name)) = self.queue.pop_first() else { break };
            let Some(state) = self.conversations.get_mut(&name) else { continue };
            state.rank = None;
            if !state.is_behind() {
                continue;
            }
            self.ticket += 1;
            let ticket = self.ticket;
            state.pulling = Some(ticket);
            state.dirty = false;
            let (after_seq, after_rev) = (state.seq, state.rev);
            let request = PullRequest { conversation: Some(name.to_ref()), after_seq, after_rev, bytes: 0 };
            self.pulls.insert(ticket, Pull { name, after_seq, after_rev });
            self.output.requests.push(Request::Pull { ticket, request });
        }
    }

    /// The positions of a push are held, but for one's own messages that came back without content.
    fn cover_push(&mut self, name: &Name, begin: u64, to: u64, entries: &[MessageEntry]) {
        let mut lo = begin;
        for hole in entries.iter().filter(|entry| entry.content.is_empty()) {
            self.cover(name, lo, hole.seq - 1);
            lo = hole.seq + 1;
        }
        self.cover(name, lo, to);
    }

    fn cover(&mut self, name: &Name, lo: u64, hi: u64) {
        let Some(state) = self.conversations.get_mut(name) else { return };
        if let Some(merged) = state.held.insert(lo, hi) {
            self.dirty.entry(name.clone()).or_default().push(merged);
        }
    }

    /// A head moved by itself: sums that were asked for before do not tell.
    fn moved(&mut self, name: &Name) {
        if let Some(syncing) = &mut self.syncing {
            syncing.moved.insert(name.clone());
        }
        self.touch(name);
    }

    fn touch(&mut self, name: &Name) {
        self.dirty.entry(name.clone()).or_default();
    }

    pub(super) fn set_epoch(&mut self, epoch: Bytes) {
        if self.position.epoch != epoch {
            self.position.epoch = epoch;
            self.position_moved = true;
        }
    }

    /// Names of conversations that the server should know, but for `seen`.
    pub(super) fn unseen(&self, seen: &HashSet<Name>) -> Vec<Name> {
        let states = self.conversations.iter();
        states.filter(|(name, state)| state.is_counted() && !seen.contains(*name)).map(|(name, _)| name.clone()).collect()
    }
}

/// A state from the store. Whether one without a head was counted without a gap, nobody noted.
fn as_stored((name, mut state): (Name, State)) -> (Name, State) {
    state.uncounted = !state.known;
    (name, state)
}

/// Counts what follows the head, in order.
fn count(state: &mut State, viewer: &str, entries: &[MessageEntry]) {
    for entry in entries {
        if entry.seq > state.head_seq {
            state.tally.count(entry, viewer);
            state.head_seq = entry.seq;
        }
        state.last_ts = state.last_ts.max(entry.ts);
    }
}

/// A change of the batch, for tests and the model checker.
impl Batch {
    /// The messages that are raised to the app, in order.
    pub fn raised(&self) -> impl Iterator<Item = (&Name, u64)> {
        self.changes.iter().flat_map(|change| match change {
            Change::Messages { name, entries, raise_after } => {
                let new = entries.iter().filter(|entry| entry.seq > *raise_after);
                new.map(|entry| (name, entry.seq)).collect::<Vec<_>>()
            }
            _ => Vec::new(),
        })
    }
}
