//! The least that must move: a client that takes or gives a byte now and then does not hold a connection for ever.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;

/// How much must move in which time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Least {
    /// At least one byte moves in this time.
    pub(super) stall: Duration,
    /// These bytes move in this time.
    pub(super) bytes: u64,
}

impl Least {
    pub(super) fn new(limits: &Limits) -> Self {
        let ms = u64::from(limits.https_stall_timeout_ms);
        let bytes = u64::from(limits.https_min_bytes_per_second) * ms / 1_000;
        Self { stall: Duration::from_millis(ms), bytes: bytes.max(1) }
    }
}

/// What has moved since a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    since: Instant,
    bytes: u64,
}

impl Moved {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// When enough must have moved.
    pub(super) fn due(&self, least: Least) -> Instant {
        self.since + least.stall
    }

    /// Notes that this server could not take more for a time, for which the client is not to blame.
    pub(super) fn was_held_up(&mut self, time: Duration) {
        self.since += time;
    }

    /// Notes bytes that moved. Returns false if too few did in the time that is over.
    pub(super) fn note(&mut self, bytes: usize, now: Instant, least: Least) -> bool {
        self.bytes += bytes as u64;
        let is_enough = self.bytes >= least.bytes;
        if is_enough {
            *self = Self::new(now);
        }
        is_enough || now < self.due(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_must_move_in_each_time() {
        let least = Least { stall: Duration::from_secs(30), bytes: 30_000 };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut moved = Moved::new(start);
        assert!(moved.note(10_000, after(10), least) && moved.note(10_000, after(20), least));
        assert_eq!(moved.due(least), after(30));
        // The time begins anew with the last byte that was needed.
        assert!(moved.note(10_000, after(29), least));
        assert_eq!(moved.due(least), after(59));
        assert!(moved.note(29_999, after(58), least));
        assert!(!moved.note(0, after(59), least), "one byte is missing");
        // What comes at once is never too slow.
        let mut moved = Moved::new(start);
        assert!(moved.note(30_000, after(90), least));
    }

    #[test]
    fn the_time_for_which_the_server_holds_up_the_client_does_not_count() {
        let least = Least { stall: Duration::from_secs(30), bytes: 30_000 };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut moved = Moved::new(start);
        assert!(moved.note(10_000, after(1), least));
        // The disk is busy.
        moved.was_held_up(Duration::from_secs(60));
        assert_eq!(moved.due(least), after(90));
        assert!(moved.note(10_000, after(61), least));
        // The time of the client itself does.
        assert!(!moved.note(1, after(90), least));
    }

    #[test]
    fn a_limit_of_zero_asks_for_one_byte() {
        let limits = Limits { https_min_bytes_per_second: 0, ..Limits::default() };
        assert_eq!(Least::new(&limits).bytes, 1);
        assert_eq!(Least::new(&Limits::default()).bytes, 30_000);
    }
}
