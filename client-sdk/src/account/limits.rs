//! Limits on requests that the SDK keeps itself.

use std::collections::VecDeque;

/// A rate limit. Pure: the caller passes the time, by the steady clock.
#[derive(Debug)]
pub(crate) struct Limiter {
    most: usize,
    window_ms: i64,
    asked: VecDeque<(i64, usize)>,
}

impl Limiter {
    /// Creates a limit of `most` per `window_ms`.
    pub(crate) fn new(most: usize, window_ms: i64) -> Self {
        Self { most, window_ms, asked: VecDeque::new() }
    }

    /// 10 users in 10 seconds.
    pub(crate) fn queried_users() -> Self {
        Self::new(10, 10_000)
    }

    /// Counts `count` more if the limit allows it; returns whether it does.
    pub(crate) fn take(&mut self, count: usize, now_ms: i64) -> bool {
        while self.asked.front().is_some_and(|(at, _)| now_ms - at >= self.window_ms) {
            self.asked.pop_front();
        }
        let asked: usize = self.asked.iter().map(|(_, count)| count).sum();
        if asked + count > self.most {
            return false;
        }
        self.asked.push_back((now_ms, count));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_users_in_ten_seconds_are_allowed() {
        let mut limiter = Limiter::queried_users();
        assert!(limiter.take(6, 0));
        assert!(limiter.take(4, 1_000));
        assert!(!limiter.take(1, 9_999));
        assert!(limiter.take(6, 10_000));
        assert!(!limiter.take(1, 10_000));
        assert!(limiter.take(4, 11_000));
        assert!(!Limiter::queried_users().take(11, 0));
    }
}
