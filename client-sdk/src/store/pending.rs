//! Pending events: their causes are stored, but the app may not have seen them. They are written in the transaction of
//! their causes, raised, and then deleted.
//!
//! An event is deleted once it is in the queues of the process. If the process ends before the handlers have run, it is
//! lost.

use prost::Message as _;
use rusqlite::Connection;
use zim_protocol::{Event, EventRecord};

/// Stores events; returns them and the id of the last one.
pub(crate) fn add(db: &Connection, events: Vec<Event>) -> rusqlite::Result<(Vec<Event>, Option<i64>)> {
    let mut statement = db.prepare_cached("INSERT INTO pending_event (event) VALUES (?1)")?;
    let mut last = None;
    let mut stored = Vec::with_capacity(events.len());
    for event in events {
        let record = EventRecord { event: Some(event) };
        statement.execute([record.encode_to_vec()])?;
        last = Some(db.last_insert_rowid());
        stored.extend(record.event);
    }
    Ok((stored, last))
}

/// Deletes the events up to `id`, which were raised.
pub(crate) fn forget(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM pending_event WHERE id <= ?1")?.execute([id])?;
    Ok(())
}

/// Returns the events that must be raised again, and the id of the last one.
pub(crate) fn all(db: &Connection) -> rusqlite::Result<(Vec<Event>, Option<i64>)> {
    let mut statement = db.prepare_cached("SELECT id, event FROM pending_event ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let (mut events, mut last) = (Vec::new(), None);
    for row in rows {
        let (id, bytes) = row?;
        last = Some(id);
        // An event of another version of the SDK is skipped.
        events.extend(EventRecord::decode(&bytes[..]).ok().and_then(|record| record.event));
    }
    Ok((events, last))
}
