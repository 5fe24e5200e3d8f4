//! The sync engine: which entries of the three logs are new, what to store, and what to ask the server for. Pure: no
//! IO, no clock. The account task of the SDK feeds it and takes its output; a model checker does the same.
//!
//! Rules. A push that ends at or below the known position is old; a push that begins at the next position is applied;
//! any other push is a hint, and one pull resolves it. Conversations that moved while the device was away are pulled
//! newest first. Ranges record what is held, so that skipped messages are a known gap and never a silent one.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use zim_protocol::{Dirty, FillResult, Snapshot, Sums, UserFullInfo};

use super::catch_up::Syncing;
use super::name::Name;
use super::positions::MAX_POSITION;
use super::pulls::{LIVE, Pull};
use super::ranges::Ranges;
use super::state::{Change, Output, Position, Progress, Saved, State};

/// What a device knows, and the rules by which it learns more. See the module.
#[derive(Debug)]
pub struct SyncEngine {
    pub(super) viewer: String,
    pub(super) conversations: HashMap<Name, State>,
    pub(super) position: Position,
    pub(super) syncing: Option<Syncing>,
    /// Another sync follows the current one.
    pub(super) sync_wanted: bool,
    pub(super) is_online: bool,
    pub(super) ticket: u64,
    pub(super) output: Output,
    pub(super) position_moved: bool,
    /// Increases with every reset: requests of an older generation are ignored.
    generation: u64,
    /// Increases with every epoch that ends here.
    epochs: u64,
    /// Older messages are not caught up with.
    pub(super) horizon_ms: i64,
    pub(super) pulls: HashMap<u64, Pull>,
    pub(super) queue: BTreeSet<(i64, Name)>,
    pub(super) pulls_enabled: bool,
    pub(super) dirty: HashMap<Name, Vec<(u64, u64)>>,
    /// A conversation awaits pushes, or did since the last audit.
    pub(super) awaits_pushes: bool,
}

impl SyncEngine {
    /// Creates an engine of `viewer` from the state in the store.
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
            epochs: 0,
            horizon_ms: 0,
            pulls: HashMap::new(),
            queue: BTreeSet::new(),
            pulls_enabled: true,
            dirty: HashMap::new(),
            awaits_pushes: false,
        }
    }

    /// Disables pulls, for a one-shot session, which gets no pushes.
    #[must_use]
    pub fn without_pulls(mut self) -> Self {
        self.pulls_enabled = false;
        self
    }

    /// Returns whether the session gets pushes: a one-shot session gets none.
    pub fn gets_pushes(&self) -> bool {
        self.pulls_enabled
    }

    /// Sets the time before which messages are left to history.
    pub fn set_horizon(&mut self, ms: i64) {
        self.horizon_ms = ms;
    }

    /// Returns what is known about a conversation.
    pub fn state(&self, name: &Name) -> Option<&State> {
        self.conversations.get(name)
    }

    /// Iterates over all conversations.
    pub fn states(&self) -> impl Iterator<Item = (&Name, &State)> {
        self.conversations.iter()
    }

    /// Returns what is known apart from conversations.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Returns how many epochs have ended since the start. A position from before the last one means nothing.
    pub fn epochs(&self) -> u64 {
        self.epochs
    }

    /// Returns the generation of the positions.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Computes COUNT, SUM(head_seq) and SUM(head_rev). Equal sums mean equal positions, because a client is never
    /// ahead of the server.
    pub fn sums(&self) -> Sums {
        let counted = self.conversations.values().filter(|state| state.is_counted());
        counted.fold(Sums::default(), |sums, state| Sums {
            count: sums.count + 1,
            seq: sums.seq.saturating_add(state.head_seq),
            rev: sums.rev.saturating_add(state.head_rev),
        })
    }

    /// Returns whether nothing is in flight or queued.
    pub fn is_idle(&self) -> bool {
        self.syncing.is_none() && self.pulls.is_empty() && self.queue.is_empty()
    }

    /// Takes the output since the last call.
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

    /// Reports that the connection is lost: no request in flight will be answered.
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
        self.await_no_pushes();
    }

    /// Returns whether a conversation awaits pushes. If they do not come within some seconds, an audit gets what they should have
    /// brought.
    pub fn awaits_pushes(&mut self) -> bool {
        // Seldom true, so the conversations are seldom looked at.
        self.awaits_pushes = self.awaits_pushes && self.conversations.values().any(|state| state.awaits_pushes);
        self.awaits_pushes
    }

    /// Pushes may be lost: what they should have brought is pulled.
    pub(super) fn await_no_pushes(&mut self) {
        self.awaits_pushes = false;
        self.conversations.values_mut().for_each(|state| (state.is_live, state.awaits_pushes) = (false, false));
    }

    /// Returns whether a sync is in flight.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Returns whether messages up to a position are missing and will arrive.
    pub fn lacks_before(&self, name: &Name, seq: u64) -> bool {
        let state = self.conversations.get(name);
        let lacks = |state: &State| state.lacks_positions() || state.pulling.is_some() || state.rank.is_some();
        let waits = |state: &State| state.awaits_pushes || lacks(state);
        state.map_or(0, |state| state.seq) < seq
            && (!self.is_online || self.is_syncing() || self.sync_wanted || state.is_some_and(waits))
    }

    /// Returns whether there is a connection.
    pub fn is_online(&self) -> bool {
        self.is_online
    }

    /// Starts again from the state in the store, because a write failed. Requests in flight are forgotten; the next
    /// audit sends them again.
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

    /// Handles a hint that pushes were dropped on the way.
    pub fn dirtied(&mut self, dirty: &Dirty) {
        if dirty.all {
            self.await_no_pushes();
        }
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

    /// Handles a pushed snapshot of other users. A sync in flight may have read older values or may drop the new ones,
    /// so another sync follows; until then the pushed values stay.
    pub fn snapshot_pushed(&mut self, snapshot: &Snapshot) {
        if let Some(syncing) = &mut self.syncing {
            let base = |info: &UserFullInfo| info.base_info.as_ref().map(|base| base.user_id.clone());
            syncing.pushed_users.extend(snapshot.profiles.iter().filter_map(base));
            // A status carries its time.
            self.sync_wanted |= !snapshot.profiles.is_empty();
        }
    }

    /// Adds a conversation that only this device knows so far, because its first message is being written.
    pub fn open(&mut self, name: &Name) {
        if !self.conversations.contains_key(name) {
            self.conversations.insert(name.clone(), State { is_local: true, ..State::default() });
            self.touch(name);
        }
    }

    /// Handles the answer to an own message, which the server has stored at `seq`. A push or a pull brings it and makes it held. An
    /// answer does not: the message may have been stored long before, by a connection that broke, and the answer does not say what has
    /// happened to it since. If a head has moved the positions beyond it meanwhile, only a page says that.
    pub fn answered(&mut self, name: &Name, seq: u64) {
        if let Some(state) = self.conversations.get_mut(name) {
            state.target_seq = state.target_seq.max(seq);
            if state.lacks_positions() {
                self.want_pull(name, LIVE);
            }
        }
    }

    /// Handles a page of history that was requested in `generation`.
    pub fn filled(&mut self, name: &Name, generation: u64, fill: FillResult) {
        let is_wanted = generation == self.generation && fill.to <= MAX_POSITION;
        let Some(state) = self.conversations.get_mut(name).filter(|_| is_wanted) else { return };
        state.target_seq = state.target_seq.max(fill.to);
        if !fill.messages.is_empty() {
            state.as_of(fill.rev);
        }
        let lacks_positions = state.lacks_positions();
        self.cover(name, fill.from.max(1), fill.to);
        let (name, entries) = (name.clone(), fill.messages);
        let change = Change::Messages { name: name.clone(), entries, raise_after: u64::MAX, own_after: u64::MAX };
        self.output.batch.changes.push(change);
        if lacks_positions {
            self.want_pull(&name, LIVE);
        }
    }

    /// Resets all positions, because they are no longer valid.
    pub(super) fn drop_all(&mut self, epoch: Bytes) {
        self.generation += 1;
        self.epochs += 1;
        self.position = Position { is_settled: self.position.is_settled, ..Position::default() };
        self.position_moved = true;
        self.pulls.clear();
        self.queue.clear();
        self.dirty.clear();
        for (name, state) in &mut self.conversations {
            self.dirty.insert(name.clone(), Vec::new());
            *state = State::default();
        }
        self.output.batch.changes.push(Change::DropAll { epoch });
    }

    /// Resets a conversation that the server no longer has.
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

    /// Marks a head as moved by a push: sums that were requested before do not include it.
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

    /// Returns the conversations that the server should know, except `seen`, in order.
    pub(super) fn unseen(&self, seen: &HashSet<Name>) -> Vec<Name> {
        let states = self.conversations.iter();
        let unseen = states.filter(|(name, state)| state.is_counted() && !seen.contains(*name));
        let mut names: Vec<Name> = unseen.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }
}

/// Loads a state from the store. The store does not record whether one without a head was counted without a gap, and whether the
/// server knew one without positions.
fn as_stored((name, mut state): (Name, State)) -> (Name, State) {
    state.uncounted = !state.known;
    state.is_local = !state.known && !state.is_counted();
    (name, state)
}
