//! Sending messages.

use std::sync::Arc;

use parking_lot::Mutex;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, is_text, refusal, send_text, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::{
    ConversationEvent, ConversationType, ErrorCode, Event, EventKind, Message, MessageDirection, MessageQueryConfig,
    MessageSendConfig, MessageSentStatus, MessageType, SendMessageRequest,
};

use super::group::create;

const PEER: ConversationType = ConversationType::Peer;

pub(crate) async fn history(device: &Device, peer: &str, config: MessageQueryConfig) -> Vec<Message> {
    soon(device.query_history_message(peer, PEER, config)).await.unwrap().message_list
}

#[tokio::test]
async fn send_message_arrives_as_it_was_sent() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let message = Message { extended_data: "{\"a\":1}".into(), ..Message::text("hello, bob – 你好 👋") };
    let sent = soon(ann.send("bob", message)).await.unwrap();
    let got = bob.receives("hello, bob – 你好 👋").await;
    assert_eq!((sent.direction(), got.direction()), (MessageDirection::Send, MessageDirection::Receive));
    assert_eq!((sent.conversation_id.as_str(), got.conversation_id.as_str()), ("bob", "ann"));
    assert_eq!((sent.sender_user_id.as_str(), got.sender_user_id.as_str()), ("ann", "ann"));
    assert_eq!(sent.message_id, got.message_id);
    assert!(sent.message_id.parse::<i64>().unwrap() > 0);
    assert_eq!((sent.message_seq, got.message_seq), (1, 1));
    assert_eq!((sent.order_key, got.order_key), (100, 100));
    assert_eq!((sent.timestamp, got.timestamp), (world.clock.now_ms(), world.clock.now_ms()));
    assert_eq!(sent.sent_status(), MessageSentStatus::Success);
    assert_eq!(got.extended_data, "{\"a\":1}");
    assert_eq!(got.r#type(), MessageType::Text);
    assert_eq!(sent.local_message_id.len(), 32);
    world.end().await;
}

#[tokio::test]
async fn send_message_raises_the_older_event_too() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (told, mut older) = tokio::sync::mpsc::unbounded_channel();
    bob.on(EventKind::ReceivePeerMessage, move |_, event| told.send(event.clone()).unwrap());
    ann.say("bob", "hi").await;
    match soon(older.recv()).await {
        Some(Event::ReceivePeerMessage(event)) => {
            assert_eq!(event.from_conversation_id, "ann");
            assert_eq!(texts(&event.message_list), ["hi"]);
        }
        other => panic!("{other:?}"),
    }
    match bob.next(EventKind::PeerMessageReceived).await {
        Event::PeerMessageReceived(event) => assert!(!event.info.unwrap().is_offline_message),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

#[tokio::test]
async fn send_message_shows_the_message_before_it_is_sent_and_reports_the_result() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let attached: Arc<Mutex<Option<Message>>> = Arc::default();
    let slot = Arc::clone(&attached);
    let notification = MessageSendNotification::default()
        .on_message_attached(move |message: &Message| *slot.lock() = Some(message.clone()));
    let sent = ann.send_message(Message::text("hi"), "bob", PEER, MessageSendConfig::default(), notification);
    let sent = soon(sent).await.unwrap().message.unwrap();
    let attached = attached.lock().take().expect("attached before it was sent");
    assert_eq!(attached.sent_status(), MessageSentStatus::Sending);
    assert_eq!(attached.local_message_id, sent.local_message_id);
    let infos = ann
        .until("both states", |seen| {
            let of = |event: &Event| match event {
                Event::MessageSentStatusChanged(event) => event.infos.clone(),
                _ => Vec::new(),
            };
            let infos: Vec<_> = seen.iter().flat_map(of).collect();
            (infos.len() == 2).then_some(infos)
        })
        .await;
    assert_eq!(infos[0].status(), MessageSentStatus::Sending);
    assert_eq!(infos[1].status(), MessageSentStatus::Success);
    assert_eq!(infos[1].message.as_ref().unwrap().message_id, sent.message_id);
    world.end().await;
}

#[tokio::test]
async fn send_message_custom_and_its_sub_type_arrive() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    soon(ann.send("bob", Message::custom("{\"dice\":6}", 42))).await.unwrap();
    let got = bob
        .until("the custom message", |seen| {
            seen.iter().find_map(|event| match event {
                Event::PeerMessageReceived(event) => event.message_list.first().cloned(),
                _ => None,
            })
        })
        .await;
    match got.body {
        Some(Body::Custom(custom)) => assert_eq!((custom.message.as_str(), custom.sub_type), ("{\"dice\":6}", 42)),
        other => panic!("{other:?}"),
    }
    assert_eq!(bob.history("ann").await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn send_message_command_arrives_and_is_not_stored() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = soon(ann.send("bob", Message::command(vec![0, 159, 146, 150]))).await.unwrap();
    assert_eq!(sent.message_seq, 0);
    let got = bob
        .until("the command", |seen| {
            seen.iter().find_map(|event| match event {
                Event::PeerMessageReceived(event) => event.message_list.first().cloned(),
                _ => None,
            })
        })
        .await;
    match got.body {
        Some(Body::Command(command)) => assert_eq!(&command.message[..], [0, 159, 146, 150]),
        other => panic!("{other:?}"),
    }
    assert!(bob.conversations().await.is_empty());
    assert!(ann.conversations().await.is_empty());
    assert!(bob.history("ann").await.is_empty());
    assert_eq!(bob.total_unread().await, 0);
    // A command takes no position.
    assert_eq!(ann.say("bob", "first").await.message_seq, 1);
    world.end().await;
}

#[tokio::test]
async fn send_message_is_stored_in_the_order_of_the_calls() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let calls: Vec<_> = (0..50).map(|number| ann.send("bob", Message::text(format!("{number}")))).collect();
    // Awaited in reverse: the order of the calls counts.
    for call in calls.into_iter().rev() {
        soon(call).await.unwrap();
    }
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(texts(&ann.history("bob").await), expected);
    bob.receives("49").await;
    assert_eq!(texts(bob.received_from("ann").iter().map(|(message, _)| message)), expected);
    assert_eq!(texts(&bob.history("ann").await), expected);
    world.end().await;
}

#[tokio::test]
async fn send_message_to_oneself_is_refused() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    assert_eq!(refusal(soon(ann.send("ann", Message::text("me"))).await), ErrorCode::CommonModuleParamsInvalid);
    let mut raw = world.raw_user("bob", 1).await;
    let refused = raw.call(&send_text("bob", "me", 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_to_an_unknown_user_fails_and_disables_the_conversation() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let refused = soon(ann.send("nobody", Message::text("hello?"))).await;
    assert_eq!(refusal(refused), ErrorCode::MessageModuleTargetDoesNotExist);
    ann.until("the conversation is disabled", |seen| {
        let is_it = |event: &Event| match event {
            Event::ConversationChanged(event) => event.info_list.iter().any(|info| {
                info.event() == ConversationEvent::Disabled
                    || info.conversation.as_ref().is_some_and(|conversation| conversation.is_disabled)
            }),
            _ => false,
        };
        seen.iter().any(is_it).then_some(())
    })
    .await;
    ann.until("the message has failed", |seen| {
        let is_it = |event: &Event| match event {
            Event::MessageSentStatusChanged(event) => {
                event.infos.iter().any(|info| info.status() == MessageSentStatus::Failed)
            }
            _ => false,
        };
        seen.iter().any(is_it).then_some(())
    })
    .await;
    let held = ann.history("nobody").await;
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].sent_status(), MessageSentStatus::Failed);
    world.end().await;
}

#[tokio::test]
async fn send_message_that_failed_is_sent_again_as_a_new_last_message() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    refusal(soon(ann.send("bob", Message::text("first try"))).await);
    let failed = ann.history("bob").await.remove(0);
    assert!(ann.conversation("bob").await.is_disabled);
    let bob = world.user("bob").await;
    ann.say("bob", "meanwhile").await;
    eventually("it is enabled", async || (!ann.conversation("bob").await.is_disabled).then_some(())).await;
    let config = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let sent = ann.send_message(failed.clone(), "bob", PEER, config, MessageSendNotification::default());
    let sent = soon(sent).await.unwrap().message.unwrap();
    assert_eq!(sent.local_message_id, failed.local_message_id);
    bob.receives("first try").await;
    assert_eq!(texts(&ann.history("bob").await), ["meanwhile", "first try"]);
    assert_eq!(texts(&bob.history("ann").await), ["meanwhile", "first try"]);
    world.end().await;
}

#[tokio::test]
async fn send_message_again_is_refused_unless_it_failed() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let sent = ann.say("bob", "fine").await;
    let config = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let refused = ann.send_message(sent, "bob", PEER, config, MessageSendNotification::default());
    assert_eq!(refusal(soon(refused).await), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(ann.history("bob").await.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn send_message_priority_is_one_of_three_or_missing() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut raw = world.raw_user("ann", 1).await;
    for (priority, is_known) in [(-1, false), (0, true), (1, true), (3, true), (4, false), (9, false)] {
        let config = MessageSendConfig { priority, ..MessageSendConfig::default() };
        let voip = zim_protocol::VoIpConfig { ios_voip_handle_type: priority, ..Default::default() };
        let push = zim_protocol::PushConfig { vo_ip_config: Some(voip), ..Default::default() };
        let push = MessageSendConfig { push_config: Some(push), ..MessageSendConfig::default() };
        for (config, name) in [(config, "config.priority"), (push, "config.pushConfig.voIPConfig.iOSVoIPHandleType")] {
            let notification = MessageSendNotification::default();
            let by_sdk = soon(ann.send_message(Message::text("hi"), "bob", PEER, config.clone(), notification)).await;
            let request = SendMessageRequest {
                config: Some(config),
                client_key: Default::default(),
                ..send_text("bob", "hi", 0)
            };
            let by_server = raw.call(&request).await;
            if is_known {
                assert!(by_sdk.is_ok() && by_server.is_ok(), "{name} {priority}");
                continue;
            }
            for (code, message) in [
                by_sdk.map_err(|error| (error.code() as i32, error.to_string())).unwrap_err(),
                by_server.map_err(|error| (error.code, error.message)).unwrap_err(),
            ] {
                assert_eq!(code, ErrorCode::CommonModuleParamsInvalid as i32);
                assert!(message.contains(name), "{message}");
            }
        }
    }
    eventually("the known ones", async || (bob.history("ann").await.len() == 12).then_some(())).await;
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_text_is_refused_when_empty_blank_too_long_or_with_a_null() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let limit = zim_server::config::Limits::default().max_text_bytes as usize;
    let (longest, too_long, far_too_long) = ("x".repeat(limit), "x".repeat(limit + 1), "x".repeat(40_000));
    let bad: [&str; 8] = ["", " ", " \t\n\u{3000}", "\0", "a\0b", "trailing\0", &too_long, &far_too_long];
    let mut raw = world.raw_user("ann", 1).await;
    for (key, text) in (0u8..).zip(bad) {
        let what: String = text.chars().take(10).collect();
        let by_sdk = soon(ann.send("bob", Message::text(text))).await;
        assert_eq!(refusal(by_sdk), ErrorCode::CommonModuleParamsInvalid, "by the SDK: {what:?}");
        let by_server = raw.call(&send_text("bob", text, key)).await.unwrap_err();
        assert_eq!(by_server.code, ErrorCode::CommonModuleParamsInvalid as i32, "by the server: {what:?}");
    }
    ann.say("bob", &longest).await;
    bob.receives(&longest).await;
    // Only the valid messages are stored.
    let stored = bob.history("ann").await;
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].message_seq, 1);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_limits_bytes_and_not_characters() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let limit = zim_server::config::Limits::default().max_text_bytes as usize;
    let fits = "é".repeat(limit / 2);
    ann.say("bob", &fits).await;
    bob.receives(&fits).await;
    let refused = soon(ann.send("bob", Message::text(format!("{fits}x")))).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn send_message_checks_the_limits_of_every_message_type() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let limits = zim_server::config::Limits::default();
    let (command, custom) = (limits.max_command_bytes as usize, limits.max_custom_bytes as usize);
    let data_too_long = Message { extended_data: "x".repeat(1_025), ..Message::text("hi") };
    let mentions = |count: usize| Message {
        mentioned_user_ids: (0..count).map(|number| format!("user{number}")).collect(),
        ..Message::text("hi")
    };
    let lie = Message { r#type: MessageType::Custom as i32, ..Message::text("hi") };
    let barrage = Message {
        body: Some(Body::Barrage(zim_protocol::BarrageMessage { message: "wow".into() })),
        ..Message::default()
    };
    for (what, message) in [
        ("an empty command", Message::command(Vec::new())),
        ("a long command", Message::command(vec![1; command + 1])),
        ("an empty custom", Message::custom("", 0)),
        ("a blank custom", Message::custom("  ", 0)),
        ("a long custom", Message::custom("x".repeat(custom + 1), 0)),
        ("a custom with a null", Message::custom("a\0", 0)),
        ("a sub-type below 0", Message::custom("x", -1)),
        ("a sub-type above 200", Message::custom("x", 201)),
        ("long extended data", data_too_long),
        ("51 mentions", mentions(51)),
        ("nothing at all", Message::default()),
        ("a type that is another", lie),
        ("a barrage", barrage),
    ] {
        assert_eq!(
            refusal(soon(ann.send("bob", message.clone())).await),
            ErrorCode::CommonModuleParamsInvalid,
            "{what}"
        );
        let mut raw = world.raw_user("ann", 9).await;
        let request = SendMessageRequest { message: Some(message), ..send_text("bob", "", 1) };
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "by the server: {what}");
        raw.end().await;
    }
    for message in [
        Message::command(vec![1; command]),
        Message::custom("x".repeat(custom), 0),
        Message::custom("x", 200),
        mentions(50),
        Message { extended_data: "x".repeat(1_024), ..Message::text("hi") },
    ] {
        soon(ann.send("bob", message)).await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn send_message_to_an_invalid_conversation_is_refused() {
    let world = World::new().await;
    let mut raw = world.raw_user("ann", 1).await;
    let (longest, too_long) = ("x".repeat(32), "x".repeat(129));
    for id in ["", "b ob", "bob\0", "b/ob", "böb", too_long.as_str()] {
        let refused = raw.call(&send_text(id, "hi", 1)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "{id:?}");
    }
    let refused = raw.call(&send_text(&longest, "hi", 1)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MessageModuleTargetDoesNotExist as i32);
    for kind in [-1, 77, i32::MAX] {
        let request = SendMessageRequest { conversation_type: kind, ..send_text("bob", "hi", 1) };
        let refused = raw.call(&request).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "type {kind}");
    }
    let ann = world.user("ann").await;
    for (kind, code) in [
        (ConversationType::Group, ErrorCode::GroupModuleGroupDoesNotExist),
        // Ann is not in it.
        (ConversationType::Room, ErrorCode::MessageModuleSendMessageFailed),
    ] {
        let refused = ann.send_message(
            Message::text("hi"),
            "bob",
            kind,
            MessageSendConfig::default(),
            MessageSendNotification::default(),
        );
        assert_eq!(refusal(soon(refused).await), code, "{kind:?}");
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_ignores_fields_that_the_server_sets() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    world.user("mallory").await;
    let mut raw = world.raw_user("ann", 1).await;
    let lies = Message {
        sender_user_id: "mallory".into(),
        message_id: "1".into(),
        message_seq: 4_711,
        timestamp: 1,
        is_server_message: true,
        is_broadcast_message: true,
        editor_user_id: "mallory".into(),
        root_replied_count: 9,
        local_extended_data: "mine".into(),
        ..Message::text("lies")
    };
    raw.call(&SendMessageRequest { message: Some(lies), ..send_text("bob", "", 1) }).await.unwrap();
    let got = bob.receives("lies").await;
    assert_eq!((got.sender_user_id.as_str(), got.message_seq), ("ann", 1));
    assert_eq!(got.timestamp, world.clock.now_ms());
    assert!(!got.is_server_message && !got.is_broadcast_message);
    assert_eq!((got.editor_user_id.as_str(), got.root_replied_count, got.local_extended_data.as_str()), ("", 0, ""));
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_peer_message_is_the_older_form() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    #[expect(deprecated, reason = "tests the older form")]
    let sent = ann.send_peer_message(Message::text("old school"), "bob", MessageSendConfig::default());
    let sent = soon(sent).await.unwrap().message.unwrap();
    assert_eq!(bob.receives("old school").await.message_id, sent.message_id);
    world.end().await;
}

#[tokio::test]
#[expect(deprecated, reason = "it is the deprecated method that is tested")]
async fn send_group_message_is_the_older_form_and_raises_the_older_event() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    create(&ann, "g", &["bob"]).await;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    bob.on(EventKind::ReceiveGroupMessage, move |_, event| {
        let Event::ReceiveGroupMessage(event) = event else { panic!("{event:?}") };
        heard.send((event.from_conversation_id.clone(), texts(&event.message_list))).unwrap();
    });
    let sent = ann.send_group_message(Message::text("old school"), "g", MessageSendConfig::default());
    let sent = soon(sent).await.unwrap().message.unwrap();
    assert_eq!(soon(hears.recv()).await.unwrap(), ("g".to_owned(), vec!["old school".to_owned()]));
    assert_eq!(bob.receives("old school").await.message_id, sent.message_id);
    let nowhere = ann.send_group_message(Message::text("x"), "none", MessageSendConfig::default());
    assert_eq!(refusal(soon(nowhere).await), ErrorCode::GroupModuleGroupDoesNotExist);
    world.end().await;
}

#[tokio::test]
async fn send_message_reaches_the_senders_other_devices_as_sent() {
    let world = World::new().await;
    let (phone, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let sent = phone.say("bob", "from the phone").await;
    bob.receives("from the phone").await;
    let echo = laptop.receives("from the phone").await;
    assert_eq!(echo.direction(), MessageDirection::Send);
    assert_eq!((echo.conversation_id.as_str(), echo.message_id), ("bob", sent.message_id));
    assert!(is_text(laptop.conversation("bob").await.last_message.as_ref().unwrap(), "from the phone"));
    bob.say("ann", "now").await;
    laptop.receives("now").await;
    phone.receives("now").await;
    let received = phone.received_from("bob");
    assert_eq!(texts(received.iter().map(|(message, _)| message)), ["now"], "the sending device receives no echo");
    assert!(
        laptop.seen_of(EventKind::MessageSentStatusChanged).is_empty(),
        "only the sending device raises the status"
    );
    world.end().await;
}
