//! The numbers of packets: which come next, and whether one is missing.

use std::collections::HashMap;

/// The subjects of hints. A conversation and a user each have one, so their hints keep their order.
pub(super) const SUBJECTS: usize = 16;

/// A node: its number, and its generation, which changes when another server takes the number.
pub(crate) type NodeId = (u8, i64);

/// The numbers of packets that a node has received from the others.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    nodes: HashMap<u8, Received>,
}

#[derive(Debug, Default)]
struct Received {
    generation: i64,
    /// The last packet on each subject, where one is known.
    packets: [Option<u64>; SUBJECTS],
    beat: Option<u64>,
}

impl Numbers {
    /// Notes a packet. Returns whether packets before it are missing. If this node `is_new`, others have sent packets before it
    /// listened, and it had no connections then.
    pub(super) fn packet(&mut self, node: NodeId, subject: usize, number: u64, is_new: bool) -> bool {
        let Some(last) = self.of(node).and_then(|received| received.packets.get_mut(subject)) else { return false };
        let is_missing = last.map_or(number > 1 && !is_new, |last| number > last + 1);
        *last = Some(number.max(last.unwrap_or(0)));
        is_missing
    }

    /// Notes a beat and the numbers in it. Returns whether a beat before it is missing, or a packet that was sent before it.
    pub(super) fn beat(&mut self, node: NodeId, number: u64, packets: &[(usize, u64)], is_new: bool) -> bool {
        let Some(received) = self.of(node) else { return false };
        let mut is_missing = received.beat.map_or(number > 1 && !is_new, |last| number > last + 1);
        received.beat = Some(number.max(received.beat.unwrap_or(0)));
        for (subject, number) in packets {
            if let Some(last) = received.packets.get_mut(*subject) {
                is_missing |= last.map_or(!is_new, |last| last < *number);
                *last = Some((*number).max(last.unwrap_or(0)));
            }
        }
        is_missing
    }

    /// Returns what was received from a node; `None` if a later generation of it is known.
    fn of(&mut self, (node, generation): NodeId) -> Option<&mut Received> {
        let received = self.nodes.entry(node).or_default();
        if received.generation < generation {
            *received = Received { generation, ..Received::default() };
        }
        (received.generation == generation).then_some(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = (1, 1);

    #[test]
    fn a_missing_packet_is_noticed_by_the_next_or_by_a_beat() {
        let mut numbers = Numbers::default();
        assert!(!numbers.packet(NODE, 0, 1, false));
        assert!(!numbers.packet(NODE, 0, 2, false) && !numbers.packet(NODE, 5, 1, false));
        assert!(numbers.packet(NODE, 0, 4, false), "3 is missing");
        assert!(!numbers.packet(NODE, 0, 5, false), "that is known by now");
        assert!(!numbers.beat(NODE, 1, &[(0, 5), (5, 1)], false));
        assert!(numbers.beat(NODE, 2, &[(5, 2)], false), "the last packet is missing");
        assert!(!numbers.beat(NODE, 3, &[(5, 2)], false));
        assert!(numbers.beat(NODE, 4, &[(9, 1)], false), "the only packet of its subject is missing");
    }

    #[test]
    fn a_missing_beat_is_noticed_by_the_next() {
        let mut numbers = Numbers::default();
        assert!(!numbers.beat(NODE, 1, &[], false));
        assert!(numbers.beat(NODE, 3, &[], false));
        assert!(!numbers.beat(NODE, 4, &[], false));
    }

    #[test]
    fn a_new_node_has_missed_nothing() {
        let mut numbers = Numbers::default();
        assert!(!numbers.packet(NODE, 0, 70, true) && !numbers.beat(NODE, 9, &[(0, 70), (1, 5)], true));
        assert!(!numbers.packet(NODE, 1, 6, true));
        assert!(numbers.packet(NODE, 1, 8, true));
        // One that has listened from the beginning has.
        assert!(Numbers::default().packet(NODE, 0, 2, false) && Numbers::default().beat(NODE, 2, &[], false));
    }

    #[test]
    fn another_generation_begins_anew() {
        let mut numbers = Numbers::default();
        assert!(!numbers.packet(NODE, 0, 1, false));
        assert!(!numbers.packet((1, 2), 0, 1, false));
        assert!(numbers.packet((1, 3), 0, 2, false));
        // What the earlier generation has sent arrives late and says nothing.
        assert!(!numbers.packet(NODE, 0, 9, false) && !numbers.packet((1, 3), 0, 3, false));
    }
}
