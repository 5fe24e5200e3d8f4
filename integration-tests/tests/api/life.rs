//! Waiting: until a login has caught up, for the state of the connection, until a client has ended.

use futures_util::{FutureExt, StreamExt};
use zim_integration_tests::{DataDir, Device, Proxy, World, refusal, soon};
use zim_protocol::{ConnectionState, ConversationSyncState, ErrorCode, Event, LoginConfig};

#[tokio::test]
async fn synced_returns_when_a_fresh_device_is_complete() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for peer in ["bob", "carl"] {
        world.user(peer).await;
        ann.say(peer, "hi").await;
    }
    bob.say("ann", "hi").await;
    ann.has_unread("bob", 1).await;
    let fresh = world.client();
    let not_logged_in = ErrorCode::NetworkModuleUserIsNotLogged;
    assert_eq!(refusal(soon(fresh.synced()).await), not_logged_in);
    let mut events = fresh.events();
    soon(fresh.login("ann", world.with_token("ann"))).await.unwrap();
    soon(fresh.synced()).await.unwrap();
    // The event was raised before.
    let is_finished = |event: Event| matches!(event, Event::ConversationSyncStateChanged(event) if event.state() == ConversationSyncState::Finished);
    let mut was_finished = false;
    while let Some(Some(Ok(event))) = events.next().now_or_never() {
        was_finished |= is_finished(event);
    }
    assert!(was_finished);
    assert_eq!((fresh.conversations().await.len(), fresh.total_unread().await), (2, 1));
    // Of this login it is true for ever, and of the next one not yet.
    soon(fresh.synced()).await.unwrap();
    soon(fresh.logout()).await;
    assert_eq!(refusal(soon(fresh.synced()).await), not_logged_in);
    soon(fresh.login("ann", world.with_token("ann"))).await.unwrap();
    soon(fresh.synced()).await.unwrap();
    world.end().await;
}

/// The client of a user who logs in on a device where they were before, without a network.
async fn offline(world: &World, proxy: &Proxy) -> Device {
    let dir = DataDir::default();
    let before = world.client_via(proxy, dir.clone(), |config| config);
    let before = world.login(before, "ann").await;
    before.quit().await;
    proxy.cut();
    let ann = world.client_via(proxy, dir, |config| config);
    soon(ann.login("ann", LoginConfig { is_offline_login: true, ..world.with_token("ann") })).await.unwrap();
    ann
}

#[tokio::test]
async fn synced_waits_for_the_network() {
    let world = World::new().await;
    let proxy = world.proxy(1).await;
    let ann = offline(&world, &proxy).await;
    let zim = (*ann).clone();
    let mut synced = Box::pin(zim.synced());
    assert!(futures_util::poll!(&mut synced).is_pending());
    proxy.restore();
    ann.network_changed();
    soon(synced).await.unwrap();
    assert_eq!(ann.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn synced_fails_when_the_login_ends() {
    let world = World::new().await;
    let proxy = world.proxy(2).await;
    let ann = offline(&world, &proxy).await;
    let zim = (*ann).clone();
    let mut synced = Box::pin(zim.synced());
    assert!(futures_util::poll!(&mut synced).is_pending());
    soon(ann.logout()).await;
    assert_eq!(refusal(soon(synced).await), ErrorCode::NetworkModuleUserIsNotLogged);
    world.end().await;
}

#[tokio::test]
async fn connection_states_begins_with_the_present_one_and_ends_with_the_client() {
    let mut world = World::new().await;
    let ann = world.client();
    let mut states = ann.connection_states();
    assert_eq!(soon(states.next()).await, Some(ConnectionState::Disconnected));
    assert!(states.next().now_or_never().is_none());
    let ann = world.login(ann, "ann").await;
    // A slow reader gets the latest state only; another one begins with it.
    assert_eq!(soon(states.next()).await, Some(ConnectionState::Connected));
    let mut later = ann.connection_states();
    assert_eq!(soon(later.next()).await, Some(ConnectionState::Connected));
    world.stop_server().await;
    assert_eq!(soon(states.next()).await, Some(ConnectionState::Reconnecting));
    world.start_server().await;
    assert_eq!(soon(states.next()).await, Some(ConnectionState::Connected));
    ann.destroy();
    let rest: Vec<ConnectionState> = soon(states.collect()).await;
    assert_eq!(rest, [ConnectionState::Disconnected]);
    let rest: Vec<ConnectionState> = soon(later.collect()).await;
    assert_eq!(rest, [ConnectionState::Disconnected]);
    // After the end there is one state, which is the end.
    let rest: Vec<ConnectionState> = soon(ann.connection_states().collect()).await;
    assert_eq!(rest, [ConnectionState::Disconnected]);
    world.end().await;
}

#[tokio::test]
async fn close_returns_when_everything_has_ended() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let mut events = ann.events();
    soon(ann.close()).await;
    assert_eq!(ann.connection_state(), ConnectionState::Disconnected);
    assert_eq!(refusal(soon(ann.peer("bob").send("too late").into_future()).await), ErrorCode::CommonModuleNotInit);
    while let Some(event) = events.next().now_or_never().expect("the events have ended") {
        event.unwrap();
    }
    // The database is free at once.
    let again = world.user_at(ann.dir(), "ann").await;
    soon(ann.close()).await;
    assert_eq!(again.connection_state(), ConnectionState::Connected);
    world.end().await;
}
