//! Deleting messages for oneself, and what exists on this device only.

use std::sync::Arc;

use prost::Message as _;
use zim_protocol::{
    ConversationType, DeleteAllConversationMessagesRequest, DeleteAllMessageRequest, DeleteMessagesRequest, Message,
    MessageDeleteConfig, MessageDeletedResult, MessageFlag, MessageInsertedResult,
    MessageLocalExtendedDataUpdatedResult, MessageType, QueryMessagesRequest,
};

use crate::account::{Account, Remote};
use crate::apply::{Deleted, Local};
use crate::error::Error;
use crate::message::{Body, check_local_data, conversation_name, invalid, messages};
use crate::receipt::named;
use crate::store::message::MessageRow;
use crate::store::outgoing::Pending;
use crate::store::{conversation, conversation_setting, message_change};
use crate::types::{Key, Name};
use crate::zim::Zim;

/// The messages that one request to the server deletes.
const MAX_DELETED: usize = 100;
/// The messages that one request looks up by their positions.
const MAX_QUERIED: usize = 10;

impl Zim {
    /// Deletes messages of a conversation for this user; others keep them (reference: `deleteMessages`). With
    /// `isAlsoDeleteServerMessage` the server and this user's other devices delete them as well; these get
    /// `messageDeleted`, and this one does if there is no answer and a sync brings the deletion, and for what another device deletes
    /// beyond. Without it, only this device does. A deleted message no longer counts as unread.
    ///
    /// A message is named by its `messageID`, its `messageSeq`, or the object that the app got when it was sent.
    ///
    /// # Errors
    /// - 6000603: there is no such conversation.
    /// - 6000001: there are no messages, more than 100, or none of them exists; or one is a tips message.
    pub async fn delete_messages(
        &self,
        message_list: &[Message],
        conversation_id: &str,
        conversation_type: ConversationType,
        config: MessageDeleteConfig,
    ) -> Result<MessageDeletedResult, Error> {
        let account = self.account()?;
        let name = conversation_name(conversation_id, conversation_type)?;
        if message_list.is_empty() || message_list.len() > MAX_DELETED {
            return Err(invalid("messageList must have 1 to 100 messages"));
        }
        let result = MessageDeletedResult {
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
        };
        if !config.is_also_delete_server_message() {
            return match delete_here(&account, name, message_list.to_vec()).await? {
                0 => Err(not_held()),
                _ => Ok(result),
            };
        }
        let (stored, here) = placed(&account, &name, message_list).await?;
        let is_none_stored = stored.is_empty();
        if !is_none_stored {
            let message_list = named(&stored);
            let own = account.deletes(Deleted::Messages(name.clone(), message_list.clone()));
            let request = DeleteMessagesRequest {
                message_list,
                conversation_id: conversation_id.to_owned(),
                conversation_type: conversation_type as i32,
                config: Some(config),
            };
            // The log entries in the answer delete them here.
            own.done(self.call(request).await)?;
        }
        if delete_here(&account, name.clone(), here).await? == 0 && is_none_stored {
            // The server finds nothing in a conversation that does not exist either.
            account.listed().await;
            known(&account, &name).await?;
            return Err(not_held());
        }
        Ok(result)
    }

    /// Deletes all messages of a conversation for this user; others keep them (reference: `deleteAllMessage`). Devices and server
    /// as in [`Zim::delete_messages`]. Messages that this device does not know of stay.
    ///
    /// # Errors
    /// 6000603: there is no such conversation.
    pub async fn delete_all_message(
        &self,
        conversation_id: &str,
        conversation_type: ConversationType,
        config: MessageDeleteConfig,
    ) -> Result<MessageDeletedResult, Error> {
        let account = self.account()?;
        let name = conversation_name(conversation_id, conversation_type)?;
        account.listed().await;
        let wanted = name.clone();
        let standing = account.store().read(move |db| conversation_setting::standing(db, &wanted)).await?;
        // The server has nothing of a conversation that only this device knows.
        let is_only_here = standing.is_some_and(|standing| !standing.is_on_server);
        if config.is_also_delete_server_message() {
            let last_row = account.store().read(message_change::last_row).await?;
            if !is_only_here {
                let through_seq = standing.map_or(0, |standing| standing.head_seq);
                let request = DeleteAllMessageRequest {
                    conversation_id: conversation_id.to_owned(),
                    conversation_type: conversation_type as i32,
                    config: Some(config),
                    through_seq: Some(through_seq),
                };
                let own = account.deletes(Deleted::Conversation(name.clone(), through_seq.unsigned_abs()));
                own.done(self.call(request).await)?;
            }
            // The server says nothing if it has nothing to delete. Messages that are being sent stay.
            account.change_here(Local::ClearUnsent(name, last_row), None).await?;
        } else {
            known(&account, &name).await?;
            account.change_here(Local::Clear(name), None).await?;
        }
        Ok(MessageDeletedResult {
            conversation_id: conversation_id.to_owned(),
            conversation_type: conversation_type as i32,
        })
    }

    /// Deletes all messages of all conversations for this user; others keep them (reference: `deleteAllConversationMessages`).
    /// Devices and server as in [`Zim::delete_messages`]. The conversations stay in the list.
    ///
    /// With `isAlsoDeleteServerMessage`, the server deletes what it has when the request arrives. Unlike [`Zim::delete_all_message`],
    /// this includes messages that this device has not seen yet: no event may ever tell them.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn delete_all_conversation_messages(&self, config: MessageDeleteConfig) -> Result<(), Error> {
        let account = self.account()?;
        if config.is_also_delete_server_message() {
            let last_row = account.store().read(message_change::last_row).await?;
            let deletion_number = deletion_number()?;
            let own = account.deletes(Deleted::All(deletion_number));
            let request = DeleteAllConversationMessagesRequest { config: Some(config), deletion_number };
            own.done(self.call(request).await)?;
            // The server says nothing of conversations in which it has nothing to delete.
            for name in account.store().read(message_change::with_unsent).await? {
                account.change_here(Local::ClearUnsent(name, last_row), None).await?;
            }
            return Ok(());
        }
        account.listed().await;
        for name in account.store().read(conversation::names).await? {
            account.change_here(Local::Clear(name), None).await?;
        }
        Ok(())
    }

    /// Adds a message to a conversation on this device only (reference: `insertMessageToLocalDB`): a text, custom, system,
    /// multiple or media message that never reaches the server or another device. `sender_user_id` is anyone. The conversation
    /// comes into being if there is none. Nothing can be inserted into a room: what is kept of it comes from the server.
    ///
    /// # Errors
    /// 6000001: the message is of another type, `sender_user_id` is empty, or `conversationType` is neither 0 nor 2.
    pub async fn insert_message_to_local_db(
        &self,
        message: Message,
        conversation_id: &str,
        conversation_type: ConversationType,
        sender_user_id: &str,
    ) -> Result<MessageInsertedResult, Error> {
        let account = self.account()?;
        let name = conversation_name(conversation_id, conversation_type)?;
        if sender_user_id.is_empty() {
            return Err(invalid("senderUserID is empty"));
        }
        check_local_data(&message.local_extended_data)?;
        let kind = match &message.body {
            Some(Body::Text(_)) => MessageType::Text,
            Some(Body::System(_)) => MessageType::System,
            Some(Body::Custom(_)) => MessageType::Custom,
            Some(Body::Multiple(_)) => MessageType::Multiple,
            Some(Body::Image(_)) => MessageType::Image,
            Some(Body::File(_)) => MessageType::File,
            Some(Body::Audio(_)) => MessageType::Audio,
            Some(Body::Video(_)) => MessageType::Video,
            _ => return Err(invalid("only text, system, custom, multiple and media messages can be inserted")),
        };
        let mut key = Key::default();
        getrandom::fill(&mut key).map_err(|_| invalid("the system cannot provide random bytes"))?;
        let content = Message {
            body: message.body,
            extended_data: message.extended_data,
            mentioned_user_ids: message.mentioned_user_ids,
            is_mention_all: message.is_mention_all,
            ..Message::default()
        };
        let pending = Pending {
            key,
            ts: account.server_now_ms(),
            kind: kind as i32,
            flags: 0,
            content: content.encode_to_vec().into(),
            local_data: message.local_extended_data,
            config: Vec::new().into(),
        };
        let insert = Local::Insert { name: name.clone(), sender: sender_user_id.to_owned(), pending };
        account.change_here(insert, Some(Vec::new())).await?;
        let wanted = Message { local_message_id: zim_protocol::id::hex(&key), ..Message::default() };
        let message = found(&account, &name, wanted).await?;
        Ok(MessageInsertedResult { message: Some(message) })
    }

    /// Sets the data that only this device has about a message, up to 128 KB (reference: `updateMessageLocalExtendedData`).
    ///
    /// # Errors
    /// 6000001: this device does not hold the message, or the data are too long.
    pub async fn update_message_local_extended_data(
        &self,
        local_extended_data: &str,
        message: &Message,
    ) -> Result<MessageLocalExtendedDataUpdatedResult, Error> {
        let account = self.account()?;
        let kind = ConversationType::try_from(message.conversation_type).unwrap_or(ConversationType::Unknown);
        let name = conversation_name(&message.conversation_id, kind)?;
        check_local_data(local_extended_data)?;
        found(&account, &name, message.clone()).await?;
        let data = local_extended_data.to_owned();
        let change = Local::Data { name: name.clone(), message: Box::new(message.clone()), data };
        account.change_here(change, Some(Vec::new())).await?;
        let message = found(&account, &name, message.clone()).await?;
        Ok(MessageLocalExtendedDataUpdatedResult { message: Some(message) })
    }
}

async fn known<L: Remote>(account: &Account<L>, name: &Name) -> Result<i64, Error> {
    let wanted = name.clone();
    let found = account.store().read(move |db| conversation::id(db, &wanted)).await?;
    found.ok_or_else(|| {
        let message = format!("there is no conversation {}", name.id);
        Error::new(zim_protocol::ErrorCode::ConversationModuleConversationDoesNotExist, message)
    })
}

async fn row<L: Remote>(account: &Account<L>, name: &Name, message: Message) -> Result<Option<MessageRow>, Error> {
    let wanted = name.clone();
    let read = account.store().read(move |db| match conversation::id(db, &wanted)? {
        Some(id) => Ok(message_change::find(db, id, &message)?.map(|(_, row)| row)),
        None => Ok(None),
    });
    read.await
}

/// Divides messages into those that the server has stored, with their IDs, and those that only this device has. The app may have an
/// object from before the server had stored the message, or know no more than its position.
async fn placed<L: Remote>(
    account: &Account<L>,
    name: &Name,
    wanted: &[Message],
) -> Result<(Vec<Message>, Vec<Message>), Error> {
    let (mut stored, mut here, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for message in wanted {
        if !message.message_id.is_empty() {
            stored.push(message.clone());
            continue;
        }
        match row(account, name, message.clone()).await? {
            Some(row) if row.seq > 0 => stored.push(Message {
                message_id: row.message_id.to_string(),
                message_seq: i64::try_from(row.seq).unwrap_or(0),
                ..Message::default()
            }),
            None if message.message_seq > 0 => unknown.push(message.message_seq),
            _ => here.push(message.clone()),
        }
    }
    for message_seqs in unknown.chunks(MAX_QUERIED) {
        let request = QueryMessagesRequest {
            message_seqs: message_seqs.to_vec(),
            conversation_id: name.id.to_string(),
            conversation_type: name.kind,
        };
        stored.extend(account.request(request).await?.message_list);
    }
    Ok((stored, here))
}

/// Returns a message that this device holds.
pub(crate) async fn found<L: Remote>(
    account: &Arc<Account<L>>,
    name: &Name,
    message: Message,
) -> Result<Message, Error> {
    let row = row(account, name, message).await?;
    let message = row.and_then(|row| messages(account, name, vec![row]).pop());
    message.ok_or_else(|| invalid("this device does not hold the message"))
}

/// Returns the number of a deletion of all messages: 53 random bits, and not 0. No other deletion of the user has the same.
fn deletion_number() -> Result<i64, Error> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| invalid("the system cannot provide random bytes"))?;
    Ok((u64::from_le_bytes(random) >> 11).max(1).cast_signed())
}

fn not_held() -> Error {
    invalid("this device holds none of the messages")
}

/// Deletes messages on this device only. Returns how many of them it had.
async fn delete_here<L: Remote>(account: &Account<L>, name: Name, wanted: Vec<Message>) -> Result<usize, Error> {
    if wanted.is_empty() {
        return Ok(0);
    }
    account.listed().await;
    known(account, &name).await?;
    let (mut messages, mut uncounted) = (Vec::new(), Vec::new());
    for message in wanted {
        let Some(row) = row(account, &name, message.clone()).await? else { continue };
        if row.kind == MessageType::Tips as i32 {
            return Err(invalid("a message of this type cannot be deleted by itself"));
        }
        let is_counted = row.sender != **account.user_id()
            && row.flags & MessageFlag::Counted as u32 != 0
            && row.kind != MessageType::Revoke as i32;
        if row.seq > 0 && is_counted {
            uncounted.push(row.seq);
        }
        messages.push(message);
    }
    let count = messages.len();
    if count > 0 {
        account.change_here(Local::Delete { name, messages }, Some(uncounted)).await?;
    }
    Ok(count)
}
