//! A conversation as an entry of the list, and the list.

use zim_protocol::{
    Conversation, ConversationBaseInfo, ConversationDeleteConfig, ConversationFilterOption,
    ConversationNotificationStatus, ConversationQueryConfig, ConversationTotalUnreadMessageCountQueryConfig,
};

use super::{Chat, Items};
use crate::error::Error;
use crate::zim::Zim;

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

    /// Deletes the conversation from the list of this device alone, until there is a new message.
    ///
    /// # Errors
    /// See [`Zim::delete_conversation`](crate::Zim::delete_conversation).
    pub async fn delete_here(&self) -> Result<(), Error> {
        let config = ConversationDeleteConfig { is_also_delete_server_conversation: false };
        self.zim().delete_conversation(self.id(), self.conversation_type(), config).await.map(drop)
    }

    fn info(&self) -> ConversationBaseInfo {
        let (conversation_id, conversation_type) = (self.id().to_owned(), self.conversation_type() as i32);
        ConversationBaseInfo { conversation_id, conversation_type }
    }
}

impl Zim {
    /// Returns the conversations of the list that the filter selects: pinned ones first, then newest first. The default filter
    /// selects all.
    ///
    /// A conversation that moves while the list is read may come twice or not at all; [`Zim::observe_conversations`] follows
    /// what changes.
    ///
    /// ```no_run
    /// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// use zim_client_sdk::ConversationFilterOption;
    ///
    /// let unread = ConversationFilterOption { is_only_unread_conversation: true, ..Default::default() };
    /// let mut found = zim.conversations(unread);
    /// while let Some(conversation) = found.next().await {
    ///     println!("{}", conversation?.conversation_name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Zim::query_conversation_list`]; also if the last conversation of a page leaves the list meanwhile.
    pub fn conversations(&self, filter: ConversationFilterOption) -> Items<Conversation> {
        let zim = self.clone();
        Items::of_pages(None, move |next_conversation| {
            let (zim, filter) = (zim.clone(), filter.clone());
            async move {
                let config = ConversationQueryConfig { next_conversation, count: 0 };
                let page = zim.query_conversation_list(config, filter).await?.conversation_list;
                let last = page.last().cloned();
                Ok((page, last.map(Some)))
            }
        })
    }

    /// Returns the number of unread messages in all conversations, except those that are set to do not disturb.
    ///
    /// # Errors
    /// See [`Zim::query_conversation_total_unread_message_count`], which also selects by types and marks.
    pub async fn total_unread(&self) -> Result<i64, Error> {
        let config = ConversationTotalUnreadMessageCountQueryConfig::default();
        Ok(self.query_conversation_total_unread_message_count(config).await?.unread_message_count)
    }
}
