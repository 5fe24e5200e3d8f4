//! Sending and reading messages, and what is in a message.
//!
//! ```
//! use zim_client_sdk::message::Body;
//! use zim_client_sdk::{CustomMessage, Message};
//!
//! fn show(message: &Message) -> String {
//!     match &message.body {
//!         Some(Body::Text(text)) => text.message.clone(),
//!         Some(Body::Custom(CustomMessage { sub_type, .. })) => format!("kind {sub_type} of the app"),
//!         Some(Body::Revoke(revoke)) => format!("revoked by {}", revoke.operated_user_id),
//!         _ => format!("a message of type {}", message.r#type),
//!     }
//! }
//!
//! assert_eq!(show(&Message::text("hi")), "hi");
//! assert_eq!(show(&Message::custom("{}", 7)), "kind 7 of the app");
//! ```

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::oneshot;
use zim_protocol::{
    ConversationType, ErrorCode, Message, MessageDirection, MessageFlag, MessageQueriedResult, MessageQueryConfig,
    MessageReceiptStatus, MessageSendConfig, MessageSentResult, MessageSentStatus, MessageType,
    QueryHistoryMessageRequest, QueryMessagesRequest, SendMessageRequest, Validate,
};

pub use zim_protocol::message::Body;

/// Pages of history.
mod history;

pub(crate) use self::history::history;
use self::history::without_deleted;

use crate::account::{Account, Remote, logged_out};
use crate::error::Error;
use crate::media::content::place;
use crate::outbox::{OnAttached, OnProgress, Submission, SubmissionKind, is_network};
use crate::store::message::MessageRow;
use crate::store::outgoing::Pending;
use crate::store::{conversation, page};
use crate::types::{Key, Name};
use crate::zim::Zim;

/// The most messages on a page, and the size of a page if none is given.
pub(crate) const MAX_PAGE: usize = 100;

/// Callbacks for a message that is being sent.
#[derive(Default)]
pub struct MessageSendNotification {
    on_message_attached: Option<OnAttached>,
    progress: OnProgress,
}

impl MessageSendNotification {
    /// Sets a callback that is called when the message is in its conversation, before it is sent: the time to show it.
    #[must_use]
    pub fn on_message_attached(mut self, attached: impl FnOnce(&Message) + Send + 'static) -> Self {
        self.on_message_attached = Some(Box::new(attached));
        self
    }

    /// Sets a callback about the upload of the file of a media message: it gets the message, the bytes that have moved, and the
    /// size of the file. It is called often, the last time when the server has the file.
    #[must_use]
    pub fn on_media_uploading_progress(mut self, progress: impl FnMut(&Message, i64, i64) + Send + 'static) -> Self {
        self.progress.of_one = Some(Box::new(progress));
        self
    }

    /// Sets a callback about the upload of the files of a multiple message. It gets the message, the bytes of all files that
    /// have moved and their size; and the index of the part, the bytes of its file that have moved, and its size.
    #[must_use]
    pub fn on_multiple_media_uploading_progress(
        mut self,
        progress: impl FnMut(&Message, i64, i64, i64, i64, i64) + Send + 'static,
    ) -> Self {
        self.progress.of_parts = Some(Box::new(progress));
        self
    }
}

impl std::fmt::Debug for MessageSendNotification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_some = self.on_message_attached.is_some();
        f.debug_struct("MessageSendNotification").field("on_message_attached", &is_some).finish()
    }
}

impl Zim {
    /// Sends a message. The message takes its place in the queue at the call, so messages are sent in the order of the
    /// calls even if the futures are not awaited one by one. The future resolves when the server has stored the
    /// message.
    ///
    /// While there is no connection the message waits, and it is sent again after a reconnect that comes in time
    /// (`Config::resend_window_ms`). The error of a failed message has the message to retry
    /// ([`Error::failed_message`](crate::Error::failed_message)); pass it with `isRetrySend`. Without the flag it is retried
    /// as well, if it is the object of this conversation: no message is ever stored twice.
    ///
    /// Waiting messages survive a restart of the app: after the next login they are sent, or fail when they have waited too
    /// long; `messageSentStatusChanged` tells which. At most 10,000 messages wait.
    ///
    /// With an `idempotencyKey` in `config`, a call that is repeated sends one message: the first call with this key in this
    /// conversation counts, and the others are answered with its message, whatever they say. Use it for what must be sent
    /// once although the code may run twice, as in a handler of an event after a crash; the book has a page about bots. The
    /// server knows the key as long as it keeps the message.
    ///
    /// A message that is sent from a handler is stored on this device before the event counts as delivered. So after a
    /// crash the message is there, or the event is raised again.
    ///
    /// A command keeps its place among the messages. It is not stored, so it is sent at most once: if the connection is
    /// lost after it left, the call fails, and nobody knows whether it arrived.
    ///
    /// A message to a room is sent at most once as well, whatever its type: those who are in the room get it, in one order for all of
    /// them. It is not stored, unless the server's settings say so. It fails with 6000203 unless this device is in the room. Under load
    /// messages of low priority are dropped first. A barrage message goes to rooms only, and is not limited in its rate. A combined
    /// message needs a room whose messages are stored.
    ///
    /// # Errors
    /// - 6000001: the message has no content of its type, or it is too long; or it is to the user themselves.
    /// - 6000204: there is no such user. 6000284: they have blocked the user.
    /// - 6000523: there is no such group. 6000521: the user is not in it. 6000541: they are muted there.
    /// - 6000203: this device is not in the room.
    /// - For a message with files, see also [`Zim::send_media_message`].
    pub fn send_message(
        &self,
        message: Message,
        to_conversation_id: &str,
        conversation_type: ConversationType,
        config: MessageSendConfig,
        notification: MessageSendNotification,
    ) -> impl Future<Output = Result<MessageSentResult, Error>> + Send + 'static + use<> {
        let name = Name::new(conversation_type as i32, to_conversation_id);
        let account = self.account().inspect_err(|_| {
            let login = self.client().login.lock().clone();
            if let Some(login) = login.filter(|_| !config.idempotency_key.is_empty()) {
                login.lost_message();
            }
        });
        let message = Message { replied_info: None, ..message };
        let submitted = account.and_then(|account| submit(&account, message, name, config, notification));
        async move { submitted?.await.map_err(|_| logged_out())? }
    }

    /// The older form of [`Zim::send_message`] in the reference.
    ///
    /// # Errors
    /// See [`Zim::send_message`].
    #[deprecated = "use `send_message`"]
    pub fn send_peer_message(
        &self,
        message: Message,
        to_user_id: &str,
        config: MessageSendConfig,
    ) -> impl Future<Output = Result<MessageSentResult, Error>> + Send + 'static + use<> {
        self.send_message(message, to_user_id, ConversationType::Peer, config, MessageSendNotification::default())
    }

    /// The older form of [`Zim::send_message`] to a group in the reference.
    ///
    /// # Errors
    /// See [`Zim::send_message`].
    #[deprecated = "use `send_message`"]
    pub fn send_group_message(
        &self,
        message: Message,
        to_group_id: &str,
        config: MessageSendConfig,
    ) -> impl Future<Output = Result<MessageSentResult, Error>> + Send + 'static + use<> {
        self.send_message(message, to_group_id, ConversationType::Group, config, MessageSendNotification::default())
    }

    /// The older form of [`Zim::send_message`] to a room in the reference.
    ///
    /// # Errors
    /// See [`Zim::send_message`].
    #[deprecated = "use `send_message`"]
    pub fn send_room_message(
        &self,
        message: Message,
        to_room_id: &str,
        config: MessageSendConfig,
    ) -> impl Future<Output = Result<MessageSentResult, Error>> + Send + 'static + use<> {
        self.send_message(message, to_room_id, ConversationType::Room, config, MessageSendNotification::default())
    }

    /// Returns a page of history, oldest message first. With `reverse` the page is the one before the anchor, or the
    /// newest without an anchor; otherwise it is the one after the anchor, or the oldest. The anchor is not part of the
    /// page. Messages that this device does not hold come from the server; without a connection the page ends at the
    /// first gap.
    ///
    /// A page has `count` messages, at most 100; 0 is a page of 100. The anchor, `nextMessage`, is a message of an
    /// earlier page, or has its `messageSeq` or its `messageID` only. An anchor beyond the newest message is like none
    /// with `reverse`; without it, nothing is newer.
    ///
    /// What is said in a room is kept if the server's setting says so, until the room ends: a user who is in the room gets all of it,
    /// up to the server's limit, also what was said before they entered. Otherwise the page is empty. Such messages always come from
    /// the server.
    ///
    /// # Errors
    /// 6000001: `count` is negative, `mode` is not known, or `nextMessage` is not a message of this conversation. 6000321, 6000322:
    /// the user is not in the room, or there is none.
    pub async fn query_history_message(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
        config: MessageQueryConfig,
    ) -> Result<MessageQueriedResult, Error> {
        let account = self.account()?;
        if conversation_type == ConversationType::Room {
            let (conversation_id, conversation_type) = (conversation_id.to_owned(), conversation_type as i32);
            let next_message = config.next_message.as_ref().map(place);
            let config = Some(MessageQueryConfig { next_message, ..config });
            return self.call(QueryHistoryMessageRequest { conversation_id, conversation_type, config }).await;
        }
        let name = conversation_name(conversation_id, conversation_type)?;
        let count = page_size(config.count)?.min(MAX_PAGE);
        let message_list = history(&account, &name, &config, count).await?;
        Ok(MessageQueriedResult {
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
            message_list,
        })
    }

    /// Returns messages by their positions, at most 10. Those that this device has deleted are not there.
    ///
    /// # Errors
    /// 6000001: not 1 to 10 positions.
    pub async fn query_messages(
        &self,
        message_seqs: &[i64],
        conversation_id: &str,
        conversation_type: ConversationType,
    ) -> Result<MessageQueriedResult, Error> {
        let account = self.account()?;
        let name = conversation_name(conversation_id, conversation_type)?;
        let mut request = QueryMessagesRequest {
            message_seqs: message_seqs.to_vec(),
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
        };
        request.validate()?;
        let seqs: Vec<u64> = message_seqs.iter().filter_map(|seq| u64::try_from(*seq).ok()).collect();
        let wanted = name.clone();
        let found = account.store().read(move |db| match conversation::id(db, &wanted)? {
            Some(id) => page::at(db, id, &seqs),
            None => Ok((Vec::new(), seqs)),
        });
        let (rows, missing) = found.await?;
        let mut message_list = messages(&account, &name, rows);
        if !missing.is_empty() {
            request.message_seqs = missing.iter().filter_map(|seq| i64::try_from(*seq).ok()).collect();
            match account.request(request).await {
                Ok(result) => message_list.extend(without_deleted(&account, &name, result.message_list).await?),
                Err(error) if is_network(&error) || is_unknown(&error) => {}
                Err(error) => return Err(error),
            }
        }
        message_list.sort_by_key(|message| message.message_seq);
        message_list.dedup_by_key(|message| message.message_seq);
        Ok(MessageQueriedResult {
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
            message_list,
        })
    }
}

/// Checks that the type has stored conversations, and returns the name.
pub(crate) fn conversation_name(id: &str, kind: ConversationType) -> Result<Name, Error> {
    if id.is_empty() || !conversation::is_stored_type(kind as i32) {
        return Err(invalid("conversationID and conversationType must name a peer or group conversation"));
    }
    Ok(Name::new(kind as i32, id))
}

/// Returns how many items a page has.
pub(crate) fn page_size(count: i64) -> Result<usize, Error> {
    match usize::try_from(count) {
        Ok(0) => Ok(MAX_PAGE),
        Ok(count) => Ok(count),
        Err(_) => Err(invalid("config.count is negative; 0 is a page of 100")),
    }
}

/// The most bytes of data that only this device has about a message.
const MAX_LOCAL_DATA: usize = 128 << 10;

pub(crate) fn check_local_data(data: &str) -> Result<(), Error> {
    if data.len() > MAX_LOCAL_DATA {
        let message = format!("localExtendedData is {} bytes long; at most {MAX_LOCAL_DATA} are allowed", data.len());
        return Err(invalid(&message));
    }
    Ok(())
}

pub(crate) fn invalid(message: &str) -> Error {
    Error::new(ErrorCode::CommonModuleParamsInvalid, message)
}

fn is_unknown(error: &Error) -> bool {
    error.code() == ErrorCode::ConversationModuleConversationDoesNotExist
}

pub(crate) fn messages<L: Remote>(account: &Account<L>, name: &Name, rows: Vec<MessageRow>) -> Vec<Message> {
    let to = name.to_ref();
    rows.into_iter().map(|row| row.into_message(account.user_id(), &to)).collect()
}

/// Checks a message and queues it.
pub(crate) fn submit<L: Remote>(
    account: &Arc<Account<L>>,
    message: Message,
    name: Name,
    config: MessageSendConfig,
    notification: MessageSendNotification,
) -> Result<oneshot::Receiver<Result<MessageSentResult, Error>>, Error> {
    config.validate().map_err(|violation| invalid(&format!("config.{violation}")))?;
    let now_ms = account.server_now_ms();
    let is_room = name.kind == ConversationType::Room as i32;
    if is_room {
        account.rooms().check_sending(&name.id)?;
    }
    // What was sent to a room is not kept, so there is nothing to send again.
    let (key, kind) = if config.is_retry_send && !is_room {
        if message.sent_status == MessageSentStatus::Success as i32 {
            return Err(invalid("isRetrySend takes a message whose sending failed; this message was sent"));
        }
        let key = zim_protocol::id::from_hex(&message.local_message_id);
        let key = key.ok_or_else(|| invalid("isRetrySend takes the message object whose sending failed"))?;
        (key, SubmissionKind::Retry { ts: now_ms })
    } else {
        let unsent = [MessageSentStatus::Sending as i32, MessageSentStatus::Failed as i32];
        let earlier =
            unsent.contains(&message.sent_status).then(|| zim_protocol::id::from_hex(&message.local_message_id));
        let (key, mut kind) = compose(account.user_id(), message, &name, &config, now_ms)?;
        let key = first_only(key, &mut kind, &name, &config)?;
        if let SubmissionKind::Stored { earlier: known, .. } = &mut kind {
            *known = earlier.flatten();
        }
        (key, kind)
    };
    let is_first_only = matches!(kind, SubmissionKind::Stored { is_first_only: true, .. });
    let place = account.place().inspect_err(|_| {
        if is_first_only {
            account.lost_message();
        }
    })?;
    let (reply, answer) = oneshot::channel();
    account.submit(Submission {
        name,
        key,
        kind,
        config,
        deadline_ms: account.clock().steady_ms().saturating_add(account.resend_window_ms()),
        on_attached: notification.on_message_attached,
        progress: notification.progress,
        reply,
        place,
    });
    Ok(answer)
}

/// Takes the key of the app, if there is one.
fn first_only(key: Key, kind: &mut SubmissionKind, name: &Name, config: &MessageSendConfig) -> Result<Key, Error> {
    if config.idempotency_key.is_empty() {
        return Ok(key);
    }
    let SubmissionKind::Stored { pending, is_first_only, .. } = kind else {
        return Err(invalid("what is not stored, as a command or a message to a room, has no config.idempotencyKey"));
    };
    *is_first_only = true;
    pending.key = zim_protocol::id::message_key(&name.to_ref(), &config.idempotency_key);
    Ok(pending.key)
}

/// Builds the message as it will be sent and stored.
fn compose(
    user_id: &str,
    message: Message,
    name: &Name,
    config: &MessageSendConfig,
    now_ms: i64,
) -> Result<(Key, SubmissionKind), Error> {
    let mut request = SendMessageRequest {
        message: Some(message),
        to_conversation_id: name.id.to_string(),
        conversation_type: name.kind,
        ..SendMessageRequest::default()
    };
    request.validate()?;
    let message = request.message.take().unwrap_or_default();
    let is_room = name.kind == ConversationType::Room as i32;
    if !is_room && !conversation::is_stored_type(name.kind) {
        return Err(invalid("conversationType must be 0 (one other user), 1 (a room) or 2 (a group)"));
    }
    if name.kind == ConversationType::Peer as i32 && *name.id == *user_id {
        return Err(invalid("toConversationID is your own userID; a message to yourself cannot be sent"));
    }
    let mut message = message;
    for part in message.media_parts() {
        if part.local_path.is_empty() && part.download_url.is_empty() {
            return Err(invalid("a file of the message has neither a fileLocalPath nor a fileDownloadUrl"));
        }
        // The folder of the process may be another one when the upload goes on.
        if let Ok(path) = std::path::absolute(&*part.local_path) {
            *part.local_path = path.to_string_lossy().into_owned();
        }
    }
    let kind = match &message.body {
        Some(Body::Text(_)) => MessageType::Text,
        Some(Body::Command(_)) => MessageType::Command,
        Some(Body::Custom(_)) => MessageType::Custom,
        Some(Body::Combine(_)) => MessageType::Combine,
        Some(Body::Barrage(_)) if is_room => MessageType::Barrage,
        Some(Body::Barrage(_)) => return Err(invalid("a barrage message goes to a room only")),
        Some(Body::Image(_)) => MessageType::Image,
        Some(Body::File(_)) => MessageType::File,
        Some(Body::Audio(_)) => MessageType::Audio,
        Some(Body::Video(_)) => MessageType::Video,
        Some(Body::Multiple(multiple)) => {
            multiple.check_parts().map_err(|problem| invalid(&problem))?;
            MessageType::Multiple
        }
        Some(_) => return Err(invalid("a message of this type cannot be sent")),
        None => return Err(invalid("the message has no body")),
    };
    if message.r#type != 0 && message.r#type != kind as i32 {
        return Err(invalid("message.type does not fit the body of the message"));
    }
    let mut key = Key::default();
    getrandom::fill(&mut key).map_err(|error| {
        Error::new(ErrorCode::MessageModuleCommonError, "the system cannot provide random bytes").with_source(error)
    })?;
    let local_data = message.local_extended_data;
    // Only the fields that the sender sets. The server fills in the others.
    let composed = Message {
        body: message.body,
        extended_data: message.extended_data,
        mentioned_user_ids: message.mentioned_user_ids,
        is_mention_all: message.is_mention_all,
        replied_info: message.replied_info,
        ..Message::default()
    };
    check_local_data(&local_data)?;
    if kind == MessageType::Command || is_room {
        if composed.replied_info.is_some() {
            return Err(invalid("a command, or a message to a room, cannot be a reply"));
        }
        let message = Message {
            r#type: kind as i32,
            local_message_id: zim_protocol::id::hex(&key),
            sender_user_id: user_id.to_owned(),
            conversation_id: name.id.to_string(),
            conversation_type: name.kind,
            direction: MessageDirection::Send as i32,
            sent_status: MessageSentStatus::Sending as i32,
            receipt_status: MessageReceiptStatus::None as i32,
            timestamp: now_ms,
            ..composed
        };
        return Ok((key, SubmissionKind::Transient { message: Box::new(message) }));
    }
    let pending = Pending {
        key,
        ts: now_ms,
        kind: kind as i32,
        flags: flags(config),
        content: composed.encode_to_vec().into(),
        local_data,
        config: MessageSendConfig { is_retry_send: false, ..config.clone() }.encode_to_vec().into(),
    };
    Ok((key, SubmissionKind::Stored { pending, earlier: None, is_first_only: false }))
}

fn flags(config: &MessageSendConfig) -> u32 {
    let counted = if config.disable_unread_message_count { 0 } else { MessageFlag::Counted as u32 };
    let receipt = if config.has_receipt { MessageFlag::Receipt as u32 } else { 0 };
    // Mentioned users are notified unless the sender turns it off.
    let notifies = config.is_notify_mentioned_users.unwrap_or(true);
    let notify = if notifies { MessageFlag::NotifyMentioned as u32 } else { 0 };
    counted | receipt | notify
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_message_has_the_flags_that_the_server_sets() {
        let default = MessageFlag::Counted as u32 | MessageFlag::NotifyMentioned as u32;
        assert_eq!(flags(&MessageSendConfig::default()), default);
        let quiet = MessageSendConfig { is_notify_mentioned_users: Some(false), ..MessageSendConfig::default() };
        assert_eq!(flags(&quiet), MessageFlag::Counted as u32);
    }
}
