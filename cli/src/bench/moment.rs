//! A moment that two processes of a benchmark have in common.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the clocks are read. The process may be interrupted between two of them, but hardly each time.
const READINGS: usize = 16;

/// Returns the present moment, also as the time of the machine.
#[expect(clippy::disallowed_methods, reason = "an `Instant` cannot be sent to another process")]
fn now() -> (Instant, Duration) {
    let read = || {
        let at = Instant::now();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (at.elapsed(), at, time)
    };
    let mut best = read();
    for _ in 1..READINGS {
        let reading = read();
        if reading.0 < best.0 {
            best = reading;
        }
    }
    (best.1, best.2)
}

/// Returns a moment that is over as the time of the machine.
pub(crate) fn to_time(moment: Instant) -> Duration {
    let (at, time) = now();
    time.saturating_sub(at.saturating_duration_since(moment))
}

/// Returns the moment of a time that is over.
pub(crate) fn from_time(time: Duration) -> Instant {
    let (at, now) = now();
    at.checked_sub(now.saturating_sub(time)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_after_it_was_sent() {
        let moment = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let same = from_time(to_time(moment));
        let apart = same.saturating_duration_since(moment).max(moment.saturating_duration_since(same));
        assert!(apart < Duration::from_millis(500), "{apart:?}");
    }
}
