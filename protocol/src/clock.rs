//! The one source of time. Server and SDK ask a [`Clock`], never the system, so that tests own the time: what waits for a
//! token's end or for 35 silent seconds is tested at once and exactly.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A system clock may be set while somebody sleeps towards a point in time; he looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Tells the time, Unix milliseconds, and waits for it. Clones share their time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<watch::Sender<i64>>),
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The clock of the machine.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start_ms` until it is moved with [`Clock::advance`].
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(start_ms))))
    }

    /// Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => {
                // Before 1970 the clock is not set at all: 0 is as good as any.
                #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Source::Manual(now) => *now.borrow(),
        }
    }

    /// Unix seconds.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1_000)
    }

    /// Moves a manual clock and wakes those whose time has come. A system clock stays as it is.
    pub fn advance(&self, ms: i64) {
        if let Source::Manual(now) = &self.0 {
            now.send_modify(|now| *now = now.saturating_add(ms));
        }
    }

    /// Returns at `at_ms`, or at once if that has passed.
    pub async fn sleep_until(&self, at_ms: i64) {
        match &self.0 {
            Source::System => loop {
                let left = at_ms.saturating_sub(self.now_ms());
                let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else { return };
                tokio::time::sleep(Duration::from_millis(left).min(LOOK_AGAIN)).await;
            },
            Source::Manual(now) => {
                // Fails only without a sender, and `self` holds one.
                drop(now.subscribe().wait_for(|now| *now >= at_ms).await);
            }
        }
    }

    /// Returns after `ms` milliseconds.
    pub async fn sleep(&self, ms: i64) {
        match &self.0 {
            Source::System => tokio::time::sleep(Duration::from_millis(u64::try_from(ms).unwrap_or(0))).await,
            Source::Manual(_) => self.sleep_until(self.now_ms().saturating_add(ms)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(1_000);
        let clone = clock.clone();
        let sleeper = tokio::spawn(async move {
            clone.sleep(500).await;
            clone.now_ms()
        });
        tokio::task::yield_now().await;
        clock.advance(499);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(1);
        assert_eq!(sleeper.await.unwrap(), 1_500);
        assert_eq!(clock.now_s(), 1);
    }

    #[tokio::test]
    async fn the_past_is_not_waited_for() {
        Clock::manual(10).sleep_until(10).await;
        Clock::system().sleep_until(1).await;
        Clock::system().sleep(-1).await;
    }

    #[tokio::test]
    async fn the_system_clock_sleeps() {
        let clock = Clock::system();
        let start = clock.now_ms();
        clock.sleep_until(start + 20).await;
        assert!(clock.now_ms() >= start + 20);
    }
}
