use prost::Message as _;

use crate::v1::{
    CombineMessageLiteInfo, ConversationRef, CustomMessageLiteInfo, Message, MessageDirection, MessageEntry,
    MessageFlag, MessageLiteInfo, MessageReaction, MessageReactionUserInfo, MessageReceiptStatus, MessageSentStatus,
    MessageState, MessageType, MultipleMessageLiteInfo, ReactionState, TextMessageLiteInfo, message::Body,
    message_lite_info,
};

/// The `orderKey` of a stored message is its position times this. Messages that are not stored yet get keys in between.
pub const ORDER_KEY_STEP: i64 = 100;

/// How many places in the list of members of a group a change of its members takes: a member's place is the change that let them in,
/// times this, and their index among its users.
pub const PLACES_OF_CHANGE: i64 = 128;

impl MessageEntry {
    /// Whether this flag is set.
    pub fn has(&self, flag: MessageFlag) -> bool {
        self.flags & flag as u32 != 0
    }

    /// Returns the message as `viewer` sees it in `conversation`. An entry without content becomes a message without a
    /// body.
    ///
    /// # Errors
    /// The content is not an encoded [`Message`].
    pub fn into_message(self, viewer: &str, conversation: &ConversationRef) -> Result<Message, prost::DecodeError> {
        let seq = i64::try_from(self.seq).unwrap_or(i64::MAX);
        // A revoked message asks for no receipt, whoever has read it before.
        let asks_for_receipt = self.has(MessageFlag::Receipt) && self.kind != MessageType::Revoke as i32;
        let receipt = if asks_for_receipt { MessageReceiptStatus::Processing } else { MessageReceiptStatus::None };
        let direction = if self.sender == viewer { MessageDirection::Send } else { MessageDirection::Receive };
        let is_server_message = self.has(MessageFlag::Server);
        let is_broadcast_message = self.has(MessageFlag::Broadcast);
        let is_group_targeted_message = self.has(MessageFlag::TargetOnly) || self.has(MessageFlag::TargetExcept);
        let content = Message::decode(self.content)?;
        let mut message = Message {
            r#type: self.kind,
            message_id: self.message_id.to_string(),
            local_message_id: crate::id::hex(&self.client_key),
            message_seq: seq,
            sender_user_id: self.sender,
            conversation_id: conversation.id.clone(),
            conversation_type: conversation.r#type,
            direction: direction as i32,
            sent_status: MessageSentStatus::Success as i32,
            timestamp: self.ts,
            order_key: seq.saturating_mul(ORDER_KEY_STEP),
            receipt_status: receipt as i32,
            is_server_message,
            is_broadcast_message,
            is_group_targeted_message,
            ..content
        };
        if let Some(state) = self.state {
            state.show_in(&mut message);
        }
        Ok(message)
    }
}

impl MessageState {
    /// Sets the fields of a message that tell what happened to it.
    pub fn show_in(self, message: &mut Message) {
        message.edited_time = self.edited_time;
        message.editor_user_id = self.editor;
        message.pinned_time = self.pinned_time;
        message.pinned_user_id = self.pinned_by;
        message.replied_info = self.replied_info.map(Box::new);
        message.root_replied_count = self.replied_count;
        message.reactions = self.reactions.into_iter().map(|reaction| reaction.into_reaction(message)).collect();
        if self.receipt != MessageReceiptStatus::None as i32 {
            message.receipt_status = self.receipt;
        }
    }
}

impl ReactionState {
    /// Returns the reactions of a type as the viewer sees them.
    pub fn into_reaction(self, message: &Message) -> MessageReaction {
        MessageReaction {
            reaction_type: self.reaction_type,
            conversation_id: message.conversation_id.clone(),
            conversation_type: message.conversation_type,
            message_id: message.message_id.clone(),
            total_count: self.user_count,
            is_self_included: self.own_count > 0,
            user_list: self.user_list.into_iter().map(|user_id| MessageReactionUserInfo { user_id }).collect(),
            sum_count: self.sum_count,
        }
    }
}

impl Message {
    /// Returns what a reply shows of the message, whose type is `kind`. A message of a type that cannot be replied to has none.
    pub fn lite(&self, kind: i32) -> Option<MessageLiteInfo> {
        use message_lite_info::Body as Lite;
        let body = match self.body.as_ref()? {
            Body::Text(text) => Lite::Text(TextMessageLiteInfo { message: text.message.clone() }),
            Body::Custom(custom) => Lite::Custom(CustomMessageLiteInfo {
                message: custom.message.clone(),
                searched_content: custom.searched_content.clone(),
                sub_type: custom.sub_type,
            }),
            Body::Combine(combine) => {
                Lite::Combine(CombineMessageLiteInfo { title: combine.title.clone(), summary: combine.summary.clone() })
            }
            Body::Image(image) => Lite::Image((&**image).into()),
            Body::File(file) => Lite::File((&**file).into()),
            Body::Audio(audio) => Lite::Audio((&**audio).into()),
            Body::Video(video) => Lite::Video((&**video).into()),
            Body::Multiple(multiple) => {
                Lite::Multiple(MultipleMessageLiteInfo { message_info_list: multiple.message_info_list.clone() })
            }
            _ => return None,
        };
        Some(MessageLiteInfo { r#type: kind, body: Some(body) })
    }
}
