//! What a client has stored of the logs of messages, as it says.

use zim_protocol::{ConversationRef, Stored};

/// Conversations whose positions are kept; beyond it the one that moved least recently is forgotten.
const MAX_CONVERSATIONS: usize = 256;
/// Positions of one acknowledgement that are read.
const MAX_POSITIONS: usize = 64;

#[derive(Debug)]
struct Position {
    kind: i32,
    id: Box<str>,
    seq: u64,
}

impl Position {
    fn is_of(&self, conversation: &ConversationRef) -> bool {
        self.kind == conversation.r#type && *self.id == *conversation.id
    }
}

/// The positions up to which a client has stored messages, by its names of the conversations. What is not known, or was
/// forgotten, counts as not stored.
#[derive(Debug, Default)]
pub(super) struct StoredPositions {
    /// The one that moved least recently comes first.
    positions: Vec<Position>,
}

impl StoredPositions {
    /// Takes over what a client acknowledges.
    pub(super) fn add(&mut self, stored: Stored) {
        for position in stored.positions.into_iter().take(MAX_POSITIONS) {
            let Some(conversation) = position.conversation else { continue };
            let held = self.positions.iter().position(|held| held.is_of(&conversation));
            let seq = match held {
                // A client never stores less than it had stored.
                Some(index) => self.positions.remove(index).seq.max(position.seq),
                None => position.seq,
            };
            if self.positions.len() == MAX_CONVERSATIONS {
                self.positions.remove(0);
            }
            self.positions.push(Position { kind: conversation.r#type, id: conversation.id.into(), seq });
        }
    }

    /// Whether the client has said that it has stored a message.
    pub(super) fn has(&self, conversation: &ConversationRef, seq: u64) -> bool {
        self.positions.iter().any(|held| held.is_of(conversation) && seq <= held.seq)
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::StoredPosition;

    use super::*;

    fn name(id: usize) -> ConversationRef {
        ConversationRef { r#type: 0, id: id.to_string() }
    }

    fn stored(positions: impl IntoIterator<Item = (usize, u64)>) -> Stored {
        let positions = positions.into_iter().map(|(id, seq)| StoredPosition { conversation: Some(name(id)), seq });
        Stored { positions: positions.collect(), feed: 0 }
    }

    #[test]
    fn a_message_is_stored_once_its_position_is_acknowledged() {
        let mut positions = StoredPositions::default();
        assert!(!positions.has(&name(1), 1));
        positions.add(stored([(1, 5), (2, 9)]));
        assert!(positions.has(&name(1), 5) && positions.has(&name(1), 1) && !positions.has(&name(1), 6));
        let group = ConversationRef { r#type: 2, ..name(1) };
        assert!(!positions.has(&group, 1), "a group with the same name is another conversation");
        // An acknowledgement that comes late takes nothing back.
        positions.add(stored([(1, 3)]));
        assert!(positions.has(&name(1), 5) && positions.has(&name(2), 9));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut positions = StoredPositions::default();
        let add = |positions: &mut StoredPositions, id| positions.add(stored([(id, 1)]));
        (0..MAX_CONVERSATIONS).for_each(|id| add(&mut positions, id));
        add(&mut positions, 0);
        assert!((0..MAX_CONVERSATIONS).all(|id| positions.has(&name(id), 1)));
        add(&mut positions, MAX_CONVERSATIONS);
        assert_eq!([0, 1, 2, MAX_CONVERSATIONS].map(|id| positions.has(&name(id), 1)), [true, false, true, true]);
        assert_eq!(positions.positions.len(), MAX_CONVERSATIONS);
        // Of one acknowledgement only as many are read as a client may send.
        let mut positions = StoredPositions::default();
        positions.add(stored((0..=MAX_POSITIONS).map(|id| (id, 1))));
        assert_eq!((positions.has(&name(MAX_POSITIONS - 1), 1), positions.has(&name(MAX_POSITIONS), 1)), (true, false));
    }
}
