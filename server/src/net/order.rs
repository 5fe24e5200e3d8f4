//! The order of writes in a session: calls with the same target start one after the other, each when the one before has its
//! place in the write queue or is over. InFlight with different targets, and reads, wait for nobody. Pure: it keeps the calls
//! that wait and says which may start.

use std::collections::{HashMap, VecDeque};

/// InFlight that wait behind one with the same target.
#[derive(Debug)]
pub(crate) struct Order<T> {
    // A target is here while a request to it holds the others back.
    targets: HashMap<u64, VecDeque<T>>,
    waiting: usize,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { targets: HashMap::new(), waiting: 0 }
    }
}

impl<T> Order<T> {
    /// A request arrives. It is given back if it may start at once; then [`Order::release`] must be called for its target.
    pub(crate) fn arrive(&mut self, target: u64, request: T) -> Option<T> {
        if let Some(queue) = self.targets.get_mut(&target) {
            queue.push_back(request);
            self.waiting += 1;
            return None;
        }
        self.targets.insert(target, VecDeque::new());
        Some(request)
    }

    /// The request that holds `target` has its place in the write queue, or is over: the next one, if there is one, may start and
    /// holds it now.
    pub(crate) fn release(&mut self, target: u64) -> Option<T> {
        let next = self.targets.get_mut(&target)?.pop_front();
        if next.is_some() {
            self.waiting -= 1;
        } else {
            self.targets.remove(&target);
            // An idle session keeps no table.
            if self.targets.is_empty() {
                self.targets = HashMap::new();
            }
        }
        next
    }

    /// How many calls wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Forgets those that wait, because the session is over.
    pub(crate) fn clear(&mut self) {
        self.targets = HashMap::new();
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_is_first_in_first_out() {
        let mut order = Order::default();
        assert_eq!(order.arrive(7, "one"), Some("one"));
        assert_eq!(order.arrive(7, "two"), None);
        assert_eq!(order.arrive(7, "three"), None);
        assert_eq!(order.waiting(), 2);
        assert_eq!(order.release(7), Some("two"));
        assert_eq!(order.arrive(7, "four"), None);
        assert_eq!(order.release(7), Some("three"));
        assert_eq!(order.release(7), Some("four"));
        assert_eq!(order.release(7), None);
        assert_eq!((order.waiting(), order.targets.len()), (0, 0));
        assert_eq!(order.arrive(7, "five"), Some("five"));
    }

    #[test]
    fn other_targets_do_not_wait() {
        let mut order = Order::default();
        assert_eq!(order.arrive(1, "slow"), Some("slow"));
        assert_eq!(order.arrive(1, "behind"), None);
        assert_eq!(order.arrive(2, "fast"), Some("fast"));
        assert_eq!(order.release(2), None);
        assert_eq!(order.release(1), Some("behind"));
    }

    #[test]
    fn what_is_released_twice_or_never_held_starts_nothing() {
        let mut order = Order::<&str>::default();
        assert_eq!(order.release(1), None);
        assert_eq!(order.arrive(1, "one"), Some("one"));
        assert_eq!(order.release(1), None);
        assert_eq!(order.release(1), None);
    }

    #[test]
    fn nothing_waits_after_the_end() {
        let mut order = Order::default();
        assert!(order.arrive(1, 1).is_some());
        assert!(order.arrive(1, 2).is_none());
        order.clear();
        assert_eq!(order.waiting(), 0);
        assert_eq!(order.release(1), None);
    }
}
