//! The sessions of a lane by group, with the stays of their users. A push to a group costs what its sessions here cost,
//! however many members it has, and nothing outside a stay is pushed.
//!
//! Two writers fill it: a session that registers brings the stays that it read, and a membership that changes is set for
//! all sessions that the user then has. A read may be older than a change that arrives first. Stays tell which is
//! newer: the one that begins later, or the one that is over. So a stay that is over stays here until its session ends.
//!
//! With several nodes, what is pushed may come before the end of a stay that precedes it: see [`super::ends`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use super::ends::{Ends, Knows};
use crate::connection::ConnectionState;
use crate::effect::{GroupStay, StayEnd};
use crate::key::{ConversationKey, UserKey};

/// Whether `new` is a later state of a membership.
fn is_newer(new: &GroupStay, old: &GroupStay) -> bool {
    let state = |stay: &GroupStay| (stay.from_rev, stay.from_seq, stay.to.is_some());
    state(new) > state(old)
}

/// A session in a group, ordered by user and then by connection.
pub(super) type Place = (UserKey, usize);

#[derive(Debug)]
struct Member {
    session: Arc<ConnectionState>,
    stay: GroupStay,
    /// The beginning of this stay is noted too: nothing of it comes after its end.
    has_begun: bool,
}

/// What became of a stay that was to be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    /// It is noted, or a later state of it was.
    Yes,
    /// It replaces an earlier one: entries of that stay that wait in the lane are then not pushed.
    Again,
    /// It is not noted: it may be over, by an end that those know who are here. It is to be read again.
    Stale,
}

#[derive(Debug)]
struct Members {
    places: BTreeMap<Place, Member>,
    ends: Ends,
}

#[derive(Debug, Default)]
struct Inner {
    groups: HashMap<ConversationKey, Members>,
    /// The groups of each session.
    sessions: HashMap<usize, Vec<ConversationKey>>,
}

impl Inner {
    /// Notes a stay, unless a later state of it is known. `begins`: this says that the stay has begun.
    fn enter(
        &mut self,
        (conversation, knows): (ConversationKey, Knows),
        (user, session): (UserKey, &Arc<ConnectionState>),
        stay: GroupStay,
        begins: bool,
    ) -> Entered {
        let Self { groups, sessions } = self;
        let place = (user, id(session));
        let new = || Members { places: BTreeMap::new(), ends: Ends::new(knows) };
        let group = groups.entry(conversation).or_insert_with(new);
        if let Some(member) = group.places.get_mut(&place) {
            let is_same = (member.stay.from_rev, member.stay.from_seq) == (stay.from_rev, stay.from_seq);
            if is_same {
                member.has_begun |= begins;
            }
            if !is_newer(&stay, &member.stay) {
                return Entered::Yes;
            }
            member.stay = stay;
            if is_same {
                return Entered::Yes;
            }
            member.has_begun = begins;
            return Entered::Again;
        }
        if !group.ends.admits(knows) {
            return Entered::Stale;
        }
        group.places.insert(place, Member { session: Arc::clone(session), stay, has_begun: begins });
        sessions.entry(place.1).or_default().push(conversation);
        Entered::Yes
    }
}

/// The sessions of one lane, by group.
#[derive(Debug, Default)]
pub(super) struct GroupIndex(RwLock<Inner>);

/// Identifies a connection as long as it is held.
fn id(session: &Arc<ConnectionState>) -> usize {
    Arc::as_ptr(session).addr()
}

impl GroupIndex {
    /// Notes the stay of a session's user, unless a later state of it is known. Returns true if the stay replaces an earlier
    /// one. No other node has changed it.
    #[cfg(test)]
    pub(super) fn enter(
        &self,
        conversation: ConversationKey,
        user: UserKey,
        session: &Arc<ConnectionState>,
        stay: GroupStay,
    ) -> bool {
        self.enter_knowing((conversation, Knows::Read(0)), user, session, stay) == Entered::Again
    }

    /// Notes the stay of a session's user, unless a later state of it is known.
    pub(super) fn enter_knowing(
        &self,
        (conversation, knows): (ConversationKey, Knows),
        user: UserKey,
        session: &Arc<ConnectionState>,
        stay: GroupStay,
    ) -> Entered {
        self.0.write().enter((conversation, knows), (user, session), stay, stay.to.is_none())
    }

    /// Notes that one of the stays was told that a change has ended. It is set for the sessions of its user.
    pub(super) fn tell_end(&self, conversation: ConversationKey, rev: i64, end: StayEnd) {
        if self.has(conversation)
            && let Some(group) = self.0.write().groups.get_mut(&conversation)
        {
            group.ends.tell(rev, end);
        }
    }

    /// Whether the stays of the sessions in the group take account of all ends up to a change; `None` if there is no session.
    pub(super) fn knows(&self, conversation: ConversationKey, rev: i64) -> Option<bool> {
        self.0.read().groups.get(&conversation).map(|group| group.ends.has(rev))
    }

    /// Notes that the stays of all sessions in the group are being read.
    pub(super) fn begin_reading(&self, conversation: ConversationKey) {
        if let Some(group) = self.0.write().groups.get_mut(&conversation) {
            group.ends.begin_reading();
        }
    }

    /// Notes that these stays are set, and the last end that all of them take account of.
    pub(super) fn end_reading(&self, conversation: ConversationKey, read: i64) {
        if let Some(group) = self.0.write().groups.get_mut(&conversation) {
            group.ends.end_reading(read);
        }
    }

    /// Notes a stay as [`GroupIndex::enter_knowing`] does. Returns the newest one, and whether it is over and can be forgotten.
    /// `is_shared`: the beginning of a stay that is over may still come.
    pub(super) fn enter_room(
        &self,
        room: ConversationKey,
        (user, session): (UserKey, &Arc<ConnectionState>),
        stay: GroupStay,
        is_shared: bool,
    ) -> (GroupStay, bool) {
        // A stay that ends where it begins says that the device is not in the room: it has no beginning.
        let begins = !is_shared || stay.to.is_none_or(|(_, rev)| rev == stay.from_rev);
        let mut inner = self.0.write();
        inner.enter((room, Knows::Read(0)), (user, session), stay, begins);
        let member = inner.groups.get(&room).and_then(|group| group.places.get(&(user, id(session))));
        member.map_or((stay, false), |member| (member.stay, member.stay.to.is_some() && member.has_begun))
    }

    /// Removes a session from all groups.
    pub(super) fn leave(&self, user: UserKey, session: &Arc<ConnectionState>) {
        let place = (user, id(session));
        let mut inner = self.0.write();
        let Inner { groups, sessions } = &mut *inner;
        for conversation in sessions.remove(&place.1).unwrap_or_default() {
            if let Some(group) = groups.get_mut(&conversation) {
                group.places.remove(&place);
                if group.places.is_empty() {
                    groups.remove(&conversation);
                }
            }
        }
    }

    /// Removes the sessions of a room whose stay is over by this change, once everything that belongs to it has been pushed. If the
    /// beginning of that stay is still to come, it would let them in again. A later stay that is over, too, has its own end to be told.
    pub(super) fn forget_ended(&self, conversation: ConversationKey, user: UserKey, rev: i64) {
        let mut inner = self.0.write();
        let Inner { groups, sessions } = &mut *inner;
        let Some(group) = groups.get_mut(&conversation) else { return };
        let of_user = group.places.range((user, usize::MIN)..=(user, usize::MAX));
        let is_over = |member: &Member| member.stay.to.is_some_and(|(_, to)| to <= rev) && member.has_begun;
        let ended: Vec<Place> = of_user.filter(|(_, member)| is_over(member)).map(|(place, _)| *place).collect();
        for place in ended {
            group.places.remove(&place);
            if let Some(of_session) = sessions.get_mut(&place.1) {
                of_session.retain(|other| *other != conversation);
                if of_session.is_empty() {
                    sessions.remove(&place.1);
                }
            }
        }
        if group.places.is_empty() {
            groups.remove(&conversation);
        }
    }

    /// Returns the sessions of a user that are or were in the group, with their stays.
    pub(super) fn of_user(
        &self,
        conversation: ConversationKey,
        user: UserKey,
    ) -> Vec<(Arc<ConnectionState>, GroupStay)> {
        let inner = self.0.read();
        let Some(group) = inner.groups.get(&conversation) else { return Vec::new() };
        let of_user = group.places.range((user, usize::MIN)..=(user, usize::MAX));
        of_user.map(|(_, member)| (Arc::clone(&member.session), member.stay)).collect()
    }

    /// Whether a session of this lane is or was in the group.
    pub(super) fn has(&self, conversation: ConversationKey) -> bool {
        self.0.read().groups.contains_key(&conversation)
    }

    /// The number of sessions in the group.
    pub(super) fn len(&self, conversation: ConversationKey) -> usize {
        self.0.read().groups.get(&conversation).map_or(0, |group| group.places.len())
    }

    /// Returns up to `limit` sessions of the group after a place, with their stays. So a large group is walked without
    /// holding the lock for long. A session that stays is returned once, whatever comes and goes meanwhile.
    pub(super) fn page(
        &self,
        conversation: ConversationKey,
        after: Option<Place>,
        limit: usize,
    ) -> (Vec<(Arc<ConnectionState>, GroupStay)>, Option<Place>) {
        let inner = self.0.read();
        let Some(group) = inner.groups.get(&conversation) else { return (Vec::new(), None) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        let members = group.places.range((from, Bound::Unbounded)).take(limit);
        let page = members.map(|(place, member)| {
            last = Some(*place);
            (Arc::clone(&member.session), member.stay)
        });
        let page: Vec<_> = page.collect();
        let next = last.filter(|_| page.len() == limit);
        (page, next)
    }

    /// Returns the sessions whose stays include a position in the log of messages.
    #[cfg(test)]
    pub(super) fn sessions_at(&self, conversation: ConversationKey, seq: i64) -> Vec<Arc<ConnectionState>> {
        let (page, _) = self.page(conversation, None, usize::MAX);
        page.into_iter().filter(|(_, stay)| stay.has_message(seq)).map(|(session, _)| session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::connection;
    use super::*;

    const ANN: UserKey = UserKey(1);
    const BOB: UserKey = UserKey(2);
    const GROUP: ConversationKey = ConversationKey(7);

    fn stay(from: i64, to: Option<i64>) -> GroupStay {
        GroupStay {
            from_seq: from,
            entered_seq: from,
            from_rev: from * 10,
            to: to.map(|to| (to, to * 10)),
            is_return: false,
        }
    }

    /// The logins of the sessions that get a message.
    fn logins(index: &GroupIndex, conversation: ConversationKey, seq: i64) -> Vec<i64> {
        let sessions = index.sessions_at(conversation, seq);
        let mut logins: Vec<_> = sessions.iter().filter_map(|session| Some(session.identity()?.login.0)).collect();
        logins.sort_unstable();
        logins
    }

    #[test]
    fn a_message_reaches_the_sessions_whose_stays_include_it() {
        let (index, ann, other, bob) = (GroupIndex::default(), connection(1), connection(2), connection(3));
        for session in [&ann, &other] {
            assert!(!index.enter(GROUP, ANN, session, stay(1, None)));
        }
        index.enter(GROUP, BOB, &bob, stay(5, None));
        index.enter(ConversationKey(8), BOB, &bob, stay(1, None));
        assert_eq!(logins(&index, GROUP, 4), [1, 2]);
        assert_eq!(logins(&index, GROUP, 5), [1, 2, 3]);
        assert_eq!(logins(&index, ConversationKey(8), 5), [3]);
        // A message that waits in the lane is still pushed to a member who has left since.
        for session in [&ann, &other] {
            assert!(!index.enter(GROUP, ANN, session, stay(1, Some(6))));
        }
        assert_eq!(logins(&index, GROUP, 6), [1, 2, 3]);
        assert_eq!(logins(&index, GROUP, 7), [3]);
    }

    #[test]
    fn what_a_session_read_before_a_change_does_not_undo_it() {
        let (index, ann) = (GroupIndex::default(), connection(1));
        // The user left while the session registered.
        index.enter(GROUP, ANN, &ann, stay(1, Some(6)));
        assert!(!index.enter(GROUP, ANN, &ann, stay(1, None)));
        assert_eq!((logins(&index, GROUP, 6), logins(&index, GROUP, 7)), (vec![1], vec![]));
        // The user returns: what waits of the first stay is no longer pushed, and the caller learns so.
        assert!(index.enter(GROUP, ANN, &ann, stay(9, None)));
        for old in [stay(1, None), stay(1, Some(6)), stay(9, None)] {
            assert!(!index.enter(GROUP, ANN, &ann, old));
        }
        assert_eq!([6, 8, 9, 100].map(|seq| logins(&index, GROUP, seq).len()), [0, 0, 1, 1]);
        // In which order they arrive does not matter.
        assert!(!index.enter(GROUP, ANN, &ann, stay(9, Some(20))));
        assert_eq!([20, 21].map(|seq| logins(&index, GROUP, seq).len()), [1, 0]);
    }

    #[test]
    fn a_session_that_ends_leaves_nothing_behind() {
        let (index, ann, bob) = (GroupIndex::default(), connection(1), connection(2));
        for group in 0..5 {
            index.enter(ConversationKey(group), ANN, &ann, stay(1, None));
        }
        index.enter(ConversationKey(4), BOB, &bob, stay(1, Some(3)));
        index.leave(ANN, &ann);
        assert_eq!((index.has(ConversationKey(3)), index.has(ConversationKey(4))), (false, true));
        index.leave(BOB, &bob);
        index.leave(BOB, &bob);
        let inner = index.0.read();
        assert!(inner.groups.is_empty() && inner.sessions.is_empty());
        assert_eq!((Arc::strong_count(&ann), Arc::strong_count(&bob)), (1, 1));
    }

    #[test]
    fn a_session_with_an_older_stay_is_not_let_in_and_what_is_known_goes_with_the_last_session() {
        let (index, ann, bob) = (GroupIndex::default(), connection(1), connection(2));
        let enter =
            |user, session, knows| index.enter_knowing((GROUP, Knows::Read(knows)), user, session, stay(1, None));
        assert_eq!(index.knows(GROUP, 0), None);
        assert_eq!(enter(ANN, &ann, 20), Entered::Yes);
        assert_eq!(enter(BOB, &bob, 19), Entered::Stale);
        assert_eq!((logins(&index, GROUP, 1), index.len(GROUP)), (vec![1], 1));
        // Of a session that is in, an older stay changes nothing.
        assert_eq!(enter(ANN, &ann, 19), Entered::Yes);
        assert_eq!([20, 21].map(|rev| index.knows(GROUP, rev)), [Some(true), Some(false)]);
        index.tell_end(GROUP, 21, StayEnd { before: 20, of: 1 });
        assert_eq!(index.knows(GROUP, 21), Some(true));
        index.leave(ANN, &ann);
        index.tell_end(GROUP, 22, StayEnd { before: 21, of: 1 });
        assert_eq!(index.knows(GROUP, 0), None);
        assert_eq!(enter(BOB, &bob, 19), Entered::Yes);
        assert_eq!(index.knows(GROUP, 20), Some(false));
        index.begin_reading(GROUP);
        index.end_reading(GROUP, 22);
        assert_eq!(index.knows(GROUP, 22), Some(true));
    }

    #[test]
    fn a_walk_by_pages_meets_each_session_that_stays_once() {
        let index = GroupIndex::default();
        let sessions: Vec<_> = (0..10).map(connection).collect();
        for (user, session) in (0..).zip(&sessions) {
            index.enter(GROUP, UserKey(user), session, stay(1, None));
        }
        let (mut met, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = index.page(GROUP, after, 4);
            met.extend(page.iter().filter_map(|(session, _)| Some(session.identity()?.login.0)));
            // Some that were met and some that were not leave.
            index.leave(UserKey(2), &sessions[2]);
            index.leave(UserKey(9), &sessions[9]);
            let Some(next) = next else { break };
            after = Some(next);
        }
        assert_eq!(met, (0..9).collect::<Vec<_>>());
        assert_eq!(index.page(GROUP, None, 8).1.map(|_| ()), Some(()));
        assert_eq!(index.page(GROUP, None, 9).1, None);
    }
}
