//! What time does to presence: a custom status ends by itself, a login whose connection is gone without a word is found, and
//! subscriptions whose time is up go.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{store, subscription};
use crate::app::App;
use crate::db::{Locks, MAX_LOCKED_USERS};
use crate::error::Error;
use crate::key::{LoginKey, UserKey};

/// Logins that one read finds.
const PAGE: i64 = 1_000;
/// Jobs that wait for one commit.
const MAX_JOBS: usize = 256;
/// Between two looks for subscriptions whose time is up. Until then they count for nothing and are just there.
const SWEEP_INTERVAL_MS: i64 = 3_600_000;
/// After the store failed.
const RETRY_MS: i64 = 10_000;

/// Logins that are online by the store alone.
pub(crate) type LostLogins = HashSet<(LoginKey, UserKey)>;

/// Keeps presence true until the server ends. `lost_logins` were found before anybody could log in.
pub(crate) async fn maintain(app: Arc<App>, lost_logins: LostLogins, stopped: CancellationToken) {
    tokio::select! {
        () = stopped.cancelled() => {}
        () = reap_lost_logins(&app, lost_logins) => {}
        () = expire_custom_statuses(&app) => {}
        () = delete_expired_subscriptions(&app) => {}
    }
}

/// Finds logins that are online by the store and have no connection here.
pub(crate) async fn lost_logins(app: &App) -> Result<LostLogins, Error> {
    let (mut found, mut after) = (LostLogins::new(), LoginKey(0));
    loop {
        let page = app.db.read(async move |tx| store::connected(tx, after, PAGE).await).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        after = *last;
        found.extend(page.into_iter().filter(|(login, user)| !app.fanout.is_online(*user, *login)));
    }
}

/// Turns lost_logins offline. One that is seen twice, as long apart as a client may be silent, is no login that was just stored and
/// is on its way into the table of those who are online.
async fn reap_lost_logins(app: &App, mut suspects: LostLogins) {
    loop {
        let found = match lost_logins(app).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause(), "who is online by mistake cannot be found");
                suspects.clone()
            }
        };
        let lost: Vec<_> = found.intersection(&suspects).collect();
        // Many at once: they share commits.
        for lost in lost.chunks(MAX_JOBS) {
            let jobs: Vec<_> = lost.iter().map(|(login, user)| app.mark_disconnected(*user, *login)).collect();
            for done in jobs {
                if let Err(error) = done.await {
                    tracing::warn!(%error, cause = ?error.cause(), "somebody stays online by mistake for now");
                }
            }
        }
        suspects = found;
        app.clock.sleep(app.config.limits.offline_after_ms.into()).await;
    }
}

/// Ends each custom status at its time.
async fn expire_custom_statuses(app: &App) {
    loop {
        let next = match expire_due(app).await {
            Ok(next) => next.unwrap_or(i64::MAX),
            Err(error) => {
                tracing::warn!(%error, cause = ?error.cause(), "a custom status could not be ended");
                app.clock.now_ms() + RETRY_MS
            }
        };
        tokio::select! {
            () = app.clock.sleep_until(next) => {}
            () = app.fanout.custom_status_set.notified() => {}
        }
    }
}

/// Ends those whose time has come; returns when the next one's does.
async fn expire_due(app: &App) -> Result<Option<i64>, Error> {
    let limit = i64::try_from(MAX_LOCKED_USERS).unwrap_or(1);
    loop {
        let (now, at) = (app.clock.now_ms(), app.ids.time_ms());
        let users = app.db.read(async move |tx| store::expired_custom_statuses(tx, now, limit).await).await?;
        let Some(first) = users.first() else { break };
        let (partition, locks) = (first.0.unsigned_abs(), Locks::users(users.iter().map(|user| user.0)));
        app.db
            .submit(partition, locks, async move |tx| store::expire_custom_statuses(tx, &users, (now, at)).await)
            .await?;
    }
    app.db.read(async |tx| store::next_custom_expiry(tx).await).await
}

/// Takes away subscriptions whose time is up.
async fn delete_expired_subscriptions(app: &App) {
    loop {
        if let Err(error) = delete_expired(app).await {
            tracing::warn!(%error, cause = ?error.cause(), "subscriptions whose time is up could not be taken away");
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
        let jobs: Vec<_> = owners
            .into_iter()
            .map(|user| {
                app.db.submit(user.0.unsigned_abs(), Locks::user(user.0), async move |tx| {
                    subscription::delete_expired(tx, user, now).await
                })
            })
            .collect();
        for done in jobs {
            done.await?;
        }
    }
}
