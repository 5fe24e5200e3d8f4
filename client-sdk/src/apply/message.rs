//! Messages: new ones, changed ones, and the user's own on their way.

use std::sync::Arc;

use bytes::Bytes;
use zim_protocol::{
    ChangeEntry, ConversationRef, Message, MessageChange, MessageChangeKind, MessageEntry, MessageReceivedInfo,
    MessageSentStatus, MessageSentStatusChangeInfo, MessageType, change_entry,
};

use super::message_change::{News, outdated};
use super::recent::Sending;
use super::{Attach, Attached, Next, Transaction};
use crate::engine::Origin;
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
        let id = self.touch(name)?;
        conversation_setting::show(self.db, id)?;
        if self.recent.has_deleted(self.db)? && message_change::forget_key(self.db, &pending.key)? {
            // The app sends again what it had deleted.
            self.recent.forget_deleted();
        }
        let after = self.last_place.filter(|(conversation, _)| *conversation == id).map(|(_, place)| place);
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
        let id = self.touch(name)?;
        let to = name.to_ref();
        let (mut new, mut new_are_offline): (Vec<Message>, _) = (Vec::new(), false);
        let mut news = Vec::new();
        for mut entry in entries {
            let is_own = *entry.sender == *self.viewer.user_id;
            self.complete_reply(id, &mut entry)?;
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
        let seqs = || messages.iter().filter_map(|message| u64::try_from(message.message_seq).ok());
        let (Some(first), Some(last)) = (seqs().min(), seqs().max()) else { return };
        let span = Some(Span { conversation: id, first, last, is_offline });
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
                        self.roster(name, id, change)?;
                    }
                    continue;
                }
                Some(change_entry::Detail::Group(change)) => {
                    if conversation::advance_roster(self.db, id, rev)? {
                        self.group_changed(name, change)?;
                    }
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
            if let Some(row) = stored.settled {
                self.settled(row, to, "")?;
            }
            return Ok(stored.is_local);
        };
        let is_replaced = outgoing::settle_row(self.db, id, sending.row, entry)?;
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

    /// Notes that the server has stored a message of this device, if it does not know that yet.
    pub(super) fn settle_sent(&mut self, entry: &MessageEntry) -> rusqlite::Result<()> {
        // Content means that the server has another message under this key.
        let is_another = !entry.content.is_empty();
        if let Some(sending) = self.recent.take_sending(&entry.client_key) {
            let (row, name) = (sending.row, sending.name.clone());
            let id = self.touch(&name)?;
            let is_replaced = outgoing::settle_row(self.db, id, row, entry)?;
            if is_another {
                outgoing::replace_content(self.db, row, entry)?;
            }
            if is_another || is_replaced {
                self.settled(row, &name.to_ref(), "")?;
            } else {
                self.sent(sending, entry)?;
            }
            self.remove_deleted(id, row, entry)?;
        } else if !self.settled.contains(&entry.client_key[..])
            && let Some(row) = outgoing::settle(self.db, entry)?
        {
            let name = conversation::name_of_message(self.db, row)?;
            let id = self.touch(&name)?;
            if is_another {
                outgoing::replace_content(self.db, row, entry)?;
            }
            self.settled(row, &name.to_ref(), "")?;
            self.remove_deleted(id, row, entry)?;
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
mod tests {
    use bytes::Bytes;
    use prost::Message as _;
    use rusqlite::Connection;
    use zim_protocol::{
        ChangeEntry, ConversationCleared, ConversationHead, ConversationType, EventKind, GroupFullInfo, GroupInfo,
        Message, MessageChange, MessageChangeKind, MessageDeletion, MessageEntry, MessageFlag, MessageReceiptStatus,
        MessageRepliedInfo, MessageRepliedInfoState, MessageState, MessageType, change_entry::Detail, feed_entry,
        message_lite_info,
    };

    use crate::apply::{Attach, Job, Local, Recent, Settle, Viewer, apply};
    use crate::engine::{Batch, Change, Origin};
    use crate::events::Heard;
    use crate::store::{group, memory, message, outgoing};
    use crate::types::Name;

    fn entry(kind: MessageType, text: &str, edited_time: i64) -> MessageEntry {
        let state = (edited_time > 0).then(|| Box::new(MessageState { edited_time, ..MessageState::default() }));
        MessageEntry {
            seq: 1,
            n: 1,
            message_id: 7,
            sender: "bob".to_owned(),
            ts: 5,
            kind: kind as i32,
            content: Message::text(text).encode_to_vec().into(),
            state,
            ..MessageEntry::default()
        }
    }

    /// Begins to send a message with the key that all tests use.
    fn attach(db: &Connection, recent: &mut Recent, content: Bytes) {
        let (kind, local_data, config) = (MessageType::Text as i32, String::new(), Bytes::new());
        let pending = outgoing::Pending { key: [3; 16], ts: 5, kind, flags: 1, content, local_data, config };
        let attach = vec![(Name::new(0, "bob"), Attach::New(pending))];
        all_events(db, recent, Job { attach, ..Job::default() }, &[]);
    }

    fn changing(change: Change) -> Job {
        Job { batch: Batch { changes: vec![change], ..Batch::default() }, ..Job::default() }
    }

    fn settling(settle: Settle) -> Job {
        Job { settle: vec![settle], ..Job::default() }
    }

    /// The kinds of the events about messages that follow from a change.
    fn applied(db: &Connection, change: Change) -> Vec<EventKind> {
        applied_job(db, changing(change))
    }

    fn applied_job(db: &Connection, job: Job) -> Vec<EventKind> {
        let wanted = [
            EventKind::MessageRevokeReceived,
            EventKind::MessageEdited,
            EventKind::MessagePinStatusChanged,
            EventKind::MessageRepliedCountChanged,
        ];
        all_events(db, &mut Recent::default(), job, &wanted)
    }

    /// The kinds of the events that follow from a job, if they are among those wanted.
    fn all_events(db: &Connection, recent: &mut Recent, job: Job, wanted: &[EventKind]) -> Vec<EventKind> {
        let viewer = Viewer {
            user_id: "ann".into(),
            device: Bytes::new(),
            login_ms: 0,
            horizon_ms: 0,
            now_ms: 10,
            delivered: None,
            last_event: 0,
            is_caught_up: true,
            heard: Heard::all(),
        };
        let applied = apply(db, &viewer, recent, job).unwrap();
        let kinds = applied.events.iter().map(|(_, event)| event.kind());
        kinds.filter(|kind| wanted.contains(kind)).collect()
    }

    fn page(entry: MessageEntry) -> Change {
        Change::Messages { name: Name::new(0, "bob"), entries: vec![entry], raise_after: u64::MAX, own_after: u64::MAX }
    }

    fn head(entry: MessageEntry) -> Change {
        let conversation = Some(Name::new(0, "bob").to_ref());
        Change::Head(Box::new(ConversationHead {
            conversation,
            last_message: Some(entry),
            ..ConversationHead::default()
        }))
    }

    fn change(kind: MessageChangeKind, entry: MessageEntry) -> Change {
        changes(&[kind], entry, Origin::Other)
    }

    /// Changes of one message, each with the message as it is after all of them, as a pull has them.
    fn changes(kinds: &[MessageChangeKind], entry: MessageEntry, origin: Origin) -> Change {
        let entries = kinds.iter().zip(1..).map(|(kind, rev)| {
            let change = Some(MessageChange { kind: *kind as i32, ..MessageChange::default() });
            let detail = Some(Detail::Message(entry.clone()));
            ChangeEntry { rev, actor: "bob".into(), detail, change, ..ChangeEntry::default() }
        });
        Change::Changes { name: Name::new(0, "bob"), entries: entries.collect(), origin }
    }

    /// The first entry that shows the message as edited or revoked tells it, although another entry is about it.
    #[test]
    fn an_earlier_change_that_shows_a_later_one_tells_it_once() {
        use MessageChangeKind::{Edited, Pinned, Revoked, Unpinned};
        let revoked = || entry(MessageType::Revoke, "", 0);
        let edited = || entry(MessageType::Text, "hello", 9);
        let cases = [
            (vec![Pinned, Revoked], revoked(), vec![EventKind::MessageRevokeReceived]),
            (vec![Edited, Pinned, Revoked], revoked(), vec![EventKind::MessageRevokeReceived]),
            (vec![Pinned, Edited], edited(), vec![EventKind::MessageEdited]),
            (vec![Edited, Edited], edited(), vec![EventKind::MessageEdited]),
        ];
        for (kinds, now, told) in cases {
            for (origin, told) in [(Origin::Other, &told[..]), (Origin::Own, &[])] {
                let db = memory().unwrap();
                applied(&db, page(entry(MessageType::Text, "hi", 0)));
                assert_eq!(applied(&db, changes(&kinds, now.clone(), origin)), told, "{kinds:?} {origin:?}");
                assert!(applied(&db, changes(&kinds, now.clone(), Origin::Other)).is_empty(), "{kinds:?} again");
            }
        }
        // Another user revoked it before this device pinned it.
        let db = memory().unwrap();
        applied(&db, page(entry(MessageType::Text, "hi", 0)));
        let told = applied(&db, changes(&[Unpinned], revoked(), Origin::Own));
        assert_eq!(told, [EventKind::MessagePinStatusChanged, EventKind::MessageRevokeReceived]);
    }

    /// A refusal may come after the user was let in.
    #[test]
    fn a_refused_message_disables_a_group_only_if_the_user_is_not_in_it() {
        for (role, is_disabled) in [(0, true), (3, false)] {
            let (db, name) = (memory().unwrap(), Name::new(ConversationType::Group as i32, "crew"));
            let base_info = Some(GroupInfo { group_id: "crew".into(), ..GroupInfo::default() });
            group::write(&db, &GroupFullInfo { base_info, ..GroupFullInfo::default() }).unwrap();
            group::write_own(&db, "crew", (role, 0)).unwrap();
            let failed = Settle::Failed { name, key: [1; 16], reason: String::new(), is_disabled: true };
            applied_job(&db, Job { settle: vec![failed], ..Job::default() });
            let found: bool =
                db.query_row("SELECT is_disabled FROM conversation WHERE name = 'crew'", [], |row| row.get(0)).unwrap();
            assert_eq!(found, is_disabled, "role {role}");
        }
    }

    /// The app ends before it knows that a message was sent, and another device deletes the message meanwhile.
    #[test]
    fn a_message_that_was_deleted_before_its_answer_came_does_not_stay() {
        let text = || entry(MessageType::Text, "hi", 0);
        let mine = || MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..text() };
        let to = Name::new(0, "bob").to_ref();
        let single = feed_entry::Detail::MessageDeletion(MessageDeletion {
            conversation: Some(to.clone()),
            seq: 1,
            ..MessageDeletion::default()
        });
        let all = feed_entry::Detail::Cleared(ConversationCleared {
            conversation: Some(to),
            cleared_seq: 1,
            ..ConversationCleared::default()
        });
        let wanted = [EventKind::MessageSentStatusChanged, EventKind::MessageDeleted];
        let job = |db: &Connection, recent: &mut Recent, job: Job| all_events(db, recent, job, &wanted);
        let answer = Settle::Sent(MessageEntry { content: Bytes::new(), ..mine() });
        for (deletion, told) in [(single, &[EventKind::MessageDeleted][..]), (all, &[])] {
            for is_page in [false, true] {
                for is_remembered in [false, true] {
                    let (db, mut recent) = (memory().unwrap(), Recent::default());
                    attach(&db, &mut recent, text().content);
                    if !is_remembered {
                        recent.clear();
                    }
                    let deleted = Change::Own { detail: Box::new(deletion.clone()), origin: Origin::Other };
                    assert!(job(&db, &mut recent, changing(deleted)).is_empty());
                    let last = match is_page {
                        true => changing(page(mine())),
                        false => settling(answer.clone()),
                    };
                    let expected = [told, &[EventKind::MessageSentStatusChanged]].concat();
                    assert_eq!(job(&db, &mut recent, last), expected, "{is_page} {is_remembered} {deletion:?}");
                    let rows: i64 = db.query_row("SELECT COUNT(*) FROM message", [], |row| row.get(0)).unwrap();
                    assert_eq!(rows, 0, "{is_page} {is_remembered} {deletion:?}");
                }
            }
        }
    }

    /// Its state has that, and follows the source, which may be revoked. The content is what this device has sent.
    #[test]
    fn an_own_reply_keeps_what_it_replies_to_only_once() {
        let info = || Some(Box::new(MessageRepliedInfo { message_seq: 9, ..MessageRepliedInfo::default() }));
        let bare = Message::text("hi").encode_to_vec();
        let sent = Message { replied_info: info(), ..Message::text("hi") }.encode_to_vec();
        let state = Some(Box::new(MessageState { replied_info: info().map(|info| *info), ..MessageState::default() }));
        let told = |content: Bytes| MessageEntry {
            sender: "ann".into(),
            client_key: vec![3; 16].into(),
            content,
            state: state.clone(),
            ..entry(MessageType::Text, "", 0)
        };
        let (empty, whole) = (told(Bytes::new()), told(bare.clone().into()));
        let answer = || settling(Settle::Sent(MessageEntry { state: None, ..empty.clone() }));
        let (push, page) = (|| changing(page(empty.clone())), || changing(page(whole.clone())));
        let pin = || changing(change(MessageChangeKind::Pinned, empty.clone()));
        type Way<'a> = (&'a str, &'a [&'a dyn Fn() -> Job]);
        let ways: [Way<'_>; 5] = [
            ("a push", &[&push]),
            ("a page", &[&page]),
            ("an answer, then a push", &[&answer, &push]),
            ("an answer, then a page", &[&answer, &page]),
            ("an answer, then a change", &[&answer, &pin]),
        ];
        for (way, jobs) in ways {
            // Whether this process has sent it, or the one before.
            for is_remembered in [false, true] {
                let (db, mut recent) = (memory().unwrap(), Recent::default());
                attach(&db, &mut recent, sent.clone().into());
                if !is_remembered {
                    recent.clear();
                }
                for job in jobs {
                    all_events(&db, &mut recent, job(), &[]);
                }
                let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
                assert_eq!(row.content, bare, "{way} {is_remembered}");
                let message = row.into_message("ann", &Name::new(0, "bob").to_ref());
                assert_eq!(message.replied_info.map(|info| info.message_seq), Some(9), "{way} {is_remembered}");
            }
        }
    }

    /// The server resolved the reply before the source was revoked or edited, and its answer came after that.
    #[test]
    fn a_reply_shows_its_source_as_this_device_holds_it() {
        use MessageRepliedInfoState::{Deleted, Normal};
        let cases = [
            (MessageChangeKind::Revoked, entry(MessageType::Revoke, "", 0), (Deleted, None)),
            (MessageChangeKind::Edited, entry(MessageType::Text, "hello", 9), (Normal, Some("hello"))),
        ];
        for (kind, now, (state, text)) in cases {
            let db = memory().unwrap();
            applied(&db, page(entry(MessageType::Text, "hi", 0)));
            applied(&db, change(kind, now));
            let quoted = Message::text("hi").lite(MessageType::Text as i32);
            let info =
                MessageRepliedInfo { message_seq: 1, state: Normal as i32, message_info: quoted, ..Default::default() };
            let state_of_reply = MessageState { replied_info: Some(info), ..MessageState::default() };
            let reply = MessageEntry { seq: 2, message_id: 8, ..entry(MessageType::Text, "reply", 0) };
            applied(&db, page(MessageEntry { state: Some(Box::new(state_of_reply)), ..reply }));
            let (_, row) = message::held(&db, 1, 2).unwrap().unwrap();
            let shown = row.into_message("ann", &Name::new(0, "bob").to_ref()).replied_info.unwrap();
            assert_eq!(shown.state(), state);
            let quoted = shown.message_info.and_then(|info| info.body).map(|body| match body {
                message_lite_info::Body::Text(text) => text.message,
                other => panic!("{other:?}"),
            });
            assert_eq!(quoted.as_deref(), text);
        }
    }

    #[test]
    fn a_message_that_is_deleted_while_it_is_sent_does_not_come_back() {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
        let own = Message { local_message_id: zim_protocol::id::hex(&[3; 16]), ..Message::default() };
        let delete = Local::Delete { name: Name::new(0, "bob"), messages: vec![own] };
        all_events(&db, &mut recent, settling(Settle::Local(Box::new(delete))), &[]);
        let mine =
            MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..entry(MessageType::Text, "hi", 0) };
        for _ in 0..2 {
            let entries = vec![mine.clone()];
            let name = Name::new(0, "bob");
            let push = Change::Messages { name, entries, raise_after: 0, own_after: 0 };
            let told = [EventKind::PeerMessageReceived, EventKind::MessageSentStatusChanged];
            assert!(all_events(&db, &mut recent, changing(push), &told).is_empty());
            assert!(message::held(&db, 1, 1).unwrap().is_none());
            // Another run of the app.
            recent.clear();
        }
        // The same key again is a message again.
        attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
        all_events(
            &db,
            &mut recent,
            settling(Settle::Sent(MessageEntry { content: Bytes::new(), ..mine.clone() })),
            &[],
        );
        all_events(&db, &mut recent, changing(Change::Drop(Name::new(0, "bob"))), &[]);
        all_events(&db, &mut recent, changing(page(mine.clone())), &[]);
        assert!(message::held(&db, 1, 1).unwrap().is_some());
        // The app deletes it by the object that it had while it was sent.
        let own = Message { local_message_id: zim_protocol::id::hex(&[3; 16]), ..Message::default() };
        let delete = || Local::Delete { name: Name::new(0, "bob"), messages: vec![own.clone()] };
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
        all_events(&db, &mut recent, settling(Settle::Sent(MessageEntry { content: Bytes::new(), ..mine })), &[]);
        all_events(&db, &mut recent, settling(Settle::Local(Box::new(delete()))), &[]);
        assert!(message::held(&db, 1, 1).unwrap().is_none());
    }

    #[test]
    fn local_data_is_what_the_app_has_set_last() {
        let (db, mut recent) = (memory().unwrap(), Recent::default());
        let data = |db: &Connection| message::held(db, 1, 1).unwrap().unwrap().1.local_data;
        let set = |text: &str, message: Message| {
            let (name, data) = (Name::new(0, "bob"), text.to_owned());
            settling(Settle::Local(Box::new(Local::Data { name, message: Box::new(message), data })))
        };
        attach(&db, &mut recent, entry(MessageType::Text, "hi", 0).content);
        // While it is sent: what is remembered of it must not hide it.
        let pending = Message { local_message_id: zim_protocol::id::hex(&[3; 16]), ..Message::default() };
        all_events(&db, &mut recent, set("while", pending), &[]);
        let mine =
            MessageEntry { sender: "ann".into(), client_key: vec![3; 16].into(), ..entry(MessageType::Text, "hi", 0) };
        let answer = MessageEntry { content: Bytes::new(), ..mine.clone() };
        all_events(&db, &mut recent, settling(Settle::Sent(answer)), &[]);
        assert_eq!(data(&db), "while");
        // The rows are dropped and fetched again.
        let stored = || Message { message_seq: 1, ..Message::default() };
        for text in ["a", "", "b", ""] {
            all_events(&db, &mut recent, set(text, stored()), &[]);
            all_events(&db, &mut recent, changing(Change::Drop(Name::new(0, "bob"))), &[]);
            all_events(&db, &mut recent, changing(page(mine.clone())), &[]);
            assert_eq!(data(&db), text);
        }
    }

    /// Whoever has read it before, and whatever a device learned first.
    #[test]
    fn a_revoked_message_has_no_receipt() {
        let shown = |db: &Connection| {
            let (_, row) = message::held(db, 1, 1).unwrap().unwrap();
            assert_eq!(row.kind, MessageType::Revoke as i32);
            row.into_message("ann", &Name::new(0, "bob").to_ref()).receipt_status()
        };
        let read = |kind: MessageType, receipt: MessageReceiptStatus| {
            let state = MessageState { receipt: receipt as i32, is_personal: true, ..MessageState::default() };
            MessageEntry { flags: MessageFlag::Receipt as u32, state: Some(Box::new(state)), ..entry(kind, "hi", 0) }
        };
        let revoked = MessageEntry { state: None, ..read(MessageType::Revoke, MessageReceiptStatus::None) };
        for before in [MessageReceiptStatus::Processing, MessageReceiptStatus::Done] {
            for after in [page(revoked.clone()), change(MessageChangeKind::Revoked, revoked.clone())] {
                let db = memory().unwrap();
                applied(&db, page(read(MessageType::Text, before)));
                applied(&db, after);
                assert_eq!(shown(&db), MessageReceiptStatus::None, "{before:?}");
            }
        }
        let db = memory().unwrap();
        applied(&db, page(revoked));
        assert_eq!(shown(&db), MessageReceiptStatus::None, "a fresh device");
    }

    /// A page of history and the head of a conversation have the message as it is now, and come before the change that made it so.
    #[test]
    fn a_page_or_a_head_tells_that_a_message_was_revoked_or_edited_and_the_change_does_not_tell_it_again() {
        let cases = [
            (EventKind::MessageRevokeReceived, MessageChangeKind::Revoked, entry(MessageType::Revoke, "revoked", 0)),
            (EventKind::MessageEdited, MessageChangeKind::Edited, entry(MessageType::Text, "hello", 9)),
        ];
        for (event, kind, now) in cases {
            for first in [page, head] {
                let db = memory().unwrap();
                assert!(applied(&db, page(entry(MessageType::Text, "hi", 0))).is_empty(), "{event:?}");
                assert_eq!(applied(&db, first(now.clone())), [event]);
                assert!(applied(&db, first(now.clone())).is_empty(), "{event:?}");
                assert!(applied(&db, change(kind, now.clone())).is_empty(), "{event:?}");
                // A page that was read earlier tells nothing either, and brings nothing back.
                assert!(applied(&db, page(entry(MessageType::Text, "hi", 0))).is_empty(), "{event:?}");
                let (_, row) = message::held(&db, 1, 1).unwrap().unwrap();
                assert_eq!((row.kind, &row.content), (now.kind, &now.content));
                assert!(applied(&db, change(kind, now.clone())).is_empty(), "{event:?}");
            }
        }
    }

    /// They come and go, and a page may be older than a change.
    #[test]
    fn pins_and_counts_of_replies_are_told_by_changes_alone_and_once() {
        use MessageChangeKind::{Pinned, Replied, Unpinned};
        let with =
            |state: MessageState| MessageEntry { state: Some(Box::new(state)), ..entry(MessageType::Text, "hi", 0) };
        let bare = || with(MessageState::default());
        let pinned = || with(MessageState { pinned_time: 9, ..MessageState::default() });
        let replied = || with(MessageState { replied_count: 2, ..MessageState::default() });
        let (pin, count) = (EventKind::MessagePinStatusChanged, EventKind::MessageRepliedCountChanged);
        let cases = [
            (vec![Pinned], bare(), pinned(), pin),
            (vec![Unpinned], pinned(), bare(), pin),
            (vec![Pinned, Unpinned], bare(), bare(), pin),
            (vec![Replied, Replied], bare(), replied(), count),
        ];
        for (kinds, before, now, event) in cases {
            for first in [page, head] {
                let db = memory().unwrap();
                applied(&db, page(before.clone()));
                assert!(applied(&db, first(now.clone())).is_empty(), "{kinds:?}");
                assert_eq!(applied(&db, changes(&kinds, now.clone(), Origin::Other)), [event], "{kinds:?}");
                assert!(applied(&db, page(before.clone())).is_empty(), "{kinds:?}: an older page");
                assert!(applied(&db, changes(&kinds, now.clone(), Origin::Other)).is_empty(), "{kinds:?} again");
            }
        }
    }
}
