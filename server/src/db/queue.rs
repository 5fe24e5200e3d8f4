//! A bounded FIFO queue between the callers and a database thread.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use metrics::Gauge;
use parking_lot::{Condvar, Mutex};

use super::error::{DbError, DbErrorKind};

/// The queue of one partition, or of the readers.
pub(super) struct Queue<E> {
    state: Mutex<State<E>>,
    ready: Condvar,
    limit: usize,
    depth: Gauge,
}

struct State<E> {
    waiting: VecDeque<E>,
    is_closed: bool,
}

impl<E> Queue<E> {
    /// Creates a queue; `name` is its label in the metrics.
    pub(super) fn new(name: String, limit: usize) -> Self {
        let state = State { waiting: VecDeque::new(), is_closed: false };
        let depth = metrics::gauge!("zim_db_queue_depth", "queue" => name);
        Self { state: Mutex::new(state), ready: Condvar::new(), limit, depth }
    }

    /// Appends an entry, unless the queue is full or closed.
    pub(super) fn push(&self, entry: E) -> Result<(), DbError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(DbError::closed());
        }
        if state.waiting.len() >= self.limit {
            return Err(DbError::new(
                DbErrorKind::QueueFull,
                format!("the database queue is full: {} jobs wait", self.limit),
            ));
        }
        state.waiting.push_back(entry);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits until the queue is not empty, and takes at most `max` entries. Returns `None` once the queue is closed and empty.
    pub(super) fn take(&self, max: usize) -> Option<Vec<E>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.is_closed {
                return None;
            }
            self.ready.wait(&mut state);
        }
        let count = state.waiting.len().min(max);
        #[expect(clippy::cast_precision_loss, reason = "a queue is bounded far below 2^52")]
        self.depth.set((state.waiting.len() - count) as f64);
        Some(state.waiting.drain(..count).collect())
    }

    /// Waits until the queue is not empty or is closed, for at most `limit`. Returns true if it stayed open and empty.
    pub(super) fn stays_empty(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.is_closed {
            if self.ready.wait_until(&mut state, until).timed_out() {
                return state.waiting.is_empty() && !state.is_closed;
            }
        }
        false
    }

    /// Refuses new entries; those in the queue are still served.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.ready.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }
}

impl<E> fmt::Debug for Queue<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.len()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_bounded_and_in_order() {
        let queue = Queue::new("test".to_owned(), 3);
        for entry in 0..3 {
            queue.push(entry).unwrap();
        }
        assert_eq!(queue.push(3).unwrap_err().kind(), DbErrorKind::QueueFull);
        assert_eq!(queue.take(2), Some(vec![0, 1]));
        assert!(!queue.stays_empty(Duration::from_secs(3_600)));
        let empty = Queue::<()>::new("test".to_owned(), 1);
        assert!(empty.stays_empty(Duration::ZERO));
        empty.close();
        assert!(!empty.stays_empty(Duration::from_secs(3_600)));
        queue.close();
        assert!(queue.push(4).unwrap_err().is_closed());
        assert_eq!(queue.take(2), Some(vec![2]));
        assert_eq!(queue.take(2), None);
    }
}
