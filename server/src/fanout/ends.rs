//! Which ends of stays in a group the sessions of a lane know. Nodes tell each other what they commit, in an order of their own: a message
//! may come before the end of a stay that was committed before it, or the end not at all. Pushed at once, the message would reach somebody
//! who has left.
//!
//! So what is pushed to a group says which change was the last that ended a stay before it, and each end says which one came before it.
//! What an end precedes that is not known here is not pushed: the clients pull, and the pull reads who may see it. If the end does not
//! come, the stays are read again.
//!
//! For each session in the index this holds: its stay takes account of all ends up to `known`. Whoever enters with less is not let in
//! before their stay is read again. So what was handed to a lane may be pushed to all whom it meets there later.

use crate::effect::{GroupStay, StayEnd};

/// Ends that wait for those before them. Beyond that the first to come is forgotten, and the stays are read again.
const MAX_EARLY: usize = 64;

/// Up to which change a stay takes account of the ends of stays in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knows {
    /// It was read after its session was registered, together with this last end.
    Read(i64),
    /// It was told: it is the state after this change.
    Told(i64),
}

impl Knows {
    /// What a stay knows that is told.
    pub(super) fn told(stay: &GroupStay) -> Self {
        Self::Told(stay.to.map_or(stay.from_rev, |(_, rev)| rev))
    }
}

/// An end that came before another one.
#[derive(Debug)]
struct Early {
    rev: i64,
    before: i64,
    /// How many stays it ends that were not told yet.
    missing: u32,
}

/// The ends of stays that the sessions of a lane in one group know.
#[derive(Debug)]
pub(super) struct Ends {
    /// All ends up to this change are known.
    known: i64,
    /// Of these, all after this change were told here, so that every session that was registered then knows them.
    told_after: i64,
    early: Vec<Early>,
    /// The least that those know who have entered since the stays are being read.
    entered: Option<i64>,
}

impl Ends {
    /// Creates those of a group that its first session enters.
    pub(super) fn new(knows: Knows) -> Self {
        let (Knows::Read(known) | Knows::Told(known)) = knows;
        Self { known, told_after: known, early: Vec::new(), entered: None }
    }

    /// Whether all ends up to a change are known.
    pub(super) fn has(&self, rev: i64) -> bool {
        rev <= self.known
    }

    /// Whether a session may enter with a stay. A stay that was read has every end that was told before: its session was registered
    /// meanwhile. Of a stay that is told, a later end may have been told to nobody.
    pub(super) fn admits(&mut self, knows: Knows) -> bool {
        let (knows, least) = match knows {
            Knows::Read(rev) => (rev, self.told_after),
            Knows::Told(rev) => (rev, self.known),
        };
        if knows < least {
            return false;
        }
        self.entered = self.entered.map(|entered| entered.min(knows));
        true
    }

    /// Notes that one of the stays that a change ends was told, and set for the sessions of its user.
    pub(super) fn tell(&mut self, rev: i64, end: StayEnd) {
        if self.has(rev) {
            return;
        }
        let is_next = end.of <= 1 && self.has(end.before);
        match self.early.iter_mut().find(|early| early.rev == rev) {
            Some(early) => early.missing = early.missing.saturating_sub(1),
            None if is_next => self.known = rev,
            None => {
                if self.early.len() >= MAX_EARLY {
                    self.early.remove(0);
                }
                self.early.push(Early { rev, before: end.before, missing: end.of.saturating_sub(1) });
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        let next = |early: &&Early, known| early.missing == 0 && early.before <= known && early.rev > known;
        while let Some(early) = self.early.iter().find(|early| next(early, self.known)) {
            self.known = early.rev;
        }
        self.early.retain(|early| early.rev > self.known);
    }

    /// Notes that the stays of all sessions are being read.
    pub(super) fn begin_reading(&mut self) {
        self.entered = Some(i64::MAX);
    }

    /// Notes the least that any of them knows which were read. They are set.
    pub(super) fn end_reading(&mut self, read: i64) {
        // Otherwise the sessions that were read are gone, and others have come.
        let Some(entered) = self.entered.take() else { return };
        let known = read.min(entered);
        if known > self.known {
            (self.known, self.told_after) = (known, known);
            self.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(ends: &mut Ends, before: i64, rev: i64) {
        ends.tell(rev, StayEnd { before, of: 1 });
    }

    #[test]
    fn an_end_counts_once_all_before_it_are_told() {
        let mut ends = Ends::new(Knows::Read(5));
        assert!(ends.has(0) && ends.has(5) && !ends.has(6));
        tell(&mut ends, 12, 20);
        tell(&mut ends, 8, 12);
        assert!(!ends.has(6), "the end between 5 and 8 is missing");
        tell(&mut ends, 5, 8);
        assert!(ends.has(20) && !ends.has(21));
        // Those that are known change nothing.
        tell(&mut ends, 5, 8);
        assert!(ends.has(20) && ends.early.is_empty());
    }

    #[test]
    fn a_change_that_ends_several_stays_counts_once_all_of_them_are_told() {
        let mut ends = Ends::new(Knows::Read(0));
        let three = StayEnd { before: 0, of: 3 };
        ends.tell(4, three);
        tell(&mut ends, 4, 6);
        ends.tell(4, three);
        assert!(!ends.has(4));
        ends.tell(4, three);
        assert!(ends.has(6));
    }

    #[test]
    fn only_so_many_ends_wait_for_one_that_is_missing() {
        let mut ends = Ends::new(Knows::Read(1));
        let most = i64::try_from(MAX_EARLY).unwrap();
        (3..most + 4).for_each(|rev| tell(&mut ends, rev - 1, rev));
        assert_eq!(ends.early.len(), MAX_EARLY);
        tell(&mut ends, 1, 2);
        assert!(ends.has(2) && !ends.has(3), "the first that waited is forgotten");
        ends.begin_reading();
        ends.end_reading(3);
        assert!(ends.has(most + 3), "those that wait still count");
    }

    #[test]
    fn who_comes_later_and_knows_more_teaches_the_others_nothing() {
        let mut ends = Ends::new(Knows::Read(5));
        assert!(ends.admits(Knows::Read(8)) && ends.admits(Knows::Told(9)));
        assert!(!ends.has(6));
    }

    #[test]
    fn who_knows_less_is_not_let_in() {
        let mut ends = Ends::new(Knows::Read(5));
        assert!(!ends.admits(Knows::Read(4)), "an end that only the others have read");
        tell(&mut ends, 5, 8);
        assert!(ends.admits(Knows::Read(5)), "the end was told to its session, or before it has read");
        assert!(!ends.admits(Knows::Told(5)), "the end may have been told before its session was registered");
        assert!(ends.admits(Knows::Told(8)));
        ends.begin_reading();
        ends.end_reading(12);
        assert!(!ends.admits(Knows::Read(8)));
        assert!(ends.admits(Knows::Read(12)));
    }

    #[test]
    fn a_reading_counts_as_far_as_all_of_them_know_it() {
        let mut ends = Ends::new(Knows::Read(5));
        ends.begin_reading();
        assert!(ends.admits(Knows::Read(7)));
        ends.end_reading(9);
        assert!(ends.has(7) && !ends.has(8), "somebody has entered meanwhile");
        ends.begin_reading();
        tell(&mut ends, 7, 10);
        ends.end_reading(9);
        assert!(ends.has(10), "an end that was told meanwhile is still known");
        ends.begin_reading();
        ends.end_reading(9);
        assert!(ends.has(10));
        // The group was left by all and entered again since the reading began.
        let mut another = Ends::new(Knows::Read(2));
        another.end_reading(9);
        assert!(!another.has(3));
    }

    #[test]
    fn a_stay_that_is_told_is_the_state_after_its_last_change() {
        let stay = |to| GroupStay { from_seq: 3, entered_seq: 3, from_rev: 7, to, is_return: false };
        assert_eq!([stay(None), stay(Some((5, 9)))].map(|stay| Knows::told(&stay)), [Knows::Told(7), Knows::Told(9)]);
    }
}
