//! Sending and querying messages.

use std::sync::Arc;

use parking_lot::Mutex;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, is_text, refusal, send_text, soon, texts};
use zim_protocol::message::Body;
use zim_protocol::{
    ConversationEvent, ConversationType, ErrorCode, Event, EventKind, Message, MessageDirection, MessageQueryConfig,
    MessageQueryMode, MessageSendConfig, MessageSentStatus, MessageType, QueryHistoryMessageRequest,
    SendMessageRequest,
};

use super::group::create;

const PEER: ConversationType = ConversationType::Peer;

fn page(count: i64, reverse: bool, next_message: Option<Message>) -> MessageQueryConfig {
    MessageQueryConfig { next_message, count, reverse, mode: MessageQueryMode::General as i32 }
}

async fn history(device: &Device, peer: &str, config: MessageQueryConfig) -> Vec<Message> {
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
    let bob = world.user("bob").await;
    ann.say("bob", "meanwhile").await;
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
async fn send_message_twice_under_one_key_is_stored_once() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let first = raw.call(&send_text("bob", "once", 7)).await.unwrap().message.unwrap();
    world.clock.advance(5_000);
    let second = raw.call(&send_text("bob", "once", 7)).await.unwrap().message.unwrap();
    assert_eq!(first, second, "the same answer");
    // Over another connection, as after a reconnect.
    let mut other = world.raw_user("ann", 2).await;
    let third = other.call(&send_text("bob", "once", 7)).await.unwrap().message.unwrap();
    assert_eq!((third.message_id, third.message_seq), (first.message_id, first.message_seq));
    // Concurrently.
    let ids: Vec<u64> = {
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.push(raw.send_request(&send_text("bob", "at once", 8)).await);
        }
        ids
    };
    assert_eq!(
        raw.responses(ids.len()).await.iter().filter(|response| zim_integration_tests::code(response) == 0).count(),
        5
    );
    raw.call(&send_text("bob", "end", 9)).await.unwrap();
    bob.receives("end").await;
    assert_eq!(texts(&bob.history("ann").await), ["once", "at once", "end"]);
    raw.end().await;
    other.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_of_another_body_under_a_used_key_is_refused() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.call(&send_text("bob", "the first", 7)).await.unwrap();
    let other_config = SendMessageRequest {
        config: Some(MessageSendConfig { has_receipt: true, ..MessageSendConfig::default() }),
        ..send_text("bob", "the first", 7)
    };
    let other_kind = SendMessageRequest { message: Some(Message::custom("the first", 0)), ..send_text("bob", "", 7) };
    for other in [send_text("bob", "the second", 7), other_config, other_kind] {
        let refused = raw.call(&other).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32, "{refused}");
    }
    // In one batch with other messages.
    raw.send_request(&send_text("bob", "left", 20)).await;
    let bad = raw.send_request(&send_text("bob", "another body", 7)).await;
    raw.send_request(&send_text("bob", "right", 21)).await;
    for response in raw.responses(3).await {
        let expected = if response.id == bad { ErrorCode::CommonModuleParamsInvalid as i32 } else { 0 };
        assert_eq!(zim_integration_tests::code(&response), expected, "{response:?}");
    }
    bob.receives("right").await;
    assert_eq!(texts(&bob.history("ann").await), ["the first", "left", "right"]);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_keys_are_separate_for_each_sender_and_conversation() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let mut raw_ann = world.raw_user("ann", 1).await;
    let mut raw_bob = world.raw_user("bob", 2).await;
    raw_ann.call(&send_text("bob", "from ann", 7)).await.unwrap();
    raw_bob.call(&send_text("ann", "from bob", 7)).await.unwrap();
    raw_ann.call(&send_text("carl", "to carl", 7)).await.unwrap();
    ann.receives("from bob").await;
    bob.receives("from ann").await;
    carl.receives("to carl").await;
    assert_eq!(texts(&ann.history("bob").await), ["from ann", "from bob"]);
    raw_ann.end().await;
    raw_bob.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_without_a_key_is_a_new_message_each_time() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    for _ in 0..2 {
        let request = SendMessageRequest { client_key: Default::default(), ..send_text("bob", "hi", 0) };
        raw.call(&request).await.unwrap();
    }
    let request = SendMessageRequest { client_key: vec![1; 15].into(), ..send_text("bob", "hi", 0) };
    assert_eq!(raw.call(&request).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    eventually("both", async || (bob.history("ann").await.len() == 2).then_some(())).await;
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_is_answered_with_the_message_as_it_is_stored() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let text = serde_json::json!({
        "type": 1, "message": "hi", "extendedData": "{}", "mentionedUserIDs": ["bob"], "isMentionAll": true,
        "messageID": "7", "senderUserID": "mallory", "isServerMessage": true,
    });
    let custom = serde_json::json!({"type": 200, "message": "{}", "subType": 42, "searchedContent": "dice"});
    for message in [text, custom] {
        let config = serde_json::json!({"hasReceipt": true});
        let key = "AAECAwQFBgcICQoLDA0ODw==".replace("AA", if message["type"] == 1 { "AA" } else { "BB" });
        let request = serde_json::json!({
            "toConversationID": "bob", "conversationType": 0, "message": message, "config": config, "clientKey": key,
        });
        let answer = soon(ann.call_json("Message/SendMessage", request.clone())).await.unwrap();
        let (sent, seq) = (&answer["message"], &answer["message"]["messageSeq"]);
        let asked = serde_json::json!({"messageSeqs": [seq], "conversationID": "bob", "conversationType": 0});
        let stored = soon(ann.call_json("Message/QueryMessages", asked)).await.unwrap();
        assert_eq!(*sent, stored["messageList"][0]);
        assert_eq!((&sent["message"], &sent["receiptStatus"]), (&message["message"], &serde_json::json!(1)));
        // Sent again with the same key, it is answered in the same way.
        assert_eq!(soon(ann.call_json("Message/SendMessage", request)).await.unwrap(), answer);
    }
    let command = serde_json::json!({"type": 2, "message": "AQID", "extendedData": "x"});
    let request = serde_json::json!({"toConversationID": "bob", "conversationType": 0, "message": command});
    let answer = soon(ann.call_json("Message/SendMessage", request)).await.unwrap();
    assert_eq!(
        (&answer["message"]["message"], &answer["message"]["extendedData"]),
        (&command["message"], &command["extendedData"])
    );
    world.end().await;
}

#[tokio::test]
async fn send_message_is_answered_without_the_content_if_the_client_has_it() {
    let world = World::new().await;
    world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let message = Message { extended_data: "data".into(), ..Message::text("a text that crosses the wire once") };
    for omit_content in [false, true] {
        let request = SendMessageRequest { message: Some(message.clone()), omit_content, ..send_text("bob", "", 1) };
        let id = raw.send_request(&request).await;
        let response = raw.response().await;
        assert_eq!(response.id, id);
        assert!(response.pushes.iter().all(|push| push.messages.iter().all(|entry| entry.content.is_empty())));
        let Some(zim_protocol::response::Outcome::Ok(bytes)) = response.outcome else { panic!("{response:?}") };
        let sent = <zim_protocol::MessageSentResult as prost::Message>::decode(bytes).unwrap().message.unwrap();
        assert_eq!((sent.message_seq, sent.r#type()), (1, MessageType::Text));
        assert_eq!((sent.body.is_none(), sent.extended_data.is_empty()), (omit_content, omit_content));
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
async fn query_history_message_walks_both_ways_without_the_anchor() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=10 {
        let (from, to) = if number % 2 == 0 { (&ann, "bob") } else { (&bob, "ann") };
        from.say(to, &number.to_string()).await;
    }
    ann.receives("9").await;
    bob.receives("10").await;
    for device in [&ann, &bob] {
        let peer = if device.user_id().as_deref() == Some("ann") { "bob" } else { "ann" };
        let newest = history(device, peer, page(3, true, None)).await;
        assert_eq!(texts(&newest), ["8", "9", "10"]);
        let older = history(device, peer, page(3, true, Some(newest[0].clone()))).await;
        assert_eq!(texts(&older), ["5", "6", "7"]);
        let newer = history(device, peer, page(3, false, Some(older[2].clone()))).await;
        assert_eq!(texts(&newer), ["8", "9", "10"]);
        let oldest = history(device, peer, page(2, false, None)).await;
        assert_eq!(texts(&oldest), ["1", "2"]);
        assert!(history(device, peer, page(5, true, Some(oldest[0].clone()))).await.is_empty());
        assert!(history(device, peer, page(5, false, Some(newest[2].clone()))).await.is_empty());
        for count in [0, 1_000] {
            assert_eq!(history(device, peer, page(count, true, None)).await.len(), 10);
        }
        let refused = soon(device.query_history_message(peer, PEER, page(-1, true, None))).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_a_fresh_device_comes_from_the_server() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=120 {
        drop(ann.send("bob", Message::text(number.to_string())));
    }
    ann.say("bob", "121").await;
    let fresh = world.device("ann").await;
    let all = texts(&fresh.history("bob").await);
    assert_eq!(all, (1..=121).map(|number| number.to_string()).collect::<Vec<_>>());
    // Fetched messages are held locally and need no server.
    assert_eq!(texts(&fresh.history_by("bob", MessageQueryMode::OnlyLocal).await), all);
    world.end().await;
}

/// A page of history as the server gives it to any client.
async fn raw_history(device: &Device, config: serde_json::Value) -> Result<Vec<String>, ErrorCode> {
    let request = serde_json::json!({"conversationID": "bob", "conversationType": 0, "config": config});
    let answer = soon(device.call_json("Message/QueryHistoryMessage", request)).await.map_err(|error| error.code())?;
    let list = answer["messageList"].as_array().unwrap();
    Ok(list.iter().map(|message| message["message"].as_str().unwrap().to_owned()).collect())
}

#[tokio::test]
async fn query_history_message_beyond_the_newest_message_begins_at_the_end() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=5 {
        ann.say("bob", &number.to_string()).await;
    }
    let modes = [MessageQueryMode::General, MessageQueryMode::PreferServer, MessageQueryMode::OnlyLocal];
    // The fresh device holds nothing at first.
    for device in [&world.device("ann").await, &ann] {
        for seq in [6, 7, 1_000_000, i64::MAX] {
            for mode in modes {
                let next = Message { message_seq: seq, ..Message::default() };
                let at = |reverse| MessageQueryConfig { mode: mode as i32, ..page(3, reverse, Some(next.clone())) };
                assert_eq!(texts(&history(device, "bob", at(true)).await), ["3", "4", "5"], "{seq} {mode:?}");
                assert!(history(device, "bob", at(false)).await.is_empty(), "{seq} {mode:?}");
            }
            let raw = |reverse| serde_json::json!({"count": 3, "reverse": reverse, "nextMessage": {"messageSeq": seq}});
            assert_eq!(raw_history(&ann, raw(true)).await.unwrap(), ["3", "4", "5"]);
            assert!(raw_history(&ann, raw(false)).await.unwrap().is_empty());
        }
    }
    world.end().await;
}

#[tokio::test]
async fn query_history_message_looks_up_an_anchor_by_its_id() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut sent = Vec::new();
    for number in 1..=5 {
        sent.push(ann.say("bob", &number.to_string()).await);
    }
    bob.receives("5").await;
    let third = Message { message_id: sent[2].message_id.clone(), ..Message::default() };
    for device in [&world.device("ann").await, &ann] {
        assert_eq!(texts(&history(device, "bob", page(9, true, Some(third.clone()))).await), ["1", "2"]);
        assert_eq!(texts(&history(device, "bob", page(9, false, Some(third.clone()))).await), ["4", "5"]);
        // A message that identifies nothing is none.
        assert_eq!(texts(&history(device, "bob", page(2, true, Some(Message::default()))).await), ["4", "5"]);
    }
    let by_key = Message { local_message_id: sent[2].local_message_id.clone(), ..Message::default() };
    assert_eq!(texts(&history(&ann, "bob", page(9, true, Some(by_key))).await), ["1", "2"]);
    let raw = |next: serde_json::Value| serde_json::json!({"reverse": true, "nextMessage": next});
    let id = &sent[2].message_id;
    assert_eq!(raw_history(&ann, raw(serde_json::json!({"messageID": id}))).await.unwrap(), ["1", "2"]);
    assert_eq!(raw_history(&ann, raw(serde_json::json!({"orderKey": 301}))).await.unwrap(), ["1", "2", "3"]);
    assert_eq!(raw_history(&ann, raw(serde_json::json!({"orderKey": 300}))).await.unwrap(), ["1", "2"]);
    // A message of another conversation, one that does not exist, and no number.
    let carl = world.user("carl").await;
    let other = ann.say("carl", "elsewhere").await;
    carl.receives("elsewhere").await;
    let refused = soon(ann.query_history_message("bob", PEER, page(9, true, Some(other.clone())))).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "its place says nothing here");
    for message_id in [other.message_id.as_str(), "4711", "x"] {
        let next = Message { message_id: message_id.to_owned(), ..Message::default() };
        for mode in [MessageQueryMode::General, MessageQueryMode::OnlyLocal] {
            let config = MessageQueryConfig { mode: mode as i32, ..page(9, true, Some(next.clone())) };
            let refused = soon(ann.query_history_message("bob", PEER, config)).await;
            assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid, "{message_id} {mode:?}");
        }
        let refused = raw_history(&ann, raw(serde_json::json!({"messageID": message_id}))).await;
        assert_eq!(refused.unwrap_err(), ErrorCode::CommonModuleParamsInvalid, "{message_id}");
    }
    world.end().await;
}

#[tokio::test]
async fn query_history_message_without_a_count_is_a_page() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=101 {
        drop(ann.send("bob", Message::text(number.to_string())));
    }
    ann.say("bob", "102").await;
    assert_eq!(history(&ann, "bob", MessageQueryConfig::default()).await.len(), 100);
    let first = raw_history(&ann, serde_json::json!({})).await.unwrap();
    assert_eq!((first.len(), first[0].as_str()), (100, "1"));
    assert_eq!(raw_history(&ann, serde_json::json!({"count": 101})).await.unwrap().len(), 100);
    let refused = raw_history(&ann, serde_json::json!({"count": -1})).await;
    assert_eq!(refused.unwrap_err(), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn query_history_message_mode_is_one_of_three() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "hi").await;
    let mut raw = world.raw_user("ann", 1).await;
    for (mode, is_known) in [(-1, false), (0, true), (2, true), (3, false), (9, false)] {
        let config = MessageQueryConfig { mode, ..page(3, true, None) };
        let by_sdk = soon(ann.query_history_message("bob", PEER, config.clone())).await;
        let request = QueryHistoryMessageRequest {
            conversation_id: "bob".into(),
            conversation_type: PEER as i32,
            config: Some(config),
        };
        let by_server = raw.call(&request).await;
        if is_known {
            assert_eq!(texts(&by_sdk.unwrap().message_list), ["hi"]);
            assert_eq!(texts(&by_server.unwrap().message_list), ["hi"]);
        } else {
            assert_eq!(refusal(by_sdk), ErrorCode::CommonModuleParamsInvalid);
            assert_eq!(by_server.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
        }
    }
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn query_history_message_of_an_unknown_conversation_is_empty() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    assert!(ann.history("bob").await.is_empty());
    assert!(ann.history("nobody").await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn query_history_message_is_refused_without_a_conversation() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let refused = soon(ann.query_history_message("", PEER, page(1, true, None))).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn query_history_message_shows_what_the_wire_carries() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    for number in 0..5 {
        ann.say("bob", &number.to_string()).await;
    }
    let request = serde_json::json!({
        "conversationID": "bob", "conversationType": 0, "config": {"count": 3, "reverse": true}
    });
    let answer = soon(ann.call_json("Message/QueryHistoryMessage", request)).await.unwrap();
    let list = answer["messageList"].as_array().unwrap();
    let shown: Vec<&str> = list.iter().map(|message| message["message"].as_str().unwrap()).collect();
    assert_eq!(shown, ["2", "3", "4"]);
    world.end().await;
}

#[tokio::test]
async fn query_messages_finds_by_position() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for number in 1..=5 {
        ann.say("bob", &number.to_string()).await;
    }
    bob.receives("5").await;
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        let found = soon(device.query_messages(&[4, 2, 99, 2], peer, PEER)).await.unwrap();
        assert_eq!(texts(&found.message_list), ["2", "4"]);
        assert_eq!(found.conversation_id, peer);
    }
    // On a device without local data.
    let fresh = world.device("ann").await;
    let found = soon(fresh.query_messages(&[1, 3], "bob", PEER)).await.unwrap();
    assert_eq!(texts(&found.message_list), ["1", "3"]);
    world.end().await;
}

#[tokio::test]
async fn query_messages_takes_1_to_10_positions() {
    let world = World::new().await;
    let ann = world.user("ann").await;
    let many: Vec<i64> = (1..=11).collect();
    for seqs in [&many[..], &[]] {
        assert_eq!(refusal(soon(ann.query_messages(seqs, "bob", PEER)).await), ErrorCode::CommonModuleParamsInvalid);
    }
    assert!(soon(ann.query_messages(&many[..10], "bob", PEER)).await.unwrap().message_list.is_empty());
    world.end().await;
}

#[tokio::test]
async fn query_messages_of_other_users_returns_nothing() {
    let world = World::new().await;
    let (ann, _bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    ann.say("bob", "between us").await;
    for peer in ["ann", "bob"] {
        assert!(soon(carl.query_messages(&[1], peer, PEER)).await.unwrap().message_list.is_empty());
        assert!(carl.history(peer).await.is_empty());
    }
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
