//! What can be done with the messages of a conversation.

use zim_protocol::{
    ErrorCode, Message, MessageDeleteConfig, MessageEditConfig, MessagePinConfig, MessageReaction,
    MessageReactionAddConfig, MessageRepliedListQueriedResult, MessageRepliedListQueryConfig,
};

use super::{Chat, SendMessage, present};
use crate::error::Error;

impl Chat {
    /// Prepares a reply to a message of this conversation. It is sent when the result is awaited:
    /// `chat.reply(&message, "yes").await?`. See [`SendMessage`] for options.
    pub fn reply(&self, to: &Message, message: impl Into<Message>) -> SendMessage {
        SendMessage::new(self.clone(), message.into()).replying_to(to)
    }

    /// Returns a page of the replies of a tree, oldest first, and its root. `message` is any message of the tree.
    ///
    /// # Errors
    /// See [`Zim::query_message_replied_list`](crate::Zim::query_message_replied_list).
    pub async fn replies(
        &self,
        message: &Message,
        next_flag: i64,
        count: i64,
    ) -> Result<MessageRepliedListQueriedResult, Error> {
        self.check(message)?;
        let config = MessageRepliedListQueryConfig { next_flag, count };
        self.zim.query_message_replied_list(message, config).await
    }

    /// Replaces the content of an own message; returns the message as it is then.
    ///
    /// ```no_run
    /// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
    /// let bob = zim.peer("bob");
    /// let sent = bob.send("hi").await?;
    /// let edited = bob.edit(&sent, "hello").await?;
    /// assert!(edited.edited_time > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Zim::edit_message`](crate::Zim::edit_message).
    pub async fn edit(&self, message: &Message, content: impl Into<Message>) -> Result<Message, Error> {
        self.check(message)?;
        let edited = Message {
            conversation_id: message.conversation_id.clone(),
            conversation_type: message.conversation_type,
            message_id: message.message_id.clone(),
            message_seq: message.message_seq,
            ..content.into()
        };
        present(self.zim.edit_message(&edited, MessageEditConfig::default()).await?.message, "message")
    }

    /// Pins a message. It replaces the one that was pinned first if there are 10.
    ///
    /// # Errors
    /// See [`Zim::pin_message`](crate::Zim::pin_message).
    pub async fn pin_message(&self, message: &Message) -> Result<(), Error> {
        self.check(message)?;
        self.zim.pin_message(message, true, MessagePinConfig::default()).await
    }

    /// Unpins a message.
    ///
    /// # Errors
    /// See [`Zim::pin_message`](crate::Zim::pin_message).
    pub async fn unpin_message(&self, message: &Message) -> Result<(), Error> {
        self.check(message)?;
        self.zim.pin_message(message, false, MessagePinConfig::default()).await
    }

    /// Returns the pinned messages; the one that was pinned last is the first.
    ///
    /// # Errors
    /// See [`Zim::query_pinned_message_list`](crate::Zim::query_pinned_message_list).
    pub async fn pinned_messages(&self) -> Result<Vec<Message>, Error> {
        Ok(self.zim.query_pinned_message_list(&self.id, self.kind).await?.message_list)
    }

    /// Reacts to a message; returns the reactions of this type.
    ///
    /// # Errors
    /// See [`Zim::add_message_reaction`](crate::Zim::add_message_reaction).
    pub async fn react(&self, message: &Message, reaction_type: &str) -> Result<MessageReaction, Error> {
        self.check(message)?;
        let config = MessageReactionAddConfig::default();
        present(self.zim.add_message_reaction(reaction_type, message, config).await?.reaction, "reaction")
    }

    /// Takes a reaction back; returns the reactions of this type that are left.
    ///
    /// # Errors
    /// See [`Zim::delete_message_reaction`](crate::Zim::delete_message_reaction).
    pub async fn unreact(&self, message: &Message, reaction_type: &str) -> Result<MessageReaction, Error> {
        self.check(message)?;
        present(self.zim.delete_message_reaction(reaction_type, message).await?.reaction, "reaction")
    }

    /// Takes all reactions of this user to a message back.
    ///
    /// # Errors
    /// See [`Zim::delete_message_all_reactions`](crate::Zim::delete_message_all_reactions).
    pub async fn unreact_all(&self, message: &Message) -> Result<(), Error> {
        self.check(message)?;
        self.zim.delete_message_all_reactions(message).await
    }

    /// Sends receipts for messages that ask for them, at most 10. Returns the IDs of those for which none could be sent.
    ///
    /// # Errors
    /// See [`Zim::send_message_receipts_read`](crate::Zim::send_message_receipts_read).
    pub async fn send_receipts(&self, messages: &[Message]) -> Result<Vec<String>, Error> {
        let sent = self.zim.send_message_receipts_read(messages, &self.id, self.kind).await?;
        Ok(sent.error_message_ids)
    }

    /// Deletes messages for this user, on all of their devices. Others keep them.
    ///
    /// # Errors
    /// See [`Zim::delete_messages`](crate::Zim::delete_messages).
    pub async fn delete_messages(&self, messages: &[Message]) -> Result<(), Error> {
        let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
        self.zim.delete_messages(messages, &self.id, self.kind, config).await.map(drop)
    }

    /// Deletes all messages of the conversation for this user, on all of their devices. Others keep them.
    ///
    /// # Errors
    /// See [`Zim::delete_all_message`](crate::Zim::delete_all_message).
    pub async fn delete_all_messages(&self) -> Result<(), Error> {
        let config = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
        self.zim.delete_all_message(&self.id, self.kind, config).await.map(drop)
    }

    /// Checks that a message is one of this conversation.
    pub(super) fn check(&self, message: &Message) -> Result<(), Error> {
        if message.conversation_id == *self.id && message.conversation_type == self.kind as i32 {
            return Ok(());
        }
        Err(Error::new(ErrorCode::CommonModuleParamsInvalid, "the message is not one of this conversation"))
    }
}
