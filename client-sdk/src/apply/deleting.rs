//! Deletions that this device has asked the server for. A sync may bring their entries of the feed before the answer does, or in its
//! place, if entries before them were missed. They are this device's own all the same: its app has the result and needs no event.
//! If there is no answer, the app does not know what was deleted, and the event tells it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use zim_protocol::Message;

use crate::types::Name;

/// What is deleted.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// Messages of a conversation.
    Messages(Name, Vec<Message>),
    /// All messages of a conversation.
    Conversation(Name),
    /// All messages.
    All,
}

/// The deletions that are asked for. See the module.
#[derive(Debug, Default)]
pub(crate) struct Deleting(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    deletions: BTreeMap<u64, Deleted>,
}

/// A deletion that is asked for, until its answer is stored.
#[derive(Debug)]
pub(crate) struct OwnDeletion {
    of: Arc<Deleting>,
    number: u64,
}

impl Drop for OwnDeletion {
    fn drop(&mut self) {
        self.of.0.lock().deletions.remove(&self.number);
    }
}

impl Deleting {
    /// Notes a deletion that the server is about to be asked for.
    pub(crate) fn begin(self: &Arc<Self>, deleted: Deleted) -> OwnDeletion {
        let mut asked = self.0.lock();
        asked.last += 1;
        let number = asked.last;
        asked.deletions.insert(number, deleted);
        OwnDeletion { of: Arc::clone(self), number }
    }

    /// Whether this device deletes a message.
    pub(super) fn has_message(&self, name: &Name, message: &Message) -> bool {
        self.0.lock().deletions.values().any(|deleted| match deleted {
            Deleted::Messages(of, messages) if of == name => messages.iter().any(|one| match one.message_seq {
                1.. => one.message_seq == message.message_seq,
                _ => one.message_id == message.message_id,
            }),
            _ => false,
        })
    }

    /// Whether this device deletes all messages of a conversation.
    pub(super) fn has_conversation(&self, name: &Name) -> bool {
        self.0.lock().deletions.values().any(|deleted| match deleted {
            Deleted::Conversation(of) => of == name,
            Deleted::All => true,
            Deleted::Messages(..) => false,
        })
    }

    /// Whether this device deletes all messages.
    pub(super) fn has_all(&self) -> bool {
        self.0.lock().deletions.values().any(|deleted| matches!(deleted, Deleted::All))
    }
}
