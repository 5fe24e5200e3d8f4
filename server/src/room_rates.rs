//! How often something may happen in a room, on this node: who is told of, and what is asked.

use crate::key::{ConversationKey, UserKey};
use crate::rate::{Buckets, Rate};

/// Users who are told of each second as they enter a large room, and as many as they leave.
const TOLD_PER_SECOND: u32 = 20;
/// Changes of attributes of members in a room within [`WINDOW_S`], as in the reference.
const MEMBER_CHANGES: u32 = 20;
/// Queries of attributes of members in a room within [`WINDOW_S`], as in the reference.
const MEMBER_QUERIES: u32 = 1_000;
const WINDOW_S: u32 = 10;
/// Queries of attributes of members by one user within [`USER_WINDOW_S`], as in the reference.
const USER_QUERIES: u32 = 5;
const USER_WINDOW_S: u32 = 30;

/// The rates of rooms.
#[derive(Debug)]
pub(crate) struct RoomRates {
    entrances: Buckets<ConversationKey>,
    exits: Buckets<ConversationKey>,
    member_changes: Buckets<ConversationKey>,
    member_queries: Buckets<ConversationKey>,
    user_queries: Buckets<UserKey>,
}

impl Default for RoomRates {
    fn default() -> Self {
        let told = Rate::new(TOLD_PER_SECOND, TOLD_PER_SECOND);
        Self {
            entrances: Buckets::new(told),
            exits: Buckets::new(told),
            member_changes: Buckets::new(Rate::within(WINDOW_S, MEMBER_CHANGES)),
            member_queries: Buckets::new(Rate::within(WINDOW_S, MEMBER_QUERIES)),
            user_queries: Buckets::new(Rate::within(USER_WINDOW_S, USER_QUERIES)),
        }
    }
}

impl RoomRates {
    /// Whether the members of a large room are told of one more who enters, or leaves.
    pub(crate) fn tells(&self, room: ConversationKey, has_left: bool, steady_ms: i64) -> bool {
        let buckets = if has_left { &self.exits } else { &self.entrances };
        buckets.take(room, steady_ms).is_ok()
    }

    /// Counts a change of attributes of members. Returns the wait if there were too many.
    pub(crate) fn change_members(&self, room: ConversationKey, steady_ms: i64) -> Result<(), i64> {
        self.member_changes.take(room, steady_ms)
    }

    /// Counts a query of attributes of members. Returns the wait if there were too many.
    pub(crate) fn query_members(&self, room: ConversationKey, user: UserKey, steady_ms: i64) -> Result<(), i64> {
        self.user_queries.take(user, steady_ms)?;
        self.member_queries.take(room, steady_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_queries_less_often_than_a_room_is_queried() {
        let (rates, room) = (RoomRates::default(), ConversationKey(1));
        let of_user = (0..10).filter(|_| rates.query_members(room, UserKey(1), 0).is_ok()).count();
        assert_eq!(of_user, 5);
        let of_room = (2..2_000).filter(|user| rates.query_members(room, UserKey(*user), 0).is_ok()).count();
        assert_eq!(of_room, 995);
        assert!(rates.query_members(ConversationKey(2), UserKey(3_000), 0).is_ok(), "another room");
        // One more every six seconds.
        assert!(
            rates.query_members(room, UserKey(1), 5_999).is_err()
                && rates.query_members(room, UserKey(1), 6_000).is_ok()
        );
    }

    #[test]
    fn members_are_told_of_20_a_second_in_each_direction() {
        let (rates, room) = (RoomRates::default(), ConversationKey(1));
        let told = |has_left, at| (0..100).filter(|_| rates.tells(room, has_left, at)).count();
        assert_eq!((told(false, 0), told(true, 0), told(false, 500)), (20, 20, 10));
        let changes = (0..100).filter(|_| rates.change_members(room, 0).is_ok()).count();
        assert_eq!(changes, 20);
    }
}
