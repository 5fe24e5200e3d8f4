//! Counts who has a message of a group: it is known when the last receiver gets it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages that are counted at the same time: more than a server keeps for a session that is slow.
const SLOTS: usize = 1 << 16;
/// The bits of a slot that count receivers. The others hold the position of the message.
const COUNT_BITS: u32 = 20;

/// The arrivals of the messages of a group.
#[derive(Debug)]
pub(crate) struct Arrivals {
    receivers: u64,
    slots: Box<[AtomicU64]>,
}

impl Arrivals {
    /// Counts up to `receivers` for each message.
    pub(crate) fn new(receivers: usize) -> Self {
        let receivers = u64::try_from(receivers).unwrap_or(u64::MAX);
        Self { receivers, slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts a receiver of the message at position `seq`. Returns true for the last one. A message that some receiver never
    /// gets gives its slot to a later one.
    pub(crate) fn arrive(&self, seq: u64) -> bool {
        let slot = &self.slots[usize::try_from(seq).unwrap_or(0) % SLOTS];
        let first = (seq << COUNT_BITS) | 1;
        let next = |old: u64| match (old >> COUNT_BITS).cmp(&seq) {
            std::cmp::Ordering::Less => Some(first),
            std::cmp::Ordering::Equal => Some(old + 1),
            std::cmp::Ordering::Greater => None,
        };
        let count = |slot: u64| slot & ((1 << COUNT_BITS) - 1);
        let old = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        old.ok().and_then(next).is_some_and(|new| count(new) == self.receivers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_receiver_of_each_message_is_known() {
        let arrivals = Arrivals::new(3);
        assert_eq!([1, 1, 2, 1, 2, 2].map(|seq| arrivals.arrive(seq)), [false, false, false, true, false, true]);
        assert!(Arrivals::new(1).arrive(1));
    }

    #[test]
    fn a_message_that_never_gets_to_all_leaves_its_slot_to_a_later_one() {
        let arrivals = Arrivals::new(2);
        let (lost, later) = (5, 5 + u64::try_from(SLOTS).unwrap());
        assert_eq!([lost, later, lost, later].map(|seq| arrivals.arrive(seq)), [false, false, false, true]);
    }
}
