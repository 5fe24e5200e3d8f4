//! Messages that leave this device in a file, and come back from one.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zim_protocol::{
    ConversationRef, MessageEntry, MessageFlag, MessageReceiptStatus, MessageSentStatus, MessageState, MessageType,
};

use super::message::{COLUMN_COUNT, COLUMNS, IMPORTED, INSERTED, MessageRow, order_key};
use super::{conversation, done_receipt, message_change};
use crate::media::content;
use crate::types::Name;

/// A message in a file.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Exported {
    pub(crate) conversation: ConversationRef,
    /// As the server sent it; without a position if it exists on this device only.
    pub(crate) entry: MessageEntry,
    /// Its place, while it has no position.
    #[serde(default)]
    order_key: i64,
    #[serde(default)]
    status: i32,
    #[serde(default)]
    local_extended_data: String,
}

/// Returns how many messages are exported: all but those that are being sent.
pub(crate) fn count(db: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT COUNT(*) FROM message WHERE status <> ?1";
    db.prepare_cached(sql)?
        .query_row([MessageSentStatus::Sending as i32], |row| row.get::<_, i64>(0))
        .map(super::from_sql)
}

/// Returns the messages after a row, and the last row.
pub(crate) fn page(db: &Connection, after: i64, count: i64) -> rusqlite::Result<(Vec<Exported>, i64)> {
    let mut statement = db.prepare_cached(&format!(
        "SELECT {COLUMNS}, c.type, c.name, m.id FROM message m JOIN conversation c ON c.id = m.conversation \
         WHERE m.id > ?1 AND m.status <> ?2 ORDER BY m.id LIMIT ?3"
    ))?;
    let mut last = after;
    let rows = statement.query_map(params![after, MessageSentStatus::Sending as i32, count], |row| {
        let found = MessageRow::read(row, 0)?;
        let conversation = ConversationRef { r#type: row.get(COLUMN_COUNT)?, id: row.get(COLUMN_COUNT + 1)? };
        Ok((exported(found, conversation), row.get(COLUMN_COUNT + 2)?))
    })?;
    let mut page = Vec::new();
    for row in rows {
        let (exported, id) = row?;
        last = id;
        page.push(exported);
    }
    Ok((page, last))
}

fn exported(row: MessageRow, conversation: ConversationRef) -> Exported {
    Exported {
        conversation,
        order_key: if row.seq == 0 { row.order_key } else { 0 },
        status: row.status,
        local_extended_data: row.local_data,
        entry: MessageEntry {
            seq: row.seq,
            n: 0,
            message_id: row.message_id,
            sender: row.sender,
            ts: row.ts,
            kind: row.kind,
            flags: row.flags & !IMPORTED,
            client_key: row.client_key,
            content: if content::is_media(row.kind) { content::without_paths(&row.content) } else { row.content },
            state: if row.state.is_empty() { None } else { MessageState::decode(row.state).ok().map(Box::new) },
        },
    }
}

/// Adds a message, unless this device has it, has deleted it, or does not have its conversation. The server's messages do not
/// count as held: history asks the server for what is around them, and they are then as the server has them.
pub(crate) fn import(db: &Connection, viewer: &str, message: Exported) -> rusqlite::Result<()> {
    let Exported { conversation, mut entry, order_key: place, status, local_extended_data } = message;
    if content::is_media(entry.kind) {
        // A path would name another file here, and a message that is sent again would upload it.
        entry.content = content::without_paths(&entry.content);
    }
    let name = Name::new(conversation.r#type, conversation.id);
    let Some(id) = conversation::id(db, &name)? else { return Ok(()) };
    let is_known = db
        .prepare_cached("SELECT 1 FROM message WHERE conversation = ?1 AND client_key = ?2 AND sender = ?3")?
        .query_row(params![id, &entry.client_key[..], entry.sender], |_| Ok(()))
        .optional()?;
    if is_known.is_some() {
        // What the app has noted about it here counts.
        db.prepare_cached(
            "UPDATE message SET local_data = ?4 WHERE conversation = ?1 AND client_key = ?2 AND sender = ?3 AND local_data = ''",
        )?
        .execute(params![id, &entry.client_key[..], entry.sender, local_extended_data])?;
        return Ok(());
    }
    let is_local = entry.seq == 0;
    let is_deleted = match is_local {
        true => entry.sender == viewer && message_change::is_key_deleted(db, &entry.client_key)?,
        false => message_change::is_deleted(db, id, entry.message_id, (entry.seq, entry.ts))?,
    };
    if is_deleted {
        return Ok(());
    }
    // Flags of this device count for its own messages only, and a message that is to be sent again is the user's own.
    let is_failed = status == MessageSentStatus::Failed as i32 && entry.sender == viewer;
    if is_local && entry.flags & INSERTED == 0 && !is_failed {
        return Ok(());
    }
    let flags = if is_local { entry.flags & !IMPORTED } else { entry.flags & !INSERTED | IMPORTED };
    let status = if is_local && is_failed { MessageSentStatus::Failed } else { MessageSentStatus::Success };
    let place = if is_local { place.max(0) } else { order_key(entry.seq) };
    let tie: i64 = match is_local {
        true => db
            .prepare_cached("SELECT COALESCE(MAX(tie), 0) + 1 FROM message WHERE conversation = ?1 AND order_key = ?2")?
            .query_row([id, place], |row| row.get(0))?,
        false => 0,
    };
    // The file does not tell who has read it.
    let asks = !is_local && entry.has(MessageFlag::Receipt) && entry.kind != MessageType::Revoke as i32;
    let receipt = match asks {
        true if done_receipt::is_done(db, id, entry.seq, entry.sender == viewer)? => MessageReceiptStatus::Done as i32,
        true => MessageReceiptStatus::Processing as i32,
        false => 0,
    };
    let state = entry.state.as_deref();
    let replied = state.and_then(|state| state.replied_info.as_ref()).map_or(0, |info| info.message_seq);
    db.prepare_cached(
            "INSERT INTO message (conversation, order_key, tie, seq, message_id, client_key, sender, ts, kind, flags, status, \
             is_local, content, local_data, state, replied_seq, config, receipt) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
             ON CONFLICT (conversation, order_key, tie) DO NOTHING",
        )?
        .execute(params![
            id,
            place,
            tie,
            super::to_sql(entry.seq),
            entry.message_id,
            &entry.client_key[..],
            entry.sender,
            entry.ts,
            entry.kind,
            flags,
            status as i32,
            is_local,
            &entry.content[..],
            local_extended_data,
            state.map(prost::Message::encode_to_vec).unwrap_or_default(),
            replied,
            is_local.then(Vec::<u8>::new),
            receipt
        ])?;
    Ok(())
}
