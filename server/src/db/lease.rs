//! A server's place among the nodes that share a PostgreSQL database: a number, for as long as it holds a lease for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use zim_protocol::clock::Clock;

/// How a server shares its PostgreSQL database with others.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// How long a node number stays with a server that does not renew it.
    pub lease: Duration,
    /// The clock that is corrected to that of the database.
    pub clock: Clock,
}

/// A node number that this server holds. The server renews it; a server that cannot stops before the lease ends, so that it does
/// nothing after another server has learned that it is gone.
#[derive(Debug)]
pub struct Lease {
    number: u8,
    generation: i64,
    origin: Instant,
    /// When this server stops, in milliseconds since the origin.
    ends_ms: AtomicU64,
    /// The other nodes that hold their numbers.
    peers: Mutex<Vec<(u8, i64)>>,
    /// Dead nodes that were reported.
    reported: Mutex<Vec<(i64, i64)>>,
    deaths: watch::Sender<u64>,
}

impl Lease {
    /// Creates a lease that has ended until it is first renewed.
    pub(super) fn new(number: u8, generation: i64) -> Self {
        Self {
            number,
            generation,
            origin: Instant::now(),
            ends_ms: AtomicU64::new(0),
            peers: Mutex::default(),
            reported: Mutex::default(),
            deaths: watch::Sender::new(0),
        }
    }

    /// Returns the number, 0 to 63. Every ID that this server makes has it in its lowest bits.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Returns how often the number was taken.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Whether this server may still read and write.
    pub fn is_held(&self) -> bool {
        Instant::now() < self.ends_at()
    }

    fn ends_at(&self) -> Instant {
        self.origin + Duration::from_millis(self.ends_ms.load(Ordering::Acquire))
    }

    /// Notes a lease that was renewed for `lease` from `asked` on. A fifth of it is left to stop in.
    pub(super) fn renewed(&self, asked: Instant, lease: Duration) {
        let ends = asked + lease - lease / 5;
        let ends_ms = u64::try_from(ends.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX);
        self.ends_ms.store(ends_ms, Ordering::Release);
    }

    /// Notes that the lease has ended.
    pub(super) fn end(&self) {
        self.ends_ms.store(0, Ordering::Release);
    }

    /// Waits until the lease has ended.
    pub(super) async fn ended(&self) {
        while self.is_held() {
            sleep_until(self.ends_at()).await;
        }
    }

    /// Returns the numbers and generations of the other nodes that hold their leases, as of the last renewal.
    pub fn peers(&self) -> Vec<(u8, i64)> {
        self.peers.lock().clone()
    }

    /// Whether another node holds this number, as of the last renewal.
    pub fn has_peer(&self, number: u8) -> bool {
        self.peers.lock().iter().any(|(held, _)| *held == number)
    }

    /// Sets what [`Lease::peers`] returns.
    pub(super) fn set_peers(&self, peers: Vec<(u8, i64)>) {
        *self.peers.lock() = peers;
    }

    /// Notes the nodes that are dead now, by number and generation.
    pub(super) fn note_dead(&self, dead: Vec<(i64, i64)>) {
        let mut reported = self.reported.lock();
        if dead.iter().any(|node| !reported.contains(node)) {
            self.deaths.send_modify(|count| *count += 1);
        }
        *reported = dead;
    }

    /// Returns a counter that changes when another node has died.
    pub fn deaths(&self) -> watch::Receiver<u64> {
        self.deaths.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_ends_for_its_server_before_it_ends_for_others() {
        let lease = Lease::new(3, 1);
        assert!(!lease.is_held());
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        lease.renewed(Instant::now(), minutes(60));
        assert!(lease.is_held());
        // It was asked for 47 minutes ago, and is this server's for another minute.
        lease.renewed(Instant::now() - minutes(47), minutes(60));
        assert!(lease.is_held());
        lease.renewed(Instant::now() - minutes(49), minutes(60));
        assert!(!lease.is_held());
        lease.ended().await;
        lease.renewed(Instant::now(), minutes(60));
        lease.end();
        assert!(!lease.is_held());
    }

    #[test]
    fn the_numbers_of_others_are_those_of_the_last_renewal() {
        let lease = Lease::new(3, 1);
        lease.set_peers(vec![(0, 7), (5, 1)]);
        assert_eq!([0, 3, 5].map(|number| lease.has_peer(number)), [true, false, true]);
        lease.set_peers(vec![(5, 1)]);
        assert!(!lease.has_peer(0));
    }

    #[test]
    fn a_dead_node_is_reported_once() {
        let lease = Lease::new(3, 1);
        let mut deaths = lease.deaths();
        let mut count = |dead: &[(i64, i64)]| {
            lease.note_dead(dead.to_vec());
            *deaths.borrow_and_update()
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[(1, 4)]), 1);
        assert_eq!(count(&[(1, 4)]), 1);
        // The number was taken again, and died again.
        assert_eq!(count(&[(1, 6), (2, 1)]), 2);
    }
}
