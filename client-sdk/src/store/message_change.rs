//! Rows of messages that change or go: receipts, replies, deletions, and what exists on this device only.

use std::ops::RangeInclusive;

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{MessageRepliedInfo, MessageSentStatus, MessageState, ORDER_KEY_STEP, id};

use super::message::{COLUMNS, INSERTED, MessageRow, order_key};
use super::outgoing::{Pending, insert_pending, lately};
use super::{done_receipt, from_sql, message, to_sql};
use crate::types::Name;

/// Marks the receipt of a message as done; returns false if it was, or if the message is not held.
pub(crate) fn set_done(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<bool> {
    let sql = "UPDATE message SET receipt = 2 WHERE conversation = ?1 AND order_key = ?2 AND tie = 0 AND receipt = 1";
    Ok(db.prepare_cached(sql)?.execute(params![conversation, order_key(seq)])? > 0)
}

/// Marks the receipts of the messages up to a position as done, either those that `viewer` sent or the others.
pub(crate) fn set_all_done(
    db: &Connection,
    conversation: i64,
    through: u64,
    viewer: &str,
    is_own: bool,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE message SET receipt = 2 WHERE conversation = ?1 AND receipt = 1 AND seq > 0 AND seq <= ?2 \
         AND (sender = ?3) = ?4",
    )?
    .execute(params![conversation, to_sql(through), viewer, is_own])?;
    Ok(())
}

/// Moves the marks up to which receipts were sent for everything. Returns whether the other user's and the own one moved.
pub(crate) fn move_receipts(
    db: &Connection,
    conversation: i64,
    (peer, own): (u64, u64),
) -> rusqlite::Result<(bool, bool)> {
    let mut moved = [false; 2];
    for (moved, (column, seq)) in moved.iter_mut().zip([("peer_receipt_seq", peer), ("own_receipt_seq", own)]) {
        let sql = format!("UPDATE conversation SET {column} = ?2 WHERE id = ?1 AND {column} < ?2");
        *moved = db.prepare_cached(&sql)?.execute(params![conversation, to_sql(seq)])? > 0;
    }
    Ok(moved.into())
}

/// Returns the rows of the messages that reply to positions.
pub(crate) fn replies(
    db: &Connection,
    conversation: i64,
    to: RangeInclusive<u64>,
) -> rusqlite::Result<Vec<(i64, MessageRow)>> {
    db.prepare_cached(&format!(
        "SELECT m.id, {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.replied_seq BETWEEN ?2 AND ?3 \
         AND m.replied_seq > 0 ORDER BY m.order_key"
    ))?
    .query_map(params![conversation, to_sql(*to.start()), to_sql(*to.end())], |row| {
        Ok((row.get(0)?, MessageRow::read(row, 1)?))
    })?
    .collect()
}

/// Sets what a message replies to.
pub(crate) fn set_replied(db: &Connection, row: i64, state: &[u8], info: MessageRepliedInfo) -> rusqlite::Result<()> {
    let state = MessageState::decode(state).unwrap_or_default();
    let state = MessageState { replied_info: Some(info), ..state }.encode_to_vec();
    db.prepare_cached("UPDATE message SET state = ?2 WHERE id = ?1")?.execute(params![row, state])?;
    Ok(())
}

/// What the user has deleted for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Nothing.
    No,
    /// This message.
    Message,
    /// All messages up to a later one.
    Cleared,
}

/// Returns whether the user has deleted a message for themselves.
pub(crate) fn hidden(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<Hidden> {
    let sql = "SELECT EXISTS (SELECT 1 FROM hidden WHERE conversation = ?1 AND seq = ?2), \
               EXISTS (SELECT 1 FROM conversation WHERE id = ?1 AND cleared_seq >= ?2)";
    let row = db
        .prepare_cached(sql)?
        .query_row(params![conversation, to_sql(seq)], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?)))?;
    Ok(match row {
        (_, true) => Hidden::Cleared,
        (true, false) => Hidden::Message,
        (false, false) => Hidden::No,
    })
}

/// Returns whether this device alone has deleted the source of a reply.
pub(crate) fn hidden_here(db: &Connection, conversation: i64, source: &MessageRepliedInfo) -> rusqlite::Result<Hidden> {
    let message_id: i64 = source.message_id.parse().unwrap_or(0);
    let sql = "SELECT EXISTS (SELECT 1 FROM deleted_message WHERE message_id = ?2), \
               EXISTS (SELECT 1 FROM conversation WHERE id = ?1 AND deleted_seq >= ?3 AND deleted_ts >= ?4)";
    let row = db
        .prepare_cached(sql)?
        .query_row(params![conversation, message_id, source.message_seq, source.sent_time], |row| {
            Ok((row.get::<_, bool>(0)?, row.get::<_, bool>(1)?))
        })?;
    Ok(match row {
        (_, true) => Hidden::Cleared,
        (true, false) => Hidden::Message,
        (false, false) => Hidden::No,
    })
}

/// Deletes a message by its position, because the user has; returns its row.
pub(crate) fn delete(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<Option<MessageRow>> {
    db.prepare_cached("INSERT OR IGNORE INTO hidden (conversation, seq) VALUES (?1, ?2)")?
        .execute(params![conversation, to_sql(seq)])?;
    let found = message::held(db, conversation, seq)?;
    if let Some((id, _)) = &found {
        message::remove(db, *id)?;
    }
    Ok(found.map(|(_, row)| row))
}

/// Deletes the messages of a conversation up to a position. Returns whether there were any.
pub(crate) fn clear(db: &Connection, conversation: i64, through: u64) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM message WHERE conversation = ?1 AND seq > 0 AND seq <= ?2";
    Ok(db.prepare_cached(sql)?.execute(params![conversation, to_sql(through)])? > 0)
}

/// Returns the last row of a message; 0: there is none.
pub(crate) fn last_row(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT COALESCE(MAX(id), 0) FROM message", [], |row| row.get(0))
}

/// Deletes the messages of a conversation that only this device has, but those that are being sent, up to a row: those after it came
/// later than the deletion was asked for. The server may have stored one that has failed: it does not come back.
pub(crate) fn clear_unsent(db: &Connection, conversation: i64, last_row: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM message WHERE conversation = ?1 AND seq = 0 AND status <> ?2 AND id <= ?3 \
               RETURNING client_key, flags";
    let deleted: Vec<(Vec<u8>, u32)> = db
        .prepare_cached(sql)?
        .query_map(params![conversation, MessageSentStatus::Sending as i32, last_row], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<_, _>>()?;
    deleted.iter().filter(|(_, flags)| flags & INSERTED == 0).try_for_each(|(key, _)| note_deleted(db, id_of_key(key)))
}

/// Returns the conversations with messages that only this device has.
pub(crate) fn with_unsent(db: &Connection) -> rusqlite::Result<Vec<Name>> {
    let sql = "SELECT type, name FROM conversation WHERE id IN (SELECT conversation FROM message WHERE seq = 0)";
    let mut statement = db.prepare_cached(sql)?;
    let names = statement.query_map([], |row| Ok(Name::new(row.get(0)?, row.get::<_, String>(1)?)))?;
    names.collect()
}

/// Notes up to where the user has deleted all messages of a conversation.
pub(crate) fn set_cleared(db: &Connection, conversation: i64, through: u64) -> rusqlite::Result<()> {
    let seq = to_sql(through);
    db.prepare_cached("UPDATE conversation SET cleared_seq = max(cleared_seq, ?2) WHERE id = ?1")?
        .execute(params![conversation, seq])?;
    db.prepare_cached("DELETE FROM hidden WHERE conversation = ?1 AND seq <= ?2")?
        .execute(params![conversation, seq])?;
    Ok(())
}

/// Forgets what the user has deleted for themselves, and what is read: positions begin anew, and the feed tells it again.
pub(crate) fn forget_hidden(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM hidden", [])?;
    done_receipt::forget(db)?;
    db.execute("UPDATE conversation SET cleared_seq = 0, peer_receipt_seq = 0, own_receipt_seq = 0", [])?;
    Ok(())
}

/// Returns a message by its position, or while the server has not stored it by its key, or by its ID, and its row. If the message has
/// both a position and an ID, both must match: one that another combines has its position in a conversation of somebody else.
pub(crate) fn find(
    db: &Connection,
    conversation: i64,
    message: &zim_protocol::Message,
) -> rusqlite::Result<Option<(i64, MessageRow)>> {
    let message_id: i64 = message.message_id.parse().unwrap_or(0);
    if let Ok(seq @ 1..) = u64::try_from(message.message_seq) {
        let held = message::held(db, conversation, seq)?;
        return Ok(held.filter(|(_, row)| message.message_id.is_empty() || row.message_id == message_id));
    }
    let key: Option<[u8; 16]> = id::from_hex(&message.local_message_id);
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, MessageRow::read(row, 1)?));
    if let Some(key) = key {
        let sql = format!(
            "SELECT m.id, {COLUMNS} FROM message m WHERE m.client_key = ?1 AND m.seq = 0 AND m.conversation = ?2"
        );
        let found = db.prepare_cached(&sql)?.query_row(params![key, conversation], read).optional()?;
        if found.is_some() {
            return Ok(found);
        }
        if message_id == 0 {
            // The app does not know yet that the server has stored it.
            let sql = format!(
                "SELECT m.id, {COLUMNS} FROM message m WHERE m.conversation = ?2 AND m.client_key = ?1 AND m.seq > 0 \
                 AND m.is_local = 1 AND m.order_key > {}",
                lately("?2")
            );
            return db.prepare_cached(&sql)?.query_row(params![key, conversation], read).optional();
        }
    }
    let sql =
        format!("SELECT m.id, {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.message_id = ?2 AND m.seq > 0");
    db.prepare_cached(&sql)?.query_row(params![conversation, message_id], read).optional()
}

/// Stands for the ID of a message that the server has not stored: IDs of stored ones are positive.
fn id_of_key(key: &[u8]) -> i64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(key).for_each(|(byte, of_key)| *byte = *of_key);
    i64::from_be_bytes(bytes) | i64::MIN
}

/// Returns whether this device has deleted an own message before the server had stored it.
pub(crate) fn is_key_deleted(db: &Connection, key: &[u8]) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM deleted_message WHERE message_id = ?1")?.exists([id_of_key(key)])
}

/// Forgets that this device has deleted an own message; returns whether it had.
pub(crate) fn forget_key(db: &Connection, key: &[u8]) -> rusqlite::Result<bool> {
    let deleted = db.prepare_cached("DELETE FROM deleted_message WHERE message_id = ?1")?.execute([id_of_key(key)])?;
    Ok(deleted > 0)
}

/// Notes that this device has deleted a message, or one that the server has not stored.
fn note_deleted(db: &Connection, message_id: i64) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR IGNORE INTO deleted_message (message_id) VALUES (?1)")?.execute([message_id])?;
    Ok(())
}

/// Deletes a message on this device only, so that it does not come back.
pub(crate) fn delete_here(db: &Connection, row: i64, message: &MessageRow) -> rusqlite::Result<()> {
    // The server may store one that is being sent, or may have stored one that has failed.
    let is_own = message.seq == 0 && message.flags & INSERTED == 0;
    if message.seq > 0 || is_own {
        let id = if is_own { id_of_key(&message.client_key) } else { message.message_id };
        note_deleted(db, id)?;
    }
    message::remove(db, row)
}

/// Deletes all messages of a conversation on this device only, so that they do not come back.
pub(crate) fn clear_here(db: &Connection, conversation: i64) -> rusqlite::Result<()> {
    // What this device has sent may lie behind messages that it does not have yet. Those stay, and so it is noted one by one.
    db.prepare_cached(&format!(
        "INSERT OR IGNORE INTO deleted_message (message_id) SELECT m.message_id FROM message m \
         JOIN conversation c ON c.id = m.conversation WHERE m.conversation = ?1 AND m.seq > 0 \
         AND m.order_key > c.head_seq * {ORDER_KEY_STEP}"
    ))?
    .execute([conversation])?;
    db.prepare_cached(&format!(
        "UPDATE conversation SET deleted_seq = max(deleted_seq, head_seq), deleted_ts = max(deleted_ts, last_ts, \
         COALESCE((SELECT MAX(m.ts) FROM message m WHERE m.conversation = ?1 AND m.seq > 0 \
         AND m.order_key <= conversation.head_seq * {ORDER_KEY_STEP}), 0)) WHERE id = ?1"
    ))?
    .execute([conversation])?;
    clear(db, conversation, u64::MAX >> 1)?;
    clear_unsent(db, conversation, i64::MAX)
}

/// Returns the last position and time of what was there when this device alone deleted all messages of a conversation; 0: it has not.
pub(crate) fn cleared_here(db: &Connection, conversation: i64) -> rusqlite::Result<(u64, i64)> {
    db.prepare_cached("SELECT deleted_seq, deleted_ts FROM conversation WHERE id = ?1")?
        .query_row([conversation], |row| Ok((from_sql(row.get(0)?), row.get(1)?)))
}

/// Returns whether the user, or this device alone, has deleted anything.
pub(crate) fn has_deleted(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row(
        "SELECT EXISTS (SELECT 1 FROM deleted_message) OR EXISTS (SELECT 1 FROM hidden) \
         OR EXISTS (SELECT 1 FROM conversation WHERE deleted_seq > 0 OR cleared_seq > 0)",
        [],
        |row| row.get(0),
    )
}

/// Returns whether the user, or this device alone, has deleted a message.
pub(crate) fn is_deleted(
    db: &Connection,
    conversation: i64,
    message_id: i64,
    (seq, ts): (u64, i64),
) -> rusqlite::Result<bool> {
    db.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM deleted_message WHERE message_id = ?2) \
         OR EXISTS (SELECT 1 FROM hidden WHERE conversation = ?1 AND seq = ?3) OR EXISTS (SELECT 1 FROM conversation \
         WHERE id = ?1 AND (cleared_seq >= ?3 OR (deleted_seq >= ?3 AND deleted_ts >= ?4)))",
    )?
    .query_row(params![conversation, message_id, to_sql(seq), ts], |row| row.get(0))
}

/// Sets the data of a message that only this device has.
pub(crate) fn set_local_data(db: &Connection, row: i64, local_data: &str) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE message SET local_data = ?2 WHERE id = ?1")?.execute(params![row, local_data])?;
    Ok(())
}

/// Adds a message that exists on this device only; returns its row.
pub(crate) fn insert(db: &Connection, conversation: i64, sender: &str, pending: &Pending) -> rusqlite::Result<i64> {
    let (row, _) = insert_pending(db, conversation, sender, pending, None)?;
    db.prepare_cached("UPDATE message SET status = ?2, flags = ?3 WHERE id = ?1")?.execute(params![
        row,
        MessageSentStatus::Success as i32,
        INSERTED
    ])?;
    Ok(row)
}
