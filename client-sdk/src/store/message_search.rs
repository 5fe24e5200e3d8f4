//! Search in messages. The index (see `search.rs`) has a document for each message: the words of its text, and a word for
//! each thing that a search selects by: the conversation, the type, the subtype, the sender. So every search is one query
//! of the index, and none looks at messages that it does not return.
//!
//! The number of a document is the time of its message, so the index is in the order of the results: the first page of a
//! million matches costs what the first page of ten costs.
//!
//! Messages are added in batches when the client has nothing else to do, and the rest when a search begins: receiving does
//! not wait for it. Triggers remove what was changed or deleted at once.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::message::Body;
use zim_protocol::{Message, MessageLiteInfo, MessageType, message_lite_info};

use super::message::{COLUMNS, MessageRow};
use super::search;
use crate::types::Name;

/// The messages of one batch: some tens of milliseconds.
pub(crate) const BATCH: usize = 1_000;
/// The documents of one millisecond. If there are more messages, the rest are dated later.
const SCALE: i64 = 64;

const REVOKE: i32 = MessageType::Revoke as i32;
const CUSTOM: i32 = MessageType::Custom as i32;

/// Returns whether there are messages that are not indexed.
pub(crate) fn is_behind(db: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM message_unindexed) \
               OR COALESCE((SELECT MAX(id) FROM message), 0) > (SELECT through FROM message_indexed)";
    db.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Returns about how many messages are not indexed: rows that were deleted before count as well.
pub(crate) fn waiting(db: &Connection) -> rusqlite::Result<usize> {
    let sql = "SELECT (SELECT COUNT(*) FROM message_unindexed) \
               + MAX(0, COALESCE((SELECT MAX(id) FROM message), 0) - (SELECT through FROM message_indexed))";
    let waiting: i64 = db.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(usize::try_from(waiting).unwrap_or(usize::MAX))
}

/// A message to index.
struct New {
    id: i64,
    conversation: i64,
    order_key: i64,
    sender: String,
    ts: i64,
    kind: i32,
    content: Bytes,
}

impl New {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            conversation: row.get(1)?,
            order_key: row.get(2)?,
            sender: row.get(3)?,
            ts: row.get(4)?,
            kind: row.get(5)?,
            content: row.get::<_, Vec<u8>>(6)?.into(),
        })
    }

    /// Returns its words.
    fn words(&self) -> String {
        let body = Message::decode(self.content.clone()).ok().and_then(|message| message.body);
        let subtype = match &body {
            Some(Body::Custom(custom)) if self.kind == CUSTOM => subtype_word(Some(custom.sub_type)),
            _ => subtype_word(None),
        };
        let mut words = [
            ANY.to_owned(),
            conversation_word(self.conversation),
            type_word(self.kind),
            subtype,
            sender_word(&self.sender),
        ]
        .join(" ");
        for text in body.iter().flat_map(texts).filter(|text| !text.is_empty()) {
            words.push(' ');
            // The last words of each text are shorter, so no keyword spans two of them.
            words.push_str(&search::indexed_in_threes(text));
        }
        words
    }
}

/// The word of every message. These words begin with letters that no word of a text begins with.
const ANY: &str = "v";

fn conversation_word(conversation: i64) -> String {
    format!("z{conversation}")
}

fn type_word(kind: i32) -> String {
    format!("y{kind}")
}

/// `None`: the message has no subtype.
fn subtype_word(subtype: Option<i64>) -> String {
    subtype.map_or_else(|| "x".to_owned(), |subtype| format!("x{}", subtype.unsigned_abs()))
}

fn sender_word(sender: &str) -> String {
    format!("w{}", zim_protocol::id::hex(sender.as_bytes()))
}

/// Returns what a search finds of a message.
fn texts(body: &Body) -> Vec<&str> {
    match body {
        Body::Text(text) => vec![&text.message],
        Body::Custom(custom) => vec![&custom.searched_content],
        Body::File(file) => vec![&file.file_name],
        Body::System(system) => vec![&system.message],
        Body::Combine(combine) => vec![&combine.title, &combine.summary],
        Body::Multiple(multiple) => multiple.message_info_list.iter().flat_map(part_texts).collect(),
        _ => Vec::new(),
    }
}

fn part_texts(part: &MessageLiteInfo) -> Vec<&str> {
    match &part.body {
        Some(message_lite_info::Body::Text(text)) => vec![&text.message],
        Some(message_lite_info::Body::Custom(custom)) => vec![&custom.searched_content],
        Some(message_lite_info::Body::File(file)) => vec![&file.file_name],
        _ => Vec::new(),
    }
}

const NEW: &str = "m.id, m.conversation, m.order_key, m.sender, m.ts, m.kind, m.content";

/// Indexes the next messages. Returns whether there are more.
pub(crate) fn index(db: &Connection, limit: usize) -> rusqlite::Result<bool> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (mut through, mut shift): (i64, i64) = db
        .prepare_cached("SELECT through, shift FROM message_indexed")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut batch: Vec<New> = db
        .prepare_cached(&format!(
            "SELECT {NEW} FROM message_unindexed u JOIN message m ON m.id = u.message ORDER BY u.message LIMIT ?1"
        ))?
        .query_map([limit], New::read)?
        .collect::<rusqlite::Result<_>>()?;
    {
        let mut done = db.prepare_cached("DELETE FROM message_unindexed WHERE message = ?1")?;
        batch.iter().try_for_each(|new| done.execute([new.id]).map(drop))?;
    }
    let newer: Vec<New> = db
        .prepare_cached(&format!("SELECT {NEW} FROM message m WHERE m.id > ?1 ORDER BY m.id LIMIT ?2"))?
        .query_map([through, limit], New::read)?
        .collect::<rusqlite::Result<_>>()?;
    let is_full = [&batch, &newer].iter().any(|rows| i64::try_from(rows.len()).is_ok_and(|len| len == limit));
    through = newer.last().map_or(through, |last| last.id);
    batch.extend(newer);
    batch.retain(|new| new.kind != REVOKE);
    batch.extend(take_neighbours(db, &batch)?);
    // The index wants its documents in order.
    batch.sort_by_key(|new| (new.ts, new.order_key));
    let mut last = i64::MIN;
    let mut add = db.prepare_cached("INSERT INTO message_search (rowid, words) VALUES (?1, ?2)")?;
    let mut note = db.prepare_cached("INSERT INTO message_doc (doc, message, conversation) VALUES (?1, ?2, ?3)")?;
    for new in &batch {
        let wanted = new.ts.saturating_mul(SCALE);
        let doc = free(db, wanted.max(last.saturating_add(1)))?;
        note.execute([doc, new.id, new.conversation])?;
        add.execute(params![doc, new.words()])?;
        (last, shift) = (doc, shift.max(doc - wanted));
    }
    db.prepare_cached("UPDATE message_indexed SET through = ?1, shift = ?2")?.execute([through, shift])?;
    Ok(is_full)
}

/// Removes the documents of the same conversation and millisecond as new messages, and returns their messages. They are added again
/// with the new ones, or a message that is indexed later, such as an older one of the history, would be behind them. What has a
/// later number because of more than 64 messages in a millisecond stays: the work for a message is bounded.
fn take_neighbours(db: &Connection, batch: &[New]) -> rusqlite::Result<Vec<New>> {
    let mut any = db.prepare_cached("SELECT 1 FROM message_doc WHERE doc >= ?1 AND doc < ?2")?;
    let mut find = db.prepare_cached(&format!(
        "SELECT {NEW} FROM message_doc d JOIN message m ON m.id = d.message \
         WHERE d.doc >= ?1 AND d.doc < ?2 AND d.conversation = ?3 AND m.ts = ?4"
    ))?;
    let mut places: Vec<(i64, i64)> = batch.iter().map(|new| (new.ts, new.conversation)).collect();
    places.sort_unstable();
    places.dedup();
    let mut taken = Vec::new();
    for (ts, conversation) in places {
        let (first, after) = (ts.saturating_mul(SCALE), ts.saturating_add(1).saturating_mul(SCALE));
        if any.exists([first, after])? {
            let found = find.query_map([first, after, conversation, ts], New::read)?;
            taken.extend(found.collect::<rusqlite::Result<Vec<New>>>()?);
        }
    }
    let mut forget =
        db.prepare_cached("DELETE FROM message_search WHERE rowid = (SELECT doc FROM message_doc WHERE message = ?1)")?;
    let mut remove = db.prepare_cached("DELETE FROM message_doc WHERE message = ?1")?;
    for new in &taken {
        forget.execute([new.id])?;
        remove.execute([new.id])?;
    }
    Ok(taken)
}

/// Returns the first number from `doc` on that no document has.
fn free(db: &Connection, doc: i64) -> rusqlite::Result<i64> {
    if !db.prepare_cached("SELECT 1 FROM message_doc WHERE doc = ?1")?.exists([doc])? {
        return Ok(doc);
    }
    db.prepare_cached(
        "SELECT d.doc + 1 FROM message_doc d WHERE d.doc >= ?1 \
         AND NOT EXISTS (SELECT 1 FROM message_doc e WHERE e.doc = d.doc + 1) ORDER BY d.doc LIMIT 1",
    )?
    .query_row([doc], |row| row.get(0))
}

/// Empties the index; everything is indexed again.
pub(crate) fn clear(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(search::CLEAR_MESSAGES)
}

/// What is searched for. What is empty or 0 matches everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// All of them must match.
    pub(crate) keywords: Vec<String>,
    pub(crate) kinds: Vec<i32>,
    /// Of custom messages, only those with these subtypes.
    pub(crate) subtypes: Vec<i64>,
    pub(crate) senders: Vec<String>,
    /// Both times are included.
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Query {
    /// Returns the query of the index, in one conversation or in all.
    fn expression(&self, conversation: Option<i64>) -> String {
        let quoted = |word: String| format!("\"{word}\"");
        let any = |words: Vec<String>| match words.is_empty() {
            true => None,
            false => Some(format!("({})", words.join(" OR "))),
        };
        let mut all: Vec<String> =
            self.keywords.iter().filter_map(|keyword| search::phrase_in_threes(keyword)).collect();
        all.extend(conversation.map(|conversation| quoted(conversation_word(conversation))));
        all.extend(any(self.senders.iter().map(|sender| quoted(sender_word(sender))).collect()));
        all.extend(any(self.kinds.iter().map(|kind| quoted(type_word(*kind))).collect()));
        let subtypes = self.subtypes.iter().map(|subtype| quoted(subtype_word(Some(*subtype))));
        let without = (!self.subtypes.is_empty()).then(|| quoted(subtype_word(None)));
        all.extend(any(subtypes.chain(without).collect()));
        if all.is_empty() {
            all.push(quoted(ANY.to_owned()));
        }
        all.join(" AND ")
    }

    /// Returns the first and the last document that can match.
    fn range(&self, db: &Connection) -> rusqlite::Result<(i64, i64)> {
        if self.end == 0 {
            return Ok((self.start.saturating_mul(SCALE), i64::MAX));
        }
        let shift: i64 = db.prepare_cached("SELECT shift FROM message_indexed")?.query_row([], |row| row.get(0))?;
        let after = self.end.saturating_add(1).saturating_mul(SCALE);
        Ok((self.start.saturating_mul(SCALE), after.saturating_add(shift)))
    }

    fn is_in_time(&self, ts: i64) -> bool {
        ts >= self.start && (self.end == 0 || ts <= self.end)
    }
}

const FROM: &str = "FROM message_search CROSS JOIN message_doc d ON d.doc = message_search.rowid \
                    CROSS JOIN message m ON m.id = d.message \
                    WHERE message_search MATCH ?1 AND message_search.rowid >= ?2 AND message_search.rowid <= ?3";

/// A message that was found, and its conversation.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) conversation: i64,
    /// Its place in the index.
    pub(crate) doc: i64,
    pub(crate) row: MessageRow,
}

/// Returns the first `count` messages after `anchor`, newest first unless `is_ascending`.
pub(crate) fn page(
    db: &Connection,
    query: &Query,
    conversation: Option<i64>,
    (anchor, is_ascending): (Option<i64>, bool),
    count: usize,
) -> rusqlite::Result<Vec<Found>> {
    let (mut low, mut high) = query.range(db)?;
    match anchor {
        Some(anchor) if is_ascending => low = low.max(anchor.saturating_add(1)),
        Some(anchor) => high = high.min(anchor.saturating_sub(1)),
        None => {}
    }
    let order = if is_ascending { "ASC" } else { "DESC" };
    let sql = format!("SELECT d.conversation, m.ts, d.doc, {COLUMNS} {FROM} ORDER BY message_search.rowid {order}");
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = statement.query(params![query.expression(conversation), low, high])?;
    let mut found = Vec::new();
    while found.len() < count
        && let Some(row) = rows.next()?
    {
        // Several messages of a millisecond can have later documents.
        if query.is_in_time(row.get(1)?) {
            found.push(Found { conversation: row.get(0)?, doc: row.get(2)?, row: MessageRow::read(row, 3)? });
        }
    }
    Ok(found)
}

/// Returns the place of an anchor in the index: the document of the message, the one that it had (`known`), or what its time says. If
/// only the time is known, the others of that millisecond follow, even if some of them came before.
pub(crate) fn anchor(
    db: &Connection,
    message: &Message,
    known: Option<i64>,
    is_ascending: bool,
) -> rusqlite::Result<i64> {
    let name = Name::new(message.conversation_type, message.conversation_id.as_str());
    let found = match super::conversation::id(db, &name)? {
        Some(conversation) => db
            .prepare_cached(
                "SELECT d.doc FROM message m JOIN message_doc d ON d.message = m.id \
                 WHERE m.conversation = ?1 AND m.order_key = ?2 AND m.ts = ?3",
            )?
            .query_row([conversation, message.order_key, message.timestamp], |row| row.get(0))
            .optional()?,
        None => None,
    };
    let (first, after) =
        (message.timestamp.saturating_mul(SCALE), message.timestamp.saturating_add(1).saturating_mul(SCALE));
    Ok(found.or(known).unwrap_or(if is_ascending { first - 1 } else { after }))
}

/// Returns the number of messages that match in a conversation.
pub(crate) fn count(db: &Connection, query: &Query, conversation: i64) -> rusqlite::Result<i64> {
    let expression = query.expression(Some(conversation));
    if query.start == 0 && query.end == 0 {
        let sql = "SELECT COUNT(*) FROM message_search WHERE message_search MATCH ?1";
        return db.prepare_cached(sql)?.query_row([expression], |row| row.get(0));
    }
    let (low, high) = query.range(db)?;
    let end = if query.end == 0 { i64::MAX } else { query.end };
    db.prepare_cached(&format!("SELECT COUNT(*) {FROM} AND m.ts >= ?4 AND m.ts <= ?5"))?
        .query_row(params![expression, low, high, query.start, end], |row| row.get(0))
}

/// Returns up to `count` conversations with matching messages, each with the document of its newest match, by which they are
/// sorted. `below`: the document of the last conversation of the page before. `shown`: the conversations of the pages before, if they
/// are known.
pub(crate) fn conversations(
    db: &Connection,
    query: &Query,
    below: Option<i64>,
    shown: Option<&HashSet<i64>>,
    count: usize,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let (low, high) = query.range(db)?;
    let before = below.map_or(high, |below| high.min(below - 1));
    let mut statement =
        db.prepare_cached(&format!("SELECT d.conversation, d.doc, m.ts {FROM} ORDER BY message_search.rowid DESC"))?;
    let mut rows = statement.query(params![query.expression(None), low, before])?;
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    while found.len() < count
        && let Some(row) = rows.next()?
    {
        let conversation: i64 = row.get(0)?;
        if !query.is_in_time(row.get(2)?) || !seen.insert(conversation) {
            continue;
        }
        // If nobody knows what was shown, one with a newer match was on an earlier page.
        let was_shown = match (below, shown) {
            (None, _) => false,
            (Some(_), Some(shown)) => shown.contains(&conversation),
            (Some(below), None) => !page(db, query, Some(conversation), (Some(below - 1), true), 1)?.is_empty(),
        };
        if !was_shown {
            found.push((conversation, row.get(1)?));
        }
    }
    Ok(found)
}

/// Converts what was found to messages.
pub(crate) fn into_messages(db: &Connection, found: Vec<Found>, viewer: &str) -> rusqlite::Result<Vec<Message>> {
    let mut names = HashMap::new();
    let mut messages = Vec::with_capacity(found.len());
    for Found { conversation, row, .. } in found {
        let name = match names.get(&conversation) {
            Some(name) => name,
            None => names.entry(conversation).or_insert(super::conversation::name(db, conversation)?.to_ref()),
        };
        messages.push(row.into_message(viewer, name));
    }
    Ok(messages)
}

#[cfg(test)]
mod tests;
