//! Connection slots of a listener: they bound the number of connections, and no connection can keep others out. When
//! all slots are occupied, a new connection evicts the oldest one without a request in flight, or else the oldest one.
//! So a connection keeps its slot until as many newer ones have come as there are slots, and for a short time in any
//! case. Slow connections change nothing about that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::peer::Peer;

/// The shortest time that a connection keeps its slot. A request that is sent at once arrives in this time, even on a
/// busy machine.
const MIN_HOLD: Duration = Duration::from_millis(40);
/// With few slots the shortest time is this for each of them: a thousand earlier connections then take 0.3 s.
const MIN_HOLD_PER_SLOT: Duration = Duration::from_micros(300);
/// How long a listener waits for evicted connections that are not closed yet. They only need to be scheduled once.
const CLOSE_WAIT: Duration = Duration::from_millis(100);

/// How long each stage of a connection may take. A connection that takes longer is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// From the start until the first request is complete, handshakes included.
    pub(super) first_request: Duration,
    /// For the work on a request. `None` if the service limits it itself.
    pub(super) request: Option<Duration>,
    /// From a response until the next request is complete.
    pub(super) idle: Duration,
}

/// The connection slots of one listener.
#[derive(Debug)]
pub(super) struct Slots {
    max: usize,
    table: Mutex<Table>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By age, the oldest first.
    occupied: BTreeMap<u64, Arc<Activity>>,
    next: u64,
    /// Evicted connections that are not closed yet.
    closing: usize,
}

impl Table {
    fn next_to_evict(&self) -> Option<(u64, &Arc<Activity>)> {
        let idle = self.occupied.iter().find(|(_, activity)| !activity.has_requests());
        idle.or_else(|| self.occupied.iter().next()).map(|(number, activity)| (*number, activity))
    }

    fn evict(&mut self) -> Option<Peer> {
        let number = self.next_to_evict()?.0;
        let evicted = self.occupied.remove(&number)?;
        self.closing += 1;
        evicted.progress.lock().is_evicted = true;
        evicted.close.cancel();
        Some(evicted.peer)
    }
}

impl Slots {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::default(), closed: Notify::new() })
    }

    /// Gives a new connection a slot. Returns the peer that was evicted for it, if any. `end` is cancelled when the
    /// server stops.
    pub(super) fn acquire(self: &Arc<Self>, peer: Peer, end: &CancellationToken) -> (Slot, Option<Peer>) {
        let activity = Arc::new(Activity {
            peer,
            opened_at: Instant::now(),
            progress: Mutex::new(Progress::new()),
            close: end.child_token(),
        });
        let mut table = self.table.lock();
        let evicted = if table.occupied.len() >= self.max { table.evict() } else { None };
        let number = table.next;
        table.next += 1;
        table.occupied.insert(number, Arc::clone(&activity));
        drop(table);
        (Slot { number, activity, slots: Arc::clone(self) }, evicted)
    }

    /// Evicts the connection that is next to be evicted.
    pub(super) fn evict(&self) -> Option<Peer> {
        self.table.lock().evict()
    }

    /// Waits until a new connection may come. This is soon, whatever the existing connections do.
    pub(super) async fn ready(&self) {
        while let Some(at) = self.may_evict_at() {
            sleep_until(at).await;
        }
        // This bounds the connections that come faster than evicted ones are closed. A connection that is still there
        // after the wait ends with its request.
        let fewer_closing = async {
            while self.table.lock().closing >= self.max {
                self.closed.notified().await;
            }
        };
        drop(timeout(CLOSE_WAIT, fewer_closing).await);
    }

    /// When the next connection may evict another one, if it has to wait for that.
    fn may_evict_at(&self) -> Option<Instant> {
        let table = self.table.lock();
        if table.occupied.len() < self.max {
            return None;
        }
        let slots = u32::try_from(self.max).unwrap_or(u32::MAX);
        let at = table.next_to_evict()?.1.opened_at + MIN_HOLD.min(MIN_HOLD_PER_SLOT * slots);
        (at > Instant::now()).then_some(at)
    }
}

/// A connection's slot. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Slot {
    number: u64,
    activity: Arc<Activity>,
    slots: Arc<Slots>,
}

impl Slot {
    /// The activity of the connection.
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.slots.table.lock();
        if table.occupied.remove(&self.number).is_none() {
            table.closing = table.closing.saturating_sub(1);
            self.slots.closed.notify_one();
        }
    }
}

/// What a connection is doing. It is shared with whatever works on its requests.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) peer: Peer,
    opened_at: Instant,
    progress: Mutex<Progress>,
    /// Cancelled when the connection is evicted or the server stops.
    close: CancellationToken,
}

#[derive(Debug)]
struct Progress {
    is_evicted: bool,
    /// At least one request was complete.
    has_requested: bool,
    in_flight: usize,
    /// The last response may not be written completely.
    is_unflushed: bool,
    /// When the requests in flight began; without any, when the last one ended; at first, when the connection began.
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { is_evicted: false, has_requested: false, in_flight: 0, is_unflushed: false, since: Instant::now() }
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && !self.is_unflushed
    }
}

impl Activity {
    /// Marks a complete request as in flight until the returned guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        let mut progress = self.progress.lock();
        progress.has_requested = true;
        progress.in_flight += 1;
        if progress.in_flight == 1 {
            progress.since = Instant::now();
        }
        RequestGuard(Arc::clone(self))
    }

    fn has_requests(&self) -> bool {
        self.progress.lock().in_flight > 0
    }

    /// Records that everything is written.
    pub(super) fn set_flushed(&self) {
        self.progress.lock().is_unflushed = false;
    }

    /// Returns whether no request is in flight and no response is being written.
    pub(super) fn is_idle(&self) -> bool {
        self.progress.lock().is_idle()
    }

    /// Returns whether the connection has had a request and is idle.
    pub(super) fn is_done(&self) -> bool {
        let progress = self.progress.lock();
        progress.has_requested && progress.is_idle()
    }

    /// Returns whether the connection lost its slot to another one.
    pub(super) fn is_evicted(&self) -> bool {
        self.progress.lock().is_evicted
    }

    /// Resolves when the connection is evicted or the server stops.
    pub(super) fn close_requested(&self) -> WaitForCancellationFutureOwned {
        self.close.clone().cancelled_owned()
    }

    /// When the current stage times out; `None` if it has no limit.
    pub(super) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let progress = self.progress.lock();
        let time = match &*progress {
            Progress { in_flight: 1.., .. } => timeouts.request,
            Progress { has_requested: true, .. } => Some(timeouts.idle),
            Progress { has_requested: false, .. } => Some(timeouts.first_request),
        };
        time.map(|time| progress.since + time)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Activity>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut progress = self.0.progress.lock();
        progress.in_flight = progress.in_flight.saturating_sub(1);
        progress.is_unflushed = true;
        if progress.in_flight == 0 {
            progress.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> Peer {
        Peer::Tcp(([192, 0, 2, 1], port).into())
    }

    fn acquire(slots: &Arc<Slots>, port: u16) -> (Slot, Option<Peer>) {
        slots.acquire(peer(port), &CancellationToken::new())
    }

    #[test]
    fn a_connection_beyond_the_maximum_evicts_the_oldest() {
        let slots = Slots::new(3);
        let three: Vec<_> = (0..3).map(|port| acquire(&slots, port)).collect();
        assert!(three.iter().all(|(_, evicted)| evicted.is_none()));
        let (four, evicted) = acquire(&slots, 3);
        assert_eq!(evicted, Some(peer(0)));
        let is_evicted: Vec<_> = three.iter().map(|(slot, _)| slot.activity().is_evicted()).collect();
        assert_eq!(is_evicted, [true, false, false]);
        // Closing a connection frees its slot. The evicted one had none.
        drop(three);
        let two: Vec<_> = (4..6).map(|port| acquire(&slots, port)).collect();
        assert!(two.iter().all(|(_, evicted)| evicted.is_none()));
        assert_eq!(acquire(&slots, 6).1, Some(peer(3)));
        assert!(four.activity().is_evicted());
    }

    #[test]
    fn connections_with_requests_are_evicted_last() {
        let slots = Slots::new(3);
        let (one, two, three) = (acquire(&slots, 1).0, acquire(&slots, 2).0, acquire(&slots, 3).0);
        let (first, second) = (one.activity().begin_request(), one.activity().begin_request());
        let work = two.activity().begin_request();
        let (four, evicted) = acquire(&slots, 4);
        assert_eq!(evicted, Some(peer(3)));
        drop(first);
        let (five, evicted) = acquire(&slots, 5);
        assert_eq!(evicted, Some(peer(4)));
        let _fifth = five.activity().begin_request();
        // All have requests in flight: the oldest is evicted.
        let (six, evicted) = acquire(&slots, 6);
        assert_eq!(evicted, Some(peer(1)));
        drop(work);
        assert_eq!(acquire(&slots, 7).1, Some(peer(2)));
        drop((second, three, four, six));
    }

    #[tokio::test]
    async fn an_evicted_connection_is_notified_and_awaited() {
        let slots = Slots::new(1);
        let one = acquire(&slots, 1).0;
        slots.ready().await;
        assert!(one.activity().opened_at.elapsed() >= MIN_HOLD_PER_SLOT, "it was not kept for the shortest time");
        let (two, evicted) = acquire(&slots, 2);
        assert!(evicted.is_some());
        one.activity().close_requested().await;
        let waits = {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.ready().await })
        };
        drop(one);
        waits.await.unwrap();
        assert_eq!(slots.table.lock().closing, 0);
        assert_eq!(slots.evict(), Some(peer(2)));
        assert_eq!((slots.evict(), two.activity().is_evicted()), (None, true));
    }

    #[test]
    fn each_stage_has_its_own_timeout() {
        let (first_request, request, idle) =
            (Duration::from_secs(1), Duration::from_secs(20), Duration::from_secs(300));
        let timeouts = Timeouts { first_request, request: Some(request), idle };
        let slots = Slots::new(1);
        let opened_at = Instant::now();
        let slot = acquire(&slots, 1).0;
        let activity = slot.activity();
        let left = |activity: &Activity| activity.deadline(&timeouts).map(|by| (by - opened_at).as_secs());
        assert_eq!((left(activity), activity.is_idle(), activity.is_done()), (Some(1), true, false));
        let (one, two) = (activity.begin_request(), activity.begin_request());
        assert_eq!((left(activity), activity.is_idle(), activity.is_done()), (Some(20), false, false));
        assert_eq!(activity.deadline(&Timeouts { request: None, ..timeouts }), None);
        drop(one);
        assert_eq!(left(activity), Some(20));
        drop(two);
        // Idle only after the response is written.
        assert_eq!((left(activity), activity.is_idle(), activity.is_done()), (Some(300), false, false));
        activity.set_flushed();
        assert_eq!((activity.is_idle(), activity.is_done()), (true, true));
    }
}
