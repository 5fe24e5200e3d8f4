//! Pulls: which conversations lack entries, and in which order they are asked for.

use zim_protocol::PullRequest;

use super::name::Name;
use super::state::Request;
use super::sync_engine::SyncEngine;

/// The most pulls in flight: enough to fill the pipe, few enough to let live traffic through.
const MAX_PULLS: usize = 4;
/// The rank of a pull after a live hint: before all pulls of the catch-up.
pub(super) const LIVE: i64 = i64::MIN;

/// A pull in flight.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) name: Name,
    pub(super) after_seq: u64,
    pub(super) after_rev: u64,
}

impl SyncEngine {
    /// Handles a pull that failed. The next sync retries it.
    pub fn pull_failed(&mut self, ticket: u64) {
        if let Some(pull) = self.pulls.remove(&ticket)
            && let Some(state) = self.conversations.get_mut(&pull.name)
        {
            state.pulling = None;
            // The hint that it was for is not resolved.
            state.dirty = true;
        }
    }

    /// Empties the queue after a rate limit. The next sync queues the pulls again.
    pub fn pause_pulls(&mut self) {
        for (_, name) in std::mem::take(&mut self.queue) {
            if let Some(state) = self.conversations.get_mut(&name) {
                state.rank = None;
            }
        }
    }

    /// Queues pulls of all conversations that lack entries, newest first.
    pub(super) fn want_pulls(&mut self) {
        let lacking: Vec<(Name, i64)> = self
            .conversations
            .iter()
            .filter(|(_, state)| state.lacks_positions())
            .map(|(name, state)| (name.clone(), state.last_ts.saturating_neg()))
            .collect();
        for (name, rank) in lacking {
            self.want_pull(&name, rank);
        }
    }

    pub(super) fn want_pull(&mut self, name: &Name, rank: i64) {
        if !self.is_online || !self.pulls_enabled {
            return;
        }
        let Some(state) = self.conversations.get_mut(name) else { return };
        if state.pulling.is_some() {
            // Its answer checks again.
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

    /// Starts queued pulls.
    pub(super) fn pump(&mut self) {
        while self.is_online && self.pulls.len() < MAX_PULLS {
            let Some((_, name)) = self.queue.pop_first() else { break };
            let Some(state) = self.conversations.get_mut(&name) else { continue };
            state.rank = None;
            if !state.lacks_positions() {
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
}
