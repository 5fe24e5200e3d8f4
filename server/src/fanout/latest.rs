//! What changed of users, until those who know them are told. Who they are takes a read, which the write queue's thread does
//! not wait for.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::key::UserKey;

/// The newest change of each user: who renames himself ten times in a hurry is told of once.
#[derive(Debug)]
pub(crate) struct Latest<T> {
    waiting: Mutex<HashMap<UserKey, T>>,
    some: Notify,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), some: Notify::default() }
    }
}

impl<T> Latest<T> {
    /// Takes the place of what waits of this user.
    pub(super) fn add(&self, user: UserKey, what: T) {
        self.waiting.lock().insert(user, what);
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
