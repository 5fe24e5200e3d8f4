//! Combined messages: a title, a summary, and messages that are asked for when somebody opens it. They are kept beside the
//! message, which travels without them. What a combined message combines may be combined itself: it is copied along, so that
//! who sees the outer message sees all of it.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use zim_protocol::{
    CombineMessage, CombineMessageDetailQueriedResult, ConversationType, Message, MessageSendConfig, MessageType,
    QueryCombineMessageDetailRequest, message::Body,
};

use super::reply::is_repliable;
use super::rules;
use crate::app::App;
use crate::config::Limits;
use crate::connection::{Caller, Identity};
use crate::db::params;
use crate::error::Error;
use crate::journal::{self, Viewer};
use crate::key::ConversationKey;
use crate::service::room;

/// The messages that one message combines.
const MAX_ITEMS: usize = 1_000;
/// How deep combined messages nest.
pub(super) const MAX_DEPTH: usize = 10;

impl App {
    /// Completes the combined messages among those that a message combines: the sender sees them, and they are copied.
    pub(super) async fn complete_combined(&self, identity: &Identity, message: &mut Message) -> Result<(), Error> {
        let Some(Body::Combine(combine)) = &mut message.body else { return Ok(()) };
        if combine.message_list.len() > MAX_ITEMS {
            return Err(Error::params_invalid(format!("a message combines at most {MAX_ITEMS} messages")));
        }
        let most = self.config.limits.max_combine_bytes as usize;
        let mut bytes = 0;
        for item in &mut combine.message_list {
            let Some(Body::Combine(inner)) = &mut item.body else { continue };
            if !inner.combine_id.is_empty() {
                inner.message_list = self.combined(identity, &inner.combine_id).await?.message_list;
                // Before the next one is read: many small references may name something large.
                bytes += inner.encoded_len();
                if bytes > most {
                    let problem = format!("messageList is longer than {most} bytes with all that it combines");
                    return Err(Error::params_invalid(problem));
                }
            }
        }
        Ok(())
    }

    /// Returns a combined message with what it combines.
    pub(super) async fn combine_detail(
        &self,
        caller: &Caller,
        request: QueryCombineMessageDetailRequest,
    ) -> Result<CombineMessageDetailQueriedResult, Error> {
        let identity = caller.identity()?;
        let mut message = request.message.unwrap_or_default();
        let asked = match &message.body {
            Some(Body::Combine(combine)) if !combine.combine_id.is_empty() => combine.combine_id.clone(),
            // A message of the conversation has the same ID as what it combines.
            _ => message.message_id.clone(),
        };
        let mut found = self.combined(identity, &asked).await?;
        for (index, item) in found.message_list.iter_mut().enumerate() {
            if let Some(Body::Combine(inner)) = &mut item.body {
                inner.message_list.clear();
                inner.combine_id = format!("{asked}-{index}");
            }
        }
        message.r#type = MessageType::Combine as i32;
        message.body = Some(Body::Combine(Box::new(CombineMessage { combine_id: asked, ..found })));
        Ok(CombineMessageDetailQueriedResult { message: Some(message) })
    }

    /// Returns what a combined message combines, if the caller sees the message. `id` is the ID of the message, followed by the
    /// indexes of the combined messages inside.
    async fn combined(&self, identity: &Identity, id: &str) -> Result<CombineMessage, Error> {
        let mut parts = id.split('-').map(str::parse::<i64>);
        let first = parts.next().and_then(Result::ok).ok_or_else(Error::message_not_found)?;
        let scrambler = Arc::clone(&self.tenants.of(identity.app)?.scrambler);
        let (stored, user, most) = (scrambler.stored(first), identity.user, self.config.limits.max_room_history);
        let keeps = self.config.rooms.history;
        let body = self.db.read(async move |tx| {
            let sql = "SELECT m.conversation, m.seq, m.kind, b.body, c.type FROM message m \
                       JOIN combine b ON b.conversation = m.conversation AND b.seq = m.seq \
                       JOIN conversation c ON c.id = m.conversation WHERE m.id = $1";
            let row = tx.fetch_one(sql, &params![stored]).await?.ok_or_else(Error::message_not_found)?;
            let (conversation, seq) = (ConversationKey(row.get(0)?), row.get::<i64>(1)?);
            let viewer = match row.get::<i32>(4)? == ConversationType::Room as i32 {
                true if !keeps => None,
                true => room::viewer(tx, conversation, user, most).await?,
                false => Viewer::of(tx, conversation, user).await?,
            };
            let viewer = viewer.ok_or_else(Error::message_not_found)?;
            let seen = journal::messages_at(tx, conversation, &scrambler, &viewer, &[seq]).await?;
            // A revoked message has another type, and nothing of it may be seen.
            match seen.first().is_some_and(|entry| entry.kind == MessageType::Combine as i32) {
                true => Ok(row.get::<Vec<u8>>(3)?),
                false => Err(Error::message_not_found()),
            }
        });
        let mut found = CombineMessage::decode(&*body.await?).map_err(Error::internal)?;
        for index in parts {
            let index =
                index.ok().and_then(|index| usize::try_from(index).ok()).ok_or_else(Error::message_not_found)?;
            let item = found.message_list.into_iter().nth(index);
            found = match item.and_then(|item| item.body) {
                Some(Body::Combine(inner)) => *inner,
                _ => return Err(Error::message_not_found()),
            };
        }
        Ok(found)
    }
}

/// Checks a combined message, and takes what it combines out of it.
///
/// # Errors
/// It is too large, nests too deep, or combines messages that cannot be combined.
pub(super) fn take(combine: &mut CombineMessage, limits: &Limits) -> Result<Bytes, Error> {
    let long = |what: &str, bytes: usize, most: u32| match bytes > most as usize {
        true => Err(Error::params_invalid(format!("{what} is {bytes} bytes long; at most {most} are allowed"))),
        false => Ok(()),
    };
    long("title", combine.title.len(), limits.max_combine_title_bytes)?;
    long("summary", combine.summary.len(), limits.max_combine_summary_bytes)?;
    let message_list = items(std::mem::take(&mut combine.message_list), limits, 1)?;
    combine.combine_id.clear();
    let content = CombineMessage {
        title: combine.title.clone(),
        summary: combine.summary.clone(),
        message_list,
        ..CombineMessage::default()
    };
    long("messageList", content.encoded_len(), limits.max_combine_bytes)?;
    Ok(content.encode_to_vec().into())
}

fn items(messages: Vec<Message>, limits: &Limits, depth: usize) -> Result<Vec<Message>, Error> {
    if messages.is_empty() {
        return Err(Error::params_invalid("messageList of a combined message is empty"));
    }
    if depth > MAX_DEPTH {
        return Err(Error::params_invalid(format!("combined messages nest at most {MAX_DEPTH} deep")));
    }
    messages.into_iter().map(|message| item(message, limits, depth)).collect()
}

/// Returns what is kept of a message that is combined.
fn item(message: Message, limits: &Limits, depth: usize) -> Result<Message, Error> {
    let kept = Message {
        message_id: message.message_id.clone(),
        message_seq: message.message_seq,
        sender_user_id: message.sender_user_id.clone(),
        conversation_id: message.conversation_id.clone(),
        conversation_type: message.conversation_type,
        timestamp: message.timestamp,
        ..Message::default()
    };
    if message.is_user_inserted || message.is_broadcast_message || message.message_id.is_empty() {
        return Err(Error::params_invalid("only messages that the server has stored can be combined"));
    }
    if let Some(Body::Combine(inner)) = message.body {
        let message_list = items(inner.message_list, limits, depth + 1)?;
        let combine =
            CombineMessage { title: inner.title, summary: inner.summary, message_list, ..CombineMessage::default() };
        return Ok(Message {
            r#type: MessageType::Combine as i32,
            body: Some(Body::Combine(Box::new(combine))),
            ..kept
        });
    }
    let draft = rules::draft(message, &MessageSendConfig::default(), limits)?;
    if !is_repliable(draft.kind as i32) {
        return Err(Error::message_type_unsupported("combined"));
    }
    let content = Message::decode(draft.content).map_err(Error::internal)?;
    Ok(Message { r#type: draft.kind as i32, body: content.body, extended_data: content.extended_data, ..kept })
}
