//! Devices in rooms whose connections come and go.

use std::collections::HashMap;

use zim_integration_tests::{DataDir, Device, Proxy, World, eventually, room, soon, texts};
use zim_protocol::{
    DisconnectUserRequest, ErrorCode, Event, EventKind, RoomAdvancedConfig, RoomAttributesSetConfig, RoomEvent,
    RoomInfo, RoomState,
};
use zim_server::config::Config;

/// Shortens the time after which the server counts a silent connection as lost.
fn short_timeout(config: &mut Config) {
    config.limits.offline_after_ms = 2_000;
}

async fn user_via(world: &World, proxy: &Proxy, user: &str) -> Device {
    let device = world
        .client_via(proxy, DataDir::default(), |config| config.request_timeout_ms(3_000).connect_timeout_ms(2_000));
    world.login(device, user).await
}

fn info(room_id: &str) -> RoomInfo {
    RoomInfo { room_id: room_id.into(), room_name: String::new() }
}

async fn enter(device: &Device, room_id: &str) {
    soon(device.enter_room(info(room_id), RoomAdvancedConfig::default())).await.unwrap();
}

fn states(device: &Device) -> Vec<(RoomState, RoomEvent)> {
    let of = |event: &Event| match event {
        Event::RoomStateChanged(event) => (event.state(), event.event()),
        other => panic!("{other:?}"),
    };
    device.seen_of(EventKind::RoomStateChanged).iter().map(of).collect()
}

async fn is_in_state(device: &Device, state: (RoomState, RoomEvent)) {
    eventually(&format!("{state:?}"), async || (states(device).last() == Some(&state)).then_some(())).await;
}

async fn set(device: &Device, pairs: &[(&str, &str)]) {
    let attributes: HashMap<_, _> = pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let config = RoomAttributesSetConfig { is_force: true, ..RoomAttributesSetConfig::default() };
    soon(device.set_room_attributes(attributes, "stage", config)).await.unwrap();
}

async fn online(device: &Device) -> i64 {
    soon(device.query_room_online_member_count("stage")).await.unwrap().count
}

const INTERRUPTED: (RoomState, RoomEvent) = (RoomState::Connecting, RoomEvent::NetworkInterrupted);
const CONNECTED: (RoomState, RoomEvent) = (RoomState::Connected, RoomEvent::Success);

#[tokio::test]
async fn a_device_that_returns_in_time_is_still_in_its_room() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(1).await;
    let (ann, bob) = (world.user("ann").await, user_via(&world, &proxy, "bob").await);
    enter(&ann, "stage").await;
    set(&ann, &[("a", "1"), ("b", "1")]).await;
    enter(&bob, "stage").await;
    assert_eq!(online(&ann).await, 2);
    proxy.cut();
    is_in_state(&bob, INTERRUPTED).await;
    eventually("the server has noticed", async || (online(&ann).await == 1).then_some(())).await;
    set(&ann, &[("a", "2"), ("c", "1")]).await;
    let removed = ann.delete_room_attributes(["b"], "stage", Default::default());
    soon(removed).await.unwrap();
    ann.say(room("stage"), "missed").await;
    proxy.restore();
    is_in_state(&bob, CONNECTED).await;
    assert_eq!(online(&ann).await, 2);
    // What has become of the attributes is one event; what was said meanwhile is lost.
    let batch = match bob.next(EventKind::RoomAttributesBatchUpdated).await {
        Event::RoomAttributesBatchUpdated(event) => event.infos,
        other => panic!("{other:?}"),
    };
    let keys: Vec<Vec<String>> = batch
        .iter()
        .map(|info| {
            let mut keys: Vec<_> = info.room_attributes.keys().cloned().collect();
            keys.sort();
            keys
        })
        .collect();
    assert_eq!(keys, [vec!["a".to_owned(), "c".to_owned()], vec!["b".to_owned()]]);
    ann.say(room("stage"), "welcome back").await;
    bob.receives("welcome back").await;
    assert_eq!(bob.received_from("stage").len(), 1);
    assert!(ann.seen_of(EventKind::RoomMemberLeft).is_empty());
    assert_eq!(states(&bob).len(), 4);
    world.end().await;
}

#[tokio::test]
async fn a_device_that_returns_too_late_has_left() {
    let world = World::with(short_timeout).await;
    let (proxy, of_cai) = (world.proxy(2).await, world.proxy(5).await);
    let (ann, bob) = (world.user("ann").await, user_via(&world, &proxy, "bob").await);
    let cai = user_via(&world, &of_cai, "cai").await;
    for device in [&ann, &bob, &cai] {
        enter(device, "stage").await;
    }
    // Cai's connection is lost a millisecond before Bob's: when Cai's time is over, Bob's is not.
    of_cai.cut();
    eventually("the server has noticed", async || (online(&ann).await == 2).then_some(())).await;
    world.clock.advance(1);
    proxy.cut();
    is_in_state(&bob, INTERRUPTED).await;
    eventually("the server has noticed", async || (online(&ann).await == 1).then_some(())).await;
    for (ms, user) in [(29_999, "cai"), (1, "bob")] {
        world.clock.advance(ms);
        match ann.next(EventKind::RoomMemberLeft).await {
            Event::RoomMemberLeft(event) => {
                let left: Vec<_> = event.member_list.iter().map(|member| member.user_id.as_str()).collect();
                assert_eq!(left, [user]);
            }
            other => panic!("{other:?}"),
        }
    }
    of_cai.restore();
    proxy.restore();
    is_in_state(&bob, (RoomState::Disconnected, RoomEvent::ConnectTimeout)).await;
    enter(&bob, "stage").await;
    ann.say(room("stage"), "again").await;
    bob.receives("again").await;
    world.end().await;
}

#[tokio::test]
async fn a_room_that_ended_meanwhile_is_gone_even_if_its_id_is_used_again() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(3).await;
    let (ann, bob) = (world.user("ann").await, user_via(&world, &proxy, "bob").await);
    enter(&bob, "stage").await;
    proxy.cut();
    is_in_state(&bob, INTERRUPTED).await;
    // The only member leaves, so the room ends.
    eventually("the room has ended", async || {
        world.clock.advance(1_000);
        match ann.join_room("stage").await {
            Ok(_) => {
                ann.leave_room("stage").await.unwrap();
                None
            }
            Err(error) => (error.code() == ErrorCode::RoomModuleTheRoomDoesNotExist).then_some(()),
        }
    })
    .await;
    enter(&ann, "stage").await;
    proxy.restore();
    // The connection from before the cut may still bring that the server let Bob out; otherwise the new one learns that the room is
    // gone. Both end the stay.
    eventually("Bob is out", async || {
        let last = states(&bob).last().copied()?;
        let (state, event) = last;
        assert!(!matches!(state, RoomState::Connected), "{event:?}: Bob is in the new room");
        (state == RoomState::Disconnected && matches!(event, RoomEvent::RoomNotExist | RoomEvent::ConnectTimeout))
            .then_some(())
    })
    .await;
    ann.say(room("stage"), "not for bob").await;
    enter(&bob, "stage").await;
    ann.say(room("stage"), "for bob").await;
    bob.receives("for bob").await;
    assert_eq!(bob.received_from("stage").len(), 1);
    world.end().await;
}

#[tokio::test]
async fn membership_survives_a_restart_of_the_server() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    enter(&ann, "stage").await;
    enter(&bob, "stage").await;
    set(&ann, &[("a", "1")]).await;
    world.stop_server().await;
    for device in [&ann, &bob] {
        is_in_state(device, INTERRUPTED).await;
    }
    world.start_server().await;
    for device in [&ann, &bob] {
        is_in_state(device, CONNECTED).await;
    }
    ann.say(room("stage"), "still here").await;
    bob.receives("still here").await;
    assert!(ann.seen_of(EventKind::RoomMemberLeft).is_empty());
    assert_eq!(bob.seen_of(EventKind::RoomAttributesUpdated).len(), 1, "nothing has changed");
    world.end().await;
}

#[tokio::test]
async fn a_device_that_does_not_return_after_a_restart_leaves() {
    let mut world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    enter(&ann, "stage").await;
    enter(&bob, "stage").await;
    world.stop_server().await;
    is_in_state(&ann, INTERRUPTED).await;
    bob.quit().await;
    world.start_server().await;
    is_in_state(&ann, CONNECTED).await;
    world
        .advance_until("bob has left", async || (!ann.seen_of(EventKind::RoomMemberLeft).is_empty()).then_some(()))
        .await;
    assert_eq!(online(&ann).await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_logout_and_another_run_of_the_app_leave_the_rooms() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    enter(&ann, "stage").await;
    enter(&bob, "stage").await;
    enter(&cai, "stage").await;
    soon(bob.logout()).await;
    assert_eq!(states(&bob).last(), Some(&(RoomState::Disconnected, RoomEvent::Success)));
    let left = async |number: usize| {
        eventually("somebody left", async || (ann.seen_of(EventKind::RoomMemberLeft).len() == number).then_some(()))
            .await;
    };
    left(1).await;
    // The app is started anew before the server has missed it.
    let dir = cai.dir();
    cai.quit().await;
    let cai = world.user_at(dir, "cai").await;
    left(2).await;
    assert!(states(&cai).is_empty());
    assert_eq!(online(&ann).await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_login_that_the_operator_ends_leaves_the_rooms() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    enter(&ann, "stage").await;
    enter(&bob, "stage").await;
    let mut operator = world.admin().await;
    let out = DisconnectUserRequest { app_id: world.app_id(), user_id: "bob".into() };
    assert_eq!(soon(operator.disconnect_user(out)).await.unwrap().into_inner().sessions, 1);
    is_in_state(&bob, (RoomState::Disconnected, RoomEvent::NetworkDisconnected)).await;
    world
        .advance_until("bob has left", async || (!ann.seen_of(EventKind::RoomMemberLeft).is_empty()).then_some(()))
        .await;
    assert_eq!(online(&ann).await, 1);
    drop(operator);
    world.end().await;
}

#[tokio::test]
async fn what_was_missed_while_away_is_in_the_history() {
    let mut world = World::with(|config| {
        short_timeout(config);
        config.rooms.history = true;
    })
    .await;
    let proxy = world.proxy(4).await;
    let (ann, bob) = (world.user("ann").await, user_via(&world, &proxy, "bob").await);
    enter(&ann, "stage").await;
    enter(&bob, "stage").await;
    ann.say(room("stage"), "one").await;
    bob.receives("one").await;
    proxy.cut();
    is_in_state(&bob, INTERRUPTED).await;
    ann.say(room("stage"), "missed").await;
    proxy.restore();
    is_in_state(&bob, CONNECTED).await;
    ann.say(room("stage"), "two").await;
    bob.receives("two").await;
    let said = async |device: &Device| texts(&device.history(room("stage")).await);
    assert_eq!(said(&bob).await, ["one", "missed", "two"]);
    // Another device of Bob takes the room over, and reads the same.
    let tablet = world.device("bob").await;
    enter(&tablet, "stage").await;
    is_in_state(&bob, (RoomState::Disconnected, RoomEvent::KickedOutByOtherDevice)).await;
    assert_eq!(said(&tablet).await, ["one", "missed", "two"]);
    world.stop_server().await;
    world.start_server().await;
    for device in [&ann, &tablet] {
        is_in_state(device, CONNECTED).await;
    }
    tablet.say(room("stage"), "three").await;
    ann.receives("three").await;
    for device in [&ann, &tablet] {
        assert_eq!(said(device).await, ["one", "missed", "two", "three"]);
    }
    assert_eq!(texts(tablet.received_from("stage").iter().map(|(message, _)| message)), Vec::<String>::new());
    world.end().await;
}
