//! Rows of the blacklist.

use rusqlite::{Connection, Row, params};
use zim_protocol::UserInfo;

const LISTED: &str = "SELECT b.place, b.user_id, COALESCE(u.user_name, ''), COALESCE(u.avatar_url, ''), \
                      COALESCE(u.extended_data, '') FROM block b LEFT JOIN user u ON u.user_id = b.user_id";

/// Puts a user on the list; whether he was not there.
pub(crate) fn add(db: &Connection, user_id: &str, place: i64) -> rusqlite::Result<bool> {
    let was_listed = is_listed(db, user_id)?;
    db.prepare_cached(
        "INSERT INTO block (user_id, place) VALUES (?1, ?2) \
         ON CONFLICT (user_id) DO UPDATE SET place = excluded.place, is_stale = 0",
    )?
    .execute(params![user_id, place])?;
    Ok(!was_listed)
}

/// Takes a user off the list; whether he was there.
pub(crate) fn remove(db: &Connection, user_id: &str) -> rusqlite::Result<bool> {
    Ok(db.prepare_cached("DELETE FROM block WHERE user_id = ?1")?.execute([user_id])? > 0)
}

/// Whether a user is on the list.
pub(crate) fn is_listed(db: &Connection, user_id: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM block WHERE user_id = ?1")?.exists([user_id])
}

/// Up to `count` users behind `next_flag`, who was added last first; and the flag of what follows, 0 at the end.
pub(crate) fn page(db: &Connection, next_flag: i64, count: i64) -> rusqlite::Result<(Vec<UserInfo>, i64)> {
    let sql = format!("{LISTED} WHERE b.place < ?1 ORDER BY b.place DESC LIMIT ?2");
    super::paged(db, &sql, (next_flag, count), &[], 0, listed)
}

/// What the server knows of the list will be told anew.
pub(crate) fn doubt(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE block SET is_stale = 1")?.execute([])?;
    Ok(())
}

/// Takes those off the list whom the server no longer named, and returns them.
pub(crate) fn sweep(db: &Connection) -> rusqlite::Result<Vec<UserInfo>> {
    let sql = format!("{LISTED} WHERE b.is_stale = 1 ORDER BY b.place");
    let gone = db.prepare_cached(&sql)?.query_map([], listed)?.collect::<rusqlite::Result<Vec<_>>>()?;
    db.prepare_cached("DELETE FROM block WHERE is_stale = 1")?.execute([])?;
    Ok(gone)
}

fn listed(row: &Row<'_>) -> rusqlite::Result<UserInfo> {
    Ok(UserInfo {
        user_id: row.get(1)?,
        user_name: row.get(2)?,
        user_avatar_url: row.get(3)?,
        user_extended_data: row.get(4)?,
    })
}
