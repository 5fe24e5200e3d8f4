//! Tests of what a lane keeps, drops and names.

use futures_util::FutureExt;

use super::super::pushes_tests::message_to;
use super::super::tests::connection;
use super::*;
use crate::effect::Audience;

fn message(user: i64, seq: i64, bytes: usize) -> Work {
    let view = View { user: UserKey(user), kind: ConversationType::Peer, name: "bob".into() };
    let audience = Audience::Peers([(UserKey(user), "ann".into()), (UserKey(-1), "bob".into())]);
    let message = MessageEffect { conversation: ConversationKey(user), ..message_to(audience, seq, bytes) };
    Work::Message { view, message: Arc::new(message) }
}

fn step(lane: &Lane) -> Option<(Vec<i64>, Marks)> {
    let step = lane.next().now_or_never()??;
    let seq = |work: &Work| if let Work::Message { message, .. } = work { message.seq } else { 0 };
    Some((step.work.iter().map(seq).collect(), step.marks))
}

fn marks(users: &[i64]) -> Marks {
    Marks::Of(users.iter().filter_map(|user| Mark::of(message(*user, 0, 0))).collect())
}

#[test]
fn a_lane_that_is_behind_drops_bodies_and_no_position() {
    let lane = Lane::default();
    let half = MAX_BYTES / 2 - WORK_BYTES;
    lane.add([message(1, 1, half), message(1, 2, half)]);
    assert_eq!(step(&lane), Some((vec![1, 2], marks(&[]))), "exactly the bound is not too much");
    assert_eq!(step(&lane), None);
    lane.add([message(1, 3, half), message(2, 1, half + 1)]);
    // These would fit, but they follow something that is missing.
    lane.add([message(2, 2, 0), message(1, 4, 0)]);
    assert_eq!(step(&lane), Some((vec![3], marks(&[1, 2]))));
    // The lane has caught up.
    lane.add([message(2, 3, 0)]);
    assert_eq!(step(&lane), Some((vec![3], marks(&[]))));
}

#[test]
fn who_has_left_a_room_is_forgotten_although_the_lane_is_behind() {
    let lane = Lane::default();
    let forget = || Work::Forget(ConversationKey(5), UserKey(7), 3);
    lane.add([forget()]);
    let in_time = lane.take().unwrap();
    assert!(matches!(in_time.work[..], [Work::Forget(..)]) && in_time.ended.is_empty());
    lane.add([message(1, 1, MAX_BYTES), forget()]);
    let late = lane.take().unwrap();
    assert_eq!((late.marks, late.ended), (marks(&[1]), vec![(ConversationKey(5), UserKey(7), 3)]));
    assert!(lane.take().unwrap().is_empty());
}

fn transient(user: i64, priority: MessagePriority, bytes: usize) -> Work {
    let view = View { user: UserKey(user), kind: ConversationType::Peer, name: "bob".into() };
    let message = MessageEntry { content: vec![0; bytes].into(), ..MessageEntry::default() };
    let to = Viewers::User(view);
    Work::Transient(Arc::new(TransientPush {
        to,
        message,
        after_seq: 0,
        after_rev: 0,
        priority,
        cause: LoginKey(99),
        room: 0,
        frame: OnceLock::new(),
    }))
}

/// The number of transients that are kept, and of those that are lost.
fn kept(lane: &Lane) -> (usize, u64) {
    let step = lane.next().now_or_never().flatten().unwrap();
    assert!(step.marks.is_empty());
    (step.work.len(), step.lost.values().map(|lost| lost.total).sum())
}

#[test]
fn low_transients_are_dropped_before_medium_before_high() {
    use MessagePriority::{High, Low, Medium, Unspecified};
    let quarter = MAX_TRANSIENT_BYTES / 4 - WORK_BYTES;
    for (priority, fits) in [(Unspecified, 2), (Low, 2), (Medium, 3), (High, 4)] {
        let lane = Lane::default();
        lane.add((0..5).map(|_| transient(1, priority, quarter)));
        assert_eq!(kept(&lane), (fits, 5 - fits as u64), "{priority:?}");
        // What was pushed makes room.
        lane.add([transient(1, priority, quarter)]);
        assert_eq!(kept(&lane), (1, 0));
    }
    let lane = Lane::default();
    lane.add([Low, High, Low, Medium, Low, Medium, High, High].map(|priority| transient(1, priority, quarter)));
    assert_eq!(kept(&lane), (4, 4), "low, high, medium, high");
}

#[test]
fn nobody_misses_that_somebody_is_writing() {
    let lane = Lane::default();
    let low = || transient(1, MessagePriority::Low, MAX_TRANSIENT_BYTES);
    let Work::Transient(mut typing) = low() else { panic!() };
    Arc::get_mut(&mut typing).unwrap().message.flags = MessageFlag::Typing as u32;
    lane.add([Work::Transient(typing)]);
    assert!(lane.take().unwrap().is_empty());
    lane.add([low()]);
    assert_eq!(kept(&lane), (0, 1));
}

#[test]
fn a_transient_is_for_all_but_its_sender() {
    let Work::Transient(mut push) = transient(1, MessagePriority::Low, 0) else { panic!() };
    let is_for = |push: &TransientPush| [99, 10].map(|login| push.is_for(&connection(login)));
    assert_eq!(is_for(&push), [false, true]);
    let message = &mut Arc::get_mut(&mut push).unwrap().message;
    (message.flags, message.sender) = (MessageFlag::SenderUnaware as u32, "bob".to_owned());
    assert_eq!(is_for(&push), [false, true]);
    Arc::get_mut(&mut push).unwrap().message.sender = "ann".to_owned();
    assert_eq!(is_for(&push), [false, false]);
}

#[test]
fn transients_and_logs_take_no_room_from_each_other() {
    let lane = Lane::default();
    lane.add((0..4).map(|_| transient(1, MessagePriority::High, MAX_TRANSIENT_BYTES / 4 - WORK_BYTES)));
    lane.add([message(1, 1, MAX_BYTES - WORK_BYTES), transient(1, MessagePriority::High, 0)]);
    assert_eq!(kept(&lane), (5, 1));
}

#[test]
fn a_transient_does_not_overtake_a_message_that_was_dropped() {
    let lane = Lane::default();
    lane.add([message(1, 1, MAX_BYTES), transient(1, MessagePriority::High, 0), transient(2, MessagePriority::Low, 0)]);
    let step = lane.next().now_or_never().flatten().unwrap();
    let Work::Transient(lost) = transient(1, MessagePriority::High, 0) else { panic!() };
    let mut one = Lost::default();
    one.add(&lost);
    let lost = HashMap::from([(lost.to.clone(), one)]);
    assert_eq!((step.work.len(), step.lost, step.marks), (1, lost, marks(&[1])));
}

#[test]
fn a_message_to_a_room_does_not_wait_for_what_was_dropped() {
    for room in [0, 12] {
        let lane = Lane::default();
        lane.add([message(1, 1, MAX_BYTES)]);
        let Work::Transient(mut push) = transient(1, MessagePriority::High, 0) else { panic!() };
        Arc::get_mut(&mut push).unwrap().room = room;
        lane.add([Work::Transient(push)]);
        let step = lane.take().unwrap();
        assert_eq!((step.work.len(), step.lost.len()), if room == 0 { (0, 1) } else { (1, 0) });
    }
}

#[test]
fn the_marks_come_after_all_work_that_was_handed_over_before() {
    let lane = Lane::default();
    let count = i64::try_from(STEP).unwrap() + 1;
    lane.add((1..=count).map(|seq| message(1, seq, 0)));
    lane.add([message(1, count + 1, MAX_BYTES)]);
    assert_eq!(step(&lane), Some(((1..count).collect(), marks(&[]))));
    assert_eq!(step(&lane), Some((vec![count], marks(&[1]))));
}

#[test]
fn too_many_marks_become_one_for_all() {
    let lane = Lane::default();
    let most = i64::try_from(MAX_MARKS).unwrap();
    let Work::Message { message, .. } = message(0, 1, MAX_BYTES) else { panic!() };
    let view = |user| View { user: UserKey(user), kind: ConversationType::Peer, name: "bob".into() };
    let work = |user| Work::Message { view: view(user), message: Arc::clone(&message) };
    let fill = |count| lane.add((0..count).map(work));
    fill(most);
    assert!(matches!(step(&lane), Some((_, Marks::Of(marks))) if marks.len() == MAX_MARKS));
    fill(most + 1);
    fill(1);
    assert_eq!(step(&lane), Some((vec![], Marks::All)));
    assert_eq!(step(&lane), None);
}

#[test]
fn a_closed_lane_still_hands_out_what_it_has() {
    let lane = Lane::default();
    lane.add([message(1, 1, 0)]);
    lane.close();
    assert_eq!(step(&lane), Some((vec![1], marks(&[]))));
    assert!(lane.next().now_or_never().unwrap().is_none());
}
