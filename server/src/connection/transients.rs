//! The transients that wait for one connection's event stream, bounded in bytes.

use std::collections::VecDeque;

use bytes::Bytes;
use zim_protocol::MessagePriority;

/// The number of priorities.
const LANES: usize = 3;

/// A transient.
#[derive(Debug)]
struct Waiting {
    /// Its number of arrival.
    at: u64,
    frame: Bytes,
    /// Whether the client misses it when it is dropped.
    is_missed: bool,
}

/// The waiting transients, by priority. When there is no room for one, transients of lower priorities make room, the
/// lowest and oldest first. If these are too few, the new one is dropped.
#[derive(Debug, Default)]
pub(super) struct Transients {
    lanes: [VecDeque<Waiting>; LANES],
    bytes: [usize; LANES],
    /// Transients that were dropped since the client was last told, without those that it does not miss.
    pub(super) dropped: u64,
}

/// A transient without a priority has the lowest.
fn lane(priority: MessagePriority) -> usize {
    match priority {
        MessagePriority::Unspecified | MessagePriority::Low => 0,
        MessagePriority::Medium => 1,
        MessagePriority::High => 2,
    }
}

impl Transients {
    pub(super) fn push(
        &mut self,
        at: u64,
        frame: Bytes,
        (priority, is_missed): (MessagePriority, bool),
        max_bytes: usize,
    ) {
        let lane = lane(priority);
        let same_or_higher = self.bytes[lane..].iter().sum::<usize>();
        // One frame always fits into an empty queue.
        if same_or_higher > 0 && same_or_higher + frame.len() > max_bytes {
            self.dropped += u64::from(is_missed);
            return;
        }
        for lower in 0..lane {
            while self.bytes.iter().sum::<usize>() + frame.len() > max_bytes {
                let Some(dropped) = self.pop(lower) else { break };
                self.dropped += u64::from(dropped.is_missed);
            }
        }
        self.bytes[lane] += frame.len();
        self.lanes[lane].push_back(Waiting { at, frame, is_missed });
    }

    fn pop(&mut self, lane: usize) -> Option<Waiting> {
        let first = self.lanes[lane].pop_front()?;
        self.bytes[lane] -= first.frame.len();
        if self.lanes[lane].is_empty() {
            // An idle connection keeps no buffer.
            self.lanes[lane] = VecDeque::new();
        }
        Some(first)
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum()
    }

    /// Returns the transient that arrived first, and its number of arrival.
    pub(super) fn first(&self) -> Option<(u64, &Bytes)> {
        let firsts = self.lanes.iter().filter_map(VecDeque::front);
        firsts.min_by_key(|first| first.at).map(|first| (first.at, &first.frame))
    }

    /// Removes the transient that arrived first.
    pub(super) fn pop_first(&mut self) -> Option<Bytes> {
        let arrived = |lane: &usize| self.lanes[*lane].front().map_or(u64::MAX, |first| first.at);
        let lane = (0..LANES).min_by_key(arrived)?;
        self.pop(lane).map(|first| first.frame)
    }
}

#[cfg(test)]
mod tests {
    use zim_protocol::MessagePriority::{High, Low, Medium, Unspecified};

    use super::*;

    /// Pushes frames of 100 bytes that begin with their number of arrival. Returns the numbers of those that are left, and
    /// how many were dropped.
    fn kept(max_bytes: usize, priorities: &[MessagePriority]) -> (Vec<u8>, u64) {
        let mut queue = Transients::default();
        for (number, priority) in (0_u8..).zip(priorities) {
            queue.push(number.into(), Bytes::from(vec![number; 100]), (*priority, true), max_bytes);
        }
        let kept = std::iter::from_fn(|| {
            let first = queue.first()?.0;
            let popped = queue.pop_first()?[0];
            assert_eq!(first, u64::from(popped));
            Some(popped)
        })
        .collect();
        assert_eq!(queue.bytes, [0; LANES]);
        (kept, queue.dropped)
    }

    #[test]
    fn transients_keep_their_order_whatever_their_priority() {
        assert_eq!(kept(500, &[Low, High, Medium, Low, High]), (vec![0, 1, 2, 3, 4], 0));
    }

    #[test]
    fn low_is_dropped_before_medium_before_high() {
        // The first that does not fit, on both sides of the limit.
        assert_eq!(kept(300, &[Low, Medium, High]), (vec![0, 1, 2], 0));
        assert_eq!(kept(299, &[Low, Medium, High]), (vec![1, 2], 1));
        assert_eq!(kept(300, &[Medium, Low, High, High]), (vec![0, 2, 3], 1));
        assert_eq!(kept(300, &[Medium, Low, High, High, High]), (vec![2, 3, 4], 2));
        assert_eq!(kept(300, &[Low, Low, Low, Medium]), (vec![1, 2, 3], 1), "the oldest is dropped first");
        assert_eq!(kept(300, &[High, High, High, High]), (vec![0, 1, 2], 1), "none makes room for its own priority");
        assert_eq!(kept(300, &[High, High, Medium, Medium, Low, Unspecified]), (vec![0, 1, 2], 3));
    }

    #[test]
    fn none_is_dropped_for_one_that_does_not_fit_anyway() {
        let mut queue = Transients::default();
        let frame = |bytes: usize| Bytes::from(vec![0; bytes]);
        queue.push(1, frame(100), (Low, true), 250);
        queue.push(2, frame(100), (High, true), 250);
        queue.push(3, frame(151), (Medium, true), 250);
        assert_eq!((queue.bytes, queue.dropped), ([100, 0, 100], 1));
        queue.push(4, frame(150), (Medium, true), 250);
        assert_eq!((queue.bytes, queue.dropped), ([0, 150, 100], 2));
    }

    /// Whether they make room for another one, or find none.
    #[test]
    fn those_that_nobody_misses_are_not_counted() {
        let mut queue = Transients::default();
        let frame = |bytes: usize| Bytes::from(vec![0; bytes]);
        queue.push(1, frame(100), (Low, false), 250);
        queue.push(2, frame(100), (Low, true), 250);
        queue.push(3, frame(100), (Low, false), 250);
        assert_eq!((queue.bytes, queue.dropped), ([200, 0, 0], 0));
        queue.push(4, frame(100), (High, true), 250);
        assert_eq!((queue.bytes, queue.dropped), ([100, 0, 100], 0));
        queue.push(5, frame(100), (High, true), 250);
        assert_eq!((queue.bytes, queue.dropped), ([0, 0, 200], 1));
    }

    #[test]
    fn one_always_fits_into_an_empty_queue() {
        assert_eq!(kept(99, &[Low]), (vec![0], 0));
        assert_eq!(kept(99, &[Low, High]), (vec![1], 1));
    }
}
