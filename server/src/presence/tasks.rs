//! Keeps presence true as time passes: removes custom statuses that end, and marks logins offline that lost their connection
//! unnoticed.

use super::store;
use crate::app::App;
use crate::db::{Scope, Tx};
use crate::error::Error;
use crate::key::{LoginKey, UserKey};
use crate::task::{self, Due, TaskKind};

/// A custom status ends; the subject is the user.
pub(crate) static CUSTOM_STATUS_END: TaskKind<App> = TaskKind {
    number: 1,
    name: "custom-status-end",
    scope: of_user,
    run: |app, tx, _, due| Box::pin(store::end_custom_status(tx, UserKey(due.subject), (due.now, app.ids.time_ms()))),
};

/// Looks for logins that are connected in the store and have no connection. The subject is the login that the page begins
/// after. Each page schedules the next one, and the last page the next look: there is always one task of this kind.
pub(crate) static LOST_LOGINS: TaskKind<App> = TaskKind {
    number: 3,
    name: "lost-logins",
    scope: |_| Scope::none(),
    run: |app, tx, _, due| Box::pin(look_for_lost_logins(app, tx, due)),
};

/// Marks the lost logins of a user as offline; the subject is the user. It is due at once: it is a task of its own because it
/// needs the lock of the user.
pub(crate) static LOST_LOGINS_OF_USER: TaskKind<App> = TaskKind {
    number: 4,
    name: "lost-logins-of-user",
    scope: of_user,
    run: |app, tx, _, due| Box::pin(reap_lost_logins(app, tx, due)),
};

/// Logins on a page.
const PAGE: i64 = 1_000;

fn of_user(subject: i64) -> Scope {
    Scope::user(UserKey(subject))
}

impl App {
    /// Begins to look for lost logins, of which there are many after a server was killed.
    pub(crate) async fn begin_to_look_for_lost_logins(&self) -> Result<(), Error> {
        let now = self.clock.now_ms();
        self.db.submit(Scope::none(), async move |tx| task::schedule_only(tx, &LOST_LOGINS, 0, now).await).await
    }

    /// Whether a login that is connected in the store has no connection to this node.
    fn is_lost(&self, user: UserKey, login: LoginKey) -> bool {
        !self.fanout.is_online_or_stored(user, login)
    }
}

async fn look_for_lost_logins(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let page = store::connected(tx, LoginKey(due.subject), PAGE).await?;
    let mut users: Vec<i64> =
        page.iter().filter(|(login, user)| app.is_lost(*user, *login)).map(|(_, user)| user.0).collect();
    users.sort_unstable();
    users.dedup();
    task::schedule_missing(tx, &LOST_LOGINS_OF_USER, &users, due.now).await?;
    let is_full = i64::try_from(page.len()).is_ok_and(|length| length == PAGE);
    match page.last().filter(|_| is_full) {
        Some((last, _)) => task::schedule(tx, &LOST_LOGINS, *last, due.now).await,
        None => {
            let interval_ms = i64::from(app.config.limits.offline_after_ms);
            task::schedule(tx, &LOST_LOGINS, 0, due.now + interval_ms).await
        }
    }
}

async fn reap_lost_logins(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let user = UserKey(due.subject);
    for login in store::connected_of(tx, user).await? {
        if app.is_lost(user, login) {
            store::disconnected(tx, user, login, app.ids.time_ms()).await?;
        }
    }
    Ok(())
}
