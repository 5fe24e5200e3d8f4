//! The order of writes in a session. Requests with the same target start one after the other: each starts when the
//! previous one is in the write queue or has ended. Requests with different targets, and reads, do not wait for each
//! other. Pure: it holds the waiting requests and returns those that may start.

use std::collections::{HashMap, VecDeque};

/// Requests that wait behind another one with the same target.
#[derive(Debug)]
pub(crate) struct Order<T> {
    // A target is present while a request holds it.
    targets: HashMap<u64, VecDeque<T>>,
    waiting: usize,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { targets: HashMap::new(), waiting: 0 }
    }
}

impl<T> Order<T> {
    /// Adds a request. Returns it if it may start at once, and the request then holds its target until
    /// [`Order::release`].
    pub(crate) fn arrive(&mut self, target: u64, request: T) -> Option<T> {
        if let Some(queue) = self.targets.get_mut(&target) {
            queue.push_back(request);
            self.waiting += 1;
            return None;
        }
        self.targets.insert(target, VecDeque::new());
        Some(request)
    }

    /// Releases `target`, because the request that holds it is in the write queue or has ended. Returns the next one,
    /// which may start and now holds the target.
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

    /// The number of waiting requests.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Drops the waiting requests, because the session has ended.
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
    fn releasing_a_target_that_is_not_held_starts_nothing() {
        let mut order = Order::<&str>::default();
        assert_eq!(order.release(1), None);
        assert_eq!(order.arrive(1, "one"), Some("one"));
        assert_eq!(order.release(1), None);
        assert_eq!(order.release(1), None);
    }

    #[test]
    fn nothing_waits_after_clear() {
        let mut order = Order::default();
        assert!(order.arrive(1, 1).is_some());
        assert!(order.arrive(1, 2).is_none());
        order.clear();
        assert_eq!(order.waiting(), 0);
        assert_eq!(order.release(1), None);
    }
}
