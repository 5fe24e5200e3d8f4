//! Tests of what the sessions of a group get while the end of a stay is on its way from another node.

use futures_util::FutureExt;
use zim_protocol::event_frame::Frame;
use zim_protocol::feed_entry::Detail;
use zim_protocol::{LogKind, MessagePriority, ReadMark, RoomAttributesChange, RoomEntrance, room_push};

use super::group_pushes_tests::{GROUP, Group, STAY};
use super::pushes_tests::{dirty, frames, pushes};
use super::tests::connection_of;
use super::*;
use crate::effect::{GroupStay, MessageEffect, RoomEffect, RoomReceivers, StayEnd, TransientEffect};

const MESSAGES: LogKind = LogKind::Messages;

/// A group whose node is not the only one.
fn shared() -> Group {
    let group = Group::new();
    group.fanout.share();
    group
}

/// The same effect, committed after this change ended a stay.
fn after(ended_rev: i64, effect: Effect) -> Effect {
    match effect {
        Effect::Message(message) => {
            let message = Arc::into_inner(message).unwrap();
            Effect::Message(Arc::new(MessageEffect { ended_rev, ..message }))
        }
        Effect::Change { audience, entry, cause, .. } => Effect::Change { audience, entry, cause, ended_rev },
        Effect::Transient(transient) => Effect::Transient(Box::new(TransientEffect { ended_rev, ..*transient })),
        other => panic!("{other:?}"),
    }
}

/// The end of a user's stay.
fn left(group: &Group, user: i64, to: (i64, i64), end: StayEnd) -> Effect {
    match group.stay(user, GroupStay { to: Some(to), ..STAY }) {
        Effect::Stay { user, conversation, name, stay, .. } => {
            Effect::Stay { user, conversation, name, stay, end: Some(end) }
        }
        other => panic!("{other:?}"),
    }
}

/// Whether a session has got nothing. The second of these entries comes after all that was handed over before the first.
async fn got_nothing(group: &Group, user: i64, session: &ConnectionState) -> bool {
    let mut got = Vec::new();
    for pos in [1, 2] {
        let entry = Box::new(Detail::Read(ReadMark::default()));
        group.publisher.push(vec![Effect::Feed { user: UserKey(user), pos, entry, cause: LoginKey(99) }]);
        got.extend(pushes(session, 1).await);
    }
    got == [(LogKind::Feed, 1, 1), (LogKind::Feed, 2, 2)]
}

#[tokio::test]
async fn what_comes_before_the_end_of_a_stay_that_precedes_it_is_pulled() {
    let group = shared();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    // Bob has left with change 3.
    for effect in [group.message(2, 99), group.change(4)] {
        group.publisher.push(vec![after(3, effect)]);
        for session in [&ann, &bob] {
            assert_eq!(dirty(session).await.conversations[0].id, "group");
        }
    }
    let unheard = group.fanout.unheard.take().now_or_never().unwrap();
    assert_eq!(unheard[&GROUP].1, 3);
    assert!(!group.fanout.knows_ends(GROUP, 3));
    // There is nothing to pull of a command. Ann's phone has sent it.
    group.publisher.push(vec![after(3, group.command(1, MessagePriority::High, (2, 4)))]);
    let told = dirty(&bob).await;
    assert_eq!((told.transients_dropped, told.conversations.len()), (1, 0));
    // What was committed before the end is pushed, and so is all once it has arrived.
    group.publisher.push(vec![group.message(1, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 1, 1)]);
    assert_eq!(pushes(&bob, 1).await, [(MESSAGES, 1, 1)]);
    group.fanout.hear(vec![left(&group, 2, (1, 3), StayEnd { before: 0, of: 1 })]);
    assert!(group.fanout.knows_ends(GROUP, 3));
    group.publisher.push(vec![after(3, group.message(3, 99)), after(3, group.change(5))]);
    assert_eq!(pushes(&ann, 2).await, [(MESSAGES, 3, 3), (LogKind::Changes, 5, 5)]);
    assert!(got_nothing(&group, 2, &bob).await);
}

#[tokio::test]
async fn who_has_left_is_not_told_that_a_command_is_lost() {
    let group = shared();
    let (bob, cai) = (group.session(2, 20, STAY), group.session(3, 30, STAY));
    group.fanout.hear(vec![left(&group, 2, (1, 3), StayEnd { before: 0, of: 1 })]);
    group.publisher.push(vec![after(5, group.command(1, MessagePriority::High, (2, 4)))]);
    assert_eq!(dirty(&cai).await.transients_dropped, 1);
    assert!(got_nothing(&group, 2, &bob).await);
}

#[tokio::test]
async fn an_end_counts_for_what_follows_it_in_the_same_commit() {
    let group = shared();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    let two = StayEnd { before: 0, of: 2 };
    group.publisher.push(vec![
        group.message(1, 99),
        left(&group, 2, (1, 3), two),
        left(&group, 3, (1, 3), two),
        after(3, group.message(2, 99)),
    ]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 1, 2)]);
    assert_eq!(pushes(&bob, 1).await, [(MESSAGES, 1, 1)]);
    assert!(got_nothing(&group, 2, &bob).await);
}

#[tokio::test]
async fn one_of_two_ends_of_a_change_is_not_enough() {
    let group = shared();
    let ann = group.session(1, 10, STAY);
    group.fanout.hear(vec![left(&group, 2, (1, 3), StayEnd { before: 0, of: 2 })]);
    group.publisher.push(vec![after(3, group.message(2, 99))]);
    assert_eq!(dirty(&ann).await.conversations.len(), 1);
}

#[tokio::test]
async fn stays_that_were_read_again_count_as_far_as_they_were_read() {
    let group = shared();
    let (ann, bob) = (group.session(1, 10, STAY), group.session(2, 20, STAY));
    let sessions = group.fanout.begin_reading(GROUP);
    assert_eq!(sessions.len(), 2);
    let over = GroupStay { to: Some((1, 3)), ..STAY };
    group.fanout.enter_group((GROUP, &group.name), &bob, (over, Knows::Read(6)));
    group.fanout.enter_group((GROUP, &group.name), &ann, (STAY, Knows::Read(6)));
    group.fanout.end_reading(GROUP, 6);
    group.publisher.push(vec![after(6, group.message(2, 99))]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 2, 2)]);
    assert!(got_nothing(&group, 2, &bob).await);
    group.publisher.push(vec![after(7, group.message(3, 99))]);
    assert_eq!(dirty(&ann).await.conversations.len(), 1);
}

/// Two devices of one user belong to one lane. The tablet has read its groups earlier.
#[tokio::test]
async fn a_session_with_an_older_stay_waits_until_it_is_read_again() {
    let group = shared();
    let (phone, tablet) = (connection_of(UserKey(1), 10), connection_of(UserKey(1), 11));
    for (session, knows) in [(&phone, 3), (&tablet, 0)] {
        group.fanout.register(UserKey(1), Arc::clone(session));
        group.fanout.enter_group((GROUP, &group.name), session, (STAY, Knows::Read(knows)));
    }
    let again = group.fanout.stays.take().now_or_never().unwrap();
    assert_eq!(again.into_keys().collect::<Vec<_>>(), [(UserKey(1), GROUP)]);
    group.publisher.push(vec![after(3, group.message(2, 99))]);
    assert_eq!(pushes(&phone, 1).await, [(MESSAGES, 2, 2)]);
    assert!(got_nothing(&group, 1, &tablet).await);
    group.fanout.enter_group((GROUP, &group.name), &tablet, (STAY, Knows::Read(3)));
    group.publisher.push(vec![after(3, group.message(3, 99))]);
    assert_eq!(pushes(&tablet, 1).await, [(MESSAGES, 3, 3)]);
}

#[tokio::test]
async fn a_server_that_is_alone_pushes_everything() {
    let group = Group::new();
    let ann = group.session(1, 10, STAY);
    group.fanout.enter_group((GROUP, &group.name), &ann, (STAY, Knows::Read(0)));
    group.publisher.push(vec![after(3, group.message(1, 99)), after(3, group.change(4))]);
    assert_eq!(pushes(&ann, 2).await, [(MESSAGES, 1, 1), (LogKind::Changes, 4, 4)]);
    assert!(group.fanout.unheard.take().now_or_never().is_none());
}

/// Two devices of a user enter a room through two nodes. The other node, which came later, ended the stay of the first one; this node
/// hears of that before it tells what it has committed itself.
#[tokio::test]
async fn a_device_whose_stay_in_a_room_has_ended_before_it_was_told_to_begin_looks() {
    let group = shared();
    let ann = connection_of(UserKey(1), 10);
    group.fanout.register(UserKey(1), Arc::clone(&ann));
    let (room, name) = (ConversationKey(9), Arc::<str>::from("stage"));
    let stay = |stay| Effect::RoomStay {
        user: UserKey(1),
        device: [1; 16],
        conversation: room,
        name: Arc::clone(&name),
        stay,
    };
    let [begun, ended] = [None, Some((0, STAY.from_rev + 1))].map(|to| stay(GroupStay { to, ..STAY }));
    let entrance = RoomEffect {
        conversation: room,
        name: Arc::clone(&name),
        number: 12,
        rev: STAY.from_rev,
        to: RoomReceivers::Device(UserKey(1), [1; 16]),
        detail: room_push::Detail::Entrance(RoomEntrance::default()),
    };
    group.fanout.hear(vec![ended]);
    group.publisher.push(vec![begun, Effect::Room(Arc::new(entrance))]);
    // Before the entrance, the client would not ask: it has asked to enter.
    let got = frames(&ann, 2).await;
    let [Frame::Room(entered), Frame::Dirty(told)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(entered.rev, STAY.from_rev.unsigned_abs());
    assert_eq!(told.conversations.iter().map(|name| (name.r#type, &*name.id)).collect::<Vec<_>>(), [(1, "stage")]);
    assert!(ann.rooms().is_empty());
    // In order, nothing is left to ask.
    let later = GroupStay { from_rev: STAY.from_rev + 5, ..STAY };
    group.publisher.push(vec![stay(later)]);
    assert_eq!(ann.rooms().len(), 1);
    group.fanout.hear(vec![stay(GroupStay { to: Some((0, STAY.from_rev + 6)), ..later })]);
    assert!(ann.rooms().is_empty());
    assert!(got_nothing(&group, 1, &ann).await);
}

/// What another node did in a room is told here before the entrance of a device, which came first.
#[tokio::test]
async fn a_device_that_is_told_of_its_entrance_after_a_later_change_of_the_room_looks() {
    let group = shared();
    let ann = group.session(1, 10, STAY);
    let (room, name) = (ConversationKey(9), Arc::<str>::from("stage"));
    let effect = |rev, to, detail| {
        Effect::Room(Arc::new(RoomEffect { conversation: room, name: Arc::clone(&name), number: 12, rev, to, detail }))
    };
    let entrance = |rev| {
        let to = RoomReceivers::Device(UserKey(1), ann.device);
        effect(rev, to, room_push::Detail::Entrance(RoomEntrance::default()))
    };
    let change = |rev| {
        let detail = room_push::Detail::Attributes(RoomAttributesChange::default());
        effect(rev, RoomReceivers::All(LoginKey(0)), detail)
    };
    let stay = Effect::RoomStay {
        user: UserKey(1),
        device: ann.device,
        conversation: room,
        name: Arc::clone(&name),
        stay: GroupStay { from_rev: 20, ..STAY },
    };
    group.fanout.hear(vec![change(21)]);
    group.publisher.push(vec![stay, entrance(20)]);
    let got = frames(&ann, 2).await;
    let [Frame::Room(entered), Frame::Dirty(told)] = &got[..] else { panic!("{got:?}") };
    assert_eq!(entered.rev, 20);
    assert_eq!(told.conversations.iter().map(|name| (name.r#type, &*name.id)).collect::<Vec<_>>(), [(1, "stage")]);
    // The answer has the change. What this node itself does afterwards comes in order, as does what it hears later.
    group.publisher.push(vec![entrance(21), change(22)]);
    group.fanout.hear(vec![change(23)]);
    let revs = frames(&ann, 3).await.into_iter().map(|frame| match frame {
        Frame::Room(push) => push.rev,
        other => panic!("{other:?}"),
    });
    assert_eq!(revs.collect::<Vec<_>>(), [21, 22, 23]);
    assert!(got_nothing(&group, 1, &ann).await);
}

/// Ann's devices take the place from each other twice. The end of the first stay is told in order, and does not let the second end be
/// forgotten, whose beginning is told late.
#[tokio::test]
async fn an_end_in_a_room_that_comes_before_its_beginning_is_kept_although_an_earlier_stay_is_forgotten() {
    let group = shared();
    let ann = group.session(1, 10, STAY);
    let (room, name) = (ConversationKey(9), Arc::<str>::from("stage"));
    let stay = |from_rev, to: Option<i64>| Effect::RoomStay {
        user: UserKey(1),
        device: ann.device,
        conversation: room,
        name: Arc::clone(&name),
        stay: GroupStay { from_seq: 0, entered_seq: 0, from_rev, to: to.map(|rev| (0, rev)), is_return: false },
    };
    let has_room = || group.fanout.groups.iter().any(|index| index.has(room));
    group.publisher.push(vec![stay(3, None)]);
    assert_eq!(ann.rooms().len(), 1);
    group.fanout.hear(vec![stay(3, Some(5)), stay(8, Some(9))]);
    // It comes after all that was handed over before.
    group.publisher.push(vec![group.message(1, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 1, 1)]);
    group.publisher.push(vec![stay(8, None)]);
    assert_eq!(dirty(&ann).await.conversations[0].id, "stage");
    assert!(ann.rooms().is_empty());
    group.publisher.push(vec![group.message(2, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 2, 2)]);
    assert!(!has_room(), "both of the second stay are told");
    // The answer to a device that looks has no beginning.
    group.publisher.push(vec![stay(10, Some(10))]);
    group.publisher.push(vec![group.message(3, 99)]);
    assert_eq!(pushes(&ann, 1).await, [(MESSAGES, 3, 3)]);
    assert!(!has_room());
}
