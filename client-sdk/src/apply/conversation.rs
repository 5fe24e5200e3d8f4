//! Conversations: heads, and what the app saw of a conversation.

use zim_protocol::{Conversation, ConversationHead, ConversationNotificationStatus};

use super::Transaction;
use crate::store::conversation::set_disabled;
use crate::store::group;
use crate::types::Name;

impl Transaction<'_> {
    pub(super) fn head(&mut self, head: ConversationHead) -> rusqlite::Result<()> {
        let Some(to) = head.conversation else { return Ok(()) };
        let id = self.touch(&Name::from(&to))?;
        if let Some(peer) = head.peer {
            self.store_incidental_profile(peer)?;
        }
        if let Some(info) = head.group {
            group::write(self.db, &info)?;
            group::write_own(self.db, &to.id, (head.role, head.mute_expired_time))?;
            set_disabled(self.db, id, head.has_left)?;
        }
        if let Some(last) = head.last_message.filter(|last| !last.content.is_empty()) {
            self.store_message(id, &to, &last)?;
        }
        Ok(())
    }
}

/// Returns what a conversation adds to the total of unread messages.
pub(super) fn disturbing(conversation: Option<&Conversation>) -> i64 {
    let quiet = ConversationNotificationStatus::DoNotDisturb as i32;
    conversation.filter(|shown| shown.notification_status != quiet).map_or(0, |shown| shown.unread_message_count)
}
