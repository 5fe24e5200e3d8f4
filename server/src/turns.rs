//! Who is next when many users do the same at once.

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many of these writes wait for the database at once, for each of its queues: enough that a commit is shared, and few
/// enough that a message does not wait long behind them.
const AT_ONCE: usize = 32;

/// The turns of read marks and receipts. When a message to a large group arrives, all its members may open the group at the same
/// moment. Their writes would fill the queue of the database, and whoever sends a message would wait for all of them.
#[derive(Debug)]
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn new(queues: usize) -> Self {
        Self(Semaphore::new(AT_ONCE * queues))
    }

    /// Waits for its turn, behind those that wait already. The turn ends when this is dropped.
    pub(crate) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.0.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_others_wait_until_one_is_done() {
        let turns = Turns::new(2);
        let mut taken: Vec<_> = (0..64).map(|_| turns.wait().now_or_never().unwrap().unwrap()).collect();
        let (mut first, mut second) = (Box::pin(turns.wait()), Box::pin(turns.wait()));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        taken.pop();
        assert!((&mut second).now_or_never().is_none(), "those who wait are served in their order");
        assert!((&mut first).now_or_never().is_some());
    }
}
