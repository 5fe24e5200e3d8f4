//! Changes of users that wait until the watchers are notified. Finding the watchers takes a read, which the thread of
//! the write queue does not wait for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::key::UserKey;

/// The newest change of each user, or of something else: of ten changes in quick succession, watchers get the last.
#[derive(Debug)]
pub(crate) struct Conflated<T, K = UserKey> {
    waiting: Mutex<HashMap<K, T>>,
    added: Notify,
}

impl<T, K> Default for Conflated<T, K> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), added: Notify::default() }
    }
}

impl<T, K: Eq + Hash> Conflated<T, K> {
    /// Replaces the waiting change of this user, unless that is newer.
    pub(crate) fn add(&self, of: K, value: T, is_newer: impl Fn(&T, &T) -> bool) {
        match self.waiting.lock().entry(of) {
            Entry::Vacant(place) => drop(place.insert(value)),
            Entry::Occupied(mut held) if is_newer(&value, held.get()) => drop(held.insert(value)),
            Entry::Occupied(_) => {}
        }
        self.added.notify_one();
    }

    /// Waits for changes and takes all of them.
    pub(crate) async fn take(&self) -> HashMap<K, T> {
        loop {
            self.added.notified().await;
            let waiting = std::mem::take(&mut *self.waiting.lock());
            if !waiting.is_empty() {
                return waiting;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn changes_of_one_user_are_merged() {
        let conflated = Conflated::default();
        assert!(conflated.take().now_or_never().is_none());
        for change in 0..10 {
            conflated.add(UserKey(1), change, |one, other| one > other);
        }
        conflated.add(UserKey(1), 3, |one, other| one > other);
        conflated.add(UserKey(2), 7, |one, other| one > other);
        assert_eq!(conflated.take().now_or_never(), Some(HashMap::from([(UserKey(1), 9), (UserKey(2), 7)])));
        assert!(conflated.take().now_or_never().is_none());
    }
}
