//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// The first attempt after a loss comes at once: most losses are a moment in a lift.
const FIRST_MS: u64 = 200;
/// No pause is longer.
const LAST_MS: u64 = 15_000;

/// Pauses that grow, from one loss to its end, each with a share of chance, so that the clients of a server that comes back do not all knock at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The pause before the next attempt; `chance` is any random number.
    pub(crate) fn next(&mut self, chance: u64) -> Duration {
        let full = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(LAST_MS);
        self.attempts = self.attempts.saturating_add(1);
        // Half of it is certain, half is chance.
        Duration::from_millis(full / 2 + chance % (full / 2 + 1))
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
}
