//! Calls of users who are away, come back, and have several devices.

use prost::Message as _;
use zim_client_sdk::Config as ClientConfig;
use zim_integration_tests::{DataDir, Device, RawClient, World, eventually, refusal, soon};
use zim_protocol::{
    Ack, CallAcceptConfig, CallEndConfig, CallInvitationMode, CallInvitationQueryConfig, CallInviteConfig,
    CallRejectConfig, CallUserState as State, ConnectionState, ErrorCode, Event, EventKind, Stored, SyncRequest,
    client_frame, event_frame, feed_entry::Detail,
};

const CHANGED: EventKind = EventKind::CallUserStateChanged;

/// Begins a call in advanced mode.
async fn ring(device: &Device, invitees: &[&str]) -> String {
    let mode = CallInvitationMode::Advanced as i32;
    let config = CallInviteConfig { mode, ..CallInviteConfig::default() };
    soon(device.call_invite(invitees.iter().copied(), config)).await.unwrap().call_id
}

async fn accept(device: &Device, call_id: &str) {
    soon(device.call_accept(call_id, CallAcceptConfig::default())).await.unwrap();
}

async fn reject(device: &Device, call_id: &str) {
    soon(device.call_reject(call_id, CallRejectConfig::default())).await.unwrap();
}

/// The users and states of an event.
fn users(event: &Event) -> Vec<(String, State)> {
    match event {
        Event::CallUserStateChanged(event) => {
            event.call_user_list.iter().map(|user| (user.user_id.clone(), user.state())).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Waits until a device was told of this state of a user.
async fn becomes(device: &Device, user: &str, state: State) {
    let is = |event: &&Event| event.kind() == CHANGED && users(event).contains(&(user.to_owned(), state));
    device.until(&format!("{user} is {state:?}"), |seen| seen.iter().find(is).map(drop)).await;
}

/// How many events of calls a device has had since its last login.
fn told(device: &Device) -> usize {
    device.seen().iter().filter(|event| event.kind().name().starts_with("call")).count()
}

#[tokio::test]
async fn who_was_away_gets_what_is_left_of_what_they_missed_and_stays_the_main_device() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (eve, dan) = (world.user("eve").await, world.user("dan").await);
    let call_id = ring(&ann, &["bob", "eve", "dan"]).await;
    accept(&bob, &call_id).await;
    for user in ["eve", "dan"] {
        becomes(&ann, user, State::Received).await;
    }
    becomes(&ann, "bob", State::Accepted).await;
    let folder = ann.dir();
    ann.quit().await;
    world.clock.advance(1_000);
    reject(&dan, &call_id).await;
    soon(bob.calling_invite(["dan"], &call_id, Default::default())).await.unwrap();
    accept(&eve, &call_id).await;
    becomes(&bob, "eve", State::Accepted).await;
    let ann = world.user_at(folder, "ann").await;
    // Dan rejected and was asked again: what is left is that it rings.
    let event = ann.next(CHANGED).await;
    assert!(users(&event).contains(&("eve".to_owned(), State::Accepted)), "{event:?}");
    assert!(users(&event).iter().all(|(user, state)| user != "dan" || *state != State::Rejected), "{event:?}");
    accept(&dan, &call_id).await;
    becomes(&ann, "dan", State::Accepted).await;
    assert!(ann.seen_of(EventKind::CallInvitationCreated).is_empty(), "the call is not new");
    world.end().await;
}

#[tokio::test]
async fn a_call_that_ended_while_a_device_was_away_is_told_by_its_end() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let dan = world.user("dan").await;
    let never = dan.dir();
    dan.quit().await;
    let call_id = ring(&ann, &["bob", "eve", "dan"]).await;
    accept(&bob, &call_id).await;
    for device in [&bob, &eve] {
        becomes(device, "eve", State::Received).await;
        becomes(device, "bob", State::Accepted).await;
    }
    let (in_it, rung) = (bob.dir(), eve.dir());
    bob.quit().await;
    eve.quit().await;
    let config = CallEndConfig { extended_data: "bye".to_owned(), ..CallEndConfig::default() };
    soon(ann.call_end(&call_id, config)).await.unwrap();
    for (user, folder) in [("bob", in_it), ("eve", rung)] {
        let device = world.user_at(folder, user).await;
        match device.next(EventKind::CallInvitationEnded).await {
            Event::CallInvitationEnded(event) => {
                assert_eq!((event.operated_user_id.as_str(), event.extended_data.as_str()), ("ann", "bye"));
            }
            other => panic!("{other:?}"),
        }
        becomes(&device, "ann", State::Ended).await;
        assert_eq!(told(&device), 2, "{user}");
    }
    // This device never heard of it: the list has it, and a device that is new to the user finds it there as well.
    for device in [world.user_at(never, "dan").await, world.device("eve").await] {
        let config = CallInvitationQueryConfig { count: 10, next_flag: 0 };
        assert_eq!(soon(device.query_call_invitation_list(config)).await.unwrap().call_list[0].call_id, call_id);
        assert_eq!(told(&device), 0);
    }
    world.end().await;
}

/// The entry of the feed about the call may have to wait for others that come at the same time.
#[tokio::test]
async fn a_device_whose_link_is_cut_right_after_it_has_joined_hears_the_end() {
    let world = World::with(|config| config.limits.offline_after_ms = 2_000).await;
    let proxy = world.proxy(1).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let impatient = |config: ClientConfig| config.request_timeout_ms(3_000).connect_timeout_ms(2_000);
    let eve = world.login(world.client_via(&proxy, DataDir::default(), impatient), "eve").await;
    let phone = world.device("eve").await;
    let call_id = ring(&ann, &["bob"]).await;
    accept(&bob, &call_id).await;
    let (joins, blocks) = (eve.call_join(&call_id, Default::default()), phone.add_users_to_blacklist(["bob"]));
    let (joined, blocked) = soon(async { tokio::join!(joins, blocks) }).await;
    proxy.cut();
    assert_eq!(joined.unwrap().call_user_list.len(), 3);
    blocked.unwrap();
    let is_lost = async || (eve.connection_state() == ConnectionState::Reconnecting).then_some(());
    eventually("the link is lost", is_lost).await;
    soon(ann.call_end(&call_id, CallEndConfig::default())).await.unwrap();
    proxy.restore();
    eve.next(EventKind::CallInvitationEnded).await;
    becomes(&eve, "ann", State::Ended).await;
    world.end().await;
}

#[tokio::test]
async fn an_invitation_that_ended_while_a_device_was_away() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let never = eve.dir();
    eve.quit().await;
    let call_id = ring(&ann, &["bob", "eve"]).await;
    becomes(&bob, "bob", State::Received).await;
    let rung = bob.dir();
    bob.quit().await;
    world.clock.advance(90_000);
    becomes(&ann, "eve", State::Timeout).await;
    let bob = world.user_at(rung, "bob").await;
    bob.next(EventKind::CallInvitationTimeout).await;
    let eve = world.user_at(never, "eve").await;
    ann.say("eve", "sorry").await;
    eve.receives("sorry").await;
    assert_eq!((told(&bob), told(&eve)), (1, 0), "{call_id}");
    world.end().await;
}

/// The first invitation ended while the device was away, and the user was asked again.
#[tokio::test]
async fn a_device_that_rang_and_was_away_rings_for_the_next_invitation() {
    let world = World::new().await;
    let (ann, bob, eve) = (world.user("ann").await, world.user("bob").await, world.user("eve").await);
    let call_id = ring(&ann, &["bob", "eve"]).await;
    accept(&eve, &call_id).await;
    becomes(&ann, "bob", State::Received).await;
    bob.next(EventKind::CallInvitationReceived).await;
    let rang = bob.dir();
    bob.quit().await;
    world.clock.advance(90_000);
    becomes(&ann, "bob", State::Timeout).await;
    soon(ann.calling_invite(["bob"], &call_id, Default::default())).await.unwrap();
    world.clock.advance(30_000);
    let bob = world.user_at(rang, "bob").await;
    match bob.next(EventKind::CallInvitationReceived).await {
        Event::CallInvitationReceived(event) => assert_eq!((event.call_id, event.timeout), (call_id.clone(), 60)),
        other => panic!("{other:?}"),
    }
    assert!(bob.seen_of(EventKind::CallInvitationTimeout).is_empty(), "of the invitation that is over");
    accept(&bob, &call_id).await;
    becomes(&ann, "bob", State::Accepted).await;
    world.end().await;
}

#[tokio::test]
async fn a_device_that_logs_in_for_the_first_time_rings() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let call_id = ring(&ann, &["bob"]).await;
    becomes(&ann, "bob", State::Received).await;
    world.clock.advance(40_000);
    let phone = world.device("bob").await;
    match phone.next(EventKind::CallInvitationReceived).await {
        Event::CallInvitationReceived(event) => assert_eq!((event.call_id, event.timeout), (call_id.clone(), 50)),
        other => panic!("{other:?}"),
    }
    // The caller's does not: it is in the call on another device.
    let tablet = world.device("ann").await;
    accept(&phone, &call_id).await;
    for device in [&ann, &bob, &phone] {
        becomes(device, "bob", State::Accepted).await;
    }
    bob.say("ann", "hi").await;
    tablet.receives("hi").await;
    assert_eq!(told(&tablet), 0);
    world.end().await;
}

/// The position of the entry about a call in the next push of the feed.
async fn pushed(raw: &mut RawClient) -> u64 {
    loop {
        if let event_frame::Frame::Push(push) = raw.event().await.unwrap()
            && push.feed.iter().any(|entry| matches!(entry.detail, Some(Detail::Call(_))))
        {
            return push.to;
        }
    }
}

async fn acknowledge(raw: &mut RawClient, feed: u64) {
    let stored = Stored { positions: Vec::new(), feed }.encode_to_vec().into();
    raw.write([client_frame::Frame::Ack(Ack { count: 0, stored })]).await;
}

#[tokio::test]
async fn an_invitation_is_received_when_a_device_says_that_it_has_stored_it() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut bob = world.raw_user("bob", 2).await;
    bob.call(&SyncRequest::default()).await.unwrap();
    let call_id = ring(&ann, &["bob"]).await;
    let pos = pushed(&mut bob).await;
    // What was before it says nothing, nor does an acknowledgement of events alone.
    for feed in [0, pos - 1] {
        acknowledge(&mut bob, feed).await;
    }
    bob.call(&SyncRequest::default()).await.unwrap();
    let config = CallInvitationQueryConfig { count: 1, next_flag: 0 };
    let found = soon(ann.query_call_invitation_list(config)).await.unwrap();
    assert_eq!(found.call_list[0].call_user_list[1].state(), State::Inviting);
    acknowledge(&mut bob, pos).await;
    becomes(&ann, "bob", State::Received).await;
    assert_eq!(pushed(&mut bob).await, pos + 1);
    // Once is enough.
    let before = told(&ann);
    acknowledge(&mut bob, pos + 1).await;
    accept_raw(&mut bob, &call_id).await;
    becomes(&ann, "bob", State::Accepted).await;
    assert_eq!(told(&ann), before + 1);
    bob.end().await;
    // By a sync as well as by a push.
    let mut eve = world.raw_user("eve", 3).await;
    eve.end().await;
    soon(ann.calling_invite(["eve"], &call_id, Default::default())).await.unwrap();
    eve = world.raw_user("eve", 3).await;
    let synced = eve.call(&SyncRequest::default()).await.unwrap();
    acknowledge(&mut eve, synced.pos).await;
    becomes(&ann, "eve", State::Received).await;
    eve.end().await;
    world.end().await;
}

async fn accept_raw(raw: &mut RawClient, call_id: &str) {
    let request = zim_protocol::CallAcceptRequest { call_id: call_id.to_owned(), config: None };
    raw.call(&request).await.unwrap();
}

/// Ten users act at once. Everybody who is in the call, and the list, end with the same states.
#[tokio::test]
async fn all_who_are_in_a_call_see_the_same_users_whatever_happens_at_once() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let names = ["bob", "cai", "dan", "eve", "fay"];
    let mut devices = Vec::new();
    for name in names {
        devices.push(world.user(name).await);
    }
    for round in 0..3 {
        // The list is ordered by time.
        world.clock.advance(1);
        let call_id = ring(&ann, &names).await;
        let (bob, cai, dan, eve, fay) = (&devices[0], &devices[1], &devices[2], &devices[3], &devices[4]);
        let reject_config = CallRejectConfig::default();
        let acts = (
            bob.call_accept(&call_id, CallAcceptConfig::default()),
            cai.call_accept(&call_id, CallAcceptConfig::default()),
            dan.call_reject(&call_id, reject_config),
            eve.call_accept(&call_id, CallAcceptConfig::default()),
            ann.call_cancel(["fay"], &call_id, Default::default()),
        );
        let (one, two, three, four, five) = soon(async { tokio::join!(acts.0, acts.1, acts.2, acts.3, acts.4) }).await;
        for done in [one.map(drop), two.map(drop), three.map(drop), four.map(drop)] {
            done.unwrap();
        }
        let is_cancelled = five.is_ok();
        if !is_cancelled {
            assert_eq!(refusal(five), ErrorCode::CallModuleCancelError);
            reject(fay, &call_id).await;
        }
        soon(cai.call_quit(&call_id, Default::default())).await.unwrap();
        let config = CallInvitationQueryConfig { count: 1, next_flag: 0 };
        let list = soon(ann.query_call_invitation_list(config)).await.unwrap().call_list.pop().unwrap();
        let expected: Vec<_> = list.call_user_list.iter().map(|user| (user.user_id.clone(), user.state())).collect();
        for device in [&ann, bob, eve] {
            let same = eventually("the states of all", async || {
                let (mut known, seen) = (expected.clone(), device.seen());
                known.iter_mut().for_each(|(_, state)| *state = State::Unknown);
                for event in &seen {
                    let of_call = match event {
                        Event::CallInvitationReceived(event) => {
                            (event.call_id == call_id).then_some(&event.call_user_list)
                        }
                        Event::CallUserStateChanged(event) => {
                            (event.call_id == call_id).then_some(&event.call_user_list)
                        }
                        _ => None,
                    };
                    for user in of_call.into_iter().flatten() {
                        known.iter_mut().filter(|known| known.0 == user.user_id).for_each(|one| one.1 = user.state());
                    }
                }
                (known == expected).then_some(())
            });
            same.await;
        }
        soon(ann.call_end(&call_id, CallEndConfig::default())).await.unwrap();
        assert_eq!(ann.seen_of(EventKind::CallInvitationEnded).len(), round + 1);
    }
    world.end().await;
}
