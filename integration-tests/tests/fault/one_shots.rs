//! One-shot logins: many of one user at once, and their end by the operator.

use futures_util::future::join_all;
use zim_integration_tests::{RawClient, World, eventually, hello, send_text, soon, texts};
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    ConnectionEvent, ConnectionState, DisconnectUserRequest, ErrorCode, Event, ListSessionsRequest, SessionEndReason,
    event_frame,
};

async fn one_shot(world: &World, user_id: &str) -> RawClient {
    let mut raw = world.raw_after_hello(1).await;
    raw.call(&world.one_shot_request(user_id)).await.expect("a login");
    raw
}

/// A one-shot login that accepts no event stream, so that its end cannot be delivered.
async fn without_events(world: &World, user_id: &str) -> RawClient {
    let no_events = |quic: &mut quinn::TransportConfig| {
        quic.max_concurrent_uni_streams(0u32.into());
    };
    let mut raw = world.raw_with(no_events).await;
    raw.handshake(hello(1)).await;
    raw.call(&world.one_shot_request(user_id)).await.expect("a login");
    raw
}

/// Reads the reason for the end of a session. Must run before the end, because unread events are lost with the
/// connection.
async fn end(raw: &mut RawClient) -> SessionEndReason {
    match raw.event().await {
        Some(event_frame::Frame::End(end)) => end.reason(),
        other => panic!("{other:?} instead of the end"),
    }
}

#[tokio::test]
async fn one_shots_beyond_the_limit_end_the_earliest_and_no_device() {
    let world = World::with(|config| config.limits.max_one_shots_per_user = 2).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (mut first, mut second) = (one_shot(&world, "ann").await, one_shot(&world, "ann").await);
    let mut other = one_shot(&world, "bob").await;
    first.call(&send_text("bob", "within the cap", 1)).await.unwrap();
    let (reason, mut third) = tokio::join!(end(&mut first), one_shot(&world, "ann"));
    assert_eq!(reason, SessionEndReason::Unspecified);
    assert_eq!(first.closed().await, CloseCode::SessionEnded);
    second.call(&send_text("bob", "I stay", 2)).await.unwrap();
    third.call(&send_text("bob", "so do I", 3)).await.unwrap();
    other.call(&send_text("ann", "I am somebody else", 4)).await.unwrap();
    ann.receives("I am somebody else").await;
    assert_eq!(ann.connection_state(), ConnectionState::Connected);
    assert_eq!((world.server().app().fanout.len(), world.server().app().fanout.one_shots.len()), (2, 3));
    drop(bob);
    join_all([first, second, third, other].map(RawClient::end)).await;
    eventually("the one-shots are removed", async || world.server().app().fanout.one_shots.is_empty().then_some(()))
        .await;
    world.end().await;
}

/// An evicted one-shot may send requests before it reads of its end. If they were refused, its client would give up.
#[tokio::test]
async fn an_evicted_one_shot_is_served_until_it_reads_of_its_end_or_times_out() {
    let world = World::with(|config| config.limits.max_one_shots_per_user = 1).await;
    let bob = world.user("bob").await;
    let mut first = without_events(&world, "ann").await;
    let second = one_shot(&world, "ann").await;
    first.call(&send_text("bob", "on my way out", 1)).await.unwrap();
    bob.receives("on my way out").await;
    assert_eq!(first.closed().await, CloseCode::Protocol, "it is closed after half a minute");
    join_all([first, second].map(RawClient::end)).await;
    world.end().await;
}

/// As with `xargs -P` and `zim send`.
#[tokio::test]
async fn many_concurrent_one_shot_clients_lose_no_message() {
    let world = World::with(|config| config.limits.max_one_shots_per_user = 2).await;
    let bob = world.user("bob").await;
    let sends = (0..8).map(|number| {
        let world = &world;
        async move {
            let shot = world.client_with(|config| config.one_shot(true));
            soon(shot.login("ann", world.with_token("ann"))).await.expect("a login");
            soon(shot.send("bob", zim_protocol::Message::text(number.to_string()))).await.expect("a sent message");
            soon(shot.logout()).await;
        }
    });
    join_all(sends).await;
    let mut sent = texts(&bob.history("ann").await);
    sent.sort();
    assert_eq!(sent, (0..8).map(|number| number.to_string()).collect::<Vec<_>>());
    world.end().await;
}

#[tokio::test]
async fn the_operator_lists_and_ends_one_shots() {
    let world = World::new().await;
    let mut operator = world.admin().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let shot = world.client_with(|config| config.one_shot(true));
    soon(shot.login("ann", world.with_token("ann"))).await.unwrap();
    let (mut raw, mut unread) = (one_shot(&world, "ann").await, without_events(&world, "ann").await);
    let of_bob = one_shot(&world, "bob").await;
    let list = ListSessionsRequest { app_id: world.app_id(), user_id: String::new() };
    let listed = soon(operator.list_sessions(list.clone())).await.unwrap().into_inner().sessions;
    let mut listed: Vec<_> = listed.iter().map(|one| (one.user_id.as_str(), one.one_shot)).collect();
    listed.sort_unstable();
    assert_eq!(listed, [("ann", false), ("ann", true), ("ann", true), ("ann", true), ("bob", false), ("bob", true)]);
    let out = DisconnectUserRequest { app_id: world.app_id(), user_id: "ann".into() };
    let (reason, ended) = tokio::join!(end(&mut raw), soon(operator.disconnect_user(out)));
    assert_eq!((reason, ended.unwrap().into_inner().sessions), (SessionEndReason::EndedByOperator, 4));
    let late = unread.call(&send_text("bob", "too late", 1)).await.unwrap_err();
    assert_eq!(late.code, ErrorCode::NetworkModuleUserIsNotLogged as i32);
    assert_eq!(raw.closed().await, CloseCode::SessionEnded);
    for device in [&ann, &shot] {
        device
            .until("kicked out", |seen| {
                let is_it = |event: &Event| {
                    matches!(event, Event::ConnectionStateChanged(changed)
                        if changed.state() == ConnectionState::Disconnected && changed.event() == ConnectionEvent::KickedOut)
                };
                seen.iter().any(is_it).then_some(())
            })
            .await;
    }
    let listed = soon(operator.list_sessions(list)).await.unwrap().into_inner().sessions;
    assert!(listed.iter().all(|one| one.user_id == "bob"), "{listed:?}");
    assert!(bob.history("ann").await.is_empty());
    drop(operator);
    join_all([raw, unread, of_bob].map(RawClient::end)).await;
    world.end().await;
}
