//! Rows of conversations: the state of the sync engine, and what the app sees.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use zim_protocol::{
    Conversation, ConversationFilterOption, ConversationNotificationStatus, ConversationPinnedFilter, ConversationRef,
    ConversationType,
};

use super::conversation_setting::{self, Place, marks};
use super::message::{self, MessageRow};
use super::{from_sql, to_sql};
use super::{message_search, search};
use crate::engine::{Position, Ranges, Saved, State, Tally};
use crate::types::Name;

/// Added to the order key of pinned conversations, which come before all others.
const PINNED: i64 = 1_000_000_000_000;

/// What `is_known` is of a conversation that the server has described.
const DESCRIBED: i64 = 1;
/// The same if it did not say what the group is now. With 0 the next head would pass over changes that are not raised yet.
const LACKS_GROUP: i64 = 2;

/// Returns the id of the row of a conversation.
pub(crate) fn id(db: &Connection, name: &Name) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM conversation WHERE type = ?1 AND name = ?2")?
        .query_row(params![name.kind, &*name.id], |row| row.get(0))
        .optional()
}

/// Adds a row; returns its id.
pub(crate) fn add(db: &Connection, name: &Name) -> rusqlite::Result<i64> {
    db.prepare_cached("INSERT INTO conversation (type, name) VALUES (?1, ?2)")?
        .execute(params![name.kind, &*name.id])?;
    Ok(db.last_insert_rowid())
}

/// Returns the names of all conversations.
pub(crate) fn names(db: &Connection) -> rusqlite::Result<Vec<Name>> {
    let mut statement = db.prepare_cached("SELECT type, name FROM conversation")?;
    statement.query_map([], |row| Ok(Name::new(row.get(0)?, row.get::<_, String>(1)?)))?.collect()
}

/// Returns the conversation of a row of a message.
pub(crate) fn name_of_message(db: &Connection, row: i64) -> rusqlite::Result<Name> {
    db.prepare_cached(
        "SELECT c.type, c.name FROM message m JOIN conversation c ON c.id = m.conversation WHERE m.id = ?1",
    )?
    .query_row([row], |row| Ok(Name::new(row.get(0)?, row.get::<_, String>(1)?)))
}

/// Returns the name of a conversation.
pub(crate) fn name(db: &Connection, id: i64) -> rusqlite::Result<Name> {
    db.prepare_cached("SELECT type, name FROM conversation WHERE id = ?1")?
        .query_row([id], |row| Ok(Name::new(row.get(0)?, row.get::<_, String>(1)?)))
}

/// Returns the held positions of all conversations, in one query: thousands of small ones take longer.
fn held(db: &Connection) -> rusqlite::Result<HashMap<i64, Ranges>> {
    let mut held: HashMap<i64, Ranges> = HashMap::new();
    let mut statement = db.prepare("SELECT conversation, lo, hi FROM held ORDER BY conversation, lo")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        held.entry(row.get(0)?).or_default().insert(from_sql(row.get(1)?), from_sql(row.get(2)?));
    }
    Ok(held)
}

/// Loads the state of the sync engine.
pub(crate) fn load(db: &Connection) -> rusqlite::Result<(Position, Vec<(Name, State)>)> {
    let position = db.query_row("SELECT epoch, pos, touched, is_settled, profiles_at FROM device", [], |row| {
        Ok(Position {
            epoch: row.get::<_, Vec<u8>>(0)?.into(),
            pos: from_sql(row.get(1)?),
            touched: row.get(2)?,
            is_settled: row.get(3)?,
            profiles_at: row.get(4)?,
        })
    })?;
    let mut held = held(db)?;
    let mut statement = db.prepare(
        "SELECT id, type, name, seq, rev, head_seq, head_rev, is_known, last_ts, n, sent, base_seq, base_n, base_sent, \
         revoked, read_seq, history_seq, from_seq, from_rev FROM conversation c WHERE is_known > 0 OR head_seq + head_rev > 0 \
         OR EXISTS (SELECT 1 FROM message m WHERE m.conversation = c.id)",
    )?;
    let mut rows = statement.query([])?;
    let mut states = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |index| row.get(index).map(from_sql);
        let tally = Tally {
            n: number(9)?,
            sent: number(10)?,
            base_seq: number(11)?,
            base_n: number(12)?,
            base_sent: number(13)?,
            revoked: decode_positions(&row.get::<_, Vec<u8>>(14)?),
            read_seq: number(15)?,
        };
        let described: i64 = row.get(7)?;
        let state = State {
            seq: number(3)?,
            rev: number(4)?,
            history_seq: number(16)?,
            head_seq: number(5)?,
            head_rev: number(6)?,
            known: described >= DESCRIBED,
            lacks_group: described == LACKS_GROUP,
            last_ts: row.get(8)?,
            tally,
            from_seq: number(17)?,
            from_rev: number(18)?,
            held: held.remove(&row.get(0)?).unwrap_or_default(),
            ..State::default()
        };
        states.push((Name::new(row.get(1)?, row.get::<_, String>(2)?), state));
    }
    Ok((position, states))
}

/// Positions are stored as varints of their distances, ascending: mostly there are none.
pub(super) fn encode_positions(positions: &BTreeSet<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before = 0;
    for position in positions {
        prost::encoding::encode_varint(position - before, &mut out);
        before = *position;
    }
    out
}

pub(super) fn decode_positions(mut bytes: &[u8]) -> BTreeSet<u64> {
    let mut positions = BTreeSet::new();
    let mut last: u64 = 0;
    while let Ok(distance) = prost::encoding::decode_varint(&mut bytes) {
        last = last.saturating_add(distance);
        positions.insert(last);
    }
    positions
}

/// Returns the epoch of the positions; it is empty before the first sync.
pub(crate) fn epoch(db: &Connection) -> rusqlite::Result<Vec<u8>> {
    db.query_row("SELECT epoch FROM device", [], |row| row.get(0))
}

/// Returns whether an epoch has begun, and its first sync tells the feed again.
pub(crate) fn is_told_again(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT is_told_again FROM device", [], |row| row.get(0))
}

/// Notes that an epoch has begun, or that its first sync has ended.
pub(crate) fn set_told_again(db: &Connection, is_told_again: bool) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE device SET is_told_again = ?1")?.execute([is_told_again])?;
    Ok(())
}

/// Stores the state of the engine apart from conversations.
pub(crate) fn save_position(db: &Connection, position: &Position) -> rusqlite::Result<()> {
    let sql = "UPDATE device SET epoch = ?1, pos = ?2, touched = ?3, is_settled = ?4, profiles_at = ?5";
    db.prepare_cached(sql)?.execute(params![
        &position.epoch[..],
        to_sql(position.pos),
        position.touched,
        position.is_settled,
        position.profiles_at
    ])?;
    Ok(())
}

/// Stores the state of a conversation.
pub(crate) fn save(db: &Connection, conversation: i64, saved: &Saved) -> rusqlite::Result<()> {
    let (state, tally) = (&saved.state, &saved.state.tally);
    let described = match (state.known, state.lacks_group) {
        (false, _) => 0,
        (true, false) => DESCRIBED,
        (true, true) => LACKS_GROUP,
    };
    // A peer conversation that exists on the server has a peer, so it is not disabled.
    db.prepare_cached(
        "UPDATE conversation SET seq = ?2, rev = ?3, head_seq = ?4, head_rev = ?5, is_known = ?6, last_ts = ?7, n = ?8, \
         sent = ?9, base_seq = ?10, base_n = ?11, base_sent = ?12, revoked = ?13, read_seq = ?14, unread = ?15, \
         history_seq = ?16, from_seq = ?17, from_rev = ?18, \
         is_disabled = CASE WHEN ?4 > 0 AND type = 0 THEN 0 ELSE is_disabled END WHERE id = ?1",
    )?
    .execute(params![
        conversation,
        to_sql(state.seq),
        to_sql(state.rev),
        to_sql(state.head_seq),
        to_sql(state.head_rev),
        described,
        state.last_ts,
        to_sql(tally.n),
        to_sql(tally.sent),
        to_sql(tally.base_seq),
        to_sql(tally.base_n),
        to_sql(tally.base_sent),
        encode_positions(&tally.revoked),
        to_sql(tally.read_seq),
        to_sql(tally.unread()),
        to_sql(state.history_seq),
        to_sql(state.from_seq),
        to_sql(state.from_rev)
    ])?;
    // Those that grew within the batch are covered by later ones.
    let is_covered = |index: usize, (lo, hi): (u64, u64)| {
        saved.held.iter().skip(index + 1).any(|later| later.0 <= lo && hi <= later.1)
    };
    for (_, interval) in saved.held.iter().enumerate().filter(|(index, held)| !is_covered(*index, **held)) {
        message::hold(db, conversation, *interval)?;
    }
    Ok(())
}

/// Updates whether a conversation is in the list, and where; returns it as the app sees it, if it is.
pub(crate) fn reordered(db: &Connection, conversation: i64, viewer: &str) -> rusqlite::Result<Option<Conversation>> {
    let Some(mut after) = any(db, conversation, viewer)? else { return Ok(None) };
    let Place { is_listed, order_key, last_ts, has_more, is_hidden, draft_at } =
        conversation_setting::place(db, conversation)?;
    let time = after.last_message.as_ref().map_or(last_ts, |last| last.timestamp).max(draft_at);
    let now_listed = !is_hidden && (is_listed || has_more || after.last_message.is_some());
    after.order_key = time + if after.is_pinned { PINNED } else { 0 };
    if (now_listed, after.order_key) != (is_listed, order_key) {
        conversation_setting::set_place(db, conversation, now_listed, after.order_key)?;
    }
    Ok(now_listed.then_some(after))
}

/// The same for a conversation of the list in which nothing has changed but messages and what counts as unread, and that has no draft:
/// `after` is as the app saw it before, with the present counts, and gets its newest message and its place. Returns false if
/// there is no message; then `after` is as it was.
pub(crate) fn advanced(
    db: &Connection,
    conversation: i64,
    viewer: &str,
    after: &mut Conversation,
) -> rusqlite::Result<bool> {
    let Some(newest) = message::newest(db, conversation)? else { return Ok(false) };
    let name = ConversationRef { r#type: after.r#type, id: after.conversation_id.clone() };
    let newest = newest.into_message(viewer, &name);
    let order_key = newest.timestamp.max(0) + if after.is_pinned { PINNED } else { 0 };
    if order_key != after.order_key {
        conversation_setting::set_place(db, conversation, true, order_key)?;
    }
    (after.order_key, after.last_message) = (order_key, Some(newest));
    Ok(true)
}

/// Marks a conversation as disabled, so that nothing can be sent to it, or as enabled.
pub(crate) fn set_disabled(db: &Connection, conversation: i64, is_disabled: bool) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE conversation SET is_disabled = ?2 WHERE id = ?1")?
        .execute(params![conversation, is_disabled])?;
    Ok(())
}

/// Notes where the user's stay begins in the log of changes, before the rest of what is known of the conversation is stored.
pub(crate) fn begin_stay(db: &Connection, conversation: i64, from_rev: u64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE conversation SET from_rev = ?2 WHERE id = ?1 AND from_rev < ?2")?
        .execute(params![conversation, to_sql(from_rev)])?;
    Ok(())
}

/// Returns whether a change belongs to a stay before the present one.
pub(crate) fn is_of_earlier_stay(db: &Connection, conversation: i64, rev: u64) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM conversation WHERE id = ?1 AND from_rev > ?2")?
        .exists(params![conversation, to_sql(rev)])
}

/// Notes that the events about members are raised up to a change. Returns false if they were before.
pub(crate) fn advance_roster(db: &Connection, conversation: i64, rev: u64) -> rusqlite::Result<bool> {
    let sql = "UPDATE conversation SET roster_rev = ?2 WHERE id = ?1 AND roster_rev < ?2";
    Ok(db.prepare_cached(sql)?.execute(params![conversation, to_sql(rev)])? > 0)
}

/// Notes that the events about messages are raised up to a change. Returns false if they were before: pages of changes may be
/// read again.
pub(crate) fn advance_changes(db: &Connection, conversation: i64, rev: u64) -> rusqlite::Result<bool> {
    let sql = "UPDATE conversation SET change_rev = ?2 WHERE id = ?1 AND change_rev < ?2";
    Ok(db.prepare_cached(sql)?.execute(params![conversation, to_sql(rev)])? > 0)
}

/// Removes empty conversations that the server does not know from the list; returns them.
pub(crate) fn sweep(db: &Connection, viewer: &str) -> rusqlite::Result<Vec<Conversation>> {
    let empty = "head_seq = 0 AND head_rev = 0 AND draft = '' AND pinned_at = 0 AND marks = 0 AND deleted_below = 0 \
                 AND notification = 1 AND NOT EXISTS (SELECT 1 FROM message m WHERE m.conversation = c.id)";
    let ids: Vec<i64> = db
        .prepare_cached(&format!("SELECT id FROM conversation c WHERE {empty}"))?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut swept = Vec::with_capacity(ids.len());
    for id in ids {
        swept.extend(shown(db, id, viewer)?);
        // The next conversation may get its number.
        for table in ["held", "hidden", "done_receipt"] {
            db.prepare_cached(&format!("DELETE FROM {table} WHERE conversation = ?1"))?.execute([id])?;
        }
        db.prepare_cached("DELETE FROM conversation WHERE id = ?1")?.execute([id])?;
    }
    Ok(swept)
}

/// Deletes all rows from the server; names, and rows and data that only this device has, stay.
pub(crate) fn drop_all(db: &Connection) -> rusqlite::Result<()> {
    message::keep_local_data(db, None)?;
    // Otherwise each row would leave the index by itself.
    message_search::clear(db)?;
    db.execute("DELETE FROM message WHERE seq > 0", [])?;
    db.execute("DELETE FROM held", [])?;
    super::message_change::forget_hidden(db)?;
    // The changes are numbered anew.
    db.execute("UPDATE conversation SET roster_rev = 0, change_rev = 0, from_rev = 0", [])?;
    Ok(())
}

/// The most mentions that a conversation lists.
const MAX_MENTIONS: i64 = 100;

const SHOWN: &str = "c.type, c.name, c.notification, c.unread, c.read_seq, c.order_key, c.pinned_at, c.is_disabled, \
                     COALESCE(u.user_name, g.group_name), COALESCE(u.avatar_url, g.avatar_url), COALESCE(f.alias, g.alias), \
                     c.marks, c.draft, g.muted_until, m.id";

/// Selects conversations `c` with their peers, aliases and newest messages.
fn shown_sql(rest: &str) -> String {
    format!(
        "SELECT {SHOWN}, {} FROM conversation c LEFT JOIN user u ON c.type = 0 AND u.user_id = c.name \
         LEFT JOIN friend f ON c.type = 0 AND f.user_id = c.name \
         LEFT JOIN chat_group g ON c.type = 2 AND g.group_id = c.name \
         LEFT JOIN message m ON m.id = (SELECT l.id FROM message l WHERE l.conversation = c.id \
         ORDER BY l.order_key DESC, l.tie DESC LIMIT 1) {rest}",
        message::COLUMNS
    )
}

static ANY_SQL: LazyLock<String> = LazyLock::new(|| shown_sql("WHERE c.id = ?1"));

fn read_shown(db: &Connection, row: &rusqlite::Row<'_>, viewer: &str) -> rusqlite::Result<Conversation> {
    let name = ConversationRef { r#type: row.get(0)?, id: row.get(1)? };
    let last_message = match row.get::<_, Option<i64>>(14)? {
        Some(_) => Some(MessageRow::read(row, 15)?.into_message(viewer, &name)),
        None => None,
    };
    let pinned_time = row.get(6)?;
    let (unread, read_seq): (i64, i64) = (row.get(3)?, row.get(4)?);
    // Where nothing is unread there is nothing to look up.
    let mentioned_info_list = match unread {
        0 => Vec::new(),
        _ => message::mentions(db, &name, (read_seq, MAX_MENTIONS))?,
    };
    Ok(Conversation {
        mentioned_info_list,
        conversation_id: name.id,
        r#type: name.r#type,
        notification_status: row.get(2)?,
        unread_message_count: unread,
        read_message_seq: read_seq,
        order_key: row.get(5)?,
        is_pinned: pinned_time > 0,
        pinned_time,
        is_disabled: row.get(7)?,
        conversation_name: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
        conversation_avatar_url: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
        conversation_alias: row.get::<_, Option<String>>(10)?.unwrap_or_default(),
        marks: marks(row.get(11)?),
        draft: row.get(12)?,
        muted_expired_time: row.get::<_, Option<i64>>(13)?.unwrap_or_default(),
        last_message,
    })
}

/// Returns a conversation as the app sees it, if it is in the list.
pub(crate) fn shown(db: &Connection, id: i64, viewer: &str) -> rusqlite::Result<Option<Conversation>> {
    static SQL: LazyLock<String> = LazyLock::new(|| shown_sql("WHERE c.id = ?1 AND c.is_listed = 1"));
    db.prepare_cached(&SQL)?.query_row([id], |row| read_shown(db, row, viewer)).optional()
}

/// Returns a conversation, also if it is not in the list.
pub(crate) fn any(db: &Connection, id: i64, viewer: &str) -> rusqlite::Result<Option<Conversation>> {
    db.prepare_cached(&ANY_SQL)?.query_row([id], |row| read_shown(db, row, viewer)).optional()
}

/// Returns the conversations of the list whose name or alias has all keywords, each in either, in the order of the list.
pub(crate) fn named(db: &Connection, keywords: &[String]) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT c.id, COALESCE(u.user_name, g.group_name, ''), COALESCE(f.alias, g.alias, '') FROM conversation c \
               LEFT JOIN user u ON c.type = 0 AND u.user_id = c.name LEFT JOIN friend f ON c.type = 0 AND f.user_id = c.name \
               LEFT JOIN chat_group g ON c.type = 2 AND g.group_id = c.name \
               WHERE c.is_listed = 1 AND +c.type IN (0, 2) ORDER BY c.order_key DESC, c.id DESC";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, alias): (String, String) = (row.get(1)?, row.get(2)?);
        if search::contain(&[&name, &alias], keywords) {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

/// Returns a page of the list, newest first, after `anchor`, which is an order key and a name. If the order key is 0, the
/// conversation is looked up; `None`: there is none.
pub(crate) fn list(
    db: &Connection,
    viewer: &str,
    anchor: Option<(i64, Name)>,
    count: usize,
    filter: &ConversationFilterOption,
) -> rusqlite::Result<Option<Vec<Conversation>>> {
    let mut values: Vec<Value> = Vec::new();
    // `+`: SQLite must not choose the index of the names, and then sort all conversations.
    let mut rest = String::from("WHERE c.is_listed = 1 AND +c.type IN (0, 2)");
    if let Some((mut order_key, name)) = anchor {
        let id = id(db, &name)?.unwrap_or(0);
        if order_key == 0 {
            let sql = "SELECT order_key FROM conversation WHERE id = ?1";
            let Some(found) = db.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()? else {
                return Ok(None);
            };
            order_key = found;
        }
        values.extend([order_key.into(), id.into()]);
        rest.push_str(" AND (c.order_key, c.id) < (?, ?)");
    }
    rest.push_str(&filtered(filter));
    rest.push_str(" ORDER BY c.order_key DESC, c.id DESC LIMIT ?");
    values.push(i64::try_from(count).unwrap_or(i64::MAX).into());
    let mut statement = db.prepare_cached(&shown_sql(&rest))?;
    let list = statement.query_map(params_from_iter(values), |row| read_shown(db, row, viewer))?;
    list.collect::<rusqlite::Result<_>>().map(Some)
}

/// Returns the number of unread messages in conversations that match the filter and are not set to do not disturb.
pub(crate) fn total_unread(db: &Connection, filter: &ConversationFilterOption) -> rusqlite::Result<i64> {
    let values: Vec<Value> = vec![i64::from(ConversationNotificationStatus::DoNotDisturb as i32).into()];
    let rest = filtered(filter);
    let sql = format!(
        "SELECT COALESCE(SUM(c.unread), 0) FROM conversation c WHERE c.is_listed = 1 AND c.type IN (0, 2) \
         AND c.notification <> ?{rest}"
    );
    db.prepare_cached(&sql)?.query_row(params_from_iter(values), |row| row.get(0))
}

/// Builds the conditions of a filter. Empty lists match everything.
fn filtered(filter: &ConversationFilterOption) -> String {
    let mut sql = String::new();
    if !filter.conversation_types.is_empty() {
        let types = filter.conversation_types.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        sql.push_str(&format!(" AND +c.type IN ({types})"));
    }
    if !filter.marks.is_empty() {
        // -1 matches any mark, 0 matches none.
        let any = filter.marks.iter().map(|mark| match mark {
            -1 => "c.marks <> 0".to_owned(),
            0 => "c.marks = 0".to_owned(),
            mark => format!("c.marks & {} <> 0", 1_i64 << mark.clamp(&0, &62)),
        });
        sql.push_str(&format!(" AND ({})", any.collect::<Vec<_>>().join(" OR ")));
    }
    if filter.is_only_unread_conversation {
        sql.push_str(" AND c.unread > 0");
    }
    match ConversationPinnedFilter::try_from(filter.pinned_filter) {
        Ok(ConversationPinnedFilter::OnlyPinned) => sql.push_str(" AND c.pinned_at > 0"),
        Ok(ConversationPinnedFilter::OnlyUnpinned) => sql.push_str(" AND c.pinned_at = 0"),
        Ok(ConversationPinnedFilter::All) | Err(_) => {}
    }
    sql
}

/// Returns whether conversations of this type are stored.
pub(crate) fn is_stored_type(kind: i32) -> bool {
    kind == ConversationType::Peer as i32 || kind == ConversationType::Group as i32
}
