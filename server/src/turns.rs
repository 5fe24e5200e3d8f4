//! Who is next when many users do the same to one conversation.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::key::ConversationKey;

/// How many of these writes of a conversation wait for the database at once: enough that a commit is shared, and few enough that
/// a message does not wait long behind them.
pub(crate) const AT_ONCE: usize = 8;

/// The turns of read marks and receipts. When a message to a large group arrives, all its members may open the group at the same
/// moment. Their writes would fill the queue of the database, and whoever sends a message would wait for all of them. Each
/// conversation has turns of its own, so that the others do not wait.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<ConversationKey, Waiting>>);

/// Those who have a turn in a conversation, and those who wait for one.
#[derive(Debug)]
struct Waiting {
    turns: Arc<Semaphore>,
    count: usize,
}

/// A turn. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _permit: Option<OwnedSemaphorePermit>,
    _place: Place<'a>,
}

/// Keeps the turns of a conversation as long as somebody has one or waits.
#[derive(Debug)]
struct Place<'a>(&'a Turns, ConversationKey);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.0.0.lock();
        if let Some(waiting) = all.get_mut(&self.1) {
            waiting.count -= 1;
            if waiting.count == 0 {
                all.remove(&self.1);
            }
        }
    }
}

impl Turns {
    /// Waits for a turn in a conversation, behind those who wait already.
    pub(crate) async fn wait(&self, conversation: ConversationKey) -> Turn<'_> {
        let turns = {
            let mut all = self.0.lock();
            let new = || Waiting { turns: Arc::new(Semaphore::new(AT_ONCE)), count: 0 };
            let waiting = all.entry(conversation).or_insert_with(new);
            waiting.count += 1;
            Arc::clone(&waiting.turns)
        };
        let place = Place(self, conversation);
        // The semaphore is never closed.
        Turn { _permit: turns.acquire_owned().await.ok(), _place: place }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const CREW: ConversationKey = ConversationKey(1);
    const OTHER: ConversationKey = ConversationKey(2);

    #[test]
    fn those_of_one_conversation_wait_until_one_is_done() {
        let turns = Turns::default();
        let mut taken: Vec<_> = (0..AT_ONCE).map(|_| turns.wait(CREW).now_or_never().unwrap()).collect();
        let (mut first, mut second) = (Box::pin(turns.wait(CREW)), Box::pin(turns.wait(CREW)));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert!(turns.wait(OTHER).now_or_never().is_some());
        taken.pop();
        assert!((&mut second).now_or_never().is_none(), "those who wait are served in their order");
        let first = first.now_or_never().unwrap();
        // Whoever no longer waits has no place.
        drop(second);
        assert_eq!(turns.0.lock().len(), 1);
        drop((taken, first));
        assert!(turns.0.lock().is_empty());
    }
}
