//! Unread counts. They are computed from positions and never counted up, so they cannot drift.

use zim_protocol::{Base, ConversationHead, MessageEntry, MessageFlag, ReadMark};

/// The values from which the unread count of a conversation is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The number of counted messages up to the position of the tally.
    pub n: u64,
    /// The number of them that the viewer sent.
    pub sent: u64,
    /// The position from which messages count as unread.
    pub base_seq: u64,
    /// `n` at `base_seq`.
    pub base_n: u64,
    /// `sent` at `base_seq`.
    pub base_sent: u64,
    /// The number of counted messages of others after the base that were revoked or hidden.
    pub deducted: u64,
    /// The position up to which the viewer has read.
    pub read_seq: u64,
}

impl Tally {
    /// Returns the number of unread messages.
    pub fn unread(&self) -> u64 {
        let sent = self.sent.saturating_sub(self.base_sent);
        self.n.saturating_sub(self.base_n).saturating_sub(sent).saturating_sub(self.deducted)
    }

    /// Counts the next message of the log.
    pub fn count(&mut self, entry: &MessageEntry, viewer: &str) {
        self.n = self.n.max(entry.n);
        if entry.sender == viewer && entry.has(MessageFlag::Counted) {
            self.sent += 1;
        }
    }

    /// Applies a read mark of any device of the viewer. A mark that is older than the current one changes nothing.
    pub fn read(&mut self, mark: &ReadMark) {
        self.read_seq = self.read_seq.max(mark.read_seq);
        if let Some(base) = &mark.base {
            self.rebase(base, 0);
        }
    }

    /// Takes over the values of a head.
    pub fn set(&mut self, head: &ConversationHead) {
        self.n = head.n;
        self.sent = head.sent;
        self.read_seq = self.read_seq.max(head.read_seq);
        let base = head.base.unwrap_or_default();
        if base.seq >= self.base_seq {
            self.move_base(&base, head.deducted);
        }
    }

    /// Takes over the base of a head that is older than the tally.
    pub fn set_base(&mut self, head: &ConversationHead) {
        self.read_seq = self.read_seq.max(head.read_seq);
        if let Some(base) = &head.base {
            self.rebase(base, head.deducted);
        }
    }

    fn rebase(&mut self, base: &Base, deducted: u64) {
        if base.seq > self.base_seq {
            self.move_base(base, deducted);
        }
    }

    fn move_base(&mut self, base: &Base, deducted: u64) {
        self.base_seq = base.seq;
        self.base_n = base.n;
        self.base_sent = base.sent;
        self.deducted = deducted;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(seq: u64, n: u64, sender: &str, counted: bool) -> MessageEntry {
        let flags = if counted { MessageFlag::Counted as u32 } else { 0 };
        MessageEntry { seq, n, sender: sender.to_owned(), flags, ..MessageEntry::default() }
    }

    #[test]
    fn an_old_read_mark_changes_nothing() {
        let mut tally = Tally { n: 9, base_seq: 9, base_n: 9, read_seq: 9, ..Tally::default() };
        tally.read(&ReadMark { read_seq: 4, base: Some(Base { seq: 4, n: 4, sent: 0 }), conversation: None });
        assert_eq!((tally.unread(), tally.read_seq), (0, 9));
    }

    proptest! {
        #[test]
        fn unread_equals_a_count_by_brute_force(
            messages in prop::collection::vec((any::<bool>(), any::<bool>()), 0..40),
            reads in prop::collection::vec((0_usize..40, 0_usize..40), 0..6),
        ) {
            let mut tally = Tally::default();
            let mut n = 0;
            let mut log = Vec::new();
            let mut read = 0_usize;
            for (index, (own, counted)) in messages.iter().enumerate() {
                n += u64::from(*counted);
                let entry = entry(index as u64 + 1, n, if *own { "ann" } else { "bob" }, *counted);
                tally.count(&entry, "ann");
                log.push(entry);
                for (_, to) in reads.iter().filter(|(at, _)| *at == index) {
                    let to = (*to).min(index + 1);
                    let base = Base {
                        seq: to as u64,
                        n: log[..to].last().map_or(0, |entry| entry.n),
                        sent: log[..to].iter().filter(|entry| entry.sender == "ann" && entry.flags == 1).count() as u64,
                    };
                    tally.read(&ReadMark { read_seq: to as u64, base: Some(base), conversation: None });
                    read = read.max(to);
                }
                let brute = log[read..].iter().filter(|entry| entry.sender != "ann" && entry.flags == 1).count();
                prop_assert_eq!(tally.unread(), brute as u64);
            }
        }
    }
}
