//! Turns: of those who want the same thing, one does it and the others wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// The turns of all things.
pub(crate) struct Turns<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(OwnedMutexGuard<()>);

impl Turn {
    /// Whether others wait for it.
    pub(crate) fn is_wanted(&self) -> bool {
        Arc::strong_count(OwnedMutexGuard::mutex(&self.0)) > 1
    }
}

impl<K: Eq + Hash> Turns<K> {
    /// Waits until nobody else has the turn of this thing.
    pub(crate) async fn take(&self, thing: K) -> Turn {
        let turn = {
            let mut turns = self.0.lock();
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&thing).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(thing, Arc::downgrade(&turn));
                turn
            })
        };
        Turn(turn.lock_owned().await)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn one_has_the_turn_and_knows_who_waits() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let other = turns.take("b").await;
        assert!(!first.is_wanted() && !other.is_wanted());
        let mut second = Box::pin(turns.take("a"));
        assert!(matches!(futures_util::poll!(&mut second), Poll::Pending));
        assert!(first.is_wanted() && !other.is_wanted());
        drop(first);
        let second = second.await;
        assert!(!second.is_wanted());
        drop((second, other));
        let _third = turns.take("c").await;
        assert_eq!(turns.0.lock().len(), 1, "what nobody wants is forgotten");
    }
}
