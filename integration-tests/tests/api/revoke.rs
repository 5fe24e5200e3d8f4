//! Revoking messages: who may, when, and what remains.

use zim_integration_tests::{Device, World, eventually, refusal, send_text, soon};
use zim_protocol::message::Body;
use zim_protocol::{
    ConversationType, ErrorCode, Event, EventKind, Message, MessageQueryConfig, MessageRevokeConfig, MessageType,
    RevokeMessage, RevokeMessageRequest,
};

const PLAIN: MessageRevokeConfig = MessageRevokeConfig { push_config: None, revoke_extended_data: String::new() };

fn body(message: &Message) -> &RevokeMessage {
    match &message.body {
        Some(Body::Revoke(revoke)) if message.r#type() == MessageType::Revoke => revoke,
        other => panic!("{other:?}"),
    }
}

async fn revoked(device: &Device) -> Vec<Message> {
    match device.next(EventKind::MessageRevokeReceived).await {
        Event::MessageRevokeReceived(event) => event.message_list,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn revoke_message_leaves_the_place_and_takes_the_content() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    ann.say("bob", "first").await;
    let secret = Message { extended_data: "{\"pin\":1234}".into(), ..Message::text("secret") };
    let sent = soon(ann.send("bob", secret)).await.unwrap();
    bob.receives("secret").await;
    bob.has_unread("ann", 2).await;
    world.clock.advance(5_000);
    let config = MessageRevokeConfig { revoke_extended_data: "sorry".into(), ..PLAIN };
    let result = soon(ann.revoke_message(&sent, config)).await.unwrap().message.unwrap();

    let seen = revoked(&bob).await.remove(0);
    for message in [&result, &seen] {
        assert_eq!((message.message_id.as_str(), message.message_seq), (sent.message_id.as_str(), 2));
        assert_eq!((message.order_key, message.timestamp), (sent.order_key, sent.timestamp));
        assert_eq!((message.sender_user_id.as_str(), message.extended_data.as_str()), ("ann", ""));
        let revoke = body(message);
        assert_eq!(revoke.revoke_timestamp, world.clock.now_ms());
        assert_eq!((revoke.operated_user_id.as_str(), revoke.revoke_extended_data.as_str()), ("ann", "sorry"));
        assert_eq!(revoke.original_message_type, MessageType::Text as i32);
        assert_eq!(revoke.original_text_message_content, "secret");
    }
    // It is the last message on both sides, and no longer counts as unread.
    bob.has_unread("ann", 1).await;
    assert_eq!(bob.total_unread().await, 1);
    for (device, peer) in [(&ann, "bob"), (&bob, "ann")] {
        let last = device.conversation(peer).await.last_message.unwrap();
        assert_eq!((last.r#type(), last.message_seq), (MessageType::Revoke, 2), "{peer}");
        let history = device.history(peer).await;
        assert_eq!(history.iter().map(Message::r#type).collect::<Vec<_>>(), [MessageType::Text, MessageType::Revoke]);
    }
    // A new device sees the same: of the content only the text is left, as the reference has it.
    let new = world.device("bob").await;
    new.has_unread("ann", 1).await;
    assert_eq!(body(&new.history("ann").await[1]).original_text_message_content, "secret");
    assert!(ann.seen_of(EventKind::MessageRevokeReceived).is_empty(), "the caller has the result");
    world.end().await;
}

#[tokio::test]
async fn revoke_message_has_a_window_and_works_once_for_the_sender_alone() {
    let world = World::with(|config| config.limits.revoke_window_s = 60).await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let (first, second) = (ann.say("bob", "1").await, ann.say("bob", "2").await);
    let got = bob.receives("2").await;
    assert_eq!(
        refusal(soon(bob.revoke_message(&got, PLAIN)).await),
        ErrorCode::GroupModuleGroupNoCorrespondingOperationAuthority
    );
    world.clock.advance(60_000);
    soon(ann.revoke_message(&first, PLAIN)).await.unwrap();
    assert_eq!(refusal(soon(ann.revoke_message(&first, PLAIN)).await), ErrorCode::MessageModuleMessageHasBeenRevoked);
    world.clock.advance(1);
    assert_eq!(
        refusal(soon(ann.revoke_message(&second, PLAIN)).await),
        ErrorCode::MessageModuleMessageExceedsRevokeTime
    );
    // The one who was refused left everything as it was.
    bob.has_unread("ann", 1).await;
    assert_eq!(bob.history("ann").await[1].as_text(), Some("2"));
    world.end().await;
}

#[tokio::test]
async fn revoke_message_refuses_what_is_no_message_of_the_conversation() {
    let world = World::new().await;
    let (ann, bob, carl) = (world.user("ann").await, world.user("bob").await, world.user("carl").await);
    let sent = ann.say("bob", "hi").await;
    ann.say("carl", "hi").await;
    carl.receives("hi").await;
    let with = |edit: fn(&mut Message)| {
        let mut message = sent.clone();
        edit(&mut message);
        message
    };
    for (message, expected) in [
        (with(|message| message.conversation_id = "carl".into()), ErrorCode::CommonModuleParamsInvalid),
        (
            with(|message| message.conversation_id = "nobody".into()),
            ErrorCode::ConversationModuleConversationDoesNotExist,
        ),
        (with(|message| message.message_id = "17".into()), ErrorCode::CommonModuleParamsInvalid),
        (with(|message| message.message_id = "x".into()), ErrorCode::CommonModuleParamsInvalid),
        (
            with(|message| (message.message_id, message.message_seq) = (String::new(), 0)),
            ErrorCode::CommonModuleParamsInvalid,
        ),
        (
            with(|message| message.conversation_type = ConversationType::Room as i32),
            ErrorCode::CommonModuleParamsInvalid,
        ),
    ] {
        let refused = refusal(soon(ann.revoke_message(&message, PLAIN)).await);
        assert_eq!(refused, expected, "{message:?}");
    }
    let too_long = MessageRevokeConfig { revoke_extended_data: "x".repeat(201), ..PLAIN };
    assert_eq!(refusal(soon(ann.revoke_message(&sent, too_long)).await), ErrorCode::CommonModuleParamsInvalid);
    // A position is enough, and 200 bytes are.
    let longest = MessageRevokeConfig { revoke_extended_data: "x".repeat(200), ..PLAIN };
    soon(ann.revoke_message(&with(|message| message.message_id = String::new()), longest)).await.unwrap();
    assert_eq!(body(&revoked(&bob).await[0]).revoke_extended_data.len(), 200);
    world.end().await;
}

/// A client that lost the answer sends again. Meanwhile another device revoked the message: its text must not come back.
#[tokio::test]
async fn send_message_again_after_its_revocation_answers_with_what_remains() {
    let world = World::new().await;
    let (bob, phone) = (world.user("bob").await, world.device("ann").await);
    let mut raw = world.raw_user("ann", 1).await;
    let first = raw.call(&send_text("bob", "secret", 7)).await.unwrap().message.unwrap();
    soon(phone.revoke_message(&first, PLAIN)).await.unwrap();
    revoked(&bob).await;
    let again = raw.call(&send_text("bob", "secret", 7)).await.unwrap().message.unwrap();
    assert_eq!((again.message_seq, &again.message_id, again.timestamp), (1, &first.message_id, first.timestamp));
    assert_eq!(body(&again).operated_user_id, "ann");
    assert_eq!(
        raw.call(&send_text("bob", "other", 7)).await.unwrap_err().code,
        ErrorCode::CommonModuleParamsInvalid as i32
    );
    raw.end().await;
    assert_eq!(bob.history("ann").await.len(), 1);
    world.end().await;
}

/// A message and its revocation that are not awaited: the revocation does not overtake the message.
#[tokio::test]
async fn revoke_message_keeps_its_place_behind_the_message() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    raw.call(&send_text("bob", "0", 9)).await.unwrap();
    for number in 1..=20 {
        raw.send_request(&send_text("bob", &number.to_string(), 100 + number)).await;
        let message =
            Message { conversation_id: "bob".into(), message_seq: i64::from(number) + 1, ..Message::default() };
        raw.send_request(&RevokeMessageRequest { message: Some(message), config: None }).await;
    }
    for response in raw.responses(40).await {
        assert_eq!(zim_integration_tests::code(&response), 0);
    }
    eventually("20 revoked messages", async || {
        let config = MessageQueryConfig { count: 100, reverse: true, ..MessageQueryConfig::default() };
        let page = soon(bob.query_history_message("ann", ConversationType::Peer, config)).await.unwrap().message_list;
        (page.iter().filter(|message| message.r#type() == MessageType::Revoke).count() == 20).then_some(())
    })
    .await;
    bob.has_unread("ann", 1).await;
    raw.end().await;
    world.end().await;
}
