//! What happens to calls by themselves: invitations that are answered too late or not received, callers who are gone, and calls that
//! nobody ends.

use std::sync::mpsc;

use zim_integration_tests::{DataDir, Device, World, eventually, refusal, soon};
use zim_protocol::{
    CallInvitationMode as Mode, CallInviteConfig, CallState, CallUserState as State, Event, EventKind, UserOnlineStatus,
};

use crate::call::{
    NONE, accept, barrier, becomes, changed, invite, invite_more, join, list, received, reject, shown, told,
};

#[tokio::test]
async fn call_invite_times_out_on_time_for_each_batch_of_invitees() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let (eve, dan) = (world.user("eve").await, world.user("dan").await);
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    accept(&eve, &call_id).await.unwrap();
    world.clock.advance(30_000);
    invite_more(&eve, &call_id, &["dan"]).await.unwrap();
    for (user, device) in [("bob", &bob), ("dan", &dan)] {
        received(device).await;
        becomes(&ann, &call_id, user, State::Received).await;
        becomes(&bob, &call_id, user, State::Received).await;
    }
    world.clock.advance(59_999);
    barrier(&ann, &[("bob", &bob), ("dan", &dan)], "not yet").await;
    assert!(bob.seen_of(EventKind::CallInvitationTimeout).is_empty());
    assert_eq!(list(&ann).await[0].2[1], ("bob".to_owned(), State::Received));
    world.clock.advance(1);
    for device in [&bob, &phone] {
        match device.next(EventKind::CallInvitationTimeout).await {
            Event::CallInvitationTimeout(event) => {
                assert_eq!((event.call_id.as_str(), event.mode()), (&*call_id, Mode::Advanced));
            }
            other => panic!("{other:?}"),
        }
    }
    for device in [&ann, &eve, &dan] {
        becomes(device, &call_id, "bob", State::Timeout).await;
    }
    assert_eq!(refusal(accept(&bob, &call_id).await), NONE);
    assert_eq!(refusal(reject(&bob, &call_id).await), NONE);
    let before = told(&bob);
    world.clock.advance(29_999);
    barrier(&ann, &[("dan", &dan)], "nor now").await;
    assert!(dan.seen_of(EventKind::CallInvitationTimeout).is_empty());
    world.clock.advance(1);
    dan.next(EventKind::CallInvitationTimeout).await;
    for device in [&ann, &eve] {
        becomes(device, &call_id, "dan", State::Timeout).await;
    }
    barrier(&ann, &[("bob", &bob), ("dan", &dan)], "done").await;
    assert_eq!((told(&bob), bob.seen_of(EventKind::CallInvitationTimeout).len()), (before, 1));
    // Those who are in the call are told in their own way.
    for device in [&ann, &eve] {
        assert!(device.seen_of(EventKind::CallInvitationTimeout).is_empty());
    }
    assert_eq!(list(&dan).await[0].1, CallState::Started);
    world.end().await;
}

#[tokio::test]
async fn call_invite_in_general_mode_is_over_when_all_have_had_their_time() {
    let world = World::new().await;
    let (ann, bob, _eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let config = CallInviteConfig { timeout: Some(1), ..CallInviteConfig::default() };
    let call_id = soon(ann.call_invite(["bob", "eve"], config)).await.unwrap().call_id;
    becomes(&ann, &call_id, "bob", State::Received).await;
    accept(&bob, &call_id).await.unwrap();
    world.clock.advance(1_000);
    becomes(&ann, &call_id, "eve", State::Timeout).await;
    becomes(&bob, &call_id, "eve", State::Timeout).await;
    let users = shown(&[("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Timeout)]);
    assert_eq!(list(&ann).await, [(call_id, CallState::Ended, users)]);
    world.end().await;
}

#[tokio::test]
async fn call_invite_tells_who_has_not_received_it_in_time_if_the_caller_asks() {
    for is_asked in [true, false] {
        let world = World::new().await;
        let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
        let folder = bob.dir();
        bob.quit().await;
        let config = CallInviteConfig {
            enable_not_received_check: is_asked,
            mode: Mode::Advanced as i32,
            ..CallInviteConfig::default()
        };
        let call_id = soon(ann.call_invite(["bob", "eve"], config)).await.unwrap().call_id;
        becomes(&ann, &call_id, "eve", State::Received).await;
        world.clock.advance(4_999);
        barrier(&ann, &[("eve", &eve)], "not yet").await;
        assert_eq!(list(&ann).await[0].2[1].1, State::Inviting);
        world.clock.advance(1);
        if is_asked {
            for device in [&ann, &eve] {
                becomes(device, &call_id, "bob", State::NotYetReceived).await;
            }
        }
        world.clock.advance(25_000);
        let bob = world.user_at(folder, "bob").await;
        // With what is left of the time.
        let event = received(&bob).await;
        assert_eq!((event.call_id.as_str(), event.timeout), (&*call_id, 60));
        let before = if is_asked { State::NotYetReceived } else { State::Inviting };
        assert_eq!(event.call_user_list[1].state(), before);
        for device in [&ann, &eve, &bob] {
            becomes(device, &call_id, "bob", State::Received).await;
        }
        accept(&bob, &call_id).await.unwrap();
        world.end().await;
    }
}

#[tokio::test]
async fn call_invite_is_cancelled_when_its_caller_is_gone_before_anybody_accepts() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let tablet = world.device("ann").await;
    let folder = ann.dir();
    let call_id = invite(&ann, Mode::General, &["bob", "eve"]).await;
    let accepted = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    for call_id in [&call_id, &accepted] {
        becomes(&eve, call_id, "eve", State::Received).await;
    }
    accept(&bob, &accepted).await.unwrap();
    // Another device is still there.
    ann.quit().await;
    world.clock.advance(30_000);
    barrier(&eve, &[("bob", &bob)], "not yet").await;
    assert_eq!(list(&bob).await.iter().filter(|call| call.1 == CallState::Started).count(), 2);
    // Who loses the last connection may come back.
    tablet.quit().await;
    let ann = world.user_at(folder, "ann").await;
    world.clock.advance(5_000);
    barrier(&eve, &[("bob", &bob)], "nor now").await;
    assert!(bob.seen_of(EventKind::CallInvitationCancelled).is_empty());
    soon(ann.logout()).await;
    for device in [&bob, &eve] {
        match device.next(EventKind::CallInvitationCancelled).await {
            Event::CallInvitationCancelled(event) => assert_eq!((&event.call_id, &*event.inviter), (&call_id, "ann")),
            other => panic!("{other:?}"),
        }
        becomes(device, &call_id, "ann", State::Cancelled).await;
    }
    let states = list(&bob).await.into_iter().map(|call| (call.0, call.1)).collect::<Vec<_>>();
    assert!(states.contains(&(call_id, CallState::Ended)) && states.contains(&(accepted, CallState::Started)));
    world.end().await;
}

/// Ann has called Bob, and has lost the connection.
struct Lost {
    world: World,
    bob: Device,
    folder: DataDir,
    call_id: String,
}

impl Lost {
    async fn after_a_call() -> Self {
        let world = World::new().await;
        let (ann, bob) = (world.user("ann").await, world.user("bob").await);
        // Soon after the start of the server, a caller has more time.
        world.clock.advance(60_000);
        let folder = ann.dir();
        let call_id = invite(&ann, Mode::General, &["bob"]).await;
        becomes(&bob, &call_id, "bob", State::Received).await;
        ann.quit().await;
        is_offline(&bob).await;
        Self { world, bob, folder, call_id }
    }
}

/// Waits until Ann is offline for a user.
async fn is_offline(user: &Device) {
    eventually("the loss", async || {
        let found = soon(user.query_users_status(["ann"])).await.unwrap();
        (found.user_status_list[0].online_status() == UserOnlineStatus::Offline).then_some(())
    })
    .await;
}

#[tokio::test]
async fn call_invite_waits_for_a_caller_from_their_last_loss_on() {
    let Lost { world, bob, folder, call_id } = Lost::after_a_call().await;
    world.clock.advance(3_000);
    let ann = world.user_at(folder, "ann").await;
    world.clock.advance(100);
    ann.quit().await;
    is_offline(&bob).await;
    // The time of the first loss is over, and then that of the second, except for a millisecond.
    for ms in [1_900, 3_099] {
        world.clock.advance(ms);
        let eve = world.user("eve").await;
        barrier(&eve, &[("bob", &bob)], &format!("after {ms}")).await;
        assert!(bob.seen_of(EventKind::CallInvitationCancelled).is_empty(), "{ms}");
        eve.quit().await;
    }
    world.clock.advance(1);
    match bob.next(EventKind::CallInvitationCancelled).await {
        Event::CallInvitationCancelled(event) => assert_eq!((&event.call_id, &*event.inviter), (&call_id, "ann")),
        other => panic!("{other:?}"),
    }
    assert_eq!(list(&bob).await[0].1, CallState::Ended);
    world.end().await;
}

/// The time of the loss is not over when the caller, who has come back, logs out.
#[tokio::test]
async fn a_call_is_cancelled_at_once_when_its_caller_logs_out_soon_after_a_loss() {
    let Lost { world, bob, folder, call_id } = Lost::after_a_call().await;
    let ann = world.user_at(folder, "ann").await;
    soon(ann.logout()).await;
    match bob.next(EventKind::CallInvitationCancelled).await {
        Event::CallInvitationCancelled(event) => assert_eq!((&event.call_id, &*event.inviter), (&call_id, "ann")),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

#[tokio::test]
async fn query_call_invitation_list_forgets_calls_that_ended_long_ago() {
    let world = World::with(|config| config.limits.ended_calls_kept_days = 3).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let old = invite(&ann, Mode::Advanced, &["bob"]).await;
    accept(&bob, &old).await.unwrap();
    becomes(&ann, &old, "bob", State::Accepted).await;
    soon(ann.call_end(&old, Default::default())).await.unwrap();
    bob.next(EventKind::CallInvitationEnded).await;
    let day = 86_400_000;
    world.clock.advance(day);
    // The logins have expired by now.
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let new = invite(&ann, Mode::Advanced, &["bob"]).await;
    accept(&bob, &new).await.unwrap();
    becomes(&ann, &new, "bob", State::Accepted).await;
    soon(ann.call_end(&new, Default::default())).await.unwrap();
    let ids = async |device| list(device).await.into_iter().map(|call| call.0).collect::<Vec<_>>();
    world.clock.advance(2 * day - 1_000);
    let ann = world.user("ann").await;
    assert_eq!(ids(&ann).await, [new.clone(), old]);
    world.clock.advance(1_000);
    world.advance_until("the old call is removed", async || (ids(&ann).await == [new.clone()]).then_some(())).await;
    // What the feed says about it tells nothing.
    let tablet = world.device("bob").await;
    assert_eq!((ids(&tablet).await, told(&tablet)), (vec![new], 0));
    ann.say("bob", "hi").await;
    tablet.receives("hi").await;
    world.end().await;
}

#[tokio::test]
async fn call_invite_in_advanced_mode_ends_after_a_day_if_nobody_ends_it() {
    let world = World::with(|config| config.limits.max_call_s = 600).await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let call_id = invite(&ann, Mode::Advanced, &["bob"]).await;
    accept(&bob, &call_id).await.unwrap();
    becomes(&ann, &call_id, "bob", State::Accepted).await;
    world.clock.advance(599_999);
    join(&eve, &call_id).await.unwrap();
    world.clock.advance(1);
    for device in [&ann, &bob, &eve] {
        match device.next(EventKind::CallInvitationEnded).await {
            Event::CallInvitationEnded(event) => assert_eq!((&event.call_id, &*event.operated_user_id), (&call_id, "")),
            other => panic!("{other:?}"),
        }
    }
    let users = shown(&[("ann", State::Accepted), ("bob", State::Accepted), ("eve", State::Accepted)]);
    assert_eq!(list(&ann).await, [(call_id, CallState::Ended, users)]);
    world.end().await;
}

#[tokio::test]
async fn call_invite_times_out_once_although_the_server_was_down_meanwhile() {
    let mut world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let call_id = invite(&ann, Mode::Advanced, &["bob", "eve"]).await;
    accept(&eve, &call_id).await.unwrap();
    for device in [&ann, &bob] {
        becomes(device, &call_id, "bob", State::Received).await;
        becomes(device, &call_id, "eve", State::Accepted).await;
    }
    world.stop_server().await;
    world.clock.advance(90_000);
    world.start_server().await;
    let is_late = async || {
        let seen = bob.seen_of(EventKind::CallInvitationTimeout).len();
        (seen > 0).then_some(seen)
    };
    assert_eq!(world.advance_until("the timeout", is_late).await, 1);
    let is_back = async || soon(ann.query_group_list()).await.ok();
    world.advance_until("the connection", is_back).await;
    for device in [&ann, &eve] {
        becomes(device, &call_id, "bob", State::Timeout).await;
    }
    let users = shown(&[("ann", State::Accepted), ("bob", State::Timeout), ("eve", State::Accepted)]);
    assert_eq!(list(&ann).await, [(call_id, CallState::Started, users)]);
    assert_eq!(bob.seen_of(EventKind::CallInvitationTimeout).len(), 1);
    world.end().await;
}

/// The events of earlier versions come to handlers alone, for the caller of a call in general mode.
#[tokio::test]
async fn call_invite_tells_handlers_in_the_words_of_earlier_versions() {
    let world = World::new().await;
    let (ann, bob, eve, _dan) =
        (world.user("ann").await, world.user("bob").await, world.user("eve").await, world.user("dan").await);
    let (heard, events) = mpsc::channel();
    for kind in
        [EventKind::CallInvitationAccepted, EventKind::CallInvitationRejected, EventKind::CallInviteesAnsweredTimeout]
    {
        let heard = heard.clone();
        ann.on(kind, move |_, event| drop(heard.send(event.clone())));
    }
    let next = async || eventually("an event", async || events.try_recv().ok()).await;
    let call_id = invite(&ann, Mode::General, &["bob", "eve", "dan"]).await;
    accept(&bob, &call_id).await.unwrap();
    match next().await {
        Event::CallInvitationAccepted(event) => {
            assert_eq!((&event.call_id, &*event.invitee, &*event.extended_data), (&call_id, "bob", "yes"));
        }
        other => panic!("{other:?}"),
    }
    reject(&eve, &call_id).await.unwrap();
    match next().await {
        Event::CallInvitationRejected(event) => {
            assert_eq!((&event.call_id, &*event.invitee, &*event.extended_data), (&call_id, "eve", "no"));
        }
        other => panic!("{other:?}"),
    }
    world.clock.advance(90_000);
    match next().await {
        Event::CallInviteesAnsweredTimeout(event) => {
            assert_eq!((event.call_id, event.invitees), (call_id, vec!["dan".into()]));
        }
        other => panic!("{other:?}"),
    }
    let advanced = invite(&ann, Mode::Advanced, &["bob"]).await;
    accept(&bob, &advanced).await.unwrap();
    becomes(&ann, &advanced, "bob", State::Accepted).await;
    barrier(&bob, &[("ann", &ann)], "now").await;
    assert!(events.try_recv().is_err(), "in advanced mode there are no such events");
    let is_old =
        |event: &Event| event.kind().name().contains("Answered") || event.kind() == EventKind::CallInvitationAccepted;
    assert!(!ann.seen().iter().any(is_old), "streams do not carry them");
    drop(changed(&ann).await);
    world.end().await;
}
