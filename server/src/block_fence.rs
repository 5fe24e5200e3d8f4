//! Orders commands against blocks. Commands are not stored, so no position tells which of them came before a block.

use std::hash::{BuildHasher, RandomState};

use parking_lot::RwLock;

use crate::key::UserKey;

/// With so many parts, the blocks of one user hardly ever delay commands to another.
const SHARDS: usize = 256;

/// Counts the blocks that users made on this node. A command reads the count of its receiver, then the receiver's
/// blacklist, and is delivered only while the count is unchanged. So when a block is answered, every command that was
/// let through before it has been delivered, and every later command sees the block.
#[derive(Debug)]
pub(crate) struct BlockFence {
    /// One count for many users, to bound the memory.
    counts: Vec<RwLock<u64>>,
    /// Random, so that nobody can choose users who share a count with another.
    hasher: RandomState,
}

impl Default for BlockFence {
    fn default() -> Self {
        Self { counts: (0..SHARDS).map(|_| RwLock::default()).collect(), hasher: RandomState::new() }
    }
}

impl BlockFence {
    fn count(&self, receiver: UserKey) -> &RwLock<u64> {
        let shard = self.hasher.hash_one(receiver) % self.counts.len() as u64;
        &self.counts[usize::try_from(shard).unwrap_or_default()]
    }

    /// Returns the count of `receiver`; to be read before the receiver's blacklist.
    pub(crate) fn epoch(&self, receiver: UserKey) -> u64 {
        *self.count(receiver).read()
    }

    /// Delivers unless `receiver` has made a block since `epoch`. Returns false if so: the caller has to read the
    /// blacklist again.
    pub(crate) fn deliver_if(&self, receiver: UserKey, epoch: u64, deliver: impl FnOnce()) -> bool {
        let count = self.count(receiver).read();
        if *count != epoch {
            return false;
        }
        deliver();
        true
    }

    /// Notes a committed block by `owner` of the blacklist.
    pub(crate) fn advance(&self, owner: UserKey) {
        *self.count(owner).write() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_checked_before_a_block_is_not_delivered() {
        let (fence, ann) = (BlockFence::default(), UserKey(1));
        let before = fence.epoch(ann);
        let mut delivered = 0;
        assert!(fence.deliver_if(ann, before, || delivered += 1));
        fence.advance(ann);
        assert!(!fence.deliver_if(ann, before, || delivered += 1));
        assert!(fence.deliver_if(ann, fence.epoch(ann), || delivered += 1));
        assert_eq!(delivered, 2);
    }

    #[test]
    fn blocks_by_one_user_delay_hardly_any_command_to_others() {
        let fence = BlockFence::default();
        let before: Vec<u64> = (0..10_000).map(|user| fence.epoch(UserKey(user))).collect();
        // However many they are.
        (0..1_000).for_each(|_| fence.advance(UserKey(-1)));
        let delayed = (0..10_000).zip(before).filter(|(user, epoch)| !fence.deliver_if(UserKey(*user), *epoch, || ()));
        let delayed = delayed.count();
        assert!(delayed < 200, "{delayed} of 10,000");
    }
}
