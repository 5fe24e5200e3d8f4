//! Edits a message: new content in the same place.

use zim_protocol::{
    Message, MessageChange, MessageChangeKind, MessageEntry, MessageFlag, MessageSendConfig, MessageType,
};

use super::rules::{self, Draft};
use super::target::Reference;
use crate::config::{self, Limits};
use crate::db::{Tx, params};
use crate::error::Error;
use crate::journal::{LogWriter, state};
use crate::service::media::drop_refs;

/// Who edits a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A user: their own message, for a while.
    User,
    /// The operator: any message, as its sender, at any time.
    Operator,
}

/// Checks the new content of a message.
///
/// # Errors
/// Content that could not be sent either, or of a type that cannot be edited.
pub(super) fn draft(message: Message, limits: &Limits) -> Result<Draft, Error> {
    let draft = rules::draft(message, &MessageSendConfig::default(), limits)?;
    if !is_editable(draft.kind) {
        return Err(Error::edit_not_allowed());
    }
    Ok(draft)
}

fn is_editable(kind: MessageType) -> bool {
    matches!(kind, MessageType::Text | MessageType::Custom | MessageType::Multiple)
}

/// Edits a message. Returns it as the caller sees it.
///
/// # Errors
/// There is no such message, or the caller may not edit it.
pub(super) async fn edit(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    draft: &Draft,
    (by, window_ms, media): (By, i64, &config::Media),
) -> Result<MessageEntry, Error> {
    let target = match by {
        By::User => reference.find_to_show(tx).await?,
        By::Operator => reference.find_unrevoked(tx).await?,
    };
    if by == By::User && target.sender != reference.user {
        return Err(Error::edit_not_allowed());
    }
    if target.kind != draft.kind as i32 {
        return Err(Error::params_invalid("an edit does not change the type of a message"));
    }
    if by == By::User && reference.now - target.ts > window_ms {
        return Err(Error::edit_too_late(window_ms / 1_000));
    }
    let conversation = reference.conversation.key;
    if draft.kind == MessageType::Multiple {
        if !crate::media::lock(tx, &draft.files).await? {
            return Err(Error::file_not_found());
        }
        drop_refs(tx, conversation, target.seq, (reference.now, media)).await?;
        crate::media::refer(tx, conversation, target.seq, &draft.files).await?;
    }
    state::open(tx, conversation, target.seq).await?;
    tx.execute(
        // Devices tell an edit by its time, so each has its own, also if the clock was set back.
        "UPDATE message_state SET edited_at = CASE WHEN edited_at >= $3 THEN edited_at + 1 ELSE $3 END, editor = $4 \
         WHERE conversation = $1 AND seq = $2",
        &params![conversation, target.seq, reference.now, target.sender],
    )
    .await?;
    tx.execute(
        &format!(
            "UPDATE message SET body = $3, flags = flags | {} WHERE conversation = $1 AND seq = $2",
            MessageFlag::Edited as u32
        ),
        &params![conversation, target.seq, draft.content.clone()],
    )
    .await?;
    let change = MessageChange { kind: MessageChangeKind::Edited as i32, ..MessageChange::default() };
    let at = (target.sender, reference.now);
    log.change_message(tx, &reference.conversation, target.seq, change, at).await?;
    reference.entry(tx, &target).await
}
