//! Pages of history: the messages without a gap next to an anchor, and where the gap begins.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use zim_protocol::ORDER_KEY_STEP;

use super::message::{COLUMNS, MessageRow};
use super::{from_sql, to_sql};

/// The page that is requested.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) conversation: i64,
    /// The order key of the anchor, and its key if the server has not stored it. The anchor is not part of the page.
    pub(crate) anchor: Option<(i64, Vec<u8>)>,
    /// Towards older messages, otherwise towards newer ones.
    pub(crate) is_older: bool,
    pub(crate) count: usize,
    /// Ignores gaps: returns what is stored here.
    pub(crate) is_local_only: bool,
}

/// Rows, ascending, without a gap between them or before the anchor.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) rows: Vec<MessageRow>,
    /// Set if the page is shorter than requested because the messages beyond this position are not held: the anchor for
    /// a request to the server.
    pub(crate) gap: Option<u64>,
}

/// Reads a page.
pub(crate) fn read(db: &Connection, query: &Query) -> rusqlite::Result<Piece> {
    let anchor = match &query.anchor {
        None => None,
        Some((order_key, key)) => Some((*order_key, tie(db, query.conversation, *order_key, key)?)),
    };
    let (bound, beyond) = if query.is_local_only {
        (None, None)
    } else if query.is_older {
        older_bound(db, query.conversation, anchor)?
    } else {
        newer_bound(db, query.conversation, anchor)?
    };
    let mut rows = if query.is_older {
        select(db, query, anchor.unwrap_or((i64::MAX, i64::MAX)), bound.unwrap_or(i64::MIN))?
    } else {
        select(db, query, anchor.unwrap_or((i64::MIN, 0)), bound.unwrap_or(i64::MAX))?
    };
    if query.is_older {
        rows.reverse();
    }
    let gap = beyond.filter(|_| rows.len() < query.count);
    Ok(Piece { rows, gap })
}

/// Returns messages by position, and the positions that are not held.
pub(crate) fn at(db: &Connection, conversation: i64, seqs: &[u64]) -> rusqlite::Result<(Vec<MessageRow>, Vec<u64>)> {
    let mut missing = Vec::new();
    let mut rows = Vec::new();
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.order_key = ?2 AND m.tie = 0"
    ))?;
    for seq in seqs {
        if around(db, conversation, *seq)?.is_none_or(|(_, hi)| hi < *seq) {
            missing.push(*seq);
            continue;
        }
        let key = super::message::order_key(*seq);
        rows.extend(statement.query_row([conversation, key], |row| MessageRow::read(row, 0)).optional()?);
    }
    Ok((rows, missing))
}

/// Selects rows between the anchor, exclusive, and the bound, inclusive, in the direction of the page.
fn select(db: &Connection, query: &Query, anchor: (i64, i64), bound: i64) -> rusqlite::Result<Vec<MessageRow>> {
    let (beyond, within, order) = if query.is_older { ("<", ">=", "DESC") } else { (">", "<=", "ASC") };
    let sql = format!(
        "SELECT {COLUMNS} FROM message m WHERE m.conversation = ?1 AND (m.order_key, m.tie) {beyond} (?2, ?3) \
         AND m.order_key {within} ?4 ORDER BY m.order_key {order}, m.tie {order} LIMIT ?5"
    );
    let count = i64::try_from(query.count).unwrap_or(i64::MAX);
    db.prepare_cached(&sql)?
        .query_map(params_from_iter([query.conversation, anchor.0, anchor.1, bound, count]), |row| {
            MessageRow::read(row, 0)
        })?
        .collect()
}

/// Returns the least order key that is reachable without a gap, and the anchor for a request beyond it.
fn older_bound(
    db: &Connection,
    conversation: i64,
    anchor: Option<(i64, i64)>,
) -> rusqlite::Result<(Option<i64>, Option<u64>)> {
    let end = end(db, conversation)?;
    let top = match anchor {
        // The greatest position before the anchor, which may be beyond the end.
        Some((order_key, _)) => from_sql((order_key - 1).div_euclid(ORDER_KEY_STEP)).min(end),
        None => end,
    };
    if top == 0 {
        return Ok((None, None));
    }
    match around(db, conversation, top)?.filter(|(_, hi)| *hi >= top) {
        Some((lo, _)) if lo <= 1 => Ok((None, None)),
        Some((lo, _)) => Ok((Some(super::message::order_key(lo)), Some(lo))),
        None => Ok((Some(super::message::order_key(top) + 1), Some(top + 1))),
    }
}

/// Returns the greatest order key that is reachable without a gap, and the anchor for a request beyond it.
fn newer_bound(
    db: &Connection,
    conversation: i64,
    anchor: Option<(i64, i64)>,
) -> rusqlite::Result<(Option<i64>, Option<u64>)> {
    let bottom = anchor.map_or(1, |(order_key, _)| from_sql(order_key.div_euclid(ORDER_KEY_STEP)) + 1);
    let end = end(db, conversation)?;
    if bottom > end {
        return Ok((None, None));
    }
    match around(db, conversation, bottom)?.filter(|(_, hi)| *hi >= bottom) {
        Some((_, hi)) if hi >= end => Ok((None, None)),
        Some((_, hi)) => Ok((Some(super::message::order_key(hi) + ORDER_KEY_STEP - 1), Some(hi))),
        None => Ok((Some(super::message::order_key(bottom) - 1), Some(bottom - 1))),
    }
}

/// Returns the last held interval that begins at or before a position.
fn around(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<Option<(u64, u64)>> {
    db.prepare_cached("SELECT lo, hi FROM held WHERE conversation = ?1 AND lo <= ?2 ORDER BY lo DESC LIMIT 1")?
        .query_row([conversation, to_sql(seq)], |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?))))
        .optional()
}

/// Returns the last known position.
fn end(db: &Connection, conversation: i64) -> rusqlite::Result<u64> {
    let end = db
        .prepare_cached(
            "SELECT MAX(COALESCE((SELECT head_seq FROM conversation WHERE id = ?1), 0), \
             COALESCE((SELECT hi FROM held WHERE conversation = ?1 ORDER BY lo DESC LIMIT 1), 0))",
        )?
        .query_row([conversation], |row| row.get(0))?;
    Ok(from_sql(end))
}

/// Returns the order key of a message, and its key, by its ID or by its key. No index helps: messages come with their
/// place, and an ID alone is rare.
pub(crate) fn place(
    db: &Connection,
    conversation: i64,
    message_id: i64,
    key: &[u8],
) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    db.prepare_cached(
        "SELECT order_key, client_key FROM message WHERE conversation = ?1 \
         AND ((message_id = ?2 AND seq > 0) OR (client_key = ?3 AND length(?3) > 0)) ORDER BY message_id = ?2 DESC LIMIT 1",
    )?
    .query_row(params![conversation, message_id, key], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

/// Returns the tie-breaker of an anchor among messages with the same order key.
fn tie(db: &Connection, conversation: i64, order_key: i64, key: &[u8]) -> rusqlite::Result<i64> {
    if order_key % ORDER_KEY_STEP == 0 || key.is_empty() {
        return Ok(0);
    }
    let tie = db
        .prepare_cached(
            "SELECT tie FROM message WHERE client_key = ?1 AND seq = 0 AND conversation = ?2 AND order_key = ?3",
        )?
        .query_row(params![key, conversation, order_key], |row| row.get(0))
        .optional()?;
    Ok(tie.unwrap_or(0))
}
