//! Messages: new ones, changed ones, and the user's own on their way.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationRef, Message, MessageChange, MessageChangeKind, MessageEntry, MessageFlag,
    MessageReceivedInfo, MessageSentStatus, MessageSentStatusChangeInfo, MessageType, change_entry,
};

use super::message_change::{News, edited_time, outdated};
use super::recent::Sending;
use super::{Attach, Attached, Next, Transaction};
use crate::engine::Origin;
use crate::store::message::IMPORTED;
use crate::store::outgoing::Pending;
use crate::store::pending::{Durable, Span};
use crate::store::{conversation, conversation_setting, message, message_change, outgoing};
use crate::types::{Key, Name};

impl Transaction<'_> {
    pub(super) fn attach(&mut self, name: &Name, attach: Attach) -> rusqlite::Result<Option<Attached>> {
        let viewer = Arc::clone(&self.viewer.user_id);
        match attach {
            Attach::New(pending) => self.add_pending(name, pending).map(Some),
            Attach::First(pending) => self.attach_first(name, pending).map(Some),
            Attach::Transient(message) => Ok(Some(Attached { message: *message, next: Next::Send })),
            Attach::Retry { key, ts, otherwise } => {
                self.last_place = None;
                let known = conversation::id(self.db, name)?;
                if let Some(id) = known {
                    self.touch(name)?;
                    if let Some(again) = self.send_again(name, id, &key, ts)? {
                        return Ok(Some(again));
                    }
                    if let Some(row) = outgoing::sent(self.db, id, &viewer, &key)? {
                        let message = row.into_message(&viewer, &name.to_ref());
                        return Ok(Some(Attached { message, next: Next::Nothing }));
                    }
                    if outgoing::is_waiting(self.db, id, &key)? {
                        return Ok(None);
                    }
                }
                otherwise.map(|pending| self.add_pending(name, pending)).transpose()
            }
        }
    }

    /// Sends a failed message again, if there is one with this key.
    fn send_again(&mut self, name: &Name, id: i64, key: &Key, ts: i64) -> rusqlite::Result<Option<Attached>> {
        let Some((row, config)) = outgoing::retry(self.db, id, key, ts)? else { return Ok(None) };
        let content = row.content.clone();
        let message = row.into_message(&self.viewer.user_id, &name.to_ref());
        self.status(message.clone(), "");
        Ok(Some(Attached { message, next: Next::SendAgain { config, content, is_sending: false } }))
    }

    /// Adds a message under a key of the app, unless this device holds one under it. The server may have one that it does not hold:
    /// its answer tells.
    fn attach_first(&mut self, name: &Name, pending: Pending) -> rusqlite::Result<Attached> {
        self.last_place = None;
        let id = self.touch(name)?;
        if let Some(again) = self.send_again(name, id, &pending.key, pending.ts)? {
            return Ok(again);
        }
        if let Some((row, config)) = outgoing::sending(self.db, id, &pending.key)? {
            let content = row.content.clone();
            let message = row.into_message(&self.viewer.user_id, &name.to_ref());
            return Ok(Attached { message, next: Next::SendAgain { config, content, is_sending: true } });
        }
        if let Some(row) = outgoing::sent_lately(self.db, id, &self.viewer.user_id, &pending.key)? {
            let message = row.into_message(&self.viewer.user_id, &name.to_ref());
            return Ok(Attached { message, next: Next::Nothing });
        }
        self.add_pending(name, pending)
    }

    fn add_pending(&mut self, name: &Name, pending: Pending) -> rusqlite::Result<Attached> {
        let viewer = Arc::clone(&self.viewer.user_id);
        let id = self.touch_messages(name)?;
        let after = self.last_place.filter(|(conversation, _)| *conversation == id).map(|(_, place)| place);
        if after.is_none() {
            // Otherwise the message before it has done so.
            conversation_setting::show(self.db, id)?;
        }
        if self.recent.has_deleted(self.db)? && message_change::forget_key(self.db, &pending.key)? {
            // The app sends again what it had deleted.
            self.recent.forget_deleted();
        }
        let (row, place) = outgoing::insert_pending(self.db, id, &viewer, &pending, after)?;
        self.last_place = Some((id, place));
        let entry = MessageEntry {
            sender: viewer.to_string(),
            ts: pending.ts,
            kind: pending.kind,
            flags: pending.flags,
            client_key: Bytes::copy_from_slice(&pending.key),
            content: pending.content.clone(),
            ..MessageEntry::default()
        };
        let mut message = message::shown(entry, &viewer, &name.to_ref());
        message.message_id.clear();
        message.order_key = place.order_key;
        message.sent_status = MessageSentStatus::Sending as i32;
        message.local_extended_data.clone_from(&pending.local_data);
        self.recent.note_sending(pending.key, Sending::new(row, name, &pending, message.clone()));
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
        let id = self.touch_messages(name)?;
        let to = name.to_ref();
        let (mut new, mut new_are_offline): (Vec<Message>, _) = (Vec::new(), false);
        let mut news = Vec::new();
        for mut entry in entries {
            let is_own = *entry.sender == *self.viewer.user_id;
            self.complete_reply(id, &mut entry)?;
            self.complete_receipt(id, &mut entry)?;
            news.extend(self.news(id, &to, &entry)?);
            let is_local = self.store_message(id, &to, &entry)?;
            let is_news = entry.seq > if is_own { own_after } else { raise_after }
                && !is_local
                && entry.ts >= self.viewer.horizon_ms
                && entry.kind != MessageType::Revoke as i32
                && !self.is_known(entry.message_id)?;
            if is_news {
                let is_offline = entry.ts < self.viewer.login_ms;
                if is_offline != new_are_offline {
                    self.received(id, &to, std::mem::take(&mut new), new_are_offline);
                    new_are_offline = is_offline;
                }
                self.raised.push((entry.message_id, entry.ts));
                new.push(message::shown(entry, &self.viewer.user_id, &to));
            }
        }
        self.received(id, &to, new, new_are_offline);
        self.tell(news);
        Ok(())
    }

    /// Returns what an entry of a page or a head tells of a message that this device holds. They have messages as they are now, and
    /// may come before the change that made them so.
    pub(super) fn news(&self, id: i64, to: &ConversationRef, entry: &MessageEntry) -> rusqlite::Result<Option<News>> {
        // Most messages have neither, and are not looked up.
        let may_tell = entry.kind == MessageType::Revoke as i32 || entry.state.is_some();
        if entry.content.is_empty() || !may_tell {
            return Ok(None);
        }
        let Some((_, held)) = message::held(self.db, id, entry.seq)? else { return Ok(None) };
        if held.flags & IMPORTED != 0 {
            return Ok(None);
        }
        Ok(outdated(&held, entry).map(|kind| {
            let message = message::shown(entry.clone(), &self.viewer.user_id, to);
            News { kind, seq: entry.seq, message }
        }))
    }

    /// Returns whether the app knows a message from an earlier epoch.
    fn is_known(&mut self, message_id: i64) -> rusqlite::Result<bool> {
        Ok(self.recent.knows_messages(self.db)? && message::is_known(self.db, message_id)?)
    }

    /// Adds the event about received messages.
    fn received(&mut self, id: i64, to: &ConversationRef, messages: Vec<Message>, is_offline: bool) {
        let seqs = messages.iter().filter_map(|message| u64::try_from(message.message_seq).ok()).collect();
        let Some(span) = Span::of(id, seqs, is_offline).map(Some) else { return };
        let event = message::received(to, messages, MessageReceivedInfo { is_offline_message: is_offline });
        self.durable.extend(event.map(|event| Durable { event, span }));
    }

    pub(super) fn changes(&mut self, name: &Name, entries: Vec<ChangeEntry>, origin: Origin) -> rusqlite::Result<()> {
        let id = self.touch(name)?;
        // Whoever edits or revokes a message here knows it from the answer.
        let is_done_here = |entry: &ChangeEntry| match &entry.detail {
            Some(change_entry::Detail::Message(message)) if origin == Origin::Own => {
                Some((message.seq, entry.change.as_ref().map_or(MessageChangeKind::Revoked, MessageChange::kind)))
            }
            _ => None,
        };
        let done_here: Vec<(u64, MessageChangeKind)> = entries.iter().filter_map(is_done_here).collect();
        let mut all_news = Vec::new();
        for entry in entries {
            let ChangeEntry { rev, actor, detail, change, at: _ } = entry;
            let entry = match detail {
                Some(change_entry::Detail::Message(entry)) => entry,
                Some(change_entry::Detail::Roster(change)) => {
                    if conversation::advance_roster(self.db, id, rev)? {
                        self.roster(name, (id, rev), change)?;
                    }
                    continue;
                }
                Some(change_entry::Detail::Group(change)) => {
                    if conversation::advance_roster(self.db, id, rev)? {
                        let is_earlier = conversation::is_of_earlier_stay(self.db, id, rev)?;
                        self.group_changed(name, change, is_earlier)?;
                    }
                    continue;
                }
                Some(change_entry::Detail::Expired(expired)) => {
                    self.expired(name, id, expired.through_seq)?;
                    continue;
                }
                None => continue,
            };
            let news = self.message_change(name, (id, rev), (entry, change), &actor)?;
            all_news.extend(news.into_iter().filter(|news| match news.kind {
                MessageChangeKind::Edited | MessageChangeKind::Revoked => !done_here.contains(&(news.seq, news.kind)),
                _ => true,
            }));
        }
        self.tell(all_news);
        Ok(())
    }

    /// Stores an entry of the log; returns whether this device sent it.
    pub(super) fn store_message(
        &mut self,
        id: i64,
        to: &ConversationRef,
        entry: &MessageEntry,
    ) -> rusqlite::Result<bool> {
        let is_own = *entry.sender == *self.viewer.user_id;
        if self.recent.has_deleted(self.db)? {
            if message_change::is_deleted(self.db, id, entry.message_id, (entry.seq, entry.ts))? {
                // What is cleared does not count, and what has expired stays unread until it is read.
                if message_change::hidden(self.db, id, entry.seq)? != message_change::Hidden::Cleared {
                    self.uncount(to, entry);
                }
                // A page that was read before the deletion has it still. Of the user's own, this device may not know that it was
                // sent.
                if is_own {
                    self.settle_sent(entry)?;
                }
                return Ok(true);
            }
            if is_own && message_change::is_key_deleted(self.db, &entry.client_key)? {
                return Ok(true);
            }
        }
        let sending = if is_own { self.recent.take_sending(&entry.client_key) } else { None };
        let Some(sending) = sending else {
            let stored = message::store(self.db, id, &self.viewer.user_id, entry)?;
            if stored.is_mention {
                self.changed.anything(id);
            }
            if let Some(row) = stored.settled {
                self.settled(row, to, "")?;
            }
            return Ok(stored.is_local);
        };
        let is_replaced = outgoing::settle_row(self.db, id, sending.row, Some(sending.kind_and_flags()), entry)?;
        self.settled.extend(Key::try_from(&entry.client_key[..]).ok());
        if sending.is_changed(entry) {
            // It was revoked or edited before this device learned that it was stored.
            message::change(self.db, id, &self.viewer.user_id, entry)?;
            self.settled(sending.row, to, "")?;
        } else if is_replaced {
            self.settled(sending.row, to, "")?;
        } else {
            self.sent(sending, entry)?;
        }
        Ok(true)
    }

    /// Takes a message that is deleted here out of the count of unread ones. A new epoch counts it again, because the server does not
    /// know what only this device has deleted.
    fn uncount(&mut self, to: &ConversationRef, entry: &MessageEntry) {
        let is_counted = entry.has(MessageFlag::Counted) && entry.kind != MessageType::Revoke as i32;
        if is_counted && *entry.sender != *self.viewer.user_id {
            self.uncounted.entry(Name::from(to)).or_default().seqs.push(entry.seq);
        }
    }

    /// Notes that the server has stored a message of this device. Returns false if it knows that already.
    pub(super) fn settle_sent(&mut self, entry: &MessageEntry) -> rusqlite::Result<bool> {
        // Content means that the server has another message under this key.
        let is_another = !entry.content.is_empty();
        let known = self.recent.take_sending(&entry.client_key);
        let row = match &known {
            Some(sending) => Some(sending.row),
            None if self.settled.contains(&entry.client_key[..]) => None,
            None => outgoing::waiting(self.db, &entry.client_key)?.map(|(row, ..)| row),
        };
        let Some(row) = row else { return Ok(false) };
        let name = conversation::name_of_message(self.db, row)?;
        let id = self.touch_messages(&name)?;
        let is_replaced = outgoing::settle_row(self.db, id, row, known.as_ref().map(Sending::kind_and_flags), entry)?;
        if is_another {
            outgoing::replace_content(self.db, row, entry)?;
        }
        match known {
            Some(sending) if !is_another && !is_replaced => self.sent(sending, entry)?,
            _ => self.settled(row, &name.to_ref(), "")?,
        }
        self.remove_deleted(id, row, entry)?;
        Ok(true)
    }

    /// Completes a message that a push has settled before the answer came. The push of an own message has no content, and the answer
    /// has what the server made of it: the addresses of its files.
    pub(super) fn complete_sent(&mut self, name: &Name, entry: &MessageEntry) -> rusqlite::Result<()> {
        if entry.content.is_empty() {
            return Ok(());
        }
        let id = self.touch(name)?;
        let Some((row, held)) = message::held(self.db, id, entry.seq)? else { return Ok(()) };
        // What changed it is newer than the answer.
        let is_changed = held.kind == MessageType::Revoke as i32 || edited_time(&held) > 0;
        if !is_changed && held.client_key[..] == entry.client_key[..] {
            outgoing::replace_content(self.db, row, entry)?;
        }
        Ok(())
    }

    /// Reports that a message was sent, without reading its row.
    pub(super) fn sent(&mut self, sending: Sending, entry: &MessageEntry) -> rusqlite::Result<()> {
        let (row, to) = (sending.row, sending.name.to_ref());
        let message = sending.settled(entry);
        if cfg!(debug_assertions) {
            let stored = message::by_id(self.db, row)?.map(|row| row.into_message(&self.viewer.user_id, &to));
            debug_assert_eq!(Some(&message), stored.as_ref(), "what is remembered of a message is its row");
        }
        self.status(message, "");
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
        let is_sent = message.sent_status == MessageSentStatus::Success as i32;
        self.sent.extend(is_sent.then(|| message.clone()));
        self.statuses.push(MessageSentStatusChangeInfo {
            status: message.sent_status,
            message: Some(message),
            reason: reason.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
