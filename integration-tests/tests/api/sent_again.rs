//! Messages that are sent again after something that they consist of is gone, or while an earlier attempt ends.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{World, refusal, send_text, soon};
use zim_protocol::{
    CombineMessage, ConversationType, ErrorCode, Message, MessageDeleteConfig, MessageReactionAddConfig,
    MessageRevokeConfig, MessageSendConfig, MessageSentStatus, MessageType, SendMessageRequest,
    SendingMessageCancelConfig, message::Body,
};

use crate::media::{Files, noise, send, stored};

const PEER: ConversationType = ConversationType::Peer;

/// The combined message with a title.
fn combine(title: &str, messages: &[Message]) -> Message {
    let combine = CombineMessage {
        title: title.into(),
        summary: "s".into(),
        message_list: messages.to_vec(),
        ..CombineMessage::default()
    };
    Message { body: Some(Body::Combine(Box::new(combine))), ..Message::default() }
}

#[tokio::test]
async fn send_message_of_a_combined_message_again_ends_as_sent_when_what_it_combines_is_gone() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let one = ann.say("bob", "one").await;
    let inner = soon(ann.send("bob", combine("inner", &[one]))).await.unwrap();
    let mut raw = world.raw_user("ann", 9).await;
    let outer = |key| SendMessageRequest {
        message: Some(combine("outer", std::slice::from_ref(&inner))),
        ..send_text("bob", "", key)
    };
    let sent = raw.call(&outer(1)).await.unwrap().message.unwrap();
    soon(ann.revoke_message(&inner, MessageRevokeConfig::default())).await.unwrap();
    let again = raw.call(&outer(1)).await.unwrap().message.unwrap();
    assert_eq!((again.message_seq, &again.message_id), (sent.message_seq, &sent.message_id));
    let Some(Body::Combine(combined)) = &again.body else { panic!("{again:?}") };
    assert_eq!(combined.title, "outer");
    // Also when they have deleted it for themselves, and then they see nothing of it.
    let everywhere = MessageDeleteConfig { is_also_delete_server_message: Some(true) };
    soon(ann.delete_messages(std::slice::from_ref(&sent), "bob", PEER, everywhere)).await.unwrap();
    let again = raw.call(&outer(1)).await.unwrap().message.unwrap();
    assert_eq!((again.message_seq, again.body), (sent.message_seq, None));
    // What was never stored is refused.
    let refused = raw.call(&outer(2)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::CommonModuleParamsInvalid as i32);
    raw.end().await;
    world.end().await;
}

/// The device may have passed over what others did to it, because it did not have the message.
#[tokio::test]
async fn send_message_again_brings_what_others_did_to_it() {
    let world = World::new().await;
    let bob = world.user("bob").await;
    let mut raw = world.raw_user("ann", 9).await;
    let request = SendMessageRequest { omit_content: true, ..send_text("bob", "hi", 1) };
    raw.call(&request).await.unwrap();
    let got = bob.receives("hi").await;
    soon(bob.add_message_reaction("like", &got, MessageReactionAddConfig::default())).await.unwrap();
    let id = raw.send_request(&request).await;
    let response = raw.response().await;
    assert_eq!(response.id, id);
    let [push] = &response.pushes[..] else { panic!("{response:?}") };
    let state = push.messages[0].state.as_ref().unwrap();
    assert_eq!(state.reactions[0].reaction_type, "like");
    assert!(push.messages[0].content.is_empty(), "the client has it");
    raw.end().await;
    world.end().await;
}

#[tokio::test]
async fn send_message_with_a_file_again_ends_as_sent_when_the_file_is_gone() {
    let world = World::with(|config| config.media.unused_kept_s = 60).await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let (path, config) = (
        files.add("paper", &noise(5_000)),
        MessageSendConfig { idempotency_key: "paper".into(), ..MessageSendConfig::default() },
    );
    let file = || ann.send_media_message(Message::file(&path), "bob", PEER, config.clone(), none());
    let mut sent = soon(file()).await.unwrap().message.unwrap();
    // This device no longer knows that it has sent it, and has no file.
    soon(ann.delete_messages(std::slice::from_ref(&sent), "bob", PEER, MessageDeleteConfig::default())).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut again = soon(file()).await.unwrap().message.unwrap();
    assert_eq!((again.message_seq, &again.message_id), (sent.message_seq, &sent.message_id));
    assert_eq!(again.sent_status(), MessageSentStatus::Success);
    assert_eq!(again.media_parts()[0].download_url, sent.media_parts()[0].download_url);
    // Under another key nothing is there.
    let other = MessageSendConfig { idempotency_key: "other".into(), ..config.clone() };
    let refused = soon(ann.send_media_message(Message::file(&path), "bob", PEER, other, none())).await;
    assert_eq!(refusal(refused), ErrorCode::MessageModuleFileNotExist);

    // The server has removed the file of a message that was revoked.
    let mut raw = world.raw_user("ann", 9).await;
    let mut content = Message { body: sent.body.clone(), ..Message::default() };
    content.media_parts()[0].local_path.clear();
    let request = SendMessageRequest { message: Some(content), ..send_text("bob", "", 7) };
    let second = raw.call(&request).await.unwrap().message.unwrap();
    for message in [&sent, &second] {
        soon(ann.revoke_message(message, MessageRevokeConfig::default())).await.unwrap();
    }
    world.advance_until("the file is removed", async || (stored(&world) == 0).then_some(())).await;
    let again = raw.call(&request).await.unwrap().message.unwrap();
    assert_eq!((again.message_seq, again.r#type()), (second.message_seq, MessageType::Revoke));
    raw.end().await;
    world.end().await;
}

fn none() -> MessageSendNotification {
    MessageSendNotification::default()
}

#[tokio::test]
async fn cancel_sending_message_does_not_end_the_next_attempt() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let files = Files::new();
    let path = files.add("film", &vec![b'#'; 20_000_000]);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let first = ann.send_media_message(Message::file(&path), "bob", PEER, MessageSendConfig::default(), {
        move |message: &Message, _: i64, _: i64| {
            if let Some(begun) = begun.take() {
                // Fails if nobody waits any more.
                let _ = begun.send(message.clone());
            }
        }
    });
    let message = soon(begins).await.unwrap();
    soon(ann.cancel_sending_message(&message, SendingMessageCancelConfig {})).await.unwrap();
    // The first upload is still ending.
    let retry = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let mut second = std::pin::pin!(ann.send_media_message(message, "bob", PEER, retry, none()));
    let sent = world.advance_until("the message is sent", async || match futures_util::poll!(&mut second) {
        std::task::Poll::Ready(sent) => Some(sent),
        std::task::Poll::Pending => None,
    });
    let sent = sent.await.unwrap().message.unwrap();
    assert_eq!(sent.sent_status(), MessageSentStatus::Success);
    assert_eq!(refusal(soon(first).await), ErrorCode::MessageModuleSendMessageFailedForCancelled);
    send(&ann, Message::file(&path)).await.unwrap();
    world.end().await;
}
