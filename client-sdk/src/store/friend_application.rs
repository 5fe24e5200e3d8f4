//! Rows of friend applications. The profiles of the other users are in `user`.

use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{FriendApplicationEntry, FriendApplicationInfo, FriendApplicationState, UserInfo};

/// The columns of an application `p` and the profile `u` of the other user.
const COLUMNS: &str = "p.user_id, u.user_name, u.avatar_url, u.extended_data, p.type, p.state, p.wording, p.created_at, \
                       p.updated_at, p.expires_at, p.place";

const FROM: &str = "FROM friend_application p LEFT JOIN user u ON u.user_id = p.user_id";

fn entry(row: &Row<'_>) -> rusqlite::Result<FriendApplicationEntry> {
    let text = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.unwrap_or_default());
    let apply_user =
        UserInfo { user_id: row.get(0)?, user_name: text(1)?, user_avatar_url: text(2)?, user_extended_data: text(3)? };
    let info = FriendApplicationInfo {
        r#type: row.get(4)?,
        state: row.get(5)?,
        apply_user: Some(apply_user),
        wording: row.get(6)?,
        create_time: row.get(7)?,
        update_time: row.get(8)?,
    };
    Ok(FriendApplicationEntry { info: Some(info), is_deleted: false, place: row.get(10)?, expires_at: row.get(9)? })
}

/// Returns the application between this user and another.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<FriendApplicationEntry>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE p.user_id = ?1"))?.query_row([user_id], entry).optional()
}

/// Returns an application as of a time: a pending one may have expired.
pub(crate) fn shown(entry: FriendApplicationEntry, now_ms: i64) -> FriendApplicationInfo {
    let mut info = entry.info.unwrap_or_default();
    if info.state() == FriendApplicationState::Waiting && entry.expires_at <= now_ms {
        info.set_state(FriendApplicationState::Expired);
    }
    info
}

/// Returns a page of the list after the cursor `next_flag`, most recently changed first, and the next cursor; 0 is the
/// end.
pub(crate) fn page(
    db: &Connection,
    next_flag: i64,
    count: i64,
    now_ms: i64,
) -> rusqlite::Result<(Vec<FriendApplicationInfo>, i64)> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE p.place < ?1 ORDER BY p.place DESC LIMIT ?2");
    super::paged(db, &sql, (next_flag, count), &[], 10, |row| Ok(shown(entry(row)?, now_ms)))
}

/// Stores an application from the server.
pub(crate) fn write(db: &Connection, user_id: &str, entry: &FriendApplicationEntry) -> rusqlite::Result<()> {
    let Some(info) = &entry.info else { return Ok(()) };
    db.prepare_cached(
        "INSERT INTO friend_application (user_id, type, state, wording, created_at, updated_at, expires_at, place) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (user_id) DO UPDATE SET type = excluded.type, state = excluded.state, wording = excluded.wording, \
         created_at = excluded.created_at, updated_at = excluded.updated_at, expires_at = excluded.expires_at, \
         place = excluded.place, is_stale = 0",
    )?
    .execute(params![
        user_id,
        info.r#type,
        info.state,
        info.wording,
        info.create_time,
        info.update_time,
        entry.expires_at,
        entry.place
    ])?;
    Ok(())
}

/// Removes an application.
pub(crate) fn remove(db: &Connection, user_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM friend_application WHERE user_id = ?1")?.execute([user_id])?;
    Ok(())
}

/// Marks all rows as stale: the server will send its list again.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE friend_application SET is_stale = 1", [])?;
    Ok(())
}

/// Returns the other users of the rows that are still stale.
pub(crate) fn stale(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        db.prepare_cached("SELECT user_id FROM friend_application WHERE is_stale = 1 ORDER BY place")?;
    statement.query_map([], |row| row.get(0))?.collect()
}
