//! Orders commands against blocks. Commands are not stored, so no position tells which of them came before a block.

use parking_lot::RwLock;

/// Counts the blocks that were made on this node. A command reads the count, then the blacklist, and is delivered only
/// while the count is unchanged. So when a block is answered, every command that was let through before it has been
/// delivered, and every later command sees the block.
#[derive(Debug, Default)]
pub(crate) struct BlockFence(RwLock<u64>);

impl BlockFence {
    /// Returns the count; to be read before the blacklist.
    pub(crate) fn epoch(&self) -> u64 {
        *self.0.read()
    }

    /// Delivers unless a block was made since `epoch`. Returns false if one was: the caller has to read the blacklist
    /// again.
    pub(crate) fn deliver_if(&self, epoch: u64, deliver: impl FnOnce()) -> bool {
        let count = self.0.read();
        if *count != epoch {
            return false;
        }
        deliver();
        true
    }

    /// Notes a block that is committed.
    pub(crate) fn advance(&self) {
        *self.0.write() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_checked_before_a_block_is_not_delivered() {
        let fence = BlockFence::default();
        let before = fence.epoch();
        let mut delivered = 0;
        assert!(fence.deliver_if(before, || delivered += 1));
        fence.advance();
        assert!(!fence.deliver_if(before, || delivered += 1));
        assert!(fence.deliver_if(fence.epoch(), || delivered += 1));
        assert_eq!(delivered, 2);
    }
}
