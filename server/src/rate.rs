//! Token buckets, which limit how often something may happen. They are pure: the caller passes the time, from a monotonic clock
//! (`Clock::steady_ms`). A clock that is set back would leave all buckets empty.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use parking_lot::Mutex;

/// An average rate, and a burst after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    interval_us: i64,
    depth_us: i64,
}

impl Rate {
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        Self::per(1_000_000, per_second, burst)
    }

    /// A rate of `count` per minute, with a burst of the same number.
    pub(crate) fn per_minute(count: u32) -> Self {
        Self::per(60_000_000, count, count)
    }

    /// A rate of `count` within so many seconds, with a burst of the same number.
    pub(crate) fn within(seconds: u32, count: u32) -> Self {
        Self::per(i64::from(seconds) * 1_000_000, count, count)
    }

    fn per(span_us: i64, count: u32, burst: u32) -> Self {
        let interval_us = span_us / i64::from(count.max(1));
        Self { interval_us, depth_us: interval_us * i64::from(burst.max(1)) }
    }
}

/// A token bucket in eight bytes: the time at which the bucket is full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at_us: i64,
}

impl Bucket {
    /// Takes a token. If there is none, returns the milliseconds until there is one.
    pub(crate) fn take(&mut self, rate: Rate, now_ms: i64) -> Result<(), i64> {
        let now = now_ms.saturating_mul(1_000);
        // The bucket never owes tokens, so that even a clock that is set back does not block anyone for long.
        self.full_at_us = self.full_at_us.clamp(now, now.saturating_add(rate.depth_us));
        let next = self.full_at_us.saturating_add(rate.interval_us);
        let over = next.saturating_sub(now.saturating_add(rate.depth_us));
        if over > 0 {
            return Err((over + 999) / 1_000);
        }
        self.full_at_us = next;
        Ok(())
    }

    /// Returns the bucket that has fewer tokens.
    pub(crate) fn emptier(self, other: Self) -> Self {
        Self { full_at_us: self.full_at_us.max(other.full_at_us) }
    }

    /// Whether the bucket is full, so that it need not be kept.
    pub(crate) fn is_full(self, now_ms: i64) -> bool {
        self.full_at_us <= now_ms.saturating_mul(1_000)
    }
}

/// The unit to which limits per address apply: one IPv4 address, or one IPv6 /64, the smallest network that a site is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subnet(u64);

impl From<SocketAddr> for Subnet {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip))),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                // No IPv6 network begins with sixteen zero bits, so none collides with an IPv4 address.
                Self([a, b, c, d].into_iter().fold(0, |net, part| (net << 16) | u64::from(part)))
            }
        }
    }
}

#[cfg(test)]
impl Subnet {
    pub(crate) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// The number of keys from which full buckets are removed.
const SWEEP_FROM: usize = 4_096;

/// A bucket for each key, all with the same rate. Full buckets are removed, so that the rate bounds the memory.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    kept: Mutex<Kept<K>>,
}

#[derive(Debug)]
struct Kept<K> {
    buckets: HashMap<K, Bucket>,
    sweep_at: usize,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, kept: Mutex::new(Kept { buckets: HashMap::new(), sweep_at: SWEEP_FROM }) }
    }

    /// Takes a token from the bucket of `key`. If there is none, returns the milliseconds until there is one.
    pub(crate) fn take(&self, key: K, now_ms: i64) -> Result<(), i64> {
        let Kept { buckets, sweep_at } = &mut *self.kept.lock();
        if buckets.len() >= *sweep_at {
            buckets.retain(|_, bucket| !bucket.is_full(now_ms));
            *sweep_at = (buckets.len() * 2).max(SWEEP_FROM);
        }
        buckets.entry(key).or_default().take(self.rate, now_ms)
    }

    /// Returns the milliseconds until the bucket of `key` has a token, 0 if it has one now. Takes none.
    pub(crate) fn wait_ms(&self, key: &K, now_ms: i64) -> i64 {
        let mut bucket = self.kept.lock().buckets.get(key).copied().unwrap_or_default();
        bucket.take(self.rate, now_ms).err().unwrap_or(0)
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
        // 100 ms give five more.
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, 10_100), Ok(()));
        }
        assert_eq!(bucket.take(rate, 10_100), Err(20));
    }

    #[test]
    fn a_pause_fills_a_bucket_up_to_its_burst() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::default();
        assert!(bucket.take(rate, 0).is_ok());
        assert!(bucket.is_full(100) && !bucket.is_full(99));
        let granted = (0..10).filter(|_| bucket.take(rate, 1_000_000).is_ok()).count();
        assert_eq!(granted, 3);
    }

    #[test]
    fn the_reported_wait_is_exact() {
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
    fn a_clock_set_back_blocks_nobody() {
        let rate = Rate::new(10, 3);
        let mut bucket = Bucket::default();
        assert!(bucket.take(rate, 9_000_000_000).is_ok());
        assert_eq!(bucket.take(rate, 1_000), Err(100));
        assert_eq!(bucket.take(rate, 1_100), Ok(()));
    }

    #[test]
    fn a_rate_per_minute_allows_its_count_at_once() {
        let rate = Rate::per_minute(60);
        let mut bucket = Bucket::default();
        assert_eq!((0..100).filter(|_| bucket.take(rate, 0).is_ok()).count(), 60);
        assert_eq!(bucket.take(rate, 0), Err(1_000));
        assert_eq!(bucket.take(rate, 1_000), Ok(()));
        assert_eq!(bucket.take(rate, 1_000), Err(1_000));
    }

    #[test]
    fn each_key_has_a_bucket_and_full_ones_are_removed() {
        let buckets = Buckets::new(Rate::new(1, 2));
        assert!(buckets.take(1, 0).is_ok() && buckets.take(1, 0).is_ok());
        assert_eq!((buckets.take(1, 0), buckets.wait_ms(&1, 0)), (Err(1_000), 1_000));
        assert_eq!((buckets.wait_ms(&1, 1_000), buckets.wait_ms(&2, 0), buckets.wait_ms(&2, 0)), (0, 0, 0));
        assert!(buckets.take(2, 0).is_ok());
        for key in 3..=SWEEP_FROM {
            assert!(buckets.take(key, 0).is_ok());
        }
        // By now all buckets but the first are full.
        assert!(buckets.take(0, 1_500).is_ok());
        assert_eq!(buckets.kept.lock().buckets.len(), 2);
    }
}
