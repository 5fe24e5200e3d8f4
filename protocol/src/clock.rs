//! Server and SDK ask a [`clock::Clock`], never the system, so that a test controls time: the end of a token or 35 silent
//! seconds are tested at once and exactly.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// The system clock may be set during a sleep until a point in time. So the sleep checks the clock at this interval.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Reads the time, Unix milliseconds, and waits for a time. Clones share their time.
///
/// The time of day may be set while a program runs, also back. Use it for when something happened. Use [`Clock::steady_ms`]
/// for how long something takes: otherwise a clock that is set back by an hour makes a wait an hour longer.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Corrected(Corrected),
    Manual(Arc<watch::Sender<Times>>),
}

/// Follows the steady time of a machine and corrections. It stands still while the machine sleeps, until the next correction.
#[derive(Clone, Debug)]
struct Corrected {
    machine: Machine,
    /// What is added to the steady time, milliseconds.
    ahead_ms: Arc<AtomicI64>,
}

/// Where a [`Corrected`] clock reads the times of its machine.
#[derive(Clone, Copy, Debug)]
struct Machine {
    now_ms: fn() -> i64,
    steady_ms: fn() -> i64,
}

impl Corrected {
    /// Begins with the time of day of the machine.
    fn new(machine: Machine) -> Self {
        let corrected = Self { machine, ahead_ms: Arc::default() };
        corrected.correct((machine.now_ms)());
        corrected
    }

    fn correct(&self, now_ms: i64) {
        self.ahead_ms.store(now_ms.saturating_sub(self.steady_ms()), Ordering::Relaxed);
    }

    fn now_ms(&self) -> i64 {
        self.steady_ms().saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }

    fn steady_ms(&self) -> i64 {
        (self.machine.steady_ms)()
    }
}

/// The times of a manual clock.
#[derive(Clone, Copy, Debug)]
struct Times {
    now_ms: i64,
    steady_ms: i64,
    is_correctable: bool,
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// Returns the clock of the machine.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// Returns a clock that begins with the time of the machine and then follows [`Clock::correct`] alone: if somebody sets the
    /// clock of the machine, its time does not jump. While the machine sleeps it stands still, until the next correction. Any other
    /// clock is returned as it is.
    #[must_use]
    pub fn correctable(self) -> Self {
        match self.0 {
            Source::System => {
                let machine = Machine { now_ms: system_ms, steady_ms: machine_steady_ms };
                Self(Source::Corrected(Corrected::new(machine)))
            }
            other => Self(other),
        }
    }

    /// Corrects the time of day of a [`Clock::correctable`] clock: it is `now_ms` now. It does nothing to a system clock, nor to a
    /// manual one unless [`Clock::take_corrections`] says so.
    pub fn correct(&self, now_ms: i64) {
        match &self.0 {
            Source::System => {}
            Source::Corrected(corrected) => corrected.correct(now_ms),
            Source::Manual(times) => {
                times.send_if_modified(|times| {
                    let is_wrong = times.is_correctable && times.now_ms != now_ms;
                    if is_wrong {
                        times.now_ms = now_ms;
                    }
                    is_wrong
                });
            }
        }
    }

    /// Sets whether [`Clock::correct`] sets a manual clock. It does nothing to any other clock.
    pub fn take_corrections(&self, takes: bool) {
        if let Source::Manual(times) = &self.0 {
            times.send_modify(|times| times.is_correctable = takes);
        }
    }

    /// Returns a clock that stands at `start_ms` until [`Clock::advance`] or [`Clock::jump`] moves it.
    pub fn manual(start_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(Times {
            now_ms: start_ms,
            steady_ms: 0,
            is_correctable: false,
        }))))
    }

    /// Returns the time of day, Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => system_ms(),
            Source::Corrected(corrected) => corrected.now_ms(),
            Source::Manual(times) => times.borrow().now_ms,
        }
    }

    /// Returns the milliseconds since a moment that all clones share. They cannot be set and never decrease. They may stand
    /// still while the machine sleeps.
    pub fn steady_ms(&self) -> i64 {
        match &self.0 {
            Source::System => machine_steady_ms(),
            Source::Corrected(corrected) => corrected.steady_ms(),
            Source::Manual(times) => times.borrow().steady_ms,
        }
    }

    /// Returns the time of day, Unix seconds.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1_000)
    }

    /// Lets time pass on a manual clock and wakes the sleepers that are due. It does nothing to a system clock.
    pub fn advance(&self, ms: i64) {
        if let Source::Manual(times) = &self.0 {
            times.send_modify(|times| {
                times.now_ms = times.now_ms.saturating_add(ms);
                times.steady_ms = times.steady_ms.saturating_add(ms.max(0));
            });
        }
    }

    /// Sets a manual clock forward or back by `ms`; no time passes. It does nothing to a system clock, nor to a manual one that takes
    /// corrections: that is like a [`Clock::correctable`] one, which does not follow the clock of the machine.
    pub fn jump(&self, ms: i64) {
        if let Source::Manual(times) = &self.0 {
            times.send_if_modified(|times| {
                if !times.is_correctable {
                    times.now_ms = times.now_ms.saturating_add(ms);
                }
                !times.is_correctable
            });
        }
    }

    /// Sleeps until `at_ms`, or not at all if that has passed.
    pub async fn sleep_until(&self, at_ms: i64) {
        match &self.0 {
            Source::System | Source::Corrected(_) => loop {
                let left = at_ms.saturating_sub(self.now_ms());
                let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else { return };
                tokio::time::sleep(Duration::from_millis(left).min(CHECK_INTERVAL)).await;
            },
            Source::Manual(times) => {
                // It fails only without a sender, and `self` holds one.
                drop(times.subscribe().wait_for(|times| times.now_ms >= at_ms).await);
            }
        }
    }

    /// Sleeps until [`Clock::steady_ms`] is `at_ms`, or not at all if that has passed.
    pub async fn sleep_until_steady(&self, at_ms: i64) {
        match &self.0 {
            Source::System | Source::Corrected(_) => {
                let left = u64::try_from(at_ms.saturating_sub(self.steady_ms())).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(left)).await;
            }
            Source::Manual(times) => {
                // It fails only without a sender, and `self` holds one.
                drop(times.subscribe().wait_for(|times| times.steady_ms >= at_ms).await);
            }
        }
    }

    /// Sleeps for `ms` milliseconds, whatever happens to the time of day.
    pub async fn sleep(&self, ms: i64) {
        self.sleep_until_steady(self.steady_ms().saturating_add(ms)).await;
    }
}

fn machine_steady_ms() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    i64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(i64::MAX)
}

fn system_ms() -> i64 {
    // A clock before 1970 is not set at all: any value does.
    #[expect(clippy::disallowed_methods, reason = "all other code asks a clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// The times of a machine that a test sets: the time of day, and the steady one.
        static MACHINE: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
    }

    #[test]
    fn a_correctable_clock_does_not_follow_the_clock_of_the_machine() {
        let machine = Machine { now_ms: || MACHINE.get().0, steady_ms: || MACHINE.get().1 };
        MACHINE.set((50_000, 700));
        let clock = Clock(Source::Corrected(Corrected::new(machine)));
        assert_eq!((clock.now_ms(), clock.steady_ms()), (50_000, 700));
        // Somebody sets it, forward and back.
        for now_ms in [9_050_000, 1_000] {
            MACHINE.set((now_ms, 700));
            assert_eq!((clock.now_ms(), clock.steady_ms()), (50_000, 700));
        }
        // Time passes.
        MACHINE.set((1_003, 703));
        assert_eq!((clock.now_ms(), clock.steady_ms()), (50_003, 703));
        clock.correct(60_000);
        MACHINE.set((9_000_000, 705));
        assert_eq!((clock.now_ms(), clock.steady_ms()), (60_002, 705));
    }

    #[test]
    fn only_a_correctable_clock_is_corrected() {
        let (system, manual) = (Clock::system(), Clock::manual(5).correctable());
        let corrected = system.clone().correctable();
        let hour = 3_600_000;
        for clock in [&system, &manual, &corrected] {
            clock.correct(system.now_ms() + hour);
        }
        assert!((corrected.now_ms() - system.now_ms() - hour).abs() < 60_000);
        assert_eq!(manual.now_ms(), 5);
        assert!((corrected.clone().now_ms() - corrected.now_ms()).abs() < 60_000, "clones share the correction");
        corrected.correct(system.now_ms());
        assert!((corrected.now_ms() - system.now_ms()).abs() < 60_000);
    }

    #[test]
    fn a_manual_clock_is_corrected_as_long_as_it_takes_corrections() {
        let clock = Clock::manual(1_000);
        clock.take_corrections(true);
        clock.clone().correct(9_000);
        // No time passes.
        assert_eq!((clock.now_ms(), clock.steady_ms()), (9_000, 0));
        // It does not follow the clock of the machine.
        clock.jump(500_000);
        clock.advance(3);
        assert_eq!((clock.now_ms(), clock.steady_ms()), (9_003, 3));
        clock.correct(9_000);
        clock.take_corrections(false);
        clock.correct(2_000);
        assert_eq!(clock.now_ms(), 9_000);
        clock.jump(1);
        assert_eq!(clock.now_ms(), 9_001);
    }

    #[tokio::test]
    async fn a_manual_clock_moves_only_when_it_is_moved() {
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
    async fn setting_the_clock_does_not_change_how_long_a_sleep_is() {
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
    async fn a_sleep_until_a_past_time_returns_at_once() {
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
