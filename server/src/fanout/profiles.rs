//! Profiles that changed, until those who know the user are told. Who they are takes a read, which the write queue's thread
//! does not wait for.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::Notify;
use zim_protocol::UserFullInfo;

use crate::key::UserKey;

/// The newest change of each user: who renames himself ten times in a hurry is told of once.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    waiting: Mutex<HashMap<UserKey, UserFullInfo>>,
    some: Notify,
}

impl Profiles {
    /// Takes the place of what waits of this user.
    pub(super) fn add(&self, user: UserKey, info: UserFullInfo) {
        self.waiting.lock().insert(user, info);
        self.some.notify_one();
    }

    /// All that wait, as soon as there are any.
    pub(crate) async fn take(&self) -> HashMap<UserKey, UserFullInfo> {
        loop {
            self.some.notified().await;
            let waiting = std::mem::take(&mut *self.waiting.lock());
            if !waiting.is_empty() {
                return waiting;
            }
        }
    }
}
