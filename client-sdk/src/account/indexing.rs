//! When messages are indexed for search: some time after they arrived, and not while many arrive. To index a message costs
//! more than to receive it, and a search indexes what is left.

use super::remote::Remote;
use super::task::AccountTask;
use crate::apply::Job;
use crate::engine::Change;
use crate::store::{Length, message_search};

/// Messages are indexed so long after they arrived.
const IDLE_MS: i64 = 2_000;
/// The shortest pause between two batches of the index.
const BETWEEN_BATCHES_MS: i64 = 100;
/// The messages of a batch: some milliseconds.
const BATCH: usize = 200;
/// While more messages arrive in a second, they are not indexed.
const CALM_PER_SECOND: i64 = 10;
/// The most messages that wait for a calm time: a search that indexes them takes about a second.
const MOST_WAITING: usize = 20_000;
/// The highest load, in thousandths of a message: so it is over some time after the last message, however many there were.
const MOST_LOAD: i64 = CALM_PER_SECOND * IDLE_MS;

/// The messages that wait to be indexed, and how fast others arrive. Pure: the caller passes the time, by the steady clock.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// The messages that wait.
    waiting: usize,
    /// Thousandths of the messages that arrived lately, less those that may arrive in a calm time.
    load: i64,
    /// When the load was computed.
    at_ms: i64,
}

impl Backlog {
    /// `waiting` messages are left by earlier logins.
    pub(super) fn new(waiting: usize) -> Self {
        Self { waiting, ..Self::default() }
    }

    /// Notes messages that were stored.
    fn add(&mut self, messages: usize, now_ms: i64) {
        self.waiting = self.waiting.saturating_add(messages);
        let added = i64::try_from(messages).unwrap_or(i64::MAX).saturating_mul(1_000);
        self.load = self.load_at(now_ms).saturating_add(added).min(MOST_LOAD);
        self.at_ms = now_ms;
    }

    /// Returns the load, which falls with the time.
    fn load_at(&self, now_ms: i64) -> i64 {
        let passed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        self.load.saturating_sub(passed_ms.saturating_mul(CALM_PER_SECOND)).max(0)
    }

    /// Returns whether the index waits, because many messages arrive and few enough wait.
    fn waits(&self, now_ms: i64) -> bool {
        self.waiting <= MOST_WAITING && self.load_at(now_ms) > MOST_LOAD / 2
    }

    /// A batch was indexed. `is_more`: there are more messages.
    fn indexed(&mut self, is_more: bool) {
        self.waiting = if is_more { self.waiting.saturating_sub(BATCH) } else { 0 };
    }
}

/// Returns how many messages a job may add.
pub(super) fn messages_of(job: &Job) -> usize {
    let added = |change: &Change| match change {
        Change::Messages { entries, .. } => entries.len(),
        _ => 0,
    };
    job.batch.changes.iter().map(added).fold(job.attach.len(), usize::saturating_add)
}

impl<L: Remote> AccountTask<L> {
    /// Indexes some messages for search, if no input waits. Its batches and pauses leave almost all of the time for the rest.
    pub(super) async fn index_messages(&mut self) {
        let now_ms = self.clock.steady_ms();
        if now_ms < self.next_index_ms || !self.inbox.is_empty() || self.closing.is_some() {
            return;
        }
        if self.backlog.waits(now_ms) {
            self.next_index_ms = now_ms + IDLE_MS;
            return;
        }
        let is_more = self.store.write(Length::Long, |db| message_search::index(db, BATCH)).await;
        // After an error a search tries again, and reports it.
        let is_more =
            is_more.inspect_err(|error| tracing::warn!(%error, "messages cannot be indexed")).unwrap_or(false);
        self.backlog.indexed(is_more);
        // At most a tenth of the time, however slow the device is.
        let done_ms = self.clock.steady_ms();
        let pause_ms = BETWEEN_BATCHES_MS.max((done_ms - now_ms) * 9);
        self.next_index_ms = if is_more { done_ms + pause_ms } else { i64::MAX };
    }

    /// Messages were stored, or have changed: they are indexed soon.
    pub(super) fn index_later(&mut self, messages: usize) {
        if !self.indexes {
            return;
        }
        let now_ms = self.clock.steady_ms();
        self.backlog.add(messages, now_ms);
        if self.next_index_ms == i64::MAX {
            self.next_index_ms = now_ms + IDLE_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_waits_while_many_messages_arrive_and_for_some_time_after_them() {
        let mut backlog = Backlog::default();
        // Half a minute of a message every ten milliseconds.
        for at in 0..3_000 {
            backlog.add(1, at * 10);
            assert!(at < 100 || backlog.waits(at * 10), "{at}");
        }
        let end = 29_990;
        assert!(backlog.waits(end + IDLE_MS / 2 - 1));
        assert!(!backlog.waits(end + IDLE_MS / 2));
        // A page of history counts for no longer.
        backlog.add(1_000, end + 10_000);
        assert!(backlog.waits(end + 10_000) && !backlog.waits(end + 10_000 + IDLE_MS / 2));
    }

    #[test]
    fn the_index_does_not_wait_while_few_messages_arrive() {
        let mut backlog = Backlog::default();
        for at in 0..1_000 {
            backlog.add(1, at * 100);
            assert!(!backlog.waits(at * 100), "{at}");
        }
    }

    #[test]
    fn the_index_does_not_wait_when_many_messages_wait() {
        // Some of them arrived during an earlier login.
        let mut backlog = Backlog::new(MOST_WAITING - 100);
        backlog.add(100, 0);
        assert!(backlog.waits(0));
        backlog.add(1, 0);
        assert!(!backlog.waits(0));
        // Only those above the limit are indexed during the load.
        backlog.indexed(true);
        assert!(backlog.waits(0));
        backlog.add(BATCH + 1, 0);
        assert!(!backlog.waits(0));
        backlog.indexed(false);
        assert!(backlog.waits(0));
    }
}
