//! Changing messages that were sent: revoking, editing, pinning, replying.

use zim_protocol::{
    CombineMessage, CombineMessageDetailQueriedResult, ConversationType, EditMessageRequest, Message,
    MessageEditConfig, MessageEditedResult, MessagePinConfig, MessageRepliedInfo, MessageRepliedInfoState,
    MessageRepliedListQueriedResult, MessageRepliedListQueryConfig, MessageRevokeConfig, MessageRevokedResult,
    MessageSendConfig, MessageSentResult, PinMessageRequest, PinnedMessageListQueriedResult,
    QueryCombineMessageDetailRequest, QueryMessageRepliedListRequest, QueryPinnedMessageListRequest,
    RevokeMessageRequest,
};

use crate::account::logged_out;
use crate::error::Error;
use crate::media::content;
use crate::message::{Body, MessageSendNotification, conversation_name, invalid, submit};
use crate::types::Name;
use crate::zim::Zim;

/// Returns what says which message it is; the rest of the message does not travel.
pub(crate) fn stored(message: &Message) -> Result<Message, Error> {
    let kind = ConversationType::try_from(message.conversation_type).unwrap_or(ConversationType::Unknown);
    conversation_name(&message.conversation_id, kind)?;
    if message.message_id.is_empty() && message.message_seq <= 0 {
        return Err(invalid("the message has neither a messageID nor a messageSeq: the server has not stored it"));
    }
    Ok(Message {
        conversation_id: message.conversation_id.clone(),
        conversation_type: message.conversation_type,
        message_id: message.message_id.clone(),
        message_seq: message.message_seq,
        ..Message::default()
    })
}

impl Zim {
    /// Revokes an own message (reference: `revokeMessage`). It stays in its place as a message of type 31, without its
    /// content; of a text, `originalTextMessageContent` remains. The other user's devices and the user's other devices
    /// get `messageRevokeReceived`, if they hold the message. If it was unread there, it no longer counts.
    ///
    /// `message` needs its conversation, and its `messageID` or `messageSeq`.
    ///
    /// # Errors
    /// - 6000278: it was sent too long ago: two minutes, unless the server has another `revoke_window_s`.
    /// - 6000279: it has been revoked already.
    /// - 6000541: another user sent it.
    /// - 6000001: there is no such message.
    pub fn revoke_message(
        &self,
        message: &Message,
        config: MessageRevokeConfig,
    ) -> impl Future<Output = Result<MessageRevokedResult, Error>> + Send + 'static + use<> {
        let answer = stored(message)
            .map(|message| self.call(RevokeMessageRequest { message: Some(message), config: Some(config) }));
        async move { answer?.await }
    }

    /// Replaces the content of an own text, custom or multiple message (reference: `editMessage`): its body, `extendedData` and
    /// mentions. It keeps its place, its time and its type, and gets `editedTime` and `editorUserID`. The other devices of all
    /// who see it get `messageEdited`, if they hold the message. Replies to it show the new content
    /// (`messageRepliedInfoChanged`).
    ///
    /// `message` is the message with its new content. It needs its conversation, and its `messageID` or `messageSeq`. Files in it must
    /// have a `fileDownloadUrl`: an edit uploads nothing. Parts that could not be sent (`failedIndexList`) are left out.
    ///
    /// # Errors
    /// - 6000285: another user sent it, or it is of a type that cannot be edited.
    /// - 6000286: it was sent more than 24 hours ago, unless the server has another `edit_window_s`.
    /// - 6000279: it was revoked.
    /// - 6000284: the other user has blocked this one.
    /// - 6000541: this user is muted in the group.
    /// - 6000001: there is no such message, or the content could not be sent either.
    pub fn edit_message(
        &self,
        message: &Message,
        config: MessageEditConfig,
    ) -> impl Future<Output = Result<MessageEditedResult, Error>> + Send + 'static + use<> {
        let answer = stored(message).map(|named| {
            let mut message = Message {
                r#type: message.r#type,
                body: message.body.clone(),
                extended_data: message.extended_data.clone(),
                mentioned_user_ids: message.mentioned_user_ids.clone(),
                is_mention_all: message.is_mention_all,
                ..named
            };
            content::strip(&mut message);
            self.call(EditMessageRequest { message: Some(message), config: Some(config) })
        });
        async move { answer?.await }
    }

    /// Pins a message to its conversation, or unpins it (reference: `pinMessage`). Everybody in the conversation sees it, and all
    /// their devices get `messagePinStatusChanged`, this one included. A conversation has at most 10 pinned messages: the
    /// next one replaces the one that was pinned first.
    ///
    /// # Errors
    /// - 6000287: there are 10, and `disableAutoReplace` is set.
    /// - 6000208: the message to unpin is not pinned.
    /// - 6000279: it was revoked.
    /// - 6000284: the other user has blocked this one.
    /// - 6000541: this user is muted in the group.
    /// - 6000001: there is no such message.
    pub fn pin_message(
        &self,
        message: &Message,
        is_pinned: bool,
        config: MessagePinConfig,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let answer = stored(message)
            .map(|message| self.call(PinMessageRequest { message: Some(message), is_pinned, config: Some(config) }));
        async move { answer?.await.map(drop) }
    }

    /// Returns the pinned messages of a conversation; the one that was pinned last is the first.
    ///
    /// # Errors
    /// 6000001: `conversationType` is neither 0 nor 2.
    pub async fn query_pinned_message_list(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> Result<PinnedMessageListQueriedResult, Error> {
        conversation_name(conversation_id, conversation_type)?;
        let request = QueryPinnedMessageListRequest {
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
        };
        self.call(request).await
    }

    /// Sends a message that replies to another one of the same conversation (reference: `replyMessage`). It is sent as
    /// [`Zim::send_message`] sends it, and has `repliedInfo`. The first message of such a tree counts all replies in
    /// `rootRepliedCount`; who holds it gets `messageRepliedCountChanged`.
    ///
    /// # Errors
    /// Those of [`Zim::send_message`], and 6000279: the message that is replied to was revoked; 6000001: there is none, or it
    /// is of a type that nobody can reply to.
    pub fn reply_message(
        &self,
        message: Message,
        to_original_message: &Message,
        config: MessageSendConfig,
        notification: MessageSendNotification,
    ) -> impl Future<Output = Result<MessageSentResult, Error>> + Send + 'static + use<> {
        let original = to_original_message;
        let submitted = stored(original).and_then(|_| self.account()).and_then(|account| {
            let mut shown = Message { body: original.body.clone(), ..Message::default() };
            content::strip(&mut shown);
            let replied_info = MessageRepliedInfo {
                state: MessageRepliedInfoState::Normal as i32,
                message_info: shown.lite(original.r#type),
                sender_user_id: original.sender_user_id.clone(),
                sent_time: original.timestamp,
                message_id: original.message_id.clone(),
                message_seq: original.message_seq,
            };
            let name = Name::new(original.conversation_type, original.conversation_id.as_str());
            let message = Message { replied_info: Some(Box::new(replied_info)), ..message };
            submit(&account, message, name, config, notification)
        });
        async move { submitted?.await.map_err(|_| logged_out())? }
    }

    /// Returns a page of the direct and indirect replies of a tree, oldest first, and its root (reference:
    /// `queryMessageRepliedList`). `message` is any message of the tree.
    ///
    /// # Errors
    /// 6000001: there is no such message, or `config` has a negative number.
    pub async fn query_message_replied_list(
        &self,
        message: &Message,
        config: MessageRepliedListQueryConfig,
    ) -> Result<MessageRepliedListQueriedResult, Error> {
        let message = Some(stored(message)?);
        self.call(QueryMessageRepliedListRequest { message, config: Some(config) }).await
    }

    /// Returns a combined message with the messages that it combines (reference: `queryCombineMessageDetail`). One of these may
    /// be combined itself: ask for its detail in the same way.
    ///
    /// # Errors
    /// 6000001: there is no such message, or it is not a combined one.
    pub async fn query_combine_message_detail(
        &self,
        message: &Message,
    ) -> Result<CombineMessageDetailQueriedResult, Error> {
        let found = self.call(detail_request(message)?).await?.message.unwrap_or_default();
        // What this device knows of the message has not travelled.
        let message = Message { r#type: found.r#type, body: found.body, ..message.clone() };
        Ok(CombineMessageDetailQueriedResult { message: Some(message) })
    }
}

/// Names the message to the server: by its ID, or if another one combines it, by the ID of what it combines.
fn detail_request(message: &Message) -> Result<QueryCombineMessageDetailRequest, Error> {
    let Some(Body::Combine(combine)) = &message.body else {
        return Err(invalid("the message is not a combined one"));
    };
    let combine = CombineMessage { combine_id: combine.combine_id.clone(), ..CombineMessage::default() };
    let message_id = message.message_id.clone();
    let named = Message { message_id, body: Some(Body::Combine(Box::new(combine))), ..Message::default() };
    Ok(QueryCombineMessageDetailRequest { message: Some(named) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_for_a_detail_has_nothing_but_the_name_of_the_message() {
        let combine = |title: &str, message_list| {
            let (combine_id, title) = ("7-1".to_owned(), title.to_owned());
            Some(Body::Combine(Box::new(CombineMessage {
                combine_id,
                title,
                message_list,
                ..CombineMessage::default()
            })))
        };
        let message = Message {
            message_id: "7".to_owned(),
            message_seq: 3,
            conversation_id: "bob".to_owned(),
            local_extended_data: "a note of mine".to_owned(),
            body: combine("plans", vec![Message::text("hi")]),
            ..Message::default()
        };
        let named = Message { message_id: "7".to_owned(), body: combine("", Vec::new()), ..Message::default() };
        assert_eq!(detail_request(&message).unwrap().message, Some(named));
        assert!(detail_request(&Message::text("hi")).is_err());
    }
}
