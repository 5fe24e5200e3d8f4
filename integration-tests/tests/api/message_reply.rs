//! Replies: what they show of a source that is gone, who may not send one, and the pages of a long tree.

use zim_client_sdk::MessageSendNotification;
use zim_integration_tests::{Device, World, eventually, refusal, soon, texts};
use zim_protocol::{
    ConversationType, ErrorCode, EventKind, Message, MessageDeleteConfig, MessagePinConfig, MessageRepliedInfo,
    MessageRepliedInfoState, MessageRepliedListQueriedResult, MessageRepliedListQueryConfig, MessageRootRepliedInfo,
    MessageSendConfig, MessageSentStatus,
};

const PEER: ConversationType = ConversationType::Peer;
const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

async fn reply(device: &Device, to: &Message, text: &str) -> Result<Message, zim_client_sdk::Error> {
    let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
    Ok(soon(device.reply_message(Message::text(text), to, config, notification)).await?.message.unwrap())
}

/// A page of the tree that a message belongs to.
async fn tree(device: &Device, of: &Message, next_flag: i64, count: i64) -> MessageRepliedListQueriedResult {
    let config = MessageRepliedListQueryConfig { next_flag, count };
    soon(device.query_message_replied_list(of, config)).await.unwrap()
}

/// Waits until a device has a message whose source it shows like this.
async fn shows(device: &Device, peer: &str, message: &Message, expected: &MessageRepliedInfo) {
    eventually("what the reply shows", async || {
        let history = device.history(peer).await;
        let found = history.into_iter().find(|one| one.message_id == message.message_id)?;
        (found.replied_info.as_deref() == Some(expected)).then_some(())
    })
    .await;
}

/// What a reply shows of a source that is not there for the user.
fn gone(source: &Message, state: MessageRepliedInfoState) -> MessageRepliedInfo {
    MessageRepliedInfo {
        state: state as i32,
        message_id: source.message_id.clone(),
        message_seq: source.message_seq,
        ..MessageRepliedInfo::default()
    }
}

#[tokio::test]
async fn reply_message_and_query_message_replied_list_show_that_the_user_has_deleted_the_source() {
    use MessageRepliedInfoState::{Deleted, Normal, NotFound};
    let world = World::new().await;
    let (ann, bob, phone) = (world.user("ann").await, world.user("bob").await, world.device("bob").await);
    let (root, other) = (ann.say("bob", "root").await, ann.say("bob", "other").await);
    bob.receives("other").await;
    let got = bob.receives("root").await;
    let answer = reply(&bob, &got, "re").await.unwrap();
    phone.receives("re").await;
    let of_ann = ann.receives("re").await;
    soon(bob.delete_messages(&[got], "ann", PEER, EVERYWHERE)).await.unwrap();
    let new = world.device("bob").await;
    for device in [&bob, &phone, &new] {
        shows(device, "ann", &answer, &gone(&root, Deleted)).await;
        let page = tree(device, &answer, 0, 0).await;
        let expected = MessageRootRepliedInfo { state: Deleted as i32, ..MessageRootRepliedInfo::default() };
        assert_eq!((texts(&page.message_list), page.root_replied_info), (vec!["re".to_owned()], Some(expected)));
    }
    // Ann still has it, and hears nothing.
    reply(&bob, &answer, "more").await.unwrap();
    ann.receives("more").await;
    assert!(ann.seen_of(EventKind::MessageRepliedInfoChanged).is_empty());
    let info = ann.history("bob").await[2].replied_info.clone().unwrap();
    assert_eq!((info.state(), &info.message_id, &*info.sender_user_id), (Normal, &root.message_id, "ann"));
    let info = tree(&ann, &of_ann, 0, 0).await.root_replied_info.unwrap();
    assert_eq!((info.state(), info.replied_count, info.message.unwrap().as_text()), (Normal, 2, Some("root")));
    // What went with all messages of the conversation is not found.
    soon(bob.delete_all_message("ann", PEER, EVERYWHERE)).await.unwrap();
    reply(&ann, &other, "later").await.unwrap();
    let later = bob.receives("later").await;
    let new = world.device("bob").await;
    for device in [&bob, &phone, &new] {
        shows(device, "ann", &later, &gone(&other, NotFound)).await;
        let info = tree(device, &later, 0, 0).await.root_replied_info.unwrap();
        assert_eq!((info.state(), info.message), (NotFound, None));
    }
    world.end().await;
}

#[tokio::test]
async fn reply_message_and_pin_message_are_refused_to_a_blocked_user() {
    let world = World::new().await;
    let (ann, bob) = (world.user("ann").await, world.user("bob").await);
    let sent = bob.say("ann", "hi").await;
    let got = ann.receives("hi").await;
    soon(bob.add_users_to_blacklist(["ann"])).await.unwrap();
    let blocked = ErrorCode::MessageModuleSenderInBlacklist;
    assert_eq!(refusal(reply(&ann, &got, "re").await), blocked);
    for is_pinned in [true, false] {
        let pinned = ann.pin_message(&got, is_pinned, MessagePinConfig::default());
        assert_eq!(refusal(soon(pinned).await), blocked, "{is_pinned}");
    }
    let failed = ann.history("bob").await.remove(1);
    assert_eq!((failed.as_text(), failed.sent_status()), (Some("re"), MessageSentStatus::Failed));
    // Who blocks may do all of it.
    reply(&bob, &sent, "own").await.unwrap();
    soon(bob.pin_message(&sent, true, MessagePinConfig::default())).await.unwrap();
    assert_eq!(texts(&bob.history("ann").await), ["hi", "own"]);
    // What failed is still a reply when it is sent again.
    soon(bob.remove_users_from_blacklist(["ann"])).await.unwrap();
    let config = MessageSendConfig { is_retry_send: true, ..MessageSendConfig::default() };
    let again = ann.send_message(failed, "bob", PEER, config, MessageSendNotification::default());
    let again = soon(again).await.unwrap().message.unwrap();
    for message in [again, bob.receives("re").await] {
        assert_eq!(message.replied_info.unwrap().message_id, sent.message_id);
    }
    soon(ann.pin_message(&got, false, MessagePinConfig::default())).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn query_message_replied_list_has_a_hundred_replies_on_a_page() {
    let world = World::new().await;
    let (ann, _bob) = (world.user("ann").await, world.user("bob").await);
    let root = ann.say("bob", "root").await;
    let calls: Vec<_> = (1..=101)
        .map(|number: usize| {
            let (config, notification) = (MessageSendConfig::default(), MessageSendNotification::default());
            ann.reply_message(Message::text(number.to_string()), &root, config, notification)
        })
        .collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    for count in [0, 100, 101] {
        let page = tree(&ann, &root, 0, count).await;
        assert_eq!((page.message_list.len(), page.next_flag > 0), (100, true), "{count}");
        assert_eq!(page.root_replied_info.unwrap().replied_count, 101);
        let rest = tree(&ann, &root, page.next_flag, count).await;
        assert_eq!((texts(&rest.message_list), rest.next_flag), (vec!["101".to_owned()], 0));
    }
    world.end().await;
}
