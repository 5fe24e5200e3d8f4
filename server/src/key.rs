//! Integer keys: what every table and every in-memory map uses instead of names.
//!
//! A handler gets a key only from [`crate::tenant`], which resolves a name within its app; so nothing of one app can be
//! reached from another. No key crosses the wire; ids that do are scrambled per app ([`Scrambler`]) and tell nothing about
//! how busy others are.

use std::sync::atomic::{AtomicI64, Ordering};

use sha2::{Digest, Sha256};
use zim_protocol::clock::Clock;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i64);
    };
}

key!(
    /// An app: the appID itself.
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
    /// A login.
    LoginKey
);

/// Milliseconds at which ids begin: 2024-01-01.
const ORIGIN_MS: i64 = 1_704_067_200_000;
/// Room for so many ids in a millisecond.
const SEQUENCE_BITS: u32 = 15;
/// Room for so many nodes.
const NODE_BITS: u32 = 6;

/// Gives ids that are unique in the deployment and grow with time, so that new rows land at the end of their table.
#[derive(Debug)]
pub struct IdGenerator {
    clock: Clock,
    node: i64,
    last: AtomicI64,
}

impl IdGenerator {
    /// `newest` is the largest id that is stored: a clock that was set back cannot make ids twice.
    pub fn new(clock: Clock, node: u8, newest: i64) -> Self {
        Self { clock, node: i64::from(node) & ((1 << NODE_BITS) - 1), last: AtomicI64::new(newest) }
    }

    /// The next id: positive, below 2^62.
    pub fn next(&self) -> i64 {
        let step = 1 << NODE_BITS;
        let floor = ((self.clock.now_ms() - ORIGIN_MS).max(1) << (SEQUENCE_BITS + NODE_BITS)) | self.node;
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            // One more than the last of this node, in the node's own residue class.
            let next = floor.max(((last >> NODE_BITS) << NODE_BITS) + step + self.node);
            match self.last.compare_exchange_weak(last, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(seen) => last = seen,
            }
        }
    }

    /// The time of a new id, Unix milliseconds: the clock's, but it never falls, even if the clock does. For what is noted
    /// and later asked for by "since".
    pub fn time_ms(&self) -> i64 {
        (self.next() >> (SEQUENCE_BITS + NODE_BITS)) + ORIGIN_MS
    }
}

/// A permutation of 62-bit ids, keyed per app: what a client sees of an id neither counts nor dates the messages of others.
#[derive(Clone, Debug)]
pub struct Scrambler {
    rounds: [u64; 4],
}

const HALF: u64 = (1 << 31) - 1;

impl Scrambler {
    /// The permutation of one app.
    pub fn new(secret: &[u8], app: AppKey) -> Self {
        let digest = Sha256::new().chain_update(secret).chain_update(app.0.to_be_bytes()).finalize();
        let mut rounds = [0; 4];
        for (round, bytes) in rounds.iter_mut().zip(digest.chunks_exact(8)) {
            *round = bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        }
        Self { rounds }
    }

    /// From the stored id to the one that clients see.
    pub fn public(&self, id: i64) -> i64 {
        let bits = id.unsigned_abs();
        let (mut left, mut right) = ((bits >> 31) & HALF, bits & HALF);
        for key in self.rounds {
            (left, right) = (right, left ^ mix(right, key));
        }
        join(left, right)
    }

    /// From the one that clients see to the stored id.
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
    // 62 bits: always fits.
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
