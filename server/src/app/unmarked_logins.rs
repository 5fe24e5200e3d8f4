//! Logins that lost their connection while the write queue was full. They are still connected in the store.

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::key::{LoginKey, UserKey};

/// Logins that are to be marked as disconnected.
#[derive(Debug, Default)]
pub(crate) struct UnmarkedLogins {
    logins: Mutex<Vec<(UserKey, LoginKey)>>,
    added: Notify,
}

impl UnmarkedLogins {
    pub(crate) fn add(&self, user: UserKey, login: LoginKey) {
        self.logins.lock().push((user, login));
        self.added.notify_one();
    }

    /// Waits until a login is added.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    pub(crate) fn take(&self) -> Vec<(UserKey, LoginKey)> {
        std::mem::take(&mut *self.logins.lock())
    }
}
