//! Rows of friends. Their profiles are those of `user`.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{FriendEntry, FriendInfo};

/// Of a friend `f` and his profile `u`.
const COLUMNS: &str = "f.user_id, u.user_name, u.avatar_url, u.extended_data, f.alias, f.attributes, f.wording, \
                       f.created_at, f.place";

const FROM: &str = "FROM friend f LEFT JOIN user u ON u.user_id = f.user_id";

fn info(row: &Row<'_>) -> rusqlite::Result<FriendInfo> {
    let text = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<String>>(index)?.unwrap_or_default());
    Ok(FriendInfo {
        user_id: row.get(0)?,
        user_name: text(1)?,
        user_avatar_url: text(2)?,
        user_extended_data: text(3)?,
        friend_alias: row.get(4)?,
        friend_attributes: attributes(&row.get::<_, String>(5)?)?,
        wording: row.get(6)?,
        create_time: row.get(7)?,
    })
}

fn attributes(text: &str) -> rusqlite::Result<HashMap<String, String>> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, Box::new(error)))
}

/// A friend, as far as this device knows.
pub(crate) fn read(db: &Connection, user_id: &str) -> rusqlite::Result<Option<FriendInfo>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} {FROM} WHERE f.user_id = ?1"))?.query_row([user_id], info).optional()
}

/// A page of the list, the newest friendship first, behind the place `next_flag`; and from where the next one begins, 0 at
/// the end.
pub(crate) fn page(db: &Connection, next_flag: i64, count: i64) -> rusqlite::Result<(Vec<FriendInfo>, i64)> {
    let sql = format!("SELECT {COLUMNS} {FROM} WHERE f.place < ?1 ORDER BY f.place DESC LIMIT ?2");
    super::paged(db, &sql, (next_flag, count), 8, info)
}

/// Stores what the server says of a friend.
pub(crate) fn write(db: &Connection, entry: &FriendEntry) -> rusqlite::Result<()> {
    let Some(info) = &entry.info else { return Ok(()) };
    let attributes: BTreeMap<_, _> = info.friend_attributes.iter().collect();
    let attributes =
        serde_json::to_string(&attributes).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    db.prepare_cached(
        "INSERT INTO friend (user_id, alias, attributes, wording, created_at, place) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
         ON CONFLICT (user_id) DO UPDATE SET alias = excluded.alias, attributes = excluded.attributes, \
         wording = excluded.wording, created_at = excluded.created_at, place = excluded.place, is_stale = 0",
    )?
    .execute(params![info.user_id, info.friend_alias, attributes, info.wording, info.create_time, entry.place])?;
    Ok(())
}

/// Somebody is no friend any more.
pub(crate) fn remove(db: &Connection, user_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM friend WHERE user_id = ?1")?.execute([user_id])?;
    Ok(())
}

/// Nobody knows any more whether the server knows them.
pub(crate) fn doubt_all(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE friend SET is_stale = 1", [])?;
    Ok(())
}

/// Those whom the server did not name since.
pub(crate) fn doubtful(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = db.prepare_cached("SELECT user_id FROM friend WHERE is_stale = 1 ORDER BY place")?;
    statement.query_map([], |row| row.get(0))?.collect()
}
