//! Rows of presence. A change writes one row, however many users subscribe.

use std::collections::HashMap;

use zim_protocol::{UserOnlineStatus, UserStatus};

use super::rules::{Change, Connections, Custom, Presence, bit};
use super::tasks::CUSTOM_STATUS_END;
use super::{CALLER_GRACE_MS, CALLER_LEFT};
use crate::db::{Row, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::key::{LoginKey, UserKey};
use crate::task;

/// The columns that [`presence`] reads, of a table named `p` that may have no row.
pub(crate) const PRESENCE: &str = "COALESCE(p.online, 1), COALESCE(p.platforms, 0), COALESCE(p.online_at, 0), \
                                   COALESCE(p.custom, ''), COALESCE(p.custom_at, 0), COALESCE(p.custom_ends_at, 0)";

/// Reads the columns of [`PRESENCE`], of which the first is column `first`.
pub(crate) fn presence(row: &Row, first: usize) -> Result<Presence, Error> {
    Ok(Presence {
        online: UserOnlineStatus::try_from(row.get::<i32>(first)?).unwrap_or(UserOnlineStatus::Unknown),
        platforms: row.get(first + 1)?,
        online_at: row.get(first + 2)?,
        custom: row.get(first + 3)?,
        custom_at: row.get(first + 4)?,
        custom_ends_at: row.get(first + 5)?,
    })
}

/// The platforms on which a user is connected.
pub(crate) const CONNECTED_PLATFORMS: &str =
    "SELECT DISTINCT platform FROM session WHERE account = $1 AND state = 0 AND connected = 1";

/// The logins that have a connection, by the store.
pub(crate) const CONNECTED_LOGINS: &str =
    "SELECT id, account FROM session WHERE connected = 1 AND id > $1 ORDER BY id LIMIT $2";

/// Returns the platforms on which a user is connected. `has_logged_out` says whether the last connection ended by a
/// logout.
pub(crate) async fn connections(tx: &mut Tx<'_>, user: UserKey, has_logged_out: bool) -> Result<Connections, Error> {
    let mut platforms = 0;
    for row in tx.fetch(CONNECTED_PLATFORMS, &params![user]).await? {
        platforms |= bit(row.get(0)?);
    }
    Ok(Connections { platforms, has_logged_out })
}

/// Changes the status of a user, whose head the job has locked, and notifies subscribers if it is different. Returns
/// the present status. `at` must never fall, because clients that were offline ask for changes since a time.
pub(crate) async fn change(
    tx: &mut Tx<'_>,
    user: UserKey,
    change: Change,
    at: i64,
    cause: LoginKey,
) -> Result<UserStatus, Error> {
    let sql =
        format!("SELECT a.name, {PRESENCE} FROM account a LEFT JOIN presence p ON p.account = a.id WHERE a.id = $1");
    let row =
        tx.fetch_one(&sql, &params![user]).await?.ok_or_else(|| Error::internal_text("a login without a user"))?;
    let (user_id, before): (String, _) = (row.get(0)?, presence(&row, 1)?);
    let custom_ended_at = before.custom_ends_at;
    let Some(after) = before.after(change, at) else { return Ok(before.into_status(user_id)) };
    tx.execute(
        "INSERT INTO presence (account, online, platforms, online_at, custom, custom_at, custom_ends_at, changed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account) DO UPDATE SET online = excluded.online, \
         platforms = excluded.platforms, online_at = excluded.online_at, custom = excluded.custom, \
         custom_at = excluded.custom_at, custom_ends_at = excluded.custom_ends_at, changed_at = excluded.changed_at",
        &params![
            user,
            after.online as i32,
            after.platforms,
            after.online_at,
            after.custom.clone(),
            after.custom_at,
            after.custom_ends_at,
            at
        ],
    )
    .await?;
    match after.custom_ends_at {
        same if same == custom_ended_at => {}
        0 => drop(task::cancel(tx, &CUSTOM_STATUS_END, user).await?),
        ends_at => task::schedule(tx, &CUSTOM_STATUS_END, user, ends_at).await?,
    }
    if before.online == UserOnlineStatus::Online && after.online != UserOnlineStatus::Online {
        let left =
            task::Numbered { kind: CALLER_LEFT, subjects: "SELECT id FROM chat_call WHERE account = $3 AND state = 1" };
        // Whoever loses their connection may be back in a moment, other than who logs out, perhaps soon after a loss.
        match after.online {
            UserOnlineStatus::Offline => left.schedule(tx, user, at + CALLER_GRACE_MS).await?,
            _ => left.schedule_by(tx, user, at).await?,
        }
    }
    let status = after.into_status(user_id);
    tx.emit(Effect::Status { user, status: Box::new(status.clone()), cause });
    Ok(status)
}

/// Marks a login as disconnected: the user may be offline now. If the login was resumed on another connection, it has
/// another key by now and is not affected.
pub(crate) async fn disconnected(tx: &mut Tx<'_>, user: UserKey, login: LoginKey, at: i64) -> Result<(), Error> {
    let sql = "UPDATE session SET connected = 0 WHERE id = $1 AND connected = 1";
    if tx.execute(sql, &params![login]).await? > 0 {
        let connections = Some(connections(tx, user, false).await?);
        change(tx, user, Change { connections, custom: None }, at, login).await?;
    }
    Ok(())
}

/// Returns up to `limit` logins that have a connection by the store, after `after`, ascending.
pub(crate) async fn connected(tx: &mut Tx<'_>, after: LoginKey, limit: i64) -> Result<Vec<(LoginKey, UserKey)>, Error> {
    let rows = tx.fetch(CONNECTED_LOGINS, &params![after, limit]).await?;
    rows.iter().map(|row| Ok((LoginKey(row.get(0)?), UserKey(row.get(1)?)))).collect()
}

/// Returns up to `limit` logins that have a connection to one of these nodes by the store, after `after`, ascending.
pub(crate) async fn connected_to(
    tx: &mut Tx<'_>,
    nodes: &[i64],
    after: LoginKey,
    limit: i64,
) -> Result<Vec<(LoginKey, UserKey)>, Error> {
    let (list, mut values) = tx.dialect().in_list(nodes.iter().copied(), 3);
    values.splice(0..0, params![after, limit]);
    let sql = format!(
        "SELECT id, account FROM session WHERE connected = 1 AND id > $1 AND (id & 63) IN {list} ORDER BY id LIMIT $2"
    );
    let rows = tx.fetch(&sql, &values).await?;
    rows.iter().map(|row| Ok((LoginKey(row.get(0)?), UserKey(row.get(1)?)))).collect()
}

/// Returns the logins of a user that have a connection by the store.
pub(crate) async fn connected_of(tx: &mut Tx<'_>, user: UserKey) -> Result<Vec<LoginKey>, Error> {
    let sql = "SELECT id FROM session WHERE account = $1 AND connected = 1";
    let rows = tx.fetch(sql, &params![user]).await?;
    rows.iter().map(|row| Ok(LoginKey(row.get(0)?))).collect()
}

/// Returns the present statuses of these users, in their order.
pub(crate) async fn statuses(tx: &mut Tx<'_>, keys: &[UserKey], now: i64) -> Result<Vec<UserStatus>, Error> {
    let (list, params) = tx.dialect().in_list(keys.iter().map(|key| key.0), 1);
    let sql = format!(
        "SELECT a.id, a.name, {PRESENCE} FROM account a LEFT JOIN presence p ON p.account = a.id WHERE a.id IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let stored = presence(&row, 2)?;
        // An expired custom status does not count, even if it has not been removed yet.
        let has_expired = stored.custom_ends_at > 0 && stored.custom_ends_at <= now;
        let status = stored.after(remove_custom(has_expired), stored.custom_ends_at).unwrap_or(stored);
        found.insert(UserKey(row.get(0)?), status.into_status(row.get(1)?));
    }
    Ok(keys.iter().filter_map(|key| found.remove(key)).collect())
}

/// Returns the present status of a user.
pub(crate) async fn own(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<UserStatus, Error> {
    let found = statuses(tx, &[user], now).await?.pop();
    found.ok_or_else(|| Error::internal_text("a login without a user"))
}

fn remove_custom(has_expired: bool) -> Change {
    Change { connections: None, custom: has_expired.then(|| Custom::new(String::new(), 0, 0)) }
}

/// Removes the custom status of a user, whose head the job has locked, if it has ended by `now`.
pub(crate) async fn end_custom_status(tx: &mut Tx<'_>, user: UserKey, (now, at): (i64, i64)) -> Result<(), Error> {
    let sql = "SELECT 1 FROM presence WHERE account = $1 AND custom_ends_at > 0 AND custom_ends_at <= $2";
    if tx.fetch_one(sql, &params![user, now]).await?.is_some() {
        change(tx, user, remove_custom(true), at, LoginKey(0)).await?;
    }
    Ok(())
}
