//! Reactions to messages.

use zim_protocol::{
    AddMessageReactionRequest, DeleteMessageAllReactionsRequest, DeleteMessageReactionRequest, Message,
    MessageReactionAddConfig, MessageReactionAddedResult, MessageReactionDeletedResult,
    MessageReactionUserListQueriedResult, MessageReactionUserQueryConfig, QueryMessageReactionUserListRequest,
};

use crate::error::Error;
use crate::message_change::stored;
use crate::zim::Zim;

impl Zim {
    /// Reacts to a message (reference: `addMessageReaction`). `reaction_type` is the app's own word for the reaction, 1 to 32 bytes.
    /// All who see the message get `messageReactionsChanged`, this device included. `increaseCount` adds to what this user has
    /// reacted with the type before.
    ///
    /// The event says whether the user of the device has reacted. A device that does not hold the message knows that if no more
    /// than five users have reacted with a type, or its user is among the first five. Otherwise it does not get the event; its next
    /// query has the reactions.
    ///
    /// # Errors
    /// - 6000280: this user has reacted with this type, and `increaseCount` is 0.
    /// - 6000279: the message was revoked.
    /// - 6000284: the other user has blocked this one.
    /// - 6000541: this user is muted in the group.
    /// - 6000001: there is no such message, it is older than seven days, or it has 100 types of reactions.
    pub fn add_message_reaction(
        &self,
        reaction_type: &str,
        message: &Message,
        config: MessageReactionAddConfig,
    ) -> impl Future<Output = Result<MessageReactionAddedResult, Error>> + Send + 'static + use<> {
        let reaction_type = reaction_type.to_owned();
        let answer = stored(message).map(|message| {
            self.call(AddMessageReactionRequest { reaction_type, message: Some(message), config: Some(config) })
        });
        async move { answer?.await }
    }

    /// Takes a reaction of this user back (reference: `deleteMessageReaction`). All who see the message get
    /// `messageReactionsChanged`, this device included.
    ///
    /// # Errors
    /// - 6000279: the message was revoked, and its reactions are gone with it.
    /// - 6000001: there is no such message, or this user has not reacted with this type.
    pub fn delete_message_reaction(
        &self,
        reaction_type: &str,
        message: &Message,
    ) -> impl Future<Output = Result<MessageReactionDeletedResult, Error>> + Send + 'static + use<> {
        let reaction_type = reaction_type.to_owned();
        let answer = stored(message)
            .map(|message| self.call(DeleteMessageReactionRequest { reaction_type, message: Some(message) }));
        async move { answer?.await }
    }

    /// Takes all reactions of this user to a message back (reference: `deleteMessageAllReactions`). All who see the message get
    /// `messageReactionsChanged` for each type, this device included. Without a reaction nothing changes.
    ///
    /// # Errors
    /// - 6000279: the message was revoked, and its reactions are gone with it.
    /// - 6000001: there is no such message.
    pub fn delete_message_all_reactions(
        &self,
        message: &Message,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let answer =
            stored(message).map(|message| self.call(DeleteMessageAllReactionsRequest { message: Some(message) }));
        async move { answer?.await.map(drop) }
    }

    /// Returns the users who reacted to a message with one type, in the order in which they did (reference:
    /// `queryMessageReactionUserList`).
    ///
    /// # Errors
    /// 6000001: there is no such message, or `config` has no type or a negative number.
    pub async fn query_message_reaction_user_list(
        &self,
        message: &Message,
        config: MessageReactionUserQueryConfig,
    ) -> Result<MessageReactionUserListQueriedResult, Error> {
        let message = Some(stored(message)?);
        self.call(QueryMessageReactionUserListRequest { message, config: Some(config) }).await
    }
}
