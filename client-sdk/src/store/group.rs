//! Rows of groups.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::GroupFullInfo;

/// Stores what a group is.
pub(crate) fn write(db: &Connection, info: &GroupFullInfo) -> rusqlite::Result<()> {
    let Some(base) = &info.base_info else { return Ok(()) };
    db.prepare_cached(
        "INSERT INTO chat_group (group_id, group_name, avatar_url, info) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (group_id) DO UPDATE SET group_name = ?2, avatar_url = ?3, info = ?4",
    )?
    .execute(params![base.group_id, base.group_name, base.group_avatar_url, info.encode_to_vec()])?;
    Ok(())
}

/// Returns what a group is, if this device knows it.
pub(crate) fn read(db: &Connection, group_id: &str) -> rusqlite::Result<Option<GroupFullInfo>> {
    let found: Option<Vec<u8>> = db
        .prepare_cached("SELECT info FROM chat_group WHERE group_id = ?1")?
        .query_row([group_id], |row| row.get(0))
        .optional()?;
    Ok(found.and_then(|info| GroupFullInfo::decode(&*info).ok()))
}
