//! Limits warnings about events that may happen a thousand times a second to one a minute, with a count and the sources.
//!
//! The first event is reported at once. Those of the next minute are counted and reported together: with the first event after
//! that minute, or by `report_remaining` if no event follows, so that no count is lost.

use std::fmt::Display;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use zim_protocol::clock::Clock;

/// The minimum time between two warnings.
const PERIOD_MS: i64 = 60_000;
/// The number of different sources in a warning: the latest ones.
const MAX_SOURCES: usize = 5;

/// Events of one kind. `A` is the source of an event, usually an address.
///
/// It is pure: the caller passes the time, from a monotonic clock (`Clock::steady_ms`).
#[derive(Debug)]
pub(crate) struct Repeated<A> {
    warned_at_ms: Option<i64>,
    count: u64,
    sources: Vec<A>,
    /// Whether there were more sources than `sources` holds.
    has_more: bool,
}

/// The content of one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The number of events since the last warning, including the latest one.
    pub(crate) count: u64,
    /// Their latest sources, separated by commas.
    pub(crate) addresses: String,
}

impl<A: Display + PartialEq> Repeated<A> {
    /// Creates a counter without events.
    pub(crate) const fn new() -> Self {
        Self { warned_at_ms: None, count: 0, sources: Vec::new(), has_more: false }
    }

    /// Counts an event. Returns a summary if a warning is due.
    pub(crate) fn note(&mut self, now_ms: i64, from: A) -> Option<Summary> {
        self.count = self.count.saturating_add(1);
        if !self.sources.contains(&from) {
            if self.sources.len() == MAX_SOURCES {
                self.sources.remove(0);
                self.has_more = true;
            }
            self.sources.push(from);
        }
        self.due(now_ms)
    }

    /// Returns a summary of the events that are not reported yet, if the minute after the last warning is over.
    pub(crate) fn due(&mut self, now_ms: i64) -> Option<Summary> {
        let may_warn = self.warned_at_ms.is_none_or(|warned| now_ms.saturating_sub(warned) >= PERIOD_MS);
        if may_warn { self.flush(now_ms) } else { None }
    }

    /// Returns a summary of the events that are not reported yet, at any time.
    pub(crate) fn flush(&mut self, now_ms: i64) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        self.warned_at_ms = Some(now_ms);
        let mut addresses = self.sources.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.has_more {
            addresses.push_str(" and others");
        }
        let summary = Summary { count: self.count, addresses };
        (self.count, self.has_more) = (0, false);
        self.sources.clear();
        Some(summary)
    }
}

/// Reports the remaining events a minute after the last warning, and at `end`.
pub(crate) async fn report_remaining<A: Display + PartialEq>(
    repeated: &Mutex<Repeated<A>>,
    clock: &Clock,
    end: &CancellationToken,
    report: impl Fn(Summary),
) {
    loop {
        let at_ms = clock.steady_ms().saturating_add(PERIOD_MS);
        if end.run_until_cancelled(clock.sleep_until_steady(at_ms)).await.is_none() {
            break;
        }
        let left = repeated.lock().due(clock.steady_ms());
        left.into_iter().for_each(&report);
    }
    let left = repeated.lock().flush(clock.steady_ms());
    left.into_iter().for_each(&report);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn summary(count: u64, addresses: &str) -> Option<Summary> {
        Some(Summary { count, addresses: addresses.to_owned() })
    }

    #[test]
    fn the_first_event_is_reported_at_once_and_the_next_a_minute_later() {
        let mut repeated = Repeated::new();
        assert_eq!(repeated.note(5_000, "a"), summary(1, "a"));
        for now_ms in [5_000, 5_001, 64_999] {
            assert_eq!(repeated.note(now_ms, "b"), None);
            assert_eq!(repeated.due(now_ms), None);
        }
        assert_eq!(repeated.note(65_000, "c"), summary(4, "b, c"));
        assert_eq!(repeated.note(124_999, "c"), None);
    }

    #[test]
    fn counted_events_are_reported_although_none_follows() {
        let mut repeated = Repeated::new();
        assert_eq!(repeated.due(0), None);
        assert_eq!(repeated.note(0, 1), summary(1, "1"));
        assert_eq!(repeated.note(1, 2), None);
        assert_eq!(repeated.due(59_999), None);
        assert_eq!(repeated.due(60_000), summary(1, "2"));
        assert_eq!(repeated.due(200_000), None);
        assert_eq!(repeated.note(200_000, 3), summary(1, "3"));
        assert_eq!(repeated.note(200_001, 4), None);
        assert_eq!(repeated.flush(200_002), summary(1, "4"));
        assert_eq!(repeated.flush(200_003), None);
    }

    #[test]
    fn only_the_latest_sources_are_kept() {
        let mut repeated = Repeated::new();
        repeated.note(0, 0);
        for address in 1..=5 {
            assert_eq!(repeated.note(1, address), None);
        }
        assert_eq!(repeated.note(60_000, 5), summary(6, "1, 2, 3, 4, 5"));
        for address in 1..=1_000 {
            assert_eq!(repeated.note(60_001, address), None);
        }
        assert_eq!(repeated.due(120_000), summary(1_000, "996, 997, 998, 999, 1000 and others"));
        assert!(repeated.sources.capacity() < 10);
    }

    #[tokio::test]
    async fn remaining_events_are_reported_a_minute_later_and_at_the_end() {
        let repeated = Arc::new(Mutex::new(Repeated::new()));
        let (clock, end) = (Clock::manual(0), CancellationToken::new());
        let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
        repeated.lock().note(clock.steady_ms(), "a");
        repeated.lock().note(clock.steady_ms(), "b");
        let flusher = {
            let (repeated, clock, end) = (Arc::clone(&repeated), clock.clone(), end.clone());
            tokio::spawn(async move {
                report_remaining(&repeated, &clock, &end, |summary| drop(sender.send(summary))).await;
            })
        };
        while received.is_empty() {
            clock.advance(PERIOD_MS);
            tokio::task::yield_now().await;
        }
        assert_eq!(received.recv().await, summary(1, "b"));
        repeated.lock().note(clock.steady_ms(), "c");
        end.cancel();
        flusher.await.unwrap();
        assert_eq!(received.recv().await, summary(1, "c"));
    }
}
