//! A bounded FIFO queue between the callers and a database thread. It is bounded in jobs and in bytes, and one app cannot
//! fill it for the others.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge};
use parking_lot::{Condvar, Mutex};

use super::error::{DbError, DbErrorKind};
use crate::key::AppKey;

/// What a job weighs besides its payload: its closure, its locks and the channel of its answer.
const ENTRY_BYTES: usize = 512;

/// What a job takes from the queue's bounds while it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// The app whose share of the queue it takes; `None` for the server's own work, which has no share.
    pub(super) app: Option<AppKey>,
    /// The bytes that it keeps in memory, in addition to a fixed amount for each job.
    pub(super) bytes: usize,
}

/// An amount of work: what waits in a queue, or its bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) jobs: usize,
    pub(super) bytes: usize,
}

impl Amount {
    fn add(&mut self, bytes: usize) {
        self.jobs += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, other: Self) {
        self.jobs -= other.jobs;
        self.bytes -= other.bytes;
    }

    /// Whether a job of `bytes` fits. A job that is larger than the bound fits into an empty queue.
    fn fits(self, bytes: usize, bound: Self) -> bool {
        self.jobs < bound.jobs && (self.jobs == 0 || self.bytes + bytes <= bound.bytes)
    }

    /// What is left of the bound.
    fn left(self, bound: Self) -> Self {
        Self { jobs: bound.jobs.saturating_sub(self.jobs), bytes: bound.bytes.saturating_sub(self.bytes) }
    }
}

/// The queue of one partition, or of the readers.
pub(super) struct Queue<E> {
    state: Mutex<State<E>>,
    ready: Condvar,
    bound: Amount,
    depth: Gauge,
    refused: Counter,
}

struct State<E> {
    waiting: VecDeque<(E, Cost)>,
    amount: Amount,
    /// What waits of each app.
    apps: HashMap<AppKey, Amount>,
    is_closed: bool,
}

impl<E> State<E> {
    /// Why a job does not fit, if it does not.
    fn problem(&self, cost: Cost, bound: Amount) -> Option<&'static str> {
        if !self.amount.fits(cost.bytes, bound) {
            return Some("the database queue is full");
        }
        // An app may use as much as it leaves free. Alone it gets half of the queue, and however many apps use up their
        // shares, there is room for another.
        let app = cost.app?;
        let used = self.apps.get(&app).copied().unwrap_or_default();
        let is_within_share = used.fits(cost.bytes, self.amount.left(bound));
        (!is_within_share).then_some("the app uses up its share of the database queue")
    }

    fn push(&mut self, entry: E, cost: Cost) {
        self.amount.add(cost.bytes);
        if let Some(app) = cost.app {
            self.apps.entry(app).or_default().add(cost.bytes);
        }
        self.waiting.push_back((entry, cost));
    }

    /// Takes the first `count` entries.
    fn take(&mut self, count: usize) -> Vec<E> {
        let Self { waiting, amount, apps, .. } = self;
        let mut taken = Vec::with_capacity(count);
        // The entries of one app mostly follow each other: they are counted together.
        let mut run = (None, Amount::default());
        for (entry, cost) in waiting.drain(..count) {
            if run.0 != cost.app {
                release(apps, run);
                run = (cost.app, Amount::default());
            }
            run.1.add(cost.bytes);
            amount.remove(Amount { jobs: 1, bytes: cost.bytes });
            taken.push(entry);
        }
        release(apps, run);
        taken
    }
}

/// Returns the share that entries of an app took.
fn release(apps: &mut HashMap<AppKey, Amount>, (app, amount): (Option<AppKey>, Amount)) {
    if let Some(app) = app
        && let Some(used) = apps.get_mut(&app)
    {
        used.remove(amount);
        if used.jobs == 0 {
            apps.remove(&app);
        }
    }
}

impl<E> Queue<E> {
    /// Creates a queue; `name` is its label in the metrics.
    pub(super) fn new(name: String, bound: Amount) -> Self {
        let state =
            State { waiting: VecDeque::new(), amount: Amount::default(), apps: HashMap::new(), is_closed: false };
        let depth = metrics::gauge!("zim_db_queue_depth", "queue" => name.clone());
        let refused = metrics::counter!("zim_db_refused_total", "queue" => name);
        Self { state: Mutex::new(state), ready: Condvar::new(), bound, depth, refused }
    }

    /// Appends an entry, unless the queue is closed, or has no room for it.
    pub(super) fn push(&self, entry: E, cost: Cost) -> Result<(), DbError> {
        let cost = Cost { bytes: cost.bytes.saturating_add(ENTRY_BYTES), ..cost };
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(DbError::closed());
        }
        if let Some(problem) = state.problem(cost, self.bound) {
            let Amount { jobs, bytes } = state.amount;
            self.refused.increment(1);
            let text = format!("{problem}: {jobs} jobs with {bytes} bytes wait");
            return Err(DbError::new(DbErrorKind::QueueFull, text));
        }
        state.push(entry, cost);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits until the queue is not empty. Takes the first entry, and those behind it as long as `joins` accepts them; it is
    /// called for each in turn, with its bytes. Returns `None` once the queue is closed and empty.
    pub(super) fn take(&self, mut joins: impl FnMut(&E, usize) -> bool) -> Option<Vec<E>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.is_closed {
                return None;
            }
            self.ready.wait(&mut state);
        }
        let mut count = 0;
        // The first one counts, but it is taken in any case.
        while state.waiting.get(count).is_some_and(|(entry, cost)| joins(entry, cost.bytes) || count == 0) {
            count += 1;
        }
        let taken = state.take(count);
        #[expect(clippy::cast_precision_loss, reason = "a queue is bounded far below 2^52")]
        self.depth.set(state.waiting.len() as f64);
        Some(taken)
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
        f.debug_struct("Queue").field("waiting", &self.len()).field("bound", &self.bound).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Amount = Amount { jobs: 1_000, bytes: 1 << 30 };
    const ANN: Option<AppKey> = Some(AppKey(1));
    const BOB: Option<AppKey> = Some(AppKey(2));

    fn queue(bound: Amount) -> Queue<i32> {
        Queue::new("test".to_owned(), bound)
    }

    /// Pushes entries until one is refused. Returns the number of those that were accepted.
    fn fill(queue: &Queue<i32>, cost: Cost) -> usize {
        (0..10_000).take_while(|entry| queue.push(*entry, cost).is_ok()).count()
    }

    fn at_most(max: usize) -> impl FnMut(&i32, usize) -> bool {
        let mut count = 0;
        move |_, _| {
            count += 1;
            count <= max
        }
    }

    #[test]
    fn a_queue_is_bounded_and_in_order() {
        let queue = queue(Amount { jobs: 3, ..LARGE });
        for entry in 0..3 {
            queue.push(entry, Cost::default()).unwrap();
        }
        assert_eq!(queue.push(3, Cost::default()).unwrap_err().kind(), DbErrorKind::QueueFull);
        assert_eq!(queue.take(at_most(2)), Some(vec![0, 1]));
        assert!(!queue.stays_empty(Duration::from_secs(3_600)));
        let empty = Queue::<()>::new("test".to_owned(), Amount { jobs: 1, ..LARGE });
        assert!(empty.stays_empty(Duration::ZERO));
        empty.close();
        assert!(!empty.stays_empty(Duration::from_secs(3_600)));
        queue.close();
        assert!(queue.push(4, Cost::default()).unwrap_err().is_closed());
        assert_eq!(queue.take(|_, _| false), Some(vec![2]), "the first is taken in any case");
        assert_eq!(queue.take(at_most(2)), None);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let queue = queue(Amount { bytes: 10 * (ENTRY_BYTES + 100), ..LARGE });
        assert_eq!(fill(&queue, Cost { app: None, bytes: 100 }), 10);
        assert_eq!(queue.push(0, Cost::default()).unwrap_err().kind(), DbErrorKind::QueueFull);
        assert_eq!(queue.take(at_most(1)).map(|taken| taken.len()), Some(1));
        queue.push(0, Cost { app: None, bytes: 100 }).unwrap();
        assert_eq!(queue.take(|_, _| true).map(|taken| taken.len()), Some(10));
        // Otherwise a job that is larger than the bound could never run.
        queue.push(0, Cost { app: None, bytes: 1 << 20 }).unwrap();
        assert!(queue.push(0, Cost::default()).is_err());
    }

    #[test]
    fn an_app_leaves_room_for_the_others() {
        for bound in [Amount { jobs: 100, ..LARGE }, Amount { bytes: 100 * ENTRY_BYTES, ..LARGE }] {
            let queue = queue(bound);
            assert_eq!(fill(&queue, Cost { app: ANN, bytes: 0 }), 50);
            assert_eq!(fill(&queue, Cost { app: BOB, bytes: 0 }), 25);
            assert_eq!(fill(&queue, Cost { app: Some(AppKey(3)), bytes: 0 }), 13);
            assert_eq!(fill(&queue, Cost::default()), 12, "the server's own work gets what is left");
            // What an app takes is given back.
            assert_eq!(queue.take(|_, _| true).map(|taken| taken.len()), Some(100));
            assert_eq!(fill(&queue, Cost { app: ANN, bytes: 0 }), 50);
        }
    }

    #[test]
    fn a_batch_ends_before_the_entry_that_does_not_join() {
        let queue = queue(LARGE);
        for (entry, app) in (0..4).zip([ANN, BOB, None, ANN]) {
            queue.push(entry, Cost { app, bytes: 1 }).unwrap();
        }
        assert_eq!(queue.take(|entry, bytes| bytes == ENTRY_BYTES + 1 && *entry < 3), Some(vec![0, 1, 2]));
        assert_eq!(queue.take(|_, _| true), Some(vec![3]));
        let state = queue.state.lock();
        assert_eq!((state.amount, state.apps.len()), (Amount::default(), 0));
    }
}
