//! Deletions that this device has asked the server for. A sync may bring their entries of the feed before the answer does, or in its
//! place, if entries before them were missed. They are this device's own all the same: its app has the result and needs no event.
//! If a sync has told such a deletion and the request fails, its app has the result all the same. If neither comes, the app does not
//! know what was deleted, and the event tells it later.

use std::collections::{BTreeMap, BTreeSet};
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
    /// All messages of a conversation up to a position.
    Conversation(Name, u64),
    /// All messages, by a request with this number.
    All(i64),
}

/// The deletions that are asked for. See the module.
#[derive(Debug, Default)]
pub(crate) struct Deleting(Mutex<Asked>);

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    deletions: BTreeMap<u64, Deletion>,
}

#[derive(Debug)]
struct Deletion {
    deleted: Deleted,
    /// The indexes of the messages that a sync has told; of a deletion of all messages 0.
    told: BTreeSet<usize>,
}

impl Deletion {
    /// Whether a sync has told all of it. One of the messages may have been deleted by an earlier request.
    fn is_told(&self) -> bool {
        let count = if let Deleted::Messages(_, messages) = &self.deleted { messages.len() } else { 1 };
        self.told.len() == count
    }
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
        let is_told = self.of.0.lock().deletions.get(&self.number).is_some_and(Deletion::is_told);
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
        asked.deletions.insert(number, Deletion { deleted, told: BTreeSet::new() });
        OwnDeletion { of: Arc::clone(self), number }
    }

    /// Notes that a sync tells a deletion; `part` returns which part of a deletion that is. Returns whether this device has asked for it.
    fn tell(&self, part: impl Fn(&Deleted) -> Option<usize>) -> bool {
        let mut asked = self.0.lock();
        let mut found = false;
        for one in asked.deletions.values_mut() {
            if let Some(index) = part(&one.deleted) {
                one.told.insert(index);
                found = true;
            }
        }
        found
    }

    /// A sync tells that a message was deleted. Returns whether this device does so.
    pub(super) fn tell_message(&self, name: &Name, message: &Message) -> bool {
        self.tell(|deleted| match deleted {
            Deleted::Messages(of, messages) if of == name => messages.iter().position(|one| match one.message_seq {
                1.. => one.message_seq == message.message_seq,
                _ => one.message_id == message.message_id,
            }),
            _ => None,
        })
    }

    /// A sync tells that all messages of a conversation up to a position were deleted. Returns whether this device does so: another
    /// one may have deleted fewer. Those of all conversations are told one after the other, and then at once.
    pub(super) fn tell_conversation(&self, name: &Name, cleared_seq: u64) -> bool {
        let has_all = self.0.lock().deletions.values().any(|one| matches!(one.deleted, Deleted::All(_)));
        let is_told =
            |deleted: &Deleted| matches!(deleted, Deleted::Conversation(of, seq) if of == name && *seq <= cleared_seq);
        self.tell(|deleted| is_told(deleted).then_some(0)) || has_all
    }

    /// A sync tells that all messages were deleted, by a request with this number. Returns whether this device does so: what another one
    /// deletes is what the server had when that request came, and there may be more by now.
    pub(super) fn tell_all(&self, number: i64) -> bool {
        self.tell(|deleted| matches!(deleted, Deleted::All(own) if *own == number).then_some(0))
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::ErrorCode;

    use super::*;

    /// Two requests may name the same message. That one of them has taken effect says nothing about the rest of the other.
    #[test]
    fn a_request_that_failed_is_done_only_if_all_its_messages_were_told() {
        let message = |message_seq| Message { message_seq, ..Message::default() };
        let name = Name::new(2, "crew");
        for (told, is_done) in [(&[6][..], false), (&[6, 6], false), (&[6, 7], true)] {
            let deleting = Arc::<Deleting>::default();
            let own = deleting.begin(Deleted::Messages(name.clone(), vec![message(6), message(7)]));
            for seq in told {
                assert!(deleting.tell_message(&name, &message(*seq)));
            }
            assert!(!deleting.tell_message(&name, &message(8)));
            let failed: Result<(), Error> = Err(Error::new(ErrorCode::CommonModuleImServerError, "the disk"));
            assert_eq!(own.done(failed).is_ok(), is_done, "{told:?}");
        }
    }

    /// Another device of the user had seen less, and its request was stored first.
    #[test]
    fn a_request_that_failed_is_not_done_if_fewer_messages_were_deleted() {
        let name = Name::new(2, "crew");
        for (cleared_seq, is_done) in [(2, false), (3, true), (4, true)] {
            let deleting = Arc::<Deleting>::default();
            let own = deleting.begin(Deleted::Conversation(name.clone(), 3));
            assert_eq!(deleting.tell_conversation(&name, cleared_seq), is_done);
            assert!(!deleting.tell_conversation(&Name::new(0, "crew"), 9));
            let failed: Result<(), Error> = Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
            assert_eq!(own.done(failed).is_ok(), is_done, "{cleared_seq}");
        }
    }

    /// Another device of the user deleted all messages as well, or this device did so by an earlier request. A server of an earlier
    /// version gives no number.
    #[test]
    fn a_request_for_all_messages_that_failed_is_done_only_if_it_is_the_one_that_was_told() {
        for (number, is_done) in [(8, false), (0, false), (7, true)] {
            let deleting = Arc::<Deleting>::default();
            let own = deleting.begin(Deleted::All(7));
            assert_eq!(deleting.tell_all(number), is_done, "{number}");
            let failed: Result<(), Error> = Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
            assert_eq!(own.done(failed).is_ok(), is_done, "{number}");
        }
    }
}
