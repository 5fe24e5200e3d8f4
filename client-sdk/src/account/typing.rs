//! Who is writing to this user, as far as their devices say, and who was told that this user is writing. Nobody says that they stop:
//! it ends by itself.

use std::collections::HashMap;

use parking_lot::Mutex;
use zim_protocol::{
    ConversationType, Event, MessageDirection, MessageFlag, PeerMessageReceivedEvent, PeerTypingChangedEvent, Transient,
};

use super::remote::Remote;
use super::task::AccountTask;

/// How long it holds that a user is writing.
const HOLDS_MS: i64 = 5_000;
/// How often another user is told.
const TELL_MS: i64 = 3_000;
/// The most users who are writing at once; further ones are not shown.
const MAX_USERS: usize = 256;

/// The users who are writing, and until when that holds. Pure: the caller passes the time, by the steady clock.
#[derive(Debug, Default)]
pub(super) struct Typing {
    until: HashMap<String, i64>,
}

impl Typing {
    /// Notes that a user is writing. Returns whether that is new.
    fn note(&mut self, user_id: &str, now_ms: i64) -> bool {
        let until = now_ms + HOLDS_MS;
        if let Some(held) = self.until.get_mut(user_id) {
            *held = until;
            return false;
        }
        let has_room = self.until.len() < MAX_USERS;
        if has_room {
            self.until.insert(user_id.to_owned(), until);
        }
        has_room
    }

    /// Notes that a user has stopped. Returns whether they were writing.
    fn stop(&mut self, user_id: &str) -> bool {
        self.until.remove(user_id).is_some()
    }

    /// Takes the users who have said nothing for too long.
    fn expire(&mut self, now_ms: i64) -> Vec<String> {
        self.until.extract_if(|_, until| *until <= now_ms).map(|(user_id, _)| user_id).collect()
    }

    /// When the first of them has said nothing for too long.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        self.until.values().min().copied()
    }
}

/// The other users who were told that this one is writing, and when. Pure: the caller passes the time, by the steady clock.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<HashMap<String, i64>>);

impl Told {
    /// Notes that a user is about to be told. Returns false if they have just been told.
    pub(super) fn tells(&self, user_id: &str, now_ms: i64) -> bool {
        let mut told = self.0.lock();
        told.retain(|_, at| now_ms - *at < TELL_MS);
        let is_new = !told.contains_key(user_id);
        if is_new {
            told.insert(user_id.to_owned(), now_ms);
        }
        is_new
    }

    /// The server has a message to a user: for their devices, this user has stopped writing.
    pub(super) fn forget(&self, user_id: &str) {
        self.0.lock().remove(user_id);
    }
}

/// Whether a transient says that its sender is writing.
pub(super) fn is_typing(transient: &Transient) -> bool {
    transient.message.as_ref().is_some_and(|message| message.flags & MessageFlag::Typing as u32 != 0)
}

/// The other users of whom these events bring messages.
pub(super) fn senders(events: &[(Option<i64>, Event)]) -> Vec<String> {
    let is_received = |event: &&PeerMessageReceivedEvent| {
        event.message_list.iter().any(|message| message.direction() == MessageDirection::Receive)
    };
    let received = events.iter().filter_map(|(_, event)| match event {
        Event::PeerMessageReceived(event) => Some(event),
        _ => None,
    });
    received.filter(is_received).map(|event| event.from_conversation_id.clone()).collect()
}

impl<L: Remote> AccountTask<L> {
    /// Somebody says that they are writing.
    pub(super) fn typing_told(&mut self, transient: &Transient) {
        let (Some(conversation), Some(message)) = (&transient.conversation, &transient.message) else { return };
        // What another device of this user says is for the other side.
        let is_other = *message.sender != *self.viewer.user_id;
        if conversation.r#type() == ConversationType::Peer
            && is_other
            && self.typing.note(&message.sender, self.clock.steady_ms())
        {
            self.raise_typing(message.sender.clone(), true);
        }
    }

    /// Messages of these users have arrived.
    pub(super) fn typing_stopped(&mut self, user_ids: Vec<String>) {
        for user_id in user_ids {
            if self.typing.stop(&user_id) {
                self.raise_typing(user_id, false);
            }
        }
    }

    /// Ends what has not been said again in time.
    pub(super) fn expire_typing(&mut self) {
        for user_id in self.typing.expire(self.clock.steady_ms()) {
            self.raise_typing(user_id, false);
        }
    }

    fn raise_typing(&self, user_id: String, is_typing: bool) {
        self.remote.raise(Event::PeerTypingChanged(PeerTypingChangedEvent { user_id, is_typing }), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_five_seconds_from_the_last_time() {
        let mut typing = Typing::default();
        assert!(typing.note("bob", 0));
        assert!(!typing.note("bob", 3_000));
        assert!(typing.note("eve", 4_000));
        assert_eq!((typing.deadline_ms(), typing.expire(7_999)), (Some(8_000), vec![]));
        assert_eq!((typing.expire(8_000), typing.deadline_ms()), (vec!["bob".to_owned()], Some(9_000)));
        assert!(typing.stop("eve") && !typing.stop("eve") && !typing.stop("bob"));
        assert_eq!(typing.deadline_ms(), None);
    }

    #[test]
    fn a_user_is_told_every_three_seconds_and_after_each_message() {
        let told = Told::default();
        assert!(told.tells("bob", 0) && !told.tells("bob", 2_999) && told.tells("bob", 3_000));
        assert!(told.tells("eve", 3_001));
        told.forget("bob");
        assert!(told.tells("bob", 3_002) && !told.tells("eve", 3_002));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut typing = Typing::default();
        assert!((0..MAX_USERS).all(|user| typing.note(&user.to_string(), 0)));
        assert!(!typing.note("one more", 0));
        assert_eq!(typing.expire(HOLDS_MS).len(), MAX_USERS);
    }
}
