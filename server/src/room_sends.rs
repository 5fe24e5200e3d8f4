//! Messages to rooms that wait in the queues of this node.
//!
//! A message to a room whose home is another node goes there at once. The messages that the same user sent before may still wait in the queue
//! here, because the room had another home then, such as while the bus was interrupted. They come first, so the message joins the queue.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::key::ConversationKey;

/// How many messages to each room wait.
#[derive(Debug, Default)]
pub(crate) struct RoomSends(Mutex<HashMap<ConversationKey, usize>>);

/// A message that waits until this is dropped.
#[derive(Debug)]
pub(crate) struct RoomSend<'s> {
    sends: &'s RoomSends,
    room: ConversationKey,
}

impl RoomSends {
    /// Notes a message. Before it joins the queue, so that the next one of its connection finds it.
    pub(crate) fn begin(&self, room: ConversationKey) -> RoomSend<'_> {
        *self.0.lock().entry(room).or_default() += 1;
        RoomSend { sends: self, room }
    }

    /// Whether messages to this room wait.
    pub(crate) fn has(&self, room: ConversationKey) -> bool {
        self.0.lock().contains_key(&room)
    }
}

impl Drop for RoomSend<'_> {
    fn drop(&mut self) {
        let mut waiting = self.sends.0.lock();
        if let Some(count) = waiting.get_mut(&self.room) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.room);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_wait_until_the_last_of_them_is_done() {
        let (sends, room) = (RoomSends::default(), ConversationKey(1));
        let (first, second) = (sends.begin(room), sends.begin(room));
        assert!(sends.has(room) && !sends.has(ConversationKey(2)));
        drop(first);
        assert!(sends.has(room));
        drop(second);
        assert!(!sends.has(room));
    }
}
