//! What commands pass: they are stored nowhere, so no position tells which of them came before a block.

use parking_lot::RwLock;

/// Counts how often somebody was blocked on this node. A command looks at the count, then at the blacklist, and is delivered
/// while the count stands still; so when a block is answered, every command that was let through before it is delivered, and
/// every later one has seen it.
#[derive(Debug, Default)]
pub(crate) struct BlockFence(RwLock<u64>);

impl BlockFence {
    /// Before looking at the blacklist.
    pub(crate) fn epoch(&self) -> u64 {
        *self.0.read()
    }

    /// Delivers, unless somebody was blocked since `epoch`: then false, and it is worth looking again.
    pub(crate) fn deliver_if(&self, epoch: u64, deliver: impl FnOnce()) -> bool {
        let count = self.0.read();
        if *count != epoch {
            return false;
        }
        deliver();
        true
    }

    /// Somebody was blocked, and that is committed.
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
