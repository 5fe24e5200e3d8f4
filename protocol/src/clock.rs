//! The one source of time. Server and SDK ask a [`Clock`], never the system, so that tests own the time: what waits for a
//! token's end or for 35 silent seconds is tested at once and exactly.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A system clock may be set while somebody sleeps towards a point in time; he looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Tells the time, Unix milliseconds, and waits for it. Clones share their time.
///
/// The time of day may be set, back too, while a program runs. When something was it says; how long something takes is
/// measured with [`Clock::steady_ms`], or else a clock that is set back by an hour makes somebody wait for an hour.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<watch::Sender<Times>>),
}

/// What a manual clock shows.
#[derive(Clone, Copy, Debug)]
struct Times {
    now_ms: i64,
    steady_ms: i64,
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

    /// A clock that stands at `start_ms` until it is moved with [`Clock::advance`] or [`Clock::jump`].
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(Times { now_ms: start_ms, steady_ms: 0 }))))
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
            Source::Manual(times) => times.borrow().now_ms,
        }
    }

    /// Milliseconds since a moment that is the same for all clones: nobody can set them, and they never fall. While the
    /// machine sleeps they may stand still.
    pub fn steady_ms(&self) -> i64 {
        match &self.0 {
            Source::System => {
                static START: OnceLock<Instant> = OnceLock::new();
                i64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
            }
            Source::Manual(times) => times.borrow().steady_ms,
        }
    }

    /// Unix seconds.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1_000)
    }

    /// Lets time pass on a manual clock and wakes those whose time has come. A system clock stays as it is.
    pub fn advance(&self, ms: i64) {
        if let Source::Manual(times) = &self.0 {
            times.send_modify(|times| {
                times.now_ms = times.now_ms.saturating_add(ms);
                times.steady_ms = times.steady_ms.saturating_add(ms.max(0));
            });
        }
    }

    /// Sets a manual clock, forward or back, by so much; no time passes. A system clock stays as it is.
    pub fn jump(&self, ms: i64) {
        if let Source::Manual(times) = &self.0 {
            times.send_modify(|times| times.now_ms = times.now_ms.saturating_add(ms));
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
            Source::Manual(times) => {
                // Fails only without a sender, and `self` holds one.
                drop(times.subscribe().wait_for(|times| times.now_ms >= at_ms).await);
            }
        }
    }

    /// Returns when [`Clock::steady_ms`] says `at_ms`, or at once if that has passed.
    pub async fn sleep_until_steady(&self, at_ms: i64) {
        match &self.0 {
            Source::System => {
                let left = u64::try_from(at_ms.saturating_sub(self.steady_ms())).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            Source::Manual(times) => {
                // Fails only without a sender, and `self` holds one.
                drop(times.subscribe().wait_for(|times| times.steady_ms >= at_ms).await);
            }
        }
    }

    /// Returns after `ms` milliseconds, whatever becomes of the time of day.
    pub async fn sleep(&self, ms: i64) {
        self.sleep_until_steady(self.steady_ms().saturating_add(ms)).await;
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
    async fn a_clock_that_is_set_makes_nobody_wait_longer_or_shorter() {
        let clock = Clock::manual(1_000);
        let clone = clock.clone();
        let sleeper = tokio::spawn(async move { clone.sleep(500).await });
        tokio::task::yield_now().await;
        clock.jump(7_200_000);
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.jump(-9_000_000);
        assert_eq!((clock.now_ms(), clock.steady_ms()), (1_000 - 1_800_000, 0));
        clock.advance(500);
        sleeper.await.unwrap();
        assert_eq!(clock.steady_ms(), 500);
    }

    #[tokio::test]
    async fn the_past_is_not_waited_for() {
        Clock::manual(10).sleep_until(10).await;
        Clock::manual(10).sleep_until_steady(0).await;
        Clock::system().sleep_until(1).await;
        Clock::system().sleep(-1).await;
    }

    #[tokio::test]
    async fn the_system_clock_sleeps() {
        let clock = Clock::system();
        let start = clock.now_ms();
        clock.sleep_until(start + 20).await;
        assert!(clock.now_ms() >= start + 20);
        let start = clock.steady_ms();
        clock.sleep(20).await;
        assert!(clock.steady_ms() >= start + 20);
    }
}
