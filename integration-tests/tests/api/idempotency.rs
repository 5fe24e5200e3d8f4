//! Messages with a key of the app.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, RawClient, World, send_text, soon, texts};
use zim_protocol::{
    ConversationType, DeleteMessagesRequest, ErrorCode, Message, MessageDeleteConfig, MessageRepliedInfo,
    MessageRepliedInfoState, MessageSendConfig, RevokeMessageRequest, SendMessageRequest,
};

fn keyed(key: &str) -> MessageSendConfig {
    MessageSendConfig { idempotency_key: key.to_owned(), ..MessageSendConfig::default() }
}

fn request(to: &str, text: &str, key: &str) -> SendMessageRequest {
    SendMessageRequest { config: Some(keyed(key)), client_key: Default::default(), ..send_text(to, text, 0) }
}

async fn send(device: &Device, text: &str, key: &str) -> Result<Message, zim_client_sdk::Error> {
    let (to, notification) = (ConversationType::Peer, MessageSendNotification::default());
    let sent = soon(device.send_message(Message::text(text), "bob", to, keyed(key), notification)).await?;
    Ok(sent.message.unwrap())
}

#[tokio::test]
async fn send_message_under_a_key_of_the_app_is_stored_once() {
    let world = World::new().await;
    let (bob, _carl) = (world.user("bob").await, world.user("carl").await);
    let mut raw = world.raw_user("ann", 1).await;
    let first = raw.call(&request("bob", "first", "7")).await.unwrap().message.unwrap();
    world.clock.advance(5_000);
    // Over another connection, as after a crash.
    let mut other = world.raw_user("ann", 2).await;
    // The first one counts, whatever the others say, and whatever key their client makes.
    for text in ["first", "second"] {
        for omit_content in [false, true] {
            let client_key = vec![9; 16].into();
            let again = SendMessageRequest { omit_content, client_key, ..request("bob", text, "7") };
            let again = other.call(&again).await.unwrap().message.unwrap();
            assert_eq!((&again.message_id, again.message_seq), (&first.message_id, 1));
            if text == "second" || !omit_content {
                assert_eq!(again, first);
            }
        }
    }
    let seqs = async |raw: &mut zim_integration_tests::RawClient, to: &str, key: &str| {
        raw.call(&request(to, "other", key)).await.unwrap().message.unwrap().message_seq
    };
    assert_eq!(seqs(&mut raw, "bob", "8").await, 2, "another key");
    assert_eq!(seqs(&mut raw, "carl", "7").await, 1, "another conversation");
    bob.receives("other").await;
    assert_eq!(texts(&bob.history("ann").await), ["first", "other"]);
    raw.end().await;
    other.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_refuses_a_key_of_the_app_that_is_too_long_or_of_a_command() {
    let world = World::new().await;
    let _bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let command = SendMessageRequest { message: Some(Message::command(vec![1])), ..request("bob", "", "7") };
    for bad in [request("bob", "hi", &"x".repeat(129)), command] {
        assert_eq!(raw.call(&bad).await.unwrap_err().code, ErrorCode::CommonModuleParamsInvalid as i32);
    }
    raw.call(&request("bob", "hi", &"x".repeat(128))).await.unwrap();
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_of_another_device_is_the_answer_to_the_same_key() {
    let world = World::new().await;
    let (ann, laptop, bob) = (world.user("ann").await, world.device("ann").await, world.user("bob").await);
    let first = send(&ann, "first", "7").await.unwrap();
    laptop.receives("first").await;
    // This device holds the message, and shows no other one.
    let second = send(&laptop, "second", "7").await.unwrap();
    assert_eq!((&second.message_id, second.as_text()), (&first.message_id, Some("first")));
    send(&laptop, "end", "8").await.unwrap();
    bob.receives("end").await;
    for (device, peer) in [(&ann, "bob"), (&laptop, "bob"), (&bob, "ann")] {
        assert_eq!(texts(&device.history(peer).await), ["first", "end"]);
    }
    world.end().await;
}

/// Otherwise the device that sends it again would not know what it replies to.
#[tokio::test]
async fn a_reply_that_is_sent_again_is_answered_with_what_it_replies_to() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 1).await;
    let source = raw.call(&request("bob", "source", "7")).await.unwrap().message.unwrap();
    let reference = MessageRepliedInfo { message_seq: source.message_seq, ..MessageRepliedInfo::default() };
    let reply = Message { replied_info: Some(Box::new(reference)), ..Message::text("reply") };
    let reply = SendMessageRequest { message: Some(reply), omit_content: true, ..request("bob", "", "8") };
    let first = raw.call(&reply).await.unwrap().message.unwrap();
    let mut other = world.raw_user("ann", 2).await;
    let told = async |raw: &mut RawClient| {
        let again = raw.call(&reply).await.unwrap().message.unwrap();
        assert_eq!((&again.message_id, again.message_seq), (&first.message_id, 2));
        again.replied_info.map(|info| (info.state, info.message_id, info.message_info.is_some()))
    };
    let (normal, deleted) = (MessageRepliedInfoState::Normal as i32, MessageRepliedInfoState::Deleted as i32);
    assert_eq!(told(&mut other).await, Some((normal, source.message_id.clone(), true)));
    // As it is now.
    raw.call(&RevokeMessageRequest { message: Some(source.clone()), ..RevokeMessageRequest::default() }).await.unwrap();
    assert_eq!(told(&mut other).await, Some((deleted, source.message_id.clone(), false)));
    // The sender has deleted the reply for themselves. It was sent all the same.
    let deletion = DeleteMessagesRequest {
        message_list: vec![first.clone()],
        conversation_id: "bob".into(),
        conversation_type: ConversationType::Peer as i32,
        config: Some(MessageDeleteConfig { is_also_delete_server_message: Some(true) }),
    };
    raw.call(&deletion).await.unwrap();
    assert_eq!(told(&mut other).await, None);
    assert_eq!(bob.history("ann").await.len(), 2);
    // And so was one that they revoked before.
    let revoked = raw.call(&request("bob", "revoked", "9")).await.unwrap().message.unwrap();
    let revoke = RevokeMessageRequest { message: Some(revoked.clone()), ..RevokeMessageRequest::default() };
    raw.call(&revoke).await.unwrap();
    raw.call(&DeleteMessagesRequest { message_list: vec![revoked.clone()], ..deletion }).await.unwrap();
    let again = other.call(&request("bob", "revoked", "9")).await.unwrap().message.unwrap();
    assert_eq!((again.message_id, again.message_seq), (revoked.message_id, 3));
    raw.end().await;
    other.end().await;
    world.end().await;
}
