//! Sending.

use std::pin::Pin;

use zim_protocol::{Message, MessagePriority, MessageSendConfig, PushConfig};

use super::{Chat, present};
use crate::error::Error;
use crate::message::MessageSendNotification;
use crate::types::strings;

/// A message that is about to be sent, with its options. It is sent when this is awaited, and the result is the message as
/// the server stored it.
///
/// ```no_run
/// # async fn example(zim: &zim_client_sdk::Zim) -> Result<(), zim_client_sdk::Error> {
/// use zim_client_sdk::{Message, MessagePriority};
///
/// let sent = zim.peer("bob").send(Message::custom("{\"score\":3}", 7)).priority(MessagePriority::High).await?;
/// println!("{} {}", sent.message_id, sent.message_seq);
/// # Ok(())
/// # }
/// ```
///
/// Messages take their places in the queue in the order in which they are awaited. To send several at once, in order, call
/// [`IntoFuture::into_future`] on each, which starts it, and await the futures afterwards. Dropping a future drops only the
/// answer.
///
/// # Errors
/// See [`Zim::send_message`](crate::Zim::send_message). The error has the message that failed
/// ([`Error::failed_message`]): send it with [`SendMessage::retry`].
#[must_use = "a message is sent when this is awaited"]
#[derive(Debug)]
pub struct SendMessage {
    chat: Chat,
    message: Message,
    config: MessageSendConfig,
    notification: MessageSendNotification,
    /// The message that it replies to.
    replied: Option<Box<Message>>,
}

impl SendMessage {
    pub(super) fn new(chat: Chat, message: Message) -> Self {
        let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
        Self { chat, message, config, notification, replied: None }
    }

    pub(super) fn replying_to(mut self, message: &Message) -> Self {
        self.replied = Some(Box::new(message.clone()));
        self
    }

    /// Sets data of the app that travels with the message, up to 1 KB.
    pub fn extended_data(mut self, data: impl Into<String>) -> Self {
        self.message.extended_data = data.into();
        self
    }

    /// Sets data of the app that stays on this device, beside the message.
    pub fn local_extended_data(mut self, data: impl Into<String>) -> Self {
        self.message.local_extended_data = data.into();
        self
    }

    /// Mentions users. They are notified even if they set the conversation to do not disturb.
    pub fn mention<I>(mut self, user_ids: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.message.mentioned_user_ids = strings(user_ids);
        self
    }

    /// Mentions everybody in the conversation.
    pub fn mention_all(mut self) -> Self {
        self.message.is_mention_all = true;
        self
    }

    /// Sets whether mentioned users are notified in spite of do not disturb. Default: true.
    pub fn notify_mentioned(mut self, notify: bool) -> Self {
        self.config.is_notify_mentioned_users = Some(notify);
        self
    }

    /// Sets the priority. Default: low.
    pub fn priority(mut self, priority: MessagePriority) -> Self {
        self.config.priority = priority as i32;
        self
    }

    /// Asks for a receipt.
    pub fn receipt(mut self) -> Self {
        self.config.has_receipt = true;
        self
    }

    /// The message does not count as unread.
    pub fn disable_unread(mut self) -> Self {
        self.config.disable_unread_message_count = true;
        self
    }

    /// Sets what an offline push of the message shows.
    pub fn push_config(mut self, config: PushConfig) -> Self {
        self.config.push_config = Some(config);
        self
    }

    /// Sends a message again whose sending failed: [`Error::failed_message`], or one of the history with `sentStatus`
    /// Failed. It is never stored twice.
    pub fn retry(mut self) -> Self {
        self.config.is_retry_send = true;
        self
    }

    /// Replaces all options that the reference's config has. [`SendMessage::extended_data`], mentions and
    /// [`SendMessage::on_attached`] stay.
    pub fn config(mut self, config: MessageSendConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets a callback that is called when the message is in its conversation, before it is sent: the time to show it.
    pub fn on_attached(mut self, attached: impl FnOnce(&Message) + Send + 'static) -> Self {
        self.notification = self.notification.on_message_attached(attached);
        self
    }

    /// Sets a callback about the upload of the file of a media message: it gets the message, the bytes that have moved, and the
    /// size of the file.
    pub fn on_progress(mut self, progress: impl FnMut(&Message, i64, i64) + Send + 'static) -> Self {
        self.notification = self.notification.on_media_uploading_progress(progress);
        self
    }
}

impl IntoFuture for SendMessage {
    type Output = Result<Message, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { chat, message, config, notification, replied } = self;
        if let Some(replied) = replied {
            if let Err(error) = chat.check(&replied) {
                return Box::pin(std::future::ready(Err(error)));
            }
            let sent = chat.zim.reply_message(message, &replied, config, notification);
            return Box::pin(async move { present(sent.await?.message, "message") });
        }
        let sent = chat.zim.send_message(message, &chat.id, chat.kind, config, notification);
        Box::pin(async move { present(sent.await?.message, "message") })
    }
}
