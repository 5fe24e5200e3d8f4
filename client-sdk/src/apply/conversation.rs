//! Conversations: heads, and what the app saw of a conversation.

use zim_protocol::{
    AllConversationsDeleted, Conversation, ConversationHead, ConversationNotificationStatus, ConversationSetting,
    ConversationsAllDeletedEvent, Event,
};

use super::Transaction;
use crate::engine::Origin;
use crate::store::conversation::{self, set_disabled};
use crate::store::{conversation_setting, group, message_change};
use crate::types::Name;

/// What only this device does to its list.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Deletes a conversation from the list of this device. With `is_everywhere` only if the server does not have it.
    Hide { name: Name, is_everywhere: bool },
    /// Deletes a conversation from the list, which the server has done: something that only this device has may have brought
    /// it back since.
    HideBelow(Name, u64),
    /// Deletes all conversations from the list.
    HideAll {
        /// What the list had when the server was asked to delete all: each conversation with the position after the last one that
        /// this device knew; `None`: only this device has it. Without the list, all are deleted on this device alone.
        seen: Option<Vec<(Name, Option<u64>)>>,
    },
    /// Sets a draft.
    Draft {
        /// The conversation.
        name: Name,
        /// The text; empty: none.
        draft: String,
    },
}

impl Transaction<'_> {
    pub(super) fn head(&mut self, head: ConversationHead) -> rusqlite::Result<()> {
        let Some(to) = head.conversation else { return Ok(()) };
        let id = self.touch(&Name::from(&to))?;
        if let Some(peer) = head.peer {
            self.store_incidental_profile(&peer)?;
        }
        conversation::begin_stay(self.db, id, head.from_rev)?;
        if let Some(info) = head.group {
            group::write(self.db, &info)?;
            group::write_own(self.db, &to.id, (head.role, head.mute_expired_time))?;
            set_disabled(self.db, id, head.has_left)?;
            if head.role == 0 {
                self.forget_members(&to.id)?;
            }
        }
        if self.recent.has_deleted(self.db)? {
            // All that there is may have been deleted on this device, which the server does not know.
            let through = message_change::cleared_here(self.db, id)?;
            if head.end_seq > 0 && head.end_seq <= through.0 && head.last_ts <= through.1 {
                self.uncounted.entry(Name::from(&to)).or_default().through = Some(through);
            }
        }
        if let Some(mut last) = head.last_message.filter(|last| !last.content.is_empty()) {
            self.complete_reply(id, &mut last)?;
            self.complete_receipt(id, &mut last)?;
            let news = self.news(id, &to, &last)?;
            self.store_message(id, &to, &last)?;
            self.tell(news.into_iter().collect());
        }
        Ok(())
    }
}

impl Transaction<'_> {
    /// Applies the settings of a conversation. The event follows from the row.
    pub(super) fn setting(&mut self, setting: &ConversationSetting) -> rusqlite::Result<()> {
        let Some(to) = &setting.conversation else { return Ok(()) };
        let id = self.touch(&Name::from(to))?;
        if conversation_setting::write(self.db, id, setting)? && setting.is_deleted_with_all {
            self.quiet.insert(id);
        }
        Ok(())
    }

    /// All conversations were deleted; the settings of each have come before.
    pub(super) fn all_deleted(&mut self, all: &AllConversationsDeleted, origin: Origin) -> rusqlite::Result<()> {
        if conversation_setting::advance_all_deleted(self.db, all.number)? && origin == Origin::Other {
            self.raise(Event::ConversationsAllDeleted(ConversationsAllDeletedEvent { count: all.count }));
        }
        Ok(())
    }

    /// Changes what only this device has.
    pub(super) fn edit(&mut self, edit: Edit) -> rusqlite::Result<()> {
        match edit {
            Edit::Hide { name, is_everywhere } => {
                let id = self.touch(&name)?;
                // What the server has got meanwhile is not deleted there.
                if !(is_everywhere && conversation_setting::is_on_server(self.db, id)?) {
                    conversation_setting::hide_here(self.db, id)?;
                }
            }
            Edit::HideBelow(name, below) => {
                let id = self.touch(&name)?;
                conversation_setting::hide_below(self.db, id, below)?;
            }
            Edit::HideAll { seen } => {
                let is_everywhere = seen.is_some();
                let all = seen.map_or_else(|| conversation_setting::listed(self.db), Ok)?;
                for (name, end) in all {
                    let id = self.touch(&name)?;
                    match end.filter(|_| is_everywhere) {
                        Some(end) => conversation_setting::hide_below(self.db, id, end)?,
                        // The server has got it meanwhile, with a message that it did not delete.
                        None if is_everywhere && conversation_setting::is_on_server(self.db, id)? => continue,
                        None => conversation_setting::hide_here(self.db, id)?,
                    }
                    self.quiet.insert(id);
                }
            }
            // Nothing needs a row.
            Edit::Draft { name, draft } if draft.is_empty() && conversation::id(self.db, &name)?.is_none() => {}
            Edit::Draft { name, draft } => {
                let id = self.touch(&name)?;
                conversation_setting::set_draft(self.db, id, &draft, self.viewer.now_ms)?;
            }
        }
        Ok(())
    }

    /// Removes the settings that the server did not tell since its positions were reset.
    pub(super) fn sweep_settings(&mut self) -> rusqlite::Result<()> {
        for name in conversation_setting::sweep(self.db)? {
            self.touch(&name)?;
        }
        Ok(())
    }
}

/// Returns what a conversation adds to the total of unread messages.
pub(super) fn disturbing(conversation: Option<&Conversation>) -> i64 {
    let quiet = ConversationNotificationStatus::DoNotDisturb as i32;
    conversation.filter(|shown| shown.notification_status != quiet).map_or(0, |shown| shown.unread_message_count)
}

#[cfg(test)]
mod tests;
