//! The difference of two lists.

use std::collections::HashMap;
use std::hash::Hash;

use zim_protocol::{Conversation, GroupMemberInfo, Message};

/// One change of a list. The changes that arrive together are applied in their order: each index refers to the list after
/// the changes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diff<T> {
    /// A new item stands at `index`; the items from there on move by one.
    Insert {
        /// The place of the item.
        index: usize,
        /// The new item.
        item: T,
    },
    /// The item at `index` changed.
    Update {
        /// The place of the item.
        index: usize,
        /// The item as it is now.
        item: T,
    },
    /// The item at `index` is gone; the items behind it move up. An item that moves is removed and inserted.
    Remove {
        /// The place of the item.
        index: usize,
    },
    /// All items are replaced: nothing of what was shown remains.
    Reset {
        /// The items as they are now.
        items: Vec<T>,
    },
}

impl<T> Diff<T> {
    /// Applies the change to a list that has had all changes before it. A place that the list does not have is ignored.
    ///
    /// ```
    /// use zim_client_sdk::Diff;
    ///
    /// let mut list = vec!["a", "b"];
    /// Diff::Remove { index: 0 }.apply(&mut list);
    /// Diff::Insert { index: 1, item: "c" }.apply(&mut list);
    /// assert_eq!(list, ["b", "c"]);
    /// ```
    pub fn apply(self, list: &mut Vec<T>) {
        match self {
            Self::Insert { index, item } if index <= list.len() => list.insert(index, item),
            Self::Update { index, item } => {
                if let Some(place) = list.get_mut(index) {
                    *place = item;
                }
            }
            Self::Remove { index } if index < list.len() => drop(list.remove(index)),
            Self::Insert { .. } | Self::Remove { .. } => {}
            Self::Reset { items } => *list = items,
        }
    }
}

/// What can be observed. An item stays the same item, changed or not, while its key does.
pub(super) trait Item: Clone + PartialEq {
    type Key<'a>: Eq + Hash
    where
        Self: 'a;

    fn key(&self) -> Self::Key<'_>;
}

impl Item for Conversation {
    type Key<'a> = (i32, &'a str);

    fn key(&self) -> Self::Key<'_> {
        (self.r#type, &self.conversation_id)
    }
}

impl Item for Message {
    type Key<'a> = (&'a str, &'a str);

    /// The sender's key stays when the server stores the message, and beyond a new epoch.
    fn key(&self) -> Self::Key<'_> {
        let id = if self.local_message_id.is_empty() { &self.message_id } else { &self.local_message_id };
        (&self.sender_user_id, id)
    }
}

impl Item for GroupMemberInfo {
    type Key<'a> = &'a str;

    fn key(&self) -> Self::Key<'_> {
        &self.user_id
    }
}

/// Returns the changes that make `new` of `old`. Only items that moved in relation to most others are moved.
pub(super) fn diff<T: Item>(old: &[T], new: &[T]) -> Vec<Diff<T>> {
    let stays = stays(old, new);
    if stays.is_empty() {
        let is_empty = old.is_empty() && new.is_empty();
        return if is_empty { Vec::new() } else { vec![Diff::Reset { items: new.to_vec() }] };
    }
    let mut diffs = Vec::new();
    // From the end, so that each index is right at its turn.
    let mut kept = stays.iter().rev().peekable();
    for index in (0..old.len()).rev() {
        if kept.next_if(|(before, _)| *before == index).is_none() {
            diffs.push(Diff::Remove { index });
        }
    }
    let mut kept = stays.iter().peekable();
    for (index, item) in new.iter().enumerate() {
        match kept.next_if(|(_, now)| *now == index) {
            Some((before, _)) if old.get(*before) == Some(item) => {}
            Some(_) => diffs.push(Diff::Update { index, item: item.clone() }),
            None => diffs.push(Diff::Insert { index, item: item.clone() }),
        }
    }
    diffs
}

/// Returns the items that keep their order: their places in `old` and in `new`, both ascending.
fn stays<T: Item>(old: &[T], new: &[T]) -> Vec<(usize, usize)> {
    let is_same = |(a, b): &(&T, &T)| a.key() == b.key();
    let before = old.iter().zip(new).take_while(is_same).count();
    let (old_rest, new_rest) = (old.get(before..).unwrap_or_default(), new.get(before..).unwrap_or_default());
    let after = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(is_same).count();
    let (old_end, new_end) = (old.len() - after, new.len() - after);

    let middle = old.iter().enumerate().take(old_end).skip(before);
    let mut places: HashMap<T::Key<'_>, usize> = middle.map(|(place, item)| (item.key(), place)).collect();
    let middle = new.iter().enumerate().take(new_end).skip(before);
    // An item is taken once, in case two have the same key.
    let common = middle.filter_map(|(now, item)| places.remove(&item.key()).map(|before| (before, now)));

    let mut stays: Vec<(usize, usize)> = (0..before).map(|place| (place, place)).collect();
    stays.extend(longest_ascending(&common.collect::<Vec<_>>()));
    stays.extend((0..after).map(|place| (old_end + place, new_end + place)));
    stays
}

/// Returns the longest part of `pairs` whose first numbers ascend; the second ones do already.
fn longest_ascending(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // For each length, the pair at which a part of this length ends that has the least first number.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    let first = |place: &usize| pairs.get(*place).map(|pair| pair.0);
    for (place, pair) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| first(end) < Some(pair.0));
        previous.push(length.checked_sub(1).and_then(|shorter| ends.get(shorter).copied()));
        match ends.get_mut(length) {
            Some(end) => *end = place,
            None => ends.push(place),
        }
    }
    let mut longest = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(place) = next {
        longest.extend(pairs.get(place));
        next = previous.get(place).copied().flatten();
    }
    longest.reverse();
    longest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key, and what changes.
    type Pair = (u8, u8);

    impl Item for Pair {
        type Key<'a> = u8;

        fn key(&self) -> u8 {
            self.0
        }
    }

    fn applied(old: &[Pair], diffs: Vec<Diff<Pair>>) -> Vec<Pair> {
        let mut list = old.to_vec();
        for diff in diffs {
            let len = list.len();
            let is_possible = match &diff {
                Diff::Insert { index, .. } => *index <= len,
                Diff::Update { index, .. } | Diff::Remove { index } => *index < len,
                Diff::Reset { .. } => true,
            };
            assert!(is_possible, "{diff:?} of {len}");
            diff.apply(&mut list);
        }
        list
    }

    #[test]
    fn only_what_changed_is_told() {
        let (insert, update, remove) = (
            |index, item| Diff::Insert { index, item },
            |index, item| Diff::Update { index, item },
            |index| Diff::Remove { index },
        );
        let list = [(1, 0), (2, 0), (3, 0)];
        for (new, expected) in [
            (vec![(1, 0), (2, 0), (3, 0)], vec![]),
            (vec![(1, 0), (2, 0), (3, 0), (4, 0)], vec![insert(3, (4, 0))]),
            (vec![(0, 0), (1, 0), (2, 0), (3, 0)], vec![insert(0, (0, 0))]),
            (vec![(1, 0), (2, 9), (3, 0)], vec![update(1, (2, 9))]),
            (vec![(1, 0), (3, 0)], vec![remove(1)]),
            (vec![(3, 1), (1, 0), (2, 0)], vec![remove(2), insert(0, (3, 1))]),
            (vec![(2, 0), (3, 0), (1, 0)], vec![remove(0), insert(2, (1, 0))]),
            (vec![(7, 0)], vec![Diff::Reset { items: vec![(7, 0)] }]),
            (vec![], vec![Diff::Reset { items: vec![] }]),
        ] {
            assert_eq!(diff(&list, &new), expected);
        }
        assert_eq!(diff::<Pair>(&[], &[]), []);
    }

    #[test]
    fn a_change_that_does_not_fit_is_ignored() {
        let mut list = vec![1];
        Diff::Insert { index: 2, item: 3 }.apply(&mut list);
        Diff::Update { index: 1, item: 3 }.apply(&mut list);
        Diff::Remove { index: 1 }.apply(&mut list);
        assert_eq!(list, [1]);
    }

    proptest! {
        #[test]
        fn changes_lead_from_one_list_to_the_other(
            old in prop::collection::vec((0_u8..12, 0_u8..2), 0..14),
            new in prop::collection::vec((0_u8..12, 0_u8..2), 0..14),
        ) {
            // With equal keys, too: they do not occur, but must not do harm.
            let diffs = diff(&old, &new);
            prop_assert_eq!(applied(&old, diffs), new);
        }

        #[test]
        fn an_item_that_moves_is_the_only_one_that_is_moved(from in 0_usize..20, to in 0_usize..20) {
            let old: Vec<Pair> = (0..20).map(|key| (key, 0)).collect();
            let mut new = old.clone();
            let moved = new.remove(from);
            new.insert(to, moved);
            let diffs = diff(&old, &new);
            prop_assert_eq!(diffs.len(), if from == to { 0 } else { 2 });
            prop_assert_eq!(applied(&old, diffs), new);
        }
    }
}
