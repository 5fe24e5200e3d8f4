//! Calls that have not ended, and those of which this device does not know yet whether it has come into them.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::CallEntry;

/// Returns a call as this device knows it.
pub(crate) fn read(db: &Connection, call_id: &str) -> rusqlite::Result<Option<CallEntry>> {
    db.prepare_cached("SELECT entry FROM call WHERE call_id = ?1")?
        .query_row([call_id], |row| Ok(CallEntry::decode(&*row.get::<_, Vec<u8>>(0)?).unwrap_or_default()))
        .optional()
}

/// Stores a call. Forgets those that began before `forget_before`: no call lasts so long, and their ends were not told to a user who
/// had left.
pub(crate) fn write(db: &Connection, call_id: &str, entry: &CallEntry, forget_before: i64) -> rusqlite::Result<()> {
    let created_at = entry.info.as_ref().map_or(0, |info| info.create_time);
    db.prepare_cached("DELETE FROM call WHERE created_at < ?1")?.execute([forget_before])?;
    db.prepare_cached(
        "INSERT INTO call (call_id, entry, created_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (call_id) DO UPDATE SET entry = excluded.entry, is_stale = 0",
    )?
    .execute(params![call_id, entry.encode_to_vec(), created_at])?;
    Ok(())
}

/// Removes a call.
pub(crate) fn remove(db: &Connection, call_id: &str) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM call WHERE call_id = ?1")?.execute([call_id])?;
    Ok(())
}

/// Marks all rows as stale: the server will send its calls again.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.execute("UPDATE call SET is_stale = 1", [])?;
    Ok(())
}

/// Removes the rows that are still stale.
pub(crate) fn sweep(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM call WHERE is_stale = 1", [])?;
    Ok(())
}
