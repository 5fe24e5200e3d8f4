//! What changed of users, until those who know them are told. Who they are takes a read, which the write queue's thread does
//! not wait for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::key::UserKey;

/// The newest change of each user: who renames himself ten times in a hurry is told of once.
#[derive(Debug)]
pub(crate) struct Conflated<T> {
    waiting: Mutex<HashMap<UserKey, T>>,
    some: Notify,
}

impl<T> Default for Conflated<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), some: Notify::default() }
    }
}

impl<T> Conflated<T> {
    /// Takes the place of what waits of this user, unless that is newer.
    pub(crate) fn add(&self, user: UserKey, what: T, is_newer: impl Fn(&T, &T) -> bool) {
        match self.waiting.lock().entry(user) {
            Entry::Vacant(place) => drop(place.insert(what)),
            Entry::Occupied(mut held) if is_newer(&what, held.get()) => drop(held.insert(what)),
            Entry::Occupied(_) => {}
        }
        self.some.notify_one();
    }

    /// All that wait, as soon as there are any.
    pub(crate) async fn take(&self) -> HashMap<UserKey, T> {
        loop {
            self.some.notified().await;
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
    fn changes_that_come_thick_are_merged() {
        let latest = Conflated::default();
        assert!(latest.take().now_or_never().is_none());
        for change in 0..10 {
            latest.add(UserKey(1), change, |one, other| one > other);
        }
        latest.add(UserKey(1), 3, |one, other| one > other);
        latest.add(UserKey(2), 7, |one, other| one > other);
        assert_eq!(latest.take().now_or_never(), Some(HashMap::from([(UserKey(1), 9), (UserKey(2), 7)])));
        assert!(latest.take().now_or_never().is_none());
    }
}
