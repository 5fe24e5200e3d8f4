//! The back-off between attempts to connect.

use std::time::Duration;

/// The first pause is short: most losses are brief.
const FIRST_MS: u64 = 200;
/// The longest pause.
const LAST_MS: u64 = 15_000;
/// After a connection that lasted this long, the back-off starts again with a short pause.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// Exponential back-off with jitter, so that the clients of a restarted server do not all reconnect at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Returns the pause before the next attempt; `random` is any random number.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let full = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(LAST_MS);
        self.attempts = self.attempts.saturating_add(1);
        // Half of the pause is fixed, half is jitter.
        Duration::from_millis(full / 2 + random % (full / 2 + 1))
    }

    /// Takes note of a connection that has ended. One that is lost at once counts as an attempt that failed.
    pub(crate) fn note_connection(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_bounded() {
        let mut backoff = Backoff::default();
        assert!(backoff.next(u64::MAX - 1) <= Duration::from_millis(FIRST_MS));
        let mut last = Duration::ZERO;
        for _ in 0..50 {
            last = backoff.next(0);
        }
        assert_eq!(last, Duration::from_millis(LAST_MS / 2));
        assert!(backoff.next(LAST_MS / 2) <= Duration::from_millis(LAST_MS));
    }

    #[test]
    fn a_connection_shortens_the_pause_if_it_lasted_ten_seconds() {
        let mut backoff = Backoff::default();
        let pauses = [0; 3].map(|random| backoff.next(random));
        assert_eq!(pauses, [100, 200, 400].map(Duration::from_millis));
        backoff.note_connection(Duration::from_millis(9_999));
        assert_eq!(backoff.next(0), Duration::from_millis(800));
        backoff.note_connection(Duration::from_secs(10));
        assert_eq!(backoff.next(0), Duration::from_millis(100));
    }
}
