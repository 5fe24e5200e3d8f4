//! Rows of presence: the last known statuses, and the subscriptions.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{SubscriptionEntry, UserOnlineStatus, UserStatus, UserStatusSubscription};

/// Returns the known status of a user.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<UserStatus>> {
    db.prepare_cached("SELECT status FROM status WHERE user_id = ?1")?
        .query_row([user_id], |row| status(row, 0))
        .optional()
}

/// Stores a status from the server where it is newer than the known one. Returns the merged status and which parts are
/// news, or `None` if nothing is.
pub(crate) fn write(db: &Connection, received: UserStatus) -> rusqlite::Result<Option<(UserStatus, News)>> {
    let Some((status, news)) = newer(read(db, &received.user_id)?, received) else { return Ok(None) };
    db.prepare_cached(
        "INSERT INTO status (user_id, status) VALUES (?1, ?2) ON CONFLICT (user_id) DO UPDATE SET status = excluded.status",
    )?
    .execute(params![status.user_id, status.encode_to_vec()])?;
    Ok(Some((status, news)))
}

/// The parts of a status that are news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) online: bool,
    /// The set of online platforms differs.
    pub(crate) platforms: bool,
    pub(crate) custom: bool,
}

/// Merges two statuses of a user, which may overtake each other: each half has its own time.
fn newer(held: Option<UserStatus>, received: UserStatus) -> Option<(UserStatus, News)> {
    let Some(held) = held else { return Some((received, News { online: true, platforms: true, custom: true })) };
    let news = News {
        platforms: received.online_platforms != held.online_platforms,
        online: received.last_online_status_update_time > held.last_online_status_update_time,
        custom: received.last_custom_status_update_time > held.last_custom_status_update_time,
    };
    let (online, custom) = (if news.online { &received } else { &held }, if news.custom { &received } else { &held });
    let status = UserStatus {
        user_id: held.user_id.clone(),
        online_status: online.online_status,
        online_platforms: online.online_platforms.clone(),
        last_online_status_update_time: online.last_online_status_update_time,
        custom_status: custom.custom_status.clone(),
        custom_status_expired_time: custom.custom_status_expired_time,
        last_custom_status_update_time: custom.last_custom_status_update_time,
        last_update_time: online.last_online_status_update_time.max(custom.last_custom_status_update_time),
    };
    (news.online || news.custom).then_some((status, news))
}

/// Returns a status as of a time: an expired custom status is removed, whether or not the server has reported that.
pub(crate) fn shown(mut status: UserStatus, now_ms: i64) -> UserStatus {
    let ends_at = status.custom_status_expired_time;
    if ends_at > 0 && ends_at <= now_ms {
        status.custom_status.clear();
        status.custom_status_expired_time = 0;
    }
    status
}

/// Stores a subscription.
pub(crate) fn subscribe(db: &Connection, user_id: &str, entry: &SubscriptionEntry) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO subscription (user_id, expires_at, place) VALUES (?1, ?2, ?3) ON CONFLICT (user_id) \
         DO UPDATE SET expires_at = excluded.expires_at, place = excluded.place, is_stale = 0",
    )?
    .execute(params![user_id, entry.expires_at, entry.place])?;
    Ok(())
}

/// Removes a subscription and the status of its user, which is no longer kept up to date.
pub(crate) fn unsubscribe(db: &Connection, user_id: &str) -> rusqlite::Result<()> {
    for table in ["subscription", "status"] {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE user_id = ?1"))?.execute([user_id])?;
    }
    Ok(())
}

/// Returns when the subscription to a user expires, even if that time has passed.
pub(crate) fn expires_at(db: &Connection, user_id: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT expires_at FROM subscription WHERE user_id = ?1")?
        .query_row([user_id], |row| row.get(0))
        .optional()
}

/// Returns the subscriptions at a time, earliest first.
pub(crate) fn subscriptions(db: &Connection, now_ms: i64) -> rusqlite::Result<Vec<UserStatusSubscription>> {
    db.prepare_cached(
        "SELECT s.expires_at, t.status, s.user_id FROM subscription s LEFT JOIN status t ON t.user_id = s.user_id \
         WHERE s.expires_at > ?1 ORDER BY s.place",
    )?
    .query_map([now_ms], |row| {
        let held = status(row, 1)?;
        let status = UserStatus { user_id: row.get(2)?, ..held };
        let user_status = Some(shown(status, now_ms));
        Ok(UserStatusSubscription { user_status, subscribe_expired_time: row.get(0)? })
    })?
    .collect()
}

/// Deletes statuses, because the server's times start again, and marks subscriptions as stale: the server will send
/// them again.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM status")?.execute([])?;
    db.prepare_cached("UPDATE subscription SET is_stale = 1")?.execute([])?;
    Ok(())
}

/// Removes the subscriptions that are still stale after a full sync.
pub(crate) fn sweep(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM subscription WHERE is_stale = 1")?.execute([])?;
    Ok(())
}

/// Reads a status. An unreadable one counts as unknown: the server has it.
fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<UserStatus> {
    let bytes: Option<Vec<u8>> = row.get(column)?;
    let unknown = || UserStatus { online_status: UserOnlineStatus::Unknown as i32, ..UserStatus::default() };
    Ok(bytes.and_then(|bytes| UserStatus::decode(&bytes[..]).ok()).unwrap_or_else(unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(online_at: i64, custom_at: i64) -> UserStatus {
        UserStatus {
            user_id: "bob".to_owned(),
            online_status: i32::try_from(online_at % 3).unwrap(),
            custom_status: custom_at.to_string(),
            last_update_time: online_at.max(custom_at),
            last_online_status_update_time: online_at,
            last_custom_status_update_time: custom_at,
            ..UserStatus::default()
        }
    }

    #[test]
    fn each_half_of_a_status_is_merged_by_its_own_time() {
        let (first, news) = newer(None, received(10, 10)).unwrap();
        assert_eq!((&first, news), (&received(10, 10), News { online: true, platforms: true, custom: true }));
        let (second, news) = newer(Some(first), received(5, 12)).unwrap();
        assert_eq!((&second, news), (&received(10, 12), News { online: false, platforms: false, custom: true }));
        assert_eq!(newer(Some(second.clone()), received(10, 12)), None);
        assert_eq!(newer(Some(second.clone()), received(9, 11)), None);
        assert_eq!(newer(Some(second), received(11, 12)).unwrap().0, received(11, 12));
    }

    #[test]
    fn a_custom_status_expires_at_its_time() {
        let busy = UserStatus { custom_status_expired_time: 100, ..received(1, 1) };
        assert_eq!(shown(busy.clone(), 99), busy);
        assert_eq!(shown(busy.clone(), 100).custom_status, "");
        assert_eq!(shown(received(1, 1), i64::MAX).custom_status, "1");
    }
}
