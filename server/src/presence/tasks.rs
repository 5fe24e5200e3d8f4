//! Keeps presence true as time passes: removes custom statuses that end, and marks logins offline that lost their connection
//! unnoticed.

use super::{nodes, store};
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
/// How long after a look that found logins of dead nodes the next one is.
const DEAD_NODE_MS: i64 = 1_000;

fn of_user(subject: i64) -> Scope {
    Scope::user(UserKey(subject))
}

impl App {
    /// Begins to look for lost logins, of which there are many after a server was killed.
    pub(crate) async fn begin_to_look_for_lost_logins(&self) -> Result<(), Error> {
        let (now, is_node) = (self.clock.now_ms(), self.db.lease().is_some());
        let begun = self.db.submit(Scope::none(), async move |tx| match is_node {
            // Another node may be in the middle of a look.
            true => task::schedule_by(tx, &LOST_LOGINS, 0, now).await,
            false => task::schedule_only(tx, &LOST_LOGINS, 0, now).await,
        });
        begun.await
    }

    /// Whether a login that is connected in the store has no connection to this node.
    fn is_lost(&self, user: UserKey, login: LoginKey) -> bool {
        !self.fanout.is_online_or_stored(user, login)
    }
}

async fn look_for_lost_logins(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    if app.db.lease().is_some() {
        return look_for_logins_of_dead_nodes(app, tx, due).await;
    }
    let page = store::connected(tx, LoginKey(due.subject), PAGE).await?;
    let lost = page.iter().filter(|(login, user)| app.is_lost(*user, *login)).map(|(_, user)| *user);
    reap_later(tx, lost, due.now).await?;
    match full_page_end(&page) {
        Some(last) => task::schedule(tx, &LOST_LOGINS, last, due.now).await,
        None => look_again(app, tx, due.now).await,
    }
}

/// Looks for logins of nodes that are dead. Each node looks for its own (`own_logins`).
async fn look_for_logins_of_dead_nodes(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let dead = nodes::dead(tx).await?;
    if dead.is_empty() {
        return look_again(app, tx, due.now).await;
    }
    let numbers: Vec<i64> = dead.iter().map(|node| node.number).collect();
    let page = store::connected_to(tx, &numbers, LoginKey(due.subject), PAGE).await?;
    reap_later(tx, page.iter().map(|(_, user)| *user), due.now).await?;
    match full_page_end(&page) {
        Some(last) => task::schedule(tx, &LOST_LOGINS, last, due.now).await,
        // A look from the beginning that finds nothing is the proof that nothing is left, also of a node that died meanwhile.
        None if due.subject == 0 && page.is_empty() => {
            nodes::forget(tx, &dead).await?;
            look_again(app, tx, due.now).await
        }
        None => task::schedule(tx, &LOST_LOGINS, 0, due.now + DEAD_NODE_MS).await,
    }
}

async fn reap_later(tx: &mut Tx<'_>, users: impl Iterator<Item = UserKey>, now: i64) -> Result<(), Error> {
    let mut users: Vec<i64> = users.map(|user| user.0).collect();
    users.sort_unstable();
    users.dedup();
    task::schedule_missing(tx, &LOST_LOGINS_OF_USER, &users, now).await
}

/// Returns where the next page begins, if there may be one.
fn full_page_end(page: &[(LoginKey, UserKey)]) -> Option<LoginKey> {
    let is_full = i64::try_from(page.len()).is_ok_and(|length| length == PAGE);
    page.last().filter(|_| is_full).map(|(login, _)| *login)
}

async fn look_again(app: &App, tx: &mut Tx<'_>, now: i64) -> Result<(), Error> {
    task::schedule(tx, &LOST_LOGINS, 0, now + i64::from(app.config.limits.offline_after_ms)).await
}

async fn reap_lost_logins(app: &App, tx: &mut Tx<'_>, due: Due) -> Result<(), Error> {
    let (user, own) = (UserKey(due.subject), app.db.lease().map(|lease| i64::from(lease.number())));
    let connected = store::connected_of(tx, user).await?;
    // After the logins: a node that has just taken a number has stored that before any login.
    let live = if own.is_some() { nodes::live(tx).await? } else { Vec::new() };
    for login in connected {
        let is_of_other = own.is_some_and(|own| login.node() != own);
        let is_lost = if is_of_other { !live.contains(&login.node()) } else { app.is_lost(user, login) };
        if is_lost {
            store::disconnected(tx, user, login, app.ids.time_ms()).await?;
        }
    }
    Ok(())
}
