//! What the user has set for a conversation, and what only this device has: a draft, and that it was deleted here.

use rusqlite::{Connection, OptionalExtension, params};
use zim_protocol::{ConversationNotificationStatus, ConversationSetting};

use super::{from_sql, message, to_sql};
use crate::types::Name;

/// The condition that a conversation `c` was deleted, and nothing brought it back.
const IS_HIDDEN: &str = "CASE WHEN c.hidden_below > 0 THEN c.head_seq < c.hidden_below \
                         WHEN c.hidden_below < 0 THEN c.last_ts <= c.hidden_ts ELSE 0 END";

/// What decides whether a conversation is in the list, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// It is in the list so far.
    pub(super) is_listed: bool,
    pub(super) order_key: i64,
    pub(super) last_ts: i64,
    /// It has something to show besides messages.
    pub(super) has_more: bool,
    pub(super) is_hidden: bool,
    /// When the draft was set; 0: there is none.
    pub(super) draft_at: i64,
}

/// Reads the place of a conversation.
pub(super) fn place(db: &Connection, conversation: i64) -> rusqlite::Result<Place> {
    const SQL: &str = "SELECT c.is_listed, c.order_key, c.last_ts, c.head_seq + c.head_rev > 0 OR c.draft <> '', \
                       CASE WHEN c.draft <> '' THEN c.draft_at ELSE 0 END";
    db.prepare_cached(&format!("{SQL}, {IS_HIDDEN} FROM conversation c WHERE c.id = ?1"))?.query_row(
        [conversation],
        |row| {
            Ok(Place {
                is_listed: row.get(0)?,
                order_key: row.get(1)?,
                last_ts: row.get(2)?,
                has_more: row.get(3)?,
                draft_at: row.get(4)?,
                is_hidden: row.get(5)?,
            })
        },
    )
}

/// Stores the place of a conversation.
pub(super) fn set_place(db: &Connection, conversation: i64, is_listed: bool, order_key: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE conversation SET is_listed = ?2, order_key = ?3 WHERE id = ?1")?.execute(params![
        conversation,
        is_listed,
        order_key
    ])?;
    Ok(())
}

/// Converts marks to bits.
fn bits(marks: &[i64]) -> i64 {
    marks.iter().filter(|mark| (0..63).contains(*mark)).fold(0, |bits, mark| bits | 1 << mark)
}

/// Converts bits to marks, ascending.
pub(super) fn marks(bits: i64) -> Vec<i64> {
    (0..63).filter(|mark| bits >> mark & 1 == 1).collect()
}

/// Stores settings from the server. Returns whether they delete the conversation.
pub(crate) fn write(db: &Connection, conversation: i64, setting: &ConversationSetting) -> rusqlite::Result<bool> {
    let before: i64 = db
        .prepare_cached("SELECT deleted_below FROM conversation WHERE id = ?1")?
        .query_row([conversation], |row| row.get(0))?;
    db.prepare_cached(
        "UPDATE conversation SET pinned_at = ?2, notification = ?3, marks = ?4, deleted_below = ?5, is_stale = 0 \
         WHERE id = ?1",
    )?
    .execute(params![
        conversation,
        setting.pinned_time,
        setting.notification_status,
        bits(&setting.marks),
        to_sql(setting.deleted_below)
    ])?;
    let below = to_sql(setting.deleted_below);
    if below > before {
        // What this device did later, such as a draft, may have brought it back; a deletion that is older does not count again.
        hide(db, conversation, below, 0)?;
    } else if below == 0 && before > 0 {
        show(db, conversation)?;
    } else if below < before {
        // After a restored backup an earlier deletion is in force.
        db.prepare_cached("UPDATE conversation SET hidden_below = ?2 WHERE id = ?1 AND hidden_below <> 0")?
            .execute([conversation, below])?;
    }
    Ok(below > before)
}

fn hide(db: &Connection, conversation: i64, below: i64, ts: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE conversation SET hidden_below = MAX(hidden_below, ?2), hidden_ts = ?3, \
         draft = CASE WHEN head_seq < ?2 THEN '' ELSE draft END, draft_at = CASE WHEN head_seq < ?2 THEN 0 ELSE draft_at END \
         WHERE id = ?1",
    )?
    .execute([conversation, below, ts])?;
    Ok(())
}

/// Deletes a conversation from the list of this device, until there is a new message.
pub(crate) fn hide_here(db: &Connection, conversation: i64) -> rusqlite::Result<()> {
    let (head, ts): (i64, i64) = db
        .prepare_cached("SELECT head_seq, last_ts FROM conversation WHERE id = ?1")?
        .query_row([conversation], |row| Ok((row.get(0)?, row.get(1)?)))?;
    hide(db, conversation, head + 1, ts.max(1))
}

/// Deletes a conversation from the list of this device, unless it has a message at `below` or after it. An epoch may have begun since
/// the request was sent; then positions that this device does not know mean nothing.
pub(crate) fn hide_below(db: &Connection, conversation: i64, below: u64) -> rusqlite::Result<()> {
    let sql = "SELECT max(c.head_seq, COALESCE((SELECT m.seq FROM message m WHERE m.conversation = c.id AND m.seq > 0 \
               ORDER BY m.order_key DESC LIMIT 1), 0)) FROM conversation c WHERE c.id = ?1";
    let last: i64 = db.prepare_cached(sql)?.query_row([conversation], |row| row.get(0))?;
    hide(db, conversation, to_sql(below).min(last + 1), 0)
}

/// Brings a conversation back that was deleted.
pub(crate) fn show(db: &Connection, conversation: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE conversation SET hidden_below = 0, hidden_ts = 0 WHERE id = ?1 AND hidden_below <> 0")?
        .execute([conversation])?;
    Ok(())
}

/// Brings a conversation back that only this device deleted.
pub(crate) fn show_here(db: &Connection, conversation: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE conversation SET hidden_below = 0, hidden_ts = 0 WHERE id = ?1 AND hidden_ts > 0")?
        .execute([conversation])?;
    Ok(())
}

/// Returns the conversations in the list, with the position after the last one that this device knows; `None`: the server does not
/// have the conversation.
pub(crate) fn listed(db: &Connection) -> rusqlite::Result<Vec<(Name, Option<u64>)>> {
    let sql = "SELECT type, name, CASE WHEN head_seq + head_rev > 0 THEN head_seq + 1 END FROM conversation \
               WHERE is_listed = 1";
    let mut statement = db.prepare_cached(sql)?;
    let listed = statement.query_map([], |row| {
        let end: Option<i64> = row.get(2)?;
        Ok((Name::new(row.get(0)?, row.get::<_, String>(1)?), end.map(super::from_sql)))
    })?;
    listed.collect()
}

/// What a request about a conversation needs to know of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// It is in the list of this device.
    pub(crate) is_listed: bool,
    /// The server has it.
    pub(crate) is_on_server: bool,
    /// The last position that this device knows, without a gap before it.
    pub(crate) head_seq: i64,
}

/// Returns whether the server has a conversation.
pub(crate) fn is_on_server(db: &Connection, conversation: i64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT head_seq + head_rev > 0 FROM conversation WHERE id = ?1")?
        .query_row([conversation], |row| row.get(0))
}

/// Returns how a conversation stands, if this device knows it.
pub(crate) fn standing(db: &Connection, name: &Name) -> rusqlite::Result<Option<Standing>> {
    let known = db
        .prepare_cached(
            "SELECT id, is_listed, head_seq + head_rev > 0, head_seq FROM conversation WHERE type = ?1 AND name = ?2",
        )?
        .query_row(params![name.kind, &*name.id], |row| {
            let standing = Standing { is_listed: row.get(1)?, is_on_server: row.get(2)?, head_seq: row.get(3)? };
            Ok((row.get::<_, i64>(0)?, standing))
        })
        .optional()?;
    let Some((id, mut standing)) = known else { return Ok(None) };
    // Own messages are here with their answers. Their pushes may be on their way.
    while message::held(db, id, from_sql(standing.head_seq) + 1)?.is_some() {
        standing.head_seq += 1;
    }
    Ok(Some(standing))
}

/// Sets the draft of a conversation, and brings it back if it was deleted; an empty one removes the draft. A conversation with
/// nothing but a draft leaves the list with it.
pub(crate) fn set_draft(db: &Connection, conversation: i64, draft: &str, now_ms: i64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE conversation SET draft = ?2, draft_at = ?3 WHERE id = ?1")?.execute(params![
        conversation,
        draft,
        if draft.is_empty() { 0 } else { now_ms }
    ])?;
    if !draft.is_empty() {
        return show(db, conversation);
    }
    db.prepare_cached(
        "UPDATE conversation SET is_listed = 0 WHERE id = ?1 AND head_seq + head_rev = 0 \
         AND NOT EXISTS (SELECT 1 FROM message m WHERE m.conversation = conversation.id)",
    )?
    .execute([conversation])?;
    Ok(())
}

/// The positions start anew. What the server has is told again; what only this device did stays. The position of a deletion
/// stays, too: the server tells the same one, an earlier one or none, and in the last two cases the deletion is undone.
pub(crate) fn mark_stale(db: &Connection) -> rusqlite::Result<()> {
    db.execute(
        "UPDATE conversation SET is_stale = 1, hidden_below = CASE WHEN hidden_ts = 0 THEN hidden_below \
         WHEN is_listed = 0 THEN -1 ELSE 0 END",
        [],
    )?;
    db.execute("UPDATE device SET all_deleted = 0", [])?;
    Ok(())
}

/// Removes the settings that the server did not tell since its positions were reset. Returns the conversations.
pub(crate) fn sweep(db: &Connection) -> rusqlite::Result<Vec<Name>> {
    let sql = "UPDATE conversation SET pinned_at = 0, notification = ?1, marks = 0, deleted_below = 0, \
               hidden_below = CASE WHEN hidden_ts > 0 THEN hidden_below ELSE 0 END, is_stale = 0 WHERE is_stale = 1 \
               AND (pinned_at > 0 OR notification <> ?1 OR marks <> 0 OR deleted_below > 0 \
               OR (hidden_below <> 0 AND hidden_ts = 0)) RETURNING type, name";
    let notify = ConversationNotificationStatus::Notify as i32;
    let swept = db
        .prepare_cached(sql)?
        .query_map([notify], |row| Ok(Name::new(row.get(0)?, row.get::<_, String>(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    db.execute("UPDATE conversation SET is_stale = 0 WHERE is_stale = 1", [])?;
    Ok(swept)
}

/// Notes that all conversations were deleted. Returns false if that was told before.
pub(crate) fn advance_all_deleted(db: &Connection, number: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE device SET all_deleted = ?1 WHERE all_deleted < ?1";
    Ok(db.prepare_cached(sql)?.execute([number])? > 0)
}
