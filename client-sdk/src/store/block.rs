//! Rows of the blacklist.

use rusqlite::{Connection, Row, params};
use zim_protocol::UserInfo;

const LISTED: &str = "SELECT b.place, b.user_id, COALESCE(u.user_name, ''), COALESCE(u.avatar_url, ''), \
                      COALESCE(u.extended_data, '') FROM block b LEFT JOIN user u ON u.user_id = b.user_id";

/// Adds a user to the list; returns whether they are new.
pub(crate) fn add(db: &Connection, user_id: &str, place: i64) -> rusqlite::Result<bool> {
    let was_listed = is_listed(db, user_id)?;
    db.prepare_cached(
        "INSERT INTO block (user_id, place) VALUES (?1, ?2) \
         ON CONFLICT (user_id) DO UPDATE SET place = excluded.place, is_stale = 0",
    )?
    .execute(params![user_id, place])?;
    Ok(!was_listed)
}

/// Removes a user from the list; returns whether they were in it.
pub(crate) fn remove(db: &Connection, user_id: &str) -> rusqlite::Result<bool> {
    Ok(db.prepare_cached("DELETE FROM block WHERE user_id = ?1")?.execute([user_id])? > 0)
}

/// Returns whether a user is in the list.
pub(crate) fn is_listed(db: &Connection, user_id: &str) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM block WHERE user_id = ?1")?.exists([user_id])
}

/// Returns up to `count` users after the cursor `next_flag`, last added first, and the next cursor; 0 is the end.
pub(crate) fn page(db: &Connection, next_flag: i64, count: i64) -> rusqlite::Result<(Vec<UserInfo>, i64)> {
    let sql = format!("{LISTED} WHERE b.place < ?1 ORDER BY b.place DESC LIMIT ?2");
    super::paged(db, &sql, (next_flag, count), &[], 0, listed)
}

/// Marks all rows as stale: the server will send its list again.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE block SET is_stale = 1")?.execute([])?;
    Ok(())
}

/// Removes and returns the rows that are still stale after a full sync.
pub(crate) fn sweep(db: &Connection) -> rusqlite::Result<Vec<UserInfo>> {
    let sql = format!("{LISTED} WHERE b.is_stale = 1 ORDER BY b.place");
    let swept = db.prepare_cached(&sql)?.query_map([], listed)?.collect::<rusqlite::Result<Vec<_>>>()?;
    db.prepare_cached("DELETE FROM block WHERE is_stale = 1")?.execute([])?;
    Ok(swept)
}

fn listed(row: &Row<'_>) -> rusqlite::Result<UserInfo> {
    Ok(UserInfo {
        user_id: row.get(1)?,
        user_name: row.get(2)?,
        user_avatar_url: row.get(3)?,
        user_extended_data: row.get(4)?,
    })
}
