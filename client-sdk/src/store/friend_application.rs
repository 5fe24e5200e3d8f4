//! Rows of applications. The profiles of the others are those of `user`.

use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{FriendApplicationEntry, FriendApplicationInfo, FriendApplicationState, UserInfo};

/// Of an application `p` and the other's profile `u`.
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

/// What stands between this person and another.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<FriendApplicationEntry>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE p.user_id = ?1"))?.query_row([user_id], entry).optional()
}

/// An application as it is at a time: one that waited too long has expired.
pub(crate) fn shown(entry: FriendApplicationEntry, now_ms: i64) -> FriendApplicationInfo {
    let mut info = entry.info.unwrap_or_default();
    if info.state() == FriendApplicationState::Waiting && entry.expires_at <= now_ms {
        info.set_state(FriendApplicationState::Expired);
    }
    info
}

/// A page of the list, what moved last first, behind the place `next_flag`; and from where the next one begins, 0 at the end.
pub(crate) fn page(
    db: &Connection,
    next_flag: i64,
    count: i64,
    now_ms: i64,
) -> rusqlite::Result<(Vec<FriendApplicationInfo>, i64)> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE p.place < ?1 ORDER BY p.place DESC LIMIT ?2");
    super::paged(db, &sql, (next_flag, count), &[], 10, |row| Ok(shown(entry(row)?, now_ms)))
}

/// Stores what the server says stands between this person and another.
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

/// Nothing stands between the two any more.
pub(crate) fn remove(db: &Connection, user_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM friend_application WHERE user_id = ?1")?.execute([user_id])?;
    Ok(())
}

/// Nobody knows any more whether the server knows them.
pub(crate) fn doubt_all(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE friend_application SET is_stale = 1", [])?;
    Ok(())
}

/// The others of those that the server did not name since.
pub(crate) fn doubtful(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        db.prepare_cached("SELECT user_id FROM friend_application WHERE is_stale = 1 ORDER BY place")?;
    statement.query_map([], |row| row.get(0))?.collect()
}
