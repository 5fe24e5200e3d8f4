//! How much and how many: a token bucket, and the connections of each address. Pure: the time is given, by a clock that
//! nobody sets (`Clock::steady_ms`), or else a clock that is set back would leave everybody with an empty bucket.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// So many a second on average, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    interval_us: i64,
    depth_us: i64,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval_us = 1_000_000 / i64::from(per_second.max(1));
        Self { interval_us, depth_us: interval_us * i64::from(burst.max(1)) }
    }
}

/// A token bucket in eight bytes: the time at which it is full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at_us: i64,
}

impl Bucket {
    /// Takes one, or says in how many milliseconds there is one.
    pub(crate) fn take(&mut self, rate: Rate, now_ms: i64) -> Result<(), i64> {
        let now = now_ms.saturating_mul(1_000);
        // It cannot be emptier than empty: even a clock that goes back locks nobody out.
        self.full_at_us = self.full_at_us.clamp(now, now.saturating_add(rate.depth_us));
        let next = self.full_at_us.saturating_add(rate.interval_us);
        let over = next.saturating_sub(now.saturating_add(rate.depth_us));
        if over > 0 {
            return Err((over + 999) / 1_000);
        }
        self.full_at_us = next;
        Ok(())
    }

    /// Whether it is full: nothing to remember.
    fn is_full(self, now_ms: i64) -> bool {
        self.full_at_us <= now_ms.saturating_mul(1_000)
    }
}

/// Whom an address belongs to: one IPv4 address, or one IPv6 /64, which is the least that anybody is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subnet(u64);

impl From<SocketAddr> for Subnet {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                // No network begins with sixteen zero bits, so that none meets an IPv4 address.
                Self([a, b, c, d].into_iter().fold(0, |net, part| (net << 16) | u64::from(part)))
            }
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    handshakes: Bucket,
}

/// What each address has and asks for.
#[derive(Debug)]
pub(crate) struct Addresses {
    entries: HashMap<Subnet, Entry>,
    handshakes: Rate,
    max_connections: usize,
    sweep_at: usize,
}

/// With so few addresses nobody looks for those that can be forgotten.
const SWEEP_FROM: usize = 4_096;

impl Addresses {
    pub(crate) fn new(handshakes: Rate, max_connections: usize) -> Self {
        Self { entries: HashMap::new(), handshakes, max_connections, sweep_at: SWEEP_FROM }
    }

    /// Whether a client at `subnet`, which has proved that it is there, may shake hands now.
    pub(crate) fn may_shake(&mut self, subnet: Subnet, now_ms: i64) -> bool {
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, entry| entry.connections > 0 || !entry.handshakes.is_full(now_ms));
            self.sweep_at = (self.entries.len() * 2).max(SWEEP_FROM);
        }
        let rate = self.handshakes;
        self.entries.entry(subnet).or_default().handshakes.take(rate, now_ms).is_ok()
    }

    /// A connection from `subnet` begins, unless it has too many.
    pub(crate) fn connect(&mut self, subnet: Subnet) -> bool {
        let entry = self.entries.entry(subnet).or_default();
        let room = entry.connections < self.max_connections;
        entry.connections += usize::from(room);
        room
    }

    /// A connection from `subnet` is over.
    pub(crate) fn disconnect(&mut self, subnet: Subnet, now_ms: i64) {
        if let Some(entry) = self.entries.get_mut(&subnet) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0 && entry.handshakes.is_full(now_ms) {
                self.entries.remove(&subnet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate::new(50, 50);
        let mut bucket = Bucket::default();
        for _ in 0..50 {
            assert_eq!(bucket.take(rate, 10_000), Ok(()));
        }
        assert_eq!(bucket.take(rate, 10_000), Err(20));
        assert_eq!(bucket.take(rate, 10_019), Err(1));
        // Five more for 100 ms.
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, 10_100), Ok(()));
        }
        assert_eq!(bucket.take(rate, 10_100), Err(20));
    }

    #[test]
    fn a_pause_fills_it_and_no_more() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::default();
        assert!(bucket.take(rate, 0).is_ok());
        assert!(bucket.is_full(100) && !bucket.is_full(99));
        let granted = (0..10).filter(|_| bucket.take(rate, 1_000_000).is_ok()).count();
        assert_eq!(granted, 3);
    }

    #[test]
    fn the_answer_when_to_come_again_is_right() {
        let rate = Rate::new(3, 2);
        let mut bucket = Bucket::default();
        let mut now = 5;
        for _ in 0..100 {
            match bucket.take(rate, now) {
                Ok(()) => {}
                Err(wait) => {
                    assert!(bucket.take(rate, now + wait - 1).is_err());
                    now += wait;
                    assert_eq!(bucket.take(rate, now), Ok(()));
                }
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::default();
        assert!(bucket.take(rate, 9_000_000_000).is_ok());
        assert_eq!(bucket.take(rate, 1_000), Err(100));
        assert_eq!(bucket.take(rate, 1_100), Ok(()));
    }

    #[test]
    fn an_address_has_its_own_bounds() {
        let mut addresses = Addresses::new(Rate::new(1, 2), 2);
        let subnet = |text: &str| Subnet::from(text.parse::<SocketAddr>().unwrap());
        let (one, two) = (subnet("192.0.2.1:1"), subnet("192.0.2.2:1"));
        assert_eq!(one, subnet("[::ffff:192.0.2.1]:9"));
        assert_eq!(subnet("[2001:db8::1]:1"), subnet("[2001:db8::ffff]:2"));
        assert_ne!(subnet("[2001:db8::1]:1"), subnet("[2001:db8:0:1::1]:1"));
        assert!(addresses.may_shake(one, 0) && addresses.may_shake(one, 0));
        assert!(!addresses.may_shake(one, 0));
        assert!(addresses.may_shake(two, 0));
        assert!(addresses.connect(one) && addresses.connect(one) && !addresses.connect(one));
        assert!(addresses.connect(two));
        addresses.disconnect(one, 0);
        assert!(addresses.connect(one));
    }

    #[test]
    fn idle_addresses_are_forgotten() {
        let mut addresses = Addresses::new(Rate::new(1, 1), 1);
        for index in 0..SWEEP_FROM as u64 {
            assert!(addresses.may_shake(Subnet(index), 0));
        }
        assert!(addresses.connect(Subnet(7)));
        assert!(addresses.may_shake(Subnet(u64::MAX), 5_000));
        assert_eq!(addresses.entries.len(), 2);
        addresses.disconnect(Subnet(7), 9_000);
        assert_eq!(addresses.entries.len(), 1);
    }
}
