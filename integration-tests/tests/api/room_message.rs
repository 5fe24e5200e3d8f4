//! Messages to rooms: who gets them, in which order, and what is refused.

use futures_util::future::join_all;
use zim_integration_tests::{Device, World, refusal, room, soon, texts};
use zim_protocol::{
    BarrageMessage, CombineMessage, ConversationType, ErrorCode, Event, EventKind, MediaDownloadConfig, MediaFileType,
    Message, MessageDirection, MessagePriority, MessageQueryConfig, MessageSendConfig, MessageSentStatus, MessageType,
    SendBarrageRequest, SendMessageRequest, message::Body,
};

use crate::call::barrier;
use crate::room::{create, is_told};

const NOT_IN: ErrorCode = ErrorCode::RoomModuleUserIsNotInTheRoom;
const NONE: ErrorCode = ErrorCode::RoomModuleTheRoomDoesNotExist;
const INVALID: ErrorCode = ErrorCode::CommonModuleParamsInvalid;

fn types(device: &Device, room_id: &str) -> Vec<MessageType> {
    device.received_from(room_id).iter().map(|(message, _)| message.r#type()).collect()
}

#[tokio::test]
async fn send_message_to_a_room_reaches_those_who_are_in_it() {
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let (tablet, phone) = (world.device("bob").await, world.device("ann").await);
    create(&ann, "stage").await;
    create(&cai, "other").await;
    soon(bob.join_room("stage")).await.unwrap();
    let sent = ann.say(room("stage"), "hi").await;
    assert_eq!((sent.conversation_id.as_str(), sent.conversation_type()), ("stage", ConversationType::Room));
    assert_eq!((sent.direction(), sent.sent_status()), (MessageDirection::Send, MessageSentStatus::Success));
    let received = bob.receives("hi").await;
    assert_eq!((&received.message_id, received.timestamp), (&sent.message_id, sent.timestamp));
    assert_eq!((received.sender_user_id.as_str(), received.direction()), ("ann", MessageDirection::Receive));
    // All types that need no storage.
    for message in [Message::command(vec![1, 2]), Message::custom("{}", 7), Message::barrage("wow")] {
        soon(bob.send_to(room("stage"), message)).await.unwrap();
    }
    soon(bob.send_to(room("stage"), Message::text("last"))).await.unwrap();
    ann.receives("last").await;
    let all = [MessageType::Command, MessageType::Custom, MessageType::Barrage, MessageType::Text];
    assert_eq!(types(&ann, "stage"), all);
    // Nothing is a conversation.
    for device in [&ann, &bob] {
        assert!(device.conversations().await.is_empty());
        assert!(device.seen_of(EventKind::ConversationChanged).is_empty());
    }
    // Nobody else heard anything: not the other devices, not the other room. A later message has arrived everywhere.
    barrier(&cai, &[("ann", &phone), ("bob", &tablet), ("bob", &bob)], "later").await;
    barrier(&ann, &[("cai", &cai)], "later").await;
    for device in [&tablet, &phone, &cai] {
        assert!(device.seen_of(EventKind::RoomMessageReceived).is_empty());
    }
    assert_eq!(types(&bob, "stage"), [MessageType::Text], "who sends gets no copy");
    world.end().await;
}

#[tokio::test]
async fn send_message_to_a_room_takes_a_file() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("paper");
    std::fs::write(&path, "paper").unwrap();
    let path = path.to_str().unwrap();
    let mut sent = soon(ann.send_to(room("stage"), Message::file(path))).await.unwrap();
    assert_eq!((sent.sent_status(), &**sent.media_parts()[0].local_path), (MessageSentStatus::Success, path));
    let received = bob
        .until("the message", |seen| {
            seen.iter().find_map(|event| match event {
                Event::RoomMessageReceived(event) => event.message_list.first().cloned(),
                _ => None,
            })
        })
        .await;
    assert_eq!(received.r#type(), MessageType::File);
    let config = MediaDownloadConfig::default();
    let downloaded = bob.download_media_file(&received, MediaFileType::OriginalFile, config, |_, _, _| {});
    assert_eq!(std::fs::read(soon(downloaded).await.unwrap().file_local_path).unwrap(), b"paper");
    // A file that is missing fails, and no conversation comes into being.
    let missing = refusal(soon(ann.send_to(room("stage"), Message::file(format!("{path}.none")))).await);
    assert_eq!(missing, ErrorCode::MessageModuleFileNotExist);
    for device in [&ann, &bob] {
        assert!(device.conversations().await.is_empty());
    }
    world.end().await;
}

#[tokio::test]
async fn send_message_to_a_room_is_refused_outside_of_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    let outside = ErrorCode::MessageModuleSendMessageFailed;
    assert_eq!(refusal(soon(bob.send_to(room("stage"), Message::text("hi"))).await), outside);
    assert_eq!(refusal(soon(bob.send_to(room("none"), Message::text("hi"))).await), outside);
    let mut raw = world.raw_user("bob", 1).await;
    let to = |room_id: &str, message: Message| SendMessageRequest {
        message: Some(message),
        to_conversation_id: room_id.into(),
        conversation_type: ConversationType::Room as i32,
        ..SendMessageRequest::default()
    };
    let code = async |raw: &mut zim_integration_tests::RawClient, request: SendMessageRequest| {
        raw.call(&request).await.unwrap_err().code
    };
    assert_eq!(code(&mut raw, to("stage", Message::text("hi"))).await, NOT_IN as i32);
    assert_eq!(code(&mut raw, to("none", Message::text("hi"))).await, NONE as i32);
    assert_eq!(code(&mut raw, to("stage", Message::barrage("hi"))).await, INVALID as i32);
    let barrage = |conversation_type: ConversationType, message: Message| SendBarrageRequest {
        message: Some(message),
        to_conversation_id: "stage".into(),
        conversation_type: conversation_type as i32,
        ..SendBarrageRequest::default()
    };
    for (kind, message, expected) in [
        (ConversationType::Room, Message::barrage("hi"), NOT_IN),
        (ConversationType::Room, Message::text("hi"), INVALID),
        (ConversationType::Group, Message::barrage("hi"), INVALID),
    ] {
        assert_eq!(raw.call(&barrage(kind, message)).await.unwrap_err().code, expected as i32);
    }
    raw.end().await;
    // What needs storage, and what goes to rooms only.
    soon(bob.join_room("stage")).await.unwrap();
    let combine =
        Body::Combine(Box::new(CombineMessage { title: "t".into(), summary: "s".into(), ..CombineMessage::default() }));
    let combine = Message { body: Some(combine), ..Message::default() };
    assert_eq!(refusal(soon(bob.send_to(room("stage"), combine)).await), INVALID);
    let empty = Message { body: Some(Body::Barrage(BarrageMessage { message: " ".into() })), ..Message::default() };
    assert_eq!(refusal(soon(bob.send_to(room("stage"), empty)).await), INVALID);
    assert_eq!(refusal(soon(bob.send("ann", Message::barrage("hi"))).await), INVALID);
    let most = 5_120;
    soon(bob.send_to(room("stage"), Message::barrage("x".repeat(most)))).await.unwrap();
    assert_eq!(refusal(soon(bob.send_to(room("stage"), Message::barrage("x".repeat(most + 1)))).await), INVALID);
    world.end().await;
}

#[tokio::test]
#[expect(deprecated, reason = "it is the deprecated method that is tested")]
async fn send_room_message_is_the_older_form_and_raises_the_older_event() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    bob.on(EventKind::ReceiveRoomMessage, move |_, event| {
        let Event::ReceiveRoomMessage(event) = event else { panic!("{event:?}") };
        heard.send((event.from_conversation_id.clone(), texts(&event.message_list))).unwrap();
    });
    let config = MessageSendConfig::default();
    soon(ann.send_room_message(Message::text("hi"), "stage", config)).await.unwrap();
    assert_eq!(soon(hears.recv()).await.unwrap(), ("stage".to_owned(), vec!["hi".to_owned()]));
    assert_eq!(bob.seen_of(EventKind::RoomMessageReceived).len(), 1);
    world.end().await;
}

#[tokio::test]
async fn messages_to_a_room_have_one_order_for_everybody() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    create(&ann, "stage").await;
    let mut crowd = Vec::new();
    for number in 0..4 {
        let device = world.user(&format!("u{number}")).await;
        soon(device.join_room("stage")).await.unwrap();
        is_told(&ann, &format!("stage +u{number}")).await;
        crowd.push(device);
    }
    // Ann only listens. Everybody else talks at once, barrages among texts.
    let mut calls = Vec::new();
    for round in 0..10 {
        for (number, device) in crowd.iter().enumerate() {
            let text = format!("{number}:{round}");
            let message = if round % 3 == 0 { Message::barrage(text) } else { Message::text(text) };
            calls.push(device.send_to(room("stage"), message));
        }
    }
    for sent in join_all(calls).await {
        sent.unwrap();
    }
    soon(crowd[0].send_to(room("stage"), Message::text("end"))).await.unwrap();
    ann.receives("end").await;
    let words = |device: &Device| -> Vec<String> {
        let received = device.received_from("stage");
        received.iter().filter_map(|(message, _)| message.as_text().map(str::to_owned)).collect()
    };
    let all = words(&ann);
    assert_eq!(all.len(), 41);
    for (number, device) in crowd.iter().enumerate() {
        let own = format!("{number}:");
        // In the order of the calls.
        let sent: Vec<_> = all.iter().filter(|text| text.starts_with(&own)).cloned().collect();
        assert_eq!(sent, (0..10).map(|round| format!("{number}:{round}")).collect::<Vec<_>>());
        if number > 0 {
            device.receives("end").await;
            let others: Vec<_> = all.iter().filter(|text| !text.starts_with(&own)).cloned().collect();
            assert_eq!(words(device), others, "u{number}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_barrage_is_not_limited_in_its_rate() {
    let world = World::with(|config| {
        config.limits.messages_per_second = 1;
        config.limits.message_burst = 1;
        config.limits.requests_per_second = 10;
        config.limits.request_burst = 10;
    })
    .await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    world.clock.advance(60_000);
    let calls: Vec<_> =
        (0..50).map(|number| ann.send_to(room("stage"), Message::barrage(number.to_string()))).collect();
    for sent in join_all(calls).await {
        sent.unwrap();
    }
    bob.until("50 barrages", |_| (types(&bob, "stage").len() == 50).then_some(())).await;
    world.end().await;
}

#[tokio::test]
async fn send_barrage_takes_a_priority_and_refuses_an_unknown_one() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    soon(bob.join_room("stage")).await.unwrap();
    let stage = ann.room("stage");
    for priority in [MessagePriority::Low, MessagePriority::Medium, MessagePriority::High] {
        let config = MessageSendConfig { priority: priority as i32, ..MessageSendConfig::default() };
        let sent = stage.send_with(Message::barrage(format!("{priority:?}")), config);
        soon(sent).await.unwrap();
    }
    bob.until("three barrages", |_| (types(&bob, "stage").len() == 3).then_some(())).await;
    let config = MessageSendConfig { priority: 9, ..MessageSendConfig::default() };
    assert_eq!(refusal(soon(stage.send_with(Message::barrage("x"), config)).await), INVALID);
    let config = MessageSendConfig { idempotency_key: "once".into(), ..MessageSendConfig::default() };
    assert_eq!(refusal(soon(stage.send_with(Message::text("x"), config)).await), INVALID);
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_a_room_is_empty_and_for_those_who_are_in_it() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "stage").await;
    ann.say(room("stage"), "hi").await;
    assert!(ann.history(room("stage")).await.is_empty());
    let query = |device: &Device, room_id: &str| {
        let (device, room_id) = (zim_client_sdk::Zim::clone(device), room_id.to_owned());
        async move { device.query_history_message(&room_id, ConversationType::Room, MessageQueryConfig::default()).await }
    };
    assert_eq!(refusal(soon(query(&bob, "stage")).await), NOT_IN);
    assert_eq!(refusal(soon(query(&bob, "none")).await), NONE);
    world.end().await;
}
