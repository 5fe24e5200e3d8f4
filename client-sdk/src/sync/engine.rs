//! The sync engine: which entries of the three logs are new, what is to be stored, and what to ask the server for. Pure: no IO,
//! no clock. The account task feeds it what arrives and takes what is to be done; a model checker does the same.
//!
//! Rules. A push that ends at or below my position is old; one that begins at my position plus one is applied; any other is a
//! hint, and one pull tells the truth. Conversations that moved while the device was away are pulled newest first. What is
//! held is told by ranges, so that what was left out is a known hole and never a silent one.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use zim_protocol::{Dirty, FillResult, Snapshot, Sums, UserFullInfo};

use super::catch_up::Syncing;
use super::positions::MAX_POSITION;
use super::pulls::{LIVE, Pull};
use super::ranges::Ranges;
use super::state::{Batch, Change, Name, Output, Position, Progress, Saved, State};

/// What a device knows, and the rules by which it learns. See the module.
#[derive(Debug)]
pub struct SyncEngine {
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
    pub(super) horizon_ms: i64,
    pub(super) pulls: HashMap<u64, Pull>,
    pub(super) queue: BTreeSet<(i64, Name)>,
    pub(super) pulls_enabled: bool,
    pub(super) dirty: HashMap<Name, Vec<(u64, u64)>>,
}

impl SyncEngine {
    /// An engine of `viewer` that knows what the store has.
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
            seq: sums.seq.saturating_add(state.head_seq),
            rev: sums.rev.saturating_add(state.head_rev),
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

    /// Whether what moved is being asked for.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
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
        self.conversations = states.into_iter().map(as_stored).collect();
    }

    /// Bodies were dropped on the way.
    pub fn dirtied(&mut self, dirty: &Dirty) {
        if dirty.all || dirty.feed || dirty.snapshots {
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

    /// What is true of other people came by itself. A sync under way may have read what was true before, or drop what came:
    /// another one puts that right, and until then what came stays.
    pub fn snapshot_came(&mut self, snapshot: &Snapshot) {
        if let Some(syncing) = &mut self.syncing {
            let base = |info: &UserFullInfo| info.base_info.as_ref().map(|base| base.user_id.clone());
            syncing.told.extend(snapshot.profiles.iter().filter_map(base));
            // A status says how new it is.
            self.sync_wanted |= !snapshot.profiles.is_empty();
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
            if state.lacks_positions() {
                self.want_pull(name, LIVE);
            }
        }
    }

    /// The answer to a fill that was asked in `generation`.
    pub fn filled(&mut self, name: &Name, generation: u64, fill: FillResult) {
        let is_wanted = generation == self.generation && fill.to <= MAX_POSITION;
        let Some(state) = self.conversations.get_mut(name).filter(|_| is_wanted) else { return };
        state.target_seq = state.target_seq.max(fill.to);
        if !fill.messages.is_empty() {
            state.as_of(fill.rev);
        }
        let lacks_positions = state.lacks_positions();
        self.cover(name, fill.from.max(1), fill.to);
        let change = Change::Messages { name: name.clone(), entries: fill.messages, raise_after: u64::MAX };
        self.output.batch.changes.push(change);
        if lacks_positions {
            self.want_pull(name, LIVE);
        }
    }

    /// The positions mean nothing any more.
    pub(super) fn drop_all(&mut self) {
        self.generation += 1;
        self.position = Position { is_settled: self.position.is_settled, ..Position::default() };
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

    pub(super) fn cover(&mut self, name: &Name, lo: u64, hi: u64) {
        let Some(state) = self.conversations.get_mut(name) else { return };
        if let Some(merged) = state.held.insert(lo, hi) {
            self.dirty.entry(name.clone()).or_default().push(merged);
        }
    }

    /// A head moved by itself: sums that were asked for before do not tell.
    pub(super) fn moved(&mut self, name: &Name) {
        if let Some(syncing) = &mut self.syncing {
            syncing.moved.insert(name.clone());
        }
        self.touch(name);
    }

    pub(super) fn touch(&mut self, name: &Name) {
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
        states
            .filter(|(name, state)| state.is_counted() && !seen.contains(*name))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// A state from the store. Whether one without a head was counted without a gap, nobody noted.
fn as_stored((name, mut state): (Name, State)) -> (Name, State) {
    state.uncounted = !state.known;
    (name, state)
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
