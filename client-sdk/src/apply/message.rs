//! Messages: new ones, changed ones, and the user's own on their way.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationRef, ConversationType, Event, GroupMessageReceivedEvent, Message, MessageEntry,
    MessageReceivedInfo, MessageRevokeReceivedEvent, MessageSentStatus, MessageSentStatusChangeInfo, MessageType,
    PeerMessageReceivedEvent, change_entry,
};

use super::{Attach, Attached, Transaction};
use crate::engine::Origin;
use crate::store::{conversation, message};
use crate::types::Name;

impl Transaction<'_> {
    pub(super) fn attach(&mut self, name: &Name, attach: Attach) -> rusqlite::Result<Option<Attached>> {
        let viewer = Arc::clone(&self.viewer.user_id);
        match attach {
            Attach::New(pending) => {
                let id = self.touch(name)?;
                let order_key = message::insert_pending(self.db, id, &viewer, &pending)?;
                let entry = MessageEntry {
                    sender: viewer.to_string(),
                    ts: pending.ts,
                    kind: pending.kind,
                    flags: pending.flags,
                    client_key: Bytes::copy_from_slice(&pending.key),
                    content: pending.content,
                    ..MessageEntry::default()
                };
                let mut message = message::shown(entry, &viewer, &name.to_ref());
                message.message_id.clear();
                message.order_key = order_key;
                message.sent_status = MessageSentStatus::Sending as i32;
                message.local_extended_data = pending.local_data;
                Ok(Some(Attached { message, first: None }))
            }
            Attach::Retry { key, ts } => {
                let Some(id) = conversation::id(self.db, name)? else { return Ok(None) };
                self.touch(name)?;
                let Some((row, config)) = message::retry(self.db, id, &key, ts)? else { return Ok(None) };
                let content = row.content.clone();
                let message = row.into_message(&viewer, &name.to_ref());
                self.status(message.clone(), "");
                Ok(Some(Attached { message, first: Some((config, content)) }))
            }
        }
    }

    pub(super) fn messages(
        &mut self,
        name: &Name,
        entries: Vec<MessageEntry>,
        raise_after: u64,
    ) -> rusqlite::Result<()> {
        let id = self.touch(name)?;
        let to = name.to_ref();
        let mut new: Vec<Message> = Vec::new();
        for entry in entries {
            let stored = message::store(self.db, id, &self.viewer.user_id, &entry)?;
            if let Some(row) = stored.settled {
                self.settled(row, &to, "")?;
            }
            let is_news = entry.seq > raise_after
                && !stored.is_local
                && entry.ts >= self.viewer.horizon_ms
                && entry.kind != MessageType::Revoke as i32;
            if is_news {
                new.push(message::shown(entry, &self.viewer.user_id, &to));
            }
        }
        let login_ms = self.viewer.login_ms;
        let is_offline = |message: &Message| message.timestamp < login_ms;
        for chunk in new.chunk_by(|a, b| is_offline(a) == is_offline(b)) {
            let info = MessageReceivedInfo { is_offline_message: chunk.first().is_some_and(is_offline) };
            self.durable.extend(received(&to, chunk.to_vec(), info));
        }
        Ok(())
    }

    pub(super) fn changes(&mut self, name: &Name, entries: Vec<ChangeEntry>, origin: Origin) -> rusqlite::Result<()> {
        let id = self.touch(name)?;
        let mut revoked = Vec::new();
        for entry in entries {
            let Some(change_entry::Detail::Message(entry)) = entry.detail else { continue };
            let before = message::kind(self.db, id, entry.seq)?;
            message::change(self.db, id, &entry)?;
            let revoke = MessageType::Revoke as i32;
            // A message that this device does not hold, or knows as revoked, is no news.
            if entry.kind == revoke && before.is_some_and(|before| before != revoke) && origin != Origin::Own {
                revoked.push(message::shown(entry, &self.viewer.user_id, &name.to_ref()));
            }
        }
        if !revoked.is_empty() {
            let event = MessageRevokeReceivedEvent { message_list: revoked };
            self.durable.push(Event::MessageRevokeReceived(event));
        }
        Ok(())
    }

    /// Reports that an own message was sent or failed.
    pub(super) fn settled(&mut self, row: i64, to: &ConversationRef, reason: &str) -> rusqlite::Result<()> {
        if let Some(row) = message::by_id(self.db, row)? {
            self.status(row.into_message(&self.viewer.user_id, to), reason);
        }
        Ok(())
    }

    pub(super) fn status(&mut self, message: Message, reason: &str) {
        self.statuses.push(MessageSentStatusChangeInfo {
            status: message.sent_status,
            message: Some(message),
            reason: reason.to_owned(),
        });
    }
}

/// Returns the event for received messages, if their type of conversation has one.
pub(crate) fn received(to: &ConversationRef, message_list: Vec<Message>, info: MessageReceivedInfo) -> Option<Event> {
    let (from_conversation_id, info) = (to.id.clone(), Some(info));
    match ConversationType::try_from(to.r#type) {
        Ok(ConversationType::Peer) => {
            Some(Event::PeerMessageReceived(PeerMessageReceivedEvent { message_list, from_conversation_id, info }))
        }
        Ok(ConversationType::Group) => {
            Some(Event::GroupMessageReceived(GroupMessageReceivedEvent { message_list, from_conversation_id, info }))
        }
        _ => None,
    }
}

/// Returns an event and its deprecated twin, if it has one.
pub(crate) fn with_twin(event: Event) -> Vec<Event> {
    let twin = match &event {
        Event::PeerMessageReceived(event) => Some(Event::ReceivePeerMessage(zim_protocol::ReceivePeerMessageEvent {
            message_list: event.message_list.clone(),
            from_conversation_id: event.from_conversation_id.clone(),
        })),
        Event::GroupMessageReceived(event) => {
            Some(Event::ReceiveGroupMessage(zim_protocol::ReceiveGroupMessageEvent {
                message_list: event.message_list.clone(),
                from_conversation_id: event.from_conversation_id.clone(),
            }))
        }
        _ => None,
    };
    std::iter::once(event).chain(twin).collect()
}
