//! Unread counts. They are computed from positions and never counted up, so they cannot drift.

use std::collections::BTreeSet;

use zim_protocol::{Base, ConversationHead, MessageEntry, MessageFlag, ReadMark};

/// The values from which the unread count of a conversation is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// The positions of the counted messages of others after the base that were revoked. A set: a change may be applied
    /// twice.
    pub revoked: BTreeSet<u64>,
    /// The position up to which the viewer has read.
    pub read_seq: u64,
}

impl Tally {
    /// Returns the number of unread messages.
    pub fn unread(&self) -> u64 {
        let sent = self.sent.saturating_sub(self.base_sent);
        self.n.saturating_sub(self.base_n).saturating_sub(sent).saturating_sub(self.revoked.len() as u64)
    }

    /// Counts the next message of the log.
    pub fn count(&mut self, entry: &MessageEntry, viewer: &str) {
        self.n = self.n.max(entry.n);
        if entry.sender == viewer && entry.has(MessageFlag::Counted) {
            self.sent += 1;
        }
    }

    /// A message no longer counts: it was revoked.
    pub fn revoke(&mut self, entry: &MessageEntry, viewer: &str) {
        if entry.sender != viewer && entry.has(MessageFlag::Counted) && entry.seq > self.base_seq {
            self.revoked.insert(entry.seq);
        }
    }

    /// A message of another user that counted no longer does: the viewer deleted it for themselves.
    pub fn delete(&mut self, seq: u64) {
        if seq > self.base_seq {
            self.revoked.insert(seq);
        }
    }

    /// Nothing up to the position of the tally, which is `seq`, counts any more.
    pub fn clear(&mut self, seq: u64) {
        let base = Base { seq, n: self.n, sent: self.sent };
        self.rebase(&base);
    }

    /// Applies a read mark of any device of the viewer. A mark that is older than the current one changes nothing.
    pub fn read(&mut self, mark: &ReadMark) {
        self.read_seq = self.read_seq.max(mark.read_seq);
        if let Some(base) = &mark.base {
            self.rebase(base);
        }
    }

    /// Takes over the values of a head.
    pub fn set(&mut self, head: &ConversationHead) {
        self.n = head.n;
        self.sent = head.sent;
        self.read_seq = self.read_seq.max(head.read_seq);
        let base = head.base.unwrap_or_default();
        self.rebase(&base);
        self.add_revoked(head);
    }

    /// Takes over the base of a head that is older than the tally.
    pub fn set_base(&mut self, head: &ConversationHead) {
        self.read_seq = self.read_seq.max(head.read_seq);
        if let Some(base) = &head.base {
            self.rebase(base);
        }
        self.add_revoked(head);
    }

    fn rebase(&mut self, base: &Base) {
        if base.seq >= self.base_seq {
            self.base_seq = base.seq;
            self.base_n = base.n;
            self.base_sent = base.sent;
            self.revoked = self.revoked.split_off(&(base.seq + 1));
        }
    }

    /// Adds the revoked messages that a head names. What was revoked stays revoked, so an old head takes nothing away.
    fn add_revoked(&mut self, head: &ConversationHead) {
        let base_seq = self.base_seq;
        self.revoked.extend(head.revoked.iter().copied().filter(|seq| *seq > base_seq));
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

    #[test]
    fn a_revoked_message_is_deducted_once_until_it_is_read() {
        let mut tally = Tally { n: 9, ..Tally::default() };
        let message = |seq, sender, counted| entry(seq, seq, sender, counted);
        for _ in 0..2 {
            tally.revoke(&message(3, "bob", true), "ann");
            tally.revoke(&message(7, "bob", true), "ann");
        }
        tally.revoke(&message(5, "ann", true), "ann");
        tally.revoke(&message(6, "bob", false), "ann");
        assert_eq!(tally.unread(), 7);
        tally.read(&ReadMark { read_seq: 3, base: Some(Base { seq: 3, n: 3, sent: 0 }), conversation: None });
        assert_eq!(tally.unread(), 5, "9 less 3 that are read, less the revoked one after them");
        tally.revoke(&message(3, "bob", true), "ann");
        assert_eq!(tally.unread(), 5, "a message that is read was not counted");
        // A head that is older than the change does not name it, and takes nothing away.
        let head = ConversationHead { n: 9, base: Some(Base { seq: 3, n: 3, sent: 0 }), ..ConversationHead::default() };
        tally.set(&head);
        assert_eq!(tally.unread(), 5);
        tally.set(&ConversationHead { revoked: vec![2, 7, 8], ..head });
        assert_eq!(tally.unread(), 4);
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
