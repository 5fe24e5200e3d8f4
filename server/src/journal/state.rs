//! What happened to a message beside its content: its row of state, its reactions, its receipt. Read for the entries whose flags
//! say that there is something, in a handful of statements for a page. Most pages need none.

use std::collections::HashMap;

use zim_protocol::{
    Message, MessageEntry, MessageFlag, MessageReceiptStatus, MessageRepliedInfo, MessageRepliedInfoState,
    MessageState, MessageType, ReactionState,
};

use super::visible::Viewer;
use crate::db::{DbError, Row, Tx, Value, params};
use crate::error::Error;
use crate::key::{ConversationKey, Scrambler, UserKey};

/// The users of a reaction that travel with the message.
pub const FIRST_USERS: usize = 5;

/// Completes entries of a conversation with their states. Without a viewer, they are complete for everybody who may see the
/// messages, and nobody's own. Returns how many of them are complete: a state may be larger than its message, so fewer may fit
/// into `max_bytes`. The first always does.
///
/// # Errors
/// The store fails.
pub async fn attach(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: Option<&Viewer>,
    entries: &mut [&mut MessageEntry],
    max_bytes: usize,
) -> Result<usize, Error> {
    let wanted = |entry: &MessageEntry| {
        entry.has(MessageFlag::State) || (entry.has(MessageFlag::Receipt) && viewer.is_some() && !is_revoked(entry))
    };
    let seqs: Vec<i64> = entries.iter().filter(|entry| wanted(entry)).map(|entry| entry.seq.cast_signed()).collect();
    if seqs.is_empty() {
        return Ok(entries.len());
    }
    let mut rows = rows(tx, conversation, scrambler, viewer, &seqs).await?;
    if let Some(viewer) = viewer {
        // What happened while the user was not a member is not for them. What a message replies to does not change.
        for (_, row) in rows.iter_mut().filter(|(seq, row)| viewer.is_later(**seq, row.rev)) {
            let state = std::mem::take(&mut row.state);
            row.state.replied_info = state.replied_info;
            row.state.root_seq = state.root_seq;
            row.reactions = 0;
        }
    }
    for entry in entries.iter().filter(|entry| is_revoked(entry)) {
        if let Some(row) = rows.get_mut(&entry.seq.cast_signed()) {
            row.revoke();
        }
    }
    let reacted: Vec<i64> = rows.iter().filter(|(_, row)| row.reactions > 0).map(|(seq, _)| *seq).collect();
    let reactions = reactions(tx, conversation, viewer.map(|viewer| viewer.user), &reacted).await?;
    let receipts = match viewer {
        Some(viewer) => receipts(tx, conversation, viewer, &seqs).await?,
        None => HashMap::new(),
    };
    let mut bytes = 0;
    for (index, entry) in entries.iter_mut().enumerate() {
        if !wanted(entry) {
            bytes += prost::Message::encoded_len(&**entry);
            continue;
        }
        let seq = entry.seq.cast_signed();
        // A page of changes may have a message several times.
        let mut state = rows.get(&seq).map_or_else(MessageState::default, |row| row.state.clone());
        if entry.has(MessageFlag::Withheld) {
            // Who edited it and when goes with the content.
            (state.edited_time, state.editor) = (0, String::new());
        }
        let receipt = receipts.get(&seq).filter(|_| !is_revoked(entry));
        let receipt = receipt.map_or(MessageReceiptStatus::None, |receipt| receipt.status);
        // Nothing but replies is left of a revoked message.
        entry.state = (!is_revoked(entry) || state.replied_count > 0).then(|| {
            Box::new(MessageState {
                reactions: reactions.get(&seq).cloned().unwrap_or_default(),
                is_personal: viewer.is_some(),
                receipt: receipt as i32,
                ..state
            })
        });
        bytes += prost::Message::encoded_len(&**entry);
        if bytes > max_bytes && index > 0 {
            return Ok(index);
        }
    }
    Ok(entries.len())
}

fn is_revoked(entry: &MessageEntry) -> bool {
    entry.kind == MessageType::Revoke as i32
}

struct StateRow {
    rev: i64,
    reactions: i64,
    state: MessageState,
}

impl StateRow {
    /// The message was revoked. What happened to it is gone with it, but its replies are still there.
    fn revoke(&mut self) {
        let replied_count = self.state.replied_count;
        self.reactions = 0;
        self.state = MessageState { replied_count, ..MessageState::default() };
    }
}

async fn rows(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: Option<&Viewer>,
    seqs: &[i64],
) -> Result<HashMap<i64, StateRow>, Error> {
    let (list, mut params) = tx.dialect().in_list(seqs.iter().copied(), 3);
    params.splice(0..0, params![conversation, viewer.map_or(UserKey(0), |viewer| viewer.user)]);
    let sql = format!(
        "SELECT s.seq, s.rev, s.edited_at, e.name, s.pinned_at, p.name, s.root_seq, s.replies, s.reactions, s.replied_seq, r.id, a.name, r.ts, r.kind, r.body, r.rev, \
         EXISTS (SELECT 1 FROM hidden h WHERE h.account = $2 AND h.conversation = s.conversation AND h.seq = s.replied_seq) \
         FROM message_state s LEFT JOIN account e ON e.id = s.editor LEFT JOIN account p ON p.id = s.pinned_by \
         LEFT JOIN message r ON r.conversation = s.conversation AND r.seq = s.replied_seq \
         LEFT JOIN account a ON a.id = r.sender WHERE s.conversation = $1 AND s.seq IN {list}"
    );
    let found = tx.fetch(&sql, &params).await?;
    let is_reply = |row: &Row| -> Result<bool, DbError> { Ok(row.get::<i64>(9)? > 0) };
    let mut shown_to_all = i64::MAX;
    if viewer.is_none() && found.iter().any(|row| is_reply(row).unwrap_or(false)) {
        shown_to_all = last_stay(tx, conversation).await?;
    }
    let mut rows = HashMap::with_capacity(found.len());
    for row in &found {
        let name = |index| -> Result<String, DbError> { Ok(row.get::<Option<String>>(index)?.unwrap_or_default()) };
        let source: i64 = row.get(9)?;
        let replied_info = match source {
            0 => None,
            _ => Some(replied(
                row,
                scrambler,
                source,
                match viewer {
                    Some(viewer) => viewer.is_in_stay(source),
                    None => source >= shown_to_all,
                },
                // The source changed while the user was not a member.
                viewer.zip(row.get::<Option<i64>>(15)?).is_some_and(|(viewer, rev)| viewer.is_later(source, rev)),
            )?),
        };
        rows.insert(
            row.get(0)?,
            StateRow {
                rev: row.get(1)?,
                reactions: row.get(8)?,
                state: MessageState {
                    edited_time: row.get(2)?,
                    editor: name(3)?,
                    pinned_time: row.get(4)?,
                    pinned_by: name(5)?,
                    replied_info,
                    root_seq: row.get::<i64>(6)?.unsigned_abs(),
                    replied_count: row.get(7)?,
                    ..MessageState::default()
                },
            },
        );
    }
    Ok(rows)
}

/// Where the newest stay in a conversation begins: all present members see what comes after it.
///
/// # Errors
/// The store fails.
pub async fn last_stay(tx: &mut Tx<'_>, conversation: ConversationKey) -> Result<i64, Error> {
    let sql = "SELECT COALESCE(MAX(from_seq), 0) FROM member WHERE conversation = $1";
    let row = tx.fetch_one(sql, &params![conversation]).await?;
    Ok(row.map_or(Ok(0), |row| row.get(0))?)
}

/// Tells what a message replies to, as far as it may be seen.
fn replied(
    row: &Row,
    scrambler: &Scrambler,
    source: i64,
    is_visible: bool,
    is_later: bool,
) -> Result<MessageRepliedInfo, Error> {
    let Some(id) = row.get::<Option<i64>>(10)? else {
        let state = MessageRepliedInfoState::NotFound as i32;
        return Ok(MessageRepliedInfo { state, message_seq: source, ..MessageRepliedInfo::default() });
    };
    let info = MessageRepliedInfo {
        message_id: scrambler.public(id).to_string(),
        message_seq: source,
        ..MessageRepliedInfo::default()
    };
    if !is_visible {
        return Ok(MessageRepliedInfo { state: MessageRepliedInfoState::NotFound as i32, ..info });
    }
    // What the user has deleted is gone for them, whoever sent it. Their devices do not know more.
    if row.get::<i64>(16)? != 0 {
        return Ok(MessageRepliedInfo { state: MessageRepliedInfoState::Deleted as i32, ..info });
    }
    let info = MessageRepliedInfo { sender_user_id: row.get(11)?, sent_time: row.get(12)?, ..info };
    if row.get::<i32>(13)? == MessageType::Revoke as i32 {
        return Ok(MessageRepliedInfo { state: MessageRepliedInfoState::Deleted as i32, ..info });
    }
    if is_later {
        return Ok(info);
    }
    let body: Vec<u8> = row.get(14)?;
    let message: Message = prost::Message::decode(&*body).map_err(Error::internal)?;
    let message_info = message.lite(row.get(13)?);
    Ok(MessageRepliedInfo { state: MessageRepliedInfoState::Normal as i32, message_info, ..info })
}

/// Returns the reactions to these messages, in the order in which the types were first used.
async fn reactions(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    viewer: Option<UserKey>,
    seqs: &[i64],
) -> Result<HashMap<i64, Vec<ReactionState>>, Error> {
    let mut found: HashMap<i64, Vec<ReactionState>> = HashMap::new();
    if seqs.is_empty() {
        return Ok(found);
    }
    let (list, mut params) = tx.dialect().in_list(seqs.iter().copied(), 3);
    params.splice(0..0, params![conversation, viewer.unwrap_or(UserKey(0))]);
    let sql = format!(
        "SELECT t.seq, t.type, t.users, t.total, t.first_users, \
         COALESCE((SELECT o.count FROM reaction o WHERE o.conversation = t.conversation AND o.seq = t.seq \
         AND o.account = $2 AND o.type = t.type), 0) \
         FROM reaction_total t WHERE t.conversation = $1 AND t.seq IN {list} ORDER BY t.seq, t.place"
    );
    let rows = tx.fetch(&sql, &params).await?;
    let mut users: Vec<i64> = Vec::new();
    for row in &rows {
        users.extend(keys(&row.get::<Vec<u8>>(4)?));
    }
    users.sort_unstable();
    users.dedup();
    let (list, params) = tx.dialect().in_list(users, 1);
    let names = tx.fetch(&format!("SELECT id, name FROM account WHERE id IN {list}"), &params).await?;
    let names: HashMap<i64, String> =
        names.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect::<Result<_, DbError>>()?;
    for row in &rows {
        let first: Vec<u8> = row.get(4)?;
        found.entry(row.get(0)?).or_default().push(ReactionState {
            reaction_type: row.get(1)?,
            user_count: row.get(2)?,
            sum_count: row.get(3)?,
            user_list: keys(&first).filter_map(|key| names.get(&key).cloned()).collect(),
            own_count: row.get(5)?,
        });
    }
    Ok(found)
}

/// Reads the keys of users that are stored side by side.
pub fn keys(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|bytes| i64::from_be_bytes(*bytes))
}

/// The SQL of the number of users who have read the message with the state `s`, as far as the member `me` may know. Somebody who
/// has left does not learn who reads their messages afterwards: a receipt names the last change before it. Clocks do not decide. One of
/// before an upgrade names none, and counts: its sender was told.
pub const READERS: &str = "CASE WHEN me.to_rev IS NULL THEN s.readers ELSE \
     (SELECT COUNT(*) FROM receipt x WHERE x.conversation = s.conversation AND x.seq = s.seq AND x.rev < me.to_rev) END";

/// The receipt of a message, as one user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Done: everybody has read it; of another's message: the user has sent a receipt.
    pub status: MessageReceiptStatus,
    /// How many have read an own message.
    pub read: i64,
    /// How many have not.
    pub unread: i64,
    /// When the last of all read an own message, or the user read the message of another, Unix milliseconds; 0: not yet.
    pub read_at: i64,
}

/// Returns the receipts of those of these messages that ask for receipts.
///
/// # Errors
/// The store fails.
pub async fn receipts(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    viewer: &Viewer,
    seqs: &[i64],
) -> Result<HashMap<i64, Receipt>, Error> {
    let (list, mut params): (_, Vec<Value>) = tx.dialect().in_list(seqs.iter().copied(), 3);
    params.splice(0..0, params![conversation, viewer.user]);
    let sql = format!(
        "SELECT m.seq, m.sender, r.at, COALESCE(s.receivers, 0), COALESCE({READERS}, 0), COALESCE(s.read_at, 0) \
         FROM message m LEFT JOIN member me ON me.account = $2 AND me.conversation = m.conversation \
         LEFT JOIN message_state s ON s.conversation = m.conversation AND s.seq = m.seq \
         LEFT JOIN receipt r ON r.conversation = m.conversation AND r.seq = m.seq AND r.account = $2 \
         WHERE m.conversation = $1 AND m.seq IN {list} AND (m.flags & {}) <> 0",
        MessageFlag::Receipt as u32
    );
    let rows = tx.fetch(&sql, &params).await?;
    let is_peer = viewer.peer.0 != 0;
    let (mut own_through, mut peer_through) = (0, 0);
    if is_peer && !rows.is_empty() {
        let sql = "SELECT account, receipt_seq FROM member WHERE conversation = $1 AND account IN ($2, $3)";
        for row in tx.fetch(sql, &params![conversation, viewer.user, viewer.peer]).await? {
            match row.get::<i64>(0)? == viewer.user.0 {
                true => own_through = row.get(1)?,
                false => peer_through = row.get(1)?,
            }
        }
    }
    let mut receipts = HashMap::with_capacity(rows.len());
    for row in &rows {
        let seq: i64 = row.get(0)?;
        let receipt = if row.get::<i64>(1)? == viewer.user.0 {
            let readers: i64 = row.get(4)?;
            let (read, receivers) = match is_peer {
                true => (i64::from(readers > 0 || seq <= peer_through), 1),
                false => (readers, row.get::<i64>(3)?),
            };
            let unread = (receivers - read).max(0);
            let read_at = if unread == 0 { row.get(5)? } else { 0 };
            (unread == 0 && receivers > 0, read, unread, read_at)
        } else {
            let at: Option<i64> = row.get(2)?;
            (at.is_some() || seq <= own_through, 0, 0, at.unwrap_or(0))
        };
        let status = if receipt.0 { MessageReceiptStatus::Done } else { MessageReceiptStatus::Processing };
        receipts.insert(seq, Receipt { status, read: receipt.1, unread: receipt.2, read_at: receipt.3 });
    }
    Ok(receipts)
}

/// Makes sure that a message has a row of state. The job has locked the head of the conversation.
///
/// # Errors
/// The store fails.
pub async fn open(tx: &mut Tx<'_>, conversation: ConversationKey, seq: i64) -> Result<(), Error> {
    tx.assert_covers_conversation(conversation);
    let state = MessageFlag::State as u32;
    let sql = format!(
        "UPDATE message SET flags = flags | {state} WHERE conversation = $1 AND seq = $2 AND (flags & {state}) = 0"
    );
    if tx.execute(&sql, &params![conversation, seq]).await? > 0 {
        let sql =
            "INSERT INTO message_state (conversation, seq) VALUES ($1, $2) ON CONFLICT (conversation, seq) DO NOTHING";
        tx.execute(sql, &params![conversation, seq]).await?;
    }
    Ok(())
}
