//! The pace of sending: as fast as the server allows, so that it refuses nothing. A refusal could be overtaken by a later
//! message, because many are in flight. Pure: the caller passes the time, by the steady clock.

/// The share of the burst that is kept in reserve, because the network may deliver messages closer together than they
/// were sent.
const RESERVE: u32 = 10;

/// The allowance of a login, as the server counts it (the generic cell rate algorithm).
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The time for which one message uses up the allowance; 0: there is no limit, or none is known.
    interval_us: i64,
    depth_us: i64,
    full_at_us: i64,
    /// After a refusal nothing is sent before this time.
    blocked_until_ms: i64,
    /// After a refusal one message is sent at a time, until the server accepts one.
    is_careful: bool,
}

impl Pace {
    /// Sets what the server allows.
    pub(crate) fn set(&mut self, per_second: u32, burst: u32) {
        let depth = i64::from((burst - burst / RESERVE).max(1));
        self.interval_us = if per_second == 0 || burst == 0 { 0 } else { 1_000_000 / i64::from(per_second) };
        self.depth_us = self.interval_us.saturating_mul(depth);
    }

    /// Takes a place for a message, unless it is too early. `in_flight` are the messages without an answer.
    pub(crate) fn take(&mut self, now_ms: i64, in_flight: usize) -> bool {
        if !self.may_start(in_flight) || now_ms < self.next_ms(now_ms) {
            return false;
        }
        let now_us = now_ms.saturating_mul(1_000);
        self.full_at_us = self.full_at_us.max(now_us).saturating_add(self.interval_us);
        true
    }

    /// Returns whether the time alone decides about the next message.
    pub(crate) fn may_start(&self, in_flight: usize) -> bool {
        !self.is_careful || in_flight == 0
    }

    /// Returns the earliest time of the next message.
    pub(crate) fn next_ms(&self, now_ms: i64) -> i64 {
        let now_us = now_ms.saturating_mul(1_000);
        let over = self.full_at_us.max(now_us).saturating_add(self.interval_us - self.depth_us);
        let at_us = if self.interval_us == 0 { now_us } else { over.max(now_us) };
        at_us.saturating_add(999).div_euclid(1_000).max(self.blocked_until_ms)
    }

    /// The server refused a message.
    pub(crate) fn refused(&mut self, now_ms: i64, retry_after_ms: i64) {
        self.is_careful = true;
        self.blocked_until_ms = self.blocked_until_ms.max(now_ms.saturating_add(retry_after_ms.max(1)));
    }

    /// The server accepted a message.
    pub(crate) fn accepted(&mut self) {
        self.is_careful = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages that may be sent at a time.
    fn burst(pace: &mut Pace, now_ms: i64) -> usize {
        (0..1_000).take_while(|_| pace.take(now_ms, 0)).count()
    }

    #[test]
    fn a_burst_is_followed_by_the_rate() {
        let mut pace = Pace::default();
        pace.set(10, 50);
        assert_eq!(burst(&mut pace, 1_000), 45);
        assert_eq!(pace.next_ms(1_000), 1_100);
        assert_eq!(burst(&mut pace, 1_099), 0);
        assert_eq!(burst(&mut pace, 1_100), 1);
        assert_eq!(burst(&mut pace, 2_100), 10);
        // After a long pause the burst is back, and not more.
        assert_eq!(burst(&mut pace, 1_000_000), 45);
    }

    #[test]
    fn without_a_known_limit_there_is_none() {
        let mut pace = Pace::default();
        assert_eq!(burst(&mut pace, 0), 1_000);
        pace.set(10, 0);
        assert_eq!(burst(&mut pace, 0), 1_000);
        pace.set(1_000_000, 1);
        assert_eq!(burst(&mut pace, 0), 1);
    }

    #[test]
    fn after_a_refusal_one_message_tries_at_the_given_time() {
        let mut pace = Pace::default();
        pace.refused(100, 250);
        assert_eq!(pace.next_ms(100), 350);
        assert!(!pace.take(349, 0));
        assert!(pace.take(350, 0));
        assert!(!pace.take(350, 1), "the answer decides");
        pace.accepted();
        assert!(pace.take(350, 1));
    }
}
