//! Deletions that this device has asked the server for. A sync may bring their entries of the feed before the answer does, or in its
//! place, if entries before them were missed. They are this device's own all the same: its app has the result and needs no event.
//! If a sync has told such a deletion and the request fails, its app has the result all the same. If neither comes, the app does not
//! know what was deleted, and the event tells it later.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use zim_protocol::Message;

use crate::error::Error;
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
    /// Each with whether a sync has told it.
    deletions: BTreeMap<u64, (Deleted, bool)>,
}

/// A deletion that is asked for, until its answer is stored.
#[derive(Debug)]
pub(crate) struct OwnDeletion {
    of: Arc<Deleting>,
    number: u64,
}

impl OwnDeletion {
    /// Returns what the request returned, or success if a sync has told the deletion: it is done then.
    pub(crate) fn done<T>(self, answer: Result<T, Error>) -> Result<(), Error> {
        let is_told = self.of.0.lock().deletions.get(&self.number).is_some_and(|(_, is_told)| *is_told);
        if is_told { Ok(()) } else { answer.map(drop) }
    }
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
        asked.deletions.insert(number, (deleted, false));
        OwnDeletion { of: Arc::clone(self), number }
    }

    /// Notes that a sync tells a deletion. Returns whether this device has asked for it.
    fn tell(&self, is_it: impl Fn(&Deleted) -> bool) -> bool {
        let mut asked = self.0.lock();
        let mut found = false;
        for (_, is_told) in asked.deletions.values_mut().filter(|(deleted, _)| is_it(deleted)) {
            (*is_told, found) = (true, true);
        }
        found
    }

    /// A sync tells that a message was deleted. Returns whether this device does so.
    pub(super) fn tell_message(&self, name: &Name, message: &Message) -> bool {
        self.tell(|deleted| match deleted {
            Deleted::Messages(of, messages) if of == name => messages.iter().any(|one| match one.message_seq {
                1.. => one.message_seq == message.message_seq,
                _ => one.message_id == message.message_id,
            }),
            _ => false,
        })
    }

    /// A sync tells that all messages of a conversation were deleted. Returns whether this device does so. Those of all
    /// conversations are told one after the other, and then at once.
    pub(super) fn tell_conversation(&self, name: &Name) -> bool {
        let has_all = self.0.lock().deletions.values().any(|(deleted, _)| matches!(deleted, Deleted::All));
        self.tell(|deleted| matches!(deleted, Deleted::Conversation(of) if of == name)) || has_all
    }

    /// A sync tells that all messages were deleted. Returns whether this device does so.
    pub(super) fn tell_all(&self) -> bool {
        self.tell(|deleted| matches!(deleted, Deleted::All))
    }
}
