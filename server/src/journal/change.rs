//! The log of changes of a conversation and its messages. An entry about a message refers to it and is resolved to the
//! present row when it is delivered, so the text of a revoked message does not survive in the log.

use zim_protocol::{ChangeEntry, change_entry::Detail};

use super::read::{COLUMNS, ROWS, entry};
use super::rules::is_visible;
use crate::db::{Row, Tx, params};
use crate::error::Error;
use crate::key::{ConversationKey, Scrambler, UserKey};

/// A client that is further behind starts over: it drops its messages and loads them again.
pub(super) const MAX_CHANGES: i64 = 1_000;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A message; the subject is its position.
    Message = 1,
}

/// Appends to the log of a conversation, whose head the job has locked. Returns the position.
///
/// # Errors
/// The conversation does not exist or is dismissed, or the store fails.
pub async fn append(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    (kind, subject): (ChangeKind, i64),
    actor: UserKey,
    at: i64,
) -> Result<i64, Error> {
    tx.assert_covers_conversation(conversation);
    let row = tx
        .fetch_one(
            "UPDATE conversation SET rev = rev + 1, touched = CASE WHEN touched > $2 THEN touched ELSE $2 END \
             WHERE id = $1 AND end_rev IS NULL RETURNING rev",
            &params![conversation, at],
        )
        .await?
        .ok_or_else(|| Error::internal_text("a change of a conversation that does not exist or is dismissed"))?;
    let rev: i64 = row.get(0)?;
    tx.execute(
        "INSERT INTO change (conversation, rev, kind, actor, at, subject) VALUES ($1, $2, $3, $4, $5, $6)",
        &params![conversation, rev, kind as i64, actor, at, subject],
    )
    .await?;
    Ok(rev)
}

/// Returns the changes of `after < rev <= through`, ascending, at most about `max_bytes` of them, and the position up
/// to which they are complete. Each is resolved to its present meaning for a member who sees the messages of `windows`.
/// `None` if there are more than `MAX_CHANGES`.
///
/// # Errors
/// The store fails.
pub async fn changes(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    windows: &[(i64, i64)],
    (mut after, through): (i64, i64),
    max_bytes: usize,
) -> Result<Option<(Vec<ChangeEntry>, i64)>, Error> {
    if through - after > MAX_CHANGES {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {COLUMNS}, h.rev, h.at, w.name FROM change h JOIN account w ON w.id = h.actor \
         LEFT JOIN message m ON m.conversation = h.conversation AND m.seq = h.subject AND h.kind = 1 \
         LEFT JOIN account a ON a.id = m.sender \
         WHERE h.conversation = $1 AND h.rev > $2 AND h.rev <= $3 ORDER BY h.rev LIMIT $4"
    );
    let mut changes = Vec::new();
    let mut bytes = 0;
    while after < through {
        let rows = tx.fetch(&sql, &params![conversation, after, through, ROWS]).await?;
        for row in &rows {
            let change = change(row, scrambler, windows)?;
            bytes += prost::Message::encoded_len(&change) + 4;
            if bytes > max_bytes && !changes.is_empty() {
                return Ok(Some((changes, after)));
            }
            after = row.get(10)?;
            changes.push(change);
        }
        if i64::try_from(rows.len()).is_ok_and(|count| count < ROWS) {
            after = through;
        }
    }
    Ok(Some((changes, after)))
}

fn change(row: &Row, scrambler: &Scrambler, windows: &[(i64, i64)]) -> Result<ChangeEntry, Error> {
    // If the message is no longer kept, or the member may not see it, the entry is blank: it only advances the
    // position.
    let detail = match row.get::<Option<i64>>(0)? {
        Some(seq) if is_visible(windows, seq) => Some(Detail::Message(entry(row, scrambler)?)),
        _ => None,
    };
    Ok(ChangeEntry { rev: row.get::<i64>(10)?.unsigned_abs(), at: row.get(11)?, actor: row.get(12)?, detail })
}
