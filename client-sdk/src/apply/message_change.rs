//! What happens to a message after it was sent: edits, pins, reactions, replies, revocation.

use std::ops::RangeInclusive;

use zim_protocol::{
    ConversationRef, Event, Message, MessageChange, MessageChangeKind, MessageEditedEvent, MessageEntry, MessageFlag,
    MessagePinStatus, MessagePinStatusChangeInfo, MessagePinStatusChangedEvent, MessageReaction,
    MessageReactionChangeInfo, MessageReactionUserChangeAction, MessageReactionUserChangeInfo,
    MessageReactionsChangedEvent, MessageRepliedCountChangedEvent, MessageRepliedInfo, MessageRepliedInfoChangedEvent,
    MessageRepliedInfoState, MessageRevokeReceivedEvent, MessageRootRepliedCountInfo, MessageState, MessageType,
};

use super::Transaction;
use crate::store::conversation;
use crate::store::message::{self, IMPORTED, MessageRow};
use crate::store::message_change::{self as rows, Hidden};
use crate::types::Name;

/// What an entry tells of a message that this device holds as it was before.
pub(super) struct News {
    /// Edited or revoked, and of a change also pinned, unpinned or replied to.
    pub(super) kind: MessageChangeKind,
    /// The position of the message.
    pub(super) seq: u64,
    /// The message as it is now.
    pub(super) message: Message,
}

/// Returns whether an entry edits or revokes a message that this device holds as it was. Entries of pages, heads and pulls have
/// messages as they are now, so the first entry that shows it tells it, and the entry of the change itself may be no news any more.
/// Both only go forward, so an entry that is late tells nothing.
pub(super) fn outdated(held: &MessageRow, entry: &MessageEntry) -> Option<MessageChangeKind> {
    let revoke = MessageType::Revoke as i32;
    if held.kind == revoke {
        return None;
    }
    if entry.kind == revoke {
        return Some(MessageChangeKind::Revoked);
    }
    let now = entry.state.as_ref().map_or(0, |state| state.edited_time);
    if now == 0 {
        return None;
    }
    (edited_time(held) < now).then_some(MessageChangeKind::Edited)
}

/// Returns when a message was edited last; 0: never.
pub(super) fn edited_time(held: &MessageRow) -> i64 {
    let known: MessageState = prost::Message::decode(&held.state[..]).unwrap_or_default();
    known.edited_time
}

impl Transaction<'_> {
    /// Applies a change of a message. Returns what it tells, which may be more than the change: the entry of a pin may be the first
    /// that shows the message as revoked. Applying a change again has no effect.
    pub(super) fn message_change(
        &mut self,
        name: &Name,
        (id, rev): (i64, u64),
        (mut entry, change): (MessageEntry, Option<MessageChange>),
        actor: &str,
    ) -> rusqlite::Result<Vec<News>> {
        let to = name.to_ref();
        let before = message::held(self.db, id, entry.seq)?.map(|(_, row)| row);
        let is_first = conversation::advance_changes(self.db, id, rev)?;
        if before.is_none() && self.is_gone(id, &entry)? {
            return Ok(Vec::new());
        }
        // Entries of earlier versions of the server say nothing: they revoke.
        let change = change
            .unwrap_or_else(|| MessageChange { kind: MessageChangeKind::Revoked as i32, ..MessageChange::default() });
        let kind = change.kind();
        let own = (kind == MessageChangeKind::Reacted && *actor == *self.viewer.user_id).then_some(&change);
        self.complete_reply(id, &mut entry)?;
        self.complete_receipt(id, &mut entry)?;
        let shows_own = personalize(&mut entry, before.as_ref(), own, &self.viewer.user_id);
        message::change(self.db, id, &self.viewer.user_id, &entry)?;
        let after = match message::held(self.db, id, entry.seq)? {
            Some((_, row)) => row.into_message(&self.viewer.user_id, &to),
            None => message::shown(entry.clone(), &self.viewer.user_id, &to),
        };
        // Of an imported message, only the change itself is news.
        let is_known = |before: &MessageRow| before.flags & IMPORTED == 0;
        let told = before
            .as_ref()
            .and_then(|before| outdated(before, &entry).filter(|told| is_known(before) || is_first && *told == kind));
        // Pins and replies come and go, so only a change tells them, once. A page may have shown them before, and an entry of a pull
        // that shows the message otherwise is followed by the change that made it so.
        let own_kind = match kind {
            // The list of pinned messages shows one that this device does not hold.
            MessageChangeKind::Pinned => (is_first && after.pinned_time > 0).then_some(kind),
            MessageChangeKind::Unpinned => (is_first && after.pinned_time == 0).then_some(kind),
            MessageChangeKind::Replied => (is_first && before.is_some()).then_some(kind),
            _ => None,
        };
        let seq = entry.seq;
        let news = own_kind.into_iter().chain(told).map(|kind| News { kind, seq, message: after.clone() }).collect();
        match kind {
            // A device that did not see the source until now does not know whose it is.
            MessageChangeKind::Revoked => {
                self.replies_changed(id, &to, entry.seq, |info| MessageRepliedInfo {
                    state: MessageRepliedInfoState::Deleted as i32,
                    message_info: None,
                    sender_user_id: entry.sender.clone(),
                    sent_time: entry.ts,
                    ..info
                })?;
            }
            // Of an edit that is not for the user, this device knows nothing unless it holds the message as it was.
            MessageChangeKind::Edited if before.is_some() || !entry.has(MessageFlag::Withheld) => {
                let message_info = after.lite(after.r#type);
                let info = |info: MessageRepliedInfo| MessageRepliedInfo { message_info: message_info.clone(), ..info };
                self.replies_changed(id, &to, entry.seq, info)?;
            }
            // The event would say of this user's own reactions what is not true.
            MessageChangeKind::Reacted if is_first && shows_own => self.reacted(after, actor, change),
            _ => {}
        }
        Ok(news)
    }

    /// Raises the events about messages that changed: one of each kind, so that an app draws its list once.
    pub(super) fn tell(&mut self, news: Vec<News>) {
        let (mut edited, mut pins, mut revoked) = (Vec::new(), Vec::new(), Vec::new());
        let mut counts: Vec<MessageRootRepliedCountInfo> = Vec::new();
        for News { kind, message, .. } in news {
            match kind {
                MessageChangeKind::Edited => edited.push(message),
                MessageChangeKind::Revoked => revoked.push(message),
                MessageChangeKind::Replied => {
                    // Several replies are told as one count.
                    counts.retain(|info| info.message_id != message.message_id);
                    counts.push(MessageRootRepliedCountInfo {
                        message_id: message.message_id,
                        conversation_id: message.conversation_id,
                        conversation_type: message.conversation_type,
                        count: message.root_replied_count,
                    });
                }
                _ => {
                    let is_pinned = kind == MessageChangeKind::Pinned;
                    let status = if is_pinned { MessagePinStatus::Pinned } else { MessagePinStatus::NotPinned };
                    pins.push(MessagePinStatusChangeInfo { pin_status: status as i32, message: Some(message) });
                }
            }
        }
        if !edited.is_empty() {
            self.raise(Event::MessageEdited(MessageEditedEvent { message_list: edited }));
        }
        if !pins.is_empty() {
            self.raise(Event::MessagePinStatusChanged(MessagePinStatusChangedEvent { infos: pins }));
        }
        if !counts.is_empty() {
            self.raise(Event::MessageRepliedCountChanged(MessageRepliedCountChangedEvent { infos: counts }));
        }
        if !revoked.is_empty() {
            self.raise(Event::MessageRevokeReceived(MessageRevokeReceivedEvent { message_list: revoked }));
        }
    }

    /// Returns whether the user, or this device alone, has deleted a message.
    fn is_gone(&mut self, id: i64, entry: &MessageEntry) -> rusqlite::Result<bool> {
        Ok(self.recent.has_deleted(self.db)? && rows::is_deleted(self.db, id, entry.message_id, (entry.seq, entry.ts))?)
    }

    /// Raises the event about a reaction. It tells of the one user, and of all reactions of the type as they are now.
    fn reacted(&mut self, message: Message, actor: &str, change: MessageChange) {
        let reaction =
            message.reactions.iter().find(|reaction| reaction.reaction_type == change.reaction_type).cloned();
        let reaction = reaction.unwrap_or_else(|| MessageReaction {
            reaction_type: change.reaction_type.clone(),
            conversation_id: message.conversation_id.clone(),
            conversation_type: message.conversation_type,
            message_id: message.message_id.clone(),
            ..MessageReaction::default()
        });
        let action = match change.is_added {
            true => MessageReactionUserChangeAction::Added,
            false => MessageReactionUserChangeAction::Deleted,
        };
        let user = MessageReactionUserChangeInfo {
            user_id: actor.to_owned(),
            reaction_type: change.reaction_type,
            action: action as i32,
            sum_count: change.sum_count,
        };
        let info = MessageReactionChangeInfo { message: Some(message), user_change_info_list: vec![user] };
        self.raise(Event::MessageReactionsChanged(MessageReactionsChangedEvent {
            reactions: vec![reaction],
            change_info_list: vec![info],
        }));
    }

    /// Changes what the replies to a message show of it.
    pub(super) fn replies_changed(
        &mut self,
        id: i64,
        to: &ConversationRef,
        seq: u64,
        change: impl Fn(MessageRepliedInfo) -> MessageRepliedInfo,
    ) -> rusqlite::Result<()> {
        self.replies_to_some_changed(id, to, seq..=seq, change)
    }

    /// Changes what the replies to messages show of them.
    pub(super) fn replies_to_some_changed(
        &mut self,
        id: i64,
        to: &ConversationRef,
        seqs: RangeInclusive<u64>,
        change: impl Fn(MessageRepliedInfo) -> MessageRepliedInfo,
    ) -> rusqlite::Result<()> {
        let mut message_list = Vec::new();
        for (row, reply) in rows::replies(self.db, id, seqs)? {
            let state = reply.state.clone();
            let mut message = reply.into_message(&self.viewer.user_id, to);
            let before = message.replied_info.as_deref().cloned().unwrap_or_default();
            let after = change(before.clone());
            if before != after {
                rows::set_replied(self.db, row, &state, after.clone())?;
                message.replied_info = Some(Box::new(after));
                message_list.push(message);
            }
        }
        if !message_list.is_empty() {
            self.raise(Event::MessageRepliedInfoChanged(MessageRepliedInfoChangedEvent { message_list }));
        }
        Ok(())
    }

    /// Makes what an entry says of the source of a reply that of this user: they may have deleted the source for themselves after a
    /// page was read, and a push to everybody does not know it. Or the entry does not show it, but this device holds it, or has shown
    /// it with the reply before.
    pub(super) fn complete_reply(&mut self, id: i64, entry: &mut MessageEntry) -> rusqlite::Result<()> {
        let Some(state) = &mut entry.state else { return Ok(()) };
        let (Some(info), is_personal) = (&mut state.replied_info, state.is_personal) else { return Ok(()) };
        let seq = u64::try_from(info.message_seq).unwrap_or(0);
        // The source has changed since the user left, and this device may hold it as it was.
        let is_withheld = info.state == MessageRepliedInfoState::Normal as i32 && info.message_info.is_none();
        let hidden = match rows::hidden(self.db, id, seq)? {
            Hidden::No if self.recent.has_deleted(self.db)? => rows::hidden_here(self.db, id, info)?,
            hidden => hidden,
        };
        match hidden {
            Hidden::No if is_personal && !is_withheld => return Ok(()),
            Hidden::No => {}
            Hidden::Message => {
                *info = deleted(std::mem::take(info));
                return Ok(());
            }
            Hidden::Cleared => {
                *info = not_found(std::mem::take(info));
                return Ok(());
            }
        }
        let Some((_, row)) = message::held(self.db, id, seq)? else {
            if is_withheld && let Some(shown) = self.shown_before(id, entry.seq, &info.message_id)? {
                *info = shown;
            }
            return Ok(());
        };
        // The source may have changed after the server said what it is.
        let is_changed = row.kind == MessageType::Revoke as i32 || edited_time(&row) > 0;
        if info.state == MessageRepliedInfoState::Deleted as i32
            || info.state == MessageRepliedInfoState::Normal as i32 && !is_changed && !is_withheld
        {
            return Ok(());
        }
        let (sender, ts, kind) = (row.sender.clone(), row.ts, row.kind);
        let source = row.into_message(&self.viewer.user_id, &ConversationRef::default());
        let state = match kind == MessageType::Revoke as i32 {
            true => MessageRepliedInfoState::Deleted,
            false => MessageRepliedInfoState::Normal,
        };
        info.state = state as i32;
        info.message_info = if state == MessageRepliedInfoState::Deleted { None } else { source.lite(kind) };
        info.sender_user_id = sender;
        info.sent_time = ts;
        Ok(())
    }
}

impl Transaction<'_> {
    /// Returns what a reply of this device shows of its source, if it does.
    fn shown_before(&self, id: i64, reply: u64, source: &str) -> rusqlite::Result<Option<MessageRepliedInfo>> {
        let Some((_, row)) = message::held(self.db, id, reply)? else { return Ok(None) };
        let known: MessageState = prost::Message::decode(&row.state[..]).unwrap_or_default();
        Ok(known.replied_info.filter(|info| info.message_id == source && info.message_info.is_some()))
    }
}

/// Says that the user has deleted a message which is replied to.
pub(super) fn deleted(info: MessageRepliedInfo) -> MessageRepliedInfo {
    MessageRepliedInfo { state: MessageRepliedInfoState::Deleted as i32, ..not_found(info) }
}

/// Says that the user does not see a message which is replied to.
pub(super) fn not_found(info: MessageRepliedInfo) -> MessageRepliedInfo {
    MessageRepliedInfo {
        state: MessageRepliedInfoState::NotFound as i32,
        message_id: info.message_id,
        message_seq: info.message_seq,
        ..MessageRepliedInfo::default()
    }
}

/// Adds what is the viewer's own to the state of an entry that was pushed to all: from the row, from a reaction of their own, and
/// from the users that the state names. These are the first of each type, so of a message that this device does not hold it may be
/// unknown whether the viewer is among the others. Returns whether all of the viewer's reactions are shown.
fn personalize(
    entry: &mut MessageEntry,
    before: Option<&MessageRow>,
    own: Option<&MessageChange>,
    viewer: &str,
) -> bool {
    let Some(state) = entry.state.as_mut().filter(|state| !state.is_personal) else { return true };
    let known = before.and_then(|row| prost::Message::decode(&row.state[..]).ok());
    let known: MessageState = known.unwrap_or_default();
    let mut shows_own = true;
    for reaction in &mut state.reactions {
        let kept = known.reactions.iter().find(|known| known.reaction_type == reaction.reaction_type);
        let is_named = reaction.user_list.iter().any(|user| user == viewer);
        let all_are_named = usize::try_from(reaction.user_count).is_ok_and(|count| count <= reaction.user_list.len());
        let own = own.filter(|change| change.reaction_type == reaction.reaction_type);
        reaction.own_count = match own {
            Some(change) => change.sum_count,
            None => kept.map_or(0, |kept| kept.own_count).max(i64::from(is_named)),
        };
        shows_own &= before.is_some() || own.is_some() || is_named || all_are_named;
    }
    // In a group, a push does not show what came before the stay of somebody who sees the reply.
    if let (Some(info), Some(known)) = (&mut state.replied_info, known.replied_info)
        && info.state == MessageRepliedInfoState::NotFound as i32
    {
        *info = known;
    }
    shows_own
}
