//! The places of a listener: so many connections at once, and none that keeps others out. When all places are taken, a new
//! connection takes the place of the oldest one that has nothing in work, or else of the oldest one. So each connection has its
//! place until as many newer ones have come, and for a moment in any case, however many slow ones there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::peer::Peer;

/// A connection keeps its place for so long at least: in that time a request arrives that was sent at once, also on a machine that
/// is busy.
const KEEPS_FOR: Duration = Duration::from_millis(40);
/// With few places it is only so long for each of them: a thousand connections that came before are through in 300 ms.
const KEEPS_FOR_PER_PLACE: Duration = Duration::from_micros(300);
/// How long a listener waits for connections that lost their places and are still there. They only need to be scheduled once.
const LEAVE_WITHIN: Duration = Duration::from_millis(100);

/// How long a connection may take. It is closed if it takes longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until its first request is whole, handshakes included.
    pub(super) first: Duration,
    /// For the work on a request. Nothing: the work has a limit of its own.
    pub(super) work: Option<Duration>,
    /// From an answer until the next request is whole.
    pub(super) idle: Duration,
}

/// The places of one listener.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    table: Mutex<Table>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// By age.
    taken: BTreeMap<u64, Arc<Use>>,
    next: u64,
    /// Connections without a place that are not closed yet.
    leaving: usize,
}

impl Table {
    fn next_to_go(&self) -> Option<(u64, &Arc<Use>)> {
        let idle = self.taken.iter().find(|(_, one)| !one.is_in_work());
        idle.or_else(|| self.taken.iter().next()).map(|(number, usage)| (*number, usage))
    }

    fn evict(&mut self) -> Option<Peer> {
        let number = self.next_to_go()?.0;
        let evicted = self.taken.remove(&number)?;
        self.leaving += 1;
        evicted.progress.lock().is_evicted = true;
        evicted.leave.cancel();
        Some(evicted.peer)
    }
}

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, table: Mutex::default(), left: Notify::new() })
    }

    /// A place for a new connection, and who lost theirs for it. `end` is when the server stops.
    pub(super) fn take(self: &Arc<Self>, peer: Peer, end: &CancellationToken) -> (Place, Option<Peer>) {
        let usage = Arc::new(Use {
            peer,
            began: Instant::now(),
            progress: Mutex::new(Progress::new()),
            leave: end.child_token(),
        });
        let mut table = self.table.lock();
        let evicted = if table.taken.len() >= self.most { table.evict() } else { None };
        let number = table.next;
        table.next += 1;
        table.taken.insert(number, Arc::clone(&usage));
        drop(table);
        (Place { number, usage, places: Arc::clone(self) }, evicted)
    }

    /// The first connection that would make room makes room.
    pub(super) fn evict(&self) -> Option<Peer> {
        self.table.lock().evict()
    }

    /// Waits until a new connection may come. That is soon, whatever the connections do that are there.
    pub(super) async fn ready(&self) {
        while let Some(at) = self.may_evict_at() {
            sleep_until(at).await;
        }
        // Without this, connections that come faster than others are closed would be without a bound. Who has not left by then
        // leaves when its work is done.
        let crowd = async {
            while self.table.lock().leaving >= self.most {
                self.left.notified().await;
            }
        };
        drop(timeout(LEAVE_WITHIN, crowd).await);
    }

    /// When the next connection may take another one's place, if it needs one and has to wait for it.
    fn may_evict_at(&self) -> Option<Instant> {
        let table = self.table.lock();
        if table.taken.len() < self.most {
            return None;
        }
        let places = u32::try_from(self.most).unwrap_or(u32::MAX);
        let at = table.next_to_go()?.1.began + KEEPS_FOR.min(KEEPS_FOR_PER_PLACE * places);
        (at > Instant::now()).then_some(at)
    }
}

/// The place of a connection. Dropping it makes room.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    usage: Arc<Use>,
    places: Arc<Places>,
}

impl Place {
    /// What the connection does with it.
    pub(super) fn usage(&self) -> &Arc<Use> {
        &self.usage
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table.lock();
        if table.taken.remove(&self.number).is_none() {
            table.leaving = table.leaving.saturating_sub(1);
            self.places.left.notify_one();
        }
    }
}

/// What a connection does with its place: it is shared with whatever works on its requests.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) peer: Peer,
    began: Instant,
    progress: Mutex<Progress>,
    /// It lost its place, or the server stops.
    leave: CancellationToken,
}

#[derive(Debug)]
struct Progress {
    is_evicted: bool,
    /// A request was whole at least once.
    has_asked: bool,
    in_work: usize,
    /// The last answer may not be written yet.
    is_unwritten: bool,
    /// When the work began or, without any, when it ended; at first when the connection began.
    since: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { is_evicted: false, has_asked: false, in_work: 0, is_unwritten: false, since: Instant::now() }
    }

    fn is_idle(&self) -> bool {
        self.in_work == 0 && !self.is_unwritten
    }
}

impl Use {
    /// A request is whole: it is worked on until what this returns is dropped.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        let mut progress = self.progress.lock();
        progress.has_asked = true;
        progress.in_work += 1;
        if progress.in_work == 1 {
            progress.since = Instant::now();
        }
        Work(Arc::clone(self))
    }

    fn is_in_work(&self) -> bool {
        self.progress.lock().in_work > 0
    }

    /// Everything that there was to write is written.
    pub(super) fn is_written(&self) {
        self.progress.lock().is_unwritten = false;
    }

    /// Neither works on a request nor writes an answer.
    pub(super) fn is_idle(&self) -> bool {
        self.progress.lock().is_idle()
    }

    /// It has asked once, and is idle now.
    pub(super) fn is_done(&self) -> bool {
        let progress = self.progress.lock();
        progress.has_asked && progress.is_idle()
    }

    /// Another connection has its place.
    pub(super) fn is_evicted(&self) -> bool {
        self.progress.lock().is_evicted
    }

    /// Returns when the connection loses its place, or the server stops.
    pub(super) fn leave(&self) -> WaitForCancellationFutureOwned {
        self.leave.clone().cancelled_owned()
    }

    /// When its time is over, as things are; nothing while it need not hurry.
    pub(super) fn deadline(&self, patience: &Patience) -> Option<Instant> {
        let progress = self.progress.lock();
        let time = match &*progress {
            Progress { in_work: 1.., .. } => patience.work,
            Progress { has_asked: true, .. } => Some(patience.idle),
            Progress { has_asked: false, .. } => Some(patience.first),
        };
        time.map(|time| progress.since + time)
    }
}

/// A request in work.
#[derive(Debug)]
pub(super) struct Work(Arc<Use>);

impl Drop for Work {
    fn drop(&mut self) {
        let mut progress = self.0.progress.lock();
        progress.in_work = progress.in_work.saturating_sub(1);
        progress.is_unwritten = true;
        if progress.in_work == 0 {
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

    fn take(places: &Arc<Places>, port: u16) -> (Place, Option<Peer>) {
        places.take(peer(port), &CancellationToken::new())
    }

    #[test]
    fn one_too_many_takes_the_place_of_the_oldest() {
        let places = Places::new(3);
        let three: Vec<_> = (0..3).map(|port| take(&places, port)).collect();
        assert!(three.iter().all(|(_, evicted)| evicted.is_none()));
        let (four, evicted) = take(&places, 3);
        assert_eq!(evicted, Some(peer(0)));
        let is_evicted: Vec<_> = three.iter().map(|(place, _)| place.usage().is_evicted()).collect();
        assert_eq!(is_evicted, [true, false, false]);
        // Whoever goes makes room; who had lost their place does not.
        drop(three);
        let two: Vec<_> = (4..6).map(|port| take(&places, port)).collect();
        assert!(two.iter().all(|(_, evicted)| evicted.is_none()));
        assert_eq!(take(&places, 6).1, Some(peer(3)));
        assert!(four.usage().is_evicted());
    }

    #[test]
    fn what_is_in_work_is_the_last_to_go() {
        let places = Places::new(3);
        let (one, two, three) = (take(&places, 1).0, take(&places, 2).0, take(&places, 3).0);
        let (first, second) = (one.usage().work(), one.usage().work());
        let work = two.usage().work();
        let (four, evicted) = take(&places, 4);
        assert_eq!(evicted, Some(peer(3)));
        drop(first);
        let (five, evicted) = take(&places, 5);
        assert_eq!(evicted, Some(peer(4)));
        let _fifth = five.usage().work();
        // All are in work: the oldest goes.
        let (six, evicted) = take(&places, 6);
        assert_eq!(evicted, Some(peer(1)));
        drop(work);
        assert_eq!(take(&places, 7).1, Some(peer(2)));
        drop((second, three, four, six));
    }

    #[tokio::test]
    async fn who_lost_their_place_is_told_and_waited_for() {
        let places = Places::new(1);
        let one = take(&places, 1).0;
        places.ready().await;
        assert!(one.usage().began.elapsed() >= KEEPS_FOR_PER_PLACE, "it had no time");
        let (two, evicted) = take(&places, 2);
        assert!(evicted.is_some());
        one.usage().leave().await;
        let waits = {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.ready().await })
        };
        drop(one);
        waits.await.unwrap();
        assert_eq!(places.table.lock().leaving, 0);
        assert_eq!(places.evict(), Some(peer(2)));
        assert_eq!((places.evict(), two.usage().is_evicted()), (None, true));
    }

    #[test]
    fn each_stage_has_its_own_time() {
        let (first, work, idle) = (Duration::from_secs(1), Duration::from_secs(20), Duration::from_secs(300));
        let patience = Patience { first, work: Some(work), idle };
        let places = Places::new(1);
        let began = Instant::now();
        let place = take(&places, 1).0;
        let usage = place.usage();
        let left = |usage: &Use| usage.deadline(&patience).map(|by| (by - began).as_secs());
        assert_eq!((left(usage), usage.is_idle(), usage.is_done()), (Some(1), true, false));
        let (one, two) = (usage.work(), usage.work());
        assert_eq!((left(usage), usage.is_idle(), usage.is_done()), (Some(20), false, false));
        assert_eq!(usage.deadline(&Patience { work: None, ..patience }), None);
        drop(one);
        assert_eq!(left(usage), Some(20));
        drop(two);
        // Done when the answer is written.
        assert_eq!((left(usage), usage.is_idle(), usage.is_done()), (Some(300), false, false));
        usage.is_written();
        assert_eq!((usage.is_idle(), usage.is_done()), (true, true));
    }
}
