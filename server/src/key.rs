//! Integer keys, which all tables and in-memory maps use instead of names.
//!
//! A handler gets a key only from a method of [`crate::app::App`] that resolves a name within one app. So one app cannot reach
//! anything of another. No key crosses the wire: IDs there are scrambled per app (`Scrambler`), so that they do not reveal how
//! busy others are.

use std::sync::atomic::{AtomicI64, Ordering};

use sha2::{Digest, Sha256};
use zim_protocol::clock::Clock;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);

        impl From<$name> for i64 {
            fn from(key: $name) -> Self {
                key.0
            }
        }
    };
}

key!(
    /// An app: the app ID itself.
    AppKey
);
key!(
    /// A user of one app.
    UserKey
);
key!(
    /// A conversation of one app.
    ConversationKey
);
key!(
    /// A call of one app.
    CallKey
);
key!(
    /// A login.
    LoginKey
);

impl LoginKey {
    /// Returns the number of the node that the login is connected to: a login that is resumed gets a new key.
    pub fn node(self) -> i64 {
        self.0 & ((1 << NODE_BITS) - 1)
    }
}

/// The origin of the time in IDs, in Unix milliseconds: 2024-01-01.
const ORIGIN_MS: i64 = 1_704_067_200_000;
/// The bits of the sequence number within a millisecond.
const SEQUENCE_BITS: u32 = 15;
/// The bits of the node number.
const NODE_BITS: u32 = 6;

/// Generates IDs that are unique in the deployment and increase with time, so that new rows are at the end of their table.
#[derive(Debug)]
pub struct IdGenerator {
    clock: Clock,
    node: i64,
    last: AtomicI64,
}

impl IdGenerator {
    /// Creates a generator. `newest` is the largest stored ID, so that a clock that was set back does not repeat IDs.
    pub fn new(clock: Clock, node: u8, newest: i64) -> Self {
        Self { clock, node: i64::from(node) & ((1 << NODE_BITS) - 1), last: AtomicI64::new(newest) }
    }

    /// Returns the next ID, which is positive and below 2^62.
    pub fn next(&self) -> i64 {
        let step = 1 << NODE_BITS;
        let floor = ((self.clock.now_ms() - ORIGIN_MS).max(1) << (SEQUENCE_BITS + NODE_BITS)) | self.node;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            // At least one step above the last ID, with this node's number in the lowest bits.
            let next = floor.max(((last >> NODE_BITS) << NODE_BITS) + step + self.node);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }

    /// Returns the time of a new ID in Unix milliseconds: that of the clock, but it never decreases, even if the clock is set
    /// back. It is for records that are later queried by "since". It repeats within a millisecond.
    pub fn time_ms(&self) -> i64 {
        (self.next() >> (SEQUENCE_BITS + NODE_BITS)) + ORIGIN_MS
    }
}

/// The bits of a place that tell places of one millisecond apart: those of the node, and four more.
const PLACE_BITS: u32 = NODE_BITS + 4;

/// Gives places in a list that is in the order of changes: numbers that a JSON number holds. No two changes in the deployment get
/// the same, so a page that ends between two of them leaves none out.
#[derive(Debug)]
pub struct Places {
    node: i64,
    last: AtomicI64,
}

impl Places {
    /// Creates the places of a node.
    pub fn new(node: u8) -> Self {
        Self { node: i64::from(node) & ((1 << NODE_BITS) - 1), last: AtomicI64::new(0) }
    }

    /// Returns a place above `newest`, the largest that is stored. Jobs that run at the same time may have read the same one.
    pub fn next(&self, newest: i64, now_ms: i64) -> i64 {
        let floor = (now_ms << PLACE_BITS).max(newest + 1);
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let least = floor.max(last + 1);
            // The first one from there on with this node's number in the lowest bits.
            let next = least + (self.node - least).rem_euclid(1 << NODE_BITS);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }
}

/// A permutation of 62-bit IDs with a key for each app, so that the IDs that clients see neither count nor date the messages of
/// others.
#[derive(Clone, Debug)]
pub struct Scrambler {
    rounds: [u64; 4],
}

const HALF: u64 = (1 << 31) - 1;

impl Scrambler {
    /// Creates the permutation of one app.
    pub fn new(secret: &[u8], app: AppKey) -> Self {
        let digest = Sha256::new().chain_update(secret).chain_update(app.0.to_be_bytes()).finalize();
        let mut rounds = [0; 4];
        for (round, bytes) in rounds.iter_mut().zip(digest.chunks_exact(8)) {
            *round = bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        }
        Self { rounds }
    }

    /// Converts a stored ID to the one that clients see.
    pub fn public(&self, id: i64) -> i64 {
        let bits = id.unsigned_abs();
        let (mut left, mut right) = ((bits >> 31) & HALF, bits & HALF);
        for key in self.rounds {
            (left, right) = (right, left ^ mix(right, key));
        }
        join(left, right)
    }

    /// Converts an ID that clients see to the stored one.
    pub fn stored(&self, id: i64) -> i64 {
        let bits = id.unsigned_abs();
        let (mut left, mut right) = ((bits >> 31) & HALF, bits & HALF);
        for key in self.rounds.iter().rev() {
            (left, right) = (right ^ mix(left, *key), left);
        }
        join(left, right)
    }
}

fn join(left: u64, right: u64) -> i64 {
    // 62 bits always fit.
    i64::try_from((left << 31) | right).unwrap_or(i64::MAX)
}

fn mix(half: u64, key: u64) -> u64 {
    let mut x = (half ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (x >> 33) & HALF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_although_the_clock_is_set_back() {
        let ids = IdGenerator::new(Clock::manual(ORIGIN_MS + 1000), 3, 0);
        let first = ids.next();
        let behind = IdGenerator::new(Clock::manual(ORIGIN_MS + 10), 3, first);
        let mut last = first;
        for _ in 0..100_000 {
            let next = behind.next();
            assert!(next > last);
            assert_eq!(next & 63, 3);
            last = next;
        }
        assert_eq!((ids.time_ms(), behind.time_ms()), (ORIGIN_MS + 1000, ORIGIN_MS + 1003));
    }

    #[test]
    fn jobs_that_read_the_same_place_get_different_ones() {
        let (one, other) = (Places::new(3), Places::new(63));
        let mut given: Vec<i64> = (0..100).flat_map(|_| [one.next(7, 2), other.next(7, 2)]).collect();
        assert!(given.iter().all(|place| *place >= 2 << 10), "{given:?}");
        // Each node's places are in the order in which it gave them.
        assert!((2..200).all(|at| given[at - 2] < given[at]), "{given:?}");
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 200);
        // A node that starts again, with a clock that is set back, has what is stored.
        let newest = given[199];
        assert!(Places::new(63).next(newest, 1) > newest);
        // In the year 2100.
        assert!(one.next(newest, 4_102_444_800_000) < 1 << 53);
    }

    #[test]
    fn scrambling_is_a_permutation_of_its_app() {
        let one = Scrambler::new(b"secret", AppKey(1));
        let two = Scrambler::new(b"secret", AppKey(2));
        for id in [1, 2, 3, 1 << 40, (1 << 62) - 1, 918_273_645_546_372] {
            let public = one.public(id);
            assert!(public >= 0);
            assert_eq!(one.stored(public), id);
            assert_ne!(public, two.public(id));
        }
    }
}
