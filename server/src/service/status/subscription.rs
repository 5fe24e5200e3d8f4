//! Rows of subscriptions to statuses, and the task that deletes those that expire.

use std::collections::{HashMap, HashSet};

use zim_protocol::{SubscriptionEntry, UserStatus, feed_entry::Detail};

use crate::app::App;
use crate::db::{Row, Scope, Tx, params};
use crate::error::Error;
use crate::journal::{FeedKind, LogWriter};
use crate::key::UserKey;
use crate::presence::{PRESENCE, presence};
use crate::service::counter::Counter;
use crate::service::rows::about;
use crate::task::{self, Due, TaskKind};

/// A subscription was made, renewed or ended; the key is the user subscribed to.
pub(crate) static SUBSCRIPTION: FeedKind =
    FeedKind { number: 7, resolve: |tx, user, keys| Box::pin(entries(tx, user, keys)) };

/// Subscriptions of a user expire; the subject is the user.
pub(crate) static SUBSCRIPTIONS_END: TaskKind<App> = TaskKind {
    number: 2,
    name: "subscriptions-end",
    scope: |subject| Scope::user(UserKey(subject)),
    run: |_, tx, log, due| Box::pin(end_subscriptions(tx, log, due)),
};

/// Subscriptions that expire within this time are deleted together. Until then they have no effect.
const SWEEP_MS: i64 = 60_000;

/// The most subscriptions that one task deletes.
const MAX_EXPIRED: i64 = 100;

/// The most subscriptions that one job evicts. There are more than one request adds only after the limit was lowered.
const MAX_SURPLUS: i64 = 200;

/// Subscribes `user` to `targets` until `expires_at`. Beyond `most` subscriptions the earliest are evicted.
pub(super) async fn subscribe(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    targets: &[UserKey],
    (now, expires_at): (i64, i64),
    most: i64,
) -> Result<(), Error> {
    // Expired subscriptions count until they are swept: otherwise short ones would accumulate between two sweeps.
    let (list, mut params) = tx.dialect().in_list(targets.iter().map(|target| target.0), 2);
    params.splice(0..0, params![user]);
    let sql = format!("SELECT COUNT(*) FROM subscription WHERE account = $1 AND target IN {list}");
    let renewed: i64 = tx.fetch_one(&sql, &params).await?.map_or(Ok(0), |row| row.get(0))?;
    let added = i64::try_from(targets.len()).unwrap_or(i64::MAX).saturating_sub(renewed);
    let surplus = Counter::SUBSCRIPTIONS.get(tx, user).await?.saturating_add(added).saturating_sub(most);
    let mut keys: Vec<i64> = Vec::new();
    if surplus > 0 {
        let (list, mut params) = tx.dialect().in_list(targets.iter().map(|target| target.0), 4);
        params.splice(0..0, params![user, now, surplus.min(MAX_SURPLUS)]);
        let sql = format!(
            "DELETE FROM subscription WHERE account = $1 AND target IN (SELECT target FROM subscription \
             WHERE account = $1 AND target NOT IN {list} \
             ORDER BY CASE WHEN expires_at <= $2 THEN 0 ELSE 1 END, place LIMIT $3) RETURNING target"
        );
        for row in tx.fetch(&sql, &params).await? {
            keys.push(row.get(0)?);
        }
    }
    let evicted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    Counter::SUBSCRIPTIONS.add(tx, user, added - evicted).await?;
    keys.extend(targets.iter().map(|target| target.0));
    log.feed_all(tx, user, &SUBSCRIPTION, &keys).await?;
    let (list, mut params) = tx.dialect().in_list(targets.iter().map(|target| target.0), 3);
    params.splice(0..0, params![user, expires_at]);
    // The place of each row is the position of its feed entry.
    let sql = format!(
        "INSERT INTO subscription (account, target, place, expires_at) SELECT account, key, pos, $2 FROM feed \
         WHERE account = $1 AND kind = {} AND key IN {list} \
         ON CONFLICT (account, target) DO UPDATE SET place = excluded.place, expires_at = excluded.expires_at",
        SUBSCRIPTION.number
    );
    tx.execute(&sql, &params).await?;
    schedule_subscriptions_end(tx, user, expires_at).await
}

/// Ends the subscriptions of `user` to `targets`. Returns the targets that had one.
pub(super) async fn unsubscribe(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    user: UserKey,
    targets: &[UserKey],
    now: i64,
) -> Result<HashSet<UserKey>, Error> {
    let (list, mut params) = tx.dialect().in_list(targets.iter().map(|target| target.0), 3);
    params.splice(0..0, params![user, now]);
    let sql = format!(
        "DELETE FROM subscription WHERE account = $1 AND target IN {list} \
         RETURNING target, CASE WHEN expires_at > $2 THEN 1 ELSE 0 END"
    );
    let rows = tx.fetch(&sql, &params).await?;
    log_deleted(tx, log, user, &rows).await?;
    let active = rows.iter().filter(|row| row.get::<i64>(1).is_ok_and(|is_active| is_active == 1));
    active.map(|row| Ok(UserKey(row.get(0)?))).collect()
}

/// Deletes expired subscriptions of `user`. All devices of the user are notified, so that they hold the same rows.
pub(super) async fn delete_expired(tx: &mut Tx<'_>, log: &mut LogWriter, user: UserKey, now: i64) -> Result<(), Error> {
    let sql = "DELETE FROM subscription WHERE account = $1 AND target IN (SELECT target FROM subscription \
               WHERE account = $1 AND expires_at <= $2 LIMIT $3) RETURNING target";
    let rows = tx.fetch(sql, &params![user, now, MAX_EXPIRED]).await?;
    log_deleted(tx, log, user, &rows).await
}

/// Counts these deleted rows, whose column 0 is the target, and appends an entry for each to the feed of `user`.
async fn log_deleted(tx: &mut Tx<'_>, log: &mut LogWriter, user: UserKey, rows: &[Row]) -> Result<(), Error> {
    let keys = rows.iter().map(|row| row.get(0)).collect::<Result<Vec<i64>, _>>()?;
    if keys.is_empty() {
        return Ok(());
    }
    Counter::SUBSCRIPTIONS.add(tx, user, -i64::try_from(keys.len()).unwrap_or(i64::MAX)).await?;
    log.feed_all(tx, user, &SUBSCRIPTION, &keys).await?;
    Ok(())
}

/// Schedules the end of a user's subscriptions, of which the first expires then.
async fn schedule_subscriptions_end(tx: &mut Tx<'_>, user: UserKey, expires_at: i64) -> Result<(), Error> {
    let late = expires_at.rem_euclid(SWEEP_MS);
    let at = expires_at.saturating_add(if late == 0 { 0 } else { SWEEP_MS - late });
    task::schedule_by(tx, &SUBSCRIPTIONS_END, user, at).await
}

async fn end_subscriptions(tx: &mut Tx<'_>, log: &mut LogWriter, due: Due) -> Result<(), Error> {
    let user = UserKey(due.subject);
    delete_expired(tx, log, user, due.now).await?;
    match next_expiry(tx, user).await? {
        Some(next) => schedule_subscriptions_end(tx, user, next).await,
        None => Ok(()),
    }
}

/// Returns when the first subscription of `user` expires, `None` if there are none.
pub(super) async fn next_expiry(tx: &mut Tx<'_>, user: UserKey) -> Result<Option<i64>, Error> {
    let row = tx.fetch_one("SELECT MIN(expires_at) FROM subscription WHERE account = $1", &params![user]).await?;
    Ok(row.map_or(Ok(None), |row| row.get(0))?)
}

/// Returns the present subscriptions of `user` to these users.
async fn entries(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let sql = format!(
        "SELECT a.id, a.name, s.place, s.expires_at, {PRESENCE} FROM account a \
         LEFT JOIN subscription s ON s.account = $1 AND s.target = a.id \
         LEFT JOIN presence p ON p.account = a.id WHERE a.id IN"
    );
    about(tx, user, keys, &sql, |row| {
        let (user_id, place): (String, Option<i64>) = (row.get(1)?, row.get(2)?);
        Ok(Detail::Subscription(match place {
            Some(place) => SubscriptionEntry {
                status: Some(presence(row, 4)?.into_status(user_id)),
                is_deleted: false,
                expires_at: row.get(3)?,
                place,
            },
            None => SubscriptionEntry {
                status: Some(UserStatus { user_id, ..UserStatus::default() }),
                is_deleted: true,
                ..SubscriptionEntry::default()
            },
        }))
    })
    .await
}

/// Returns what changed at or after `since` of the user's own status and of those that the user subscribed to, with
/// their keys, ascending, after the key `after`, at most `limit`.
pub(crate) async fn statuses_since(
    tx: &mut Tx<'_>,
    user: UserKey,
    (since, now): (i64, i64),
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, UserStatus)>, Error> {
    let sql = format!(
        // The join goes from the subscribed users to their rows, never the other way.
        "SELECT a.id, a.name, {PRESENCE} FROM (SELECT target AS id FROM subscription \
         WHERE account = $1 AND target > $3 AND expires_at > $5 UNION SELECT id FROM account WHERE id = $1 AND id > $3) AS known \
         CROSS JOIN presence p CROSS JOIN account a \
         WHERE p.account = known.id AND a.id = known.id AND p.changed_at >= $2 ORDER BY known.id LIMIT $4"
    );
    let rows = tx.fetch(&sql, &params![user, since, after, limit, now]).await?;
    rows.iter().map(|row| Ok((row.get(0)?, presence(row, 2)?.into_status(row.get(1)?)))).collect()
}
