//! Pending events: their causes are stored, but a handler of the app may not have had them. They are written in the
//! transaction of their causes, and deleted when every handler of their kind has returned. What is left at the next
//! start is raised again.
//!
//! An event about messages is stored as their positions. When the positions of a conversation end, because the server
//! starts a new epoch or no longer has it, the event itself is stored. An event that is raised again has the messages that it had,
//! as they are then. Those that were revoked or deleted meanwhile are left out: nobody may show them any more.

use std::collections::BTreeSet;

use prost::Message as _;
use rusqlite::{Connection, Row, params};
use zim_protocol::{Event, EventRecord, Message, MessageReceivedInfo, MessageType};

use super::message::{COLUMNS, MessageRow, order_key};
use super::{conversation, from_sql, to_sql};

/// The positions of the messages of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The row of the conversation.
    pub(crate) conversation: i64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) is_offline: bool,
    /// The positions if there are others between them, which are not in the event; empty: all from the first to the last.
    pub(crate) positions: BTreeSet<u64>,
}

impl Span {
    /// Returns the positions of an event; `None` if there are none.
    pub(crate) fn of(conversation: i64, positions: BTreeSet<u64>, is_offline: bool) -> Option<Self> {
        let (first, last) = (*positions.first()?, *positions.last()?);
        let is_whole = last - first + 1 == positions.len() as u64;
        let positions = if is_whole { BTreeSet::new() } else { positions };
        Some(Self { conversation, first, last, is_offline, positions })
    }
}

/// An event that is raised at least once.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    pub(crate) event: Event,
    /// For an event about messages whose rows are stored.
    pub(crate) span: Option<Span>,
}

/// Returns the greatest id; 0 if there is none.
pub(crate) fn last(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT COALESCE(MAX(id), 0) FROM pending_event", [], |row| row.get(0))
}

/// Stores an event under an id, which must be greater than those before it.
pub(crate) fn add(db: &Connection, id: i64, durable: &Durable) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "INSERT INTO pending_event (id, event, conversation, first_seq, last_seq, is_offline, positions) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    match &durable.span {
        Some(span) => statement.execute(params![
            id,
            [0_u8; 0],
            span.conversation,
            to_sql(span.first),
            to_sql(span.last),
            span.is_offline,
            conversation::encode_positions(&span.positions)
        ])?,
        None => {
            let event = encoded(durable.event.clone());
            statement.execute(params![id, event, None::<i64>, 0, 0, false, None::<Vec<u8>>])?
        }
    };
    Ok(())
}

fn encoded(event: Event) -> Vec<u8> {
    EventRecord { event: Some(event) }.encode_to_vec()
}

/// Deletes the events up to `id`, which were delivered.
pub(crate) fn forget(db: &Connection, id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM pending_event WHERE id <= ?1")?.execute([id])?;
    Ok(())
}

/// Returns the events that must be raised again, by id, as `viewer` sees them.
pub(crate) fn all(db: &Connection, viewer: &str) -> rusqlite::Result<Vec<(i64, Event)>> {
    let mut statement = db.prepare_cached(
        "SELECT id, event, conversation, first_seq, last_seq, is_offline, positions FROM pending_event ORDER BY id",
    )?;
    let mut rows = statement.query([])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let event = match row.get(2)? {
            Some(conversation) => received(db, viewer, conversation, row)?,
            // An event of another version of the SDK is skipped.
            None => EventRecord::decode(&row.get::<_, Vec<u8>>(1)?[..]).ok().and_then(|record| record.event),
        };
        if let Some(event) = event {
            events.push((row.get(0)?, event));
        }
    }
    Ok(events)
}

/// Builds the event about messages that a row of `all` names by their positions.
fn received(db: &Connection, viewer: &str, conversation: i64, row: &Row<'_>) -> rusqlite::Result<Option<Event>> {
    let [first, last] = [row.get(3)?, row.get(4)?].map(|seq| order_key(from_sql(seq)));
    let name = conversation::name(db, conversation)?.to_ref();
    let positions: Option<Vec<u8>> = row.get(6)?;
    // An earlier version did not say which: its events have no messages of this device.
    let is_of_event = if positions.is_some() { "" } else { "AND m.is_local = 0" };
    let positions = positions.map(|positions| conversation::decode_positions(&positions)).unwrap_or_default();
    let sql = format!(
        "SELECT {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.order_key BETWEEN ?2 AND ?3 AND m.seq > 0 \
         {is_of_event} AND m.kind <> ?4 ORDER BY m.order_key"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let messages: Vec<Message> = statement
        .query_map(params![conversation, first, last, MessageType::Revoke as i32], |row| MessageRow::read(row, 0))?
        .filter(|row| positions.is_empty() || row.as_ref().map_or(true, |row| positions.contains(&row.seq)))
        .map(|row| Ok(row?.into_message(viewer, &name)))
        .collect::<rusqlite::Result<_>>()?;
    if messages.is_empty() {
        return Ok(None);
    }
    Ok(super::message::received(&name, messages, MessageReceivedInfo { is_offline_message: row.get(5)? }))
}

/// Stores events about messages of a conversation, or of all, with what they say, because the rows of the messages are
/// about to be deleted.
pub(crate) fn detach(db: &Connection, viewer: &str, conversation: Option<i64>) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(
        "SELECT id, event, conversation, first_seq, last_seq, is_offline, positions FROM pending_event \
         WHERE conversation IS NOT NULL AND (?1 IS NULL OR conversation = ?1)",
    )?;
    let mut rows = statement.query([conversation])?;
    let mut detached = Vec::new();
    while let Some(row) = rows.next()? {
        detached.push((row.get::<_, i64>(0)?, received(db, viewer, row.get(2)?, row)?));
    }
    for (id, event) in detached {
        match event {
            Some(event) => db
                .prepare_cached("UPDATE pending_event SET event = ?2, conversation = NULL WHERE id = ?1")?
                .execute(params![id, encoded(event)])?,
            None => db.prepare_cached("DELETE FROM pending_event WHERE id = ?1")?.execute([id])?,
        };
    }
    Ok(())
}
