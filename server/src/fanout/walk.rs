//! Pushes to groups, a page of sessions at a time. Each session that is woken takes its turn, so a push to thousands of them at once
//! would delay every answer and every other push. What arrives for a group during a walk is pushed together by the next one. A walk
//! to many sessions begins a moment late, so that the answer to the sender leaves before the pushes take the processors.
//!
//! Most of what a push costs is to wake the session, so a group with many sessions wakes them at a pace, and others wait for a few
//! wakes at most. A message to a group that was quiet is with all sooner; in the long run the pace is the same. Members who enter and
//! leave a room with many sessions wait until something else is pushed to it, or for a while.
//!
//! What a session gets of a room has this order:
//! - Its entrance comes first. Nothing that waits when a stay begins is told to who enters, so the entrance waits for nothing: it is pushed
//!   at once, to this device alone. A device that returns has a stay in which something may wait for it. Its entrance keeps its place in
//!   the walk, and what comes later does not pass it.
//! - All that happens in the stay comes next, in the order in which it was handed over. Changes of members are one push if nothing is
//!   between them, so a later one joins an earlier one.
//! - Its exit comes last, after the walk with all that was told to the room before. What is told later may join this walk, but it is
//!   outside of the stay, so the device does not get it.
//!
//! So an entrance and an exit are no part of what the sessions get, other than their own one: they cost nothing for each session of the
//! room, they do not hasten the walk, and changes of members before and after them are one push.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::group::{GroupPush, Passage};
use super::group_index::{GroupIndex, Place};
use super::lane::{TransientPush, View};
use crate::connection::{ConnectionState, PushTarget};
use crate::effect::GroupStay;
use crate::key::{ConversationKey, UserKey};

/// Sessions of a group that are woken before another group has its turn.
const PAGE: usize = 64;
/// Sessions that are woken before the lane gives others their turn.
const TURN: usize = 128;
/// How long a walk waits that has more than one turn. Answers take less, and a person does not notice it.
const DELAY: Duration = Duration::from_millis(2);
/// The same if it only tells of members who entered and left a room.
const MEMBERS_DELAY: Duration = Duration::from_millis(200);
/// The pace of a group with more sessions than one turn has: the time for each session of the lane that it wakes. At 6,250 sessions
/// a second this takes some 40 % of a processor.
const PACE: Duration = Duration::from_micros(160);
/// The longest time that the pace makes of a walk.
const MAX_WALK: Duration = Duration::from_millis(500);
/// The same for a walk of a group that was quiet, and how far such walks may take it ahead of its pace.
const QUICK_WALK: Duration = Duration::from_millis(150);
/// How far a group may be ahead of its pace: the first 100 sessions of a lane do not wait for it.
const AHEAD: Duration = Duration::from_millis(16);
/// Sessions of such a group that are woken together. Then the lane gives others their turn, also if more may be woken.
const PACED_PAGE: usize = 8;
/// The bytes that the walks of a lane hold. Beyond that the lane keeps what is handed over.
const MAX_BYTES: usize = 4 << 20;

/// What an item takes besides its content.
const ITEM_BYTES: usize = 256;

/// What the sessions of a group get.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Push(Arc<GroupPush>),
    Transient(Arc<TransientPush>),
    /// The sessions of this user have to ask what the room is now.
    Look(View),
}

impl Item {
    fn bytes(&self) -> usize {
        let content = match self {
            Self::Push(push) => push.bytes(),
            Self::Transient(push) => push.message.content.len(),
            Self::Look(_) => 0,
        };
        content + ITEM_BYTES
    }

    /// Whether it can wait for what follows.
    fn can_wait(&self) -> bool {
        match self {
            Self::Push(push) => push.is_of_members(),
            Self::Transient(_) | Self::Look(_) => false,
        }
    }
}

/// What concerns the sessions of one user alone, once all sessions have what was told before.
#[derive(Debug)]
enum Last {
    /// They are told that they have left the room.
    Exit(UserKey, Arc<GroupPush>),
    /// Those whose stay is over by this change are in the room no more.
    Forget(UserKey, i64),
}

impl Last {
    fn bytes(&self) -> usize {
        let content = if let Self::Exit(_, push) = self { push.bytes() } else { 0 };
        content + ITEM_BYTES
    }

    fn finish(self, index: &GroupIndex, group: ConversationKey) {
        match self {
            Self::Exit(user, push) => push_to(&index.of_user(group, user), &push),
            Self::Forget(user, rev) => index.forget_ended(group, user, rev),
        }
    }
}

/// What one walk brings.
#[derive(Debug, Default)]
struct Load {
    /// What all sessions of the group are asked about.
    items: Vec<Item>,
    /// What follows. Without items there is nothing to wait for, so there is none.
    last: Vec<Last>,
}

impl Load {
    fn bytes(&self) -> usize {
        let items = self.items.iter().map(Item::bytes).sum::<usize>();
        items + self.last.iter().map(Last::bytes).sum::<usize>()
    }
}

#[derive(Debug, Default)]
struct Walk {
    /// When it begins or goes on; `None`: it takes the next turn.
    due: Option<Instant>,
    /// When the sessions that were woken would all have been woken at the pace of their walks.
    paced: Option<Instant>,
    /// When they would have been if no walk were quick.
    rested: Option<Instant>,
    /// The group was quiet before this walk.
    is_quick: bool,
    /// What this walk brings.
    load: Load,
    /// The last session that has it.
    after: Option<Place>,
    /// What the next walk brings.
    next: Load,
}

impl Walk {
    /// When more sessions may be woken.
    fn may_wake(&self) -> Option<Instant> {
        self.paced.and_then(|paced| paced.checked_sub(AHEAD))
    }

    /// Decides how fast a walk is that begins.
    fn begin(&mut self, now: Instant) {
        let is_quiet = self.rested.and_then(|rested| rested.checked_sub(QUICK_WALK)).is_none_or(|at| at <= now);
        self.is_quick = is_quiet && !self.load.items.iter().all(Item::can_wait);
    }

    /// Returns the load with what was told last, if the sessions do not have that yet.
    fn last_load(&mut self) -> Option<&mut Load> {
        [&mut self.next, &mut self.load].into_iter().find(|load| !load.items.is_empty())
    }

    /// Notes that this many of the sessions of a group were woken.
    fn woke(&mut self, woken: usize, sessions: usize, now: Instant) {
        let (woken, sessions) =
            (u32::try_from(woken).unwrap_or(u32::MAX), u32::try_from(sessions.max(1)).unwrap_or(u32::MAX));
        let after = |before: Option<Instant>, longest: Duration| {
            Some(before.map_or(now, |before| before.max(now)) + PACE.min(longest / sessions) * woken)
        };
        self.paced = after(self.paced, if self.is_quick { QUICK_WALK } else { MAX_WALK });
        self.rested = after(self.rested, MAX_WALK);
    }

    /// Begins or goes on at a time, instead of at another one.
    fn wait(&mut self, delayed: &mut BTreeSet<(Instant, ConversationKey)>, group: ConversationKey, at: Instant) {
        if let Some(before) = self.due.replace(at) {
            delayed.remove(&(before, group));
        }
        delayed.insert((at, group));
    }
}

/// The walks of a lane. The groups take turns.
#[derive(Debug, Default)]
pub(super) struct Walks {
    walks: HashMap<ConversationKey, Walk>,
    turns: VecDeque<ConversationKey>,
    /// The walks that have not begun, and when they do.
    delayed: BTreeSet<(Instant, ConversationKey)>,
    bytes: usize,
}

impl Walks {
    /// Whether no walk has begun. Some may be delayed.
    pub(super) fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// When the next delayed walk begins.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// Adds what the sessions of a group get, behind what they get already.
    pub(super) fn add(&mut self, index: &GroupIndex, group: ConversationKey, item: Item, now: Instant) {
        let item = match item {
            Item::Push(push) => match push.passage() {
                Some((user, Passage::Exit)) => return self.add_last(index, group, Last::Exit(user, push)),
                Some((user, Passage::Entrance(rev))) if has_entered(index, group, (user, rev), &push) => return,
                _ => Item::Push(push),
            },
            item => item,
        };
        let (walk, is_new) = match self.walks.entry(group) {
            Entry::Occupied(walk) => (walk.into_mut(), false),
            Entry::Vacant(place) => (place.insert(Walk::default()), true),
        };
        if is_new && index.len(group) <= TURN {
            self.turns.push_back(group);
        } else if walk.after.is_none() && (is_new || walk.due.is_some()) {
            let due = now + if item.can_wait() { MEMBERS_DELAY } else { DELAY };
            let due = walk.may_wake().map_or(due, |at| at.max(due));
            // Those who wait are not delayed by what comes.
            let due = walk.due.filter(|_| !walk.load.items.is_empty()).map_or(due, |before| before.min(due));
            walk.wait(&mut self.delayed, group, due);
        }
        // Until its first session is reached, a walk takes what arrives.
        let list = if walk.after.is_none() { &mut walk.load.items } else { &mut walk.next.items };
        // Many who enter and leave a room in a short time are one push.
        let last = list.last_mut();
        let merged = match (&last, &item) {
            (Some(Item::Push(last)), Item::Push(push)) => last.merged(push),
            _ => None,
        };
        match (merged, last) {
            (Some(merged), Some(last)) => {
                self.bytes += merged.bytes() + ITEM_BYTES - last.bytes();
                *last = Item::Push(Arc::new(merged));
            }
            _ => {
                self.bytes += item.bytes();
                list.push(item);
            }
        }
    }

    /// Lets a user's sessions whose stay in a room is over by a change be in it no more, behind what they get already.
    pub(super) fn forget(&mut self, index: &GroupIndex, room: ConversationKey, (user, rev): (UserKey, i64)) {
        self.add_last(index, room, Last::Forget(user, rev));
    }

    /// Adds what follows all that the sessions of a group get already: at once if they have it.
    fn add_last(&mut self, index: &GroupIndex, group: ConversationKey, last: Last) {
        match self.walks.get_mut(&group).and_then(Walk::last_load) {
            Some(load) => {
                self.bytes += last.bytes();
                load.last.push(last);
            }
            None => last.finish(index, group),
        }
    }

    /// Pushes everything at once.
    pub(super) fn finish(&mut self, index: &GroupIndex) {
        while let Some(now) = self.deadline().or_else(|| (!self.is_idle()).then(Instant::now)) {
            self.advance(index, now);
        }
    }

    /// Pushes to the sessions whose turn it is.
    pub(super) fn advance(&mut self, index: &GroupIndex, now: Instant) {
        // Those whose time has come; all at once if the walks hold too much.
        while let Some((at, group)) = self.delayed.first().copied()
            && (at <= now || self.is_full())
        {
            self.delayed.pop_first();
            match self.walks.get_mut(&group) {
                Some(walk) if !walk.load.items.is_empty() => {
                    walk.due = None;
                    self.turns.push_back(group);
                }
                // Its pace no longer counts.
                _ => drop(self.walks.remove(&group)),
            }
        }
        let (mut woken, is_full) = (0, self.is_full());
        while woken < TURN {
            let Some(group) = self.turns.pop_front() else { return };
            let Some(walk) = self.walks.get_mut(&group) else { continue };
            let sessions = index.len(group);
            let is_paced = sessions > TURN;
            if walk.after.is_none() {
                walk.begin(now);
            }
            let (page, next) = index.page(group, walk.after, if is_paced { PACED_PAGE } else { PAGE });
            for (session, stay) in &page {
                push(session, stay, &walk.load.items);
            }
            woken += if is_paced { TURN } else { page.len().max(1) };
            if is_paced {
                walk.woke(page.len(), sessions, now);
            }
            walk.after = next;
            if next.is_none() {
                let done = std::mem::replace(&mut walk.load, std::mem::take(&mut walk.next));
                self.bytes -= done.bytes();
                done.last.into_iter().for_each(|last| last.finish(index, group));
            }
            let due = match walk.load.items.is_empty() {
                // The walk is kept for its pace.
                true => walk.paced.max(walk.rested),
                false if next.is_none() && is_paced && walk.load.items.iter().all(Item::can_wait) => {
                    Some(walk.may_wake().map_or(now + MEMBERS_DELAY, |at| at.max(now + MEMBERS_DELAY)))
                }
                false => walk.may_wake().filter(|_| !is_full),
            };
            match due.filter(|due| *due > now) {
                Some(due) => walk.wait(&mut self.delayed, group, due),
                None if walk.load.items.is_empty() => drop(self.walks.remove(&group)),
                None => self.turns.push_back(group),
            }
        }
    }
}

/// Pushes to one session, in order.
fn push(session: &ConnectionState, stay: &GroupStay, items: &[Item]) {
    let Some(identity) = session.identity() else { return };
    let is_push = |item: &Item| matches!(item, Item::Push(_));
    for run in items.chunk_by(|one, two| is_push(one) && is_push(two)) {
        if let [Item::Transient(transient)] = run {
            if stay.is_member_after(transient.after_rev) {
                transient.push(session);
            }
            continue;
        }
        if let [Item::Look(view)] = run {
            if view.user == identity.user {
                session.queue.mark_dirty(&PushTarget::Conversation(view.conversation()));
            }
            continue;
        }
        let pushes = || run.iter().filter_map(|item| if let Item::Push(push) = item { Some(push) } else { None });
        let Some(first) = pushes().next() else { continue };
        let target = PushTarget::Conversation(first.group.conversation());
        if pushes().any(|push| push.needs_pull(stay, (identity.login, &identity.user_id))) {
            // A pull tells what the user may see of it.
            session.queue.mark_dirty(&target);
        } else {
            session.queue.push_all(pushes().filter_map(|push| push.frame(stay, session)), &target);
        }
    }
}

/// Pushes to the sessions of one user alone.
fn push_to(sessions: &[(Arc<ConnectionState>, GroupStay)], push: &GroupPush) {
    let target = PushTarget::Conversation(push.group.conversation());
    for (session, stay) in sessions {
        if let Some(frame) = push.frame(stay, session) {
            session.queue.push(frame, &target);
        }
    }
}

/// Tells a device at once that it has entered, if its stay begins with that. Returns false if it has returned to an earlier stay: what
/// waits may be for it, and comes first.
fn has_entered(index: &GroupIndex, group: ConversationKey, (user, rev): (UserKey, i64), push: &GroupPush) -> bool {
    let sessions = index.of_user(group, user);
    let is_new = sessions.iter().all(|(session, stay)| stay.from_rev == rev || push.frame(stay, session).is_none());
    if is_new {
        push_to(&sessions, push);
    }
    is_new
}

#[cfg(test)]
mod tests;
