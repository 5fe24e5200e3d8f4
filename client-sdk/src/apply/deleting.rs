//! Deletions that this device has asked the server for. A sync may bring their entries of the feed before the answer does, or in its
//! place, if entries before them were missed. They are this device's own all the same: its app has the result and needs no event.
//! If a sync has told such a deletion and the request fails, its app has the result all the same. If neither comes, the app does not
//! know what was deleted, and the event tells it later.
//!
//! Other devices of the user may delete at the same time. What they delete beyond is news at once. What this device is deleting as well
//! is news only if its own request fails, so it is held until then. If the process ends first, no event tells it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
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

/// What is gone from a conversation: these messages, or all that there were if the list is empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gone {
    pub(crate) name: Name,
    pub(crate) messages: Vec<Message>,
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
    /// What a sync has told of it, or of what it includes. The app does not hear of it if the deletion succeeds.
    held: Vec<Gone>,
}

impl Deletion {
    /// Whether a sync has told all of it. One of the messages may have been deleted by an earlier request.
    fn is_told(&self) -> bool {
        let count = if let Deleted::Messages(_, messages) = &self.deleted { messages.len() } else { 1 };
        self.told.len() == count
    }
}

/// A deletion that is asked for, until its answer is stored. If it ends without success, the app hears of what was held: also if nobody
/// waits for the answer any more.
pub(crate) struct OwnDeletion {
    of: Arc<Deleting>,
    number: u64,
    /// Tells the app what is gone.
    tell: Box<dyn Fn(Vec<Gone>) + Send>,
}

impl OwnDeletion {
    /// Returns what the request returned, or success if a sync has told the deletion: it is done then.
    pub(crate) fn done<T>(self, answer: Result<T, Error>) -> Result<(), Error> {
        let mut asked = self.of.0.lock();
        let Some(own) = asked.deletions.get_mut(&self.number) else { return answer.map(drop) };
        let outcome = if own.is_told() { Ok(()) } else { answer.map(drop) };
        if outcome.is_ok() {
            own.held.clear();
        }
        outcome
    }
}

impl Drop for OwnDeletion {
    fn drop(&mut self) {
        let ended = self.of.0.lock().deletions.remove(&self.number);
        let mut held = ended.map(|ended| ended.held).unwrap_or_default();
        // A sync tells a conversation again if it could not be stored the first time.
        let mut told = HashSet::new();
        held.retain(|gone| !gone.messages.is_empty() || told.insert(gone.name.clone()));
        if !held.is_empty() {
            (self.tell)(held);
        }
    }
}

impl Deleting {
    /// Notes a deletion that the server is about to be asked for. `tell` tells the app what is gone.
    pub(crate) fn begin(self: &Arc<Self>, deleted: Deleted, tell: impl Fn(Vec<Gone>) + Send + 'static) -> OwnDeletion {
        let mut asked = self.0.lock();
        asked.last += 1;
        let number = asked.last;
        asked.deletions.insert(number, Deletion { deleted, told: BTreeSet::new(), held: Vec::new() });
        OwnDeletion { of: Arc::clone(self), number, tell: Box::new(tell) }
    }

    /// A sync tells that a message was deleted. Returns whether this device does so. If that is news, it is held.
    pub(super) fn tell_message(&self, name: &Name, message: &Message, is_news: bool) -> bool {
        let mut asked = self.0.lock();
        let mut is_own = false;
        for own in asked.deletions.values_mut() {
            let Deleted::Messages(of, messages) = &own.deleted else { continue };
            let index = messages.iter().position(|one| match one.message_seq {
                1.. => one.message_seq == message.message_seq,
                _ => one.message_id == message.message_id,
            });
            let Some(index) = index.filter(|_| of == name) else { continue };
            // A sync tells it again if it could not be stored the first time.
            if own.told.insert(index) && is_news {
                own.held.push(Gone { name: name.clone(), messages: vec![message.clone()] });
            }
            is_own = true;
        }
        is_own
    }

    /// A sync tells that all messages of a conversation up to a position were deleted. Returns up to where this device does so; 0:
    /// nowhere. Another one may have deleted fewer, and then it was not this device's deletion, or more.
    pub(super) fn tell_conversation(&self, name: &Name, cleared_seq: u64) -> u64 {
        let mut asked = self.0.lock();
        let mut own_seq = 0;
        for own in asked.deletions.values_mut() {
            if let Deleted::Conversation(of, seq) = &own.deleted
                && of == name
                && *seq <= cleared_seq
            {
                own_seq = own_seq.max(*seq);
                own.told.insert(0);
            }
        }
        own_seq
    }

    /// Holds that all messages of a conversation are gone if this device is deleting those of all conversations: they are told one after
    /// the other, and then at once. Returns whether it does. What is told after the end of its deletion, another device has deleted.
    pub(super) fn hold_conversation(&self, name: &Name) -> bool {
        let mut asked = self.0.lock();
        let mut is_held = false;
        for own in asked.deletions.values_mut() {
            if matches!(own.deleted, Deleted::All(_)) && !own.is_told() {
                own.held.push(Gone { name: name.clone(), messages: Vec::new() });
                is_held = true;
            }
        }
        is_held
    }

    /// A sync tells that all messages were deleted, by a request with this number. Returns whether this device does so: what another one
    /// deletes is what the server had when that request came, and there may be more by now. What was held is part of it either way.
    pub(super) fn tell_all(&self, number: i64) -> bool {
        let mut asked = self.0.lock();
        let mut is_own = false;
        for own in asked.deletions.values_mut() {
            let Deleted::All(of) = own.deleted else { continue };
            if of == number {
                own.told.insert(0);
                is_own = true;
            }
            own.held.clear();
        }
        is_own
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use zim_protocol::ErrorCode;

    use super::*;

    /// Two requests may name the same message. That one of them has taken effect says nothing about the rest of the other.
    #[test]
    fn a_request_that_failed_is_done_only_if_all_its_messages_were_told() {
        let message = |message_seq| Message { message_seq, ..Message::default() };
        let name = Name::new(2, "crew");
        for (told, is_done) in [(&[6][..], false), (&[6, 6], false), (&[6, 7], true)] {
            let deleting = Arc::<Deleting>::default();
            let own = deleting.begin(Deleted::Messages(name.clone(), vec![message(6), message(7)]), drop);
            for seq in told {
                assert!(deleting.tell_message(&name, &message(*seq), true));
            }
            assert!(!deleting.tell_message(&name, &message(8), true));
            let failed: Result<(), Error> = Err(Error::new(ErrorCode::CommonModuleImServerError, "the disk"));
            assert_eq!(own.done(failed).is_ok(), is_done, "{told:?}");
        }
    }

    /// Another device of the user had seen less, and its request was stored first.
    #[test]
    fn a_request_that_failed_is_not_done_if_fewer_messages_were_deleted() {
        let name = Name::new(2, "crew");
        for (cleared_seq, own_seq, is_done) in [(2, 0, false), (3, 3, true), (4, 3, true)] {
            let deleting = Arc::<Deleting>::default();
            let own = deleting.begin(Deleted::Conversation(name.clone(), 3), drop);
            assert_eq!(deleting.tell_conversation(&name, cleared_seq), own_seq);
            assert_eq!(deleting.tell_conversation(&Name::new(0, "crew"), 9), 0);
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
            let own = deleting.begin(Deleted::All(7), drop);
            assert_eq!(deleting.tell_all(number), is_done, "{number}");
            let failed: Result<(), Error> = Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
            assert_eq!(own.done(failed).is_ok(), is_done, "{number}");
        }
    }

    /// Returns what the app hears of when a request has ended with this answer; `None`: nobody waited for one.
    fn told(deleted: Deleted, sync: impl FnOnce(&Deleting), answer: Option<Result<(), Error>>) -> Vec<Gone> {
        let deleting = Arc::<Deleting>::default();
        let (sender, heard) = channel();
        let own = deleting.begin(deleted, move |gone| sender.send(gone).unwrap());
        sync(&deleting);
        match answer {
            Some(answer) => drop(own.done(answer)),
            None => drop(own),
        }
        assert!(deleting.0.lock().deletions.is_empty());
        heard.try_iter().flatten().collect()
    }

    /// It may have been another device that deleted them.
    #[test]
    fn what_is_held_is_told_unless_the_request_has_succeeded() {
        let failed = || Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late"));
        let name = Name::new(2, "crew");
        let message = |message_seq| Message { message_seq, ..Message::default() };
        let two = || Deleted::Messages(name.clone(), vec![message(6), message(7)]);
        let gone = |messages: Vec<Message>| vec![Gone { name: name.clone(), messages }];
        for (answer, is_told) in [(Some(Ok(())), false), (Some(failed()), true), (None, true)] {
            let case = format!("{answer:?}");
            // A sync tells it twice if it could not be stored the first time.
            let one = |deleting: &Deleting| {
                (0..2).for_each(|_| assert!(deleting.tell_message(&name, &message(6), true)));
            };
            let expected = if is_told { gone(vec![message(6)]) } else { Vec::new() };
            assert_eq!(told(two(), one, answer.clone()), expected, "{case}");
            let all = |deleting: &Deleting| (0..2).for_each(|_| assert!(deleting.hold_conversation(&name)));
            let expected = if is_told { gone(Vec::new()) } else { Vec::new() };
            assert_eq!(told(Deleted::All(7), all, answer.clone()), expected, "{case}");
            // The app need not hear of what is no news.
            let known = |deleting: &Deleting| assert!(deleting.tell_message(&name, &message(6), false));
            assert!(told(two(), known, answer).is_empty(), "{case}");
        }
        // These include no other deletion.
        for deleted in [two(), Deleted::Conversation(name.clone(), 3)] {
            let other = |deleting: &Deleting| assert!(!deleting.hold_conversation(&name));
            assert!(told(deleted, other, Some(failed())).is_empty());
        }
    }

    /// That everything is gone includes what was held before. If the deletion is this device's own, it is over, and what is told afterwards
    /// is none of it.
    #[test]
    fn what_is_held_ends_when_it_is_told_that_everything_is_gone() {
        let name = Name::new(2, "crew");
        for (number, is_over) in [(7, true), (8, false)] {
            let sync = |deleting: &Deleting| {
                assert!(deleting.hold_conversation(&name));
                assert_eq!(deleting.tell_all(number), is_over);
                assert_eq!(deleting.hold_conversation(&name), !is_over);
            };
            let failed = Some(Err(Error::new(ErrorCode::NetworkModuleRequestTimeout, "late")));
            assert_eq!(told(Deleted::All(7), sync, failed).len(), usize::from(!is_over), "{number}");
        }
    }
}
