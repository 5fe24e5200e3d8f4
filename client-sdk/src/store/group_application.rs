//! Rows of applications to groups.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{GroupApplicationEntry, GroupApplicationInfo, GroupApplicationState};

fn entry(bytes: &[u8]) -> GroupApplicationEntry {
    GroupApplicationEntry::decode(bytes).unwrap_or_default()
}

/// Returns an application.
pub(crate) fn read(db: &Connection, id: i64) -> rusqlite::Result<Option<GroupApplicationEntry>> {
    db.prepare_cached("SELECT entry FROM group_application WHERE id = ?1")?
        .query_row([id], |row| Ok(entry(&row.get::<_, Vec<u8>>(0)?)))
        .optional()
}

/// Returns an application as of a time: one that waits may have expired.
pub(crate) fn shown(entry: GroupApplicationEntry, now_ms: i64) -> GroupApplicationInfo {
    let mut info = entry.info.unwrap_or_default();
    if info.state() == GroupApplicationState::Waiting && entry.expires_at <= now_ms {
        info.set_state(GroupApplicationState::Expired);
    }
    info
}

/// Ends what waits for a group that has ended. Nobody is told of each application: a dismissal writes nothing for it.
pub(crate) fn end_all(db: &Connection, group_id: &str, now_ms: i64) -> rusqlite::Result<()> {
    let all: Vec<GroupApplicationEntry> = db
        .prepare_cached("SELECT entry FROM group_application")?
        .query_map([], |row| Ok(entry(&row.get::<_, Vec<u8>>(0)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for mut one in all {
        let waits = one.expires_at > now_ms;
        let Some(info) = one.info.as_mut().filter(|info| info.state() == GroupApplicationState::Waiting) else {
            continue;
        };
        if waits && info.group_info.as_ref().is_some_and(|group| group.group_id == group_id) {
            info.set_state(GroupApplicationState::Disabled);
            write(db, &one)?;
        }
    }
    Ok(())
}

/// Returns a page of the list after the cursor `next_flag`, most recently changed first, and the next cursor; 0 is the end.
pub(crate) fn page(
    db: &Connection,
    next_flag: i64,
    count: i64,
    now_ms: i64,
) -> rusqlite::Result<(Vec<GroupApplicationInfo>, i64)> {
    let sql = "SELECT entry, place FROM group_application WHERE place < ?1 ORDER BY place DESC LIMIT ?2";
    super::paged(db, sql, (next_flag, count), &[], 1, |row| Ok(shown(entry(&row.get::<_, Vec<u8>>(0)?), now_ms)))
}

/// Stores an application from the server.
pub(crate) fn write(db: &Connection, entry: &GroupApplicationEntry) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO group_application (id, entry, place) VALUES (?1, ?2, ?3) \
         ON CONFLICT (id) DO UPDATE SET entry = excluded.entry, place = excluded.place, is_stale = 0",
    )?
    .execute(params![entry.id, entry.encode_to_vec(), entry.place])?;
    Ok(())
}

/// Removes an application.
pub(crate) fn remove(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM group_application WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Marks all rows as stale: the server will send its list again.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE group_application SET is_stale = 1", [])?;
    Ok(())
}

/// Removes the rows that are still stale.
pub(crate) fn sweep(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM group_application WHERE is_stale = 1", [])?;
    Ok(())
}
