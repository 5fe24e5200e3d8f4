//! Messages: new ones, changed ones, and the user's own on their way.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationRef, Event, Message, MessageEntry, MessageReceivedInfo, MessageRevokeReceivedEvent,
    MessageSentStatus, MessageSentStatusChangeInfo, MessageType, change_entry,
};

use super::{Attach, Attached, Next, Transaction};
use crate::engine::Origin;
use crate::store::message::Pending;
use crate::store::pending::{Durable, Span};
use crate::store::{conversation, message};
use crate::types::Name;

impl Transaction<'_> {
    pub(super) fn attach(&mut self, name: &Name, attach: Attach) -> rusqlite::Result<Option<Attached>> {
        let viewer = Arc::clone(&self.viewer.user_id);
        match attach {
            Attach::New(pending) => self.add_pending(name, pending).map(Some),
            Attach::Transient(message) => Ok(Some(Attached { message: *message, next: Next::Send })),
            Attach::Retry { key, ts, otherwise } => {
                let known = conversation::id(self.db, name)?;
                if let Some(id) = known {
                    self.touch(name)?;
                    if let Some((row, config)) = message::retry(self.db, id, &key, ts)? {
                        let content = row.content.clone();
                        let message = row.into_message(&viewer, &name.to_ref());
                        self.status(message.clone(), "");
                        return Ok(Some(Attached { message, next: Next::SendAgain { config, content } }));
                    }
                    if let Some(row) = message::sent(self.db, id, &viewer, &key)? {
                        let message = row.into_message(&viewer, &name.to_ref());
                        return Ok(Some(Attached { message, next: Next::Nothing }));
                    }
                    if message::is_waiting(self.db, id, &key)? {
                        return Ok(None);
                    }
                }
                otherwise.map(|pending| self.add_pending(name, pending)).transpose()
            }
        }
    }

    fn add_pending(&mut self, name: &Name, pending: Pending) -> rusqlite::Result<Attached> {
        let viewer = Arc::clone(&self.viewer.user_id);
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
        self.status(message.clone(), "");
        Ok(Attached { message, next: Next::Send })
    }

    pub(super) fn messages(
        &mut self,
        name: &Name,
        entries: Vec<MessageEntry>,
        raise_after: u64,
        own_after: u64,
    ) -> rusqlite::Result<()> {
        let id = self.touch(name)?;
        let to = name.to_ref();
        let mut new: Vec<Message> = Vec::new();
        for entry in entries {
            let stored = message::store(self.db, id, &self.viewer.user_id, &entry)?;
            if let Some(row) = stored.settled {
                self.settled(row, &to, "")?;
            }
            let is_own = *entry.sender == *self.viewer.user_id;
            let is_news = entry.seq > if is_own { own_after } else { raise_after }
                && !stored.is_local
                && entry.ts >= self.viewer.horizon_ms
                && entry.kind != MessageType::Revoke as i32
                && !message::is_known(self.db, entry.message_id)?;
            if is_news {
                new.push(message::shown(entry, &self.viewer.user_id, &to));
            }
        }
        let login_ms = self.viewer.login_ms;
        let is_offline = |message: &Message| message.timestamp < login_ms;
        for chunk in new.chunk_by(|a, b| is_offline(a) == is_offline(b)) {
            let is_offline_message = chunk.first().is_some_and(is_offline);
            let seqs = || chunk.iter().filter_map(|message| u64::try_from(message.message_seq).ok());
            let (first, last) = (seqs().min().unwrap_or(0), seqs().max().unwrap_or(0));
            let span = Some(Span { conversation: id, first, last, is_offline: is_offline_message });
            let event = message::received(&to, chunk.to_vec(), MessageReceivedInfo { is_offline_message });
            self.durable.extend(event.map(|event| Durable { event, span }));
        }
        Ok(())
    }

    pub(super) fn changes(&mut self, name: &Name, entries: Vec<ChangeEntry>, origin: Origin) -> rusqlite::Result<()> {
        let id = self.touch(name)?;
        let mut revoked = Vec::new();
        for entry in entries {
            let rev = entry.rev;
            let entry = match entry.detail {
                Some(change_entry::Detail::Message(entry)) => entry,
                Some(change_entry::Detail::Roster(change)) => {
                    if conversation::advance_roster(self.db, id, rev)? {
                        self.roster(name, id, change)?;
                    }
                    continue;
                }
                None => continue,
            };
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
            self.raise(Event::MessageRevokeReceived(event));
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
