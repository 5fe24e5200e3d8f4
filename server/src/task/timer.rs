//! When a worker looks next.

use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::Notify;
use zim_protocol::clock::Clock;

use super::lane::Share;
use crate::effect::{Effect, Queue};

/// How much later this node looks for what another node has scheduled.
const OTHERS_MS: i64 = 500;

/// The timers of a server's workers.
#[derive(Debug, Default)]
pub struct Timers {
    tasks: Timer,
    outbox: Timer,
    lanes: Timer,
}

impl Timers {
    /// Notes the times in the effects of a commit.
    pub fn note(&self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Due { queue, at } = effect {
                self.of(*queue).for_each(|timer| timer.note(*at));
            }
        }
    }

    /// Notes the times in the effects of another node's commit. That node runs what is due: this one looks a moment later, in case
    /// it does not.
    pub fn note_of_others(&self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Due { queue, at } = effect {
                self.of(*queue).for_each(|timer| timer.note(at.saturating_add(OTHERS_MS)));
            }
        }
    }

    /// Lets the workers look at once.
    pub fn look(&self) {
        [&self.tasks, &self.outbox, &self.lanes].into_iter().for_each(|timer| timer.note(i64::MIN));
    }

    /// Returns the timers of the workers that run entries of a table.
    fn of(&self, queue: Queue) -> impl Iterator<Item = &Timer> {
        [Share::Tasks, Share::Outbox, Share::Lanes]
            .into_iter()
            .filter(move |share| share.queue() == queue)
            .map(|share| self.of_share(share))
    }

    pub(super) fn of_share(&self, share: Share) -> &Timer {
        match share {
            Share::Tasks => &self.tasks,
            Share::Outbox => &self.outbox,
            Share::Lanes => &self.lanes,
        }
    }
}

/// The earliest time at which something is due.
#[derive(Debug)]
pub(super) struct Timer {
    at: AtomicI64,
    changed: Notify,
}

impl Default for Timer {
    fn default() -> Self {
        Self { at: AtomicI64::new(i64::MAX), changed: Notify::new() }
    }
}

impl Timer {
    /// Sets the timer to a time, unless it is set to an earlier one.
    pub(super) fn note(&self, at: i64) {
        if self.at.fetch_min(at, Ordering::AcqRel) > at {
            self.changed.notify_one();
        }
    }

    /// Turns the timer off. It comes before the read of what is due: what is noted during the read counts.
    pub(super) fn reset(&self) {
        self.at.store(i64::MAX, Ordering::Release);
    }

    /// Waits until the time has come.
    pub(super) async fn wait(&self, clock: &Clock) {
        loop {
            tokio::select! {
                () = clock.sleep_until(self.at.load(Ordering::Acquire)) => return,
                () = self.changed.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_timer_waits_for_the_earliest_time() {
        let (timer, clock) = (Timer::default(), Clock::manual(1_000));
        let mut wait = std::pin::pin!(timer.wait(&clock));
        let mut is_over = || wait.as_mut().now_or_never().is_some();
        assert!(!is_over());
        timer.note(5_000);
        timer.note(2_000);
        timer.note(3_000);
        clock.advance(999);
        assert!(!is_over());
        clock.advance(1);
        assert!(is_over());
        timer.reset();
        assert!(timer.wait(&clock).now_or_never().is_none());
    }
}
