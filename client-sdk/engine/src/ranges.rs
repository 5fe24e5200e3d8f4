//! Sets of positions. A position says up to where a device knows a log; ranges say which entries it holds.

/// Closed intervals of positions, ascending, disjoint and never adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `lo..=hi` and returns the interval that contains it now. An empty interval adds nothing.
    pub fn insert(&mut self, lo: u64, hi: u64) -> Option<(u64, u64)> {
        if lo > hi {
            return None;
        }
        // Adjacent intervals merge as well: 1..=2 and 3..=4 become one.
        let first = self.0.partition_point(|range| range.1.saturating_add(1) < lo);
        let last = self.0.partition_point(|range| range.0 <= hi.saturating_add(1));
        let mut merged = (lo, hi);
        if let Some(range) = self.0.get(first).filter(|_| first < last) {
            merged.0 = lo.min(range.0);
        }
        if let Some(range) = self.0.get(last.wrapping_sub(1)).filter(|_| first < last) {
            merged.1 = hi.max(range.1);
        }
        self.0.splice(first..last, [merged]);
        Some(merged)
    }

    /// Returns the interval that contains `position`.
    fn around(&self, position: u64) -> Option<(u64, u64)> {
        let index = self.0.partition_point(|range| range.1 < position);
        self.0.get(index).copied().filter(|range| range.0 <= position)
    }

    /// Returns whether `position` is in the set.
    pub fn contains(&self, position: u64) -> bool {
        self.around(position).is_some()
    }

    /// Returns whether the set has no position.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over the intervals, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Removes all positions.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(intervals: I) -> Self {
        let mut ranges = Self::default();
        for (lo, hi) in intervals {
            ranges.insert(lo, hi);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn adjacent_intervals_merge() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.insert(5, 6), Some((5, 6)));
        assert_eq!(ranges.insert(1, 2), Some((1, 2)));
        assert_eq!(ranges.insert(3, 4), Some((1, 6)));
        assert_eq!(ranges.insert(9, 8), None);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 6)]);
        assert_eq!(ranges.around(6), Some((1, 6)));
        assert_eq!(ranges.around(7), None);
    }

    proptest! {
        #[test]
        fn ranges_are_a_set_of_positions(inserts in prop::collection::vec((0_u64..60, 0_u64..12), 0..40)) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();
            for (lo, length) in inserts {
                let hi = lo + length;
                let merged = ranges.insert(lo, hi).unwrap();
                prop_assert!(merged.0 <= lo && merged.1 >= hi);
                set.extend(lo..=hi);
                prop_assert_eq!(ranges.around(lo), Some(merged));
            }
            for position in 0..80 {
                prop_assert_eq!(ranges.contains(position), set.contains(&position));
            }
            let list: Vec<_> = ranges.iter().collect();
            for pair in list.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0, "{:?} is not canonical", list);
            }
        }

        #[test]
        fn the_order_of_inserts_does_not_matter(mut inserts in prop::collection::vec((0_u64..60, 0_u64..12), 0..20)) {
            let one: Ranges = inserts.iter().map(|(lo, length)| (*lo, lo + length)).collect();
            inserts.reverse();
            let other: Ranges = inserts.iter().map(|(lo, length)| (*lo, lo + length)).collect();
            prop_assert_eq!(one, other);
        }
    }
}
