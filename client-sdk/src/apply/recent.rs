//! What was just written, so that it need not be read again: most transactions are about the conversation and the
//! messages of the one before. A transaction that fails clears it.

use std::collections::HashMap;

use bytes::Bytes;
use rusqlite::Connection;
use zim_protocol::{Conversation, MessageEntry, MessageFlag, MessageReceiptStatus, MessageSentStatus};

use crate::store::message::{self, order_key};
use crate::store::outgoing::Pending;
use crate::store::{conversation, message_change};
use crate::types::{Key, Name};

/// The most conversations. When there are more, all are forgotten.
const CONVERSATIONS: usize = 256;

/// A conversation.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// Its row.
    pub(super) id: i64,
    /// The conversation as the app sees it; `None`: it is not in the list.
    pub(super) shown: Option<Conversation>,
}

/// A message of this login that the server has not stored.
#[derive(Debug)]
pub(super) struct Sending {
    /// Its row.
    pub(super) row: i64,
    pub(super) name: Name,
    kind: i32,
    flags: u32,
    content: Bytes,
    /// The message as the app sees it.
    message: zim_protocol::Message,
}

impl Sending {
    pub(super) fn new(row: i64, name: &Name, pending: &Pending, message: zim_protocol::Message) -> Self {
        let (kind, flags, content) = (pending.kind, pending.flags, pending.content.clone());
        Self { row, name: name.clone(), kind, flags, content, message }
    }

    /// Whether the server stored another message than was sent, or it was changed meanwhile.
    pub(super) fn is_changed(&self, entry: &MessageEntry) -> bool {
        // A reply learns from the server what it replies to.
        entry.state.is_some()
            || !entry.content.is_empty()
                && (entry.kind, entry.flags, &entry.content) != (self.kind, self.flags, &self.content)
    }

    /// Returns the type and the flags of its row.
    pub(super) fn kind_and_flags(&self) -> (i32, u32) {
        (self.kind, self.flags)
    }

    /// Returns the message as the server stored it.
    pub(super) fn settled(self, entry: &MessageEntry) -> zim_protocol::Message {
        let mut message = self.message;
        message.message_id = entry.message_id.to_string();
        message.message_seq = i64::try_from(entry.seq).unwrap_or(i64::MAX);
        message.timestamp = entry.ts;
        message.order_key = order_key(entry.seq);
        message.sent_status = MessageSentStatus::Success as i32;
        if self.flags & MessageFlag::Receipt as u32 != 0 {
            message.receipt_status = MessageReceiptStatus::Processing as i32;
        }
        message
    }
}

/// What was just written. See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    conversations: HashMap<Name, Known>,
    sending: HashMap<Key, Sending>,
    /// Whether there are messages of an earlier epoch that the app knows; `None`: it must be read.
    knows_messages: Option<bool>,
    /// Whether the user, or this device alone, has deleted messages; `None`: it must be read.
    has_deleted: Option<bool>,
    /// Whether the feed is told again; `None`: it must be read.
    is_told_again: Option<bool>,
}

impl Recent {
    /// Forgets everything, because the store may not have it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a conversation, which may change now.
    pub(super) fn take_conversation(&mut self, name: &Name) -> Option<Known> {
        self.conversations.remove(name)
    }

    /// Notes a conversation as it is now.
    pub(super) fn note_conversation(&mut self, name: Name, known: Known) {
        if self.conversations.len() >= CONVERSATIONS {
            self.conversations.clear();
        }
        self.conversations.insert(name, known);
    }

    /// Forgets the conversations, because rows were deleted.
    pub(super) fn forget_conversations(&mut self) {
        self.conversations.clear();
    }

    /// Returns whether there are messages of an earlier epoch that the app knows.
    pub(super) fn knows_messages(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        if let Some(knows) = self.knows_messages {
            return Ok(knows);
        }
        let knows = message::has_known(db)?;
        self.knows_messages = Some(knows);
        Ok(knows)
    }

    /// Returns whether the user, or this device alone, has deleted messages.
    pub(super) fn has_deleted(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        if let Some(has) = self.has_deleted {
            return Ok(has);
        }
        let has = message_change::has_deleted(db)?;
        self.has_deleted = Some(has);
        Ok(has)
    }

    /// Returns whether an epoch has begun and the feed is told again.
    pub(super) fn is_told_again(&mut self, db: &Connection) -> rusqlite::Result<bool> {
        if let Some(is_told_again) = self.is_told_again {
            return Ok(is_told_again);
        }
        let is_told_again = conversation::is_told_again(db)?;
        self.is_told_again = Some(is_told_again);
        Ok(is_told_again)
    }

    /// An epoch begins, or its first sync has ended.
    pub(super) fn set_told_again(&mut self, db: &Connection, is_told_again: bool) -> rusqlite::Result<()> {
        conversation::set_told_again(db, is_told_again)?;
        self.is_told_again = Some(is_told_again);
        Ok(())
    }

    /// Messages are deleted.
    pub(super) fn forget_deleted(&mut self) {
        self.has_deleted = None;
    }

    /// An epoch ends, so there may be such messages.
    pub(super) fn forget_known(&mut self) {
        self.knows_messages = None;
    }

    /// Notes a message that is being sent.
    pub(super) fn note_sending(&mut self, key: Key, sending: Sending) {
        self.sending.insert(key, sending);
    }

    /// Forgets what is being sent, because rows have changed.
    pub(super) fn forget_sending(&mut self) {
        self.sending.clear();
    }

    /// Takes a message that was sent, or has failed.
    pub(super) fn take_sending(&mut self, key: &[u8]) -> Option<Sending> {
        self.sending.remove(key)
    }
}
