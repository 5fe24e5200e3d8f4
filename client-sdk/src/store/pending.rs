//! Events whose causes are stored but that the app may not have seen. They are written with their causes, raised, and then
//! forgotten: at least once.

use prost::Message as _;
use rusqlite::Connection;
use zim_protocol::{Event, EventRecord};

/// Notes events; returns them and the id of the last.
pub(crate) fn add(db: &Connection, events: Vec<Event>) -> rusqlite::Result<(Vec<Event>, Option<i64>)> {
    let mut statement = db.prepare_cached("INSERT INTO pending_event (event) VALUES (?1)")?;
    let mut last = None;
    let mut noted = Vec::with_capacity(events.len());
    for event in events {
        let record = EventRecord { event: Some(event) };
        statement.execute([record.encode_to_vec()])?;
        last = Some(db.last_insert_rowid());
        noted.extend(record.event);
    }
    Ok((noted, last))
}

/// Forgets the events up to `id`: they were raised.
pub(crate) fn forget(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM pending_event WHERE id <= ?1")?.execute([id])?;
    Ok(())
}

/// What is to be raised again, and the id of the last.
pub(crate) fn all(db: &Connection) -> rusqlite::Result<(Vec<Event>, Option<i64>)> {
    let mut statement = db.prepare_cached("SELECT id, event FROM pending_event ORDER BY id")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let (mut events, mut last) = (Vec::new(), None);
    for row in rows {
        let (id, bytes) = row?;
        last = Some(id);
        // One of another version of the SDK is not worth failing for.
        events.extend(EventRecord::decode(&bytes[..]).ok().and_then(|record| record.event));
    }
    Ok((events, last))
}
