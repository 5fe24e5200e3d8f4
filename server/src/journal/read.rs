//! Reads the log of messages. Every query is a seek in `message_seq`: a page at depth 1,000,000 costs what the first
//! page costs.

use bytes::Bytes;
use zim_protocol::{
    CustomMessage, Message, MessageEntry, MessageFlag, MessageType, MultipleMessage, TextMessage, message::Body,
};

use super::rules::is_visible;
use super::state;
use super::visible::{Viewer, is_shown};
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::{ConversationKey, Scrambler};

/// Rows per fetch: a page of small messages takes a few fetches, and one of large messages takes no more memory than
/// needed.
pub(super) const ROWS: i64 = 64;

pub(super) const COLUMNS: &str = "m.seq, m.n, m.id, a.name, m.ts, m.kind, m.flags, m.key_hi, m.key_lo, m.body, m.rev";
/// The number of [`COLUMNS`].
pub(super) const WIDTH: usize = 11;

/// The content of a message whose present content a viewer may not see: a body of its type without anything in it. Empty content
/// would mean that the client has it.
fn blank(kind: i32) -> Bytes {
    let body = match MessageType::try_from(kind) {
        Ok(MessageType::Revoke) => Body::Revoke(Box::default()),
        Ok(MessageType::Custom) => Body::Custom(CustomMessage::default()),
        Ok(MessageType::Multiple) => Body::Multiple(MultipleMessage::default()),
        // The content of no other type changes.
        _ => Body::Text(TextMessage::default()),
    };
    prost::Message::encode_to_vec(&Message { body: Some(body), ..Message::default() }).into()
}

/// Reads the content and the flags of a message from its columns: the type, the flags and the body. What changed later is withheld.
///
/// # Errors
/// A column has another type.
pub fn shown_content(
    row: &Row,
    (kind, flags, body): (usize, usize, usize),
    is_later: bool,
) -> Result<(Bytes, u32), Error> {
    let flags: u32 = row.get(flags)?;
    Ok(match is_later {
        true => (blank(row.get(kind)?), flags | MessageFlag::Withheld as u32),
        false => (row.get(body)?, flags),
    })
}

/// Reads [`COLUMNS`] for a viewer. Without a viewer, the entry is complete.
pub(super) fn entry(row: &Row, scrambler: &Scrambler, viewer: Option<&Viewer>) -> Result<MessageEntry, Error> {
    let is_later = match viewer {
        Some(viewer) => viewer.is_later(row.get(0)?, row.get(10)?),
        None => false,
    };
    let (content, flags) = shown_content(row, (5, 6, 9), is_later)?;
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
        flags,
        client_key: key.into(),
        content,
        state: None,
    })
}

/// Returns the messages that the viewer sees after `after`, ascending, at most about `max_bytes` of them, and the position up
/// to which they are complete.
pub async fn messages(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: &Viewer,
    after: i64,
    max_bytes: usize,
) -> Result<(Vec<MessageEntry>, i64), Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM message m JOIN account a ON a.id = m.sender \
         WHERE m.conversation = $1 AND m.seq > $2 AND m.seq <= $3 AND {} ORDER BY m.seq LIMIT $5",
        is_shown("m", "$4")
    );
    let mut entries = Vec::new();
    let (mut bytes, mut position) = (0, after);
    for (begin, through) in viewer.windows() {
        position = position.max(begin);
        while position < through {
            let rows = tx.fetch(&sql, &params![conversation, position, through, viewer.user, ROWS]).await?;
            for row in &rows {
                let entry = entry(row, scrambler, Some(viewer))?;
                bytes += prost::Message::encoded_len(&entry) + 4;
                if bytes > max_bytes && !entries.is_empty() {
                    let is_cut = attach(tx, conversation, scrambler, viewer, &mut entries, max_bytes).await?;
                    return Ok(if is_cut { cut(entries) } else { (entries, position) });
                }
                position = row.get(0)?;
                entries.push(entry);
            }
            if i64::try_from(rows.len()).is_ok_and(|count| count < ROWS) {
                position = through;
            }
        }
    }
    let is_cut = attach(tx, conversation, scrambler, viewer, &mut entries, max_bytes).await?;
    Ok(if is_cut { cut(entries) } else { (entries, viewer.end_seq().max(position)) })
}

/// Returns a page that ends with its last message.
fn cut(entries: Vec<MessageEntry>) -> (Vec<MessageEntry>, i64) {
    let through = entries.last().map_or(0, |entry| entry.seq.cast_signed());
    (entries, through)
}

/// Completes entries with their states. Returns whether there are fewer of them now, because the others do not fit.
async fn attach(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: &Viewer,
    entries: &mut Vec<MessageEntry>,
    max_bytes: usize,
) -> Result<bool, Error> {
    let mut all: Vec<&mut MessageEntry> = entries.iter_mut().collect();
    let complete = state::attach(tx, conversation, scrambler, Some(viewer), &mut all, max_bytes).await?;
    let is_cut = complete < entries.len();
    entries.truncate(complete);
    Ok(is_cut)
}

/// The direction of a page of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the anchor to older messages.
    Older,
    /// From the anchor to newer ones.
    Newer,
}

/// Returns up to `count` messages that the viewer sees next to `anchor`, without the anchor itself; ascending.
pub async fn around(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: &Viewer,
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
         WHERE m.conversation = $1 AND m.seq > $2 AND m.seq <= $3 AND {} ORDER BY m.seq {order} LIMIT $5",
        is_shown("m", "$4")
    );
    let mut windows: Vec<(i64, i64)> = viewer
        .windows()
        .into_iter()
        .map(|(after, through)| match direction {
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
            let rows = tx.fetch(&sql, &params![conversation, after, through, viewer.user, want]).await?;
            for row in &rows {
                let entry = entry(row, scrambler, Some(viewer))?;
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
    attach(tx, conversation, scrambler, viewer, &mut entries, max_bytes).await?;
    if direction == Direction::Older {
        entries.reverse();
    }
    Ok(entries)
}

/// Returns the newest messages between two positions, at most `count`, ascending and complete: after the first position, up to the
/// second. They have no states.
pub async fn newest(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    (after, through): (i64, i64),
    count: i64,
) -> Result<Vec<MessageEntry>, Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM message m JOIN account a ON a.id = m.sender \
         WHERE m.conversation = $1 AND m.seq > $2 AND m.seq <= $3 ORDER BY m.seq DESC LIMIT $4"
    );
    let rows = tx.fetch(&sql, &params![conversation, after, through, count]).await?;
    rows.iter().rev().map(|row| entry(row, scrambler, None)).collect()
}

/// Returns the last positions of both logs of a conversation, unless it is dismissed, and the last change that ended a stay.
pub async fn open_ends(tx: &mut Tx<'_>, conversation: ConversationKey) -> Result<Option<(i64, i64, i64)>, Error> {
    let sql = "SELECT seq, rev, ended_rev FROM conversation WHERE id = $1 AND end_seq IS NULL";
    let row = tx.fetch_one(sql, &params![conversation]).await?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).transpose()
}

/// Returns the position of a message of this conversation.
pub async fn seq_of(tx: &mut Tx<'_>, conversation: ConversationKey, id: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT seq FROM message WHERE id = $1 AND conversation = $2";
    Ok(tx.fetch_one(sql, &params![id, conversation]).await?.map(|row| row.get(0)).transpose()?)
}

/// What a response may have of messages that are asked for by their positions: less than a frame.
const RESPONSE_BYTES: usize = 768 << 10;

/// Returns the messages at these positions that the viewer sees, or the first of them if not all fit into a response.
pub async fn messages_at(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: &Viewer,
    seqs: &[i64],
) -> Result<Vec<MessageEntry>, Error> {
    let windows = viewer.windows();
    let seqs = seqs.iter().copied().filter(|seq| is_visible(&windows, *seq));
    let (list, mut params) = tx.dialect().in_list(seqs, 3);
    params.splice(0..0, params![conversation, viewer.user]);
    let sql = format!(
        "SELECT {COLUMNS} FROM message m JOIN account a ON a.id = m.sender \
         WHERE m.conversation = $1 AND m.seq IN {list} AND {} ORDER BY m.seq",
        is_shown("m", "$2")
    );
    let rows = tx.fetch(&sql, &params).await?;
    let mut entries: Vec<MessageEntry> =
        rows.iter().map(|row| entry(row, scrambler, Some(viewer))).collect::<Result<_, Error>>()?;
    attach(tx, conversation, scrambler, viewer, &mut entries, RESPONSE_BYTES).await?;
    Ok(entries)
}
