//! Deleting messages for oneself, combined messages, and messages that exist on one device only.

use std::sync::Arc;

use parking_lot::Mutex;
use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, group, refusal, soon, texts};
use zim_protocol::{
    CombineMessage, ConversationType, DeleteAllMessageRequest, ErrorCode, Event, EventKind, Message,
    MessageDeleteConfig, MessageDeleteType, MessageDeletedEvent, MessagePinConfig, MessageQueryConfig,
    MessageQueryMode, MessageRevokeConfig, MessageSendConfig, MessageType, SystemMessage, message::Body,
};

use super::group::create;

const PEER: ConversationType = ConversationType::Peer;
const HERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(false) };
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

async fn deleted(device: &Device) -> MessageDeletedEvent {
    match device.next(EventKind::MessageDeleted).await {
        Event::MessageDeleted(event) => event,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn delete_messages_on_the_server_deletes_on_all_own_devices_and_nobody_elses() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("bob").await;
    for text in ["1", "2", "3"] {
        ann.say("bob", text).await;
    }
    bob.receives("3").await;
    phone.receives("3").await;
    let history = bob.history("ann").await;
    soon(bob.delete_messages(&[history[0].clone(), history[2].clone()], "ann", PEER, EVERYWHERE)).await.unwrap();
    let event = deleted(&phone).await;
    assert_eq!((&*event.conversation_id, event.message_delete_type()), ("ann", MessageDeleteType::MessageListDeleted));
    assert_eq!(texts(&event.message_list), ["1", "3"]);
    for device in [&bob, &phone] {
        assert_eq!(texts(&device.history("ann").await), ["2"]);
        device.has_unread("ann", 1).await;
        assert_eq!(device.conversation("ann").await.last_message.unwrap().as_text(), Some("2"));
    }
    assert!(bob.seen_of(EventKind::MessageDeleted).is_empty(), "the device that deletes has the result");
    assert_eq!(texts(&ann.history("bob").await), ["1", "2", "3"], "others keep them");
    let new = world.device("bob").await;
    assert_eq!(texts(&new.history("ann").await), ["2"]);
    new.has_unread("ann", 1).await;
    // What becomes of it later is no news for this user.
    let of_ann = ann.history("bob").await;
    soon(ann.pin_message(&of_ann[0], true, MessagePinConfig::default())).await.unwrap();
    soon(ann.pin_message(&of_ann[1], true, MessagePinConfig::default())).await.unwrap();
    for device in [&bob, &phone] {
        match device.next(EventKind::MessagePinStatusChanged).await {
            Event::MessagePinStatusChanged(event) => {
                assert_eq!(event.infos[0].message.as_ref().unwrap().as_text(), Some("2"));
            }
            other => panic!("{other:?}"),
        }
    }
    // A deleted message can be referred to by nobody of this user.
    let refused = refusal(soon(bob.add_message_reaction("x", &history[0], Default::default())).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    soon(bob.delete_messages(&history[..1], "ann", PEER, EVERYWHERE)).await.unwrap();
    let unknown = Message { message_id: "17".into(), ..history[0].clone() };
    let refused = refusal(soon(bob.delete_messages(&[unknown], "ann", PEER, EVERYWHERE)).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

/// The app may have an object from before the message was sent, or know no more than the position.
#[tokio::test]
async fn delete_messages_on_the_server_takes_what_has_no_id() {
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("ann").await);
    let attached = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&attached);
    let notification = MessageSendNotification::default()
        .on_message_attached(move |message: &Message| *slot.lock() = Some(message.clone()));
    let sent = ann.send_message(Message::text("1"), "bob", PEER, MessageSendConfig::default(), notification);
    soon(sent).await.unwrap();
    for text in ["2", "3"] {
        ann.say("bob", text).await;
    }
    let attached = attached.lock().take().unwrap();
    assert_eq!((&*attached.message_id, attached.message_seq), ("", 0));
    let placed = Message { message_seq: 2, ..Message::default() };
    // What cannot be found is left out, as if it had an ID.
    let nowhere = Message { message_seq: 9, ..Message::default() };
    soon(ann.delete_messages(&[attached, placed, nowhere.clone()], "bob", PEER, EVERYWHERE)).await.unwrap();
    let new = world.device("ann").await;
    for device in [&ann, &phone, &new] {
        eventually("what is left", async || (texts(&device.history("bob").await) == ["3"]).then_some(())).await;
    }
    assert_eq!(texts(&bob.history("ann").await), ["1", "2", "3"], "others keep them");
    for config in [HERE, EVERYWHERE] {
        for (id, code) in [
            ("bob", ErrorCode::CommonModuleParamsInvalid),
            ("carl", ErrorCode::ConversationModuleConversationDoesNotExist),
        ] {
            let refused = soon(ann.delete_messages(std::slice::from_ref(&nowhere), id, PEER, config)).await;
            assert_eq!(refusal(refused), code, "{id} {config:?}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn delete_messages_on_this_device_only() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("bob").await;
    for text in ["1", "2", "3"] {
        ann.say("bob", text).await;
    }
    bob.receives("3").await;
    phone.receives("3").await;
    let history = bob.history("ann").await;
    soon(bob.delete_messages(&history[1..2], "ann", PEER, MessageDeleteConfig::default())).await.unwrap();
    bob.has_unread("ann", 2).await;
    assert_eq!(texts(&bob.history("ann").await), ["1", "3"]);
    // What only the device has deleted stays deleted over a restart, and other devices keep it.
    let dir = bob.dir();
    bob.quit().await;
    let bob = world.user_at(dir, "bob").await;
    assert_eq!(texts(&bob.history("ann").await), ["1", "3"]);
    ann.say("bob", "4").await;
    phone.receives("4").await;
    assert_eq!(texts(&phone.history("ann").await), ["1", "2", "3", "4"]);
    assert!(phone.seen_of(EventKind::MessageDeleted).is_empty());
    let none = refusal(soon(bob.delete_messages(&[], "ann", PEER, HERE)).await);
    assert_eq!(none, ErrorCode::CommonModuleParamsInvalid);
    let unknown = refusal(soon(bob.delete_messages(&history[..1], "carl", PEER, HERE)).await);
    assert_eq!(unknown, ErrorCode::ConversationModuleConversationDoesNotExist);
    world.end().await;
}

#[tokio::test]
async fn delete_all_message_on_this_device_only() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("bob").await;
    for text in ["1", "2"] {
        ann.say("bob", text).await;
    }
    bob.receives("2").await;
    phone.receives("2").await;
    soon(bob.insert_message_to_local_db(Message::text("note"), "ann", PEER, "bob")).await.unwrap();
    soon(bob.delete_all_message("ann", PEER, HERE)).await.unwrap();
    assert!(bob.history("ann").await.is_empty());
    bob.has_unread("ann", 0).await;
    ann.say("bob", "3").await;
    bob.receives("3").await;
    assert_eq!(texts(&bob.history("ann").await), ["3"]);
    bob.has_unread("ann", 1).await;
    assert_eq!(texts(&phone.history("ann").await), ["1", "2", "3"]);
    let dir = bob.dir();
    bob.quit().await;
    let bob = world.user_at(dir, "bob").await;
    assert_eq!(texts(&bob.history("ann").await), ["3"], "also after a restart");
    for config in [HERE, EVERYWHERE] {
        let unknown = refusal(soon(bob.delete_all_message("carl", PEER, config)).await);
        assert_eq!(unknown, ErrorCode::ConversationModuleConversationDoesNotExist);
    }
    world.end().await;
}

/// The server does not know what only this device has deleted.
#[tokio::test]
async fn query_messages_and_query_history_message_leave_out_what_only_this_device_has_deleted() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let mut sent = Vec::new();
    for text in ["1", "2", "3"] {
        sent.push(ann.say("bob", text).await);
    }
    bob.receives("3").await;
    // A new device has no more than the last message.
    let phone = world.device("bob").await;
    phone.has_unread("ann", 3).await;
    soon(phone.delete_all_message("ann", PEER, HERE)).await.unwrap();
    ann.say("bob", "4").await;
    for device in [&bob, &phone] {
        device.receives("4").await;
    }
    for (device, expected) in [(&bob, &["1", "2", "3", "4"][..]), (&phone, &["4"])] {
        let found = soon(device.query_messages(&[1, 2, 3, 4], "ann", PEER)).await.unwrap();
        assert_eq!(texts(&found.message_list), expected);
    }
    let page = async |index: usize, reverse| {
        let next_message = Message { message_id: sent[index].message_id.clone(), ..Message::default() };
        let next_message = Some(next_message);
        let config = MessageQueryConfig { next_message, count: 1, reverse, ..MessageQueryConfig::default() };
        texts(&soon(phone.query_history_message("ann", PEER, config)).await.unwrap().message_list)
    };
    // The next page that has anything, although the messages after the anchor are deleted.
    assert_eq!(page(0, false).await, ["4"]);
    assert!(page(2, true).await.is_empty());
    world.end().await;
}

/// The server has nothing to delete, or nothing new, and says nothing of what only this device has.
#[tokio::test]
async fn delete_all_message_on_the_server_takes_what_only_this_device_has() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "1").await;
    bob.receives("1").await;
    soon(bob.delete_all_message("ann", PEER, EVERYWHERE)).await.unwrap();
    for id in ["ann", "carl"] {
        let note = async || soon(bob.insert_message_to_local_db(Message::text("note"), id, PEER, "bob")).await.unwrap();
        let notes = async || texts(&bob.history_by(id, MessageQueryMode::OnlyLocal).await);
        note().await;
        assert_eq!(notes().await, ["note"], "{id}");
        soon(bob.delete_all_message(id, PEER, EVERYWHERE)).await.unwrap();
        assert!(notes().await.is_empty(), "{id}");
        note().await;
        soon(bob.delete_all_conversation_messages(EVERYWHERE)).await.unwrap();
        assert!(notes().await.is_empty(), "all, {id}");
    }
    world.end().await;
}

#[tokio::test]
async fn delete_all_message_keeps_messages_the_device_has_not_seen() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    for text in ["1", "2", "3"] {
        ann.say("bob", text).await;
    }
    bob.receives("3").await;
    let mut raw = world.raw_user("bob", 1).await;
    let through = |through_seq| DeleteAllMessageRequest {
        conversation_id: "ann".into(),
        conversation_type: PEER as i32,
        config: Some(EVERYWHERE),
        through_seq,
    };
    let invalid = ErrorCode::CommonModuleParamsInvalid as i32;
    assert_eq!(raw.call(&through(Some(-1))).await.unwrap_err().code, invalid);
    // A device that has seen none deletes none, and a lower position than before changes nothing.
    for seen in [0, 2, 1] {
        raw.call(&through(Some(seen))).await.unwrap();
    }
    deleted(&bob).await;
    let left = async |expected: &[&str]| {
        let new = world.device("bob").await;
        for device in [&bob, &new] {
            device.has_unread("ann", i64::try_from(expected.len()).unwrap()).await;
            assert_eq!(texts(&device.history("ann").await), expected);
        }
        // Only so many devices of a user are logged in.
        soon(new.logout()).await;
    };
    left(&["3"]).await;
    // Beyond the end is the end. A later message stays.
    raw.call(&through(Some(1_000))).await.unwrap();
    deleted(&bob).await;
    ann.say("bob", "4").await;
    bob.receives("4").await;
    left(&["4"]).await;
    // Clients of earlier versions do not say what they have seen.
    raw.call(&through(None)).await.unwrap();
    deleted(&bob).await;
    left(&[]).await;
    assert_eq!(texts(&ann.history("bob").await), ["1", "2", "3", "4"]);
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn delete_messages_takes_at_most_a_hundred() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "1").await;
    let message = bob.receives("1").await;
    let list = vec![message; 101];
    let refused = refusal(soon(bob.delete_messages(&list, "ann", PEER, EVERYWHERE)).await);
    assert_eq!(refused, ErrorCode::CommonModuleParamsInvalid);
    soon(bob.delete_messages(&list[..100], "ann", PEER, EVERYWHERE)).await.unwrap();
    assert!(bob.history("ann").await.is_empty());
    world.end().await;
}

#[tokio::test]
async fn delete_all_conversation_messages_clears_what_delete_all_message_leaves() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let phone = world.device("bob").await;
    create(&ann, "g", &["bob"]).await;
    for text in ["a1", "a2"] {
        ann.say("bob", text).await;
    }
    carl.say("bob", "c1").await;
    ann.say(group("g"), "g1").await;
    for device in [&bob, &phone] {
        for text in ["a2", "c1", "g1"] {
            device.receives(text).await;
        }
    }
    soon(bob.delete_all_message("ann", PEER, EVERYWHERE)).await.unwrap();
    let event = deleted(&phone).await;
    let kind = MessageDeleteType::ConversationAllMessagesDeleted;
    assert_eq!((&*event.conversation_id, event.message_delete_type(), event.message_list.len()), ("ann", kind, 0));
    for device in [&bob, &phone] {
        assert!(device.history("ann").await.is_empty());
        device.has_unread("ann", 0).await;
        device.has_unread("carl", 1).await;
    }
    ann.say("bob", "a3").await;
    phone.receives("a3").await;
    soon(bob.delete_all_conversation_messages(EVERYWHERE)).await.unwrap();
    phone
        .until("all deleted", |seen| {
            seen.iter().find_map(|event| match event {
                Event::MessageDeleted(event)
                    if event.message_delete_type() == MessageDeleteType::AllConversationMessagesDeleted =>
                {
                    Some(())
                }
                _ => None,
            })
        })
        .await;
    let new = world.device("bob").await;
    for device in [&bob, &phone, &new] {
        for peer in ["ann", "carl"] {
            assert!(device.history(peer).await.is_empty(), "{peer}");
            device.has_unread(peer, 0).await;
        }
        assert!(device.history(group("g")).await.is_empty());
    }
    assert_eq!(texts(&ann.history("bob").await), ["a1", "a2", "a3"], "others keep them");
    ann.say("bob", "a4").await;
    eventually("the next one", async || {
        (texts(&new.history("ann").await) == ["a4"] && texts(&bob.history("ann").await) == ["a4"]).then_some(())
    })
    .await;
    // On this device alone.
    soon(bob.delete_all_conversation_messages(HERE)).await.unwrap();
    assert!(bob.history("ann").await.is_empty());
    assert_eq!(texts(&new.history("ann").await), ["a4"]);
    world.end().await;
}

fn combine(title: &str, summary: &str, messages: &[Message]) -> Message {
    Message {
        body: Some(Body::Combine(Box::new(CombineMessage {
            title: title.into(),
            summary: summary.into(),
            message_list: messages.to_vec(),
            ..CombineMessage::default()
        }))),
        ..Message::default()
    }
}

fn combined(message: &Message) -> &CombineMessage {
    match &message.body {
        Some(Body::Combine(combine)) if message.r#type() == MessageType::Combine => combine,
        other => panic!("{other:?}"),
    }
}

async fn received(device: &Device, title: &str) -> Message {
    device
        .until("a combined message", |seen| {
            seen.iter().find_map(|event| match event {
                Event::PeerMessageReceived(event) => event
                    .message_list
                    .iter()
                    .find(|message| matches!(&message.body, Some(Body::Combine(combine)) if combine.title == title))
                    .cloned(),
                _ => None,
            })
        })
        .await
}

#[tokio::test]
async fn query_combine_message_detail_returns_one_level_after_the_other() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let dora = world.user("dora").await;
    let (one, two) = (ann.say("bob", "one").await, ann.say("bob", "two").await);
    let first = soon(ann.send("bob", combine("inner", "1, 2", &[one.clone(), two.clone()]))).await.unwrap();
    let inner = combined(&first);
    assert_eq!((&*inner.title, &*inner.summary, inner.message_list.len()), ("inner", "1, 2", 0));
    assert_eq!(inner.combine_id, first.message_id);
    // Carl sees neither the messages nor the first combined message. Carl sees all that the outer one combines.
    let outer = soon(ann.send("carl", combine("outer", "all", &[one.clone(), first.clone()]))).await.unwrap();
    let got = received(&carl, "outer").await;
    assert_eq!((combined(&got).combine_id.as_str(), combined(&got).message_list.len()), (&*outer.message_id, 0));
    let detail = soon(carl.query_combine_message_detail(&got)).await.unwrap().message.unwrap();
    let list = &combined(&detail).message_list;
    assert_eq!((list[0].as_text(), &*list[0].sender_user_id, list[0].timestamp), (Some("one"), "ann", one.timestamp));
    assert_eq!(combined(&list[1]).message_list.len(), 0, "one level");
    let detail = soon(carl.query_combine_message_detail(&list[1])).await.unwrap().message.unwrap();
    assert_eq!(texts(&combined(&detail).message_list), ["one", "two"]);
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    for (device, message) in [(&dora, &got), (&carl, &first), (&bob, &outer)] {
        assert_eq!(refusal(soon(device.query_combine_message_detail(message)).await), invalid);
    }
    assert_eq!(refusal(soon(ann.query_combine_message_detail(&one)).await), invalid);
    // A revoked source changes nothing of what was forwarded, a revoked combined message shows nothing any more.
    soon(ann.revoke_message(&one, MessageRevokeConfig::default())).await.unwrap();
    assert!(soon(carl.query_combine_message_detail(&got)).await.is_ok());
    soon(ann.revoke_message(&outer, MessageRevokeConfig::default())).await.unwrap();
    assert_eq!(refusal(soon(carl.query_combine_message_detail(&got)).await), invalid);
    // The sender's other devices have it like everybody else.
    let new = world.device("ann").await;
    let history = new.history("bob").await;
    assert_eq!(combined(&history[2]).combine_id, first.message_id);
    world.end().await;
}

#[tokio::test]
async fn send_message_of_a_combined_message_has_limits() {
    let world = World::with(|config| config.limits.max_combine_bytes = 4_096).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let one = ann.say("bob", "one").await;
    bob.receives("one").await;
    let send = async |message: Message| soon(ann.send("bob", message)).await;
    let invalid = ErrorCode::CommonModuleParamsInvalid;
    assert_eq!(refusal(send(combine("t", "s", &[])).await), invalid, "nothing to combine");
    assert_eq!(refusal(send(combine(&"t".repeat(21), "s", std::slice::from_ref(&one))).await), invalid);
    assert_eq!(refusal(send(combine("t", &"s".repeat(101), std::slice::from_ref(&one))).await), invalid);
    send(combine(&"t".repeat(20), &"s".repeat(100), std::slice::from_ref(&one))).await.unwrap();
    let long = Message { body: Message::text("x".repeat(2_000)).body, ..one.clone() };
    send(combine("t", "s", std::slice::from_ref(&long))).await.unwrap();
    assert_eq!(refusal(send(combine("t", "s", &[long.clone(), long.clone(), long])).await), invalid, "too much");
    for wrong in [
        Message { is_user_inserted: true, ..one.clone() },
        Message { message_id: String::new(), ..one.clone() },
        Message { body: Message::command(vec![1]).body, ..one.clone() },
    ] {
        assert_eq!(refusal(send(combine("t", "s", &[wrong])).await), invalid);
    }
    // Ten levels, and not one more.
    let mut last = one;
    for level in 1..=10 {
        last = send(combine("t", "s", &[last])).await.unwrap_or_else(|error| panic!("level {level}: {error}"));
    }
    assert_eq!(refusal(send(combine("t", "s", &[last])).await), invalid);
    world.end().await;
}

#[tokio::test]
async fn send_message_combines_at_most_a_thousand_messages() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let one = ann.say("bob", "one").await;
    let many = vec![one; 1_001];
    soon(ann.send("bob", combine("t", "s", &many[1..]))).await.unwrap();
    let got = received(&bob, "t").await;
    let detail = soon(bob.query_combine_message_detail(&got)).await.unwrap().message.unwrap();
    assert_eq!(combined(&detail).message_list.len(), 1_000);
    assert_eq!(refusal(soon(ann.send("bob", combine("t", "s", &many))).await), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}

#[tokio::test]
async fn insert_message_to_local_db_stays_on_the_device() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("ann").await;
    let system = Message {
        body: Some(Body::System(SystemMessage { message: "Ann is typing".into() })),
        local_extended_data: "x".into(),
        ..Message::default()
    };
    let insert = async |message: Message, id: &str, sender: &str| {
        soon(ann.insert_message_to_local_db(message, id, PEER, sender)).await
    };
    // It makes a conversation, which the server does not know.
    let inserted = insert(system.clone(), "carl", "carl").await.unwrap().message.unwrap();
    assert_eq!((inserted.r#type(), inserted.is_user_inserted), (MessageType::System, true));
    assert_eq!((&*inserted.sender_user_id, &*inserted.local_extended_data), ("carl", "x"));
    assert_eq!(ann.conversation("carl").await.last_message.unwrap().message_seq, 0);
    ann.has_unread("carl", 0).await;
    // Between the messages of the server it keeps its place.
    ann.say("bob", "1").await;
    insert(Message::text("note"), "bob", "ann").await.unwrap();
    bob.say("ann", "2").await;
    ann.receives("2").await;
    assert_eq!(texts(&ann.history("bob").await), ["1", "note", "2"]);
    assert_eq!(
        (texts(&bob.history("ann").await), texts(&phone.history("bob").await)),
        (vec!["1".to_owned(), "2".to_owned()], vec!["1".to_owned(), "2".to_owned()])
    );
    let dir = ann.dir();
    ann.quit().await;
    let ann = world.user_at(dir, "ann").await;
    let history = ann.history("bob").await;
    assert_eq!(texts(&history), ["1", "note", "2"], "it is there after a restart, and was not sent");
    soon(ann.delete_messages(&history[1..2], "bob", PEER, HERE)).await.unwrap();
    assert_eq!(texts(&ann.history("bob").await), ["1", "2"]);
    for (message, sender) in [(Message::command(vec![1]), "ann"), (Message::text("x"), "")] {
        let refused = soon(ann.insert_message_to_local_db(message, "bob", PEER, sender)).await;
        assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    }
    world.end().await;
}

#[tokio::test]
async fn update_message_local_extended_data_takes_128_kb_and_stays_on_the_device() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let phone = world.device("ann").await;
    let sent = ann.say("bob", "1").await;
    phone.receives("1").await;
    let longest = "x".repeat(128 << 10);
    let updated = soon(ann.update_message_local_extended_data(&longest, &sent)).await.unwrap().message.unwrap();
    assert_eq!((updated.local_extended_data.len(), &updated.message_id), (128 << 10, &sent.message_id));
    let too_long = soon(ann.update_message_local_extended_data(&format!("{longest}x"), &sent)).await;
    assert_eq!(refusal(too_long), ErrorCode::CommonModuleParamsInvalid);
    assert_eq!(ann.history("bob").await[0].local_extended_data.len(), 128 << 10);
    assert_eq!(phone.history("bob").await[0].local_extended_data, "");
    bob.receives("1").await;
    assert_eq!(bob.history("ann").await[0].local_extended_data, "");
    // The same for a message that is inserted or sent with such data.
    for (data, is_taken) in [(longest.clone(), true), (format!("{longest}x"), false)] {
        let message = Message { local_extended_data: data, ..Message::text("2") };
        let inserted = soon(ann.insert_message_to_local_db(message.clone(), "bob", PEER, "bob")).await;
        assert_eq!((inserted.is_ok(), soon(ann.send("bob", message)).await.is_ok()), (is_taken, is_taken));
    }
    let kept = ann.history("bob").await;
    assert_eq!(texts(&kept), ["1", "2", "2"]);
    assert!(kept.iter().all(|message| message.local_extended_data == longest));
    let unknown = Message { message_id: "17".into(), message_seq: 17, ..sent };
    let refused = soon(ann.update_message_local_extended_data("x", &unknown)).await;
    assert_eq!(refusal(refused), ErrorCode::CommonModuleParamsInvalid);
    world.end().await;
}
