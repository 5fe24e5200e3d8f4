//! Reads the log of messages. Every query is a seek in `message_seq`: a page at depth 1,000,000 costs what the first
//! page costs.

use bytes::Bytes;
use zim_protocol::MessageEntry;

use super::rules::{Base, Extent, Stay, end_of_stay, is_visible, visible};
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::{ConversationKey, Scrambler, UserKey};

/// Rows per fetch: a page of small messages takes a few fetches, and one of large messages takes no more memory than
/// needed.
pub(super) const ROWS: i64 = 64;

pub(super) const COLUMNS: &str = "m.seq, m.n, m.id, a.name, m.ts, m.kind, m.flags, m.key_hi, m.key_lo, m.body";

/// Of a member `m`: the number of revoked messages that would otherwise count as unread.
pub const REVOKED: &str = "(SELECT COUNT(*) FROM message x WHERE x.conversation = m.conversation AND x.kind = 31 \
     AND x.seq > m.base_seq AND (m.to_seq IS NULL OR x.seq <= m.to_seq) AND x.sender <> m.account AND (x.flags & 1) = 1)";

/// The most positions of revoked messages that a client is told of.
const MAX_REVOKED: i64 = 1_000;

/// Returns the positions of the messages that [`REVOKED`] counts, ascending.
pub async fn revoked(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    user: UserKey,
    (after, through): (i64, i64),
) -> Result<Vec<u64>, Error> {
    let sql = "SELECT seq FROM message WHERE conversation = $1 AND kind = 31 AND seq > $2 AND seq <= $3 AND sender <> $4 \
               AND (flags & 1) = 1 ORDER BY seq LIMIT $5";
    let rows = tx.fetch(sql, &params![conversation, after, through, user, MAX_REVOKED]).await?;
    rows.iter().map(|row| Ok(row.get::<i64>(0)?.unsigned_abs())).collect()
}

/// A member's view of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The other user of a peer conversation, otherwise 0.
    pub peer: UserKey,
    /// The member's stay in the log of messages.
    pub stay: Stay,
    /// The extent of the log of messages.
    pub extent: Extent,
    /// The extent of the log of changes.
    pub changes: Extent,
    /// The member's stay in the log of changes.
    pub change_stay: Stay,
    /// The position up to which the member deleted messages for themselves.
    pub cleared: i64,
    /// The member's read mark.
    pub read_seq: i64,
    /// Where counting unread messages begins.
    pub base: Base,
    /// The counted messages that the member sent.
    pub sent: i64,
    /// See [`super::rules::unread`].
    pub deducted: i64,
    /// The conversation's count of counted messages.
    pub n: i64,
}

impl Member {
    /// The last message that the member may know of.
    pub fn end_seq(&self) -> i64 {
        end_of_stay(self.stay, self.extent)
    }

    /// The last change that the member may know of.
    pub fn end_rev(&self) -> i64 {
        end_of_stay(self.change_stay, self.changes)
    }

    /// The positions that the member may see, as `(after, through)` pairs.
    pub fn windows(&self) -> Vec<(i64, i64)> {
        visible(&[self.stay], self.extent, self.cleared)
    }
}

/// Returns a user's view of a conversation, or `None` if the user never was a member.
pub async fn member(tx: &mut Tx<'_>, conversation: ConversationKey, user: UserKey) -> Result<Option<Member>, Error> {
    let row = tx
        .fetch_one(
            &format!("SELECT c.seq, c.n, c.rev, c.floor_seq, c.floor_rev, c.end_seq, c.end_rev, m.peer, m.from_seq, m.from_rev, \
             m.to_seq, m.to_rev, m.cleared_seq, m.read_seq, m.base_seq, m.base_n, m.base_sent, m.sent, {REVOKED} \
             FROM member m JOIN conversation c ON c.id = m.conversation WHERE m.account = $1 AND m.conversation = $2"),
            &params![user, conversation],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Member {
        extent: Extent { head: row.get(0)?, floor: row.get(3)?, end: row.get(5)? },
        n: row.get(1)?,
        changes: Extent { head: row.get(2)?, floor: row.get(4)?, end: row.get(6)? },
        peer: UserKey(row.get(7)?),
        stay: Stay { from: row.get(8)?, to: row.get(10)? },
        change_stay: Stay { from: row.get(9)?, to: row.get(11)? },
        cleared: row.get(12)?,
        read_seq: row.get(13)?,
        base: Base { seq: row.get(14)?, n: row.get(15)?, sent: row.get(16)? },
        sent: row.get(17)?,
        deducted: row.get(18)?,
    }))
}

pub(super) fn entry(row: &Row, scrambler: &Scrambler) -> Result<MessageEntry, Error> {
    let mut key = Vec::with_capacity(16);
    key.extend_from_slice(&row.get::<i64>(7)?.to_be_bytes());
    key.extend_from_slice(&row.get::<i64>(8)?.to_be_bytes());
    Ok(MessageEntry {
        seq: row.get::<i64>(0)?.unsigned_abs(),
        n: row.get::<i64>(1)?.unsigned_abs(),
        message_id: scrambler.public(row.get(2)?),
        sender: row.get(3)?,
        ts: row.get(4)?,
        kind: row.get(5)?,
        flags: row.get(6)?,
        client_key: key.into(),
        content: row.get::<Bytes>(9)?,
    })
}

/// Returns the messages of `after < seq <= through`, ascending, at most about `max_bytes` of them, and the position up
/// to which they are complete.
pub async fn messages(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    (mut after, through): (i64, i64),
    max_bytes: usize,
) -> Result<(Vec<MessageEntry>, i64), Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM message m JOIN account a ON a.id = m.sender \
         WHERE m.conversation = $1 AND m.seq > $2 AND m.seq <= $3 ORDER BY m.seq LIMIT $4"
    );
    let mut entries = Vec::new();
    let mut bytes = 0;
    loop {
        let rows = tx.fetch(&sql, &params![conversation, after, through, ROWS]).await?;
        for row in &rows {
            let entry = entry(row, scrambler)?;
            bytes += prost::Message::encoded_len(&entry) + 4;
            if bytes > max_bytes && !entries.is_empty() {
                return Ok((entries, after));
            }
            after = row.get(0)?;
            entries.push(entry);
        }
        if i64::try_from(rows.len()).is_ok_and(|count| count < ROWS) {
            return Ok((entries, through.max(after)));
        }
    }
}

/// The direction of a page of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the anchor to older messages.
    Older,
    /// From the anchor to newer ones.
    Newer,
}

/// Returns up to `count` messages next to `anchor`, without the anchor itself, within `windows`; ascending.
pub async fn around(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    windows: &[(i64, i64)],
    (anchor, direction): (i64, Direction),
    count: usize,
    max_bytes: usize,
) -> Result<Vec<MessageEntry>, Error> {
    let order = match direction {
        Direction::Older => "DESC",
        Direction::Newer => "ASC",
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM message m JOIN account a ON a.id = m.sender \
         WHERE m.conversation = $1 AND m.seq > $2 AND m.seq <= $3 ORDER BY m.seq {order} LIMIT $4"
    );
    let mut windows: Vec<(i64, i64)> = windows
        .iter()
        .map(|&(after, through)| match direction {
            Direction::Older if anchor > 0 => (after, through.min(anchor - 1)),
            Direction::Newer => (after.max(anchor), through),
            Direction::Older => (after, through),
        })
        .filter(|(after, through)| through > after)
        .collect();
    if direction == Direction::Older {
        windows.reverse();
    }
    let mut entries: Vec<MessageEntry> = Vec::new();
    let mut bytes = 0;
    'windows: for (mut after, mut through) in windows {
        loop {
            let want = i64::try_from(count - entries.len()).unwrap_or(ROWS).min(ROWS);
            if want == 0 {
                break 'windows;
            }
            let rows = tx.fetch(&sql, &params![conversation, after, through, want]).await?;
            for row in &rows {
                let entry = entry(row, scrambler)?;
                bytes += prost::Message::encoded_len(&entry) + 4;
                if bytes > max_bytes && !entries.is_empty() {
                    break 'windows;
                }
                let seq: i64 = row.get(0)?;
                match direction {
                    Direction::Older => through = seq - 1,
                    Direction::Newer => after = seq,
                }
                entries.push(entry);
            }
            if i64::try_from(rows.len()).is_ok_and(|got| got < want) {
                continue 'windows;
            }
        }
    }
    if direction == Direction::Older {
        entries.reverse();
    }
    Ok(entries)
}

/// Returns the position of the last message of a conversation.
pub async fn last_seq(tx: &mut Tx<'_>, conversation: ConversationKey) -> Result<i64, Error> {
    let row = tx.fetch_one("SELECT seq FROM conversation WHERE id = $1", &params![conversation]).await?;
    Ok(row.map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

/// Returns the position of a message of this conversation.
pub async fn seq_of(tx: &mut Tx<'_>, conversation: ConversationKey, id: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT seq FROM message WHERE id = $1 AND conversation = $2";
    Ok(tx.fetch_one(sql, &params![id, conversation]).await?.map(|row| row.get(0)).transpose()?)
}

/// Returns messages by position, without those outside `windows`.
pub async fn messages_at(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    windows: &[(i64, i64)],
    seqs: &[i64],
) -> Result<Vec<MessageEntry>, Error> {
    let seqs = seqs.iter().copied().filter(|seq| is_visible(windows, *seq));
    let (list, mut params) = tx.dialect().in_list(seqs, 2);
    params.insert(0, conversation.into());
    let sql = format!(
        "SELECT {COLUMNS} FROM message m JOIN account a ON a.id = m.sender \
         WHERE m.conversation = $1 AND m.seq IN {list} ORDER BY m.seq"
    );
    tx.fetch(&sql, &params).await?.iter().map(|row| entry(row, scrambler)).collect()
}
