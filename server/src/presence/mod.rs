//! Presence: which users are online on which platforms, and their custom statuses.
//!
//! A login that has a connection is marked in its own row, in the transaction that admits it. So a user's status
//! follows from committed rows and never from what this node holds in memory. A change writes one row, however many
//! users subscribe to it. A login whose connection was lost unnoticed (it broke while the login was being stored, or the
//! server was killed) is found by a task (`tasks`), so no user stays online by mistake. A login is that of the node whose
//! number its key has; a node looks for its own, and the others look for those of a node that is dead.

mod nodes;
mod own_logins;
mod rules;
mod store;
mod tasks;
mod unmarked;

use std::sync::Arc;

/// The number of the kind of tasks about calls whose caller goes offline; the noun itself defines it.
pub(crate) const CALLER_LEFT: i64 = 51;
/// How long a caller who lost their connection has to come back.
pub(crate) const CALLER_GRACE_MS: i64 = 5_000;

pub(crate) use self::own_logins::watch_logins;
pub(crate) use self::rules::{Change, Custom};
#[cfg(test)]
pub(crate) use self::rules::{Connections, bit};
#[cfg(test)]
pub(crate) use self::store::{
    CONNECTED_LOGINS, CONNECTED_PLATFORMS, connected, connected_of, disconnected, end_custom_status,
};
pub(crate) use self::store::{PRESENCE, change, connections, own, presence, statuses};
pub(crate) use self::tasks::{CUSTOM_STATUS_END, LOST_LOGINS, LOST_LOGINS_OF_USER};
pub(crate) use self::unmarked::mark_unmarked_logins;
use crate::app::App;
use crate::connection::ConnectionState;
use crate::db::{Scope, Submitted};
use crate::key::{LoginKey, UserKey};

impl App {
    /// Handles the end of a connection: it gets no more pushes, and its user may be offline now.
    pub fn disconnected(&self, connection: &Arc<ConnectionState>) {
        let Some(identity) = connection.identity() else { return };
        let (user, login) = (identity.user, identity.login);
        if self.fanout.unregister(user, connection) && !connection.is_logged_out() {
            // If the job fails, the next look for lost logins finds the login.
            if self.mark_disconnected(user, login).is_refused() {
                self.unmarked_logins.add(user, login);
            }
        }
    }

    /// Marks a login as disconnected.
    fn mark_disconnected(&self, user: UserKey, login: LoginKey) -> Submitted<()> {
        let at = self.ids.time_ms();
        self.db.submit(Scope::user(user), async move |tx| store::disconnected(tx, user, login, at).await)
    }
}
