//! Messages that are pinned to their conversation.

use zim_protocol::{MessageChange, MessageChangeKind, MessageEntry, MessageType};

use super::target::Reference;
use crate::db::{Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{self, LogWriter, Viewer, state};
use crate::key::{ConversationKey, Scrambler};
use crate::service::group::{Tip, Tips};

/// Pins a message, or unpins it. A message that is pinned already stays where it is.
///
/// # Errors
/// There is no such message, it is not pinned, or too many are.
pub(super) async fn pin(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    is_pinned: bool,
    ((most, replaces), tips): ((u32, bool), Tips),
) -> Result<(), Error> {
    let target = reference.find_to_show(tx).await?;
    if target.kind == MessageType::Tips as i32 {
        return Err(Error::message_type_unsupported("pinned"));
    }
    let conversation = reference.conversation.key;
    let sql =
        "SELECT seq, pinned_at FROM message_state WHERE conversation = $1 AND pinned_at > 0 ORDER BY pinned_at, seq";
    let rows = tx.fetch(sql, &params![conversation]).await?;
    let pinned: Vec<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    // Their order is that of the calls, also if the clock was set back.
    let last: i64 = rows.last().map_or(Ok(0), |row| row.get(1))?;
    let at = reference.now.max(last + 1);
    match (is_pinned, pinned.contains(&target.seq)) {
        (true, true) => return Ok(()),
        (true, false) => {}
        (false, true) => {
            unpin(tx, log, reference, target.seq).await?;
            return tell(tx, reference, tips, false).await;
        }
        (false, false) => return Err(Error::not_pinned()),
    }
    let surplus = (pinned.len() + 1).saturating_sub(most as usize);
    if surplus > 0 && !replaces {
        return Err(Error::too_many_pinned(most));
    }
    for seq in pinned.into_iter().take(surplus) {
        unpin(tx, log, reference, seq).await?;
    }
    set(tx, log, reference, target.seq, Some(at)).await?;
    tell(tx, reference, tips, true).await
}

/// Adds the tip of a group.
async fn tell(tx: &mut Tx<'_>, reference: &Reference, tips: Tips, is_pinned: bool) -> Result<(), Error> {
    match reference.conversation.audience {
        Audience::Group { .. } => tips.add(tx, &reference.conversation, Tip::pin(reference.user, is_pinned)).await,
        _ => Ok(()),
    }
}

/// Returns whether a message is pinned.
pub(super) async fn is_pinned(tx: &mut Tx<'_>, conversation: ConversationKey, seq: i64) -> Result<bool, Error> {
    let sql = "SELECT pinned_at FROM message_state WHERE conversation = $1 AND seq = $2";
    let row = tx.fetch_one(sql, &params![conversation, seq]).await?;
    Ok(row.map_or(Ok(0), |row| row.get::<i64>(0))? > 0)
}

/// Unpins a message, which is pinned.
pub(super) async fn unpin(tx: &mut Tx<'_>, log: &mut LogWriter, reference: &Reference, seq: i64) -> Result<(), Error> {
    set(tx, log, reference, seq, None).await
}

async fn set(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    seq: i64,
    pinned_at: Option<i64>,
) -> Result<(), Error> {
    let conversation = reference.conversation.key;
    state::open(tx, conversation, seq).await?;
    let (at, by, kind) = match pinned_at {
        Some(at) => (at, reference.user.0, MessageChangeKind::Pinned),
        None => (0, 0, MessageChangeKind::Unpinned),
    };
    let sql = "UPDATE message_state SET pinned_at = $3, pinned_by = $4 WHERE conversation = $1 AND seq = $2";
    tx.execute(sql, &params![conversation, seq, at, by]).await?;
    let change = MessageChange { kind: kind as i32, ..MessageChange::default() };
    log.change_message(tx, &reference.conversation, seq, change, (reference.user, reference.now)).await?;
    Ok(())
}

/// Returns the pinned messages that the viewer sees; pinned last, first in the list.
pub(super) async fn list(
    tx: &mut Tx<'_>,
    conversation: ConversationKey,
    scrambler: &Scrambler,
    viewer: &Viewer,
) -> Result<Vec<MessageEntry>, Error> {
    let sql = "SELECT seq FROM message_state WHERE conversation = $1 AND pinned_at > 0";
    let rows = tx.fetch(sql, &params![conversation]).await?;
    let seqs: Vec<i64> = rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let mut entries = journal::messages_at(tx, conversation, scrambler, viewer, &seqs).await?;
    // Without a state, the message was pinned after the viewer had left.
    entries.retain(|entry| entry.state.as_ref().is_some_and(|state| state.pinned_time > 0));
    let time = |entry: &MessageEntry| entry.state.as_ref().map_or(0, |state| state.pinned_time);
    entries.sort_by_key(|entry| std::cmp::Reverse((time(entry), entry.seq)));
    Ok(entries)
}
