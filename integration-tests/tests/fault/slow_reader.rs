//! Clients that do not read: the server holds little for them, and other clients do not wait for them.

use std::collections::HashMap;

use futures_util::future::join_all;
use zim_client_sdk::{Lagged, MessageSendNotification};
use zim_integration_tests::{RawClient, World, eventually, is_text, room, send_text, soon, texts};
use zim_protocol::{
    ConversationType, Dirty, ErrorCode, Event, JoinRoomRequest, Message, MessagePriority, MessageQueryConfig,
    MessageSendConfig, QueryHistoryMessageRequest, RoomAdvancedConfig, RoomAttributesSetConfig, RoomInfo, event_frame,
};

#[tokio::test]
async fn a_client_that_does_not_read_events_is_told_what_to_pull() {
    let world = World::with(|config| config.limits.session_queue_bytes = 16 << 10).await;
    let ann = world.user("ann").await;
    let mut slow = world.raw_user("bob", 1).await;
    // More than the stream's window and the queue can hold.
    let text = "x".repeat(2_000);
    let calls: Vec<_> = (0..2_000).map(|_| ann.send("bob", Message::text(&*text))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    let (mut next, mut dirty) = (1, None::<Dirty>);
    while dirty.is_none() {
        match slow.event().await.expect("an event") {
            event_frame::Frame::Push(push) => {
                assert_eq!(push.from, next, "a gap without a Dirty frame");
                next = push.to + 1;
            }
            event_frame::Frame::Dirty(frame) => dirty = Some(frame),
            other => panic!("{other:?}"),
        }
    }
    assert!(next < 2_001, "no event was dropped: the queue is not bounded");
    assert_eq!(dirty.unwrap().conversations[0].id, "ann");
    // The client pulls what was dropped, to the last message.
    let mut after = next - 1;
    while after < 2_000 {
        let pull = zim_protocol::PullRequest {
            conversation: Some(zim_protocol::ConversationRef { r#type: 0, id: "ann".into() }),
            after_seq: after,
            ..Default::default()
        };
        let page = slow.call(&pull).await.unwrap();
        assert!(page.through_seq > after);
        after = page.through_seq;
    }
    slow.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_answers_is_paused_and_then_disconnected() {
    let world = World::with(|config| config.limits.write_timeout_ms = 1_500).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..100 {
        drop(ann.send("bob", Message::text(format!("{number} {}", "x".repeat(2_000)))));
    }
    ann.say("bob", "ready").await;
    let mut greedy = world.raw_user("bob", 9).await;
    let ask = QueryHistoryMessageRequest {
        conversation_id: "ann".into(),
        conversation_type: 0,
        config: Some(MessageQueryConfig { count: 100, reverse: true, ..MessageQueryConfig::default() }),
    };
    // Each answer is 200 KB; the client requests 1,000 of them and reads none.
    let frame = {
        let frame = zim_protocol::ClientFrame { frame: Some(zim_integration_tests::request(1, &ask)) };
        let mut bytes = bytes::BytesMut::new();
        zim_protocol::frame::encode_frame(&frame, &mut bytes);
        bytes
    };
    greedy.write_bytes(&frame.repeat(1_000)).await;
    // Other users are served meanwhile.
    for number in 0..10 {
        ann.say("bob", &format!("live {number}")).await;
        bob.receives(&format!("live {number}")).await;
    }
    assert_eq!(greedy.closed().await, zim_protocol::wire::CloseCode::TooSlow);
    greedy.end().await;
    world.assert_serves_others().await;
    world.end().await;
}

#[tokio::test]
async fn a_slow_reader_of_sdk_events_delays_nobody_and_misses_no_state() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    // Two streams of the same events. One is read at once, the other is not read.
    let (mut stream, mut quick) = (bob.events(), bob.events());
    let is_end = |event: &Event| matches!(event, Event::PeerMessageReceived(event) if event.message_list.iter().any(|message| is_text(message, "end")));
    let raised = tokio::spawn(async move {
        let mut raised = 0_u64;
        while let Some(event) = quick.next().await {
            raised += 1;
            if is_end(&event.expect("a quick reader misses nothing")) {
                break;
            }
        }
        raised
    });
    let calls: Vec<_> = (0..3_000).map(|number| ann.send("bob", Message::text(number.to_string()))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    bob.has_unread("ann", 3_000).await;
    let history = texts(&bob.history("ann").await);
    assert_eq!(history.len(), 3_000);
    ann.say("bob", "end").await;
    let raised = soon(raised).await.unwrap();
    // The stream says how many events it has lost, and has all others.
    let (mut had, mut lost) = (0_u64, 0);
    loop {
        match soon(stream.next()).await.expect("an event") {
            Ok(event) => {
                had += 1;
                if is_end(&event) {
                    break;
                }
            }
            Err(Lagged(count)) => lost += count,
        }
    }
    assert_eq!(had + lost, raised);
    world.end().await;
}

#[tokio::test]
async fn commands_to_a_client_that_does_not_read_are_dropped_by_priority_and_counted() {
    let world = World::with(|config| config.limits.session_queue_bytes = 16 << 10).await;
    let ann = world.user("ann").await;
    let mut slow = world.raw_user("bob", 1).await;
    let calls: Vec<_> = (0..1_000).map(|_| ann.send("bob", Message::command(vec![7; 4_000]))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    let config = MessageSendConfig { priority: MessagePriority::High as i32, ..MessageSendConfig::default() };
    let urgent = Message::command(vec![9; 4_000]);
    let urgent = ann.send_message(urgent, "bob", ConversationType::Peer, config, MessageSendNotification::default());
    soon(urgent).await.unwrap();
    let (mut arrived, mut dropped, mut is_urgent) = (0, 0, false);
    while arrived + dropped < 1_001 {
        match slow.event().await.expect("an event") {
            event_frame::Frame::Transient(transient) => {
                arrived += 1;
                is_urgent = transient.message.unwrap().content.ends_with(&[9; 8]);
            }
            event_frame::Frame::Dirty(dirty) => dropped += dirty.transients_dropped,
            other => panic!("{other:?}"),
        }
    }
    assert!(dropped > 0, "no command was dropped: the queue of transients is not bounded");
    assert!(is_urgent, "the command of high priority, the last that was sent, was dropped");
    // Later commands arrive again.
    soon(ann.send("bob", Message::command(vec![1]))).await.unwrap();
    assert!(matches!(slow.event().await, Some(event_frame::Frame::Transient(_))));
    slow.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_app_hears_how_many_messages_of_a_room_were_dropped_for_its_slow_connection() {
    const SENT: u64 = 300;
    let world = World::with(|config| config.limits.session_queue_bytes = 16 << 10).await;
    let proxy = world.proxy(1).await;
    let (ann, bob) = (world.user("ann").await, world.user_via(&proxy, "bob").await);
    let info = RoomInfo { room_id: "stage".into(), ..RoomInfo::default() };
    soon(ann.create_room(info, RoomAdvancedConfig::default())).await.unwrap();
    soon(bob.join_room("stage")).await.unwrap();
    // More than the server sends without an answer, and more than the queue holds.
    proxy.cut_back();
    let calls: Vec<_> = (0..SENT).map(|_| ann.send_to(room("stage"), Message::command(vec![7; 4_000]))).collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    proxy.restore();
    let counts = |seen: &[Event]| {
        let (mut arrived, mut dropped) = (0, 0);
        for event in seen {
            match event {
                Event::RoomMessageReceived(event) => arrived += u64::try_from(event.message_list.len()).unwrap(),
                Event::Error(error) => {
                    assert_eq!(error.code, ErrorCode::NetworkModuleCommonError as i32, "{error:?}");
                    let count = error.message.split(' ').find_map(|word| word.parse::<u64>().ok());
                    dropped += count.unwrap_or_else(|| panic!("no number: {error:?}"));
                }
                _ => {}
            }
        }
        (arrived, dropped)
    };
    let all = |seen: &[Event]| Some(counts(seen)).filter(|(arrived, dropped)| arrived + dropped >= SENT);
    let (arrived, dropped) = bob.until("what became of all messages", all).await;
    assert_eq!(arrived + dropped, SENT);
    assert!(dropped > 0, "no message was dropped: the queue is not bounded");
    assert_eq!(counts(&ann.seen()), (0, 0));
    // Later messages arrive again.
    ann.say(room("stage"), "later").await;
    bob.receives("later").await;
    world.end().await;
}

#[tokio::test]
async fn a_message_to_a_room_arrives_by_its_priority_although_changes_of_the_room_were_dropped() {
    let world = World::with(|config| config.limits.session_queue_bytes = 16 << 10).await;
    let ann = world.user("ann").await;
    let info = RoomInfo { room_id: "stage".into(), ..RoomInfo::default() };
    soon(ann.create_room(info, RoomAdvancedConfig::default())).await.unwrap();
    let mut slow = world.raw_user("bob", 1).await;
    slow.call(&JoinRoomRequest { room_id: "stage".into(), entry_number: 1 }).await.unwrap();
    // More than the stream's window and the queue can hold.
    for round in 0..60 {
        let set = |number: i32| {
            let attributes = HashMap::from([("key".to_owned(), format!("{round} {number} {}", "x".repeat(1_000)))]);
            ann.set_room_attributes(attributes, "stage", RoomAttributesSetConfig::default())
        };
        for set in soon(join_all((0..50).map(set))).await {
            set.unwrap();
        }
    }
    let say = async |content: u8, priority: MessagePriority| {
        let config = MessageSendConfig { priority: priority as i32, ..MessageSendConfig::default() };
        let message = Message::command(vec![content; 3_000]);
        let notification = MessageSendNotification::default();
        soon(ann.send_message(message, "stage", ConversationType::Room, config, notification)).await.unwrap();
    };
    for _ in 0..5 {
        say(7, MessagePriority::Low).await;
    }
    say(9, MessagePriority::High).await;
    let (mut arrived, mut dropped, mut is_dirty, mut is_urgent) = (0, 0, false, false);
    while arrived + dropped < 6 {
        match slow.event().await.expect("an event") {
            event_frame::Frame::Transient(transient) => {
                arrived += 1;
                is_urgent = transient.message.unwrap().content.ends_with(&[9; 8]);
            }
            event_frame::Frame::Dirty(dirty) => {
                dropped += dirty.transients_dropped;
                is_dirty |= dirty.conversations.iter().any(|name| name.id == "stage");
            }
            event_frame::Frame::Room(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(is_dirty && dropped > 0, "nothing was dropped: the queue is not bounded");
    assert!(is_urgent, "the message of high priority, the last that was sent, was dropped");
    slow.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_ended_session_leaves_nothing_behind() {
    let world = World::new().await;
    let before = world.server().tasks();
    let mut raws = Vec::new();
    for number in 0..20 {
        let mut raw = world.raw_user(&format!("user{number}"), number).await;
        raw.send_request(&send_text("user0", "x", 1)).await;
        raws.push(raw);
    }
    assert!(world.server().tasks() > before);
    join_all(raws.into_iter().map(RawClient::end)).await;
    eventually("the sessions are gone", async || {
        (world.server().tasks() <= before && world.server().app().fanout.all().is_empty()).then_some(())
    })
    .await;
    world.end().await;
}
