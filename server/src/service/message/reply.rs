//! Replies: messages that refer to another one of their conversation. A tree has the number of its replies at its root.

use std::sync::Arc;

use zim_protocol::{
    Message, MessageChange, MessageChangeKind, MessageEntry, MessageFlag, MessageRepliedInfo, MessageRepliedInfoState,
    MessageRepliedListQueriedResult, MessageRootRepliedInfo, MessageState, MessageType, QueryMessageRepliedListRequest,
};

use super::MAX_PAGE;
use super::target::{Reference, Target};
use crate::app::App;
use crate::connection::{Caller, WriteTo};
use crate::db::{Bulk, Scope, Tx, params};
use crate::effect::Audience;
use crate::error::Error;
use crate::journal::{self, Extra, LogWriter, NewMessage, Sent, Viewer, state};
use crate::key::ConversationKey;

/// Whether a message of this type can be replied to, and can be a reply.
pub(super) fn is_repliable(kind: i32) -> bool {
    use MessageType::{Audio, Combine, Custom, File, Image, Multiple, Text, Video};
    let kind = MessageType::try_from(kind);
    kind.is_ok_and(|kind| matches!(kind, Text | Multiple | Image | File | Audio | Video | Combine | Custom))
}

impl App {
    /// Stores a message that replies to another one, and tells all who see the root of the tree.
    pub(super) async fn send_reply(
        &self,
        caller: &Caller,
        reference: Reference,
        message: NewMessage,
    ) -> Result<(Sent, Option<MessageState>), Error> {
        let scope = Scope::conversation(reference.conversation.key);
        let target = WriteTo::conversation(scope, reference.name.clone());
        caller.write(&self.db, target, async move |tx, log| reply(tx, log, &reference, message).await).await
    }

    /// Returns a page of the replies of a tree.
    pub(super) async fn replies(
        &self,
        caller: &Caller,
        request: QueryMessageRepliedListRequest,
    ) -> Result<MessageRepliedListQueriedResult, Error> {
        let reference = self.reference(caller, &request.message.unwrap_or_default()).await?;
        let config = request.config.unwrap_or_default();
        let count = usize::try_from(config.count).ok().filter(|count| *count > 0).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let wanted = reference.clone();
        let (entries, next_flag, root) =
            self.db.read(async move |tx| page(tx, &wanted, config.next_flag, count).await).await?;
        let message_list =
            entries.into_iter().map(|entry| reference.message(entry)).collect::<Result<Vec<Message>, _>>()?;
        let root_replied_info = match root {
            Root::Shown(entry, replied_count) => {
                let is_there = entry.kind != MessageType::Revoke as i32;
                let state = if is_there { MessageRepliedInfoState::Normal } else { MessageRepliedInfoState::Deleted };
                let (sender_user_id, sent_time) = (entry.sender.clone(), entry.ts);
                let message = if is_there { Some(reference.message(*entry)?) } else { None };
                MessageRootRepliedInfo { state: state as i32, message, sender_user_id, sent_time, replied_count }
            }
            Root::Hidden(state) => MessageRootRepliedInfo { state: state as i32, ..MessageRootRepliedInfo::default() },
        };
        Ok(MessageRepliedListQueriedResult { message_list, next_flag, root_replied_info: Some(root_replied_info) })
    }
}

async fn reply(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    message: NewMessage,
) -> Result<(Sent, Option<MessageState>), Error> {
    if message.is_stored(tx).await? {
        // It is sent again. What became of its source meanwhile does not matter.
        let sent = NewMessage::run(tx, std::slice::from_ref(&message)).await?.pop();
        let sent = sent.ok_or_else(|| Error::internal_text("a message without a result"))??;
        return Ok((sent, None));
    }
    let target = reference.find_to_show(tx).await?;
    if !is_repliable(target.kind) {
        return Err(Error::message_type_unsupported("replied to"));
    }
    let conversation = reference.conversation.key;
    let root = root(tx, conversation, target.seq).await?;
    let state = MessageState {
        replied_info: Some(replied_info(tx, reference, &target).await?),
        root_seq: root.unsigned_abs(),
        ..MessageState::default()
    };
    let extra = message.extra.map_or_else(Extra::default, |extra| *extra);
    let message = NewMessage {
        flags: message.flags | MessageFlag::State as u32,
        extra: Some(Box::new(Extra { replied_seq: target.seq, root_seq: root, state: state.clone(), ..extra })),
        ..message
    };
    let sent = NewMessage::run(tx, std::slice::from_ref(&message)).await?.pop();
    let sent = sent.ok_or_else(|| Error::internal_text("a message without a result"))??;
    if sent.is_new {
        count(tx, log, reference, root, 1).await?;
    }
    Ok((sent, Some(state)))
}

/// Returns the root of the tree that a message belongs to.
async fn root(tx: &mut Tx<'_>, conversation: ConversationKey, seq: i64) -> Result<i64, Error> {
    let sql = "SELECT root_seq FROM message_state WHERE conversation = $1 AND seq = $2";
    let row = tx.fetch_one(sql, &params![conversation, seq]).await?;
    let root: i64 = row.map_or(Ok(0), |row| row.get(0))?;
    Ok(if root > 0 { root } else { seq })
}

/// Changes the number of replies of a root, unless it is no longer kept.
async fn count(tx: &mut Tx<'_>, log: &mut LogWriter, reference: &Reference, root: i64, more: i64) -> Result<(), Error> {
    let conversation = reference.conversation.key;
    state::open(tx, conversation, root).await?;
    let sql = "UPDATE message_state SET replies = replies + $3 WHERE conversation = $1 AND seq = $2";
    if tx.execute(sql, &params![conversation, root, more]).await? > 0 {
        let change = MessageChange { kind: MessageChangeKind::Replied as i32, ..MessageChange::default() };
        log.change_message(tx, &reference.conversation, root, change, (reference.user, reference.now)).await?;
    }
    Ok(())
}

/// A reply was revoked: its root has one less.
pub(super) async fn revoked(
    tx: &mut Tx<'_>,
    log: &mut LogWriter,
    reference: &Reference,
    (seq, flags): (i64, u32),
) -> Result<(), Error> {
    if flags & MessageFlag::State as u32 == 0 {
        return Ok(());
    }
    let root = root(tx, reference.conversation.key, seq).await?;
    if root == seq {
        return Ok(());
    }
    count(tx, log, reference, root, -1).await
}

/// Tells what is replied to, for a push. A member of a group who came later than the message does not see it, so its content
/// is left out if there is one: devices have it, or ask for it.
async fn replied_info(tx: &mut Tx<'_>, reference: &Reference, target: &Target) -> Result<MessageRepliedInfo, Error> {
    let conversation = reference.conversation.key;
    let info = MessageRepliedInfo {
        message_id: reference.conversation.scrambler.public(target.id).to_string(),
        message_seq: target.seq,
        ..MessageRepliedInfo::default()
    };
    let is_group = matches!(reference.conversation.audience, Audience::Group { .. });
    if is_group && target.seq < state::last_stay(tx, conversation).await? {
        return Ok(MessageRepliedInfo { state: MessageRepliedInfoState::NotFound as i32, ..info });
    }
    let sql = "SELECT name FROM account WHERE id = $1";
    let row = tx.fetch_one(sql, &params![target.sender]).await?;
    let source: Message = prost::Message::decode(&*target.body).map_err(Error::internal)?;
    Ok(MessageRepliedInfo {
        state: MessageRepliedInfoState::Normal as i32,
        message_info: source.lite(target.kind),
        sender_user_id: row.map_or(Ok(String::new()), |row| row.get(0))?,
        sent_time: target.ts,
        ..info
    })
}

/// The root of a tree.
enum Root {
    /// The caller sees it, and it has so many replies.
    Shown(Box<MessageEntry>, i64),
    /// The caller does not see it, for this reason.
    Hidden(MessageRepliedInfoState),
}

/// Reads the replies of a tree after a position, the position to go on from, and the root.
async fn page(
    tx: &mut Tx<'_>,
    reference: &Reference,
    after: i64,
    most: usize,
) -> Result<(Vec<MessageEntry>, i64, Root), Error> {
    let target = reference.find(tx).await?;
    let (conversation, viewer) = (reference.conversation.key, &target.viewer);
    let scrambler = Arc::clone(&reference.conversation.scrambler);
    let root = root(tx, conversation, target.seq).await?;
    // Revoked replies do not count, and are not in the list.
    let sql = "SELECT s.seq FROM message_state s JOIN message m ON m.conversation = s.conversation AND m.seq = s.seq \
               WHERE s.conversation = $1 AND s.root_seq = $2 AND s.seq > $3 AND m.kind <> 31 ORDER BY s.seq LIMIT $4";
    let limit = i64::try_from(most).unwrap_or(i64::MAX).saturating_add(1);
    let rows = tx.fetch(sql, &params![conversation, root, after, limit]).await?;
    let seqs: Vec<i64> = rows.iter().take(most).map(|row| row.get(0)).collect::<Result<_, _>>()?;
    let next = if rows.len() > most { seqs.last().copied().unwrap_or(0) } else { 0 };
    let entries = journal::messages_at(tx, conversation, &scrambler, viewer, &seqs).await?;
    let root_entry = journal::messages_at(tx, conversation, &scrambler, viewer, &[root]).await?.pop();
    let root = match root_entry {
        Some(entry) => {
            let replies = entry.state.as_ref().map_or(0, |state| state.replied_count);
            Root::Shown(Box::new(entry), replies)
        }
        None => Root::Hidden(why_hidden(tx, reference, viewer, root).await?),
    };
    // Fewer may fit into the answer.
    let next = match entries.last() {
        Some(last) if seqs.iter().any(|seq| *seq > last.seq.cast_signed()) && entries.len() < seqs.len() => {
            last.seq.cast_signed()
        }
        _ => next,
    };
    Ok((entries, next, root))
}

/// Says why the caller does not see a message: they have deleted it, or it is not found, because it was not for them, is no longer
/// kept, or was deleted with all messages of the conversation.
async fn why_hidden(
    tx: &mut Tx<'_>,
    reference: &Reference,
    viewer: &Viewer,
    seq: i64,
) -> Result<MessageRepliedInfoState, Error> {
    let sql = "SELECT 1 FROM hidden WHERE account = $1 AND conversation = $2 AND seq = $3";
    let hidden = tx.fetch_one(sql, &params![reference.user, reference.conversation.key, seq]).await?;
    Ok(match hidden {
        Some(_) if viewer.is_in_stay(seq) => MessageRepliedInfoState::Deleted,
        _ => MessageRepliedInfoState::NotFound,
    })
}
