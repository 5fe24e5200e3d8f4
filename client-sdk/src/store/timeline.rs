//! The newest part of a conversation, as far as this device holds it.

use rusqlite::{Connection, OptionalExtension, params};

use super::from_sql;
use super::message::{COLUMNS, MessageRow, order_key};
use crate::types::Name;

/// What this device knows and holds of the log of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) conversation: i64,
    /// The sync engine requests what is beyond this position by itself.
    pub(crate) seq: u64,
    /// The last known position.
    pub(crate) end: u64,
    /// The positions that are held: intervals, ascending and never adjacent.
    pub(crate) held: Vec<(u64, u64)>,
}

impl Log {
    /// Returns the interval of held positions around a position.
    pub(crate) fn around(&self, seq: u64) -> Option<(u64, u64)> {
        self.held.iter().copied().find(|(lo, hi)| (*lo..=*hi).contains(&seq))
    }

    /// Returns the last interval of held positions that begins at a position or before it.
    pub(crate) fn last_from(&self, seq: u64) -> Option<(u64, u64)> {
        self.held.iter().copied().rfind(|(lo, _)| *lo <= seq)
    }

    /// Returns the number of positions after `seq` that are not held.
    pub(crate) fn missing_after(&self, seq: u64) -> u64 {
        let above = self.held.iter().filter(|(_, hi)| *hi > seq);
        let held: u64 = above.map(|(lo, hi)| hi - (*lo).max(seq + 1) + 1).sum();
        self.end.saturating_sub(seq).saturating_sub(held)
    }
}

/// Reads the log of a conversation, if this device knows it.
pub(crate) fn log(db: &Connection, name: &Name) -> rusqlite::Result<Option<Log>> {
    let found = db
        .prepare_cached("SELECT id, seq, head_seq FROM conversation WHERE type = ?1 AND name = ?2")?
        .query_row(params![name.kind, &*name.id], |row| {
            Ok(Log {
                conversation: row.get(0)?,
                seq: from_sql(row.get(1)?),
                end: from_sql(row.get(2)?),
                held: Vec::new(),
            })
        })
        .optional()?;
    let Some(mut log) = found else { return Ok(None) };
    log.held = db
        .prepare_cached("SELECT lo, hi FROM held WHERE conversation = ?1 ORDER BY lo")?
        .query_map([log.conversation], |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))))?
        .collect::<rusqlite::Result<_>>()?;
    log.end = log.end.max(log.held.last().map_or(0, |(_, hi)| *hi));
    Ok(Some(log))
}

/// A part of a conversation: the stored messages of an interval of positions, and the messages of this device after its
/// beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    first: i64,
    last: i64,
}

impl Part {
    /// Returns the part of an interval of held positions. `is_end`: nothing is known beyond it.
    pub(crate) fn of((lo, hi): (u64, u64), is_end: bool) -> Self {
        Self {
            first: if lo <= 1 { i64::MIN } else { order_key(lo) },
            last: if is_end { i64::MAX } else { order_key(hi) },
        }
    }

    /// Returns the part that has no stored messages.
    pub(crate) fn local() -> Self {
        Self { first: i64::MIN, last: i64::MIN }
    }
}

/// Returns the number of messages of a part from an order key on.
pub(crate) fn count(db: &Connection, conversation: i64, part: Part, from: i64) -> rusqlite::Result<usize> {
    let count: i64 = db
        .prepare_cached(
            "SELECT COUNT(*) FROM message WHERE conversation = ?1 AND order_key >= ?2 AND (order_key <= ?3 OR is_local = 1)",
        )?
        .query_row([conversation, part.first.max(from), part.last], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Returns the newest messages of a part, ascending.
pub(crate) fn newest(
    db: &Connection,
    conversation: i64,
    part: Part,
    count: usize,
) -> rusqlite::Result<Vec<MessageRow>> {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut rows: Vec<MessageRow> = db
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.order_key >= ?2 \
             AND (m.order_key <= ?3 OR m.is_local = 1) ORDER BY m.order_key DESC, m.tie DESC LIMIT ?4"
        ))?
        .query_map([conversation, part.first, part.last, count], |row| MessageRow::read(row, 0))?
        .collect::<rusqlite::Result<_>>()?;
    rows.reverse();
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_positions_are_counted_around_those_that_are_held() {
        let log = Log { end: 20, held: vec![(1, 5), (8, 9), (20, 20)], ..Log::default() };
        for (seq, missing) in [(5, 12), (0, 12), (9, 10), (8, 10), (15, 4), (20, 0), (25, 0)] {
            assert_eq!(log.missing_after(seq), missing, "{seq}");
        }
        assert_eq!(log.around(5), Some((1, 5)));
        assert_eq!(log.around(6), None);
        assert_eq!(log.last_from(6), Some((1, 5)));
        assert_eq!(log.last_from(8), Some((8, 9)));
        assert_eq!(log.last_from(0), None);
    }
}
