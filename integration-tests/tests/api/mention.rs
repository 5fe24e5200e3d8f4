//! Mentions that a user has not read, as their conversations list them.

use zim_integration_tests::{Chat, Device, World, eventually, group, soon};
use zim_protocol::{
    ConversationType, Message, MessageDeleteConfig, MessageEditConfig, MessageMentionedType, MessageRevokeConfig,
};

use crate::group::create;

const EVERYWHERE: MessageDeleteConfig = MessageDeleteConfig { is_also_delete_server_message: Some(true) };

/// Waits until the conversation lists these mentions: who, in which message, and whom.
async fn lists(device: &Device, chat: Chat<'_>, expected: &[(&str, &Message, MessageMentionedType)]) {
    let wanted: Vec<_> =
        expected.iter().map(|(from, message, kind)| (from.to_string(), message.message_id.clone(), *kind)).collect();
    eventually("the mentions", async || {
        // The device may not have the conversation yet.
        let conversation = soon(device.query_conversation(chat.id, chat.kind)).await.ok()?.conversation?;
        let found: Vec<_> = conversation
            .mentioned_info_list
            .iter()
            .map(|info| (info.from_user_id.clone(), info.message_id.clone(), info.r#type()))
            .collect();
        (found == wanted).then_some(())
    })
    .await;
}

async fn mention(from: &Device, chat: Chat<'_>, users: &[&str], is_mention_all: bool) -> Message {
    let mentioned_user_ids = users.iter().map(|user| (*user).to_owned()).collect();
    let message = Message { mentioned_user_ids, is_mention_all, ..Message::text("look") };
    soon(from.send_to(chat, message)).await.unwrap()
}

#[tokio::test]
async fn a_conversation_lists_the_mentions_that_were_not_read() {
    use MessageMentionedType::{MentionAll, MentionAllAndMe, MentionMe};
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let laptop = world.device("bob").await;
    create(&ann, "crew", &["bob", "cai"]).await;
    ann.say(group("crew"), "hi").await;
    let me = mention(&ann, group("crew"), &["nobody", "bob"], false).await;
    let all = mention(&cai, group("crew"), &[], true).await;
    let both = mention(&ann, group("crew"), &["bob"], true).await;
    let expected = [("ann", &me, MentionMe), ("cai", &all, MentionAll), ("ann", &both, MentionAllAndMe)];
    for device in [&bob, &laptop, &world.device("bob").await] {
        lists(device, group("crew"), &expected).await;
    }
    // Who is not mentioned by name is mentioned with everybody, and nobody by their own messages.
    lists(&cai, group("crew"), &[("ann", &both, MentionAll)]).await;
    lists(&ann, group("crew"), &[("cai", &all, MentionAll)]).await;
    // A message that is revoked mentions nobody, and one that is edited those whom it mentions now.
    soon(ann.revoke_message(&both, MessageRevokeConfig::default())).await.unwrap();
    let edited = Message { mentioned_user_ids: vec!["cai".to_owned()], ..me.clone() };
    soon(ann.edit_message(&edited, MessageEditConfig::default())).await.unwrap();
    for device in [&bob, &laptop] {
        lists(device, group("crew"), &[("cai", &all, MentionAll)]).await;
    }
    lists(&cai, group("crew"), &[("ann", &me, MentionMe)]).await;
    // Reading clears the list, on all devices.
    bob.read(group("crew")).await;
    for device in [&bob, &laptop, &world.device("bob").await] {
        lists(device, group("crew"), &[]).await;
    }
    let later = mention(&ann, group("crew"), &["bob"], false).await;
    for device in [&bob, &laptop] {
        lists(device, group("crew"), &[("ann", &later, MentionMe)]).await;
    }
    // The same between two users.
    let peer = mention(&ann, "bob".into(), &["bob"], false).await;
    lists(&bob, "ann".into(), &[("ann", &peer, MentionMe)]).await;
    world.end().await;
}

#[tokio::test]
async fn a_mention_ends_with_its_message() {
    use MessageMentionedType::MentionMe;
    let world = World::new().await;
    let (ann, bob, cai) = (world.user("ann").await, world.user("bob").await, world.user("cai").await);
    let laptop = world.device("bob").await;
    create(&ann, "crew", &["bob", "cai"]).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        sent.push(mention(&ann, group("crew"), &["bob", "cai"], false).await);
    }
    // Something stays unread when all of them are gone.
    ann.say(group("crew"), "later").await;
    let has = async |device: &Device, mentions: &[Message]| {
        let expected: Vec<_> = mentions.iter().map(|one| ("ann", one, MentionMe)).collect();
        lists(device, group("crew"), &expected).await;
    };
    for device in [&bob, &laptop, &cai] {
        has(device, &sent[..]).await;
    }
    let delete = async |messages: &[Message], everywhere| {
        let config = MessageDeleteConfig { is_also_delete_server_message: Some(everywhere) };
        soon(bob.delete_messages(messages, "crew", ConversationType::Group, config)).await.unwrap();
    };
    delete(&sent[..1], true).await;
    for device in [&bob, &laptop, &world.device("bob").await] {
        has(device, &sent[1..]).await;
    }
    // On this device alone.
    delete(&sent[1..2], false).await;
    has(&bob, &sent[2..]).await;
    has(&laptop, &sent[1..]).await;
    soon(bob.delete_all_message("crew", ConversationType::Group, EVERYWHERE)).await.unwrap();
    for device in [&bob, &laptop] {
        has(device, &[]).await;
    }
    // Others are mentioned as before.
    has(&cai, &sent[..]).await;
    world.end().await;
}
