//! Revoking.

use std::pin::Pin;

use zim_protocol::{Message, MessageRevokeConfig, PushConfig};

use super::{Chat, present};
use crate::error::Error;

/// A message that is about to be revoked. That happens when this is awaited, and the result is the message as it is then.
///
/// # Errors
/// 6000001: the message is not one of this conversation. For others see [`Zim::revoke_message`](crate::Zim::revoke_message).
#[must_use = "a message is revoked when this is awaited"]
#[derive(Debug)]
pub struct Revoke {
    chat: Chat,
    /// What says which message it is.
    message: Message,
    config: MessageRevokeConfig,
}

impl Revoke {
    pub(super) fn new(chat: Chat, message: &Message) -> Self {
        let message = Message {
            conversation_id: message.conversation_id.clone(),
            conversation_type: message.conversation_type,
            message_id: message.message_id.clone(),
            message_seq: message.message_seq,
            ..Message::default()
        };
        Self { chat, message, config: MessageRevokeConfig::default() }
    }

    /// Sets data of the app that the revoked message has, up to 200 bytes.
    pub fn extended_data(mut self, data: impl Into<String>) -> Self {
        self.config.revoke_extended_data = data.into();
        self
    }

    /// Sets what an offline push about it shows.
    pub fn push_config(mut self, config: PushConfig) -> Self {
        self.config.push_config = Some(config);
        self
    }
}

impl IntoFuture for Revoke {
    type Output = Result<Message, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { chat, message, config } = self;
        if let Err(error) = chat.check(&message) {
            return Box::pin(std::future::ready(Err(error)));
        }
        let revoked = chat.zim.revoke_message(&message, config);
        Box::pin(async move { present(revoked.await?.message, "message") })
    }
}
