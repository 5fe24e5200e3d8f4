//! Tests of the order and the pace of pushes to groups.

use bytes::Bytes;
use zim_protocol::event_frame::Frame;
use zim_protocol::frame::FrameDecoder;
use zim_protocol::room_push::Detail;
use zim_protocol::{EventFrame, RoomEntrance, RoomExit, RoomMemberChange, RoomMembersChange, UserInfo};

use super::super::group::Group;
use super::super::pushes_tests::message_to;
use super::super::tests::connection_of;
use super::*;
use crate::effect::{Audience, MessageEffect, RoomEffect, RoomReceivers};
use crate::key::LoginKey;

const STAY: GroupStay = GroupStay { from_seq: 1, entered_seq: 1, from_rev: 1, to: None, is_return: false };

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
    Item::Push(Arc::new(GroupPush::message(Group::new(conversation, name), Arc::new(message))))
}

/// How many sessions have each number of frames.
fn counts(sessions: &[Arc<ConnectionState>]) -> Vec<(u64, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    for session in sessions {
        *counts.entry(session.queue.len()).or_insert(0) += 1;
    }
    counts.into_iter().collect()
}

/// Lets a lane do what is due at a time, in as many turns as that takes.
fn turns(walks: &mut Walks, index: &GroupIndex, at: Instant) {
    walks.advance(index, at);
    while !walks.is_idle() {
        walks.advance(index, at);
    }
}

/// Lets a lane work until a time. Returns when it last did something.
fn work(walks: &mut Walks, index: &GroupIndex, until: Instant) -> Option<Instant> {
    let mut last = None;
    while let Some(at) = walks.deadline().filter(|at| *at <= until) {
        turns(walks, index, at);
        last = Some(at);
    }
    last
}

/// The sessions of a large group that are woken at once: what it may be ahead, in whole pages.
fn at_once() -> usize {
    (AHEAD.as_micros() / PACE.as_micros()) as usize / PACED_PAGE * PACED_PAGE + PACED_PAGE
}

#[test]
fn a_large_group_takes_turns_with_others_and_everybody_gets_everything_in_order() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (large, small) = (group(1, &index, 300), group(2, &index, 3));
    let begun = start + DELAY;
    walks.add(&index, ConversationKey(1), message(1, 1), start);
    walks.add(&index, ConversationKey(1), message(1, 2), start + DELAY / 2);
    turns(&mut walks, &index, begun);
    assert_eq!(counts(&large), [(0, 300 - at_once()), (2, at_once())], "both messages together");
    // A small group does not wait until the large one is through.
    walks.add(&index, ConversationKey(2), message(2, 1), begun);
    walks.add(&index, ConversationKey(1), message(1, 3), begun);
    walks.advance(&index, begun);
    assert_eq!(counts(&small), [(1, 3)]);
    assert_eq!(counts(&large), [(0, 300 - at_once()), (2, at_once())], "the rest waits for the pace");
    assert_eq!(walks.deadline(), Some(begun + PACE * u32::try_from(at_once()).unwrap() - AHEAD));
    // Whoever has the first two does not get the third before all have the first two.
    let all_have_two = begun + PACE * 300 - AHEAD;
    work(&mut walks, &index, all_have_two - PACE * u32::try_from(2 * PACED_PAGE).unwrap());
    assert!(counts(&large)[0].0 == 0 && counts(&large).len() == 2, "{:?}", counts(&large));
    let last = work(&mut walks, &index, begun + Duration::from_secs(1)).unwrap();
    assert_eq!(counts(&large), [(3, 300)]);
    assert_eq!(last, begun + PACE * 600, "until its pace no longer counts");
    assert_eq!((walks.bytes, walks.deadline(), walks.walks.len()), (0, None, 0));
    let frames: Vec<Vec<Bytes>> = large.iter().map(|session| session.queue.waiting()).collect();
    assert!(frames.iter().all(|all| all == &frames[0]), "the same frames in the same order");
}

#[test]
fn others_have_their_turn_after_each_page_of_a_large_group() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (large, small) = (group(1, &index, 300), group(2, &index, 3));
    walks.add(&index, ConversationKey(1), message(1, 1), start);
    walks.advance(&index, start + DELAY);
    assert_eq!(counts(&large), [(0, 300 - PACED_PAGE), (1, PACED_PAGE)], "more may be woken");
    assert!(!walks.is_idle());
    // What comes meanwhile has one page before it, and not all that may be woken.
    walks.add(&index, ConversationKey(2), message(2, 1), start + DELAY);
    walks.advance(&index, start + DELAY);
    assert_eq!(counts(&large), [(0, 300 - 2 * PACED_PAGE), (1, 2 * PACED_PAGE)]);
    walks.advance(&index, start + DELAY);
    assert_eq!(counts(&small), [(1, 3)]);
    walks.finish(&index);
    assert_eq!(counts(&large), [(1, 300)]);
}

#[test]
fn the_walk_of_a_very_large_group_does_not_take_longer_and_is_quick_if_it_was_quiet() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let sessions = group(1, &index, 2 * i64::try_from(MAX_WALK.as_micros() / PACE.as_micros()).unwrap());
    let next = start + QUICK_WALK + DELAY;
    // Before the third message the group is quiet for as long as its walks would have taken at the pace.
    let quiet = next + 2 * MAX_WALK;
    for (seq, at, longest) in [(1, start, QUICK_WALK), (2, next, MAX_WALK), (3, quiet, QUICK_WALK)] {
        walks.add(&index, ConversationKey(1), message(1, seq), at);
        work(&mut walks, &index, at + DELAY + longest / 2);
        assert_eq!(counts(&sessions).len(), 2, "at a pace, too: {seq}");
        work(&mut walks, &index, at + DELAY + longest);
        assert_eq!(counts(&sessions), [(seq.unsigned_abs(), sessions.len())]);
    }
    work(&mut walks, &index, quiet + 3 * MAX_WALK);
    assert_eq!((walks.bytes, walks.deadline(), walks.walks.len()), (0, None, 0));
}

/// Nobody waits for the names of those who enter.
#[test]
fn a_walk_that_tells_of_members_is_not_quick() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let sessions = group(1, &index, 2 * i64::try_from(MAX_WALK.as_micros() / PACE.as_micros()).unwrap());
    walks.add(&index, ConversationKey(1), entrance(2, 9_999), start);
    work(&mut walks, &index, start + MEMBERS_DELAY + 2 * QUICK_WALK);
    assert_eq!(counts(&sessions).len(), 2);
    work(&mut walks, &index, start + MEMBERS_DELAY + MAX_WALK);
    assert_eq!(counts(&sessions), [(1, sessions.len())]);
}

#[test]
fn a_lane_that_was_busy_does_not_hurry_afterwards() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let sessions = group(1, &index, 400);
    walks.add(&index, ConversationKey(1), message(1, 1), start);
    let late = start + Duration::from_secs(9);
    turns(&mut walks, &index, start + DELAY);
    turns(&mut walks, &index, late);
    turns(&mut walks, &index, late);
    assert_eq!(counts(&sessions), [(0, 400 - 2 * at_once()), (1, 2 * at_once())]);
}

#[test]
fn walks_that_hold_much_take_no_more() {
    let (index, mut walks, now) = (GroupIndex::default(), Walks::default(), Instant::now());
    let sessions = group(1, &index, 1_000);
    let item = message(1, 1);
    let most = MAX_BYTES.div_ceil(item.bytes());
    (1..most).for_each(|_| walks.add(&index, ConversationKey(1), item.clone(), now));
    assert!(!walks.is_full());
    walks.advance(&index, now);
    assert_eq!(counts(&sessions), [(0, 1_000)]);
    walks.add(&index, ConversationKey(1), item, now);
    assert!(walks.is_full());
    walks.advance(&index, now);
    assert_ne!(counts(&sessions), [(0, 1_000)], "a full walk does not wait");
    walks.finish(&index);
    assert!(!walks.is_full() && walks.is_idle());
}

/// The answer to the sender leaves first. The members of a small group do not feel it.
#[test]
fn only_a_walk_of_more_than_one_turn_waits_a_moment() {
    let most = i64::try_from(TURN).unwrap();
    for (count, is_delayed) in [(most, false), (most + 1, true)] {
        let (index, mut walks, now) = (GroupIndex::default(), Walks::default(), Instant::now());
        let sessions = group(1, &index, count);
        walks.add(&index, ConversationKey(1), message(1, 1), now);
        assert_eq!((walks.is_idle(), walks.deadline()), (is_delayed, is_delayed.then_some(now + DELAY)));
        walks.advance(&index, now + DELAY.checked_sub(Duration::from_nanos(1)).unwrap());
        let woken = || sessions.iter().filter(|session| !session.queue.is_empty()).count();
        assert_eq!(woken(), if is_delayed { 0 } else { TURN });
        turns(&mut walks, &index, now + DELAY);
        let paced = |count: usize| now + DELAY + PACE * u32::try_from(count).unwrap();
        assert_eq!(
            (woken(), walks.deadline()),
            match is_delayed {
                true => (at_once(), Some(paced(at_once()) - AHEAD)),
                false => (TURN, None),
            }
        );
        work(&mut walks, &index, now + Duration::from_millis(19));
        assert_eq!((woken(), walks.deadline()), (sessions.len(), is_delayed.then(|| paced(sessions.len()))));
        walks.finish(&index);
        assert!(woken() == sessions.len() && walks.is_idle());
    }
}

#[test]
fn a_group_without_sessions_ends_its_walk() {
    let (index, mut walks) = (GroupIndex::default(), Walks::default());
    walks.add(&index, ConversationKey(1), message(1, 1), Instant::now());
    walks.advance(&index, Instant::now());
    assert!(walks.is_idle() && walks.bytes == 0);
}

/// Somebody enters a room, with the change `rev`.
fn entrance(rev: i64, cause: i64) -> Item {
    let user = UserInfo { user_id: format!("u{rev}"), ..UserInfo::default() };
    let changes = vec![RoomMemberChange { has_left: false, user: Some(user) }];
    room(rev, RoomReceivers::All(LoginKey(cause)), Detail::Members(RoomMembersChange { changes }))
}

fn room(rev: i64, to: RoomReceivers, detail: Detail) -> Item {
    let effect = RoomEffect { conversation: ConversationKey(1), name: "stage".into(), number: 7, rev, to, detail };
    Item::Push(Arc::new(GroupPush::of_room(Arc::new(effect))))
}

/// A user's device has entered, or is told what the room is.
fn own_entrance(rev: i64, user: i64) -> Item {
    room(rev, RoomReceivers::Device(UserKey(user), [1; 16]), Detail::Entrance(RoomEntrance::default()))
}

/// A user's device has left.
fn own_exit(rev: i64, user: i64) -> Item {
    room(rev, RoomReceivers::Device(UserKey(user), [1; 16]), Detail::Exit(RoomExit::default()))
}

/// What a session gets of a room: the number of users in each push, with the change.
fn told(session: &ConnectionState) -> Vec<(u64, usize)> {
    let mut decoder = FrameDecoder::new(1 << 20);
    session.queue.waiting().iter().for_each(|frame| decoder.push(frame));
    let mut told = Vec::new();
    while let Some(bytes) = decoder.next().unwrap() {
        let frame: EventFrame = prost::Message::decode(bytes).unwrap();
        let Some(Frame::Room(push)) = frame.frame else { panic!("{frame:?}") };
        let users = if let Some(Detail::Members(members)) = push.detail { members.changes.len() } else { 0 };
        told.push((push.rev, users));
    }
    told
}

#[test]
fn those_who_enter_a_room_during_a_walk_are_one_push() {
    let (index, mut walks, now) = (GroupIndex::default(), Walks::default(), Instant::now());
    let sessions = group(1, &index, 3);
    // Of the session of the first user, and one that enters itself with the third change.
    let late = connection_of(UserKey(9), 9);
    index.enter(ConversationKey(1), UserKey(9), &late, GroupStay { from_rev: 3, ..STAY });
    for item in [entrance(2, 1_001), entrance(3, 9), entrance(4, 99)] {
        walks.add(&index, ConversationKey(1), item, now);
    }
    let exit = Detail::Exit(RoomExit::default());
    walks.add(&index, ConversationKey(1), room(5, RoomReceivers::Users(vec![UserKey(2)]), exit), now);
    walks.add(&index, ConversationKey(1), entrance(6, 99), now);
    walks.finish(&index);
    assert_eq!(told(&sessions[2]), [(4, 3), (6, 1)], "shared by those who see all of it");
    assert_eq!(told(&sessions[0]), [(4, 2), (6, 1)], "the one who caused the first has it already");
    assert_eq!(told(&sessions[1]), [(4, 3), (5, 0), (6, 1)]);
    assert_eq!(told(&late), [(4, 1), (6, 1)]);
    assert!(walks.is_idle() && walks.bytes == 0);
}

#[test]
fn members_who_enter_a_large_room_are_told_with_the_next_message_or_after_a_while() {
    let most = i64::try_from(TURN).unwrap();
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let sessions = group(1, &index, most + 1);
    let woken = || sessions.iter().filter(|session| !session.queue.is_empty()).count();
    let key = ConversationKey(1);
    walks.add(&index, key, entrance(2, 9_999), start);
    // Who left is forgotten after all of it, and separates nothing.
    walks.forget(&index, key, (UserKey(9_999), 2));
    walks.add(&index, key, entrance(3, 9_999), start + DELAY);
    walks.advance(&index, start + MEMBERS_DELAY.checked_sub(Duration::from_nanos(1)).unwrap());
    assert_eq!((woken(), walks.deadline()), (0, Some(start + MEMBERS_DELAY)));
    let paced = |count: usize| PACE * u32::try_from(count).unwrap();
    // What arrives during the walk can wait again after it.
    let now = start + MEMBERS_DELAY;
    turns(&mut walks, &index, now);
    assert_eq!(woken(), at_once());
    walks.add(&index, key, entrance(4, 9_999), now);
    let ended = work(&mut walks, &index, now + DELAY * 10).unwrap();
    assert_eq!((woken(), walks.deadline()), (sessions.len(), Some(ended + MEMBERS_DELAY)));
    assert_eq!(told(&sessions[0]), [(3, 2)]);
    // Something that cannot wait takes it along at once.
    let exit = || Detail::Exit(RoomExit::default());
    walks.add(&index, key, room(5, RoomReceivers::Users(vec![UserKey(1)]), exit()), ended);
    let due = walks.deadline().unwrap();
    assert!(due >= ended + DELAY && due < ended + MEMBERS_DELAY / 2);
    walks.add(&index, key, entrance(6, 9_999), ended);
    assert_eq!(walks.deadline(), Some(due), "no later than before");
    work(&mut walks, &index, due + DELAY * 10);
    // Nothing waits. What then arrives waits as long as if nothing had been before.
    let idle = walks.deadline().unwrap();
    assert!(idle <= due + AHEAD + paced(sessions.len()));
    walks.add(&index, key, entrance(7, 9_999), idle - DELAY);
    assert_eq!(walks.deadline(), Some(idle - DELAY + MEMBERS_DELAY));
    walks.add(&index, key, room(8, RoomReceivers::Users(vec![UserKey(1)]), exit()), idle - DELAY / 2);
    assert_eq!(walks.deadline(), Some(idle + DELAY / 2));
    walks.finish(&index);
    assert_eq!(told(&sessions[0]), [(3, 2), (4, 1), (5, 0), (6, 1), (7, 1), (8, 0)]);
    assert_eq!(told(&sessions[1]), [(3, 2), (4, 1), (6, 1), (7, 1)]);
    assert!(walks.is_idle() && walks.deadline().is_none() && walks.bytes == 0 && walks.walks.is_empty());
}

#[test]
fn a_session_that_has_left_a_room_is_forgotten_after_its_last_push() {
    let (index, mut walks, now) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (key, sessions) = (ConversationKey(1), group(1, &index, 2));
    index.enter(key, UserKey(1), &sessions[0], GroupStay { to: Some((0, 5)), ..STAY });
    walks.add(&index, key, entrance(4, 99), now);
    walks.add(&index, key, own_exit(5, 1), now);
    walks.forget(&index, key, (UserKey(1), 5));
    walks.add(&index, key, entrance(6, 99), now);
    assert_eq!(index.len(key), 2);
    walks.finish(&index);
    assert_eq!((told(&sessions[0]), told(&sessions[1])), (vec![(4, 1), (5, 0)], vec![(6, 2)]));
    assert_eq!(index.len(key), 1);
    // Who has returned meanwhile stays.
    index.enter(key, UserKey(1), &sessions[0], GroupStay { from_rev: 6, ..STAY });
    walks.forget(&index, key, (UserKey(1), 5));
    walks.finish(&index);
    assert_eq!(index.len(key), 2);
}

#[test]
fn those_who_enter_and_leave_neither_separate_nor_hasten_the_changes_of_members() {
    let most = i64::try_from(TURN).unwrap();
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (key, sessions) = (ConversationKey(1), group(1, &index, most + 1));
    walks.add(&index, key, entrance(3, 9_999), start);
    // The first user leaves, and another one enters. The members are told of both.
    index.enter(key, UserKey(1), &sessions[0], GroupStay { to: Some((0, 4)), ..STAY });
    walks.add(&index, key, own_exit(4, 1), start);
    walks.add(&index, key, entrance(4, 9_999), start);
    walks.forget(&index, key, (UserKey(1), 4));
    let late = connection_of(UserKey(most + 2), 9);
    index.enter(key, UserKey(most + 2), &late, GroupStay { from_rev: 5, ..STAY });
    walks.add(&index, key, own_entrance(5, most + 2), start);
    walks.add(&index, key, entrance(5, 9), start);
    walks.add(&index, key, entrance(6, 9_999), start);
    assert_eq!(walks.deadline(), Some(start + MEMBERS_DELAY), "nobody is in a hurry");
    assert_eq!(told(&late), [(5, 0)], "an entrance waits for nothing");
    assert!(sessions.iter().all(|session| session.queue.is_empty()));
    work(&mut walks, &index, start + 2 * MEMBERS_DELAY);
    assert_eq!(told(&sessions[1]), [(6, 4)], "one push");
    assert_eq!(told(&sessions[0]), [(3, 1), (4, 0)], "nothing follows an exit");
    assert_eq!(told(&late), [(5, 0), (6, 1)]);
    assert_eq!((index.len(key), walks.bytes), (sessions.len(), 0));
}

#[test]
fn an_exit_follows_all_that_was_told_before() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (key, sessions) = (ConversationKey(1), group(1, &index, 300));
    let leaves = |walks: &mut Walks, rev: i64, user: i64, session: &Arc<ConnectionState>| {
        index.enter(key, UserKey(user), session, GroupStay { to: Some((0, rev)), ..STAY });
        walks.add(&index, key, own_exit(rev, user), start);
        walks.add(&index, key, entrance(rev, 9_999), start);
        walks.forget(&index, key, (UserKey(user), rev));
    };
    walks.add(&index, key, entrance(2, 9_999), start);
    turns(&mut walks, &index, start + MEMBERS_DELAY);
    // During the walk, one leaves who does not have the first change yet, and then one who has it.
    assert_eq!((told(&sessions[299]), told(&sessions[0])), (vec![], vec![(2, 1)]));
    leaves(&mut walks, 3, 300, &sessions[299]);
    leaves(&mut walks, 4, 1, &sessions[0]);
    assert_eq!((told(&sessions[299]), told(&sessions[0])), (vec![], vec![(2, 1)]));
    walks.finish(&index);
    assert_eq!(told(&sessions[299]), [(2, 1), (3, 0)]);
    assert_eq!(told(&sessions[0]), [(2, 1), (3, 1), (4, 0)]);
    assert_eq!(told(&sessions[1]), [(2, 1), (4, 2)]);
    assert_eq!((index.len(key), walks.bytes, walks.walks.len()), (298, 0, 0));
    // An exit waits for nothing if nothing was told, and the others do not notice it.
    index.enter(key, UserKey(2), &sessions[1], GroupStay { to: Some((0, 5)), ..STAY });
    walks.add(&index, key, own_exit(5, 2), start);
    walks.forget(&index, key, (UserKey(2), 5));
    assert_eq!(told(&sessions[1]), [(2, 1), (4, 2), (5, 0)]);
    assert_eq!((index.len(key), walks.deadline(), walks.walks.len()), (297, None, 0));
}

#[test]
fn who_enters_again_and_leaves_again_during_a_walk_gets_the_second_exit() {
    let (index, mut walks, start) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (key, sessions) = (ConversationKey(1), group(1, &index, 300));
    let (user, last) = (UserKey(300), &sessions[299]);
    walks.add(&index, key, entrance(2, 9_999), start);
    turns(&mut walks, &index, start + MEMBERS_DELAY);
    index.enter(key, user, last, GroupStay { to: Some((0, 3)), ..STAY });
    walks.add(&index, key, own_exit(3, 300), start);
    walks.forget(&index, key, (user, 3));
    let again = GroupStay { from_rev: 4, ..STAY };
    index.enter(key, user, last, again);
    walks.add(&index, key, own_entrance(4, 300), start);
    assert_eq!(told(last), [(4, 0)]);
    walks.add(&index, key, entrance(5, 9_999), start);
    index.enter(key, user, last, GroupStay { to: Some((0, 6)), ..again });
    walks.add(&index, key, own_exit(6, 300), start);
    walks.forget(&index, key, (user, 6));
    walks.finish(&index);
    assert_eq!(told(last), [(4, 0), (5, 1), (6, 0)], "nothing of the first stay, and all of the second");
    assert_eq!((index.len(key), walks.bytes), (299, 0));
}

/// Something may wait for it that it does not have yet.
#[test]
fn the_entrance_of_a_device_that_returns_keeps_its_place() {
    let (index, mut walks, now) = (GroupIndex::default(), Walks::default(), Instant::now());
    let (key, sessions) = (ConversationKey(1), group(1, &index, 2));
    for item in [entrance(2, 99), own_entrance(2, 1), entrance(3, 99)] {
        walks.add(&index, key, item, now);
    }
    walks.finish(&index);
    assert_eq!(told(&sessions[0]), [(2, 1), (2, 0), (3, 1)]);
    assert_eq!(told(&sessions[1]), [(2, 1), (3, 1)]);
}
