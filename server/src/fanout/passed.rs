//! Which messages this node has pushed. The commits of several nodes arrive in an order of their own, so a change may come before
//! the message that it is about. A client drops a change of a message that it does not have, and would keep the message as it
//! was sent. So such a change is not pushed, and the client pulls.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;
use zim_protocol::ChangeEntry;
use zim_protocol::change_entry::Detail;

use crate::effect::Audience;
use crate::key::ConversationKey;

/// How long after a message its hint may still be under way, milliseconds. If it is missing by then, that has been noticed.
const UNDER_WAY_MS: i64 = 60_000;
/// Conversations, and rooms, that are remembered. A change in another conversation is pulled.
const MAX: usize = 50_000;

/// What was pushed here last.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The last message of each conversation.
    messages: Mutex<HashMap<(i64, i64), i64>>,
    /// The last change of each room that another node told.
    rooms: Mutex<HashMap<ConversationKey, i64>>,
}

fn key(audience: &Audience) -> (i64, i64) {
    match audience {
        Audience::Group { conversation, .. } | Audience::Room { conversation, .. } => (conversation.0, 0),
        Audience::Peers([(one, _), (two, _)]) => (one.0.min(two.0), one.0.max(two.0)),
    }
}

/// Keeps the highest number of each key.
fn keep<K: Eq + Hash>(numbers: &Mutex<HashMap<K, i64>>, key: K, number: i64) {
    let mut numbers = numbers.lock();
    if numbers.len() >= MAX {
        numbers.clear();
    }
    let last = numbers.entry(key).or_default();
    *last = number.max(*last);
}

impl Passed {
    /// Notes a message.
    pub(super) fn note(&self, audience: &Audience, seq: i64) {
        keep(&self.messages, key(audience), seq);
    }

    /// Notes what another node did in a room.
    pub(super) fn note_room(&self, room: ConversationKey, rev: i64) {
        keep(&self.rooms, room, rev);
    }

    /// Whether another node has told something of a room that came after this change.
    pub(super) fn has_room_after(&self, room: ConversationKey, rev: i64) -> bool {
        self.rooms.lock().get(&room).is_some_and(|last| *last > rev)
    }

    /// Whether a change may come before its message.
    pub(super) fn may_overtake(&self, audience: &Audience, change: &ChangeEntry) -> bool {
        let Some(Detail::Message(message)) = &change.detail else { return false };
        if change.at.saturating_sub(message.ts) > UNDER_WAY_MS {
            return false;
        }
        self.messages.lock().get(&key(audience)).is_none_or(|last| *last < message.seq.cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::MessageEntry;

    use super::*;
    use crate::key::{ConversationKey, UserKey};

    #[test]
    fn a_change_of_a_message_that_has_not_passed_may_overtake_it() {
        let passed = Passed::default();
        let peers = |one, two| Audience::Peers([(UserKey(one), "one".into()), (UserKey(two), "two".into())]);
        let group = Audience::Group { conversation: ConversationKey(1), name: "crew".into() };
        let change = |seq| {
            let message = MessageEntry { seq, ..MessageEntry::default() };
            ChangeEntry { detail: Some(Detail::Message(message)), ..ChangeEntry::default() }
        };
        passed.note(&peers(1, 2), 5);
        passed.note(&peers(1, 2), 4);
        assert!(!passed.may_overtake(&peers(2, 1), &change(5)));
        assert!(passed.may_overtake(&peers(2, 1), &change(6)));
        assert!(passed.may_overtake(&peers(1, 3), &change(1)) && passed.may_overtake(&group, &change(1)));
        passed.note(&group, 1);
        assert!(!passed.may_overtake(&group, &change(1)));
        assert!(!passed.may_overtake(&peers(8, 9), &ChangeEntry::default()), "it is about no message");
        let late = ChangeEntry { at: UNDER_WAY_MS + 1, ..change(1) };
        assert!(!passed.may_overtake(&peers(8, 9), &late), "the message has arrived long ago");
    }
}
