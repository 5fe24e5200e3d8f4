//! What each device raises, by what it knew.

use bytes::Bytes;
use zim_protocol::EventKind;

use super::CallUserState as State;
use super::*;
use crate::apply::{Job, Recent, Settle, apply};
use crate::events::Heard;
use crate::store::{memory, pending};

const HERE: [u8; 16] = [1; 16];
const THERE: [u8; 16] = [2; 16];
const NOW: i64 = 1_700_000_000_000;

fn viewer(user_id: &str) -> Viewer {
    let device = Bytes::copy_from_slice(&HERE);
    Viewer { device, heard: Heard::default(), ..Viewer::in_test(user_id, NOW) }
}

/// A call of Ann's in advanced mode. `device` is that of the viewer.
fn entry(device: &[u8], users: &[(&str, State)]) -> CallEntry {
    let user = |(user_id, state): &(&str, State)| CallUserInfo {
        user_id: (*user_id).to_owned(),
        state: *state as i32,
        extended_data: String::new(),
    };
    let info = CallInfo {
        call_id: "7".to_owned(),
        caller: "ann".to_owned(),
        inviter: "ann".to_owned(),
        create_time: NOW,
        state: CallState::Started as i32,
        mode: CallInvitationMode::Advanced as i32,
        extended_data: "video".to_owned(),
        call_user_list: users.iter().map(user).collect(),
        end_time: 0,
    };
    CallEntry {
        info: Some(info),
        timeout: 90,
        expires_at: NOW + 90_000,
        main_device: Bytes::copy_from_slice(device),
        ..CallEntry::default()
    }
}

fn ended(mut entry: CallEntry, by: &str) -> CallEntry {
    entry.operated_user_id = by.to_owned();
    entry.operated_extended_data = "bye".to_owned();
    let info = entry.info.as_mut().unwrap();
    (info.end_time, info.state) = (NOW + 5, CallState::Ended as i32);
    entry
}

fn general(mut entry: CallEntry) -> CallEntry {
    entry.info.as_mut().unwrap().mode = CallInvitationMode::General as i32;
    entry
}

fn told(before: Option<&CallEntry>, now: &CallEntry, user_id: &str) -> Vec<EventKind> {
    news(before, now, &viewer(user_id), Origin::Other).iter().map(Event::kind).collect()
}

/// The users that `callUserStateChanged` names.
fn changed(before: &CallEntry, now: &CallEntry, user_id: &str) -> Vec<String> {
    match news(Some(before), now, &viewer(user_id), Origin::Other).pop() {
        Some(Event::CallUserStateChanged(event)) => event.call_user_list.into_iter().map(|user| user.user_id).collect(),
        other => panic!("{other:?}"),
    }
}

const CHANGED: EventKind = EventKind::CallUserStateChanged;

#[test]
fn all_devices_of_the_caller_get_the_call_and_one_of_them_its_users() {
    let users = [("ann", State::Accepted), ("bob", State::Inviting)];
    assert_eq!(told(None, &entry(&HERE, &users), "ann"), [EventKind::CallInvitationCreated, CHANGED]);
    assert_eq!(told(None, &entry(&THERE, &users), "ann"), [EventKind::CallInvitationCreated]);
    // A device that logs in for the first time learns of nothing that has been.
    assert!(news(None, &entry(&HERE, &users), &viewer("ann"), Origin::First).is_empty());
}

#[test]
fn whoever_is_asked_gets_the_invitation_with_the_time_that_is_left() {
    let users = [("ann", State::Accepted), ("bob", State::NotYetReceived)];
    let mut call = entry(&[], &users);
    for (left_ms, expected) in [(90_000, 90), (30_500, 31), (1, 1), (-5_000, 1), (1_000_000, 90)] {
        call.expires_at = NOW + left_ms;
        for origin in [Origin::First, Origin::Other] {
            let events = news(None, &call, &viewer("bob"), origin);
            let [Event::CallInvitationReceived(event)] = &events[..] else { panic!("{events:?}") };
            assert_eq!((event.timeout, event.inviter.as_str(), event.call_user_list.len()), (expected, "ann", 2));
        }
    }
    // It was over before this device heard of it.
    assert!(told(None, &ended(call, "ann"), "bob").is_empty());
    let late = entry(&[], &[("ann", State::Accepted), ("bob", State::Timeout)]);
    assert!(told(None, &late, "bob").is_empty());
}

#[test]
fn the_same_entry_again_is_no_news() {
    let call = entry(&[], &[("ann", State::Accepted), ("bob", State::Received)]);
    assert!(told(Some(&call), &call, "bob").is_empty());
    assert!(told(Some(&call), &call, "ann").is_empty());
}

#[test]
fn while_it_rings_all_devices_are_told_and_then_only_the_main_one() {
    let rings = entry(&[], &[("ann", State::Accepted), ("bob", State::Received), ("eve", State::Inviting)]);
    let mut answered = rings.clone();
    answered.info.as_mut().unwrap().call_user_list[1].state = State::Accepted as i32;
    for main in [HERE, THERE] {
        answered.main_device = Bytes::copy_from_slice(&main);
        assert_eq!(changed(&rings, &answered, "bob"), ["bob"]);
        let mut later = answered.clone();
        later.info.as_mut().unwrap().call_user_list[2].state = State::Rejected as i32;
        assert_eq!(told(Some(&answered), &later, "bob").len(), usize::from(main == HERE));
        let over = ended(later.clone(), "ann");
        assert_eq!(told(Some(&later), &over, "bob").len(), usize::from(main == HERE));
    }
}

#[test]
fn another_main_device_takes_over() {
    let users = [("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Received)];
    let (there, here) = (entry(&THERE, &users), entry(&HERE, &users));
    assert!(told(Some(&there), &here, "bob").is_empty(), "the answer has the users");
    let mut next = here.clone();
    next.info.as_mut().unwrap().call_user_list[2].state = State::Timeout as i32;
    assert_eq!(changed(&here, &next, "bob"), ["eve"]);
    next.main_device = Bytes::copy_from_slice(&THERE);
    assert!(told(Some(&there), &next, "bob").is_empty());
}

#[test]
fn a_timeout_is_told_to_the_user_and_to_the_others_in_their_ways() {
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Received)]);
    let after = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Timeout)]);
    assert_eq!(told(Some(&before), &after, "bob"), [EventKind::CallInvitationTimeout]);
    assert_eq!(changed(&before, &after, "ann"), ["bob"]);
}

#[test]
fn a_cancelled_call_is_told_as_a_whole_to_the_invitees_and_as_their_own_to_the_caller() {
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Received), ("eve", State::Inviting)]);
    let users = [("ann", State::Cancelled), ("bob", State::BeCancelled), ("eve", State::BeCancelled)];
    let after = ended(entry(&HERE, &users), "ann");
    assert_eq!(told(Some(&before), &after, "bob"), [EventKind::CallInvitationCancelled, CHANGED]);
    assert_eq!(changed(&before, &after, "bob"), ["ann", "bob", "eve"]);
    assert_eq!(told(Some(&before), &after, "ann"), [CHANGED]);
    assert_eq!(changed(&before, &after, "ann"), ["ann"]);
    // What Bob did before that comes in the same entry.
    let users = [("ann", State::Cancelled), ("bob", State::Rejected), ("eve", State::BeCancelled)];
    assert_eq!(changed(&before, &ended(entry(&HERE, &users), "ann"), "ann"), ["ann", "bob"]);
    // Some of the invitations: the call goes on.
    let users = [("ann", State::Accepted), ("bob", State::BeCancelled), ("eve", State::Inviting)];
    let after = entry(&HERE, &users);
    assert_eq!(told(Some(&before), &after, "bob"), [EventKind::CallInvitationCancelled]);
    assert_eq!(
        (changed(&before, &after, "ann"), changed(&before, &after, "eve")),
        (vec!["bob".into()], vec!["bob".into()])
    );
}

#[test]
fn the_end_of_a_call_is_told_to_those_who_are_in_it_or_asked_into_it() {
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Received)]);
    let users = [("ann", State::Accepted), ("bob", State::Ended), ("eve", State::Received)];
    let after = ended(entry(&HERE, &users), "bob");
    for user in ["ann", "bob", "eve"] {
        assert_eq!(told(Some(&before), &after, user), [EventKind::CallInvitationEnded, CHANGED], "{user}");
        assert_eq!(changed(&before, &after, user), ["bob"]);
    }
    // The time of the call is up: nobody changes.
    let after = ended(before.clone(), "");
    assert_eq!(told(Some(&before), &after, "ann"), [EventKind::CallInvitationEnded]);
    // The last one leaves.
    let users = [("ann", State::Quit), ("bob", State::Quit), ("eve", State::Rejected)];
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Quit), ("eve", State::Rejected)]);
    assert_eq!(told(Some(&before), &ended(entry(&HERE, &users), ""), "ann"), [CHANGED]);
}

#[test]
fn a_call_in_general_mode_ends_without_an_event_of_its_own() {
    let before = general(entry(&HERE, &[("ann", State::Accepted), ("bob", State::Received)]));
    let after = ended(general(entry(&HERE, &[("ann", State::Accepted), ("bob", State::Accepted)])), "");
    assert_eq!(told(Some(&before), &after, "bob"), [CHANGED]);
    // The caller is told in the words of earlier versions as well, if somebody listens.
    assert_eq!(told(Some(&before), &after, "ann"), [EventKind::CallInvitationAccepted, CHANGED]);
    let users = [("ann", State::Accepted), ("bob", State::Rejected), ("eve", State::Timeout)];
    let after = general(entry(&HERE, &users));
    let kinds = [EventKind::CallInvitationRejected, EventKind::CallInviteesAnsweredTimeout, CHANGED];
    assert_eq!(told(Some(&before), &after, "ann"), kinds);
}

#[test]
fn who_has_left_gets_nothing_until_they_are_asked_again() {
    let gone = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Rejected), ("eve", State::Received)]);
    let later = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Rejected), ("eve", State::Accepted)]);
    assert!(told(Some(&gone), &later, "bob").is_empty());
    assert!(told(Some(&gone), &ended(later.clone(), "eve"), "bob").is_empty());
    let again = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Inviting), ("eve", State::Accepted)]);
    assert_eq!(told(Some(&later), &again, "bob"), [EventKind::CallInvitationReceived]);
    let joined = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Accepted)]);
    assert_eq!(told(Some(&later), &joined, "bob"), [CHANGED]);
}

#[test]
fn what_was_missed_comes_together() {
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Inviting), ("eve", State::Inviting)]);
    let users =
        [("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Rejected), ("dan", State::Received)];
    assert_eq!(changed(&before, &entry(&HERE, &users), "ann"), ["bob", "eve", "dan"]);
}

/// The user left the call on another device and was asked again, while this one was away.
#[test]
fn a_device_that_knew_its_user_in_the_call_rings_when_they_are_asked_again() {
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Accepted)]);
    let again = entry(&[], &[("ann", State::Accepted), ("bob", State::Inviting)]);
    assert_eq!(told(Some(&before), &again, "bob"), [EventKind::CallInvitationReceived]);
}

/// The first invitation ended and the user was asked again, while this device was away.
#[test]
fn a_device_that_rang_rings_again_for_another_invitation_and_for_no_other_change() {
    let rang = entry(&[], &[("ann", State::Accepted), ("bob", State::Received)]);
    for state in [State::Inviting, State::Received, State::NotYetReceived] {
        let mut again = entry(&[], &[("ann", State::Accepted), ("bob", state)]);
        again.expires_at += 20_000;
        assert_eq!(told(Some(&rang), &again, "bob"), [EventKind::CallInvitationReceived], "{state:?}");
    }
    // The same invitation, which the others were told not to be received.
    let late = entry(&[], &[("ann", State::Accepted), ("bob", State::NotYetReceived)]);
    assert_eq!(told(Some(&rang), &late, "bob"), [CHANGED]);
}

/// The user was asked again while this device was away, and then the call was ended: states of those who have not answered stay.
#[test]
fn a_device_does_not_ring_for_a_call_that_is_over_when_it_hears_of_the_invitation() {
    let again = [("ann", State::Ended), ("bob", State::Received)];
    let over = ended(entry(&[], &again), "ann");
    let left = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Quit)]);
    assert!(told(Some(&left), &over, "bob").is_empty());
    // As far as this device knows, the user is in the call.
    let before = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Accepted)]);
    assert_eq!(told(Some(&before), &over, "bob"), [EventKind::CallInvitationEnded, CHANGED]);
}

/// While Bob's device was away, Ann took the invitation back, and then Eve came into the call and ended it.
#[test]
fn who_was_cancelled_is_not_told_what_others_did_later() {
    let before = entry(&[], &[("ann", State::Accepted), ("bob", State::Inviting), ("eve", State::Inviting)]);
    let users = [("ann", State::Accepted), ("bob", State::BeCancelled), ("eve", State::Ended)];
    let now = ended(entry(&[], &users), "eve");
    let events = news(Some(&before), &now, &viewer("bob"), Origin::Other);
    let [Event::CallInvitationCancelled(event)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event.extended_data, "");
}

/// What others do right after a user has joined may be in the entry that tells of the joining, and the answer does not have it.
#[test]
fn the_device_that_has_joined_is_told_of_all_users() {
    let joined = [("ann", State::Accepted), ("bob", State::Rejected), ("eve", State::Accepted)];
    assert_eq!(told(None, &entry(&HERE, &joined), "eve"), [CHANGED]);
    let left = entry(&HERE, &[("ann", State::Accepted), ("bob", State::Received), ("eve", State::Quit)]);
    assert_eq!(changed(&left, &entry(&HERE, &joined), "eve"), ["ann", "bob", "eve"]);
    // Neither the other devices of the user, nor one that hears of it later, nor of a call that is over.
    assert!(told(None, &entry(&THERE, &joined), "eve").is_empty());
    assert!(told(Some(&left), &entry(&THERE, &joined), "eve").is_empty());
    assert!(told(None, &entry(&[], &joined), "eve").is_empty());
    assert!(news(None, &entry(&HERE, &joined), &viewer("eve"), Origin::First).is_empty());
    assert!(told(None, &ended(entry(&HERE, &joined), "ann"), "eve").is_empty());
}

/// The user left the call and returned to it, and the call ended before the answers came.
#[test]
fn the_end_is_told_with_the_answer_to_the_return_and_not_with_the_one_to_the_leaving() {
    let db = memory().unwrap();
    let of_bob = |state| entry(&HERE, &[("ann", State::Accepted), ("bob", state)]);
    let over = ended(entry(&HERE, &[("ann", State::Ended), ("bob", State::Ended)]), "ann");
    let left = || Box::new(of_bob(State::Quit));
    let jobs = [
        vec![Settle::Call(left())],
        vec![Settle::Call(Box::new(over))],
        vec![Settle::LateCall(left())],
        vec![Settle::LateCall(Box::new(of_bob(State::Accepted)))],
    ];
    let told = jobs.map(|settle| {
        let bob = Viewer { last_event: pending::last(&db).unwrap(), ..viewer("bob") };
        let applied = apply(&db, &bob, &mut Recent::default(), Job { settle, ..Job::default() }).unwrap();
        applied.events.iter().map(|(_, event)| event.kind()).collect::<Vec<EventKind>>()
    });
    let all = vec![CHANGED, EventKind::CallInvitationEnded, CHANGED];
    assert_eq!(told, [Vec::new(), Vec::new(), Vec::new(), all]);
    assert!(call::read(&db, "7").unwrap().is_none());
}

/// Nobody tells a user who has left a call that it ended.
#[test]
fn a_call_that_must_have_ended_is_forgotten_with_the_next_one() {
    const DAY_MS: i64 = 86_400_000;
    let db = memory().unwrap();
    let calls = [("old", NOW - 8 * DAY_MS - 1), ("late", NOW - 8 * DAY_MS), ("new", NOW)];
    for (call_id, create_time) in calls {
        let mut rings = entry(&[], &[("ann", State::Accepted), ("bob", State::Received)]);
        let info = rings.info.as_mut().unwrap();
        (info.call_id, info.create_time) = (call_id.to_owned(), create_time);
        let job = Job { settle: vec![Settle::Call(Box::new(rings))], ..Job::default() };
        let bob = Viewer { last_event: pending::last(&db).unwrap(), ..viewer("bob") };
        apply(&db, &bob, &mut Recent::default(), job).unwrap();
    }
    let is_known = |(call_id, _)| call::read(&db, call_id).unwrap().is_some();
    assert_eq!(calls.map(is_known), [false, true, true]);
}
