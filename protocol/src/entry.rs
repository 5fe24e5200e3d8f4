use prost::Message as _;

use crate::v1::{
    ConversationRef, Message, MessageDirection, MessageEntry, MessageFlag, MessageReceiptStatus, MessageSentStatus,
};

/// The `orderKey` of a stored message is its position times this. Messages that are not stored yet get keys in between.
pub const ORDER_KEY_STEP: i64 = 100;

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
        let receipt =
            if self.has(MessageFlag::Receipt) { MessageReceiptStatus::Processing } else { MessageReceiptStatus::None };
        let direction = if self.sender == viewer { MessageDirection::Send } else { MessageDirection::Receive };
        let is_server_message = self.has(MessageFlag::Server);
        let content = Message::decode(self.content)?;
        Ok(Message {
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
            ..content
        })
    }
}
