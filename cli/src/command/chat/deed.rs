//! What a chat does: sends messages, changes those that were sent, and says what was read and who is writing.

use std::path::Path;

use futures_util::future::LocalBoxFuture;
use tokio::sync::oneshot;
use zim_client_sdk::{MessageSendNotification, Zim};
use zim_protocol::{
    MediaDownloadConfig, MediaFileType, Message, MessageDirection, MessageEditConfig, MessageReactionAddConfig,
    MessageReceiptStatus, MessageRevokeConfig, MessageSendConfig, MessageSentResult, SendingMessageCancelConfig,
};

use super::typed::{Change, Outgoing, message};
use crate::command::media;
use crate::deliver::deliver;
use crate::describe;
use crate::exit::Failure;
use crate::target::Target;
use crate::text::preview;

/// The limit of messages in a request for receipts.
const MAX_RECEIPTS: usize = 10;

/// The number of a line, and the message that was made of it.
pub(super) type Sending = LocalBoxFuture<'static, (usize, Result<MessageSentResult, Failure>)>;
/// A change, and what is to be said about it.
pub(super) type Changing = LocalBoxFuture<'static, Result<Option<String>, Failure>>;
/// Something whose result nobody waits for.
pub(super) type Telling = LocalBoxFuture<'static, ()>;

/// A typed line that is to be sent.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its place in the input.
    pub(super) number: usize,
    pub(super) what: Outgoing,
}

/// The upload that runs: the message comes when it is in its conversation.
pub(super) type Upload = oneshot::Receiver<Message>;

/// Begins to send a line. Returns the upload, too, if it is a file.
pub(super) fn send(with: &Target, zim: &Zim, line: Waiting) -> (Sending, Option<Upload>) {
    let (with, zim, number) = (with.clone(), zim.clone(), line.number);
    // What is said in a room is not kept for each member.
    let config = MessageSendConfig { has_receipt: !with.room, ..MessageSendConfig::default() };
    match line.what {
        Outgoing::Text(text) => {
            let sending = deliver(zim, message(text, &with), with, config);
            (Box::pin(async move { (number, sending.await.map_err(Failure::from)) }), None)
        }
        Outgoing::Reply(seq, text) => {
            (Box::pin(async move { (number, reply((seq, text), &with, &zim, config).await) }), None)
        }
        Outgoing::File(path) => {
            let (attached, upload) = oneshot::channel();
            let sending = async move { (number, file(&path, &with, &zim, config, attached).await) };
            (Box::pin(sending), Some(upload))
        }
    }
}

async fn reply(
    (seq, text): (i64, String),
    with: &Target,
    zim: &Zim,
    config: MessageSendConfig,
) -> Result<MessageSentResult, Failure> {
    let original = fetch(seq, with, zim).await?;
    let notification = MessageSendNotification::default();
    Ok(zim.reply_message(message(text, with), &original, config, notification).await?)
}

async fn file(
    path: &Path,
    with: &Target,
    zim: &Zim,
    config: MessageSendConfig,
    attached: oneshot::Sender<Message>,
) -> Result<MessageSentResult, Failure> {
    let message = media::message(path)?;
    let tell = move |message: &Message| drop(attached.send(message.clone()));
    let notification = MessageSendNotification::default().on_message_attached(tell);
    Ok(zim.send_media_message(message, &with.id, with.kind(), config, notification).await?)
}

/// Stops an upload. The message fails, which the screen shows.
pub(super) fn cancel(upload: Upload, zim: Zim) -> Changing {
    Box::pin(async move {
        if let Ok(message) = upload.await {
            zim.cancel_sending_message(&message, SendingMessageCancelConfig {}).await?;
        }
        Ok(None)
    })
}

/// Returns the message with a number.
async fn fetch(seq: i64, with: &Target, zim: &Zim) -> Result<Message, Failure> {
    if with.room {
        return Err(Failure::usage("messages of a room have no numbers"));
    }
    let found = zim.query_messages(&[seq], &with.id, with.kind()).await?.message_list.pop();
    found.ok_or_else(|| Failure::usage(format!("there is no message {seq} {}", with.place("with"))))
}

/// Changes a message that was sent.
pub(super) fn change(change: Change, with: &Target, zim: &Zim) -> Changing {
    let (with, zim) = (with.clone(), zim.clone());
    Box::pin(async move {
        Ok(match change {
            // All who see it get an event, this device included.
            Change::React(seq, kind) => {
                let message = fetch(seq, &with, &zim).await?;
                zim.add_message_reaction(&kind, &message, MessageReactionAddConfig::default()).await?;
                None
            }
            Change::Unreact(seq, kind) => {
                zim.delete_message_reaction(&kind, &fetch(seq, &with, &zim).await?).await?;
                None
            }
            Change::Edit(seq, text) => {
                let Message { body, mentioned_user_ids, is_mention_all, .. } = message(text, &with);
                let original = fetch(seq, &with, &zim).await?;
                let edited = Message { body, mentioned_user_ids, is_mention_all, ..original };
                let edited = zim.edit_message(&edited, MessageEditConfig {}).await?.message.unwrap_or_default();
                Some(format!("you edited message {seq}: {}", describe::short(&edited)))
            }
            Change::Revoke(seq) => {
                let message = fetch(seq, &with, &zim).await?;
                zim.revoke_message(&message, MessageRevokeConfig::default()).await?;
                Some(format!("you revoked message {seq}"))
            }
            Change::Save(seq) => {
                let mut message = fetch(seq, &with, &zim).await?;
                let name = message.media_part(0).map(|part| preview(part.name, 60)).unwrap_or_default();
                let (original, config) = (MediaFileType::OriginalFile, MediaDownloadConfig::default());
                let saved = zim.download_media_file(&message, original, config, |_, _, _| {}).await?;
                Some(format!("{name} is saved as {}", saved.file_local_path))
            }
        })
    })
}

/// Marks the conversation as read on all devices of the user, and tells the senders who have asked for it.
pub(super) async fn read(zim: Zim, with: Target, messages: Vec<Message>) -> Result<(), Failure> {
    if with.room {
        return Ok(());
    }
    // The senders wait for their receipts also if the count could not be cleared, such as beyond the rate of requests.
    let cleared = zim.clear_conversation_unread_message_count(&with.id, with.kind()).await;
    let asking: Vec<Message> = messages.into_iter().filter(asks).collect();
    for some in asking.chunks(MAX_RECEIPTS) {
        // The sender may be gone, or this user may have left the group: the chat goes on.
        drop(zim.send_message_receipts_read(some, &with.id, with.kind()).await);
    }
    cleared?;
    Ok(())
}

/// Whether the sender of a message waits for a receipt of this user.
pub(super) fn asks(message: &Message) -> bool {
    message.direction() == MessageDirection::Receive && message.receipt_status() == MessageReceiptStatus::Processing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_received_messages_ask_for_receipts() {
        let message = |direction: MessageDirection, status: MessageReceiptStatus| Message {
            direction: direction as i32,
            receipt_status: status as i32,
            ..Message::text("hi")
        };
        assert!(asks(&message(MessageDirection::Receive, MessageReceiptStatus::Processing)));
        assert!(!asks(&message(MessageDirection::Send, MessageReceiptStatus::Processing)));
        assert!(!asks(&message(MessageDirection::Receive, MessageReceiptStatus::Done)));
        assert!(!asks(&message(MessageDirection::Receive, MessageReceiptStatus::None)));
    }
}
