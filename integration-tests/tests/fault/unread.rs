//! Clients that request pages and read none, many of one user and of many users. The unread bytes on the server are
//! bounded, and clients that read get their answers.

use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use quinn::ConnectionError;
use zim_integration_tests::{Device, RawClient, World, code, eventually, hello, request, send_text, soon};
use zim_protocol::frame::encode_frame;
use zim_protocol::wire::CloseCode;
use zim_protocol::{
    ClientFrame, ConversationRef, FillRequest, Message, Request, UpdateUserExtendedDataRequest, client_frame,
};
use zim_server::config::Config;

const MB: usize = 1 << 20;
/// The bytes that a read reserves while it runs.
const READ: usize = 384 << 10;

/// Limits that allow one read per user at a time, and long messages, so that few fill a page.
fn little_room(config: &mut Config) {
    config.limits.max_unread_bytes = 8 * MB;
    config.limits.max_text_bytes = 32_768;
}

/// A request for a page of a quarter of a megabyte from the conversation with `friend`.
fn page_of(friend: &str) -> FillRequest {
    let conversation = ConversationRef { r#type: 0, id: friend.to_owned() };
    FillRequest { conversation: Some(conversation), reverse: true, anchor: 0, count: 100 }
}

/// Registers `to` and sends messages that fill a page.
async fn fill(world: &World, friend: &Device, to: &str) {
    slow(world, to).await.end().await;
    let text = "x".repeat(32_000);
    let calls: Vec<_> = (0..9).map(|_| friend.send(to, Message::text(&*text))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
}

/// A one-shot session whose client has a receive window of 16 KB and reads nothing by itself.
async fn slow(world: &World, user_id: &str) -> RawClient {
    let narrow = |quic: &mut quinn::TransportConfig| {
        quic.stream_receive_window((16u32 << 10).into());
    };
    let mut raw = world.raw_with(narrow).await;
    raw.handshake(hello(1)).await;
    raw.call(&world.one_shot_request(user_id)).await.expect("a login");
    raw
}

/// The close code of a connection, with the reason text.
async fn reason(raw: &RawClient) -> (CloseCode, String) {
    match soon(raw.connection.closed()).await {
        ConnectionError::ApplicationClosed(closed) => {
            let code = CloseCode::from_code(closed.error_code.into_inner()).unwrap();
            (code, String::from_utf8_lossy(&closed.reason).into_owned())
        }
        other => panic!("{other}"),
    }
}

async fn nothing_is_held(world: &World) {
    eventually("all bytes are released", async || (world.server().unread_bytes() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_user_with_many_sessions_is_limited_to_a_share_and_others_read() {
    let world = World::with(|config| {
        little_room(config);
        config.limits.max_unread_bytes = 128 * MB;
    })
    .await;
    let (ann, carol) = (world.user("ann").await, world.user("carol").await);
    fill(&world, &ann, "bob").await;
    fill(&world, &ann, "carol").await;
    let mut greedy = Vec::new();
    for _ in 0..12 {
        let mut raw = slow(&world, "bob").await;
        raw.write((1..=40).map(|id| request(id, &page_of("ann")))).await;
        greedy.push(raw);
    }
    // Two pages for each session would be 6 MB; the share is 4 MB.
    let share = 4 * MB;
    eventually("the share is full", async || (world.server().unread_bytes() > share - MB).then_some(())).await;
    for number in 0..20u8 {
        assert!(world.server().unread_bytes() <= share, "{} are held", world.server().unread_bytes());
        ann.say("carol", &number.to_string()).await;
        carol.receives(&number.to_string()).await;
    }
    // Another user reads.
    let mut reader = world.raw_user("carol", 7).await;
    for _ in 0..20 {
        assert!(!reader.call(&page_of("ann")).await.unwrap().messages.is_empty());
    }
    // The same user can still send on a session that reads its answers.
    let mut sender = slow(&world, "bob").await;
    sender.call(&send_text("ann", "I am not all bad", 1)).await.unwrap();
    ann.receives("I am not all bad").await;
    world.assert_serves_others().await;
    join_all(greedy.into_iter().chain([reader, sender]).map(RawClient::end)).await;
    nothing_is_held(&world).await;
    world.end().await;
}

/// QUIC holds all of it by then.
#[tokio::test]
async fn a_page_is_counted_until_the_client_has_acknowledged_it() {
    let world = World::with(little_room).await;
    fill(&world, &world.user("ann").await, "bob").await;
    let proxy = world.proxy(1).await;
    let mut raw = world.raw_via(&proxy).await;
    raw.handshake(hello(1)).await;
    raw.call(&world.one_shot_request("bob")).await.expect("a login");
    proxy.cut_back();
    raw.send_request(&page_of("ann")).await;
    eventually("it is counted", async || (200_000..READ).contains(&world.server().unread_bytes()).then_some(())).await;
    assert!(!raw.receives_anything().await);
    assert!((200_000..READ).contains(&world.server().unread_bytes()));
    proxy.restore();
    assert_eq!(code(&raw.response().await), 0);
    nothing_is_held(&world).await;
    raw.end().await;
    drop(proxy);
    world.end().await;
}

#[tokio::test]
async fn a_stalled_session_is_evicted_for_another_of_its_user() {
    let world = World::with(|config| {
        little_room(config);
        config.limits.write_timeout_ms = 3_000;
    })
    .await;
    fill(&world, &world.user("ann").await, "bob").await;
    let (mut stalled, mut reads) = (slow(&world, "bob").await, slow(&world, "bob").await);
    stalled.send_request(&page_of("ann")).await;
    eventually("the answer is unread", async || (1..MB).contains(&world.server().unread_bytes()).then_some(())).await;
    assert!(!reads.call(&page_of("ann")).await.unwrap().messages.is_empty());
    let (code, text) = reason(&stalled).await;
    assert_eq!(code, CloseCode::TooSlow);
    assert!(text.contains("other reads waited"), "{text}");
    nothing_is_held(&world).await;
    join_all([stalled, reads].map(RawClient::end)).await;
    world.end().await;
}

#[tokio::test]
async fn stalled_clients_are_evicted_for_a_client_that_reads() {
    let world = World::with(|config| {
        little_room(config);
        config.limits.write_timeout_ms = 3_000;
        config.limits.handshakes_per_second_per_address = 10_000;
    })
    .await;
    let ann = world.user("ann").await;
    let users: Vec<String> = (0..40).map(|number| format!("user{number}")).collect();
    fill(&world, &ann, "bob").await;
    join_all(users.iter().map(|user| fill(&world, &ann, user))).await;
    let mut clients = join_all(users.iter().map(|user| slow(&world, user))).await;
    for raw in &mut clients {
        raw.send_request(&page_of("ann")).await;
    }
    // Less is free than a read reserves.
    eventually("the limit is reached", async || (world.server().unread_bytes() > 8 * MB - READ).then_some(())).await;
    let mut bob = slow(&world, "bob").await;
    let page = bob.send_request(&page_of("ann")).await;
    let sent = bob.send_request(&send_text("ann", "I need no room", 1)).await;
    let first = bob.response().await;
    assert_eq!((first.id, code(&first)), (sent, 0), "a write needs no free bytes");
    let second = bob.response().await;
    assert_eq!((second.id, code(&second)), (page, 0));
    let closed = clients.iter().filter_map(|raw| raw.connection.close_reason()).collect::<Vec<_>>();
    assert!(!closed.is_empty());
    for error in closed {
        assert!(error.to_string().contains("other reads waited"), "{error}");
    }
    join_all(clients.into_iter().chain([bob]).map(RawClient::end)).await;
    nothing_is_held(&world).await;
    world.end().await;
}

#[tokio::test]
async fn unread_answers_to_writes_are_counted_and_bounded() {
    let world = World::with(|config| {
        little_room(config);
        config.limits.max_user_extended_data_bytes = 32_768;
    })
    .await;
    let carol = world.user("carol").await;
    let (mut reads, mut unread) = (slow(&world, "bob").await, Vec::new());
    for session in 0..4 {
        let mut raw = slow(&world, "bob").await;
        // Each answer contains the written data three times: in total less than a session may leave unread.
        let long = |id| UpdateUserExtendedDataRequest { extended_data: format!("{session}{id:032767}") };
        raw.write((1..=2).map(|id| request(id, &long(id)))).await;
        unread.push(raw);
    }
    // The share is half a megabyte.
    eventually("the share is exceeded", async || (world.server().unread_bytes() > MB / 2).then_some(())).await;
    unread[0].write([request(3, &send_text("carol", "later", 1))]).await;
    for number in 0..20u8 {
        reads.call(&send_text("carol", &number.to_string(), 100 + number)).await.unwrap();
        carol.receives(&number.to_string()).await;
    }
    assert_eq!(carol.history("bob").await.len(), 20, "the message of a session that does not read was handled early");
    let answers = unread[0].responses(3).await;
    assert!(answers.iter().all(|answer| code(answer) == 0));
    carol.receives("later").await;
    join_all(unread.into_iter().chain([reads]).map(RawClient::end)).await;
    nothing_is_held(&world).await;
    world.end().await;
}

#[tokio::test]
async fn an_unauthenticated_client_that_reads_nothing_is_paused() {
    let world = World::new().await;
    let narrow = |quic: &mut quinn::TransportConfig| {
        quic.stream_receive_window(1_024u32.into());
    };
    let mut unauthenticated = world.raw_with(narrow).await;
    unauthenticated.handshake(hello(1)).await;
    let (mut out, count) = (BytesMut::new(), 2_000);
    for id in 0..count {
        let request = Request { id, method: "No/SuchMethod".to_owned(), payload: vec![0; 32].into(), ack: 0 };
        encode_frame(&ClientFrame { frame: Some(client_frame::Frame::Request(request)) }, &mut out);
    }
    assert!(!unauthenticated.try_write(&out, Duration::from_millis(300)).await, "reading from it was not paused");
    // Its requests are answered as soon as it reads.
    for _ in 0..100 {
        assert_ne!(code(&unauthenticated.response().await), 0);
    }
    world.assert_serves_others().await;
    unauthenticated.end().await;
    world.end().await;
}
