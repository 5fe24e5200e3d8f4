//! The keys of messages that are sent, and what a client is answered.

use zim_integration_tests::{World, eventually, send_text, soon, texts};
use zim_protocol::{ErrorCode, Message, MessageSendConfig, MessageType, SendMessageRequest};

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
