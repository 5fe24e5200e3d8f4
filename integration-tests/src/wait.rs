//! Waiting: always for something, never for a time. A deadline ends what will not come.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// No test waits longer for one thing.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// How often a condition that nobody announces is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The result of `what`, which must come in time.
///
/// # Panics
/// It does not.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(TIMEOUT, what).await.expect("it did not happen in time")
}

/// What `look` finds, as soon as it finds something.
///
/// # Panics
/// It finds nothing in time.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "in vain: {what}");
        sleep(POLL_INTERVAL).await;
    }
}
