//! Heads of conversations and their sums: one statement each, whatever the number of conversations.

use std::collections::HashMap;

use zim_protocol::{
    Base, ConversationHead, ConversationRef, ConversationType, MessageEntry, MessageFlag, Sums, feed_entry::Detail,
};

use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::journal::{
    FeedKind, IS_LATER, Viewer, deducted, deducted_positions, last_message, last_time, rules, shown_content, state,
};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::service::rows::{GROUP, PAGE_BYTES, full_info, group_info};

/// A conversation is new to the user, or begins anew; the key is the conversation.
pub(crate) static CONVERSATION: FeedKind =
    FeedKind { number: 8, resolve: |tx, user, keys| Box::pin(entries(tx, user, keys)) };

/// The last positions that a member may know of, as SQL: `min(head, to, end)`.
pub(super) const END_SEQ: &str =
    "CASE WHEN m.to_seq < COALESCE(c.end_seq, c.seq) THEN m.to_seq ELSE COALESCE(c.end_seq, c.seq) END";
const END_REV: &str =
    "CASE WHEN m.to_rev < COALESCE(c.end_rev, c.rev) THEN m.to_rev ELSE COALESCE(c.end_rev, c.rev) END";
/// The number of counted messages up to `END_SEQ`: messages after a stay do not count. Of a stay whose rows are deleted nothing is unread.
pub(super) const END_N: &str = "CASE WHEN m.to_seq <= c.swept_seq AND c.swept_seq > 0 THEN m.base_n + m.sent - m.base_sent \
     WHEN m.to_seq < c.seq THEN COALESCE((SELECT e.n FROM message e WHERE e.conversation = c.id \
     AND e.seq <= m.to_seq ORDER BY e.seq DESC LIMIT 1), c.floor_n) ELSE c.n END";

/// The time of the newest message that was for the member, also if it is no longer kept. Without one, a group has the time when the member entered it, also if they
/// have left since: that of the change.
fn time() -> String {
    format!(
        "CASE WHEN c.type = 0 THEN c.last_ts WHEN x.seq = {END_SEQ} THEN x.ts ELSE COALESCE({}, i.entered_at, \
         (SELECT e.at FROM change e WHERE e.conversation = c.id AND e.rev = m.from_rev), 0) END",
        last_time(END_SEQ)
    )
}

/// Returns COUNT, SUM(end_seq) and SUM(end_rev) over the user's conversations that are not empty, and when the last of
/// them changed, Unix milliseconds.
pub(crate) async fn sums(tx: &mut Tx<'_>, user: UserKey) -> Result<(Sums, i64), Error> {
    let sql = format!(
        "SELECT COUNT(*), CAST(COALESCE(SUM({END_SEQ}), 0) AS BIGINT), CAST(COALESCE(SUM({END_REV}), 0) AS BIGINT), \
         COALESCE(MAX(c.touched), 0) FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = $1 AND c.seq + c.rev > 0"
    );
    let row =
        tx.fetch_one(&sql, &params![user]).await?.ok_or_else(|| Error::internal_text("an aggregate without a row"))?;
    let sums = Sums {
        count: row.get::<i64>(0)?.unsigned_abs(),
        seq: row.get::<i64>(1)?.unsigned_abs(),
        rev: row.get::<i64>(2)?.unsigned_abs(),
    };
    Ok((sums, row.get(3)?))
}

/// Selects heads of the members `m` that `condition` names, with the columns that [`head`] reads.
fn select(condition: &str) -> String {
    format!(
        "SELECT c.id, c.type, c.name, {END_SEQ}, {END_REV}, {END_N}, c.floor_seq, c.floor_rev, m.from_seq, m.from_rev, \
         m.read_seq, m.base_seq, m.base_n, m.base_sent, m.sent, {}, {}, \
         p.name, p.user_name, p.avatar_url, p.extended_data, \
         x.seq, x.n, x.id, a.name, x.ts, x.kind, x.flags, x.key_hi, x.key_lo, x.body, {IS_LATER}, \
         CASE WHEN m.to_seq IS NOT NULL OR c.end_seq IS NOT NULL THEN 1 ELSE 0 END, i.role, i.mute_until, m.entered_seq, {GROUP} \
         FROM member m JOIN conversation c ON c.id = m.conversation \
         LEFT JOIN account p ON p.id = m.peer \
         LEFT JOIN chat_group g ON g.conversation = c.id \
         LEFT JOIN group_member i ON i.conversation = c.id AND i.account = m.account \
         LEFT JOIN message x ON x.conversation = c.id AND x.seq = {} \
         LEFT JOIN account a ON a.id = x.sender \
         WHERE m.account = $1 AND {condition}",
        deducted(),
        time(),
        last_message(END_SEQ)
    )
}

/// Returns up to `limit` heads that changed at or after `since`, after the conversation `after`, and the last one
/// of them if there are more.
pub(crate) async fn heads(
    tx: &mut Tx<'_>,
    user: UserKey,
    scrambler: &Scrambler,
    (since, after): (i64, i64),
    limit: i64,
) -> Result<(Vec<ConversationHead>, Option<i64>), Error> {
    let sql = select("c.touched >= $2 AND m.conversation > $3 AND c.seq + c.rev > 0 ORDER BY m.conversation LIMIT $4");
    let rows = tx.fetch(&sql, &params![user, since, after, limit]).await?;
    let mut heads = Vec::with_capacity(rows.len());
    let (mut bytes, mut last): (usize, i64) = (0, 0);
    for row in &rows {
        let head = head(tx, user, row, Some(scrambler)).await?;
        bytes += prost::Message::encoded_len(&head);
        heads.push(head);
        last = row.get(0)?;
        if bytes > PAGE_BYTES {
            return Ok((heads, Some(last)));
        }
    }
    let more = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    Ok((heads, more.then_some(last)))
}

/// Returns the present heads of these conversations, without their last messages.
async fn entries(tx: &mut Tx<'_>, user: UserKey, keys: &[i64]) -> Result<HashMap<i64, Detail>, Error> {
    let (list, mut params) = tx.dialect().in_list(keys.iter().copied(), 2);
    params.insert(0, user.into());
    let mut found = HashMap::with_capacity(keys.len());
    for row in tx.fetch(&select(&format!("m.conversation IN {list}")), &params).await? {
        found.insert(row.get(0)?, Detail::Conversation(head(tx, user, &row, None).await?));
    }
    Ok(found)
}

/// Reads a head; without a scrambler, without the last message.
async fn head(
    tx: &mut Tx<'_>,
    user: UserKey,
    row: &Row,
    scrambler: Option<&Scrambler>,
) -> Result<ConversationHead, Error> {
    let number = |index| -> Result<u64, Error> { Ok(row.get::<i64>(index)?.unsigned_abs()) };
    let kind: i32 = row.get(1)?;
    let is_peer = kind == ConversationType::Peer as i32;
    let id: String = if is_peer { row.get(17)? } else { row.get(2)? };
    let base = rules::Base { seq: row.get(11)?, n: row.get(12)?, sent: row.get(13)? };
    let deducted: i64 = row.get(15)?;
    let unread = rules::unread(row.get(5)?, base, row.get(14)?, deducted);
    let last_message = match scrambler {
        Some(scrambler) => match last_entry(row, scrambler)? {
            Some(entry) => Some(with_state(tx, ConversationKey(row.get(0)?), scrambler, user, entry).await?),
            None => None,
        },
        None => None,
    };
    let revoked = match deducted {
        0 => Vec::new(),
        _ => deducted_positions(tx, ConversationKey(row.get(0)?), user).await?,
    };
    let mut group = if is_peer { None } else { Some(group_info(row, 36, &id)?) };
    let role: Option<i64> = row.get(33)?;
    if let Some(group) = group.as_mut().filter(|_| role.is_none()) {
        // They are for members.
        group.group_attributes.clear();
    }
    Ok(ConversationHead {
        group,
        conversation: Some(ConversationRef { r#type: kind, id }),
        end_seq: number(3)?,
        end_rev: number(4)?,
        n: number(5)?,
        floor_seq: number(6)?,
        floor_rev: number(7)?,
        from_seq: number(8)?,
        from_rev: number(9)?,
        entered_seq: number(35)?,
        read_seq: number(10)?,
        base: Some(Base { seq: number(11)?, n: number(12)?, sent: number(13)? }),
        sent: number(14)?,
        deducted: number(15)?,
        unread: unread.unsigned_abs(),
        last_ts: row.get(16)?,
        last_message,
        revoked,
        peer: if is_peer { Some(full_info(row, 17)?) } else { None },
        has_left: row.get::<i64>(32)? != 0,
        role: role.unwrap_or_default(),
        mute_expired_time: row.get::<Option<i64>>(34)?.unwrap_or_default(),
    })
}

fn last_entry(row: &Row, scrambler: &Scrambler) -> Result<Option<MessageEntry>, Error> {
    let Some(seq) = row.get::<Option<i64>>(21)? else { return Ok(None) };
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&row.get::<i64>(28)?.to_be_bytes());
    key.extend_from_slice(&row.get::<i64>(29)?.to_be_bytes());
    let (content, flags) = shown_content(row, (26, 27, 30), row.get::<i64>(31)? != 0)?;
    Ok(Some(MessageEntry {
        seq: seq.unsigned_abs(),
        n: row.get::<i64>(22)?.unsigned_abs(),
        message_id: scrambler.public(row.get(23)?),
        sender: row.get(24)?,
        ts: row.get(25)?,
        kind: row.get(26)?,
        flags,
        client_key: key.into(),
        content,
        state: None,
    }))
}

/// Completes the last message of a conversation. Few have a state, so a page of heads takes few statements more.
async fn with_state(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    user: UserKey,
    mut entry: MessageEntry,
) -> Result<MessageEntry, Error> {
    if (entry.has(MessageFlag::State) || entry.has(MessageFlag::Receipt))
        && let Some(viewer) = Viewer::of(tx, conversation, user).await?
    {
        state::attach(tx, conversation, scrambler, Some(&viewer), &mut [&mut entry], usize::MAX).await?;
    }
    Ok(entry)
}
