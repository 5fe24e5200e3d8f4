//! Pushes to groups, a page of sessions at a time. Each session that is woken takes its turn, so a push to thousands of them at
//! once would delay every answer and every other push. What arrives for a group during a walk is pushed by the next one, all
//! of it together: a group that is behind wakes each session once for many messages.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::group::GroupPush;
use super::group_index::{GroupIndex, Place};
use super::lane::TransientPush;
use crate::connection::{ConnectionState, PushTarget};
use crate::effect::GroupStay;
use crate::key::ConversationKey;

/// Sessions of a group that are woken before another group has its turn.
const PAGE: usize = 64;
/// Sessions that are woken before the lane gives others their turn.
const TURN: usize = 128;
/// The bytes that the walks of a lane hold. Beyond that the lane keeps what is handed over.
const MAX_BYTES: usize = 4 << 20;

/// What the sessions of a group get.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Push(Arc<GroupPush>),
    Transient(Arc<TransientPush>),
}

impl Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Push(push) => push.bytes(),
            Self::Transient(push) => push.message.content.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Walk {
    /// What this walk pushes.
    items: Vec<Item>,
    /// The last session that has it.
    after: Option<Place>,
    /// What the next walk pushes.
    next: Vec<Item>,
}

/// The walks of a lane. The groups take turns.
#[derive(Debug, Default)]
pub(super) struct Walks {
    walks: HashMap<ConversationKey, Walk>,
    turns: VecDeque<ConversationKey>,
    bytes: usize,
}

impl Walks {
    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// Adds what the sessions of a group get, behind what they get already.
    pub(super) fn add(&mut self, group: ConversationKey, item: Item) {
        self.bytes += item.bytes();
        let walk = self.walks.entry(group).or_insert_with(|| {
            self.turns.push_back(group);
            Walk::default()
        });
        // Until its first session is reached, a walk takes what arrives.
        let list = if walk.after.is_none() { &mut walk.items } else { &mut walk.next };
        list.push(item);
    }

    /// Pushes to the sessions whose turn it is.
    pub(super) fn advance(&mut self, index: &GroupIndex) {
        let mut woken = 0;
        while woken < TURN {
            let Some(group) = self.turns.pop_front() else { return };
            let Some(walk) = self.walks.get_mut(&group) else { continue };
            let (page, next) = index.page(group, walk.after, PAGE);
            for (session, stay) in &page {
                push(session, stay, &walk.items);
            }
            woken += page.len().max(1);
            walk.after = next;
            if next.is_none() {
                self.bytes -= walk.items.iter().map(Item::bytes).sum::<usize>();
                walk.items = std::mem::take(&mut walk.next);
            }
            if walk.items.is_empty() {
                self.walks.remove(&group);
            } else {
                self.turns.push_back(group);
            }
        }
    }
}

/// Pushes to one session, in order.
fn push(session: &ConnectionState, stay: &GroupStay, items: &[Item]) {
    let Some(login) = session.identity().map(|identity| identity.login) else { return };
    let is_push = |item: &Item| matches!(item, Item::Push(_));
    for run in items.chunk_by(|one, two| is_push(one) && is_push(two)) {
        if let [Item::Transient(transient)] = run {
            if stay.is_member_after(transient.after_rev) {
                transient.push(session);
            }
            continue;
        }
        let pushes = || run.iter().filter_map(|item| if let Item::Push(push) = item { Some(push) } else { None });
        let Some(first) = pushes().next() else { continue };
        let target = PushTarget::Conversation(first.group.conversation());
        if pushes().any(|push| push.may_be_of_earlier_stay(stay, login)) {
            // A pull tells what the user may see of it.
            session.queue.mark_dirty(&target);
        } else {
            session.queue.push_all(pushes().filter_map(|push| push.frame(stay, login)), &target);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::group::Group;
    use super::super::pushes::message_to;
    use super::super::tests::connection_of;
    use super::*;
    use crate::effect::{Audience, MessageEffect};
    use crate::key::UserKey;

    const STAY: GroupStay = GroupStay { from_seq: 1, from_rev: 1, to: None, is_return: false };

    fn group(key: i64, index: &GroupIndex, count: i64) -> Vec<Arc<ConnectionState>> {
        (1..=count)
            .map(|user| {
                // None of them sent the messages.
                let session = connection_of(UserKey(user), 1_000 + user);
                index.enter(ConversationKey(key), UserKey(user), &session, STAY);
                session
            })
            .collect()
    }

    fn message(key: i64, seq: i64) -> Item {
        let (conversation, name): (_, Arc<str>) = (ConversationKey(key), "group".into());
        let audience = Audience::Group { conversation, name: Arc::clone(&name) };
        let message = MessageEffect { conversation, ..message_to(audience, seq, 10) };
        Item::Push(Arc::new(GroupPush::message(Group { key: conversation, name }, Arc::new(message))))
    }

    /// How many sessions have each number of frames.
    fn counts(sessions: &[Arc<ConnectionState>]) -> Vec<(u64, usize)> {
        let mut counts = std::collections::BTreeMap::new();
        for session in sessions {
            *counts.entry(session.queue.len()).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    #[test]
    fn a_large_group_takes_turns_with_others_and_everybody_gets_everything_in_order() {
        let (index, mut walks) = (GroupIndex::default(), Walks::default());
        let (large, small) = (group(1, &index, 300), group(2, &index, 3));
        walks.add(ConversationKey(1), message(1, 1));
        walks.add(ConversationKey(1), message(1, 2));
        walks.advance(&index);
        assert_eq!(counts(&large), [(0, 300 - TURN), (2, TURN)], "both messages together");
        // A small group does not wait until the large one is through.
        walks.add(ConversationKey(2), message(2, 1));
        walks.add(ConversationKey(1), message(1, 3));
        walks.advance(&index);
        assert_eq!(counts(&small), [(1, 3)]);
        assert!(counts(&large)[0].0 == 0, "{:?}", counts(&large));
        let mut turns = 0;
        while !walks.is_empty() {
            walks.advance(&index);
            turns += 1;
        }
        assert!(turns <= 5, "{turns}");
        assert_eq!((counts(&large), walks.bytes), (vec![(3, 300)], 0));
        let frames: Vec<Vec<Bytes>> = large.iter().map(|session| session.queue.waiting()).collect();
        assert!(frames.iter().all(|all| all == &frames[0]), "the same frames in the same order");
    }

    #[test]
    fn walks_that_hold_much_take_no_more() {
        let (index, mut walks) = (GroupIndex::default(), Walks::default());
        group(1, &index, 1_000);
        let item = message(1, 1);
        let most = MAX_BYTES.div_ceil(item.bytes());
        (1..most).for_each(|_| walks.add(ConversationKey(1), item.clone()));
        assert!(!walks.is_full());
        walks.add(ConversationKey(1), item);
        assert!(walks.is_full());
        while !walks.is_empty() {
            walks.advance(&index);
        }
        assert!(!walks.is_full());
    }

    #[test]
    fn a_group_without_sessions_ends_its_walk() {
        let (index, mut walks) = (GroupIndex::default(), Walks::default());
        walks.add(ConversationKey(1), message(1, 1));
        walks.advance(&index);
        assert!(walks.is_empty() && walks.bytes == 0);
    }
}
