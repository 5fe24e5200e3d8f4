//! Waiting for a condition, never for a fixed time. Every wait has a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// The longest wait for a single condition.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// How often a condition is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Awaits `what`, at most [`TIMEOUT`].
///
/// # Panics
/// It does not complete in time.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, what).await.expect("timed out")
}

/// Polls `look` until it returns `Some`, at most [`TIMEOUT`]; returns the value.
///
/// # Panics
/// It returns nothing in time.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "timed out: {what}");
        sleep(POLL_INTERVAL).await;
    }
}
