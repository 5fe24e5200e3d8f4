//! Rows of presence. A change is one row written, however many hear of it.

use std::collections::HashMap;

use zim_protocol::{UserOnlineStatus, UserStatus};

use super::rules::{Change, Connections, Custom, Presence, bit};
use crate::db::{Row, Tx, params};
use crate::effect::Effect;
use crate::error::Error;
use crate::key::{LoginKey, UserKey};

/// What [`presence`] reads, of a table named `p` that may have no row.
pub(super) const PRESENCE: &str = "COALESCE(p.online, 1), COALESCE(p.platforms, 0), COALESCE(p.online_at, 0), \
                                   COALESCE(p.custom, ''), COALESCE(p.custom_at, 0), COALESCE(p.custom_ends_at, 0)";

/// The columns of [`PRESENCE`], from `first` on.
pub(super) fn presence(row: &Row, first: usize) -> Result<Presence, Error> {
    Ok(Presence {
        online: UserOnlineStatus::try_from(row.get::<i32>(first)?).unwrap_or(UserOnlineStatus::Unknown),
        platforms: row.get(first + 1)?,
        online_at: row.get(first + 2)?,
        custom: row.get(first + 3)?,
        custom_at: row.get(first + 4)?,
        custom_ends_at: row.get(first + 5)?,
    })
}

/// Where a user has connections.
pub(super) const CONNECTED_PLATFORMS: &str =
    "SELECT DISTINCT platform FROM session WHERE account = $1 AND state = 0 AND connected = 1";

/// Logins that have a connection, by the store.
pub(super) const CONNECTED_LOGINS: &str =
    "SELECT id, account FROM session WHERE connected = 1 AND id > $1 ORDER BY id LIMIT $2";

/// Where a user has connections, and how the last one to go went.
pub(crate) async fn connections(tx: &mut Tx<'_>, user: UserKey, has_logged_out: bool) -> Result<Connections, Error> {
    let mut platforms = 0;
    for row in tx.fetch(CONNECTED_PLATFORMS, &params![user]).await? {
        platforms |= bit(row.get(0)?);
    }
    Ok(Connections { platforms, has_logged_out })
}

/// Changes the status of a user, whose head the job has locked, and tells whoever should hear of it, if it is different; returns
/// what it is now. `at` is a time that never falls, because those who were away ask by it.
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
        tx.fetch_one(&sql, &params![user]).await?.ok_or_else(|| Error::internal_text("a session without a user"))?;
    let (user_id, before): (String, _) = (row.get(0)?, presence(&row, 1)?);
    let Some(after) = before.after(change, at) else { return Ok(before.to_status(user_id)) };
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
    let status = after.to_status(user_id);
    tx.emit(Effect::Status { user, status: Box::new(status.clone()), cause });
    Ok(status)
}

/// A login has lost its connection: the user may be offline now. A login that has another connection by now has another id.
pub(super) async fn disconnected(tx: &mut Tx<'_>, user: UserKey, login: LoginKey, at: i64) -> Result<(), Error> {
    let gone = "UPDATE session SET connected = 0 WHERE id = $1 AND connected = 1";
    if tx.execute(gone, &params![login]).await? > 0 {
        let connections = Some(connections(tx, user, false).await?);
        change(tx, user, Change { connections, custom: None }, at, login).await?;
    }
    Ok(())
}

/// Logins that have a connection, by the store: up to `limit` behind `after`, ascending.
pub(super) async fn connected(tx: &mut Tx<'_>, after: LoginKey, limit: i64) -> Result<Vec<(LoginKey, UserKey)>, Error> {
    let rows = tx.fetch(CONNECTED_LOGINS, &params![after, limit]).await?;
    rows.iter().map(|row| Ok((LoginKey(row.get(0)?), UserKey(row.get(1)?)))).collect()
}

/// What these users are seen as now, by their keys.
pub(super) async fn statuses(
    tx: &mut Tx<'_>,
    keys: &[UserKey],
    now: i64,
) -> Result<HashMap<UserKey, UserStatus>, Error> {
    let (list, params) = tx.dialect().in_list(keys.iter().map(|key| key.0), 1);
    let sql = format!(
        "SELECT a.id, a.name, {PRESENCE} FROM account a LEFT JOIN presence p ON p.account = a.id WHERE a.id IN {list}"
    );
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&sql, &params).await? {
        let stored = presence(&row, 2)?;
        // What has ended is gone, even if nobody has taken it away yet.
        let has_expired = stored.custom_ends_at > 0 && stored.custom_ends_at <= now;
        let status = stored.after(remove_custom(has_expired), stored.custom_ends_at).unwrap_or(stored);
        found.insert(UserKey(row.get(0)?), status.to_status(row.get(1)?));
    }
    Ok(found)
}

/// What a user himself is seen as now.
pub(crate) async fn own(tx: &mut Tx<'_>, user: UserKey, now: i64) -> Result<UserStatus, Error> {
    let found = statuses(tx, &[user], now).await?.remove(&user);
    found.ok_or_else(|| Error::internal_text("a session without a user"))
}

fn remove_custom(has_expired: bool) -> Change {
    Change { connections: None, custom: has_expired.then(|| Custom::new(String::new(), 0, 0)) }
}

/// When the next custom status ends by itself.
pub(super) async fn next_custom_expiry(tx: &mut Tx<'_>) -> Result<Option<i64>, Error> {
    let sql = "SELECT MIN(custom_ends_at) FROM presence WHERE custom_ends_at > 0";
    Ok(tx.fetch_one(sql, &params![]).await?.map_or(Ok(None), |row| row.get(0))?)
}

/// Up to `limit` users whose custom status has ended by itself.
pub(super) async fn expired_custom_statuses(tx: &mut Tx<'_>, now: i64, limit: i64) -> Result<Vec<UserKey>, Error> {
    let sql = "SELECT account FROM presence WHERE custom_ends_at > 0 AND custom_ends_at <= $1 \
               ORDER BY custom_ends_at LIMIT $2";
    let rows = tx.fetch(sql, &params![now, limit]).await?;
    rows.iter().map(|row| Ok(UserKey(row.get(0)?))).collect()
}

/// Takes away the custom status of these users, whose heads the job has locked, where it has ended.
pub(super) async fn expire_custom_statuses(
    tx: &mut Tx<'_>,
    users: &[UserKey],
    (now, at): (i64, i64),
) -> Result<(), Error> {
    for user in users {
        let sql = "SELECT 1 FROM presence WHERE account = $1 AND custom_ends_at > 0 AND custom_ends_at <= $2";
        if tx.fetch_one(sql, &params![*user, now]).await?.is_some() {
            change(tx, *user, remove_custom(true), at, LoginKey(0)).await?;
        }
    }
    Ok(())
}
