//! The rules of the three logs, without a store: what a member may see, and what the member has not read. History,
//! pulls, pushes and search share them, and the model checker runs them a million times.

/// A stay in a conversation: the positions `from..=to`, or `from..` while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The first position of the stay.
    pub from: i64,
    /// The last position, once the stay is over. A member's own removal is the last entry that the member sees.
    pub to: Option<i64>,
}

impl Stay {
    /// Whether the stay includes a position.
    pub fn has(&self, position: i64) -> bool {
        position >= self.from && self.to.is_none_or(|to| position <= to)
    }
}

/// The range of a conversation's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Positions up to this one are no longer kept.
    pub floor: i64,
    /// The last position that was assigned.
    pub head: i64,
    /// The last position that counts, once the conversation is dismissed.
    pub end: Option<i64>,
}

impl Extent {
    /// The last position that any member may know of.
    pub fn last(&self) -> i64 {
        self.end.map_or(self.head, |end| end.min(self.head))
    }
}

/// The last position that a member may know of: the member's `end_seq` or `end_rev`.
pub fn end_of_stay(stay: Stay, extent: Extent) -> i64 {
    stay.to.map_or_else(|| extent.last(), |to| to.min(extent.last()))
}

/// The positions that a member may see, as `(after, through)` pairs, ascending and disjoint: those of the member's
/// stays, above what the member cleared and above the floor. Every other position is blank: it passes without content.
pub fn visible(stays: &[Stay], extent: Extent, cleared: i64) -> Vec<(i64, i64)> {
    let below = cleared.max(extent.floor);
    let mut windows: Vec<(i64, i64)> = stays
        .iter()
        .map(|stay| ((stay.from - 1).max(below), end_of_stay(*stay, extent)))
        .filter(|(after, through)| through > after)
        .collect();
    windows.sort_unstable();
    let mut merged: Vec<(i64, i64)> = Vec::with_capacity(windows.len());
    for (after, through) in windows {
        match merged.last_mut() {
            Some(last) if after <= last.1 => last.1 = last.1.max(through),
            _ => merged.push((after, through)),
        }
    }
    merged
}

/// Whether a position lies in one of the `(after, through)` pairs of [`visible`].
pub fn is_visible(windows: &[(i64, i64)], position: i64) -> bool {
    windows.iter().any(|(after, through)| position > *after && position <= *through)
}

/// The bit of a conversation's `blocks` that says that `account` has blocked `other`.
pub fn blocks_bit(account: i64, other: i64) -> i64 {
    if account < other { 1 } else { 2 }
}

/// Whether `peer` has blocked `sender`.
pub fn is_refused(blocks: i64, sender: i64, peer: i64) -> bool {
    blocks & blocks_bit(peer, sender) != 0
}

/// Where counting a member's unread messages begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The position.
    pub seq: i64,
    /// The conversation's count at this position.
    pub n: i64,
    /// The counted messages that the member had sent up to this position.
    pub sent: i64,
}

/// A member's unread messages: the counted messages after the base, without the member's own and without those that
/// were revoked or deleted. Computed from positions, never incremented, so that it cannot drift.
pub fn unread(n: i64, base: Base, sent: i64, deducted: i64) -> i64 {
    (n - base.n - (sent - base.sent) - deducted).max(0)
}

/// How far a read mark moves: never back, and never past `requested` or what the member may see. A `requested` of 0
/// stands for the last message.
pub fn read_through(read: i64, requested: i64, end: i64) -> Option<i64> {
    let through = if requested <= 0 { end } else { requested.min(end) };
    (through > read).then_some(through)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Extent = Extent { floor: 0, head: 10, end: None };

    #[test]
    fn a_member_sees_only_their_stays() {
        let stays = [Stay { from: 2, to: Some(4) }, Stay { from: 7, to: None }];
        assert_eq!(visible(&stays, OPEN, 0), [(1, 4), (6, 10)]);
        assert_eq!(visible(&stays, OPEN, 3), [(3, 4), (6, 10)]);
        assert_eq!(visible(&stays, Extent { floor: 8, ..OPEN }, 0), [(8, 10)]);
        assert_eq!(visible(&stays, Extent { end: Some(7), ..OPEN }, 0), [(1, 4), (6, 7)]);
        assert_eq!(visible(&[], OPEN, 0), []);
        assert_eq!(visible(&stays, OPEN, 10), []);
    }

    #[test]
    fn a_block_is_one_way() {
        for (one, two) in [(3, 7), (7, 3)] {
            let blocks = blocks_bit(one, two);
            assert!(is_refused(blocks, two, one));
            assert!(!is_refused(blocks, one, two));
            let both = blocks | blocks_bit(two, one);
            assert!(is_refused(both, two, one) && is_refused(both, one, two));
        }
        assert!(!is_refused(0, 3, 7) && !is_refused(0, 7, 3));
    }

    #[test]
    fn adjacent_stays_are_merged() {
        let stays = [Stay { from: 5, to: None }, Stay { from: 1, to: Some(4) }];
        assert_eq!(visible(&stays, OPEN, 0), [(0, 10)]);
    }

    #[test]
    fn unread_counts_what_others_sent_since_the_base() {
        let base = Base { seq: 4, n: 4, sent: 1 };
        assert_eq!(unread(9, base, 3, 0), 3);
        assert_eq!(unread(9, base, 3, 2), 1);
        assert_eq!(unread(4, base, 1, 0), 0);
    }

    #[test]
    fn a_read_mark_moves_forward_and_not_past_the_request_or_the_end() {
        assert_eq!(read_through(3, 5, 10), Some(5));
        assert_eq!(read_through(3, 50, 10), Some(10));
        assert_eq!(read_through(3, 0, 10), Some(10));
        assert_eq!(read_through(5, 5, 10), None);
        assert_eq!(read_through(5, 2, 10), None);
    }
}
