//! Messages go first: an upload pauses between two pieces while a message of the same user is on its way.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// The longest pause before a piece. A message may wait much longer, for a connection or for its turn: uploads go on meanwhile, a piece
/// after each pause.
const LONGEST: Duration = Duration::from_millis(50);

/// How many messages are on their way.
#[derive(Clone, Debug, Default)]
pub(crate) struct First(Arc<watch::Sender<usize>>);

/// A message that is on its way, until this is dropped.
#[derive(Debug)]
pub(crate) struct Passing(First);

impl First {
    /// A message is on its way.
    pub(crate) fn pass(&self) -> Passing {
        self.0.send_modify(|passing| *passing += 1);
        Passing(self.clone())
    }

    /// Waits while messages are on their way, but not for long.
    pub(super) async fn give_way(&self) {
        if *self.0.borrow() > 0 {
            drop(timeout(LONGEST, self.passed()).await);
        }
    }

    /// Waits until no message is on its way.
    async fn passed(&self) {
        // Never fails: this has the sender.
        drop(self.0.subscribe().wait_for(|passing| *passing == 0).await);
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.0.send_modify(|passing| *passing -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn an_upload_waits_for_the_messages_before_it() {
        let first = First::default();
        first.passed().await;
        let (one, two) = (first.pass(), first.clone().pass());
        let mut upload = Box::pin(first.passed());
        assert!(matches!(futures_util::poll!(&mut upload), Poll::Pending));
        drop(one);
        assert!(matches!(futures_util::poll!(&mut upload), Poll::Pending), "another message is on its way");
        drop(two);
        assert!(matches!(futures_util::poll!(&mut upload), Poll::Ready(())));
    }

    #[tokio::test]
    async fn an_upload_goes_on_although_a_message_hangs() {
        let first = First::default();
        let hanging = first.pass();
        // It returns.
        first.give_way().await;
        first.give_way().await;
        assert_eq!(*first.0.borrow(), 1);
        drop(hanging);
        assert_eq!(*first.0.borrow(), 0);
    }
}
