//! Receipts, and messages that the user deleted on some device.

use zim_protocol::{
    AllCleared, ConversationCleared, ConversationMessageReceiptChangedEvent, ConversationReceiptEntry, Event, Message,
    MessageDeleteType, MessageDeletedEvent, MessageDeletion, MessageEntry, MessageFlag, MessageReceiptChangedEvent,
    MessageReceiptInfo, MessageReceiptStatus, MessageType, ReceiptEntry,
};

use super::message_change::{deleted, not_found};
use super::{Gone, Transaction};
use crate::engine::Origin;
use crate::store::message_change::Hidden;
use crate::store::{conversation, done_receipt, message, message_change as rows};
use crate::types::Name;

impl Transaction<'_> {
    /// A message of this user was read by somebody, or this user read one on some device.
    pub(super) fn receipt(&mut self, entry: ReceiptEntry, origin: Origin) -> rusqlite::Result<()> {
        let Some(to) = entry.conversation else { return Ok(()) };
        let id = self.touch(&Name::from(&to))?;
        let is_done = entry.is_self_operated || entry.unread_member_count == 0;
        if is_done {
            rows::set_done(self.db, id, entry.seq)?;
        }
        // The message of the event is named by its ID, which only its row has.
        let Some((_, row)) = message::held(self.db, id, entry.seq)? else {
            if is_done {
                done_receipt::note(self.db, id, entry.seq)?;
            }
            return Ok(());
        };
        if !self.is_news(origin)? {
            return Ok(());
        }
        let status = if is_done { MessageReceiptStatus::Done } else { MessageReceiptStatus::Processing };
        let info = MessageReceiptInfo {
            status: status as i32,
            message_id: row.message_id.to_string(),
            conversation_id: to.id,
            conversation_type: to.r#type,
            read_member_count: entry.read_member_count,
            unread_member_count: entry.unread_member_count,
            is_self_operated: entry.is_self_operated,
            read_time: entry.read_time,
        };
        if let Some(Event::MessageReceiptChanged(event)) = self.last_event() {
            event.infos.push(info);
        } else {
            self.raise(Event::MessageReceiptChanged(MessageReceiptChangedEvent { infos: vec![info] }));
        }
        Ok(())
    }

    /// Adds to an entry of a message what receipts that arrived before it say.
    pub(super) fn complete_receipt(&self, id: i64, entry: &mut MessageEntry) -> rusqlite::Result<()> {
        let done = MessageReceiptStatus::Done as i32;
        let is_open = entry.has(MessageFlag::Receipt)
            && entry.kind != MessageType::Revoke as i32
            && entry.state.as_ref().is_none_or(|state| state.receipt != done);
        let is_own = *entry.sender == *self.viewer.user_id;
        if is_open && done_receipt::is_done(self.db, id, entry.seq, is_own)? {
            entry.state.get_or_insert_default().receipt = done;
        }
        Ok(())
    }

    /// One of the two users of a conversation has read everything up to a position.
    pub(super) fn conversation_receipt(
        &mut self,
        entry: ConversationReceiptEntry,
        origin: Origin,
    ) -> rusqlite::Result<()> {
        let Some(to) = entry.conversation else { return Ok(()) };
        let id = self.touch(&Name::from(&to))?;
        let moved = rows::move_receipts(self.db, id, (entry.peer_seq, entry.own_seq))?;
        let viewer = std::sync::Arc::clone(&self.viewer.user_id);
        let mut infos = Vec::new();
        for (has_moved, is_self_operated, seq, read_time) in
            [(moved.0, false, entry.peer_seq, entry.peer_time), (moved.1, true, entry.own_seq, entry.own_time)]
        {
            if !has_moved {
                continue;
            }
            rows::set_all_done(self.db, id, seq, &viewer, !is_self_operated)?;
            infos.push(MessageReceiptInfo {
                status: MessageReceiptStatus::Done as i32,
                conversation_id: to.id.clone(),
                conversation_type: to.r#type,
                is_self_operated,
                read_time,
                ..MessageReceiptInfo::default()
            });
        }
        if !infos.is_empty() && self.is_news(origin)? {
            self.raise(Event::ConversationMessageReceiptChanged(ConversationMessageReceiptChangedEvent { infos }));
        }
        Ok(())
    }

    /// The user deleted a message for themselves.
    pub(super) fn message_deletion(&mut self, entry: MessageDeletion, origin: Origin) -> rusqlite::Result<()> {
        let Some(to) = entry.conversation else { return Ok(()) };
        let id = self.touch(&Name::from(&to))?;
        let deleted_row = rows::delete(self.db, id, entry.seq)?;
        self.recent.forget_deleted();
        self.replies_changed(id, &to, entry.seq, deleted)?;
        let Some(row) = deleted_row else { return Ok(()) };
        let message = row.into_message(&self.viewer.user_id, &to);
        let is_news = self.is_news(origin)?;
        let is_own = self.viewer.deleting.tell_message(&Name::from(&to), &message, is_news);
        if is_news && !is_own {
            self.deleted(&to.id, to.r#type, MessageDeleteType::MessageListDeleted, vec![message]);
        }
        Ok(())
    }

    /// Removes a message that was just settled if another device of the user has deleted it before this device knew its position.
    pub(super) fn remove_deleted(&mut self, id: i64, row: i64, entry: &MessageEntry) -> rusqlite::Result<()> {
        let is_deleted = self.recent.has_deleted(self.db)?
            && rows::is_deleted(self.db, id, entry.message_id, (entry.seq, entry.ts))?;
        let Some(gone) = is_deleted.then(|| message::by_id(self.db, row)).transpose()?.flatten() else {
            return Ok(());
        };
        message::remove(self.db, row)?;
        // That all were deleted, the app has heard.
        if rows::hidden(self.db, id, entry.seq)? == Hidden::Message {
            let to = conversation::name(self.db, id)?.to_ref();
            let message = gone.into_message(&self.viewer.user_id, &to);
            self.deleted(&to.id, to.r#type, MessageDeleteType::MessageListDeleted, vec![message]);
        }
        Ok(())
    }

    /// The user deleted all messages of a conversation for themselves. What only this device has stays: if this device has asked for
    /// the deletion, the caller removes what was there by then.
    pub(super) fn cleared(&mut self, entry: ConversationCleared, origin: Origin) -> rusqlite::Result<()> {
        let Some(to) = entry.conversation else { return Ok(()) };
        let name = Name::from(&to);
        let id = self.touch(&name)?;
        rows::set_cleared(self.db, id, entry.cleared_seq)?;
        self.recent.forget_deleted();
        // Another device of the user may have deleted more than this one.
        let own_seq = self.viewer.deleting.tell_conversation(&name, entry.cleared_seq);
        rows::clear(self.db, id, own_seq)?;
        let had_more = rows::clear(self.db, id, entry.cleared_seq)?;
        // A reply that came after the deletion may have been here first.
        self.replies_to_some_changed(id, &to, 1..=entry.cleared_seq, not_found)?;
        if had_more && self.is_news(origin)? && !self.viewer.deleting.hold_conversation(&name) {
            self.deleted(&to.id, to.r#type, MessageDeleteType::ConversationAllMessagesDeleted, Vec::new());
        }
        Ok(())
    }

    /// The messages of a conversation up to a position are no longer kept. A page that was read before may still bring them.
    pub(super) fn expired(&mut self, name: &Name, id: i64, through: u64) -> rusqlite::Result<()> {
        rows::set_cleared(self.db, id, through)?;
        self.recent.forget_deleted();
        rows::clear(self.db, id, through)?;
        self.replies_to_some_changed(id, &name.to_ref(), 1..=through, not_found)
    }

    /// The user deleted all messages of all conversations for themselves.
    pub(super) fn all_cleared(&mut self, all: AllCleared, origin: Origin) -> rusqlite::Result<()> {
        let is_own = self.viewer.deleting.tell_all(all.deletion_number);
        if self.is_news(origin)? && !is_own {
            self.deleted("", 0, MessageDeleteType::AllConversationMessagesDeleted, Vec::new());
        }
        Ok(())
    }

    /// Whether the app does not know of a receipt or a deletion. After a restored backup the feed tells them again, and does not say
    /// which are old: the event about the epoch stands for them.
    fn is_news(&mut self, origin: Origin) -> rusqlite::Result<bool> {
        Ok(origin == Origin::Other && !self.recent.is_told_again(self.db)?)
    }

    /// What this device was deleting is gone, and its own request has failed.
    pub(super) fn gone(&mut self, Gone { name, messages }: Gone) {
        let delete_type = if messages.is_empty() {
            MessageDeleteType::ConversationAllMessagesDeleted
        } else {
            MessageDeleteType::MessageListDeleted
        };
        self.deleted(&name.id, name.kind, delete_type, messages);
    }

    fn deleted(&mut self, id: &str, kind: i32, delete_type: MessageDeleteType, message_list: Vec<Message>) {
        if delete_type == MessageDeleteType::MessageListDeleted
            && let Some(Event::MessageDeleted(event)) = self.last_event()
            && event.message_delete_type == delete_type as i32
            && (event.conversation_id.as_str(), event.conversation_type) == (id, kind)
        {
            event.message_list.extend(message_list);
            return;
        }
        self.raise(Event::MessageDeleted(MessageDeletedEvent {
            conversation_id: id.to_owned(),
            conversation_type: kind,
            is_delete_conversation_all_message: delete_type != MessageDeleteType::MessageListDeleted,
            message_delete_type: delete_type as i32,
            message_list,
        }));
    }
}

#[cfg(test)]
mod tests;
