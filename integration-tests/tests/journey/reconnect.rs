//! Lost connections and reconnects lose and duplicate nothing.

use std::collections::HashSet;

use zim_integration_tests::{DataDir, Device, Proxy, World, soon, texts};
use zim_protocol::{
    ConnectionEvent, ConnectionState, ErrorCode, Event, LoginConfig, Message, MessageSentStatus,
    UserCustomStatusUpdateConfig,
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

async fn is_in(device: &Device, state: ConnectionState) {
    zim_integration_tests::eventually(&format!("{state:?}"), async || {
        (device.connection_state() == state).then_some(())
    })
    .await;
}

fn count_states(device: &Device, state: ConnectionState, event: ConnectionEvent) -> usize {
    let is_it = |seen: &Event| matches!(seen, Event::ConnectionStateChanged(changed) if changed.state() == state && changed.event() == event);
    device.seen().iter().filter(|seen| is_it(seen)).count()
}

#[tokio::test]
async fn a_cut_connection_is_reported_and_restored() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(1).await;
    let (ann, bob) = (user_via(&world, &proxy, "ann").await, world.user("bob").await);
    proxy.cut();
    is_in(&ann, ConnectionState::Reconnecting).await;
    assert_eq!(count_states(&ann, ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted), 1);
    bob.say("ann", "while you were away").await;
    let before = ann.times_caught_up();
    proxy.restore();
    is_in(&ann, ConnectionState::Connected).await;
    ann.caught_up(before).await;
    ann.receives("while you were away").await;
    assert_eq!(count_states(&ann, ConnectionState::Connected, ConnectionEvent::Success), 2);
    ann.say("bob", "I am back").await;
    bob.receives("I am back").await;
    world.end().await;
}

#[tokio::test]
async fn a_server_that_owes_an_answer_and_is_silent_is_noticed() {
    let world = World::new().await;
    let proxy = world.proxy(7).await;
    let patient = |config: zim_client_sdk::Config| config.request_timeout_ms(120_000).resend_window_ms(120_000);
    let ann = world.login(world.client_via(&proxy, DataDir::default(), patient), "ann").await;
    let bob = world.user("bob").await;
    proxy.cut();
    let call = ann.send("bob", Message::text("hi"));
    // Nothing else would notice it in time: QUIC waits for half a minute, and the call for two.
    is_in(&ann, ConnectionState::Reconnecting).await;
    proxy.restore();
    soon(call).await.unwrap();
    bob.receives("hi").await;
    world.end().await;
}

#[tokio::test]
async fn messages_sent_without_a_connection_arrive_once_and_in_order() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(2).await;
    let (ann, bob) = (user_via(&world, &proxy, "ann").await, world.user("bob").await);
    ann.say("bob", "0").await;
    proxy.cut();
    // Half of them before the loss is detected, half of them after.
    let mut calls: Vec<_> = (1..=10).map(|number| ann.send("bob", Message::text(number.to_string()))).collect();
    is_in(&ann, ConnectionState::Reconnecting).await;
    calls.extend((11..=20).map(|number| ann.send("bob", Message::text(number.to_string()))));
    proxy.restore();
    for call in calls {
        soon(call).await.unwrap();
    }
    let expected: Vec<String> = (0..=20).map(|number| number.to_string()).collect();
    bob.receives("20").await;
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    assert_eq!(texts(&bob.history("ann").await), expected);
    assert_eq!(texts(&ann.history("bob").await), expected);
    assert!(ann.history("bob").await.iter().all(|message| message.sent_status() == MessageSentStatus::Success));
    world.end().await;
}

#[tokio::test]
async fn a_lost_answer_does_not_duplicate_a_message() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(3).await;
    let (ann, bob) = (user_via(&world, &proxy, "ann").await, world.user("bob").await);
    let mut expected = Vec::new();
    for round in 0..2 {
        // The request arrives; the answer does not.
        proxy.cut_back();
        let mut call = Box::pin(ann.send("bob", Message::text(format!("round {round}"))));
        bob.receives(&format!("round {round}")).await;
        is_in(&ann, ConnectionState::Reconnecting).await;
        assert!(futures_util::poll!(&mut call).is_pending(), "the answer was lost");
        proxy.restore();
        soon(call).await.unwrap();
        expected.push(format!("round {round}"));
    }
    ann.say("bob", "end").await;
    bob.receives("end").await;
    expected.push("end".to_owned());
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    assert_eq!(texts(&bob.history("ann").await), expected);
    assert_eq!(texts(&ann.history("bob").await), expected);
    world.end().await;
}

#[tokio::test]
async fn a_message_that_waits_longer_than_30_seconds_fails() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(4).await;
    let (ann, bob) = (user_via(&world, &proxy, "ann").await, world.user("bob").await);
    proxy.cut();
    is_in(&ann, ConnectionState::Reconnecting).await;
    let call = ann.send("bob", Message::text("too late"));
    ann.until("the message is in its conversation", |seen| {
        let is_it = |event: &Event| matches!(event, Event::ConversationChanged(_));
        seen.iter().any(is_it).then_some(())
    })
    .await;
    world.clock.advance(30_000);
    let refused = soon(call).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NetworkModuleNetworkError, "{refused}");
    assert!(refused.is_retryable());
    let failed = ann.history("bob").await;
    assert_eq!(failed.last().unwrap().sent_status(), MessageSentStatus::Failed);
    proxy.restore();
    is_in(&ann, ConnectionState::Connected).await;
    ann.say("bob", "in time").await;
    bob.receives("in time").await;
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), ["in time"]);
    world.end().await;
}

#[tokio::test]
async fn a_change_of_networks_loses_nothing() {
    let world = World::new().await;
    let proxy = world.proxy(5).await;
    let (ann, bob) = (world.user_via(&proxy, "ann").await, world.user("bob").await);
    for round in 0..5 {
        proxy.change_source_ports();
        ann.say("bob", &format!("from network {round}")).await;
        bob.say("ann", &format!("to network {round}")).await;
        ann.receives(&format!("to network {round}")).await;
    }
    assert_eq!(count_states(&ann, ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted), 0);
    assert_eq!(ann.connection_state(), ConnectionState::Connected);
    assert_eq!(bob.received_from("ann").len(), 5);
    world.end().await;
}

#[tokio::test]
async fn network_changed_reconnects_and_loses_nothing() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut calls = Vec::new();
    for number in 0..30 {
        calls.push(ann.send("bob", Message::text(number.to_string())));
        if number % 6 == 0 {
            ann.network_changed();
        }
    }
    for call in calls {
        soon(call).await.unwrap();
    }
    bob.receives("29").await;
    let expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    assert_eq!(count_states(&ann, ConnectionState::Reconnecting, ConnectionEvent::LoginInterrupted), 0);
    world.end().await;
}

#[tokio::test]
async fn a_device_kicked_out_while_away_learns_it_on_reconnect() {
    let world = World::with(|config| {
        short_timeout(config);
        config.login.multi_device = zim_server::config::MultiDevice::Single;
    })
    .await;
    let proxy = world.proxy(6).await;
    let old = user_via(&world, &proxy, "ann").await;
    proxy.cut();
    is_in(&old, ConnectionState::Reconnecting).await;
    let new = world.device("ann").await;
    proxy.restore();
    is_in(&old, ConnectionState::Disconnected).await;
    assert_eq!(count_states(&old, ConnectionState::Disconnected, ConnectionEvent::KickedOut), 1);
    assert_eq!(new.connection_state(), ConnectionState::Connected);
    world.end().await;
}

#[tokio::test]
async fn a_reconnect_ends_no_other_login() {
    let world = World::with(|config| {
        short_timeout(config);
        config.login.max_native = 2;
    })
    .await;
    let proxy = world.proxy(7).await;
    let (phone, laptop) = (user_via(&world, &proxy, "ann").await, user_via(&world, &proxy, "ann").await);
    for _ in 0..2 {
        proxy.cut();
        is_in(&phone, ConnectionState::Reconnecting).await;
        is_in(&laptop, ConnectionState::Reconnecting).await;
        proxy.restore();
        is_in(&phone, ConnectionState::Connected).await;
        is_in(&laptop, ConnectionState::Connected).await;
    }
    world.user("bob").await.say("ann", "both?").await;
    phone.receives("both?").await;
    laptop.receives("both?").await;
    assert_eq!(count_states(&phone, ConnectionState::Disconnected, ConnectionEvent::KickedOut), 0);
    world.end().await;
}

/// The first connection of a login sets it. What was set since then stays.
#[tokio::test]
async fn a_reconnect_does_not_set_the_custom_status_again() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(9).await;
    let bob = world.user("bob").await;
    let ann = world.client_via(&proxy, DataDir::default(), |config| config.connect_timeout_ms(2_000));
    let busy = LoginConfig { custom_status: "busy".to_owned(), ..world.with_token("ann") };
    soon(ann.login("ann", busy)).await.unwrap();
    ann.caught_up(0).await;
    let custom_status = async || {
        let found = soon(bob.query_users_status(["ann"])).await.unwrap().user_status_list;
        found[0].custom_status.clone()
    };
    assert_eq!(custom_status().await, "busy");
    world.clock.advance(2_000);
    soon(ann.update_user_custom_status("free", UserCustomStatusUpdateConfig::default())).await.unwrap();
    proxy.cut();
    is_in(&ann, ConnectionState::Reconnecting).await;
    let before = ann.times_caught_up();
    proxy.restore();
    ann.caught_up(before).await;
    assert_eq!(custom_status().await, "free");
    world.end().await;
}

#[tokio::test]
async fn repeated_outages_lose_and_duplicate_nothing() {
    let world = World::with(short_timeout).await;
    let proxy = world.proxy(8).await;
    let (ann, bob) = (user_via(&world, &proxy, "ann").await, world.user("bob").await);
    let mut number = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            number += 1;
            bob.say("ann", &number.to_string()).await;
        }
        proxy.cut();
        for _ in 0..10 {
            number += 1;
            bob.say("ann", &number.to_string()).await;
        }
        is_in(&ann, ConnectionState::Reconnecting).await;
        proxy.restore();
        is_in(&ann, ConnectionState::Connected).await;
    }
    ann.receives(&number.to_string()).await;
    let received = texts(ann.received_from("bob").iter().map(|(message, _)| message));
    let expected: Vec<String> = (1..=number).map(|number| number.to_string()).collect();
    assert_eq!(received.iter().collect::<HashSet<_>>().len(), received.len(), "a message arrived twice");
    assert_eq!(received, expected);
    ann.has_unread("bob", i64::from(number)).await;
    world.end().await;
}
