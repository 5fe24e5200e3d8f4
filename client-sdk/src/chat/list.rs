//! A conversation as an entry of the list.

use zim_protocol::{ConversationBaseInfo, ConversationDeleteConfig, ConversationNotificationStatus};

use super::Chat;
use crate::error::Error;

impl Chat {
    /// Pins the conversation to the top of the list, on all devices of this user.
    ///
    /// # Errors
    /// See [`Zim::update_conversation_pinned_state`](crate::Zim::update_conversation_pinned_state).
    pub async fn pin(&self) -> Result<(), Error> {
        self.zim().update_conversation_pinned_state(true, self.id(), self.conversation_type()).await.map(drop)
    }

    /// Unpins the conversation.
    ///
    /// # Errors
    /// See [`Zim::update_conversation_pinned_state`](crate::Zim::update_conversation_pinned_state).
    pub async fn unpin(&self) -> Result<(), Error> {
        self.zim().update_conversation_pinned_state(false, self.id(), self.conversation_type()).await.map(drop)
    }

    /// Sets whether the conversation disturbs, on all devices of this user. If not, its unread messages are not in the total.
    ///
    /// # Errors
    /// 6000603: the server has no such conversation.
    pub async fn set_do_not_disturb(&self, is_quiet: bool) -> Result<(), Error> {
        let status = match is_quiet {
            true => ConversationNotificationStatus::DoNotDisturb,
            false => ConversationNotificationStatus::Notify,
        };
        let kind = self.conversation_type();
        self.zim().set_conversation_notification_status(status, self.id(), kind).await.map(drop)
    }

    /// Gives the conversation one of the marks 1 to 20, on all devices of this user.
    ///
    /// # Errors
    /// See [`Zim::set_conversation_mark`](crate::Zim::set_conversation_mark).
    pub async fn mark(&self, mark: i64) -> Result<(), Error> {
        self.zim().set_conversation_mark(mark, true, vec![self.info()]).await.map(drop)
    }

    /// Removes a mark.
    ///
    /// # Errors
    /// See [`Zim::set_conversation_mark`](crate::Zim::set_conversation_mark).
    pub async fn unmark(&self, mark: i64) -> Result<(), Error> {
        self.zim().set_conversation_mark(mark, false, vec![self.info()]).await.map(drop)
    }

    /// Sets what the user has written and not sent; empty: nothing. It never leaves this device.
    ///
    /// # Errors
    /// See [`Zim::set_conversation_draft`](crate::Zim::set_conversation_draft).
    pub async fn set_draft(&self, draft: &str) -> Result<(), Error> {
        self.zim().set_conversation_draft(draft, self.id(), self.conversation_type()).await.map(drop)
    }

    /// Deletes the conversation from the list on all devices of this user, until there is a new message. Its messages stay.
    ///
    /// # Errors
    /// See [`Zim::delete_conversation`](crate::Zim::delete_conversation), which can also delete it on this device only.
    pub async fn delete(&self) -> Result<(), Error> {
        let config = ConversationDeleteConfig { is_also_delete_server_conversation: true };
        self.zim().delete_conversation(self.id(), self.conversation_type(), config).await.map(drop)
    }

    fn info(&self) -> ConversationBaseInfo {
        let (conversation_id, conversation_type) = (self.id().to_owned(), self.conversation_type() as i32);
        ConversationBaseInfo { conversation_id, conversation_type }
    }
}
