//! Heads of conversations and their sums: one statement each, whatever the number of conversations.

use zim_protocol::{Base, ConversationHead, ConversationRef, ConversationType, MessageEntry, Sums};

use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::journal::{REVOKED, revoked, rules};
use crate::key::{ConversationKey, Scrambler, UserKey};
use crate::service::rows::{PAGE_BYTES, full_info};

/// The last positions that a member may know of, as SQL: `min(head, to, end)`.
const END_SEQ: &str =
    "CASE WHEN m.to_seq < COALESCE(c.end_seq, c.seq) THEN m.to_seq ELSE COALESCE(c.end_seq, c.seq) END";
const END_REV: &str =
    "CASE WHEN m.to_rev < COALESCE(c.end_rev, c.rev) THEN m.to_rev ELSE COALESCE(c.end_rev, c.rev) END";
/// The number of counted messages up to `END_SEQ`: messages after a stay do not count.
const END_N: &str = "CASE WHEN m.to_seq < c.seq THEN COALESCE((SELECT e.n FROM message e WHERE e.conversation = c.id \
     AND e.seq <= m.to_seq ORDER BY e.seq DESC LIMIT 1), c.floor_n) ELSE c.n END";

/// Returns COUNT, SUM(end_seq) and SUM(end_rev) over the user's conversations that are not empty, and when the last of
/// them changed, Unix milliseconds.
pub(super) async fn sums(tx: &mut Tx<'_>, user: UserKey) -> Result<(Sums, i64), Error> {
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

/// Returns up to `limit` heads that changed at or after `since`, after the conversation `after`, and the last one
/// of them if there are more.
pub(super) async fn heads(
    tx: &mut Tx<'_>,
    user: UserKey,
    scrambler: &Scrambler,
    (since, after): (i64, i64),
    limit: i64,
) -> Result<(Vec<ConversationHead>, Option<i64>), Error> {
    let sql = format!(
        "SELECT c.id, c.type, c.name, {END_SEQ}, {END_REV}, {END_N}, c.floor_seq, c.floor_rev, m.from_seq, m.cleared_seq, \
         m.read_seq, m.base_seq, m.base_n, m.base_sent, m.sent, {REVOKED}, c.last_ts, \
         p.name, p.user_name, p.avatar_url, p.extended_data, \
         x.seq, x.n, x.id, a.name, x.ts, x.kind, x.flags, x.key_hi, x.key_lo, x.body \
         FROM member m JOIN conversation c ON c.id = m.conversation \
         LEFT JOIN account p ON p.id = m.peer \
         LEFT JOIN message x ON x.conversation = c.id AND x.seq = {END_SEQ} AND x.seq > m.cleared_seq AND x.seq >= m.from_seq \
         LEFT JOIN account a ON a.id = x.sender \
         WHERE m.account = $1 AND c.touched >= $2 AND m.conversation > $3 AND c.seq + c.rev > 0 \
         ORDER BY m.conversation LIMIT $4"
    );
    let rows = tx.fetch(&sql, &params![user, since, after, limit]).await?;
    let mut heads = Vec::with_capacity(rows.len());
    let (mut bytes, mut last): (usize, i64) = (0, 0);
    for row in &rows {
        let mut head = head(row, scrambler)?;
        if head.deducted > 0 {
            let span = (row.get(11)?, row.get(3)?);
            head.revoked = revoked(tx, ConversationKey(row.get(0)?), user, span).await?;
        }
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

fn head(row: &Row, scrambler: &Scrambler) -> Result<ConversationHead, Error> {
    let number = |index| -> Result<u64, Error> { Ok(row.get::<i64>(index)?.unsigned_abs()) };
    let kind: i32 = row.get(1)?;
    let is_peer = kind == ConversationType::Peer as i32;
    let id: String = if is_peer { row.get(17)? } else { row.get(2)? };
    let base = rules::Base { seq: row.get(11)?, n: row.get(12)?, sent: row.get(13)? };
    let unread = rules::unread(row.get(5)?, base, row.get(14)?, row.get(15)?);
    Ok(ConversationHead {
        conversation: Some(ConversationRef { r#type: kind, id }),
        end_seq: number(3)?,
        end_rev: number(4)?,
        n: number(5)?,
        floor_seq: number(6)?,
        floor_rev: number(7)?,
        from_seq: number(8)?,
        read_seq: number(10)?,
        base: Some(Base { seq: number(11)?, n: number(12)?, sent: number(13)? }),
        sent: number(14)?,
        deducted: number(15)?,
        unread: unread.unsigned_abs(),
        last_ts: row.get(16)?,
        last_message: last_message(row, scrambler)?,
        revoked: Vec::new(),
        peer: if is_peer { Some(full_info(row, 17)?) } else { None },
    })
}

fn last_message(row: &Row, scrambler: &Scrambler) -> Result<Option<MessageEntry>, Error> {
    let Some(seq) = row.get::<Option<i64>>(21)? else { return Ok(None) };
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&row.get::<i64>(28)?.to_be_bytes());
    key.extend_from_slice(&row.get::<i64>(29)?.to_be_bytes());
    Ok(Some(MessageEntry {
        seq: seq.unsigned_abs(),
        n: row.get::<i64>(22)?.unsigned_abs(),
        message_id: scrambler.public(row.get(23)?),
        sender: row.get(24)?,
        ts: row.get(25)?,
        kind: row.get(26)?,
        flags: row.get(27)?,
        client_key: key.into(),
        content: row.get(30)?,
    }))
}
