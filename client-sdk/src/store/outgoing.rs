//! Messages that this device sends: from the first row until the server has stored them, or they have failed.

use bytes::Bytes;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::message::Body;
use zim_protocol::{Message, MessageEntry, MessageFlag, MessageSentStatus, MessageType, ORDER_KEY_STEP};

use super::message::{COLUMN_COUNT, COLUMNS, MessageRow, change, decoded_state, order_key, set_content_of};
use super::{done_receipt, to_sql};
use crate::media::content;
use crate::types::Name;

/// Sets the content of a message that is being sent, because its files were uploaded at `now_ms`.
pub(crate) fn set_uploaded(db: &Connection, key: &[u8], content: &[u8], now_ms: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE message SET content = ?2, uploaded_at = ?3 WHERE client_key = ?1 AND seq = 0")?
        .execute(params![key, content, now_ms])?;
    Ok(())
}

/// Returns the pending row with this key: its id, conversation and status.
pub(crate) fn waiting(db: &Connection, key: &[u8]) -> rusqlite::Result<Option<(i64, i64, i32)>> {
    db.prepare_cached("SELECT id, conversation, status FROM message WHERE client_key = ?1 AND seq = 0")?
        .query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()
}

/// Gives a row of a message that is being sent its position. `known` are its type and its flags, if the caller knows them. Returns
/// whether the row has more than that now: another row was there, whose content it has, or a receipt arrived before, or what it
/// combines has its ID.
pub(crate) fn settle_row(
    db: &Connection,
    conversation: i64,
    id: i64,
    known: Option<(i32, u32)>,
    entry: &MessageEntry,
) -> rusqlite::Result<bool> {
    let Placed { is_replaced, asks, kind } = place_row(db, conversation, id, known, entry)?;
    // Otherwise the entry has what the server made of it.
    let is_bare = kind == MessageType::Combine as i32 && entry.content.is_empty();
    let is_named = is_bare && name_combined(db, id, entry.message_id)?;
    if !asks || !done_receipt::is_done(db, conversation, entry.seq, true)? {
        return Ok(is_replaced || is_named);
    }
    db.prepare_cached("UPDATE message SET receipt = 2 WHERE id = ?1 AND receipt = 1")?.execute([id])?;
    Ok(true)
}

macro_rules! place {
    () => {
        "UPDATE message SET order_key = ?2, tie = 0, seq = ?3, message_id = ?4, ts = ?5, status = ?6, config = NULL, \
         receipt = CASE WHEN (flags & 2) <> 0 THEN 1 ELSE 0 END WHERE id = ?1"
    };
}

/// Gives a row its position.
const PLACE: &str = place!();
/// The same for a row whose type and flags are not known.
const PLACE_UNKNOWN: &str = concat!(place!(), " RETURNING receipt, kind");

/// A row that got its position.
struct Placed {
    /// Another row was there.
    is_replaced: bool,
    /// The message asks for a receipt.
    asks: bool,
    /// The type of the message that was sent.
    kind: i32,
}

/// The same without receipts that arrived before.
fn place_row(
    db: &Connection,
    conversation: i64,
    id: i64,
    known: Option<(i32, u32)>,
    entry: &MessageEntry,
) -> rusqlite::Result<Placed> {
    let order_key = order_key(entry.seq);
    // RETURNING makes a table for what it returns, which costs as much as the rest.
    let mut update = db.prepare_cached(if known.is_some() { PLACE } else { PLACE_UNKNOWN })?;
    let status = MessageSentStatus::Success as i32;
    let mut run = |is_replaced: bool| -> rusqlite::Result<Placed> {
        let row = params![id, order_key, to_sql(entry.seq), entry.message_id, entry.ts, status];
        let placed = match known {
            Some((kind, flags)) => {
                let is_there = update.execute(row)? > 0;
                is_there.then_some(Placed { is_replaced, asks: flags & MessageFlag::Receipt as u32 != 0, kind })
            }
            None => update
                .query_row(row, |row| Ok(Placed { is_replaced, asks: row.get::<_, i32>(0)? == 1, kind: row.get(1)? }))
                .optional()?,
        };
        Ok(placed.unwrap_or(Placed { is_replaced, asks: false, kind: 0 }))
    };
    match run(false) {
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => {
            let mut own: (String, i32) = Default::default();
            // Another row has this position: a pull stored the message before this device knew that it had sent it, or the
            // app has sent it before under a key of its own.
            let other = db
                .prepare_cached(
                    "DELETE FROM message WHERE conversation = ?1 AND order_key = ?2 AND tie = 0 \
                     RETURNING kind, flags, content, state, local_data, receipt",
                )?
                .query_row(params![conversation, order_key], |row| {
                    own = (row.get(4)?, row.get(5)?);
                    let content: Vec<u8> = row.get(2)?;
                    let (kind, flags, content) = (row.get(0)?, row.get(1)?, content.into());
                    let state = decoded_state(&row.get::<_, Vec<u8>>(3)?);
                    let (seq, sender) = (entry.seq, entry.sender.clone());
                    Ok(MessageEntry { seq, sender, kind, flags, content, state, ..MessageEntry::default() })
                })?;
            let placed = run(true)?;
            // It is as the server has it, and as the app has marked it.
            change(db, conversation, &entry.sender, &other)?;
            db.prepare_cached(
                "UPDATE message SET local_data = CASE local_data WHEN '' THEN ?2 ELSE local_data END, \
                 receipt = CASE receipt WHEN 0 THEN 0 ELSE max(receipt, ?3) END WHERE id = ?1",
            )?
            .execute(params![id, own.0, own.1])?;
            Ok(placed)
        }
        placed => placed,
    }
}

/// Notes in the content of a combined message under which ID the server has what it combines: that of the message. Returns false if
/// it is noted.
fn name_combined(db: &Connection, row: i64, message_id: i64) -> rusqlite::Result<bool> {
    let content: Vec<u8> =
        db.prepare_cached("SELECT content FROM message WHERE id = ?1")?.query_row([row], |row| row.get(0))?;
    let Some(named) = named(&content, message_id) else { return Ok(false) };
    let is_new = named != content;
    if is_new {
        set_content_of(db, row, &named)?;
    }
    Ok(is_new)
}

/// Returns the content of a combined message as the server has it: without what it combines, and with the ID of that, which is the ID
/// of the message. `None`: it is no combined message.
pub(crate) fn named(content: &[u8], message_id: i64) -> Option<Vec<u8>> {
    let mut message = Message::decode(content).ok()?;
    let Some(Body::Combine(combine)) = &mut message.body else { return None };
    combine.combine_id = message_id.to_string();
    combine.message_list.clear();
    Some(message.encode_to_vec())
}

/// Replaces what a message says by what the server has.
pub(crate) fn replace_content(db: &Connection, row: i64, entry: &MessageEntry) -> rusqlite::Result<()> {
    let mut content = entry.content.clone();
    if content::is_media(entry.kind) {
        let old: Vec<u8> =
            db.prepare_cached("SELECT content FROM message WHERE id = ?1")?.query_row([row], |row| row.get(0))?;
        content = content::merged(&old, &content).unwrap_or(content);
    }
    let is_revoked = entry.kind == MessageType::Revoke as i32;
    db.prepare_cached(
        "UPDATE message SET kind = ?2, content = ?3, receipt = CASE WHEN ?4 THEN 0 ELSE receipt END WHERE id = ?1",
    )?
    .execute(params![row, entry.kind, &content[..], is_revoked])?;
    Ok(())
}

/// A message that is about to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) key: [u8; 16],
    pub(crate) ts: i64,
    pub(crate) kind: i32,
    pub(crate) flags: u32,
    pub(crate) content: Bytes,
    pub(crate) local_data: String,
    pub(crate) config: Bytes,
}

/// The order key and the tie-breaker of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) order_key: i64,
    tie: i64,
}

impl Place {
    /// Returns the place after this one for a message that the server has not stored. If there are more such messages than
    /// order keys, the rest share the last one, in the order of `tie`.
    fn next(self) -> Self {
        if self.order_key % ORDER_KEY_STEP < ORDER_KEY_STEP - 1 {
            Self { order_key: self.order_key + 1, tie: 1 }
        } else {
            Self { tie: self.tie + 1, ..self }
        }
    }
}

/// Returns the place of a message that the server has not stored yet: after all known messages.
fn place(db: &Connection, conversation: i64) -> rusqlite::Result<Place> {
    let (head, last, tie): (i64, i64, i64) = db
        .prepare_cached(
            "SELECT c.head_seq * ?2, COALESCE(m.order_key, 0), COALESCE(m.tie, 0) FROM conversation c \
             LEFT JOIN message m ON m.id = (SELECT l.id FROM message l WHERE l.conversation = c.id \
             ORDER BY l.order_key DESC, l.tie DESC LIMIT 1) WHERE c.id = ?1",
        )?
        .query_row([conversation, ORDER_KEY_STEP], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let last = if head > last { Place { order_key: head, tie: 0 } } else { Place { order_key: last, tie } };
    Ok(last.next())
}

/// Stores a message that is about to be sent, after the last one if that is known; returns its row and its place.
pub(crate) fn insert_pending(
    db: &Connection,
    conversation: i64,
    viewer: &str,
    pending: &Pending,
    after: Option<Place>,
) -> rusqlite::Result<(i64, Place)> {
    let place = match after {
        Some(last) => last.next(),
        None => place(db, conversation)?,
    };
    let Place { order_key, tie } = place;
    db.prepare_cached(
        "INSERT INTO message (conversation, order_key, tie, seq, message_id, client_key, sender, ts, kind, flags, status, \
         is_local, content, local_data, config) VALUES (?1, ?2, ?3, 0, 0, ?4, ?5, ?6, ?7, ?8, ?9, 1, ?10, ?11, ?12)",
    )?
    .execute(params![
        conversation,
        order_key,
        tie,
        pending.key,
        viewer,
        pending.ts,
        pending.kind,
        pending.flags,
        MessageSentStatus::Sending as i32,
        &pending.content[..],
        pending.local_data,
        &pending.config[..]
    ])?;
    Ok((db.last_insert_rowid(), place))
}

/// Moves a failed message to the end for another attempt; returns its row and the config of the first attempt.
pub(crate) fn retry(
    db: &Connection,
    conversation: i64,
    key: &[u8],
    ts: i64,
) -> rusqlite::Result<Option<(MessageRow, Bytes)>> {
    let found = waiting(db, key)?
        .filter(|(_, place, status)| *place == conversation && *status == MessageSentStatus::Failed as i32);
    let Some((id, ..)) = found else { return Ok(None) };
    // Moved away first, so that it does not count as its own predecessor.
    db.prepare_cached("UPDATE message SET order_key = -id, tie = 0 WHERE id = ?1")?.execute([id])?;
    let Place { order_key, tie } = place(db, conversation)?;
    db.prepare_cached("UPDATE message SET order_key = ?2, tie = ?3, ts = ?4, status = ?5 WHERE id = ?1")?
        .execute(params![id, order_key, tie, ts, MessageSentStatus::Sending as i32])?;
    with_config(db, id)
}

/// Returns the message with this key that is being sent in this conversation, and its config.
pub(crate) fn sending(db: &Connection, conversation: i64, key: &[u8]) -> rusqlite::Result<Option<(MessageRow, Bytes)>> {
    let found = waiting(db, key)?.filter(|(_, place, _)| *place == conversation);
    found.map_or(Ok(None), |(id, ..)| with_config(db, id))
}

fn with_config(db: &Connection, id: i64) -> rusqlite::Result<Option<(MessageRow, Bytes)>> {
    db.prepare_cached(&format!("SELECT {COLUMNS}, m.config FROM message m WHERE m.id = ?1"))?
        .query_row([id], |row| {
            let config = row.get::<_, Option<Vec<u8>>>(COLUMN_COUNT)?.unwrap_or_default();
            Ok((MessageRow::read(row, 0)?, config.into()))
        })
        .optional()
}

/// Returns whether a message with this key waits in this conversation.
pub(crate) fn is_waiting(db: &Connection, conversation: i64, key: &[u8]) -> rusqlite::Result<bool> {
    Ok(waiting(db, key)?.is_some_and(|(_, place, _)| place == conversation))
}

/// The order key after which the last 1,000 messages of a conversation are, as SQL: keys have no index.
pub(super) fn lately(conversation: &str) -> String {
    format!("(SELECT MAX(l.order_key) - 1000 * {ORDER_KEY_STEP} FROM message l WHERE l.conversation = {conversation})")
}

/// Returns the user's own message with this key if the server has stored it, and it is one of the last.
pub(crate) fn sent_lately(
    db: &Connection,
    conversation: i64,
    viewer: &str,
    key: &[u8],
) -> rusqlite::Result<Option<MessageRow>> {
    stored(db, (conversation, viewer, key), &lately("?1"))
}

/// Returns the user's own message with this key if the server has stored it.
pub(crate) fn sent(
    db: &Connection,
    conversation: i64,
    viewer: &str,
    key: &[u8],
) -> rusqlite::Result<Option<MessageRow>> {
    stored(db, (conversation, viewer, key), "0")
}

/// The same after an order key, which is SQL.
fn stored(
    db: &Connection,
    (conversation, viewer, key): (i64, &str, &[u8]),
    after: &str,
) -> rusqlite::Result<Option<MessageRow>> {
    db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.seq > 0 AND m.sender = ?2 AND m.client_key = ?3 \
         AND m.order_key > {after}"
    ))?
    .query_row(params![conversation, viewer, key], |row| MessageRow::read(row, 0))
    .optional()
}

/// Marks a message as failed; returns its row, or `None` if the server has stored it after all.
pub(crate) fn fail(db: &Connection, key: &[u8]) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("UPDATE message SET status = ?2 WHERE client_key = ?1 AND seq = 0 RETURNING id")?
        .query_row(params![key, MessageSentStatus::Failed as i32], |row| row.get(0))
        .optional()
}

/// A message that was being sent when the process ended.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) name: Name,
    pub(crate) row: MessageRow,
    pub(crate) config: Bytes,
    /// Since when it can be sent: since its call, or since its files were uploaded.
    pub(crate) since_ms: i64,
}

// Without the name of the index SQLite reads all messages, because `ORDER BY` and `DISTINCT` prefer the order of another one.
fn unsent_sql() -> String {
    format!(
        "SELECT {COLUMNS}, m.config, c.type, c.name, max(m.ts, m.uploaded_at) FROM message m INDEXED BY message_pending \
         JOIN conversation c ON c.id = m.conversation WHERE m.seq = 0 AND m.status = ?1 ORDER BY m.id"
    )
}

const DATED_AFTER: &str =
    "SELECT DISTINCT conversation FROM message INDEXED BY message_pending WHERE seq = 0 AND ts > ?1";
const DATE_BACK: &str = "UPDATE message INDEXED BY message_pending SET ts = ?1 WHERE seq = 0 AND ts > ?1";

/// Returns the messages that were being sent when the process ended, in the order of the calls.
pub(crate) fn unsent(db: &Connection) -> rusqlite::Result<Vec<Unsent>> {
    db.prepare_cached(&unsent_sql())?
        .query_map([MessageSentStatus::Sending as i32], |row| {
            let config = row.get::<_, Option<Vec<u8>>>(COLUMN_COUNT)?.unwrap_or_default().into();
            let name = Name::new(row.get(COLUMN_COUNT + 1)?, row.get::<_, String>(COLUMN_COUNT + 2)?);
            Ok(Unsent { name, row: MessageRow::read(row, 0)?, config, since_ms: row.get(COLUMN_COUNT + 3)? })
        })?
        .collect()
}

/// Returns the conversations with messages that the server has not stored and that are dated after `now_ms`.
pub(crate) fn dated_after(db: &Connection, now_ms: i64) -> rusqlite::Result<Vec<i64>> {
    db.prepare_cached(DATED_AFTER)?.query_map([now_ms], |row| row.get(0))?.collect()
}

/// Dates such messages to `now_ms`.
pub(crate) fn date_back(db: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    db.prepare_cached(DATE_BACK)?.execute([now_ms])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::file::memory;

    /// They run when an app opens: it must not wait until a million messages are read.
    #[test]
    fn what_waits_is_found_by_its_index() {
        let db = memory().unwrap();
        for sql in [unsent_sql(), DATED_AFTER.to_owned(), DATE_BACK.to_owned()] {
            let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan = statement.query_map([1], |row| row.get::<_, String>(3)).unwrap();
            let plan: Vec<String> = plan.collect::<rusqlite::Result<_>>().unwrap();
            assert!(plan.iter().any(|step| step.contains("USING INDEX message_pending")), "{sql}: {plan:?}");
        }
    }
}
