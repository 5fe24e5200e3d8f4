//! Rows of messages, and the positions that are held.

use std::borrow::Cow;
use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zim_protocol::{
    ConversationRef, ConversationType, Event, GroupMessageReceivedEvent, Message, MessageEntry, MessageFlag,
    MessageMentionedInfo, MessageReceiptStatus, MessageReceivedInfo, MessageSentStatus, MessageState, MessageType,
    ORDER_KEY_STEP, PeerMessageReceivedEvent, RoomMessageReceivedEvent,
};

use super::outgoing::{settle_row, waiting};
use super::{from_sql, to_sql};
use crate::media::content;
use crate::types::Name;

/// The columns that [`MessageRow::read`] reads, of a table named `m`.
pub(crate) const COLUMNS: &str = "m.order_key, m.seq, m.message_id, m.client_key, m.sender, m.ts, m.kind, m.flags, \
                                  m.status, m.content, m.local_data, m.state, m.receipt";
/// The number of columns.
pub(crate) const COLUMN_COUNT: usize = 13;
/// The flag of a message that the app inserted: it exists on this device only. Flags of the server do not have this bit.
pub(crate) const INSERTED: u32 = 1 << 30;
/// The flag of a message that the app imported, until the server shows it: what happened to it since it was exported may be long
/// known. Flags of the server do not have this bit either.
pub(crate) const IMPORTED: u32 = 1 << 29;

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct MessageRow {
    pub(crate) order_key: i64,
    pub(crate) seq: u64,
    pub(crate) message_id: i64,
    pub(crate) client_key: Bytes,
    pub(crate) sender: String,
    pub(crate) ts: i64,
    pub(crate) kind: i32,
    pub(crate) flags: u32,
    pub(crate) status: i32,
    pub(crate) content: Bytes,
    pub(crate) local_data: String,
    /// An encoded `MessageState`; empty: nothing happened to it.
    pub(crate) state: Bytes,
    /// `MessageReceiptStatus`; 0: as the flags say.
    pub(crate) receipt: i32,
}

impl MessageRow {
    /// Whether an entry is older than the row: revocations and edits only go forward.
    pub(crate) fn is_newer_than(&self, entry: &MessageEntry) -> bool {
        let revoke = MessageType::Revoke as i32;
        let edited_time = |state: Option<&MessageState>| state.map_or(0, |state| state.edited_time);
        match (self.kind == revoke, entry.kind == revoke) {
            (true, false) => true,
            // It does not say when the message was edited.
            (false, false) if entry.has(MessageFlag::Withheld) => false,
            (false, false) => edited_time(decoded_state(&self.state).as_deref()) > edited_time(entry.state.as_deref()),
            (_, true) => false,
        }
    }

    /// Reads [`COLUMNS`] that begin at `first`.
    pub(crate) fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            order_key: row.get(first)?,
            seq: from_sql(row.get(first + 1)?),
            message_id: row.get(first + 2)?,
            client_key: row.get::<_, Vec<u8>>(first + 3)?.into(),
            sender: row.get(first + 4)?,
            ts: row.get(first + 5)?,
            kind: row.get(first + 6)?,
            flags: row.get(first + 7)?,
            status: row.get(first + 8)?,
            content: row.get::<_, Vec<u8>>(first + 9)?.into(),
            local_data: row.get(first + 10)?,
            state: row.get::<_, Vec<u8>>(first + 11)?.into(),
            receipt: row.get(first + 12)?,
        })
    }

    /// Converts the row to the message that `viewer` sees.
    pub(crate) fn into_message(self, viewer: &str, name: &ConversationRef) -> Message {
        let entry = MessageEntry {
            seq: self.seq,
            n: 0,
            message_id: self.message_id,
            sender: self.sender,
            ts: self.ts,
            kind: self.kind,
            flags: self.flags,
            client_key: self.client_key,
            content: self.content,
            state: decoded_state(&self.state),
        };
        let mut message = shown(entry, viewer, name);
        message.local_extended_data = self.local_data;
        message.is_user_inserted = self.flags & INSERTED != 0;
        if self.receipt != 0 {
            message.receipt_status = self.receipt;
        }
        if self.seq == 0 {
            message.message_id = String::new();
            message.order_key = self.order_key;
            message.sent_status = self.status;
        }
        message
    }
}

pub(super) fn decoded_state(state: &[u8]) -> Option<Box<MessageState>> {
    if state.is_empty() { None } else { MessageState::decode(state).ok().map(Box::new) }
}

/// What a row keeps of the flags and the state of an entry.
struct Columns {
    flags: u32,
    state: Vec<u8>,
    replied_seq: i64,
    receipt: i32,
}

impl Columns {
    fn of(entry: &MessageEntry) -> Self {
        let state = entry.state.as_deref();
        let receipt = match state.map_or(0, |state| state.receipt) {
            // A device that had it before may know of a receipt, and one that gets it now does not: neither keeps it.
            _ if entry.kind == MessageType::Revoke as i32 => 0,
            0 if entry.has(MessageFlag::Receipt) => MessageReceiptStatus::Processing as i32,
            receipt => receipt,
        };
        // The receipt has a column, and whether the state came in a push or a page makes no difference to a row.
        let kept = state.map(|state| MessageState { is_personal: false, receipt: 0, ..state.clone() });
        Self {
            flags: entry.flags & !(MessageFlag::State as u32 | MessageFlag::Withheld as u32),
            state: kept.map(|state| prost::Message::encode_to_vec(&state)).unwrap_or_default(),
            replied_seq: state.and_then(|state| state.replied_info.as_ref()).map_or(0, |info| info.message_seq),
            receipt,
        }
    }
}

/// Converts an entry to a message. A message of a later version that cannot be read is shown without a body, so that an
/// old client is never stuck.
pub(crate) fn shown(entry: MessageEntry, viewer: &str, name: &ConversationRef) -> Message {
    let bare = MessageEntry { content: Bytes::new(), ..entry.clone() };
    entry.into_message(viewer, name).or_else(|_| bare.into_message(viewer, name)).unwrap_or_default()
}

/// Returns the event for received messages, if their type of conversation has one.
pub(crate) fn received(to: &ConversationRef, message_list: Vec<Message>, info: MessageReceivedInfo) -> Option<Event> {
    let (from_conversation_id, info) = (to.id.clone(), Some(info));
    match ConversationType::try_from(to.r#type) {
        Ok(ConversationType::Peer) => {
            Some(Event::PeerMessageReceived(PeerMessageReceivedEvent { message_list, from_conversation_id, info }))
        }
        Ok(ConversationType::Group) => {
            Some(Event::GroupMessageReceived(GroupMessageReceivedEvent { message_list, from_conversation_id, info }))
        }
        Ok(ConversationType::Room) => {
            Some(Event::RoomMessageReceived(RoomMessageReceivedEvent { message_list, from_conversation_id, info }))
        }
        _ => None,
    }
}

/// The result of storing an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// This device sent the message.
    pub(crate) is_local: bool,
    /// The pending row that the entry settled.
    pub(crate) settled: Option<i64>,
    /// It mentions the viewer, or everybody.
    pub(crate) is_mention: bool,
}

/// Stores an entry of the log. The echo of an own message settles its pending row.
pub(crate) fn store(
    db: &Connection,
    conversation: i64,
    viewer: &str,
    entry: &MessageEntry,
) -> rusqlite::Result<Stored> {
    if entry.sender == viewer
        && let Some(id) = waiting(db, &entry.client_key)?.map(|row| row.0)
    {
        settle_row(db, conversation, id, None, entry)?;
        if !entry.content.is_empty() || entry.state.is_some() {
            // It may have been revoked or edited before this device learned that it was stored.
            change(db, conversation, viewer, entry)?;
        }
        return Ok(Stored { is_local: true, settled: Some(id), is_mention: false });
    }
    let order_key = order_key(entry.seq);
    if entry.content.is_empty() {
        let is_local: Option<bool> = db
            .prepare_cached("SELECT is_local FROM message WHERE conversation = ?1 AND order_key = ?2 AND tie = 0")?
            .query_row(params![conversation, order_key], |row| row.get(0))
            .optional()?;
        if is_local.is_some() && entry.state.is_some() {
            // The answer that settled it did not have what it replies to.
            change(db, conversation, viewer, entry)?;
        }
        return Ok(Stored { is_local: is_local.unwrap_or(true), settled: None, is_mention: false });
    }
    let columns = Columns::of(entry);
    let mention = mention(entry, viewer);
    // Without RETURNING, which makes a table for what it returns.
    let added = db
        .prepare_cached(
            "INSERT INTO message (conversation, order_key, tie, seq, message_id, client_key, sender, ts, kind, flags, status, \
             is_local, content, local_data, state, replied_seq, receipt, mention) VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, \
             ?11, COALESCE((SELECT k.local_data FROM kept_local_data k WHERE k.message_id = ?4), ''), ?12, ?13, ?14, ?15) \
             ON CONFLICT (conversation, order_key, tie) DO NOTHING",
        )?
        .execute(params![
            conversation,
            order_key,
            to_sql(entry.seq),
            entry.message_id,
            &entry.client_key[..],
            entry.sender,
            entry.ts,
            entry.kind,
            columns.flags,
            MessageSentStatus::Success as i32,
            &entry.content[..],
            columns.state,
            columns.replied_seq,
            columns.receipt,
            mention
        ])?;
    let is_mention = mention > 0;
    if added > 0 {
        return Ok(Stored { is_local: false, settled: None, is_mention });
    }
    // It is held. A page may have been read before a change that this device knows already.
    let is_newer = held(db, conversation, entry.seq)?.is_some_and(|(_, row)| row.is_newer_than(entry));
    if !is_newer {
        db.prepare_cached(
            "UPDATE message SET message_id = ?3, ts = ?4 WHERE conversation = ?1 AND order_key = ?2 AND tie = 0 \
             AND (message_id <> ?3 OR ts <> ?4)",
        )?
        .execute(params![conversation, order_key, entry.message_id, entry.ts])?;
        change(db, conversation, viewer, entry)?;
    }
    let is_local = db
        .prepare_cached("SELECT is_local FROM message WHERE conversation = ?1 AND order_key = ?2 AND tie = 0")?
        .query_row(params![conversation, order_key], |row| row.get(0))?;
    Ok(Stored { is_local, settled: None, is_mention })
}

/// Returns whom of interest a message mentions: `MessageMentionedType`.
fn mention(entry: &MessageEntry, viewer: &str) -> i32 {
    if entry.sender == viewer || entry.kind == MessageType::Revoke as i32 || !entry.has(MessageFlag::Counted) {
        return 0;
    }
    let Ok(message) = <Message as prost::Message>::decode(entry.content.clone()) else { return 0 };
    let is_mentioned = message.mentioned_user_ids.iter().any(|user| user == viewer);
    i32::from(is_mentioned) + 2 * i32::from(message.is_mention_all)
}

/// Returns the messages after a position that mention the user, or everybody: the earliest, up to `count`.
pub(crate) fn mentions(
    db: &Connection,
    name: &ConversationRef,
    (after, count): (i64, i64),
) -> rusqlite::Result<Vec<MessageMentionedInfo>> {
    db.prepare_cached(
        "SELECT message_id, seq, sender, mention FROM message WHERE mention > 0 AND seq > ?3 AND conversation = \
         (SELECT id FROM conversation WHERE type = ?1 AND name = ?2) ORDER BY seq LIMIT ?4",
    )?
    .query_map(params![name.r#type, name.id, after, count], |row| {
        Ok(MessageMentionedInfo {
            message_id: row.get::<_, i64>(0)?.to_string(),
            message_seq: row.get(1)?,
            from_user_id: row.get(2)?,
            r#type: row.get(3)?,
        })
    })?
    .collect()
}

/// Updates a message that changed; returns whether it is held.
pub(crate) fn change(db: &Connection, conversation: i64, viewer: &str, entry: &MessageEntry) -> rusqlite::Result<bool> {
    let entry = with_known(db, conversation, entry)?;
    let entry = &*entry;
    let Columns { flags, state, replied_seq, receipt } = Columns::of(entry);
    if replied_seq > 0 && entry.content.is_empty() {
        strip_reply(db, conversation, entry.seq)?;
    }
    let content = with_paths(db, conversation, entry)?;
    let changed = db
        .prepare_cached(
            "UPDATE message SET kind = ?3, flags = ?4, content = CASE WHEN length(?5) > 0 THEN ?5 ELSE content END, \
             state = ?6, replied_seq = ?7, receipt = CASE ?8 WHEN 0 THEN 0 ELSE max(receipt, ?8) END, \
             mention = CASE WHEN length(?5) > 0 THEN ?9 ELSE mention END \
             WHERE conversation = ?1 AND order_key = ?2 AND tie = 0",
        )?
        .execute(params![
            conversation,
            order_key(entry.seq),
            entry.kind,
            flags,
            &content[..],
            state,
            replied_seq,
            receipt,
            mention(entry, viewer)
        ])?;
    Ok(changed > 0)
}

/// Returns an entry without what it withholds, if this device has earlier content of the message: that stays, with the time at which
/// it was edited.
fn with_known<'e>(
    db: &Connection,
    conversation: i64,
    entry: &'e MessageEntry,
) -> rusqlite::Result<Cow<'e, MessageEntry>> {
    if !entry.has(MessageFlag::Withheld) {
        return Ok(Cow::Borrowed(entry));
    }
    let held = held(db, conversation, entry.seq)?.filter(|(_, row)| row.kind == entry.kind);
    let Some((_, row)) = held else { return Ok(Cow::Borrowed(entry)) };
    let known = decoded_state(&row.state).unwrap_or_default();
    let mut entry = MessageEntry { content: Bytes::new(), ..entry.clone() };
    let state = entry.state.get_or_insert_default();
    (state.edited_time, state.editor) = (known.edited_time, known.editor);
    Ok(Cow::Owned(entry))
}

/// Returns the content of an entry, with what only the row of the message has: where its files are on this device.
fn with_paths(db: &Connection, conversation: i64, entry: &MessageEntry) -> rusqlite::Result<Bytes> {
    if entry.content.is_empty() || !content::is_media(entry.kind) {
        return Ok(entry.content.clone());
    }
    let old: Option<Vec<u8>> = db
        .prepare_cached("SELECT content FROM message WHERE conversation = ?1 AND order_key = ?2 AND tie = 0")?
        .query_row(params![conversation, order_key(entry.seq)], |row| row.get(0))
        .optional()?;
    Ok(old.and_then(|old| content::merged(&old, &entry.content)).unwrap_or_else(|| entry.content.clone()))
}

/// Sets the content of a row.
pub(crate) fn set_content_of(db: &Connection, row: i64, content: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE message SET content = ?2 WHERE id = ?1")?.execute(params![row, content])?;
    Ok(())
}

/// Returns the rows of messages with files whose content mentions `part`, with their conversations.
pub(crate) fn with_content(db: &Connection, part: &str) -> rusqlite::Result<Vec<(i64, i64, Vec<u8>)>> {
    db.prepare_cached(
        "SELECT id, conversation, content FROM message WHERE kind BETWEEN 10 AND 14 AND instr(content, CAST(?1 AS BLOB)) > 0",
    )?
    .query_map([part], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
    .collect()
}

/// Removes what a message replies to from the content that this device has sent, because its state has that now.
fn strip_reply(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<()> {
    let Some((id, row)) = held(db, conversation, seq)? else { return Ok(()) };
    let bare = without_reply(row.content.clone());
    if bare != row.content {
        set_content_of(db, id, &bare)?;
    }
    Ok(())
}

/// Removes from the content of a message what it replies to. Its state has that when the server has stored it, and follows the
/// source, which may be revoked.
pub(crate) fn without_reply(content: Bytes) -> Bytes {
    match <Message as prost::Message>::decode(&content[..]) {
        Ok(message) if message.replied_info.is_some() => {
            prost::Message::encode_to_vec(&Message { replied_info: None, ..message }).into()
        }
        _ => content,
    }
}

/// Returns the message at a position, if it is held, and its row.
pub(crate) fn held(db: &Connection, conversation: i64, seq: u64) -> rusqlite::Result<Option<(i64, MessageRow)>> {
    db.prepare_cached(&format!(
        "SELECT m.id, {COLUMNS} FROM message m WHERE m.conversation = ?1 AND m.order_key = ?2 AND m.tie = 0"
    ))?
    .query_row(params![conversation, order_key(seq)], |row| Ok((row.get(0)?, MessageRow::read(row, 1)?)))
    .optional()
}

/// Returns the newest message of a conversation.
pub(crate) fn newest(db: &Connection, conversation: i64) -> rusqlite::Result<Option<MessageRow>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {COLUMNS} FROM message m WHERE m.conversation = ?1 ORDER BY m.order_key DESC, m.tie DESC LIMIT 1"
        )
    });
    db.prepare_cached(&SQL)?.query_row([conversation], |row| MessageRow::read(row, 0)).optional()
}

/// Returns whether a message of a sender after a position is held.
pub(crate) fn is_sent_after(db: &Connection, name: &Name, sender: &str, seq: u64) -> rusqlite::Result<bool> {
    let Some(conversation) = super::conversation::id(db, name)? else { return Ok(false) };
    db.prepare_cached(
        "SELECT 1 FROM message WHERE conversation = ?1 AND order_key > ?2 AND seq > 0 AND sender = ?3 LIMIT 1",
    )?
    .exists(params![conversation, order_key(seq), sender])
}

/// Removes a row.
pub(crate) fn remove(db: &Connection, row: i64) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM message WHERE id = ?1")?.execute([row])?;
    Ok(())
}

/// Returns a row by its id.
pub(crate) fn by_id(db: &Connection, id: i64) -> rusqlite::Result<Option<MessageRow>> {
    db.prepare_cached(&format!("SELECT {COLUMNS} FROM message m WHERE m.id = ?1"))?
        .query_row([id], |row| MessageRow::read(row, 0))
        .optional()
}

/// Stores an interval of held positions, which replaces the intervals that it covers.
pub(crate) fn hold(db: &Connection, conversation: i64, (lo, hi): (u64, u64)) -> rusqlite::Result<()> {
    let (lo, hi) = (to_sql(lo), to_sql(hi));
    // Mostly the last one grows, which covers no other.
    let sql = "UPDATE held SET hi = ?3 WHERE conversation = ?1 AND lo = ?2 \
               AND NOT EXISTS (SELECT 1 FROM held l WHERE l.conversation = ?1 AND l.lo > ?2)";
    if db.prepare_cached(sql)?.execute([conversation, lo, hi])? > 0 {
        return Ok(());
    }
    db.prepare_cached("DELETE FROM held WHERE conversation = ?1 AND lo > ?2 AND lo <= ?3")?.execute([
        conversation,
        lo,
        hi,
    ])?;
    db.prepare_cached(
        "INSERT INTO held (conversation, lo, hi) VALUES (?1, ?2, ?3) \
         ON CONFLICT (conversation, lo) DO UPDATE SET hi = excluded.hi",
    )?
    .execute([conversation, lo, hi])?;
    Ok(())
}

/// Deletes the rows of a conversation that came from the server; rows and data that only this device has stay. So do messages that
/// this device has sent if only their answers have arrived: the pushes of them, which are on their way, have no content.
pub(crate) fn drop_stored(db: &Connection, conversation: i64) -> rusqlite::Result<()> {
    keep_local_data(db, Some(conversation))?;
    let sql = "DELETE FROM message WHERE conversation = ?1 AND seq > 0 \
               AND (is_local = 0 OR seq <= (SELECT seq FROM conversation WHERE id = ?1))";
    db.prepare_cached(sql)?.execute([conversation])?;
    db.prepare_cached("DELETE FROM held WHERE conversation = ?1")?.execute([conversation])?;
    Ok(())
}

/// Keeps data of a message that has no row. It gets them when it returns.
pub(crate) fn keep_data(db: &Connection, message_id: i64, data: &str) -> rusqlite::Result<()> {
    if data.is_empty() {
        db.prepare_cached("DELETE FROM kept_local_data WHERE message_id = ?1")?.execute([message_id])?;
    } else {
        db.prepare_cached("INSERT OR REPLACE INTO kept_local_data (message_id, local_data) VALUES (?1, ?2)")?
            .execute(params![message_id, data])?;
    }
    Ok(())
}

/// Keeps the local data of messages of a conversation, or of all, beyond their rows.
pub(crate) fn keep_local_data(db: &Connection, conversation: Option<i64>) -> rusqlite::Result<()> {
    // What the app has set anew counts, also if it is nothing.
    db.prepare_cached(
        "DELETE FROM kept_local_data WHERE message_id IN (SELECT message_id FROM message \
         WHERE seq > 0 AND local_data = '' AND (?1 IS NULL OR conversation = ?1))",
    )?
    .execute([conversation])?;
    db.prepare_cached(
        "INSERT OR REPLACE INTO kept_local_data (message_id, local_data) SELECT message_id, local_data FROM message \
         WHERE seq > 0 AND local_data <> '' AND (?1 IS NULL OR conversation = ?1)",
    )?
    .execute([conversation])?;
    Ok(())
}

/// Remembers the messages since `horizon_ms` that the app knows, because their rows are about to be deleted with their epoch: its own,
/// those up to where all were raised, and those that were `raised` since, with their times. A message behind a gap is stored
/// before it is raised.
pub(crate) fn keep_known(db: &Connection, horizon_ms: i64, raised: &[(i64, i64)]) -> rusqlite::Result<()> {
    db.execute("DELETE FROM known_message WHERE ts < ?1", [horizon_ms])?;
    db.execute(
        "INSERT OR IGNORE INTO known_message (message_id, ts) SELECT m.message_id, m.ts FROM message m \
         JOIN conversation c ON c.id = m.conversation WHERE m.seq > 0 AND m.ts >= ?1 AND (m.seq <= c.seq OR m.is_local = 1)",
        [horizon_ms],
    )?;
    let mut add = db.prepare_cached("INSERT OR IGNORE INTO known_message (message_id, ts) VALUES (?1, ?2)")?;
    for (message_id, ts) in raised.iter().filter(|(_, ts)| *ts >= horizon_ms) {
        add.execute(params![message_id, ts])?;
    }
    Ok(())
}

/// Returns whether this device had any message in an earlier epoch.
pub(crate) fn has_known(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT EXISTS (SELECT 1 FROM known_message)", [], |row| row.get(0))
}

/// Returns whether this device had a message in an earlier epoch.
pub(crate) fn is_known(db: &Connection, message_id: i64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT EXISTS (SELECT 1 FROM known_message WHERE message_id = ?1)")?
        .query_row([message_id], |row| row.get(0))
}

/// Returns the `orderKey` of a stored message.
pub(crate) fn order_key(seq: u64) -> i64 {
    to_sql(seq).saturating_mul(ORDER_KEY_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Ranges;
    use crate::store::memory;

    #[test]
    fn the_intervals_of_the_store_are_those_of_the_engine() {
        let db = memory().unwrap();
        let mut ranges = Ranges::default();
        // The last one grows, others begin before and after it, one before it grows, two merge, one covers all.
        for (lo, hi) in [(5, 5), (6, 8), (1, 2), (20, 22), (23, 23), (3, 3), (9, 19), (30, 30), (1, 40), (41, 41)] {
            hold(&db, 1, ranges.insert(lo, hi).unwrap()).unwrap();
            let mut statement = db.prepare("SELECT lo, hi FROM held WHERE conversation = 1 ORDER BY lo").unwrap();
            let held = statement.query_map([], |row| Ok((from_sql(row.get(0)?), from_sql(row.get(1)?)))).unwrap();
            let held: Vec<_> = held.collect::<rusqlite::Result<_>>().unwrap();
            assert_eq!(held, ranges.iter().collect::<Vec<_>>(), "after {lo} to {hi}");
        }
    }
}
