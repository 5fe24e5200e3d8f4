//! Keeps presence true as time passes: removes expired custom statuses, marks logins offline that lost their connection
//! unnoticed, and deletes expired subscriptions.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{store, subscription};
use crate::app::App;
use crate::connection::Caller;
use crate::db::{MAX_LOCKED_USERS, Scope};
use crate::error::Error;
use crate::key::{LoginKey, UserKey};

/// Logins on a page.
const PAGE: i64 = 1_000;
/// Jobs that are submitted together.
const MAX_JOBS: usize = 256;
/// The time between two sweeps of expired subscriptions. Until then such a subscription has no effect.
const SWEEP_INTERVAL_MS: i64 = 3_600_000;
/// The wait after the store has failed.
const RETRY_MS: i64 = 10_000;

/// Logins that are connected in the store and have no connection.
pub(crate) type LostLogins = HashSet<(LoginKey, UserKey)>;

/// Maintains presence until the server stops. `lost_logins` were found before the first client could log in.
pub(crate) async fn maintain(app: Arc<App>, lost_logins: LostLogins, stopped: CancellationToken) {
    tokio::select! {
        () = stopped.cancelled() => {}
        () = reap_lost_logins(&app, lost_logins) => {}
        () = expire_custom_statuses(&app) => {}
        () = delete_expired_subscriptions(&app) => {}
    }
}

/// Returns the logins that are connected in the store and have no connection to this node.
pub(crate) async fn lost_logins(app: &App) -> Result<LostLogins, Error> {
    let (mut found, mut after) = (LostLogins::new(), LoginKey(0));
    loop {
        let page = app.db.read(async move |tx| store::connected(tx, after, PAGE).await).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = *last;
        found.extend(page.into_iter().filter(|(login, user)| !app.fanout.is_online(*user, *login)));
    }
}

/// Marks lost logins as offline, once they are found in two searches that are as far apart as the time after which a
/// silent client counts as offline. A login that was just stored and is not in the table of connections yet is found
/// only once.
async fn reap_lost_logins(app: &App, mut suspects: LostLogins) {
    loop {
        let found = match lost_logins(app).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause(), "cannot look for logins that lost their connection; retrying later");
                suspects.clone()
            }
        };
        let lost: Vec<_> = found.intersection(&suspects).collect();
        // Submitted together, so that they share commits.
        for lost in lost.chunks(MAX_JOBS) {
            let jobs: Vec<_> = lost.iter().map(|(login, user)| app.mark_disconnected(*user, *login)).collect();
            for done in jobs {
                if let Err(error) = done.await {
                    tracing::warn!(%error, cause = ?error.cause(), "cannot mark a login as offline that lost its connection; retrying later");
                }
            }
        }
        suspects = found;
        app.clock.sleep(app.config.limits.offline_after_ms.into()).await;
    }
}

/// Removes each custom status when it expires.
async fn expire_custom_statuses(app: &App) {
    loop {
        let next = match expire_due(app).await {
            Ok(next) => next.unwrap_or(i64::MAX),
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause(), "cannot remove an expired custom status; retrying later");
                app.clock.now_ms() + RETRY_MS
            }
        };
        tokio::select! {
            () = app.clock.sleep_until(next) => {}
            () = app.fanout.custom_status_set.notified() => {}
        }
    }
}

/// Removes custom statuses that have expired. Returns when the next one expires.
async fn expire_due(app: &App) -> Result<Option<i64>, Error> {
    let limit = i64::try_from(MAX_LOCKED_USERS).unwrap_or(1);
    loop {
        let (now, at) = (app.clock.now_ms(), app.ids.time_ms());
        let users = app.db.read(async move |tx| store::expired_custom_statuses(tx, now, limit).await).await?;
        let Some(first) = users.first() else { break };
        let scope = Scope::user(*first).and_users(users[1..].iter().copied());
        app.db.submit(scope, async move |tx| store::expire_custom_statuses(tx, &users, (now, at)).await).await?;
    }
    app.db.read(async |tx| store::next_custom_expiry(tx).await).await
}

/// Deletes expired subscriptions.
async fn delete_expired_subscriptions(app: &App) {
    loop {
        if let Err(error) = delete_expired(app).await {
            tracing::warn!(%error, cause = ?error.cause(), "cannot delete expired subscriptions; retrying later");
        }
        app.clock.sleep(SWEEP_INTERVAL_MS).await;
    }
}

async fn delete_expired(app: &App) -> Result<(), Error> {
    loop {
        let now = app.clock.now_ms();
        let limit = i64::try_from(MAX_JOBS).unwrap_or(1);
        let owners = app.db.read(async move |tx| subscription::users_with_expired(tx, now, limit).await).await?;
        if owners.is_empty() {
            return Ok(());
        }
        let server = Caller::server();
        let jobs: Vec<_> = owners
            .into_iter()
            .map(|user| {
                server.write(&app.db, Scope::user(user), async move |tx, log| {
                    subscription::delete_expired(tx, log, user, now).await
                })
            })
            .collect();
        for done in jobs {
            done.await?;
        }
    }
}
